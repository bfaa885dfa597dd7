"""A region drawn with every sample's levels."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma.methylome import CONTEXTS, Region, select
from melisma.report._figures_quality import plain
from melisma.report._study import Contrast, Groups, Study
from melisma.report._style import Figure, direct_label, packed, separated, y_title
from melisma.report._words import place, spoken

# Sites seen further apart than this many bandwidths are not joined by a line.
_REACH = 3.0
_GRID = (72, 40)
_MANY_SAMPLES = 30
# More lines than this are a blot, and more named dots a burden.
MOST_LINES = 120
_MOST_NAMED = 1000


def region(study: Study, contrast: Contrast, groups: Groups, row: dict[str, Any]) -> Figure:
    """One region and its flanks: dots are samples at sites, lines follow each sample.

    Parameters
    ----------
    row : a row of the region table: contig, start, end, delta_beta, ...
    """
    start, end = int(row["start"]), int(row["end"])
    flank = max(int(0.6 * (end - start)), 250)
    window = Region(row["contig"], max(0, start - flank), end + flank)
    mark = row.get("mark")
    part = select(study.methylome, region=window, mark=str(mark) if mark else None).load()
    if row.get("context") in CONTEXTS:
        # Contexts are searched apart.
        part = part.isel(site=np.flatnonzero(part["context"] == CONTEXTS.index(row["context"])))
    position, level, weight = levels_of(part)
    shown = _shown_groups(contrast, groups)
    traces: list[dict[str, Any]] = []
    ends: list[tuple[str, float, str]] = []
    bandwidth = float(np.clip((end - start + 2 * flank) / 22, 30, 400))
    steps = _GRID[len(groups.labels) > _MANY_SAMPLES]
    grid = np.linspace(position.min(initial=start), position.max(initial=end), steps)
    inside = (position >= start) & (position < end)
    for label in [*(g for g in groups.order if g not in shown), *reversed(shown)]:
        member = np.array([own == label for own in groups.labels])
        token = groups.colours[label] if label in shown else "@faint"
        if len(groups.labels) <= MOST_LINES:
            lines = [
                smoothed(position, level[:, j], weight[:, j], grid, bandwidth)
                for j in np.flatnonzero(member)
            ]
            traces.append(_sample_lines(grid, lines, token))
        traces.append(_dots(study, part, position, level, weight, member, (label, token)))
        mean = smoothed(
            position,
            _pooled(level[:, member], weight[:, member]),
            weight[:, member].sum(axis=1),
            grid,
            bandwidth,
        )
        if label in shown:
            traces.append(_group_line(grid, mean, token))
            height = _pooled_level(level[inside][:, member], weight[inside][:, member])
            ends.append((label, height, token))
    traces.append(_ticks(position, inside))
    # Flanks without a site are not drawn.
    first = int(position.min(initial=start))
    last = int(position.max(initial=end))
    pad = max(1, int(0.03 * (last - first)))
    layout, narrow = _layout((first - pad, last + pad), (start, end), ends)
    label = f"Levels of {len(groups.labels)} samples at {place(row['contig'], start, end)}."
    return Figure(traces, layout, 270, label, narrow)


def levels_of(
    part: xr.Dataset,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any]]:
    """Positions (sites,), levels and their weights (sites, samples): reads, or 1 without counts."""
    position = part["position"].values.astype(np.int64)
    if "beta" in part:
        level = part["beta"].values.astype(float)
        return position, level, np.isfinite(level).astype(float)
    coverage = part["coverage"].values.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = part["methylated"].values / coverage
    return position, level, coverage


def _shown_groups(contrast: Contrast, groups: Groups) -> list[str]:
    levels = [str(level) for level in contrast.levels or groups.order]
    return [level for level in levels if level in groups.order] or groups.order


def smoothed(
    position: npt.NDArray[Any],
    level: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    grid: npt.NDArray[Any],
    bandwidth: float,
) -> npt.NDArray[Any]:
    """A level's Gaussian-kernel mean on a grid, weighted by coverage, NaN far from any site.

    >>> smoothed(np.array([0, 10]), np.array([0.0, 1.0]), np.ones(2), np.array([5.0]), 10.0)
    array([0.5])
    """
    seen = (weight > 0) & np.isfinite(level)
    if not seen.any():
        return np.full(len(grid), np.nan)
    away = (grid[:, None] - position[None, seen]) / bandwidth  # (grid, sites)
    kernel = np.exp(-0.5 * away**2) * weight[seen]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (kernel @ level[seen]) / kernel.sum(axis=1)
    return np.where(np.abs(away).min(axis=1) <= _REACH, mean, np.nan)


def _pooled(level: npt.NDArray[Any], weight: npt.NDArray[Any]) -> npt.NDArray[Any]:
    total = weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (np.nan_to_num(level) * weight).sum(axis=1) / total


def _pooled_level(level: npt.NDArray[Any], weight: npt.NDArray[Any]) -> float:
    total = float(weight.sum())
    return float((np.nan_to_num(level) * weight).sum() / total) if total else float("nan")


def _sample_lines(
    grid: npt.NDArray[Any], lines: list[npt.NDArray[Any]], token: str
) -> dict[str, Any]:
    # One trace a group: a NaN between two samples lifts the pen.
    x = np.concatenate([np.append(grid, grid[-1]) for _ in lines]) if lines else grid[:0]
    y = np.concatenate([np.append(line, np.nan) for line in lines]) if lines else grid[:0]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": packed(x, "f8"),
        "y": packed(100 * y),
        "line": {"width": 1, "color": f"{token}/.4"},
        "hoverinfo": "skip",
    }


def _group_line(grid: npt.NDArray[Any], mean: npt.NDArray[Any], token: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": packed(grid, "f8"),
        "y": packed(100 * mean),
        "line": {"width": 2.5, "color": token},
        "hoverinfo": "skip",
    }


def _dots(
    study: Study,
    part: xr.Dataset,
    position: npt.NDArray[np.int64],
    level: npt.NDArray[Any],
    weight: npt.NDArray[Any],
    member: npt.NDArray[np.bool_],
    look: tuple[str, str],
) -> dict[str, Any]:
    site, sample = np.nonzero((weight > 0) & np.isfinite(level) & member[None, :])
    reads = weight[site, sample]
    text = _dot_words(study, part, site, sample) if level.size <= _MOST_NAMED else None
    label, token = look
    return {
        "type": "scatter",
        "mode": "markers",
        "x": packed(position[site], "i4"),
        "y": packed(100 * level[site, sample]),
        "marker": {
            "color": token,
            "opacity": 0.36,
            "size": packed(np.clip(1.3 * np.sqrt(reads), 2.5, 9)),
            "line": {"width": 0},
        },
        "hovertemplate": (
            f"{'' if text is None else '%{text}<br>'}{plain(spoken(label))}, "
            "%{y:.0f}%<br>%{x:,d}<extra></extra>"
        ),
    } | ({} if text is None else {"text": text})


def _dot_words(
    study: Study, part: xr.Dataset, site: npt.NDArray[np.intp], sample: npt.NDArray[np.intp]
) -> list[str]:
    names = [plain(name) for name in study.samples]
    if "beta" in part:
        return [names[j] for j in sample]
    marked, reads = (part[k].values[site, sample] for k in ("methylated", "coverage"))
    return [
        f"{names[j]}: {int(m)} of {int(n)} reads"
        for j, m, n in zip(sample, marked, reads, strict=True)
    ]


def _ticks(position: npt.NDArray[np.int64], inside: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": packed(position, "i4"),
        "y": [-9] * len(position),
        "marker": {
            "symbol": "line-ns",
            "size": 7,
            "line": {"width": 1, "color": ["@ink" if own else "@faint" for own in inside]},
        },
        "hovertemplate": "site %{x:,d}<extra></extra>",
    }


def _layout(
    window: tuple[int, int], region: tuple[int, int], ends: list[tuple[str, float, str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    names, shares = (_end_labels(ends, names=names) for names in (True, False))
    title = y_title("level, %", 34)
    layout = {
        "xaxis": {"range": list(window), "tickformat": ",d", "nticks": 4, "showline": False},
        "yaxis": {"range": [-14, 104], "tickvals": [0, 50, 100], "fixedrange": True},
        "margin": {"l": 34, "r": _room(names), "t": 26, "b": 26},
        "shapes": [
            {
                "type": "rect",
                "x0": region[0],
                "x1": region[1],
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "fillcolor": "@soft/.1",
                "line": {"width": 0},
                "layer": "below",
            }
        ],
        "annotations": [title, *names],
    }
    narrow = {
        "xaxis": {"nticks": 3},
        "margin": {"r": _room(shares)},
        "annotations": [title, *shares],
    }
    return layout, narrow


def _end_labels(ends: list[tuple[str, float, str]], *, names: bool) -> list[dict[str, Any]]:
    known = [e for e in ends if np.isfinite(e[1])]
    heights = separated([100 * e[1] for e in known], 11)
    return [
        direct_label(
            f"{plain(spoken(label))}: {100 * level:.0f}%" if names else f"{100 * level:.0f}%",
            1,
            # Labels keep inside the panel after they were moved apart.
            min(max(height, 3), 100),
            token,
            shift=(6, 0),
            xref="paper",
            xanchor="left",
        )
        for (label, level, token), height in zip(known, heights, strict=True)
    ]


def _room(labels: list[dict[str, Any]]) -> int:
    return 14 + int(6.8 * max((len(label["text"]) for label in labels), default=0))

"""Figures of a contrast's sites: volcano and Manhattan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from melisma.report._figures_quality import plain
from melisma.report._points import SitePoints
from melisma.report._study import Contrast, Groups, direction_tokens
from melisma.report._style import Figure, direct_label, packed, y_title
from melisma.report._words import named, points, probability, spoken, strongest, term

_LABELLED = 3


def volcano(contrast: Contrast, groups: Groups | None) -> Figure | None:
    """How large and how sure each site's difference is; None where differences have no size."""
    sites = SitePoints(contrast, "delta_beta")
    if not len(sites):
        return None
    up, down = direction_tokens(contrast, groups)
    traces = sites.traces(100 * sites.delta, (up, down))
    least = 0.0 if contrast.slope else 0.1
    reach = 108 * float(np.abs(sites.delta).max(initial=least)) or 1.0
    top = sites.height.max(initial=1.0)
    notes = [y_title("−log<sub>10</sub> p", 34)]
    for i in _labelled(sites, reach, top):
        right = sites.delta[i] < 0
        notes.append(
            direct_label(
                sites.label(i),
                100 * sites.delta[i],
                sites.height[i],
                up if sites.delta[i] > 0 else down,
                shift=(-4 if right else 4, 12),
                xanchor="left" if right else "right",
            )
        )
    layout = {
        "xaxis": {
            "title": {"text": _size(contrast)},
            "range": [-0.02 * reach if contrast.joint else -reach, reach],
            "zeroline": True,
            "zerolinecolor": "@rule",
            "zerolinewidth": 1,
            "nticks": 7,
        },
        "yaxis": {"range": [-0.02 * top, 1.1 * top], "nticks": 6},
        "margin": {"l": 34, "t": 56},
        "shapes": _threshold_line(sites),
        "annotations": [*notes, *_sides(contrast, up, down, narrow=False)],
    }
    narrow = {
        "margin": {"t": 56 if contrast.joint else 74},
        "annotations": [*notes, *_sides(contrast, up, down, narrow=True)],
    }
    label = f"Volcano plot of {len(sites):,} sites, {int(sites.significant.sum()):,} significant."
    return Figure(traces, layout, 380, label, narrow)


def _size(contrast: Contrast) -> str:
    """What the volcano's axis measures."""
    if contrast.joint:
        return "largest difference between two levels, points"
    if contrast.slope:
        return f"points per unit of {plain(term(str(contrast.record.get('column'))))}"
    return "difference in level, points"


def _labelled(sites: SitePoints, reach: float, top: float) -> list[int]:
    """The most significant sites whose names cover neither a called site nor another name."""
    order = np.lexsort((-sites.size, -sites.height))
    order = order[sites.significant[order]]
    x = np.abs(100 * sites.delta) / reach
    y = sites.height / top
    named: list[int] = []
    taken = [(x[i], y[i], int(i)) for i in order[:400]]
    for i in order[: 8 * _LABELLED]:
        # A name is written above its point, towards the middle.
        covered = any(
            j != i
            and sites.delta[i] * sites.delta[j] > 0
            and x[i] - 0.48 < a < x[i] + 0.03
            and y[i] + 0.005 < b < y[i] + 0.075
            for a, b, j in taken
        )
        beside = any(
            abs(y[i] - y[j]) < 0.06 and abs(sites.delta[i] - sites.delta[j]) * 100 < 1.2 * reach
            for j in named
        )
        if not covered and not beside:
            named.append(int(i))
        if len(named) == _LABELLED:
            break
    return named


def _sides(contrast: Contrast, up: str, down: str, *, narrow: bool) -> list[dict[str, Any]]:
    if contrast.joint:
        return []
    if contrast.levels:
        a, b = (plain(spoken(str(level))) for level in contrast.levels)
        left, right = f"← higher in {b}", f"higher in {a} →"
    else:
        left, right = "← falls", "rises →"
    shared: dict[str, Any] = {"xref": "paper", "yref": "paper", "yanchor": "bottom"}
    # On a narrow screen the two stand on lines of their own.
    return [
        direct_label(left, 0, 1, down, shift=(0, 44 if narrow else 26), xanchor="left", **shared),
        direct_label(right, 1, 1, up, shift=(0, 26), xanchor="right", **shared),
    ]


def _threshold_line(sites: SitePoints) -> list[dict[str, Any]]:
    if not sites.significant.any() or sites.significant.all():
        return []
    weakest = float(sites.height[sites.significant].min())
    below = sites.height[~sites.significant]
    level = (weakest + float(below[below <= weakest].max(initial=0.0))) / 2
    return [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": level,
            "y1": level,
            "line": {"color": "@soft", "width": 1, "dash": "dot"},
        }
    ]


def manhattan(contrast: Contrast, groups: Groups | None) -> Figure | None:
    """Where on the genome the evidence stands, called regions as bars under the axis.

    None where no tested site has a place.
    """
    sites = SitePoints(contrast, "position")
    if not len(sites):
        return None
    along, starts, ends = sites.offsets()
    up, down = direction_tokens(contrast, groups)
    one = len(sites.names) == 1
    traces = sites.traces(along, (up, down), sites.contig % 2 == 1)
    top = float(sites.height.max(initial=1.0))
    bars = _region_bars(contrast, sites, starts if not one else [0], (up, down), top)
    if bars:
        traces.append(bars)
    layout = {
        "xaxis": _genome_axis(sites.names, starts, ends, 540),
        "yaxis": {"range": [-0.09 * top, 1.1 * top], "nticks": 6, "zeroline": False},
        "margin": {"l": 34, "t": 56},
        "shapes": _threshold_line(sites),
        "annotations": [y_title("−log<sub>10</sub> p", 34)],
    }
    label = f"Manhattan plot of {len(sites):,} sites along {len(sites.names)} contigs."
    narrow = {"xaxis": _genome_axis(sites.names, starts, ends, 300) | {"nticks": 4}}
    return Figure(traces, layout, 380, label, narrow)


def _genome_axis(
    names: Sequence[str], starts: Sequence[int], ends: Sequence[int], pixels: int
) -> dict[str, Any]:
    if len(names) == 1:
        pad = max(1, int(0.02 * (ends[0] - starts[0])))
        return {
            "title": {"text": f"position on {plain(names[0])}"},
            "range": [starts[0] - pad, ends[0] + pad],
            "nticks": 6,
            "tickformat": ",d",
        }
    total = ends[-1]
    shown: list[tuple[float, str]] = []
    clear = 0.0
    for name, start, end in zip(names, starts, ends, strict=True):
        word, middle = plain(name.removeprefix("chr")), (start + end) / 2
        # A name stands only where the one before it leaves room.
        half = (4 + 3.5 * len(word)) / pixels * total
        if middle - half >= clear and middle + half <= 1.02 * total:
            shown.append((middle, word))
            clear = middle + half
    return {
        "tickvals": [middle for middle, _ in shown],
        "ticktext": [word for _, word in shown],
        "ticks": "",
        "tickangle": 0,
        "range": [-0.01 * total, 1.01 * total],
        "title": {"text": "contig"},
    }


def _region_bars(
    contrast: Contrast,
    sites: SitePoints,
    starts: Sequence[int],
    tokens: tuple[str, str],
    top: float,
) -> dict[str, Any] | None:
    if contrast.regions is None:
        return None
    found = strongest(contrast.regions, 500).filter(pl.col("q") < contrast.cut("regions"))
    rows = [r for r in found.iter_rows(named=True) if r["contig"] in sites.names]
    if not rows:
        return None
    centre = [starts[sites.names.index(r["contig"])] + (r["start"] + r["end"]) / 2 for r in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": packed(centre, "f8"),
        "y": [-0.05 * top] * len(rows),
        "text": [
            f"region {plain(named(r))}<br>{points(r['delta_beta'])} points, "
            f"q {plain(probability(r['q']))}"
            for r in rows
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": "line-ns",
            "size": 9,
            "line": {
                "width": 2.5,
                "color": [tokens[0] if (r["delta_beta"] or 0) > 0 else tokens[1] for r in rows],
            },
        },
        "cliponaxis": False,
    }

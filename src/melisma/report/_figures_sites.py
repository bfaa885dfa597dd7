"""A site drawn sample by sample: the samples of one block joined, or along a covariate."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma.methylome import Region, select
from melisma.report._figures_quality import plain
from melisma.report._figures_regions import levels_of
from melisma.report._study import Contrast, Groups, Study
from melisma.report._style import Figure, direct_label, y_title
from melisma.report._words import IDENTITY, named, spoken

# More samples in a column than this are a cloud, not single dots.
_MANY = 16


def site(study: Study, contrast: Contrast, groups: Groups, row: dict[str, Any]) -> Figure:
    """One site's level in every sample: of the groups compared, or along a covariate.

    Parameters
    ----------
    row : a row of the site table: contig, position, strand, mark, ... and probe, where it has one
    """
    part = _site_of(study, row)
    _, levels, weights = levels_of(part)
    level, weight = levels[0], weights[0]
    shown = [str(name) for name in reversed(contrast.levels or [])] or contrast.among
    if shown:
        at = {label: k for k, label in enumerate(shown)}
        across = [at.get(label) for label in groups.labels]
    else:
        across = study.sheet[groups.column].cast(pl.Float64).to_list()
    seen = [
        j
        for j, x in enumerate(across)
        if x is not None and np.isfinite(x) and weight[j] > 0 and np.isfinite(level[j])
    ]
    beside = [float(across[j] or 0.0) for j in seen]
    if shown:
        beside = _spread(beside, level[seen])
    where = dict(zip(seen, beside, strict=True))
    traces = _joined(_block_of(study, contrast), where, level) if shown else []
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [round(where[j], 3) for j in seen],
            "y": [round(100 * float(level[j]), 1) for j in seen],
            "text": [_words_of(study, part, j, weight) for j in seen],
            "hovertemplate": "%{text}<br>%{y:.0f}%<extra></extra>",
            "marker": _marker(
                [groups.colours[groups.labels[j]] if shown else "@ink" for j in seen],
                weight[seen],
                many=len(seen) > _MANY,
            ),
            "cliponaxis": False,
        }
    )
    names = _names(shown, groups)
    layout = {
        "xaxis": _discrete(shown) if shown else _continuous(groups.column),
        "yaxis": {"range": [-4, 104], "tickvals": [0, 50, 100], "fixedrange": True},
        "margin": {"l": 34, "r": 8, "t": 26, "b": 36},
        "annotations": [y_title("level, %", 34), *names],
    }
    return Figure(traces, layout, 210, f"Levels of {len(seen)} samples at {named(row)}.")


def _site_of(study: Study, row: dict[str, Any]) -> xr.Dataset:
    """The row's site of the store, by its probe or its place and strand."""
    if row.get("probe"):
        at = np.flatnonzero(study.methylome["probe"].values == row["probe"])
        return study.methylome.isel(site=at[:1]).load()
    position = int(row["position"])
    window = Region(str(row["contig"]), position, position + 1)
    part = select(study.methylome, region=window, mark=str(row["mark"])).load()
    strand = np.flatnonzero(part["strand"].values == row["strand"])
    return part.isel(site=strand[:1] if len(strand) else [0])


def _discrete(shown: list[str]) -> dict[str, Any]:
    return {
        "tickvals": [],
        "range": [-0.45, len(shown) - 0.55],
        "ticks": "",
        "showline": False,
        "fixedrange": True,
    }


def _continuous(column: str) -> dict[str, Any]:
    return {"title": {"text": plain(spoken(column)), "standoff": 4}, "nticks": 7}


def _marker(colours: list[str], reads: npt.NDArray[Any], *, many: bool) -> dict[str, Any]:
    sizes = np.clip(1.7 * np.sqrt(reads), 4, 12)
    return {
        "color": colours,
        "size": [round(float(size), 1) for size in sizes],
        "opacity": 0.45 if many else 0.85,
        "line": {"width": 0 if many else 1, "color": "@paper"},
    }


def _names(shown: list[str], groups: Groups) -> list[dict[str, Any]]:
    # Words stand under each other, so that two names fit side by side in a small panel.
    return [
        direct_label(
            plain(spoken(label)).replace(" ", "<br>"),
            k,
            0,
            groups.colours[label],
            yref="paper",
            yanchor="top",
        )
        for k, label in enumerate(shown)
    ]


def _block_of(study: Study, contrast: Contrast) -> list[str] | None:
    if contrast.block == IDENTITY:
        return [study.people.get(sample, sample) for sample in study.samples]
    if contrast.block in study.sheet.columns:
        return [str(value) for value in study.sheet[contrast.block].to_list()]
    return None


def _joined(
    blocks: list[str] | None, where: dict[int, float], level: npt.NDArray[Any]
) -> list[dict[str, Any]]:
    if blocks is None:
        return []
    x: list[float | None] = []
    y: list[float | None] = []
    for block in dict.fromkeys(blocks[j] for j in where):
        members = sorted((j for j in where if blocks[j] == block), key=lambda j: where[j])
        x += [*(round(where[j], 3) for j in members), None]
        y += [*(round(100 * float(level[j]), 1) for j in members), None]
    line = {"width": 1, "color": "@faint"}
    return [{"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}]


def _spread(columns: list[float], level: npt.NDArray[Any]) -> list[float]:
    """Points of one column side by side where their levels nearly coincide."""
    across = list(columns)
    for column in set(columns):
        members = sorted((i for i, k in enumerate(columns) if k == column), key=lambda i: level[i])
        if len(members) > _MANY:
            # Multiples of the golden ratio fill the column evenly and take no chance.
            for k, member in enumerate(members):
                across[member] += 0.6 * (k * 0.618034 % 1.0 - 0.5)
            continue
        run: list[int] = []
        for i in [*members, -1]:
            if run and (i < 0 or level[i] - level[run[-1]] > 0.03):
                for k, member in enumerate(run):
                    across[member] += 0.06 * (k - (len(run) - 1) / 2)
                run = []
            run.append(i)
    return across


def _words_of(study: Study, part: xr.Dataset, j: int, weight: npt.NDArray[Any]) -> str:
    name = plain(study.samples[j])
    if "beta" in part:
        return name
    marked = int(part["methylated"].values[0, j])
    return f"{name}: {marked} of {int(weight[j])} reads"

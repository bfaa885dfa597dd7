"""Figures of a contrast's sites: volcano and Manhattan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.report._figures_quality import plain
from melisma.report._study import Contrast, Groups, direction_tokens
from melisma.report._style import Figure, direct_label, packed, y_title
from melisma.report._words import passing, place, probability, signed, spoken, strongest

# Points beyond these add weight to the page and nothing to the eye.
_MOST_BACKGROUND = 4000
_MOST_SIGNIFICANT = 12000
_NAMED = 300
_LABELLED = 3


def thinned(
    x: npt.NDArray[Any], y: npt.NDArray[Any], most: int, cells: tuple[int, int] = (320, 200)
) -> npt.NDArray[np.intp]:
    """Which points to draw so that the picture stays the same: the highest one a grid cell.

    The grid is coarsened until at most `most` points are left; no chance is involved.

    >>> thinned(np.array([0, 0, 1]), np.array([1.0, 1.0, 1.0]), 2).tolist()
    [0, 2]
    """
    if len(x) <= most:
        return np.arange(len(x))
    columns, rows = cells
    while True:
        place_x = _cells(x, columns)
        key = place_x * (rows + 1) + _cells(y, rows)
        order = np.lexsort((np.arange(len(y)), -y, key))
        _, first = np.unique(key[order], return_index=True)
        if len(first) <= most or columns <= 8:
            return np.sort(order[first])
        columns, rows = int(columns * 0.85), max(8, int(rows * 0.85))


def _cells(values: npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / ((high - low) or 1.0) * n).astype(np.int64)


class SitePoints:
    """The tested sites of a contrast as arrays, significant ones apart."""

    def __init__(self, contrast: Contrast) -> None:
        table = contrast.sites if contrast.sites is not None else pl.DataFrame()
        tested = table.with_columns(pl.col("p", "q").fill_nan(None)).filter(
            pl.col("p").is_not_null() & pl.col("delta_beta").is_not_null()
        )
        self.contigs = tested["contig"].cast(pl.String).to_list()
        self.names = list(dict.fromkeys(self.contigs))
        self.position = tested["position"].to_numpy().astype(np.int64)
        self.delta = tested["delta_beta"].to_numpy().astype(float)
        self.q = tested["q"].to_numpy().astype(float)
        p = tested["p"].to_numpy().astype(float)
        self.p = p
        self.height = -np.log10(np.maximum(p, 1e-300))
        self.significant = self.q < contrast.threshold

    def offsets(self) -> tuple[npt.NDArray[np.int64], list[int], list[int]]:
        """Where each site stands when contigs are laid end to end; contigs' starts and ends."""
        of = {name: k for k, name in enumerate(self.names)}
        contig = np.fromiter((of[c] for c in self.contigs), np.int64, len(self.contigs))
        lengths = np.zeros(len(self.names), dtype=np.int64)
        np.maximum.at(lengths, contig, self.position + 1)
        if len(self.names) == 1:
            return self.position, [int(self.position.min())], [int(self.position.max())]
        gap = int(lengths.sum() * 0.004)
        starts = np.concatenate([[0], np.cumsum(lengths + gap)[:-1]])
        return self.position + starts[contig], starts.tolist(), (starts + lengths).tolist()

    def hover(self, chosen: npt.NDArray[np.intp]) -> list[str]:
        """Each chosen site's place, difference, p and q."""
        return [
            f"{plain(place(self.contigs[i], int(self.position[i])))}"
            f"<br>{signed(100 * float(self.delta[i]), 0)} points"
            f"<br>p {probability(float(self.p[i]))}, q {probability(float(self.q[i]))}"
            for i in chosen
        ]

    def traces(
        self, x: npt.NDArray[Any], tokens: tuple[str, str], shade: npt.NDArray[Any] | None = None
    ) -> list[dict[str, Any]]:
        """Background, the strongest of it with names, and the significant sites.

        `tokens` colour a rise and a fall; `shade` is true where the background is darker.
        """
        rest, called = np.flatnonzero(~self.significant), np.flatnonzero(self.significant)
        rest = rest[thinned(x[rest], self.height[rest], _MOST_BACKGROUND)]
        called = called[thinned(x[called], self.height[called], _MOST_SIGNIFICANT)]
        named = rest[np.argsort(-self.height[rest], kind="stable")[:_NAMED]]
        dark = np.zeros(len(x), dtype=bool) if shade is None else shade
        far = np.setdiff1d(rest, named)
        drawn = [
            self._dots(x, chosen, token, (4, 0.75), words)
            for pick, token in ((~dark, "@faint"), (dark, "@soft/.6"))
            for chosen, words in ((far[pick[far]], False), (named[pick[named]], True))
        ]
        colours = [tokens[0] if self.delta[i] > 0 else tokens[1] for i in called]
        drawn.append(self._dots(x, called, colours, (7, 0.9), True))
        return [trace for trace in drawn if trace is not None]

    def _dots(
        self,
        x: npt.NDArray[Any],
        chosen: npt.NDArray[np.intp],
        colour: str | list[str],
        look: tuple[float, float],
        words: bool,
    ) -> dict[str, Any] | None:
        if not len(chosen):
            return None
        hover = (
            {"text": self.hover(chosen), "hovertemplate": "%{text}<extra></extra>"}
            if words
            else {"hoverinfo": "skip"}
        )
        wide = "f4" if x.dtype.kind == "f" else "f8"
        return {
            "type": "scatter",
            "mode": "markers",
            "x": packed(x[chosen], wide),
            "y": packed(self.height[chosen]),
            "marker": {"color": colour, "size": look[0], "opacity": look[1]},
            "cliponaxis": False,
        } | hover


def volcano(contrast: Contrast, groups: Groups | None) -> Figure:
    """How large and how sure each site's difference is."""
    points = SitePoints(contrast)
    up, down = direction_tokens(contrast, groups)
    traces = points.traces(100 * points.delta, (up, down))
    reach = 100 * float(np.abs(points.delta).max(initial=0.1)) * 1.08
    notes = [y_title("−log<sub>10</sub> p", 34)]
    top = points.height.max(initial=1.0)
    for i in _labelled(points, reach, top):
        right = points.delta[i] < 0
        notes.append(
            direct_label(
                plain(place(points.contigs[i], int(points.position[i]))),
                100 * points.delta[i],
                points.height[i],
                up if points.delta[i] > 0 else down,
                shift=(-4 if right else 4, 12),
                xanchor="left" if right else "right",
            )
        )
    layout = {
        "xaxis": {
            "title": {"text": "difference in level, points"},
            "range": [-reach, reach],
            "zeroline": True,
            "zerolinecolor": "@rule",
            "zerolinewidth": 1,
            "nticks": 7,
        },
        "yaxis": {"range": [-0.02 * top, 1.1 * top], "nticks": 6},
        "margin": {"l": 34, "t": 56},
        "shapes": _threshold_line(points),
        "annotations": [*notes, *_sides(contrast, up, down, narrow=False)],
    }
    narrow = {
        "margin": {"t": 74},
        "annotations": [*notes, *_sides(contrast, up, down, narrow=True)],
    }
    label = (
        f"Volcano plot of {len(points.p):,} sites, {int(points.significant.sum()):,} significant."
    )
    return Figure(traces, layout, 380, label, narrow)


def _labelled(points: SitePoints, reach: float, top: float) -> list[int]:
    """The most significant sites that have room for a name beside each other."""
    named: list[int] = []
    order = np.argsort(-points.height, kind="stable")
    for i in order[points.significant[order]][: 8 * _LABELLED]:
        near = any(
            abs(points.height[i] - points.height[j]) < 0.06 * top
            and abs(points.delta[i] - points.delta[j]) < 0.007 * reach
            for j in named
        )
        if not near:
            named.append(int(i))
        if len(named) == _LABELLED:
            break
    return named


def _sides(contrast: Contrast, up: str, down: str, *, narrow: bool) -> list[dict[str, Any]]:
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


def _threshold_line(points: SitePoints) -> list[dict[str, Any]]:
    if not points.significant.any() or points.significant.all():
        return []
    weakest = float(points.height[points.significant].min())
    below = points.height[~points.significant]
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


def manhattan(contrast: Contrast, groups: Groups | None) -> Figure:
    """Where on the genome the evidence stands; called regions are bars under the axis."""
    points = SitePoints(contrast)
    along, starts, ends = points.offsets()
    up, down = direction_tokens(contrast, groups)
    one = len(points.names) == 1
    odd = set(points.names[1::2])
    shade = np.fromiter((c in odd for c in points.contigs), bool, len(points.contigs))
    traces = points.traces(along, (up, down), shade)
    top = float(points.height.max(initial=1.0))
    shapes = _threshold_line(points)
    notes = [y_title("−log<sub>10</sub> p", 34)]
    bars = _region_bars(contrast, points, starts if not one else [0], (up, down), top)
    if bars:
        traces.append(bars)
    if shapes:
        notes.append(
            direct_label(
                passing(contrast.threshold),
                1,
                shapes[0]["y0"],
                "@soft",
                shift=(0, 2),
                xref="paper",
                xanchor="right",
                yanchor="bottom",
            )
        )
    layout = {
        "xaxis": _genome_axis(points.names, starts, ends),
        "yaxis": {"range": [-0.09 * top, 1.1 * top], "nticks": 6, "zeroline": False},
        "margin": {"l": 34, "t": 56},
        "shapes": shapes,
        "annotations": notes,
    }
    label = f"Manhattan plot of {len(points.p):,} sites along {len(points.names)} contigs."
    narrow = {"xaxis": {"nticks": 4}}
    return Figure(traces, layout, 380, label, narrow)


def _genome_axis(names: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> dict:
    if len(names) == 1:
        pad = max(1, int(0.02 * (ends[0] - starts[0])))
        return {
            "title": {"text": f"position on {plain(names[0])}"},
            "range": [starts[0] - pad, ends[0] + pad],
            "nticks": 6,
            "tickformat": ",d",
        }
    total = ends[-1]
    # A name stands only where its contig is wide enough to carry it.
    shown = [k for k in range(len(names)) if ends[k] - starts[k] > 0.018 * total][:40]
    return {
        "tickvals": [(starts[k] + ends[k]) / 2 for k in shown],
        "ticktext": [plain(names[k].removeprefix("chr")) for k in shown],
        "ticks": "",
        "tickangle": 0,
        "range": [-0.01 * total, 1.01 * total],
        "title": {"text": "contig"},
    }


def _region_bars(
    contrast: Contrast,
    points: SitePoints,
    starts: Sequence[int],
    tokens: tuple[str, str],
    top: float,
) -> dict[str, Any] | None:
    if contrast.regions is None:
        return None
    found = strongest(contrast.regions, 500).filter(pl.col("q") < contrast.threshold)
    rows = [r for r in found.iter_rows(named=True) if r["contig"] in points.names]
    if not rows:
        return None
    centre = [starts[points.names.index(r["contig"])] + (r["start"] + r["end"]) / 2 for r in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": packed(centre, "f8"),
        "y": [-0.05 * top] * len(rows),
        "text": [
            f"region {plain(place(r['contig'], r['start'], r['end']))}"
            f"<br>{signed(100 * r['delta_beta'], 0)} points, q {probability(r['q'])}"
            for r in rows
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "symbol": "line-ns",
            "size": 9,
            "line": {
                "width": 2.5,
                "color": [tokens[0] if r["delta_beta"] > 0 else tokens[1] for r in rows],
            },
        },
        "cliponaxis": False,
    }

"""Figures of a contrast's sites: volcano and Manhattan."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.report._figures_quality import plain
from melisma.report._study import Contrast, Groups, direction_tokens
from melisma.report._style import Figure, direct_label, packed, y_title
from melisma.report._words import place, probability, signed, spoken, strongest

# Points beyond these lie under others: they add weight to the page and nothing to the eye.
MOST_BACKGROUND = 3500
MOST_SIGNIFICANT = 6000
_NAMED_BACKGROUND = 300
_NAMED_SIGNIFICANT = 1500
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
        contigs = tested["contig"].cast(pl.String)
        self.names: list[str] = contigs.unique(maintain_order=True).to_list()
        places = list(range(len(self.names)))
        self.contig = contigs.replace_strict(self.names, places, return_dtype=pl.Int32).to_numpy()
        self.position = tested["position"].to_numpy().astype(np.int64)
        self.delta = tested["delta_beta"].to_numpy().astype(float)
        self.q = tested["q"].to_numpy().astype(float)
        p = tested["p"].to_numpy().astype(float)
        self.p = p
        self.height = -np.log10(np.maximum(p, 1e-300))
        self.significant = self.q < contrast.threshold

    def offsets(self) -> tuple[npt.NDArray[np.int64], list[int], list[int]]:
        """Where each site stands when contigs are laid end to end; contigs' starts and ends."""
        lengths = np.zeros(len(self.names), dtype=np.int64)
        np.maximum.at(lengths, self.contig, self.position + 1)
        if len(self.names) == 1:
            return self.position, [int(self.position.min())], [int(self.position.max())]
        gap = int(lengths.sum() * 0.004)
        starts = np.concatenate([[0], np.cumsum(lengths + gap)[:-1]])
        return self.position + starts[self.contig], starts.tolist(), (starts + lengths).tolist()

    def place(self, i: int | np.intp) -> str:
        """A site's place as a label."""
        return plain(place(self.names[self.contig[i]], int(self.position[i])))

    def hover(self, chosen: npt.NDArray[np.intp]) -> list[str]:
        """Each chosen site's place, difference, p and q."""
        return [
            f"{self.place(i)}"
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
        dark = np.zeros(len(x), dtype=bool) if shade is None else shade
        drawn = []
        for wanted, most, named in (
            (~self.significant, MOST_BACKGROUND, _NAMED_BACKGROUND),
            (self.significant, MOST_SIGNIFICANT, _NAMED_SIGNIFICANT),
        ):
            chosen = np.flatnonzero(wanted)
            if not len(chosen):
                continue
            chosen = chosen[thinned(x[chosen], self.height[chosen], most)]
            chosen = chosen[np.argsort(-self.height[chosen], kind="stable")]
            for part, words in ((chosen[named:], False), (chosen[:named], True)):
                if wanted is self.significant:
                    colours = [tokens[0] if self.delta[i] > 0 else tokens[1] for i in part]
                    drawn.append(self._dots(x, part, colours, (7, 0.9), words))
                else:
                    drawn.append(self._dots(x, part[~dark[part]], "@faint", (4, 0.75), words))
                    drawn.append(self._dots(x, part[dark[part]], "@soft/.6", (4, 0.75), words))
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
        # A position needs whole bases; only a genome laid end to end outgrows 32 bits.
        whole = "i4" if x.max(initial=0) < 2**31 else "f8"
        wide = "f4" if x.dtype.kind == "f" else whole
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
                points.place(i),
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
    """The most significant sites whose names cover neither a called site nor another name."""
    order = np.argsort(-points.height, kind="stable")
    order = order[points.significant[order]]
    x = np.abs(100 * points.delta) / reach
    y = points.height / top
    named: list[int] = []
    taken = [(x[i], y[i], int(i)) for i in order[:400]]
    for i in order[: 8 * _LABELLED]:
        # A name is written above its point, towards the middle.
        covered = any(
            j != i
            and points.delta[i] * points.delta[j] > 0
            and x[i] - 0.48 < a < x[i] + 0.03
            and y[i] + 0.005 < b < y[i] + 0.075
            for a, b, j in taken
        )
        beside = any(
            abs(y[i] - y[j]) < 0.06 and abs(points.delta[i] - points.delta[j]) * 100 < 1.2 * reach
            for j in named
        )
        if not covered and not beside:
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
    traces = points.traces(along, (up, down), points.contig % 2 == 1)
    top = float(points.height.max(initial=1.0))
    shapes = _threshold_line(points)
    notes = [y_title("−log<sub>10</sub> p", 34)]
    bars = _region_bars(contrast, points, starts if not one else [0], (up, down), top)
    if bars:
        traces.append(bars)
    layout = {
        "xaxis": _genome_axis(points.names, starts, ends, 540),
        "yaxis": {"range": [-0.09 * top, 1.1 * top], "nticks": 6, "zeroline": False},
        "margin": {"l": 34, "t": 56},
        "shapes": shapes,
        "annotations": notes,
    }
    label = f"Manhattan plot of {len(points.p):,} sites along {len(points.names)} contigs."
    narrow = {"xaxis": _genome_axis(points.names, starts, ends, 300) | {"nticks": 4}}
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

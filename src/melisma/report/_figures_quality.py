"""Figures of the quality section: PCA, correlation, identity, levels by contig."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from melisma.report._study import Groups
from melisma.report._style import (
    CLOSE_IS_DARK,
    HIGH_IS_DARK,
    Figure,
    direct_label,
    y_title,
)

# Above this, names on points and on the sides of a heat map are noise.
_MANY_SAMPLES = 48
# A heat map of more samples is drawn by means of neighbours: its cells are no wider than a pixel.
_MOST_CELLS = 260


def pca(table: pl.DataFrame, variance: Sequence[float], colourings: Sequence[Groups]) -> Figure:
    """Which samples resemble each other: the first two principal components."""
    x, y = (table[name].to_numpy().astype(float) for name in ("pc1", "pc2"))
    names = table["sample"].to_list()
    short = shortened(names)
    positions = _label_positions(x, y, short)
    choices = {g.column: _colouring(g, names) for g in colourings}
    first = next(iter(choices.values()), None)
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [round(float(v), 4) for v in x],
        "y": [round(float(v), 4) for v in y],
        "text": [s if at else "" for s, at in zip(short, positions, strict=True)],
        "textposition": [at or "top center" for at in positions],
        "textfont": {"size": 11, "color": "@soft"},
        "cliponaxis": False,
        "hovertext": first["hover"] if first else names,
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": 10, "line": {"width": 1.5, "color": "@paper"}}
        | (first["marker"] if first else {"color": "@c1"}),
    }

    def axis(k: int) -> str:
        share = f", {100 * variance[k - 1]:.0f}% of variance" if len(variance) >= k else ""
        return f"PC{k}{share}"

    layout = {
        "xaxis": {"title": {"text": axis(1)}, "nticks": 6, **_padded(x)},
        "yaxis": {"nticks": 6, **_padded(y)},
        "annotations": [y_title(axis(2))],
    }
    label = f"Scatter of {len(names)} samples on the first two principal components."
    return Figure([trace], layout, 440, label, choices=choices)


def _colouring(groups: Groups, names: Sequence[str]) -> dict[str, Any]:
    return {
        "marker": {
            "color": [groups.colours[label] for label in groups.labels],
            "symbol": [groups.symbols[label] for label in groups.labels],
        },
        "hover": [
            f"<b>{plain(name)}</b><br>{plain(groups.column)}: {plain(label) or 'missing'}"
            for name, label in zip(names, groups.labels, strict=True)
        ],
        "key": [
            [label or "missing", groups.colours[label], groups.symbols[label]]
            for label in groups.order
        ],
    }


def plain(text: str) -> str:
    """Text that plotly's own small HTML must not read as tags.

    >>> plain("a<b>")
    'a&lt;b&gt;'
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def shortened(names: Sequence[str]) -> list[str]:
    """Sample names without the word they all begin with, where numbers are left.

    >>> shortened(["sample1", "sample12"]), shortened(["ann", "andy"])
    (['1', '12'], ['ann', 'andy'])
    """
    heads = {re.sub(r"\d+$", "", name) for name in names}
    if len(heads) == 1 and (head := heads.pop()) and all(len(n) > len(head) for n in names):
        return [name[len(head) :] for name in names]
    return [plain(name) for name in names]


def _padded(values: npt.NDArray[Any]) -> dict[str, Any]:
    low, high = float(np.min(values)), float(np.max(values))
    pad = 0.12 * (high - low) or 1.0
    return {"range": [low - pad, high + pad]}


def _label_positions(
    x: npt.NDArray[Any], y: npt.NDArray[Any], labels: Sequence[str]
) -> list[str | None]:
    """Where each point's name goes without covering another; None where there is no room."""
    if len(labels) > _MANY_SAMPLES:
        return [None] * len(labels)
    spread = [float(np.ptp(v)) or 1.0 for v in (x, y)]
    # The panel is taken as 400 x 300 pixels; narrower screens only crowd a little.
    px = np.column_stack([(x - x.min()) / spread[0] * 400, (y - y.min()) / spread[1] * 300])
    boxes = [(a - 6, b - 6, a + 6, b + 6) for a, b in px]
    placed: list[str | None] = []
    for (a, b), text in zip(px, labels, strict=True):
        half = 3.5 * len(text)
        options = {
            "top center": (a - half, b + 7, a + half, b + 20),
            "middle right": (a + 8, b - 6, a + 8 + 2 * half, b + 7),
            "bottom center": (a - half, b - 20, a + half, b - 7),
            "middle left": (a - 8 - 2 * half, b - 6, a - 8, b + 7),
        }
        free = next((o for o, box in options.items() if not _hits(box, boxes)), None)
        placed.append(free)
        if free:
            boxes.append(options[free])
    return placed


def _hits(box: tuple[float, ...], others: Sequence[tuple[float, ...]]) -> bool:
    return any(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in others)


def alike_order(distance: npt.NDArray[np.floating[Any]]) -> list[int]:
    """Samples in an order that puts alike ones side by side (average linkage)."""
    filled = np.nan_to_num(distance, nan=float(np.nanmax(distance, initial=1.0)))
    square = (filled + filled.T) / 2
    np.fill_diagonal(square, 0.0)
    if len(square) < 3:
        return list(range(len(square)))
    condensed = squareform(square, checks=False)
    return leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)).tolist()


def correlation(table: pl.DataFrame) -> Figure:
    """How the samples' levels correlate, alike samples side by side."""
    names = table["sample"].to_list()
    matrix = table.select(names).to_numpy().astype(float)
    order = alike_order(1 - matrix)
    off = matrix[~np.eye(len(names), dtype=bool)]
    low = float(np.nanmin(off)) if off.size else 0.0
    figure = _heat_map(names, matrix, order, HIGH_IS_DARK, (low, 1.0), "correlation %{z:.2f}")
    label = f"Heat map of the correlation between {len(names)} samples, lowest {low:.2f}."
    return Figure(figure.data, figure.layout, 0, label, figure.narrow)


def _heat_map(
    names: Sequence[str],
    matrix: npt.NDArray[Any],
    order: Sequence[int],
    scale: list[list[Any]],
    limits: tuple[float, float],
    words: str,
) -> Figure:
    ordered = matrix[np.ix_(order, order)].astype(float)
    np.fill_diagonal(ordered, np.nan)
    held = [names[i] for i in order]
    if len(held) > _MOST_CELLS:
        held, ordered = _coarse(held, ordered)
    shown = [plain(name) for name in held]
    z = [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in ordered]
    gap = 1 if len(held) <= _MANY_SAMPLES else 0
    trace = {
        "type": "heatmap",
        "x": shown,
        "y": shown,
        "z": z,
        "zmin": limits[0],
        "zmax": limits[1],
        "colorscale": scale,
        "showscale": False,
        "xgap": gap,
        "ygap": gap,
        "hoverongaps": False,
        "hovertemplate": f"%{{y}} and %{{x}}<br>{words}<extra></extra>",
    }
    layout, narrow = _heat_axes(shown, shortened(held))
    return Figure([trace], layout, 0, "", narrow)


def _coarse(names: Sequence[str], ordered: npt.NDArray[Any]) -> tuple[list[str], npt.NDArray[Any]]:
    """Neighbouring samples put together, with the mean of what is known of them."""
    parts = np.array_split(np.arange(len(names)), _MOST_CELLS)
    ends = [(int(part[0]), int(part[-1])) for part in parts]
    starts = [first for first, _ in ends]
    known = ~np.isnan(ordered)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(values, starts, axis=0), starts, axis=1)
        for values in (np.where(known, ordered, 0.0), known.astype(float))
    )
    joined = [f"{names[a]} to {names[b]}" if b > a else names[a] for a, b in ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        return joined, np.where(counts > 0, sums / counts, np.nan)


def _heat_axes(shown: list[str], short: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    n = len(shown)
    named = n <= _MANY_SAMPLES
    widest = max((len(s) for s in shown), default=0) if named else 0
    thin = max((len(s) for s in short), default=0) if named else 0
    # Names that do not fit under a column stand upright.
    upright = thin > 3
    ticks = {
        "type": "category",
        "tickvals": shown if named else [],
        "ticktext": shown if named else [],
        "showline": False,
        "showgrid": False,
        "ticklen": 5,
        "tickcolor": "rgba(0,0,0,0)",
        "ticks": "outside",
        "range": [-0.5, n - 0.5],
        "fixedrange": True,
    }
    below = {"tickangle": -90} if upright else {"tickangle": 0, "ticktext": short if named else []}
    layout = {
        "xaxis": ticks | below,
        "yaxis": ticks | {"range": [n - 0.5, -0.5]},
        "margin": {
            "l": min(16 + 7 * widest, 140),
            "r": 4,
            "t": 4,
            "b": min(16 + 7 * widest, 140) if upright else 24,
        },
    }
    brief = {"ticktext": short if named else [], "tickfont": {"size": 9}}
    narrow = {"xaxis": brief, "yaxis": brief, "margin": {"l": min(14 + 6 * thin, 80)}}
    return layout, narrow


def identity(
    table: pl.DataFrame, people: dict[str, str], contradictions: Sequence[Sequence[str]]
) -> Figure:
    """Which samples share a person: distances at genotype-like sites, ordered by person."""
    names = table["sample"].to_list()
    matrix = table.select(names).to_numpy().astype(float)
    order = alike_order(matrix)
    if people:
        first = {p: i for i, p in reversed(list(enumerate(people.get(n, "") for n in names)))}
        order = sorted(range(len(names)), key=lambda i: (first[people.get(names[i], "")], i))
    far = float(np.nanmax(matrix)) if np.isfinite(matrix).any() else 1.0
    figure = _heat_map(names, matrix, order, CLOSE_IS_DARK, (0.0, far), "distance %{z:.3f}")
    ordered = [names[i] for i in order]
    clash = {frozenset(pair) for pair in contradictions}
    shapes = []
    # With more samples one person's are no wider than a line.
    if len(names) <= _MOST_CELLS:
        shapes += [_square(a, b, "@ink", 1.5) for a, b in _person_runs(ordered, people)]
        shapes += [
            _square(j, j, "@alert", 2.5, row=i)
            for i, a in enumerate(ordered)
            for j, b in enumerate(ordered)
            if i != j and frozenset((a, b)) in clash
        ]
    n_people = len(set(people.values()))
    found = f", {n_people} people" if people else ""
    label = f"Heat map of genetic distance between {len(names)} samples{found}."
    return Figure(figure.data, figure.layout | {"shapes": shapes}, 0, label, figure.narrow)


def _person_runs(ordered: Sequence[str], people: dict[str, str]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for i, name in enumerate(ordered):
        person = people.get(name)
        if runs and person and people.get(ordered[runs[-1][0]]) == person:
            runs[-1] = (runs[-1][0], i)
        else:
            runs.append((i, i))
    return [run for run in runs if run[1] > run[0]]


def _square(
    first: int, last: int, token: str, width: float, *, row: int | None = None
) -> dict[str, Any]:
    top, bottom = (first, last) if row is None else (row, row)
    return {
        "type": "rect",
        "x0": first - 0.5,
        "x1": last + 0.5,
        "y0": top - 0.5,
        "y1": bottom + 0.5,
        "line": {"color": token, "width": width},
    }


def pair_distances(pairs: pl.DataFrame, contradictions: Sequence[Sequence[str]]) -> Figure:
    """How clearly same-person pairs stand apart from all others: one tick a pair."""
    clash = {frozenset(pair) for pair in contradictions}
    rows = pairs.select("sample_a", "sample_b", "distance", "same_person").rows()
    traces, labels = [], []
    for same, y, token, words in ((True, 1, "@ink", "one person"), (False, 0, "@faint", "others")):
        chosen = [r for r in rows if bool(r[3]) is same and r[2] is not None]
        if not chosen:
            continue
        colours = ["@alert" if frozenset(r[:2]) in clash else token for r in chosen]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [round(float(r[2]), 4) for r in chosen],
                "y": [y] * len(chosen),
                "text": [f"{plain(r[0])} and {plain(r[1])}" for r in chosen],
                "marker": {
                    "symbol": "line-ns",
                    "size": 16,
                    "line": {"width": 2 if same else 1, "color": colours},
                },
                "hovertemplate": "%{text}<br>distance %{x:.3f}<extra></extra>",
            }
        )
        text = count_words(len(chosen), words)
        labels.append(
            direct_label(
                text,
                0,
                y,
                "@ink" if same else "@soft",
                shift=(0, 18),
                xref="paper",
                xanchor="left",
            )
        )
    layout = {
        "xaxis": {"title": {"text": "distance at genotype-like sites"}, "rangemode": "tozero"},
        "yaxis": {"visible": False, "range": [-0.5, 1.9], "fixedrange": True},
        "margin": {"l": 8, "t": 8, "b": 40},
        "annotations": labels,
    }
    return Figure(traces, layout, 170, "Strip of the distances of all pairs of samples.")


def count_words(n: int, words: str) -> str:
    """The label of a row of pairs.

    >>> count_words(1, "others")
    '1 pair: others'
    """
    return f"{n:,} pair{'' if n == 1 else 's'}: {words}"


def levels(table: pl.DataFrame, groups: Groups, samples: Sequence[str]) -> Figure:
    """Each sample's level by contig and context: one row a place, one dot a sample."""
    places = table.select("contig", "context").unique(maintain_order=True).rows()
    contexts = table["context"].n_unique()
    label_of = dict(zip(samples, groups.labels, strict=True))
    row_of = {where: i for i, where in enumerate(places)}
    rows = table.select("contig", "context", "sample", "level", "sites").rows()
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [None if r[3] is None else round(100 * float(r[3]), 2) for r in rows],
        "y": [row_of[r[0], r[1]] for r in rows],
        "text": [f"{plain(r[2])}<br>{r[4]:,} sites" for r in rows],
        "marker": {
            "size": 8,
            "opacity": 0.7,
            "color": [groups.colours[label_of[r[2]]] for r in rows],
        },
        "hovertemplate": "%{text}<br>level %{x:.1f}%<extra></extra>",
    }
    words = [plain(f"{a} {b}" if contexts > 1 else str(a)) for a, b in places]
    layout = {
        "xaxis": {"title": {"text": "level, %"}, "rangemode": "tozero"},
        "yaxis": {
            "tickvals": list(range(len(places))),
            "ticktext": words,
            "range": [len(places) - 0.5, -0.5],
            "fixedrange": True,
        },
        "margin": {"l": 16 + 7 * max(map(len, words)), "t": 8},
    }
    label = "Each sample's level by contig and context."
    return Figure([trace], layout, 80 + 22 * len(places), label)

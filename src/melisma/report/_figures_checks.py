"""Figures of the quality checks: conversion, sex, saturation, and what the sheet explains."""

from typing import Any

import polars as pl

from melisma.report._figures_quality import plain
from melisma.report._style import HIGH_IS_DARK, Figure, direct_label, separated, y_title

# More samples than this are drawn as a few of them, and named only on hovering.
_MANY_SAMPLES = 24
_SEXES = (("female", "@c0", "circle"), ("male", "@c1", "diamond"), (None, "@faint", "square"))


def conversion(table: pl.DataFrame, limit: float) -> Figure:
    """Failed conversion of each sample with its 95% interval, beside the limit."""
    known = table.filter(pl.col("failure").is_not_null()).sort("failure")
    rows = known.rows(named=True)
    named = len(rows) <= 2 * _MANY_SAMPLES
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [round(100 * r["failure"], 4) for r in rows],
        "y": list(range(len(rows))),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [round(100 * (r["failure_high"] - r["failure"]), 4) for r in rows],
            "arrayminus": [round(100 * (r["failure"] - r["failure_low"]), 4) for r in rows],
            "color": "@soft",
            "thickness": 1,
            "width": 0,
        },
        "text": [
            f"<b>{plain(r['sample'])}</b><br>{r['kind']}: {plain(r['contig'] or r['source'])}, "
            f"{r['reads']:,} reads"
            for r in rows
        ],
        "marker": {
            "size": 8,
            "color": ["@alert" if r["failure"] > limit else "@c1" for r in rows],
            "symbol": ["circle" if r["kind"] == "measured" else "circle-open" for r in rows],
        },
        "hovertemplate": "%{text}<br>%{x:.2f}% not converted<extra></extra>",
    }
    widest = max((len(r["sample"]) for r in rows), default=0) if named else 0
    layout = {
        "xaxis": {"title": {"text": "cytosines not converted, %"}, "rangemode": "tozero"},
        "yaxis": {
            "tickvals": list(range(len(rows))) if named else [],
            "ticktext": [plain(r["sample"]) for r in rows] if named else [],
            "range": [len(rows) - 0.4, -0.6],
            "showgrid": False,
            "fixedrange": True,
        },
        "margin": {"l": min(20 + 7 * widest, 160), "t": 8},
        "shapes": [_upright(100 * limit)],
    }
    height = 70 + (16 * len(rows) if named else 360)
    return Figure([trace], layout, height, f"Failed conversion of {len(rows)} samples.")


def _upright(x: float) -> dict[str, Any]:
    line = {"color": "@soft", "width": 1, "dash": "dot"}
    return {"type": "line", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": line}


def sex(table: pl.DataFrame) -> Figure:
    """Each sample's coverage of chrX and chrY against the autosomes', in the colour of its sex."""
    traces = []
    labels: list[dict[str, Any]] = []
    for name, token, symbol in _SEXES:
        rows = table.filter(
            pl.col("x_ratio").is_not_null() & pl.col("sex").eq_missing(pl.lit(name, pl.String))
        ).rows(named=True)
        if not rows:
            continue
        odd = [bool(r["sheet"] and r["sex"] and r["sheet"] != r["sex"]) for r in rows]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [round(r["x_ratio"], 4) for r in rows],
                "y": [round(r["y_ratio"] or 0.0, 4) for r in rows],
                "text": [
                    f"<b>{plain(r['sample'])}</b><br>{name or 'cannot be told'}"
                    + (f", {r['sheet']} in the sheet" if r["sheet"] else "")
                    for r in rows
                ],
                "marker": {
                    "size": [13 if bad else 9 for bad in odd],
                    "color": token,
                    "symbol": symbol,
                    "line": {"width": 2, "color": ["@alert" if bad else "@paper" for bad in odd]},
                },
                "hovertemplate": "%{text}<br>chrX %{x:.2f}, chrY %{y:.2f}<extra></extra>",
            }
        )
        words = f"{len(rows):,} {name or 'cannot be told'}"
        shift = (0, -18 * len(labels))
        labels.append(
            direct_label(words, 1, 1, token, shift=shift, xref="paper", yref="paper",
                         xanchor="right", yanchor="top")
        )  # fmt: skip
    layout = {
        "xaxis": {"title": {"text": "chrX against autosomes, median depth"}, "rangemode": "tozero"},
        "yaxis": {"rangemode": "tozero"},
        "annotations": [y_title("chrY against autosomes"), *labels],
    }
    return Figure(traces, layout, 340, f"Coverage of chrX and chrY in {table.height} samples.")


def saturation(table: pl.DataFrame) -> Figure:
    """Sites seen with a share of the reads: full lines thinned, dotted ones extrapolated."""
    shown = _representatives(table)
    traces: list[dict[str, Any]] = []
    ends: list[tuple[str, float, str]] = []
    for column, words, token in (
        ("sites_1", "1 read", "@o2"),
        ("sites_5", "5 reads", "@o1"),
        ("sites_10", "10 reads", "@o0"),
    ):
        top = 0.0
        for name in shown:
            part = table.filter((pl.col("sample") == name) & pl.col(column).is_not_null())
            for dash, inside in (
                ("solid", pl.col("fraction") <= 1),
                ("dot", pl.col("fraction") >= 1),
            ):
                line = part.filter(inside)
                if line.height < 2:
                    continue
                traces.append(
                    {
                        "type": "scatter",
                        "mode": "lines",
                        "x": line["fraction"].to_list(),
                        "y": [round(v) for v in line[column]],
                        "line": {"color": token, "width": 1.5, "dash": dash},
                        "text": [plain(name)] * line.height,
                        "hovertemplate": "<b>%{text}</b><br>%{x:.2f} of the reads: %{y:,} sites "
                        f"with {words} or more<extra></extra>",
                    }
                )
            if part.height < 2:
                continue
            most: Any = part[column].last()
            top = max(top, float(most))
        if top:
            ends.append((words, top, token))
    tops = [top for _, top, _ in ends]
    heights = separated(tops, 0.06 * max(tops, default=0.0))
    labels = [
        direct_label(words, 1, height, token, shift=(4, 0), xref="paper", xanchor="left")
        for (words, _, token), height in zip(ends, heights, strict=True)
    ]
    end = max((x for trace in traces for x in trace["x"]), default=1.0)
    layout = {
        "xaxis": {
            "title": {"text": "share of the reads sequenced"},
            "range": [0, max(end, 1.0)],
            "nticks": 5,
        },
        "yaxis": {"rangemode": "tozero", "nticks": 5},
        "margin": {"r": 64},
        "annotations": [y_title("sites"), *labels],
    }
    return Figure(traces, layout, 340, f"Saturation curves of {len(shown)} samples.")


def _representatives(table: pl.DataFrame) -> list[str]:
    """All samples, or of many the one with the fewest sites, the median one and the richest."""
    now = (
        table.filter(pl.col("fraction") == 1).sort("sites_10", nulls_last=True)["sample"].to_list()
    )
    return now if len(now) <= _MANY_SAMPLES else [now[0], now[len(now) // 2], now[-1]]


def explained(table: pl.DataFrame) -> Figure:
    """How much of each component, and of all variance, each column of the sheet explains."""
    columns = table["column"].unique(maintain_order=True).to_list()
    parts = table["component"].unique(maintain_order=True).to_list()
    found = {(r["column"], r["component"]): r for r in table.iter_rows(named=True)}
    cells = [[found.get((c, p)) for p in parts] for c in columns]
    z = [
        [None if r is None else round(max(r["r2_adjusted"], 0.0), 4) for r in row] for row in cells
    ]
    words = [["" if r is None else _r2_words(r) for r in row] for row in cells]
    share = {p: next(r["share"] for r in found.values() if r["component"] == p) for p in parts}
    heads = [p if p == "all" else f"{p} {100 * share[p]:.0f}%" for p in parts]
    trace = {
        "type": "heatmap",
        "x": heads,
        "y": [plain(c) for c in columns],
        "z": z,
        "text": words,
        "zmin": 0,
        "zmax": 1,
        "colorscale": HIGH_IS_DARK,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "%{y}, %{x}<br>%{text}<extra></extra>",
    }
    ticks = {"type": "category", "showline": False, "showgrid": False, "ticks": "",
             "fixedrange": True}  # fmt: skip
    layout = {
        "xaxis": ticks | {"tickangle": -50 if len(parts) > 4 else 0},
        "yaxis": ticks | {"autorange": "reversed"},
        "margin": {"l": min(20 + 7 * max(map(len, columns)), 170), "t": 8, "b": 74},
    }
    height = 100 + 30 * len(columns)
    return Figure([trace], layout, height, f"What {len(columns)} columns of the sheet explain.")


def _r2_words(row: dict[str, Any]) -> str:
    return f"R² {row['r2']:.2f}, adjusted {row['r2_adjusted']:.2f}, p {row['p']:.2g}"

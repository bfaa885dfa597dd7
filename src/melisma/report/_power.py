"""The page of a power calculation: answers, curves, the trade-off, and the checks."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import polars as pl

from melisma import __version__
from melisma.differential.power import WANTED, Power
from melisma.methylome import atomic_file
from melisma.report._frame import framed
from melisma.report._markup import Page, calm, figure
from melisma.report._style import GROUP_TOKENS, Figure, y_title
from melisma.report._tables import html_table
from melisma.report._words import passing, prose


def write_power(power: Power, path: Path) -> Path:
    """Write a power calculation as one HTML page that opens without a network."""
    made = Page()
    unit = "pairs" if _paired(power) else "samples a group"
    sections = [
        ("summary", "Summary"), ("size", "Samples"), ("reads", "Reads"), ("checks", "Checks"),
        ("methods", "Methods"),
    ]  # fmt: skip
    text = framed(
        "power", f"Power for {escape(str(power.parameters['contrast']))}", sections, made,
        masthead=f"melisma {__version__}",
        warning=_warned(power),
        summary=prose(" ".join(_summary(power))),
        numbers=_numbers(power),
        answers=_answers(power, unit),
        size=figure(
            f"Power by {unit}", made.plot("power", _curves(power, unit)),
            note="Lines are calculated; points with bars are simulated studies and their 95% "
            "intervals. The dotted line is 80%.",
        ),
        reads="".join(f"<p>{prose(line)}</p>" for line in _of_reads(power))
        + figure(
            "Power at equal reads", made.plot("reads", _trade(power, unit)),
            note="Along a line the same reads are spread over more samples, to the right, or "
            "over fewer: each group has the reads that the middle depth needs for 80%, or the "
            "largest study's where that is out of reach.",
        ),
        checks=_checks(power, unit) + "".join(calm(note) for note in power.notes),
        methods=_methods(power),
    )  # fmt: skip
    with atomic_file(path) as work:
        work.write_text(text, encoding="utf-8")
    return path


def _paired(power: Power) -> bool:
    return power.parameters["unit"] == "samples within blocks"


def _summary(power: Power) -> list[str]:
    """What the table beneath says, and how far it was checked: its numbers are not repeated."""
    reads = _of_reads(power)
    first, *rest = (s for s in power.sentences if not s.startswith("- ") and s not in reads)
    return [f"{first.removesuffix(':')} the samples in this table.", *rest]


def _of_reads(power: Power) -> list[str]:
    return [line for line in power.sentences if line.startswith("Of the same reads")]


def _warned(power: Power) -> str:
    if not power.warning:
        return ""
    return f'<div class="warning"><h4>A small pilot</h4><p>{prose(power.warning)}</p></div>'


def _numbers(power: Power) -> str:
    values = (
        (f"{power.parameters['pilot_samples']:,}", "pilot samples"),
        (f"{power.parameters['pilot_sites']:,}", "sites"),
        (f"{power.parameters['pilot_depth']:.0f}×", "mean coverage, 0 where unseen"),
    )
    return "".join(f"<div><dt>{noun}</dt><dd>{number}</dd></div>" for number, noun in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    heads = [(escape(word), "number" if k else "name") for k, word in enumerate(head)]
    return html_table(heads, [[escape(cell) for cell in row] for row in rows], caption, tight=True)


def _answers(power: Power, unit: str) -> str:
    rows = [
        (
            f"{100 * row['delta']:g} points",
            f"{row['depth']:g}×",
            f"more than {60 if _paired(power) else 200}"
            if row["samples"] is None
            else f"{row['samples']}",
        )
        for row in power.needed.iter_rows(named=True)
    ]
    return _table(("difference", "depth", f"{unit} for {WANTED:.0%}"), rows, "Samples needed")


def _tokens(deltas: Sequence[float]) -> dict[float, str]:
    return {delta: GROUP_TOKENS[k % len(GROUP_TOKENS)] for k, delta in enumerate(deltas)}


def _line(
    x: list[Any], y: list[Any], token: str, name: str, hover: list[str], axis: str
) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines+markers", "x": x, "y": y, "name": name,
        "line": {"color": token, "width": 2}, "marker": {"color": token, "size": 4},
        "hovertext": hover, "hoverinfo": "text", "xaxis": f"x{axis}", "yaxis": "y",
    }  # fmt: skip


def _curves(power: Power, unit: str) -> Figure:
    """A panel a depth, a line a difference; simulated points on top."""
    depths = power.grid["depth"].unique(maintain_order=True).to_list()
    tokens = _tokens(power.grid["delta"].unique(maintain_order=True).to_list())
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "yaxis": {"range": [-0.02, 1.02], "tickformat": ".0%"},
        "showlegend": False,
        "margin": {"t": 48, "b": 52},
        "annotations": [y_title("power")],
        "shapes": [],
    }
    width, gap = 1 / len(depths), 0.03
    for k, depth in enumerate(depths):
        axis = "" if k == 0 else str(k + 1)
        domain = [k * width + (gap if k else 0), (k + 1) * width]
        layout[f"xaxis{axis}"] = {
            "domain": domain, "anchor": "y", "title": {"text": unit if k == 0 else ""},
            "rangemode": "tozero",
        }  # fmt: skip
        layout["annotations"].append(
            {"text": f"{depth:g}×", "xref": "paper", "yref": "paper", "x": sum(domain) / 2,
             "y": 1, "yanchor": "bottom", "yshift": 8, "font": {"color": "@ink"}}
        )  # fmt: skip
        layout["shapes"].append(
            {"type": "line", "xref": f"x{axis} domain", "x0": 0, "x1": 1, "y0": WANTED,
             "y1": WANTED, "line": {"color": "@soft", "width": 1, "dash": "dot"}}
        )  # fmt: skip
        for delta, token in tokens.items():
            own = power.grid.filter((pl.col("depth") == depth) & (pl.col("delta") == delta))
            x, y = own["samples"].to_list(), own["power"].to_list()
            hover = [
                f"{100 * delta:g} points, {n} at {depth:g}×<br>{p:.0%}"
                for n, p in zip(x, y, strict=True)
            ]
            data.append(_line(x, y, token, f"{100 * delta:g} points", hover, axis))
            data += _points(power.checks, delta, depth, token, axis)
            if k == len(depths) - 1:
                layout["annotations"].append(_named(f"{100 * delta:g}", x[-1], y[-1], token, axis))
    return Figure(
        data, layout | {"margin": {"t": 48, "b": 52, "l": 52, "r": 44}}, 380,
        f"Power of the site test by {unit}, a panel for each coverage and a line for each "
        "difference in points; the table above has the numbers that matter.",
    )  # fmt: skip


def _named(text: str, x: Any, y: float, token: str, axis: str) -> dict[str, Any]:
    return {
        "text": text, "x": x, "y": y, "xref": f"x{axis}", "yref": "y", "xanchor": "left",
        "xshift": 6, "font": {"size": 12, "color": token},
    }  # fmt: skip


def _points(
    checks: pl.DataFrame, delta: float, depth: float, token: str, axis: str
) -> list[dict[str, Any]]:
    own = checks.filter((pl.col("depth") == depth) & (pl.col("delta") == delta))
    if not len(own):
        return []
    simulated = own["simulated"]
    return [
        {
            "type": "scatter", "mode": "markers", "x": own["samples"].to_list(),
            "y": simulated.to_list(), "xaxis": f"x{axis}", "yaxis": "y",
            "marker": {"color": "@paper", "size": 9, "line": {"color": token, "width": 2}},
            "error_y": {
                "type": "data", "symmetric": False, "color": token, "thickness": 1.5,
                "array": (own["high"] - simulated).to_list(),
                "arrayminus": (simulated - own["low"]).to_list(),
            },
            "hovertext": [f"simulated: {value:.0%}" for value in simulated],
            "hoverinfo": "text",
        }
    ]  # fmt: skip


def _trade(power: Power, unit: str) -> Figure:
    data, notes = [], [y_title("power")]
    deltas = power.equal_reads["delta"].unique(maintain_order=True).to_list()
    for delta, token in _tokens(deltas).items():
        own = power.equal_reads.filter(pl.col("delta") == delta).sort("samples")
        hover = [
            f"{100 * delta:g} points, {row['samples']} at {row['depth']:.3g}×<br>{row['power']:.0%}"
            for row in own.iter_rows(named=True)
        ]
        x, y = own["samples"].to_list(), own["power"].to_list()
        data.append(_line(x, y, token, f"{100 * delta:g} points", hover, ""))
        reads = own["reads"][0]
        # Annotations on a logarithmic axis stand at the logarithm.
        place = float(pl.Series([x[-1]]).log10()[0])
        notes.append(_named(f"{100 * delta:g} points, {reads:g}×", place, y[-1], token, ""))
    return Figure(
        data,
        {
            "xaxis": {"type": "log", "title": {"text": unit}},
            "yaxis": {"range": [-0.02, 1.02], "tickformat": ".0%"},
            "annotations": notes,
            "margin": {"l": 52, "r": 130, "t": 40, "b": 52},
        },
        360,
        f"Power at equal reads by {unit}, a line for each difference.",
    )


def _checks(power: Power, unit: str) -> str:
    if not len(power.checks):
        return calm("No point was checked.")
    rows = [
        (
            f"{100 * row['delta']:g} points",
            f"{row['samples']}",
            f"{row['depth']:g}×",
            f"{row['calculated']:.0%}",
            f"{row['simulated']:.0%}",
            f"{row['low']:.0%} to {row['high']:.0%}",
            f"{row['false_discoveries']:.1%}",
        )
        for row in power.checks.iter_rows(named=True)
    ]
    head = ("difference", unit, "depth", "calculated", "simulated", "95% interval", "false")
    return _table(head, rows, "Calculated and simulated power") + _regions(power, unit)


def _regions(power: Power, unit: str) -> str:
    if power.regions is None:
        return ""
    rows = [
        (
            f"{100 * row['delta']:g} points",
            f"{row['samples']}",
            f"{row['depth']:g}×",
            f"{row['found']} of {row['planted']}",
            f"{row['low']:.0%} to {row['high']:.0%}",
            f"{row['false_calls']} of {row['calls']}",
        )
        for row in power.regions.iter_rows(named=True)
    ]
    head = ("peak difference", unit, "depth", "regions found", "95% interval", "false calls")
    return "<h3>Regions</h3>" + _table(head, rows, "Regions")


def _methods(power: Power) -> str:
    known = power.parameters
    rho = known["rho"]
    spread = f"{min(rho):.3f}" if min(rho) == max(rho) else f"{min(rho):.3f} to {max(rho):.3f}"
    varies = "" if known["prior_df"] is None else f", {known['prior_df']:.1f} prior degrees"
    sentences = (
        f"Pilot: {known['pilot_samples']} samples, {known['formula']}"
        + (f", blocks {known['block']}" if known["block"] else "")
        + f"; rho {spread}{varies}. Assumed: {known['share']:.0%} of the "
        f"sites differ, all by the same difference, towards the side of 1/2; found is "
        f"{passing(known['q'])}.",
        "Calculated power: single sites drawn from the engine's model, at the pilot's levels and "
        "coverage, with its dispersion and prior, tested by the engine. The p-value threshold is "
        "where Benjamini and Hochberg's procedure is at rest.",
        "Simulated power: whole studies like the pilot, with spatially correlated effects of "
        f"samples (sd {known['sample_sd']:.2f} on the logit scale, length {known['length']:,.0f} "
        "bases), whose dispersion and prior the test learns anew. Simulated data are not real "
        f"ones. Seed {known['seed']}.",
    )
    return "".join(f"<p>{prose(sentence)}</p>" for sentence in sentences)

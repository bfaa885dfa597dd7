"""What a model read in the sequence: its score beside its baselines, flanks, motifs."""

import json
from html import escape
from typing import Any

import numpy as np
import polars as pl

from melisma.report import _tables, _words
from melisma.report._markup import Page, calm, figure
from melisma.report._study import Study
from melisma.report._style import Figure
from melisma.sequence.logos import logo

_NAMES = {
    "model": "the model",
    "composition": "composition: GC and CpG content",
    "words": "words: linear k-mers",
    "profile": "profile: mean by the bases beside",
    "model, sequence alone": "the model, sequence alone",
    "neighbours' mean": "mean of the neighbouring marks",
}
_FLANKS = {"SCGS": "C or G on both sides", "mixed": "one of each", "WCGW": "A or T on both sides"}
_MOST_MOTIFS = 4


def sequence(study: Study, page: Page) -> str:
    """The section, or nothing where the study did not read the sequence."""
    record = study.run.get("sequence")
    scores = study.table("sequence.scores")
    if not record or scores is None:
        return ""
    parts = [
        '<section id="sequence"><h2>Sequence</h2>',
        f'<p class="lead">{_lead(record, scores)}</p>',
        f'<p class="facts">{_facts(record)}</p>',
        '<div class="pair">',
        _scores(record, scores),
        _flanks(study, page),
        "</div>",
        _contributions(study, record),
        _motifs(study, record),
    ]
    return "".join(parts) + "</section>"


def _lead(record: dict[str, Any], scores: pl.DataFrame) -> str:
    metric, words = _metric(record)
    table = scores.filter(metric=metric, stratum="all")
    by = {row["model"]: row for row in table.iter_rows(named=True)}
    own = by["model"]["value"]
    others = {k: r["value"] for k, r in by.items() if k in ("composition", "words", "profile")}
    best = max(others, key=lambda name: others[name])
    n = int(table["n"][0])
    name = escape(str(_NAMES[best]).partition(":")[0])
    return (
        f"From the bases alone, {words} {own:.2f} on {n:,} sites that training never saw; the best "
        f"baseline, {name}, reaches {others[best]:.2f}."
    )


def _metric(record: dict[str, Any]) -> tuple[str, str]:
    if record["kind"] == "levels":
        return "spearman", "predicted and measured levels correlate at"
    return "auc", "marked and unmarked sites are told apart with an AUC of"


def _facts(record: dict[str, Any]) -> str:
    sites = record["sites"]
    facts = [f"{sites['train']:,} sites trained on", f"windows of {record['width']:,} bases"]
    if record["data"]:
        facts.insert(0, f"data <code>{escape(str(record['data']))}</code>")
    if record["surroundings"]:
        facts.append(f"composition told up to {max(record['surroundings']):,} bases away")
    if record["members"] > 1:
        facts.append(f"{record['members']} networks")
    facts.append(f"test part: whole blocks of {record['block']:,} bases")
    for mark, share in record["coverage"].items():
        facts.append(f"90% intervals hold {share:.0%} of the levels of {escape(mark)}")
    return " · ".join(facts)


def _scores(record: dict[str, Any], scores: pl.DataFrame) -> str:
    metric, _ = _metric(record)
    head = [("", "name"), (metric.replace("auc", "AUC").capitalize(), "number"), ("95%", "number")]
    rows = []
    table = scores.filter(metric=metric, stratum="all").sort("value", descending=True)
    for row in table.iter_rows(named=True):
        name = escape(str(_NAMES.get(row["model"], row["model"])))
        if row["model"] == "model":
            name = f"<b>{name}</b>"
        spread = "" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
        rows.append([name, f"{row['value']:.3f}", spread])
    drawn = _tables.html_table(head, rows, "The model beside its baselines", tight=True)
    note = '<p class="note">Intervals are percentiles over resampled test sites.</p>'
    return f"<div><h4>Held-out score</h4>{drawn}{note}</div>"


def _flanks(study: Study, page: Page) -> str:
    """Levels of lone CpGs by the bases beside them, measured and predicted."""
    table = study.table("sequence.flanks")
    if table is None or table.is_empty() or table["measured"].has_nulls():
        return ""
    table = table.reverse()
    labels = [f"{name}<br>{_FLANKS[name]}" for name in table["flank"]]
    traces = []
    for kind, token, symbol, move in (
        ("measured", "@c1", "circle", -0.08),
        ("predicted", "@c0", "diamond", 0.08),
    ):
        values = 100 * table[kind].to_numpy()
        low, high = (
            100 * table[f"{kind}_{end}"].fill_null(table[kind]).to_numpy()
            for end in ("low", "high")
        )
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": kind,
                "x": (np.arange(len(labels)) + move).tolist(), "y": values.round(2).tolist(),
                "error_y": {
                    "type": "data", "array": (high - values).round(2).tolist(),
                    "arrayminus": (values - low).round(2).tolist(), "color": token, "width": 0,
                },
                "marker": {"color": token, "size": 9, "symbol": symbol},
                "hovertemplate": f"{kind} %{{y:.1f}}%<extra></extra>",
            }
        )  # fmt: skip
    layout = {
        "xaxis": {
            "tickvals": list(range(len(labels))), "ticktext": labels,
            "range": [-0.5, len(labels) - 0.5], "tickangle": 0,
        },
        "yaxis": {"title": {"text": "level, %"}, "nticks": 5},
        "margin": {"l": 52, "t": 16, "b": 56},
    }  # fmt: skip
    weak, strong = table["measured"][2], table["measured"][0]
    told = Figure(
        traces, layout, 300,
        f"Lone CpGs: {100 * weak:.0f}% between A or T, {100 * strong:.0f}% between C or G.",
    )  # fmt: skip
    key = (
        f'<p class="key">{_tables.swatch("measured", "@c1")} '
        f"{_tables.swatch('predicted', '@c0', 'diamond')}</p>"
    )
    counts = _words.listed([f"{n:,} {f}" for f, n in table.select("flank", "sites").rows()])
    note = (
        f"CpGs of the test part with no other within 35 bases: {counts}. Bars are 95% intervals of "
        "the mean, with stretches of 100 kb as units; the three lie in the same stretches, so "
        "their differences are surer than each. Cells that divide lose methylation first between "
        "A or T (solo-WCGW)."
    )
    drawn = page.plot("sequence.flanks", told) + key
    return figure("Lone CpGs by the bases beside them", drawn, note=note)


def _contributions(study: Study, record: dict[str, Any]) -> str:
    table = study.table("sequence.positions")
    if table is None or table.is_empty():
        return ""
    heights = 100 * table.select("A", "C", "G", "T").to_numpy().T
    label = "What each base does to the predicted level, by its place from the site"
    drawn = logo(heights, kind="contributions", label=label, first=int(table["offset"][0]))
    hidden = " The site's own C and G are left out." if record["cpg"] else ""
    note = (
        f"Every base of {record['explained']:,} test windows exchanged for the three others: above "
        "the line a base raises the predicted level against the mean of the four, below it lowers "
        f"it, in points.{hidden} 0 is the site."
    )
    return figure("What the model reads beside the site", drawn, note=escape(note))


def _motifs(study: Study, record: dict[str, Any]) -> str:
    table = study.table("sequence.motifs")
    if table is None:
        return ""
    if table.is_empty():
        return calm(
            f"No stretch of {record['explained']:,} test windows stands out from permuted "
            "contributions often enough to be called a motif."
        )
    panels = []
    for row in table.head(_MOST_MOTIFS).iter_rows(named=True):
        frequency = np.array(json.loads(row["frequency"]))
        verb = row["direction"]
        place = f"{row['offset']:+d}".replace("-", "\u2212")
        heading = (
            f"{escape(row['consensus'])}<small>{verb} the level · {row['seqlets']:,} stretches "
            f"· from base {place}</small>"
        )
        label = f"Motif {row['consensus']}"
        drawn = logo(frequency, kind="frequencies", label=label, first=row["offset"])
        panels.append(figure(heading, drawn))
    return f'<h3>Motifs</h3><div class="panels">{"".join(panels)}</div>'

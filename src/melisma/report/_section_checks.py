"""The checks, conversion, sex, strands, saturation and what the sheet explains."""

from html import escape

import polars as pl

from melisma.report import _figures_checks, _tables, _words
from melisma.report._markup import Page, calm, figure
from melisma.report._study import Study

_MOST_LISTED = 60
# Limit of failed conversion where the run does not record one.
_FAILURE = 0.01


def checks(study: Study) -> str:
    """How many checks pass, and each that fails or warns."""
    table = study.table("qc_checks")
    if table is None or table.is_empty():
        return ""
    counts = {s: table.filter(pl.col("status") == s).height for s in ("pass", "warn", "fail")}
    words = (
        f"{_words.count(counts['pass'], 'check')} {'passes' if counts['pass'] == 1 else 'pass'}, "
        f"{counts['warn']:,} {'warns' if counts['warn'] == 1 else 'warn'} and "
        f"{counts['fail']:,} {'fails' if counts['fail'] == 1 else 'fail'}."
    )
    bad = table.filter(pl.col("status").is_in(["fail", "warn"])).sort("status")
    rows = [
        [
            escape(r["check"].replace("_", " ")),
            f'<span class="alert">{r["status"]}</span>' if r["status"] == "fail" else r["status"],
            escape(r["sentence"]),
        ]
        for r in bad.head(_MOST_LISTED).iter_rows(named=True)
    ]
    head = [("check", ""), ("", ""), ("found", "found")]
    listed = _tables.html_table(head, rows, "Checks that fail or warn") if rows else ""
    more = bad.height - len(rows)
    rest = f'<p class="note">{more:,} more are in qc_checks.</p>' if more > 0 else ""
    return f'<h3 id="checks">Checks</h3><p class="lead">{escape(words)}</p>{listed}{rest}'


def measures(study: Study, page: Page) -> str:
    """Conversion, sex, saturation and the sheet's columns, each with its plot or its reason."""
    said = study.run.get("qc", {}).get("sentences") or {}
    drawn, calms = [], []
    for key, draw in (("conversion", _conversion), ("sex", _sex), ("saturation", _saturation),
                      ("covariates", _covariates)):  # fmt: skip
        plot = draw(study, page, str(said.get(key) or ""))
        if plot:
            drawn.append(plot)
        elif said.get(key):
            calms.append(calm(str(said[key])))
    if said.get("strands"):
        calms.append(calm(str(said["strands"])))
    pairs = [drawn[i : i + 2] for i in range(0, len(drawn), 2)]
    shown = "".join(
        f'<div class="pair">{"".join(pair)}</div>' if len(pair) > 1 else pair[0] for pair in pairs
    )
    return shown + _sex_contradictions(study) + "".join(calms) + _together(study)


def _together(study: Study) -> str:
    """Columns of the sheet that go together: those of the questions asked, the others folded."""
    confounded = [str(s) for s in study.run.get("qc", {}).get("confounded") or []]
    table = study.table("qc_confounding")
    if table is None or not confounded:
        return "".join(calm(sentence) for sentence in confounded[:_MOST_LISTED])
    asked = {str(c.record["column"]) for c in study.contrasts if c.record.get("column")}
    pairs = table.filter(pl.col("relation") != "").sort(
        "value", descending=True, nulls_last=True, maintain_order=True
    )
    first = pl.col("column_a").is_in(asked) | pl.col("column_b").is_in(asked)
    parts = ["<h3>Columns that go together</h3>"]
    own, others = pairs.filter(first), pairs.filter(~first)
    if own.height:
        parts.append(_pairs_table(own, "Columns that go with what is tested"))
    elif asked:
        parts.append("<p>None of them is what is tested.</p>")
    if others.height:
        noun = "pair of other columns goes" if others.height == 1 else "pairs of other columns go"
        parts.append(
            f"<details><summary>{others.height:,} {noun} together</summary>"
            f"{_pairs_table(others, 'Other columns that go together')}</details>"
        )
    return "".join(parts)


_MEASURES = {"cramers_v": "Cramér's V", "eta2": "η²", "r2": "r²"}


def _pairs_table(pairs: pl.DataFrame, caption: str) -> str:
    rows = [
        [
            escape(f"{r['column_a']}, {r['column_b']}"),
            f"{_MEASURES.get(r['measure'], r['measure'])} {r['value']:.2f}",
            escape(r["sentence"]),
        ]
        for r in pairs.iter_rows(named=True)
    ]
    head = [("columns", "name"), ("", "number"), ("found", "found")]
    return _tables.html_table(head, rows, caption)


def _conversion(study: Study, page: Page, words: str) -> str:
    table = study.table("qc_conversion")
    if table is None or table["failure"].null_count() == table.height:
        return ""
    limit = study.run.get("parameters", {}).get("qc", {}).get("max_conversion_failure", _FAILURE)
    plot = page.plot("conversion", _figures_checks.conversion(table, float(limit)))
    return figure("Failed conversion", plot, note=escape(words))


def _sex(study: Study, page: Page, words: str) -> str:
    table = study.table("qc_sex")
    if table is None or table["x_ratio"].null_count() == table.height:
        return ""
    plot = page.plot("sex", _figures_checks.sex(table))
    return figure("Sex by the calls", plot, note=escape(words))


def _sex_contradictions(study: Study) -> str:
    clash = study.run.get("qc", {}).get("sex_contradictions") or []
    if not clash:
        return ""
    items = "".join(f"<li>{escape(str(sentence))}</li>" for sentence in clash)
    noun = "contradiction" if len(clash) == 1 else "contradictions"
    return f'<div class="warning"><h4>Named {noun}</h4><ul>{items}</ul></div>'


def _saturation(study: Study, page: Page, words: str) -> str:
    table = study.table("qc_saturation")
    if table is None or table["sites_10"].null_count() == table.height:
        return ""
    drawn = _figures_checks.saturation(table)
    if not drawn.data:
        return ""
    plot = page.plot("saturation", drawn)
    dotted = any(trace["line"]["dash"] == "dot" for trace in drawn.data)
    note = f"{words} Dotted lines are extrapolated." if dotted else words
    return figure("Saturation", plot, note=escape(note))


def _covariates(study: Study, page: Page, words: str) -> str:
    table = study.table("qc_covariates")
    if table is None or table.is_empty():
        return ""
    plot = page.plot("covariates", _figures_checks.explained(table))
    note = f"Adjusted R², dark is 1. {words}"
    return figure("What the sample sheet explains", plot, note=escape(note))

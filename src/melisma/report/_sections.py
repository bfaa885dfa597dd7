"""Findings, contrasts, calibration and tables as HTML; figures are left in a `Page`."""

from html import escape
from typing import Any

import polars as pl

from melisma.report import (
    _figures,
    _figures_calibration,
    _figures_regions,
    _figures_sites,
    _tables,
    _words,
)
from melisma.report._markup import Page, calm, figure
from melisma.report._study import Contrast, Groups, Study, groups

_TOP_REGIONS = 6
_TOP_NOTHING = 2
_TOP_SITES = 4
_BRIEF_ROWS = 8

# Fewer relabellings than this say nothing of lambda's spread.
_FEW_RELABELLINGS = 10


def grouping(study: Study, contrast: Contrast) -> Groups | None:
    """The samples divided by the contrast's column, None where the sheet has no such column."""
    column = contrast.record.get("column")
    if column not in study.sheet.columns:
        return None
    levels = [str(level) for level in contrast.levels] if contrast.levels else None
    return groups(study, str(column), levels)


def findings(study: Study) -> str:
    """Every question and its answer as one table."""
    if not study.contrasts:
        return ""
    head = [
        ("question", "name"), ("model", "wide"), ("sites", "number"), ("regions", "number"),
        ("strongest difference", ""),
    ]  # fmt: skip
    rows = []
    for contrast in study.contrasts:
        q = contrast.threshold
        sites = _count_cell(contrast.sites, _words.called(contrast.sites, q))
        regions = _count_cell(contrast.regions, _words.called(contrast.regions, q))
        link = f'<a href="#{anchor(contrast)}">{escape(_words.title(contrast))}</a>'
        model = f"<code>{escape(_words.model(contrast))}</code>"
        rows.append([link, model, sites, regions, escape(_strongest(contrast))])
    cuts = {_words.passing(c.threshold) for c in study.contrasts}
    caption = f"Sites and regions at {' or '.join(sorted(cuts))}"
    table = _tables.html_table(head, rows, caption)
    return f'<div class="findings"><p class="note">{escape(caption)}</p>{table}</div>'


def _count_cell(table: Any, n: int) -> str:
    if table is None:
        return '<span class="soft">not tested</span>'
    return f"<b>{n:,}</b>" if n else '<span class="soft">0</span>'


def _strongest(contrast: Contrast) -> str:
    q = contrast.threshold
    for table in (contrast.regions, contrast.sites):
        if _words.called(table, q):
            top = _words.strongest(table, 1).row(0, named=True)
            return _words.direction(contrast, top["delta_beta"])
    return "nothing to report"


def anchor(contrast: Contrast) -> str:
    """The contrast's place in the page: letters, digits and hyphens only."""
    return "contrast-" + "".join(c if c.isalnum() else "-" for c in contrast.key)


def contrast(study: Study, asked: Contrast, page: Page, name: str) -> str:
    """One question: verdict, sites, regions, and the tables of the strongest."""
    divided = grouping(study, asked)
    record = asked.record
    units = record.get("n_units")
    unit = escape(str(record.get("unit", "samples")))
    facts = [f"model <code>{escape(_words.model(asked))}</code>"]
    facts += [f"{units:,} {unit}"] if units is not None else []
    if (df := record.get("df_residual")) is not None:
        facts.append(f"{df:g} residual degrees of freedom")
    if (median := record.get("sites", {}).get("median_delta")) is not None:
        facts.append(f"median difference {_words.signed(100 * median, 1)} points")
    parts = [
        f'<section class="contrast" id="{anchor(asked)}"><h3>{escape(_capital(name))}</h3>',
        f'<p class="facts">{" · ".join(facts)}</p>',
        f'<p class="lead">{_words.prose(_words.sites_verdict(asked))}</p>'
        if asked.sites is not None
        else calm(_words.sites_verdict(asked)),
    ]
    if asked.sites is not None and not asked.sites.is_empty():
        parts.append(_site_figures(asked, divided, page))
    parts.append(_region_part(study, asked, divided, page))
    parts.append(_strongest_tables(study, asked, divided, page))
    notes = [*record.get("sites", {}).get("notes", []), *record.get("regions", {}).get("notes", [])]
    if notes:
        items = "".join(f"<li>{escape(str(note))}</li>" for note in dict.fromkeys(notes))
        parts.append(f'<ul class="notes">{items}</ul>')
    return "".join(parts) + "</section>"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _site_figures(asked: Contrast, divided: Groups | None, page: Page) -> str:
    volcano = page.plot(f"{asked.key}.volcano", _figures.volcano(asked, divided))
    manhattan = page.plot(f"{asked.key}.manhattan", _figures.manhattan(asked, divided))
    bars = (
        "Bars under the axis are called regions."
        if _words.called(asked.regions, asked.threshold)
        else ""
    )
    return (
        '<div class="pair uneven">'
        + figure("Size and certainty of each site", volcano, note=" ".join(_site_notes(asked)))
        + figure("Along the genome", manhattan, note=bars)
        + "</div>"
    )


def _site_notes(asked: Contrast) -> list[str]:
    """What the reader of the two plots has to know."""
    table = asked.sites if asked.sites is not None else pl.DataFrame({"p": []})
    notes = []
    called = _words.called(asked.sites, asked.threshold)
    tested = int(table["p"].fill_nan(None).is_not_null().sum())
    untestable = table.height - tested
    if 0 < called < tested:
        notes.append(f"The dotted line is {_words.prose(_words.passing(asked.threshold))}.")
    if untestable:
        verb = "is" if untestable == 1 else "are"
        notes.append(
            f"{_words.count(untestable, 'site')} could not be tested and {verb} not drawn."
        )
    if called > _figures.MOST_SIGNIFICANT or tested - called > _figures.MOST_BACKGROUND:
        notes.append("Sites hidden under others are left out.")
    return notes


def _more(asked: Contrast, kind: str) -> str:
    key = escape(f"{asked.key}.{kind}")
    return f'<p class="more"><a href="#tables" data-table="{key}">All {kind} in a table</a></p>'


def _region_part(study: Study, asked: Contrast, divided: Groups | None, page: Page) -> str:
    if asked.regions is None:
        return f"<h4>Regions</h4>{calm(_words.regions_verdict(asked))}"
    n = _words.called(asked.regions, asked.threshold)
    parts = [f'<h4>Regions</h4><p class="lead">{_words.prose(_words.regions_verdict(asked))}</p>']
    parts.append(f'<p class="facts">{escape(_words.relabelling(asked))}</p>')
    top = _words.strongest(asked.regions, _TOP_REGIONS if n else _TOP_NOTHING)
    if n:
        top = top.head(min(n, _TOP_REGIONS))
    elif not top.is_empty():
        parts.append(
            '<p class="soft">The strongest candidates, drawn for the reader\'s own judgement; '
            "they are not findings.</p>"
        )
    if divided and not top.is_empty():
        panels = [
            _region_panel(study, asked, divided, page, k, row)
            for k, row in enumerate(top.iter_rows(named=True), start=1)
        ]
        kind = "panels" if n else "panels muted"
        parts.append(f'<div class="{kind}">{"".join(panels)}</div>')
        lines = "a thin line follows one sample, a thick line its group"
        if len(study.samples) > _figures_regions.MOST_LINES:
            lines = "a line follows a group"
        parts.append(
            '<p class="note">A dot is one sample at one site, larger with more reads; '
            f"{lines}; the band is the region and the ticks below are its sites. The difference "
            "is the model's, other terms taken out; the shares at the right are of all reads."
            "</p>"
        )
    return "".join(parts)


def _strongest_tables(study: Study, asked: Contrast, divided: Groups | None, page: Page) -> str:
    drawn = [
        f"<div><h4>Strongest {kind}</h4>{brief}{_more(asked, kind)}</div>"
        for kind in ("regions", "sites")
        if (brief := _tables.brief_table(asked, divided, kind, _BRIEF_ROWS))
    ]
    if not _words.called(asked.regions, asked.threshold):
        drawn.append(_site_panels(study, asked, divided, page))
    return f'<div class="pair">{"".join(drawn)}</div>' if drawn else ""


def _site_panels(study: Study, asked: Contrast, divided: Groups | None, page: Page) -> str:
    n = min(_words.called(asked.sites, asked.threshold), _TOP_SITES)
    if not n or divided is None or not asked.levels:
        return ""
    panels = []
    for k, row in enumerate(_words.strongest(asked.sites, n).iter_rows(named=True), start=1):
        drawn = _figures_sites.site(study, asked, divided, row)
        heading = escape(_words.place(str(row["contig"]), row["position"]))
        panels.append(figure(heading, page.plot(f"{asked.key}.site{k}", drawn)))
    joined = " A line joins samples of one block." if asked.block else ""
    note = f'<p class="note">A dot is one sample, larger with more reads.{joined}</p>'
    return f'<div><h4>Sample by sample</h4><div class="small">{"".join(panels)}</div>{note}</div>'


def _region_panel(
    study: Study, asked: Contrast, divided: Groups, page: Page, k: int, row: dict[str, Any]
) -> str:
    drawn = _figures_regions.region(study, asked, divided, row)
    plot = page.plot(f"{asked.key}.region{k}", drawn)
    where = _words.place(row["contig"], row["start"], row["end"])
    words = escape(_words.direction(asked, row["delta_beta"]))
    if asked.levels:
        # The sentence is also the key of the panel's colours.
        a, b = (
            _tables.swatch(level, divided.colours.get(level, "@soft"))
            for level in map(str, asked.levels)
        )
        words = words.replace(escape(_words.spoken(str(asked.levels[0]))), a, 1) + f" than {b}"
    spread = _words.interval(row["ci_low"], row["ci_high"])
    if spread:
        words += f" (95%\u00a0interval {spread.replace(' ', chr(0xA0))})"
    about = [_words.count(row["sites"], "site"), f"q {_words.probability(row['q'])}"]
    # A number keeps to its noun when the line breaks.
    tail = " · ".join(part.replace(" ", "\u00a0") for part in about)
    heading = f"{escape(where)}<small>{words} · {escape(tail)}</small>"
    return figure(heading, plot)


def calibration(study: Study, page: Page, names: dict[str, str]) -> str:
    """Whether the p-values deserve trust: QQ, lambda, calls on relabelled data."""
    dashed = (
        "Neighbouring sites are not independent, so the dashed lines say more: between them lie "
        "nine in ten repeats of the test with the labels moved between samples. "
    )
    repeated = any(asked.null is not None for asked in study.contrasts)
    parts = [
        "<p>If nothing differed, the points would follow the line inside the grey band, where 95% "
        f"of independent p-values fall. {dashed if repeated else ''}λ is the median statistic over "
        "its expectation; 1 is what chance gives. The bars count what is called after the labels "
        "were moved, where every call is false.</p>"
    ]
    for asked in study.contrasts:
        if asked.sites is None and asked.regions is None:
            continue
        parts.append(_calibration_of(asked, page, names[asked.key]))
    return "".join(parts) if len(parts) > 1 else calm("No contrast was tested.")


def _calibration_of(asked: Contrast, page: Page, name: str) -> str:
    record = asked.record.get("calibration") or {}
    drawn = []
    if asked.sites is not None and asked.sites["p"].fill_nan(None).is_not_null().any():
        heading = f"Observed against expected<small>{_inflation(record)}</small>"
        drawn.append(figure(heading, page.plot(f"{asked.key}.qq", _figures_calibration.qq(asked))))
    for kind, table in (("site", asked.sites), ("region", asked.regions)):
        calls = record.get(f"relabelled_{kind}_calls")
        if table is None or not calls:
            continue
        real = _words.called(table, asked.threshold)
        reached = sum(n >= real for n in calls) if real else None
        few = (
            f"{reached:,} of {len(calls):,} relabellings call as many"
            if reached is not None
            else f"{len(calls):,} relabellings"
        )
        size = f"<small>{real:,} called; {few}</small>"
        plot = page.plot(
            f"{asked.key}.{kind}.relabelled",
            _figures_calibration.relabelled_calls(calls, real, f"{kind}s"),
        )
        drawn.append(figure(f"{_capital(kind)}s called by chance{size}", plot))
    return f'<h3>{escape(_capital(name))}</h3><div class="trio">{"".join(drawn)}</div>'


def _inflation(record: dict[str, Any]) -> str:
    inflation = record.get("lambda")
    words = "λ not estimated" if inflation is None else f"λ = {inflation:.2f}"
    moved = [v for v in record.get("relabelled_lambda") or [] if v is not None]
    if 0 < len(moved) < _FEW_RELABELLINGS:
        words += f"; {len(moved)} relabellings are too few to judge it by"
    elif moved:
        words += f"; relabelled {min(moved):.2f} to {max(moved):.2f}"
    return words


def tables(study: Study, page: Page, names: dict[str, str]) -> str:
    """The controls of the sortable table; its rows are drawn by the page's script."""
    for asked in study.contrasts:
        for kind in ("regions", "sites"):
            if found := _tables.payload(asked, names[asked.key], kind):
                page.tables.append(found)
    if not page.tables:
        return calm("There is no table of sites or regions.")
    options = "".join(
        f'<option value="{escape(t["key"])}">{escape(t["title"])}</option>' for t in page.tables
    )
    return (
        '<form class="controls" id="table-controls">'
        f'<label>Table<select id="table-choice">{options}</select></label>'
        '<label>Filter<input id="table-filter" type="search" autocomplete="off" '
        'placeholder="chr1, or chr1:2,771,000-2,780,000"></label>'
        '<label class="tick"><input id="table-significant" type="checkbox">'
        '<span id="table-threshold"></span></label>'
        '<button type="button" id="table-download">Download TSV</button></form>'
        '<p class="note" id="table-count" aria-live="polite"></p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Chosen table">'
        '<table id="table"><thead></thead><tbody></tbody></table></div>'
        '<p class="more"><button type="button" id="table-more">Show more rows</button></p>'
    )

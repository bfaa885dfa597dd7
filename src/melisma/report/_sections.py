"""Findings, contrasts and tables as HTML; figures are left in a `Page`."""

from html import escape

import polars as pl

from melisma.report import (
    _answers,
    _figures,
    _figures_sites,
    _points,
    _section_regions,
    _tables,
    _words,
)
from melisma.report._markup import Page, calm, figure, noted
from melisma.report._study import Contrast, Groups, Study, groups

_TOP_SITES = 4
_BRIEF_ROWS = 8


def grouping(study: Study, contrast: Contrast) -> Groups | None:
    """The samples divided by the contrast's column, None where the sheet has no such column."""
    column = contrast.record.get("column")
    if column not in study.sheet.columns:
        return None
    return groups(study, str(column), [str(level) for level in contrast.levels or contrast.among])


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
        link = f'<a href="#{anchor(contrast)}">{escape(_words.title(contrast))}</a>'
        model = f"<code>{escape(_words.model(contrast))}</code>"
        counts = [_count_cell(contrast, kind) for kind in ("sites", "regions")]
        rows.append([link, model, *counts, escape(_strongest(contrast))])
    cuts = {_words.passing(c.cut(kind)) for c in study.contrasts for kind in ("sites", "regions")}
    caption = f"Sites and regions at {' or '.join(sorted(cuts))}"
    table = _tables.html_table(head, rows, caption)
    return f'<div class="findings"><p class="note">{escape(caption)}</p>{table}</div>'


def _count_cell(contrast: Contrast, kind: str) -> str:
    if contrast.table(kind) is None:
        return '<span class="soft">not tested</span>'
    n = contrast.called(kind)
    if not n:
        return '<span class="soft">0</span>'
    leads = "" if contrast.replicated else ' <span class="alert">leads</span>'
    return f"<b>{n:,}</b>{leads}"


def _strongest(contrast: Contrast) -> str:
    for kind in ("regions", "sites"):
        if contrast.called(kind):
            top = _words.strongest(contrast.table(kind), 1).row(0, named=True)
            return _words.direction(contrast, top)
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
        facts.append(f"median difference {_words.points(median)} points")
    heading = _words.heading(asked, name)
    parts = [
        f'<section class="contrast" id="{anchor(asked)}"><h3>{escape(heading)}</h3>',
        f'<p class="facts">{" · ".join(facts)}</p>',
        "" if asked.replicated else _unreplicated(asked),
        f'<p class="lead">{_words.prose(_answers.sites_verdict(asked))}</p>'
        if asked.sites is not None
        else calm(_answers.sites_verdict(asked)),
        noted(record.get("sites", {}).get("notes") or []),
    ]
    if asked.sites is not None and asked.sites["p"].fill_nan(None).is_not_null().any():
        parts.append(_site_figures(asked, divided, page))
    parts.append(_section_regions.regions(study, asked, divided, page))
    parts.append(_strongest_tables(study, asked, divided, page))
    return "".join(parts) + "</section>"


def _unreplicated(asked: Contrast) -> str:
    levels = _words.listed([_words.spoken(str(level)) for level in asked.levels or []])
    return (
        '<div class="warning"><h4>Without replicates</h4><p>How samples of '
        f"{escape(levels)} vary among themselves is not known, so that any two samples may differ "
        "like these. The regions below are leads, not findings.</p></div>"
    )


def _site_figures(asked: Contrast, divided: Groups | None, page: Page) -> str:
    volcano, manhattan = _figures.volcano(asked, divided), _figures.manhattan(asked, divided)
    drawn = []
    if volcano:
        plot = page.plot(f"{asked.key}.volcano", volcano)
        note = " ".join(_site_notes(asked, placed=manhattan is not None))
        drawn.append(figure("Size and certainty of each site", plot, note=note))
    if manhattan:
        plot = page.plot(f"{asked.key}.manhattan", manhattan)
        bars = "Bars under the axis are called regions." if asked.called("regions") else ""
        if not volcano:
            bars = f"Several coefficients have no one size, so there is no volcano plot. {bars}"
        drawn.append(figure("Along the genome", plot, note=bars))
    if len(drawn) == 2:
        return f'<div class="pair uneven">{"".join(drawn)}</div>'
    if not drawn:
        return calm("Several coefficients of probes without places are not drawn; see the table.")
    return f'<div class="alone">{drawn[0]}</div>'


def _site_notes(asked: Contrast, *, placed: bool) -> list[str]:
    """What the reader of the two plots has to know."""
    table = asked.sites if asked.sites is not None else pl.DataFrame({"p": []})
    notes = []
    called = asked.called("sites")
    tested = int(table["p"].fill_nan(None).is_not_null().sum())
    untestable = table.height - tested
    if 0 < called < tested:
        notes.append(f"The dotted line is {_words.prose(_words.passing(asked.cut('sites')))}.")
    if untestable:
        verb = "is" if untestable == 1 else "are"
        notes.append(
            f"{_words.count(untestable, 'site')} could not be tested and {verb} not drawn."
        )
    if called > _points.MOST_SIGNIFICANT or tested - called > _points.MOST_BACKGROUND:
        notes.append("Sites hidden under others are left out.")
    nowhere = int(table.filter(pl.col("p").is_not_null())["position"].null_count())
    if not placed:
        notes.append("The probes have no places, so they are not drawn along the genome.")
    elif nowhere:
        notes.append(
            f"Along the genome {_words.count(nowhere, 'probe')} without a place "
            f"{'is' if nowhere == 1 else 'are'} not drawn."
        )
    return notes


def _more(asked: Contrast, kind: str) -> str:
    key = escape(f"{asked.key}.{kind}")
    return f'<p class="more"><a href="#tables" data-table="{key}">All {kind} in a table</a></p>'


def _strongest_tables(study: Study, asked: Contrast, divided: Groups | None, page: Page) -> str:
    drawn = [
        f"<div><h4>Strongest {kind}</h4>{brief}{_more(asked, kind)}</div>"
        for kind in ("regions", "sites")
        if (brief := _tables.brief_table(asked, divided, kind, _BRIEF_ROWS))
    ]
    if not asked.called("regions"):
        drawn.append(_site_panels(study, asked, divided, page))
    return f'<div class="pair">{"".join(drawn)}</div>' if drawn else ""


def _site_panels(study: Study, asked: Contrast, divided: Groups | None, page: Page) -> str:
    n = min(asked.called("sites"), _TOP_SITES)
    numbers = divided is not None and study.sheet[divided.column].dtype.is_numeric()
    if not n or divided is None or not (asked.levels or asked.among or numbers):
        return ""
    panels = []
    for k, row in enumerate(_words.strongest(asked.sites, n).iter_rows(named=True), start=1):
        drawn = _figures_sites.site(study, asked, divided, row)
        panels.append(figure(escape(_words.named(row)), page.plot(f"{asked.key}.site{k}", drawn)))
    joined = " A line joins samples of one block." if asked.block and not asked.slope else ""
    size = "" if study.levels_only else ", larger with more reads"
    note = f'<p class="note">A dot is one sample{size}.{joined}</p>'
    return f'<div><h4>Sample by sample</h4><div class="small">{"".join(panels)}</div>{note}</div>'


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

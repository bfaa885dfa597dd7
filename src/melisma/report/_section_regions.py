"""The regions of a contrast: verdict, null, and panels of the strongest."""

from html import escape
from typing import Any

from melisma.report import _answers, _figures_regions, _tables, _words
from melisma.report._markup import Page, calm, figure, noted
from melisma.report._study import Contrast, Groups, Study

_TOP_REGIONS = 6
_TOP_NOTHING = 2


def regions(study: Study, asked: Contrast, divided: Groups | None, page: Page) -> str:
    """What was found of regions, or why they were not tested."""
    verdict = _answers.regions_verdict(asked)
    if asked.regions is None:
        return f"<h4>Regions</h4>{calm(verdict)}"
    n = asked.called("regions")
    parts = [f'<h4>Regions</h4><p class="lead">{_words.prose(verdict)}</p>']
    parts.append(f'<p class="facts">{escape(_answers.judged(asked))}</p>')
    parts.append(noted(asked.record.get("regions", {}).get("notes") or []))
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
            _panel(study, asked, divided, page, k, row)
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


def _panel(
    study: Study, asked: Contrast, divided: Groups, page: Page, k: int, row: dict[str, Any]
) -> str:
    drawn = _figures_regions.region(study, asked, divided, row)
    plot = page.plot(f"{asked.key}.region{k}", drawn)
    where = _words.named(row)
    words = escape(_words.direction(asked, row))
    if asked.levels:
        # The sentence is also the key of the panel's colours.
        a, b = (
            _tables.swatch(level, divided.colours.get(level, "@soft"))
            for level in map(str, asked.levels)
        )
        words = words.replace(escape(_words.spoken(str(asked.levels[0]))), a, 1) + f" than {b}"
    spread = _words.interval(row["ci_low"], row["ci_high"], 2 if asked.slope else 0)
    if spread:
        words += f" (95%\u00a0interval {spread.replace(' ', chr(0xA0))})"
    about = [
        _words.count(row["sites"], f"{_context(asked, row)}site"),
        f"q {_words.probability(row['q'])}",
    ]
    # A number keeps to its noun when the line breaks.
    tail = " · ".join(part.replace(" ", "\u00a0") for part in about)
    gene = _words.gene(row)
    beside = f"<small>{escape(gene)}</small>" if gene else ""
    heading = f"{escape(where)}<small>{words} · {escape(tail)}</small>{beside}"
    return figure(heading, plot)


def _context(asked: Contrast, row: dict[str, Any]) -> str:
    """The row's context before a noun, where regions of several were searched apart."""
    table = asked.regions
    several = table is not None and "context" in table.columns and table["context"].n_unique() > 1
    return f"{row['context']} " if several else ""

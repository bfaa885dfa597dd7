"""The page: sections, figures, style and script put into one file that needs no network."""

from datetime import datetime
from html import escape

from melisma import progress
from melisma.report import (
    _answers,
    _section_calibration,
    _section_quality,
    _section_sequence,
    _sections,
    _words,
)
from melisma.report._frame import framed
from melisma.report._markup import Page, calm
from melisma.report._methods import methods
from melisma.report._study import Study
from melisma.report._trace import traces_section


def page(study: Study) -> str:
    """The whole report as HTML."""
    made = Page()
    names = _words.short_titles(study.contrasts)
    with progress.stage("report", total=len(study.contrasts) + 3) as advance:
        quality = _section_quality.quality(study, made)
        advance(1)
        questions = []
        for asked in study.contrasts:
            questions.append(_sections.contrast(study, asked, made, names[asked.key]))
            advance(1)
        calibration = _section_calibration.calibration(study, made, names)
        tables = _sections.tables(study, made, names)
        sequence = _section_sequence.sequence(study, made)
        traces = traces_section(study.traces, made)
        advance(1)
        title = str(study.run.get("title") or "Methylome study")
        sections = [
            ("summary", "Summary"), ("quality", "Quality"), ("differences", "Differences"),
            ("calibration", "Calibration"), ("tables", "Tables"), ("methods", "Methods"),
        ]  # fmt: skip
        if sequence:
            sections.insert(-2, ("sequence", "Sequence"))
        if traces:
            sections.insert(-2, ("trace", "Trace"))
        whole = framed(
            "page",
            escape(title),
            sections,
            made,
            banner=_banner(study),
            masthead=_masthead(study),
            summary=_words.prose(_answers.summary(study)),
            numbers=_numbers(study),
            findings=_sections.findings(study),
            quality=quality,
            questions="".join(questions) + _left_out(study),
            calibration=calibration,
            sequence=sequence,
            traces=traces,
            tables=tables,
            methods=methods(study),
        )
        advance(1)
    return whole


def _left_out(study: Study) -> str:
    """Why what was asked for was not tested, or that nothing was asked for."""
    left_out = study.run.get("left_out") or []
    if not left_out and not study.contrasts:
        left_out = ["No contrast was asked for, so nothing was tested."]
    return "".join(calm(str(sentence)) for sentence in left_out)


def _banner(study: Study) -> str:
    """What stands on every screen and sheet of paper where replicates were done without."""
    without = [_words.title(c) for c in study.contrasts if not c.replicated]
    if not without:
        return ""
    which = without[0] if len(without) == 1 else _words.count(len(without), "contrast")
    return (
        '<aside class="banner" role="note"><p><strong>Without replicates.</strong> '
        f"The regions of {escape(which)} are leads, not findings.</p></aside>"
    )


def _masthead(study: Study) -> str:
    run = study.run
    try:
        made = datetime.fromisoformat(str(run.get("created")))
        when = f"{made.day} {made:%B %Y}, {made:%H:%M}"
    except ValueError:
        when = str(run.get("created") or "")
    words = [when, f"melisma {run.get('melisma', '')}".strip()]
    return escape(" · ".join(word for word in words if word))


def _numbers(study: Study) -> str:
    run = study.run
    values = [(f"{run['samples']:,}", "sample" if run["samples"] == 1 else "samples")]
    if study.people:
        people = len(set(study.people.values()))
        values.append((f"{people:,}", "person" if people == 1 else "people"))
    values.append((f"{run['sites']:,}", f"{run.get('mark', '5mC')} sites"))
    samples = study.table("qc_samples")
    if samples is not None and (depth := samples["coverage_median"].median()) is not None:
        values.append((f"{depth:.0f}×", "median coverage"))
    return "".join(
        f"<div><dt>{escape(noun)}</dt><dd>{escape(number)}</dd></div>" for number, noun in values
    )

"""Whether the p-values deserve trust: QQ, lambda, calls on moved data."""

from html import escape
from typing import Any

from melisma.report import _figures_calibration, _words
from melisma.report._markup import Page, calm, capital, figure
from melisma.report._study import Contrast, Study

# Fewer relabellings than this say nothing of lambda's spread.
_FEW_RELABELLINGS = 10


def calibration(study: Study, page: Page, names: dict[str, str]) -> str:
    """QQ plot, lambda and calls on moved data of every contrast that was tested."""
    dashed = (
        "Neighbouring sites are not independent, so the dashed lines say more: between them lie "
        "nine in ten repeats of the test with the labels moved between samples. "
    )
    repeated = any(asked.null is not None for asked in study.contrasts)
    rotated = any(asked.null_noun == "rotation" for asked in study.contrasts)
    also = (
        " Where a design allows few relabellings, regions are compared to rotations: residuals "
        "turned at random within what the design leaves free, which keeps their correlation."
        if rotated
        else ""
    )
    parts = [
        "<p>If nothing differed, the points would follow the line inside the grey band, where 95% "
        f"of independent p-values fall. {dashed if repeated else ''}λ is the median statistic over "
        "its expectation; 1 is what chance gives. The bars count what is called after the labels "
        f"were moved, where every call is false.{also}</p>"
    ]
    for asked in study.contrasts:
        if asked.sites is None and asked.regions is None:
            continue
        parts.append(_of(asked, page, names[asked.key]))
    return "".join(parts) if len(parts) > 1 else calm("No contrast was tested.")


def _of(asked: Contrast, page: Page, name: str) -> str:
    record = asked.record.get("calibration") or {}
    drawn = []
    if asked.sites is not None and asked.sites["p"].fill_nan(None).is_not_null().any():
        heading = f"Observed against expected<small>{inflation(record)}</small>"
        drawn.append(figure(heading, page.plot(f"{asked.key}.qq", _figures_calibration.qq(asked))))
    for kind in ("sites", "regions"):
        one = kind.removesuffix("s")
        calls = record.get(f"relabelled_{one}_calls")
        if asked.table(kind) is None or not calls:
            continue
        null = asked.null_noun if kind == "regions" else "relabelling"
        real = asked.called(kind)
        moved = _words.counted_of(len(calls), null)
        size = f"{real:,} called; {moved}"
        if real:
            reached = sum(n >= real for n in calls)
            size = f"{real:,} called; {reached:,} of {moved} call as many"
        plot = page.plot(
            f"{asked.key}.{one}.relabelled",
            _figures_calibration.null_calls(calls, real, kind, null),
        )
        drawn.append(figure(f"{capital(kind)} called by chance<small>{size}</small>", plot))
    heading = _words.heading(asked, name)
    return f'<h3>{escape(heading)}</h3><div class="trio">{"".join(drawn)}</div>'


def inflation(record: dict[str, Any]) -> str:
    """Lambda in words, and what it is on moved data."""
    value = record.get("lambda")
    words = "λ not estimated" if value is None else f"λ = {value:.2f}"
    moved = [v for v in record.get("relabelled_lambda") or [] if v is not None]
    if 0 < len(moved) < _FEW_RELABELLINGS:
        words += f"; {len(moved)} relabellings are too few to judge it by"
    elif moved:
        words += f"; relabelled {min(moved):.2f} to {max(moved):.2f}"
    return words

"""Traces as pages and in a report: the whole in words, one interactive graph, every edge."""

import json
import math
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from melisma import __version__
from melisma._plural import count
from melisma.errors import MelismaError
from melisma.methylome import atomic_file
from melisma.report._frame import framed
from melisma.report._markup import Page
from melisma.report._tables import html_table
from melisma.report._words import prose, signed
from melisma.trace import Trace

# Rows of the table that stands in for the graph where there is no script.
_STRONGEST = 12
_NAV = 22
_METHODS = (
    "Nodes stand in columns from cause, on the left, to the outcome, on the right; an edge is what "
    "one node does to another. An edge's number is in the unit of what it enters.",
    "The share that paths explain is the sum of the effects into the outcome over the whole "
    "effect. Its error is that of both, as of independent figures, unless the trace knows better: "
    "parts and whole that were measured on the same draws have one error. "
    "More than 100% means that paths which are not there work against those that are.",
    "What hangs under a node is another trace, which explains that node in a unit of its own; it "
    "enters no sum of the outer trace.",
    "What is drawn can be fewer edges than there are: the sentence above each graph says how many, "
    "and the table has them all.",
)


def trace_page(
    traces: Mapping[str, Trace] | Trace, title: str = "Trace", *, strongest: int | None = None
) -> str:
    """Traces as one HTML page that opens without a network.

    Parameters
    ----------
    traces : one, or several by their headings
    strongest : edges into each node that are drawn at first; None: as many as can be read

    Raises
    ------
    MelismaError
        There is no trace.

    Examples
    --------
    >>> from melisma.trace import Edge, Node
    >>> made = Trace((Node("a", 0), Node("b", 1)), (Edge("a", "b", 2.0),), "b", 2.5)
    >>> "Paths explain <b>80%</b> of the total" in trace_page(made)
    True
    """
    page = Page()
    several = {"The graph": traces} if isinstance(traces, Trace) else dict(traces)
    if not several:
        raise MelismaError("There is no trace to draw.")
    alone = len(several) == 1
    parts, sections = [], [("summary", "Summary")]
    for k, (heading, trace) in enumerate(several.items(), start=1):
        place = f"trace-{k}"
        sections.append((place, heading if len(heading) <= _NAV else heading[: _NAV - 1] + "…"))
        drawn = trace_figure(place, trace, page, strongest=strongest, whole=not alone)
        parts.append(f'<section id="{place}"><h2>{escape(heading)}</h2>{drawn}</section>')
    first = next(iter(several.values()))
    sizes = {} if alone else {"traces": len(several)}
    sizes["nodes"] = sum(len(trace.nodes) for trace in several.values())
    sizes["edges"] = sum(len(trace.edges) for trace in several.values())
    lines = [f"**{name}.** {_explained(trace)}" for name, trace in several.items()]
    summary = (
        _whole(first) if alone else "".join(f'<p class="words">{prose(line)}</p>' for line in lines)
    )
    return framed(
        "trace", escape(title), [*sections, ("methods", "How to read it")], page,
        masthead=f"melisma {__version__}", summary=summary,
        numbers=_numbers(sizes),
        traces="\n".join(parts), methods="".join(f"<p>{prose(line)}</p>" for line in _METHODS),
    )  # fmt: skip


def write_traces(
    traces: Mapping[str, Trace] | Trace, path: Path | str, title: str = "Trace", *,
    strongest: int | None = None,
) -> Path:  # fmt: skip
    """Write `trace_page` to a file, which is replaced only when the new one is whole."""
    path = Path(path)
    with atomic_file(path) as work:
        work.write_text(trace_page(traces, title, strongest=strongest), encoding="utf-8")
    return path


def traces_section(traces: Mapping[str, Trace], page: Page) -> str:
    """The section of a study's report, of traces by their headings; empty without traces."""
    if not traces:
        return ""
    parts = ['<section id="trace"><h2>Trace</h2>']
    for k, (heading, trace) in enumerate(traces.items(), start=1):
        drawn = trace_figure(f"trace-{k}", trace, page)
        parts.append(f"<h3>{escape(heading)}</h3>{drawn}")
    return "".join(parts) + "</section>"


def trace_figure(
    key: str, trace: Trace, page: Page, *, strongest: int | None = None, whole: bool = True
) -> str:
    """One trace: its whole, its graph, its assumptions and its edges; the page gets its data.

    What `about` has as `note` stands first: how a site was chosen, what was measured there.
    """
    page.traces[key] = {"trace": json.loads(trace.to_json()), "strongest": strongest}
    text = files("melisma.report").joinpath("trace_figure.html").read_text(encoding="utf-8")
    label = f"Graph of {count(len(trace.nodes), 'node')} that lead to {trace.outcome}"
    return Template(text).substitute(
        key=escape(key), label=escape(label), whole=_whole(trace) if whole else "",
        note=_note(trace), strongest=_table(trace),
        assumptions=_assumptions(trace), about=_about(trace),
    )  # fmt: skip


def _numbers(values: Mapping[str, int]) -> str:
    return "".join(
        f"<div><dt>{noun if n != 1 else noun[:-1]}</dt><dd>{n:,}</dd></div>"
        for noun, n in values.items()
    )


def _share(trace: Trace) -> tuple[float, float | None]:
    """The share that is explained and its error: its own where the trace knows it, else both
    sides' errors taken as independent.
    """
    share, own = trace.completeness, trace.about.get("share_error")
    if isinstance(own, float):
        return share, own
    if trace.explained_error is None and trace.total_error is None:
        return share, None
    error = math.hypot(trace.explained_error or 0.0, share * (trace.total_error or 0.0))
    return share, error / abs(trace.total) if trace.total else None


def _figure(value: float, error: float | None = None) -> str:
    """A signed number with as many decimals as its error allows."""
    size = abs(error or value)
    exponent = math.floor(math.log10(size)) if size else 0
    digits = min(max((1 if error else 2) - exponent, 0), 8)
    spread = "" if error is None else f"\u00a0±\u00a0{error:.{digits}f}"
    return signed(value, digits) + spread


def _explained(trace: Trace) -> str:
    total = " ".join(word for word in (_figure(trace.total, trace.total_error), trace.unit) if word)
    if not trace.total:
        return (
            f"The total is 0, so that no share of it can be said; the paths sum to "
            f"{_figure(trace.explained, trace.explained_error)} {trace.unit}".rstrip()
            + "."
        )
    share, error = _share(trace)
    spread = ""
    if error is not None:
        size = f"{100 * error:.{0 if error >= 0.01 else 1}f}%" if error >= 5e-4 else "under 0.1%"
        spread = f"\u00a0±\u00a0{size}"
    return f"Paths explain **{100 * share:.0f}%{spread}** of the total {total}."


def _sentences(trace: Trace) -> list[str]:
    own = [edge for edge in trace.into(trace.outcome) if "under" not in edge.evidence]
    words = [_explained(trace)]
    if own:
        size = _figure(own[0].effect, own[0].error)
        words.append(f"What moves {trace.outcome} most is **{own[0].source}**: {size}.")
    for name, inner in trace.about.get("joined", {}).items():
        share = inner.get("completeness")
        words.append(
            f"Under {name} hangs another trace, of {inner.get('outcome')}"
            + (f": its paths explain {100 * share:.0f}% of it." if share is not None else ".")
        )
    return words


def _whole(trace: Trace) -> str:
    """The sentence, and the share as a bar with its error."""
    bar = ""
    if trace.total:
        share, error = _share(trace)
        low, high = share - (error or 0.0), share + (error or 0.0)
        left, right = min(0.0, low), max(1.0, high)
        # A share far off has its number; the bar would only be squeezed.
        left, right = max(left, -1.0), min(right, 2.5)

        def x(value: float) -> str:
            return f"{440 * (min(max(value, left), right) - left) / (right - left):.1f}"

        start, end = sorted((0.0, share))
        width = f"{float(x(end)) - float(x(start)):.1f}"
        whisker = (
            f'<path class="whisker" d="M{x(low)} 8H{x(high)}M{x(low)} 4v8M{x(high)} 4v8"/>'
            if error
            else ""
        )
        bar = (
            '<svg class="trace-share" viewBox="-2 0 460 34" aria-hidden="true">'
            f'<rect class="track" x="{x(0)}" y="2" width="{float(x(1)) - float(x(0)):.1f}" '
            f'height="12" rx="2"/><rect class="done" x="{x(start)}" y="4" width="{width}" '
            f'height="8"/><path class="all" d="M{x(0)} 0v16M{x(1)} 0v16"/>{whisker}'
            f'<text x="{x(0)}" y="30">0</text>'
            f'<text x="{x(1)}" y="30" text-anchor="end">100%</text></svg>'
        )
    words = " ".join(_sentences(trace))
    return f'<div class="trace-whole"><p class="lead">{prose(words)}</p>{bar}</div>'


def _note(trace: Trace) -> str:
    note = trace.about.get("note")
    return f'<p class="trace-note">{prose(str(note))}</p>' if note else ""


def _table(trace: Trace) -> str:
    head = [("From", "name"), ("To", "name"), ("Effect", "number")]
    strong = sorted(trace.edges, key=lambda edge: -abs(edge.effect))[:_STRONGEST]
    rows = [
        [escape(edge.source), escape(edge.target), escape(_figure(edge.effect, edge.error))]
        for edge in strong
    ]
    return html_table(head, rows, "The strongest edges", tight=True)


def _assumptions(trace: Trace) -> str:
    told = [escape(line) for line in trace.assumptions]
    for name, inner in trace.about.get("joined", {}).items():
        told += [f"Under {escape(name)}: {escape(str(line))}" for line in inner["assumptions"]]
    if not told:
        return ""
    items = "".join(f"<li>{line}</li>" for line in told)
    return f'<h4>What must hold</h4><ul class="notes">{items}</ul>'


def _about(trace: Trace) -> str:
    rows = list(_facts(trace.about))
    for name, inner in trace.about.get("joined", {}).items():
        rows += [(f"under {name}: {key}", value) for key, value in _facts(inner["about"])]
    if not rows:
        return ""
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows)
    return f'<div class="trace-about"><h4>Where it is from</h4><dl>{items}</dl></div>'


def _facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for key, value in about.items():
        if key in ("joined", "note", "share_error") or value in (None, "", {}, []):
            continue
        if key == "difference" and isinstance(value, list):
            for word, part in zip(("first", "second"), value, strict=False):
                facts += [(f"{word}: {name}", said) for name, said in _facts(part)]
            continue
        facts.append((key.replace("_", " "), _said(value)))
    return facts


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(own)}" for key, own in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(own) for own in value)
    return f"{value:.3g}".replace("-", "−") if isinstance(value, float) else str(value)

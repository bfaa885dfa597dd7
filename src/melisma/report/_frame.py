"""The frame of every page: head, bar, sections, script, in one file that needs no network."""

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from melisma.report._markup import Page
from melisma.report._style import FONT, css_variables, template

_HOLDS_ALL = "This file holds all that it shows and loads nothing."
_TRACE = ("trace_layout.js", "trace_panel.js", "trace_table.js", "trace.js")
_DRAG = "Drag in a plot to enlarge a part of it; a double click returns. "


def framed(
    name: str, title: str, sections: Sequence[tuple[str, str]], made: Page | None = None, *,
    banner: str = "", style: str = "", **values: str,
) -> str:  # fmt: skip
    """A whole page as HTML.

    Parameters
    ----------
    name : of the fragment that stands in the frame's middle: `<name>.html`
    title : finished HTML
    sections : identifier and word of each section that the bar leads to
    made : the plots, tables and traces of the page's script; None where there are none
    banner : what stands on every screen and sheet of paper
    style : a style sheet besides the shared one
    values : finished HTML for the fragment's places
    """
    folder = files("melisma.report")

    def text(file: str) -> str:
        return folder.joinpath(file).read_text(encoding="utf-8")

    made = made or Page()
    plotly = ""
    if made.figures:
        from plotly.offline import get_plotlyjs

        plotly = f"<script>{get_plotlyjs()}</script>\n"
    sheets = [css_variables(), f":root {{ --font: {FONT}; }}", text("page.css")]
    sheets += [text("trace.css")] if made.traces else []
    sheets += [text(style)] if style else []
    scripts = ["page.js", *(_TRACE if made.traces else ())]
    held = {"template": template() if made.figures else {}, "figures": made.figures}
    held |= {"tables": made.tables} | ({"traces": made.traces} if made.traces else {})
    links = (f'<a href="#{place}">{escape(word)}</a>' for place, word in sections)
    return Template(text("frame.html")).substitute(
        title=title,
        style="\n".join(sheets),
        banner=banner,
        nav="\n    ".join(links),
        main=Template(text(f"{name}.html")).substitute(title=title, **values),
        footer=(_DRAG if made.figures else "") + _HOLDS_ALL,
        data=_json(held),
        plotly=plotly,
        script="\n".join(text(script) for script in scripts),
    )


def _json(value: Any) -> str:
    # "<" would let data end the script element.
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

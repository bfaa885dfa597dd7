"""The methods section: the record that lets the study be done again."""

import os
import re
from html import escape
from typing import Any

from melisma.report import _tables, _words
from melisma.report._methods_words import paragraphs
from melisma.report._study import Study


def methods(study: Study) -> str:
    """How the numbers came about: steps, references, parameters, versions, inputs, notices."""
    run = study.run
    texts, cited = paragraphs(study)
    parts = [f"<p>{text}</p>" for text in texts]
    if cited:
        parts.append(f'<h3>References</h3><ol class="references">{cited}</ol>')
    if run.get("parameters"):
        rows = [[escape(k), f"<code>{escape(v)}</code>"] for k, v in flattened(run["parameters"])]
        table = _tables.html_table(
            [("parameter", "name"), ("value", "")], rows, "Parameters", tight=True
        )
        parts.append(f"<h3>Parameters</h3>{table}")
    versions = {"melisma": run.get("melisma", "")} | run.get("versions", {})
    words = ", ".join(f"{escape(str(k))} {escape(str(v))}" for k, v in versions.items())
    parts.append(f"<h3>Versions</h3><p>{words}.</p>")
    parts.append(_inputs(run.get("inputs") or []))
    if notices := run.get("data_notices") or []:
        parts.append("<h3>Data source and licence</h3>")
        parts += [f'<div class="notice">{notice(str(text))}</div>' for text in notices]
    return "".join(parts)


def flattened(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested parameters as dotted names and words.

    >>> flattened({"regions": {"q": 0.05, "seed": 1}})
    [('regions.q', '0.05'), ('regions.seed', '1')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            rows += flattened(value, f"{name}.")
        elif isinstance(value, list):
            rows.append((name, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((name, "default" if value is None else str(value)))
    return rows


def _inputs(inputs: list[dict[str, Any]]) -> str:
    if not inputs:
        return ""
    paths = [str(entry.get("path", "")) for entry in inputs]
    # A report is passed on: it names files, not the folders of the machine that made it.
    shared = os.path.commonpath(paths) if len(paths) > 1 and all(map(os.path.isabs, paths)) else ""
    named = [os.path.relpath(p, shared) if shared else os.path.basename(p) for p in paths]
    rows = [
        [
            escape(name),
            f"{entry.get('bytes', 0):,}",
            f"<code>{escape(str(entry.get('sha256', '')))}</code>",
        ]
        for name, entry in zip(named, inputs, strict=True)
    ]
    head = [("file", "name"), ("bytes", "number"), ("sha256", "hash")]
    table = _tables.html_table(head, rows, "Input files")
    words = _words.count(len(inputs), "input file")
    return f"<h3>Inputs</h3><details><summary>{words} and their hashes</summary>{table}</details>"


def notice(text: str) -> str:
    """A notice's Markdown as HTML: headings, lists, paragraphs, `code` and emphasis; escaped.

    >>> notice("# Data\\n\\nFrom *Debian* `r-x` <b>.")
    '<h4>Data</h4><p>From <em>Debian</em> <code>r-x</code> &lt;b&gt;.</p>'
    """
    blocks = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.rstrip() for line in block.splitlines() if line.strip()]
        while lines and (head := re.match(r"#+\s+(.*)", lines[0])):
            blocks.append(f"<h4>{_inline(head[1])}</h4>")
            lines = lines[1:]
        if not lines:
            continue
        if re.match(r"[-*]\s+", lines[0]):
            items = re.split(r"\n(?=[-*]\s+)", "\n".join(lines))
            words = (_inline(re.sub(r"^[-*]\s+", "", item)) for item in items)
            blocks.append("<ul>" + "".join(f"<li>{word}</li>" for word in words) + "</ul>")
        elif len(lines) > 1 and re.fullmatch(r"[|\s:-]+", lines[1]):
            blocks.append(_pipe_table([lines[0], *lines[2:]]))
        else:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "".join(blocks)


def _pipe_table(lines: list[str]) -> str:
    rows = [
        [_inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines
    ]
    head = [(name, "") for name in rows[0]]
    body = [[*row, *[""] * len(head)][: len(head)] for row in rows[1:]]
    return _tables.html_table(head, body, "Data notice")


def _inline(text: str) -> str:
    safe = escape(" ".join(text.split()), quote=False)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    safe = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)
    safe = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?!\w)", r"<em>\1</em>", safe)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2">\1</a>', safe)

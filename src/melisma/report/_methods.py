"""The methods section: what was done in words, and the record that lets it be done again."""

import os
import re
from html import escape
from typing import Any

from melisma.report import _tables, _words
from melisma.report._study import Study

_REFERENCES = {
    "quasi": (
        "McCullagh P (1983). Quasi-likelihood functions. Annals of Statistics 11, 59–67.",
        "10.1214/aos/1176346056",
    ),
    "squeeze": (
        "Smyth GK (2004). Linear models and empirical Bayes methods for assessing differential "
        "expression in microarray experiments. Statistical Applications in Genetics and "
        "Molecular Biology 3, 3.",
        "10.2202/1544-6115.1027",
    ),
    "mover": (
        "Zou GY, Donner A (2008). Construction of confidence limits about effect measures: a "
        "general approach. Statistics in Medicine 27, 1693–1702.",
        "10.1002/sim.3095",
    ),
    "bh": (
        "Benjamini Y, Hochberg Y (1995). Controlling the false discovery rate: a practical and "
        "powerful approach to multiple testing. Journal of the Royal Statistical Society B 57, "
        "289–300.",
        "10.1111/j.2517-6161.1995.tb02031.x",
    ),
    "permute": (
        "Winkler AM, Ridgway GR, Webster MA, Smith SM, Nichols TE (2014). Permutation inference "
        "for the general linear model. NeuroImage 92, 381–397.",
        "10.1016/j.neuroimage.2014.01.060",
    ),
}


def methods(study: Study) -> str:
    """How the numbers came about: steps, references, parameters, versions, inputs, notices."""
    run = study.run
    parts = [f"<p>{text}</p>" for text in _paragraphs(study)]
    parts.append(f'<h3>References</h3><ol class="references">{_references()}</ol>')
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


def _paragraphs(study: Study) -> list[str]:
    run = study.run
    genome = run.get("genome")
    named = (genome or {}).get("name", "") if isinstance(genome, dict) else str(genome or "")
    checked = (
        f"checked against the genome {escape(named)}" if named else "not checked against a genome"
    )
    texts = [
        f"Calls of {escape(str(run.get('mark', '5mC')))} were read from "
        f"{_words.count(len(run.get('inputs') or []), 'input file')} and {checked}. Positions are "
        "0-based and regions half open, so a region's start is one less than a browser shows.",
        "Samples were compared by the principal components and the correlation of their levels. "
        "Genotype-like sites, where levels fall near 0, one half and 1, give a distance between "
        "samples that finds those of one person without knowing any label.",
    ]
    if study.table("qc_checks") is not None:
        texts.append(
            "Failed conversion is the methylated share of an unmethylated control's cytosines, "
            "with Wilson's interval, or CHH's as an upper bound. Sex is told by the median depth "
            "of chrX and chrY against the autosomes. Strands are compared by a Mantel-Haenszel "
            "difference over CpGs. Saturation below all reads is the exact expectation of random "
            "thinning, and above them a Poisson mixture fitted to the depths. R² of all variance "
            "has a p-value by permutation, R² of a component by its F test."
        )
    if any(c.sites is not None for c in study.contrasts):
        texts.append(
            "Each site was tested with a quasi-binomial score test on the design matrix "
            "(ref. 1): counts vary by sampling and by an overdispersion shared across sites; what "
            "a site adds of its own enters once, through its residual variance squeezed across "
            "sites (ref. 2). Differences in level are weighted proportions, their interval "
            "joined from the groups' Wilson intervals (ref. 3). Sites that are alike in all "
            "samples, or carry too few reads of the rarer state, were not tested. q-values are "
            "Benjamini and Hochberg's (ref. 4)."
        )
    if any(c.regions is not None for c in study.contrasts):
        texts.append(
            "Candidate regions are stretches where the smoothed signed statistic stays high. They "
            "are judged against the same search on relabelled data, the exposure moved between "
            "exchangeable units after the other terms were taken out (ref. 5), with called "
            "regions masked so that they do not count as chance. A region's q says that some site "
            "in it differs; it does not vouch for its borders."
        )
    return texts


def _references() -> str:
    return "".join(
        f'<li>{escape(text)} <a href="https://doi.org/{doi}">doi:{doi}</a></li>'
        for text, doi in _REFERENCES.values()
    )


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

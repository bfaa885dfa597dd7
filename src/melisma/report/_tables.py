"""Tables: small ones set in HTML with drawn cells, large ones as data for the page's script."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import polars as pl

from melisma.report._study import Contrast, Groups, Study, direction_tokens
from melisma.report._words import (
    fraction,
    gene,
    named,
    pair,
    probability,
    spoken,
    strongest,
    title,
)

# A table with more rows scrolls inside its own frame.
_TALL = 24
_MOST_SITES = 500
_MOST_REGIONS = 2000
_ANNOTATION = ("location", "genes", "nearest_name", "tss_distance", "island_relation")
_SITE_COLUMNS = (
    "probe", "contig", "position", "strand", "context", "between", "delta_beta", "ci_low",
    "ci_high", "statistic", "df", "p", "q", "n_used", *_ANNOTATION,
)  # fmt: skip
_REGION_COLUMNS = (
    "region", "contig", "start", "end", "name", "context", "sites", "statistic", "between",
    "delta_beta", "ci_low", "ci_high", "p", "q", "p_family", "delta_shift", "p_shift", *_ANNOTATION,
)  # fmt: skip


def html_table(
    head: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[str]],
    caption: str,
    *,
    tight: bool = False,
) -> str:
    """A table from (heading, class) pairs and rows of finished HTML cells; `tight`: no wider."""
    columns = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in head)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in zip(row, head, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    words = escape(caption)
    frame = "scroll tall" if len(rows) > _TALL else "scroll"
    return (
        f'<div class="{frame}" tabindex="0" role="region" aria-label="{words}">'
        f'<table class="{"tight" if tight else "full"}"><caption class="unseen">{words}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def swatch(label: str, token: str, symbol: str = "circle") -> str:
    """A level's name behind its colour."""
    name = escape(spoken(label)) or "missing"
    return f'<span class="swatch {symbol} {token[1:]}">{name}</span>'


def _range_cell(low: float, middle: float, high: float, top: float) -> str:
    a, m, b = (100 * min(v / top, 1.0) for v in (low, middle, high))
    return (
        '<svg class="cell" viewBox="0 0 104 12" aria-hidden="true">'
        f'<line x1="{2 + a:.1f}" x2="{2 + b:.1f}" y1="6" y2="6" class="whisker"/>'
        f'<circle cx="{2 + m:.1f}" cy="6" r="3.5" class="dot"/></svg>'
    )


def _interval_cell(low: float, value: float, high: float, reach: float, token: str) -> str:
    if value != value:
        return ""
    low, high = (value if end != end else end for end in (low, high))
    a, m, b = (50 + 48 * max(-1.0, min(v / reach, 1.0)) for v in (low, value, high))
    return (
        '<svg class="cell" viewBox="0 0 104 12" aria-hidden="true">'
        '<line x1="52" x2="52" y1="0" y2="12" class="zero"/>'
        f'<line x1="{2 + a:.1f}" x2="{2 + b:.1f}" y1="6" y2="6" class="stroke {token[1:]}"/>'
        f'<circle cx="{2 + m:.1f}" cy="6" r="3.5" class="fill {token[1:]}"/></svg>'
    )


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def sample_table(study: Study, samples: pl.DataFrame, divisions: Sequence[Groups]) -> str:
    """A row a sample: who it is, its coverage as a range, its level as a dot."""
    counted = not samples["coverage_median"].is_null().all()
    top = max([1.0, *samples["coverage_p95"].drop_nulls().to_list()])
    people, flagged = study.people, samples.columns.count("outlier") == 1
    head = [("sample", "name")]
    if counted:
        head += [("coverage <small>median, 5–95%</small>", "drawn"), ("", "number")]
    of = "% of reads" if counted else "mean"
    head += [(f"level <small>{of}</small>", "drawn"), ("", "number"), ("sites seen", "number")]
    head += [("person", "name")] if people else []
    head += [(escape(spoken(g.column)), "name") for g in divisions]
    head += [("note", "note")]
    where = {name: i for i, name in enumerate(study.samples)}
    rows = []
    for r in samples.iter_rows(named=True):
        cells = [escape(str(r["sample"]))]
        cells += _depth_cells(r, top) if counted else []
        cells += _level_cells(r)
        cells += [escape(people.get(r["sample"], "–"))] if people else []
        i = where.get(r["sample"])
        cells += [
            "–"
            if i is None
            else swatch(g.labels[i], g.colours[g.labels[i]], g.symbols[g.labels[i]])
            for g in divisions
        ]
        note = str(r.get("outlier_reason") or "") if flagged and r["outlier"] else ""
        rows.append([*cells, f'<span class="alert">{escape(note)}</span>' if note else ""])
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return html_table(
        head, rows, "Coverage and level of each sample" if counted else "Level of each sample"
    )


def _depth_cells(row: dict[str, Any], top: float) -> list[str]:
    low, middle, high = (_number(row[f"coverage_{k}"]) for k in ("p05", "median", "p95"))
    known = middle == middle
    return [
        _range_cell(low, middle, high, top) if known else "",
        f"{middle:,.0f}×" if known else "–",
    ]


def _level_cells(row: dict[str, Any]) -> list[str]:
    level = _number(row["level"])
    known = level == level
    return [
        _range_cell(level, level, level, 1.0) if known else "",
        f"{100 * level:.1f}%" if known else "–",
        f"{100 * _number(row['share_seen']):.0f}%",
    ]


def brief_table(contrast: Contrast, groups: Groups | None, kind: str, n: int) -> str:
    """The strongest sites or regions, each difference drawn with its interval."""
    found = strongest(contrast.table(kind), n)
    if found.is_empty():
        return ""
    up, down = direction_tokens(contrast, groups)
    known = found.select("ci_low", "ci_high", "delta_beta").to_numpy().astype(float)
    least = 1e-9 if contrast.slope else 0.2
    reach = max(least, float(np.nanmax(np.abs(known), initial=0.0)))
    head = [("region" if kind == "regions" else "site", "name")]
    contexts = kind == "regions" and _told(found, "context", kind)
    head += [("context", "name")] if contexts else []
    head += [("sites", "number")] if kind == "regions" else []
    if contrast.among:
        head += [("between", ""), ("Δβ", "number")]
    elif contrast.joint:
        head += [("F", "number")]
    else:
        head += [("difference", "drawn"), ("Δβ", "number")]
    head += [("q", "number")]
    rows = []
    for r in found.iter_rows(named=True):
        delta = _number(r["delta_beta"])
        near = gene(r)
        cells = [
            escape(named(r)) + (f'<small class="under">{escape(near)}</small>' if near else "")
        ]
        cells += [r["context"]] if contexts else []
        cells += [f"{r['sites']:,}"] if kind == "regions" else []
        if contrast.among:
            levels = pair(contrast, r) if r.get("between") else ()
            cells += [escape(" − ".join(map(spoken, levels))) or "–", fraction(delta)]
        elif contrast.joint:
            cells.append(f"{r['statistic']:.1f}")
        else:
            ends = _number(r["ci_low"]), delta, _number(r["ci_high"])
            cells.append(_interval_cell(*ends, reach, up if delta > 0 else down))
            cells.append(fraction(delta, 0.1 if contrast.slope else 0.01))
        cells.append(escape(probability(r["q"])))
        rows.append(cells)
    return html_table(head, rows, f"Strongest {kind}: {title(contrast)}")


def payload(contrast: Contrast, name: str, kind: str) -> dict[str, Any] | None:
    """A region or site table as columns for the page's sortable table, strongest first."""
    table = contrast.table(kind)
    if table is None or table.is_empty():
        return None
    most = _MOST_REGIONS if kind == "regions" else _MOST_SITES
    found = strongest(table, most)
    wanted = _REGION_COLUMNS if kind == "regions" else _SITE_COLUMNS
    columns = [c for c in wanted if _told(found, c, kind)]
    tested = int(table["p"].fill_nan(None).is_not_null().sum())
    return {
        "key": f"{contrast.key}.{kind}",
        "title": f"{kind}: {name}",
        "kind": kind,
        "threshold": contrast.cut(kind),
        "tested": tested,
        "columns": columns,
        "unseen": ["contig", "start", "end"] if kind == "regions" else [],
        "values": [_column(found[c]) for c in columns],
    }


def _told(table: pl.DataFrame, column: str, kind: str) -> bool:
    """Whether a column says anything: not all null, and no name or context that is always one."""
    if column not in table.columns:
        return False
    values = table[column]
    if kind == "regions" and column == "context":
        return values.n_unique() > 1
    if kind == "regions" and column == "name":
        return not (values == table["region"]).all()
    return column in ("p", "q") or not values.is_null().all()


def _column(series: pl.Series) -> list[Any]:
    if series.dtype.is_float():
        return [
            None if v is None or not np.isfinite(v) else float(f"{v:.6g}") for v in series.to_list()
        ]
    if series.dtype.is_integer():
        return series.to_list()
    return series.cast(pl.String).to_list()

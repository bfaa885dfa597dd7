"""The page of an explained model: its scores, what bases do, motifs as logos, and lone CpGs."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from melisma import __version__
from melisma.methylome import atomic_file
from melisma.report._frame import framed
from melisma.report._markup import calm
from melisma.report._tables import html_table
from melisma.report._words import counted, probability, prose, signed

if TYPE_CHECKING:
    from melisma.sequence.explanation import Explanation
    from melisma.sequence.motifs import Motif

# Bases beside the site that the profile shows.
_SHOWN = 20
# A known motif that so many of the database resemble as well by chance is no name.
_NAMED = 0.5
_NAMES = {
    "model": "the model", "composition": "composition alone", "words": "words of the window",
    "profile": "each base by position",
}  # fmt: skip


def write_explanation(
    explained: "Explanation",
    path: Path | str,
    *,
    scores: pl.DataFrame | None = None,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """Write what explains a model as one HTML page that opens without a network.

    Parameters
    ----------
    scores : the model's and its baselines' on its test part, as `judge` made them; None: not known
    record : what was asked, as `explain.json` holds it
    """
    path, asked = Path(path), dict(record or {})
    told = asked.get("environment") or {}
    sections = [
        ("summary", "Summary"), ("scores", "Scores"), ("bases", "Bases"), ("motifs", "Motifs"),
        ("flanks", "Flanks"), ("methods", "Methods"),
    ]  # fmt: skip
    text = framed(
        "explain",
        "What decides the levels"
        + (f" in {escape(', '.join(map(str, told.values())))}" if told else ""),
        sections,
        style="explain.css",
        masthead=escape(
            " · ".join(
                word for word in (str(asked.get("model") or ""), f"melisma {__version__}") if word
            )
        ),
        summary=prose(" ".join(_summary(explained, scores))),
        numbers=_numbers(explained),
        scores=_scores(scores),
        bases=_bases(explained),
        motifs=_motifs(explained, named=bool(asked.get("database"))),
        flanks=_flanks(explained.flanks),
        methods="".join(f"<p>{prose(sentence)}</p>" for sentence in _methods(explained, asked)),
    )
    with atomic_file(path) as work:
        work.write_text(text, encoding="utf-8")
    return path


def _summary(explained: "Explanation", scores: pl.DataFrame | None) -> list[str]:
    n, motifs = len(explained.found.windows), explained.table
    words = [f"Every base of {n:,} windows was exchanged and the level asked again."]
    if len(motifs):
        tested = motifs.drop_nulls("effect").sort(pl.col("effect").abs(), descending=True)
        words.append(f"{counted(len(motifs), 'motif').capitalize()} came out of it.")
        if len(tested):
            top = tested.row(0, named=True)
            words.append(
                f"Put into shuffled sequence, **{top['consensus']}** moves the level most: by "
                f"{signed(top['effect'])}."
            )
    else:
        words.append("No stretch came up often enough to be a motif.")
    best = _best(scores)
    if best:
        words.append(best)
    return words


def _headline(scores: pl.DataFrame) -> str:
    known = scores["metric"].to_list()
    return next((name for name in ("spearman", "auc") if name in known), known[0])


def _best(scores: pl.DataFrame | None) -> str:
    """The model beside the best of what is simpler."""
    if scores is None or not len(scores):
        return ""
    metric = _headline(scores)
    of = scores.filter((pl.col("stratum") == "all") & (pl.col("metric") == metric))
    own = of.filter(pl.col("model") == "model")["value"].drop_nulls()
    others = of.filter(pl.col("model") != "model").drop_nulls("value").sort("value")
    if not len(own) or not len(others):
        return ""
    last = others.row(-1, named=True)
    name = _NAMES.get(last["model"], last["model"])
    short = "" if own[0] > last["value"] else ", which is no worse: read what follows with that"
    return (
        f"On what it had not seen the model reaches a {_word(metric)} of {own[0]:.2f}, and the "
        f"best baseline ({name}) {last['value']:.2f}{short}."
    )


def _word(metric: str) -> str:
    return {"spearman": "Spearman correlation", "auc": "AUC"}.get(metric, metric)


def _numbers(explained: "Explanation") -> str:
    level = float(np.mean(explained.found.level))
    values = (
        (f"{len(explained.found.windows):,}", "windows"),
        (f"{len(explained.seqlets):,}", "seqlets"),
        (f"{len(explained.motifs):,}", "motifs"),
        (f"{level:.2f}", "mean predicted level"),
    )
    return "".join(f"<div><dt>{noun}</dt><dd>{number}</dd></div>" for number, noun in values)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    heads = [(escape(word), "number" if k else "name") for k, word in enumerate(head)]
    return html_table(heads, [[escape(cell) for cell in row] for row in rows], caption, tight=True)


def _scores(scores: pl.DataFrame | None) -> str:
    if scores is None or not len(scores):
        return calm(
            "The model's folder has no scores.tsv, so nothing here says whether to believe it."
        )
    whole = scores.filter(pl.col("stratum") == "all")
    metrics = whole["metric"].unique(maintain_order=True).to_list()
    metric = _headline(whole)
    several = whole["mark"].n_unique() > 1
    rows = []
    for (mark, name), own in whole.group_by("mark", "model", maintain_order=True):
        values = {row["metric"]: row for row in own.iter_rows(named=True)}
        cells = [_number(values[m]["value"]) if m in values else "–" for m in metrics]
        low, high = values[metric]["low"], values[metric]["high"]
        interval = "–" if low is None else f"{low:.3f} to {high:.3f}"
        label = _NAMES.get(str(name), str(name))
        rows.append((f"{label}, {mark}" if several else label, *cells, interval))
    n = int(whole["n"][0])
    note = (
        f'<p class="note">On the test part, {n:,} sites or windows that training has not read. '
        "Baselines were fitted on the same training part.</p>"
    )
    return _table(("", *metrics, f"{metric}, 95%"), rows, "Scores beside the baselines") + note


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3f}"


def _bases(explained: "Explanation") -> str:
    from melisma.sequence.logos import logo

    profile = explained.found.by_position()
    half = profile.shape[1] // 2
    first = max(half - _SHOWN, 0)
    shown = profile[:, first : half + _SHOWN + 1]
    strongest = int(np.abs(shown).sum(axis=0).argmax())
    base = "ACGT"[int(np.abs(shown[:, strongest]).argmax())]
    size = signed(float(shown["ACGT".index(base), strongest]))
    label = (
        "Logo of what each base does to the level at each position around the site; the strongest "
        f"is {base} at {strongest + first - half:+d}, {size}."
    )
    drawn = logo(shown, kind="contributions", label=label, first=first - half)
    return (
        f'<div class="wide-logo" tabindex="0" role="region" aria-label="Bases by position">{drawn}'
        '</div><p class="note">Mean change of the level, against the mean of the four bases at '
        "that position. Above the line raises, below it lowers. The site stands at 0 and has no "
        "letter: without its base there is no level.</p>"
    )


def _motifs(explained: "Explanation", *, named: bool) -> str:
    if not explained.motifs:
        return calm(
            "No motif was found: draw more sites, ask for fewer seqlets, or take it that the model "
            "reads composition rather than words."
        )
    rows = list(explained.table.iter_rows(named=True))
    cards = [_card(row, motif, named) for row, motif in zip(rows, explained.motifs, strict=True)]
    note = (
        '<p class="note">Letters are in bits, of the seqlets\' bases; numbers under them count '
        "from the site. Effects are of the motif put into shuffled windows at that place, a mean "
        "with its 95% interval over windows.</p>"
    )
    return f'<ul class="motifs">{"".join(cards)}</ul>{note}'


def _card(row: Mapping[str, Any], motif: "Motif", named: bool) -> str:
    from melisma.sequence.logos import logo

    verb = row["direction"]
    label = (
        f"Logo of motif {row['motif']}, {row['consensus']}, which {verb} the level; first base at "
        f"{row['offset']:+d} from the site."
    )
    drawn = logo(motif.frequency * row["seqlets"], kind="counts", label=label, first=row["offset"])
    name = ""
    if named:
        known = row["name"] is not None and row["e"] is not None and row["e"] < _NAMED
        name = (
            f"Resembles {row['name']} (p = {probability(row['p'])}). "
            if known
            else "Resembles no known motif. "
        )
    effect = "Too short beside the site to be put in."
    if row["effect"] is not None:
        low, high = signed(row["low"]), signed(row["high"])
        effect = f"Effect {signed(row['effect'])} ({low} to {high})."
    words = (
        f"{name}{row['seqlets']:,} seqlets, {row['share']:.2f} a window; {verb} the level. {effect}"
    )
    return (
        f"<li><h4>{row['motif']}. {escape(row['consensus'])}</h4>{drawn}<p>{escape(words)}</p></li>"
    )


def _flanks(flanks: pl.DataFrame | None) -> str:
    if flanks is None:
        return calm("The model is not one of CpGs alone.")
    if not len(flanks):
        return calm("No CpG of the sites stands alone, with no other within 35 bases.")
    measured = flanks["measured"].drop_nulls().len() > 0
    kinds = ("predicted", "measured") if measured else ("predicted",)
    head = ["bases beside", "CpGs"]
    for kind in kinds:
        head += [kind, "95%"]
    rows = []
    for row in flanks.iter_rows(named=True):
        cells = [_FLANKS[row["flank"]], f"{row['sites']:,}"]
        for kind in kinds:
            low, high = row[f"{kind}_low"], row[f"{kind}_high"]
            cells += [_number(row[kind]), "–" if low is None else f"{low:.3f} to {high:.3f}"]
        rows.append(cells)
    words = (
        "<p>CpGs with no other CpG within 35 bases lose methylation with cell divisions, those "
        "between A or T (WCGW) first (Zhou et al. 2018).</p>"
    )
    without = "" if measured else calm("Levels were not measured here: give a store.")
    return words + _dots(flanks, kinds) + _table(head, rows, "Levels of lone CpGs") + without


_FLANKS = {"WCGW": "WCGW: A or T on both sides", "mixed": "one of each", "SCGS": "SCGS: C or G"}


def _dots(flanks: pl.DataFrame, kinds: Sequence[str]) -> str:
    """Levels as dots with their intervals, a row a class."""
    left, wide, step = 70, 440, 40
    x = lambda value: left + wide * value  # noqa: E731
    parts, said = [], []
    for k, row in enumerate(flanks.iter_rows(named=True)):
        y = 20 + step * k
        parts.append(f'<text x="0" y="{y + 4}">{row["flank"]}</text>')
        parts.append(f'<path class="row" d="M{left} {y}H{left + wide}"/>')
        for j, kind in enumerate(kinds):
            if row[kind] is None:
                continue
            at = y + (6 * (2 * j - 1) if len(kinds) > 1 else 0)
            low, high = row[f"{kind}_low"], row[f"{kind}_high"]
            said.append(f"{row['flank']} {kind} {row[kind]:.2f}")
            if low is not None:
                parts.append(
                    f'<path class="{kind}" stroke-width="2" d="M{x(low):.1f} {at}H{x(high):.1f}"/>'
                )
            parts.append(
                f'<circle class="{kind}" cx="{x(row[kind]):.1f}" cy="{at}" r="5"/>'
                if kind == "predicted"
                else f'<path class="{kind}" d="M{x(row[kind]) - 6:.1f} {at}l6 -6l6 6l-6 6z"/>'
            )
    foot = 20 + step * len(flanks)
    parts += [
        f'<text x="{x(tick):.0f}" y="{foot}" text-anchor="middle">{tick:g}</text>'
        for tick in (0, 0.25, 0.5, 0.75, 1)
    ]
    label = escape("Levels of lone CpGs: " + ", ".join(said) + ".", quote=True)
    key = '<span class="swatch c1">predicted</span>'
    if len(kinds) > 1:
        key += ' <span class="swatch diamond c0">measured</span>'
    return (
        f'<svg class="dots" role="img" aria-label="{label}" viewBox="0 0 540 {foot + 8}">'
        f'<title>{label}</title>{"".join(parts)}</svg><p class="key">{key}</p>'
    )


def _methods(explained: "Explanation", asked: Mapping[str, Any]) -> list[str]:
    told = asked.get("environment") or {}
    where = ", ".join(f"{name}={value}" for name, value in told.items()) or "the mean environment"
    sites = asked.get("sites_in_reach")
    drawn = f" of {sites:,}, drawn with seed {asked.get('seed', 0)}" if sites else ""
    database = asked.get("database")
    return [
        f"Mutagenesis: {len(explained.found.windows):,} windows{drawn}; {where}. Each base was "
        "exchanged for the three others. A contribution is the level with the window's own base "
        "less the mean level with the others.",
        "Seqlets are stretches whose contributions sum to more than the same numbers do in random "
        "order, at 1 window in 100; in windows of fewer than ten stretches, to more than noise in "
        "the strongest half of the windows. Motifs are seqlets that read alike.",
        "Effects were measured on 200 windows that were shuffled around their site with their "
        "dinucleotides kept (Altschul and Erickson 1985)."
        + (f" Names: tomtom (Gupta et al. 2007) against {database}." if database else ""),
        "These are answers of a model. That sequence does the same in a cell is for an experiment "
        "to show.",
    ]

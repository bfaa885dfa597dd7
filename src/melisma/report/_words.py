"""Numbers and findings as sentences, from the run's record and tables."""

import math
import re
from collections.abc import Sequence
from html import escape

import polars as pl

from melisma._plural import count
from melisma.report._study import Contrast, Study

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# The block that names the people found by the identity check.
IDENTITY = "identity"
# More contrasts than this are told by the table of findings alone.
_TOLD = 4
_SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def probability(p: float | None) -> str:
    """A p- or q-value as a reader writes it.

    >>> probability(0.0123), probability(0.53), probability(3.2e-6), probability(None)
    ('.012', '.53', '3.2 × 10⁻⁶', '–')
    """
    if p is None or math.isnan(p):
        return "–"
    if p >= 0.995:
        return "1"
    if p >= 0.1:
        return f"{p:.2f}"[1:]
    if p >= 0.00095:
        return f"{p:.{3 if p >= 0.00995 else 4}f}"[1:]
    mantissa, exponent = f"{p:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_SUPERSCRIPT)}"


def passing(q: float) -> str:
    """The threshold in words.

    >>> passing(0.05)
    'q < .05'
    """
    return f"q < {f'{q:g}'.removeprefix('0')}"


def prose(text: str) -> str:
    """Text as HTML: escaped, a threshold's parts kept on one line, **this** in bold.

    >>> prose("a < b at q < .05")
    'a &lt; b at q\\xa0&lt;\\xa0.05'
    """
    bound = re.sub(r"\b([pq]) < (\S)", "\\1\u00a0<\u00a0\\2", text)
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(bound, quote=False))


def counted(n: int, noun: str) -> str:
    """Like `count`, small numbers as words, for the start of a sentence.

    >>> counted(2, "pair")
    'Two pairs'
    """
    word = _SMALL[n] if n < len(_SMALL) else f"{n:,}"
    return f"{word[0].upper()}{word[1:]} {noun if n == 1 else noun + 's'}"


def signed(value: float | None, digits: int = 2) -> str:
    """A signed decimal with a true minus.

    >>> signed(-0.314), signed(0.2)
    ('−0.31', '+0.20')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "−")


def place(contig: str, start: int, end: int | None = None) -> str:
    """A genomic place, 0-based (half open where it has an end).

    >>> place("chr1", 3053120, 3053480)
    'chr1:3,053,120–3,053,480'
    """
    return f"{contig}:{start:,}" + ("" if end is None else f"–{end:,}")


def spoken(level: str) -> str:
    """A level of the sample sheet in running text.

    >>> spoken("activated_naive")
    'activated naive'
    """
    return level.replace("_", " ")


def listed(words: Sequence[str]) -> str:
    """Words joined as in a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def title(contrast: Contrast) -> str:
    """What a contrast compares, as a heading."""
    if contrast.levels:
        a, b = contrast.levels
        return f"{spoken(str(a))} against {spoken(str(b))}"
    return spoken(str(contrast.record.get("label") or contrast.record["name"]))


def short_titles(contrasts: Sequence[Contrast]) -> dict[str, str]:
    """A short name a contrast, the design added only where two contrasts compare the same."""
    plain = [title(c) for c in contrasts]
    names = [
        t if plain.count(t) == 1 else f"{t}, {_inside(c)}"
        for c, t in zip(contrasts, plain, strict=True)
    ]
    return {
        c.key: name if names.count(name) == 1 else f"{name} ({spoken(c.design)})"
        for c, name in zip(contrasts, names, strict=True)
    }


def _inside(contrast: Contrast) -> str:
    if not contrast.block:
        return contrast.formula
    return "within people" if contrast.block == IDENTITY else f"within {spoken(contrast.block)}"


def blocks(contrast: Contrast) -> str:
    """What the blocks of a design are."""
    if contrast.block == IDENTITY:
        return "people"
    return spoken(contrast.block or "")


def model(contrast: Contrast) -> str:
    """The design in words."""
    return contrast.formula + (f", {blocks(contrast)} as blocks" if contrast.block else "")


def direction(contrast: Contrast, delta: float | None) -> str:
    """Which group is higher and by how many points of a hundred."""
    if delta is None or math.isnan(delta):
        return "size not estimated"
    points = round(100 * abs(delta))
    size = count(points, "point") if points else "less than a point"
    word = "lower" if delta < 0 else "higher"
    if not contrast.levels:
        return f"{size} {word} per unit of {spoken(str(contrast.record.get('column') or 'it'))}"
    return f"{spoken(str(contrast.levels[0]))} is {size} {word}"


def interval(low: float | None, high: float | None) -> str:
    """A 95% confidence interval of a difference in levels, in points; empty where there is none.

    >>> interval(-0.19, -0.004)
    '−19 to 0'
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return " to ".join(signed(100 * v, 0) if round(100 * v) else "0" for v in (low, high))


def called(table: pl.DataFrame | None, q: float) -> int:
    """How many rows of a site or region table pass the threshold."""
    if table is None or table.is_empty():
        return 0
    return int((table["q"].fill_nan(None) < q).sum() or 0)


def smallest(table: pl.DataFrame | None) -> float | None:
    """The smallest q of a table, None where there is none."""
    if table is None or table.is_empty():
        return None
    found = table["q"].fill_nan(None).min()
    return None if found is None else float(found)  # pyright: ignore[reportArgumentType]


def sites_verdict(contrast: Contrast) -> str:
    """What was found among the sites, in one sentence."""
    if contrast.sites is None:
        reason = contrast.record.get("sites", {}).get("refused", "the run holds no site table")
        return f"Sites were not tested. {_closed(reason)}"
    n = called(contrast.sites, contrast.threshold)
    tested = int(contrast.sites["p"].fill_nan(None).is_not_null().sum())
    cut = passing(contrast.threshold)
    if not tested:
        return "No site could be tested."
    if not n:
        least = probability(smallest(contrast.sites))
        return f"No site of {tested:,} passes {cut}; the smallest q is {least}."
    verb = "passes" if n == 1 else "pass"
    return f"{count(n, 'site')} of {tested:,} {verb} {cut}, {_ways(contrast, contrast.sites)}."


def regions_verdict(contrast: Contrast) -> str:
    """What was found among the regions, in one sentence."""
    if contrast.regions is None:
        reason = contrast.record.get("regions", {}).get("refused", "the run holds no region table")
        return f"Regions were not tested. {_closed(reason)}"
    n, total = called(contrast.regions, contrast.threshold), contrast.regions.height
    cut = passing(contrast.threshold)
    if not total:
        return "No stretch of sites was a candidate region."
    if not n:
        least = probability(smallest(contrast.regions))
        noun = count(total, "candidate region")
        return f"No region of {noun} passes {cut}; the smallest q is {least}."
    verb = "passes" if n == 1 else "pass"
    ways = _ways(contrast, contrast.regions)
    return f"{count(n, 'region')} of {count(total, 'candidate')} {verb} {cut}, {ways}."


def relabelling(contrast: Contrast) -> str:
    """How many relabelled or rotated data sets the regions were judged against; else empty."""
    record = contrast.record.get("regions", {})
    if not record.get("relabellings"):
        return ""
    noun = "rotation" if record.get("null") == "rotations" else "relabelling"
    words = f"Judged against {count(record['relabellings'], noun)}"
    if noun == "rotation":
        words += f", as the design allows {count(record['distinct'], 'relabelling')} only"
    elif record.get("distinct"):
        words += f" of {record['distinct']:,} distinct ones"
    if (null := record.get("null_regions_per_relabelling")) is not None:
        words += f", each with {null:.3g} candidates on average"
    return f"{words}."


def _ways(contrast: Contrast, table: pl.DataFrame) -> str:
    """How many of the called rows are higher and lower."""
    found = table.filter(pl.col("q").fill_nan(None) < contrast.threshold)["delta_beta"]
    higher, lower = int((found > 0).sum()), int((found < 0).sum())
    where = f" in {spoken(str(contrast.levels[0]))}" if contrast.levels else ""
    if higher and lower:
        return f"{higher:,} higher and {lower:,} lower{where}"
    return f"{'all ' if len(found) > 1 else ''}{'higher' if higher else 'lower'}{where}"


def _closed(sentence: str) -> str:
    return sentence if sentence.rstrip().endswith(".") else f"{sentence.rstrip()}."


def difference(contrast: Contrast) -> str:
    """What is compared, as the end of "do marks differ ..."."""
    if contrast.levels:
        a, b = (spoken(str(level)) for level in contrast.levels)
        return f"between {a} and {b}"
    return f"with {title(contrast)}"


def finding(contrast: Contrast, *, again: bool = False) -> str:
    """A contrast's answer in a sentence, the strongest effect named, counts between asterisks.

    `again` says that another design was asked the same just before.
    """
    cut = passing(contrast.threshold)
    regions = called(contrast.regions, contrast.threshold)
    sites = called(contrast.sites, contrast.threshold)
    if again:
        head = f"with {blocks(contrast)} as blocks" if contrast.block else ""
        head = head or f"with the model {contrast.formula}"
    else:
        head = difference(contrast)
    head = _capital(head)
    if contrast.sites is None and contrast.regions is None:
        return f"{head}, neither sites nor regions could be tested."
    untested = " regions could not be tested" if contrast.regions is None else ""
    if not regions and not sites:
        least = [v for v in (smallest(contrast.sites), smallest(contrast.regions)) if v is not None]
        size = f" (the smallest q is {probability(min(least))})" if least else ""
        return f"{head}, **nothing** passes {cut}{size}{';' if untested else ''}{untested}."
    counts = _counts(contrast, sites, regions)
    return f"{head}, {counts} {cut}{_best(contrast)}{';' if untested else ''}{untested}."


def _counts(contrast: Contrast, sites: int, regions: int) -> str:
    if contrast.regions is None or contrast.sites is None:
        n, noun = (sites, "site") if contrast.regions is None else (regions, "region")
        return f"**{count(n, noun)}** {'passes' if n == 1 else 'pass'}"
    if sites and regions:
        return f"**{count(sites, 'site')}** and **{count(regions, 'region')}** pass"
    n, noun, other = (sites, "site", "region") if sites else (regions, "region", "single site")
    return f"**{count(n, noun)}** and no {other} {'passes' if n == 1 else 'pass'}"


def _best(contrast: Contrast) -> str:
    for table, noun in ((contrast.regions, "region"), (contrast.sites, "site")):
        n = called(table, contrast.threshold)
        if n:
            top = strongest(table, 1).row(0, named=True)
            start = top["start"] if noun == "region" else top["position"]
            at = place(str(top["contig"]), int(start), top.get("end"))
            at_or_in = "in" if noun == "region" else "at"
            which = f"{at_or_in} {'the strongest' if n > 1 else 'that'} {noun},"
            return f"; {which} {at}, {direction(contrast, top['delta_beta'])}"
    return ""


def strongest(table: pl.DataFrame | None, n: int) -> pl.DataFrame:
    """The first rows by q, p and size of the statistic; rows without p are left out."""
    if table is None:
        return pl.DataFrame()
    return (
        table.with_columns(pl.col("p", "q").fill_nan(None))
        .filter(pl.col("p").is_not_null())
        .with_columns(_size=-pl.col("statistic").abs())
        .sort("q", "p", "_size", nulls_last=True, maintain_order=True)
        .head(n)
        .drop("_size")
    )


def summary(study: Study) -> str:
    """The study's question, size, findings and identity in one paragraph."""
    run = study.run
    asked = list(dict.fromkeys(difference(c) for c in study.contrasts))
    size = f"{count(run['samples'], 'sample')} and {count(run['sites'], 'site')}"
    mark = run.get("mark", "5mC")
    if not asked:
        why = "nothing was tested" if run.get("left_out") else "no contrast was asked for"
        sentences = [f"This run describes {size} of {mark}; {why}."]
    elif len(asked) <= _TOLD:
        sentences = [f"Do marks differ {', and '.join(asked)}? The study holds {size} of {mark}."]
    else:
        sentences = [
            f"The study holds {size} of {mark}, and asks {count(len(asked), 'question')} of them."
        ]
    sentences += _answers(study.contrasts)
    identity = run.get("qc", {}).get("identity", {})
    if identity.get("sentence"):
        sentences.append(_closed(str(identity["sentence"])))
    if contradictions := identity.get("contradictions") or []:
        n = len(contradictions)
        word = counted(n, "").split()[0]
        sentences.append(f"{word} of them {'contradicts' if n == 1 else 'contradict'} the sheet.")
    return " ".join(sentences)


def _answers(contrasts: Sequence[Contrast]) -> list[str]:
    asked = list(dict.fromkeys(difference(c) for c in contrasts))
    if len(contrasts) <= _TOLD:
        same = [[c for c in contrasts if difference(c) == question] for question in asked]
        return [finding(c, again=i > 0) for group in same for i, c in enumerate(group)]
    # A long list belongs in the table of findings: only the first answers are told.
    found = [c for c in contrasts if called(c.sites, c.threshold) or called(c.regions, c.threshold)]
    empty = len(contrasts) - len(found)
    told = [finding(c) for c in found[:_TOLD]]
    return [*told, f"{counted(empty, 'contrast')} found nothing."] if empty else told


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]

"""Numbers and findings as sentences, from the run's record and tables."""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from melisma._plural import count
from melisma.report._study import Contrast

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# The block that names the people found by the identity check.
IDENTITY = "identity"
_SMALL = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def probability(p: float | None) -> str:
    """A p- or q-value as a reader writes it.

    >>> probability(0.0123), probability(0.53), probability(3.2e-6), probability(None)
    ('.012', '.53', '3.2 × 10⁻⁶', '–')
    >>> probability(0.0)
    '< 10⁻³⁰⁰'
    """
    if p is None or math.isnan(p):
        return "–"
    if p < 1e-300:
        return "< 10⁻³⁰⁰"
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


def counted_of(n: int, noun: str) -> str:
    """A count of a noun that may be followed by "of".

    >>> counted_of(2, "exchange of reads")
    '2 exchanges of reads'
    """
    head, *rest = noun.split(" ", 1)
    return " ".join([count(n, head), *rest])


def signed(value: float | None, digits: int = 2) -> str:
    """A signed decimal with a true minus.

    >>> signed(-0.314), signed(0.2)
    ('−0.31', '+0.20')
    """
    if value is None or math.isnan(value):
        return "–"
    return f"{value:+.{digits}f}".replace("-", "−")


def points(delta: float | None) -> str:
    """A difference of levels in signed points of a hundred, small ones with two digits.

    >>> points(-0.314), points(0.0042), points(0.0)
    ('−31', '+0.42', '0')
    """
    if delta is None or math.isnan(delta):
        return "–"
    value = 100 * delta
    if abs(value) >= 1 or not value:
        return signed(value, 0) if value else "0"
    return signed(value, min(1 - math.floor(math.log10(abs(value))), 6))


def fraction(delta: float | None, small: float = 0.01) -> str:
    """A difference of levels from 0 to 1, with two digits those smaller than `small`.

    >>> fraction(-0.314), fraction(0.0042)
    ('−0.31', '+0.0042')
    """
    if delta is None or math.isnan(delta) or abs(delta) >= small or not delta:
        return signed(delta)
    return signed(delta, min(1 - math.floor(math.log10(abs(delta))), 8))


def place(contig: str, start: int, end: int | None = None) -> str:
    """A genomic place, 0-based (half open where it has an end).

    >>> place("chr1", 3053120, 3053480)
    'chr1:3,053,120–3,053,480'
    """
    return f"{contig}:{start:,}" + ("" if end is None else f"–{end:,}")


def named(row: Mapping[str, Any]) -> str:
    """A site or region of a table: its probe, or its place.

    >>> named({"probe": "cg1", "contig": None, "position": None})
    'cg1'
    """
    if row.get("probe"):
        return str(row["probe"])
    start = row["start"] if "end" in row else row["position"]
    return place(str(row["contig"]), int(start), row.get("end"))


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


_LOCATIONS = {"five_prime_UTR": "5′ UTR", "three_prime_UTR": "3′ UTR", "CDS": "coding sequence"}


def gene(row: Mapping[str, Any]) -> str:
    """What genes and islands an annotated row lies in or near; empty where it was not annotated.

    >>> gene({"location": "promoter", "genes": "G1"})
    'promoter of G1'
    >>> gene({"location": "intergenic", "nearest_name": "G2", "tss_distance": -1500})
    '1,500 bases upstream of G2'
    """
    words = []
    location = row.get("location")
    if location and row.get("genes"):
        words.append(f"{_LOCATIONS.get(location, location)} of {row['genes']}")
    elif location and row.get("nearest_name"):
        away = int(row["tss_distance"])
        side = "upstream" if away < 0 else "downstream"
        words.append(f"{count(abs(away), 'base')} {side} of {row['nearest_name']}")
    relation = row.get("island_relation")
    if relation and relation != "open sea":
        words.append(f"CpG {relation}" if relation == "island" else f"{relation} of an island")
    return ", ".join(words)


def term(name: str) -> str:
    """A coefficient or term of the model in running text.

    >>> term("cell[T.b_x]:age"), term("grade")
    ('cell b x × age', 'grade')
    """
    words = re.sub(r"\[(?:T\.)?([^\]]*)\]", r" \1", name)
    return " × ".join(spoken(part.strip()) for part in words.split(":"))


def title(contrast: Contrast) -> str:
    """What a contrast compares, as a heading."""
    if contrast.levels:
        a, b = contrast.levels
        return f"{spoken(str(a))} against {spoken(str(b))}"
    name = term(str(contrast.record.get("label") or contrast.record["name"]))
    if contrast.among:
        return f"{name}: any of {len(contrast.among)} levels"
    return f"{name}: {contrast.record['coefficients']} coefficients" if contrast.joint else name


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


def heading(contrast: Contrast, name: str) -> str:
    """A contrast's name with a capital first, but for a variable's name."""
    return name[:1].upper() + name[1:] if contrast.levels else name


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


def direction(contrast: Contrast, row: Mapping[str, Any]) -> str:
    """Which group is higher and by how many points of a hundred, from a row of a table."""
    delta = row["delta_beta"]
    if delta is None or math.isnan(delta):
        return "several coefficients have no one size" if contrast.joint else "size not estimated"
    word = "lower" if delta < 0 else "higher"
    if contrast.slope:
        size = points(abs(delta)).lstrip("+")
        noun = "point" if size == "1" else "points"
        unit = term(str(contrast.record.get("column") or "it"))
        return f"{size} {noun} {word} per unit of {unit}"
    whole = round(100 * abs(delta))
    size = count(whole, "point") if whole else "less than a point"
    if contrast.joint:
        late, early = pair(contrast, row)
        return f"{spoken(late)} is {size} {word} than {spoken(early)}"
    levels = contrast.levels or ["it"]
    return f"{spoken(str(levels[0]))} is {size} {word}"


def pair(contrast: Contrast, row: Mapping[str, Any]) -> tuple[str, str]:
    """The two levels of a factor between which a row's difference lies, the later first."""
    for late in contrast.among:
        for early in contrast.among:
            if row.get("between") == f"{late} - {early}":
                return late, early
    return str(row.get("between")), "the others"


def interval(low: float | None, high: float | None, digits: int = 0) -> str:
    """A 95% confidence interval of a difference in levels, in points; empty where there is none.

    >>> interval(-0.19, -0.004), interval(0.0091, 0.0104, 2)
    ('−19 to 0', '+0.91 to +1.04')
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    ends = (signed(100 * v, digits) if round(100 * v, digits) else "0" for v in (low, high))
    return " to ".join(ends)


def smallest(table: pl.DataFrame | None) -> float | None:
    """The smallest q of a table, None where there is none."""
    if table is None or table.is_empty():
        return None
    found = table["q"].fill_nan(None).min()
    return None if found is None else float(found)  # pyright: ignore[reportArgumentType]


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

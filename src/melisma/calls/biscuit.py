"""BISCUIT's BED of one sample: a level of three decimals and the coverage, 0-based.

`vcf2bed -e` adds the base, which gives the strand, and the context; `mergecg` sums the strands of
a CpG and adds both strands' own counts. M is the coverage times the level, rounded.
"""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind, Strandless
from melisma.calls._lines import is_number, is_share, mostly, rows_of, width_of

_BED = (
    Column("chrom", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
)
_CONTEXT = (
    Column("base", Kind.BASE),
    Column("context", Kind.CONTEXT),
    Column("two bases"),
    Column("five bases"),
)
_COUNTS = (Column("beta", Kind.LEVEL), Column("coverage", Kind.COVERAGE))
# The level is rounded to three decimals.
_ERROR = 0.001


def is_level_and_depth(row: Sequence[str], width: int, at: int) -> bool:
    """Whether a row is of that width and has at `at` a fraction that its depth allows."""
    return (
        len(row) > at + 1
        and width_of(row) == width
        and is_share(row[at], row[at + 1], scale=1, error=_ERROR)
    )


def _reason(lines: Sequence[bytes]) -> str | None:
    rows = rows_of(lines)
    if not mostly(rows, lambda row: len(row) == 5 and is_level_and_depth(row, 1, 3)):
        return None
    # Levels of 0 alone could be percentages too.
    told = any(is_number(row[3]) and float(row[3]) for row in rows if len(row) == 5)
    return "5 columns: an end one base on, a fraction, a coverage that allows it" if told else None


def _context_reason(lines: Sequence[bytes]) -> str | None:
    fits = mostly(
        rows_of(lines),
        lambda row: len(row) == 9 and row[3] in ("C", "G") and is_level_and_depth(row, 1, 7),
    )
    return "9 columns: a base C or G, its context, a fraction, a coverage" if fits else None


def _merged_reason(lines: Sequence[bytes]) -> str | None:
    fits = mostly(
        rows_of(lines),
        lambda row: len(row) == 6 and row[5].startswith("C:") and is_level_and_depth(row, 2, 3),
    )
    return "6 columns: an end two bases on, a fraction, a coverage, each strand's" if fits else None


BISCUIT = Format(
    name="biscuit",
    title="BISCUIT vcf2bed",
    base=0,
    evidence="literals from the tool's source; calls written and read back",
    tested="literals and round trips",
    sniff=_reason,
    columns=(*_BED, *_COUNTS),
    counts=Counts.LEVEL_COVERAGE,
    percent=False,
    tolerance=_ERROR,
)
BISCUIT_CONTEXT = BISCUIT._replace(
    name="biscuit-context",
    title="BISCUIT vcf2bed -e",
    sniff=_context_reason,
    columns=(*_BED, *_CONTEXT, *_COUNTS),
)
BISCUIT_MERGED = BISCUIT._replace(
    name="biscuit-merged",
    title="BISCUIT mergecg",
    sniff=_merged_reason,
    columns=(*_BED, *_COUNTS, Column("C and G")),
    width=2,
    strandless=Strandless.MERGED,
)

"""ENCODE's bedMethyl of 9 + 2 columns: the coverage and a whole percentage.

M is the coverage times the percentage, rounded: exact below 100 reads, and above them off by up to
half a percent of the coverage, as the percentage is rounded.
"""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind
from melisma.calls._lines import is_integer, is_number, mostly, rows_of, width_of
from melisma.errors import MelismaError
from melisma.methylome import parse_mark

_COLUMNS = (
    Column("chrom", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
    Column("name"),
    Column("score"),
    Column("strand", Kind.STRAND),
    Column("thick start"),
    Column("thick end"),
    Column("colour"),
    Column("coverage", Kind.COVERAGE),
    Column("percent methylated", Kind.LEVEL),
)


def is_nine_and_two(row: Sequence[str]) -> bool:
    """Whether a row has the nine columns of BED, a count and a percentage."""
    return (
        len(row) == len(_COLUMNS)
        and width_of(row) == 1
        and row[5] in ("+", "-", ".")
        and is_integer(row[9])
        and is_number(row[10])
        and 0 <= float(row[10]) <= 100
    )


def names_a_mark(row: Sequence[str]) -> bool:
    """Whether column 4 is a modification, as in modbam2bed's and not in ENCODE's files."""
    try:
        parse_mark(row[3])
    except MelismaError:
        return False
    return True


def _reason(lines: Sequence[bytes]) -> str | None:
    rows = rows_of(lines, spaces_from=8)
    fits = mostly(rows, lambda row: is_nine_and_two(row) and not names_a_mark(row))
    return "11 columns: nine of BED, a coverage, a percentage" if fits else None


ENCODE_BEDMETHYL = Format(
    name="encode-bedmethyl",
    title="ENCODE bedMethyl of 9 + 2 columns",
    base=0,
    evidence="literals from the specification; calls written and read back",
    tested="literals and round trips",
    sniff=_reason,
    columns=_COLUMNS,
    counts=Counts.LEVEL_COVERAGE,
    tolerance=1.0,
    spaces_from=8,
)

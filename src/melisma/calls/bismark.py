"""Bismark coverage files (.cov): 1-based positions without a strand, and both counts."""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind
from melisma.calls._lines import is_integer, is_number, mostly, rows_of

_COLUMNS = (
    Column("chromosome", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
    Column("percent methylated", Kind.LEVEL),
    Column("methylated", Kind.METHYLATED),
    Column("unmethylated", Kind.UNMETHYLATED),
)


def _reason(lines: Sequence[bytes]) -> str | None:
    fits = mostly(
        rows_of(lines),
        lambda row: (
            len(row) == len(_COLUMNS)
            and is_integer(row[1], row[2], row[4], row[5])
            and is_number(row[3])
            and row[1] == row[2]
        ),
    )
    return "6 columns: start and end equal, a percentage, two counts" if fits else None


BISMARK_COV = Format(
    name="bismark-cov",
    title="Bismark coverage",
    base=1,
    evidence="literals from the specification; IMR90 and lupus calls written and read back",
    sniff=_reason,
    columns=_COLUMNS,
    counts=Counts.METHYLATED_UNMETHYLATED,
    width=0,
)

"""ALLC, as methylpy and ALLCools write it: a row a cytosine, with the bases from it on.

The context is read from three bases; of others, such as with a base before the C, it is unknown.
The flag of column 7 says whether the site is methylated by a test, or is 1 where none was done.
"""

import re
from collections.abc import Sequence

from melisma.calls._format import Column, Format, Kind
from melisma.calls._lines import is_integer, mostly, rows_of

_COLUMNS = (
    Column("chromosome", Kind.CONTIG),
    Column("position", Kind.POSITION),
    Column("strand", Kind.STRAND),
    Column("sequence context", Kind.CONTEXT),
    Column("mc", Kind.METHYLATED),
    Column("cov", Kind.COVERAGE),
    Column("methylated", Kind.FLAG),
)
_MATCHES = (Column("matches"), Column("mismatches"))


def _fits(row: Sequence[str]) -> bool:
    return (
        len(row) in (7, 9)
        and is_integer(row[1], row[4], row[5])
        and row[2] in ("+", "-")
        and bool(re.fullmatch("[A-Za-z]{2,}", row[3]))
        and row[6] in ("0", "1")
    )


ALLC = Format(
    name="allc",
    title="ALLC of methylpy and ALLCools",
    base=1,
    evidence="literals from the specification; Arabidopsis calls written and read back",
    tested="literals and round trips",
    sniff=lambda lines: (
        "a position, a strand, a context, counts, a flag of 0 or 1"
        if mostly(rows_of(lines), _fits)
        else None
    ),
    columns=_COLUMNS,
    layouts=((*_COLUMNS, *_MATCHES),),
)

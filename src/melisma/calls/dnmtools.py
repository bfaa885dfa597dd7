"""dnmtools counts (methcounts of MethPipe): 0-based, with strand, context, level and reads.

An x after the context says that the other strand's reads show a mutation, so that the base may be
no C in this sample: such rows are left out and counted. `dnmtools sym` sums CpGs on their + strand
and still writes `+`: read with --merge-strands, the calls are taken as merged.
"""

import re
from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind
from melisma.calls._lines import is_integer, is_number, mostly, rows_of

_COLUMNS = (
    Column("chromosome", Kind.CONTIG),
    Column("position", Kind.POSITION),
    Column("strand", Kind.STRAND),
    Column("context", Kind.CONTEXT),
    Column("level", Kind.LEVEL),
    Column("reads", Kind.COVERAGE),
)


def _fits(row: Sequence[str]) -> bool:
    return (
        len(row) == len(_COLUMNS)
        and is_integer(row[1], row[5])
        and row[2] in ("+", "-")
        and bool(re.fullmatch("C[A-Za-z]{2}x?|N", row[3]))
        and is_number(row[4])
        and 0 <= float(row[4]) <= 1
    )


DNMTOOLS = Format(
    name="dnmtools",
    title="dnmtools counts",
    base=0,
    evidence="literals from the tool's source; Arabidopsis calls written and read back",
    tested="literals and round trips",
    sniff=lambda lines: (
        "6 columns: a position, a strand, a context, a fraction, reads"
        if mostly(rows_of(lines), _fits)
        else None
    ),
    columns=_COLUMNS,
    counts=Counts.LEVEL_COVERAGE,
    percent=False,
    tolerance=0.001,
)

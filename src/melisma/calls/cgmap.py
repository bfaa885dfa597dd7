"""CGmap, as CGmapTools and BS-Seeker write it: the base gives the strand, and a context."""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind
from melisma.calls._lines import is_integer, is_number, mostly, rows_of

_COLUMNS = (
    Column("chromosome", Kind.CONTIG),
    Column("nucleotide", Kind.BASE),
    Column("position", Kind.POSITION),
    Column("context", Kind.CONTEXT),
    Column("dinucleotide"),
    Column("level", Kind.LEVEL),
    Column("methylated", Kind.METHYLATED),
    Column("coverage", Kind.COVERAGE),
)


def _reason(lines: Sequence[bytes]) -> str | None:
    fits = mostly(
        rows_of(lines),
        lambda row: (
            len(row) == len(_COLUMNS)
            and row[1] in ("C", "G")
            and is_integer(row[2], row[6], row[7])
            and is_number(row[5])
        ),
    )
    return "8 columns: the base C or G, a position, a context, a level, counts" if fits else None


CGMAP = Format(
    name="cgmap",
    title="CGmap of BS-Seeker",
    base=1,
    evidence="real file: 110,927 cytosines of Arabidopsis Col-0 by BS-Seeker",
    sniff=_reason,
    columns=_COLUMNS,
    counts=Counts.METHYLATED_COVERAGE,
    percent=False,
)

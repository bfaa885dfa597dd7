"""bedMethyl of modbam2bed, the predecessor of modkit: canonical comes before modified.

Column 10 is the whole depth, deletions and substitutions included. The counts follow with its
option --extended: canonical, modified and filtered, since 0.7 no-call, since 0.9 other
modifications, which are valid reads too. Rows that sum the strands span the CpG (or CHG), with
strand `.`. A percentage of no reads is written nan.
"""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind, Strandless
from melisma.calls._lines import is_integer, is_number, mostly, rows_of, width_of

_BED = (
    Column("chrom", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
    Column("modification", Kind.CODE),
    Column("score"),
    Column("strand", Kind.STRAND),
    Column("thick start"),
    Column("thick end"),
    Column("colour"),
    Column("depth", Kind.COVERAGE),
    Column("percent modified", Kind.LEVEL),
    Column("N canonical", Kind.UNMETHYLATED),
    Column("N modified", Kind.METHYLATED),
    Column("N filtered"),
)
_NO_CALL, _OTHER = Column("N no-call"), Column("N other mod", Kind.OTHER)
_LAYOUTS = (_BED, (*_BED, _NO_CALL, _OTHER))


def _fits(row: Sequence[str]) -> bool:
    return (
        14 <= len(row) <= 16
        and width_of(row) in (1, 2, 3)
        and row[5] in ("+", "-", ".")
        and is_integer(row[9], *row[11:])
        and (is_number(row[10]) or "nan" in row[10].lower())
    )


def _reason(lines: Sequence[bytes]) -> str | None:
    rows = rows_of(lines, spaces_from=8)
    if not mostly(rows, _fits):
        return None
    columns = next(len(row) for row in rows if _fits(row))
    return f"{columns} columns: nine of BED, a depth, a percentage, then counts"


MODBAM2BED = Format(
    name="modbam2bed",
    title="bedMethyl of modbam2bed",
    base=0,
    evidence="literals from the tool's documentation; calls written and read back",
    tested="literals and round trips",
    sniff=_reason,
    columns=(*_BED, _NO_CALL),
    layouts=_LAYOUTS,
    counts=Counts.WITHIN_DEPTH,
    widest=3,
    spaces_from=8,
    strandless=Strandless.MERGED,
)

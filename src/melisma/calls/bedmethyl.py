"""bedMethyl, as modkit pileup writes it: 18 columns, or 21 in older releases.

Columns 10 on are separated by spaces in older files. N valid is modified + canonical + other;
each code at a position is a row of its own that shares N valid with the others.
"""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind, Strandless
from melisma.calls._lines import is_integer, mostly, rows_of
from melisma.errors import MelismaError
from melisma.methylome import parse_mark

_BED = (
    Column("chrom", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
    Column("code", Kind.CODE),
    Column("score"),
    Column("strand", Kind.STRAND),
    Column("thick start"),
    Column("thick end"),
    Column("colour"),
)
_COUNTS = (
    Column("N valid", Kind.COVERAGE),
    Column("percent modified", Kind.LEVEL),
    Column("N modified", Kind.METHYLATED),
    Column("N canonical", Kind.UNMETHYLATED),
    Column("N other mod", Kind.OTHER),
    Column("N delete"),
    Column("N fail"),
    Column("N diff"),
    Column("N no-call"),
)
_BED12 = (Column("block count"), Column("block sizes"), Column("block starts"))


def _is_bed(fields: Sequence[str]) -> bool:
    return (
        len(fields) > 5
        and is_integer(fields[1], fields[2])
        and int(fields[2]) == int(fields[1]) + 1
        and fields[5] in ("+", "-", ".")
    )


def _reason(lines: Sequence[bytes], columns: int) -> str | None:
    rows = rows_of(lines, spaces_from=len(_BED) - 1)
    if not mostly(rows, lambda row: len(row) == columns and _is_bed(row)):
        return None
    code = next(row[3] for row in rows if len(row) == columns).split(",")[0]
    try:
        code = f"{code!r} ({parse_mark(code).name})"
    except MelismaError:
        code = repr(code)
    return (
        f"{columns} columns: 0-based starts with an end one further on, a modification code "
        f"{code} in column 4, a strand in column 6"
    )


BEDMETHYL = Format(
    name="bedmethyl",
    title="bedMethyl of modkit pileup",
    base=0,
    evidence="real files: modkit pileup (5mC and 5hmC, strands apart and combined; any C of lung)",
    sniff=lambda lines: _reason(lines, len(_BED) + len(_COUNTS)),
    columns=_BED + _COUNTS,
    counts=Counts.VALID_SUM,
    spaces_from=len(_BED) - 1,
    strandless=Strandless.MERGED,
)
BEDMETHYL_21 = BEDMETHYL._replace(
    name="bedmethyl21",
    title="bedMethyl of 21 columns (older modkit)",
    evidence="real file: an older modkit pileup of 5mC and 5hmC",
    sniff=lambda lines: _reason(lines, len(_BED) + len(_BED12) + len(_COUNTS)),
    columns=_BED + _BED12 + _COUNTS,
)

"""DSS's text calls: a header chr, pos, N, X; N is the coverage and X the methylated reads."""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind
from melisma.calls._lines import header_of

_COLUMNS = (
    Column("chr", Kind.CONTIG),
    Column("pos", Kind.POSITION),
    Column("N", Kind.COVERAGE),
    Column("X", Kind.METHYLATED),
)
_HEADER = ("chr", "pos", "n", "x")


def _reason(lines: Sequence[bytes]) -> str | None:
    return "the header chr, pos, N, X" if header_of(lines) == _HEADER else None


DSS = Format(
    name="dss",
    title="DSS text",
    base=1,
    evidence="real files: four samples of the DSS package",
    sniff=_reason,
    columns=_COLUMNS,
    counts=Counts.METHYLATED_COVERAGE,
    spaces_from=0,
    header=_HEADER,
)

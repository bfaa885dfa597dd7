"""methylKit's text calls, as it and MethylDackel write them: a header, a coverage, percentages."""

from collections.abc import Sequence

from melisma.calls._format import Column, Counts, Format, Kind
from melisma.calls._lines import header_of

_COLUMNS = (
    Column("chrBase"),
    Column("chr", Kind.CONTIG),
    Column("base", Kind.POSITION),
    Column("strand", Kind.STRAND),
    Column("coverage", Kind.COVERAGE),
    Column("freqC", Kind.LEVEL),
    Column("freqT", Kind.LEVEL_UNMETHYLATED),
)
_HEADER = ("chrbase", "chr", "base", "strand", "coverage", "freqc", "freqt")


def _reason(lines: Sequence[bytes]) -> str | None:
    fits = header_of(lines) == _HEADER
    return "the header chrBase, chr, base, strand, coverage, freqC, freqT" if fits else None


METHYLKIT = Format(
    name="methylkit",
    title="methylKit text",
    base=1,
    evidence="real files: four RRBS samples of the methylKit package",
    sniff=_reason,
    columns=_COLUMNS,
    counts=Counts.PERCENTS,
    header=_HEADER,
    # MethylDackel pads the percentages with spaces.
    spaces_from=4,
)

"""Bismark's coverage files and cytosine reports.

`.cov` is 1-based with start = end; `.zero.cov` is 0-based and half open; the CpGs that
coverage2cytosine merges are 1-based from C to G, so that their rows look like a `.zero.cov` one
base further on. None has a strand. Cytosine reports have strand and context, and every cytosine,
seen or not; --ffs adds three columns of sequence.
"""

from collections.abc import Sequence

from melisma.calls._bedgraph import MERGED_COV, ZERO_COV, writers
from melisma.calls._format import Column, Counts, Format, Kind, Strandless
from melisma.calls._lines import is_integer, is_number, mostly, rows_of

_COLUMNS = (
    Column("chromosome", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
    Column("percent methylated", Kind.LEVEL),
    Column("methylated", Kind.METHYLATED),
    Column("unmethylated", Kind.UNMETHYLATED),
)
_REPORT = (
    Column("chromosome", Kind.CONTIG),
    Column("position", Kind.POSITION),
    Column("strand", Kind.STRAND),
    Column("methylated", Kind.METHYLATED),
    Column("unmethylated", Kind.UNMETHYLATED),
    Column("context", Kind.CONTEXT),
    Column("trinucleotide"),
)
_SEQUENCE = (Column("tetranucleotide"), Column("pentanucleotide"), Column("hexanucleotide"))


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


def _report_reason(lines: Sequence[bytes]) -> str | None:
    fits = mostly(
        rows_of(lines),
        lambda row: (
            len(row) in (7, 10)
            and row[2] in ("+", "-")
            and is_integer(row[1], row[3], row[4])
            and row[5][:1] == "C"
        ),
    )
    return "a position, a strand, two counts, a context, a trinucleotide" if fits else None


BISMARK_COV = Format(
    name="bismark-cov",
    title="Bismark coverage",
    base=1,
    evidence="literals from the specification; IMR90 and lupus calls written and read back",
    tested="literals and round trips",
    sniff=_reason,
    columns=_COLUMNS,
    counts=Counts.METHYLATED_UNMETHYLATED,
    width=0,
)
BISMARK_ZERO_COV = BISMARK_COV._replace(
    name=ZERO_COV,
    title="Bismark coverage, 0-based (.zero.cov)",
    base=0,
    evidence="literals from the specification; calls written and read back",
    sniff=lambda lines: writers(lines).get(ZERO_COV),
    width=1,
)
BISMARK_MERGED_COV = BISMARK_ZERO_COV._replace(
    name=MERGED_COV,
    title="Bismark coverage of merged CpGs",
    base=1,
    sniff=lambda lines: writers(lines).get(MERGED_COV),
    strandless=Strandless.MERGED,
)
BISMARK_REPORT = Format(
    name="bismark-report",
    title="Bismark cytosine report",
    base=1,
    evidence="literals from the specification; Arabidopsis calls written and read back",
    tested="literals and round trips",
    sniff=_report_reason,
    columns=_REPORT,
    layouts=((*_REPORT, *_SEQUENCE),),
    counts=Counts.METHYLATED_UNMETHYLATED,
)

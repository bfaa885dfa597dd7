"""MethylDackel's bedGraph: 0-based, a whole percentage that is cut, both counts, no strand.

Each context is a file of its own, all alike. With --mergeContext a row is a CpG of two bases, or a
CHG of three, with both strands summed. BISCUIT's `vcf2bed -c` writes the same columns. Its
--cytosine_report is read as `bismark-report`, its --methylKit as `methylkit`.
"""

from melisma.calls._bedgraph import BASES, MERGED, writers
from melisma.calls._format import Column, Counts, Format, Kind, Strandless

COLUMNS = (
    Column("chrom", Kind.CONTIG),
    Column("start", Kind.POSITION),
    Column("end", Kind.END),
    Column("percent methylated", Kind.LEVEL),
    Column("methylated", Kind.METHYLATED),
    Column("unmethylated", Kind.UNMETHYLATED),
)

METHYLDACKEL = Format(
    name=BASES,
    title="MethylDackel bedGraph",
    base=0,
    evidence="literals from the tool's source; calls written and read back",
    tested="literals and round trips",
    sniff=lambda lines: writers(lines).get(BASES),
    columns=COLUMNS,
    counts=Counts.METHYLATED_UNMETHYLATED,
)
METHYLDACKEL_MERGED = METHYLDACKEL._replace(
    name=MERGED,
    title="MethylDackel bedGraph of merged strands",
    sniff=lambda lines: writers(lines).get(MERGED),
    width=2,
    widest=3,
    strandless=Strandless.MERGED,
)

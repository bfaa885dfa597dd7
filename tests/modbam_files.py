"""What the tests of modBAM reading share: small BAMs, and a pileup as a dictionary."""

from array import array
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam

from melisma.calls._modbam_window import COUNTS
from melisma.calls.modbam import pileup
from melisma.methylome import MARKS


class Read(NamedTuple):
    """An alignment to write; the sequence is as the BAM stores it."""

    sequence: str
    mm: str | None
    ml: tuple[int, ...] | None = ()
    cigar: str | None = None
    start: int = 10
    flag: int = 0
    mn: int | None = None
    contig: str = "chr1"


def bam(folder: Path, *reads: Read, index: bool = True, lengths: dict[str, int] | None = None):
    path = folder / "toy.bam"
    lengths = lengths or {"chr1": 60, "chr2": 60}
    header = pysam.AlignmentHeader.from_references(list(lengths), list(lengths.values()))
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for i, read in sorted(enumerate(reads), key=lambda x: (x[1].contig, x[1].start)):
            line = pysam.AlignedSegment(header)
            line.query_name, line.flag = f"read{i}", read.flag
            line.reference_id = list(lengths).index(read.contig)
            line.reference_start = read.start
            if not read.flag & 4:
                line.cigarstring = read.cigar or f"{len(read.sequence)}M"
            line.query_sequence = read.sequence
            if read.mm is not None:
                line.set_tag("MM", read.mm)
            if read.ml is not None:
                line.set_tag("ML", array("B", read.ml))
            if read.mn is not None:
                line.set_tag("MN", read.mn)
            file.write(line)
    if index:
        pysam.index(str(path))
    return path


def rows(path: Path, contig: str = "chr1", **options) -> dict[tuple[int, str, str], list[int]]:
    """Coverage, methylated, canonical and other of each (position, strand, code) of a contig."""
    return {key: counts[:4] for key, counts in all_rows(path, contig, **options).items()}


def all_rows(path: Path, contig: str = "chr1", **options) -> dict[tuple[int, str, str], list[int]]:
    found = {}
    for part in pileup(path, **options):
        keys = list(zip(part.position.tolist(), part.strand.tolist(), part.mark, strict=True))
        assert keys == sorted(set(keys))
        assert (part.coverage == part.methylated + part.canonical + part.other).all()
        counts = np.stack([getattr(part, name) for name in COUNTS], axis=1).tolist()
        if part.contig == contig:
            found |= {
                (position, "+" if strand > 0 else "-", MARKS[mark].code): count
                for (position, strand, mark), count in zip(keys, counts, strict=True)
            }
    return found

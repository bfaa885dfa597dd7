"""The formats of one row a call: their columns, and every sample's file written in one walk.

Columns are those of the tools' own documents, as `melisma.calls` reads them back.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from melisma.errors import MelismaError
from melisma.export._bgzf import TextFile
from melisma.export._format import ExportFormat, Names, check_context
from melisma.export._reference import LETTERS, Reference
from melisma.export._rows import (
    Field,
    Layout,
    Number,
    Share,
    Sites,
    Slot,
    Word,
    layout,
    write_rows,
)
from melisma.export._selection import Selection
from melisma.export._walk import Stretch, walk
from melisma.methylome import UNKNOWN_CONTEXT

# Text formatted at a time by one thread: what a processor's cache can hold.
_BLOCK_BYTES = 1 << 20
_POSITION, _ONE_BASED = Number(Slot.POSITION), Number(Slot.POSITION, 1)
_PERCENT, _LEVEL = Share(Slot.METHYLATED), Share(Slot.METHYLATED, 1)
_METHYLATED, _COVERAGE = Number(Slot.METHYLATED), Number(Slot.COVERAGE)
_UNMETHYLATED = Number(Slot.UNMETHYLATED)
_SIGNS = Word(("-", ".", "+"), Slot.STRAND)
# A merged CpG stands on its + strand cytosine.
_STRANDS, _BASES = Word(("-", "+", "+"), Slot.STRAND), Word(("G", "C", "C"), Slot.STRAND)
_CLASSES = ("CGN", "CHG", "CHH", "CNN")


def _contig(names: Names) -> Word:
    return Word(names.contigs, Slot.CONTIG)


def _trinucleotide(names: Names) -> Word:
    """The cytosine and the two bases after it, or the letters that its context allows."""
    if not names.exact:
        return Word(_CLASSES, Slot.LETTERS)
    return Word([f"C{one}{two}" for one in LETTERS for two in LETTERS], Slot.LETTERS)


def _dinucleotide(names: Names) -> Word:
    if not names.exact:
        return Word(("CG", "--", "--", "--"), Slot.LETTERS)
    return Word([f"C{one}" for one in LETTERS for _ in LETTERS], Slot.LETTERS)


def _bedmethyl(names: Names) -> list[Field | list[Field]]:
    bed: list[Field | list[Field]] = [_contig(names), _POSITION, _ONE_BASED]
    bed += [Word(names.marks, Slot.MARK), _COVERAGE, _SIGNS, _POSITION, _ONE_BASED]
    counts: list[Field | list[Field]] = [Word(["255,0,0"]), _COVERAGE, _PERCENT, _METHYLATED]
    counts += [Number(Slot.CANONICAL), Number(Slot.OTHER), Word(["0\t0\t0\t0"])]
    return bed + counts


def _bismark_cov(names: Names) -> list[Field | list[Field]]:
    return [_contig(names), _ONE_BASED, _ONE_BASED, _PERCENT, _METHYLATED, _UNMETHYLATED]


def _bismark_report(names: Names) -> list[Field | list[Field]]:
    context = Word(("CG", "CHG", "CHH", "CN"), Slot.CONTEXT)
    letters = _trinucleotide(names)
    return [_contig(names), _ONE_BASED, _STRANDS, _METHYLATED, _UNMETHYLATED, context, letters]


def _methylkit(names: Names) -> list[Field | list[Field]]:
    strand = Word(("R", "*", "F"), Slot.STRAND)
    site: list[Field] = [_contig(names), Word(["."]), _ONE_BASED]
    shares = [_PERCENT, Share(Slot.UNMETHYLATED)]
    return [site, _contig(names), _ONE_BASED, strand, _COVERAGE, *shares]


def _dss(names: Names) -> list[Field | list[Field]]:
    return [_contig(names), _ONE_BASED, _COVERAGE, _METHYLATED]


def _allc(names: Names) -> list[Field | list[Field]]:
    letters = _trinucleotide(names)
    return [_contig(names), _ONE_BASED, _STRANDS, letters, _METHYLATED, _COVERAGE, Word(["1"])]


def _cgmap(names: Names) -> list[Field | list[Field]]:
    context = Word(("CG", "CHG", "CHH", "--"), Slot.CONTEXT)
    site = [_contig(names), _BASES, _ONE_BASED, context, _dinucleotide(names)]
    return [*site, _LEVEL, _METHYLATED, _COVERAGE]


BEDMETHYL = ExportFormat(
    "bedmethyl", "bedMethyl", ".bed", "bedmethyl", marks=True, strands=True, columns=_bedmethyl
)
BISMARK_COV = ExportFormat(
    "bismark-cov", "Bismark coverage", ".cov", "bismark-cov", cytosines=True, columns=_bismark_cov
)
BISMARK_REPORT = ExportFormat(
    "bismark-report",
    "Bismark's cytosine report",
    ".CX_report.txt",
    "bismark-report",
    cytosines=True,
    strands=True,
    needs_strand=True,
    contexts=True,
    needs_context=True,
    uncovered=True,
    columns=_bismark_report,
)
METHYLKIT = ExportFormat(
    "methylkit",
    "methylKit text",
    ".methylkit.txt",
    "methylkit",
    cytosines=True,
    strands=True,
    columns=_methylkit,
    header="chrBase\tchr\tbase\tstrand\tcoverage\tfreqC\tfreqT\n",
)
DSS = ExportFormat("dss", "DSS text", ".dss.txt", "dss", columns=_dss, header="chr\tpos\tN\tX\n")
ALLC = ExportFormat(
    "allc",
    "ALLC",
    ".allc.tsv",
    "allc",
    cytosines=True,
    strands=True,
    needs_strand=True,
    contexts=True,
    columns=_allc,
)
CGMAP = ExportFormat(
    "cgmap",
    "CGmap",
    ".CGmap",
    "cgmap",
    cytosines=True,
    strands=True,
    needs_strand=True,
    contexts=True,
    columns=_cgmap,
)
TEXT_FORMATS = (BEDMETHYL, BISMARK_COV, BISMARK_REPORT, METHYLKIT, DSS, ALLC, CGMAP)


class Written(NamedTuple):
    """What was written: rows of each sample, and cells whose marks exceed the coverage."""

    rows: list[int]
    clashing: int


def write_text(
    form: ExportFormat,
    selection: Selection,
    files: Sequence[Path],
    *,
    reference: Reference | None,
    bgzip: bool,
    workers: int,
    advance: Callable[[float], Any],
) -> Written:
    """Write one file a sample, (samples,) paths that do not exist, in one walk of the store.

    Raises
    ------
    MelismaError
        The format needs contexts that are not known, or two sites would be one row.
    """
    outs = [TextFile(path, bgzip=bgzip) for path in files]
    attrs = selection.methylome.attrs
    assert form.columns is not None
    laid = layout(form.columns(Names(attrs["contigs"], attrs["marks"], reference is not None)))
    for out in outs:
        out.append(form.header.encode())
    rows, clashing = np.zeros(len(outs), dtype=np.int64), 0
    last = None
    with ThreadPoolExecutor(workers) as pool:
        for stretch in walk(selection, reference):
            check_context(
                form, reference is None and bool((stretch.context == UNKNOWN_CONTEXT).any())
            )
            last = _check_distinct(form, stretch, attrs["contigs"], last)
            sites = _sites(stretch)
            jobs = [
                pool.submit(_write_sample, form, stretch, sites, k, laid, out)
                for k, out in enumerate(outs)
            ]
            rows += [job.result() for job in jobs]
            clashing += stretch.clashing
            advance(len(stretch))
        list(pool.map(TextFile.finish, outs))
    return Written([int(n) for n in rows], clashing)


def _sites(stretch: Stretch) -> Sites:
    """A stretch's columns as the kernel takes them; without a genome, letters are the context."""
    letters = stretch.context if stretch.letters is None else stretch.letters
    arrays = (stretch.contig, stretch.position, stretch.strand + 1, stretch.mark)
    return Sites(*(np.asarray(a, dtype=np.int64) for a in (*arrays, stretch.context, letters)))


def _write_sample(
    form: ExportFormat, stretch: Stretch, sites: Sites, sample: int, laid: Layout, out: TextFile
) -> int:
    text = np.empty(max(_BLOCK_BYTES, 4 * laid.longest), dtype=np.uint8)
    counts: Any = stretch.counts(sample)
    start = rows = 0
    while start < len(stretch):
        start, size, written = write_rows(
            start, sites, counts, laid, text, uncovered=form.uncovered
        )
        out.append(text[:size].data)
        rows += written
    return rows


def _check_distinct(
    form: ExportFormat, stretch: Stretch, contigs: Sequence[str], last: tuple[int, int] | None
) -> tuple[int, int]:
    """Refuse two sites of one position where the format cannot tell them apart."""
    contig, position = stretch.contig, stretch.position
    if not form.strands:
        same = (contig[1:] == contig[:-1]) & (position[1:] == position[:-1])
        first = last == (int(contig[0]), int(position[0]))
        if first or same.any():
            i = 0 if first else int(np.argmax(same))
            raise MelismaError(
                f"The store has both strands of {contigs[contig[i]]}:{position[i]} (0-based), and "
                f"{form.title} has no strand to tell them apart: use --to bedmethyl."
            )
    return int(contig[-1]), int(position[-1])

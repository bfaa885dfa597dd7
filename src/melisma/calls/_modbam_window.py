"""One window of a modBAM to counts: the part of `modbam` that worker processes run."""

import signal
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pysam

from melisma._htslib import quiet_htslib
from melisma.calls import _modbam_kernels as kernels
from melisma.calls._modbam_tags import TagReader
from melisma.errors import MelismaError
from melisma.methylome import MARKS, Mark

# Rows of `WindowRows.counts`.
COUNTS = ("coverage", "methylated", "canonical", "other", "delete", "fail", "diff", "nocall")


class Window(NamedTuple):
    """A stretch of a contig, 0-based and half open."""

    contig: str
    start: int
    end: int


class WindowRows(NamedTuple):
    """The rows of a window, sorted by position, strand and mark; `counts` is (COUNTS, rows)."""

    window: Window
    position: npt.NDArray[np.int32]
    strand: npt.NDArray[np.int8]
    mark: npt.NDArray[np.int8]
    counts: npt.NDArray[np.uint32]


class WindowCounter:
    """Counts the windows of one BAM; each process has one of its own."""

    def __init__(self, path: Path, mark: Mark | None, min_probability: float) -> None:
        self._bam = open_bam(path)
        self._path, self._mark = path, mark
        self._min_score = min_probability * 512
        self._tags = TagReader(path.name, mark)

    def count(self, window: Window) -> WindowRows:
        """Rows of every (position, strand, mark) that a read of the window tells about."""
        counts = np.zeros((2, window.end - window.start, kernels.CHANNELS), np.uint32)
        try:
            for read in self._bam.fetch(*window):
                if counts_in(read):
                    self._add(read, window, counts)
        except OSError as error:
            raise MelismaError(
                f"{self._path} cannot be read at {window.contig}:{window.start}-{window.end} "
                f"({error}): it is truncated or damaged; copy it again."
            ) from None
        return self._rows(window, counts)

    def _add(
        self, read: pysam.AlignedSegment, window: Window, counts: npt.NDArray[np.uint32]
    ) -> None:
        # bytearray: numba compiles read-only arrays apart.
        query = np.frombuffer(bytearray((read.query_sequence or "").encode()), np.uint8)
        groups = self._tags.groups(read, len(query))
        if groups is None:
            return
        # Twice as fast as np.array, which looks at every pair first.
        cigar = np.fromiter(chain.from_iterable(read.cigartuples or ()), np.int64).reshape(-1, 2)
        if not len(query) or read.query_length != len(query):
            raise self._tags.refuse(
                read, "it has an MM tag and no sequence: keep the sequences of primary alignments."
            )
        status = kernels.count_read(
            counts,
            window.start,
            query,
            read.is_reverse,
            read.reference_start,
            np.ascontiguousarray(cigar[:, 0]),
            np.ascontiguousarray(cigar[:, 1]),
            *groups,
            self._min_score,
        )
        if status == kernels.TOO_MANY_CALLS:
            raise self._tags.refuse(
                read,
                "its MM tag counts more bases than its sequence has: the sequence was changed "
                "after calling; keep the basecaller's sequence, or repair the tags.",
            )

    def _rows(self, window: Window, counts: npt.NDArray[np.uint32]) -> WindowRows:
        told = counts[:, :, kernels.TOLD]
        parts: list[tuple[npt.NDArray[np.integer], int, int, npt.NDArray[np.uint32]]] = []
        wanted = MARKS if self._mark is None else (self._mark,)
        for side, strand in ((0, -1), (1, 1)):
            touched = np.flatnonzero(told[side])
            for slot, mark in enumerate(MARKS):
                if mark in wanted:
                    here = touched[(told[side, touched] >> slot) & 1 == 1]
                    parts.append((here, strand, slot, mark_counts(counts[side, here], slot)))
        position = np.concatenate([here for here, *_ in parts]) + window.start
        strand = np.concatenate([np.full(len(h), s, np.int8) for h, s, _, _ in parts])
        mark = np.concatenate([np.full(len(h), m, np.int8) for h, _, m, _ in parts])
        order = np.lexsort((mark, strand, position))
        table = np.concatenate([columns for *_, columns in parts], axis=1)
        return WindowRows(
            window,
            position[order].astype(np.int32),
            strand[order],
            mark[order],
            np.ascontiguousarray(table[:, order]),
        )


def mark_counts(channels: npt.NDArray[np.uint32], slot: int) -> npt.NDArray[np.uint32]:
    """The counts of one mark, (COUNTS, positions), from the positions' channels."""
    base = kernels.MARK_BASE[slot]
    same_base = [k for k, other in enumerate(kernels.MARK_BASE) if other == base]
    modified = channels[:, [*same_base, kernels.OTHER + base]].sum(axis=1, dtype=np.uint32)
    methylated = channels[:, slot]
    canonical = channels[:, kernels.CANONICAL + base]
    fail = channels[:, kernels.FAIL + base]
    seen = channels[:, kernels.SEEN + base]
    coverage = modified + canonical
    return np.stack(
        [
            coverage,
            methylated,
            canonical,
            modified - methylated,
            channels[:, kernels.DELETE],
            fail,
            channels[:, kernels.DEPTH] - seen,
            seen - coverage - fail,
        ]
    )


def counts_in(read: pysam.AlignedSegment) -> bool:
    """Whether an alignment is counted: mapped, primary, no duplicate."""
    return not (read.is_unmapped or read.is_secondary or read.is_supplementary or read.is_duplicate)


def open_bam(path: Path) -> pysam.AlignmentFile:
    """Open an indexed BAM.

    Raises
    ------
    MelismaError
        The file is missing, no BAM, truncated, or has no index.
    """
    if not path.is_file():
        raise MelismaError(f"There is no file {path}: give a BAM file.")
    with quiet_htslib():
        try:
            bam = pysam.AlignmentFile(str(path), "rb")
        except (OSError, ValueError) as error:
            raise MelismaError(
                f"{path} cannot be read as BAM ({error}): it is another format, truncated or "
                "damaged."
            ) from None
        if not bam.is_bam:
            raise MelismaError(
                f"{path} is not BAM but SAM or CRAM: convert it with `samtools view -b`."
            )
        if not bam.has_index():
            raise MelismaError(
                f"{path} has no index beside it: make one with `samtools index {path.name}`, or "
                f"with pysam.index({path.name!r}) (the file must be sorted by position)."
            )
    return bam


_counter: WindowCounter | None = None


def start_worker(path: Path, mark: Mark | None, min_probability: float) -> None:
    """Give this worker process its own open BAM."""
    global _counter
    # Ctrl-C reaches every process of the group; the one that asked for the work ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pysam.set_verbosity(0)
    _counter = WindowCounter(path, mark, min_probability)


def count_window(window: Window) -> WindowRows:
    """Count a window with the worker's own BAM."""
    assert _counter is not None
    return _counter.count(window)

"""modBAM to counts: how many reads carry a mark at each position, from MM and ML tags.

A call is the most probable of the canonical base and the base's modification codes, where ML
stands for the probability (ML + 1/2) / 256 (of two equally probable marks, the one that
`methylome.MARKS` names first). A call below `min_probability` is a fail and not in N. Bases that
the tags skip are unknown after `?` and unmodified after `.` or nothing. Secondary, supplementary,
duplicate and unmapped reads are not counted, nor reads without tags. The columns are those of
modkit's bedMethyl.

References: the SAM tags specification (MM, ML, MN).
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pysam

from melisma.calls._modbam_window import (
    COUNTS,
    Window,
    WindowCounter,
    WindowRows,
    count_window,
    counts_in,
    open_bam,
    start_worker,
)
from melisma.calls._records import ContigCalls
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts, strand_of_base
from melisma.methylome import MARKS, UNKNOWN_CONTEXT, Mark, parse_mark
from melisma.progress import note, stage

# A window's counts take 128 bytes a base: 67 MB a process.
WINDOW_BASES = 1 << 19
# One process for each so many bytes of BAM: starting one takes about a second.
BYTES_PER_WORKER = 32 * 1024**2
# How many primary reads without a single MM tag say that the BAM has none.
READS_TO_PEEK = 10_000
# Fewer calls than this share on the right reference base, and the genome is another one.
MATCHING_SHARE = 0.5
MATCHING_CALLS = 1000
_WAIT_SECONDS = 0.1


class ContigPileup(NamedTuple):
    """Counts of one contig, (rows,) each, sorted by position, strand and mark.

    position : int32, 0-based; strand : int8, +1 or -1
    mark : int8, index into `melisma.methylome.MARKS`
    context : int8, index into `melisma.methylome.CONTEXTS`; unknown without a genome
    The rest are uint32, reads at the position on that strand: `coverage` valid calls (N, the
    sum of the next three), `methylated` calls of this mark (M), `canonical` calls of no mark,
    `other` calls of another mark of the same base; `delete` a deletion, `fail` a call below
    the threshold, `diff` another base than the mark's, `nocall` the base without a call.
    """

    contig: str
    position: npt.NDArray[np.int32]
    strand: npt.NDArray[np.int8]
    mark: npt.NDArray[np.int8]
    context: npt.NDArray[np.int8]
    coverage: npt.NDArray[np.uint32]
    methylated: npt.NDArray[np.uint32]
    canonical: npt.NDArray[np.uint32]
    other: npt.NDArray[np.uint32]
    delete: npt.NDArray[np.uint32]
    fail: npt.NDArray[np.uint32]
    diff: npt.NDArray[np.uint32]
    nocall: npt.NDArray[np.uint32]


def pileup(
    path: Path | str,
    *,
    genome: Genome | None = None,
    mark: str | None = None,
    min_probability: float = 0.0,
    workers: int | None = None,
    contigs: Sequence[str] | None = None,
    advance: Callable[[float], object] | None = None,
) -> Iterator[ContigPileup]:
    """How many reads of a modBAM carry each mark, position by position.

    Parameters
    ----------
    path : BAM sorted by position, with its index and MM and ML tags
    genome : gives the contexts and drops rows whose reference base is not the mark's
    mark : code, ChEBI number or name: only this mark's rows; None: all, which must be supported
    min_probability : 0 to 1; less probable calls fail
    workers : at most so many processes (None: the processors at hand); a small file is read
        by one. Several need a script's own code to stand under `if __name__ == "__main__":`
    contigs : only these; None: all with reads
    advance : takes the bytes of the file done since the last call; None: a stage of its own

    Yields
    ------
    ContigPileup of each contig with calls, in the BAM's order.

    Raises
    ------
    MelismaError
        The file is no indexed BAM with MM tags, a read's tags are malformed or contradict its
        sequence, a modification is not supported, or the genome is another one.
    """
    parts = _checked_rows(path, genome, mark, min_probability, workers, contigs, advance)
    with closing(parts):
        for contig, of_contig in groupby(parts, key=lambda part: part[0].window.contig):
            found = _joined(contig, list(of_contig))
            if len(found.position):
                yield found


def read_modbam(
    path: Path | str,
    *,
    genome: Genome | None = None,
    mark: str | None = None,
    min_probability: float = 0.0,
    workers: int | None = None,
    contigs: Sequence[str] | None = None,
    advance: Callable[[float], object] | None = None,
) -> Iterator[ContigCalls]:
    """M and N of a modBAM, some of a contig at a time; parameters and errors are `pileup`'s."""
    parts = _checked_rows(path, genome, mark, min_probability, workers, contigs, advance)
    coverage, methylated = (COUNTS.index(name) for name in ("coverage", "methylated"))
    with closing(parts):
        for rows, context in parts:
            valid = rows.counts[coverage] > 0
            yield ContigCalls(
                rows.window.contig,
                rows.position[valid],
                rows.strand[valid],
                rows.mark[valid],
                rows.counts[methylated][valid],
                rows.counts[coverage][valid],
                None if genome is None else context[valid],
            )


CheckedRows = tuple[WindowRows, npt.NDArray[np.int8]]


def _checked_rows(
    path: Path | str,
    genome: Genome | None,
    mark: str | None,
    min_probability: float,
    workers: int | None,
    contigs: Sequence[str] | None,
    advance: Callable[[float], object] | None,
) -> Generator[CheckedRows, None, None]:
    """Each window's rows that lie on their base, and their contexts, in the BAM's order."""
    path = Path(path)
    chosen = None if mark is None else parse_mark(mark)
    if not 0 <= min_probability <= 1:
        raise MelismaError(
            f"The least probability of a call is {min_probability}: give one from 0 to 1."
        )
    if genome is not None:
        with closing(open_bam(path)) as bam:
            genome = genome.named_as(bam.references)
    windows = _windows(path, genome, contigs)
    processes = min(len(windows), _processes(path, workers))
    counted = _count(path, windows, chosen, min_probability, processes)
    checks = _GenomeCheck(path, genome)
    size = path.stat().st_size
    progress = stage(f"Counting {path.name}", size) if advance is None else nullcontext(advance)
    with closing(counted), progress as done:
        for rows in counted:
            part = checks.apply(rows)
            checks.judge()
            done(size / len(windows))
            yield part
    checks.tell()


def _windows(path: Path, genome: Genome | None, contigs: Sequence[str] | None) -> list[Window]:
    """The stretches to count, in the BAM's order, once the file is known to be countable."""
    with closing(open_bam(path)) as bam:
        lengths = dict(zip(bam.references, bam.lengths, strict=True))
        absent = [contig for contig in contigs or () if contig not in lengths]
        if absent:
            raise MelismaError(
                f"{path} has no contig {absent[0]!r}; it has {', '.join(bam.references[:5])}."
            )
        _refuse_untagged(path, bam)
        mapped = {found.contig for found in bam.get_index_statistics() if found.mapped}
    chosen = [c for c in lengths if c in mapped and (contigs is None or c in contigs)]
    if genome is not None:
        for contig in chosen:
            _check_length(path, genome, contig, lengths[contig])
    return [
        Window(contig, start, min(start + WINDOW_BASES, lengths[contig]))
        for contig in chosen
        for start in range(0, lengths[contig], WINDOW_BASES)
    ]


def _refuse_untagged(path: Path, bam: pysam.AlignmentFile) -> None:
    reads = 0
    try:
        for read in islice(filter(counts_in, bam.fetch(until_eof=True)), READS_TO_PEEK):
            reads += 1
            if read.has_tag("MM") or read.has_tag("Mm"):
                return
    except OSError as error:
        raise MelismaError(
            f"{path} cannot be read ({error}): it is truncated or damaged; copy it again."
        ) from None
    if not reads:
        raise MelismaError(f"{path} has no mapped primary read: give an aligned BAM.")
    raise MelismaError(
        f"{path} has no MM tag in its first {reads:,} reads: call the bases with a modification "
        "model, and keep the tags when aligning (samtools fastq -T MM,ML, minimap2 -y)."
    )


def _check_length(path: Path, genome: Genome, contig: str, length: int) -> None:
    known = genome.length(contig)
    if known != length:
        raise MelismaError(
            f"{path} was aligned to a {contig} of {length:,} bases, and genome {genome.name} has "
            f"{known:,}: give the genome that the reads were aligned to."
        )


def _processes(path: Path, workers: int | None) -> int:
    if workers is None:
        affinity = getattr(os, "sched_getaffinity", None)
        workers = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(workers, 1 + path.stat().st_size // BYTES_PER_WORKER)


def _count(
    path: Path, windows: Sequence[Window], mark: Mark | None, min_probability: float, processes: int
) -> Generator[WindowRows, None, None]:
    """Count the windows, in order, here or in worker processes."""
    if processes <= 1:
        counter = WindowCounter(path, mark, min_probability)
        yield from map(counter.count, windows)
        return
    pool = ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(path, mark, min_probability),
    )
    todo = iter(windows)
    # Bounded, so that a slow reader of the results does not pile them up.
    running: deque[Future[WindowRows]] = deque()
    try:
        running.extend(pool.submit(count_window, w) for w in islice(todo, 2 * processes))
        while running:
            rows = _result(running.popleft())
            running.extend(pool.submit(count_window, window) for window in islice(todo, 1))
            yield rows
    except BrokenProcessPool:
        raise MelismaError(
            f"The processes that read {path} stopped: start them from code that stands under "
            '`if __name__ == "__main__":`, or use one worker.'
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _result(job: Future[WindowRows]) -> WindowRows:
    # With a limit, as polars' signal handler restarts a wait that Ctrl-C should end.
    while not wait([job], timeout=_WAIT_SECONDS).done:
        pass
    return job.result()


class _GenomeCheck:
    """Contexts of rows, and rows on other reference bases dropped, counted and judged."""

    def __init__(self, path: Path, genome: Genome | None) -> None:
        self._path, self._genome = path, genome
        self._rows = self._dropped = 0
        self._calls = self._matching = 0

    def apply(self, rows: WindowRows) -> tuple[WindowRows, npt.NDArray[np.int8]]:
        n = len(rows.position)
        if self._genome is None or n == 0:
            return rows, np.full(n, UNKNOWN_CONTEXT, np.int8)
        first = max(0, rows.window.start - 2)
        last = min(rows.window.end + 2, self._genome.lengths[rows.window.contig])
        bases = self._genome.bases(rows.window.contig, first, last)
        at = rows.position - first
        matches = np.zeros(n, np.bool_)
        for slot in np.unique(rows.mark):
            here = rows.mark == slot
            strand = strand_of_base(bases, at[here], MARKS[slot].base)
            matches[here] = strand == rows.strand[here]
        coverage = rows.counts[COUNTS.index("coverage")]
        self._rows += n
        self._dropped += n - int(matches.sum())
        self._calls += int(coverage.sum())
        self._matching += int(coverage[matches].sum())
        kept = WindowRows(
            rows.window,
            rows.position[matches],
            rows.strand[matches],
            rows.mark[matches],
            rows.counts[:, matches],
        )
        return kept, contexts(bases, at[matches], kept.strand)

    def judge(self) -> None:
        """Refuse the genome where most calls so far lie on other bases."""
        enough = self._calls >= MATCHING_CALLS
        if self._genome and enough and self._matching < MATCHING_SHARE * self._calls:
            raise MelismaError(
                f"Of the calls in {self._path}, {self._matching / self._calls:.0%} lie on their "
                f"base in genome {self._genome.name}: give the genome that the reads were "
                "aligned to."
            )

    def tell(self) -> None:
        """Say what was dropped."""
        if self._dropped:
            note(
                f"{self._path.name}: {self._dropped:,} of {self._rows:,} rows lie on another "
                "reference base (read errors or variants) and were dropped."
            )


def _joined(contig: str, parts: Sequence[CheckedRows]) -> ContigPileup:
    counts = np.concatenate([rows.counts for rows, _ in parts], axis=1)
    return ContigPileup(
        contig,
        np.concatenate([rows.position for rows, _ in parts]),
        np.concatenate([rows.strand for rows, _ in parts]),
        np.concatenate([rows.mark for rows, _ in parts]),
        np.concatenate([context for _, context in parts]),
        *counts,
    )

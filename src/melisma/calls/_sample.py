"""One sample: from its file to sorted, checked calls in a folder, once."""

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from melisma import _contigs, progress
from melisma.calls import _kernels
from melisma.calls._format import Format, Kind, Strandless
from melisma.calls._parser import Stat
from melisma.calls._pieces import lacks_end
from melisma.calls._reader import Batch, Run, lines_of_site, read_batches
from melisma.calls._records import ContigCalls, site_key, unpack_key
from melisma.calls._reference import ReferenceCheck
from melisma.calls._source import BLOCK_BYTES
from melisma.calls._spool import Calls, Spool, joined, load, reader_of
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import MARKS

_DONE = "done.json"
# Calls that are already in order are checked so many at a time, 17 bytes each.
STRETCH_CALLS = 1 << 21
_VERSION = 3


class Options(NamedTuple):
    """What an ingest does to every sample; `mark` is an index into `MARKS`.

    `threads` of each file, where it can be read in pieces.
    """

    genome: Genome | None = None
    genome_file: Path | None = None
    merge_strands: bool = False
    mark: int | None = None
    min_probability: float = 0.0
    block_bytes: int = BLOCK_BYTES
    threads: int = 1


class Source(NamedTuple):
    """One sample's file, where its sorted calls go, and the file that belongs to it, if any."""

    sample: str
    path: Path
    form: Format
    folder: Path
    beside: Path | None = None


class SampleCalls(NamedTuple):
    """A sample's sorted calls on disk.

    contigs : a contig's name to its rows [start, stop)
    aliases : the file's own names of the contigs that were renamed, to the names in `contigs`
    unsorted : whether the file was not sorted by position
    """

    folder: str
    contigs: dict[str, tuple[int, int]]
    rows: int
    calls: int
    drops: dict[str, int]
    largest: int
    marks: int
    strands: str
    context: bool
    aliases: dict[str, str]
    unsorted: bool = False

    def renamed(self, mapping: Mapping[str, str]) -> "SampleCalls":
        """The same calls, with contigs called by other names: old name to new."""
        if not mapping:
            return self
        contigs = {mapping.get(name, name): rows for name, rows in self.contigs.items()}
        own = {new: old for old, new in self.aliases.items()}
        changed = {own.get(old, old): new for old, new in mapping.items() if old in self.contigs}
        return self._replace(contigs=contigs, aliases=self.aliases | changed)

    def load_into(self, contig: str, start: int, buffers: Calls) -> int:
        """Fill the buffers with a contig's calls from `start` on; returns how many there were."""
        first, last = self.contigs.get(contig, (0, 0))
        count = min(len(buffers.key), last - first - start)
        if count > 0:
            begin = first + start
            filled = buffers.take(slice(0, count))
            reader_of(Path(self.folder)).read(begin, begin + count, filled)
        return max(count, 0)


def fingerprint(source: Source, options: Options) -> dict[str, Any]:
    """What a sample's calls depend on: the file, its format and the options."""
    genome = options.genome_file
    return {
        "version": _VERSION,
        "file": _state(source.path),
        "format": source.form.name,
        "genome": genome and _state(genome),
        "merge_strands": options.merge_strands,
        "mark": options.mark,
        "min_probability": options.min_probability if source.form.columns is None else None,
        # A file may hold several samples.
        **({"sample": source.sample} if source.form.name == "parquet" else {}),
        **({"beside": _state(source.beside)} if source.beside else {}),
    }


def _state(path: Path) -> list[Any]:
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def finished_sample(source: Source, options: Options) -> SampleCalls | None:
    """The calls that an earlier, interrupted ingest left for the same file and options."""
    try:
        done = json.loads((source.folder / _DONE).read_text())
    except (OSError, ValueError):
        return None
    if done["made_from"] != fingerprint(source, options):
        return None
    contigs = {name: (start, stop) for name, (start, stop) in done["calls"]["contigs"].items()}
    folder = str(source.folder / "calls")
    return SampleCalls(**done["calls"] | {"contigs": contigs, "folder": folder})


def read_sample(
    source: Source,
    options: Options,
    *,
    advance: Callable[[float], Any] | None = None,
    batches: Iterable[ContigCalls] | None = None,
    stop: threading.Event | None = None,
) -> SampleCalls:
    """Read, check and sort one sample's calls into its folder.

    Parameters
    ----------
    batches : the calls, where the format has a reader of its own; None: the text parser's
    stop : ends the work early, with an InterruptedError, when another sample has failed

    Raises
    ------
    MelismaError
        The file breaks its format, repeats a site, or does not fit the genome.
    """
    made_from = fingerprint(source, options)
    shutil.rmtree(source.folder, ignore_errors=True)
    raw = _Raw(source, options)
    with Spool(source.folder / "read", context=raw.context) as spool:
        read = _contig_batches(batches) if batches is not None else raw.text_batches(advance)
        for batch in read:
            if stop is not None and stop.is_set():
                raise InterruptedError
            raw.add(batch, spool)
    if batches is None and lacks_end(source.path):
        progress.note(
            f"{source.path} lacks the empty block that ends a bgzip file: were its last calls lost "
            "in a copy?"
        )
    calls = _Sorting(source, options, raw).finish()
    (source.folder / f"{_DONE}.new").write_text(
        json.dumps({"made_from": made_from, "calls": calls._asdict()})
    )
    (source.folder / f"{_DONE}.new").rename(source.folder / _DONE)
    return calls


def _contig_batches(batches: Iterable[ContigCalls]) -> Iterator[Batch]:
    """Another reader's calls in the form of the text parser's batches."""
    for calls in batches:
        stats = np.zeros(max(Stat) + 1, dtype=np.int64)
        covered = calls.coverage > 0
        strand, mark = calls.strand[covered], calls.mark[covered]
        stats[Stat.SEEN] = len(covered)
        stats[Stat.NO_COVERAGE] = len(covered) - len(strand)
        stats[Stat.STRANDLESS] = np.count_nonzero(strand == 0)
        stats[Stat.STRANDED] = len(strand) - stats[Stat.STRANDLESS]
        stats[Stat.LARGEST] = calls.coverage.max(initial=0)
        stats[Stat.MARKS] = sum(1 << int(k) for k in np.unique(mark))
        key = site_key(calls.position[covered], strand, mark)
        none = np.empty(0, dtype=np.int64)
        yield Batch(
            [Run(calls.contig, 0, len(key))] if len(key) else [],
            key,
            calls.methylated[covered],
            calls.coverage[covered],
            none.astype(np.int8) if calls.context is None else calls.context[covered],
            none,
            bool((np.diff(key) > 0).all()),
            stats,
        )


class _Raw:
    """A sample's calls in file order: where each contig's stretches lie, and counts."""

    def __init__(self, source: Source, options: Options) -> None:
        self.source, self.options = source, options
        # The genome's context is better than the file's.
        self.context = source.form.has(Kind.CONTEXT) and options.genome is None
        self.stretches: dict[str, list[list[int]]] = {}
        self.ascending = True
        self.rows = self.no_coverage = self.other_mark = self.mutated = 0
        self.stranded = self.strandless = self.marks = self.largest = 0
        self._last: tuple[str, int] = ("", -1)

    def text_batches(self, advance: Callable[[float], Any] | None) -> Iterator[Batch]:
        """The text parser's batches."""
        return read_batches(
            self.source.path,
            self.source.form,
            mark=self.options.mark,
            contexts=self.context,
            block_bytes=self.options.block_bytes,
            threads=self.options.threads,
            advance=advance,
        )

    def add(self, batch: Batch, spool: Spool) -> None:
        """Spool a batch and note where its contigs lie."""
        self.rows += int(batch.stats[Stat.SEEN])
        self.no_coverage += int(batch.stats[Stat.NO_COVERAGE])
        self.other_mark += int(batch.stats[Stat.OTHER_MARK])
        self.mutated += int(batch.stats[Stat.MUTATED])
        self.stranded += int(batch.stats[Stat.STRANDED])
        self.strandless += int(batch.stats[Stat.STRANDLESS])
        self.largest = max(self.largest, int(batch.stats[Stat.LARGEST]))
        self.marks |= int(batch.stats[Stat.MARKS])
        self._check_strands()
        self.ascending &= batch.ascending
        for run in batch.runs:
            contig, key = self._last
            start, stop = spool.rows, spool.rows + run.stop - run.start
            if run.contig == contig:
                self.stretches[contig][-1][1] = stop
                self.ascending &= int(batch.key[run.start]) > key
            else:
                self.ascending &= run.contig not in self.stretches
                self.stretches.setdefault(run.contig, []).append([start, stop])
                spool.end_frame()
            self._last = (run.contig, int(batch.key[run.stop - 1]))
            calls = Calls(batch.key, batch.methylated, batch.coverage, batch.context)
            spool.append(calls.take(slice(run.start, run.stop)))

    def _check_strands(self) -> None:
        path, form = self.source.path, self.source.form
        if self.stranded and self.strandless:
            raise MelismaError(
                f"{path} mixes calls with a strand and calls without: split it into two files, or "
                "write one kind."
            )
        if not self.options.merge_strands or self.options.genome is not None:
            return
        if self.strandless and form.strandless == Strandless.UNKNOWN:
            raise MelismaError(
                f"{path}: the strands of {form.title} cannot be merged without a genome, as its "
                "calls have no strand: pass --genome with the reference, or leave out "
                "--merge-strands if they are merged already."
            )
        if self.stranded and not self.context:
            raise MelismaError(
                f"{path}: only CpG strands are merged, and {form.title} does not say which calls "
                "are CpGs: pass --genome with the reference."
            )

    @property
    def strands(self) -> str:
        """What `attrs["strands"]` will say of this sample."""
        if self.options.merge_strands:
            return "merged"
        if self.stranded:
            return "separate"
        if self.source.form.strandless == Strandless.MERGED:
            return "merged"
        return "separate" if self.options.genome is not None else "unknown"


class _Sorting:
    """Turns a sample's calls in file order into its sorted, checked calls."""

    def __init__(self, source: Source, options: Options, raw: _Raw) -> None:
        self.source, self.options, self.raw = source, options, raw
        self._outside_cg = 0
        self._unsorted = False
        self._largest = self._marks = 0
        # The genome's names win over the file's.
        genome = options.genome
        self._aliases = {} if genome is None else _contigs.match(raw.stretches, genome.contigs)
        self._check = options.genome and ReferenceCheck(
            options.genome,
            merged=source.form.strandless == Strandless.MERGED,
            only_cg=options.merge_strands,
        )

    def finish(self) -> SampleCalls:
        """Write `calls/` from `read/`, or rename it where there is nothing to do."""
        read, final = self.source.folder / "read", self.source.folder / "calls"
        self._require_rows()
        fold = self.options.merge_strands and self.raw.strandless == 0
        if self.raw.ascending and self._check is None and not fold:
            read.rename(final)
            contigs = {name: (s[0][0], s[0][1]) for name, s in self.raw.stretches.items()}
            self._largest, self._marks = self.raw.largest, self.raw.marks
            return self._result(final, contigs)
        contigs: dict[str, tuple[int, int]] = {}
        with Spool(final, context=self.raw.context) as spool:
            for contig, stretches in self.raw.stretches.items():
                first = spool.rows
                for part in self._sorted_parts(contig, stretches):
                    calls = self._checked(contig, part)
                    if len(calls.key):
                        self._largest = max(self._largest, int(calls.coverage.max()))
                        marks = np.flatnonzero(np.bincount(calls.key & 7))
                        self._marks |= sum(1 << int(k) for k in marks)
                    spool.append(calls)
                spool.end_frame()
                if spool.rows > first:
                    contigs[self._aliases.get(contig, contig)] = (first, spool.rows)
        shutil.rmtree(read)
        if self._check is not None:
            form = self.source.form
            strandless = self.raw.strandless > 0
            self._check.judge(self.source.path, form.title, form.base, strandless=strandless)
        return self._result(final, contigs)

    def _require_rows(self) -> None:
        if self.raw.stretches:
            return
        path, raw = self.source.path, self.raw
        if raw.other_mark and self.options.mark is not None:
            wanted = MARKS[self.options.mark].name
            raise MelismaError(
                f"{path} has no calls of {wanted}, only of other marks: choose another with --mark."
            )
        if raw.rows:
            mutated = f" or a mutated base ({raw.mutated:,})" if raw.mutated else ""
            raise MelismaError(
                f"{path}: all of its {raw.rows:,} calls have a coverage of 0{mutated}."
            )
        raise MelismaError(
            f"{path} holds no calls: it should have rows of {self.source.form.title}."
        )

    def _sorted_parts(self, contig: str, stretches: list[list[int]]) -> Iterator[Calls]:
        """A contig's calls in order: whole where they must be sorted, else a stretch at a time.

        A stretch ends between two positions that are no neighbours, so that both strands of a CpG
        are in one.
        """
        folder, context = self.source.folder / "read", self.raw.context
        if not self.raw.ascending:
            parts = [load(folder, *stretch, context=context) for stretch in stretches]
            yield self._sorted(contig, joined(parts))
            return
        ((start, stop),) = stretches
        kept: list[Calls] = []
        while start < stop:
            calls = load(folder, start, min(start + STRETCH_CALLS, stop), context=context)
            start += len(calls.key)
            end = len(calls.key)
            if start < stop:
                gaps = np.flatnonzero(np.diff(calls.key >> 5) > 1)
                end = int(gaps[-1]) + 1 if gaps.size else 0
            if end:
                yield joined([*kept, calls.take(slice(0, end))])
                kept = []
            kept.append(calls.take(slice(end, None)))

    def _checked(self, contig: str, calls: Calls) -> Calls:
        """Sorted calls, compared with the genome and with their strands merged as asked."""
        if self._check is not None:
            calls = self._check.filter(self._aliases.get(contig, contig), calls)
        if self.options.merge_strands and self.raw.stranded + self.raw.strandless:
            calls = self._merged(calls)
        return calls

    def _sorted(self, contig: str, calls: Calls) -> Calls:
        steps = np.diff(calls.key)
        if (steps < 0).any():
            self._unsorted |= bool((np.diff(calls.key >> 5) < 0).any())
            if not _kernels.settle(*calls):
                calls = calls.take(np.argsort(calls.key, kind="stable"))
            steps = np.diff(calls.key)
        if not (steps == 0).any():
            return calls
        raise self._repeated(contig, int(calls.key[int(np.argmax(steps == 0))]))

    def _repeated(self, contig: str, key: int) -> MelismaError:
        form, path = self.source.form, self.source.path
        (position,), (_,), (mark,) = unpack_key(np.array([key]))
        shown = f"{contig}:{position + form.base}"
        if form.has(Kind.CODE):
            shown += f" {MARKS[mark].code}"
        if form.columns is None:
            return MelismaError(f"{path} gives {shown} more than once.")
        first, second, *_ = lines_of_site(path, form, contig, key, self.options.mark)
        return MelismaError(
            f"{path} lines {first:,} and {second:,} are both for {shown}: keep one row a position."
        )

    def _merged(self, calls: Calls) -> Calls:
        """CpG calls of both strands summed at the + strand's C."""
        if self._check is None and self.raw.context:
            in_cg = calls.context == 0
            self._outside_cg += int(np.count_nonzero(~in_cg))
            calls = calls if in_cg.all() else calls.take(in_cg)
        strand = (calls.key[:1] >> 3) & 3
        if strand.size and strand[0] == 1:
            return calls
        _kernels.fold_strands(calls.key)
        if int(calls.key.min(initial=0)) < 0:
            path, form = self.source.path, self.source.form
            raise MelismaError(
                f"{path} has a call of a CpG on strand - at position {form.base}, where no C can "
                f"be before it: {form.title} is {form.base}-based, so write it with such positions."
            )
        if (np.diff(calls.key) < 0).any():
            calls = calls.take(np.argsort(calls.key, kind="stable"))
        left = _kernels.sum_repeats(calls.key, calls.methylated, calls.coverage)
        return calls.take(slice(0, left))

    def _result(self, folder: Path, contigs: dict[str, tuple[int, int]]) -> SampleCalls:
        drops = {
            "coverage of 0": self.raw.no_coverage,
            "another mark": self.raw.other_mark,
            "mutated in the sample": self.raw.mutated,
            "not in CG": self._outside_cg,
        } | (self._check.drops if self._check is not None else {})
        if not contigs:
            raise MelismaError(
                f"{self.source.path}: none of its {self.raw.rows:,} calls is left after "
                f"{', '.join(f'{n:,} {why}' for why, n in drops.items() if n)}."
            )
        return SampleCalls(
            folder=str(folder),
            contigs=contigs,
            rows=self.raw.rows,
            calls=max(stop for _, stop in contigs.values()),
            drops={why: n for why, n in drops.items() if n},
            largest=self._largest,
            marks=self._marks,
            strands=self.raw.strands,
            context=self.raw.context,
            aliases={old: new for old, new in self._aliases.items() if new in contigs},
            unsorted=self._unsorted,
        )

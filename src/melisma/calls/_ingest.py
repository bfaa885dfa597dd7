"""Many samples' files into one store, resumable, in bounded memory."""

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from melisma import progress
from melisma._generations import clear_part, work_lock
from melisma.calls import _builds, _join
from melisma.calls._faults import unsorted_words
from melisma.calls._format import Format
from melisma.calls._ingest_levels import have_levels, ingest_levels, levels_hash
from melisma.calls._level_formats import (
    MATRICES,
    MATRIX,
    file_beside,
    is_shared,
    own_calls,
    with_strands,
)
from melisma.calls._registry import MODBAM, format_named, sniff
from melisma.calls._sample import (
    Options,
    SampleCalls,
    Source,
    fingerprint,
    finished_sample,
    read_sample,
)
from melisma.calls._samples_file import read_samples
from melisma.calls._source import BLOCK_BYTES, check_file
from melisma.calls.bigwig import BIGWIG, BIGWIG_COUNTS
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import MARKS, open_methylome, parse_mark, part_folder

_WAIT_SECONDS = 0.1
_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_NOT_COVARIATES = ("path", "format", "coverage_path")


class IngestSummary(NamedTuple):
    """What an ingest made: the store, its size, and what was left out of each sample and why."""

    store: Path
    samples: int
    sites: int
    rows: int
    drops: dict[str, dict[str, int]]
    formats: dict[str, str]
    reused: bool


def ingest(
    sheet: pl.DataFrame | Path | str,
    out: Path | str,
    *,
    matrix: Path | str | None = None,
    manifest: Path | str | None = None,
    genome: Path | str | None = None,
    merge_strands: bool = False,
    mark: str | None = None,
    format: str | None = None,
    min_probability: float = 0.0,
    overwrite: bool = False,
    workers: int | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> IngestSummary:
    """Read every sample's calls into one store.

    Work lies in `<out>.part`; it is kept when the disk is full or the work is interrupted, and
    the same call then goes on with the samples that are not done.

    Parameters
    ----------
    sheet : the sample sheet, as a file or as `design.read_sheet` gives it
    out : the store's folder
    matrix : one matrix of levels that holds all samples; the sheet then has no `path`
    manifest : the arrays' manifest, which gives probes their positions
    genome : a FASTA file; every call is compared with its base, which also gives strand and
        context
    merge_strands : sum the two strands of each CpG at its + strand position
    mark : what formats without a code hold (default 5mC); formats with one are filtered to it
    format : the files' format, where the sheet names none; None: by their first lines
    min_probability : 0 to 1; less probable calls of a modBAM are not counted
    overwrite : replace a store that was made from other inputs
    workers : files read at a time (default: the processors)

    Raises
    ------
    MelismaError
        The sheet or a file is at fault, or a store made from other inputs is at `out`.
    """
    table = sheet if isinstance(sheet, pl.DataFrame) else read_samples(sheet, matrix=matrix)
    out = Path(out)
    options = Options(
        genome=None if genome is None else Genome.open(genome),
        genome_file=None if genome is None else Path(genome),
        merge_strands=merge_strands,
        mark=None if mark is None else MARKS.index(parse_mark(mark)),
        min_probability=min_probability,
        block_bytes=block_bytes,
    )
    named = _matrix_format(format) if matrix is not None else format
    sources = _sources(table, out, named, genome=genome is not None)
    columns = _covariates(table)
    levels, manifest_file = have_levels(sources), None if manifest is None else Path(manifest)
    if manifest_file is not None:
        _check_manifest(manifest_file, levels=levels)
    inputs = (
        levels_hash(columns, sources, options, manifest_file)
        if levels
        else _inputs_hash(columns, sources, options)
    )
    if _is_complete(out, inputs, columns["sample"], overwrite=overwrite):
        progress.note(f"{out} is complete and made from the same inputs: nothing to do.")
        return _summary(out, reused=True)
    with work_lock(out) as part, _work_folder(out):
        if levels:
            ingest_levels(out, columns, sources, options, manifest=manifest_file, inputs=inputs)
            clear_part(part)
            return _summary(out, reused=False)
        samples = _read_all(sources, options, workers or _processors())
        names = [source.sample for source in sources]
        samples = _join.name_alike(names, samples, options.genome.contigs if options.genome else ())
        strands = _join.check_agreement(names, samples)
        if options.genome is None:
            _builds.check_builds(names, samples)
        attrs = _attributes(sources, samples, options, inputs, format)
        with progress.stage("Writing the store", sum(s.calls for s in samples)) as advance:
            _join.write_joined(
                out,
                columns,
                samples,
                strands=strands,
                genome=options.genome,
                attrs=attrs,
                advance=advance,
            )
        clear_part(part)
    return _summary(out, reused=False)


def _covariates(table: pl.DataFrame) -> dict[str, list[Any]]:
    return {name: table[name].to_list() for name in table.columns if name not in _NOT_COVARIATES}


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sources(table: pl.DataFrame, out: Path, format: str | None, *, genome: bool) -> list[Source]:
    names = [str(name) for name in table["sample"]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MelismaError(
            f"The sample {twice!r} is in the sample sheet twice: merge its files into one first, "
            "or give them two names."
        )
    formats = table["format"].to_list() if "format" in table.columns else [None] * len(names)
    coverage = table["coverage_path"].to_list() if "coverage_path" in table.columns else []
    coverage = coverage or [None] * len(names)
    sources: list[Source] = []
    sniffed: dict[Path, Format] = {}
    for k, (name, file, word) in enumerate(zip(names, table["path"], formats, strict=True)):
        path = Path(file)
        check_file(path)
        named = word or format
        if not named and path not in sniffed:
            sniffed[path] = sniff(path).format
        form = format_named(named) if named else sniffed[path]
        if coverage[k] and form is BIGWIG:
            form = BIGWIG_COUNTS
        beside = file_beside(form, path, Path(coverage[k]) if coverage[k] else None)
        form = with_strands(form, path, genome=genome)
        sources.append(Source(name, path, form, part_folder(out) / "samples" / str(k), beside))
    _refuse_shared(sources)
    return sources


def _matrix_format(format: str | None) -> str:
    """What `--matrix` names is a matrix, whatever its first lines look like."""
    form = MATRIX if format is None else format_named(format)
    if form not in MATRICES:
        names = ", ".join(each.name for each in MATRICES)
        raise MelismaError(f"--matrix names a matrix of levels, so --format is one of {names}.")
    return form.name


def _refuse_shared(sources: Sequence[Source]) -> None:
    """A file of one sample cannot be two samples; a matrix can."""
    seen: dict[Path, str] = {}
    for source in sources:
        first = seen.setdefault(source.path.resolve(), source.sample)
        if first != source.sample and not is_shared(source.form, source.path):
            raise MelismaError(
                f"Samples {first} and {source.sample} name the same file, {source.path}: give each "
                "sample its own."
            )


def _check_manifest(manifest: Path, *, levels: bool) -> None:
    check_file(manifest)
    if not levels:
        raise MelismaError(
            f"{manifest} is for arrays, and the samples' files have counts with positions of their "
            "own: leave out --manifest."
        )


def _inputs_hash(columns: dict[str, list[Any]], sources: list[Source], options: Options) -> str:
    made_from = [columns, [fingerprint(source, options) for source in sources]]
    return hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()


def _is_complete(out: Path, inputs: str, names: Sequence[str], *, overwrite: bool) -> bool:
    """Whether a store made from the same inputs is at `out`; another one is an error."""
    if not out.exists():
        if not out.resolve().parent.is_dir():
            raise MelismaError(f"There is no folder {out.resolve().parent}: make it first.")
        return False
    try:
        found = open_methylome(out)
    except MelismaError:
        raise MelismaError(
            f"{out} is there and is no store that this melisma made: name another store, or remove "
            "it."
        ) from None
    if overwrite:
        return False
    more = [str(name) for name in found["sample"].values if str(name) not in names]
    if more:
        raise MelismaError(
            f"{out} has {len(more):,} samples that the sheet has not, such as {more[0]!r}, as it "
            "was made from other files or appended to: pass --overwrite to replace it, or name "
            "another store."
        )
    if found.attrs.get("ingest", {}).get("inputs") != inputs:
        raise MelismaError(
            f"{out} was made from other files or options: pass --overwrite to replace it, or name "
            "another store."
        )
    return True


@contextmanager
def _work_folder(out: Path) -> Iterator[None]:
    """Hold `<out>.part`: bad input removes it, an interruption or a full disk keeps it."""
    part = part_folder(out)
    try:
        yield
    except MelismaError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise OSError(
                error.errno,
                f"The disk is full (or a file too large): make room, and the same command goes on "
                f"from {part}",
            ) from error
        raise


def _read_all(sources: Sequence[Source], options: Options, workers: int) -> list[SampleCalls]:
    """Every sample's sorted calls; those that an interrupted ingest finished are taken over."""
    results = {source.sample: finished_sample(source, options) for source in sources}
    left = [source for source in sources if results[source.sample] is None]
    if len(left) < len(sources):
        progress.note(f"{len(sources) - len(left)} of {len(sources)} samples were read before.")
    if left:
        results |= _read(left, options, workers)
    unsorted = {
        s.path: None for s in sources if (r := results[s.sample]) is not None and r.unsorted
    }
    if unsorted:
        progress.note(unsorted_words(list(unsorted), len({source.path for source in sources})))
    return [calls for source in sources if (calls := results[source.sample]) is not None]


def _read(left: Sequence[Source], options: Options, workers: int) -> dict[str, SampleCalls]:
    """Read samples: several text files at a time, then BAMs, each with several processes."""
    results: dict[str, SampleCalls] = {}
    stop = threading.Event()
    total = sum(source.path.stat().st_size for source in left)
    with progress.stage(f"Reading {len(left)} files", total) as advance:
        text = [source for source in left if source.form is not MODBAM]
        pool = ThreadPoolExecutor(max(1, min(workers, len(text))))
        # All processors have work when there are fewer files.
        options = options._replace(threads=-(-workers // max(1, len(text))))
        try:
            jobs = {
                pool.submit(_read_text, source, options, advance, stop): source for source in text
            }
            _wait(jobs)
            results |= {source.sample: job.result() for job, source in jobs.items()}
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
        for source in left:
            if source.form is MODBAM:
                results[source.sample] = _read_modbam(source, options, workers, advance)
    return results


def _wait(jobs: dict[Future[SampleCalls], Source]) -> None:
    """Wait for all jobs, or for the first that fails: its error is raised."""
    left: set[Future[SampleCalls]] = set(jobs)
    while left:
        # With a limit, as polars' signal handler restarts a wait that Ctrl-C should end.
        finished, left = wait(left, timeout=_WAIT_SECONDS, return_when=FIRST_EXCEPTION)
        for job in (job for job in jobs if job in finished):
            error = job.exception()
            if error is not None and not isinstance(error, InterruptedError):
                raise error


def _read_text(
    source: Source, options: Options, advance: Callable[[float], Any], stop: threading.Event
) -> SampleCalls:
    try:
        batches = own_calls(source, options, advance)
        return read_sample(source, options, advance=advance, stop=stop, batches=batches)
    except MelismaError as error:
        raise _with_true_format(source, error) from None


def _with_true_format(source: Source, error: MelismaError) -> MelismaError:
    """Adds to a parser's error that the file looks like another format than was named."""
    try:
        found = sniff(source.path)
    except MelismaError:
        return error
    if found.format.name == source.form.name or source.beside is not None:
        return error
    return MelismaError(
        f"{source.path} was read as {source.form.name} and is {found.format.name} by its first "
        f"lines ({found.reason}): leave the format out, or name that one."
    )


def _read_modbam(
    source: Source, options: Options, workers: int, advance: Callable[[float], Any]
) -> SampleCalls:
    from melisma.calls.modbam import read_modbam

    batches = read_modbam(
        source.path,
        genome=options.genome,
        mark=None if options.mark is None else MARKS[options.mark].code,
        min_probability=options.min_probability,
        workers=workers,
        advance=advance,
    )
    try:
        return read_sample(source, options, batches=batches)
    except MelismaError as error:
        raise _with_true_format(source, error) from None


def _attributes(
    sources: Sequence[Source],
    samples: Sequence[SampleCalls],
    options: Options,
    inputs: str,
    format: str | None,
) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "ingest": {
            "inputs": inputs,
            # What `append` reads new samples by.
            "merge_strands": options.merge_strands,
            "mark": None if options.mark is None else MARKS[options.mark].code,
            "min_probability": options.min_probability,
            "format": format,
            "genome_file": options.genome_file and str(options.genome_file.resolve()),
            "samples": _sample_records(sources, samples),
        }
    }
    if options.genome is not None:
        attrs["genome"] = {"name": options.genome.name, "lengths": options.genome.lengths}
    build = _builds.known_build(samples, options.genome)
    if build is not None:
        attrs["build"] = build
    return attrs


def _sample_records(
    sources: Sequence[Source], samples: Sequence[SampleCalls]
) -> dict[str, dict[str, Any]]:
    return {
        source.sample: {
            "file": source.path.name,
            "format": source.form.name,
            "rows": sample.rows,
            "calls": sample.calls,
            "drops": sample.drops,
        }
        | ({"aliases": sample.aliases} if sample.aliases else {})
        for source, sample in zip(sources, samples, strict=True)
    }


def _summary(out: Path, *, reused: bool) -> IngestSummary:
    opened = open_methylome(out)
    samples = opened.attrs["ingest"]["samples"]
    return IngestSummary(
        store=out,
        samples=opened.sizes["sample"],
        sites=opened.sizes["site"],
        rows=sum(sample["rows"] for sample in samples.values()),
        drops={name: sample["drops"] for name, sample in samples.items()},
        formats={name: sample["format"] for name, sample in samples.items()},
        reused=reused,
    )

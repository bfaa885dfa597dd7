"""From a store to files of other tools: all checks first, then one walk, then the final path."""

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from melisma import progress
from melisma.errors import MelismaError
from melisma.export import _folder
from melisma.export._format import ExportFormat, check_fits, losses
from melisma.export._names import file_stems, sheet_text
from melisma.export._reference import Reference
from melisma.export._registry import export_named
from melisma.export._selection import Selection, make_selection
from melisma.export._spool import groups
from melisma.export.anndata import ANNDATA, write_anndata
from melisma.export.bigwig import (
    BIGWIG,
    COVERAGE_SUFFIX,
    Tracks,
    check_sizes,
    read_sizes,
    write_bigwig,
)
from melisma.export.matrix import MATRIX, write_matrix
from melisma.export.parquet import PARQUET, write_parquet, write_parquet_together
from melisma.export.text import write_text
from melisma.genome import Genome
from melisma.methylome import CONTEXTS, open_methylome, sample_sheet

_DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
SHEET = "samples.tsv"
_CPG_REPORT = ".CpG_report.txt"


class ExportSummary(NamedTuple):
    """What an export made.

    out : the folder, or the file that holds all samples
    format : its name
    sites : sites of the store that were asked for
    files : the files of each sample; rows : calls of each; bytes : size of each sample's files
    left_out : samples without a file, and why
    notes : what the format could not hold, one sentence each
    """

    out: Path
    format: str
    sites: int
    files: dict[str, tuple[Path, ...]]
    rows: dict[str, int]
    bytes: dict[str, int]
    left_out: dict[str, str]
    notes: tuple[str, ...]


class _Job(NamedTuple):
    """What the writers share; `work` is where files are made before they are final."""

    form: ExportFormat
    selection: Selection
    reference: Reference | None
    sizes: Mapping[str, int]
    work: Path
    bgzip: bool
    workers: int


class _Made(NamedTuple):
    """Rows of each sample, and the names of each sample's files in the work folder."""

    rows: list[int]
    files: list[tuple[str, ...]]
    clashing: int = 0


def export(
    store: xr.Dataset | Path | str,
    out: Path | str,
    *,
    to: str,
    samples: Sequence[str] | None = None,
    region: str | None = None,
    mark: str | None = None,
    contexts: Sequence[str] | None = None,
    genome: Path | str | None = None,
    sizes: Path | str | None = None,
    bgzip: bool = True,
    overwrite: bool = False,
    workers: int | None = None,
) -> ExportSummary:
    """Write a store's calls as other tools read them.

    Parameters
    ----------
    store : a store, or a methylome as `open_methylome` gives it
    out : a folder, one file a sample and `samples.tsv` in it; for AnnData a `.h5ad` file; for
        Parquet either, a `.parquet` file holding all samples
    to : a format of `EXPORTS`, by name
    samples : names, in the order wanted; default: all
    region : `chr1:start-end`, 0-based and half open, or a contig
    mark : the mark to keep; default: all
    contexts : of CG, CHG, CHH, unknown; default: all
    genome : FASTA of the reference: strands and contexts that are not known, the letters of
        trinucleotides, contig lengths
    sizes : contig lengths for bigWig, a chrom.sizes file
    bgzip : whether text is compressed, as bgzip does
    overwrite : replace what an earlier export left at `out`
    workers : threads (default: the processors)

    Raises
    ------
    MelismaError
        Nothing is selected, or the format cannot hold the store, or `out` is taken.
    """
    form, out = export_named(to), Path(out)
    methylome = store if isinstance(store, xr.Dataset) else open_methylome(store)
    selection = make_selection(
        methylome, samples=samples, region=region, mark=mark, contexts=contexts
    )
    check_fits(form, selection, genome=genome is not None)
    single = _is_single_file(form, out)
    _folder.check_output(out, single=single, overwrite=overwrite)
    opened = None if genome is None else Genome.open(genome)
    attrs = methylome.attrs
    reference = opened and Reference(opened, attrs["contigs"], attrs["marks"], attrs["strands"])
    lengths = _lengths(form, selection, opened, sizes)
    notes = losses(form, selection, genome=opened is not None)
    with _folder.work_folder(out) as work, _told_when_full():
        job = _Job(form, selection, reference, lengths, work, bgzip, workers or _processors())
        with progress.stage(f"Writing {form.title}", _steps(form, selection)) as advance:
            made = _write(job, out if single else None, advance)
        if not any(made.rows):
            raise MelismaError(
                "None of the chosen samples has a call at the chosen sites: nothing is left to "
                "export."
            )
        return _finish(job, out, made, notes, single=single)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_single_file(form: ExportFormat, out: Path) -> bool:
    """Whether all samples go into the one file `out`."""
    if form is ANNDATA:
        if out.suffix != ".h5ad":
            raise MelismaError(f"{out}: an AnnData is one file; end its name in .h5ad.")
        return True
    return form is PARQUET and out.suffix == ".parquet"


def _lengths(
    form: ExportFormat, selection: Selection, genome: Genome | None, sizes: Path | str | None
) -> dict[str, int]:
    """Contig lengths for bigWig: from a file, a genome, or the one that the store names."""
    if form is not BIGWIG:
        return {}
    attrs = selection.methylome.attrs
    if not attrs["contigs"]:
        raise MelismaError(
            "The probes of this store have no positions, so there is no bigWig of them: ingest "
            "again with --manifest, or use --to matrix."
        )
    if sizes is not None:
        return check_sizes(selection, read_sizes(Path(sizes)))
    if genome is not None:
        return check_sizes(selection, genome.lengths)
    if "lengths" in attrs.get("genome", {}):
        return check_sizes(selection, attrs["genome"]["lengths"])
    raise MelismaError(
        "A bigWig needs the contigs' lengths, and the store does not know them: pass --sizes with "
        "a chrom.sizes file, or --genome with the reference."
    )


def _steps(form: ExportFormat, selection: Selection) -> int:
    """Sites that are walked, once for each group of samples."""
    walks = len(list(groups(selection))) if form in (BIGWIG, PARQUET) else 1
    return walks * (selection.last - selection.first)


def _write(job: _Job, single: Path | None, advance: Any) -> _Made:
    """Write the files into the work folder."""
    form, selection, work = job.form, job.selection, job.work
    stems = file_stems(selection.names)
    about: dict[str, Any] = {"reference": job.reference, "advance": advance}
    if single is not None:
        path = work / single.name
        write = write_anndata if form is ANNDATA else write_parquet_together
        return _Made(write(selection, path, **about), [(path.name,)] * len(stems))
    if form is MATRIX:
        path = work / (MATRIX.suffix + (".gz" if job.bgzip else ""))
        rows = write_matrix(selection, path, bgzip=job.bgzip, **about)
        return _Made(rows, [(path.name,)] * len(stems))
    if form is BIGWIG:
        suffixes = (BIGWIG.suffix, COVERAGE_SUFFIX) if selection.has_counts else (BIGWIG.suffix,)
        names = [tuple(stem + suffix for suffix in suffixes) for stem in stems]
        tracks = [Tracks(work / own[0], work / own[1] if len(own) > 1 else None) for own in names]
        return _Made(write_bigwig(selection, tracks, job.sizes, **about), names)
    if form is PARQUET:
        names = [(stem + PARQUET.suffix,) for stem in stems]
        return _Made(write_parquet(selection, [work / own[0] for own in names], **about), names)
    suffix = form.suffix
    if form.needs_context and selection.contexts == (CONTEXTS.index("CG"),):
        suffix = _CPG_REPORT
    names = [(stem + suffix + (".gz" if job.bgzip else ""),) for stem in stems]
    written = write_text(
        form,
        selection,
        [work / own[0] for own in names],
        bgzip=job.bgzip,
        workers=job.workers,
        **about,
    )
    return _Made(written.rows, names, written.clashing)


def _finish(job: _Job, out: Path, made: _Made, notes: list[str], *, single: bool) -> ExportSummary:
    """Drop files without calls, write the sheet and the record, and move all to the final path."""
    selection = job.selection
    if made.clashing:
        notes.append(
            f"At {made.clashing:,} calls the marks' reads exceed the coverage: the other marks' "
            "reads are written as what is left of it."
        )
    kept = [k for k, rows in enumerate(made.rows) if rows]
    left_out = {
        selection.names[k]: "no call at the chosen sites"
        for k in range(len(selection.names))
        if k not in set(kept)
    }
    shared = single or job.form is MATRIX
    for k in range(len(selection.names)):
        if not made.rows[k] and not shared:
            for name in made.files[k]:
                (job.work / name).unlink(missing_ok=True)
    final = out.parent if single else out
    size = {name: (job.work / name).stat().st_size for k in kept for name in made.files[k]}
    summary = ExportSummary(
        out=out,
        format=job.form.name,
        sites=selection.last - selection.first,
        files={selection.names[k]: tuple(final / n for n in made.files[k]) for k in kept},
        rows={selection.names[k]: made.rows[k] for k in kept},
        bytes={selection.names[k]: sum(size[n] for n in made.files[k]) for k in kept},
        left_out=left_out,
        notes=tuple(notes),
    )
    if not single:
        (job.work / SHEET).write_text(_sheet(job, made, kept), encoding="utf-8")
        _folder.write_record(job.work, summary)
    _folder.publish(job.work, out, single=single)
    for note in notes:
        progress.note(note)
    return summary


def _sheet(job: _Job, made: _Made, kept: list[int]) -> str:
    """The sample sheet of the files: what `melisma ingest` needs, and the store's covariates."""
    selection = job.selection
    columns: dict[str, list[Any]] = {
        "sample": [selection.names[k] for k in kept],
        "path": [made.files[k][0] for k in kept],
    }
    reader = job.form.reader if selection.has_counts else job.form.level_reader or job.form.reader
    if reader is not None:
        columns["format"] = [reader] * len(kept)
    for name, values in sample_sheet(selection.methylome).items():
        if name not in columns:
            columns[name] = [values[selection.samples[k]] for k in kept]
    return sheet_text(columns)


@contextmanager
def _told_when_full() -> Iterator[None]:
    """Say what a full disk means here: nothing was left, so nothing resumes."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise OSError(
                error.errno,
                "The disk is full (or a file too large) and nothing was written: make room, or "
                "export fewer samples or a --region at a time",
            ) from error
        raise

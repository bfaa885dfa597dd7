"""Ingest of levels without counts: matrices and arrays into one store of beta values."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from melisma import progress
from melisma.calls._bigwig_levels import write_bigwig_levels
from melisma.calls._idat import IDAT, both_channels, probe_addresses, raw_levels, read_idat
from melisma.calls._level_formats import MATRICES, MATRIX, has_levels
from melisma.calls._levels import LevelSummary, write_levels
from melisma.calls._manifest import Manifest, read_manifest
from melisma.calls._matrix_values import Piece, read_matrix
from melisma.calls._sample import Options, Source, fingerprint
from melisma.calls.bigwig import BIGWIG
from melisma.errors import MelismaError
from melisma.methylome import MARKS, part_folder


def have_levels(sources: Sequence[Source]) -> bool:
    """Whether the files give levels (True) or counts (False); both in one sheet is refused.

    Raises
    ------
    MelismaError
        Some samples have levels and others counts.
    """
    kinds = [has_levels(source.form) for source in sources]
    if any(kinds) and not all(kinds):
        level, count = sources[kinds.index(True)], sources[kinds.index(False)]
        raise MelismaError(
            f"Sample {level.sample} has levels without counts ({level.path}, {level.form.name}) "
            f"and sample {count.sample} has counts ({count.path}, {count.form.name}): a store "
            "holds one or the other, so ingest them apart."
        )
    return any(kinds)


def levels_hash(
    columns: dict[str, list[Any]],
    sources: Sequence[Source],
    options: Options,
    manifest: Path | None,
) -> str:
    """What a store of levels is made from, as one word."""
    state = None if manifest is None else [str(manifest.resolve()), manifest.stat().st_mtime_ns]
    made_from = [columns, state, [fingerprint(source, options) for source in sources]]
    return hashlib.sha256(json.dumps(made_from, default=str).encode()).hexdigest()


def ingest_levels(
    out: Path,
    columns: dict[str, list[Any]],
    sources: Sequence[Source],
    options: Options,
    *,
    manifest: Path | None,
    inputs: str,
) -> None:
    """Write the store of levels; the caller holds the lock and the work folder.

    Parameters
    ----------
    columns : the sample sheet
    manifest : the arrays' manifest
    inputs : `levels_hash`

    Raises
    ------
    MelismaError
        A file is at fault, or does not fit the manifest, the genome or the others.
    """
    if options.merge_strands:
        raise MelismaError(
            "Levels without counts cannot be summed over strands: leave out --merge-strands, or "
            "ingest files with counts."
        )
    _check_shared(sources)
    if any(source.form.name == BIGWIG.name for source in sources):
        _write_tracks(out, columns, sources, options, manifest=manifest, inputs=inputs)
        return
    read = None if manifest is None else read_manifest(manifest)
    pieces = _pieces(out, sources, read)
    if read is None and "probe" in pieces[0].sites.columns:
        progress.note(
            "The probes have no positions without a manifest (--manifest): sites are named by "
            "probe, and regions cannot be asked for."
        )

    def attrs(found: LevelSummary) -> dict[str, Any]:
        return _attributes(sources, options, read, inputs, found)

    cells = sum(piece.sites.height * len(piece.samples) for piece in pieces)
    with progress.stage("Writing the store", cells) as advance:
        write_levels(
            out,
            columns,
            pieces,
            manifest=read,
            genome=options.genome,
            mark=MARKS[options.mark or 0].code,
            attrs=attrs,
            advance=advance,
        )


def _write_tracks(
    out: Path,
    columns: dict[str, list[Any]],
    sources: Sequence[Source],
    options: Options,
    *,
    manifest: Path | None,
    inputs: str,
) -> None:
    other = next((source for source in sources if source.form.name != BIGWIG.name), None)
    if other is not None or manifest is not None:
        what = f"{other.path} is {other.form.name}" if other else f"{manifest} is for arrays"
        raise MelismaError(
            f"Levels of bigWig tracks are joined by position among themselves, and {what}: ingest "
            "them apart."
        )
    none = LevelSummary([0] * len(sources), [{} for _ in sources])
    with progress.stage("Writing the store") as advance:
        write_bigwig_levels(
            out,
            columns,
            [source.path for source in sources],
            genome=options.genome,
            mark=MARKS[options.mark or 0].code,
            attrs=_attributes(sources, options, None, inputs, none),
            advance=advance,
        )


def _check_shared(sources: Sequence[Source]) -> None:
    forms: dict[Path, Source] = {}
    for source in sources:
        first = forms.setdefault(source.path.resolve(), source)
        if first.form != source.form:
            raise MelismaError(
                f"{source.path} is {first.form.name} for sample {first.sample} and "
                f"{source.form.name} for sample {source.sample}: name one format."
            )


def _pieces(out: Path, sources: Sequence[Source], manifest: Manifest | None) -> list[Piece]:
    """Every file's values in a flat file, each file read once for all of its samples."""
    folder = part_folder(out) / "levels"
    files: dict[Path, list[Source]] = {}
    arrays = [source for source in sources if source.form is IDAT]
    for source in sources:
        if source.form in MATRICES:
            files.setdefault(source.path.resolve(), []).append(source)
    total = sum(path.stat().st_size for path in files)
    total += sum(source.path.stat().st_size for source in arrays)
    pieces: list[Piece] = []
    with progress.stage(f"Reading {len(files) + len(arrays)} files", total) as advance:
        for k, group in enumerate(files.values()):
            form = group[0].form
            pieces.append(
                read_matrix(
                    group[0].path,
                    [source.sample for source in group],
                    folder / f"{k}.f32",
                    base=None if form is MATRIX else form.base,
                    advance=advance,
                )
            )
        if arrays:
            pieces.append(_arrays(arrays, manifest, folder / "arrays.f32", advance))
    return pieces


def _arrays(
    sources: Sequence[Source],
    manifest: Manifest | None,
    file: Path,
    advance: Callable[[float], Any],
) -> Piece:
    """Raw levels of IDAT files at the manifest's probes, a sample at a time."""
    if manifest is None:
        raise MelismaError(
            f"{sources[0].path} has intensities by bead address: pass --manifest with Illumina's "
            "CSV manifest of the array, which says what each address measures."
        )
    probes = probe_addresses(manifest)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as out:
        for source in sources:
            green, red = both_channels(source.path)
            channels = read_idat(green), read_idat(red)
            out.write(raw_levels(*channels, probes, names=(green, red)).data)
            advance(source.path.stat().st_size)
    progress.note(
        "Levels of IDAT files are raw, M / (M + U + 100): background, dye and probe type are not "
        "corrected."
    )
    names = tuple(source.sample for source in sources)
    sites = manifest.table.select("probe")
    return Piece(manifest.path, names, sites, file, samples_down=True, scale=1.0)


def _attributes(
    sources: Sequence[Source],
    options: Options,
    manifest: Manifest | None,
    inputs: str,
    found: LevelSummary,
) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "ingest": {
            "inputs": inputs,
            "merge_strands": False,
            "samples": {
                source.sample: {
                    "file": source.path.name,
                    "format": source.form.name,
                    "rows": rows,
                    "calls": rows - sum(drops.values()),
                    "drops": drops,
                }
                for source, rows, drops in zip(sources, found.rows, found.drops, strict=True)
            },
        }
    }
    if manifest is not None:
        attrs["manifest"] = {"name": manifest.path.name, "build": manifest.build}
    if options.genome is not None:
        attrs["genome"] = {"name": options.genome.name, "lengths": options.genome.lengths}
    return attrs

"""bigWig: a level and a coverage track a sample, one value a site.

Values are 32-bit floats: round(level × coverage) gives the methylated reads back exactly for up to
`MOST_READS` reads, as the level's rounding error is at most 2^-25 of it.
"""

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from melisma.errors import MelismaError
from melisma.export._format import ExportFormat
from melisma.export._reference import Reference
from melisma.export._selection import Selection
from melisma.export._spool import Rows, groups, read_spool, spool

if TYPE_CHECKING:
    import polars as pl

BIGWIG = ExportFormat(
    "bigwig", "bigWig", ".level.bw", "bigwig-counts", level_reader="bigwig", levels=True
)
COVERAGE_SUFFIX = ".coverage.bw"
MOST_READS = 1 << 23


class Tracks(NamedTuple):
    """The files of one sample; without counts there is no coverage track."""

    level: Path
    coverage: Path | None


def read_sizes(path: Path) -> dict[str, int]:
    """Contig lengths from a chrom.sizes file: name and length, separated by white space.

    Raises
    ------
    MelismaError
        The file is missing, or a line is no name and length.
    """
    if not path.is_file():
        raise MelismaError(f"There is no file of contig lengths at {path}.")
    sizes: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
        fields = line.split()
        if not fields or line.startswith("#"):
            continue
        if len(fields) < 2 or not fields[1].isdecimal() or not int(fields[1]):
            raise MelismaError(
                f"{path} line {number}: {line[:60]!r} is no contig and length, such as 'chr1 "
                "248956422': give a chrom.sizes file or a .fai."
            )
        if sizes.setdefault(fields[0], int(fields[1])) != int(fields[1]):
            raise MelismaError(f"{path} line {number}: {fields[0]} has two lengths.")
    if not sizes:
        raise MelismaError(f"{path} holds no contig lengths: give a chrom.sizes file or a .fai.")
    return sizes


def check_sizes(selection: Selection, sizes: Mapping[str, int]) -> dict[str, int]:
    """The lengths of the contigs that are exported, in the store's order.

    Raises
    ------
    MelismaError
        A contig has no length, or a site lies past its end.
    """
    contigs, offsets = (selection.methylome.attrs[name] for name in ("contigs", "contig_offsets"))
    wanted: dict[str, int] = {}
    for k, name in enumerate(contigs):
        first, last = max(offsets[k], selection.first), min(offsets[k + 1], selection.last)
        if first >= last:
            continue
        if name not in sizes:
            raise MelismaError(
                f"The contig {name} has no length in what was given (it has "
                f"{', '.join(list(sizes)[:5])}): give the genome that the calls were made on."
            )
        end = int(selection.methylome["position"][last - 1]) + 1
        if end > sizes[name]:
            raise MelismaError(
                f"The store has a site at {name}:{end - 1} (0-based), past the contig's length of "
                f"{sizes[name]:,}: give the lengths of the genome that the calls were made on."
            )
        wanted[name] = sizes[name]
    return wanted


def write_bigwig(
    selection: Selection,
    tracks: Sequence[Tracks],
    sizes: Mapping[str, int],
    *,
    reference: Reference | None,
    advance: Callable[[float], Any],
) -> list[int]:
    """Write every sample's tracks; returns the sites of each, 0: no file is written."""
    rows: list[int] = []
    left = list(tracks)
    for group in groups(selection):
        mine, left = left[: len(group.samples)], left[len(group.samples) :]
        spooled = [track.level.with_name(track.level.name + ".rows") for track in mine]
        found = spool(group, spooled, reference=reference, advance=advance)
        for track, source, name, count in zip(mine, spooled, group.names, found, strict=True):
            if count:
                _write_track(track.level, group, source, name, sizes, _levels)
                if track.coverage is not None:
                    _write_track(track.coverage, group, source, name, sizes, _coverages)
            source.unlink()
        rows += found
    return rows


def _levels(block: Rows) -> Any:
    if "beta" in (block.dtype.names or ()):
        return block["beta"]
    return (block["methylated"] / block["coverage"]).astype(np.float32)


def _coverages(block: Rows) -> Any:
    return block["coverage"].astype(np.float32)


def _write_track(
    path: Path,
    selection: Selection,
    source: Path,
    name: str,
    sizes: Mapping[str, int],
    values: Callable[[Rows], Any],
) -> None:
    """Write one track and look at what became of it: the writer prints errors and goes on."""
    pybigtools = _package()
    failed: list[BaseException] = []
    count = 0

    def rows() -> Iterator[tuple[str, int, int, float]]:
        nonlocal count
        try:
            for row in _rows(selection, source, name, values):
                yield row
                count += 1
        except BaseException as error:
            failed.append(error)

    pybigtools.open(str(path), "w").write(dict(sizes), rows())
    if failed:
        raise failed[0]
    try:
        with pybigtools.open(str(path)) as track:
            written = track.info()["summary"]["basesCovered"]
    except Exception:
        written = 0
    if written != count:
        raise OSError(
            errno.EIO,
            f"{path.name} holds {written:,} of {count:,} values: the disk may be full",
        )


def _package() -> Any:
    try:
        import pybigtools
    except ImportError:
        raise MelismaError(
            'bigWig files need the package pybigtools: pip install "melisma[bigwig]".'
        ) from None
    return pybigtools


def _rows(
    selection: Selection, source: Path, name: str, values: Callable[[Rows], Any]
) -> Iterator[tuple[str, int, int, float]]:
    contigs, last = selection.methylome.attrs["contigs"], (-1, -1)
    for block in read_spool(source, selection):
        if selection.has_counts and int(block["coverage"].max()) > MOST_READS:
            raise MelismaError(
                f"Sample {name} has a site of {int(block['coverage'].max()):,} reads, and bigWig's "
                f"32-bit numbers keep counts of up to {MOST_READS:,}: use --to parquet."
            )
        contig, position = block["contig"].tolist(), block["position"].tolist()
        for k, at, value in zip(contig, position, values(block).tolist(), strict=True):
            if last == (k, at):
                raise MelismaError(
                    f"The store has both strands of {contigs[k]}:{at} (0-based), and bigWig holds "
                    "one value a position: use --to bedmethyl or parquet."
                )
            last = (k, at)
            yield contigs[k], at, at + 1, value


def write_values(path: Path, table: "pl.DataFrame", sizes: Mapping[str, int]) -> None:
    """One level a site as a bigWig.

    Parameters
    ----------
    table : contig, position (0-based), level; several rows of one position have their mean
    sizes : bases of every contig

    Raises
    ------
    MelismaError
        pybigtools is not installed.
    """
    import polars as pl

    pybigtools = _package()
    # bigWig's contigs are in the order of their names.
    rows = (
        table.group_by("contig", "position").agg(pl.col("level").mean()).sort("contig", "position")
    )
    # The writer tells a file's kind by its name.
    work = path.with_name(f".{path.stem}.part.bw")
    try:
        pybigtools.open(str(work), "w").write(
            dict(sizes), ((c, p, p + 1, v) for c, p, v in rows.iter_rows())
        )
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)

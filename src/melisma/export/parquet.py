"""Parquet: a row a call, columns as the store names them; a file a sample, or one for all."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.export._format import ExportFormat
from melisma.export._reference import Reference
from melisma.export._selection import Selection
from melisma.export._spool import groups, read_spool, spool
from melisma.export._walk import walk
from melisma.methylome import CONTEXTS

PARQUET = ExportFormat(
    "parquet",
    "Parquet",
    ".parquet",
    "parquet",
    levels=True,
    marks=True,
    strands=True,
    contexts=True,
)
_COMPRESSION = "zstd"


def schema(selection: Selection, *, together: bool) -> dict[str, Any]:
    """Columns and types of the file."""
    values = (
        {"methylated": pl.UInt32, "coverage": pl.UInt32}
        if selection.has_counts
        else {"beta": pl.Float32}
    )
    return (
        ({"sample": pl.String} if together else {})
        | {"contig": pl.String, "position": pl.Int32, "strand": pl.Int8, "mark": pl.String}
        | {"context": pl.String}
        | ({"probe": pl.String} if "probe" in selection.methylome else {})
        | values
    )


def write_parquet(
    selection: Selection,
    files: Sequence[Path],
    *,
    reference: Reference | None,
    advance: Callable[[float], Any],
) -> list[int]:
    """Write one file a sample; returns the rows of each."""
    probe = _probes(selection)
    rows: list[int] = []
    left = list(files)
    for group in groups(selection):
        mine, left = left[: len(group.samples)], left[len(group.samples) :]
        spooled = [path.with_name(path.name + ".rows") for path in mine]
        rows += spool(group, spooled, reference=reference, advance=advance)
        for path, source in zip(mine, spooled, strict=True):
            tables = (_table(group, block, probe) for block in read_spool(source, group))
            _sink(selection, path, tables, together=False)
            source.unlink()
    return rows


def write_parquet_together(
    selection: Selection,
    path: Path,
    *,
    reference: Reference | None,
    advance: Callable[[float], Any],
) -> list[int]:
    """Write all samples into one file, site by site; returns the rows of each."""
    rows = np.zeros(len(selection.samples), dtype=np.int64)
    probe = _probes(selection)

    def tables() -> Iterator[pl.DataFrame]:
        for stretch in walk(selection, reference):
            site, sample = np.nonzero(stretch.seen.T)
            rows[:] += np.bincount(sample, minlength=len(rows))
            columns = {}
            for name in ("contig", "position", "strand", "mark", "context", "row"):
                columns[name] = getattr(stretch, name)[site]
            for name in ("methylated", "coverage") if selection.has_counts else ("beta",):
                columns[name] = getattr(stretch, name)[sample, site]
            names = pl.Series("sample", selection.names, pl.String).gather(sample)
            yield _table(selection, columns, probe).insert_column(0, names)
            advance(len(stretch))

    _sink(selection, path, tables(), together=True)
    return [int(n) for n in rows]


def _probes(selection: Selection) -> pl.Series | None:
    methylome = selection.methylome
    if "probe" not in methylome:
        return None
    return pl.Series("probe", methylome["probe"].values.tolist(), pl.String)


def _table(selection: Selection, columns: Any, probe: pl.Series | None) -> pl.DataFrame:
    """Rows with words for the indices; a probe without a place has no contig and position."""
    attrs = selection.methylome.attrs
    contig = columns["contig"]
    placed = contig >= 0
    words = {
        "contig": _words(
            [*attrs["contigs"], None], np.where(placed, contig, len(attrs["contigs"]))
        ),
        "position": pl.Series(columns["position"]).set(pl.Series(~placed), None),
        "strand": pl.Series(columns["strand"]),
        "mark": _words(attrs["marks"], columns["mark"]),
        "context": _words(CONTEXTS, columns["context"]),
    }
    if probe is not None:
        words["probe"] = probe.gather(columns["row"])
    for name in ("methylated", "coverage") if selection.has_counts else ("beta",):
        words[name] = pl.Series(columns[name])
    return pl.DataFrame(words)


def _words(names: Sequence[str | None], index: npt.NDArray[Any]) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(index.astype(np.uint32))


def _sink(
    selection: Selection, path: Path, tables: Iterator[pl.DataFrame], *, together: bool
) -> None:
    """Write tables as they come; strands and the schema's name go into the file's metadata."""
    from polars.io.plugins import register_io_source

    columns = schema(selection, together=together)
    failed: list[BaseException] = []

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from tables
        except BaseException as error:
            # Polars would wrap it in an error of its own.
            failed.append(error)
            raise

    attrs = selection.methylome.attrs
    told = {"strands": attrs["strands"], "contigs": attrs["contigs"], "marks": attrs["marks"]}
    try:
        register_io_source(source, schema=columns).sink_parquet(
            path, compression=_COMPRESSION, metadata={"melisma": json.dumps(told)}
        )
    except BaseException:
        if failed:
            raise failed[0] from None
        raise

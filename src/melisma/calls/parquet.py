"""Calls from Parquet tables, as `melisma export --to parquet` writes them.

Columns: contig, position (0-based), methylated and coverage; strand, mark and context where they
are known; and, where one file holds several samples, sample.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.calls._format import Format, Strandless
from melisma.calls._records import ContigCalls
from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, MARKS, UNKNOWN_CONTEXT, parse_mark

PARQUET = Format(
    name="parquet",
    title="Parquet table of calls (melisma export --to parquet)",
    base=0,
    evidence="literals, and round trips through melisma's own export",
    tested="literals and round trips",
    sniff=lambda lines: None,
    carries_context=True,
)
_NEEDED = ("contig", "position", "methylated", "coverage")
_OPTIONAL = ("strand", "mark", "context")
_ROWS = 1 << 18
_STRANDS = {"+": 1, "-": -1, ".": 0, "*": 0, "1": 1, "-1": -1, "0": 0}


def parquet_format(path: Path) -> Format:
    """The format, with what the file's own metadata say of strands."""
    try:
        told = json.loads(pl.read_parquet_metadata(path).get("melisma", "{}"))
    except (ValueError, OSError, pl.exceptions.PolarsError):
        return PARQUET
    merged = isinstance(told, dict) and told.get("strands") == "merged"
    return PARQUET._replace(strandless=Strandless.MERGED) if merged else PARQUET


def has_samples(path: Path) -> bool:
    """Whether a table names its rows' samples."""
    return "sample" in _schema(path)


def _schema(path: Path) -> dict[str, Any]:
    try:
        return dict(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MelismaError(
            f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}): copy or write it "
            "again."
        ) from None


def read_parquet(
    path: Path,
    sample: str,
    *,
    mark: int | None = None,
    advance: Callable[[float], Any] | None = None,
) -> Iterator[ContigCalls]:
    """A sample's calls, some hundred thousand rows at a time, in the file's order.

    Parameters
    ----------
    mark : index into `MARKS`: rows of another mark are left out; what rows without one hold

    Raises
    ------
    MelismaError
        A column is missing or of the wrong kind, a value is missing or impossible, or the sample
        is not in the file.
    """
    schema = _check_columns(path)
    rows = pl.scan_parquet(path, row_index_name="_row")
    if "sample" in schema:
        rows = rows.filter(pl.col("sample").cast(pl.String) == sample)
    columns = [name for name in (*_NEEDED, *_OPTIONAL) if name in schema]
    found, size = 0, path.stat().st_size
    for table in rows.select("_row", *columns).collect_batches(
        chunk_size=_ROWS, maintain_order=True
    ):
        found += len(table)
        yield from _calls(path, table, mark)
    if advance:
        advance(size)
    if not found and "sample" in schema:
        names = pl.scan_parquet(path).select(pl.col("sample").cast(pl.String).unique().sort())
        some = ", ".join(str(name) for name in names.collect()["sample"][:5])
        raise MelismaError(f"{path} has no rows of sample {sample!r}; its samples are {some}.")


def _check_columns(path: Path) -> dict[str, Any]:
    schema = _schema(path)
    missing = [name for name in _NEEDED if name not in schema]
    if missing:
        levels = " It has levels (beta) without counts, which are not read from Parquet: write a "
        levels += "matrix." if "beta" in schema else ""
        raise MelismaError(
            f"{path} lacks the {'column' if len(missing) == 1 else 'columns'} "
            f"{', '.join(missing)} of a table of calls; it has {', '.join(schema)}."
            + (levels if "beta" in schema else "")
        )
    for name in ("position", "methylated", "coverage"):
        if not schema[name].is_integer():
            raise MelismaError(
                f"{path}: the column {name} holds {schema[name]}, not whole numbers."
            )
    return schema


def _calls(path: Path, table: pl.DataFrame, mark: int | None) -> Iterator[ContigCalls]:
    _check_rows(path, table)
    table = table.with_columns(pl.col("contig").cast(pl.String))
    if "mark" in table.columns:
        words = table["mark"].cast(pl.String)
        index = {word: MARKS.index(parse_mark(word)) for word in words.unique().to_list()}
        table = table.with_columns(words.replace_strict(index, return_dtype=pl.Int8).alias("mark"))
        if mark is not None:
            table = table.filter(pl.col("mark") == mark)
    else:
        table = table.with_columns(pl.lit(mark or 0, pl.Int8).alias("mark"))
    contigs = table["contig"]
    edges = np.flatnonzero((contigs != contigs.shift(1)).fill_null(True).to_numpy())
    for start, stop in zip(edges, [*edges[1:], len(table)], strict=True):
        part = table[int(start) : int(stop)]
        yield ContigCalls(
            contig=str(part["contig"][0]),
            position=part["position"].to_numpy().astype(np.int32),
            strand=_strand(path, part),
            mark=part["mark"].to_numpy().astype(np.int8),
            methylated=part["methylated"].to_numpy().astype(np.uint32),
            coverage=part["coverage"].to_numpy().astype(np.uint32),
            context=_context(part),
        )


def _check_rows(path: Path, table: pl.DataFrame) -> None:
    broken = pl.any_horizontal(pl.exclude("_row").is_null())
    most = np.iinfo(np.uint32).max
    wrong = broken | (
        (pl.col("methylated") > pl.col("coverage"))
        | (pl.col("methylated") < 0)
        | (pl.col("coverage").cast(pl.Int64, strict=False) > most)
        | (pl.col("position") < 0)
        | (pl.col("position").cast(pl.Int64, strict=False) > np.iinfo(np.int32).max)
    )
    found = table.filter(wrong)
    if len(found):
        row = found.row(0, named=True)
        shown = ", ".join(f"{name} {row[name]}" for name in _NEEDED)
        raise MelismaError(
            f"{path} row {row['_row'] + 1:,} has {shown}: it should have a contig, a position from "
            "0 on, and no more methylated reads than coverage."
        )


def _strand(path: Path, part: pl.DataFrame) -> npt.NDArray[np.int8]:
    if "strand" not in part.columns:
        return np.zeros(len(part), dtype=np.int8)
    words = part["strand"].cast(pl.String)
    unknown = [word for word in words.unique().to_list() if word not in _STRANDS]
    if unknown:
        raise MelismaError(
            f"{path} has a strand {unknown[0]!r}: it should be +, - or ., or 1, -1, 0."
        )
    return words.replace_strict(_STRANDS, return_dtype=pl.Int8).to_numpy().astype(np.int8)


def _context(part: pl.DataFrame) -> npt.NDArray[np.int8]:
    if "context" not in part.columns:
        return np.full(len(part), UNKNOWN_CONTEXT, dtype=np.int8)
    index = {name: k for k, name in enumerate(CONTEXTS)}
    found = (
        part["context"]
        .cast(pl.String)
        .replace_strict(index, default=UNKNOWN_CONTEXT, return_dtype=pl.Int8)
    )
    return found.to_numpy().astype(np.int8)

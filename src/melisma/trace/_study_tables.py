"""Mediators by sample: from a table of levels, or from a store's sites or regions."""

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma._plural import count
from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]
# Cells of levels held in memory: 2 GB of float64.
_MOST_CELLS = 1 << 28
_MOST_NAMED = 3
_NULLS = ["", "NA", "NaN", "nan"]


class Mediators(NamedTuple):
    """Values that may stand between exposure and outcome.

    values : (samples, mediators), NaN where missing
    samples, names : their names
    kind : "site", "probe", "region" or "mediator"
    """

    values: Floats
    samples: tuple[str, ...]
    names: tuple[str, ...]
    kind: str = "mediator"

    def taken(self, rows: Any = None, columns: Any = None) -> "Mediators":
        """Some samples, some mediators, by their numbers; None: all."""
        values, samples, names = self[:3]
        if rows is not None:
            values, samples = values[rows], tuple(samples[k] for k in rows)
        if columns is not None:
            values, names = values[:, columns], tuple(names[k] for k in columns)
        return self._replace(values=values, samples=samples, names=names)


def read_mediators(path: Path | str, *, known: Collection[str] = ()) -> Mediators:
    """Read a table of mediators, a row a sample, TSV or CSV, which may be compressed by gzip.

    Parameters
    ----------
    path : the first column names the samples; each other column is a mediator. A table with a row a
        mediator and a column a sample is turned.
    known : the sheet's samples, by which the two are told apart

    Raises
    ------
    MelismaError
        There is no such file; a cell is no number; a sample or a mediator is there twice.
    """
    path = Path(path)
    table = _read(path)
    rows = [str(name) for name in table.to_series(0)]
    columns = table.columns[1:]
    turned = sum(c in known for c in columns) > sum(r in known for r in rows)
    for names, what in ((rows, "row"), (columns, "column")):
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise MelismaError(
                f"{path} has two {what}s named {twice[0]!r}: each sample and each mediator must be "
                "there once."
            )
    words = [name for name in columns if not table[name].dtype.is_numeric()]
    if words:
        value = next(v for v in table[words[0]] if not _is_number(v))
        raise MelismaError(
            f"{path} has {value!r} in the column {words[0]!r}, where levels are needed: leave that "
            "column out, or clear the cell."
        )
    values = table.select(columns).to_numpy().astype(np.float64)
    if turned:
        return Mediators(np.ascontiguousarray(values.T), tuple(columns), tuple(rows))
    return Mediators(values, tuple(rows), tuple(columns))


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise MelismaError(f"There is no table of mediators at {path}.")
    # Polars reads gzip by itself.
    name = path.name.removesuffix(".gz")
    separator = "," if name.endswith(".csv") else "\t"
    try:
        table = pl.read_csv(
            path, separator=separator, null_values=_NULLS, infer_schema_length=None,
            comment_prefix="#",
        )  # fmt: skip
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error).split("\n")[0]
        raise MelismaError(f"{path} cannot be read as a table ({said}).") from None
    if table.width < 2 or not len(table):
        raise MelismaError(
            f"{path} has {count(len(table), 'row')} and {count(table.width, 'column')}: a table of "
            "mediators has a column of samples and one or more of levels (TSV, or CSV if it ends "
            "in .csv)."
        )
    if any(column.endswith("_duplicated_0") for column in table.columns):
        twice = next(c for c in table.columns if c.endswith("_duplicated_0"))
        raise MelismaError(
            f"{path} has two columns named {twice.removesuffix('_duplicated_0')!r}: each sample "
            "and each mediator must be there once."
        )
    # A column without any value has no type of its own.
    return table.with_columns(pl.col(pl.Null).cast(pl.Float64))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True


def store_mediators(
    store: Path | str, *, regions: Path | str | None = None, mark: str | None = None
) -> Mediators:
    """Levels of a store's sites, or of regions: the reads with the mark by all reads.

    Parameters
    ----------
    regions : a table of `melisma regions` (TSV with contig, start, end) or a BED file; a region's
        level pools the reads of its sites, or is the mean of its levels where there are no counts
    mark : which mark, if there are several

    Raises
    ------
    MelismaError
        The store has several marks and none is named, or is too large for its sites, or no region
        holds a site of it.
    """
    from melisma.methylome import open_methylome, single_mark

    methylome = single_mark(open_methylome(store), mark)
    samples = tuple(str(s) for s in methylome["sample"].values)
    if regions is not None:
        return _regions(methylome, samples, Path(regions))
    cells = methylome.sizes["site"] * len(samples)
    if cells > _MOST_CELLS:
        raise MelismaError(
            f"{methylome.sizes['site']:,} sites of {len(samples):,} samples are {cells:,} levels, "
            f"more than the {_MOST_CELLS:,} that are held in memory: name stretches with "
            "--regions, such as the table of `melisma regions`."
        )
    if "beta" in methylome:
        levels = methylome["beta"].values.astype(np.float64)
    else:
        levels = _levels(methylome["methylated"].values, methylome["coverage"].values)
    if "probe" in methylome:
        names = tuple(str(p) for p in methylome["probe"].values)
        return Mediators(np.ascontiguousarray(levels.T), samples, names, "probe")
    contigs = methylome.attrs["contigs"]
    strands = methylome["strand"].values
    names = tuple(
        f"{contigs[c]}:{p}" + {1: "+", -1: "-"}.get(int(s), "")
        for c, p, s in zip(
            methylome["contig"].values, methylome["position"].values, strands, strict=True
        )
    )
    return Mediators(np.ascontiguousarray(levels.T), samples, names, "site")


def _levels(methylated: Any, coverage: Any) -> Floats:
    """Levels of counts; NaN where nothing was seen."""
    level = np.full(np.shape(coverage), np.nan)
    np.divide(methylated, coverage, out=level, where=np.asarray(coverage) > 0)
    return level


def _regions(methylome: Any, samples: tuple[str, ...], path: Path) -> Mediators:
    places = _read_regions(path, [str(c) for c in methylome.attrs["contigs"]])
    contig, position = methylome["contig"].values, methylome["position"].values
    number = {str(name): k for k, name in enumerate(methylome.attrs["contigs"])}
    offsets = np.searchsorted(contig, np.arange(len(number) + 1))
    names, levels, empty = [], [], 0
    for own, start, end, name in places.iter_rows():
        if own not in number:
            empty += 1
            continue
        low, high = offsets[number[own]], offsets[number[own] + 1]
        first, last = low + np.searchsorted(position[low:high], [start, end])
        if first == last:
            empty += 1
            continue
        names.append(name)
        if "beta" in methylome:
            part = methylome["beta"][first:last].values.astype(np.float64)
            seen = ~np.isnan(part)
            levels.append(_levels(np.nan_to_num(part).sum(0), seen.sum(0)))
        else:
            reads = [
                methylome[k][first:last].values.astype(np.int64).sum(0)
                for k in ("methylated", "coverage")
            ]
            levels.append(_levels(*reads))
    if not names:
        raise MelismaError(
            f"No region of {path} holds a site of the store, whose contigs are "
            f"{', '.join(list(number)[:_MOST_NAMED])}: is the file of another genome build?"
        )
    if empty:
        progress.note(f"{count(empty, 'region')} of {path} hold no site of the store.")
    return Mediators(np.stack(levels, axis=1), samples, tuple(names), "region")


def _read_regions(path: Path, contigs: list[str]) -> pl.DataFrame:
    """contig, start, end and name of each region, repeated ones once."""
    from melisma.bed import read_bed

    if not path.is_file():
        raise MelismaError(f"There is no table of regions at {path}.")
    if path.suffix == ".parquet":
        table = pl.read_parquet(path)
    else:
        with path.open("rb") as file:
            header = file.readline().decode(errors="replace").rstrip("\n").split("\t")
        if "start" in header and "contig" in header:
            table = pl.read_csv(path, separator="\t", infer_schema_length=None)
        else:
            table = read_bed(path, contigs=contigs)
    for needed in ("contig", "start", "end"):
        if needed not in table.columns:
            raise MelismaError(
                f"{path} has no column {needed!r}: it should be a table of `melisma regions` or a "
                "BED file."
            )
    place = pl.format("{}:{}-{}", "contig", "start", "end")
    named = next((c for c in ("region", "name") if c in table.columns), None)
    name = place
    if named is not None:
        name = pl.when(pl.col(named).is_in(["", "."])).then(place).otherwise(pl.col(named))
    found = table.select("contig", "start", "end", name.alias("name"))
    # A name that two regions share gives way to their places.
    twice = found["name"].is_duplicated()
    found = found.with_columns(pl.when(twice).then(place).otherwise("name").alias("name"))
    return found.unique("name", maintain_order=True)

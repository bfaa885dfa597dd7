"""What a panel may choose from: sites, runs of neighbouring sites, or the regions of a BED file.

None of them knows the phenotype, so they may be laid out before the folds are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma import progress
from melisma.bed import read_bed
from melisma.errors import MelismaError
from melisma.methylome import chunk_sites

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.integer[Any]]

# A run of sites: no gap over this, no longer than that, no fewer sites.
MAX_GAP, LONGEST, FEWEST_SITES = 300, 1000, 3
# Cells of counts held in memory: 4 GB of uint16.
_MOST_CELLS = 1 << 30


@dataclass(frozen=True)
class Features:
    """Features and their counts or levels, (features, samples).

    kind : "site", "probe" or "region"
    table : a row a feature; contig, position, strand, mark; or probe beside them; or region,
        contig, start, end, sites, mark
    """

    kind: str
    table: pl.DataFrame
    methylated: Array | None = None
    coverage: Array | None = None
    beta: Array | None = None

    @property
    def count(self) -> int:
        return len(self.table)


class Intervals:
    """Regions as stretches of a store's sites: names, places, and rows first to last, each (n,)."""

    def __init__(self, table: pl.DataFrame, first: Ints, last: Ints) -> None:
        self.table, self.first, self.last = table, first, last


def load_features(methylome: xr.Dataset, on: str, columns: Ints) -> Features:
    """Read the features of some samples.

    Parameters
    ----------
    on : "sites", "regions" or a BED file
    columns : the samples, in the order wanted

    Raises
    ------
    MelismaError
        The store is too large for --on sites, has no positions for regions, or the BED file
        cannot be read or names no site of the store.
    """
    if on == "sites":
        return _sites(methylome, columns)
    if not methylome.attrs["contigs"]:
        raise MelismaError(
            "The probes of this store have no positions, so there are no regions: ingest it again "
            "with --manifest, or use --on sites."
        )
    intervals = site_runs(methylome) if on == "regions" else bed_intervals(methylome, Path(on))
    if not len(intervals.table):
        raise MelismaError(
            f"No {FEWEST_SITES} sites of the store lie within {LONGEST:,} bases of each other: use "
            "--on sites."
        )
    mark = methylome.attrs["marks"][int(methylome["mark"].values[0])]
    table = intervals.table.with_columns(mark=pl.lit(mark))
    return Features("region", table, **region_values(methylome, intervals, columns))


def _sites(methylome: xr.Dataset, columns: Ints) -> Features:
    cells = methylome.sizes["site"] * len(columns)
    if cells > _MOST_CELLS:
        raise MelismaError(
            f"{methylome.sizes['site']:,} sites of {len(columns):,} samples are {cells:,} cells, "
            f"more than the {_MOST_CELLS:,} that are held in memory: use --on regions, or a BED "
            "file of the stretches to choose from."
        )
    contigs = np.array([*methylome.attrs["contigs"], ""], dtype=object)
    marks = methylome.attrs["marks"]
    table = pl.DataFrame(
        {
            "contig": contigs[methylome["contig"].values].tolist(),
            "position": methylome["position"].values.astype(np.int64),
            "strand": methylome["strand"].values.astype(np.int64),
            "mark": [marks[k] for k in methylome["mark"].values],
        },
        schema_overrides={"contig": pl.String, "mark": pl.String},
    )
    kind = "site"
    if "probe" in methylome:
        kind = "probe"
        table = table.with_columns(
            pl.Series("probe", [str(p) for p in methylome["probe"].values], dtype=pl.String)
        )
    names = ("beta",) if "beta" in methylome else ("methylated", "coverage")
    held: dict[str, Any] = {}
    for name in names:
        kept = np.empty((methylome.sizes["site"], len(columns)), methylome[name].dtype)
        step = chunk_sites(methylome.sizes["sample"])
        for start in range(0, len(kept), step):
            part = methylome[name][start : start + step].values
            kept[start : start + step] = part[:, columns]
        held[name] = kept
    return Features(kind, table, **held)


def site_runs(methylome: xr.Dataset) -> Intervals:
    """Runs of neighbouring sites: cut at gaps over 300 bases and after every 1,000."""
    contig = methylome["contig"].values.astype(np.int64)
    position = methylome["position"].values.astype(np.int64)
    if not len(position):
        return Intervals(_region_table([], [], [], [], []), *np.zeros((2, 0), np.int64))
    apart = (np.diff(contig) != 0) | (np.diff(position) > MAX_GAP)
    chain = np.concatenate([[0], np.cumsum(apart)])
    begin = position[np.concatenate([[0], np.flatnonzero(apart) + 1])][chain]
    piece = (position - begin) // LONGEST
    cut = apart | (np.diff(piece) != 0)
    first = np.concatenate([[0], np.flatnonzero(cut) + 1])
    last = np.concatenate([first[1:], [len(position)]])
    kept = last - first >= FEWEST_SITES
    first, last = first[kept], last[kept]
    names = np.array(methylome.attrs["contigs"], dtype=object)[contig[first]].tolist()
    start, end = position[first], position[last - 1] + 1
    words = [f"{c}:{s}-{e}" for c, s, e in zip(names, start, end, strict=True)]
    return Intervals(_region_table(words, names, start, end, last - first), first, last)


def bed_intervals(methylome: xr.Dataset, path: Path) -> Intervals:
    """The regions of a BED file that hold a site of the store; others are counted and said."""
    if not path.is_file():
        raise MelismaError(
            f"--on is `sites`, `regions` or a BED file, and there is no file at {path}."
        )
    contigs = [str(name) for name in methylome.attrs["contigs"]]
    rows = read_bed(path, contigs=contigs)
    offsets = np.searchsorted(methylome["contig"].values, np.arange(len(contigs) + 1))
    position = methylome["position"].values
    number = {name: k for k, name in enumerate(contigs)}
    found: dict[tuple[str, int, int], tuple[str, int, int]] = {}
    for own, start, end, name in rows.select("contig", "start", "end", "name").iter_rows():
        if own not in number:
            continue
        low, high = offsets[number[own]], offsets[number[own] + 1]
        first, last = low + np.searchsorted(position[low:high], [start, end])
        if last > first:
            word = f"{own}:{start}-{end}" if name in ("", ".") else name
            found.setdefault((own, start, end), (word, int(first), int(last)))
    if not found:
        raise MelismaError(
            f"No region of {path} holds a site of the store, whose contigs are "
            f"{', '.join(contigs[:3])}: is the file of another genome build?"
        )
    if len(found) < len(rows):
        progress.note(
            f"{len(rows) - len(found):,} of {len(rows):,} regions of {path} are repeated or hold "
            "no site of the store and are left out."
        )
    keys = sorted(found, key=lambda key: (found[key][1:], key))
    words, first, last = zip(*(found[key] for key in keys), strict=True)
    sites = np.array(last) - np.array(first)
    table = _region_table(
        list(words), [k[0] for k in keys], [k[1] for k in keys], [k[2] for k in keys], sites
    )
    return Intervals(table, np.array(first), np.array(last))


def _region_table(names: Any, contigs: Any, start: Any, end: Any, sites: Any) -> pl.DataFrame:
    columns = {"region": names, "contig": contigs, "start": start, "end": end, "sites": sites}
    kinds = (pl.String, pl.String, pl.Int64, pl.Int64, pl.Int64)
    return pl.DataFrame(
        {
            name: pl.Series(name, values, dtype=kind)
            for (name, values), kind in zip(columns.items(), kinds, strict=True)
        }
    )


def region_values(methylome: xr.Dataset, intervals: Intervals, columns: Ints) -> dict[str, Array]:
    """Counts summed over each region's sites, uint32; or the mean of the levels that are there."""
    n, levels = len(intervals.first), "beta" in methylome
    kind = np.float64 if levels else np.uint32
    one, two = np.zeros((2, n, len(columns)), kind)
    names = ("beta",) if levels else ("methylated", "coverage")
    step = chunk_sites(methylome.sizes["sample"])
    for start in range(0, methylome.sizes["site"], step):
        stop = min(start + step, methylome.sizes["site"])
        here = np.flatnonzero((intervals.first < stop) & (intervals.last > start))
        if not len(here):
            continue
        part = [cast(Any, methylome[name][start:stop].values)[:, columns] for name in names]
        if levels:
            part = [np.nan_to_num(part[0]), ~np.isnan(part[0])]
        low = np.clip(intervals.first[here], start, stop) - start
        high = np.clip(intervals.last[here], start, stop) - start
        bounds = np.stack([low, high], axis=1).ravel()
        for total, values in zip((one, two), part, strict=True):
            # A row of zeros, so that a region may end with the stretch.
            padded = np.vstack([values, np.zeros_like(values[:1])]).astype(kind)
            total[here] += np.add.reduceat(padded, bounds, axis=0)[::2]
    if not levels:
        return {"methylated": one, "coverage": two}
    mean = np.where(two > 0, one / np.maximum(two, 1), np.nan)
    return {"beta": mean.astype(np.float32)}

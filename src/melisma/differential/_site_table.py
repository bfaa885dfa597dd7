"""The table of the site tests, of any number of sites, without holding its columns twice."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma.methylome import CONTEXTS

_ORDER = (
    *("probe", "contig", "position", "strand", "mark", "context"),
    *("delta_beta", "ci_low", "ci_high", "statistic", "df", "p", "q", "n_used", "between"),
)


class Columns:
    """Columns of a methylome's sites, filled block by block in arrays of their final length.

    `sums` holds what is counted over the blocks instead: arrays of one row.
    """

    def __init__(self, sites: int) -> None:
        self.values: dict[str, npt.NDArray[Any]] = {}
        self.sums: dict[str, npt.NDArray[Any]] = {}
        self._sites, self._filled = sites, 0

    def add(self, part: dict[str, npt.NDArray[Any]]) -> None:
        """Put a block's columns after those that are there; a column of one row is summed."""
        rows = len(part["position"])
        for name, values in part.items():
            if name == "untestable":
                self.sums[name] = self.sums.get(name, 0) + values
                continue
            if name not in self.values:
                self.values[name] = np.empty((self._sites, *values.shape[1:]), values.dtype)
            self.values[name][self._filled : self._filled + rows] = values
        self._filled += rows


def site_table(
    methylome: xr.Dataset,
    columns: dict[str, npt.NDArray[Any]],
    q: npt.NDArray[np.float64],
    between: pl.Series | None,
) -> pl.DataFrame:
    """The table, whose columns are taken out of `columns` one by one; NaN becomes null."""
    marks = methylome.attrs["marks"]
    mark = marks[int(methylome["mark"][:1].values[0])]
    sites = len(columns["contig"])
    made = {
        name: pl.Series(name, columns.pop(name), nan_to_null=True)
        for name in ("delta_beta", "ci_low", "ci_high", "statistic", "df", "p", "n_used")
    }
    made["q"] = pl.Series("q", q, nan_to_null=True)
    # One byte a site where a word would take sixteen.
    made["mark"] = pl.repeat(0, sites, dtype=pl.UInt8, eager=True).cat.to(pl.Enum([mark]))
    context = pl.Series(columns.pop("context").astype(np.uint8))
    made["context"] = context.cat.to(pl.Enum(CONTEXTS))
    made["strand"] = pl.Series(columns.pop("strand"))
    contig, position = columns.pop("contig"), columns.pop("position")
    placed = contig >= 0
    made["position"] = pl.Series(position)
    if not placed.all():
        place = pl.DataFrame({"placed": placed, "position": made["position"]})
        made["position"] = place.select(pl.when("placed").then("position")).to_series()
    made["contig"] = _words(contig, [str(name) for name in methylome.attrs["contigs"]])
    if "probe" in columns:
        made["probe"] = pl.Series(columns.pop("probe").tolist(), dtype=pl.String)
    if between is not None:
        made["between"] = between
    return pl.DataFrame([made[name].alias(name) for name in _ORDER if name in made])


def _words(contig: npt.NDArray[np.integer[Any]], names: list[str]) -> pl.Series:
    """The contigs' names, null for -1."""
    codes = pl.Series(contig)
    if (contig < 0).any():
        codes = codes.set(codes < 0, None)
    return codes.cat.to(pl.Enum(names)).cast(pl.String)

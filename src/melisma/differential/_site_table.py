"""The table of the site tests, of any number of sites, without holding its columns twice."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma.methylome import CONTEXTS


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
    contigs, marks = methylome.attrs["contigs"], methylome.attrs["marks"]
    mark = marks[int(methylome["mark"][:1].values[0])]
    series: list[pl.Series] = []
    if "probe" in columns:
        series.append(pl.Series("probe", columns.pop("probe").tolist(), dtype=pl.String))
    contig = columns.pop("contig")
    position = pl.Series("position", columns.pop("position"))
    named = pl.Series("contig", [*contigs, ""], dtype=pl.String).gather(contig)
    if (contig < 0).any():
        place = pl.DataFrame({"placed": contig >= 0, "contig": named, "position": position})
        known = place.select(pl.when("placed").then(pl.col("contig", "position")))
        named, position = known["contig"], known["position"]
    del contig
    series += [named, position, pl.Series("strand", columns.pop("strand"))]
    # One byte a site where a word would take sixteen.
    series.append(pl.repeat(0, len(named), dtype=pl.UInt8, eager=True).cat.to(pl.Enum([mark])))
    series[-1] = series[-1].alias("mark")
    context = pl.Series("context", columns.pop("context").astype(np.uint8))
    series.append(context.cat.to(pl.Enum(CONTEXTS)))
    for name in ("delta_beta", "ci_low", "ci_high", "statistic", "df", "p"):
        series.append(pl.Series(name, columns.pop(name), nan_to_null=True))
    series.append(pl.Series("q", q, nan_to_null=True))
    series.append(pl.Series("n_used", columns.pop("n_used")))
    if between is not None:
        series.append(between.alias("between"))
    return pl.DataFrame(series)

"""Which intervals overlap others, and how far the nearest is: sorted search within each contig."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.islands import merge_overlapping

Ints = npt.NDArray[np.int64]
_FAR = np.iinfo(np.int64).max // 4


class Nearest(NamedTuple):
    """For each place the row of the nearest interval, -1 where its contig has none.

    distance : bases between the two, 0 where they overlap; negative where the interval is before
    the place. Touching intervals are 1 base apart.
    """

    row: Ints
    distance: Ints


class Disjoint:
    """Intervals merged where they overlap, ready to be asked whether they meet others."""

    def __init__(self, intervals: pl.DataFrame) -> None:
        merged = merge_overlapping(intervals)
        self._by_contig = {
            str(name): (part["start"].to_numpy(), part["end"].to_numpy())
            for (name,), part in merged.partition_by("contig", as_dict=True).items()
        }

    def meets(self, contig: str, start: Ints, end: Ints) -> npt.NDArray[np.bool_]:
        """Which of [start, end) on one contig overlap any interval, (n,) each."""
        if contig not in self._by_contig:
            return np.zeros(len(start), dtype=np.bool_)
        starts, ends = self._by_contig[contig]
        first = np.searchsorted(ends, start, side="right")
        return np.append(starts, _FAR)[first] < end


def overlap_any(places: pl.DataFrame, intervals: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Which places overlap any interval, (places,); both have contig, start and end."""
    found, disjoint = np.zeros(len(places), dtype=np.bool_), Disjoint(intervals)
    for contig, rows in _rows(places).items():
        start, end = (places[name].to_numpy()[rows] for name in ("start", "end"))
        found[rows] = disjoint.meets(contig, start, end)
    return found


def overlap_pairs(places: pl.DataFrame, intervals: pl.DataFrame) -> pl.DataFrame:
    """Every pair that overlaps: columns place and interval, row numbers, sorted."""
    left = places.select("contig", "start", "end").with_row_index("place")
    right = intervals.select(other="contig", other_start="start", other_end="end").with_row_index(
        "interval"
    )
    parts = [left.select("place").head(0).with_columns(interval=pl.lit(0, pl.UInt32)).head(0)]
    rights = right.partition_by("other", as_dict=True)
    for (contig,), own in left.partition_by("contig", as_dict=True).items():
        if (contig,) in rights:
            joined = own.lazy().join_where(
                rights[(contig,)].lazy(),
                pl.col("start") < pl.col("other_end"),
                pl.col("other_start") < pl.col("end"),
            )
            parts.append(joined.select("place", "interval").collect())
    return pl.concat(parts).sort("place", "interval")


def nearest(places: pl.DataFrame, intervals: pl.DataFrame) -> Nearest:
    """The nearest interval of each place; of two that are equally near the one before it."""
    row = np.full(len(places), -1, dtype=np.int64)
    distance = np.zeros(len(places), dtype=np.int64)
    others = _rows(intervals)
    starts, ends = (intervals[name].to_numpy() for name in ("start", "end"))
    for contig, own in _rows(places).items():
        if contig not in others:
            continue
        order = others[contig][np.argsort(starts[others[contig]], kind="stable")]
        start, end = (places[name].to_numpy()[own] for name in ("start", "end"))
        row[own], distance[own] = _nearest(start, end, starts[order], ends[order], order)
    return Nearest(row, distance)


def _nearest(start: Ints, end: Ints, starts: Ints, ends: Ints, order: Ints) -> tuple[Ints, Ints]:
    # Among intervals that begin before the place ends, the one that reaches furthest is nearest.
    reach = np.maximum.accumulate(ends)
    furthest = np.maximum.accumulate(np.where(ends == reach, np.arange(len(ends)), 0))
    begun = np.searchsorted(starts, end, side="left")
    before = np.maximum(begun - 1, 0)
    left = np.where(begun > 0, np.maximum(start - reach[before] + 1, 0), _FAR)
    right = np.where(begun < len(starts), np.append(starts, 0)[begun] - end + 1, _FAR)
    is_left = left <= right
    chosen = np.where(is_left, furthest[before], np.minimum(begun, len(starts) - 1))
    return order[chosen], np.where(is_left, -left, right)


def _rows(table: pl.DataFrame) -> dict[str, Ints]:
    """Row numbers of each contig."""
    groups = table.select("contig").with_row_index("row").group_by("contig", maintain_order=True)
    return {
        str(contig): rows.to_numpy().astype(np.int64)
        for contig, rows in groups.agg("row").iter_rows()
        for rows in [pl.Series(rows)]
    }

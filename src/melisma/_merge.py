"""A store's rows beside new samples' rows: two sorted runs of sites merged, a chunk at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma import _merge_kernels
from melisma._store import ArrayReader

Rows = dict[str, npt.NDArray[Any]]
# A site's key: contig above, then `site_key`'s position, strand and mark in 36 bits.
_CONTIG_BIT = 36


def site_keys(rows: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """One integer a site that sorts as (contig, position, strand, mark), int64."""
    wide = {n: rows[n].astype(np.int64) for n in ("contig", "position", "strand", "mark")}
    return (
        (wide["contig"] << _CONTIG_BIT)
        | (wide["position"] << 5)
        | ((wide["strand"] + 1) << 3)
        | wide["mark"]
    )


def from_keys(key: npt.NDArray[np.int64]) -> Rows:
    """The site arrays that `site_keys` was made of."""
    return {
        "contig": (key >> _CONTIG_BIT).astype(np.int16),
        "position": ((key >> 5) & 0x7FFFFFFF).astype(np.int32),
        "strand": (((key >> 3) & 3) - 1).astype(np.int8),
        "mark": (key & 7).astype(np.int8),
    }


def stored_rows(
    reader: ArrayReader,
    values: Sequence[str],
    contig_index: npt.NDArray[np.int16],
    mark_index: npt.NDArray[np.int8],
) -> Iterator[Rows]:
    """A store's rows, a chunk at a time: key, context, the values, and `probe` where there is one.

    contig_index, mark_index : what each of the store's own indices becomes, in ascending order
    """
    names = ["contig", "position", "strand", "mark", "context", *values]
    names += ["probe"] if "probe" in reader.shapes else []
    for rows in reader.chunks(names):
        rows["contig"] = contig_index[rows["contig"]]
        rows["mark"] = mark_index[rows["mark"]]
        key = site_keys(rows)
        yield {"key": key} | {n: rows[n] for n in ("context", *names[5:])}


def merge(
    old: Iterator[Rows],
    new: Iterator[Rows],
    dtypes: Mapping[str, np.dtype[Any]],
    widths: tuple[int, int],
    chunk: int,
) -> Iterator[Rows]:
    """The union of two runs of sites, in blocks of `chunk` sites.

    Parameters
    ----------
    old, new : rows with key (ascending through the run), context, values (rows, samples), and
        `probe` in both or in none
    dtypes : of the values; missing is NaN for floats, else 0
    widths : samples of the old run and of the new

    Yields
    ------
    Rows with the site arrays, the values (sites, samples of both), and `probe`.
    """
    sides = [_Run(old), _Run(new)]
    rows = (np.empty(chunk, dtype=np.int64), np.empty(chunk, dtype=np.int64))
    while True:
        out: Rows = {n: np.empty((chunk, sum(widths)), dtype=d) for n, d in dtypes.items()}
        out |= {"key": np.empty(chunk, dtype=np.int64), "context": np.empty(chunk, dtype=np.int8)}
        filled = 0
        while filled < chunk:
            here = [side.fill() for side in sides]
            if not any(here):
                break
            heads = [side.rows for side in sides]
            count, *moved = _merge_kernels.merge_keys(
                heads[0]["key"], sides[0].head, sides[0].more,
                heads[1]["key"], sides[1].head, sides[1].more,
                rows[0][filled:], rows[1][filled:],
            )  # fmt: skip
            part = slice(filled, filled + count)
            _place(out, part, heads, (rows[0][part], rows[1][part]), dtypes, widths[0])
            filled += count
            for side, head in zip(sides, moved, strict=True):
                side.head = head
        if filled:
            found = {name: array[:filled] for name, array in out.items() if name != "key"}
            yield found | from_keys(out["key"][:filled])
        if filled < chunk:
            return


class _Run:
    """One side's stretch of rows, and where the next site stands in it."""

    def __init__(self, source: Iterator[Rows]) -> None:
        self._source = source
        self.rows = next(source, None) or _no_rows({})
        self.more = bool(len(self.rows["key"]))
        self.head = 0

    def fill(self) -> bool:
        """Go on to the next stretch if this one is used up; returns whether there are rows."""
        while self.more and self.head == len(self.rows["key"]):
            following = next(self._source, None)
            self.rows, self.head = following or _no_rows(self.rows), 0
            self.more = following is not None
        return self.head < len(self.rows["key"])


def _no_rows(like: Rows) -> Rows:
    empty = {name: array[:0] for name, array in like.items()}
    return {"key": np.empty(0, np.int64), "context": np.empty(0, np.int8)} | empty


def _place(
    out: Rows,
    part: slice,
    heads: Sequence[Rows],
    rows: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    dtypes: Mapping[str, np.dtype[Any]],
    second: int,
) -> None:
    """Fill a part of the output with the merged rows of both sides."""
    old, new = heads
    _merge_kernels.place_sites(
        old["key"], old["context"], rows[0], new["key"], new["context"], rows[1],
        out["key"][part], out["context"][part],
    )  # fmt: skip
    for name, dtype in dtypes.items():
        missing = dtype.type(np.nan if dtype.kind == "f" else 0)
        widths = (second, out[name].shape[1] - second)
        sides = zip((old, new), rows, (0, second), widths, strict=True)
        for head, taken, column, width in sides:
            # A side without any rows has no array to copy from.
            values = head[name] if name in head else np.empty((0, width), dtype=dtype)
            _merge_kernels.place_rows(values, taken, missing, out[name][part], column)
    if "probe" in old or "probe" in new:
        if "probe" not in out:
            out["probe"] = np.empty(len(out["key"]), dtype=np.dtypes.StringDType())
        for head, taken in ((new, rows[1]), (old, rows[0])):
            here = taken >= 0
            if here.any():
                out["probe"][part][here] = head["probe"][taken[here]]

"""Samples' rows on disk, for formats whose writers take one sample's rows from first to last.

The store is walked once for a group of samples; how many is bounded by the room that their rows
take.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.export._reference import Reference
from melisma.export._selection import Selection
from melisma.export._walk import walk

# Disk that the rows of one group may take, bytes.
GROUP_BYTES = 8 << 30
_READ_ROWS = 1 << 18
_SITE = [
    ("contig", "<i2"),
    ("position", "<i4"),
    ("strand", "i1"),
    ("mark", "i1"),
    ("context", "i1"),
]
_COUNTS, _BETA = [("methylated", "<u4"), ("coverage", "<u4")], [("beta", "<f4")]

Rows = npt.NDArray[Any]


def row_type(selection: Selection) -> np.dtype[Any]:
    """A row: its site, M and N or the level, and the store's own row where there are probes."""
    probe = [("row", "<i8")] if "probe" in selection.methylome else []
    return np.dtype(_SITE + (_COUNTS if selection.has_counts else _BETA) + probe)


def groups(selection: Selection) -> Iterator[Selection]:
    """The selection a group of samples at a time."""
    one = max(1, (selection.last - selection.first) * row_type(selection).itemsize)
    size = max(1, GROUP_BYTES // one)
    for start in range(0, len(selection.samples), size):
        chosen = slice(start, start + size)
        yield selection._replace(samples=selection.samples[chosen], names=selection.names[chosen])


def spool(
    selection: Selection,
    files: Sequence[Path],
    *,
    reference: Reference | None,
    advance: Callable[[float], Any],
) -> list[int]:
    """Write every sample's covered rows to a file of its own; returns how many each has."""
    dtype = row_type(selection)
    rows = [0] * len(files)
    for path in files:
        path.touch(exist_ok=False)
    for stretch in walk(selection, reference):
        seen = stretch.seen
        for k, path in enumerate(files):
            kept = np.flatnonzero(seen[k])
            block = np.empty(len(kept), dtype=dtype)
            for name in dtype.names or ():
                column = getattr(stretch, name)
                block[name] = column[kept] if column.ndim == 1 else column[k, kept]
            with path.open("ab") as file:
                # Not `tofile`, whose error does not say that the disk is full.
                file.write(block.tobytes())
            rows[k] += len(kept)
        advance(len(stretch))
    return rows


def read_spool(path: Path, selection: Selection) -> Iterator[Rows]:
    """A sample's rows again, a block at a time."""
    dtype = row_type(selection)
    with path.open("rb") as file:
        while len(block := np.fromfile(file, dtype=dtype, count=_READ_ROWS)):
            yield block

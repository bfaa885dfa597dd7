"""What every reader hands over: the calls of one sample on one contig."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ContigCalls(NamedTuple):
    """Calls of one contig, (calls,) each, sorted by `site_key` and unique in it.

    position : int32, 0-based
    strand : int8, +1, -1, or 0: merged or unknown
    mark : int8, index into `melisma.methylome.MARKS`
    methylated, coverage : uint32, M and N
    context : int8, index into `melisma.methylome.CONTEXTS`; None where the format has none
    """

    contig: str
    position: npt.NDArray[np.int32]
    strand: npt.NDArray[np.int8]
    mark: npt.NDArray[np.int8]
    methylated: npt.NDArray[np.uint32]
    coverage: npt.NDArray[np.uint32]
    context: npt.NDArray[np.int8] | None = None


def site_key(
    position: npt.NDArray[np.integer],
    strand: npt.NDArray[np.integer],
    mark: npt.NDArray[np.integer],
) -> npt.NDArray[np.int64]:
    """One integer that sorts as (position, strand, mark) inside a contig, int64.

    >>> int(site_key(np.array([2]), np.array([1]), np.array([3]))[0])
    83
    """
    return (position.astype(np.int64) << 5) | ((strand.astype(np.int64) + 1) << 3) | mark


def unpack_key(
    key: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Position, strand and mark of `site_key`'s integers, (calls,) each.

    >>> [column.tolist() for column in unpack_key(np.array([83]))]
    [[2], [1], [3]]
    """
    position = (key >> 5).astype(np.int32)
    strand = ((key >> 3) & 3).astype(np.int8) - np.int8(1)
    return position, strand, (key & 7).astype(np.int8)

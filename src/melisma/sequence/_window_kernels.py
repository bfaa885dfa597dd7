"""Numba kernels of `windows`: codes gathered from a contig's bases, and its composition."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(cache=True, nogil=True)
def gather(
    bases: npt.NDArray[np.uint8],
    position: npt.NDArray[np.integer[Any]],
    strand: npt.NDArray[np.int8],
    code_of_byte: npt.NDArray[np.uint8],
    out: npt.NDArray[np.uint8],
    row: npt.NDArray[np.integer[Any]],
) -> None:
    """Fill out[row[i]] with the window centred on position[i]: uint8 (rows, width), in place.

    bases : uint8 (length,), ASCII; beyond its ends the code is 4
    strand : -1 reads the window reverse-complemented, so that the site stays at the centre
    """
    width = out.shape[1]
    half = width // 2
    length = len(bases)
    for i in range(len(position)):
        at = row[i]
        first = position[i] - half
        if strand[i] >= 0:
            for j in range(width):
                place = first + j
                out[at, j] = code_of_byte[bases[place]] if 0 <= place < length else 4
        else:
            # The centre of the reversed window is position, so it ends at position + half.
            last = position[i] + half
            for j in range(width):
                place = last - j
                code = code_of_byte[bases[place]] if 0 <= place < length else 4
                out[at, j] = 3 - code if code < 4 else 4


@njit(cache=True, nogil=True)
def cumulated_composition(
    bases: npt.NDArray[np.uint8], code_of_byte: npt.NDArray[np.uint8], block: int
) -> npt.NDArray[np.int32]:
    """What a contig is made of, counted from its start: int32 (blocks + 1, 6).

    Known bases, G and C, then pairs counted at their first base, of either strand: CG, TA, CA and
    TG, AA and TT.
    """
    n = (len(bases) + block - 1) // block
    out = np.zeros((n + 1, 6), np.int32)
    for k in range(n):
        for c in range(6):
            out[k + 1, c] = out[k, c]
        for i in range(k * block, min((k + 1) * block, len(bases))):
            a = code_of_byte[bases[i]]
            if a > 3:
                continue
            out[k + 1, 0] += 1
            if a == 1 or a == 2:
                out[k + 1, 1] += 1
            if i + 1 == len(bases):
                continue
            b = code_of_byte[bases[i + 1]]
            if a == 1 and b == 2:
                out[k + 1, 2] += 1
            elif a == 3 and b == 0:
                out[k + 1, 3] += 1
            elif (a == 1 and b == 0) or (a == 3 and b == 2):
                out[k + 1, 4] += 1
            elif (a == 0 and b == 0) or (a == 3 and b == 3):
                out[k + 1, 5] += 1
    return out


@njit(cache=True, nogil=True)
def compose(
    cumulated: npt.NDArray[np.int32],
    block: int,
    position: npt.NDArray[np.integer[Any]],
    reach: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
    row: npt.NDArray[np.integer[Any]],
) -> None:
    """Fill out[row[i]], (scales, 5): square roots of shares of known bases, in place.

    Each stretch is the blocks that a window of `reach` bases on either side touches.
    """
    last = len(cumulated) - 1
    for i in range(len(position)):
        for s in range(len(reach)):
            low = max((position[i] - reach[s]) // block, 0)
            high = min((position[i] + reach[s]) // block + 1, last)
            known = max(cumulated[high, 0] - cumulated[low, 0], 1)
            for c in range(5):
                share = (cumulated[high, c + 1] - cumulated[low, c + 1]) / known
                out[row[i], s, c] = np.sqrt(share)

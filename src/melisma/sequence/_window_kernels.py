"""Numba kernel of `windows`: codes gathered from a contig's bases."""

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

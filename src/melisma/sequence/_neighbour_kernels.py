"""Numba kernel of `examples`: the marks around a site, as a model's optional second input."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

# A site further away says nothing of this one's level that its region does not.
FURTHEST = 10_000


@njit(cache=True, nogil=True)
def neighbours(
    row: npt.NDArray[np.integer[Any]],
    contig: npt.NDArray[np.integer[Any]],
    position: npt.NDArray[np.integer[Any]],
    level: npt.NDArray[np.float32],
    each_side: int,
) -> npt.NDArray[np.float32]:
    """The nearest sites with a level on both sides: float32 (rows, 3, 2 * each_side).

    row : the sites asked about, indices into the other arrays
    contig, position : integers (sites,), sorted
    level : float32 (sites,), NaN where nothing is known
    Channels: level - 0.5; 1 where present, else 0; signed log10(1 + distance in bp) / 5. Nearest
    first, the left side before the right.
    """
    out = np.zeros((len(row), 3, 2 * each_side), np.float32)
    for i in range(len(row)):
        site = row[i]
        for side in range(2):
            step = -1 if side == 0 else 1
            at = site + step
            k = 0
            while k < each_side and 0 <= at < len(position) and contig[at] == contig[site]:
                distance = abs(position[at] - position[site])
                if distance > FURTHEST:
                    break
                if not np.isnan(level[at]):
                    slot = side * each_side + k
                    out[i, 0, slot] = level[at] - 0.5
                    out[i, 1, slot] = 1.0
                    out[i, 2, slot] = step * np.log10(1.0 + distance) / 5.0
                    k += 1
                at += step
    return out

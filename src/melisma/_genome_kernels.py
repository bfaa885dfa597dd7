"""Numba kernels of `genome`: contexts and strands from a contig's bases."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

A, C, G, T, N = (ord(letter) for letter in "ACGTN")
CG, CHG, CHH, UNKNOWN = 0, 1, 2, 3


@njit(cache=True, nogil=True)
def complement(base: int) -> int:
    """The complementary base's code; anything but A, C, G, T becomes N."""
    if base == A:
        return T
    if base == C:
        return G
    if base == G:
        return C
    return A if base == T else N


@njit(cache=True, nogil=True)
def _context(bases: npt.NDArray[np.uint8], position: int, strand: int) -> int:
    """CG, CHG, CHH or UNKNOWN of one cytosine, read along its own strand."""
    letters = np.full(3, N, np.uint8)
    for step in range(3):
        at = position + strand * step
        if 0 <= at < len(bases):
            letters[step] = bases[at] if strand > 0 else complement(bases[at])
    if letters[0] != C:
        return UNKNOWN
    if letters[1] == G:
        return CG
    if letters[1] not in (A, C, T) or letters[2] not in (A, C, G, T):
        return UNKNOWN
    return CHG if letters[2] == G else CHH


@njit(cache=True, nogil=True)
def contexts(
    bases: npt.NDArray[np.uint8],
    position: npt.NDArray[np.integer[Any]],
    strand: npt.NDArray[np.int8],
) -> npt.NDArray[np.int8]:
    """Context index of each (position, strand), int8 (n,); strand 0 reads C as + and G as -."""
    found = np.full(len(position), UNKNOWN, np.int8)
    for i in range(len(position)):
        if 0 <= position[i] < len(bases):
            side = strand[i]
            if side == 0:
                side = 1 if bases[position[i]] == C else -1
            found[i] = _context(bases, position[i], side)
    return found


@njit(cache=True, nogil=True)
def strands(
    bases: npt.NDArray[np.uint8], position: npt.NDArray[np.integer[Any]], base: int
) -> npt.NDArray[np.int8]:
    """+1 where the position holds `base`, -1 where it holds the complement, else 0; int8 (n,)."""
    found = np.zeros(len(position), np.int8)
    opposite = complement(base)
    for i in range(len(position)):
        if 0 <= position[i] < len(bases):
            letter = bases[position[i]]
            found[i] = 1 if letter == base else -1 if letter == opposite else 0
    return found

"""Numba kernel of the dinucleotide shuffle."""

import numpy as np
from numba import njit

_LETTERS = 5


@njit(cache=True, nogil=True)
def dinucleotide_shuffle(windows, seeds):
    """Random Eulerian paths with every window's dinucleotides.

    Parameters
    ----------
    windows : uint8 (n, width); seeds : int64 (n, shuffles)

    Returns
    -------
    uint8 (n, shuffles, width)
    """
    n, width = windows.shape
    shuffles = seeds.shape[1]
    out = np.empty((n, shuffles, width), dtype=np.uint8)
    edges = np.empty((_LETTERS, width), dtype=np.uint8)
    count = np.zeros(_LETTERS, dtype=np.int64)
    used = np.zeros(_LETTERS, dtype=np.int64)
    last = np.zeros(_LETTERS, dtype=np.uint8)
    rooted = np.zeros(_LETTERS, dtype=np.bool_)
    for i in range(n):
        for k in range(shuffles):
            np.random.seed(seeds[i, k])  # noqa: NPY002
            count[:] = 0
            used[:] = 0
            rooted[:] = False
            for j in range(width - 1):
                a = windows[i, j]
                edges[a, count[a]] = windows[i, j + 1]
                count[a] += 1
            end = windows[i, width - 1]
            rooted[end] = True
            # Wilson's walks: every letter's last exit leads to the last base, without loops.
            for a in range(_LETTERS):
                if count[a] == 0 or rooted[a]:
                    continue
                at = np.uint8(a)
                while not rooted[at]:
                    last[at] = edges[at, np.random.randint(count[at])]  # noqa: NPY002
                    at = last[at]
                at = np.uint8(a)
                while not rooted[at]:
                    rooted[at] = True
                    at = last[at]
            for a in range(_LETTERS):
                size = count[a]
                if size == 0:
                    continue
                if a != end:
                    # One edge to the drawn exit goes last.
                    for e in range(size):
                        if edges[a, e] == last[a]:
                            edges[a, e] = edges[a, size - 1]
                            edges[a, size - 1] = last[a]
                            break
                    size -= 1
                for e in range(size - 1, 0, -1):
                    other = np.random.randint(e + 1)  # noqa: NPY002
                    kept = edges[a, e]
                    edges[a, e] = edges[a, other]
                    edges[a, other] = kept
            at = windows[i, 0]
            out[i, k, 0] = at
            for j in range(1, width):
                following = edges[at, used[at]]
                used[at] += 1
                at = following
                out[i, k, j] = at
    return out

"""Numba kernels of shared k-mers, both strands taken as one."""

import numpy as np
from numba import njit

# A word that holds an unknown base.
NO_WORD = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(cache=True, nogil=True)
def canonical_words(codes, k):
    """Every window's words of k bases, the smaller of a word and its reverse complement.

    Parameters
    ----------
    codes : uint8 (n, width), 4 unknown
    k : 1 to 31

    Returns
    -------
    uint64 (n, width - k + 1), two bits a base; `NO_WORD` where a base is unknown
    """
    n, width = codes.shape
    words = np.empty((n, width - k + 1), dtype=np.uint64)
    mask = np.uint64((1 << (2 * k)) - 1)
    top = np.uint64(2 * (k - 1))
    two = np.uint64(2)
    for i in range(n):
        forward = np.uint64(0)
        backward = np.uint64(0)
        known = 0
        for j in range(width):
            base = np.uint64(codes[i, j])
            if codes[i, j] > 3:
                known = 0
                base = np.uint64(0)
            else:
                known += 1
            forward = ((forward << two) | base) & mask
            backward = (backward >> two) | ((np.uint64(3) - base) << top)
            if j >= k - 1:
                words[i, j - k + 1] = min(forward, backward) if known >= k else NO_WORD
    return words


@njit(cache=True, nogil=True)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def join_sharing(order, words, per_row, most, parent):
    """Unite the rows that share a word, which no more than `most` windows may hold.

    Parameters
    ----------
    order : int64 (m,), the words' places in increasing order of the words
    words : uint64 (m,), row after row
    per_row : words a row
    parent : int64 (rows,), changed: a forest whose roots are the clusters
    """
    start = 0
    m = len(order)
    while start < m:
        word = words[order[start]]
        end = start + 1
        while end < m and words[order[end]] == word:
            end += 1
        if word != NO_WORD and end - start <= most:
            first = _root(parent, order[start] // per_row)
            for at in range(start + 1, end):
                other = _root(parent, order[at] // per_row)
                if other != first:
                    if other < first:
                        first, other = other, first
                    parent[other] = first
        start = end


@njit(cache=True, nogil=True)
def roots(parent):
    """Every row's root."""
    found = np.empty(len(parent), dtype=np.int64)
    for i in range(len(parent)):
        found[i] = _root(parent, i)
    return found

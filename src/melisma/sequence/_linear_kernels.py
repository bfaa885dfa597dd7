"""Numba kernels of logistic regression on positional k-mers, whose one-hot matrix is never made.

Features of a window are the words of 1, 2 and 3 bases at every position, 4 + 16 + 64 columns each;
a word with an unknown base has none.
"""

from numba import njit


@njit(cache=True, nogil=True)
def word_columns(codes, longest, columns):
    """Fill each window's active columns, -1 where a base is unknown.

    Parameters
    ----------
    codes : uint8 (n, width)
    longest : bases of the longest word
    columns : int32 (n, longest * width), filled
    """
    n, width = codes.shape
    for i in range(n):
        at = 0
        offset = 0
        for k in range(1, longest + 1):
            size = 4**k
            for j in range(width - k + 1):
                word = 0
                known = True
                for b in range(k):
                    known &= codes[i, j + b] < 4
                    word = 4 * word + codes[i, j + b]
                columns[i, at] = offset + j * size + word if known else -1
                at += 1
            offset += size * (width - k + 1)
        while at < columns.shape[1]:
            columns[i, at] = -1
            at += 1


@njit(cache=True, nogil=True)
def count_words(codes, longest, counts):
    """Add up each window's words of 1 to `longest` bases.

    Parameters
    ----------
    codes : uint8 (n, width)
    counts : float32 (n, 4 + 16 + ...) zeros, filled
    """
    n, width = codes.shape
    for i in range(n):
        offset = 0
        for k in range(1, longest + 1):
            for j in range(width - k + 1):
                word = 0
                known = True
                for b in range(k):
                    known &= codes[i, j + b] < 4
                    word = 4 * word + codes[i, j + b]
                if known:
                    counts[i, offset + word] += 1.0
            offset += 4**k


@njit(cache=True, nogil=True)
def logits(columns, weight, out):
    """out = weight of the active columns plus the last weight, the intercept."""
    for i in range(len(columns)):
        total = weight[-1]
        for j in range(columns.shape[1]):
            if columns[i, j] >= 0:
                total += weight[columns[i, j]]
        out[i] = total


@njit(cache=True, nogil=True)
def spread(columns, error, gradient):
    """gradient += columns' transpose times error."""
    for i in range(len(columns)):
        gradient[-1] += error[i]
        for j in range(columns.shape[1]):
            if columns[i, j] >= 0:
                gradient[columns[i, j]] += error[i]

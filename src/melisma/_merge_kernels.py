"""Kernels over a store's rows: two sorted runs of sites merged, rows and columns taken."""

import numpy as np
from numba import njit

_UNKNOWN = 3


@njit(cache=True, nogil=True)
def merge_keys(old, i, old_more, new, j, new_more, from_old, from_new):
    """Rows of the union of two ascending runs of keys, until one ends or the output is full.

    old, new : int64 (rows,), begun at i and j
    old_more, new_more : whether the run goes on in a later stretch
    from_old, from_new : int64 (sites,), set to each site's row in a run, or -1
    Returns the number of sites, and i and j moved on.
    """
    sites = 0
    while sites < from_old.size:
        old_here, new_here = i < old.size, j < new.size
        if (not old_here and old_more) or (not new_here and new_more):
            break
        if not old_here and not new_here:
            break
        if not new_here or (old_here and old[i] < new[j]):
            from_old[sites], from_new[sites] = i, -1
            i += 1
        elif not old_here or new[j] < old[i]:
            from_old[sites], from_new[sites] = -1, j
            j += 1
        else:
            from_old[sites], from_new[sites] = i, j
            i, j = i + 1, j + 1
        sites += 1
    return sites, i, j


@njit(cache=True, nogil=True)
def place_rows(values, rows, missing, out, column):
    """Copy rows into a stretch of columns of the output.

    values : (n, k); rows : int64 (sites,), -1 for a row of `missing`
    out : (sites, columns), filled in column to column + k
    """
    k = values.shape[1]
    for site in range(rows.size):
        row = rows[site]
        if row < 0:
            for c in range(k):
                out[site, column + c] = missing
        else:
            for c in range(k):
                out[site, column + c] = values[row, c]


@njit(cache=True, nogil=True)
def place_sites(old_key, old_context, from_old, new_key, new_context, from_new, key, context):
    """Key and context of each merged site; a context that the old run does not know is the new's.

    key : int64 (sites,); context : int8 (sites,)
    """
    for site in range(from_old.size):
        i, j = from_old[site], from_new[site]
        key[site] = old_key[i] if i >= 0 else new_key[j]
        known = old_context[i] if i >= 0 else np.int8(_UNKNOWN)
        context[site] = new_context[j] if known == _UNKNOWN and j >= 0 else known


@njit(cache=True, nogil=True)
def covered_rows(coverage, columns, seen):
    """Whether any of the columns has reads.

    coverage : (rows, k); columns : int64 (kept,); seen : bool (rows,), set
    Returns the largest coverage in those columns.
    """
    largest = np.int64(0)
    for row in range(coverage.shape[0]):
        most = np.int64(0)
        for c in columns:
            most = max(most, np.int64(coverage[row, c]))
        seen[row] = most > 0
        largest = max(largest, most)
    return largest


@njit(cache=True, nogil=True)
def levelled_rows(values, columns, seen):
    """Whether any of the columns has a level; arguments as in `covered_rows`, NaN is none."""
    for row in range(values.shape[0]):
        seen[row] = False
        for c in columns:
            seen[row] |= not np.isnan(values[row, c])


@njit(cache=True, nogil=True)
def take_cells(values, rows, columns, out):
    """The rows and columns of an array, (rows, columns) each an int64 index, into `out`."""
    for i in range(rows.size):
        for k in range(columns.size):
            out[i, k] = values[rows[i], columns[k]]

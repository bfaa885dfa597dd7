"""Numba kernels of linear models of array levels, where sites may lack some units."""

import numpy as np
from numba import njit

# A column whose squared norm outside the others' span falls below this share of the longest
# column's is in that span.
_ALIASED = 1e-12


@njit(cache=True, nogil=True)
def fit_rows(values, columns, n_reduced, effect, length, residual, rank, df):
    """Least squares of every site's values on the columns, over the units that it has.

    Parameters
    ----------
    values : (sites, units), NaN where missing
    columns : (c, units), the first `n_reduced` of the reduced model, then the exposure's
    effect : (sites, c - n_reduced) zeros, filled: the values along each exposure column, made
        orthonormal to all columns before it; its sign is that of the coefficient
    length : (sites, c - n_reduced) zeros, filled: the norm of what of each exposure column is
        outside the columns before it; effect / length of a single one is its coefficient
    residual, rank, df : (sites,) zeros, filled: residual sum of squares, independent exposure
        columns, and residual degrees of freedom
    """
    sites, units = values.shape
    basis = np.empty((len(columns), units))
    left = np.empty(units)
    longest = np.array([(column**2).sum() for column in columns]).max()
    for i in range(sites):
        seen = 0
        for j in range(units):
            here = not np.isnan(values[i, j])
            left[j] = values[i, j] if here else 0.0
            seen += here
        found = 0
        for c in range(len(columns)):
            for j in range(units):
                basis[found, j] = 0.0 if np.isnan(values[i, j]) else columns[c, j]
            norm = _outside(basis, found)
            if norm <= np.sqrt(_ALIASED * longest):
                continue
            dot = 0.0
            for j in range(units):
                basis[found, j] /= norm
                dot += basis[found, j] * left[j]
            for j in range(units):
                left[j] -= dot * basis[found, j]
            if c >= n_reduced:
                effect[i, c - n_reduced] = dot
                length[i, c - n_reduced] = norm
                rank[i] += 1
            found += 1
        df[i] = seen - found
        if df[i] > 0:
            for j in range(units):
                residual[i] += left[j] ** 2


@njit(cache=True, nogil=True)
def _outside(basis, found):
    """Take the first `found` rows out of the row after them; returns its norm."""
    units = basis.shape[1]
    for _ in range(2):  # twice is enough (Kahan and Parlett)
        for k in range(found):
            dot = 0.0
            for j in range(units):
                dot += basis[k, j] * basis[found, j]
            for j in range(units):
                basis[found, j] -= dot * basis[k, j]
    norm = 0.0
    for j in range(units):
        norm += basis[found, j] ** 2
    return np.sqrt(norm)

"""Numba kernel of incomplete blocks: one correlation within blocks, and generalised least squares.

Whitened residuals of a block's members share the correlation r; the inverse root of their
covariance, which shrinks a block's mean and stretches what is about it, is applied to residuals,
reduced model and exposure (Smyth, Michaud & Scott 2005).
"""

import numpy as np
from numba import njit

from melisma.differential._kernels import MIN_MINOR_READS, ROUNDING
from melisma.differential._whitening import (
    clear,
    interpolate,
    make_scratch,
    orthonormal,
    score_of,
    whiten,
)


@njit(cache=True, nogil=True)
def decorrelate(row, seen, block, n_blocks, r, sums, counts):
    """Multiply a row by the inverse root of the correlation, in place; unseen units stay 0."""
    sums[:] = 0.0
    counts[:] = 0.0
    for j in range(len(row)):
        if seen[j] > 0.0:
            sums[block[j]] += row[j]
            counts[block[j]] += 1.0
    for j in range(len(row)):
        if seen[j] > 0.0:
            k = counts[block[j]]
            mean = sums[block[j]] / k
            row[j] = (row[j] - mean) / np.sqrt(1.0 - r) + mean / np.sqrt(1.0 + (k - 1.0) * r)


@njit(cache=True, nogil=True)
def fit_consensus(
    methylated, coverage, reduced, group, n_groups, exposure, block, n_blocks, r, knots, rhos
):
    """Score test of one exposure at every site where a block's members have the correlation r.

    Parameters
    ----------
    block : (units,) block of each unit
    r : correlation of whitened residuals within blocks
    others as `fit_sites`

    Returns
    -------
    As `fit_sites`, excess 0; and (sites, 2) the sums whose ratio is r: products of two members'
    whitened residuals, and half their squares
    """
    sites, units = coverage.shape
    score, information, residual = np.zeros(sites), np.zeros(sites), np.zeros(sites)
    df, used = np.zeros(sites, dtype=np.int32), np.zeros(sites, dtype=np.int32)
    minor, level = np.zeros(sites), np.full(sites, np.nan)
    excess, skewness, products = np.zeros(sites), np.zeros(sites), np.zeros((sites, 2))
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
    moved, row, one = np.zeros(columns.shape), np.zeros(units), np.ones(units)
    sums, counts = np.zeros(n_blocks), np.zeros(n_blocks)
    for i in range(sites):
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
            used[i] += coverage[i, j] > 0
        if reads == 0.0:
            continue
        level[i] = marked / reads
        minor[i] = min(marked, reads - marked)
        if minor[i] < MIN_MINOR_READS - ROUNDING:
            continue
        rho = interpolate(level[i], knots, rhos)
        _, informative = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        for j in range(units):
            s.error[j] = 0.0
            if s.scale[j] > 0.0:
                spread = s.mu[j] * (1.0 - s.mu[j])
                s.error[j] = np.sqrt(s.n[j] / spread) * (s.y[j] - s.mu[j])
        for j in range(units):
            for other in range(j):
                if block[j] == block[other] and s.scale[j] > 0.0 and s.scale[other] > 0.0:
                    products[i, 0] += s.error[j] * s.error[other]
                    products[i, 1] += 0.5 * (s.error[j] ** 2 + s.error[other] ** 2)
        for c in range(len(columns)):
            for j in range(units):
                moved[c, j] = s.scale[j] * columns[c, j]
            decorrelate(moved[c], s.scale, block, n_blocks, r, sums, counts)
        for j in range(units):
            row[j] = s.scale[j] * exposure[j]
        decorrelate(row, s.scale, block, n_blocks, r, sums, counts)
        decorrelate(s.error, s.scale, block, n_blocks, r, sums, counts)
        rank = orthonormal(moved, one, s.basis, 0)
        clear(s.error, s.basis, rank)
        u, v = score_of(row, one, s.error, s.basis, rank, s.direction)
        if v == 0.0:
            continue
        score[i], information[i], df[i] = u, v, informative - rank - 1
        residual[i] = max(np.sum(s.error**2) - u * u / v, 0.0)
        row[:] = s.direction
        decorrelate(row, s.scale, block, n_blocks, r, sums, counts)
        third = 0.0
        for j in range(units):
            if s.scale[j] > 0.0:
                spread = np.sqrt(s.n[j] * s.mu[j] * (1.0 - s.mu[j]))
                third += row[j] ** 3 * (1.0 - 2.0 * s.mu[j]) / spread
        skewness[i] = third / v**1.5
    return score, information, residual, df, used, minor, level, excess, skewness, products

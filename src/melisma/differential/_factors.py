"""Numba kernels of tests of several coefficients at once, such as all levels of a factor.

The score's k directions are made orthonormal, so that its statistic u' V^-1 u is a sum of k
squares; F is that over k and the moderated dispersion. A site counts only where it can tell all
k directions apart.
"""

import numpy as np
from numba import njit

from melisma.differential._kernels import MIN_MINOR_READS, ROUNDING, moderated
from melisma.differential._whitening import (
    clear,
    interpolate,
    make_scratch,
    orthonormal,
    solve,
    whiten,
)


@njit(cache=True, nogil=True)
def _squares(s, rank, k):
    """u' V^-1 u from the orthonormal directions that follow the reduced model's."""
    total = 0.0
    for c in range(k):
        dot = 0.0
        for j in range(len(s.error)):
            dot += s.basis[rank + c, j] * s.error[j]
        total += dot * dot
    return total


@njit(cache=True, nogil=True)
def _skewness(s, rank, k):
    """Length of the third-order tensor of the score's directions under binomial units.

    For k = 1 the score's absolute skewness; for more, no direction is more skewed than this.
    """
    total = 0.0
    for a in range(k):
        for b in range(k):
            for c in range(k):
                third = 0.0
                for j in range(len(s.error)):
                    if s.scale[j] > 0.0:
                        spread = np.sqrt(s.n[j] * s.mu[j] * (1.0 - s.mu[j]))
                        product = s.basis[rank + a, j] * s.basis[rank + b, j]
                        product *= s.basis[rank + c, j]
                        third += product * (1.0 - 2.0 * s.mu[j]) / spread
                total += third * third
    return np.sqrt(total)


@njit(cache=True, nogil=True)
def fit_several(methylated, coverage, reduced, group, n_groups, exposures, knots, rhos):
    """Score test of several exposures at once at every site.

    Parameters
    ----------
    exposures : (k, units) of unit length; others as `fit_sites`

    Returns
    -------
    As `fit_sites`: `score` is the root of u' V^-1 u and `information` 1 where all k directions
    can be told apart, else 0.
    """
    sites, units = coverage.shape
    k = len(exposures)
    score, information, residual = np.zeros(sites), np.zeros(sites), np.zeros(sites)
    df, used = np.zeros(sites, dtype=np.int32), np.zeros(sites, dtype=np.int32)
    minor, level = np.zeros(sites), np.full(sites, np.nan)
    excess, skewness = np.zeros(sites), np.zeros(sites)
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, k)
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
        rank, informative = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        full = orthonormal(exposures, s.scale, s.basis, rank)
        if full < rank + k:
            continue
        squares = _squares(s, rank, k)
        score[i] = np.sqrt(squares)
        information[i] = 1.0
        df[i] = informative - full
        total = 0.0
        for j in range(units):
            total += s.error[j] ** 2
            if s.scale[j] > 0.0:
                leverage = 0.0
                for c in range(full):
                    leverage += s.basis[c, j] ** 2
                excess[i] += (1.0 - leverage) * (coverage[i, j] - 1.0)
        residual[i] = max(total - squares, 0.0)
        skewness[i] = _skewness(s, rank, k)
    return score, information, residual, df, used, minor, level, excess, skewness


@njit(cache=True, nogil=True)
def relabelled_ratios(
    methylated, coverage, reduced, group, n_groups, exposures, knots, rhos, prior_df, prior_scale,
    limits, keep,
):  # fmt: skip
    """F of many relabelled exposures at every site, and its denominator's degrees of freedom.

    Parameters
    ----------
    exposures : (b, k, units) of unit length; others as `relabelled_scores`

    Returns
    -------
    ratio, df : (b, sites), NaN where a site cannot be tested
    """
    sites, units = coverage.shape
    b, k = exposures.shape[:2]
    ratio, dfs = np.full((b, sites), np.nan), np.full((b, sites), np.nan)
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, k)
    for i in range(sites):
        if not keep[i]:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        rho = interpolate(marked / reads, knots, rhos)
        rank, informative = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        own = informative - rank - k
        if own < 1:
            continue
        total = 0.0
        for j in range(units):
            total += s.error[j] ** 2
        for r in range(b):
            if orthonormal(exposures[r], s.scale, s.basis, rank) == rank + k:
                squares = _squares(s, rank, k)
                left = max(total - squares, 0.0)
                variance, dfs[r, i] = moderated(left, own, prior_df, prior_scale, limits)
                ratio[r, i] = squares / k / variance
    return ratio, dfs


@njit(cache=True, nogil=True)
def residual_rows_of_several(
    methylated, coverage, reduced, group, n_groups, exposures, knots, rhos, keep
):
    """Whitened residuals of the full model, (sites, units), each row of unit length or zero."""
    sites, units = coverage.shape
    rows = np.zeros((sites, units))
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, len(exposures))
    for i in range(sites):
        if not keep[i]:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        rho = interpolate(marked / reads, knots, rhos)
        rank, _ = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        full = orthonormal(exposures, s.scale, s.basis, rank)
        clear(s.error, s.basis, full)
        norm = 0.0
        for j in range(units):
            norm += s.error[j] ** 2
        for j in range(units):
            rows[i, j] = s.error[j] / np.sqrt(norm) if norm > 1e-12 else 0.0
    return rows


@njit(cache=True, nogil=True)
def coefficients(methylated, coverage, reduced, exposures, knots, rhos):
    """The contrast's k coefficients on the 0-1 scale, by least squares weighted with n.

    Parameters
    ----------
    exposures : (units, k) whose coefficients are the contrast

    Returns
    -------
    (sites, k), NaN where a site cannot tell them apart
    """
    sites, units = coverage.shape
    k = exposures.shape[1]
    found = np.full((sites, k), np.nan)
    columns = np.ascontiguousarray(reduced.T)
    basis = np.zeros((len(columns) + 1, units))
    scale, level, direction = np.zeros(units), np.zeros(units), np.zeros((k, units))
    hessian, step = np.zeros(k * (k + 1) // 2), np.zeros(k)
    for i in range(sites):
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        if reads == 0.0:
            continue
        rho = interpolate(marked / reads, knots, rhos)
        for j in range(units):
            n = coverage[i, j] / (1.0 + (coverage[i, j] - 1.0) * rho) if coverage[i, j] else 0.0
            scale[j] = np.sqrt(n)
            level[j] = scale[j] * methylated[i, j] / coverage[i, j] if coverage[i, j] else 0.0
        rank = orthonormal(columns, scale, basis, 0)
        largest = 0.0
        for a in range(k):
            for j in range(units):
                direction[a, j] = scale[j] * exposures[j, a]
                largest = max(largest, direction[a, j] ** 2)
            clear(direction[a], basis, rank)
            step[a] = 0.0
            for j in range(units):
                step[a] += direction[a, j] * level[j]
            for b in range(a + 1):
                total = 0.0
                for j in range(units):
                    total += direction[a, j] * direction[b, j]
                hessian[a * (a + 1) // 2 + b] = total
        solve(hessian, step, 1e-10 * largest)
        told_apart = True
        for a in range(k):
            told_apart = told_apart and hessian[a * (a + 1) // 2 + a] > 0.0
        if told_apart:
            found[i] = step
    return found

"""Tails of the fast test where its score is skewed, by the Cornish-Fisher expansion.

The score is a weighted sum of standardised arcsine levels. Where groups differ in depth its third
and fourth cumulants do not cancel, and its tails are not a t distribution's. Both cumulants are
known from the table of the beta-binomial distribution, so the statistic is brought back to a normal
score by the expansion to second order (Cornish & Fisher 1938). What the residual variance has in
common with the score enters by its covariance.
"""

import numpy as np
from numba import njit

from melisma.differential._arcsine import at, place, standardise
from melisma.differential._whitening import make_scratch, orthonormal

# Below the first a normal score stays as it is, from the second on it is the expansion's.
_FROM, _WHOLLY = 1.0, 2.0
# The expansion is no longer monotone beyond this share of the score.
_LEAST = 0.3


@njit(cache=True, nogil=True)
def expansion(x, third, fourth):
    """Normal score of x, a standardised sum of these cumulants."""
    moved = x - third * (x * x - 1.0) / 6.0
    moved -= fourth * (x**3 - 3.0 * x) / 24.0
    moved += third * third * (4.0 * x**3 - 7.0 * x) / 36.0
    return max(moved, _LEAST * x)


@njit(cache=True, nogil=True)
def arcsine_tail_scores(
    methylated, coverage, reduced, exposure, mean, precision, skewness, kurtosis, first,
    score, df, keep,
):  # fmt: skip
    """Normal scores of a one-column test of arcsine levels, those in the tails by the expansion.

    Parameters
    ----------
    exposure : (1, units) of unit length
    mean, precision, skewness, kurtosis : of `Moments`
    score : (sites,) signed normal scores of the moderated t
    df : (sites,) degrees of freedom of the moderated variance, own and the prior's
    keep : (sites,) the sites that are tested
    others as `fit_arcsine`

    Returns
    -------
    (sites,) signed normal scores
    """
    sites, units = coverage.shape
    most = mean.shape[1] - 1
    found = score.copy()
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, 1, 1)
    for i in range(sites):
        size = abs(score[i])
        if not keep[i] or not size > _FROM:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        row, share = place(marked / reads, first, len(mean))
        standardise(methylated[i], coverage[i], row, share, mean, precision, s)
        rank = orthonormal(columns, s.scale, s.basis, 0)
        orthonormal(exposure, s.scale, s.basis, rank)
        sign = 1.0 if score[i] > 0.0 else -1.0
        third, fourth, shared = 0.0, 0.0, 0.0
        for j in range(units):
            if s.scale[j] == 0.0:
                continue
            whole = min(max(int(coverage[i, j] + 0.5), 1), most)
            q = sign * s.basis[rank, j]
            leverage = q * q
            for k in range(rank):
                leverage += s.basis[k, j] ** 2
            skew = at(skewness, row, share, whole)
            third += q**3 * skew
            fourth += q**4 * at(kurtosis, row, share, whole)
            shared += q * (1.0 - leverage) * skew
        tail = expansion(size, third, fourth)
        # t = z / sqrt(1 + e) with cov(z, e) = c lies where z is z + c z^2 / 2, kept increasing.
        half = 0.5 * shared / df[i] * tail if not np.isinf(df[i]) else 0.0
        tail *= np.exp(min(max(half, -0.5), 0.5))
        weight = min((size - _FROM) / (_WHOLLY - _FROM), 1.0)
        found[i] = sign * (size + weight * (tail - size))
    return found

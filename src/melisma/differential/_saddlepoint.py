"""Tails of the score where it is skewed, by a saddlepoint approximation.

The score is a weighted sum of the units' levels. Groups of unequal size or depth make it skewed at
levels near 0 and 1, and its tails are then not a t distribution's. Under the reduced model a unit
is taken as n effective binomial reads, so that the standardised score has the cumulant generating
function K(t) = sum of n log(1 - mu + mu exp(t a)) - t n a mu, and the tail beyond x is that of
the normal distribution beyond r + log(w / r) / r, r = sqrt(2 (t x - K(t))), w = t sqrt(K''(t)),
K'(t) = x (Barndorff-Nielsen 1986; Lugannani & Rice 1980). What the residual variance, which
the same reads make, has in common with the score enters by its covariance.
"""

import numpy as np
from numba import njit

from melisma.differential._whitening import interpolate, make_scratch, score_of, whiten

# Below the first a normal score stays as it is, from the second on it is the saddlepoint's.
_FROM, _WHOLLY = 1.0, 2.0
_MAX_STEPS = 60
# Beyond what the reads can reach.
_FARTHEST = 38.0


@njit(cache=True, nogil=True)
def saddlepoint_score(a, n, mu, x):
    """Normal score of the upper tail at x > 0 of sum n a (y - mu), y binomial levels of n reads.

    Units of no reads have n = 0; a is such that the sum has unit variance.
    """
    units = len(a)
    highest = 0.0
    for j in range(units):
        highest += n[j] * max(a[j] * (1.0 - mu[j]), -a[j] * mu[j])
    if x >= highest * (1.0 - 1e-9):
        return _FARTHEST
    t = x
    cumulant, second = 0.0, 1.0
    for _ in range(_MAX_STEPS):
        cumulant = 0.0
        first = 0.0
        second = 0.0
        for j in range(units):
            if n[j] > 0.0:
                # exp of the negative of |t a|, which cannot overflow.
                ta = t * a[j]
                shrunk = np.exp(-abs(ta))
                if ta > 0.0:
                    total = mu[j] + (1.0 - mu[j]) * shrunk
                    tilted = mu[j] / total
                    cumulant += n[j] * (ta + np.log(total) - ta * mu[j])
                else:
                    total = 1.0 - mu[j] + mu[j] * shrunk
                    tilted = mu[j] * shrunk / total
                    cumulant += n[j] * (np.log(total) - ta * mu[j])
                first += n[j] * a[j] * (tilted - mu[j])
                second += n[j] * a[j] * a[j] * tilted * (1.0 - tilted)
        gap = x - first
        if abs(gap) < 1e-10 * x:
            break
        step = min(gap / second, 2.0 * t + 1.0)
        t = t + step if t + step > 0.0 else t / 2.0
    root = np.sqrt(2.0 * max(t * x - cumulant, 0.0))
    if root < 1e-3:
        return x
    return min(root + np.log(t * np.sqrt(second) / root) / root, _FARTHEST)


@njit(cache=True, nogil=True)
def tail_scores(
    methylated, coverage, reduced, group, n_groups, exposure, knots, rhos, score, df, keep
):
    """Normal scores of a one-column test, those in the tails by the saddlepoint.

    Parameters
    ----------
    score : (sites,) signed normal scores of the moderated t
    df : (sites,) degrees of freedom of the moderated variance, own and the prior's
    keep : (sites,) the sites that are tested
    others as `fit_sites`

    Returns
    -------
    (sites,) signed normal scores
    """
    sites, units = coverage.shape
    found = score.copy()
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
    a = np.zeros(units)
    for i in range(sites):
        size = abs(score[i])
        if not keep[i] or not size > _FROM:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        rho = interpolate(marked / reads, knots, rhos)
        rank, _ = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        _, v = score_of(exposure, s.scale, s.error, s.basis, rank, s.direction)
        if v == 0.0:
            continue
        sign = 1.0 if score[i] > 0.0 else -1.0
        shared = 0.0
        for j in range(units):
            a[j] = 0.0
            if s.scale[j] == 0.0:
                s.n[j] = 0.0
                continue
            spread = s.n[j] * s.mu[j] * (1.0 - s.mu[j])
            q = sign * s.direction[j] / np.sqrt(v)
            a[j] = q / np.sqrt(spread)
            leverage = q * q
            for k in range(rank):
                leverage += s.basis[k, j] ** 2
            shared += q * (1.0 - leverage) * (1.0 - 2.0 * s.mu[j]) / np.sqrt(spread)
        tail = saddlepoint_score(a, s.n, s.mu, size)
        # t = z / sqrt(1 + e) with cov(z, e) = c lies where z is z + c z^2 / 2, kept increasing.
        half = 0.5 * shared / df[i] * tail if not np.isinf(df[i]) else 0.0
        tail *= np.exp(min(max(half, -0.5), 0.5))
        share = min((size - _FROM) / (_WHOLLY - _FROM), 1.0)
        found[i] = sign * (size + share * (tail - size))
    return found

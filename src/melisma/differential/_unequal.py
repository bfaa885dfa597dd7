"""Numba kernels of a score test whose two sides have variances of their own.

Reads are effective, n = N / (1 + (N - 1) rho) with rho the side's own, so that a unit's whitened
residual has the variance phi of its side, about 1. The score u = d e has the variance
sum of v phi over sides, v the part of d d that a side's units make, and phi is estimated from the
side's own residuals (Welch 1947). Units of other levels, which a covariate may bring in, are a
third side.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from melisma.differential._kernels import MIN_MINOR_READS, ROUNDING
from melisma.differential._saddlepoint import saddlepoint_score
from melisma.differential._whitening import Floats, make_scratch, score_of, whiten

# Below the first a normal score stays as it is, from the second on it is the saddlepoint's.
_FROM, _WHOLLY = 1.0, 2.0
SIDES = 3


class SidesFit(NamedTuple):
    """One row a site: the score and its skewness under binomial units, (sites,), and by side.

    information, residual, df, excess : (sites, sides) as of `SiteFit`; a side's df are the units
        less their leverages in the full model
    minor : (sites, sides) reads of the rarer state that the reduced model's means expect
    least : (sites, sides) the dispersion of reads alone, n / N, below which no side's lies
    """

    score: Floats
    skewness: Floats
    information: Floats
    residual: Floats
    df: Floats
    excess: Floats
    minor: Floats
    least: Floats


@njit(cache=True, nogil=True)
def fit_sides(methylated, effective, coverage, reduced, group, n_groups, exposure, side):
    """Score test of one exposure at every site, its variance side by side.

    Parameters
    ----------
    methylated, effective : (sites, units) effective reads, and the methylated of them
    coverage : (sites, units) reads
    side : (units,) 0, 1 or 2, the side of each unit
    others as `fit_sites`

    Returns
    -------
    The columns of `SidesFit`; sites with too few minor reads are not fitted.
    """
    sites, units = coverage.shape
    score, skewness = np.zeros(sites), np.zeros(sites)
    information, residual = np.zeros((sites, SIDES)), np.zeros((sites, SIDES))
    df, excess = np.zeros((sites, SIDES)), np.zeros((sites, SIDES))
    minor, least = np.zeros((sites, SIDES)), np.zeros((sites, SIDES))
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
    expected = np.zeros((2, SIDES))
    for i in range(sites):
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            if effective[i, j] > 0.0:
                marked += methylated[i, j] / effective[i, j] * coverage[i, j]
        if min(marked, reads - marked) < MIN_MINOR_READS - ROUNDING:
            continue
        rank, _ = whiten(methylated[i], effective[i], 0.0, reduced, columns, group, s)
        u, v = score_of(exposure, s.scale, s.error, s.basis, rank, s.direction)
        if v == 0.0:
            continue
        score[i] = u
        third = 0.0
        expected[:] = 0.0
        for j in range(units):
            if s.scale[j] == 0.0:
                continue
            k = side[j]
            expected[0, k] += coverage[i, j] * s.mu[j]
            expected[1, k] += coverage[i, j] * (1.0 - s.mu[j])
            square = s.direction[j] ** 2
            left = 1.0 - square / v
            for c in range(rank):
                left -= s.basis[c, j] ** 2
            information[i, k] += square
            least[i, k] += square * effective[i, j] / coverage[i, j]
            residual[i, k] += (s.error[j] - u / v * s.direction[j]) ** 2
            df[i, k] += left
            excess[i, k] += left * (coverage[i, j] - 1.0)
            third += (
                s.direction[j] ** 3
                * (1.0 - 2.0 * s.mu[j])
                / np.sqrt(s.n[j] * s.mu[j] * (1.0 - s.mu[j]))
            )
        skewness[i] = third / v**1.5
        for k in range(SIDES):
            minor[i, k] = min(expected[0, k], expected[1, k])
            # Whole degrees of freedom stay whole, whatever the rounding of leverages.
            if abs(df[i, k] - np.rint(df[i, k])) < ROUNDING:
                df[i, k] = np.rint(df[i, k])
            if information[i, k] < ROUNDING * v:
                information[i, k] = 0.0
                continue
            least[i, k] /= information[i, k]
    return score, skewness, information, residual, df, excess, minor, least


@njit(cache=True, nogil=True)
def tails_of_sides(
    methylated, effective, reduced, group, n_groups, exposure, side, score, weight, keep
):
    """Normal scores of the test by sides, those in the tails by the saddlepoint.

    Parameters
    ----------
    score : (sites,) signed normal scores of the moderated t
    weight : (sites, sides) a side's share of the score's variance over its degrees of freedom
    keep : (sites,) the sites that are tested
    others as `fit_sides`

    Returns
    -------
    (sites,) signed normal scores
    """
    sites, units = effective.shape
    found = score.copy()
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
    a = np.zeros(units)
    for i in range(sites):
        size = abs(score[i])
        if not keep[i] or not size > _FROM:
            continue
        rank, _ = whiten(methylated[i], effective[i], 0.0, reduced, columns, group, s)
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
            left = 1.0 - q * q
            for c in range(rank):
                left -= s.basis[c, j] ** 2
            shared += weight[i, side[j]] * q * left * (1.0 - 2.0 * s.mu[j]) / np.sqrt(spread)
        tail = saddlepoint_score(a, s.n, s.mu, size)
        # As in `tail_scores`, the covariance with the variance summed over sides.
        tail *= np.exp(min(max(0.5 * shared * tail, -0.5), 0.5))
        share = min((size - _FROM) / (_WHOLLY - _FROM), 1.0)
        found[i] = sign * (size + share * (tail - size))
    return found


def satterthwaite(
    information: Floats, dispersion: Floats, df: Floats
) -> tuple[Floats, Floats, Floats]:
    """Variance of the score from its sides' dispersions, with Satterthwaite's (1946) df.

    Parameters
    ----------
    information, dispersion, df : (sites, sides); a df may be infinite

    Returns
    -------
    variance, df : (sites,)
    weight : (sites, sides) each side's share of the variance over its degrees of freedom

    >>> v, df, weight = satterthwaite(np.array([[2.0, 2.0]]), np.ones((1, 2)), np.full((1, 2), 3.0))
    >>> v.tolist(), df.round(9).tolist()
    ([4.0], [6.0])
    """
    parts = np.where(information > 0.0, information * dispersion, 0.0)
    variance = parts.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = parts / variance[:, None]
        weight = np.where(parts > 0.0, share / df, 0.0)
        return variance, 1.0 / (share * weight).sum(axis=1), weight


def sides_of(side: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """0 for the contrast's higher level, 1 for its lower, 2 for other units."""
    return np.where(side > 0, 0, np.where(side < 0, 1, 2)).astype(np.int64)

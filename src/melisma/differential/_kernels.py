"""Numba kernels of the differential tests: arrays in, arrays out.

A site's counts over units are M of N reads, float64, as units that pool samples have effective
counts. Every kernel fits and whitens the reduced model of one site (`_whitening`) and tests
exposures by least squares of the whitened residuals.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from melisma.differential._whitening import Floats, interpolate, make_scratch, score_of, whiten

# STATISTICS: with fewer minor reads over all units a site is not testable.
MIN_MINOR_READS = 5
# Counts of pooled blocks and skewness are right up to rounding: no site is lost to it.
ROUNDING = 1e-6
# A score more skewed than this, by unequal groups or coverage at extreme levels, has tails that the
# saddlepoint approximation does not reach well either.
MAX_SKEWNESS = 0.8
# Within blocks p is a t distribution's, without the saddlepoint.
MAX_SKEWNESS_WITHIN = 0.5


class SiteFit(NamedTuple):
    """One row a site: score u, information v, residual Pearson sum, degrees of freedom, counts.

    `max_skewness` is the same for all: scores more skewed cannot be tested.
    """

    score: Floats
    information: Floats
    residual: Floats
    df: npt.NDArray[np.int32]
    used: npt.NDArray[np.int32]
    minor: Floats
    level: Floats
    excess: Floats
    skewness: Floats
    max_skewness: float = MAX_SKEWNESS


@njit(cache=True, nogil=True)
def fit_sites(methylated, coverage, reduced, group, n_groups, exposure, knots, rhos):
    """Score test of one exposure at every site.

    Parameters
    ----------
    methylated, coverage : (sites, units) counts
    reduced : (units, r) basis of the reduced model
    group : (units,) group of each unit where the reduced model is one mean a group
    n_groups : 0 where it is not
    exposure : (units,)
    knots, rhos : (k,) dispersion rho as a function of a site's pooled level

    Returns
    -------
    score, information, residual, df, used, minor, level, excess, skewness, each (sites,);
    `excess` is the sum of (1 - leverage)(N - 1), by which rho enters the residual's
    expectation; `skewness` is that of the score under binomial units. Sites with too few minor
    reads are not fitted.
    """
    sites, units = coverage.shape
    score = np.zeros(sites)
    information = np.zeros(sites)
    residual = np.zeros(sites)
    df = np.zeros(sites, dtype=np.int32)
    used = np.zeros(sites, dtype=np.int32)
    minor = np.zeros(sites)
    level = np.full(sites, np.nan)
    excess = np.zeros(sites)
    skewness = np.zeros(sites)
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
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
        u, v = score_of(exposure, s.scale, s.error, s.basis, rank, s.direction)
        if v == 0.0:
            continue
        score[i] = u
        information[i] = v
        df[i] = informative - rank - 1
        total = 0.0
        third = 0.0
        for j in range(units):
            total += s.error[j] ** 2
            if s.scale[j] > 0.0:
                leverage = s.direction[j] ** 2 / v
                for k in range(rank):
                    leverage += s.basis[k, j] ** 2
                excess[i] += (1.0 - leverage) * (coverage[i, j] - 1.0)
                spread = np.sqrt(s.n[j] * s.mu[j] * (1.0 - s.mu[j]))
                third += s.direction[j] ** 3 * (1.0 - 2.0 * s.mu[j]) / spread
        residual[i] = max(total - u * u / v, 0.0)
        skewness[i] = third / v**1.5
    return score, information, residual, df, used, minor, level, excess, skewness


@njit(cache=True, nogil=True)
def moderated(residual, df, prior_df, prior_scale, limits):
    """Squeezed dispersion of one site and its degrees of freedom.

    A site whose own dispersion exceeds `limits[df]` times the prior's is an outlier, such as a
    genotype: it keeps its own variance and degrees of freedom.
    """
    if residual > df * prior_scale * limits[min(df, len(limits) - 1)]:
        return residual / df, df * 1.0
    if np.isinf(prior_df):
        return prior_scale, prior_df
    return (prior_df * prior_scale + residual) / (prior_df + df), prior_df + df


@njit(cache=True, nogil=True)
def normal_score(t, df):
    """The normal score of a t statistic (Wallace 1959), right to 0.05 for df >= 3."""
    if np.isinf(df):
        return t
    score = (8.0 * df + 1.0) / (8.0 * df + 3.0) * np.sqrt(df * np.log1p(t * t / df))
    return score if t >= 0 else -score


@njit(cache=True, nogil=True)
def relabelled_scores(
    methylated, coverage, reduced, group, n_groups, exposures, knots, rhos, prior_df, prior_scale,
    limits, keep,
):  # fmt: skip
    """Moderated normal scores and information of many exposures at every site.

    Parameters as `fit_sites`, with `exposures` (b, units), `limits` of `moderated`, and `keep`
    (sites,) the sites to test.

    Returns
    -------
    z : (b, sites) float32 normal scores, NaN where a site cannot be tested
    a : (b, sites) float32 square root of the information over the moderated variance, else 0
    """
    sites, units = coverage.shape
    b = len(exposures)
    z = np.full((b, sites), np.nan, dtype=np.float32)
    a = np.zeros((b, sites), dtype=np.float32)
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
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
        own = informative - rank - 1
        if own < 1:
            continue
        total = 0.0
        for j in range(units):
            total += s.error[j] ** 2
        for r in range(b):
            u, v = score_of(exposures[r], s.scale, s.error, s.basis, rank, s.direction)
            if v > 0.0:
                left = max(total - u * u / v, 0.0)
                variance, df = moderated(left, own, prior_df, prior_scale, limits)
                a[r, i] = np.sqrt(v / variance)
                z[r, i] = normal_score(u / np.sqrt(v * variance), df)
    return z, a


@njit(cache=True, nogil=True)
def residual_rows(methylated, coverage, reduced, group, n_groups, exposure, knots, rhos, keep):
    """Whitened residuals of the full model, (sites, units), each row of unit length or zero."""
    sites, units = coverage.shape
    rows = np.zeros((sites, units))
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, 1)
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
        u, v = score_of(exposure, s.scale, s.error, s.basis, rank, s.direction)
        norm = 0.0
        for j in range(units):
            rows[i, j] = s.error[j] - (u / v * s.direction[j] if v > 0.0 else 0.0)
            norm += rows[i, j] ** 2
        for j in range(units):
            rows[i, j] = rows[i, j] / np.sqrt(norm) if norm > 1e-12 else 0.0
    return rows

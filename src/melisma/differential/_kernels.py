"""Numba kernels of the differential tests: arrays in, arrays out.

A site's counts over units are M of N reads, float64, as units that pool samples have effective
counts. Weights are n = N / (1 + (N - 1) rho), so that the variance of M/N is mu (1 - mu) / n. The
reduced model's mean mu is fitted on the logit scale with these weights; the exposure is then
tested by one scoring step on the arcsine scale, that is by least squares of the whitened residuals
e = sqrt(n / (mu (1 - mu))) (M/N - mu) on the columns sqrt(n) x. Units whose fitted mean is 0 or 1
carry no information and no degrees of freedom.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

# float64 throughout, but for the relabelled statistics, which are float32.
Floats = npt.NDArray[Any]

# Fitted means closer than this to 0 or 1 are on the boundary.
_EDGE = 1e-6
# A column whose squared residual norm falls below this share of its own is in the others' span.
_ALIASED = 1e-12
_MAX_STEPS = 50
_MAX_HALVINGS = 12
_CONVERGED = 1e-8


class SiteFit(NamedTuple):
    """One row a site: score u, information v, residual Pearson sum, degrees of freedom, counts."""

    score: Floats
    information: Floats
    residual: Floats
    df: npt.NDArray[np.int32]
    used: npt.NDArray[np.int32]
    minor: Floats
    level: Floats
    excess: Floats
    skewness: Floats


@njit(cache=True, nogil=True)
def interpolate(x, knots, values):
    """Linear interpolation, constant outside the knots."""
    if len(knots) == 1 or x <= knots[0]:
        return values[0]
    if x >= knots[-1]:
        return values[-1]
    k = np.searchsorted(knots, x)
    share = (x - knots[k - 1]) / (knots[k] - knots[k - 1])
    return values[k - 1] + share * (values[k] - values[k - 1])


@njit(cache=True, nogil=True)
def _group_means(y, n, group, mu, sums, weights):
    """mu of each unit when the reduced model is one mean a group (closed form)."""
    sums[:] = 0.0
    weights[:] = 0.0
    for j in range(len(n)):
        sums[group[j]] += n[j] * y[j]
        weights[group[j]] += n[j]
    for j in range(len(n)):
        g = group[j]
        mu[j] = sums[g] / weights[g] if weights[g] > 0.0 else 0.0


@njit(cache=True, nogil=True)
def orthonormal(columns, scale, basis):
    """Gram-Schmidt of scale * columns into `basis`; returns the rank."""
    n, width = columns.shape
    rank = 0
    for c in range(width):
        before = 0.0
        for j in range(n):
            basis[j, rank] = scale[j] * columns[j, c]
            before += basis[j, rank] ** 2
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            for k in range(rank):
                dot = 0.0
                for j in range(n):
                    dot += basis[j, k] * basis[j, rank]
                for j in range(n):
                    basis[j, rank] -= dot * basis[j, k]
        after = 0.0
        for j in range(n):
            after += basis[j, rank] ** 2
        if after > _ALIASED * before and after > 0.0:
            norm = np.sqrt(after)
            for j in range(n):
                basis[j, rank] /= norm
            rank += 1
    return rank


@njit(cache=True, nogil=True)
def _deviance(y, n, mu):
    total = 0.0
    for j in range(len(y)):
        if n[j] > 0.0:
            if y[j] > 0.0:
                total += n[j] * y[j] * np.log(y[j] / max(mu[j], 1e-300))
            if y[j] < 1.0:
                total += n[j] * (1.0 - y[j]) * np.log((1.0 - y[j]) / max(1.0 - mu[j], 1e-300))
    return total


@njit(cache=True, nogil=True)
def _logistic_means(y, n, columns, mu, basis, scale, eta):
    """mu of each unit by iterated weighted least squares on the logit scale.

    A step that raises the deviance is halved: full steps overshoot at discordant pairs.
    """
    units = len(y)
    total = 0.0
    weight = 0.0
    for j in range(units):
        total += n[j] * y[j]
        weight += n[j]
    start = np.log(total / (weight - total))
    for j in range(units):
        mu[j] = total / weight
        eta[j] = start
    deviance = _deviance(y, n, mu)
    fitted = np.zeros(units)
    trial = np.zeros(units)
    for _ in range(_MAX_STEPS):
        for j in range(units):
            scale[j] = np.sqrt(n[j] * mu[j] * (1.0 - mu[j]))
        rank = orthonormal(columns, scale, basis)
        fitted[:] = 0.0
        for k in range(rank):
            dot = 0.0
            for j in range(units):
                if scale[j] > 0.0:
                    working = eta[j] + (y[j] - mu[j]) / (mu[j] * (1.0 - mu[j]))
                    dot += basis[j, k] * scale[j] * working
            for j in range(units):
                fitted[j] += dot * basis[j, k]
        step = 1.0
        now = deviance
        for _ in range(_MAX_HALVINGS):
            for j in range(units):
                trial[j] = mu[j]
                if scale[j] > 0.0:
                    target = eta[j] + step * (fitted[j] / scale[j] - eta[j])
                    trial[j] = 1.0 / (1.0 + np.exp(-min(max(target, -30.0), 30.0)))
            now = _deviance(y, n, trial)
            if now <= deviance + _CONVERGED * (deviance + 0.1):
                break
            step *= 0.5
        for j in range(units):
            if scale[j] > 0.0:
                target = eta[j] + step * (fitted[j] / scale[j] - eta[j])
                eta[j] = min(max(target, -30.0), 30.0)
                mu[j] = trial[j]
        if abs(deviance - now) < _CONVERGED * (now + 0.1):
            break
        deviance = now


@njit(cache=True, nogil=True)
def _whiten(m, coverage, rho, reduced, group, mu, y, n, scale, basis, error, sums, weights):
    """Fit the reduced model of one site and whiten it; returns rank and informative units.

    Fills mu, the whitened residuals `error`, the column scale and the orthonormal `basis`.
    """
    units = len(coverage)
    for j in range(units):
        y[j] = m[j] / coverage[j] if coverage[j] > 0 else 0.0
        n[j] = coverage[j] / (1.0 + (coverage[j] - 1.0) * rho) if coverage[j] > 0 else 0.0
    if len(sums):
        _group_means(y, n, group, mu, sums, weights)
    else:
        _logistic_means(y, n, reduced, mu, basis, scale, error)
    informative = 0
    for j in range(units):
        if n[j] > 0.0 and _EDGE < mu[j] < 1.0 - _EDGE:
            spread = mu[j] * (1.0 - mu[j])
            scale[j] = np.sqrt(n[j])
            error[j] = np.sqrt(n[j] / spread) * (y[j] - mu[j])
            informative += 1
        else:
            scale[j] = 0.0
            error[j] = 0.0
    rank = orthonormal(reduced, scale, basis)
    for k in range(rank):
        dot = 0.0
        for j in range(units):
            dot += basis[j, k] * error[j]
        for j in range(units):
            error[j] -= dot * basis[j, k]
    return rank, informative


@njit(cache=True, nogil=True)
def score_of(exposure, scale, error, basis, rank, direction):
    """Score and information of one exposure against whitened residuals."""
    units = len(exposure)
    before = 0.0
    for j in range(units):
        direction[j] = scale[j] * exposure[j]
        before += direction[j] ** 2
    for k in range(rank):
        dot = 0.0
        for j in range(units):
            dot += basis[j, k] * direction[j]
        for j in range(units):
            direction[j] -= dot * basis[j, k]
    u = 0.0
    v = 0.0
    for j in range(units):
        u += direction[j] * error[j]
        v += direction[j] ** 2
    if v <= _ALIASED * before:
        return 0.0, 0.0
    return u, v


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
    expectation; `skewness` is that of the score under binomial units.
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
    mu, y, n, scale = np.zeros(units), np.zeros(units), np.zeros(units), np.zeros(units)
    error, direction = np.zeros(units), np.zeros(units)
    basis = np.zeros((units, reduced.shape[1] + 1))
    sums, weights = np.zeros(n_groups), np.zeros(n_groups)
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
        if minor[i] <= 0.0:
            continue
        rho = interpolate(level[i], knots, rhos)
        rank, informative = _whiten(
            methylated[i], coverage[i], rho, reduced, group, mu, y, n, scale, basis, error,
            sums, weights,
        )  # fmt: skip
        u, v = score_of(exposure, scale, error, basis, rank, direction)
        if v == 0.0:
            continue
        score[i] = u
        information[i] = v
        df[i] = informative - rank - 1
        total = 0.0
        third = 0.0
        for j in range(units):
            total += error[j] ** 2
            if scale[j] > 0.0:
                leverage = direction[j] ** 2 / v
                for k in range(rank):
                    leverage += basis[j, k] ** 2
                excess[i] += (1.0 - leverage) * (coverage[i, j] - 1.0)
                spread = np.sqrt(n[j] * mu[j] * (1.0 - mu[j]))
                third += direction[j] ** 3 * (1.0 - 2.0 * mu[j]) / spread
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
    mu, y, n, scale = np.zeros(units), np.zeros(units), np.zeros(units), np.zeros(units)
    error, direction = np.zeros(units), np.zeros(units)
    basis = np.zeros((units, reduced.shape[1] + 1))
    sums, weights = np.zeros(n_groups), np.zeros(n_groups)
    for i in range(sites):
        if not keep[i]:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        rho = interpolate(marked / reads, knots, rhos)
        rank, informative = _whiten(
            methylated[i], coverage[i], rho, reduced, group, mu, y, n, scale, basis, error,
            sums, weights,
        )  # fmt: skip
        own = informative - rank - 1
        if own < 1:
            continue
        total = 0.0
        for j in range(units):
            total += error[j] ** 2
        for r in range(b):
            u, v = score_of(exposures[r], scale, error, basis, rank, direction)
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
    mu, y, n, scale = np.zeros(units), np.zeros(units), np.zeros(units), np.zeros(units)
    error, direction = np.zeros(units), np.zeros(units)
    basis = np.zeros((units, reduced.shape[1] + 1))
    sums, weights = np.zeros(n_groups), np.zeros(n_groups)
    for i in range(sites):
        if not keep[i]:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        rho = interpolate(marked / reads, knots, rhos)
        rank, _ = _whiten(
            methylated[i], coverage[i], rho, reduced, group, mu, y, n, scale, basis, error,
            sums, weights,
        )  # fmt: skip
        u, v = score_of(exposure, scale, error, basis, rank, direction)
        norm = 0.0
        for j in range(units):
            rows[i, j] = error[j] - (u / v * direction[j] if v > 0.0 else 0.0)
            norm += rows[i, j] ** 2
        for j in range(units):
            rows[i, j] = rows[i, j] / np.sqrt(norm) if norm > 1e-12 else 0.0
    return rows

"""Variances squeezed across sites, and the dispersion rho from sums over sites."""

from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, digamma, fdtri, polygamma

from melisma.differential._kernels import Floats, SiteFit

# A trend of rho in level needs this many sites a knot.
_SITES_PER_KNOT = 2000
_MAX_KNOTS = 12
_OUTLIER = 0.99
# A prior of its own needs this many regions.
_REGIONS_PER_PRIOR = 300
_MOST_PRIORS = 8
# Fewer regions say nothing of how variances vary: for tests, and for intervals.
_FEWEST_REGIONS = 50
FEWEST_FOR_INTERVALS = 10


class Prior(NamedTuple):
    """Scaled inverse chi-square prior of the sites' dispersions: degrees of freedom and scale."""

    df: float
    scale: float


class Dispersion(NamedTuple):
    """rho as a piecewise linear function of a site's pooled level."""

    knots: Floats
    rho: Floats


NO_DISPERSION = Dispersion(np.array([0.5]), np.array([0.0]))


def estimate_dispersion(fit: SiteFit, keep: np.ndarray) -> Dispersion:
    """rho of the common beta-binomial variance, a ratio of sums over sites fitted with rho = 0.

    With binomial weights a site's Pearson sum has expectation df + rho * excess, so
    rho = sum(residual - df) / sum(excess), floored at 0; with enough sites in quantile bins of
    level, smoothed, else one value for all.
    """
    level, gain, excess = (
        values[keep] for values in (fit.level, fit.residual - fit.df, fit.excess)
    )
    bins = int(min(_MAX_KNOTS, len(level) // _SITES_PER_KNOT))
    if bins < 3:
        total = excess.sum()
        rho = max(gain.sum() / total, 0.0) if total > 0 else 0.0
        return Dispersion(np.array([0.5]), np.array([rho]))
    order = np.argsort(level, kind="stable")
    parts = np.array_split(order, bins)
    knots = np.array([level[part].mean() for part in parts])
    sums = np.array([(gain[part].sum(), excess[part].sum()) for part in parts])
    padded = np.pad(sums, ((1, 1), (0, 0)), mode="edge")
    smooth = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    rho = np.maximum(smooth[:, 0] / np.maximum(smooth[:, 1], 1e-300), 0.0)
    unique = np.concatenate([[True], np.diff(knots) > 0])
    return Dispersion(knots[unique], rho[unique])


def estimate_prior(variance: Floats, df: Floats) -> Prior:
    """Fit a scaled F distribution to sample variances (Smyth 2004).

    Parameters
    ----------
    variance, df : (sites,) variances and their degrees of freedom, df >= 1

    Returns
    -------
    Prior; df is infinite where the variances vary no more than chance makes them.
    """
    if len(variance) < 3:
        return Prior(np.inf, float(variance.mean()) if len(variance) else 1.0)
    floor = 1e-5 * float(np.median(variance))
    logs = np.log(np.maximum(variance, max(floor, 1e-300)))
    half = df / 2.0
    centred = logs - digamma(half) + np.log(half)
    mean = centred.mean()
    spread = centred.var(ddof=1) - polygamma(1, half).mean()
    if spread <= 0:
        return Prior(np.inf, float(np.average(variance, weights=df)))
    half_prior = inverse_trigamma(spread)
    scale = np.exp(mean + digamma(half_prior) - np.log(half_prior))
    return Prior(2.0 * half_prior, float(scale))


def inverse_trigamma(value: float) -> float:
    """x with trigamma(x) = value, by Newton's method on 1/trigamma (Smyth 2004, appendix)."""
    if value > 1e7:
        return 1.0 / np.sqrt(value)
    if value < 1e-6:
        return 1.0 / value
    x = 0.5 + 1.0 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1.0 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-8:
            break
    return x


def outlier_limits(prior: Prior, most_df: int) -> Floats:
    """Ratio of a site's own dispersion to the prior's beyond which it is an outlier, by df.

    The 99th percentile of F(df, d0): a genotype or a mixed sample is not squeezed towards the
    others (the idea of Phipson et al. 2016), and one in a hundred ordinary sites is not either.
    """
    df = np.arange(1, most_df + 1)
    if np.isinf(prior.df):
        return np.concatenate([[np.inf], chdtri(df, 1 - _OUTLIER) / df])
    return np.concatenate([[np.inf], fdtri(df, prior.df, _OUTLIER)])


def moderate(residual: Floats, df: Floats, prior: Prior, limits: Floats) -> tuple[Floats, Floats]:
    """Squeezed dispersions (d0 s0 + residual) / (d0 + d) and their degrees of freedom.

    Outliers by `limits` keep their own.
    """
    own = residual / np.maximum(df, 1)
    if np.isinf(prior.df):
        squeezed, total = np.full(len(df), prior.scale), np.full(len(df), np.inf)
    else:
        total = prior.df + df
        squeezed = (prior.df * prior.scale + residual) / total
    index = np.clip(df, 0, len(limits) - 1).astype(np.int64)
    outlier = own > prior.scale * limits[index]
    return np.where(outlier, own, squeezed), np.where(outlier, df, total)


def moderate_regions(
    residual: Floats, df: Floats, size: Floats, units: int, fewest: int = _FEWEST_REGIONS
) -> tuple[Floats, Floats]:
    """Regions' dispersions squeezed among those of about one size, and their degrees of freedom.

    Where regions are few each keeps its own, which is NaN without a degree of freedom.
    """
    known = np.flatnonzero(df > 0)
    dispersion, total = np.full(len(df), np.nan), np.array(df, dtype=np.float64)
    if len(known) < fewest:
        dispersion[known] = residual[known] / total[known]
        return dispersion, total
    lots = int(np.clip(len(known) // _REGIONS_PER_PRIOR, 1, _MOST_PRIORS))
    order = known[np.argsort(np.asarray(size)[known], kind="stable")]
    for rows in np.array_split(order, lots):
        prior = estimate_prior(residual[rows] / total[rows], total[rows])
        dispersion[rows], total[rows] = moderate(
            residual[rows], total[rows], prior, outlier_limits(prior, units)
        )
    return dispersion, total

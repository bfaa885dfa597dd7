"""Numba kernels of the beta-binomial likelihood ratio and its parametric bootstrap."""

import math

import numpy as np
from numba import njit

from melisma.differential._whitening import logistic_means, make_scratch

# The dispersion is the likeliest of these, so that both models choose among the same.
RHOS = np.array([1e-4, 3e-3, 0.01, 0.02, 0.04, 0.07, 0.12, 0.2, 0.35, 0.6])


@njit(cache=True, nogil=True)
def log_likelihood(methylated, coverage, mu, rho):
    """Beta-binomial log likelihood without the binomial coefficients."""
    total = 0.0
    odds = (1.0 - rho) / rho
    whole = math.lgamma(odds)
    for j in range(len(mu)):
        n, m = coverage[j], methylated[j]
        p = min(max(mu[j], 1e-9), 1.0 - 1e-9)
        a, b = p * odds, (1.0 - p) * odds
        if n > 0.0:
            total += math.lgamma(m + a) + math.lgamma(n - m + b) - math.lgamma(n + odds)
            total -= math.lgamma(a) + math.lgamma(b) - whole
    return total


@njit(cache=True, nogil=True)
def fit_model(methylated, coverage, columns, rhos, s, mu):
    """The likeliest rho with its log likelihood; fills the means `mu`.

    At each rho the means are fitted on the logit scale with weights N / (1 + (N - 1) rho).
    """
    best, chosen = -np.inf, 0
    units = len(coverage)
    for r in range(len(rhos)):
        for j in range(units):
            n = coverage[j]
            s.y[j] = methylated[j] / n if n > 0.0 else 0.0
            s.n[j] = n / (1.0 + (n - 1.0) * rhos[r]) if n > 0.0 else 0.0
        logistic_means(columns, s)
        found = log_likelihood(methylated, coverage, s.mu, rhos[r])
        if found > best:
            best, chosen = found, r
            for j in range(units):
                mu[j] = s.mu[j]
    return best, rhos[chosen]


@njit(cache=True, nogil=True)
def likelihood_ratio(methylated, coverage, reduced, full, rhos, scratch, other, mu):
    """Twice the log likelihood ratio of two models, and the reduced one's rho and means."""
    total = 0.0
    marked = 0.0
    for j in range(len(coverage)):
        total += coverage[j]
        marked += methylated[j]
    if marked <= 0.0 or marked >= total:
        return 0.0, rhos[0]
    more, _ = fit_model(methylated, coverage, full, rhos, other, mu)
    less, rho = fit_model(methylated, coverage, reduced, rhos, scratch, mu)
    return max(2.0 * (more - less), 0.0), rho


@njit(cache=True, nogil=True)
def bootstrap_site(methylated, coverage, reduced, full, rhos, generator, draws):
    """Likelihood ratio of one site and how many of its simulated data sets reach it.

    Parameters
    ----------
    methylated, coverage : (units,) whole counts
    reduced, full : (units, r) and (units, r + k) columns of the two models
    generator : numpy Generator of the draws
    draws : data sets, from the reduced model's means and rho

    Returns
    -------
    ratio, rho, reached
    """
    units = len(coverage)
    scratch, other = make_scratch(reduced, 0, 1), make_scratch(full, 0, 1)
    mu, trial, drawn = np.zeros(units), np.zeros(units), np.zeros(units)
    ratio, rho = likelihood_ratio(methylated, coverage, reduced, full, rhos, scratch, other, mu)
    odds = (1.0 - rho) / rho
    reached = 0
    for _ in range(draws):
        for j in range(units):
            p = min(max(mu[j], 1e-9), 1.0 - 1e-9)
            own = generator.beta(p * odds, (1.0 - p) * odds)
            drawn[j] = generator.binomial(int(coverage[j]), own)
        again, _ = likelihood_ratio(drawn, coverage, reduced, full, rhos, scratch, other, trial)
        reached += again >= ratio - 1e-9
    return ratio, rho, reached

"""Numba kernels of the simulation: random draws along a contig, a stream a sample.

Each kernel goes on where its generator and the last value it returned stand, so that a contig
drawn in pieces is the contig drawn at once.
"""

import numpy as np
from numba import njit

# Up to here reads are drawn one by one (Polya's urn), which is faster than a beta and a binomial.
_URN_READS = 24
_MOST_READS = 65535


@njit(cache=True, nogil=True)
def walk(generator, kept, last, out):
    """A stationary unit-variance Ornstein-Uhlenbeck process; `kept` is exp(-gap / length).

    kept : (sites,), 0 where the process begins anew
    last : the value at the site before
    out : (sites,) filled

    Returns
    -------
    The last value.
    """
    for k in range(len(kept)):
        last = kept[k] * last + np.sqrt(1.0 - kept[k] * kept[k]) * generator.standard_normal()
        out[k] = last
    return last


@njit(cache=True, nogil=True)
def draw_counts(generator, mean, rho, depth, methylated, coverage):
    """Gamma-Poisson coverage and beta-binomial reads, all (sites,); the last two are filled."""
    for k in range(len(mean)):
        reads = min(generator.poisson(generator.gamma(8.0, depth[k] / 8.0)), _MOST_READS)
        odds = (1.0 - rho[k]) / rho[k]
        marked = max(mean[k] * odds, 1e-3)
        other = max((1.0 - mean[k]) * odds, 1e-3)
        coverage[k] = reads
        if reads > _URN_READS:
            methylated[k] = generator.binomial(reads, generator.beta(marked, other))
            continue
        found = 0
        for drawn in range(reads):
            if generator.random() * (marked + other + drawn) < marked + found:
                found += 1
        methylated[k] = found


@njit(cache=True, nogil=True)
def mean_levels(logit, effect, shape, exposure, out):
    """Level of a sample at each site: inverse logit, and `exposure` times the planted shape."""
    for k in range(len(logit)):
        level = 1.0 / (1.0 + np.exp(-(logit[k] + effect[k])))
        if exposure != 0.0 and shape[k] != 0.0:
            level = min(max(level + shape[k] * exposure, 0.001), 0.999)
        out[k] = level

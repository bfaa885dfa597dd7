"""Numba kernels that learn a simulation's parameters from counts: arrays in, arrays out."""

import numpy as np
from numba import njit

# Upper edges of the bins of distance, in bases, in which covariances of neighbours are summed.
DISTANCES = np.array([25, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800])
# A site's partners at most, so that dense stretches cost no more than others.
_PARTNERS = 300


@njit(cache=True, nogil=True)
def neighbourhood(position, contig, marked, reads, half):
    """Sums of neighbours with triangular weights, the site itself left out.

    Parameters
    ----------
    position, contig : (sites,) sorted
    marked, reads : (sites,) values to sum
    half : half width of the kernel, bases

    Returns
    -------
    Weighted sums of `marked`, of `reads` and of ones, each (sites,)
    """
    sites = len(position)
    sum_marked, sum_reads, sum_ones = np.zeros(sites), np.zeros(sites), np.zeros(sites)
    for i in range(sites):
        k = i + 1
        while k < sites and contig[k] == contig[i] and position[k] - position[i] <= half:
            weight = 1.0 - (position[k] - position[i]) / (half + 1.0)
            sum_marked[i] += weight * marked[k]
            sum_reads[i] += weight * reads[k]
            sum_ones[i] += weight
            sum_marked[k] += weight * marked[i]
            sum_reads[k] += weight * reads[i]
            sum_ones[k] += weight
            k += 1
    return sum_marked, sum_reads, sum_ones


@njit(cache=True, nogil=True)
def group_residuals(methylated, coverage, group, n_groups):
    """Levels less the mean of their group, NaN where unseen or alone, and how many were seen.

    Parameters
    ----------
    methylated, coverage : (sites, samples) counts
    group : (samples,) 0-based

    Returns
    -------
    residual : (sites, samples)
    seen : (sites, groups) samples with reads
    """
    sites, samples = coverage.shape
    residual = np.full((sites, samples), np.nan)
    seen = np.zeros((sites, n_groups))
    mean = np.zeros(n_groups)
    for i in range(sites):
        mean[:] = 0.0
        for j in range(samples):
            if coverage[i, j] > 0:
                mean[group[j]] += methylated[i, j] / coverage[i, j]
                seen[i, group[j]] += 1.0
        for j in range(samples):
            if coverage[i, j] > 0 and seen[i, group[j]] > 1.0:
                own = methylated[i, j] / coverage[i, j]
                residual[i, j] = own - mean[group[j]] / seen[i, group[j]]
    return residual, seen


@njit(cache=True, nogil=True)
def _shared_seen(residual, group, i, k, shared):
    """How many samples of each group are seen at both sites."""
    shared[:] = 0.0
    for j in range(residual.shape[1]):
        if not np.isnan(residual[i, j]) and not np.isnan(residual[k, j]):
            shared[group[j]] += 1.0


@njit(cache=True, nogil=True)
def covariances(position, contig, residual, variance, seen, group, block, edges):
    """Sums of products of residuals at two sites by distance, and what 1 would give.

    An effect on the logit scale with covariance C(d) moves a level by mu (1 - mu) of it, so that
    the product of the residuals at sites i and k has expectation C(d) v_i v_k f, with f what
    centring leaves: 1 - 1/n_i - 1/n_k + m / (n_i n_k), of n_i and n_k samples seen in the group
    and m seen at both. Reads of different sites add nothing to it.

    Parameters
    ----------
    residual, seen : of `group_residuals`
    variance : (sites,) mu (1 - mu)
    block : (samples,) -1: in no block
    edges : (bins,) upper edges of the distances

    Returns
    -------
    own, own_weight : (bins,) the same sample at both sites
    mate, mate_weight : (bins,) another sample of the block, of another group, at the second site
    """
    bins, samples = len(edges), residual.shape[1]
    own, own_weight = np.zeros(bins), np.zeros(bins)
    mate, mate_weight = np.zeros(bins), np.zeros(bins)
    shared = np.zeros(seen.shape[1])
    for i in range(len(position)):
        for k in range(i + 1, min(len(position), i + 1 + _PARTNERS)):
            distance = position[k] - position[i]
            if contig[k] != contig[i] or distance > edges[-1]:
                break
            if distance == 0:
                continue
            at = np.searchsorted(edges, distance)
            v = variance[i] * variance[k]
            _shared_seen(residual, group, i, k, shared)
            for j in range(samples):
                if np.isnan(residual[i, j]):
                    continue
                n, m = seen[i, group[j]], seen[k, group[j]]
                if not np.isnan(residual[k, j]):
                    left = 1.0 - 1.0 / n - 1.0 / m + shared[group[j]] / (n * m)
                    own[at] += residual[i, j] * residual[k, j]
                    own_weight[at] += v * left
                if block[j] < 0:
                    continue
                for other in range(samples):
                    if block[other] != block[j] or group[other] == group[j]:
                        continue
                    if np.isnan(residual[k, other]):
                        continue
                    m = seen[k, group[other]]
                    left = 1.0 - 1.0 / n - 1.0 / m + min(n, m) / (n * m)
                    mate[at] += residual[i, j] * residual[k, other]
                    mate_weight[at] += v * left
    return own, own_weight, mate, mate_weight

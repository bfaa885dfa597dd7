"""Numba kernel of given regions: what a region's sites say together, dimension by dimension."""

import numpy as np
from numba import njit

from melisma.differential._scores import common_frame
from melisma.differential._whitening import interpolate, make_scratch, score_of, whiten


@njit(cache=True, nogil=True)
def aligned_residuals(
    methylated, coverage, anchor, group, n_groups, knots, rhos, keep, error, root, df
):
    """Whitened residuals of each site in the frame that all sites share.

    Parameters
    ----------
    methylated, coverage, anchor, group, n_groups, knots, rhos, keep : as `moved_scores`
    error : (sites, units) zeros, filled: residuals of the reduced model, orthogonal to the
        unweighted one; their part along the anchor's last row is the exposure's score over root
    root : (sites,) zeros, filled: square root of the information
    df : (sites,) zeros, filled: residual degrees of freedom
    """
    sites, units = coverage.shape
    reduced = anchor[:-1]
    basis = np.ascontiguousarray(reduced.T)
    s = make_scratch(basis, n_groups, 1)
    rows = np.zeros((units, units))
    for i in range(sites):
        if not keep[i]:
            continue
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        rho = interpolate(marked / reads, knots, rhos)
        rank, informative = whiten(methylated[i], coverage[i], rho, basis, reduced, group, s)
        own = informative - rank - 1
        _, v = score_of(anchor[-1], s.scale, s.error, s.basis, rank, s.direction)
        if own < 1 or v <= 0.0:
            continue
        common_frame(reduced, anchor[-1], s, rank, anchor, rows)
        for j in range(units):
            error[i, j] = s.error[j]
        root[i] = np.sqrt(v)
        df[i] = own


@njit(cache=True, nogil=True)
def region_sums(error, root, df, scale, shared, decay, start, end):
    """Information-weighted sums of the sites' residuals over regions.

    Parameters
    ----------
    error, root, df : of `aligned_residuals`
    scale, shared : (sites,) of the null's strata
    decay : (sites,) of `decays`
    start, end : (regions,) half open indices of sites

    Returns
    -------
    total : (regions, units) sums over their standard deviation under the null
    freedom : (regions,) mean residual degrees of freedom, weighted as the sums are
    tested : (regions,) sites that count
    """
    regions, units = len(start), error.shape[1]
    total = np.zeros((regions, units))
    freedom = np.zeros(regions)
    tested = np.zeros(regions, dtype=np.int64)
    for r in range(regions):
        own = 0.0
        cross = 0.0
        carried = 0.0
        for k in range(start[r], end[r]):
            if k > start[r]:
                carried *= decay[k]
            if root[k] == 0.0:
                continue
            weight = root[k]
            for j in range(units):
                total[r, j] += weight * error[k, j] / scale[k]
            own += weight * weight
            cross += weight * shared[k] * carried
            carried += weight * shared[k]
            freedom[r] += weight * weight * df[k]
            tested[r] += 1
        if own > 0.0:
            spread = np.sqrt(own + 2.0 * cross)
            for j in range(units):
                total[r, j] /= spread
            freedom[r] /= own
    return total, freedom, tested

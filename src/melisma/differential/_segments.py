"""Numba kernels of the region search: smoothing, candidates, boundaries, statistics."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def decays(position, length):
    """exp(-d / length) of each site's distance d to the one before, (sites,); 0 for the first."""
    out = np.zeros(len(position))
    for k in range(1, len(position)):
        out[k] = np.exp(-(position[k] - position[k - 1]) / length)
    return out


@njit(cache=True, nogil=True)
def _tricube(distance, half):
    u = abs(distance) / (half + 1.0)
    cubed = 1.0 - u * u * u
    return cubed * cubed * cubed


@njit(cache=True, nogil=True)
def smooth_scores(score, position, weight, half, shared, decay):
    """Scores smoothed along the genome, over their standard deviation under the null.

    Parameters
    ----------
    score : (blocks, sites, lanes) float32, a lane a labelling
    position, weight : (sites,) sorted positions; weight 0 leaves a site out
    half : the tricube kernel's half width in bases
    shared, decay : correlation of the scores of two sites d apart,
        shared_i * shared_k * exp(-d / length), with `decays`

    Returns
    -------
    (blocks, sites, lanes) float32
    """
    blocks, sites, lanes = score.shape
    smooth = np.zeros((blocks, sites, lanes), dtype=np.float32)
    lo = 0
    for i in range(sites):
        while position[i] - position[lo] > half:
            lo += 1
        own = 0.0
        cross = 0.0
        carried = 0.0
        k = lo
        while k < sites and position[k] - position[i] <= half:
            w = weight[k] * _tricube(position[k] - position[i], half)
            if k > lo:
                carried *= decay[k]
            if w > 0.0:
                own += w * w
                cross += w * shared[k] * carried
                carried += w * shared[k]
                w32 = np.float32(w)
                for b in range(blocks):
                    for lane in range(lanes):
                        smooth[b, i, lane] += w32 * score[b, k, lane]
            k += 1
        if own > 0.0:
            scale = np.float32(1.0 / np.sqrt(own + 2.0 * cross))
            for b in range(blocks):
                for lane in range(lanes):
                    smooth[b, i, lane] *= scale
    return smooth


@njit(cache=True, nogil=True)
def find_segments(
    score, root, smooth, position, tested, shared, decay, threshold, max_gap, min_sites
):
    """Candidate regions of one labelling.

    Parameters
    ----------
    score : (sites,) normal scores, signed
    root : (sites,) square root of the information, in units of the moderated variance
    smooth : (sites,) of `smooth_scores`
    tested : (sites,) which sites count
    shared, decay : as `smooth_scores`
    threshold : on the absolute smoothed score; max_gap in bases; min_sites in a region

    Returns
    -------
    start, end (half open site indices), statistic (signed), as equally long arrays
    """
    sites = len(position)
    starts = []
    ends = []
    statistics = []
    i = 0
    while i < sites:
        if abs(smooth[i]) <= threshold:
            i += 1
            continue
        sign = 1.0 if smooth[i] > 0 else -1.0
        j = i + 1
        while (
            j < sites and smooth[j] * sign > threshold and position[j] - position[j - 1] <= max_gap
        ):
            j += 1
        floor = ends[-1] if len(ends) else 0
        start, end = _refine(score, root, position, max(i, floor), j, sign, max_gap, floor)
        inside = 0
        for k in range(start, end):
            inside += tested[k]
        if inside >= min_sites:
            starts.append(start)
            ends.append(end)
            statistics.append(region_statistic(score, root, start, end, shared, decay))
            i = max(j, end)
        else:
            i = j
    n = len(starts)
    out_start = np.empty(n, dtype=np.int64)
    out_end = np.empty(n, dtype=np.int64)
    out_statistic = np.empty(n)
    for k in range(n):
        out_start[k] = starts[k]
        out_end[k] = ends[k]
        out_statistic[k] = statistics[k]
    return out_start, out_end, out_statistic


@njit(cache=True, nogil=True)
def _refine(score, root, position, start, end, sign, max_gap, floor):
    """The stretch with the largest log-likelihood ratio of a common effect against none.

    With effect g, a site adds sign * g * score * root - g^2 root^2 / 2; g is estimated from the
    candidate, and the best stretch is searched in the candidate with half its length on either
    side, twice; regions do not reach below the site `floor`, where the last one ended.
    """
    sites = len(score)
    for _ in range(2):
        u = 0.0
        v = 0.0
        for k in range(start, end):
            u += score[k] * root[k]
            v += root[k] * root[k]
        if v == 0.0 or u * sign <= 0.0:
            break
        effect = abs(u) / v
        reach = max((end - start) // 2, 2)
        lo = start
        while lo > floor and start - lo < reach and position[lo] - position[lo - 1] <= max_gap:
            lo -= 1
        hi = end
        while hi < sites and hi - end < reach and position[hi] - position[hi - 1] <= max_gap:
            hi += 1
        best = 0.0
        total = 0.0
        begin = lo
        best_start = start
        best_end = end
        for k in range(lo, hi):
            if root[k] == 0.0:
                continue
            total += sign * score[k] * root[k] - 0.5 * effect * root[k] * root[k]
            if total <= 0.0:
                total = 0.0
                begin = k + 1
            elif total > best:
                best = total
                best_start = begin
                best_end = k + 1
        if best <= 0.0 or (best_start == start and best_end == end):
            break
        start = best_start
        end = best_end
    while start < end and root[start] == 0.0:
        start += 1
    while end > start and root[end - 1] == 0.0:
        end -= 1
    return start, end


@njit(cache=True, nogil=True)
def region_statistic(score, root, start, end, shared, decay):
    """Information-weighted sum of scores over its standard deviation under the null."""
    total = 0.0
    own = 0.0
    cross = 0.0
    carried = 0.0
    for k in range(start, end):
        if k > start:
            carried *= decay[k]
        total += root[k] * score[k]
        own += root[k] * root[k]
        cross += root[k] * shared[k] * carried
        carried += root[k] * shared[k]
    variance = own + 2.0 * cross
    return total / np.sqrt(variance) if variance > 0.0 else 0.0


@njit(cache=True, nogil=True)
def residual_correlation(residual, position, stratum, strata, edges, neighbours):
    """Sums of products and counts of pairs of sites of one stratum, by distance.

    residual : (sites, units) rows of unit length, or zero
    stratum : (sites,) below `strata`
    edges : (k + 1,) bin edges in bases
    neighbours : how many following sites each site is paired with

    Returns
    -------
    sums, pairs, each (strata, k)
    """
    sites, units = residual.shape
    bins = len(edges) - 1
    sums = np.zeros((strata, bins))
    pairs = np.zeros((strata, bins))
    seen = np.zeros(sites, dtype=np.bool_)
    for i in range(sites):
        for j in range(units):
            seen[i] |= residual[i, j] != 0.0
    for i in range(sites):
        if not seen[i]:
            continue
        for k in range(i + 1, min(i + 1 + neighbours, sites)):
            distance = position[k] - position[i]
            if distance >= edges[-1]:
                break
            where = np.searchsorted(edges, distance, side="right") - 1
            if where < 0 or not seen[k] or stratum[k] != stratum[i]:
                continue
            dot = 0.0
            for j in range(units):
                dot += residual[i, j] * residual[k, j]
            sums[stratum[i], where] += dot
            pairs[stratum[i], where] += 1.0
    return sums, pairs


@njit(cache=True, nogil=True)
def neighbour_squares(delta, variance, position, half):
    """Squares of each site's difference from its neighbours' weighted mean, over their variance.

    delta, variance, position : (sites,)
    half : neighbours lie within so many bases; a site without any is left out
    """
    sites = len(delta)
    out = np.empty(sites)
    found = 0
    lo = 0
    for i in range(sites):
        while position[i] - position[lo] > half:
            lo += 1
        weight = 0.0
        mean = 0.0
        k = lo
        while k < sites and position[k] - position[i] <= half:
            if k != i:
                weight += 1.0 / variance[k]
                mean += delta[k] / variance[k]
            k += 1
        if weight > 0.0:
            off = delta[i] - mean / weight
            out[found] = off * off / (variance[i] + 1.0 / weight)
            found += 1
    return out[:found]

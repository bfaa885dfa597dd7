"""Numba kernels of regions of several coefficients: a vector of k scores at every site.

The scores of the k directions, taken in one order at every site and made orthonormal there, are
smoothed and summed each for itself, as the signed scores of one coefficient are; what is beyond a
threshold is the vector's length. Neighbours whose levels differ alike add up, others do not.
"""

import numpy as np
from numba import njit

from melisma.differential._kernels import moderated, normal_score
from melisma.differential._scores import _ABSENT, _ALIASED, LANES, _absent_units, _turn
from melisma.differential._whitening import clear, interpolate, make_scratch, orthonormal, whiten


@njit(cache=True, nogil=True)
def _score_vector(exposures, gain, square, across, rank, u, v, dots):
    """Fill `u` with the orthonormal directions' scores; returns the mean information or 0.

    exposures : (k, units); u, dots : (k,), `dots` for use; v : (k, k), becomes the information's
        Cholesky root
    """
    k, units = exposures.shape
    trace = 0.0
    for a in range(k):
        u[a] = 0.0
        for j in range(units):
            u[a] += exposures[a, j] * gain[j]
        for b in range(a + 1):
            v[a, b] = 0.0
            for j in range(units):
                v[a, b] += exposures[a, j] * exposures[b, j] * square[j]
    for c in range(rank):
        for a in range(k):
            dots[a] = 0.0
            for j in range(units):
                dots[a] += across[c, j] * exposures[a, j]
            for b in range(a + 1):
                v[a, b] -= dots[a] * dots[b]
    for a in range(k):
        trace += v[a, a]
    for a in range(k):
        for b in range(a + 1):
            for c in range(b):
                v[a, b] -= v[a, c] * v[b, c]
            if b < a:
                v[a, b] /= v[b, b]
        if v[a, a] <= _ALIASED * trace:
            return 0.0
        v[a, a] = np.sqrt(v[a, a])
        for c in range(a):
            u[a] -= v[a, c] * u[c]
        u[a] /= v[a, a]
    return trace / k


@njit(cache=True, nogil=True)
def moved_vectors(
    methylated, coverage, reduced, group, n_groups, moved, knots, rhos, prior_df, prior_scale,
    limits, keep,
):  # fmt: skip
    """Moderated normal scores of k moved exposures at every site.

    Parameters
    ----------
    reduced : (units, r) orthonormal; moved : (b, k, units) exposures, the observed ones first
    others : as `_scores.moved_scores`

    Returns
    -------
    z : (k, ceil(b / LANES), sites, LANES) float32 scores whose length is the normal score of the
        statistic's root, 0 where a site is not tested
    root : (ceil(b / LANES), sites, LANES) float32, square root of the directions' mean
        information over the moderated variance
    """
    sites, units = coverage.shape
    b, k = moved.shape[:2]
    blocks = -(-b // LANES)
    z = np.zeros((k, blocks, sites, LANES), dtype=np.float32)
    root = np.zeros((blocks, sites, LANES), dtype=np.float32)
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, n_groups, k)
    gain, square = np.zeros(units), np.zeros(units)
    across = np.zeros((len(columns), units))
    u, v, dots = np.zeros(k), np.zeros((k, k)), np.zeros(k)
    for i in range(sites):
        if not keep[i]:
            continue
        rho = interpolate(methylated[i].sum() / coverage[i].sum(), knots, rhos)
        rank, informative = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        df = informative - rank - k
        if df < 1:
            continue
        total = 0.0
        for j in range(units):
            total += s.error[j] ** 2
            gain[j] = s.scale[j] * s.error[j]
            square[j] = s.scale[j] ** 2
            for c in range(rank):
                across[c, j] = s.basis[c, j] * s.scale[j]
        for r in range(b):
            own = _score_vector(moved[r], gain, square, across, rank, u, v, dots)
            if own <= 0.0:
                continue
            squares = 0.0
            for a in range(k):
                squares += u[a] ** 2
            left = max(total - squares, 0.0)
            variance, freedom = moderated(left, df, prior_df, prior_scale, limits)
            length = np.sqrt(squares)
            if length > 0.0:
                factor = normal_score(length / np.sqrt(variance), freedom) / length
                for a in range(k):
                    z[a, r // LANES, i, r % LANES] = u[a] * factor
            root[r // LANES, i, r % LANES] = np.sqrt(own / variance)
    return z, root


@njit(cache=True, nogil=True)
def find_vector_segments(
    score, root, smooth, position, tested, shared, decay, cut, max_gap, min_sites
):
    """Candidate regions of one labelling, as `_segments.find_segments`.

    Parameters
    ----------
    score, smooth : (k, sites) scores, and smoothed ones
    cut : on the squared length of the smoothed scores; neighbours of one region point to one side

    Returns
    -------
    start, end (half open site indices), squares (sum of k squared statistics)
    """
    sites = score.shape[1]
    starts = []
    ends = []
    squares = []
    i = 0
    while i < sites:
        if _dot(smooth, i, i) <= cut:
            i += 1
            continue
        j = i + 1
        while (
            j < sites
            and _dot(smooth, j, j) > cut
            and _dot(smooth, j, j - 1) > 0.0
            and position[j] - position[j - 1] <= max_gap
        ):
            j += 1
        floor = ends[-1] if len(ends) else 0
        start, end = _refine_vector(score, root, position, max(i, floor), j, max_gap, floor)
        inside = 0
        for site in range(start, end):
            inside += tested[site]
        if inside >= min_sites:
            starts.append(start)
            ends.append(end)
            squares.append(_region_squares(score, root, start, end, shared, decay))
            i = max(j, end)
        else:
            i = j
    n = len(starts)
    out_start = np.empty(n, dtype=np.int64)
    out_end = np.empty(n, dtype=np.int64)
    out_squares = np.empty(n)
    for found in range(n):
        out_start[found] = starts[found]
        out_end[found] = ends[found]
        out_squares[found] = squares[found]
    return out_start, out_end, out_squares


@njit(cache=True, nogil=True)
def _dot(values, i, j):
    total = 0.0
    for a in range(len(values)):
        total += values[a, i] * values[a, j]
    return total


@njit(cache=True, nogil=True)
def _refine_vector(score, root, position, start, end, max_gap, floor):
    """As `_segments._refine`, with a vector g of effects: a site adds
    root * g . score - |g|^2 root^2 / 2."""
    k, sites = score.shape
    effect = np.zeros(k)
    for _ in range(2):
        effect[:] = 0.0
        v = 0.0
        for site in range(start, end):
            for a in range(k):
                effect[a] += score[a, site] * root[site]
            v += root[site] * root[site]
        if v == 0.0:
            break
        size = 0.0
        for a in range(k):
            effect[a] /= v
            size += effect[a] ** 2
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
        for site in range(lo, hi):
            if root[site] == 0.0:
                continue
            along = 0.0
            for a in range(k):
                along += effect[a] * score[a, site]
            total += root[site] * along - 0.5 * size * root[site] * root[site]
            if total <= 0.0:
                total = 0.0
                begin = site + 1
            elif total > best:
                best = total
                best_start = begin
                best_end = site + 1
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
def _region_squares(score, root, start, end, shared, decay):
    """Squared length of the weighted sum of scores over its standard deviation in the null."""
    total = np.zeros(len(score))
    own = 0.0
    cross = 0.0
    carried = 0.0
    for site in range(start, end):
        if site > start:
            carried *= decay[site]
        for a in range(len(score)):
            total[a] += root[site] * score[a, site]
        own += root[site] * root[site]
        cross += root[site] * shared[site] * carried
        carried += root[site] * shared[site]
    variance = own + 2.0 * cross
    return (total**2).sum() / variance if variance > 0.0 else 0.0


@njit(cache=True, nogil=True)
def aligned_vectors(
    methylated, coverage, anchor, k, group, n_groups, knots, rhos, keep, error, root, df
):
    """As `_given_kernels.aligned_residuals`, for the k exposures that end the anchor.

    anchor : (r + k, units) orthonormal: the unweighted reduced model, then the exposures
    """
    sites, units = coverage.shape
    columns, exposures = anchor[:-k], anchor[-k:]
    reduced = np.ascontiguousarray(columns.T)
    s = make_scratch(reduced, n_groups, k)
    rows, along = np.zeros((units, units)), np.zeros(k)
    for i in range(sites):
        if not keep[i]:
            continue
        rho = interpolate(methylated[i].sum() / coverage[i].sum(), knots, rhos)
        rank, informative = whiten(methylated[i], coverage[i], rho, reduced, columns, group, s)
        own = informative - rank - k
        if own < 1 or orthonormal(exposures, s.scale, s.basis, rank) < rank + k:
            continue
        information = 0.0
        for a in range(k):
            along[a] = 0.0
            for j in range(units):
                along[a] += s.basis[rank + a, j] * s.error[j]
                step = s.scale[j] * exposures[a, j]
                information += step * step
            for c in range(rank):
                dot = 0.0
                for j in range(units):
                    dot += s.basis[c, j] * s.scale[j] * exposures[a, j]
                information -= dot * dot
        clear(s.error, s.basis, rank + k)
        absent = 0
        complete = rank == len(columns)
        for j in range(units):
            complete &= s.scale[j] > 0.0
        if not complete:
            full = np.maximum(s.scale, _ABSENT * s.scale.max())
            filled = orthonormal(exposures, full, s.basis, orthonormal(columns, full, s.basis, 0))
            for _ in range(2):
                clear(s.error, s.basis, filled)
            absent = _absent_units(s.scale, s.basis, filled, rows)
            clear(s.error, rows, absent)
        for c in range(len(anchor)):
            for other in range(c + 1, len(anchor)):
                _turn(s.basis[other], anchor[c], s.basis[c])
            _turn(s.error, anchor[c], s.basis[c])
        for j in range(units):
            error[i, j] = s.error[j]
            for a in range(k):
                error[i, j] += along[a] * exposures[a, j]
        root[i] = np.sqrt(information / k)
        df[i] = own


@njit(cache=True, nogil=True)
def rotated_vectors(
    methylated, coverage, anchor, group, n_groups, moved, knots, rhos, prior_df, prior_scale,
    limits, keep,
):  # fmt: skip
    """Moderated normal scores of residuals along random frames at every site.

    The full model's residuals, carried to the common frame, are read along k directions that see
    nothing of the exposures; k degrees of freedom fewer are left for the variance.

    Parameters
    ----------
    anchor : (r + k, units) as `aligned_vectors`
    moved : (b, k, units) orthonormal frames, orthogonal to the anchor
    others : as `moved_vectors`, whose arrays are returned
    """
    sites, units = coverage.shape
    b, k = moved.shape[:2]
    blocks = -(-b // LANES)
    z = np.zeros((k, blocks, sites, LANES), dtype=np.float32)
    root = np.zeros((blocks, sites, LANES), dtype=np.float32)
    error = np.zeros((sites, units))
    information, own = np.zeros(sites), np.zeros(sites)
    aligned_vectors(
        methylated, coverage, anchor, k, group, n_groups, knots, rhos, keep, error, information, own
    )
    whole = units - len(anchor)
    u = np.zeros(k)
    for i in range(sites):
        if own[i] < 1.0:
            continue
        # Where units without reads leave too few dimensions the prior alone is the variance.
        df = max(int(own[i]) - k, 0)
        total = 0.0
        for j in range(units):
            total += error[i, j] ** 2
        for a in range(k):
            along = 0.0
            for j in range(units):
                along += anchor[len(anchor) - k + a, j] * error[i, j]
            total -= along * along
        # A unit without reads takes its dimension out of every frame alike.
        stretch = np.sqrt(whole / own[i])
        for r in range(b):
            squares = 0.0
            for a in range(k):
                u[a] = 0.0
                for j in range(units):
                    u[a] += moved[r, a, j] * error[i, j]
                u[a] *= stretch
                squares += u[a] ** 2
            # The dimension goes on average only, so that a frame may see more than there is.
            left = max(total - squares, 0.0) if df > 0 else 0.0
            variance, freedom = moderated(left, df, prior_df, prior_scale, limits)
            length = np.sqrt(squares)
            if length > 0.0:
                factor = normal_score(length / np.sqrt(variance), freedom) / length
                for a in range(k):
                    z[a, r // LANES, i, r % LANES] = u[a] * factor
            root[r // LANES, i, r % LANES] = information[i] / np.sqrt(variance)
    return z, root

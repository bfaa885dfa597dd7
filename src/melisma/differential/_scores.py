"""Numba kernels of the region search's scores: one exposure moved many times at every site.

With e the whitened residuals of the reduced model and d the exposure's direction at a site, the
score of a relabelled exposure x is c = d(x) . e / |d(x)|. A rotation leaves d and turns e: the
complement of the site's reduced model is carried onto that of the unweighted one by the smallest
rotations that take the columns of the one basis to the other and d to the unweighted exposure, so
that a turn of the common space becomes c = r . He for one random unit vector r, the same for every
site (Langsrud 2005). What neighbouring sites share, they go on sharing. The vectors r are
orthogonal to the exposure: what is turned are the full model's residuals, with one degree of
freedom less. A unit without reads has no dimension at a site: its image is taken out of r, and r
scaled back to length 1.
"""

import numpy as np
from numba import njit

from melisma.differential._kernels import moderated, normal_score
from melisma.differential._whitening import (
    clear,
    interpolate,
    make_scratch,
    orthonormal,
    score_of,
    whiten,
)

# Labellings that lie side by side in memory: 16 of float32 fill a cache line.
LANES = 16
# Scale of a unit without reads, as a share of the largest, where only a basis is wanted of it.
_ABSENT = 1e-3
_NO_LENGTH = 1e-9
_ALIASED = 1e-10


@njit(cache=True, nogil=True)
def _turn(vector, onto, start):
    """Carry `vector` by the smallest rotation of unit vector start to onto; vector . start = 0."""
    along = 1.0
    dot = 0.0
    for j in range(len(onto)):
        along += start[j] * onto[j]
        dot += vector[j] * onto[j]
    if along < _NO_LENGTH:
        return
    for j in range(len(onto)):
        vector[j] -= dot / along * (start[j] + onto[j])


@njit(cache=True, nogil=True)
def align(error, direction, basis, absent, anchor):
    """Carry a site's residuals from the complement of its own reduced model to the common one.

    Parameters
    ----------
    error : (units,) residuals, orthogonal to `basis`; changed in place
    direction : (units,) the exposure's, likewise; changed to unit length and onto its anchor
    basis : (r, units) orthonormal, the site's reduced model; changed
    absent : (k, units) what units without reads span beside the two, orthonormal; changed
    anchor : (r + 1, units) orthonormal: the unweighted reduced model, then the exposure
    """
    units = len(error)
    rank = len(anchor) - 1
    for k in range(rank):
        for c in range(k + 1, rank):
            _turn(basis[c], anchor[k], basis[k])
        _turn(error, anchor[k], basis[k])
        _turn(direction, anchor[k], basis[k])
        for m in range(len(absent)):
            _turn(absent[m], anchor[k], basis[k])
    length = 0.0
    own = 0.0
    for j in range(units):
        length += direction[j] ** 2
    length = np.sqrt(length)
    for j in range(units):
        direction[j] /= length
        own += error[j] * direction[j]
    # The part of the residuals along the exposure goes with it.
    for j in range(units):
        error[j] -= own * direction[j]
    _turn(error, anchor[rank], direction)
    for m in range(len(absent)):
        _turn(absent[m], anchor[rank], direction)
    for j in range(units):
        error[j] += own * anchor[rank, j]
        direction[j] = anchor[rank, j]


@njit(cache=True, nogil=True)
def _absent_units(scale, basis, rank, rows):
    """Fill `rows` with what units of scale 0 span beside the basis' rows; returns how many."""
    found = 0
    for j in range(len(scale)):
        if scale[j] > 0.0:
            continue
        row = rows[found]
        row[:] = 0.0
        row[j] = 1.0
        for _ in range(2):
            clear(row, basis, rank)
            clear(row, rows, found)
        norm = 0.0
        for i in range(len(row)):
            norm += row[i] ** 2
        # What is left of a unit whose whole group is absent is its own small weight.
        if norm > (10.0 * _ABSENT) ** 2:
            for i in range(len(row)):
                row[i] /= np.sqrt(norm)
            found += 1
    return found


@njit(cache=True, nogil=True)
def common_frame(reduced, exposure, s, rank, anchor, rows):
    """Align one whitened site whose units may lack reads; `s.error` is changed in place.

    reduced, exposure, anchor : as `moved_scores`
    s, rank : the site's Scratch with its direction, and its rank
    rows : (units, units) whose first rows become the absent units' images; returns how many
    """
    complete = rank == len(reduced)
    largest = 0.0
    for j in range(len(s.scale)):
        complete &= s.scale[j] > 0.0
        largest = max(largest, s.scale[j])
    found = 0
    if not complete:
        full = np.maximum(s.scale, _ABSENT * largest)
        filled = orthonormal(reduced, full, s.basis, 0)
        for _ in range(2):
            clear(s.error, s.basis, filled)
        _, v = score_of(exposure, full, s.error, s.basis, filled, s.direction)
        for j in range(len(full)):
            s.basis[filled, j] = s.direction[j] / np.sqrt(v)
        found = _absent_units(s.scale, s.basis, filled + 1, rows)
        clear(s.error, rows, found)
    align(s.error, s.direction, s.basis, rows[:found], anchor)
    return found


@njit(cache=True, nogil=True)
def moved_scores(
    methylated, coverage, anchor, group, n_groups, moved, rotate, knots, rhos, prior_df,
    prior_scale, limits, keep,
):  # fmt: skip
    """Moderated normal scores of a moved exposure at every site.

    Parameters
    ----------
    methylated, coverage : (sites, units) counts
    anchor : (r + 1, units) the reduced model's basis and the observed exposure, orthonormal
    group, n_groups : as `fit_sites`
    moved : (b, units) exposures, or with `rotate` unit vectors orthogonal to the anchor; the
        first is the observed exposure
    knots, rhos, prior_df, prior_scale, limits : the engine's
    keep : (sites,) which sites to test

    Returns
    -------
    z : (ceil(b / LANES), sites, LANES) float32 normal scores, 0 where a site is not tested
    root : likewise, square root of the information over the moderated variance
    """
    sites, units = coverage.shape
    b = len(moved)
    blocks = -(-b // LANES)
    reduced = anchor[:-1]
    z = np.zeros((blocks, sites, LANES), dtype=np.float32)
    root = np.zeros((blocks, sites, LANES), dtype=np.float32)
    basis = np.ascontiguousarray(reduced.T)
    s = make_scratch(basis, n_groups, 1)
    gain, square = np.zeros(units), np.zeros(units)
    across = np.zeros((len(reduced), units))
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
        df = informative - rank - 1
        u, v = score_of(moved[0], s.scale, s.error, s.basis, rank, s.direction)
        if df < 1 or v <= 0.0:
            continue
        total = 0.0
        for j in range(units):
            total += s.error[j] ** 2
            gain[j] = s.scale[j] * s.error[j]
            square[j] = s.scale[j] ** 2
            for k in range(rank):
                across[k, j] = s.basis[k, j] * s.scale[j]
        found = common_frame(reduced, moved[0], s, rank, anchor, rows) if rotate else 0
        for r in range(b):
            if not rotate:
                c, own = _relabelled(moved[r], gain, square, across, rank)
            elif r == 0:
                c, own = u / np.sqrt(v), v
            else:
                c, own = _rotated(moved[r], s.error, rows, found), v
            if own <= 0.0:
                continue
            left, own_df = total - c * c, df
            if rotate and r > 0:
                left, own_df = left - u * u / v, df - 1
            variance, freedom = moderated(max(left, 0.0), own_df, prior_df, prior_scale, limits)
            z[r // LANES, i, r % LANES] = normal_score(c / np.sqrt(variance), freedom)
            root[r // LANES, i, r % LANES] = np.sqrt(own / variance)
    return z, root


@njit(cache=True, nogil=True)
def _relabelled(exposure, gain, square, across, rank):
    """Score over the root of its information, and that information; (0, 0) in the basis' span."""
    u = 0.0
    before = 0.0
    for j in range(len(exposure)):
        u += exposure[j] * gain[j]
        before += exposure[j] ** 2 * square[j]
    v = before
    for k in range(rank):
        dot = 0.0
        for j in range(len(exposure)):
            dot += across[k, j] * exposure[j]
        v -= dot * dot
    if v <= _ALIASED * before:
        return 0.0, 0.0
    return u / np.sqrt(v), v


@njit(cache=True, nogil=True)
def _rotated(unit_vector, error, absent, found):
    """The residuals' part along a unit vector, cleared of absent units and scaled back."""
    c = 0.0
    for j in range(len(error)):
        c += unit_vector[j] * error[j]
    length = 1.0
    for m in range(found):
        dot = 0.0
        for j in range(len(error)):
            dot += absent[m, j] * unit_vector[j]
        length -= dot * dot
    return c / np.sqrt(length) if length > _NO_LENGTH else 0.0

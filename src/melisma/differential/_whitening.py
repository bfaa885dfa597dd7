"""Numba kernels of one site's reduced model: its means, and residuals whitened by them.

Weights are n = N / (1 + (N - 1) rho), so that the variance of M/N is mu (1 - mu) / n. The mean mu
is fitted on the logit scale with these weights; an exposure is then tested by one scoring step on
the arcsine scale, that is by least squares of the whitened residuals
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
_EDGE = 1e-9
# A column of unit length is in the others' span, or 0 where a site has reads, when its squared
# residual norm is below this share of the largest weight. Relative to the column's own norm the
# rounding of a column that is 0 there would count as a column.
_ALIASED = 1e-12
_MAX_STEPS = 100
# The next step of Newton's method is about the square of this one.
_CONVERGED = 1e-5
# Full Newton steps lower a logistic deviance for certain while no logit moves by more than this.
_LONGEST_STEP = 1.5
# Where only units without a methylated (or unmethylated) read still move, towards 0 (or 1), a step
# of Newton's method is about 1 logit, and twenty would follow: one goes this many times as far.
_NEAR = 1e-2
_LEAP = 12.0


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


class Scratch(NamedTuple):
    """Arrays that are filled anew for every site, (units,) but for those said.

    `mu` the reduced model's means, `error` whitened residuals, `scale` of a column, `direction`
    the whitened exposure, `basis` (columns + exposures + 1, units) the whitened model's,
    `products` (units, pairs of columns), which stay, and `hessian` (pairs of columns,).
    """

    mu: Floats
    y: Floats
    n: Floats
    scale: Floats
    error: Floats
    direction: Floats
    basis: Floats
    sums: Floats
    weights: Floats
    eta: Floats
    hessian: Floats
    step: Floats
    products: Floats


@njit(cache=True, nogil=True)
def make_scratch(reduced, n_groups, exposures):
    """Arrays of one thread for a reduced model (units, r)."""
    units, width = reduced.shape
    products = np.zeros((units, width * (width + 1) // 2 if n_groups == 0 else 0))
    if n_groups == 0:
        for a in range(width):
            for b in range(a + 1):
                products[:, a * (a + 1) // 2 + b] = reduced[:, a] * reduced[:, b]
    return Scratch(
        np.zeros(units), np.zeros(units), np.zeros(units), np.zeros(units), np.zeros(units),
        np.zeros(units), np.zeros((width + exposures + 1, units)), np.zeros(n_groups),
        np.zeros(n_groups), np.zeros(units), np.zeros(products.shape[1]), np.zeros(width), products,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def orthonormal(columns, scale, basis, rank):
    """Gram-Schmidt of scale * columns, rows of unit length, into `basis` after its first `rank`.

    Returns the rank of all.
    """
    width, n = columns.shape
    top = 0.0
    for j in range(n):
        top = max(top, scale[j] ** 2)
    for c in range(width):
        for j in range(n):
            basis[rank, j] = scale[j] * columns[c, j]
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            clear(basis[rank], basis, rank)
        after = 0.0
        for j in range(n):
            after += basis[rank, j] ** 2
        if after > _ALIASED * top:
            norm = np.sqrt(after)
            for j in range(n):
                basis[rank, j] /= norm
            rank += 1
    return rank


@njit(cache=True, nogil=True)
def clear(row, basis, rank):
    """Take the span of the first `rank` rows of `basis` out of `row`."""
    units = len(row)
    for k in range(rank):
        dot = 0.0
        for j in range(units):
            dot += basis[k, j] * row[j]
        for j in range(units):
            row[j] -= dot * basis[k, j]


@njit(cache=True, nogil=True)
def solve(hessian, step, smallest):
    """Solve hessian x = step by Cholesky in place, hessian packed by rows of its lower half.

    A pivot below `smallest` has no step: nothing depends on it.
    """
    width = len(step)
    for a in range(width):
        row = a * (a + 1) // 2
        for b in range(a + 1):
            other = b * (b + 1) // 2
            total = hessian[row + b]
            for k in range(b):
                total -= hessian[row + k] * hessian[other + k]
            # The diagonal holds the inverse of its root.
            if a != b:
                hessian[row + b] = total * hessian[other + b]
            else:
                hessian[row + a] = 1.0 / np.sqrt(total) if total > smallest else 0.0
        total = step[a]
        for k in range(a):
            total -= hessian[row + k] * step[k]
        step[a] = total * hessian[row + a]
    for a in range(width - 1, -1, -1):
        total = step[a]
        for k in range(a + 1, width):
            total -= hessian[k * (k + 1) // 2 + a] * step[k]
        step[a] = total * hessian[a * (a + 1) // 2 + a]


@njit(cache=True, nogil=True)
def logistic_means(columns, s):
    """mu of each unit by Newton's method on the logit scale.

    A step that moves a logit by r > 1.5 is shortened to log(1 + r) / r of it, which lowers the
    deviance for certain (the third derivative of log(1 + e^x) is at most its second; Bach 2010):
    full steps overshoot at discordant pairs. Units that reach 0 or 1 stay there.
    """
    units, width = columns.shape
    total = 0.0
    sum_n = 0.0
    for j in range(units):
        total += s.n[j] * s.y[j]
        sum_n += s.n[j]
    start = np.log(total / (sum_n - total))
    for j in range(units):
        s.mu[j] = total / sum_n
        s.eta[j] = start
    hessian, step, move = s.hessian, s.step, s.scale
    packed = len(hessian)
    for _ in range(_MAX_STEPS):
        hessian[:] = 0.0
        step[:] = 0.0
        top = 0.0
        for j in range(units):
            if s.n[j] == 0.0 or s.mu[j] <= _EDGE or s.mu[j] >= 1.0 - _EDGE:
                continue
            weight = s.n[j] * s.mu[j] * (1.0 - s.mu[j])
            gradient = s.n[j] * (s.y[j] - s.mu[j])
            top = max(top, weight)
            for ab in range(packed):
                hessian[ab] += weight * s.products[j, ab]
            for a in range(width):
                step[a] += gradient * columns[j, a]
        solve(hessian, step, _ALIASED * top)
        longest = 0.0
        # How far units go whose level lets them come back.
        bound = 0.0
        for j in range(units):
            if s.n[j] == 0.0 or s.mu[j] <= _EDGE or s.mu[j] >= 1.0 - _EDGE:
                continue
            move[j] = 0.0
            for a in range(width):
                move[j] += columns[j, a] * step[a]
            size = abs(move[j])
            longest = max(longest, size)
            down = s.y[j] == 0.0 and s.mu[j] < _NEAR and move[j] < 0.0
            up = s.y[j] == 1.0 and s.mu[j] > 1.0 - _NEAR and move[j] > 0.0
            if not (down or up):
                bound = max(bound, size)
        share = 1.0
        if bound < _NEAR and longest > 0.5:
            share = _LEAP
        elif longest > _LONGEST_STEP:
            share = np.log1p(longest) / longest
        for j in range(units):
            if s.n[j] > 0.0 and _EDGE < s.mu[j] < 1.0 - _EDGE:
                s.eta[j] += share * move[j]
                s.mu[j] = 1.0 / (1.0 + np.exp(-s.eta[j]))
        if longest < _CONVERGED:
            break


@njit(cache=True, nogil=True)
def whiten(m, coverage, rho, reduced, columns, group, s):
    """Fit the reduced model of one site and whiten it; returns rank and informative units.

    Parameters
    ----------
    m, coverage : (units,) counts
    reduced, columns : (units, r) basis of the reduced model, and its transpose
    group : (units,) group of each unit, where `s.sums` has a place for each group
    s : Scratch, of which it fills mu, y, n, scale, error and basis
    """
    units = len(coverage)
    for j in range(units):
        s.y[j] = m[j] / coverage[j] if coverage[j] > 0 else 0.0
        s.n[j] = coverage[j] / (1.0 + (coverage[j] - 1.0) * rho) if coverage[j] > 0 else 0.0
    if len(s.sums):
        _group_means(s.y, s.n, group, s.mu, s.sums, s.weights)
    else:
        logistic_means(reduced, s)
    informative = 0
    for j in range(units):
        if s.n[j] > 0.0 and _EDGE < s.mu[j] < 1.0 - _EDGE:
            spread = s.mu[j] * (1.0 - s.mu[j])
            s.scale[j] = np.sqrt(s.n[j])
            s.error[j] = np.sqrt(s.n[j] / spread) * (s.y[j] - s.mu[j])
            informative += 1
        else:
            s.scale[j] = 0.0
            s.error[j] = 0.0
    rank = orthonormal(columns, s.scale, s.basis, 0)
    clear(s.error, s.basis, rank)
    return rank, informative


@njit(cache=True, nogil=True)
def score_of(exposure, scale, error, basis, rank, direction):
    """Score and information of one exposure against whitened residuals."""
    units = len(exposure)
    norm = 0.0
    top = 0.0
    for j in range(units):
        direction[j] = scale[j] * exposure[j]
        norm += exposure[j] ** 2
        top = max(top, scale[j] ** 2)
    clear(direction, basis, rank)
    u = 0.0
    v = 0.0
    for j in range(units):
        u += direction[j] * error[j]
        v += direction[j] ** 2
    if v <= _ALIASED * norm * top:
        return 0.0, 0.0
    return u, v

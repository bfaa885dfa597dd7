"""Numba kernels of effects on the 0-1 scale, and what their intervals need."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from melisma.differential._kernels import ROUNDING
from melisma.differential._whitening import Floats, interpolate, orthonormal, score_of


class Effects(NamedTuple):
    """One row a site: the contrast on the 0-1 scale and what its interval needs.

    delta : the contrast
    high, low : adjusted levels of the two sides, delta apart, clipped to 0-1; NaN for a coefficient
    reads_high, reads_low : effective reads behind them at dispersion 1
    variance : of delta at dispersion 1
    residual, df : Pearson sum about the full model's means, and its degrees of freedom
    """

    delta: Floats
    high: Floats
    low: Floats
    reads_high: Floats
    reads_low: Floats
    variance: Floats
    residual: Floats
    df: npt.NDArray[np.int32]


@njit(cache=True, nogil=True)
def _full_means(level, scale, basis, rank, direction, slope, coverage, mu):
    """Means of the full model fitted on the 0-1 scale, and which units are inside it.

    Means are kept half a read away from 0 and 1; a unit whose own level and mean both lie there
    carries no information about dispersion. Returns how many units carry some.
    """
    units = len(scale)
    for j in range(units):
        mu[j] = direction[j] * slope
    for k in range(rank):
        dot = 0.0
        for j in range(units):
            dot += basis[k, j] * level[j]
        for j in range(units):
            mu[j] += dot * basis[k, j]
    inside = 0
    for j in range(units):
        if scale[j] > 0.0:
            mu[j] /= scale[j]
            edge = 0.5 / (coverage[j] + 1.0)
            y = level[j] / scale[j]
            # A mean of exactly an edge, such as 1/4 at one read, is inside, however it is rounded.
            low, high = mu[j] < edge - ROUNDING, mu[j] > 1.0 - edge + ROUNDING
            inside += not ((low and y < edge) or (high and y > 1.0 - edge))
            mu[j] = min(max(mu[j], edge), 1.0 - edge)
    return inside


@njit(cache=True, nogil=True)
def effects(methylated, coverage, reduced, exposure, side, knots, rhos):
    """Differences of level on the 0-1 scale, by least squares weighted with n.

    delta = sum of c_j M_j/N_j has variance dispersion * sum of c_j^2 mu_j (1 - mu_j) / n_j, with mu
    the full model's means. The two sides' effective reads are n summed over each, scaled so that
    independent sides would give delta that variance.

    Parameters
    ----------
    side : (units,) +1 for units of the higher level of the contrast, -1 for the lower, else 0
    others as `fit_sites`

    Returns
    -------
    The columns of `Effects`
    """
    sites, units = coverage.shape
    delta, variance = np.full(sites, np.nan), np.full(sites, np.nan)
    high, low = np.full(sites, np.nan), np.full(sites, np.nan)
    reads_high, reads_low, residual = np.zeros(sites), np.zeros(sites), np.zeros(sites)
    df = np.zeros(sites, dtype=np.int32)
    mu, scale = np.zeros(units), np.zeros(units)
    direction, level = np.zeros(units), np.zeros(units)
    columns = np.ascontiguousarray(reduced.T)
    basis = np.zeros((len(columns) + 1, units))
    for i in range(sites):
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
        if reads == 0.0:
            continue
        rho = interpolate(marked / reads, knots, rhos)
        weight = 0.0
        mean = 0.0
        used = 0
        for j in range(units):
            n = coverage[i, j] / (1.0 + (coverage[i, j] - 1.0) * rho) if coverage[i, j] else 0.0
            y = methylated[i, j] / coverage[i, j] if coverage[i, j] else 0.0
            used += coverage[i, j] > 0.0
            scale[j] = np.sqrt(n)
            level[j] = scale[j] * y
            if side[j] > 0:
                reads_high[i] += n
            elif side[j] < 0:
                reads_low[i] += n
            if side[j] != 0:
                weight += n
                mean += n * y
        rank = orthonormal(columns, scale, basis, 0)
        u, v = score_of(exposure, scale, level, basis, rank, direction)
        if v == 0.0:
            continue
        delta[i] = u / v
        inside = _full_means(level, scale, basis, rank, direction, delta[i], coverage[i], mu)
        df[i] = int(inside * max(used - rank - 1, 0) / used + 1e-9)
        variance[i] = 0.0
        for j in range(units):
            if scale[j] > 0.0:
                spread = mu[j] * (1.0 - mu[j])
                variance[i] += (direction[j] / v) ** 2 * spread
                residual[i] += (level[j] - scale[j] * mu[j]) ** 2 / spread
        if reads_high[i] > 0.0 and reads_low[i] > 0.0:
            share = reads_low[i] / weight
            high[i] = min(max(mean / weight + delta[i] * share, 0.0), 1.0)
            low[i] = min(max(mean / weight - delta[i] * (1.0 - share), 0.0), 1.0)
            apart = high[i] * (1.0 - high[i]) / reads_high[i]
            apart += low[i] * (1.0 - low[i]) / reads_low[i]
            if apart > 0.0:
                factor = apart / variance[i]
            else:
                factor = min(v * weight / (reads_high[i] * reads_low[i]), 1.0)
            reads_high[i] *= factor
            reads_low[i] *= factor
    return delta, high, low, reads_high, reads_low, variance, residual, df

"""The fast site test: least squares of arcsine levels, with the exact moments of what is fitted.

Z = asin(2 (M + c) / (N + 2 c) - 1) has a variance that hardly depends on the level where reads are
many (Park & Wu 2016). Where they are few both its mean and its variance depend on N, so that
groups of unequal depth differ in Z without differing in level. Mean, variance and skewness are
therefore taken from a table of the beta-binomial distribution in level and N: Z less its mean at
the site's pooled level, over its standard deviation, is what least squares is fitted to.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.special import betaln, gammaln

from melisma.differential._kernels import MIN_MINOR_READS, ROUNDING
from melisma.differential._moderation import Dispersion
from melisma.differential._whitening import Floats, clear, make_scratch, orthonormal

_OFFSET = 0.1
# Levels lie evenly on the arcsine scale; the first and last are those of 1 read in 4,000.
_LEVELS = 129
_EDGE = 2.5e-4
# Moments are exact at these numbers of reads, linear in 1/N between them and beyond the last.
_EXACT = (*range(1, 129), 160, 192, 256, 384, 512, 768, 1024)


class Moments(NamedTuple):
    """Mean, 1/sd, skewness and excess kurtosis of Z by level and N, each (levels, reads + 1); N = 0
    is unused."""

    mean: Floats
    precision: Floats
    skewness: Floats
    kurtosis: Floats


def arcsine(methylated: Floats, coverage: Floats) -> Floats:
    """Z of M of N reads."""
    return np.arcsin(2.0 * (methylated + _OFFSET) / (coverage + 2.0 * _OFFSET) - 1.0)


def beta_binomial_moments(
    reads: int, level: Floats, rho: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean and central moments 2 to 4 of Z over M of `reads`, at levels (k,) and rhos."""
    m = np.arange(reads + 1.0)
    p, r = level[:, None], np.maximum(rho, 1e-6)[:, None]
    a, b = p * (1.0 - r) / r, (1.0 - p) * (1.0 - r) / r
    choose = gammaln(reads + 1.0) - gammaln(m + 1.0) - gammaln(reads - m + 1.0)
    weight = np.exp(choose + betaln(m + a, reads - m + b) - betaln(a, b))
    weight /= weight.sum(axis=1, keepdims=True)
    z = arcsine(m, np.full(reads + 1, float(reads)))
    mean = weight @ z
    apart = z - mean[:, None]
    return mean, *((weight * apart**power).sum(axis=1) for power in (2, 3, 4))


def first_level() -> float:
    """The arcsine scale's value at the table's first level."""
    return float(np.arcsin(2.0 * _EDGE - 1.0))


def table_levels() -> Floats:
    """The table's levels, even on the arcsine scale."""
    edge = first_level()
    return (1.0 + np.sin(np.linspace(edge, -edge, _LEVELS))) / 2.0


def moments_of_arcsine(dispersion: Dispersion) -> Moments:
    """The table of Z's moments where rho is that of the dispersion at each level."""
    level = table_levels()
    rho = np.interp(level, dispersion.knots, dispersion.rho)
    exact = np.array([beta_binomial_moments(n, level, rho) for n in _EXACT])  # (reads, 4, levels)
    inverse = 1.0 / np.array(_EXACT, dtype=np.float64)
    wanted = 1.0 / np.arange(1, _EXACT[-1] + 1)
    dense = np.empty((4, _LEVELS, _EXACT[-1] + 1))
    for kind in range(4):
        for k in range(_LEVELS):
            values = exact[:, kind, k]
            dense[kind, k, 1:] = np.interp(wanted, inverse[::-1], values[::-1])
            dense[kind, k, 0] = np.nan
    variance = dense[1]
    return Moments(
        dense[0], 1.0 / np.sqrt(variance), dense[2] / variance**1.5, dense[3] / variance**2 - 3.0
    )


@njit(cache=True, nogil=True)
def at(table, row, share, reads):
    """A table between two levels at whole reads."""
    return table[row, reads] + share * (table[row + 1, reads] - table[row, reads])


@njit(cache=True, nogil=True)
def place(level, first, rows):
    """The table's row below a level, and the level's share of the way to the next."""
    where = (np.arcsin(2.0 * level - 1.0) - first) / (-2.0 * first) * (rows - 1)
    where = min(max(where, 0.0), rows - 1.0)
    row = min(int(where), rows - 2)
    return row, where - row


@njit(cache=True, nogil=True)
def standardise(methylated, coverage, row, share, mean, precision, s):
    """Z less its mean, over its standard deviation, and the latter's inverse as the scale."""
    most = mean.shape[1] - 1
    for j in range(len(coverage)):
        n = coverage[j]
        s.scale[j] = 0.0
        s.error[j] = 0.0
        if n > 0.0:
            whole = min(max(int(n + 0.5), 1), most)
            s.scale[j] = at(precision, row, share, whole)
            if n > most:
                # The variance is linear in 1/N through the table's last and the half of it.
                last = at(precision, row, share, most) ** -2.0
                half = at(precision, row, share, most // 2) ** -2.0
                s.scale[j] = (last - (half - last) * (1.0 - most / n)) ** -0.5
            z = np.arcsin(2.0 * (methylated[j] + _OFFSET) / (n + 2.0 * _OFFSET) - 1.0)
            s.error[j] = (z - at(mean, row, share, whole)) * s.scale[j]


@njit(cache=True, nogil=True)
def fit_arcsine(methylated, coverage, reduced, exposures, mean, precision, skewness, first):
    """Least squares of standardised arcsine levels at every site, in one pass.

    Parameters
    ----------
    methylated, coverage : (sites, units) counts
    reduced : (units, r) basis of the reduced model
    exposures : (k, units) of unit length
    mean, precision, skewness : of `Moments`
    first : arcsine scale of the table's first level

    Returns
    -------
    As `fit_sites`, with information 1 where the exposures can be told apart; the score is signed
    for one exposure, else the root of the sum of k squares.
    """
    sites, units = coverage.shape
    k = len(exposures)
    most = mean.shape[1] - 1
    score, information, residual = np.zeros(sites), np.zeros(sites), np.zeros(sites)
    df, used = np.zeros(sites, dtype=np.int32), np.zeros(sites, dtype=np.int32)
    minor, level = np.zeros(sites), np.full(sites, np.nan)
    excess, skewed = np.zeros(sites), np.zeros(sites)
    columns = np.ascontiguousarray(reduced.T)
    s = make_scratch(reduced, 1, k)
    for i in range(sites):
        reads = 0.0
        marked = 0.0
        for j in range(units):
            reads += coverage[i, j]
            marked += methylated[i, j]
            used[i] += coverage[i, j] > 0
        if reads == 0.0:
            continue
        level[i] = marked / reads
        minor[i] = min(marked, reads - marked)
        if minor[i] < MIN_MINOR_READS - ROUNDING:
            continue
        row, share = place(level[i], first, len(mean))
        standardise(methylated[i], coverage[i], row, share, mean, precision, s)
        rank = orthonormal(columns, s.scale, s.basis, 0)
        clear(s.error, s.basis, rank)
        full = orthonormal(exposures, s.scale, s.basis, rank)
        if full < rank + k:
            continue
        squares = 0.0
        for c in range(k):
            dot = 0.0
            for j in range(units):
                dot += s.basis[rank + c, j] * s.error[j]
            squares += dot * dot
            score[i] = dot
        if k > 1:
            score[i] = np.sqrt(squares)
        information[i] = 1.0
        df[i] = used[i] - full
        total = 0.0
        third = 0.0
        for j in range(units):
            total += s.error[j] ** 2
            if s.scale[j] > 0.0:
                whole = min(max(int(coverage[i, j] + 0.5), 1), most)
                size = 0.0
                for c in range(k):
                    size += s.basis[rank + c, j] ** 2
                along = s.basis[rank, j] if k == 1 else np.sqrt(size)
                third += size * along * at(skewness, row, share, whole)
        residual[i] = max(total - squares, 0.0)
        skewed[i] = third
    return score, information, residual, df, used, minor, level, excess, skewed

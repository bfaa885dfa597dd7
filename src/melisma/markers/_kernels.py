"""Numba kernels of the markers: what a training set says about each feature, one pass each.

A feature is a site, a probe or a region; arrays are (features, samples), and `rows` are the
training samples' columns. Nothing outside `rows` is read.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]


class Sums(NamedTuple):
    """Of each feature, (features,): Pearson surplus over its expectation under binomial reads,
    what that is per unit of correlation, reads of the rarer state, training samples that see it."""

    surplus: Array
    excess: Array
    minor: Array
    seen: Array


class Moments(NamedTuple):
    """Of each feature: prior mean, mean and variance of the shrunk levels (features,), and their
    sums by class about that mean (features, classes)."""

    prior: Array
    mean: Array
    variance: Array
    sums: Array


@njit(cache=True, nogil=True)
def count_sums(methylated: Array, coverage: Array, rows: Array) -> Sums:
    n = len(methylated)
    surplus, excess = np.zeros(n), np.zeros(n)
    minor, seen = np.zeros(n), np.zeros(n, dtype=np.int64)
    for i in range(n):
        m, reads = 0.0, 0.0
        for j in rows:
            if coverage[i, j] > 0:
                seen[i] += 1
                m += methylated[i, j]
                reads += coverage[i, j]
        minor[i] = min(m, reads - m)
        if minor[i] == 0.0 or seen[i] < 2:
            continue
        p = m / reads
        pearson, squares = 0.0, 0.0
        for j in rows:
            c = float(coverage[i, j])
            if c > 0:
                pearson += (methylated[i, j] - c * p) ** 2 / (c * p * (1.0 - p))
                squares += c * c
        surplus[i] = pearson - (seen[i] - 1)
        # Sum of (1 - h)(N - 1), with h = N / reads the leverage.
        excess[i] = reads - seen[i] - squares / reads + 1.0
    return Sums(surplus, excess, minor, seen)


@njit(cache=True, nogil=True)
def count_moments(
    methylated: Array,
    coverage: Array,
    strength: Array,
    rows: Array,
    labels: Array,
    classes: int,
) -> Moments:
    n = len(methylated)
    prior, mean, variance = np.zeros(n), np.zeros(n), np.zeros(n)
    sums = np.zeros((n, classes))
    x = np.zeros(len(rows))
    for i in range(n):
        k = strength[i]
        top, weight = 0.0, 0.0
        for j in rows:
            c = float(coverage[i, j])
            if c > 0:
                top += methylated[i, j] / (c + k)
                weight += c / (c + k)
        if weight == 0.0:
            continue
        prior[i] = top / weight
        total = 0.0
        for r in range(len(rows)):
            j = rows[r]
            x[r] = (methylated[i, j] + k * prior[i]) / (coverage[i, j] + k)
            total += x[r]
        mean[i] = total / len(rows)
        for r in range(len(rows)):
            left = x[r] - mean[i]
            variance[i] += left * left
            sums[i, labels[r]] += left
        variance[i] /= len(rows) - 1
    return Moments(prior, mean, variance, sums)


@njit(cache=True, nogil=True)
def level_seen(beta: Array, rows: Array) -> Array:
    seen = np.zeros(len(beta), dtype=np.int64)
    for i in range(len(beta)):
        for j in rows:
            if not np.isnan(beta[i, j]):
                seen[i] += 1
    return seen


@njit(cache=True, nogil=True)
def level_moments(beta: Array, rows: Array, labels: Array, classes: int) -> Moments:
    n = len(beta)
    mean, variance = np.zeros(n), np.zeros(n)
    sums = np.zeros((n, classes))
    for i in range(n):
        total, seen = 0.0, 0
        for j in rows:
            if not np.isnan(beta[i, j]):
                total += beta[i, j]
                seen += 1
        if seen == 0:
            continue
        mean[i] = total / seen
        for r in range(len(rows)):
            level = beta[i, rows[r]]
            # A missing level is the mean, and so adds nothing to either sum.
            if not np.isnan(level):
                left = level - mean[i]
                variance[i] += left * left
                sums[i, labels[r]] += left
        variance[i] /= len(rows) - 1
    return Moments(mean.copy(), mean, variance, sums)

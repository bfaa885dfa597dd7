"""Numba kernels over pairs of samples: likelihood ratios of relations, kinship, shared reads.

At a site whose intact allele has frequency q, let L(g) and L'(g) be the likelihoods of two samples'
reads given g copies. With A(x) = sum_y f(y) L(x + y), the likelihood given that one allele is x,

    P = q A(1) + (1 - q) A(0)
    one allele shared by descent    R1 = (q A(1) A'(1) + (1 - q) A(0) A'(0)) / (P P')
    both alleles shared             R2 = sum_g p(g) L(g) L'(g) / (P P')

and a relation with coefficients k0, k1, k2 has the ratio k0 + k1 R1 + k2 R2 to "unrelated"
(Thompson 1975). Two samples of different populations meet at the mean of their frequencies.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[Any]

# So many ratios are multiplied before a logarithm is taken; each lies between 1e-6 and 1e3.
_PRODUCTS = 16


@njit(cache=True, nogil=True, inline="always")
def _ratios(one: Floats, two: Floats, q: float) -> tuple[float, float]:
    """R1 and R2 of one site."""
    p = 1.0 - q
    a0, a1 = p * one[0] + q * one[1], p * one[1] + q * one[2]
    b0, b1 = p * two[0] + q * two[1], p * two[1] + q * two[2]
    apart = (p * a0 + q * a1) * (p * b0 + q * b1)
    shared = p * a0 * b0 + q * a1 * b1
    both = p * p * one[0] * two[0] + 2 * p * q * one[1] * two[1] + q * q * one[2] * two[2]
    return shared / apart, both / apart


@njit(cache=True, nogil=True)
def relation_logs(
    likelihood: Floats,
    frequency: Floats,
    weight: Floats,
    kinds: Floats,
    start: int,
    step: int,
    logs: Floats,
    moments: Floats,
) -> None:
    """Fill the log ratios of each relation to "unrelated" for every two samples, and moments.

    Parameters
    ----------
    likelihood : (samples, sites, 3)
    frequency : (samples, sites), of the intact allele where the sample comes from
    weight : (sites,), probability that the site is genotype-like
    kinds : (relations, 3), k0, k1, k2
    start, step : the rows start, start + step, ... are filled, and their mirror images
    logs : (samples, samples, relations), filled
    moments : (samples, samples, 2), filled: the sums of w (R1 - 1) and of its square
    """
    n_samples, n_sites = frequency.shape
    n_kinds = len(kinds)
    products = np.empty(n_kinds)
    total = np.empty(n_kinds)
    for a in range(start, n_samples, step):
        for b in range(a, n_samples):
            products[:] = 1.0
            total[:] = 0.0
            u = v = 0.0
            for j in range(n_sites):
                q = 0.5 * (frequency[a, j] + frequency[b, j])
                r1, r2 = _ratios(likelihood[a, j], likelihood[b, j], q)
                w = weight[j]
                u += w * (r1 - 1.0)
                v += (w * (r1 - 1.0)) ** 2
                for k in range(n_kinds):
                    r = kinds[k, 0] + kinds[k, 1] * r1 + kinds[k, 2] * r2
                    products[k] *= 1.0 + w * (r - 1.0)
                if j % _PRODUCTS == _PRODUCTS - 1:
                    for k in range(n_kinds):
                        total[k] += np.log(products[k])
                        products[k] = 1.0
            for k in range(n_kinds):
                total[k] += np.log(products[k])
                logs[a, b, k] = logs[b, a, k] = total[k]
            moments[a, b, 0] = moments[b, a, 0] = u
            moments[a, b, 1] = moments[b, a, 1] = v


@njit(cache=True, nogil=True)
def _value(x1: Floats, x2: Floats, k1: float, k2: float) -> float:
    """Log likelihood ratio to "unrelated" at k1, k2; x = w (R - 1)."""
    total, product = 0.0, 1.0
    for j in range(len(x1)):
        product *= max(1.0 + k1 * x1[j] + k2 * x2[j], 1e-12)
        if j % _PRODUCTS == _PRODUCTS - 1:
            total += np.log(product)
            product = 1.0
    return total + np.log(product)


@njit(cache=True, nogil=True)
def _best_k2(x1: Floats, x2: Floats, phi: float, k2: float) -> tuple[float, float]:
    """At a kinship phi = k1 / 4 + k2 / 2, the best k2, and the profile's slope in phi.

    The log likelihood is concave in k2: Newton steps, halved into the bracket where they leave it.
    """
    low, high = max(0.0, 4 * phi - 1), min(2 * phi, 1.0)
    k2 = min(max(k2, low), high)
    slope_phi = 0.0
    for _ in range(30):
        k1 = 4 * phi - 2 * k2
        slope = curve = slope_phi = 0.0
        for j in range(len(x1)):
            down = 1.0 / max(1.0 + k1 * x1[j] + k2 * x2[j], 1e-12)
            d = (x2[j] - 2 * x1[j]) * down
            slope += d
            curve += d * d
            slope_phi += 4 * x1[j] * down
        if slope > 0:
            low = k2
        else:
            high = k2
        if high - low < 1e-4:
            # On the edge k2 = 4 phi - 1 the edge itself moves with phi.
            if k2 <= 4 * phi - 1 + 1e-4 and slope < 0:
                slope_phi += 4 * slope
            elif k2 >= 2 * phi - 1e-4 and slope > 0:
                slope_phi += 2 * slope
            break
        step = k2 + slope / max(curve, 1e-12)
        k2 = step if low < step < high else (low + high) / 2
        if abs(step - k2) < 1e-12 and abs(slope) < 1e-6 * max(curve, 1.0):
            break
    return k2, slope_phi


@njit(cache=True, nogil=True)
def kinships(
    likelihood: Floats,
    frequency: Floats,
    weight: Floats,
    first: Floats,
    second: Floats,
    drop: float,
    start: int,
    step: int,
    out: Floats,
) -> None:
    """Fill the maximum-likelihood kinship of listed pairs and its profile-likelihood interval.

    Parameters
    ----------
    likelihood, frequency, weight : as in `relation_logs`
    first, second : (pairs,), samples
    drop : how far below its maximum the log likelihood may lie inside the interval
    start, step : the pairs start, start + step, ... are filled
    out : (pairs, 3), filled: kinship, lower and upper end
    """
    n_sites = len(weight)
    x1, x2 = np.empty(n_sites), np.empty(n_sites)
    for i in range(start, len(first), step):
        a, b = first[i], second[i]
        for j in range(n_sites):
            q = 0.5 * (frequency[a, j] + frequency[b, j])
            r1, r2 = _ratios(likelihood[a, j], likelihood[b, j], q)
            x1[j], x2[j] = weight[j] * (r1 - 1), weight[j] * (r2 - 1)
        low, high, k2 = 0.0, 0.5, 0.25
        while high - low > 1e-3:
            middle = (low + high) / 2
            k2, slope = _best_k2(x1, x2, middle, k2)
            if slope > 0:
                low = middle
            else:
                high = middle
        # The profile's maximum can lie on an end of the range itself.
        best, phi = -np.inf, 0.0
        for guess in (0.0, (low + high) / 2, 0.5):
            k2, _ = _best_k2(x1, x2, guess, 2 * guess * guess)
            value = _value(x1, x2, 4 * guess - 2 * k2, k2)
            if value > best:
                best, phi = value, guess
        out[i, 0] = phi
        for side, end in ((1, 0.0), (2, 0.5)):
            inside, outside = phi, end
            k2, _ = _best_k2(x1, x2, end, 2 * end * end)
            if _value(x1, x2, 4 * end - 2 * k2, k2) >= best - drop:
                inside = end
            else:
                while abs(outside - inside) > 1e-3:
                    middle = (inside + outside) / 2
                    k2, _ = _best_k2(x1, x2, middle, 2 * middle * middle)
                    if _value(x1, x2, 4 * middle - 2 * k2, k2) >= best - drop:
                        inside = middle
                    else:
                        outside = middle
            out[i, side] = inside


@njit(cache=True, nogil=True)
def level_gaps(level: Floats, start: int, step: int, gap: Floats, seen: Floats) -> None:
    """Fill sums of absolute differences of levels and how many sites both samples see.

    Parameters
    ----------
    level : (samples, sites), NaN where not seen
    start, step : rows filled, with their mirror images
    gap, seen : (samples, samples), filled
    """
    n_samples, n_sites = level.shape
    for a in range(start, n_samples, step):
        for b in range(a, n_samples):
            total, count = 0.0, 0
            for j in range(n_sites):
                d = abs(level[a, j] - level[b, j])
                if d == d:
                    total += d
                    count += 1
            gap[a, b] = gap[b, a] = total
            seen[a, b] = seen[b, a] = count


@njit(cache=True, nogil=True)
def read_differences(
    methylated: Floats, coverage: Floats, least: int, start: int, step: int, out: Floats
) -> None:
    """Fill how often two samples have equal counts, and how far their levels differ.

    Parameters
    ----------
    methylated, coverage : (samples, sites)
    least : reads from which equal counts count for something
    start, step : rows filled
    out : (samples, samples, 5), the upper half filled: sites where either sample has `least`
        reads, those where M and N are equal, and over sites that both see the sums of squared
        differences of levels, of the least variance that independent reads give it, and of the
        square of the two's difference
    """
    n_samples, n_sites = coverage.shape
    for a in range(start, n_samples, step):
        for b in range(a + 1, n_samples):
            sites = equal = 0
            observed = expected = square = 0.0
            for j in range(n_sites):
                n, k = coverage[a, j], coverage[b, j]
                if n >= least or k >= least:
                    sites += 1
                    equal += n == k and methylated[a, j] == methylated[b, j]
                if n == 0 or k == 0:
                    continue
                m, other = methylated[a, j], methylated[b, j]
                pooled = (m + other) / (n + k)
                # p (1 - p) without bias if both have one level and independent reads.
                spread = pooled * (1 - pooled) * (n + k) / (n + k - 1) * (1 / n + 1 / k)
                d = (m / n - other / k) ** 2
                observed += d
                expected += spread
                square += (d - spread) ** 2
            out[a, b, 0], out[a, b, 1] = sites, equal
            out[a, b, 2], out[a, b, 3], out[a, b, 4] = observed, expected, square

"""The prior of variances as a smooth function of level: a trend (Smyth 2004; Law et al. 2014).

Log variances are fitted by a natural cubic spline in level; what they scatter about it beyond
chance gives the prior's degrees of freedom.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from melisma.differential._kernels import Floats
from melisma.differential._moderation import inverse_trigamma

# limma's default: four coefficients where there are sites for them.
_MOST_COEFFICIENTS = 4


class Trend(NamedTuple):
    """Prior degrees of freedom, and the log scale as a spline of level.

    knots : (k,) of the natural spline, the range's ends among them; centre, width : of level, which
    is scaled before; coefficients : (k,) of `_natural`
    """

    df: float
    knots: Floats
    centre: float
    width: float
    coefficients: Floats

    def scale(self, level: Floats) -> Floats:
        """Prior variance at these levels, (n,); constant slope outside the range learned from."""
        columns = _natural((level - self.centre) / self.width, self.knots)
        return np.exp(columns @ self.coefficients)


def estimate_trend(variance: Floats, df: Floats, level: Floats) -> Trend:
    """Fit the prior to sample variances.

    Parameters
    ----------
    variance, df, level : (sites,) variances, their degrees of freedom (>= 1), and mean values
    """
    floor = 1e-5 * float(np.median(variance))
    logs = np.log(np.maximum(variance, max(floor, 1e-300)))
    half = df / 2.0
    centred = logs - digamma(half) + np.log(half)
    sites = len(variance)
    coefficients = 1 + (sites >= 3) + (sites >= 6) + (sites >= 30)
    low, high = float(level.min()), float(level.max())
    width = high - low
    if width <= 0.0:
        coefficients, width = 1, 1.0
    scaled = (level - low) / width
    inside = np.quantile(scaled, np.linspace(0, 1, max(coefficients - 2, 0) + 2)[1:-1])
    knots = np.unique(np.concatenate([[0.0], inside, [1.0]]))[: max(coefficients, 2)]
    columns = _natural(scaled, knots)[:, : max(coefficients, 1)]
    fitted, *_ = np.linalg.lstsq(columns, centred, rcond=None)
    spread = float(((centred - columns @ fitted) ** 2).sum()) / max(sites - columns.shape[1], 1)
    spread -= float(polygamma(1, half).mean())
    padded = np.zeros(len(knots))
    padded[: len(fitted)] = fitted
    if spread <= 0.0:
        return Trend(np.inf, knots, low, width, padded)
    half_prior = inverse_trigamma(spread)
    padded[0] += float(digamma(half_prior) - np.log(half_prior))
    return Trend(2.0 * half_prior, knots, low, width, padded)


def _natural(x: Floats, knots: Floats) -> Floats:
    """Natural cubic spline columns, (n, k): a constant, x, and k - 2 truncated cubics."""

    def cubic(knot: float) -> Floats:
        below, last = np.maximum(x - knot, 0.0) ** 3, np.maximum(x - knots[-1], 0.0) ** 3
        return (below - last) / (knots[-1] - knot)

    columns = [np.ones(len(x)), x]
    if len(knots) > 2:
        reference = cubic(float(knots[-2]))
        columns += [cubic(float(knot)) - reference for knot in knots[:-2]]
    return np.stack(columns, axis=1)

"""Where a curve of shares changes, and whether it jumps: two levels and a rise between them.

Three descriptions compete on the logarithm of the step: a rise that is spread over the whole of
training (a logistic from 0 to 1), a rise of a width that is fitted, and a jump between two
checkpoints. The quasi-binomial deviance scales their differences, so that checkpoints which differ
by more than their counts allow do not make each wiggle a change.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from melisma.errors import MelismaError

Floats = npt.NDArray[np.float64]
FEWEST = 6
# Of a chi-squared variable with one degree of freedom.
_HALFWAY_95 = 3.841
_PLACES, _WIDTHS = 240, 24
# A logistic goes from 10% to 90% within this many of its scales.
_TEN_TO_NINETY = 2 * math.log(9)
# BIC differences above this are strong evidence (Kass & Raftery 1995).
_STRONG = 6.0
# A rise within less than a doubling of the steps is called abrupt.
_ABRUPT = math.log(2)


class ChangePoint(NamedTuple):
    """Where an ability appears.

    step : halfway between the two levels
    low, high : 95% profile-likelihood interval of the step; infinite where training ends before
    before, after : the levels, shares
    factor : by how much the steps multiply between 10% and 90% of the rise; 1: between checkpoints
    factor_high : its 95% upper bound
    smooth_bic_difference : BIC of a rise that is spread over training, less the change point's
    changed : whether there is a rise at all, against a constant, on strong evidence
    abrupt : True where the rise surely takes less than a doubling of the steps, False where it
        surely takes more or the smooth curve does as well; None where the checkpoints cannot tell
    """

    step: float
    low: float
    high: float
    before: float
    after: float
    factor: float
    factor_high: float
    smooth_bic_difference: float
    changed: bool
    abrupt: bool | None


def change_point(steps: npt.ArrayLike, right: npt.ArrayLike, tried: npt.ArrayLike) -> ChangePoint:
    """Fit the three descriptions to right answers by step.

    Parameters
    ----------
    steps : (k,), at least 0, increasing; 0 counts as half of the first later step
    right, tried : (k,), answers that were right, and all

    Raises
    ------
    MelismaError
        There are fewer than six checkpoints, or the counts are none.
    """
    x, y, n = (np.asarray(v, np.float64) for v in (steps, right, tried))
    if len(x) < FEWEST:
        raise MelismaError(f"{len(x)} checkpoints show no change point: give {FEWEST} or more.")
    if not (x.shape == y.shape == n.shape) or (np.diff(x) <= 0).any() or x[0] < 0:
        raise MelismaError("Checkpoints need increasing steps, and counts one for each.")
    if (y < 0).any() or (y > n).any() or (n <= 0).any():
        raise MelismaError("There are more right answers than were asked for.")
    x = np.log(np.where(x == 0, x[1] / 2, x))
    gaps = np.diff(x)
    centres = np.linspace(x[0], x[-1], _PLACES)
    widths = np.geomspace(gaps.min() / 20, (x[-1] - x[0]) / 2, _WIDTHS)
    deviance, lower, upper = _levels(x, y, n, centres[:, None, None], widths[:, None])
    best = np.unravel_index(np.argmin(deviance), deviance.shape)
    least = float(deviance[best])
    scale = max(1.0, least / (len(x) - 4))
    within = deviance <= least + scale * _HALFWAY_95
    places = centres[within.any(axis=1)]
    step_size = centres[1] - centres[0]
    inside = widths[within.any(axis=0)]
    before, after = lower[best], upper[best]
    constant = _constant(y, n)
    smooth = _spread(x, y, n)
    penalty = math.log(len(x))
    factor = _TEN_TO_NINETY * widths[best[1]]
    high = _TEN_TO_NINETY * inside.max()
    spacing = gaps[min(np.searchsorted(x, centres[best[0]], side="right") - 1, len(gaps) - 1)]
    difference = (smooth - least) / scale - 2 * penalty
    abrupt: bool | None = None
    if difference <= 0 or _TEN_TO_NINETY * inside.min() > _ABRUPT:
        abrupt = False
    elif high <= _ABRUPT and difference >= _STRONG and spacing <= _ABRUPT:
        abrupt = True
    return ChangePoint(
        float(np.exp(centres[best[0]])),
        float(np.exp(places.min() - step_size)),
        math.inf if places.max() == centres[-1] else float(np.exp(places.max() + step_size)),
        float(before), float(after),
        1.0 if factor < spacing else float(np.exp(factor)),
        float(np.exp(max(high, spacing))),
        float(difference),
        bool((constant - least) / scale - 3 * penalty >= _STRONG),
        abrupt,
    )  # fmt: skip


def _levels(
    x: Floats, y: Floats, n: Floats, centre: Floats, width: Floats
) -> tuple[Floats, Floats, Floats]:
    """Deviance and the two levels of logistic rises of each place and width: (places, widths)."""
    rise = expit((x - centre) / width)  # (places, widths, k)
    share = y / n
    mean = np.broadcast_to(np.clip(share, 0.02, 0.98), rise.shape)
    low = high = np.zeros(rise.shape[:2])
    for _ in range(3):
        weight = n / (mean * (1 - mean))
        fall = 1 - rise
        # Weighted least squares of two columns, by their normal equations.
        aa, ab, bb = (
            (weight * fall**2).sum(2),
            (weight * fall * rise).sum(2),
            (weight * rise**2).sum(2),
        )
        ay, by = (weight * fall * share).sum(2), (weight * rise * share).sum(2)
        determinant = aa * bb - ab**2 + 1e-9
        low = np.clip((bb * ay - ab * by) / determinant, 0, 1)
        high = np.clip((aa * by - ab * ay) / determinant, 0, 1)
        mean = np.clip(fall * low[..., None] + rise * high[..., None], 1e-4, 1 - 1e-4)
    return _deviance(y, n, mean), low, high


def _constant(y: Floats, n: Floats) -> float:
    return float(_deviance(y, n, np.full(len(y), np.clip(y.sum() / n.sum(), 1e-6, 1 - 1e-6))))


def _spread(x: Floats, y: Floats, n: Floats) -> float:
    """Deviance of the logistic from 0 to 1, free in place and slope."""
    middle, spread = x.mean(), np.ptp(x)

    def lost(told: Floats) -> float:
        mean = expit(told[0] + told[1] * (x - middle) / spread)
        return float(_deviance(y, n, np.clip(mean, 1e-9, 1 - 1e-9)))

    # No steeper than a rise over a third of training: a smooth curve is not a jump in disguise.
    steepest = 3 * _TEN_TO_NINETY
    best = [
        minimize(lost, (0.0, slope), bounds=[(-20, 20), (-steepest, steepest)]).fun
        for slope in (-2.0, 2.0)
    ]
    return float(min(best))


def _deviance(y: Floats, n: Floats, mean: Floats) -> Any:
    """Binomial deviance of counts, summed over the last axis."""
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(y > 0, y * np.log(y / (n * mean)), 0.0)
        miss = np.where(y < n, (n - y) * np.log((n - y) / (n * (1 - mean))), 0.0)
    return 2 * (hit + miss).sum(axis=-1)

"""Every mediator by itself, all of them in one pass: does it go with the exposure, and with the
outcome given the exposure?

The exposure's coefficient is from least squares with HC3 errors (MacKinnon & White 1985), which
hold where groups differ in variance; so is the continuous outcome's. Other outcomes are tested by
efficient scores of the model without mediators, with their empirical variance, so that one fit
serves all mediators. With blocks, residuals and scores are summed within blocks first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import norm, t

from melisma.trace._outcomes import (
    BINARY,
    Outcome,
    Risk,
    additive_hazards,
    at_risk,
    logistic,
    lognormal_times,
    olsen,
)

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
# Cells of (individuals, mediators) worked on at once.
_CELLS = 4_000_000


class Screened(NamedTuple):
    """Each mediator alone; all (mediators,).

    effect, error : of the exposure on the mediator, in the mediator's units
    p_exposure : that it is none
    z_outcome : of the mediator for the outcome, exposure and covariates given
    p_outcome : that it is none
    """

    effect: Floats
    error: Floats
    p_exposure: Floats
    z_outcome: Floats
    p_outcome: Floats


def screen(
    exposure: Floats,
    mediators: Floats,
    outcome: Outcome,
    *,
    covariates: Floats,
    block: Ints | None = None,
) -> Screened:
    """Test each mediator's two relations.

    Parameters
    ----------
    exposure : (n,)
    mediators : (n, mediators), none constant
    covariates : (n, c), without an intercept; c may be 0
    block : (n,), numbers of the blocks from 0 on
    """
    n, many = mediators.shape
    ones = np.ones((n, 1))
    base = np.column_stack([ones, covariates])
    weights = outcome.mediator_weights
    used = weights > 0
    own_block = None if block is None else np.unique(block[used], return_inverse=True)[1]
    outcome_test = _outcome_test(outcome, np.column_stack([exposure, covariates]), block)
    found = []
    for k in range(0, many, max(1, _CELLS // n)):
        part = np.asarray(mediators[:, k : k + max(1, _CELLS // n)], np.float64)
        part = part - part.mean(0)
        one = _slopes(exposure[used], part[used], base[used], weights[used], own_block)
        found.append((*one, *outcome_test(part)))
    return Screened(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _slopes(
    x: Floats, y: Floats, base: Floats, weights: Floats, block: Ints | None
) -> tuple[Floats, Floats, Floats]:
    """Coefficient of x (n,) for each column of y (n, k), its error, and p."""
    root = np.sqrt(weights)
    q, _ = np.linalg.qr(base * root[:, None])
    x, y = _less(q, x * root), _less(q, y * root[:, None])
    size = x @ x
    slope = x @ y / size
    residual = y - x[:, None] * slope
    leverage = (q**2).sum(1) + x**2 / size
    df = len(x) - base.shape[1] - 1
    error, df = _sandwich(x[:, None], residual, leverage[:, None], df, block)
    error = error / size
    return slope, error, _two_sided(slope, error, df)


def _sandwich(
    x: Floats, residual: Floats, leverage: Floats, df: int, block: Ints | None
) -> tuple[Floats, int]:
    """The root of the summed squares of scores x e: HC3, or CR1 over blocks; degrees of freedom."""
    if block is None:
        return np.sqrt(((x * residual / np.maximum(1 - leverage, 1e-6)) ** 2).sum(0)), df
    many = int(block.max()) + 1
    correction = many / (many - 1) * (len(residual) - 1) / df
    return np.sqrt(correction * (_by_block(x * residual, block) ** 2).sum(0)), many - 1


def _outcome_test(
    outcome: Outcome, base: Floats, block: Ints | None
) -> Callable[[Floats], tuple[Floats, Floats]]:
    """From mediators (n, k) to z and p of each for the outcome, given exposure and covariates."""
    if outcome.kind == "continuous":
        return _linear_test(outcome, base, block)
    scores = _hazard_scores(outcome, base) if outcome.kind == "hazard" else _scores(outcome, base)

    def test(part: Floats) -> tuple[Floats, Floats]:
        each = scores(part)
        if block is not None:
            each = _by_block(each, block)
        size = np.sqrt((each**2).sum(0))
        z = np.divide(each.sum(0), size, out=np.zeros(len(size)), where=size > 0)
        return z, 2 * norm.sf(np.abs(z))

    return test


def _linear_test(
    outcome: Outcome, base: Floats, block: Ints | None
) -> Callable[[Floats], tuple[Floats, Floats]]:
    q, _ = np.linalg.qr(np.column_stack([np.ones(outcome.n), base]))
    y = _less(q, outcome.value)
    df = outcome.n - q.shape[1] - 1

    def test(part: Floats) -> tuple[Floats, Floats]:
        m = _less(q, part)
        size = np.maximum((m**2).sum(0), 1e-300)
        slope = y @ m / size
        leverage = (q**2).sum(1)[:, None] + m**2 / size
        error, own = _sandwich(m, y[:, None] - m * slope, leverage, df, block)
        p = _two_sided(slope, error / size, own)
        # As a standard normal deviate, whatever the degrees of freedom.
        return np.sign(slope) * norm.isf(np.maximum(p, 1e-300) / 2), p

    return test


def _scores(outcome: Outcome, base: Floats) -> Callable[[Floats], Floats]:
    """Efficient scores of mediators in a logistic or a log-normal model, (n, k) to (n, k)."""
    n = outcome.n
    z = np.column_stack([np.ones(n), (base - base.mean(0)) / base.std(0)])
    one = np.ones((1, n))
    nuisance = np.zeros(n)
    if outcome.kind in BINARY:
        p = expit(z @ logistic(z, outcome.value, one)[0])
        score, bend = outcome.value - p, p * (1 - p)
        curve = z.T @ (z * bend[:, None])
    else:
        fitted = lognormal_times(z, outcome.value, outcome.events, one)
        y = np.log(outcome.value)
        tau = 1 / fitted.sigma[0]
        score, bend = olsen((y - z @ fitted.beta[0]) * tau, outcome.events)
        z = np.column_stack([z, -y])
        nuisance = outcome.events / tau
        curve = z.T @ (z * bend[:, None])
        curve[-1, -1] += outcome.events.sum() / tau**2

    def scores(part: Floats) -> Floats:
        along = np.linalg.solve(curve, (z * bend[:, None]).T @ part)
        return score[:, None] * (part - z @ along) - nuisance[:, None] * along[-1]

    return scores


def _hazard_scores(outcome: Outcome, base: Floats) -> Callable[[Floats], Floats]:
    """Efficient scores of mediators in an additive-hazards model: dN - Y (dL + beta z dt)."""
    risk = Risk.of(outcome.value)
    z = (base - base.mean(0)) / base.std(0)
    beta = additive_hazards(z, outcome.value, outcome.events, np.ones((1, outcome.n)))[0]
    z, t_, dead = z[risk.order], outcome.value[risk.order], outcome.events[risk.order]
    alive = at_risk(np.ones(outcome.n))
    mean = at_risk(z) / alive[:, None]
    spent = (alive * risk.gap)[:, None] * mean
    curve = z.T @ (z * t_[:, None]) - mean.T @ spent
    jump = dead / alive[risk.first]
    linear, linear_mean = z @ beta, mean @ beta
    # What has been added up by each one's own time.
    cumulated = np.cumsum(jump)[risk.last], np.cumsum(risk.gap * linear_mean)

    def scores(part: Floats) -> Floats:
        m = part[risk.order]
        along = np.linalg.solve(
            curve, z.T @ (m * t_[:, None]) - spent.T @ (at_risk(m) / alive[:, None])
        )
        m = m - z @ along
        own = at_risk(m) / alive[:, None]
        found = dead[:, None] * (m - own[risk.first])
        found -= m * cumulated[0][:, None]
        found += np.cumsum(jump[:, None] * own[risk.first], 0)[risk.last]
        found += m * cumulated[1][:, None] - np.cumsum((risk.gap * linear_mean)[:, None] * own, 0)
        found -= linear[:, None] * (m * t_[:, None] - np.cumsum(risk.gap[:, None] * own, 0))
        back = np.empty_like(found)
        back[risk.order] = found
        return back

    return scores


def _less(q: Floats, values: Floats) -> Floats:
    """What an orthonormal basis (n, r) does not explain."""
    return values - q @ (q.T @ values)


def _by_block(values: Floats, block: Ints) -> Floats:
    """Sums within blocks, (blocks, k)."""
    found = np.zeros((int(block.max()) + 1, values.shape[1]))
    np.add.at(found, block, values)
    return found


def _two_sided(value: Floats, error: Floats, df: int) -> Floats:
    return 2 * t.sf(np.abs(np.divide(value, error, out=np.zeros_like(value), where=error > 0)), df)

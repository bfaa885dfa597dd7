"""Outcome models fitted to many weightings of the same samples at once, in plain numpy.

A weighting is a bootstrap sample: how often each individual is drawn. Normal equations of all of
them are one matrix product of weights with products of columns. Kinds of outcome:

- continuous: least squares;
- case-control, cohort: logistic regression by Newton steps;
- hazard: additive hazards in closed form (Lin & Ying 1994), effects added to the rate of events;
- aft: log-normal accelerated failure time in Olsen's (1978) form, which is concave.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import erfcx, expit

from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]
Kind = Literal["continuous", "case-control", "cohort", "hazard", "aft"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BINARY: tuple[Kind, ...] = ("case-control", "cohort")
SURVIVAL: tuple[Kind, ...] = ("hazard", "aft")
UNITS: dict[Kind, str] = {
    "continuous": "units of the outcome",
    "case-control": "log odds",
    "cohort": "log odds",
    "hazard": "events per unit of time",
    "aft": "log time",
}
_STEPS, _DONE = 60, 1e-9
# Cells of (weightings, samples, columns) held at once by the additive hazards.
_CELLS = 4_000_000
# Beyond this many log odds a fitted probability is 0 or 1, and the coefficients have no end.
_SEPARATED = 30.0


class Fitted(NamedTuple):
    """An outcome model under each weighting.

    slopes : (weightings, q)
    middle : (weightings,), the linear predictor at the columns' means; 0 for hazards, whose
        baseline is free
    """

    slopes: Floats
    middle: Floats


@dataclass(frozen=True)
class Outcome:
    """What is to be explained.

    Attributes
    ----------
    name : of its column
    kind : see the module
    value : (n,), the outcome; 0 and 1; or the time to event or end of follow-up, over 0
    event : (n,), 1 where the time is an event's; survival only
    prevalence : of cases in the population, for a case-control study whose mediator models are to
        be weighted to it; None: they are fitted in controls
    """

    name: str
    kind: Kind
    value: Floats
    event: Floats | None = None
    prevalence: float | None = None

    @property
    def n(self) -> int:
        """How many individuals."""
        return len(self.value)

    @property
    def informative(self) -> int:
        """Individuals that carry a coefficient's information: all, the rarer class, or events."""
        if self.kind in BINARY:
            return int(min(self.value.sum(), (1 - self.value).sum()))
        return self.n if self.event is None else int(self.event.sum())

    @property
    def mediator_weights(self) -> Floats:
        """What each individual counts in the mediators' models, (n,)."""
        if self.kind != "case-control":
            return np.ones(self.n)
        if self.prevalence is None:
            return 1.0 - self.value
        share = self.value.mean()
        return np.where(
            self.value == 1, self.prevalence / share, (1 - self.prevalence) / (1 - share)
        )

    def fit(self, columns: Floats, weights: Floats) -> "Fitted":
        """The outcome on columns, none of them constant, with an intercept of its own.

        Parameters
        ----------
        columns : (n, q)
        weights : (weightings, n)

        Raises
        ------
        MelismaError
            The columns tell two classes apart without error, so that no coefficient is finite.
        """
        middle, scale = columns.mean(0), columns.std(0)
        z = (columns - middle) / scale
        if self.kind == "hazard":
            slopes = additive_hazards(z, self.value, self.events, weights)
            return Fitted(slopes / scale, np.zeros(len(weights)))
        z = np.column_stack([np.ones(self.n), z])
        if self.kind == "aft":
            found = lognormal_times(z, self.value, self.events, weights).beta
        elif self.kind == "continuous":
            found = least_squares(z, self.value, weights)[:, :, 0]
        else:
            found = logistic(z, self.value, weights)
        return Fitted(found[:, 1:] / scale, found[:, 0])

    @property
    def events(self) -> Floats:
        """(n,), 1 where the time is an event's."""
        assert self.event is not None
        return self.event


def gram(z: Floats, weights: Floats) -> Floats:
    """Weighted cross products of columns: (weightings, q, q) of z (n, q) and weights (w, n)."""
    q = z.shape[1]
    row, column = np.triu_indices(q)
    upper = weights @ (z[:, row] * z[:, column])
    full = np.empty((len(weights), q, q))
    full[:, row, column] = upper
    full[:, column, row] = upper
    return full


def solve(a: Floats, b: Floats) -> Floats:
    """x of a x = b for stacks of symmetric matrices (w, q, q) and (w, q, k).

    A touch of ridge keeps a resample from which a level has fallen out from failing.
    """
    d = np.sqrt(np.maximum(np.einsum("wii->wi", a), 1e-300))
    scaled = a / (d[:, :, None] * d[:, None, :]) + 1e-11 * np.eye(a.shape[1])
    return np.linalg.solve(scaled, b / d[:, :, None]) / d[:, :, None]


def least_squares(z: Floats, y: Floats, weights: Floats) -> Floats:
    """Weighted least squares of y (n,) or (n, k) on z (n, q): (weightings, q, k)."""
    y = y.reshape(len(z), -1)
    right = np.stack([weights @ (z * column[:, None]) for column in y.T], axis=2)
    return solve(gram(z, weights), right)


def logistic(z: Floats, y: Floats, weights: Floats) -> Floats:
    """Logistic regression of y (n,), 0 and 1, on z (n, q): (weightings, q).

    NaN where the weighted classes are separated.

    Raises
    ------
    MelismaError
        They are so with all weights alike.
    """
    beta = np.zeros((len(weights), z.shape[1]))
    lost = np.zeros(len(weights), bool)
    if len(weights) > 1:
        beta[:] = logistic(z, y, np.ones((1, len(y))))
    for _ in range(_STEPS):
        p = expit(beta @ z.T)
        step = solve(gram(z, weights * p * (1 - p)), ((weights * (y - p)) @ z)[:, :, None])[:, :, 0]
        # Far from the answer a full step may overshoot.
        step *= np.minimum(1.0, 5.0 / np.maximum(np.abs(step).max(1), 1e-300))[:, None]
        beta += step
        lost |= np.abs(beta @ z.T).max(1) > _SEPARATED
        if lost.all():
            break
        beta[lost] = 0.0
        if np.abs(step[~lost]).max() < _DONE:
            break
    if len(weights) == 1 and lost[0]:
        raise MelismaError(
            "Exposure, mediators and covariates tell the two classes of the outcome apart without "
            "error, so that no coefficient is finite: leave out some of them."
        )
    beta[lost] = np.nan
    return beta


class Risk(NamedTuple):
    """Individuals in the order of their times.

    order : (n,), individuals by time
    gap : (n,), time since the one before
    first, last : (n,), the first and the last in order of those with the same time
    """

    order: npt.NDArray[np.int64]
    gap: Floats
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @classmethod
    def of(cls, time: Floats) -> "Risk":
        """Individuals by time (n,)."""
        order = np.argsort(time, kind="stable")
        t = time[order]
        return cls(
            order, np.diff(t, prepend=0.0), np.searchsorted(t, t, "left"),
            np.searchsorted(t, t, "right") - 1,
        )  # fmt: skip


def at_risk(values: Floats, axis: int = 0) -> Floats:
    """Sums over those who are still at risk, along an axis ordered by time."""
    return np.flip(np.cumsum(np.flip(values, axis), axis), axis)


def additive_hazards(z: Floats, time: Floats, event: Floats, weights: Floats) -> Floats:
    """Lin & Ying's (1994) additive hazards of z (n, q): (weightings, q), without a baseline.

    beta = (sum of integrals of Y (z - zbar)^2 dt)^-1 (sum over events of z - zbar), zbar the mean
    of those at risk.
    """
    risk = Risk.of(time)
    z, t, dead = z[risk.order], time[risk.order], event[risk.order]
    found = []
    size = max(1, _CELLS // z.size)
    for k in range(0, len(weights), size):
        w = weights[k : k + size][:, risk.order]
        total = at_risk(w, 1)
        mean = at_risk(w[:, :, None] * z, 1) / np.maximum(total, 1e-300)[:, :, None]
        spent = (total * risk.gap)[:, :, None] * mean
        left = gram(z, w * t) - mean.transpose(0, 2, 1) @ spent
        died = w * dead
        right = died @ z - np.einsum("wn,wnq->wq", died, mean[:, risk.first])
        found.append(solve(left, right[:, :, None])[:, :, 0])
    return np.concatenate(found)


class LogNormal(NamedTuple):
    """Log-normal regression of times: log T = z beta + sigma e."""

    beta: Floats
    sigma: Floats


def lognormal_times(z: Floats, time: Floats, event: Floats, weights: Floats) -> LogNormal:
    """Censored log-normal regression on z (n, q), its intercept among them: beta (weightings, q).

    Olsen's (1978) parameters beta/sigma and 1/sigma make the likelihood concave; Newton steps.
    """
    y = np.log(time)
    middle, scale = y.mean(), y.std() or 1.0
    y = (y - middle) / scale
    extended = np.column_stack([z, -y])
    theta = np.zeros((len(weights), z.shape[1] + 1))
    theta[:, -1] = 1.0
    if len(weights) > 1:
        whole = lognormal_times(z, time, event, np.ones((1, len(y))))
        start = (whole.beta[0] - middle * _intercept(z)) / scale
        theta[:, -1] = scale / whole.sigma[0]
        theta[:, :-1] = start * theta[:, -1:]
    died = weights @ event
    for _ in range(_STEPS):
        score, bend = olsen(theta @ -extended.T, event)
        slope = (weights * score) @ extended
        slope[:, -1] += died / theta[:, -1]
        curve = gram(extended, weights * bend)
        curve[:, -1, -1] += died / theta[:, -1] ** 2
        step = solve(curve, slope[:, :, None])[:, :, 0]
        # 1/sigma stays over 0.
        room = np.where(step[:, -1] < 0, -0.7 * theta[:, -1] / np.minimum(step[:, -1], -1e-300), 1)
        theta += step * np.minimum(1.0, room)[:, None]
        if np.abs(step).max() < _DONE:
            break
    sigma = scale / theta[:, -1]
    beta = theta[:, :-1] * sigma[:, None] + middle * _intercept(z)
    return LogNormal(beta, sigma)


def olsen(residual: Floats, event: Floats) -> tuple[Floats, Floats]:
    """The likelihood's slope and bend in the linear predictor, at residuals in sigmas."""
    mills = np.sqrt(2 / np.pi) / erfcx(residual / np.sqrt(2))
    score = np.where(event == 1, residual, mills)
    bend = np.where(event == 1, 1.0, mills * (mills - residual))
    return score, bend


def _intercept(z: Floats) -> Floats:
    """1 for the column of ones, 0 for the others, (q,)."""
    return (np.ptp(z, axis=0) == 0).astype(float)

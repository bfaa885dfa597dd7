"""Mediation: how much of an exposure's effect on an outcome goes through given mediators.

Mediators are linear in exposure and covariates, and the outcome's model is linear in exposure,
mediators and covariates on its own scale, so that products of coefficients are path effects on that
scale. It is one on which they add up: the mean, the log time, the rate of events of an additive
hazard (Lange & Hansen 2011), the log odds of a rare outcome with mediators fitted in controls
(VanderWeele & Vansteelandt 2010). The log odds of a common outcome do not, and are averaged over
what the mediators leave unexplained. Cox coefficients do not either, and are not offered.

All mediators are in one model, so that their effects may be added. Effects of mediators that were
each tried alone may not, and no function here adds them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from melisma.errors import MelismaError
from melisma.trace._components import Components, components
from melisma.trace._mediation_checks import check_inputs
from melisma.trace._outcomes import UNITS, Kind, Outcome, gram, least_squares, solve

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
# Weightings fitted together.
_TOGETHER = 200
_NODES = 20


class Effect(NamedTuple):
    """A number with its bootstrap error, interval and p; None where nothing was resampled.

    value, error, low, high, p
    """

    value: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Mediation:
    """The effects of one exposure on one outcome, by path.

    Attributes
    ----------
    kind, unit : of the outcome; all effects below are in that unit, for one unit of exposure
    n, informative : individuals; those that carry the information (events, the rarer class)
    total : from the model without mediators
    direct : past all mediators
    indirect : through any mediator
    share : indirect / (direct + indirect)
    own : through each mediator, and not through the second
    onward : through each mediator and then the second; empty without one
    through : through each mediator, by either way
    second : through the second and no other; None without one
    last : through the second, by either way
    to_mediators, to_second, on_second, on_outcome, second_on_outcome : the coefficients behind
        them, in their own units: exposure on mediators, exposure on the second, mediators on the
        second, mediators on the outcome, the second on the outcome
    components : the mediators' linear combinations that the models hold in their stead; None: each
        mediator is in them itself
    bootstraps : resamples that could be fitted
    """

    kind: Kind
    unit: str
    n: int
    informative: int
    total: Effect
    direct: Effect
    indirect: Effect
    share: Effect
    own: tuple[Effect, ...]
    onward: tuple[Effect, ...]
    through: tuple[Effect, ...]
    second: Effect | None
    last: Effect | None
    to_mediators: tuple[Effect, ...]
    to_second: Effect | None
    on_second: tuple[Effect, ...]
    on_outcome: tuple[Effect, ...]
    second_on_outcome: Effect | None
    components: Components | None
    bootstraps: int


def mediate(
    exposure: Floats,
    mediators: Floats,
    outcome: Outcome,
    *,
    covariates: Floats | None = None,
    second: Floats | None = None,
    block: Ints | None = None,
    names: tuple[str, ...] | None = None,
    bootstraps: int = 1000,
    level: float = 0.95,
    seed: int = 1,
) -> Mediation:
    """Total, direct and indirect effects, with bootstrap intervals.

    Individuals are resampled, or whole blocks of them; cases and controls apart in a case-control
    study. Where there are more mediators than the information allows, their leading components
    stand in the models (see `Components`), and each mediator's effect is its part of theirs.

    Parameters
    ----------
    exposure : (n,)
    mediators : (n, K), K may be 0
    outcome : see `Outcome`
    covariates : (n, c), numbers, without an intercept
    second : (n,), a mediator that comes after the others, such as expression after methylation
    block : (n,), numbers of families, centres or donors that are resampled whole
    names : (K,), of the mediators, for messages
    bootstraps : resamples; 0: no errors and intervals
    level : of the intervals
    seed : of the resamples

    Raises
    ------
    MelismaError
        A value is missing; the exposure is constant or follows from the covariates; the outcome
        does not vary or has too few events; a mediator is constant or follows from the exposure.

    Examples
    --------
    >>> x = np.repeat([0.0, 1.0], 12)
    >>> m = 2 * x + np.tile([-1.0, 0.0, 1.0], 8)
    >>> y = 3 * x + 5 * m + np.tile([0.5, -1.0, 0.5], 8)
    >>> found = mediate(x, m[:, None], Outcome("y", "continuous", y), bootstraps=0)
    >>> [round(e.value, 6) for e in (found.total, found.direct, found.indirect)]
    [13.0, 3.0, 10.0]
    """
    covariates = np.zeros((len(exposure), 0)) if covariates is None else covariates
    names = names or tuple(f"mediator {k + 1}" for k in range(mediators.shape[1]))
    check_inputs(exposure, mediators, outcome, covariates, second, block, names)
    held = components(mediators, exposure, covariates, outcome.informative, second is not None)
    paths = _Paths(exposure, mediators, outcome, covariates, second, held)
    point = paths(np.ones((1, outcome.n)))
    rng = np.random.default_rng(seed)
    drawn = []
    for k in range(0, bootstraps, _TOGETHER):
        many = min(_TOGETHER, bootstraps - k)
        drawn.append(paths(resampled(rng, many, outcome, block)))
    draws = {name: np.concatenate([d[name] for d in drawn]) for name in point} if drawn else {}
    return _summary(outcome, point, draws, level, held, second is not None)


def resampled(rng: np.random.Generator, many: int, outcome: Outcome, block: Ints | None) -> Floats:
    """How often each individual is drawn: (many, n)."""
    if block is not None:
        return _times_drawn(rng, many, int(block.max()) + 1)[:, block]
    drawn = np.zeros((many, outcome.n))
    apart = outcome.value if outcome.kind == "case-control" else np.zeros(outcome.n)
    for one in np.unique(apart):
        rows = np.flatnonzero(apart == one)
        drawn[:, rows] = _times_drawn(rng, many, len(rows))
    return drawn


def _times_drawn(rng: np.random.Generator, many: int, n: int) -> Floats:
    """How often each of n is drawn in n draws, (many, n)."""
    at = rng.integers(n, size=(many, n)) + n * np.arange(many)[:, None]
    return np.bincount(at.ravel(), minlength=many * n).reshape(many, n).astype(float)


class _Paths:
    """From weightings (w, n) to path effects, (w,) or (w, K) by name."""

    def __init__(
        self, exposure: Floats, mediators: Floats, outcome: Outcome, covariates: Floats,
        second: Floats | None, held: Components | None,
    ) -> None:  # fmt: skip
        self.x, self.mediators, self.outcome, self.second = exposure, mediators, outcome, second
        self.covariates, self.held = covariates, held
        self.inside = mediators if held is None else held.scores(mediators)
        self.base = np.column_stack([np.ones(len(exposure)), covariates])

    def __call__(self, weights: Floats) -> dict[str, Floats]:
        """Effects and the coefficients behind them."""
        x, c, inside = self.x[:, None], self.covariates, self.inside
        used = weights * self.outcome.mediator_weights
        total = self.outcome.fit(np.column_stack([x, c]), weights).slopes[:, 0]
        last = [] if self.second is None else [self.second]
        fitted = self.outcome.fit(np.column_stack([x, c, inside, *last]), weights)
        first = 1 + c.shape[1]
        direct = fitted.slopes[:, 0]
        inner = fitted.slopes[:, first : first + inside.shape[1]]
        a = self._on_mediators(used)
        b = self._by_mediator(inner)
        found = {"total": total, "direct": direct, "a": a, "b": b, "own": a * b}
        if self.second is not None:
            z = np.column_stack([self.base, x, inside])
            steps = least_squares(z, self.second, used)[:, :, 0]
            place = self.base.shape[1]
            found["e"], found["f"] = steps[:, place], fitted.slopes[:, -1]
            found["d"] = self._by_mediator(steps[:, place + 1 :])
            found["second"] = found["e"] * found["f"]
            found["onward"] = a * found["d"] * found["f"][:, None]
        if self.outcome.kind == "cohort":
            scale = self._averaging(fitted, weights, found)
            for name in ("direct", "own", "second", "onward"):
                if name in found:
                    found[name] = (found[name].T * scale).T
        found["through"] = found["own"] + found.get("onward", 0.0)
        if "second" in found:
            found["last"] = found["second"] + found["onward"].sum(1)
        found["indirect"] = _mediated(found)
        found["share"] = found["indirect"] / (found["indirect"] + found["direct"])
        return found

    def _on_mediators(self, used: Floats) -> Floats:
        """The exposure's coefficient for each mediator, (w, K)."""
        along = least_squares(self.base, self.x, used)[:, :, 0]
        left = used * (self.x - along @ self.base.T)
        return left @ self.mediators / (left @ self.x)[:, None]

    def _by_mediator(self, slopes: Floats) -> Floats:
        """Coefficients of what the models hold as coefficients of the mediators, (w, K)."""
        return slopes if self.held is None else slopes @ self.held.weights.T

    def _averaging(self, fitted: Any, weights: Floats, found: Mapping[str, Floats]) -> Floats:
        """What log odds shrink by when averaged over what the mediators leave unexplained, (w,)."""
        last = [] if self.second is None else [self.second]
        passing = np.column_stack([self.inside, *last])
        if not passing.shape[1]:
            return np.ones(len(weights))
        carried = fitted.slopes[:, -passing.shape[1] :] @ passing.T
        z = np.column_stack([self.base, self.x])
        along = solve(gram(z, weights), ((weights * carried) @ z)[:, :, None])[:, :, 0]
        spread = (weights * (carried - along @ z.T) ** 2).sum(1) / weights.sum(1)
        ends = np.unique(self.x)
        if len(ends) > 2:
            ends = self.x.mean() + np.array([-0.5, 0.5])
        slope = found["direct"] + _mediated(found)
        slope = np.where(np.abs(slope) < 1e-6, 1e-6, slope)
        at = fitted.middle + np.multiply.outer(ends - self.x.mean(), slope)
        points, share = np.polynomial.hermite_e.hermegauss(_NODES)
        odds = expit(at[:, :, None] + np.sqrt(spread)[:, None] * points) @ (share / share.sum())
        return np.diff(logit(odds), axis=0)[0] / (slope * (ends[1] - ends[0]))


def _mediated(found: Mapping[str, Floats]) -> Floats:
    """Everything that passes a mediator, (w,)."""
    parts = found["own"].sum(1)
    return parts + found["second"] + found["onward"].sum(1) if "second" in found else parts


def _summary(
    outcome: Outcome, point: Mapping[str, Floats], draws: Mapping[str, Floats], level: float,
    held: Components | None, chain: bool,
) -> Mediation:  # fmt: skip
    good = np.ones(0, bool)
    if draws:
        each = [d.reshape(len(d), d.size // len(d)) for d in draws.values()]
        good = np.all([np.isfinite(d).all(1) for d in each], axis=0)
        if good.mean() < 0.9:
            raise MelismaError(
                f"{int((~good).sum())} of {len(good)} bootstrap samples could not be fitted: there "
                "are too few individuals (or cases) for so many mediators and covariates; leave "
                "out some."
            )

    def of(name: str) -> tuple[Effect, ...]:
        values = np.atleast_1d(point[name][0])
        if not draws or not len(values):
            return tuple(Effect(float(v)) for v in values)
        each = draws[name][good].reshape(int(good.sum()), -1)
        return _effects(values, each, level)

    def one(name: str) -> Effect:
        return of(name)[0]

    return Mediation(
        kind=outcome.kind, unit=UNITS[outcome.kind], n=outcome.n,
        informative=outcome.informative, total=one("total"), direct=one("direct"),
        indirect=one("indirect"), share=one("share"), own=of("own"),
        onward=of("onward") if chain else (), through=of("through"),
        second=one("second") if chain else None, last=one("last") if chain else None,
        to_mediators=of("a"), to_second=one("e") if chain else None,
        on_second=of("d") if chain else (), on_outcome=of("b"),
        second_on_outcome=one("f") if chain else None, components=held,
        bootstraps=int(good.sum()),
    )  # fmt: skip


def _effects(values: Floats, draws: Floats, level: float) -> tuple[Effect, ...]:
    """Values (k,) with errors, percentile intervals and p from draws (bootstraps, k).

    Percentiles as they are: bias-corrected ones miss 0 too often where one of a path's two
    relations is absent (Fritz, Taylor & MacKinnon 2012; here too).
    """
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    rarer = np.minimum((draws <= 0).sum(0), (draws >= 0).sum(0))
    p = np.minimum(1.0, 2 * (rarer + 1) / (len(draws) + 1))
    error = draws.std(0, ddof=1)
    return tuple(
        Effect(*(float(v) for v in row)) for row in zip(values, error, low, high, p, strict=True)
    )

"""What mediation cannot be computed from, each refused in one sentence with the remedy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.trace._outcomes import BINARY, Outcome

Floats = npt.NDArray[np.floating[Any]]
# Events, or individuals of the rarer class, without which nothing is estimated.
FEWEST_EVENTS = 10
FEWEST = 20
_FEWEST_BLOCKS = 10
_SAME = 1e-8
_MOST_NAMED = 3


def check_inputs(
    exposure: Floats, mediators: Floats, outcome: Outcome, covariates: Floats,
    second: Floats | None, block: Any, names: Sequence[str],
) -> None:  # fmt: skip
    """Refuse arrays that do not fit each other or cannot answer.

    Raises
    ------
    MelismaError
        See `melisma.trace.mediation.mediate`.
    """
    n = outcome.n
    lengths = {"exposure": len(exposure), "mediators": len(mediators)}
    lengths["covariates"] = len(covariates)
    for name, length in lengths.items():
        if length != n:
            raise MelismaError(f"{length} values of {name} do not fit {n} of the outcome.")
    check_missing(mediators, names)
    for name, values in (("exposure", exposure), ("covariates", covariates), ("second", second)):
        if values is not None and not np.isfinite(values).all():
            raise MelismaError(f"The {name} has missing values: leave out those individuals.")
    check_outcome(outcome)
    if np.ptp(exposure) == 0:
        raise MelismaError(
            f"The exposure is {exposure[0]:g} in all {n} individuals: it explains nothing."
        )
    base = np.column_stack([np.ones(n), covariates])
    if _unexplained(base, exposure) < _SAME:
        raise MelismaError(
            "The exposure follows from the covariates exactly: leave out the covariate that tells "
            "it."
        )
    _check_mediators(np.column_stack([base, exposure]), mediators, names)
    if second is not None and _unexplained(np.column_stack([base, exposure]), second) < _SAME:
        raise MelismaError(
            "The second mediator is constant, or follows from exposure and covariates exactly: "
            "leave it out."
        )
    if block is not None and int(block.max()) + 1 < _FEWEST_BLOCKS:
        raise MelismaError(
            f"{int(block.max()) + 1} blocks are too few to be resampled ({_FEWEST_BLOCKS} at "
            "least): make the block a covariate."
        )


def check_outcome(outcome: Outcome) -> None:
    """Refuse an outcome that carries too little.

    Raises
    ------
    MelismaError
        It does not vary; has too few events or individuals of a class; times that are not over 0.
    """
    if not np.isfinite(outcome.value).all():
        raise MelismaError(f"The outcome {outcome.name} has missing values.")
    if outcome.n < FEWEST:
        raise MelismaError(f"{outcome.n} individuals are too few for mediation: {FEWEST} at least.")
    if outcome.prevalence is not None and not 0 < outcome.prevalence < 1:
        raise MelismaError(f"A prevalence lies between 0 and 1, and {outcome.prevalence} does not.")
    if outcome.event is not None:
        early = outcome.value <= 0 if outcome.kind == "aft" else outcome.value < 0
        if early.any():
            what = "0 or less, which have no logarithm" if outcome.kind == "aft" else "less than 0"
            raise MelismaError(
                f"The outcome {outcome.name} has {int(early.sum())} times that are {what}: leave "
                "out those individuals, or count from an earlier day."
            )
    if outcome.kind == "continuous":
        if np.ptp(outcome.value) == 0:
            raise MelismaError(
                f"The outcome {outcome.name} is {outcome.value[0]:g} in all individuals."
            )
        return
    if outcome.informative < FEWEST_EVENTS:
        what = "individuals of the rarer class" if outcome.kind in BINARY else "events"
        one = "individual of the rarer class" if outcome.kind in BINARY else "event"
        raise MelismaError(
            f"The outcome {outcome.name} has {outcome.informative} "
            f"{one if outcome.informative == 1 else what} among {outcome.n} individuals, and "
            f"{FEWEST_EVENTS} are the fewest that effects are estimated from: follow up longer, or "
            "choose an outcome that is not so rare."
        )


def check_missing(mediators: Floats, names: Sequence[str]) -> None:
    """Refuse mediators with missing values, saying which.

    Raises
    ------
    MelismaError
        There are some.
    """
    lost = np.isnan(mediators)
    if not lost.any():
        return
    by_mediator, rows = lost.sum(0), int(lost.any(1).sum())
    worst = np.argsort(-by_mediator, kind="stable")[: min(_MOST_NAMED, (by_mediator > 0).sum())]
    said = ", ".join(f"{int(by_mediator[k]):,} in {names[k]}" for k in worst)
    others = int((by_mediator > 0).sum()) - len(worst)
    more = f" and some in {others:,} others" if others else ""
    raise MelismaError(
        f"Mediators have missing values ({said}{more}): leave out the {rows:,} of "
        f"{len(mediators):,} individuals that lack one (--drop-missing), or the "
        f"{int((by_mediator > 0).sum()):,} of {len(names):,} mediators (--drop-mediators)."
    )


def _check_mediators(base: Floats, mediators: Floats, names: Sequence[str]) -> None:
    if not len(names):
        return
    q, _ = np.linalg.qr(base)
    constant = np.ptp(mediators, axis=0) == 0
    if constant.any():
        k = int(constant.argmax())
        raise MelismaError(
            f"The mediator {names[k]} is {mediators[0, k]:g} everywhere: leave it out."
        )
    left = mediators - q @ (q.T @ mediators)
    told = (left**2).sum(0) < _SAME * mediators.var(0) * len(mediators)
    if told.any():
        raise MelismaError(
            f"The mediator {names[int(told.argmax())]} follows from exposure and covariates "
            "exactly: it cannot be told from them; leave it out."
        )


def _unexplained(base: Floats, values: Floats) -> float:
    """The share of a column's variance that others leave."""
    middle = values - values.mean()
    q, _ = np.linalg.qr(base)
    left = values - q @ (q.T @ values)
    return float(left @ left) / max(float(middle @ middle), 1e-300)

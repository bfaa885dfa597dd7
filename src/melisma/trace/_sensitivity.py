"""How strong an unmeasured confounder of mediator and outcome must be to explain an effect away."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def correlation_at_zero(mediators: Floats, outcome: Floats, given: Floats) -> Floats:
    """The correlation of the two models' errors at which a linear indirect effect is 0.

    Imai, Keele & Yamamoto (2010): it is the correlation of mediator and outcome once what is given
    (exposure, covariates, other mediators) is taken off both.

    Parameters
    ----------
    mediators, outcome, given : (n, K), (n,), (n, g)

    Examples
    --------
    >>> m = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> correlation_at_zero(m, np.array([0.0, 2.0, 4.0, 6.0]), np.zeros((4, 0)))
    array([1.])
    """
    q, _ = np.linalg.qr(np.column_stack([np.ones(len(outcome)), given]))
    m = mediators - q @ (q.T @ mediators)
    y = outcome - q @ (q.T @ outcome)
    size = np.sqrt((m**2).sum(0) * (y @ y))
    return np.divide(y @ m, size, out=np.zeros(len(size)), where=size > 0)


def correlation_given_others(mediators: Floats, outcome: Floats, given: Floats) -> Floats:
    """The same for each mediator with the other mediators given too, (K,)."""
    many = mediators.shape[1]
    return np.array(
        [
            correlation_at_zero(
                mediators[:, [k]], outcome, np.column_stack([given, np.delete(mediators, k, 1)])
            )[0]
            for k in range(many)
        ]
    )


def robustness(statistic: float, df: float) -> float:
    """The share of what is left of both mediator and outcome that a confounder must explain.

    Cinelli & Hazlett's (2020) robustness value of a coefficient from its t; outside least squares
    it is an approximation.

    Examples
    --------
    >>> round(robustness(4.18, 783), 3)
    0.139
    """
    f = abs(statistic) / math.sqrt(max(df, 1.0))
    return 0.5 * (math.sqrt(f**4 + 4 * f**2) - f**2)


def e_value(log_odds: float, *, rare: bool) -> float:
    """The risk ratio that an unmeasured confounder must have with mediator and with outcome.

    VanderWeele & Ding (2017), for indirect effects Smith & VanderWeele (2019). Odds ratios of
    common outcomes count by their square root.

    Examples
    --------
    >>> round(e_value(math.log(3.9), rare=True), 2)
    7.26
    """
    ratio = math.exp(min(abs(log_odds) * (1.0 if rare else 0.5), 300.0))
    return ratio + math.sqrt(ratio * (ratio - 1))

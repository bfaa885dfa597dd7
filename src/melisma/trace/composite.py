"""Many mediators: which of them carry an effect, at a false discovery rate that holds.

A mediator needs two effects: of the exposure on it, and of it on the outcome. Where either is
missing nothing is mediated, so the null is of three kinds: neither, only the first, only the
second. The larger of the two p-values is uniform under none of them, and taken as a p-value (the
max-p rule) it is far too cautious where most mediators have neither (Dai, Stanford & LeBlanc 2020).

How many mediators without the first effect have both p-values below t? Their first p-value is
uniform and knows nothing of the second, so it is t times the number whose second is below t; and
that number is seen among the mediators whose first p-value is large, which hardly any with the
effect are. The same the other way round, less those with neither, who were counted twice. No
distribution of the effects is assumed or fitted. The side whose lone effects are rarer is asked for
less: where many mediators follow the exposure and few the outcome, it is the second p-value that
tells a mediator from the rest. Mediators with an effect and a large p-value make
the estimate too large, never too small; one is added to each count, since a small count may be
small by chance.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.differential.sites import benjamini_hochberg
from melisma.errors import MelismaError

Floats = npt.NDArray[np.float64]
# p-values above this hardly ever belong to an effect.
LARGE = 0.5
# With fewer mediators the null's make-up cannot be seen, and the max-p rule is used.
FEWEST = 100


class CompositeNull(NamedTuple):
    """What holds of each mediator, and of all.

    p_max : (m,), the larger p-value; NaN where one is missing
    q : (m,), the smallest false discovery rate at which a mediator is called; NaN where not tested
    called : (m,), whether q is at most the rate asked for
    none, only_exposure, only_outcome, both : shares of the mediators, estimated; they add up to 1
    tested : mediators with both p-values
    method : "composite null", or "max-p" where fewer than 100 are tested
    """

    p_max: Floats
    q: Floats
    called: npt.NDArray[np.bool_]
    none: float
    only_exposure: float
    only_outcome: float
    both: float
    tested: int
    method: str


def composite_null(
    p_exposure: npt.ArrayLike, p_outcome: npt.ArrayLike, *, q: float = 0.05
) -> CompositeNull:
    """Call mediators that have both effects.

    Parameters
    ----------
    p_exposure : (m,), of the exposure's effect on each mediator
    p_outcome : (m,), of each mediator's effect on the outcome, the exposure held; NaN: not tested
    q : the false discovery rate asked for

    Raises
    ------
    MelismaError
        The two differ in number, a value is no p-value, or q is not between 0 and 1.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> p = rng.uniform(size=(2, 1000))
    >>> p[:, :20] = 1e-6
    >>> found = composite_null(*p)
    >>> int(found.called[:20].sum()), int(found.called[20:].sum()) <= 2
    (20, True)
    """
    first, second = (np.asarray(p, np.float64) for p in (p_exposure, p_outcome))
    if first.ndim != 1 or first.shape != second.shape:
        raise MelismaError(
            f"There are {first.size} p-values of the exposure and {second.size} of the outcome: "
            "give one of each for every mediator."
        )
    if not 0 < q < 1:
        raise MelismaError(f"The false discovery rate {q} must lie between 0 and 1.")
    for name, p in (("exposure", first), ("outcome", second)):
        wrong = np.flatnonzero((p < 0) | (p > 1))
        if len(wrong):
            raise MelismaError(
                f"Mediator {wrong[0]} (counted from 0) has {p[wrong[0]]} as p-value of the {name}."
            )
    told = np.isfinite(first) & np.isfinite(second)
    p_max = np.maximum(first, second)
    values = np.full(len(p_max), np.nan)
    a, b = first[told], second[told]
    few = len(a) < FEWEST
    values[told] = benjamini_hochberg(np.maximum(a, b)) if few else _composite(a, b)
    shares = (np.nan, np.nan, np.nan, np.nan) if few else _shares(a, b)
    method = "max-p" if few else "composite null"
    with np.errstate(invalid="ignore"):
        called = values <= q
    return CompositeNull(p_max, values, called, *shares, int(told.sum()), method)


def _composite(a: Floats, b: Floats) -> Floats:
    """q-values of the larger weighted p-value by the nulls that are expected below each."""
    m = len(a)
    weight = _weight(a, b)
    larger = np.maximum(a / weight, b * weight)
    order = np.argsort(larger, kind="stable")
    t = larger[order]
    below_a, below_b = np.minimum(t * weight, 1.0), np.minimum(t / weight, 1.0)
    # Without the first effect: its bound times those of the second below theirs, and so on.
    without_a = below_a * _below(b[a > LARGE], below_b) / (1 - LARGE)
    without_b = below_b * _below(a[b > LARGE], below_a) / (1 - LARGE)
    neither = below_a * below_b * ((a > LARGE) & (b > LARGE)).sum() / (1 - LARGE) ** 2
    expected = without_a + without_b - neither
    # Never less than if all without an effect on one side had none on the other.
    expected = np.maximum(expected, neither)
    found = np.searchsorted(t, t, side="right")
    rate = np.minimum(expected / found, 1.0)
    values = np.empty(m)
    values[order] = np.minimum.accumulate(rate[::-1])[::-1]
    return values


def _weight(a: Floats, b: Floats) -> float:
    """How much larger than the second the first p-value may be: the square root of how many more
    mediators have only the first effect.

    Only large p-values are looked at, so that no called mediator has a say in it. Both shares are
    raised by two standard errors of their estimate, which leaves 1 where neither can be seen.
    """
    _, first, second, _ = _shares(a, b)
    known = 2 * math.sqrt(LARGE / ((1 - LARGE) * len(a)))
    return float(math.sqrt((max(first, 0.0) + known) / (max(second, 0.0) + known)))


def _below(p: Floats, t: Floats) -> Floats:
    """How many of p are at most each t, and one."""
    return np.searchsorted(np.sort(p), t, side="right").astype(np.float64) + 1


def _shares(a: Floats, b: Floats) -> tuple[float, float, float, float]:
    """Of mediators with neither effect, the first only, the second only, and both."""
    no_first = min(float((a > LARGE).mean()) / (1 - LARGE), 1.0)
    no_second = min(float((b > LARGE).mean()) / (1 - LARGE), 1.0)
    none = float(((a > LARGE) & (b > LARGE)).mean()) / (1 - LARGE) ** 2
    none = min(max(none, no_first + no_second - 1), no_first, no_second)
    return none, no_second - none, no_first - none, 1 - no_first - no_second + none

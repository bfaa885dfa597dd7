"""How well out-of-fold probabilities tell classes, how honest they are, how stable a choice is."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.stats import norm, t

from melisma.markers._logistic import class_basis, log_softmax, softmax

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

_DRAWS = 2000
_BINS = 10
# A slope of recalibration beyond this is that of separated classes, which have none.
_NO_SLOPE = 50.0


class Auc(NamedTuple):
    """The area under the ROC curve and its 95% interval; NaN where no fold holds two classes."""

    value: float
    low: float
    high: float


class Stability(NamedTuple):
    """Nogueira's stability of a choice and its 95% interval: 0 by chance, 1 always the same."""

    value: float
    low: float
    high: float


def pair_tables(
    probability: Floats, fold: Ints, labels: Ints
) -> list[tuple[Ints, Ints, Floats, Floats]]:
    """For each ordered pair of classes: samples a, samples b, concordance and pairs, (a, b).

    Only samples of one fold are compared, as only they were judged by one model; concordance
    sums over repeats, a tie counting one half.
    """
    classes = probability.shape[2]
    tables = []
    for a in range(classes):
        for b in range(classes):
            if a == b or (classes == 2 and a == 0):
                continue
            first, second = np.flatnonzero(labels == a), np.flatnonzero(labels == b)
            right = np.zeros((len(first), len(second)))
            pairs = np.zeros_like(right)
            for p, f in zip(probability[:, :, a], fold, strict=True):
                together = f[first][:, None] == f[second][None, :]
                difference = p[first][:, None] - p[second][None, :]
                right += together * ((difference > 0) + 0.5 * (difference == 0))
                pairs += together
            tables.append((first, second, right, pairs))
    return tables


def auc(probability: Floats, fold: Ints, labels: Ints) -> float:
    """The AUC within folds, over repeats; of several classes, the mean over pairs of classes.

    For two classes the share of pairs in which the higher class has the higher probability; for
    more, Hand & Till's (2001) M.

    Parameters
    ----------
    probability : (repeats, samples, classes)
    fold : (repeats, samples)
    labels : (samples,)
    """
    values = [
        right.sum() / pairs.sum() if pairs.sum() else np.nan
        for _, _, right, pairs in pair_tables(probability, fold, labels)
    ]
    return float(np.mean(values))


def auc_interval(
    probability: Floats, fold: Ints, labels: Ints, blocks: Ints, rng: np.random.Generator
) -> Auc:
    """The AUC with an interval over resampled blocks, the folds' models held as they are.

    Blocks are drawn within those that hold the same classes; the quantiles' distance from the AUC
    is widened as a t interval's is for as few blocks. Where every pair is right the draws
    are all 1; the low end then is Clopper & Pearson's for the class of fewest blocks, all right.
    """
    value = auc(probability, fold, labels)
    tables = pair_tables(probability, fold, labels)
    _, inverse = np.unique(blocks, return_inverse=True)
    weight = _draw_blocks(inverse, labels, rng)  # (draws, blocks)
    drawn = np.zeros(_DRAWS)
    for first, second, right, pairs in tables:
        wa, wb = weight[:, inverse[first]], weight[:, inverse[second]]
        top = ((wa @ right) * wb).sum(axis=1)
        bottom = ((wa @ pairs) * wb).sum(axis=1)
        with np.errstate(invalid="ignore"):
            drawn += top / bottom / len(tables)
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if np.isfinite(drawn).any() else (np.nan,) * 2
    fewest = min(len(np.unique(inverse[labels == k])) for k in np.unique(labels))
    df = int(inverse.max()) + 1 - probability.shape[2]
    widened = t.ppf(0.975, max(df, 1)) / norm.ppf(0.975) * np.sqrt(fewest / max(fewest - 1, 1))
    low, high = np.clip(value + widened * (np.array([low, high]) - value), 0, 1)
    if value in (0.0, 1.0):
        bound = 0.025 ** (1 / fewest)
        low, high = (bound, 1.0) if value == 1.0 else (0.0, 1 - bound)
    return Auc(value, float(low), float(high))


def _draw_blocks(inverse: Ints, labels: Ints, rng: np.random.Generator) -> Floats:
    count = int(inverse.max()) + 1
    kinds: dict[tuple[int, ...], list[int]] = {}
    for block in range(count):
        kinds.setdefault(tuple(np.unique(labels[inverse == block])), []).append(block)
    weight = np.zeros((_DRAWS, count))
    for members in kinds.values():
        share = np.full(len(members), 1 / len(members))
        weight[:, members] = rng.multinomial(len(members), share, size=_DRAWS)
    return weight


def accuracy(probability: Floats, labels: Ints) -> float:
    """Share of samples whose most probable class is theirs, over repeats; ties count in part."""
    top = probability >= probability.max(axis=2, keepdims=True)
    return float((top[:, np.arange(len(labels)), labels] / top.sum(axis=2)).mean())


def brier(probability: Floats, labels: Ints) -> float:
    """Mean squared distance from the truth; of two classes, that of one class (0 to 1)."""
    truth = np.eye(probability.shape[2])[labels]
    return float(((probability - truth) ** 2).sum(axis=2).mean()) / (
        2 if probability.shape[2] == 2 else 1
    )


def expected_calibration_error(probability: Floats, labels: Ints) -> float:
    """Mean distance of the top class's probability from how often it is right, in ten bins."""
    top = probability.max(axis=2).ravel()
    right = (probability.argmax(axis=2) == labels).ravel()
    bins = np.minimum((top * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(bins, weights=right - top, minlength=_BINS)
    return float(np.abs(gap).sum() / len(top))


def recalibration(probability: Floats, labels: Ints) -> tuple[float | None, float | None]:
    """Slope and, of two classes, intercept that would calibrate out-of-fold probabilities.

    1 and 0 are calibrated (Cox 1958); a slope below 1 says that the probabilities are too
    extreme. None: separated classes, or probabilities without differences, have none. The
    intercept is that of the log-odds of the second class, with the slope at 1.
    """
    classes = probability.shape[2]
    logits = np.log(np.clip(probability, 1e-12, 1.0)).reshape(-1, classes)
    truth = np.tile(labels, len(probability))
    basis = class_basis(classes)
    targets = np.eye(classes)[truth]

    def loss(parameters: Floats, slope: float | None) -> tuple[float, Floats]:
        free = parameters[0] if slope is None else slope
        shift = parameters[1:] if slope is None else parameters
        moved = free * logits + basis @ shift
        left = softmax(moved) - targets
        gradient = left.mean(axis=0) @ basis
        if slope is None:
            gradient = np.concatenate([[(left * logits).sum() / len(truth)], gradient])
        return float(-(targets * log_softmax(moved)).sum() / len(truth)), gradient

    slope: float | None = None
    if np.ptp(logits, axis=0).max() > 1e-9:
        begin = np.concatenate([[1.0], np.zeros(classes - 1)])
        found = float(minimize(loss, begin, args=(None,), jac=True, method="BFGS").x[0])
        slope = found if abs(found) < _NO_SLOPE else None
    if classes > 2:
        return slope, None
    moved = minimize(loss, np.zeros(1), args=(1.0,), jac=True, method="BFGS").x
    shift = basis @ moved
    return slope, float(shift[1] - shift[0])


def stability(chosen: tuple[Ints, ...], features: int) -> Stability:
    """How alike the choices of several training sets are, corrected for chance.

    Nogueira, Sechidis & Brown (2018), with their interval. It takes training sets for
    independent; those of cross-validation overlap, so that a new study's would agree less.

    Parameters
    ----------
    chosen : each training set's features
    features : how many there were to choose from
    """
    sets = len(chosen)
    sizes = np.array([len(c) for c in chosen])
    mean = sizes.mean()
    if sets < 2 or not 0 < mean < features:
        return Stability(np.nan, np.nan, np.nan)
    names, inverse = np.unique(np.concatenate(chosen), return_inverse=True)
    share = np.bincount(inverse, minlength=len(names)) / sets
    chance = mean / features * (1 - mean / features)
    spread = sets / (sets - 1) * (share * (1 - share)).sum() / features
    value = 1 - spread / chance
    at = np.split(share[inverse], np.cumsum(sizes)[:-1])
    agreement = np.array([own.sum() for own in at]) / features
    each = (
        agreement
        - sizes * mean / features**2
        + value / 2 * (2 * mean * sizes / features**2 - sizes / features - mean / features + 1)
    ) / chance
    error = np.sqrt(4 / sets**2 * ((each - each.mean()) ** 2).sum())
    return Stability(
        float(value), float(value - 1.96 * error), float(min(value + 1.96 * error, 1.0))
    )

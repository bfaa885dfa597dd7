"""What a model must beat: base composition, positional words, and the mean profile.

Each is fitted on the training part, one for every environment, as a tool without environments
would be used; penalties are chosen on validation.
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from melisma.errors import MelismaError
from melisma.sequence._linear_kernels import count_words, logits, spread, word_columns
from melisma.sequence.encodings import Codes

Floats = npt.NDArray[np.floating[Any]]

LONGEST_WORD = 3
# Wider windows have counts of words, and positions in their middle only.
_POSITIONAL = 64
_MIDDLE = 21
_COUNTED_WORD = 4
_PENALTIES = (1.0, 10.0, 100.0)
_STEPS = 60
# Reads beyond this say little more about a level that sequence could explain.
_MOST_READS = 20.0
# Examples' worth of the mean that a rare profile is drawn to.
_PRIOR = 20.0


class Baseline(Protocol):
    """A fitted baseline."""

    def predict(self, codes: Codes) -> Floats:
        """The level in windows, (n,)."""
        ...


@dataclass(frozen=True)
class _Linear:
    """weight: one a column, the intercept last; kind: which features."""

    weight: Floats
    kind: str

    def predict(self, codes: Codes) -> Floats:
        return _sigmoid(_logit(_features(self.kind, codes), self.weight))


@dataclass(frozen=True)
class _Profile:
    """level: by the two bases on either side of the centre, (5 ** 4,)."""

    level: Floats

    def predict(self, codes: Codes) -> Floats:
        return self.level[_profile(codes)]


def fit_composition(codes: Codes, methylated: Floats, coverage: Floats) -> Baseline:
    """Logistic regression on GC content, its square, and CpG density.

    Parameters
    ----------
    codes : uint8 (n, width); methylated, coverage : (n,) reads, a label is one read
    """
    _require(codes, coverage)
    return _Linear(_fitted(_composition(codes), methylated, coverage, 1.0), "composition")


def fit_words(
    codes: Codes,
    methylated: Floats,
    coverage: Floats,
    validation: tuple[Codes, Floats, Floats] | None = None,
) -> Baseline:
    """Logistic regression on words, L2 penalised.

    Windows of up to 64 bases have words of 1 to 3 at every position; wider ones have counts of
    words of 1 to 4, wherever they are, and the single bases at the middle 21 positions.

    Parameters
    ----------
    codes, methylated, coverage : of training
    validation : the same three of validation, by which the penalty is chosen; None takes 10
    """
    _require(codes, coverage)
    columns = _words(codes)
    if validation is None or not len(validation[0]):
        return _Linear(_fitted(columns, methylated, coverage, _PENALTIES[1]), "words")
    best: tuple[float, Floats] | None = None
    features = _words(validation[0])
    start = None
    for penalty in sorted(_PENALTIES, reverse=True):
        start = _fitted(columns, methylated, coverage, penalty, start)
        cost = _deviance(_logit(features, start), *_weighted(*validation[1:]))
        if best is None or cost < best[0]:
            best = cost, start.copy()
    assert best is not None
    return _Linear(best[1], "words")


def fit_profile(codes: Codes, methylated: Floats, coverage: Floats) -> Baseline:
    """The mean level by the two bases on either side of the centre, rare ones drawn to the mean."""
    _require(codes, coverage)
    share, weight = _weighted(methylated, coverage)
    at = _profile(codes)
    total = np.bincount(at, weight, minlength=5**4)
    marked = np.bincount(at, weight * share, minlength=5**4)
    mean = float((weight * share).sum() / weight.sum())
    return _Profile((marked + _PRIOR * mean) / (total + _PRIOR))


def _require(codes: Codes, coverage: Floats) -> None:
    if not len(codes) or not (np.asarray(coverage) > 0).any():
        raise MelismaError("A baseline needs training examples, and there are none.")


def _weighted(methylated: Floats, coverage: Floats) -> tuple[Floats, Floats]:
    """Share of marked reads and its weight, (n,)."""
    coverage = np.asarray(coverage, float)
    share = np.asarray(methylated, float) / np.maximum(coverage, 1e-12)
    return share, np.minimum(coverage, _MOST_READS)


def _words(codes: Codes) -> npt.NDArray[Any]:
    """Active columns, int32 (n, columns), or of wide windows a dense float32 matrix."""
    width = codes.shape[1]
    if width > _POSITIONAL:
        return _counts(codes)
    columns = np.empty((len(codes), LONGEST_WORD * width), np.int32)
    word_columns(np.ascontiguousarray(codes), LONGEST_WORD, columns)
    return columns


def _counts(codes: Codes) -> npt.NDArray[np.float32]:
    """Square roots of counts of words, which evens their variances, and the middle's bases."""
    start = codes.shape[1] // 2 - _MIDDLE // 2
    middle = codes[:, start : start + _MIDDLE]
    bases = (middle[:, :, None] == np.arange(4)).reshape(len(codes), -1)
    counts = np.zeros((len(codes), sum(4**k for k in range(1, _COUNTED_WORD + 1))), np.float32)
    count_words(np.ascontiguousarray(codes), _COUNTED_WORD, counts)
    return np.concatenate([np.sqrt(counts), bases.astype(np.float32)], axis=1)


def _composition(codes: Codes) -> Floats:
    """GC content, its square and CpG density around their middles, (n, 3)."""
    known = np.maximum((codes < 4).sum(axis=1), 1)
    gc = ((codes == 1) | (codes == 2)).sum(axis=1) / known - 0.5
    cpg = ((codes[:, :-1] == 1) & (codes[:, 1:] == 2)).sum(axis=1) / known
    return np.stack([5.0 * gc, 25.0 * gc * gc, 20.0 * cpg], axis=1)


def _profile(codes: Codes) -> npt.NDArray[np.int64]:
    centre = codes.shape[1] // 2
    found = np.zeros(len(codes), np.int64)
    for offset in (-2, -1, 1, 2):
        at = centre + offset
        base = codes[:, at].astype(np.int64) if 0 <= at < codes.shape[1] else 4
        found = 5 * found + base
    return found


def _features(kind: str, codes: Codes) -> npt.NDArray[Any]:
    return _words(codes) if kind == "words" else _composition(codes)


def _logit(features: npt.NDArray[Any], weight: Floats) -> Floats:
    """Log odds; integer features are columns, others a dense matrix."""
    if features.dtype == np.int32:
        out = np.empty(len(features))
        logits(features, weight, out)
        return out
    return features @ weight[:-1] + weight[-1]


def _fitted(
    features: npt.NDArray[Any], methylated: Floats, coverage: Floats, penalty: float,
    start: Floats | None = None,
) -> Floats:  # fmt: skip
    """Weights by L-BFGS, the intercept last."""
    share, weight = _weighted(methylated, coverage)
    sparse = features.dtype == np.int32
    size = int(features.max()) + 2 if sparse else features.shape[1] + 1
    if sparse:
        width = features.shape[1] // LONGEST_WORD
        size = sum(4**k * (width - k + 1) for k in range(1, LONGEST_WORD + 1)) + 1
    if start is None:
        start = np.zeros(size)
        mean = np.clip(float((weight * share).sum() / weight.sum()), 1e-6, 1 - 1e-6)
        start[-1] = np.log(mean / (1 - mean))

    def cost(w: Floats) -> tuple[float, Floats]:
        z = _logit(features, w)
        error = weight * (_sigmoid(z) - share)
        gradient = np.zeros(size)
        if sparse:
            spread(features, error, gradient)
        else:
            gradient[:-1] = error @ features
            gradient[-1] = error.sum()
        gradient[:-1] += penalty * w[:-1]
        value = float((weight * (np.logaddexp(0, z) - share * z)).sum())
        return value + 0.5 * penalty * float(w[:-1] @ w[:-1]), gradient

    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return found.x


def _deviance(z: Floats, share: Floats, weight: Floats) -> float:
    return float((weight * (np.logaddexp(0, z) - share * z)).sum() / weight.sum())


def _sigmoid(z: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))

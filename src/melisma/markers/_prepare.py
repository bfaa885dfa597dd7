"""What a training set, and it alone, says about the features: priors, standards, candidates.

Counts become levels shrunk towards the feature's mean by a beta prior, x = (M + k m) / (N + k),
so that few reads say little and none say the mean. The prior's strength k = (1 - rho) / rho comes
from the correlation rho of a sample's reads beyond its mean, by a ratio of sums over features,
and a feature's own sums count as much as one average feature's. Levels of arrays are taken as
they are; a missing one is the mean.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.markers._features import Features
from melisma.markers._kernels import count_moments, count_sums, level_moments, level_seen

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

# Features that go on from the screen to the path.
CANDIDATES = 1000
# A feature is usable where at least this share of the training samples sees it.
_SEEN = 0.5
# Reads of the rarer state, a sample, from which a feature teaches the common correlation.
_TEACHING = 1.0
_RHO = (1e-3, 0.9)
# This quantile of the features' standard deviations is added to each (in squares): a feature that
# hardly varies is not worth a panel's place, however well its last digits go with the class.
_FLOOR = 0.25


@dataclass(frozen=True)
class Prepared:
    """Candidates of a training set, best first by their score alone; all arrays (candidates,).

    prior, strength : the beta prior's mean and reads; strength 0 for levels without counts
    mean, scale : of the shrunk levels, to standardise with
    usable : features of which the candidates are the best
    """

    index: Ints
    prior: Floats
    strength: Floats
    mean: Floats
    scale: Floats
    usable: int

    def standardised(self, features: Features, rows: Ints, chosen: Ints | None = None) -> Floats:
        """Standardised levels of some candidates (default all), float64 (rows, candidates)."""
        at = np.arange(len(self.index)) if chosen is None else np.asarray(chosen)
        level = self.levels(features, rows, at)
        return (level - self.mean[at]) / self.scale[at]

    def levels(self, features: Features, rows: Ints, at: Ints) -> Floats:
        """Shrunk levels of candidates, float64 (rows, candidates)."""
        where = np.ix_(self.index[at], rows)
        if features.beta is not None:
            beta = features.beta[where].T.astype(np.float64)
            return np.where(np.isnan(beta), self.prior[at], beta)
        assert features.methylated is not None
        assert features.coverage is not None
        return shrunk(
            features.methylated[where].T, features.coverage[where].T, self.prior[at],
            self.strength[at],
        )  # fmt: skip


def shrunk(methylated: Ints, coverage: Ints, prior: Floats, strength: Floats) -> Floats:
    """Posterior mean levels under a beta prior; counts (samples, features), prior (features,).

    >>> shrunk(np.array([[10, 0]]), np.array([[10, 0]]), np.array([0.5, 0.2]), np.array([10, 10]))
    array([[0.75, 0.2 ]])
    """
    return (methylated + strength * prior) / (coverage + strength)


def prepare(
    features: Features, rows: Ints, labels: Ints, classes: int, most: int = CANDIDATES
) -> Prepared:
    """Learn priors, standards and candidates from training samples.

    Parameters
    ----------
    rows : columns of the training samples
    labels : their classes, 0 to classes - 1
    """
    if features.beta is not None:
        seen = level_seen(features.beta, rows)
        moments = level_moments(features.beta, rows, labels, classes)
        strength = np.zeros(len(seen))
    else:
        assert features.methylated is not None
        assert features.coverage is not None
        sums = count_sums(features.methylated, features.coverage, rows)
        seen = sums.seen
        strength = _strengths(sums.surplus, sums.excess, sums.minor >= _TEACHING * len(rows))
        moments = count_moments(
            features.methylated, features.coverage, strength, rows, labels, classes
        )
    usable = (seen >= _SEEN * len(rows)) & (moments.variance > 1e-12)
    if not usable.any():
        empty = np.zeros(0)
        return Prepared(np.zeros(0, np.int64), empty, empty, empty, empty, 0)
    floor = np.quantile(np.sqrt(moments.variance[usable]), _FLOOR) ** 2
    scale = np.sqrt(moments.variance + floor)
    share = np.bincount(labels, minlength=classes) / len(labels)
    score = np.where(
        usable, (moments.sums**2 / share).sum(axis=1) / np.maximum(scale, 1e-12) ** 2, -1.0
    )
    index = np.argsort(-score, kind="stable")[: min(most, int(usable.sum()))]
    return Prepared(
        index, moments.prior[index], strength[index], moments.mean[index], scale[index],
        int(usable.sum()),
    )  # fmt: skip


def _strengths(surplus: Floats, excess: Floats, teaching: npt.NDArray[np.bool_]) -> Floats:
    """Reads that each feature's prior is worth, (features,)."""
    told = excess > 0
    teaching = teaching & told if (teaching & told).any() else told
    if not teaching.any():
        return np.full(len(excess), (1 - _RHO[0]) / _RHO[0])
    typical = excess[teaching].mean()
    common = max(surplus[teaching].sum() / excess[teaching].sum(), 0.0)
    rho = np.clip((surplus + common * typical) / (excess + typical), *_RHO)
    return (1 - rho) / rho

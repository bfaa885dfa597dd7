"""How much more likely one person explains two samples than two people do.

For every site and two samples with likelihoods L(g), L'(g) of their reads given g copies, and
Hardy-Weinberg shares p(g), three ratios to "unrelated" follow:

    same person     sum_g p(g) L(g) L'(g) / (P P')         with P = sum_g p(g) L(g)
    parent, child   sum_gh p(g) T(g, h) L(g) L'(h) / (P P')
    full siblings   1/4 same + 1/2 parent + 1/4

Each enters with the site's probability w of being genotype-like, as 1 - w + w ratio, and a cell
without reads has ratio 1. The score is the log of same over 0.99 unrelated + 0.005 parent +
0.005 siblings, so close relatives are not taken for one person where the sites can tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from melisma.quality._candidates import GenotypeSites, dosage, squared_correlation
from melisma.quality._pair_kernels import level_gaps
from melisma.quality._relations import compare, in_threads
from melisma.quality._walk import Floats

# How many of the pairs of different people are first-degree relatives of each kind.
PARENTS = SIBLINGS = 0.005
PROBABILITY = 0.95
# Every two of so many sites are compared: the best ones.
_MOST_COMPARED = 400


def pair_scores(sites: GenotypeSites) -> Floats:
    """Log ratio of "same person" to "two people" for every two samples, (samples, samples).

    The diagonal is the score a sample would have with a copy of itself: what its reads can show.
    """
    return same_scores(compare(sites.likelihood, sites.frequency, sites.weight).ratios)


def same_scores(ratios: Floats) -> Floats:
    """The score from the relations' log ratios, (..., relations) to (...)."""
    others = np.logaddexp(np.log(PARENTS) + ratios[..., 1], np.log(SIBLINGS) + ratios[..., 2])
    others = np.logaddexp(others, np.log1p(-PARENTS - SIBLINGS))
    return ratios[..., 0] - others


def score_threshold(scores: Floats) -> float:
    """The score from which one person is at least 95% probable.

    The share of same-person pairs is learned from the scores by expectation-maximisation and is
    at least one pair, so among unrelated people all pairs together give a false one in about
    one study in twenty.

    Parameters
    ----------
    scores : (pairs,)
    """
    least = 1 / max(len(scores), 2)
    share = least
    for _ in range(200):
        found = 1 / (1 + np.exp(-np.clip(scores + np.log(share / (1 - share)), -500, 500)))
        share = float(np.clip(found.mean(), least, 0.5))
    return float(np.log((1 - share) / share) + np.log(PROBABILITY / (1 - PROBABILITY)))


@dataclass(frozen=True)
class Grouping:
    """Samples put together by person.

    people : (samples,), 0-based in order of first appearance
    conflicts : pairs of samples that each match a third one but not each other
    """

    people: tuple[int, ...]
    conflicts: tuple[tuple[int, int], ...]


def group_people(scores: Floats, threshold: float) -> Grouping:
    """Put samples together so that within a person no pair speaks against it.

    Pairs above the threshold are joined, best first; a join that would put two samples with a
    score below 0 into one person is refused and reported.

    >>> matrix = np.array([[9.0, 8, -5], [8, 9, -6], [-5, -6, 9]])
    >>> group_people(matrix, 5).people
    (0, 0, 1)
    """
    n = len(scores)
    group = np.arange(n)
    conflicts: list[tuple[int, int]] = []
    first, second = np.triu_indices(n, 1)
    strong = np.flatnonzero(scores[first, second] >= threshold)
    for k in strong[np.argsort(-scores[first[strong], second[strong]], kind="stable")]:
        a, b = group[first[k]], group[second[k]]
        if a == b:
            continue
        across = scores[np.ix_(group == a, group == b)]
        if across.min() < 0:
            conflicts.append((int(first[k]), int(second[k])))
        else:
            group[group == b] = a
    return Grouping(_renumbered(group.tolist()), tuple(conflicts))


def _renumbered(labels: Sequence[int]) -> tuple[int, ...]:
    order = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return tuple(order[label] for label in labels)


def level_distance(level: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Mean absolute difference of levels at the sites, and how many sites both samples see.

    Parameters
    ----------
    level : (sites, samples), NaN where too few reads

    Returns
    -------
    distance : (samples, samples), NaN where no site is shared
    comparisons : (samples, samples)
    """
    n = level.shape[1]
    total, comparisons = np.zeros((n, n)), np.zeros((n, n), dtype=np.int64)
    by_sample = np.ascontiguousarray(level.T, dtype=np.float64)
    in_threads(level_gaps, by_sample, outputs=(total, comparisons))
    distance = np.divide(total, comparisons, out=np.full_like(total, np.nan), where=comparisons > 0)
    np.fill_diagonal(distance, 0.0)
    return distance, comparisons


def shared_movement(sites: GenotypeSites, people: Sequence[int]) -> tuple[float, float]:
    """Whether the sites move together more than independent variants in these people would.

    Returns
    -------
    observed : mean squared correlation of two sites' dosages, those of each person's first
        sample standing for all of that person's; two sites within 1 Mb are left out where
        others remain
    expected : the same after each site's dosages are dealt anew among the people
    """
    person = np.asarray(people)
    sites = sites.best(_MOST_COMPARED)
    first = np.unique(person, return_index=True)[1]
    dosages = dosage(sites.likelihood)
    owners = dosages[:, first]
    dealt = np.random.default_rng(0).permuted(owners, axis=1)[:, person]
    i, j = np.triu_indices(len(dosages), 1)
    near = sites.contig[i] == sites.contig[j]
    near &= np.abs(sites.position[i] - sites.position[j]) < 1_000_000
    used = ~near if (~near).any() else near
    observed, expected = (
        float(squared_correlation(values)[i, j][used].mean())
        for values in (owners[:, person], dealt)
    )
    return observed, expected

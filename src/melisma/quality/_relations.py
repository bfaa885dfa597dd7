"""How two samples are related: one person, parent and child, siblings, second degree, or not.

Every relation is three shares k0, k1, k2: of the genome where two people have none, one or both
alleles from one ancestor. Sites are thinned but not independent, and populations differ, so the
log likelihoods are divided by how much wider the scores of the bulk of pairs are spread than
independent sites would spread them. How common each relation is, is learned from all pairs.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.quality._genotypes import hardy_weinberg, log_sum, transmission
from melisma.quality._pair_kernels import kinships, relation_logs
from melisma.quality._walk import Floats

SAME, PARENT, SIBLINGS, SECOND, UNRELATED = (
    "same person or identical twin",
    "parent and child",
    "full siblings",
    "second degree",
    "unrelated",
)
UNTOLD = "cannot be told"
# k0, k1, k2; cousins are there so that they are not called second degree, and count as unrelated.
RELATIONS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    (SAME, (0.0, 0.0, 1.0)),
    (PARENT, (0.0, 1.0, 0.0)),
    (SIBLINGS, (0.25, 0.5, 0.25)),
    (SECOND, (0.5, 0.5, 0.0)),
    ("third degree", (0.75, 0.25, 0.0)),
)
KINDS = np.array([shares for _, shares in RELATIONS])
NAMES = (SAME, PARENT, SIBLINGS, SECOND, UNRELATED)
PROBABILITY = 0.95
# Kinship uses so many sites at most: its interval is then about .02 wide.
_MOST_KINSHIP_SITES = 2000
# Half the 95% point of chi-square with one degree of freedom.
_DROP = 1.92
_FEWEST_BULK = 30
_FAR = -40.0


@dataclass(frozen=True)
class Logs:
    """Log ratios to "unrelated", (samples, samples, relations), and the pairs' spread.

    moments : (samples, samples, 2), sums of w (R1 - 1) and of its square
    """

    ratios: Floats
    moments: Floats


def in_threads(
    kernel: Callable[..., None], *values: Any, outputs: Sequence[npt.NDArray[Any]]
) -> None:
    """Run a kernel that takes (values, start, step, outputs) with interleaved rows in threads."""
    step = max(1, min(os.cpu_count() or 1, 8))
    with ThreadPoolExecutor(step) as pool:
        for done in [pool.submit(kernel, *values, k, step, *outputs) for k in range(step)]:
            done.result()


def compare(likelihood: Floats, frequency: Floats, weight: Floats) -> Logs:
    """The relations' log ratios for every two samples.

    Parameters
    ----------
    likelihood : (sites, samples, 3)
    frequency : (sites,), or (sites, samples) where people come from several populations
    weight : (sites,)
    """
    n = likelihood.shape[1]
    ratios, moments = np.zeros((n, n, len(KINDS))), np.zeros((n, n, 2))
    in_threads(
        relation_logs, *_by_sample(likelihood, frequency, weight), KINDS, outputs=(ratios, moments)
    )
    return Logs(ratios, moments)


def _by_sample(
    likelihood: Floats, frequency: Floats, weight: Floats
) -> tuple[Floats, Floats, Floats]:
    n_samples = likelihood.shape[1]
    spread = frequency[:, None] if frequency.ndim == 1 else frequency
    shape = (len(frequency), n_samples)
    own = np.ascontiguousarray(np.broadcast_to(spread, shape).T, dtype=np.float64)
    return np.ascontiguousarray(likelihood.transpose(1, 0, 2)), own, np.asarray(weight, np.float64)


def widening(logs: Logs) -> float:
    """How much wider the bulk of pairs is spread than independent sites would have it, from 1.

    The square of 1.4826 times the median absolute deviation of the pairs' standardised scores, as
    genomic control does (Devlin & Roeder 1999); relatives are too few to move it.
    """
    upper = np.triu_indices(len(logs.ratios), 1)
    score, square = (logs.moments[..., k][upper] for k in (0, 1))
    z = score[square > 0] / np.sqrt(square[square > 0])
    if len(z) < _FEWEST_BULK:
        return 1.0
    return float(max(1.0, (1.4826 * np.median(np.abs(z - np.median(z)))) ** 2))


def posteriors(ratios: Floats) -> Floats:
    """Probability of each of `NAMES`, (pairs, 5), shares of the relations learned from the pairs.

    Parameters
    ----------
    ratios : (pairs, relations), log ratios to "unrelated", already widened
    """
    n_pairs = len(ratios)
    # Pairs far from any relation are unrelated whatever the shares, and are counted at once.
    near = ratios.max(1, initial=-np.inf) > _FAR
    logs = np.concatenate([ratios[near], np.zeros((near.sum(), 1))], axis=1)
    likelihood = np.exp(logs - logs.max(1, keepdims=True))
    others = np.array([0.0, 0, 0, 0, 0, n_pairs - near.sum()])
    # One imagined pair of each kind; a relation in no pair ends as one pair among all.
    share = np.array([1.0, 1, 1, 1, 1, max(n_pairs, 5)])
    share /= share.sum()
    for _ in range(100):
        weighted = likelihood * share
        weighted /= weighted.sum(1, keepdims=True)
        before, share = share, (weighted.sum(0) + others + 1) / (n_pairs + len(share))
        if np.abs(share - before).max() < 1e-9:
            break
    weighted = likelihood * share
    weighted /= weighted.sum(1, keepdims=True)
    found = np.zeros((n_pairs, len(NAMES)))
    found[:, -1] = 1.0
    found[near] = np.column_stack([weighted[:, :4], weighted[:, 4] + weighted[:, 5]])
    return found


def told(ratios: Floats, posterior: Floats) -> tuple[npt.NDArray[np.int8], Floats]:
    """The relation of each pair, an index into `NAMES`, and its probability; -1 below .95.

    The reads themselves must speak for it: the probability must also reach .95 if all five are
    as common, so that "unrelated" is not said of pairs with hardly a site.
    """
    plain = np.column_stack([ratios[:, :4], np.zeros(len(ratios))])
    even = np.exp(plain - log_sum(plain)[:, None])
    best = posterior.argmax(1)
    rows = np.arange(len(best))
    sure = (posterior[rows, best] >= PROBABILITY) & (even[rows, best] >= PROBABILITY)
    return np.where(sure, best, -1).astype(np.int8), posterior[rows, best]


def kinship_intervals(
    likelihood: Floats,
    frequency: Floats,
    weight: Floats,
    pairs: npt.NDArray[np.int64],
    widened: float,
) -> Floats:
    """Maximum-likelihood kinship of listed pairs with a 95% interval, (pairs, 3).

    Parameters
    ----------
    likelihood, frequency, weight : as in `compare`
    pairs : (pairs, 2), samples
    widened : from `widening`
    """
    used = slice(0, _MOST_KINSHIP_SITES)
    out = np.zeros((len(pairs), 3))
    values = _by_sample(likelihood[used], frequency[used], weight[used])
    first, second = (np.ascontiguousarray(pairs[:, k]) for k in (0, 1))
    in_threads(kinships, *values, first, second, _DROP * widened, outputs=(out,))
    return out


def _pair_chances(frequency: Floats) -> Floats:
    """Probability of two people's genotypes under each of `NAMES`, (sites, 9, 5)."""
    shares = hardy_weinberg(frequency)
    none = shares[:, :, None] * shares[:, None, :]
    one = shares[:, :, None] * transmission(frequency)
    both = shares[:, :, None] * np.eye(3)
    kinds = np.concatenate([KINDS[:4], [[1.0, 0, 0]]])
    tables = [k0 * none + k1 * one + k2 * both for k0, k1, k2 in kinds]
    return np.stack([t.reshape(len(frequency), 9) for t in tables], axis=-1)


def separable(frequency: Floats, weight: Floats, information: float) -> list[tuple[str, str]]:
    """The pairs of relations that sites like these tell apart, on average beyond 19 to 1.

    Parameters
    ----------
    frequency, weight : (sites,)
    information : share of a perfect genotype's information that the reads carry, 0 to 1
    """
    chances = _pair_chances(frequency)
    w = weight[:, None, None]
    ratio = chances / np.maximum(chances[..., 4:5], 1e-300)
    # Never quite 0: misread genotypes exclude no relation.
    logs = np.log(np.maximum(1 + w * (ratio - 1), 1e-3))  # (sites, 9, 5)
    found = []
    for a, b in ((0, 1), (0, 2), (1, 2), (2, 3), (1, 3), (3, 4)):
        ways = []
        for x, y in ((a, b), (b, a)):
            truth = w[..., 0] * chances[..., x] + (1 - w[..., 0]) * chances[..., 4]
            ways.append((truth * (logs[..., x] - logs[..., y])).sum())
        if information * min(ways) >= 2 * np.log(PROBABILITY / (1 - PROBABILITY)):
            found.append((NAMES[a], NAMES[b]))
    return found

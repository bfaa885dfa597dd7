"""Allele frequencies from the samples themselves, one member a family, by population.

Frequencies that count a person three times make that person's alleles look common and his samples
look unrelated; frequencies of two populations taken together make people of one population look
related. So one sample stands for each family, and where those samples fall into populations, each
sample gets frequencies of its own, from its place on the components (Conomos et al. 2016).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from melisma.quality._genotypes import hardy_weinberg
from melisma.quality._walk import Floats

_ROUNDS = 30
# One imagined intact and one lost allele keep a frequency away from 0 and 1.
_IMAGINED = 1.0
# Components are looked for from so many unrelated people, at most so many.
_FEWEST_PEOPLE = 12
_MOST_COMPONENTS = 4
# A component counts if its variance is so many times what independent sites reach, and more than
# a few second-degree relatives give it.
_BEYOND_NOISE, _LEAST_VARIANCE = 1.25, 1.6
_RARE = 0.02


def founders(related: npt.NDArray[np.bool_], information: Floats) -> npt.NDArray[np.int64]:
    """Samples of which no two are related, as many as a greedy choice finds.

    Those with fewest relatives come first (a trio gives both parents), then the best read.

    >>> chain = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    >>> founders(chain, np.array([1.0, 1.0, 1.0])).tolist()
    [0, 2]
    """
    free = np.ones(len(related), dtype=bool)
    chosen: list[int] = []
    for i in np.lexsort((-information, related.sum(1))):
        if free[i]:
            chosen.append(int(i))
            free &= ~related[i]
            free[i] = False
    return np.array(sorted(chosen), dtype=np.int64)


def allele_frequencies(likelihood: Floats, start: Floats) -> Floats:
    """Maximum-likelihood frequency of each site's intact allele, (sites,), slightly drawn to 1/2.

    Parameters
    ----------
    likelihood : (sites, people, 3)
    start : (sites,)
    """
    frequency = np.asarray(start, dtype=float)
    for _ in range(_ROUNDS):
        copies = expected_copies(likelihood, frequency).sum(1)
        frequency = (copies + _IMAGINED) / (2 * likelihood.shape[1] + 2 * _IMAGINED)
    return frequency


def expected_copies(likelihood: Floats, frequency: Floats) -> Floats:
    """Expected number of intact copies, (sites, people), under Hardy-Weinberg proportions."""
    shares = hardy_weinberg(frequency)
    shares = shares[:, None, :] if frequency.ndim == 1 else shares
    posterior = likelihood * shares
    return posterior @ np.array([0.0, 1.0, 2.0]) / posterior.sum(2)


def own_frequencies(
    likelihood: Floats, frequency: Floats, members: Sequence[int] | npt.NDArray[np.int64]
) -> Floats:
    """Frequencies for each sample, (sites, samples); (sites,) where there is one population.

    Parameters
    ----------
    likelihood : (sites, samples, 3)
    frequency : (sites,)
    members : samples of which no two are related
    """
    n_sites, n_people = len(frequency), len(members)
    if n_people < _FEWEST_PEOPLE or n_sites < _FEWEST_PEOPLE:
        return frequency
    copies = expected_copies(likelihood, frequency)
    centred = copies - 2 * frequency[:, None]
    spread = centred[:, members].std(1, keepdims=True)
    unit = centred / np.where(spread > 1e-9, spread, np.inf)
    values, vectors = np.linalg.eigh(unit[:, members].T @ unit[:, members] / n_sites)
    noise = (1 + np.sqrt(n_people / n_sites)) ** 2
    kept = values[::-1][:_MOST_COMPONENTS] > max(_BEYOND_NOISE * noise, _LEAST_VARIANCE)
    n_kept = int(kept.argmin()) if not kept.all() else len(kept)
    if not n_kept:
        return frequency
    axes, variance = vectors[:, ::-1][:, :n_kept], values[::-1][:n_kept]
    # Each sample's place, relatives included, from how alike it is to the members.
    places = (unit.T @ unit[:, members] / n_sites) @ axes / np.sqrt(variance)
    # A member's likeness to itself is not a population's.
    own = (unit[:, members] ** 2).mean(0)[:, None] - noise
    places[members] -= np.maximum(own, 0) * axes / np.sqrt(variance)
    base = np.column_stack([np.ones(n_people), places[members]])
    slopes = np.linalg.lstsq(base, copies[:, members].T / 2, rcond=None)[0]
    fitted = (np.column_stack([np.ones(len(places)), places]) @ slopes).T
    return np.clip(fitted, _RARE, 1 - _RARE)

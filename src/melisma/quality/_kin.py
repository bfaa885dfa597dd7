"""Everything the pairs of samples say: scores, relations, kinship, in two rounds.

The first round takes the frequencies that came with the sites. Its close relatives are set aside,
the frequencies are estimated anew from one member a family, and everything is compared again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.quality._candidates import GenotypeSites
from melisma.quality._copies import Copy
from melisma.quality._genotypes import hardy_weinberg
from melisma.quality._pairs import same_scores
from melisma.quality._population import allele_frequencies, founders, own_frequencies
from melisma.quality._relations import (
    NAMES,
    SAME,
    UNRELATED,
    UNTOLD,
    Logs,
    compare,
    kinship_intervals,
    posteriors,
    separable,
    told,
    widening,
)
from melisma.quality._walk import Floats

# With more samples than this only related pairs and each sample's nearest are listed.
MOST_LISTED = 60
# A pair that may be related is listed too.
_MAYBE = 0.5
_CLOSE = 0.5


@dataclass(frozen=True)
class Kin:
    """What the sites say of every two samples.

    frequency : (sites,), or (sites, samples) where people come from several populations
    scores : (samples, samples), "one person" to "two people", see `pair_scores`
    relation : (samples, samples), index into `NAMES`, -1 where it cannot be told
    posterior : (samples, samples, relations), of `NAMES`
    widened : from `widening`
    separable : the pairs of relations that these sites tell apart
    """

    frequency: Floats
    scores: Floats
    relation: npt.NDArray[np.int8]
    posterior: Floats
    widened: float
    separable: tuple[tuple[str, str], ...]

    def named(self, a: int, b: int) -> str:
        """The relation of two samples in words."""
        k = int(self.relation[a, b])
        return UNTOLD if k < 0 else NAMES[k]


def find_kin(sites: GenotypeSites) -> Kin:
    """Compare every two samples, frequencies estimated from one member a family."""
    logs = compare(sites.likelihood, sites.frequency, sites.weight)
    widened = widening(logs)
    # Populations hide relatives behind wide scores, but look like none of first degree themselves.
    posterior, _ = _pairs(logs, 1.0)
    close = posterior[..., :3].sum(2) > _CLOSE
    np.fill_diagonal(close, False)
    members = founders(close, np.diag(logs.ratios[..., 0]))
    frequency = sites.frequency
    if len(members) > 1:
        frequency = allele_frequencies(sites.likelihood[:, members], sites.frequency)
        frequency = own_frequencies(sites.likelihood, frequency, members)
        logs = compare(sites.likelihood, frequency, sites.weight)
        widened = widening(logs)
    posterior, relation = _pairs(logs, widened)
    common = frequency.mean(1) if frequency.ndim == 2 else frequency
    return Kin(
        frequency=frequency,
        scores=same_scores(logs.ratios),
        relation=relation,
        posterior=posterior,
        widened=widened,
        separable=tuple(separable(common, sites.weight, _information(logs, sites) / widened)),
    )


def _pairs(logs: Logs, widened: float) -> tuple[Floats, npt.NDArray[np.int8]]:
    """Posteriors (samples, samples, relations) and relations (samples, samples)."""
    n = len(logs.ratios)
    upper = np.triu_indices(n, 1)
    ratios = logs.ratios[upper] / widened
    found = posteriors(ratios)
    names, _ = told(ratios, found)
    posterior, relation = np.zeros((n, n, len(NAMES))), np.zeros((n, n), dtype=np.int8)
    posterior[upper] = posterior[upper[::-1]] = found
    relation[upper] = relation[upper[::-1]] = names
    return posterior, relation


def _information(logs: Logs, sites: GenotypeSites) -> float:
    """Share of a perfect genotype's information that the reads carry, the median sample's."""
    shares = hardy_weinberg(sites.frequency)
    w = sites.weight[:, None]
    perfect = (shares * np.log1p(w * (1 / shares - 1))).sum()
    return float(np.clip(np.median(np.diag(logs.ratios[..., 0])) / max(perfect, 1e-9), 0, 1))


def pair_table(
    kin: Kin,
    sites: GenotypeSites,
    samples: Sequence[str],
    distance: Floats,
    comparisons: npt.NDArray[np.int64],
    people: Sequence[int],
    copies: Sequence[Copy],
) -> pl.DataFrame:
    """The pairs, best score first; of many samples those that may be related and the nearest."""
    pairs = _listed(kin, people, copies)
    first, second = pairs.T
    columns: dict[str, Any] = {
        "sample_a": [samples[i] for i in first],
        "sample_b": [samples[i] for i in second],
        "distance": distance[first, second],
        "sites": comparisons[first, second],
        "score": kin.scores[first, second],
        "same_person": [people[a] == people[b] if people else None for a, b in pairs],
        **_relation_columns(kin, sites, pairs, people),
        "copy": _copy_column(pairs, copies),
    }
    text = dict.fromkeys(("sample_a", "sample_b", "relation", "copy"), pl.String)
    numbers = dict.fromkeys(("kinship", "kinship_low", "kinship_high", "posterior"), pl.Float64)
    return (
        pl.DataFrame(columns, schema_overrides={**text, **numbers, "same_person": pl.Boolean})
        .with_columns(pl.col("distance").fill_nan(None))
        .sort("score", descending=True, maintain_order=True)
    )


def _listed(kin: Kin, people: Sequence[int], copies: Sequence[Copy]) -> npt.NDArray[np.int64]:
    """Which pairs the table lists, (pairs, 2)."""
    n = len(kin.scores)
    if n <= MOST_LISTED:
        return np.argwhere(np.triu(np.ones((n, n), dtype=bool), 1))
    person = np.array(people if people else range(n))
    chosen = person[:, None] == person
    if people:
        chosen |= (kin.relation >= 0) & (kin.relation < NAMES.index(UNRELATED))
        chosen |= kin.posterior[..., :-1].sum(2) > _MAYBE
    scores = kin.scores.copy()
    np.fill_diagonal(scores, -np.inf)
    chosen[np.arange(n), scores.argmax(1)] = True
    for copy in copies:
        chosen[copy.first, copy.second] = True
    return np.argwhere(np.triu(chosen | chosen.T, 1))


def _relation_columns(
    kin: Kin, sites: GenotypeSites, pairs: npt.NDArray[np.int64], people: Sequence[int]
) -> dict[str, list[Any]]:
    names = ("relation", "posterior", "kinship", "kinship_low", "kinship_high")
    if not people or not len(pairs):
        return {name: [None] * len(pairs) for name in names}
    first, second = pairs.T
    same = [people[a] == people[b] for a, b in pairs]
    # Samples put together by person are so as a group, even where one pair alone is undecided.
    relation = [SAME if ok else kin.named(a, b) for ok, (a, b) in zip(same, pairs, strict=True)]
    posterior = kin.posterior[first, second].max(1)
    found = kinship_intervals(sites.likelihood, kin.frequency, sites.weight, pairs, kin.widened)
    values = (relation, posterior.tolist(), *found.T.tolist())
    return dict(zip(names, values, strict=True))


def _copy_column(pairs: npt.NDArray[np.int64], copies: Sequence[Copy]) -> list[str | None]:
    kinds = {(copy.first, copy.second): copy.kind for copy in copies}
    return [kinds.get((int(a), int(b))) for a, b in pairs]

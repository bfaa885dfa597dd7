"""What identity says in sentences: relatives, copies, mixtures, changes that mend the sheet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from melisma.quality._candidates import GenotypeSites
from melisma.quality._contamination import Mixing, likely_source
from melisma.quality._copies import COPY, Copy
from melisma.quality._kin import Kin
from melisma.quality._relabel import Reconciliation, reconcile
from melisma.quality._relations import NAMES, PARENT, SAME, SECOND, SIBLINGS, UNRELATED
from melisma.quality._sheet import listed, shortened, words
from melisma.quality._walk import Floats

_MOST_NAMED = 5
_PLURAL = {
    PARENT: ("parent and child", "parents and children"),
    SIBLINGS: ("full siblings", "full siblings"),
    SECOND: ("second-degree relatives", "second-degree relatives"),
}


def power(separable: Sequence[tuple[str, str]]) -> str:
    """Which relations the sites tell apart.

    >>> power([(SAME, PARENT), (SAME, SIBLINGS)])
    'These sites tell one person from close relatives, but no degree of kinship from another.'
    """
    told = set(separable)
    if (SECOND, UNRELATED) in told and (SIBLINGS, SECOND) in told:
        return "These sites tell relatives to the second degree from each other and from others."
    parts = []
    if (PARENT, SECOND) in told and (SIBLINGS, SECOND) in told:
        parts.append("parents, children and siblings from more distant relatives")
    if (PARENT, SIBLINGS) in told:
        parts.append("parent and child from siblings")
    if parts:
        return f"These sites tell {' and '.join(parts)}, but not second degree from unrelated."
    if (SAME, PARENT) in told and (SAME, SIBLINGS) in told:
        return (
            "These sites tell one person from close relatives, but no degree of kinship from "
            "another."
        )
    return "These sites tell one person from unrelated people, not surely from close relatives."


def kin_notes(kin: Kin, people: Sequence[int], samples: Sequence[str], limits: str) -> list[str]:
    """Relatives among the people, each two people once, and what the sites can tell at all.

    People below 0 are left out; without relatives nothing is said.
    """
    found: dict[str, dict[tuple[int, int], str]] = {}
    rows, columns = np.nonzero(np.triu((kin.relation > 0) & (kin.relation < 4), 1))
    for a, b in zip(rows.tolist(), columns.tolist(), strict=True):
        if people[a] < 0 or people[b] < 0 or people[a] == people[b]:
            continue
        key = (min(people[a], people[b]), max(people[a], people[b]))
        name = NAMES[kin.relation[a, b]]
        found.setdefault(name, {}).setdefault(key, f"{samples[a]} and {samples[b]}")
    said = []
    for name in (PARENT, SIBLINGS, SECOND):
        pairs = list(found.get(name, {}).values())
        if pairs:
            one, many = _PLURAL[name]
            n = len(pairs)
            said.append(
                f"{n} {'pair' if n == 1 else 'pairs'} of people {'is' if n == 1 else 'are'} "
                f"{one if n == 1 else many}: {shortened(pairs)}."
            )
    return [*said, limits] if said else []


def copy_notes(
    copies: Sequence[Copy], samples: Sequence[str], sheet: Mapping[str, Sequence[Any]]
) -> list[str]:
    """Samples that hold the same calls, or reads of one library."""
    named = words(sheet["individual"]) if "individual" in sheet else [""] * len(samples)
    said = []
    for copy in copies[:_MOST_NAMED]:
        a, b = copy.first, copy.second
        who = f"{samples[a]} and {samples[b]}"
        names = ""
        if named[a] and named[b] and named[a] != named[b]:
            names = f" although the sheet has them as {named[a]} and {named[b]}"
        if copy.kind == COPY:
            said.append(
                f"{who} hold the same calls at {copy.equal:.0%} of the sites compared{names}: one "
                "file under two names."
            )
        else:
            said.append(
                f"{who} differ by {copy.difference:.2f} of what independent reads must"
                f"{names}: they have reads in common, as a library and a part of it do."
            )
    if len(copies) > _MOST_NAMED:
        said.append(f"So do {len(copies) - _MOST_NAMED} more pairs; identity_pairs lists them.")
    return said


def mixed_notes(
    mixed: Mixing,
    sites: GenotypeSites,
    frequency: Floats,
    people: Sequence[int],
    samples: Sequence[str],
) -> list[str]:
    """Samples with a second person's DNA, and whose it may be."""
    said = []
    for i in np.flatnonzero(mixed.mixed).tolist():
        source = likely_source(sites, frequency, i, float(mixed.share[i]))
        whose = ""
        if source is not None and people[source] != people[i]:
            whose = f", most like that of {samples[source]}"
        said.append(
            f"{samples[i]} seems to hold a second person's DNA: {mixed.share[i]:.0%} of it "
            f"({mixed.low[i]:.0%} to {mixed.high[i]:.0%}){whose}. Lost or gained chromosomes of a "
            "tumour can look the same."
        )
    return said


def mending(people: Sequence[int], units: Sequence[str], samples: Sequence[str]) -> list[str]:
    """The fewest relabellings with which the sheet's individuals are those of the calls."""
    said = []
    for found in reconcile(people, units):
        said += [_mend(found, samples)] if len(found.ways) <= 4 else []
    more = len(said) - _MOST_NAMED
    return [*said[:_MOST_NAMED], *([f"{more} more changes are as small."] if more > 0 else [])]


def _mend(found: Reconciliation, samples: Sequence[str]) -> str:
    whom = listed([str(label) for label in found.labels])
    ways = [_way(way, samples, exchange=found.exchange) for way in found.ways]
    if found.unique:
        return f"{ways[0]} would reconcile {whom} with the calls; no other change is as small."
    if found.complete:
        return (
            f"{', or '.join([ways[0], *(w[0].lower() + w[1:] for w in ways[1:])])}, would "
            f"reconcile {whom} with the calls: the calls do not say which."
        )
    return f"{ways[0]} would reconcile {whom} with the calls, and so would others as small."


def _way(way: Sequence[tuple[int, Any]], samples: Sequence[str], *, exchange: bool) -> str:
    if exchange and len(way) == 2:
        return f"Exchanging {samples[way[0][0]]} and {samples[way[1][0]]}"
    changes = [
        f"{samples[i]} as {'someone not in the sheet' if label is None else label}"
        for i, label in way
    ]
    return f"Relabelling {listed(changes)}"

"""Which samples come from the same person, from the calls alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.errors import MelismaError
from melisma.quality._candidates import GenotypeSites
from melisma.quality._contamination import mixing
from melisma.quality._copies import Copy
from melisma.quality._kin import Kin, find_kin, pair_table
from melisma.quality._notes import copy_notes, kin_notes, mending, mixed_notes, power
from melisma.quality._pairs import (
    group_people,
    level_distance,
    score_threshold,
    shared_movement,
)
from melisma.quality._relations import UNTOLD
from melisma.quality._sheet import Contradiction, coinciding_columns, contradictions, words
from melisma.quality._twins import has_twins, twins
from melisma.quality._walk import Floats

FEWEST_SAMPLES = 4
FEWEST_SITES = 10
# Sites are recognised by all three genotypes, so by three people.
FEWEST_PEOPLE = 3
# Log likelihood ratio to "no site is genotype-like": 64 in the lupus set; of 100 simulated studies
# of noise without variants, 3 reach 10.
LEAST_EVIDENCE = 10.0
# Sites of a cell mixture or a treatment move together; 0.25 is far beyond chance for 10 sites.
_MOST_SHARED = 0.25
_MOST_UNDECIDED = 0.1
_MOST_NAMED = 5
_UNPLACED = (
    "The probes have no places, so those of sex chromosomes cannot be left out, and few are known "
    "variants (rs): ingest again with --manifest."
)
_CANNOT = "Which samples come from one person cannot be told"


@dataclass(frozen=True)
class Identity:
    """Which samples come from one person.

    Attributes
    ----------
    sites : number of genotype-like sites used
    distance : (samples, samples), mean absolute difference of levels at them, NaN unknown
    comparisons : (samples, samples), sites that both samples cover
    threshold : the score from which two samples are called one person's (natural log units)
    people : (samples,), 0-based person of each sample; empty where not resolved
    pairs : sample_a, sample_b, distance, sites, score, same_person, relation, posterior, kinship,
        kinship_low, kinship_high (null: not resolved), copy (null: separate reads); of more than 60
        samples only the pairs that may be related, and each sample's nearest
    mixtures : sample, foreign, foreign_low, foreign_high (share of a second person's DNA), mixed;
        no rows where not resolved
    contradictions : where the people contradict the sample sheet
    resolved : whether the question could be answered
    reason : why not, or what limits the answer; empty if nothing does
    sentence : the answer in one sentence
    power : which relations these sites tell apart, in one sentence; empty if not resolved
    notes : sentences on relatives, twins, copies, mixtures, and changes that mend the sheet
    """

    sites: int
    distance: Floats
    comparisons: npt.NDArray[np.int64]
    threshold: float
    people: tuple[int, ...]
    pairs: pl.DataFrame = field(repr=False)
    contradictions: tuple[Contradiction, ...]
    resolved: bool
    reason: str
    sentence: str
    mixtures: pl.DataFrame = field(repr=False, default_factory=pl.DataFrame)
    power: str = ""
    notes: tuple[str, ...] = ()


def person_labels(identity: Identity) -> list[str]:
    """The inferred person of each sample as donor1, donor2, ... for use as a block.

    Raises
    ------
    MelismaError
        The check could not tell the people apart.
    """
    if not identity.resolved:
        raise MelismaError(
            f"{_CANNOT}, so they cannot serve as blocks: {identity.reason} Give the people in the "
            "sample sheet's column `individual` instead."
        )
    return [f"donor{person + 1}" for person in identity.people]


def identify(
    sites: GenotypeSites,
    samples: Sequence[str],
    sheet: Mapping[str, Sequence[Any]],
    copies: Sequence[Copy] = (),
    *,
    placed: bool = True,
) -> Identity:
    """Group the samples by person and compare the groups with the sample sheet.

    Parameters
    ----------
    sites : the genotype-like sites
    samples : (samples,), names
    sheet : the sample sheet's columns, each (samples,)
    copies : samples with calls or reads in common
    placed : whether the sites have places, so that sex chromosomes are left out
    """
    distance, comparisons = level_distance(sites.level)
    kin = find_kin(sites)
    scores = kin.scores
    upper = np.triu_indices(len(samples), 1)
    threshold = score_threshold(scores[upper]) if len(samples) > 1 else float("nan")
    reason = _too_little(sites, len(samples)) if placed or sites.known else _UNPLACED
    people: tuple[int, ...] = ()
    limits = ""
    own = np.diag(scores) >= threshold
    if not reason:
        grouping = group_people(scores, threshold)
        people = grouping.people
        reason = _unclear(sites, scores, own, threshold, people)
        limits = " ".join(
            [
                *_unplaced(samples, own),
                *_undecided(samples, scores, own, threshold),
                *_conflicting(samples, grouping.conflicts),
                *_coinciding(coinciding_columns(people, sheet)),
            ]
        )
    resolved = not reason
    people = people if resolved else ()
    told = _told(sites, kin, people, own, samples, sheet) if resolved else _Told()
    return Identity(
        sites=len(sites.weight),
        distance=distance,
        comparisons=comparisons,
        threshold=threshold,
        people=people,
        pairs=pair_table(kin, sites, samples, distance, comparisons, people, copies),
        mixtures=told.mixtures,
        contradictions=told.contradictions,
        resolved=resolved,
        reason=reason or limits,
        sentence=_sentence(people, len(sites.weight)) if resolved else f"{_CANNOT}.",
        power=power(kin.separable) if resolved else "",
        notes=(*told.notes, *copy_notes(copies, samples, sheet)),
    )


@dataclass(frozen=True)
class _Told:
    """What a resolved study says beyond its people."""

    contradictions: tuple[Contradiction, ...] = ()
    notes: tuple[str, ...] = ()
    mixtures: pl.DataFrame = field(default_factory=pl.DataFrame)


def _told(
    sites: GenotypeSites,
    kin: Kin,
    people: Sequence[int],
    placed: npt.NDArray[np.bool_],
    samples: Sequence[str],
    sheet: Mapping[str, Sequence[Any]],
) -> _Told:
    # A sample that could not be placed contradicts nothing.
    known = [person if ok else -1 for person, ok in zip(people, placed, strict=True)]

    def apart(i: int, j: int) -> bool:
        return bool(kin.scores[i, j] < 0)

    def relation(i: int, j: int) -> str:
        named = kin.named(i, j)
        return "different" if named == UNTOLD and apart(i, j) else named

    pairs = twins(known, samples, sheet, relation)
    persons = _by_individual(known, sheet) if has_twins(sheet) else known
    found = contradictions(persons, samples, sheet, genotypes=not has_twins(sheet), apart=apart)
    found = (*pairs.contradictions, *found)
    mixed = mixing(sites, kin.frequency)
    return _Told(
        contradictions=found,
        notes=(
            *kin_notes(kin, known, samples, power(kin.separable)),
            *pairs.notes,
            *(mending(known, pairs.units, samples) if found else ()),
            *mixed_notes(mixed, sites, kin.frequency, people, samples),
        ),
        mixtures=pl.DataFrame(
            {
                "sample": list(samples),
                "foreign": mixed.share,
                "foreign_low": mixed.low,
                "foreign_high": mixed.high,
                "mixed": mixed.mixed,
            }
        ),
    )


def _by_individual(people: Sequence[int], sheet: Mapping[str, Sequence[Any]]) -> list[int]:
    """People, identical twins of two names as two."""
    named = words(sheet["individual"])
    order: dict[tuple[int, str], int] = {}
    return [
        order.setdefault((person, name), len(order)) if person >= 0 else -1
        for person, name in zip(people, named, strict=True)
    ]


def _too_little(sites: GenotypeSites, n_samples: int) -> str:
    if sites.known and n_samples > 1 and len(sites.weight) >= FEWEST_SITES:
        return ""
    if n_samples < FEWEST_SAMPLES:
        return (
            f"Genotype-like sites cannot be recognised in {n_samples} "
            f"sample{'' if n_samples == 1 else 's'}: at least {FEWEST_SAMPLES} are needed."
        )
    if sites.weight.sum() < FEWEST_SITES:
        return (
            f"Too few sites look like genotypes: {sites.candidates:,} have low, middle and high "
            f"levels, {len(sites.weight):,} of them may be genotypes, and by their probabilities "
            f"{sites.weight.sum():.1f} are; at least {FEWEST_SITES} are needed."
        )
    if sites.evidence < LEAST_EVIDENCE:
        return (
            f"{sites.candidates:,} sites have low, middle and high levels, and that some of them "
            "are genotypes explains these levels hardly better than that none is."
        )
    return ""


def _unclear(
    sites: GenotypeSites,
    scores: Floats,
    placed: npt.NDArray[np.bool_],
    threshold: float,
    people: Sequence[int],
) -> str:
    """Why the pairs give no clear answer; empty if they do."""
    n_sites = len(sites.weight)
    if placed.sum() < max(2, len(placed) / 2):
        return (
            f"The {n_sites} genotype-like sites are too few, or too thinly covered, to tell one "
            f"person from two: only {placed.sum()} of {len(placed)} samples could match a copy "
            "of themselves."
        )
    if sites.known:
        return ""
    if len(set(people)) < FEWEST_PEOPLE:
        return (
            f"The {n_sites} sites would put all samples into {len(set(people))} people, who cannot "
            "show three genotypes at one site, so they are not genotypes."
        )
    observed, expected = shared_movement(sites, people)
    if observed > expected + _MOST_SHARED:
        return (
            f"The {n_sites} sites move together (mean squared correlation {observed:.2f}, at most "
            f"{expected:.2f} expected), as a cell mixture or a treatment makes them and genotypes "
            "do not."
        )
    inner = scores[np.ix_(placed, placed)][np.triu_indices(int(placed.sum()), 1)]
    undecided = ((inner > 0) & (inner < threshold)).mean()
    if undecided > _MOST_UNDECIDED:
        return (
            f"There is no gap between same and different people: {undecided:.0%} of the pairs "
            f"lie between the two at the {n_sites} genotype-like sites."
        )
    return ""


def _unplaced(samples: Sequence[str], placed: npt.NDArray[np.bool_]) -> list[str]:
    names = [name for name, ok in zip(samples, placed, strict=True) if not ok]
    if not names:
        return []
    return [f"Too few reads at these sites to place {', '.join(names)}: each counts as a person."]


def _undecided(
    samples: Sequence[str], scores: Floats, placed: npt.NDArray[np.bool_], threshold: float
) -> list[str]:
    between = np.triu((scores > 0) & (scores < threshold) & placed & placed[:, None], 1)
    pairs = _pair_names(samples, [(int(a), int(b)) for a, b in np.argwhere(between)])
    return [f"Undecided, and counted as two people: {pairs}."] if pairs else []


def _conflicting(samples: Sequence[str], conflicts: Sequence[tuple[int, int]]) -> list[str]:
    if not conflicts:
        return []
    return [
        "Some samples match two people, as mixed DNA or a close relative would: "
        f"{_pair_names(samples, conflicts)} match each other but not each other's person."
    ]


def _coinciding(columns: Sequence[str]) -> list[str]:
    if not columns:
        return []
    return [
        f"The people coincide with the column {columns[0]}: sites that differ in three steps "
        "between its values, in calls without variants, would look the same."
    ]


def _pair_names(samples: Sequence[str], pairs: Sequence[tuple[int, int]]) -> str:
    named = [f"{samples[a]} and {samples[b]}" for a, b in pairs[:_MOST_NAMED]]
    more = len(pairs) - len(named)
    return "; ".join(named) + (f"; and {more} more pairs" if more else "")


def _sentence(people: Sequence[int], n_sites: int) -> str:
    sizes = Counter(Counter(people).values())
    total, n = len(people), len(set(people))
    opening = f"By {n_sites} genotype-like sites the {total} samples come from"
    if set(sizes) == {1}:
        return f"{opening} {n} different people."
    if n == 1:
        return f"{opening} one person."
    if len(sizes) == 1:
        return f"{opening} {n} people, each seen {_times(next(iter(sizes)))}."
    parts = [f"{count} seen {_times(size)}" for size, count in sorted(sizes.items())]
    return f"{opening} {n} people: {', '.join(parts)}."


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")

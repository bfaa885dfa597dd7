"""Simulated studies of people with relatives, twins, duplicates and swaps; not the model's own.

Variants lie on 22 chromosomes with crossovers between generations, in two populations whose
frequencies differ (F_ST .05), and some are copies of a neighbour. Ordinary sites follow a mixture
of cell types whose shares vary by sample; beside them are tissue-specific sites, sites with
allele-specific methylation (near one half in everyone), sites that a nearby variant shifts, and
sites of chromosome X. Reads have errors and are overdispersed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from melisma.methylome import dataset

CONTIGS = [*(f"chr{k}" for k in range(1, 23)), "chrX"]
_LENGTH = 130_000_000
_CELL_TYPES = 4
_APART = 0.05
_ERROR = 0.005
SAME, PARENT, SIBLINGS, SECOND, UNRELATED = (
    "same person or identical twin",
    "parent and child",
    "full siblings",
    "second degree",
    "unrelated",
)


@dataclass
class People:
    """Who there is: parents (None: a founder), identical twins, families.

    parents : (people,)
    genotype : (people,), whose genotype a person has: his own, or his identical twin's
    family : (people,)
    """

    parents: list[tuple[int, int] | None] = field(default_factory=list)
    genotype: list[int] = field(default_factory=list)
    family: list[int] = field(default_factory=list)

    def add(self, family: int, parents: tuple[int, int] | None = None, twin: int = -1) -> int:
        """Add a person and return his number."""
        self.parents.append(parents if twin < 0 else self.parents[twin])
        self.genotype.append(len(self.genotype) if twin < 0 else self.genotype[twin])
        self.family.append(family)
        return len(self.genotype) - 1

    def kinship(self) -> np.ndarray:
        """Expected kinship of every two people, (people, people), from the pedigree."""
        n = len(self.parents)
        phi = np.zeros((n, n))
        for i in range(n):
            if self.genotype[i] != i:
                phi[i, :i] = phi[:i, i] = phi[self.genotype[i], :i]
                phi[i, i] = phi[i, self.genotype[i]] = phi[self.genotype[i], i] = 0.5
                continue
            if (both := self.parents[i]) is not None:
                phi[i, :i] = phi[:i, i] = phi[list(both), :i].mean(0)
            phi[i, i] = 0.5
        return phi

    def relation(self, a: int, b: int, phi: np.ndarray) -> str:
        """The true relation of two people; cousins and further are unrelated."""
        if self.genotype[a] == self.genotype[b]:
            return SAME
        if self.genotype[a] in _own(self.parents[b], self.genotype) or self.genotype[b] in _own(
            self.parents[a], self.genotype
        ):
            return PARENT
        if phi[a, b] > 0.2:
            return SIBLINGS
        return SECOND if phi[a, b] > 0.1 else UNRELATED


def _own(parents: tuple[int, int] | None, genotype: Sequence[int]) -> list[int]:
    return [] if parents is None else [genotype[p] for p in parents]


def families(n_people: int, *, twins: float = 0.2, seed: int = 0) -> People:
    """Trios, siblings, half-siblings, grandparents and twin pairs until there are enough people.

    `twins` is the share of people who are one of a pair of identical twins, about; half of all
    people have no relative.
    """
    rng = np.random.default_rng(seed)
    people, family = People(), 0
    while len(people.parents) < n_people:
        family += 1
        kind = rng.random()
        one = people.add(family)
        if kind < 0.5:
            continue
        if kind < 0.5 + twins / 2:
            people.add(family, twin=one)
            continue
        two = people.add(family)
        child = people.add(family, (one, two))
        if kind < 0.8:
            people.add(family, (one, two))
        elif kind < 0.9:
            people.add(family, (one, people.add(family)))
        else:
            people.add(family, (child, people.add(family)))
    return people


def twin_study(pairs: int) -> People:
    """Pairs of twins of one family each, identical and fraternal in turn, parents not sampled."""
    people = People()
    for k in range(pairs):
        one, two = people.add(k), people.add(k)
        first = people.add(k, (one, two))
        people.add(k, (one, two), twin=first if k % 2 == 0 else -1)
    return people


@dataclass
class Study:
    """Samples of people.

    person : (samples,), whose each sample is
    variants, ordinary : numbers of sites
    moved : share of the ordinary number that nearby variants shift
    depth : mean coverage
    tissue : (samples,), of two
    mixed : sample to (another person, share of that person's DNA)
    copied : sample to the earlier sample whose file it is
    part : sample to the earlier sample of which it holds half of the reads
    """

    people: People
    person: Sequence[int]
    variants: int = 300
    ordinary: int = 5000
    moved: float = 0.02
    depth: float = 20.0
    tissue: Sequence[int] = ()
    mixed: dict[int, tuple[int, float]] = field(default_factory=dict)
    copied: dict[int, int] = field(default_factory=dict)
    part: dict[int, int] = field(default_factory=dict)


def simulate(study: Study, seed: int, sheet: dict[str, Any] | None = None) -> xr.Dataset:
    """One study's counts."""
    rng = np.random.default_rng(seed)
    contig, position, levels = site_levels(study, rng)
    coverage, methylated = read_counts(study, levels, rng)
    return dataset(
        {"contig": contig, "position": position},
        {"methylated": methylated, "coverage": coverage},
        {"sample": [f"s{i}" for i in range(len(study.person))]} | (sheet or {}),
        contigs=CONTIGS,
    )


def read_counts(
    study: Study, levels: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and methylated reads, (sites, samples)."""
    n_sites, n_samples = levels.shape
    by_site, by_sample = rng.gamma(3, 1 / 3, (n_sites, 1)), rng.gamma(8, 1 / 8, n_samples)
    coverage = rng.poisson(study.depth * by_site * by_sample).astype(np.int64)
    wrong = levels * (1 - _ERROR) + (1 - levels) * _ERROR
    methylated = rng.binomial(coverage, np.clip(wrong, 0.0, 1.0))
    for sample, source in study.copied.items():
        coverage[:, sample], methylated[:, sample] = coverage[:, source], methylated[:, source]
    for sample, source in study.part.items():
        kept = rng.binomial(methylated[:, source], 0.5)
        lost = rng.binomial(coverage[:, source] - methylated[:, source], 0.5)
        coverage[:, sample], methylated[:, sample] = kept + lost, kept
    return coverage, methylated


def site_levels(
    study: Study, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contig, position and level (sites, samples) of every site, in order of place."""
    n_samples = len(study.person)
    # mQTL sites follow variants of their own.
    moved = round(study.ordinary * study.moved)
    contig, position, copies = inherited(study.people, study.variants + moved, rng)
    copies = copies[:, study.person]
    for sample, (other, share) in study.mixed.items():
        foreign = inherited_of(copies, study, other)
        copies = copies.astype(float)
        copies[:, sample] = (1 - share) * copies[:, sample] + share * foreign
    shares = rng.dirichlet(np.full(_CELL_TYPES, 6.0), n_samples)
    shifted = rng.permutation(len(copies))[:moved]
    variant = np.ones(len(copies), dtype=bool)
    variant[shifted] = False
    levels = np.empty(copies.shape)
    levels[variant] = _variant_levels(copies[variant], rng)
    levels[shifted] = _moved_levels(copies[shifted], rng)
    other = _ordinary_levels(study, shares, rng)
    n_other = len(other)
    on_x = max(1, n_other // 25)
    other[:on_x] = _sex_levels(on_x, n_samples, rng)
    where = np.append(np.full(on_x, 22), rng.integers(0, 22, n_other - on_x))
    contig = np.concatenate([contig, where])
    position = np.concatenate([position, rng.integers(0, _LENGTH, n_other)])
    _, first = np.unique(contig.astype(np.int64) * 2 * _LENGTH + position, return_index=True)
    levels = np.concatenate([levels, other])
    return contig[first], position[first], levels[first]


def inherited_of(copies: np.ndarray, study: Study, person: int) -> np.ndarray:
    """Copies of a sampled person."""
    return copies[:, list(study.person).index(person)]


def inherited(
    people: People, n_sites: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of variants and copies of the intact allele, (sites, people)."""
    contig = np.sort(rng.integers(0, 22, n_sites))
    position = rng.integers(0, _LENGTH, n_sites)
    order = np.lexsort((position, contig))
    contig, position = contig[order], position[order]
    ancestral = rng.uniform(0.05, 0.95, n_sites)
    drift = (1 - _APART) / _APART
    frequency = rng.beta(ancestral * drift, (1 - ancestral) * drift, (2, n_sites))
    n = len(people.parents)
    alleles = np.zeros((n_sites, n, 2), dtype=np.int8)
    linked = rng.random(n_sites) < 0.1
    linked[:1] = False
    for i, parents in enumerate(people.parents):
        if people.genotype[i] != i:
            alleles[:, i] = alleles[:, people.genotype[i]]
        elif parents is None:
            population = people.family[i] % 2
            alleles[:, i] = rng.random((n_sites, 2)) < frequency[population, :, None]
            alleles[linked, i] = alleles[np.flatnonzero(linked) - 1, i]
        else:
            for k, parent in enumerate(parents):
                alleles[:, i, k] = alleles[
                    np.arange(n_sites), parent, _strand(contig, position, rng)
                ]
    return contig, position, alleles.sum(2)


def _strand(contig: np.ndarray, position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which of a parent's two chromosomes a child has at each site: one crossover in 100 Mb."""
    chosen = np.empty(len(contig), dtype=np.int64)
    for k in range(22):
        rows = contig == k
        places = np.sort(rng.uniform(0, _LENGTH, rng.poisson(_LENGTH / 1e8)))
        chosen[rows] = (np.searchsorted(places, position[rows]) + rng.integers(0, 2)) % 2
    return chosen


def _variant_levels(copies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Levels at CpGs that a variant takes away; intact copies are nearly all methylated."""
    n = len(copies)
    intact, het = rng.beta(30, 3, (n, 1)), 1 + rng.normal(0, 0.08, (n, 1))
    noise = rng.normal(0, 0.03, copies.shape) * (copies > 0)
    # Mapping favours one allele, by site; only samples with both alleles can show it.
    tilt = np.where((copies > 0) & (copies < 2), het, 1.0)
    return np.clip(0.5 * copies * tilt * intact + noise, 0, 1)


def _moved_levels(copies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Levels that a nearby variant shifts by less than a whole allele, and noise."""
    base, step = rng.uniform(0, 0.5, (len(copies), 1)), rng.uniform(0.05, 0.3, (len(copies), 1))
    return np.clip(base + step * copies + rng.normal(0, 0.05, copies.shape), 0, 1)


def _ordinary_levels(study: Study, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n, n_samples = study.ordinary, len(study.person)
    kind = rng.random((n, 1))
    mean = np.where(kind < 0.6, rng.beta(12, 1.5, (n, 1)), rng.beta(1, 15, (n, 1)))
    mean = np.where(kind > 0.85, rng.random((n, 1)), mean)
    # A fifth of the sites differ between cell types, on or off.
    differ = rng.random((n, 1)) < 0.2
    types = np.where(differ, rng.random((n, _CELL_TYPES)) < mean, np.broadcast_to(mean, (n, 4)))
    levels = types @ shares.T
    tissue = np.zeros(n_samples, dtype=int) if len(study.tissue) == 0 else np.array(study.tissue)
    told = rng.random(n) < 0.1
    flipped = np.where(rng.random((told.sum(), 2)) < 0.5, 0.9, 0.06)
    levels[told] = flipped[:, tissue]
    imprinted = rng.random(n) < 0.01
    levels[imprinted] = 0.5
    spread = rng.beta(1, 15, (n, 1)) + 1e-3
    a, b = (np.maximum(x * (1 - spread) / spread, 1e-2) for x in (levels, 1 - levels))
    return rng.beta(a, b)


def _sex_levels(n: int, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Chromosome X: males low or high as one copy is, females between."""
    male = np.arange(n_samples) % 2 == 0
    one = rng.random((n, 1)) < 0.5
    levels = np.where(male, np.where(one, 0.95, 0.05), 0.5)
    return np.clip(levels + rng.normal(0, 0.03, levels.shape), 0, 1)

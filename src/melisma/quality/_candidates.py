"""Which sites behave like genotypes, chosen from the levels alone.

A walk keeps two bounded sets of candidates, sites that show all three classes: a random one and
the most promising one. From the random one expectation-maximisation learns how common
genotype-like sites are among candidates, their allele frequencies, and what this study's
ordinary sites look like; that turns each promising site's likelihoods into a probability. A site
that only tells two tissues or two treatments apart has no middle class. The sample sheet is
never looked at.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from melisma.quality._genotypes import (
    CLASS_LIMITS,
    FEWEST_READS,
    FREQUENCIES,
    class_table,
    log_likelihoods,
    log_sum,
    read_cells,
)
from melisma.quality._pool import Pool, site_hash
from melisma.quality._population import allele_frequencies
from melisma.quality._walk import Floats, Integers, Stretch

# An array's level weighs like this many reads: standard deviation .1 at one half.
ARRAY_READS = 24
_SHARE_COVERED = 0.75
# Each class needs this share of the samples (and one): rarer alleles tell few pairs apart.
_SHARE_OF_CLASS = 0.02
# Candidates and sites kept: within these bounds, as many as so many cells allow.
_CANDIDATES, _CANDIDATE_CELLS = (4000, 20_000), 2_400_000
# Comparing every two of n samples at s sites takes s n^2 steps.
_SITES, _PAIR_SITES = (400, 5000), 400_000_000
# One variant, or one stretch of allele-specific methylation, is one witness.
_APART = 1000
_LINKED_WITHIN, _LINKED_R2 = 1_000_000, 0.8
# Look-ups for so many sites at a time take a few tens of megabytes.
_SITES_AT_ONCE = 4096
# A known variant's probe may still fail.
_KNOWN = 0.98
# So many imagined sites, spread evenly, steady what is learned from few candidates.
_IMAGINED = 10.0
# One copy in males, silenced copies in females, or many copies: levels are not genotypes there.
_NOT_AUTOSOMES = re.compile(
    r"(?i:chr)?([XYZWMC]|MT|Mt|Pt)|NC_00002[34]\.\d+|NC_012920\.\d+|CM00068[56]\.\d+"
)


@dataclass(frozen=True)
class GenotypeSites:
    """The sites that tell people apart, best first.

    contig, position : (sites,)
    likelihood : (sites, samples, 3), of the reads given 0, 1 or 2 intact copies; 1 if not seen
    frequency : (sites,), of the intact allele
    weight : (sites,), probability that the site is genotype-like
    level : (sites, samples), NaN where fewer than 4 reads
    candidates : how many sites showed all three classes
    evidence : log likelihood ratio of "some candidates are genotype-like" to "none is"
    cells : (sites, samples), the reads as indices of `class_table`
    known : whether the sites are known to be variants, as an array's rs probes are
    """

    contig: Integers
    position: Integers
    likelihood: Floats
    frequency: Floats
    weight: Floats
    level: Floats
    candidates: int
    evidence: float
    cells: Integers | None = None
    known: bool = False

    def best(self, most: int) -> "GenotypeSites":
        """The first `most` of the sites."""
        arrays = ("contig", "position", "likelihood", "frequency", "weight", "level")
        cells = None if self.cells is None else self.cells[:most]
        return replace(self, cells=cells, **{name: getattr(self, name)[:most] for name in arrays})


@dataclass(frozen=True)
class Mixture:
    """What the candidates of a study are made of.

    share : of candidates that are genotype-like, 0.001 to 0.5
    frequencies : (frequencies,), shares of the allele frequencies among those
    ordinary : (models,), shares of the ordinary models among the rest
    evidence : log likelihood ratio to share 0
    """

    share: float
    frequencies: Floats
    ordinary: Floats
    evidence: float


def autosomal(contigs: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which contigs are neither sex chromosomes nor organelles, (contigs,).

    >>> autosomal(["chr1", "chrX", "MT", "2"]).tolist()
    [True, False, False, True]
    """
    return np.array([_NOT_AUTOSOMES.fullmatch(name) is None for name in contigs], dtype=bool)


class GenotypePool:
    """The candidates of a walk."""

    def __init__(self, n_samples: int, contigs: Sequence[str]) -> None:
        self._n_samples = n_samples
        # The last one is of probes without a place, contig -1.
        self._usable = np.append(autosomal(contigs), False)
        most = _bounded(_CANDIDATES, _CANDIDATE_CELLS // max(n_samples, 1))
        self._promising, self._random = Pool(most), Pool(_CANDIDATES[0])
        self._candidates = 0

    def add(self, stretch: Stretch) -> None:
        """Offer one stretch of sites."""
        methylated, coverage = reads(stretch.level, stretch.methylated, stretch.coverage)
        covered = coverage >= FEWEST_READS
        chosen = _three_classes(stretch.level, covered) & self._autosomal(stretch.contig)
        if not chosen.any():
            return
        self._candidates += int(chosen.sum())
        cells = read_cells(methylated[chosen], coverage[chosen])
        rows = {
            "cells": cells.astype(np.int16),
            "level": np.where(covered[chosen], stretch.level[chosen], np.nan),
            "contig": stretch.contig[chosen],
            "position": stretch.position[chosen],
        }
        tie = site_hash(stretch)[chosen]
        everyone = np.ones(len(tie), dtype=bool)
        self._random.add(np.zeros(len(tie)), tie, rows, everyone)
        self._promising.add(-rough_gain(cells), tie, rows, everyone)

    def _autosomal(self, contig: Integers) -> npt.NDArray[np.bool_]:
        """Probes without a place are taken as autosomal: nothing says otherwise."""
        usable = np.append(self._usable, True)
        return usable[np.where(contig < 0, len(usable) - 1, contig)]

    def select(self) -> GenotypeSites:
        """The sites more likely genotype-like than not, one a kilobase, linked ones once."""
        if not self._candidates:
            return _no_sites(self._n_samples)
        sample = self._random.rows()["cells"]
        mixture = learn(
            log_likelihoods(sample, ordinary=False), log_likelihoods(sample, ordinary=True)
        )
        rows = self._promising.rows()
        genotype = log_likelihoods(rows["cells"], ordinary=False) + np.log(mixture.frequencies)
        ordinary = log_likelihoods(rows["cells"], ordinary=True) + np.log(mixture.ordinary)
        gain = log_sum(genotype) - log_sum(ordinary)
        order = np.argsort(-gain, kind="stable")
        likely = order[gain[order] + np.log(mixture.share / (1 - mixture.share)) >= 0]
        table = class_table()[rows["cells"][likely]]
        contig, position = (rows[name][likely].astype(np.int64) for name in ("contig", "position"))
        kept = _independent(contig, position, dosage(table), most_sites(self._n_samples))
        posterior = np.exp(genotype[likely] - log_sum(genotype[likely])[:, None])
        odds = gain[likely] + np.log(mixture.share / (1 - mixture.share))
        return GenotypeSites(
            contig=contig[kept],
            position=position[kept],
            likelihood=table[kept],
            frequency=(posterior @ FREQUENCIES)[kept],
            weight=1 / (1 + np.exp(-odds[kept])),
            level=rows["level"][likely[kept]],
            candidates=self._candidates,
            evidence=mixture.evidence,
            cells=rows["cells"][likely[kept]].astype(np.int64),
        )


def _no_sites(n_samples: int) -> GenotypeSites:
    none = np.zeros(0)
    shape = (0, n_samples)
    places = np.zeros(0, dtype=np.int64)
    return GenotypeSites(places, places, np.zeros((*shape, 3)), none, none, np.zeros(shape), 0, 0.0)


def reads(
    level: Floats, methylated: Integers | None, coverage: Integers | None
) -> tuple[Integers, Integers]:
    """M and N; an array's level as if it were 24 reads."""
    if methylated is not None and coverage is not None:
        return methylated, coverage
    coverage = np.where(np.isfinite(level), ARRAY_READS, 0)
    return np.rint(np.nan_to_num(level) * ARRAY_READS).astype(np.int64), coverage


def variant_probes(level: Floats) -> GenotypeSites:
    """The sites of probes that are known to be variants, all of them.

    Parameters
    ----------
    level : (sites, samples), NaN where not measured
    """
    n_sites = len(level)
    cells = read_cells(*reads(level, None, None))
    table = class_table()[cells]
    nowhere = np.full(n_sites, -1, dtype=np.int64)
    half = np.full(n_sites, 0.5)
    return GenotypeSites(
        contig=nowhere,
        position=nowhere,
        likelihood=table,
        frequency=allele_frequencies(table, half) if n_sites else half,
        weight=np.full(n_sites, _KNOWN),
        level=np.asarray(level, dtype=float),
        candidates=n_sites,
        evidence=float("inf"),
        cells=cells,
        known=True,
    )


def _three_classes(
    level: npt.NDArray[np.float32], covered: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Sites covered in enough samples that show low, middle and high levels, (sites,)."""
    chosen = covered.mean(1) >= _SHARE_COVERED
    needed = max(1, round(_SHARE_OF_CLASS * level.shape[1]))
    for low, high in CLASS_LIMITS:
        chosen &= (covered & (level >= low) & (level <= high)).sum(1) >= needed
    return chosen


def dosage(table: Floats) -> Floats:
    """Expected share of intact copies, from likelihoods (..., 3)."""
    return table @ np.array([0.0, 0.5, 1.0]) / table.sum(-1)


def squared_correlation(values: Floats) -> Floats:
    """Squared correlation of every two rows, (rows, rows); 0 where a row does not vary.

    >>> squared_correlation(np.array([[0.0, 1, 2], [4, 2, 0], [1, 1, 1]])).round(6).tolist()
    [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    centred = values - values.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    unit = centred / np.where(length > 1e-12, length, np.inf)
    return (unit @ unit.T) ** 2


def rough_gain(cells: Integers) -> Floats:
    """Log likelihood ratio of genotype-like to ordinary, all models weighed alike, (sites,)."""
    out = np.empty(len(cells))
    for start in range(0, len(cells), _SITES_AT_ONCE):
        part = cells[start : start + _SITES_AT_ONCE]
        genotype, ordinary = (log_likelihoods(part, ordinary=kind) for kind in (False, True))
        out[start : start + _SITES_AT_ONCE] = log_sum(genotype) - log_sum(ordinary)
    return out


def learn(genotype: Floats, ordinary: Floats) -> Mixture:
    """What the candidates are made of, by expectation-maximisation.

    The genotype-like share stays at or below one half, so that every site needs evidence of its
    own.

    Parameters
    ----------
    genotype, ordinary : (sites, models), log likelihoods
    """
    top = np.maximum(genotype.max(1), ordinary.max(1))[:, None]
    g, o = np.exp(genotype - top), np.exp(ordinary - top)
    frequencies, models = (np.full(x.shape[1], 1 / x.shape[1]) for x in (g, o))
    share = 0.05
    tiny = np.finfo(float).tiny
    for _ in range(300):
        as_genotype, as_ordinary = (np.maximum(x, tiny) for x in (g @ frequencies, o @ models))
        total = share * as_genotype + (1 - share) * as_ordinary
        found = share * as_genotype / total
        frequencies = frequencies * (g.T @ (share / total)) + _IMAGINED / len(frequencies)
        models = models * (o.T @ ((1 - share) / total)) + _IMAGINED / len(models)
        frequencies, models = frequencies / frequencies.sum(), models / models.sum()
        # One tenth of a genotype-like site among ten more: with no candidates the share is small.
        share = float(np.clip((found.sum() + 0.1) / (len(found) + 10), 0.001, 0.5))
    as_genotype, as_ordinary = (np.maximum(x, tiny) for x in (g @ frequencies, o @ models))
    evidence = np.log1p(share * (as_genotype / as_ordinary - 1)).sum()
    return Mixture(share, frequencies, models, float(evidence))


def most_sites(n_samples: int) -> int:
    """How many genotype-like sites are used at most.

    >>> most_sites(16), most_sites(500), most_sites(1000)
    (5000, 1600, 400)
    """
    return _bounded(_SITES, _PAIR_SITES // max(n_samples, 1) ** 2)


def _bounded(limits: tuple[int, int], number: int) -> int:
    return min(max(number, limits[0]), limits[1])


def _independent(contig: Integers, position: Integers, dosages: Floats, most: int) -> list[int]:
    """Which sites to keep, best first: none within 1 kb of, or linked to, a better one."""
    centred = dosages - dosages.mean(1, keepdims=True)
    length = np.sqrt((centred**2).sum(1, keepdims=True))
    unit = centred / np.where(length > 1e-12, length, np.inf)
    # Kept sites by the stretch they lie in; only a stretch's neighbours can be within its reach.
    nearby: dict[tuple[int, int], list[int]] = {}
    kept: list[int] = []
    for i, (where, place) in enumerate(zip(contig.tolist(), position.tolist(), strict=True)):
        if len(kept) == most:
            break
        stretch = place // _LINKED_WITHIN
        others = np.array(
            [k for s in (-1, 0, 1) for k in nearby.get((where, stretch + s), ())], dtype=np.int64
        )
        if where < 0:
            others = others[:0]
        apart = np.abs(position[others] - place)
        linked = (unit[others] @ unit[i]) ** 2 > _LINKED_R2
        if not ((apart < _LINKED_WITHIN) & ((apart < _APART) | linked)).any():
            kept.append(i)
            nearby.setdefault((where, stretch), []).append(i)
    return kept

"""Who is who: false and missed pairs on simulated people, and on the lupus set read thinly.

Simulated studies hold a few hundred CpGs with a common variant among thousands of ordinary ones,
a tenth of which tell the study's groups apart. Settings were chosen on seeds below 100, figures
come from seeds 100 and up.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from melisma import datasets
from melisma.calls import ingest
from melisma.methylome import dataset, open_methylome
from melisma.quality import Quality, check_quality

FIRST_SEED = 100
ORDINARY_SITES = 5000


class Study(NamedTuple):
    """A kind of study: whose the samples are, their groups, variants, depth, kinship, noise."""

    name: str
    people: Sequence[int]
    groups: Sequence[int]
    variants: int = 300
    depth: float = 20.0
    parents: dict[int, tuple[int, int]] = {}  # noqa: RUF012
    noisy: bool = False


def studies() -> Iterator[Study]:
    """The kinds of studies whose figures are shown."""
    alone, one_group = list(range(16)), [0] * 16
    yield Study("unrelated", alone, one_group)
    yield Study("unrelated_depth_6", alone, one_group, depth=6.0)
    yield Study("unrelated_80_variants", alone, one_group, variants=80)
    children = {i: ((i - 8) // 2 * 2, (i - 8) // 2 * 2 + 1) for i in range(8, 16)}
    yield Study("families", alone, one_group, parents=children)
    twice, treated = [i // 2 for i in range(16)], [i % 2 for i in range(16)]
    yield Study("pairs", twice, treated)
    yield Study("pairs_depth_6", twice, treated, depth=6.0)
    yield Study("pairs_80_variants", twice, treated, variants=80)
    yield Study("triples", [i // 3 for i in range(15)], [i % 3 for i in range(15)])
    six, states = [i // 2 for i in range(6)], [i % 2 for i in range(6)]
    yield Study("three_people_twice", six, states)
    yield Study("three_people_twice_3000_variants", six, states, variants=3000)
    yield Study("no_variants_two_groups", list(range(8)), [0] * 4 + [1] * 4, variants=0)
    yield Study("no_variants_four_groups", alone, [i // 4 for i in range(16)], variants=0)
    yield Study("no_variants_noisy", alone, [0] * 8 + [1] * 8, variants=0, noisy=True)


def simulated(study: Study, seed: int) -> xr.Dataset:
    """One study's counts."""
    rng = np.random.default_rng(seed)
    levels = np.concatenate([_variant_levels(rng, study), _ordinary_levels(rng, study)])
    rng.shuffle(levels)
    n_sites, n_samples = levels.shape
    by_site, by_sample = rng.gamma(3, 1 / 3, (n_sites, 1)), rng.gamma(8, 1 / 8, n_samples)
    coverage = rng.poisson(study.depth * by_site * by_sample)
    return dataset(
        {"contig": np.arange(n_sites) * 22 // n_sites, "position": np.arange(n_sites) * 5000},
        {"methylated": rng.binomial(coverage, np.clip(levels, 0.005, 0.995)), "coverage": coverage},
        {"sample": [f"s{i}" for i in range(n_samples)]},
        contigs=[f"chr{k}" for k in range(1, 23)],
    )


def _variant_levels(rng: np.random.Generator, study: Study) -> np.ndarray:
    n = study.variants
    frequency = rng.uniform(0.05, 0.95, (n, 1, 1))
    alleles = rng.random((n, max(study.people) + 1, 2)) < frequency
    for child, parents in study.parents.items():
        for k, parent in enumerate(parents):
            alleles[:, child, k] = alleles[np.arange(n), parent, rng.integers(0, 2, n)]
    copies = alleles.sum(2)[:, study.people]
    # Intact copies are nearly all methylated; heterozygous levels shift by site and by sample.
    intact, het = rng.beta(40, 3, (n, 1)), 0.5 + rng.normal(0, 0.04, (n, 1))
    shift = rng.normal(0, 0.03, copies.shape)
    return np.choose(
        copies, [np.full(copies.shape, 0.02), het * intact + shift, intact + shift / 2]
    )


def _ordinary_levels(rng: np.random.Generator, study: Study) -> np.ndarray:
    n, groups = ORDINARY_SITES, np.asarray(study.groups)
    if study.noisy:
        mean, spread = rng.random((n, 1)), rng.uniform(0.1, 0.6, (n, 1))
    else:
        kind = rng.random((n, 1))
        mean = np.where(kind < 0.6, rng.beta(12, 1.5, (n, 1)), rng.beta(1, 15, (n, 1)))
        mean = np.where(kind > 0.85, rng.random((n, 1)), mean)
        spread = rng.beta(1, 15, (n, 1)) + 1e-3
    a, b = (np.maximum(m * (1 - spread) / spread, 1e-3) for m in (mean, 1 - mean))
    levels = rng.beta(a, b, (n, len(groups)))
    told = n // 10 if groups.max() else 0
    high = rng.random((told, groups.max() + 1)) < 0.5
    low_level, high_level = rng.uniform(0.02, 0.15, (told, 1)), rng.uniform(0.8, 0.98, (told, 1))
    levels[:told] = np.where(high[:, groups], high_level, low_level)
    levels[:told] += rng.normal(0, 0.05, (told, len(groups)))
    return levels


def pair_errors(quality: Quality, people: Sequence[int]) -> dict[str, int]:
    """How many pairs of samples are wrongly joined or kept apart; nothing where untold."""
    identity = quality.identity
    truth = np.asarray(people)
    upper = np.triu_indices(len(truth), 1)
    same = (truth[:, None] == truth)[upper]
    if not identity.resolved:
        return {"untold": 1}
    found = np.asarray(identity.people)
    called = (found[:, None] == found)[upper]
    return {
        "different_pairs": int((~same).sum()),
        "false": int((called & ~same).sum()),
        "same_pairs": int(same.sum()),
        "missed": int((~called & same).sum()),
        "sites": identity.sites,
    }


def _totals(results: Sequence[dict[str, int]]) -> dict[str, Any]:
    names = ("different_pairs", "false", "same_pairs", "missed", "untold")
    totals: dict[str, Any] = {k: sum(r.get(k, 0) for r in results) for k in names}
    told = [r["sites"] for r in results if "sites" in r]
    return {"studies": len(results)} | totals | {"sites": float(np.median(told)) if told else None}


def lupus_thinned(share: float, seeds: int) -> dict[str, Any]:
    """The lupus set with a share of its reads kept, against the people found with all of them."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "lupus.zarr"
        ingest(datasets.folder("lupus") / "samples.tsv", store)
        whole = open_methylome(store).load()
    full = check_quality(whole).identity
    methylated = whole["methylated"].values
    unmethylated = whole["coverage"].values - methylated
    results, contradicted = [], 0
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        rng = np.random.default_rng(seed)
        kept = rng.binomial(methylated, share)
        total = kept + rng.binomial(unmethylated, share)
        thin = whole.assign(
            methylated=(("site", "sample"), kept), coverage=(("site", "sample"), total)
        )
        quality = check_quality(thin)
        results.append(pair_errors(quality, full.people))
        named = {c.samples for c in quality.identity.contradictions}
        contradicted += named == {c.samples for c in full.contradictions}
    return _totals(results) | {"same_contradictions": contradicted}


def outliers(seeds: int) -> dict[str, Any]:
    """How many studies of alike samples have one that is said to stand apart."""
    counts = {}
    for n in (6, 8, 16, 48):
        study = Study("alike", list(range(n)), [0] * n)
        flagged = sum(
            bool(check_quality(simulated(study, FIRST_SEED + k)).summary()["outliers"])
            for k in range(seeds)
        )
        counts[str(n)] = {"studies": seeds, "with_outliers": flagged}
    return counts


def speed(n_samples: int, sites: int) -> dict[str, Any]:
    """Seconds for a study of many samples, a tenth of them seen twice."""
    twice = n_samples // 10
    people = [i % (n_samples - twice) for i in range(n_samples)]
    study = Study("large", people, [0] * n_samples, variants=sites - ORDINARY_SITES)
    methylome = simulated(study, FIRST_SEED)
    start = time.perf_counter()
    quality = check_quality(methylome)
    seconds = time.perf_counter() - start
    errors = pair_errors(quality, people)
    return {"samples": n_samples, "site_count": sites, "seconds": seconds} | errors


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures; `quick` uses fewer seeds and samples."""
    seeds = 2 if quick else 100
    simulations = {
        study.name: _totals(
            [
                pair_errors(check_quality(simulated(study, FIRST_SEED + k)), study.people)
                for k in range(seeds)
            ]
        )
        for study in studies()
    }
    shares = (1.0, 0.5) if quick else (1.0, 0.7, 0.5, 0.35, 0.25)
    return {
        "simulated": simulations,
        "lupus_thinned": {
            str(share): lupus_thinned(share, 1 if share == 1 else min(seeds, 40))
            for share in shares
        },
        "outliers_among_alike": outliers(min(seeds, 40)),
        "large": speed(100 if quick else 1000, 8000),
    }

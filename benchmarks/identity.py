"""Who is who: false and missed pairs on simulated people, and on the lupus set read thinly.

Simulated studies hold a few hundred CpGs with a common variant among thousands of ordinary ones,
a tenth of which tell the study's groups apart. Settings were chosen on seeds below 100, figures
come from seeds 100 and up.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from benchmarks import _people
from melisma import datasets
from melisma.calls import ingest
from melisma.methylome import Writer, dataset, open_methylome
from melisma.quality import Quality, check_quality

FIRST_SEED = 100
ORDINARY_SITES = 5000
# People, variants, depth, studies.
_FAMILIES = (
    *((8, variants, 20.0, 20) for variants in (300, 1000, 5000)),
    *((50, variants, 20.0, 10) for variants in (100, 300, 1000, 5000)),
    *((50, 1000, depth, 10) for depth in (2.0, 5.0, 10.0, 30.0)),
    *((200, variants, 10.0, 3) for variants in (300, 3000)),
    (1000, 1000, 10.0, 1),
)
_QUICK_FAMILIES = ((8, 1000, 20.0, 1), (50, 300, 20.0, 1))


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


def relations(n_people: int, variants: int, depth: float, seeds: int) -> dict[str, Any]:
    """True against found relations of every listed pair, in studies of families."""
    told: Counter[str] = Counter()
    sites, joined, untold, seconds = [], 0, 0, 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        people = _people.families(n_people, seed=seed)
        everyone = list(range(len(people.parents)))
        study = _people.Study(people, everyone, variants=variants, depth=depth)
        methylome = _people.simulate(study, seed)
        start = time.perf_counter()
        identity = check_quality(methylome).identity
        seconds += time.perf_counter() - start
        untold += not identity.resolved
        if not identity.resolved:
            continue
        sites.append(identity.sites)
        phi = people.kinship()
        chosen = identity.pairs.select("sample_a", "sample_b", "relation")
        for a, b, found in chosen.iter_rows():
            true = people.relation(int(a[1:]), int(b[1:]), phi)
            told[f"{true} > {found}"] += 1
            joined += found == _people.SAME != true
    return {
        "studies": seeds,
        "untold": untold,
        "sites": float(np.median(sites)) if sites else None,
        "false_joins": joined,
        "relations": dict(sorted(told.items())),
        "seconds": seconds,
    }


def twins(seeds: int) -> dict[str, int]:
    """Twenty twin pairs, half identical; in each study one wrong zygosity and one swap of pairs."""
    counts: Counter[str] = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        people = _people.twin_study(20)
        person = [i for i in range(len(people.parents)) if i % 4 >= 2]
        sheet = {
            "individual": [f"p{i}" for i in person],
            "twin_pair": [f"T{people.family[i]}" for i in person],
            "zygosity": ["MZ" if people.family[i] % 2 == 0 else "DZ" for i in person],
        }
        clean = _people.Study(people, person, variants=400)
        identity = check_quality(_people.simulate(clean, seed, sheet)).identity
        counts["studies"] += 1
        counts["clean_untold"] += not identity.resolved
        counts["clean_contradictions"] += len(identity.contradictions)
        sheet["zygosity"][:2] = ["DZ", "DZ"]
        swapped = list(person)
        swapped[8], swapped[12] = swapped[12], swapped[8]
        study = _people.Study(people, swapped, variants=400)
        identity = check_quality(_people.simulate(study, seed, sheet)).identity
        named = [set(c.samples) for c in identity.contradictions]
        counts["zygosity_found"] += {"s0", "s1"} in named
        counts["swap_found"] += {"s8", "s13"} in named and {"s9", "s12"} in named
        counts["false_contradictions"] += len(named) - sum(
            x in ({"s0", "s1"}, {"s8", "s13"}, {"s9", "s12"}) for x in map(frozenset, named)
        )
    return dict(counts)


def longitudinal(seeds: int, depth: float) -> dict[str, int]:
    """Twelve people three times: a swap, a file twice, a part of a library, a mixed sample."""
    counts: Counter[str] = Counter()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        people = _people.families(24, twins=0.0, seed=seed)
        person = [i for i in range(12) for _ in range(3)]
        sheet = {"individual": [*(f"p{i}" for i in person), "p20", "p21"]}
        true = list(person)
        true[4], true[16] = true[16], true[4]
        study = _people.Study(
            people,
            [*true, 20, 21],
            variants=600,
            depth=depth,
            mixed={7: (9, 0.15)},
            copied={36: 24},
            part={37: 33},
        )
        identity = check_quality(_people.simulate(study, seed, sheet)).identity
        counts["studies"] += 1
        counts["untold"] += not identity.resolved
        mended = "Exchanging s4 and s16 would reconcile"
        counts["swap_mended"] += any(n.startswith(mended) for n in identity.notes)
        copies = identity.pairs.drop_nulls("copy").select("sample_a", "sample_b").rows()
        counts["copy_found"] += ("s24", "s36") in copies
        counts["part_found"] += ("s33", "s37") in copies
        counts["false_copies"] += len(set(copies) - {("s24", "s36"), ("s33", "s37")})
        if identity.resolved:
            row = identity.mixtures.row(7, named=True)
            counts["mixed_found"] += row["mixed"]
            counts["mixed_interval_holds"] += row["foreign_low"] <= 0.15 <= row["foreign_high"]
            counts["false_mixed"] += identity.mixtures["mixed"].sum() - row["mixed"]
    return dict(counts)


def store(n_samples: int, n_sites: int) -> dict[str, Any]:
    """A store of families, a tenth of the samples seen twice and 1% swapped: time and memory.

    The ordinary sites beyond the first 20,000 are those of a smaller set with samples in another
    order, so that writing does not take longer than reading.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.zarr"
        truth = write_large(path, n_samples, n_sites)
        command = [sys.executable, "-m", "benchmarks.identity", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    found = {tuple(pair) for pair in told.pop("same")}
    same = {
        (f"s{a}", f"s{b}")
        for a in range(n_samples)
        for b in range(a + 1, n_samples)
        if truth[a] == truth[b]
    }
    return told | {
        "samples": n_samples,
        "same_pairs": len(same),
        "missed": len(same - found),
        "false": len(found - same),
    }


def write_large(path: Path, n_samples: int, n_sites: int) -> list[int]:
    """Write the store; the genotype of each sample."""
    rng = np.random.default_rng(FIRST_SEED)
    people = _people.families(n_samples * 9 // 10, seed=FIRST_SEED)
    once = list(range(n_samples * 9 // 10))
    person = [*once, *range(n_samples - len(once))]
    true = list(person)
    for _ in range(max(1, n_samples // 200)):
        a, b = rng.choice(n_samples, 2, replace=False)
        true[a], true[b] = true[b], true[a]
    first = _people.Study(people, true, variants=2000, ordinary=min(n_sites, 18_000), depth=12)
    contig, _, levels = _people.site_levels(first, rng)
    coverage, methylated = _people.read_counts(first, levels, rng)
    rest = _people.Study(people, true, variants=0, ordinary=20_000, moved=0.0, depth=12)
    more_contig, _, levels = _people.site_levels(rest, rng)
    more_coverage, more_methylated = _people.read_counts(rest, levels, rng)
    repeats = max(0, n_sites - len(contig)) // len(more_contig)
    sheet = {"sample": [f"s{i}" for i in range(n_samples)]}
    sheet["individual"] = [f"p{i}" for i in person]
    counts = dict.fromkeys(("methylated", "coverage"), np.uint16)
    with Writer(
        path, samples=sheet, contigs=_people.CONTIGS, marks=["m"], strands="merged", values=counts
    ) as writer:
        for k in range(len(_people.CONTIGS)):
            rows, more = np.flatnonzero(contig == k), np.flatnonzero(more_contig == k)
            places = np.arange(1, len(rows) + repeats * len(more) + 1) * 1500
            blocks = [(coverage[rows], methylated[rows])]
            start = 0
            for r in range(repeats + 1):
                if r:
                    order = rng.permutation(n_samples)
                    blocks = [(more_coverage[more][:, order], more_methylated[more][:, order])]
                for n, m in blocks:
                    zero = np.zeros(len(n), dtype=np.int8)
                    writer.append(
                        {
                            "contig": np.full(len(n), k, dtype=np.int16),
                            "position": places[start : start + len(n)].astype(np.int32),
                            "strand": zero,
                            "mark": zero,
                            "context": zero,
                            "methylated": m.astype(np.uint16),
                            "coverage": n.astype(np.uint16),
                        }
                    )
                    start += len(n)
    return [people.genotype[i] for i in true]


def _check_store(path: str) -> None:
    """Check a store and print what it took, as a process of its own."""
    methylome = open_methylome(path)
    start = time.perf_counter()
    identity = check_quality(methylome).identity
    seconds = time.perf_counter() - start
    same = identity.pairs.filter("same_person") if identity.resolved else identity.pairs.clear()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "site_count": methylome.sizes["site"],
                "seconds": seconds,
                "peak_mb": round(peak),
                "sites": identity.sites,
                "pairs_listed": identity.pairs.height,
                "same": same.select("sample_a", "sample_b").rows(),
            }
        )
    )


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures; `quick` uses fewer seeds and samples."""
    seeds = 1 if quick else 100
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
    old = {
        "simulated": simulations,
        "lupus_thinned": {
            str(share): lupus_thinned(share, 1 if share == 1 else min(seeds, 40))
            for share in shares
        },
        "outliers_among_alike": outliers(min(seeds, 40)),
        "large": speed(100 if quick else 1000, 8000),
    }
    return old | {
        "relations": {
            f"{n}_people_{variants}_variants_depth_{depth:g}": relations(n, variants, depth, k)
            for n, variants, depth, k in (_QUICK_FAMILIES if quick else _FAMILIES)
        },
        "twins": twins(1 if quick else 20),
        "longitudinal": {
            f"depth_{depth:g}": longitudinal(1 if quick else 20, depth)
            for depth in ((20.0,) if quick else (5.0, 10.0, 20.0, 30.0))
        },
        "store": store(*((60, 20_000) if quick else (1000, 1_000_000))),
    }


if __name__ == "__main__":
    _check_store(sys.argv[1])

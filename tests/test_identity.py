"""Who is who: the likelihoods against enumeration, people simulated and real, the sheet."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from melisma.errors import MelismaError
from melisma.methylome import dataset
from melisma.quality import check_quality, person_labels
from melisma.quality._candidates import GenotypePool, GenotypeSites, learn
from melisma.quality._genotypes import (
    CLASSES,
    STRAYS,
    class_table,
    hardy_weinberg,
    log_likelihoods,
    read_cells,
    transmission,
)
from melisma.quality._identity import _too_little
from melisma.quality._pairs import (
    PARENTS,
    SIBLINGS,
    group_people,
    level_distance,
    pair_scores,
    score_threshold,
)
from melisma.quality._sheet import contradictions
from melisma.quality._walk import stretches

LUPUS = Path(__file__).parents[2] / "shared" / "data" / "vendorable" / "lupus_rrbs"
GLIOMA = Path(__file__).parents[2] / "shared" / "data" / "vendorable" / "tcga_glioma"
CONTIGS = [f"chr{k}" for k in range(1, 23)]


def genotypes(rng, people, n_sites, parents=None):
    """Copies of the intact allele, (sites, samples); `parents` maps a child to two people."""
    frequency = rng.uniform(0.1, 0.9, (n_sites, 1, 1))
    alleles = rng.random((n_sites, max(people) + 1, 2)) < frequency
    for child, both in (parents or {}).items():
        for k, parent in enumerate(both):
            inherited = rng.integers(0, 2, n_sites)
            alleles[:, child, k] = alleles[np.arange(n_sites), parent, inherited]
    return alleles.sum(2)[:, people]


def ordinary_levels(rng, groups, n_sites):
    """Levels without variants: noisy sites of any mean, a tenth of which tell the groups apart."""
    mean, dispersion = rng.beta(0.8, 0.5, (n_sites, 1)), rng.beta(1, 12, (n_sites, 1)) + 1e-3
    a, b = (m * (1 - dispersion) / dispersion + 1e-3 for m in (mean, 1 - mean))
    levels = rng.beta(a, b, (n_sites, len(groups)))
    told = n_sites // 10
    high = rng.random((told, max(groups) + 1)) < 0.5
    noise = rng.normal(0, 0.05, (told, len(groups)))
    levels[:told] = np.where(high[:, groups], 0.9, 0.08) + noise
    return levels


def study(people, *, variants=300, groups=None, seed=0, depth=20, levels=None, **options):
    """A simulated study: `variants` genotype-like sites among 3,000 ordinary ones."""
    rng = np.random.default_rng(seed)
    groups = np.zeros(len(people), dtype=int) if groups is None else np.asarray(groups)
    copies = genotypes(rng, people, variants, options.pop("parents", None))
    intact = rng.beta(40, 3, (variants, 1))
    shifts = rng.normal(0, 0.03, (variants, len(people)))
    genotyped = np.where(copies == 0, 0.02, copies / 2 * intact + shifts * (copies == 1))
    others = ordinary_levels(rng, groups, 3000) if levels is None else levels(rng)
    all_levels = np.clip(np.concatenate([genotyped, others]), 0.005, 0.995)
    rng.shuffle(all_levels)
    n = len(all_levels)
    coverage = rng.poisson(depth * rng.gamma(4, 0.25, (n, 1)), (n, len(people)))
    return dataset(
        {"contig": np.arange(n) * 22 // n, "position": np.arange(n) * 5000},
        {"methylated": rng.binomial(coverage, all_levels), "coverage": coverage},
        {"sample": [f"s{i}" for i in range(len(people))], "group": groups.tolist()}
        | options.pop("sheet", {}),
        contigs=options.pop("contigs", CONTIGS),
    )


def test_class_probabilities_are_beta_binomial_with_strays():
    (mean, dispersion), n, m = CLASSES[1], 20, 9
    a, b = mean * (1 - dispersion) / dispersion, (1 - mean) * (1 - dispersion) / dispersion
    expected = (1 - STRAYS) * betabinom.pmf(m, n, a, b) + STRAYS / (n + 1)
    cell = read_cells(np.array([m]), np.array([n]))
    assert class_table()[cell][0, 1] == pytest.approx(expected)
    nothing = read_cells(np.array([0]), np.array([0]))
    assert class_table()[nothing][0] == pytest.approx([1, 1, 1])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5000), st.data())
def test_deep_cells_keep_their_level(coverage, data):
    methylated = data.draw(st.integers(0, coverage))
    n, m = divmod(int(read_cells(np.array([methylated]), np.array([coverage]))[0]), 65)
    assert n == min(coverage, 64)
    assert 0 <= m <= n
    if coverage:
        assert abs(m / n - methylated / coverage) <= 0.5 / n


@pytest.mark.parametrize("ordinary", [False, True])
def test_likelihoods_of_everything_that_shows_three_classes_sum_to_one(ordinary):
    depth = 6
    shown = [(0, 1), (2, 3, 4), (5, 6)]  # levels up to .2, .3 to .7, .8 and more
    reads = [
        cells
        for cells in product(range(depth + 1), repeat=3)
        if all(any(m in kind for m in cells) for kind in shown)
    ]
    cells = read_cells(np.array(reads), np.full((len(reads), 3), depth))
    total = np.exp(log_likelihoods(cells, ordinary=ordinary)).sum(0)
    assert total == pytest.approx(np.ones(len(total)))


def test_the_share_of_genotype_like_sites_is_learned():
    rng = np.random.default_rng(0)
    kind = rng.random(2000) < 0.2
    genotype = np.where(kind[:, None], 6.0, -6.0) + rng.normal(0, 0.1, (2000, 2))
    ordinary = rng.normal(0, 0.1, (2000, 3))
    found = learn(genotype, ordinary)
    assert found.share == pytest.approx(0.2, abs=0.02)
    assert found.evidence > 100
    none = learn(np.zeros((2000, 2)) - 3, ordinary)
    assert none.share == pytest.approx(0.001)
    assert none.evidence < 0


def random_sites(n_sites, n_samples, seed=0):
    rng = np.random.default_rng(seed)
    coverage = rng.integers(0, 30, (n_sites, n_samples))
    methylated = rng.binomial(coverage, rng.random((n_sites, n_samples)))
    return GenotypeSites(
        contig=np.zeros(n_sites, dtype=np.int64),
        position=np.arange(n_sites) * 5000,
        likelihood=class_table()[read_cells(methylated, coverage)],
        frequency=rng.uniform(0.1, 0.9, n_sites),
        weight=rng.uniform(0.5, 1, n_sites),
        level=np.where(coverage > 0, methylated / np.maximum(coverage, 1), np.nan),
        candidates=n_sites,
        evidence=100.0,
    )


def score_by_definition(sites, a, b):
    """Sums over genotypes written out, for one pair of samples."""
    logs = np.zeros(3)
    for j in range(len(sites.weight)):
        shares = hardy_weinberg(sites.frequency[j])
        child = transmission(sites.frequency[j : j + 1])[0]
        one, two = sites.likelihood[j, a], sites.likelihood[j, b]
        apart = (shares * one).sum() * (shares * two).sum()
        same = (shares * one * two).sum() / apart
        parent = (
            sum(shares[g] * child[g, h] * one[g] * two[h] for g, h in product(range(3), repeat=2))
            / apart
        )
        ratios = np.array([same, parent, 0.25 * same + 0.5 * parent + 0.25])
        logs += np.log(1 - sites.weight[j] + sites.weight[j] * ratios)
    related = PARENTS * np.exp(logs[1]) + SIBLINGS * np.exp(logs[2])
    return logs[0] - np.log(1 - PARENTS - SIBLINGS + related)


def test_pair_scores_are_those_of_the_definition():
    sites = random_sites(15, 70)
    scores = pair_scores(sites)
    for a, b in ((0, 1), (3, 3), (2, 69), (64, 65)):
        assert scores[a, b] == pytest.approx(score_by_definition(sites, a, b))
        assert scores[a, b] == scores[b, a]


def test_a_sample_without_reads_speaks_for_nobody():
    sites = random_sites(15, 3)
    sites.likelihood[:, 1] = 1.0
    assert pair_scores(sites)[1] == pytest.approx(np.zeros(3), abs=1e-12)


def test_transmission_keeps_hardy_weinberg():
    frequency = np.array([0.1, 0.5, 0.7])
    after = np.einsum("sg,sgh->sh", hardy_weinberg(frequency), transmission(frequency))
    assert after == pytest.approx(hardy_weinberg(frequency))


def test_threshold_asks_more_of_more_pairs():
    # No pair matches: the share of same-person pairs is one pair, odds 1:99, and 0.95 is 19:1.
    assert score_threshold(np.full(100, -30.0)) == pytest.approx(np.log(99 * 19))
    # A quarter of the pairs match beyond doubt.
    assert score_threshold(np.repeat([30.0, -30.0], [25, 75])) == pytest.approx(np.log(3 * 19))


def test_grouping_refuses_a_chain_that_contradicts_itself():
    # 0 matches 1, 1 matches 2, but 0 and 2 are different people: the weaker match gives way.
    scores = np.array([[40.0, 30, -9, -9], [30, 40, 20, -9], [-9, 20, 40, 25], [-9, -9, 25, 40]])
    grouping = group_people(scores, 6.0)
    assert grouping.people == (0, 0, 1, 1)
    assert grouping.conflicts == ((1, 2),)


def test_level_distance_by_hand():
    level = np.array([[0.0, 0.5, np.nan], [1.0, 0.5, 0.9]])
    distance, comparisons = level_distance(level)
    assert comparisons.tolist() == [[2, 2, 1], [2, 2, 1], [1, 1, 1]]
    assert distance == pytest.approx(np.array([[0, 0.5, 0.1], [0.5, 0, 0.4], [0.1, 0.4, 0]]))


def test_pairs_and_triples_of_treated_samples_are_put_together():
    people = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 5, 6]
    treatment = [0] * 5 + [1] * 5 + [2] * 2 + [0, 1]
    methylome = study(people, groups=treatment)
    identity = check_quality(methylome).identity
    assert identity.resolved
    assert identity.people == tuple(people)
    assert identity.sentence.endswith(
        "14 samples come from 7 people: 2 seen once, 3 seen twice, 2 seen 3 times."
    )
    assert person_labels(identity)[:6] == [
        "donor1",
        "donor2",
        "donor3",
        "donor4",
        "donor5",
        "donor1",
    ]
    same = identity.pairs.filter("same_person")
    assert same.height == 3 + 2 * 3
    assert same["score"].min() > identity.threshold > 0  # type: ignore[operator]
    others = identity.pairs.filter(~pl.col("same_person"))
    assert others["distance"].min() > same["distance"].max()  # type: ignore[operator]
    assert identity.contradictions == ()


def test_the_order_of_samples_and_the_chunks_do_not_matter():
    people = [0, 0, 1, 1, 2, 2, 3, 3]
    methylome = study(people, seed=3)
    order = np.random.default_rng(1).permutation(8)
    shuffled = check_quality(methylome.isel(sample=order)).identity.people
    together = {frozenset(order[np.flatnonzero(np.array(shuffled) == p)]) for p in set(shuffled)}
    assert together == {frozenset((2 * p, 2 * p + 1)) for p in range(4)}

    def chosen(step):
        pool = GenotypePool(8, CONTIGS)
        for stretch in stretches(methylome, step):
            pool.add(stretch)
        return pool.select()

    whole, parts = chosen(None), chosen(101)
    for name in ("contig", "position", "likelihood", "weight", "frequency"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("depth", [6, 20])
def test_unrelated_people_are_never_joined(depth):
    for seed in range(4):
        identity = check_quality(study(list(range(12)), seed=seed, depth=depth)).identity
        assert identity.people == tuple(range(12))
        assert identity.sentence.endswith("the 12 samples come from 12 different people.")


def test_too_few_genotypes_are_said_in_a_sentence():
    sites = random_sites(27, 6)
    few = replace(sites, weight=np.full(27, 0.1), candidates=40)
    assert _too_little(few, 6) == (
        "Too few sites look like genotypes: 40 have low, middle and high levels, 27 of them may be "
        "genotypes, and by their probabilities 2.7 are; at least 10 are needed."
    )
    assert "hardly better than that none is" in _too_little(replace(sites, evidence=9.0), 6)
    assert _too_little(sites, 6) == ""


def test_brothers_and_parents_are_not_one_person():
    children = dict.fromkeys(range(2, 6), (0, 1))
    for seed in range(3):
        identity = check_quality(study(list(range(12)), seed=seed, parents=children)).identity
        assert identity.people == tuple(range(12))


def untold(methylome, reason):
    identity = check_quality(methylome).identity
    assert not identity.resolved
    assert identity.people == ()
    assert identity.contradictions == ()
    assert identity.pairs["same_person"].null_count() == identity.pairs.height
    assert identity.sentence == "Which samples come from one person cannot be told."
    assert reason in identity.reason
    with pytest.raises(MelismaError, match="cannot serve as blocks"):
        person_labels(identity)


@pytest.mark.parametrize("seed", range(3))
def test_two_groups_without_variants_cannot_be_told(seed):
    untold(study([*range(8)], variants=0, groups=[0] * 4 + [1] * 4, seed=seed), "at least 10")


def test_noise_that_reaches_every_level_cannot_be_told():
    def noisy(rng):
        mean, dispersion = rng.random((3000, 1)), rng.uniform(0.1, 0.6, (3000, 1))
        a, b = (m * (1 - dispersion) / dispersion for m in (mean, 1 - mean))
        return rng.beta(a, b, (3000, 16))

    untold(study([*range(16)], variants=0, levels=noisy), "at least 10")


def test_a_cell_mixture_in_three_steps_cannot_be_told():
    share = np.array([0, 0.5, 1] * 5)

    def mixed(rng):
        turned = rng.random((600, 1)) < 0.5
        return np.where(turned, 0.95 - 0.92 * share, 0.03 + 0.92 * share)

    untold(study([*range(15)], variants=0, levels=mixed), "move together")


def test_sex_chromosomes_tell_nobody_apart():
    people = [0, 0, 1, 1, 2, 2, 3, 3]
    sexual = ["chrX", "chrY", "chrM", *(f"X{k}" for k in range(19))]
    untold(study(people, contigs=["chrX", *CONTIGS[1:]]).isel(site=slice(0, 140)), "at least 10")
    assert check_quality(study(people, contigs=sexual)).identity.resolved


@pytest.mark.parametrize("people", [[0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]])
def test_fewer_than_three_people_cannot_show_three_genotypes(people):
    untold(study(people), "at least")


def test_a_thin_sample_is_left_unplaced_and_named():
    people = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    methylome = study(people)
    coverage = methylome["coverage"].values.copy()
    methylated = methylome["methylated"].values.copy()
    coverage[:, 3], methylated[:, 3] = 0, 0
    thin = methylome.assign(
        coverage=(("site", "sample"), coverage), methylated=(("site", "sample"), methylated)
    )
    identity = check_quality(thin).identity
    assert identity.resolved
    assert "Too few reads at these sites to place s3" in identity.reason
    assert identity.people == (0, 0, 1, 2, 3, 3, 4, 4, 5, 5)


def test_people_that_coincide_with_a_column_carry_a_caveat():
    people = [i // 3 for i in range(12)]
    identity = check_quality(study(people, variants=1200, groups=people)).identity
    assert identity.people == tuple(people)
    assert "coincide with the column group" in identity.reason


def told(people, sheet):
    return contradictions(people, [f"s{i}" for i in range(len(people))], sheet)


def test_one_person_under_two_names_and_two_under_one():
    found = told([0, 0, 1, 1], {"individual": ["ann", "bob", "bob", "bob"]})
    assert [c.samples for c in found] == [("s0", "s1"), ("s1", "s2", "s3")]
    assert [(c.column, c.found, c.expected) for c in found] == [
        ("individual", "ann, bob", "one individual"),
        ("individual", "bob", "2 people"),
    ]
    assert found[0].sentence == (
        "s0 and s1 come from one person, but the sheet has s0 as ann and s1 as bob."
    )
    assert found[1].sentence == (
        "s1, s2 and s3 are all bob in the sheet, but come from 2 people (s1 | s2, s3)."
    )


def test_missing_individuals_contradict_nothing():
    assert told([0, 0, 1], {"individual": ["ann", "", "bob"]}) == ()


PAIRS = [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_trait_of_people_names_the_exception():
    (found,) = told(PAIRS, {"disease": list("hhllhhhl")})
    assert (found.samples, found.column, found.found) == (("s6", "s7"), "disease", "h, l")
    assert found.sentence == (
        "s6 and s7 come from one person, but for disease the sheet has s6 as h and s7 as l, and "
        "disease is the same inside 3 of 4 people."
    )


SIX = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_a_condition_names_exceptions_and_the_exchange_that_mends_them():
    found = told(SIX, {"cell": list("rararararraa"), "disease": list("hhhhllllllll")})
    assert [c.samples for c in found] == [("s8", "s9"), ("s10", "s11")]
    assert {c.column for c in found} == {"cell"}
    assert found[0].sentence == (
        "s8 and s9 come from one person, but both are r in the sheet, and cell differs inside 4 "
        "of 6 people. Exchanging one of them with one of s10 and s11 would reconcile both pairs: "
        "a swap is likely, not proven."
    )


def test_no_exchange_is_offered_where_it_would_break_a_trait():
    found = told(SIX, {"cell": list("rararararraa"), "disease": list("hhhhllllhhll")})
    assert len(found) == 2
    assert not any("Exchanging" in c.sentence for c in found)


@pytest.mark.parametrize(
    "column",
    [
        ["a", "b", "c", "d", "e", "f", "g", "h"],  # a name of each sample
        [1.5, 1.5, 2.5, 2.5, 3.5, 3.5, 1.5, 2.5],  # a measurement
        ["x"] * 8,  # nothing to compare
        list("aabbabba"),  # constant in two people, different in two
    ],
)
def test_columns_without_a_pattern_contradict_nothing(column):
    assert told(PAIRS, {"column": column}) == ()


def lupus():
    calls = pl.read_csv(LUPUS / "calls.tsv.gz", separator="\t")
    sheet = pl.read_csv(LUPUS / "samples.tsv", separator="\t")
    values = {
        name: calls.select(f"{s}_{name}" for s in sheet["sample"]).to_numpy()
        for name in ("methylated", "coverage")
    }
    return dataset(
        {"contig": np.zeros(calls.height), "position": calls["start"].to_numpy()},
        values,
        {name: sheet[name].to_list() for name in sheet.columns},
        contigs=["chr1"],
    )


@pytest.mark.reference
@pytest.mark.skipif(not LUPUS.exists(), reason="the lupus set is not here")
def test_lupus_donors_and_the_two_pairs_that_contradict_the_labels():
    methylome = lupus()
    quality = check_quality(methylome)
    identity = quality.identity
    assert identity.sentence.endswith("the 16 samples come from 8 people, each seen twice.")
    same = identity.pairs.filter("same_person").select("sample_a", "sample_b").rows()
    expected = [(1, 14), (2, 12), (3, 13), (4, 5), (6, 10), (7, 11), (8, 9), (15, 16)]
    assert sorted(same) == sorted((f"sample{a}", f"sample{b}") for a, b in expected)
    others = identity.pairs.filter(~pl.col("same_person"))["score"]
    assert others.max() < -5  # type: ignore[operator]
    assert [(c.samples, c.column) for c in identity.contradictions] == [
        (("sample6", "sample10"), "cell"),
        (("sample7", "sample11"), "cell"),
    ]
    assert all("a swap is likely, not proven" in c.sentence for c in identity.contradictions)
    # The people come from the calls alone: without the sheet's columns they are the same.
    bare = check_quality(methylome.drop_vars(["disease", "cell"])).identity
    assert (bare.people, bare.contradictions) == (identity.people, ())


@pytest.mark.reference
@pytest.mark.skipif(not GLIOMA.exists(), reason="the glioma set is not here")
def test_tumours_without_genotype_probes_cannot_be_told():
    table = pl.read_csv(GLIOMA / "betas.tsv.gz", separator="\t", null_values=["NA"], n_rows=250)
    beta = table.drop("patient").to_numpy().T.astype(np.float32)
    methylome = dataset(
        {"contig": np.zeros(len(beta)), "position": np.arange(len(beta))},
        {"beta": beta},
        {"sample": table["patient"].to_list()},
        contigs=["unknown"],
    )
    identity = check_quality(methylome).identity
    assert not identity.resolved
    assert identity.people == ()

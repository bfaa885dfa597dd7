"""Relations, kinship, twins, copies, mixtures, mending: by hand, by definition, simulated."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.methylome import dataset
from melisma.quality import check_quality
from melisma.quality._candidates import GenotypeSites, variant_probes
from melisma.quality._contamination import SHARES, mixing
from melisma.quality._copies import COPY, SHARED
from melisma.quality._genotypes import class_table, hardy_weinberg, read_cells, transmission
from melisma.quality._kin import find_kin
from melisma.quality._population import allele_frequencies, own_frequencies
from melisma.quality._relabel import reconcile
from melisma.quality._relations import (
    NAMES,
    PARENT,
    RELATIONS,
    SAME,
    SECOND,
    SIBLINGS,
    UNRELATED,
    UNTOLD,
    compare,
    kinship_intervals,
    posteriors,
    separable,
    told,
    widening,
)
from melisma.quality._twins import twins

# Reads that show a genotype beyond doubt.
CERTAIN = np.eye(3)


def test_ratios_of_certain_genotypes_by_hand():
    # q = 1/2, both have one copy: one person 1 / P(1) = 2; one shared allele gives
    # P(1, 1) / P(1)^2 = (1/2 x 1/2) / (1/4) = 1; siblings 1/4 + 1/2 + 2/4 = 5/4.
    likelihood = CERTAIN[[[1, 1]]]
    logs = compare(likelihood, np.array([0.5]), np.array([1.0])).ratios[0, 1]
    assert np.exp(logs) == pytest.approx([2, 1, 1.25, 1, 1])
    # Both have two copies: 1 / P(2) = 4, one allele 2, siblings 1/4 + 1 + 1, half 1.5, 1.25.
    logs = compare(CERTAIN[[[2, 2]]], np.array([0.5]), np.array([1.0])).ratios[0, 1]
    assert np.exp(logs) == pytest.approx([4, 2, 2.25, 1.5, 1.25])
    # None and two: no allele can be shared.
    logs = compare(CERTAIN[[[0, 2]]], np.array([0.5]), np.array([0.98])).ratios[0, 1]
    assert np.exp(logs) == pytest.approx([0.02, 0.02, 0.02 + 0.98 / 4, 0.51, 0.755])


def reads(copies, seed=0, depth=20):
    """Sites from copies (sites, samples), as read."""
    rng = np.random.default_rng(seed)
    coverage = rng.poisson(depth, copies.shape)
    cells = read_cells(rng.binomial(coverage, np.array([0.02, 0.5, 0.95])[copies]), coverage)
    n = len(copies)
    return GenotypeSites(
        contig=np.zeros(n, dtype=np.int64),
        position=np.arange(n) * 5000,
        likelihood=class_table()[cells],
        frequency=np.full(n, 0.5),
        weight=np.full(n, 0.99),
        level=np.zeros(copies.shape),
        candidates=n,
        evidence=100.0,
        cells=cells,
    )


def family(n_sites, seed=0):
    """Father, mother, two children, half-sibling's other parent, half-sibling, twin, stranger."""
    rng = np.random.default_rng(seed)
    q = rng.uniform(0.2, 0.8, n_sites)

    def founder():
        return (rng.random((n_sites, 2)) < q[:, None]).astype(int)

    def child(a, b):
        rows, sides = np.arange(n_sites), rng.integers(0, 2, (2, n_sites))
        return np.stack([a[rows, sides[0]], b[rows, sides[1]]], axis=1)

    father, mother, other = founder(), founder(), founder()
    one, two, half = child(father, mother), child(father, mother), child(father, other)
    people = [father, mother, one, two, other, half, one, founder()]
    return np.stack([p.sum(1) for p in people], axis=1), q


TRUTH = {
    (0, 1): UNRELATED,
    (0, 2): PARENT,
    (1, 3): PARENT,
    (0, 5): PARENT,
    (2, 3): SIBLINGS,
    (2, 5): SECOND,
    (3, 5): SECOND,
    (2, 6): SAME,
    (4, 7): UNRELATED,
    (1, 5): UNRELATED,
}


def relations_of(sites, q, pairs):
    ratios = compare(sites.likelihood, q, sites.weight).ratios[tuple(np.array(pairs).T)]
    found, probability = told(ratios, posteriors(ratios))
    return [UNTOLD if k < 0 else NAMES[k] for k in found], probability


def test_a_family_is_told_by_many_sites():
    copies, q = family(3000)
    names, probability = relations_of(reads(copies), q, list(TRUTH))
    assert dict(zip(TRUTH, names, strict=True)) == TRUTH
    assert probability.min() > 0.95


def test_few_sites_claim_no_degree():
    copies, q = family(12)
    names, _ = relations_of(reads(copies), q, list(TRUTH))
    wrong = [n for n, true in zip(names, TRUTH.values(), strict=True) if n not in (true, UNTOLD)]
    assert wrong == []
    assert names.count(UNTOLD) >= 6


def test_a_pair_without_reads_cannot_be_told():
    ratios = np.zeros((50, len(RELATIONS)))
    found, _ = told(ratios, posteriors(ratios))
    assert set(found.tolist()) == {-1}


def test_kinship_is_the_pedigrees_and_inside_its_interval():
    copies, q = family(1500)
    sites = reads(copies)
    pairs = np.array(list(TRUTH))
    found = kinship_intervals(sites.likelihood, q, sites.weight, pairs, 1.0)
    truth = {SAME: 0.5, PARENT: 0.25, SIBLINGS: 0.25, SECOND: 0.125, UNRELATED: 0.0}
    for (phi, low, high), name in zip(found, TRUTH.values(), strict=True):
        assert low <= phi <= high
        assert phi == pytest.approx(truth[name], abs=0.04)
        assert high - low < 0.1


def test_kinship_is_the_maximum_over_all_shares():
    copies, q = family(60)
    sites = reads(copies, depth=8)
    pairs = np.array([(2, 5), (2, 3), (0, 1), (2, 6), (0, 2)])
    for (a, b), (phi, low, high) in zip(
        pairs, kinship_intervals(sites.likelihood, q, sites.weight, pairs, 1.0), strict=True
    ):
        best = {}
        p = hardy_weinberg(q)
        one, two = sites.likelihood[:, a], sites.likelihood[:, b]
        apart = (p * one).sum(1) * (p * two).sum(1)
        r2 = (p * one * two).sum(1) / apart
        r1 = np.einsum("jg,jgh,jg,jh->j", p, transmission(q), one, two) / apart
        for k1, k2 in product(np.linspace(0, 1, 101), repeat=2):
            if k1 + k2 <= 1 + 1e-9:
                value = np.log(1 + 0.99 * (k1 * (r1 - 1) + k2 * (r2 - 1))).sum()
                at = round(k1 / 4 + k2 / 2, 4)
                best[at] = max(best.get(at, -np.inf), value)
        top = max(best.values())
        assert best[min(best, key=lambda x: abs(x - phi))] == pytest.approx(top, abs=0.05)
        inside = [x for x, value in best.items() if value >= top - 1.92]
        assert low == pytest.approx(min(inside), abs=0.012)
        assert high == pytest.approx(max(inside), abs=0.012)


def test_which_relations_sites_tell_apart_grows_with_them():
    q, w = np.full(5000, 0.5), np.ones(5000)
    few, some, many = (set(separable(q[:n], w[:n], 1.0)) for n in (10, 100, 5000))
    assert few < some < many
    assert (SECOND, UNRELATED) in many
    assert (SECOND, UNRELATED) not in some
    assert (SAME, PARENT) in some


def test_widening_is_one_for_independent_people_and_more_for_populations():
    rng = np.random.default_rng(0)
    q = rng.uniform(0.2, 0.8, (400, 1))
    sites = reads(rng.binomial(2, np.broadcast_to(q, (400, 40))))
    alone = widening(compare(sites.likelihood, q[:, 0], sites.weight))
    shift = rng.normal(0, 0.15, (400, 2)).repeat(20, axis=1)
    sites = reads(rng.binomial(2, np.clip(q + shift, 0.02, 0.98)))
    common = allele_frequencies(sites.likelihood, q[:, 0])
    mixed = widening(compare(sites.likelihood, common, sites.weight))
    own = own_frequencies(sites.likelihood, common, np.arange(40))
    assert own.shape == (400, 40)
    fitted = widening(compare(sites.likelihood, own, sites.weight))
    assert alone < 1.4
    assert fitted < mixed / 2


def test_frequencies_from_certain_genotypes_by_hand():
    # 1 + 2 + 0 copies of 6, and one imagined intact and one lost: 4 of 8.
    likelihood = CERTAIN[[[1, 2, 0]]]
    assert allele_frequencies(likelihood, np.array([0.3])) == pytest.approx([0.5])


def test_a_mixed_sample_is_measured_and_the_others_are_not_mixed():
    rng = np.random.default_rng(3)
    q = rng.uniform(0.2, 0.8, 400)
    copies = rng.binomial(2, np.broadcast_to(q[:, None], (400, 12)))
    sites = reads(copies, depth=30)
    level = np.array([0.02, 0.5, 0.95])[copies]
    mixed = 0.8 * level[:, 0] + 0.2 * level[:, 1]
    coverage = rng.poisson(30, 400)
    cells = sites.cells.copy()
    cells[:, 0] = read_cells(rng.binomial(coverage, mixed), coverage)
    sites = GenotypeSites(
        **(vars(sites) | {"cells": cells, "likelihood": class_table()[cells], "frequency": q})
    )
    found = mixing(sites, q)
    assert found.mixed.tolist() == [True] + [False] * 11
    assert found.low[0] <= 0.2 <= found.high[0]
    assert found.share[0] == pytest.approx(0.2, abs=0.06)
    assert found.share[1:].max() <= SHARES[2]


def brute(people, labels):
    """Fewest samples to relabel so that people and labels are one to one, by enumeration."""
    groups, names = sorted(set(people)), sorted(set(labels))
    names = names + [None] * max(0, len(groups) - len(names))
    return min(
        sum(
            label != dict(zip(groups, p, strict=True))[g]
            for g, label in zip(people, labels, strict=True)
        )
        for p in permutations(names, len(groups))
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=3, max_size=9), st.randoms())
def test_one_exchange_is_found_or_said_to_be_one_of_several(people, random):
    labels = [f"p{p}" for p in people]
    i, j = random.randrange(len(people)), random.randrange(len(people))
    labels[i], labels[j] = labels[j], labels[i]
    found = reconcile(people, labels)
    if labels[i] == f"p{people[i]}":
        assert found == ()
        return
    for one in found:
        assert one.exchange
        assert len(one.ways[0]) == brute(people, labels)
        for way in one.ways:
            mended = list(labels)
            for sample, label in way:
                mended[sample] = label
            pairs = set(zip(people, mended, strict=True))
            assert len(pairs) == len({p for p, _ in pairs}) == len({x for _, x in pairs})
            assert sorted(mended) == sorted(labels)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(6)))
def test_mending_does_not_depend_on_the_order_of_samples(order):
    people, labels = [0, 0, 0, 1, 1, 1], ["a", "a", "b", "b", "b", "a"]
    (found,) = reconcile([people[i] for i in order], [labels[i] for i in order])
    assert {(order[sample], label) for sample, label in found.ways[0]} == {(2, "a"), (5, "b")}
    assert found.unique


def twin_words(people, sheet, relation=UNTOLD):
    names = [f"s{i}" for i in range(len(people))]
    return twins(people, names, sheet, lambda i, j: relation)


TWINS = {"individual": ["a1", "a2", "b1", "b2"], "twin_pair": ["A", "A", "B", "B"]}


def test_identical_twins_are_no_contradiction():
    found = twin_words([0, 0, 1, 1], TWINS | {"zygosity": ["MZ"] * 4})
    assert found.contradictions == ()
    assert found.notes == (
        "2 pairs have one genotype each, identical twins as the sheet says: "
        "a1 and a2 of twin_pair A; b1 and b2 of twin_pair B.",
    )
    assert found.units == ("twin_pair A", "twin_pair A", "twin_pair B", "twin_pair B")


def test_one_genotype_in_two_pairs_is_a_duplicate_or_a_swap():
    found = twin_words([0, 1, 0, 1], TWINS | {"zygosity": ["MZ"] * 4})
    assert [c.samples for c in found.contradictions] == [("s0", "s2"), ("s1", "s3")]
    assert found.contradictions[0].sentence == (
        "s0 and s2 come from one person or from identical twins, but the sheet has s0 as a1 of "
        "twin_pair A and s2 as b1 of twin_pair B: a duplicate or a swap."
    )


def test_wrong_zygosity_is_named_either_way():
    sheet = TWINS | {"zygosity": ["DZ", "DZ", "MZ", "MZ"]}
    found = twin_words([0, 0, 1, 2], sheet, SIBLINGS)
    assert [c.sentence for c in found.contradictions] == [
        "a1 and a2 of twin_pair A are dizygotic in the sheet but share one genotype: they are "
        "identical twins, or one of them was sampled twice.",
        "b1 and b2 of twin_pair B are monozygotic in the sheet but have two genotypes, those of "
        "full siblings: they are dizygotic twins.",
    ]
    assert twin_words([0, 0, 1, 2], sheet, UNRELATED).contradictions[1].sentence == (
        "b1 and b2 of twin_pair B are monozygotic in the sheet but have the genotypes of "
        "unrelated people: one of them is swapped or mislabelled."
    )


def test_relatives_in_two_families_are_named():
    sheet = {"individual": ["a", "b"], "family": ["F", "G"]}
    (found,) = twin_words([0, 1], sheet, PARENT).contradictions
    assert found.sentence == (
        "s0 and s1 are parent and child, but the sheet has them in family F and G."
    )
    assert twin_words([0, 1], sheet, UNTOLD).contradictions == ()


def counted(rng, n_sites=1500, n_samples=4):
    level = np.repeat(rng.beta(2, 1, (n_sites, 1)), n_samples, axis=1)
    coverage = rng.poisson(20, level.shape)
    return rng.binomial(coverage, level), coverage


def copies_in(methylated, coverage):
    n = len(methylated)
    methylome = dataset(
        {"contig": np.zeros(n), "position": np.arange(n) * 10},
        {"methylated": methylated, "coverage": coverage},
        {"sample": list("abcd")},
        contigs=["chr1"],
    )
    identity = check_quality(methylome).identity
    table = identity.pairs.filter(pl.col("copy").is_not_null())
    return table.select("sample_a", "sample_b", "copy").rows(), identity.notes


def test_a_file_under_two_names_and_a_part_of_a_library_are_told_from_replicates():
    rng = np.random.default_rng(0)
    methylated, coverage = counted(rng)
    assert copies_in(methylated, coverage) == ([], ())
    m, n = methylated.copy(), coverage.copy()
    m[:, 2], n[:, 2] = m[:, 0], n[:, 0]
    found, notes = copies_in(m, n)
    assert found == [("a", "c", COPY)]
    assert notes == (
        "a and c hold the same calls at 100% of the sites compared: one file under two names.",
    )
    m, n = methylated.copy(), coverage.copy()
    m[:, 3] = rng.binomial(m[:, 1], 0.5)
    n[:, 3] = m[:, 3] + rng.binomial(coverage[:, 1] - methylated[:, 1], 0.5)
    found, notes = copies_in(m, n)
    assert found == [("b", "d", SHARED)]
    # Half of the reads against all of them: (2 - 1) / (2 + 1) of independent reads' variance.
    assert "differ by 0.3" in notes[0]


def probes(names, copies, seed=0):
    rng = np.random.default_rng(seed)
    beta = np.array([0.06, 0.5, 0.92])[copies] + rng.normal(0, 0.03, copies.shape)
    return dataset(
        {
            "contig": np.full(len(beta), -1),
            "position": np.full(len(beta), -1),
            "probe": names,
        },
        {"beta": np.clip(beta, 0, 1).astype(np.float32)},
        {"sample": [f"s{i}" for i in range(copies.shape[1])], "individual": list("aabb")},
        contigs=[],
    )


def test_variant_probes_of_an_array_are_used_even_for_two_people():
    rng = np.random.default_rng(5)
    own = rng.binomial(2, 0.5, (59, 2))
    identity = check_quality(
        probes([f"rs{i:05d}" for i in range(59)], own[:, [0, 0, 1, 1]])
    ).identity
    assert identity.people == (0, 0, 1, 1)
    assert identity.sites == 59
    assert identity.contradictions == ()
    swapped = check_quality(
        probes([f"rs{i:05d}" for i in range(59)], own[:, [0, 1, 0, 1]])
    ).identity
    assert [c.samples for c in swapped.contradictions] == [
        ("s0", "s2"),
        ("s1", "s3"),
        ("s0", "s1"),
        ("s2", "s3"),
    ]


def test_variant_probe_sites_are_marked_as_known():
    sites = variant_probes(np.array([[0.02, 0.5, 0.97]]))
    assert sites.known
    assert sites.likelihood[0].argmax(1).tolist() == [0, 1, 2]
    assert NAMES[0] == SAME


def test_relations_do_not_depend_on_the_order_of_samples():
    copies, q = family(800)
    sites = replace(reads(copies), frequency=q)
    order = np.random.default_rng(2).permutation(8)
    turned = replace(
        sites, likelihood=sites.likelihood[:, order], level=sites.level[:, order], cells=None
    )
    here, there = find_kin(sites), find_kin(turned)
    for a, b in permutations(range(8), 2):
        assert there.named(a, b) == here.named(order[a], order[b])
        assert there.scores[a, b] == pytest.approx(here.scores[order[a], order[b]], rel=1e-6)

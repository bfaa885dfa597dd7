"""Strand differences against a plain loop, by hand, and whatever the chunks."""

import numpy as np
import pytest

from melisma.methylome import CONTEXTS, dataset
from melisma.quality import check_quality
from melisma.quality._bias import StrandPairs
from melisma.quality._walk import stretches

CG, CHH = CONTEXTS.index("CG"), CONTEXTS.index("CHH")


def strand_store(methylated, coverage, *, gap=20, strands="separate", context=CG):
    """CpGs `gap` apart; rows alternate + and -."""
    n = len(methylated) // 2
    return dataset(
        {
            "contig": np.zeros(2 * n),
            "position": (np.arange(n)[:, None] * gap + [0, 1]).ravel(),
            "strand": np.tile([1, -1], n),
            "context": np.full(2 * n, context),
        },
        {"methylated": methylated, "coverage": coverage},
        {"sample": [f"s{i}" for i in range(methylated.shape[1])]},
        contigs=["chr1"],
        strands=strands,
    )


def simulated(shift, n=2000, seed=0):
    """Simulated CpGs in three samples whose + strand reads `shift` too high."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(0.2, 0.8, n), 2)[:, None] + np.tile([shift, 0.0], n)[:, None]
    coverage = rng.poisson(12, (2 * n, 3))
    return rng.binomial(coverage, level), coverage


def test_the_difference_is_mantel_haenszels_by_hand():
    # CpG 1: 3/4 on +, 1/4 on -, weight 2; CpG 2: 2/2 on +, 0/2 on -, weight 1: (2*.5 + 1*1) / 3.
    methylated = np.array([[3], [1], [2], [0]] * 50)
    coverage = np.array([[4], [4], [2], [2]] * 50)
    row = check_quality(strand_store(methylated, coverage)).bias.row(0, named=True)
    assert row["strand_pairs"] == 100
    assert row["strand_difference"] == pytest.approx(2 / 3)
    # Scatter: 50 * (4 * (1/2 - 2/3)^2 + 1 * (1 - 2/3)^2) under the root, over 150.
    error = np.sqrt(50 * (4 / 36 + 1 / 9)) / 150
    assert row["strand_high"] - row["strand_difference"] == pytest.approx(1.959964 * error)
    assert row["plus_share"] == 0.5
    assert row["level_cg"] == 0.5
    assert row["level_chh"] is None


def test_sums_do_not_depend_on_the_chunks():
    methylated, coverage = simulated(0.1, 60)
    store = strand_store(methylated, coverage)
    found = []
    for sites in (1, 7, 120):
        pairs = StrandPairs(3, separate=True)
        for stretch in stretches(store, sites):
            pairs.add(stretch)
        found.append(np.vstack([pairs.sums, pairs.pairs, pairs.reads]))
    assert found[0] == pytest.approx(found[2])
    assert found[1] == pytest.approx(found[2])
    assert found[0][5].max() <= 60


def test_a_shift_is_found_and_fails_and_none_is_calm():
    bad = check_quality(strand_store(*simulated(0.1)))
    assert bad.bias["strand_difference"].to_list() == pytest.approx([0.1] * 3, abs=0.02)
    assert max(bad.bias["strand_p"]) < 1e-6
    status = dict(
        bad.checks.filter(check="max_strand_difference").select("sample", "status").rows()
    )
    assert status == dict.fromkeys(("s0", "s1", "s2"), "fail")
    calm = check_quality(strand_store(*simulated(0.0)))
    assert set(calm.checks.filter(check="max_strand_difference")["status"]) == {"pass"}


def test_p_values_allow_for_overdispersion():
    # Simulated: strands differ at random by CpG, none on average; p below .05 in about 5%.
    rng = np.random.default_rng(5)
    level = np.clip(0.5 + rng.normal(0, 0.15, (1000, 200)), 0, 1)
    coverage = np.full((1000, 200), 30)
    store = strand_store(rng.binomial(coverage, level), coverage)
    share = (check_quality(store, sites=100).bias["strand_p"] < 0.05).mean()
    assert share is not None
    assert 0.015 < share < 0.1


@pytest.mark.parametrize("change", [{"strands": "merged"}, {"gap": 1}, {"context": CHH}])
def test_what_is_no_pair_is_not_compared(change):
    methylated, coverage = simulated(0.1, 200)
    if change.get("gap") == 1:
        # Neighbours 2 bp apart are not the strands of one CpG.
        made = strand_store(methylated, coverage)
        made["position"] = ("site", np.arange(400, dtype=np.int32) * 2)
    else:
        made = strand_store(methylated, coverage, **change)
    quality = check_quality(made)
    assert quality.bias["strand_difference"].null_count() == 3
    assert quality.bias["strand_pairs"].sum() == 0
    assert set(quality.checks.filter(check="max_strand_difference")["status"]) == {"not applicable"}
    assert "Strands cannot be compared" in quality.sentences()["strands"]

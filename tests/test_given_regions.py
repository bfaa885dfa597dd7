"""Given regions: sums worked by hand, size on simulated nulls, regions that cannot be tested."""

import numpy as np
import polars as pl
import pytest

from melisma.design import make_design
from melisma.differential import find_regions, region_tests, simulate, tiles
from melisma.differential._given_kernels import region_sums
from melisma.differential._moderation import moderate_regions
from melisma.differential.given import NO_SITE, NOT_TESTABLE
from melisma.errors import MelismaError
from melisma.methylome import dataset, sample_sheet


def sheet(groups):
    return {"sample": [f"s{i}" for i in range(len(groups))], "g": list(groups)}


def simulated(seed, groups, sites=8000, delta=None, **options):
    rng = np.random.default_rng(seed)
    exposure = np.array([float(g == "b") for g in groups])
    return simulate(
        np.cumsum(rng.integers(2, 90, sites)),
        rng.beta(2, 1, sites),
        np.full(sites, 12.0),
        sheet(groups),
        seed=seed,
        exposure=None if delta is None else exposure,
        regions=0 if delta is None else 20,
        delta=delta or 0.0,
        **options,
    )


def test_sums_over_regions_allow_for_correlation():
    rng = np.random.default_rng(0)
    error, root = rng.normal(size=(4, 3)), np.array([1.0, 2.0, 0.0, 1.5])
    df = np.array([6.0, 4.0, 0.0, 6.0])
    scale, shared = np.array([1.0, 2.0, 1.0, 1.0]), np.array([0.5, 0.6, 0.7, 0.8])
    decay = np.array([0.0, 0.9, 0.8, 0.5])
    total, freedom, tested = region_sums(
        error, root, df, scale, shared, decay, np.array([0, 2]), np.array([4, 3])
    )
    # The distance from the second site to the fourth is passed in two steps, .8 and .5.
    variance = root @ root + 2 * (
        1.0 * 0.5 * 2.0 * 0.6 * 0.9
        + 1.0 * 0.5 * 1.5 * 0.8 * 0.9 * 0.8 * 0.5
        + 2.0 * 0.6 * 1.5 * 0.8 * 0.8 * 0.5
    )
    assert total[0] == pytest.approx((root / scale) @ error / np.sqrt(variance))
    assert freedom[0] == pytest.approx((root**2 * df).sum() / (root**2).sum())
    assert tested.tolist() == [3, 0]
    assert (total[1] == 0).all()


@pytest.mark.parametrize("groups", ["aaaabbbb", "aaabbb"])
def test_size_on_a_null(groups):
    p = []
    for seed in (1, 2, 3):
        made = simulated(seed, groups).methylome
        design = make_design(sample_sheet(made), "~ g")
        table = region_tests(made, design, "g[b] - g[a]", regions=tiles(made, 500)).table
        p.append(table["p"].drop_nulls().to_numpy())
    p = np.concatenate(p)
    assert len(p) > 1500
    # Four binomial standard deviations about the level.
    for alpha in (0.05, 0.01):
        assert abs((p < alpha).mean() - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / len(p))


def test_planted_regions_given_as_regions_are_found_and_others_are_not():
    made = simulated(5, "aaaabbbb", delta=0.4)
    design = make_design(sample_sheet(made.methylome), "~ g")
    planted = made.truth.select(pl.lit("chr22").alias("contig"), "start", "end", "delta")
    result = region_tests(made.methylome, design, "g[b] - g[a]", regions=planted)
    called = result.significant()
    assert len(called) >= 18
    table = result.table
    assert (np.sign(table["delta_beta"]) == np.sign(planted["delta"])).all()
    assert table["region"][0] == f"chr22:{planted['start'][0]}-{planted['end'][0]}"
    assert (table["ci_low"] <= table["delta_beta"]).all()


@pytest.mark.parametrize("groups", ["aabb", "aaabbb"])
def test_intervals_of_a_null_cover_zero_as_often_as_they_say(groups):
    covered = []
    for seed in (1, 2, 3):
        made = simulated(seed, groups).methylome
        design = make_design(sample_sheet(made), "~ g")
        table = region_tests(made, design, "g[b] - g[a]", regions=tiles(made, 1000)).table
        table = table.drop_nulls("p")
        covered.append(((table["ci_low"] <= 0) & (table["ci_high"] >= 0)).to_numpy())
    covered = np.concatenate(covered)
    # Four binomial standard deviations about the level.
    assert abs(covered.mean() - 0.95) < 4 * np.sqrt(0.95 * 0.05 / len(covered))


def test_called_regions_of_two_against_two_have_intervals_that_leave_zero_out():
    # By its own 2 degrees of freedom each region's interval holds 0 in 8 of these 41.
    calls = []
    for seed in (11, 12, 13):
        made = simulated(seed, "aabb", delta=0.3).methylome
        design = make_design(sample_sheet(made), "~ g")
        calls.append(find_regions(made, design, "g[b] - g[a]", relabellings=60).significant())
    called = pl.concat(calls, how="diagonal")
    assert len(called) > 30
    assert not ((called["ci_low"] <= 0) & (called["ci_high"] >= 0)).any()


def test_few_regions_keep_their_own_dispersion():
    residual, df = np.array([4.0, 9.0, 2.0]), np.array([2, 3, 0])
    own, total = moderate_regions(residual, df, np.ones(3), 6)
    assert own == pytest.approx([2.0, 3.0, np.nan], nan_ok=True)
    assert total.tolist() == [2.0, 3.0, 0.0]


def test_regions_of_unlike_size_are_squeezed_apart():
    rng = np.random.default_rng(1)
    large = np.repeat([False, True], 300)
    residual = rng.chisquare(4, 600) * np.where(large, 10.0, 1.0)
    shuffled = rng.permutation(600)
    squeezed, df = moderate_regions(residual[shuffled], np.full(600, 4), large[shuffled], 8)
    size = large[shuffled]
    assert np.median(squeezed[~size]) == pytest.approx(1.0, abs=0.15)
    assert np.median(squeezed[size]) == pytest.approx(10.0, abs=1.5)
    assert (df >= 4).all()
    assert np.median(df) > 20


def test_regions_may_overlap_and_come_in_any_order(monkeypatch):
    made = simulated(6, "aaaabbbb").methylome
    design = make_design(sample_sheet(made), "~ g")
    small, large = tiles(made, 1000), tiles(made, 7000)
    both = pl.concat([small, large]).sample(fraction=1.0, shuffle=True, seed=1)
    one = region_tests(made, design, "g[b] - g[a]", regions=both)
    monkeypatch.setattr("melisma.differential.given._SPAN", 50)
    two = region_tests(made, design, "g[b] - g[a]", regions=both)
    assert one.table["start"].to_list() == both["start"].to_list()
    for name in ("statistic", "p", "delta_beta"):
        assert two.table[name].to_numpy() == pytest.approx(one.table[name].to_numpy(), nan_ok=True)
    assert two.table["sites"].sum() == 2 * 8000


def test_regions_without_tested_sites_are_listed_with_the_reason():
    made = simulated(7, "aaaabbbb", sites=2000).methylome
    made["methylated"][0:5] = 0
    position = made["position"].values
    regions = pl.DataFrame(
        {
            "contig": ["chr22", "chr22", "chr9", "chr22"],
            "start": [int(position[-1]) + 5, int(position[0]), 0, int(position[100])],
            "end": [int(position[-1]) + 9, int(position[4]) + 1, 1000, int(position[160])],
            "name": ["after", "unmethylated", "elsewhere", "tested"],
        }
    )
    design = make_design(sample_sheet(made), "~ g")
    result = region_tests(made, design, "g[b] - g[a]", regions=regions)
    table = result.table
    assert table["reason"].to_list() == [NO_SITE, NOT_TESTABLE, NO_SITE, None]
    assert table["p"].is_null().to_list() == [True, True, True, False]
    assert table["q"].is_null().to_list() == [True, True, True, False]
    assert table["sites"].to_list() == [0, 5, 0, 60]
    assert (result.tested, table["name"][3]) == (1, "tested")
    # A single region has nothing to be moderated with: the residual degrees of freedom, 4 + 4 - 2.
    assert table["df"][3] == pytest.approx(6)
    with pytest.raises(MelismaError, match="None of the 3 regions holds a site"):
        region_tests(made, design, "g[b] - g[a]", regions=regions[:3])


def test_tiles_begin_at_each_contig_and_hold_sites():
    counts = np.full((5, 2), 4, np.uint16)
    made = dataset(
        {"contig": [0, 0, 0, 1, 1], "position": [0, 999, 3000, 10, 1000]},
        {"methylated": counts, "coverage": counts},
        sheet("ab"),
        contigs=["c", "d"],
    )
    assert tiles(made, 1000).rows() == [
        ("c", 0, 1000),
        ("c", 3000, 4000),
        ("d", 0, 1000),
        ("d", 1000, 2000),
    ]

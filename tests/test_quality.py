"""Coverage, levels, resemblance and outliers: literals by hand, plain numpy, any chunks."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, dataset
from melisma.quality import check_quality
from melisma.quality._coverage import DEEPEST, Tally, depth_quantile, level_table, sample_table
from melisma.quality._matrix import (
    SiteSubset,
    correlations,
    median_to_others,
    principal_components,
)
from melisma.quality._outliers import deviations
from melisma.quality._pool import Pool, site_hash
from melisma.quality._walk import stretches

CG, CHH = CONTEXTS.index("CG"), CONTEXTS.index("CHH")
# Three sites on chr1 (CG, CHH, CG), one on chr2 (CG); samples a, b and c, which sees nothing.
METHYLATED = np.array([[4, 0, 0], [0, 1, 0], [30, 3, 0], [2, 0, 0]])
COVERAGE = np.array([[8, 0, 0], [10, 4, 0], [150, 3, 0], [2, 1, 0]])


def small(**values):
    return dataset(
        {"contig": [0, 0, 0, 1], "position": [5, 9, 20, 5], "context": [CG, CHH, CG, CG]},
        values or {"methylated": METHYLATED, "coverage": COVERAGE},
        {"sample": ["a", "b", "c"]},
        contigs=["chr1", "chr2"],
    )


def random_counts(n_sites, n_samples, seed=0, depth=20.0):
    """Sites of any level in samples that differ by noise only."""
    rng = np.random.default_rng(seed)
    mean = rng.beta(0.8, 0.5, (n_sites, 1))
    level = np.clip(mean + rng.normal(0, 0.03, (n_sites, n_samples)), 0, 1)
    coverage = rng.poisson(depth, (n_sites, n_samples)).astype(np.uint16)
    return rng.binomial(coverage, level).astype(np.uint16), coverage


def random_methylome(n_sites, n_samples, seed=0, counts=None):
    methylated, coverage = counts or random_counts(n_sites, n_samples, seed)
    return dataset(
        {"contig": np.arange(n_sites) // 300, "position": np.arange(n_sites) % 300 * 7},
        {"methylated": methylated, "coverage": coverage},
        {"sample": [f"s{i}" for i in range(n_samples)]},
        contigs=[f"chr{k + 1}" for k in range(n_sites // 300 + 1)],
    )


def test_samples_by_hand():
    table = check_quality(small()).samples
    assert table.select("sites_seen", "share_seen", "coverage_mean").rows() == [
        (4, 1.0, 42.5),
        (3, 0.75, 8 / 3),
        (0, 0.0, 0.0),
    ]
    # a: depths 2, 8, 10, 150; the smallest depth that half of the sites do not exceed is 8.
    assert table.select("coverage_median", "coverage_p05", "coverage_p95").rows() == [
        (8, 2, 150),
        (3, 1, 4),
        (0, 0, 0),
    ]
    assert table["level"].to_list() == [36 / 170, 4 / 8, None]
    # a: (1/2 + 0 + 1/5 + 1) / 4; b: (1/4 + 1 + 0) / 3
    assert table["level_mean"].to_list()[:2] == pytest.approx([0.425, 1.25 / 3])
    assert table["level_mean"].to_list()[2] is None


def test_levels_by_contig_and_context():
    rows = check_quality(small()).levels.filter(pl.col("sample") != "c").rows()
    assert rows == [
        ("a", "chr1", "CG", 2, 158, 34 / 158),
        ("b", "chr1", "CG", 1, 3, 1.0),
        ("a", "chr1", "CHH", 1, 10, 0.0),
        ("b", "chr1", "CHH", 1, 4, 0.25),
        ("a", "chr2", "CG", 1, 2, 1.0),
        ("b", "chr2", "CG", 1, 1, 0.0),
    ]


def test_coverage_histogram_keeps_every_site():
    table = check_quality(small()).coverage
    assert table is not None
    found = table.filter(pl.col("sites") > 0).rows()
    assert found == [
        ("a", 2, 1),
        ("a", 8, 1),
        ("a", 10, 1),
        ("a", 100, 1),
        ("b", 0, 1),
        ("b", 1, 1),
        ("b", 3, 1),
        ("b", 4, 1),
        ("c", 0, 4),
    ]


@given(st.lists(st.integers(1, DEEPEST), min_size=1, max_size=60), st.sampled_from([0.05, 0.5, 1]))
def test_depth_quantile_is_numpys_inverted_cdf(depths, share):
    histogram = np.bincount(depths, minlength=DEEPEST + 1)[None]
    expected = np.quantile(depths, share, method="inverted_cdf")
    assert depth_quantile(histogram, share).tolist() == [expected]


def test_beta_values_have_levels_but_no_coverage():
    beta = np.array([[0.5, 0.1, np.nan], [0.2, 0.2, 0.4], [1.0, 0.9, 0.8], [0.1, np.nan, 0]])
    quality = check_quality(small(beta=beta.astype(np.float32)))
    assert quality.coverage is None
    assert "qc_coverage" not in quality.tables()
    assert quality.samples["coverage_mean"].to_list() == [None] * 3
    assert quality.samples["sites_seen"].to_list() == [4, 3, 3]
    assert quality.samples["level"].to_list() == pytest.approx([0.45, 0.4, 0.4])
    assert quality.levels["reads"].null_count() == quality.levels.height
    chr1_cg = quality.levels.filter((pl.col("contig") == "chr1") & (pl.col("context") == "CG"))
    assert chr1_cg["level"].to_list() == pytest.approx([0.75, 0.5, 0.8])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(1, 20),
)
def test_pool_keeps_the_smallest_keys_however_they_come(keys, limit, step):
    tie = np.arange(len(keys), dtype=np.uint64)[::-1].copy()
    key = np.array(keys)
    pool = Pool(limit)
    for start in range(0, len(key), step):
        part = slice(start, start + step)
        pool.add(key[part], tie[part], {"value": key[part] * 10}, key[part] < 6)
    ranked = sorted((k, int(t)) for k, t in zip(keys, tie, strict=True) if k < 6)[:limit]
    rows = pool.rows()
    assert list(zip(rows["key"].tolist(), rows["tie"].tolist(), strict=True)) == ranked
    assert rows["value"].tolist() == [k * 10 for k, _ in ranked]


def test_site_hash_depends_on_the_place_and_the_seed_only():
    methylome = random_methylome(900, 2)
    (whole,) = stretches(methylome)
    parts = np.concatenate([site_hash(part, 3) for part in stretches(methylome, 37)])
    assert np.array_equal(site_hash(whole, 3), parts)
    assert len(np.unique(parts)) == 900
    assert not np.array_equal(site_hash(whole, 4), parts)


@pytest.mark.parametrize("sites", [1, 37, 500])
def test_neither_tally_nor_subset_depends_on_chunks(sites):
    methylome = random_methylome(700, 4)
    samples = ["a", "b", "c", "d"]

    def summarised(step):
        tally, subset = Tally(4), SiteSubset(4, 100, seed=0)
        for stretch in stretches(methylome, step):
            tally.add(stretch)
            subset.add(stretch)
        table = sample_table(tally, samples)
        return table, level_table(tally, samples, methylome.attrs["contigs"]), subset.levels()

    whole, parts = summarised(None), summarised(sites)
    assert whole[0].drop("level_mean").equals(parts[0].drop("level_mean"))
    assert whole[0]["level_mean"].to_list() == pytest.approx(parts[0]["level_mean"].to_list())
    assert whole[1].equals(parts[1])
    assert whole[2].shape == (100, 4)
    assert np.array_equal(whole[2], parts[2])


def test_subset_prefers_well_covered_sites():
    coverage = np.array(
        [[12] * 4, [6] * 4, [1] * 4, [20, 20, 20, 0], [0, 0, 9, 9]], dtype=np.uint16
    )
    methylome = random_methylome(5, 4, counts=(coverage // 2, coverage))
    subset = SiteSubset(4, 3, seed=0)
    for stretch in stretches(methylome):
        subset.add(stretch)
    kept = np.nan_to_num(subset.levels(), nan=-1).tolist()
    # Rows 0 and 3 have three of four samples at 10 reads, row 1 follows, row 4 never counts.
    assert sorted(kept[:2]) == [[0.5, 0.5, 0.5, -1], [0.5] * 4]
    assert kept[2] == [0.5] * 4


def with_gaps(n_sites, n_samples, seed=1):
    rng = np.random.default_rng(seed)
    levels = rng.random((n_sites, 1)) * 0.5 + rng.random((n_sites, n_samples)) * 0.5
    levels[rng.random(levels.shape) < 0.1] = np.nan
    return levels.astype(np.float32)


def test_correlation_is_numpys_over_shared_sites():
    levels = with_gaps(5000, 5)
    found = correlations(levels)
    for i in range(5):
        for j in range(5):
            both = np.isfinite(levels[:, i]) & np.isfinite(levels[:, j])
            expected = np.corrcoef(levels[both, i].astype(float), levels[both, j].astype(float))
            assert found[i, j] == pytest.approx(expected[0, 1], abs=1e-9)


def test_correlation_is_unknown_from_few_or_constant_sites():
    levels = with_gaps(40, 3)
    levels[9:, 1] = np.nan
    levels[:, 2] = 0.25
    found = correlations(levels)
    assert found[0, 0] == pytest.approx(1)
    assert np.isnan(found[[0, 0, 1], [1, 2, 2]]).all()
    assert np.isnan(median_to_others(found)).all()


def test_components_are_those_of_the_singular_value_decomposition():
    levels = with_gaps(5000, 6)
    scores, share = principal_components(levels)
    means = np.nanmean(levels.astype(float), axis=1, keepdims=True)
    centred = np.where(np.isfinite(levels), levels - means, 0)
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    assert share == pytest.approx((singular**2 / (singular**2).sum())[:5], abs=1e-6)
    expected = (right.T * singular / np.sqrt(5000))[:, :5]
    assert np.abs(scores) == pytest.approx(np.abs(expected), abs=1e-5)


def test_components_separate_two_groups():
    levels = np.full((50, 4), 0.5, dtype=np.float32)
    levels[:25, :2] = 0.9
    scores, share = principal_components(levels)
    # 25 of 50 sites differ by 0.4, 0.2 on either side of their mean: 0.2 * sqrt(1/2).
    assert scores[:, 0] == pytest.approx(np.array([1, 1, -1, -1]) * 0.2 * np.sqrt(0.5))
    assert share[0] == pytest.approx(1)


def test_alike_samples_are_no_outliers():
    samples = check_quality(random_methylome(2000, 8)).samples
    assert samples["outlier"].to_list() == [False] * 8
    assert samples["outlier_reason"].to_list() == [""] * 8


def thinned(methylated, coverage, rng):
    unmethylated = coverage[:, 2] - methylated[:, 2]
    methylated[:, 2] = rng.binomial(methylated[:, 2], 0.1)
    coverage[:, 2] = methylated[:, 2] + rng.binomial(unmethylated, 0.1)


def poorly_converted(methylated, coverage, rng):
    methylated[:, 2] += rng.binomial(coverage[:, 2] - methylated[:, 2], 0.3).astype(np.uint16)


def another_tissue(methylated, coverage, rng):
    turned = rng.random(len(methylated)) < 0.3
    methylated[turned, 2] = (coverage - methylated)[turned, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (thinned, "is low beside a median of 19.9"),
        (poorly_converted, "is high beside a median"),
        (another_tissue, "correlation with the others"),
    ],
)
def test_a_changed_sample_is_named_with_its_reason(change, words):
    methylated, coverage = random_counts(2000, 8)
    change(methylated, coverage, np.random.default_rng(5))
    quality = check_quality(random_methylome(2000, 8, counts=(methylated, coverage)))
    assert quality.summary()["outliers"] == ["s2"]
    assert words in quality.samples["outlier_reason"][2]


def test_few_samples_tell_no_outlier_but_an_empty_one():
    methylated, coverage = random_counts(300, 3)
    methylated[:, 1], coverage[:, 1] = 0, 0
    quality = check_quality(random_methylome(300, 3, counts=(methylated, coverage)))
    assert quality.samples["outlier"].to_list() == [None, True, None]
    assert quality.samples["outlier_reason"][1] == "no site is seen"
    assert quality.samples["outlier_reason"][0].startswith("cannot be told")
    assert quality.summary()["notes"] == ["Outliers cannot be told from fewer than 6 samples."]


def test_deviations_never_divide_by_a_tiny_spread():
    values = np.array([0.5, 0.5, 0.5, 0.5, 0.51, np.nan])
    assert deviations(values, 0.01)[:5].tolist() == pytest.approx([0, 0, 0, 0, 1])
    assert np.isnan(deviations(values, 0.01)[5])


@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_studies_of_any_size_are_described(n_samples):
    quality = check_quality(random_methylome(300, n_samples))
    assert quality.samples.height == n_samples
    assert quality.pca_variance.height == n_samples - 1
    missing = [quality.samples[f"pc{k}"].null_count() == n_samples for k in (1, 2, 3)]
    assert missing == [n_samples < 2, n_samples < 3, n_samples < 4]
    assert not quality.identity.resolved
    assert json.loads(json.dumps(quality.summary(), allow_nan=False)) == quality.summary()


def test_the_seed_chooses_other_sites_and_the_limit_holds():
    methylome = random_methylome(3000, 3)
    first, again, other = (
        check_quality(methylome, sites=200, seed=seed).correlation for seed in (0, 0, 1)
    )
    assert check_quality(methylome, sites=200).matrix_sites == 200
    assert first.equals(again)
    assert not first.equals(other)


def test_several_marks_need_a_choice():
    methylome = dataset(
        {"contig": [0, 0], "position": [5, 5], "mark": [0, 1]},
        {"methylated": np.array([[1], [2]]), "coverage": np.array([[4], [4]])},
        {"sample": ["a"]},
        contigs=["chr1"],
        marks=["m", "h"],
    )
    with pytest.raises(MelismaError, match="several marks"):
        check_quality(methylome)
    assert check_quality(methylome, mark="5hmC").samples["level"].to_list() == [0.5]


def test_nothing_to_look_at_is_said():
    with pytest.raises(MelismaError, match="holds 0 sites of 3 samples"):
        check_quality(small().isel(site=slice(0, 0)))
    with pytest.raises(MelismaError, match='A sample is named "sample"'):
        check_quality(small().assign_coords(sample=["a", "sample", "c"]))


def test_a_sample_of_another_build_is_named() -> None:
    position = np.arange(40) * 10
    coverage = np.zeros((40, 3), dtype=np.int64)
    coverage[:20, :2] = 5
    coverage[19:, 2] = 5
    made = dataset(
        {"contig": np.zeros(40), "position": position},
        {"methylated": coverage // 2, "coverage": coverage},
        {"sample": ["a", "b", "odd"]},
        contigs=["chr1"],
    )
    (sentence,) = check_quality(made).strangers
    # One of the sample's 21 sites is another's too.
    assert sentence.startswith("odd shares 5% of its 21 sites with any other sample")


def test_probes_without_a_place_are_described() -> None:
    rng = np.random.default_rng(0)
    made = dataset(
        {
            "contig": np.full(300, -1),
            "position": np.full(300, -1),
            "probe": np.array([f"cg{i:05d}" for i in range(300)]),
        },
        {"beta": rng.random((300, 4)).astype(np.float32)},
        {"sample": ["a", "b", "c", "d"]},
        contigs=[],
    )
    quality = check_quality(made)
    assert quality.samples["sites_seen"].to_list() == [300] * 4
    assert quality.levels.select("contig", "context", "sites").row(0) == ("", "unknown", 300)
    assert quality.matrix_sites == 300
    assert not quality.identity.resolved
    assert quality.sex.table["sex"].null_count() == 4

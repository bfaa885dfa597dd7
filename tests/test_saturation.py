"""Thinning and extrapolation of sites: literals by hand, and the IMR90 set thinned for real."""

import gzip
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from melisma.methylome import dataset
from melisma.quality import check_quality
from melisma.quality._multiqc import _saturation as multiqc_saturation
from melisma.quality._saturation import (
    AT_LEAST,
    extended_sites,
    mixture_weights,
    saturation_table,
    thinned_sites,
)

VENDORABLE = Path(__file__).parents[2] / "shared" / "data" / "vendorable"


def histogram(counts):
    """Depths (sites, samples) as (samples, depths)."""
    return np.stack([np.bincount(column, minlength=200) for column in counts.T])


def test_thinning_is_the_expectation_over_all_draws():
    # Depths 1, 2, 3: enumerate which calls are kept, each with probability 0.3.
    depths, f = [1, 2, 3], 0.3
    for k in (1, 2, 3):
        expected = 0.0
        for depth in depths:
            for kept in itertools.product((0, 1), repeat=depth):
                chance = np.prod([f if one else 1 - f for one in kept])
                expected += chance * (sum(kept) >= k)
        found = thinned_sites(np.array([[4, 1, 1, 1]]), f, k)
        assert found.tolist() == pytest.approx([expected])


def test_all_reads_are_what_was_counted():
    depth = histogram(np.array([[0], [1], [5], [12], [60], [199]]))
    assert [thinned_sites(depth, 1.0, k).tolist() for k in AT_LEAST] == [[5], [4], [3]]


def test_extrapolation_of_poisson_depths_is_the_truth_and_good_toulmins():
    # Simulated: 50,000 sites whose mean depths are gamma distributed, half of the reads given.
    rng = np.random.default_rng(3)
    rate = rng.gamma(1.5, 8.0, 50_000)
    half = rng.poisson(rate / 2)[:, None]
    whole = half + rng.poisson(rate / 2)[:, None]
    depth = histogram(np.minimum(half, 199))
    weights = mixture_weights(depth)
    for k in AT_LEAST:
        found = extended_sites(depth, weights, 2.0, k)[0]
        # Two standard deviations of what chance leaves open are about 250 sites.
        assert found == pytest.approx((whole >= k).sum(), abs=400)
    series = sum((-1) ** (j + 1) * depth[0, j] for j in range(1, 200))
    added = extended_sites(depth, weights, 2.0, 1)[0] - thinned_sites(depth, 1.0, 1)[0]
    assert added == pytest.approx(series, abs=250)


def test_calls_filtered_by_depth_are_not_extrapolated():
    rng = np.random.default_rng(0)
    depths = rng.poisson(8, 2000)
    table = saturation_table(histogram(depths[depths >= 4][:, None]), ["a"])
    row = {r["fraction"]: r for r in table.iter_rows(named=True)}
    assert row[2.0]["sites_10"] is None
    # Sites of 1 to 3 reads are hidden; sites with 5 or more are not.
    assert row[0.5]["sites_1"] is None
    expected = thinned_sites(histogram(depths[:, None]), 0.5, 5)[0]
    assert row[0.5]["sites_5"] == pytest.approx(expected, abs=0.1)
    assert row[1.0]["sites_1"] == (depths >= 4).sum()


def test_a_curve_rises_and_has_no_step_at_one():
    rng = np.random.default_rng(1)
    table = saturation_table(histogram(rng.poisson(4, (3000, 2))), ["b", "a"])
    assert table["sample"].unique(maintain_order=True).to_list() == ["b", "a"]
    for (_,), part in table.group_by("sample"):
        for k in AT_LEAST:
            assert (np.diff(part[f"sites_{k}"].to_numpy()) >= 0).all()
    assert table["kind"].unique(maintain_order=True).to_list() == [
        "thinned",
        "observed",
        "extrapolated",
    ]


def test_multiqc_shows_the_depths_that_are_told():
    told = multiqc_saturation(saturation_table(np.array([[50, 400, 200, 100]]), ["a"]))
    assert len(told["data"]) == len(told["pconfig"]["data_labels"]) == 3
    assert told["description"].endswith("thinned up to 1, extrapolated above.")
    # No site of fewer than 10 reads was left: only the curve of 10 reads is known, and up to 1.
    deep = np.zeros((1, 14), dtype=np.int64)
    deep[0, 10:] = 300
    cut = multiqc_saturation(saturation_table(deep, ["a"]))
    assert [label["name"] for label in cut["pconfig"]["data_labels"]] == ["10 or more"]
    assert [[f for f, _ in line["a"]][-1] for line in cut["data"]] == [1.0]
    assert cut["description"].endswith("thinned up to 1, more cannot be told.")


def test_a_sample_without_reads_and_a_store_without_counts():
    table = saturation_table(np.array([[50, 0, 0], [0, 300, 300]]), ["none", "some"])
    assert table.filter(pl.col("sample") == "none")["sites_1"].fill_null(0).sum() == 0
    made = dataset(
        {"contig": [0], "position": [1]},
        {"beta": np.array([[0.5]], dtype=np.float32)},
        {"sample": ["a"]},
        contigs=["chr1"],
    )
    quality = check_quality(made)
    assert quality.saturation is None
    assert "qc_saturation" not in quality.tables()
    assert "melisma_saturation_mqc.json" not in quality.multiqc()


@pytest.mark.reference
@pytest.mark.skipif(not VENDORABLE.exists(), reason="needs ../shared/data")
def test_imr90_thinned_for_real():
    with gzip.open(VENDORABLE / "imr90_chr22" / "calls.tsv.gz", "rb") as file:
        table = pl.read_csv(file.read(), separator="\t")
    counts = table.select("rep1_coverage", "rep2_coverage").to_numpy()
    depth, rng = histogram(np.minimum(counts, 199)), np.random.default_rng(0)
    for fraction, k in itertools.product((0.25, 0.5), AT_LEAST):
        kept = (rng.binomial(counts, fraction) >= k).sum(0)
        # Sites are independent given their depths: five standard deviations of the sum.
        found = thinned_sites(depth, fraction, k)
        assert np.abs(found - kept).max() < 5 * np.sqrt(found.max())
    half = rng.binomial(counts, 0.5)
    weights = mixture_weights(histogram(np.minimum(half, 199)))
    for k in AT_LEAST:
        found = extended_sites(histogram(np.minimum(half, 199)), weights, 2.0, k)
        assert found == pytest.approx((counts >= k).sum(0), rel=0.005)

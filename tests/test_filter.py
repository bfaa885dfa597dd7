"""Independent filtering by pooled reads."""

import numpy as np
import pytest

from melisma.design import make_design
from melisma.differential import simulate, site_tests
from melisma.differential._filter import benjamini_hochberg, filter_by_reads
from melisma.methylome import sample_sheet

SHEET = {"sample": [f"s{i}" for i in range(8)], "g": list("abababab")}


def test_a_filter_that_helps_is_taken_and_the_rest_has_no_q():
    # Ten small p among 100 sites of 50 reads; 900 sites of 5 reads, all p large.
    p = np.concatenate([np.full(10, 0.003), np.linspace(0.1, 1, 90), np.linspace(0.1, 1, 900)])
    reads = np.repeat([50.0, 5.0], [100, 900])
    assert (benjamini_hochberg(p) < 0.05).sum() == 0
    found = filter_by_reads(p, reads, 0.05)
    assert (found.reads, found.left_out) == (50.0, 900)
    assert (found.q < 0.05).sum() == 10
    assert np.isnan(found.q[100:]).all()


def test_nothing_is_left_out_where_that_finds_no_more():
    p = np.array([1e-6, 0.2, np.nan, 0.9])
    found = filter_by_reads(p, np.array([3.0, 40, 1, 90]), 0.05)
    assert found.left_out == 0
    assert found.q == pytest.approx(benjamini_hochberg(p), nan_ok=True)
    assert filter_by_reads(np.full(2, np.nan), np.ones(2), 0.05).left_out == 0


def test_site_tests_filter_and_say_so():
    rng = np.random.default_rng(3)
    made = simulate(
        np.cumsum(rng.integers(2, 80, 4000)), rng.beta(1, 1, 4000), rng.gamma(1, 12, 4000), SHEET,
        seed=1, exposure=np.array([0.0, 1] * 4), regions=15, delta=0.4,
    ).methylome  # fmt: skip
    design = make_design(sample_sheet(made), "~ g")
    plain = site_tests(made, design, "g")
    result = site_tests(made, design, "g", filter_at=0.05)
    assert result.table["p"].equals(plain.table["p"])
    assert len(result.significant(0.05)) >= len(plain.significant(0.05)) > 10
    assert any("are filtered" in note for note in result.notes)
    reads = made["coverage"].values.sum(axis=1)
    kept = result.table["q"].is_not_null().to_numpy()
    lost = result.table["p"].is_not_null().to_numpy() & ~kept
    assert lost.any()
    assert reads[kept].min() > reads[lost].max() - 1e-9

"""What the sheet's columns explain, and which go together: by hand and against plain numpy."""

import numpy as np
import pytest
from scipy import stats

from melisma._predictors import coded
from melisma.quality._batch import covariates, cramers_v


def scores_of(columns, seed=0, n_components=5):
    """Simulated scores of 12 samples: component k follows column k, the rest is noise."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1, (12, n_components))
    for k, column in enumerate(columns):
        scores[:, k] += column
    scores -= scores.mean(0)
    share = (scores**2).sum(0) / (scores**2).sum()
    return scores, share


BATCH = ["a"] * 4 + ["b"] * 4 + ["c"] * 4
AGE = [30.5, 41.0, 22.0, 60.0, 35.0, 44.0, 51.0, 28.0, 70.0, 33.0, 47.0, 55.0]


def test_r2_of_groups_and_numbers_are_those_of_scipy():
    scores, share = scores_of([np.repeat([0.0, 3, 6], 4), np.array(AGE) / 8])
    table = covariates(scores, share, {"batch": BATCH, "age": AGE, "sample": BATCH}, seed=0).table
    for k in range(5):
        row = table.filter(column="batch", component=f"PC{k + 1}").row(0, named=True)
        expected = stats.f_oneway(*(scores[i : i + 4, k] for i in (0, 4, 8)))
        r2 = row["r2"]
        assert r2 / (1 - r2) * 9 / 2 == pytest.approx(expected.statistic)
        assert row["p"] == pytest.approx(expected.pvalue)
        assert row["r2_adjusted"] == pytest.approx(1 - (1 - r2) * 11 / 9)
        row = table.filter(column="age", component=f"PC{k + 1}").row(0, named=True)
        expected = stats.linregress(AGE, scores[:, k])
        assert row["r2"] == pytest.approx(expected.rvalue**2)
        assert row["p"] == pytest.approx(expected.pvalue)
    total = table.filter(column="batch", component="all").row(0, named=True)
    parts = table.filter(column="batch").filter(table.filter(column="batch")["component"] != "all")
    assert total["r2"] == pytest.approx(float((parts["r2"] * parts["share"]).sum()))
    assert (total["permutations"], total["seed"]) == (999, 0)
    assert set(table["column"]) == {"batch", "age"}


def test_the_whole_p_is_uniform_under_no_association():
    p = []
    for seed in range(60):
        scores, share = scores_of([], seed)
        table = covariates(scores, share, {"batch": BATCH}, seed=seed).table
        p.append(table.filter(component="all")["p"][0])
    assert 0.35 < np.mean(p) < 0.65
    assert min(p) >= 1 / 1000


def test_the_strongest_association_is_said():
    scores, share = scores_of([np.repeat([0.0, 9, 18], 4)])
    found = covariates(scores, share, {"age": AGE, "batch": BATCH}, seed=0)
    assert found.sentence.startswith("batch goes most with the samples' levels: it explains 9")
    assert "of PC1" in found.sentence
    scores, share = scores_of([], 2)
    calm = covariates(scores, share, {"x": [1.5, 2.5] * 6}, seed=0)
    assert calm.sentence == "No column of the sheet goes with a leading component (p < .05)."
    assert covariates(scores, share, {}, seed=0).sentence == ""


def test_cramers_v_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 3, 40).astype(float), rng.integers(0, 4, 40).astype(float)
    crossed = stats.contingency.crosstab(a, b).count
    value, p = cramers_v(a, b)
    assert value == pytest.approx(stats.contingency.association(crossed, method="cramer"))
    assert p == pytest.approx(stats.chi2_contingency(crossed, correction=False).pvalue)


def test_columns_that_cannot_be_told_apart_are_named():
    sheet = {
        "cell": ["x"] * 6 + ["y"] * 6,
        "run": [7] * 6 + [9] * 6,
        "donor": [f"d{i // 2}" for i in range(12)],
        "age": [20.5] * 6 + [60.5] * 6,
        "noise": [1.5, 2.5] * 6,
    }
    scores, share = scores_of([])
    pairs = covariates(scores, share, sheet, seed=0).pairs
    found = {(r["column_a"], r["column_b"]): r for r in pairs.iter_rows(named=True)}
    assert found["cell", "run"]["relation"] == "same groups"
    assert found["cell", "run"]["value"] == pytest.approx(1)
    assert found["cell", "run"]["sentence"] == (
        "cell and run divide the samples alike: their effects cannot be told apart."
    )
    assert found["cell", "donor"]["relation"] == "b inside a"
    assert found["cell", "donor"]["sentence"].startswith("Each donor has one cell only")
    assert found["cell", "age"]["measure"] == "eta2"
    assert found["cell", "age"]["value"] == pytest.approx(1)
    assert found["cell", "age"]["relation"] == "associated"
    assert found["age", "noise"]["measure"] == "r2"
    assert found["cell", "noise"]["relation"] == ""


def test_missing_values_are_left_out_of_their_column_only():
    scores, share = scores_of([np.repeat([0.0, 3, 6], 4)])
    sheet = {"batch": ["", None, *BATCH[2:]], "age": AGE, "name": [f"n{i}" for i in range(12)]}
    table = covariates(scores, share, sheet, seed=0).table
    assert dict(table.filter(component="PC1").select("column", "n").rows()) == {
        "batch": 10,
        "age": 12,
    }


def test_whole_numbers_of_few_values_are_groups():
    assert coded([1, 2, 1, 2])[1]
    assert not coded([1, 2, 3, 4, 5, 6])[1]
    assert not coded([0.5, 1.5])[1]
    assert coded(["b", "a", "", "b"])[0].tolist()[:2] == [1.0, 0.0]

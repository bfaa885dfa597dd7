"""Scores against values worked by hand, and against scikit-learn where it is installed."""

import numpy as np
import pytest

from melisma.errors import MelismaError
from melisma.sequence.evaluate import (
    auc_difference,
    compare_models,
    score_labels,
    score_levels,
)


def simulated(n=600, seed=0):
    rng = np.random.default_rng(seed)
    label = (rng.random(n) < 0.3).astype(float)
    predicted = np.round(1 / (1 + np.exp(-(rng.normal(0, 1, n) + 1.5 * label - 1))), 2)
    return label, predicted


def test_areas_by_hand():
    # Scores .8+ .6- .6+ .2-: pairs won 1, 1, tie .5, 1 of 4; precision 1 at .8, 2/3 at .6.
    found = score_labels(np.array([1, 0, 1, 0]), np.array([0.8, 0.6, 0.6, 0.2]), draws=0)
    assert found["auc"].value == pytest.approx(3.5 / 4)
    assert found["auprc"].value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found["accuracy"].value == 0.75
    # tp 2, fp 1, fn 0, tn 1
    assert found["mcc"].value == pytest.approx(2 / np.sqrt(3 * 2 * 2 * 1))
    assert np.isnan(found["auc"].low)


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    label, predicted = simulated()
    found = score_labels(label, predicted, draws=0)
    assert found["auc"].value == pytest.approx(metrics.roc_auc_score(label, predicted))
    assert found["auprc"].value == pytest.approx(metrics.average_precision_score(label, predicted))
    assert found["mcc"].value == pytest.approx(metrics.matthews_corrcoef(label, predicted >= 0.5))


def test_calibration_error_of_a_constant_is_its_distance_from_the_mean():
    label = np.array([1.0, 0, 0, 0, 0] * 20)
    found = score_labels(label, np.full(100, 0.5), draws=0)
    # In every bin of ten the mean label is .2.
    assert found["calibration_error"].value == pytest.approx(0.3)
    assert score_labels(label, np.full(100, 0.2), draws=0)["calibration_error"].value < 1e-12


def test_intervals_hold_the_value_and_shrink_with_n():
    wide = score_labels(*simulated(300))["auc"]
    narrow = score_labels(*simulated(6000))["auc"]
    assert wide.low < wide.value < wide.high
    assert narrow.high - narrow.low < 0.5 * (wide.high - wide.low)
    assert score_labels(*simulated(300)) == score_labels(*simulated(300))


def test_a_paired_difference_is_narrower_than_its_parts():
    label, predicted = simulated(2000)
    rng = np.random.default_rng(1)
    worse = predicted + rng.normal(0, 0.15, len(label))
    gap = auc_difference(label, predicted, worse)
    own = score_labels(label, predicted)["auc"]
    assert 0 < gap.low < gap.value < gap.high
    assert gap.high - gap.low < own.high - own.low
    assert auc_difference(label, predicted, predicted).value == 0


def test_levels():
    level = np.array([0.0, 0.2, 0.9, 1.0])
    found = score_levels(level, level**3, draws=0)
    assert found["spearman"].value == pytest.approx(1)
    assert found["pearson"].value == pytest.approx(np.corrcoef(level, level**3)[0, 1])
    assert found["mae"].value == pytest.approx(np.abs(level - level**3).mean())
    assert np.isnan(score_levels(level, np.full(4, 0.5), draws=0)["pearson"].value)


def test_models_are_compared_by_stratum():
    label, predicted = simulated()
    island = np.arange(len(label)) < 200
    table = compare_models(
        label, {"model": predicted, "none": np.full(len(label), 0.3)}, kind="labels",
        strata={"island": island, "nowhere": np.zeros(len(label), bool)}, draws=20,
    )  # fmt: skip
    assert table["stratum"].unique(maintain_order=True).to_list() == ["all", "island"]
    one = table.filter(stratum="island", model="none", metric="auc")
    assert one["value"].item() == 0.5
    assert one["n"].item() == 200
    assert one["mean"].item() == pytest.approx(label[:200].mean())


def test_bad_input_is_named():
    with pytest.raises(MelismaError, match="3 examples and 2 predictions"):
        score_labels(np.zeros(3), np.zeros(2))
    with pytest.raises(MelismaError, match="NaN"):
        score_levels(np.zeros(2), np.array([0.1, np.nan]))
    with pytest.raises(MelismaError, match="test part holds no example"):
        compare_models(np.zeros(0), {}, kind="labels")

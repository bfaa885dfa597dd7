"""Panels of markers: nothing leaks, planted markers are found, and a panel is applied as it was."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.markers import Panel, find_markers, score
from melisma.markers import _figures as figures
from melisma.markers._features import Features, load_features, site_runs
from melisma.markers._folds import make_folds, permute_labels
from melisma.markers._kernels import count_moments, count_sums, level_moments
from melisma.markers._logistic import calibrate, class_basis, marker_path, softmax
from melisma.markers._nested import Settings, cross_validate, fit_model
from melisma.markers._path_kernels import fit_ridge, steepest
from melisma.markers._prepare import prepare
from melisma.methylome import dataset, write

GLIOMA = Path(__file__).parents[2] / "shared" / "data" / "vendorable" / "tcga_glioma"
PLANTED = (3, 77, 150)


def simulated(seed, *, samples=40, sites=200, shift=0.0, classes=2, planted=PLANTED, blocks=None):
    """Beta-binomial counts; the planted sites' levels rise by `shift` a class. Labels 0, 1, …."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % classes
    mean = np.tile(rng.uniform(0.2, 0.6, (sites, 1)), (1, samples))
    for site in planted:
        mean[site] = 0.3 + shift * labels
    if blocks is not None:
        # What a block's members share, at every site.
        mean = np.clip(mean + rng.normal(0, 0.3, (sites, blocks.max() + 1))[:, blocks], 0.02, 0.98)
    level = rng.beta(mean * 20, (1 - mean) * 20)
    coverage = rng.poisson(10, (sites, samples)).astype(np.uint16)
    return rng.binomial(coverage, level).astype(np.uint16), coverage, labels


def methylome_of(methylated, coverage, labels, *, contigs=("chr1", "chr2"), sheet=None, attrs=None):
    sites = len(methylated)
    half = sites // 2
    return dataset(
        {
            "contig": np.repeat([0, 1], [half, sites - half]),
            "position": np.concatenate([np.arange(half), np.arange(sites - half)]) * 100,
        },
        {"methylated": methylated, "coverage": coverage},
        {"sample": [f"s{k:03d}" for k in range(len(labels))], "g": [f"c{k}" for k in labels]}
        | (sheet or {}),
        contigs=contigs,
        attrs=attrs,
    )


def features_of(methylated, coverage):
    table = pl.DataFrame({"contig": ["chr1"] * len(methylated)})
    return Features("site", table, methylated=methylated, coverage=coverage)


FAST = {"repeats": 2, "permutations": 0, "max_size": 6}


# Kernels against plain numpy


def test_moments_of_counts_are_those_of_plain_numpy():
    methylated, coverage, labels = simulated(1, samples=12, sites=30, planted=())
    coverage[4, :5] = methylated[4, :5] = 0
    rows = np.array([0, 2, 3, 5, 7, 8, 11])
    strength = np.linspace(2, 30, 30)
    found = count_moments(methylated, coverage, strength, rows, labels[rows], 2)
    m, n = methylated[:, rows].astype(float), coverage[:, rows].astype(float)
    k = strength[:, None]
    prior = (m / (n + k)).sum(1) / (n / (n + k)).sum(1)
    x = (m + k * prior[:, None]) / (n + k)
    left = x - x.mean(1, keepdims=True)
    sums = np.stack([left[:, labels[rows] == c].sum(1) for c in (0, 1)], axis=1)
    assert found.prior == pytest.approx(prior, abs=1e-12)
    assert found.mean == pytest.approx(x.mean(1), abs=1e-12)
    assert found.variance == pytest.approx(x.var(1, ddof=1), abs=1e-12)
    assert found.sums == pytest.approx(sums, abs=1e-12)


def test_sums_of_counts_are_those_of_plain_numpy():
    methylated, coverage, _ = simulated(2, samples=12, sites=30, planted=())
    coverage[4, :5] = methylated[4, :5] = 0
    rows = np.array([0, 2, 3, 5, 7, 8, 11])
    found = count_sums(methylated, coverage, rows)
    m, n = methylated[:, rows].astype(float), coverage[:, rows].astype(float)
    p = (m.sum(1) / n.sum(1))[:, None]
    each = np.where(n > 0, (m - n * p) ** 2 / np.maximum(n * p * (1 - p), 1e-300), 0)
    leverage = n / n.sum(1, keepdims=True)
    assert found.surplus == pytest.approx(each.sum(1) - (n > 0).sum(1) + 1, abs=1e-9)
    assert found.excess == pytest.approx(
        np.where(n > 0, (1 - leverage) * (n - 1), 0).sum(1), abs=1e-9
    )
    assert (found.seen == (n > 0).sum(1)).all()


def test_moments_of_levels_take_missing_ones_at_the_mean():
    beta = np.array([[0.1, 0.3, np.nan, 0.5], [np.nan] * 4], dtype=np.float32)
    found = level_moments(beta, np.arange(4), np.array([0, 0, 1, 1]), 2)
    assert found.mean == pytest.approx([0.3, 0])
    assert found.variance == pytest.approx([0.08 / 3, 0], abs=1e-7)
    assert found.sums[0] == pytest.approx([-0.2, 0.2], abs=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
def test_ridge_weights_are_those_of_a_general_minimiser(classes):
    rng = np.random.default_rng(classes)
    design = np.hstack([np.ones((50, 1)), rng.normal(size=(50, 4))])
    labels = rng.integers(0, classes, 50)
    basis = class_basis(classes)

    def loss(flat):
        theta = flat.reshape(5, classes - 1)
        p = softmax(design @ theta @ basis.T)
        return -np.log(p[np.arange(50), labels]).sum() + 0.5 * 2.0 * (theta[1:] ** 2).sum()

    expected = minimize(loss, np.zeros(5 * (classes - 1)), method="BFGS", options={"gtol": 1e-8})
    found = fit_ridge(design, labels, np.zeros((5, classes - 1)), basis, 2.0)
    assert loss(found.ravel()) <= expected.fun + 1e-8
    assert found.ravel() == pytest.approx(expected.x, abs=1e-4)


def test_the_next_marker_is_the_steepest_of_the_free():
    rng = np.random.default_rng(4)
    levels = rng.normal(size=(30, 9))
    residual = rng.normal(size=(3, 30)).astype(np.float32)
    residual -= residual.mean(axis=0)
    share = np.array([0.2, 0.3, 0.5])
    slope = ((residual.astype(float) @ levels) ** 2 / share[:, None]).sum(axis=0)
    free = np.ones(9, dtype=bool)
    for expected in np.argsort(-slope):
        along = np.ascontiguousarray(levels.T, dtype=np.float32)
        assert steepest(along, residual, share, free) == expected
        free[expected] = False
    assert steepest(along, residual, share, free) == -1


def test_a_path_of_separated_classes_stays_finite():
    labels = np.repeat([0, 1], 6)
    path = marker_path(np.stack([labels * 2.0 - 1, np.tile([1.0, -1], 6)], axis=1), labels, 2, 5)
    assert path.order.tolist() == [0, 1]
    assert np.isfinite(path.theta[1]).all()


def test_calibration_undoes_a_known_distortion():
    rng = np.random.default_rng(5)
    truth = rng.normal(0, 1.5, (20_000, 1)) * [[-0.5, 0.5]]
    labels = (rng.random(20_000) < softmax(truth)[:, 1]).astype(int)
    found = calibrate(truth * 3 + [[0.4, -0.4]], labels)
    assert found.slope == pytest.approx(1 / 3, abs=0.02)
    assert found.shift == pytest.approx([-0.4 / 3, 0.4 / 3], abs=0.04)
    # What predicts worse than chance is not turned round.
    assert calibrate(-truth, labels).slope == 0


# Figures


def test_auc_compares_samples_of_one_fold_only():
    p = np.array([0.1, 0.4, 0.4, 0.9])
    probability = np.stack([1 - p, p], axis=1)[None]
    labels = np.array([0, 1, 0, 1])
    # Pairs (1 over 0): .4 > .1, .4 = .4, .9 > .1, .9 > .4.
    assert figures.auc(probability, np.zeros((1, 4), int), labels) == 3.5 / 4
    # Folds {0, 1} and {2, 3}: .4 > .1 and .9 > .4.
    assert figures.auc(probability, np.array([[0, 0, 1, 1]]), labels) == 1
    assert np.isnan(figures.auc(probability, np.array([[0, 1, 0, 1]]), labels))


def test_auc_of_three_classes_is_that_of_hand_and_till():
    rng = np.random.default_rng(6)
    probability = rng.dirichlet([1, 1, 1], size=(1, 30))
    labels = np.arange(30) % 3
    pairs = []
    for a in range(3):
        for b in range(3):
            if a != b:
                mine, other = probability[0, labels == a, a], probability[0, labels == b, a]
                pairs.append((mine[:, None] > other[None, :]).mean())
    found = figures.auc(probability, np.zeros((1, 30), int), labels)
    assert found == pytest.approx(np.mean(pairs))


def test_the_interval_of_a_perfect_auc_is_not_a_point():
    p = np.array([0.1, 0.2, 0.2, 0.1, 0.9, 0.8, 0.7, 0.8])
    found = figures.auc_interval(
        np.stack([1 - p, p], axis=1)[None],
        np.zeros((1, 8), int),
        np.repeat([0, 1], 4),
        np.arange(8),
        np.random.default_rng(1),
    )
    # Clopper and Pearson's lower end of 4 of 4.
    assert (found.value, found.high) == (1, 1)
    assert found.low == pytest.approx(0.3976, abs=1e-4)


def test_scores_of_probabilities_worked_by_hand():
    probability = np.array([[[0.8, 0.2], [0.4, 0.6], [0.5, 0.5], [0.9, 0.1]]])
    labels = np.array([0, 1, 1, 1])
    assert figures.brier(probability, labels) == pytest.approx((0.04 + 0.16 + 0.25 + 0.81) / 4)
    assert figures.accuracy(probability, labels) == pytest.approx(2.5 / 4)
    # Bins .5, .6, .8, .9 hold one each: right (argmax, a tie going to the first) 0, 1, 1, 0.
    assert figures.expected_calibration_error(probability, labels) == pytest.approx(
        (0.5 + 0.4 + 0.2 + 0.9) / 4
    )


def test_recalibration_of_honest_and_of_overconfident_probabilities():
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.5, (20_000, 1)) * [[-0.5, 0.5]]
    labels = (rng.random(20_000) < softmax(logits)[:, 1]).astype(int)
    slope, intercept = figures.recalibration(softmax(logits)[None], labels)
    assert slope == pytest.approx(1, abs=0.05)
    assert intercept == pytest.approx(0, abs=0.05)
    assert figures.recalibration(softmax(2 * logits)[None], labels)[0] == pytest.approx(
        0.5, abs=0.03
    )
    assert figures.recalibration(np.full((1, 4, 2), 0.5), np.array([0, 1, 0, 1]))[0] is None


def test_stability_is_that_of_nogueira_and_others():
    rng = np.random.default_rng(8)
    chosen = tuple(rng.choice(30, size, replace=False) for size in (3, 4, 5, 3, 6))
    z = np.array([np.isin(np.arange(30), own) for own in chosen]).astype(float)
    share, k = z.mean(0), z.sum(1).mean()
    value = 1 - (5 / 4 * share * (1 - share)).mean() / (k / 30 * (1 - k / 30))
    each = [
        (
            (own * share).mean()
            - own.sum() * k / 30**2
            + value / 2 * (2 * k * own.sum() / 30**2 - own.sum() / 30 - k / 30 + 1)
        )
        / (k / 30 * (1 - k / 30))
        for own in z
    ]
    error = np.sqrt(4 / 25 * ((each - np.mean(each)) ** 2).sum())
    found = figures.stability(chosen, 30)
    assert found == pytest.approx((value, value - 1.96 * error, value + 1.96 * error))
    assert figures.stability((np.array([1, 2]),) * 4, 30).value == pytest.approx(1)


# Folds and permutations


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_blocks_whole_and_spread_classes(seed):
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.arange(20), rng.integers(1, 4, 20))
    labels = (blocks % 4 == 0).astype(int)  # 5 blocks of class 1
    fold = make_folds(labels, blocks, 8, rng)
    assert set(fold) == set(range(5))
    assert all(len(set(fold[blocks == b])) == 1 for b in range(20))
    assert all((labels[fold == k] == 1).any() for k in range(5))


def test_a_block_with_nearly_all_of_a_class_is_refused():
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    with pytest.raises(MelismaError, match="one block only"):
        make_folds(labels, np.array([0, 0, 0, 1, 2, 3, 4]), 5, np.random.default_rng(1))


def test_permutations_respect_blocks():
    blocks = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    labels = np.array([0, 0, 1, 1, 0, 0, 1, 1, 0, 1])
    seen = set()
    for seed in range(50):
        moved = permute_labels(labels, blocks, np.random.default_rng(seed))
        assert all(len(set(moved[blocks == b])) == 1 for b in range(4))
        assert sorted(moved[8:]) == [0, 1]
        assert sorted(moved) == sorted(labels)
        seen.add(tuple(moved))
    assert len(seen) == 12  # C(4, 2) * 2


# Nothing leaks


def test_a_fit_does_not_know_what_it_is_judged_on():
    methylated, coverage, labels = simulated(9, shift=0.2)
    learn, held = np.arange(0, 30), np.arange(30, 40)
    scrambled, deep = methylated.copy(), coverage.copy()
    scrambled[:, held], deep[:, held] = 500, 1000
    settings = Settings(None, 6, 5, 2)
    models = [
        fit_model(
            features_of(m, n), learn, labels[learn], learn, settings, np.random.default_rng(1)
        )
        for m, n in ((methylated, coverage), (scrambled, deep))
    ]
    assert models[0].chosen.tolist() == models[1].chosen.tolist()
    assert models[0].calibration.slope == models[1].calibration.slope
    at = models[0].path.order
    first, second = (model.prepared for model in models)
    for name in ("prior", "strength", "mean", "scale"):
        np.testing.assert_array_equal(getattr(first, name)[at], getattr(second, name)[at])


def test_noise_is_not_classified_and_a_leaking_variant_would():
    held, leaked = [], []
    for seed in range(10):
        methylated, coverage, labels = simulated(100 + seed, sites=1000)
        blocks, settings = np.arange(len(labels)), Settings(None, 6, 5, 2)
        features = features_of(methylated, coverage)
        nested = cross_validate(features, labels, blocks, settings, repeats=2, seed=(seed,))
        rng = np.random.default_rng(seed)
        found = figures.auc_interval(nested.probability, nested.fold, labels, blocks, rng)
        held.append((found.value, found.low <= 0.5 <= found.high))
        # The leak: markers chosen on all samples, and only then folds.
        best = prepare(features, blocks, labels, 2, most=6).index
        leaky = cross_validate(
            features_of(methylated[best], coverage[best]), labels, blocks, settings,
            repeats=2, seed=(seed,),
        )  # fmt: skip
        leaked.append(figures.auc(leaky.probability, leaky.fold, labels))
    assert np.mean([value for value, _ in held]) == pytest.approx(0.5, abs=0.08)
    assert sum(inside for _, inside in held) >= 8
    assert min(leaked) > 0.7


def test_blocks_that_share_levels_leak_unless_they_stay_together():
    blocks = np.repeat(np.arange(12), 4)
    methylated, coverage, _ = simulated(11, samples=48, blocks=blocks, planted=())
    labels = blocks % 2
    features, settings = features_of(methylated, coverage), Settings(None, 6, 5, 2)
    apart = cross_validate(features, labels, np.arange(48), settings, repeats=2, seed=(1,))
    whole = cross_validate(features, labels, blocks, settings, repeats=2, seed=(1,))
    assert figures.auc(apart.probability, apart.fold, labels) > 0.9
    found = figures.auc_interval(
        whole.probability, whole.fold, labels, blocks, np.random.default_rng(1)
    )
    assert found.low < 0.5 < found.high


def test_results_do_not_depend_on_threads():
    methylated, coverage, labels = simulated(12, shift=0.2)
    features, blocks = features_of(methylated, coverage), np.arange(len(labels))
    settings = Settings(None, 6, 5, 2)
    alone = cross_validate(features, labels, blocks, settings, repeats=2, seed=(1,))
    with ThreadPoolExecutor(4) as pool:
        beside = cross_validate(features, labels, blocks, settings, repeats=2, seed=(1,), pool=pool)
    np.testing.assert_array_equal(alone.probability, beside.probability)


# What is found


@pytest.fixture(scope="module")
def planted():
    methylated, coverage, labels = simulated(13, samples=120, shift=0.25)
    methylome = methylome_of(methylated, coverage, labels)
    return methylome, find_markers(methylome, "g", repeats=2, permutations=4, size=3)


def test_planted_markers_are_found(planted):
    methylome, found = planted
    panel = found.panel
    sites = {int(np.flatnonzero(at)[0]) for at in (
        (methylome["contig"].values == ("chr1", "chr2").index(m.contig))
        & (methylome["position"].values == m.start) for m in panel.markers)}  # fmt: skip
    assert sites == set(PLANTED)
    assert panel.figures["auc"] > 0.95
    assert panel.figures["auc_low"] > 0.85
    assert panel.figures["brier"] < 0.1 < panel.figures["brier_prevalence"]
    assert panel.figures["permuted"]["auc"] < 0.75
    assert panel.figures["permuted"]["p"] == 1 / 5
    assert all(m.levels[1] > m.levels[0] for m in panel.markers)


def test_the_size_is_the_smallest_within_a_standard_error_of_the_best():
    methylated, coverage, labels = simulated(24, samples=60, shift=0.3)
    panel = find_markers(methylome_of(methylated, coverage, labels), "g", **FAST).panel
    losses = np.array(panel.figures["inner_log_loss"])
    within = losses <= losses.min() + panel.figures["inner_log_loss_error"]
    assert len(panel.markers) == 1 + int(np.argmax(within))
    assert {m.start for m in panel.markers} & {300, 7700, 5000}


def test_planted_markers_are_chosen_more_stably_than_noise(planted):
    _, found = planted
    stable = found.panel.figures
    assert stable["stability"] > 0.6
    assert stable["stability"] > stable["permuted"]["stability"] + 0.3
    # By chance a site is chosen in 3 of 200 training sets.
    assert all(m.selected >= 0.5 for m in found.panel.markers)


def test_the_folds_table_holds_each_sample_once_a_repeat(planted):
    _, found = planted
    counts = found.folds.group_by("repeat", "sample").len()
    assert (counts["len"] == 1).all()
    assert len(counts) == 240
    assert (found.folds["p_c0"] + found.folds["p_c1"]).to_numpy() == pytest.approx(1)
    assert found.folds.columns == ["repeat", "fold", "sample", "class", "p_c0", "p_c1"]


def test_the_order_of_samples_does_not_matter():
    methylated, coverage, labels = simulated(14, shift=0.2)
    methylome = methylome_of(methylated, coverage, labels)
    moved = methylome.isel(sample=np.random.default_rng(1).permutation(40))
    options = FAST | {"permutations": 2}
    first, second = (find_markers(m, "g", **options) for m in (methylome, moved))
    assert first.panel == second.panel
    assert first.folds.equals(second.folds)


def test_three_classes():
    methylated, coverage, labels = simulated(15, samples=45, shift=0.3, classes=3)
    panel = find_markers(methylome_of(methylated, coverage, labels), "g", **FAST).panel
    assert panel.classes == ("c0", "c1", "c2")
    assert panel.figures["auc"] > 0.75
    assert panel.figures["calibration_intercept"] is None
    assert all(sum(m.weights) == pytest.approx(0, abs=1e-9) for m in panel.markers)


def test_a_size_that_is_asked_for_is_kept():
    methylated, coverage, labels = simulated(16, shift=0.3)
    found = find_markers(methylome_of(methylated, coverage, labels), "g", **FAST, size=4).panel
    assert len(found.markers) == 4
    assert set(found.figures["sizes"]) == {4}


def test_regions_and_a_bed_file(tmp_path):
    methylated, coverage, labels = simulated(17, shift=0.3, planted=range(20, 30))
    methylome = methylome_of(methylated, coverage, labels)
    runs = site_runs(methylome)
    # Positions 0, 100, … of two contigs, cut after 1,000 bases: ten sites a run.
    assert (runs.last - runs.first == 10).all()
    assert runs.table["start"].to_list()[:3] == [0, 1000, 2000]
    panel = find_markers(methylome, "g", on="regions", **FAST).panel
    assert panel.markers[0].name == "chr1:2000-2901"
    bed = tmp_path / "own.bed"
    bed.write_text("track x\n1\t2000\t3000\tmine\n1\t2000\t9000\n2\t0\t50\t.\nchr9\t0\t5\n")
    features = load_features(methylome, str(bed), np.arange(40))
    assert features.table["region"].to_list() == ["mine", "chr1:2000-9000", "chr2:0-50"]
    np.testing.assert_array_equal(features.coverage[0], coverage[20:30].sum(axis=0))
    np.testing.assert_array_equal(features.methylated[2], methylated[100])
    named = find_markers(methylome, "g", on=str(bed), **FAST).panel
    assert named.markers[0].name == "mine"
    assert named.bed().row(0)[:4] == ("chr1", 2000, 3000, "mine")


def levels_of(seed, *, probes=True):
    methylated, coverage, labels = simulated(seed, shift=0.3)
    beta = (methylated / np.maximum(coverage, 1)).astype(np.float32)
    beta[10, :5] = np.nan
    names = [f"cg{k:08d}" for k in range(len(beta))]
    return dataset(
        {
            "contig": np.full(len(beta), -1 if probes else 0),
            "position": np.full(len(beta), -1) if probes else np.arange(len(beta)),
        }
        | ({"probe": names} if probes else {}),
        {"beta": beta},
        {"sample": [f"s{k:03d}" for k in range(40)], "g": [f"c{k}" for k in labels]},
        contigs=[] if probes else ["chr1"],
    )


def test_probes_without_a_place():
    methylome = levels_of(18)
    found = find_markers(methylome, "g", **FAST)
    assert found.panel.markers[0].probe in {"cg00000003", "cg00000077", "cg00000150"}
    assert found.panel.bed() is None
    table = score(found.panel, methylome).table
    assert table["coverage"].is_null().all()
    with pytest.raises(MelismaError, match="no positions, so there are no regions"):
        find_markers(methylome, "g", on="regions", **FAST)


# Refusals


@pytest.mark.parametrize(
    ("sheet", "options", "sentence"),
    [
        ({"g": ["a"] * 12}, {}, "Every sample's g is a"),
        ({"g": ["a"] * 9 + ["b"] * 3}, {}, "b of g has 3 samples, fewer than 4"),
        ({"g": ["a"] * 11 + ["b"]}, {}, "b of g has 1 sample, fewer than 4"),
        ({"g": [""] * 12}, {}, "No sample has a g"),
        ({"g": ["a", "b"] * 6}, {"block": "x"}, "no column 'x' to be the block"),
        ({"h": ["a"] * 12}, {}, "no column 'g' to be the phenotype; its columns are h"),
        (
            {"g": ["a"] * 6 + ["b"] * 6, "p": list("aabbccddeeff")},
            {"block": "p"},
            "a of g has 3 blocks of p, fewer than 4: g is constant within p",
        ),
        (
            {"g": ["a", "b"] * 6, "p": ["", *"abcdefghijk"]},
            {"block": "p"},
            "s000 has no p: fill in the column",
        ),
        ({"g": ["a", "b"] * 6}, {"folds": 1}, "folds is 1; it must be at least 2"),
        ({"g": ["a", "b"] * 6}, {"size": 201}, "A panel of 201 was asked for"),
        ({"g": ["a", "b"] * 6}, {"on": "none.bed"}, "there is no file at none.bed"),
    ],
)
def test_what_cannot_be_classified_is_refused(sheet, options, sentence):
    methylated, coverage, _ = simulated(19, samples=12)
    sheet = {"sample": [f"s{k:03d}" for k in range(12)]} | sheet
    sites = {"position": np.arange(200), "contig": np.zeros(200)}
    methylome = dataset(
        sites, {"methylated": methylated, "coverage": coverage}, sheet, contigs=["chr1"]
    )
    with pytest.raises(MelismaError, match=sentence):
        find_markers(methylome, "g", **(FAST | options))


def test_a_continuous_phenotype_is_refused():
    methylated, coverage, labels = simulated(20)
    sheet = {"age": [20.5 + k for k in range(40)]}
    with pytest.raises(MelismaError, match="age has 40 values"):
        find_markers(methylome_of(methylated, coverage, labels, sheet=sheet), "age", **FAST)


def test_what_a_reader_must_know_is_said():
    methylated, coverage, labels = simulated(21)
    deep = coverage + (labels * 20).astype(np.uint16)
    phenotype = ["" if k == 7 else f"c{c}" for k, c in enumerate(labels)]
    people = [f"p{k // 2}" for k in range(40)]
    methylome = methylome_of(methylated, deep, labels, sheet={"h": phenotype, "individual": people})
    notes = " ".join(find_markers(methylome, "h", **FAST).panel.notes)
    assert "Left out without a h: s007" in notes
    assert "pass --block individual" in notes
    assert "Coverage alone tells the classes with an AUC of 1.00" in notes


# Applying a panel


def test_a_panel_survives_json_and_gives_the_same_probabilities(planted, tmp_path):
    methylome, found = planted
    found.panel.write(tmp_path / "panel.json")
    read = Panel.read(tmp_path / "panel.json")
    assert read == found.panel
    first, second = score(found.panel, methylome), score(read, methylome)
    assert first.table.equals(second.table)
    assert set(first.table["flags"]) == {"training sample"}
    assert (first.table["call"] == methylome["g"].values.tolist()).mean() > 0.9
    text = json.loads((tmp_path / "panel.json").read_text())
    assert text["settings"]["seed"] == 1
    assert text["training"]["samples"] == [f"s{k:03d}" for k in range(120)]


def test_new_samples_are_scored_by_hand(planted):
    methylome, found = planted
    panel = found.panel
    new = methylome.isel(sample=slice(0, 3)).assign_coords(sample=["n0", "n1", "n2"])
    table = score(panel, new).table
    logits = np.array(panel.intercept) + np.zeros((3, 2))
    for m in panel.markers:
        row = ("chr1", "chr2").index(m.contig) * 100 + m.start // 100
        reads, marked = (new[n].values[row].astype(float) for n in ("coverage", "methylated"))
        level = (marked + m.strength * m.prior) / (reads + m.strength)
        logits += ((level - m.mean) / m.scale)[:, None] * np.array(m.weights)
    expected = softmax(panel.slope * logits + np.array(panel.shift))
    assert table["p_c1"].to_numpy() == pytest.approx(expected[:, 1])
    assert table["flags"].to_list() == [""] * 3


def test_contigs_of_another_name_and_samples_of_few_markers(planted):
    methylome, found = planted
    count = len(found.panel.markers)
    methylated, coverage = methylome["methylated"].values, methylome["coverage"].values.copy()
    rows = [("chr1", "chr2").index(m.contig) * 100 + m.start // 100 for m in found.panel.markers]
    coverage[rows, 0] = 0
    coverage[rows[:-1], 1] = 0
    coverage[rows, 2] = 1
    moved = methylome_of(
        np.minimum(methylated, coverage), coverage, np.zeros(120, int), contigs=("1", "2"),
        sheet={"sample": [f"n{k:03d}" for k in range(120)]},
    )  # fmt: skip
    scores = score(found.panel, moved)
    assert scores.missing == ()
    first = scores.table.row(0, named=True)
    assert (first["p_c0"], first["call"], first["flags"]) == (None, None, "no markers")
    assert scores.table["markers"].to_list()[:3] == [0, 1, count]
    assert "few markers" in scores.table["flags"][1]
    assert scores.table["flags"][2] == "low coverage"


def test_missing_markers_are_at_their_mean_and_too_many_are_refused(planted):
    methylome, found = planted
    rows = [("chr1", "chr2").index(m.contig) * 100 + m.start // 100 for m in found.panel.markers]
    fewer = methylome.isel(site=np.setdiff1d(np.arange(200), rows[:1]))
    fewer = methylome_without(fewer)
    scores = score(found.panel, fewer)
    assert scores.missing == (found.panel.markers[0].name,)
    assert scores.table["markers"].max() == len(rows) - 1
    assert scores.table["p_c0"].is_not_null().all()
    with pytest.raises(MelismaError, match=f"{len(rows)} of the panel's {len(rows)} sites are not"):
        none = methylome.isel(site=np.setdiff1d(np.arange(200), rows))
        score(found.panel, methylome_without(none))


def methylome_without(methylome):
    """A methylome of fewer sites, its offsets counted anew."""
    contig = methylome["contig"].values
    return methylome.assign_attrs(contig_offsets=np.searchsorted(contig, [0, 1, 2]).tolist())


def test_what_a_panel_does_not_fit_is_refused(planted):
    methylome, found = planted
    panel = found.panel
    with pytest.raises(MelismaError, match="learned from counts, and the store holds levels"):
        score(panel, levels_of(22, probes=False))
    with pytest.raises(MelismaError, match="panel is of 5mC, and the store holds 5hmC"):
        score(panel, methylome.assign_attrs(marks=["h"]))
    built = methylome.assign_attrs(build={"name": "hg38", "told_by": "lengths"})
    hg19 = Panel(**(panel.__dict__ | {"genome": {"name": "x", "build": "GRCh37", "lengths": {}}}))
    with pytest.raises(MelismaError, match="genome build GRCh37, and the store is of hg38"):
        score(hg19, built)
    assert score(hg19, methylome.assign_attrs(build={"name": "hg19"})).notes == ()
    sized = Panel(
        **(panel.__dict__ | {"genome": {"name": "x", "build": None, "lengths": {"chr1": 9000}}})
    )
    other = methylome.assign_attrs(genome={"name": "y", "lengths": {"1": 9001}})
    with pytest.raises(MelismaError, match="chr1 has 9,000 bases in the panel's genome and 9,001"):
        score(sized, other)
    merged = Panel(**(panel.__dict__ | {"strands": "merged"}))
    with pytest.raises(MelismaError, match="strands are merged, and the store's are separate"):
        score(merged, methylome.assign_attrs(strands="separate"))
    probes = find_markers(levels_of(18), "g", **FAST).panel
    with pytest.raises(MelismaError, match="markers are array probes, and the store has none"):
        score(probes, levels_of(22, probes=False))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a panel"),
        ('{"melisma_panel": 99}', "is a panel of format 99"),
        ('{"melisma_panel": 1, "markers": []}', "is not whole"),
    ],
)
def test_what_is_no_panel_is_refused(tmp_path, text, sentence):
    (tmp_path / "panel.json").write_text(text)
    with pytest.raises(MelismaError, match=sentence):
        Panel.read(tmp_path)
    with pytest.raises(MelismaError, match="cannot be read"):
        Panel.read(tmp_path / "none.json")


# The command line


def run(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return done.value.code


def test_the_verbs_write_a_folder_and_a_table(tmp_path, capsys):
    methylated, coverage, labels = simulated(23, shift=0.3)
    write(methylome_of(methylated, coverage, labels), tmp_path / "a.zarr")
    code = run(
        "markers", tmp_path / "a.zarr", "--phenotype", "g", "-o", tmp_path / "panel",
        "--repeats", 1, "--permutations", 2, "--max-size", 5,
    )  # fmt: skip
    assert code == 0
    assert "Permuted labels, 2 runs" in capsys.readouterr().out
    assert sorted(f.name for f in (tmp_path / "panel").iterdir()) == [
        "folds.tsv", "panel.bed", "panel.json",
    ]  # fmt: skip
    assert run("score", tmp_path / "panel", tmp_path / "a.zarr", "-o", tmp_path / "s.tsv") == 0
    shown = capsys.readouterr().out
    assert "Flagged: 40 of 40 samples." in shown
    assert "The panel was learned from all of these samples" in shown
    assert len(pl.read_csv(tmp_path / "s.tsv", separator="\t")) == 40
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    assert run("markers", tmp_path / "a.zarr", "-p", "g", "-o", tmp_path / "full") == 2
    assert "holds files and no panel.json" in capsys.readouterr().err


# Real data


@pytest.mark.reference
@pytest.mark.skipif(not GLIOMA.exists(), reason="the glioma set is not here")
def test_the_codeletion_of_gliomas():
    table = pl.read_csv(GLIOMA / "betas.tsv.gz", separator="\t", null_values=["NA"])
    clinical = pl.read_csv(GLIOMA / "clinical.tsv", separator="\t", infer_schema=False)
    joined = (
        clinical.select("patient", "codeletion_1p19q").join(table, on="patient").gather_every(3)
    )
    probes = sorted(table.columns[1:])
    methylome = dataset(
        {
            "contig": np.full(len(probes), -1),
            "position": np.full(len(probes), -1),
            "probe": probes,
        },
        {"beta": joined.select(probes).to_numpy().T.astype(np.float32)},
        {
            "sample": joined["patient"].to_list(),
            "codeletion": joined["codeletion_1p19q"].fill_null("").to_list(),
        },
        contigs=[],
    )
    found = find_markers(methylome, "codeletion", repeats=1, permutations=1)
    assert found.panel.figures["auc"] > 0.95
    assert found.panel.figures["permuted"]["auc"] < 0.75

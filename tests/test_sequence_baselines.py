"""Baselines recover what they can see, on simulated windows with known rules."""

import numpy as np
import pytest

from melisma.errors import MelismaError
from melisma.sequence._linear_kernels import count_words, logits, spread, word_columns
from melisma.sequence.baselines import fit_composition, fit_profile, fit_words
from melisma.sequence.encodings import encode
from melisma.sequence.evaluate import score_labels


def windows(n, width, seed):
    return np.random.default_rng(seed).integers(0, 4, (n, width)).astype(np.uint8)


def test_columns_by_hand():
    columns = np.empty((2, 6), np.int32)
    word_columns(encode(["ACG", "NTT"]), 2, columns)
    # Singles at 4 j + base; pairs from 12 on at 16 j + 4 first + second.
    assert columns[0].tolist() == [0, 5, 10, 12 + 1, 12 + 16 + 6, -1]
    assert columns[1].tolist() == [-1, 7, 11, -1, 12 + 16 + 15, -1]


def test_words_are_counted_by_hand():
    counts = np.zeros((1, 20), np.float32)
    count_words(encode(["ACGCN"]), 2, counts)
    assert counts[0, :4].tolist() == [1, 2, 1, 0]
    # AC, CG, GC at 4 + 4 first + second
    assert np.flatnonzero(counts[0, 4:]).tolist() == [1, 6, 9]


def test_wide_windows_are_read_by_counts_of_words_wherever_they_are():
    codes = windows(3000, 151, 5)
    near = (codes[:, :-3] == 1) & (codes[:, 1:-2] == 2) & (codes[:, 2:-1] == 1)  # CGC
    label = (near.sum(1) > 2).astype(float)
    model = fit_words(codes[:2500], label[:2500], np.ones(2500))
    found = score_labels(label[2500:], model.predict(codes[2500:]), draws=0)
    assert found["auc"].value > 0.95


def test_the_kernels_are_products_with_the_one_hot_matrix():
    codes = windows(30, 5, 1)
    columns = np.empty((30, 15), np.int32)
    word_columns(codes, 3, columns)
    size = 4 * 5 + 16 * 4 + 64 * 3 + 1
    matrix = np.zeros((30, size))
    matrix[:, -1] = 1
    for i, row in enumerate(columns):
        matrix[i, row[row >= 0]] = 1
    rng = np.random.default_rng(2)
    weight, error, out, gradient = rng.normal(size=size), rng.normal(size=30), np.empty(30), 0
    logits(columns, weight, out)
    gradient = np.zeros(size)
    spread(columns, error, gradient)
    assert out == pytest.approx(matrix @ weight, abs=1e-12)
    assert gradient == pytest.approx(matrix.T @ error, abs=1e-12)


def test_words_find_a_motif_that_composition_cannot():
    codes = windows(4000, 21, 3)
    label = ((codes[:, 11] == 2) & (codes[:, 12] != 0)).astype(float)
    one = np.ones(4000)
    train, test = slice(0, 3000), slice(3000, 4000)
    words = fit_words(codes[train], label[train], one[train], (codes[test], label[test], one[test]))
    gc = fit_composition(codes[train], label[train], one[train])
    profile = fit_profile(codes[train], label[train], one[train])
    auc = {
        name: score_labels(label[test], model.predict(codes[test]), draws=0)["auc"].value
        for name, model in (("words", words), ("gc", gc), ("profile", profile))
    }
    assert auc["words"] > 0.99
    assert auc["profile"] > 0.95  # it sees two bases on either side
    assert auc["gc"] < 0.75


def test_composition_finds_gc():
    rng = np.random.default_rng(4)
    share = rng.uniform(0.2, 0.8, 3000)
    gc = rng.random((3000, 51)) < share[:, None]
    codes = np.where(gc, rng.integers(1, 3, (3000, 51)), 3 * rng.integers(0, 2, (3000, 51)))
    coverage = rng.integers(1, 30, 3000).astype(float)
    methylated = rng.binomial(coverage.astype(int), 0.2 + 0.6 * share).astype(float)
    model = fit_composition(codes.astype(np.uint8), methylated, coverage)
    assert np.corrcoef(model.predict(codes.astype(np.uint8)), share)[0, 1] > 0.9


def test_a_rare_profile_is_drawn_to_the_mean():
    codes = encode(["AACAA"] * 99 + ["TTCTT"])
    label = np.array([0.0] * 99 + [1.0])
    model = fit_profile(codes, label, np.ones(100))
    # (1 + 20 * .01) / (1 + 20)
    assert model.predict(encode(["TTCTT"]))[0] == pytest.approx(1.2 / 21)
    assert model.predict(encode(["GGCGG"]))[0] == pytest.approx(0.01)


def test_no_training_example_is_said():
    with pytest.raises(MelismaError, match="needs training examples"):
        fit_words(windows(0, 5, 0), np.zeros(0), np.zeros(0))

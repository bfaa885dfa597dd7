"""Tails of skewed scores: against exact binomial tails, plain numpy, and a simulated null."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, norm

from melisma.design import make_design
from melisma.differential import simulate, site_tests
from melisma.differential._engine import build_engine, can_test
from melisma.differential._saddlepoint import saddlepoint_score, tail_scores
from melisma.differential.sites import one_comparison

FEW = {"sample": [f"s{i}" for i in range(12)], "g": ["a"] * 3 + ["b"] * 9}


def reference_score(a, n, mu, x):
    """Barndorff-Nielsen's r*, the saddlepoint found by bisection."""

    def cumulant(t):
        return np.sum(n * np.log(1 - mu + mu * np.exp(t * a)) - t * n * a * mu)

    def tilted(t):
        return mu * np.exp(t * a) / (1 - mu + mu * np.exp(t * a))

    t = brentq(lambda t: np.sum(n * a * (tilted(t) - mu)) - x, 1e-9, 80, xtol=1e-14)
    second = np.sum(n * a**2 * tilted(t) * (1 - tilted(t)))
    r = np.sqrt(2 * (t * x - cumulant(t)))
    return r + np.log(t * np.sqrt(second) / r) / r


def test_the_saddlepoint_agrees_with_plain_numpy():
    rng = np.random.default_rng(1)
    for _ in range(50):
        n, mu = rng.uniform(2, 30, 6), rng.uniform(0.02, 0.98, 6)
        a = rng.normal(size=6)
        a /= np.sqrt(np.sum(n * a**2 * mu * (1 - mu)))
        for x in (0.7, 1.5, 2.5):
            if x < 0.9 * np.sum(n * np.maximum(a * (1 - mu), -a * mu)):
                found = saddlepoint_score(a, n, mu, x)
                assert found == pytest.approx(reference_score(a, n, mu, x), rel=1e-8)


def test_the_saddlepoint_gives_exact_binomial_tails_where_a_normal_does_not():
    # 200 reads at level .03, skewness .39: P(Y > y) at midpoints of the lattice.
    n, mu = 200, 0.03
    sd = np.sqrt(n * mu * (1 - mu))
    one = np.ones(1)
    for y in (12.5, 15.5, 18.5):
        exact = binom.sf(y, n, mu)
        score = saddlepoint_score(one / sd, n * one, mu * one, (y - n * mu) / sd)
        assert norm.sf(score) == pytest.approx(exact, rel=0.12)
        assert norm.sf((y - n * mu) / sd) < 0.6 * exact


def test_a_tail_that_the_reads_cannot_reach_is_as_far_as_can_be():
    a, n, mu = np.ones(1), np.full(1, 10.0), np.full(1, 0.5)
    assert saddlepoint_score(a, n, mu, 6.0) == 38.0


def unequal(seed, sites=4000):
    """3 samples at 5x against 9 at 30x, no effect, half of the sites at levels near 0 and 1."""
    rng = np.random.default_rng(seed)
    level = np.where(rng.random(sites) < 0.5, rng.beta(1, 12, sites), rng.beta(9, 1, sites))
    depth = np.array([0.4] * 3 + [2.4] * 9)
    position = np.cumsum(rng.integers(2, 80, sites))
    return simulate(
        position, level, np.full(sites, 12.0), FEW, seed=seed, sample_depth=depth
    ).methylome


def test_scores_of_unequal_groups_keep_their_size_and_small_ones_stay():
    p = []
    for seed in range(6):
        made = unequal(seed)
        engine = build_engine(made, one_comparison(make_design(FEW, "~ g"), "g[b] - g[a]"))
        counts = engine.pool(made["methylated"].values, made["coverage"].values)
        fit = engine.fit(*counts)
        keep = can_test(fit)
        variance, df = engine.variance(fit)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(keep, fit.score / np.sqrt(fit.information * variance), 0.0)
        moved = tail_scores(
            *counts, engine.comparison.reduced, engine.group, engine.n_groups,
            engine.comparison.exposure, engine.dispersion.knots, engine.dispersion.rho, score, df,
            keep,
        )  # fmt: skip
        small = np.abs(score) <= 1
        assert (moved[small] == score[small]).all()
        assert (np.sign(moved) == np.sign(score)).all()
        p.append(engine.p_values(*counts, score, df, keep)[keep])
    values = np.concatenate(p)
    assert len(values) > 8000
    assert (values < 0.01).mean() / 0.01 < 1.3
    assert (values < 0.001).mean() / 0.001 < 1.5


def test_p_does_not_jump_where_the_saddlepoint_begins():
    made = unequal(1, 1500)
    result = site_tests(made, make_design(FEW, "~ g"), "g[b] - g[a]")
    table = result.table.drop_nulls("p")
    assert ((table["p"] > 0) & (table["p"] <= 1)).all()
    near = table.filter(table["statistic"].abs().is_between(0.98, 1.02))
    assert near["p"].is_between(0.28, 0.36).all()

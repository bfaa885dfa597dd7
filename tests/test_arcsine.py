"""The fast site test: exact moments, the kernel against plain numpy, and a simulated null."""

import numpy as np
import pytest
from scipy.stats import betabinom, gamma, norm

from melisma.design import compare, make_contrasts, make_design
from melisma.differential import simulate, site_tests
from melisma.differential._arcsine import (
    arcsine,
    beta_binomial_moments,
    fit_arcsine,
    moments_of_arcsine,
    table_levels,
)
from melisma.differential._arcsine_tails import arcsine_tail_scores, expansion
from melisma.differential._engine import _directions
from melisma.differential._moderation import Dispersion
from melisma.methylome import sample_sheet

SHEET = {
    "sample": [f"s{i}" for i in range(8)],
    "g": list("abababab"),
    "cell": list("xxyyzzxy"),
    "age": [20.0, 31, 25, 50, 44, 38, 61, 29],
}
DISPERSION = Dispersion(np.array([0.2, 0.8]), np.array([0.01, 0.05]))


@pytest.mark.parametrize(
    ("reads", "level", "rho"), [(3, 0.2, 0.05), (17, 0.9, 0.01), (60, 0.01, 0.1)]
)
def test_moments_are_those_of_the_beta_binomial(reads, level, rho):
    m = np.arange(reads + 1)
    weight = betabinom.pmf(m, reads, level * (1 - rho) / rho, (1 - level) * (1 - rho) / rho)
    z = np.arcsin(2 * (m + 0.1) / (reads + 0.2) - 1)
    mean = weight @ z
    found = beta_binomial_moments(reads, np.array([level]), np.array([rho]))
    expected = (mean, *(weight @ (z - mean) ** power for power in (2, 3, 4)))
    assert tuple(float(f[0]) for f in found) == pytest.approx(expected, rel=1e-7, abs=1e-9)


def test_the_delta_methods_variance_is_five_times_too_large_at_low_levels():
    # STATISTICS: level .01 and 10 reads.
    _, variance, *_ = beta_binomial_moments(10, np.array([0.01]), np.array([0.0]))
    assert (1 / 10) / variance[0] > 4


def test_the_table_is_close_between_its_nodes_and_beyond_them():
    table = moments_of_arcsine(DISPERSION)
    level = table_levels()
    for reads, k in ((40, 30), (300, 64), (900, 100)):
        rho = np.interp(level[k : k + 1], *DISPERSION)
        mean, variance, *_ = beta_binomial_moments(reads, level[k : k + 1], rho)
        assert table.mean[k, reads] == pytest.approx(mean[0], abs=1e-4)
        assert table.precision[k, reads] == pytest.approx(variance[0] ** -0.5, rel=2e-3)


def random_counts(seed, sites, depth=9):
    rng = np.random.default_rng(seed)
    coverage = rng.poisson(depth, (sites, 8))
    level = np.clip(rng.beta(1.5, 1, (sites, 1)) + rng.normal(0, 0.2, (sites, 8)), 0, 1)
    return rng.binomial(coverage, level).astype(float), coverage.astype(float)


@pytest.mark.parametrize(
    ("formula", "text"), [("~ g", "g"), ("~ g + age", "g"), ("~ cell", "cell")]
)
def test_the_kernel_agrees_with_plain_numpy(formula, text):
    design = make_design(SHEET, formula)
    comparison = compare(design, make_contrasts(design, text)[0])
    table = moments_of_arcsine(DISPERSION)
    methylated, coverage = random_counts(3, 40)
    coverage[0, 0], methylated[0, 0] = 5000, 2400
    first = np.arcsin(2 * table_levels()[0] - 1)
    found = fit_arcsine(
        methylated, coverage, comparison.reduced, _directions(comparison), *table[:3], first
    )
    compared = 0
    grid = np.linspace(first, -first, len(table.mean))
    for i in range(40):
        m, n = methylated[i], coverage[i]
        minor = min(m.sum(), (n - m).sum())
        if minor < 5:
            continue
        place = np.arcsin(2 * m.sum() / n.sum() - 1)
        seen = n > 0
        mean, scale = np.zeros(seen.sum()), np.zeros(seen.sum())
        for j, reads in enumerate(n[seen].astype(int)):
            inside = min(reads, 1024)
            mean[j] = np.interp(place, grid, table.mean[:, inside])
            scale[j] = np.interp(place, grid, table.precision[:, inside])
            if reads > 1024:
                last, half = (
                    np.interp(place, grid, table.precision[:, k]) ** -2 for k in (1024, 512)
                )
                scale[j] = (last + (half - last) * (1024 / reads - 1)) ** -0.5
        error = (arcsine(m[seen], n[seen]) - mean) * scale
        reduced = scale[:, None] * comparison.reduced[seen]
        full = np.hstack([reduced, scale[:, None] * comparison.exposures[seen]])
        sums = [
            error @ error - error @ (x @ np.linalg.lstsq(x, error, rcond=None)[0])
            for x in (reduced, full)
        ]
        if np.linalg.matrix_rank(full) < full.shape[1]:
            continue
        compared += 1
        assert found[0][i] ** 2 == pytest.approx(sums[0] - sums[1], rel=1e-10, abs=1e-10)
        assert found[2][i] == pytest.approx(sums[1], rel=1e-10, abs=1e-10)
        assert found[3][i] == seen.sum() - full.shape[1]
    assert compared > 25


def test_the_tails_kernel_agrees_with_plain_numpy():
    design = make_design(SHEET, "~ g + age")
    comparison = compare(design, make_contrasts(design, "g")[0])
    table = moments_of_arcsine(DISPERSION)
    methylated, coverage = random_counts(5, 30)
    score = np.random.default_rng(6).normal(0, 2.5, 30)
    df = np.where(np.arange(30) % 3 == 0, np.inf, 12.0)
    first = np.arcsin(2 * table_levels()[0] - 1)
    keep = np.minimum(methylated.sum(1), (coverage - methylated).sum(1)) >= 5
    found = arcsine_tail_scores(
        methylated, coverage, comparison.reduced, _directions(comparison), *table, first, score,
        df, keep,
    )  # fmt: skip
    grid = np.linspace(first, -first, len(table.mean))
    moved = 0
    for i in range(30):
        x = abs(score[i])
        if not keep[i] or x <= 1:
            assert found[i] == score[i]
            continue
        place = np.arcsin(2 * methylated[i].sum() / coverage[i].sum() - 1)
        reads = coverage[i].astype(int)
        at = [
            np.array([np.interp(place, grid, t[:, n]) if n else 0.0 for n in reads])
            for t in table[1:]
        ]
        weighted = at[0][:, None] * np.hstack([comparison.reduced, comparison.exposures])
        basis = np.linalg.qr(weighted)[0]
        q = basis[:, -1] * np.sign(basis[:, -1] @ weighted[:, -1]) * np.sign(score[i])
        third, fourth = (q**3 * at[1]).sum(), (q**4 * at[2]).sum()
        z = x - third * (x**2 - 1) / 6 - fourth * (x**3 - 3 * x) / 24
        z += third**2 * (4 * x**3 - 7 * x) / 36
        z = max(z, 0.3 * x)
        shared = (q * (1 - (basis**2).sum(1)) * at[1]).sum()
        z *= np.exp(np.clip(0.5 * shared / df[i] * z, -0.5, 0.5))
        expected = x + min(x - 1, 1) * (z - x)
        assert found[i] == pytest.approx(np.sign(score[i]) * expected, rel=1e-10)
        moved += 1
    assert moved > 8


def test_the_expansion_brings_a_gamma_variable_back_to_the_normal():
    # Gamma of shape 25: skewness 2/5, excess kurtosis 6/25.
    for tail in (0.01, 0.001):
        x = (gamma.isf(tail, 25) - 25) / 5
        assert expansion(x, 0.4, 0.24) == pytest.approx(norm.isf(tail), abs=0.15)
        assert x - norm.isf(tail) > 0.2


def made(seed, depth=None, sites=4000):
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.integers(2, 80, sites))
    level = rng.beta(0.8, 0.5, sites)
    return simulate(
        position, level, np.full(sites, 12.0), SHEET, seed=seed, sample_depth=depth
    ).methylome


@pytest.mark.parametrize("deep", [1.0, 6.0])
def test_a_null_keeps_its_size_at_equal_and_unequal_depth(deep):
    depth = np.where(np.array(SHEET["g"]) == "b", 0.4 * deep, 0.4 if deep > 1 else 1.0)
    p = np.concatenate(
        [
            site_tests(m, make_design(sample_sheet(m), "~ g"), "g", test="arcsine")
            .table["p"].drop_nulls().to_numpy()
            for m in (made(seed, depth) for seed in range(6))
        ]
    )  # fmt: skip
    assert len(p) > 6000
    assert 0.75 < (p < 0.05).mean() / 0.05 < 1.2
    assert (p < 0.01).mean() / 0.01 < 1.3
    assert (p < 0.001).mean() / 0.001 < 1.6


def test_both_tests_agree_in_sign_and_mostly_in_size():
    m = made(1)
    design = make_design(sample_sheet(m), "~ g + age")
    score, fast = (site_tests(m, design, "g", test=t).table for t in ("score", "arcsine"))
    both = score["p"].is_not_null().to_numpy() & fast["p"].is_not_null().to_numpy()
    one, two = (t["statistic"].to_numpy()[both] for t in (score, fast))
    assert np.corrcoef(one, two)[0, 1] > 0.95
    assert (score["delta_beta"].to_numpy()[both] == fast["delta_beta"].to_numpy()[both]).all()

"""Incomplete blocks: the correlation found again, the kernel against plain numpy, size, gain."""

import numpy as np
import pytest

from melisma.design import make_design
from melisma.differential import simulate, site_tests
from melisma.differential._consensus import fit_consensus
from melisma.differential._engine import Engine
from melisma.errors import MelismaError
from melisma.methylome import sample_sheet

# Eight complete pairs and eight members alone.
SHEET = {
    "sample": [f"s{i}" for i in range(24)],
    "g": ["a", "b"] * 8 + ["a"] * 4 + ["b"] * 4,
    "pair": [f"p{i // 2}" for i in range(16)] + [f"q{i}" for i in range(8)],
}
DESIGN = make_design(SHEET, "~ g", block="pair")


def made(seed, **options):
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.integers(2, 80, 3000))
    return simulate(
        position, rng.uniform(0.2, 0.8, 3000), np.full(3000, 14.0), SHEET, seed=seed,
        block=SHEET["pair"], **options,
    )  # fmt: skip


def test_the_kernel_agrees_with_generalised_least_squares():
    rng = np.random.default_rng(1)
    block = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    reduced, exposure = np.full((8, 1), 8**-0.5), np.array([1.0, -1, 1, -1, 1, -1, 1, -1])
    coverage = rng.poisson(12, (20, 8)).astype(float)
    methylated = rng.binomial(coverage.astype(int), 0.6).astype(float)
    coverage[0, 1], methylated[0, 1] = 0, 0
    found = fit_consensus(
        methylated, coverage, reduced, np.zeros(8, np.int64), 1, exposure, block, 5, 0.3,
        np.array([0.5]), np.array([0.02]),
    )  # fmt: skip
    for i in range(20):
        seen = coverage[i] > 0
        m, reads = methylated[i][seen], coverage[i][seen]
        n = reads / (1 + (reads - 1) * 0.02)
        mu = np.sum(n * m / reads) / n.sum()
        error = np.sqrt(n / (mu * (1 - mu))) * (m / reads - mu)
        same = block[seen][:, None] == block[seen]
        inverse = np.linalg.inv(np.where(same, 0.3, 0.0) + 0.7 * np.eye(seen.sum()))
        one, x = np.sqrt(n), np.sqrt(n) * exposure[seen]
        x = x - one * (one @ inverse @ x) / (one @ inverse @ one)
        error = error - one * (one @ inverse @ error) / (one @ inverse @ one)
        u, v = x @ inverse @ error, x @ inverse @ x
        residual = error @ inverse @ error - u * u / v
        got = tuple(float(found[k][i]) for k in range(4))
        assert got == pytest.approx((u, v, residual, seen.sum() - 2), rel=1e-10, abs=1e-10)


def test_members_alone_are_used_and_it_is_said():
    methylome = made(1).methylome
    result = site_tests(methylome, DESIGN, "g[b] - g[a]", incomplete=True)
    assert result.comparison.df_residual == 22
    assert isinstance(result.engine, Engine)
    assert 0.05 < result.engine.correlation < 0.6
    assert any("one correlation within blocks" in note for note in result.notes)
    plain = site_tests(methylome, DESIGN, "g[b] - g[a]")
    assert plain.comparison.df_residual == 7
    with pytest.raises(MelismaError, match="score test of counts"):
        site_tests(methylome, DESIGN, "g[b] - g[a]", incomplete=True, test="arcsine")


def test_complete_pairs_stay_fixed_effects():
    sheet = {name: values[:16] for name, values in SHEET.items()}
    methylome = made(1).methylome.isel(sample=slice(0, 16))
    design = make_design(sample_sheet(methylome), "~ g", block="pair")
    assert sheet["pair"] == list(methylome["pair"].values)
    result = site_tests(methylome, design, "g[b] - g[a]", incomplete=True)
    assert result.comparison.unit == "samples within blocks"
    assert result.comparison.correlated is None


def test_incomplete_blocks_keep_their_size_and_find_more():
    p = np.concatenate([
        site_tests(made(seed).methylome, DESIGN, "g[b] - g[a]", incomplete=True)
        .table["p"].drop_nulls().to_numpy()
        for seed in range(6)
    ])  # fmt: skip
    assert 0.75 < (p < 0.05).mean() / 0.05 < 1.15
    assert (p < 0.01).mean() / 0.01 < 1.3
    exposure = np.array([g == "b" for g in SHEET["g"]], float)
    planted = made(9, exposure=exposure, regions=30, delta=0.2).methylome
    used, dropped = (
        site_tests(planted, DESIGN, "g[b] - g[a]", incomplete=choice).significant(0.05)
        for choice in (True, False)
    )
    assert len(used) > 1.2 * len(dropped) > 20

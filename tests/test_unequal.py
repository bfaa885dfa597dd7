"""Sides with variances of their own: the kernels against plain numpy, size, power, refusals."""

import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtr

from melisma.cli import main
from melisma.design import compare, make_contrasts, make_design
from melisma.differential import Noise, simulate, site_tests
from melisma.differential._engine import build_engine
from melisma.differential._unequal import fit_sides, satterthwaite, tails_of_sides
from melisma.differential._unequal_engine import UnequalEngine
from melisma.errors import MelismaError
from melisma.methylome import write

CONTRAST = "g[b] - g[a]"
GRID = np.linspace(-8, 8, 1601)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(31)


def sheet_of(a, b):
    return {"sample": [f"s{i}" for i in range(a + b)], "g": ["a"] * a + ["b"] * b}


def baseline_of(level, sd):
    """Where noise of `sd` on the logit scale has the mean `level`."""
    mean = (WEIGHTS / WEIGHTS.sum() / (1 + np.exp(-GRID[:, None] - sd * NODES))).sum(axis=1)
    return 1 / (1 + np.exp(-np.interp(level, mean, GRID)))


def made(a, b, seed, sds=(0.3, 0.9), sites=4000, **options):
    """Samples of level a with the first noise and of level b with the second, of equal means."""
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.integers(2, 80, sites))
    level, depth, sheet = rng.uniform(0.2, 0.8, sites), np.full(sites, 16.0), sheet_of(a, b)
    quiet, noisy = (
        simulate(
            position, baseline_of(level, sd), depth, sheet, seed=1000 * seed + k,
            noise=Noise(sample_sd=sd), **options,
        ).methylome
        for k, sd in enumerate(sds)
    )  # fmt: skip
    both = quiet.copy(deep=True)
    for name in ("methylated", "coverage"):
        both[name].values[..., a:] = noisy[name].values[..., a:]
    return both


def by_numpy(m, n, reads, reduced, exposure, side):
    """One site's columns of `SidesFit`."""
    y = np.where(n > 0, m / np.maximum(n, 1e-9), 0.0)
    mu = m.sum() / n.sum()
    error, root = np.sqrt(n / (mu * (1 - mu))) * (y - mu), np.sqrt(n)
    basis = np.linalg.qr(root[:, None] * reduced)[0]
    d = root * exposure
    d = d - basis @ (basis.T @ d)
    v = d @ d
    u = d @ error
    full = np.eye(len(n)) - basis @ basis.T - np.outer(d, d) / v
    left = np.where(n > 0, np.diag(full), 0.0)
    third = np.sum((d**3 * (1 - 2 * mu))[n > 0] / np.sqrt(n[n > 0] * mu * (1 - mu))) / v**1.5
    columns = (d**2, (full @ error) ** 2, left, left * (reads - 1))
    sums = [np.array([c[side == k].sum() for k in range(3)]) for c in columns]
    total = np.array([reads[side == k].sum() for k in range(3)])
    alone = np.where(n > 0, d**2 * n / np.maximum(reads, 1), 0.0)
    least = np.array([alone[side == k].sum() for k in range(3)]) / sums[0]
    return u, third, *sums, total * min(mu, 1 - mu), least


def test_the_kernel_agrees_with_plain_numpy():
    rng = np.random.default_rng(3)
    side = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2])
    reduced = np.full((9, 1), 1 / 3)
    exposure = rng.normal(size=9)
    reads = rng.poisson(12, (20, 9)).astype(float)
    marked = rng.binomial(reads.astype(int), 0.6).astype(float)
    reads[0, 1] = marked[0, 1] = 0
    share = 1 / (1 + np.maximum(reads - 1, 0) * np.array([0.02, 0.1, 0.05])[side])
    found = fit_sides(
        marked * share, reads * share, reads, reduced, np.zeros(9, np.int64), 1, exposure, side
    )
    for i in range(20):
        m, n = marked[i] * share[i], reads[i] * share[i]
        expected = by_numpy(m, n, reads[i], reduced, exposure, side)
        for got, value in zip(found, expected, strict=True):
            assert got[i] == pytest.approx(value, rel=1e-10, abs=1e-10)


def test_satterthwaite_by_hand():
    # Parts 6 and 2 on 3 and 6 df: 64 / (36 / 3 + 4 / 6) = 5.0526.
    variance, df, weight = satterthwaite(
        np.array([[3.0, 2.0, 0.0]]), np.array([[2.0, 1.0, 9.0]]), np.array([[3.0, 6.0, 0.0]])
    )
    assert variance.tolist() == [8.0]
    assert df[0] == pytest.approx(64 / (36 / 3 + 4 / 6))
    assert weight[0] == pytest.approx([0.25, 0.25 / 6, 0.0])
    known = satterthwaite(np.ones((1, 2)), np.ones((1, 2)), np.array([[np.inf, 4.0]]))
    assert known[1].tolist() == [16.0]


def test_with_one_variance_the_tails_are_those_of_the_usual_test():
    methylome = made(3, 6, 4, sds=(0.3, 0.3), sites=600)
    comparison = compare(*of(methylome, "~ g"))
    engine = build_engine(methylome, comparison)
    counts = (
        methylome["methylated"].values.astype(float),
        methylome["coverage"].values.astype(float),
    )
    keep = counts[1].min(axis=1) > 0
    score, df = np.full(len(keep), 2.5), np.full(len(keep), 9.0)
    usual = engine.p_values(*counts, score, df, keep)
    level = counts[0].sum(axis=1) / counts[1].sum(axis=1)
    rho = np.interp(level, *engine.dispersion)[:, None]
    share = 1 / (1 + np.maximum(counts[1] - 1, 0) * rho)
    z = -ndtri(stdtr(9.0, -score))
    moved = tails_of_sides(
        counts[0] * share, counts[1] * share, comparison.reduced, engine.group, engine.n_groups,
        comparison.exposure, np.zeros(9, np.int64), z, np.full((len(keep), 3), 1 / 9.0), keep,
    )  # fmt: skip
    assert 2 * ndtr(-moved[keep]) == pytest.approx(usual[keep], rel=1e-9)


def of(methylome, formula, **options):
    sheet = {
        name: list(methylome[name].values)
        for name in methylome.coords
        if methylome[name].dims == ("sample",)
    }
    design = make_design(sheet, formula, **options)
    return design, make_contrasts(design, CONTRAST)[0]


def test_each_side_learns_its_own_dispersion_and_the_note_says_so():
    methylome = made(4, 4, 2)
    design = make_design(sheet_of(4, 4), "~ g")
    unequal = site_tests(methylome, design, CONTRAST, variance="unequal")
    assert isinstance(unequal.engine, UnequalEngine)
    noisy, quiet, _ = unequal.engine.dispersions
    assert np.median(noisy.rho) > 2 * np.median(quiet.rho)
    assert [round(prior.scale, 1) for prior in unequal.engine.priors] == [1.0, 1.0, 1.0]
    assert any(
        note.endswith("each group has a variance of its own here.") for note in unequal.notes
    )
    equal = site_tests(methylome, design, CONTRAST)
    assert any("melisma sites --variance unequal" in note for note in equal.notes)
    assert equal.table["p"].to_list() != unequal.table["p"].to_list()


def test_a_smaller_group_that_varies_more_keeps_its_size():
    design = make_design(sheet_of(9, 3), "~ g")
    p = {
        choice: np.concatenate([
            site_tests(made(9, 3, seed), design, CONTRAST, variance=choice)
            .table["p"].drop_nulls().to_numpy()
            for seed in range(4)
        ])
        for choice in ("equal", "unequal")
    }  # fmt: skip
    assert (p["equal"] < 0.01).mean() / 0.01 > 2.0
    assert 0.7 < (p["unequal"] < 0.05).mean() / 0.05 < 1.2
    assert (p["unequal"] < 0.01).mean() / 0.01 < 1.3


def test_a_shallow_side_whose_levels_agree_by_chance_is_not_significant():
    design = make_design(sheet_of(6, 3), "~ g")
    depth = np.array([1.6] * 6 + [0.25] * 3)
    p = np.concatenate([
        site_tests(made(6, 3, seed, sample_depth=depth), design, CONTRAST, variance="unequal")
        .table["p"].drop_nulls().to_numpy()
        for seed in range(2)
    ])  # fmt: skip
    assert len(p) > 2000
    assert (p < 0.05).mean() / 0.05 < 1.25
    assert (p < 0.001).mean() / 0.001 < 2.0


def test_samples_in_another_order_and_pooled_blocks():
    methylome = made(4, 4, 5, sites=1500)
    design = make_design(sheet_of(4, 4), "~ g")
    p = site_tests(methylome, design, CONTRAST, variance="unequal").table["p"]
    order = [7, 0, 3, 5, 1, 6, 2, 4]
    turned = make_design({k: [v[i] for i in order] for k, v in sheet_of(4, 4).items()}, "~ g")
    again = site_tests(methylome.isel(sample=order), turned, CONTRAST, variance="unequal")
    assert again.table["p"].fill_null(2).to_numpy() == pytest.approx(
        p.fill_null(2).to_numpy(), rel=1e-6
    )
    sheet = sheet_of(8, 8) | {"person": [f"p{i // 2}" for i in range(16)]}
    pooled = make_design(sheet, "~ g", block="person")
    result = site_tests(made(8, 8, 5, sites=1500), pooled, CONTRAST, variance="unequal")
    assert result.comparison.unit == "blocks"
    assert result.tested > 1000


def test_what_unequal_variances_are_not_for_is_refused():
    methylome = made(3, 3, 6, sites=300)
    sheet = sheet_of(3, 3) | {"pair": ["x", "y", "z"] * 2, "age": [31.0, 40, 52, 33, 47, 61]}
    cases = [
        ("~ g", CONTRAST, "pair", {}, "not for comparisons within blocks"),
        ("~ age", "age", None, {}, "age is not a difference of two levels"),
        ("~ g", CONTRAST, None, {"test": "arcsine"}, "score test of counts only"),
    ]
    for formula, contrast, block, options, message in cases:
        design = make_design(sheet, formula, block=block)
        with pytest.raises(MelismaError, match=message):
            site_tests(methylome, design, contrast, variance="unequal", **options)
    lone = make_design(sheet_of(5, 1), "~ g")
    with pytest.raises(MelismaError, match="b side has too few samples"):
        site_tests(made(5, 1, 6, sites=300), lone, CONTRAST, variance="unequal")


def test_the_command_takes_the_option(tmp_path, capsys):
    write(made(4, 4, 7, sites=600), tmp_path / "a.zarr")
    asked = ["sites", str(tmp_path / "a.zarr"), "-f", "~ g", "-c", CONTRAST, "--variance"]
    with pytest.raises(SystemExit) as done:
        main([*asked, "unequal"])
    assert done.value.code == 0
    assert "each group has a variance of its own here." in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main([*asked, "welch"])
    assert done.value.code == 2
    assert "'welch' is not known: use equal or unequal." in capsys.readouterr().err

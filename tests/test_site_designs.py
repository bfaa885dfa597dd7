"""Site tests of any design: several coefficients at once, interactions, time, missing values."""

import numpy as np
import pytest
from scipy.stats import f as f_distribution
from typer.testing import CliRunner

from melisma.cli import app
from melisma.design import compare, make_contrasts, make_design
from melisma.differential import simulate, site_tests
from melisma.differential._engine import _directions, _groups, f_tail
from melisma.differential._factors import coefficients, fit_several
from melisma.differential._kernels import SiteFit, fit_sites
from melisma.errors import MelismaError
from melisma.methylome import dataset, sample_sheet, write

KNOTS, RHOS = np.array([0.2, 0.8]), np.array([0.01, 0.05])
SHEET = {
    "sample": [f"s{i}" for i in range(12)],
    "cell": list("abcdabcdabcd"),
    "batch": list("xyxxyyxyxxyy"),
    "age": [20.0, 31, 25, 50, 44, 38, 61, 29, 33, 47, 52, 40],
    "donor": list("ppppqqqqrrrr"),
    "time": [0.0, 1, 2, 3] * 3,
}


def ready(formula, text, block=None, sheet=SHEET):
    design = make_design(sheet, formula, block=block)
    return compare(design, make_contrasts(design, text)[0])


def random_counts(seed, sites, units, depth=9):
    rng = np.random.default_rng(seed)
    coverage = rng.poisson(depth, (sites, units))
    level = np.clip(rng.beta(1.5, 1, (sites, 1)) + rng.normal(0, 0.2, (sites, units)), 0, 1)
    return rng.binomial(coverage, level).astype(float), coverage.astype(float)


def of_counts(methylated, coverage, sheet, contigs=("c",), contig=None):
    sites = len(coverage)
    return dataset(
        {"contig": np.zeros(sites) if contig is None else contig, "position": np.arange(sites)},
        {"methylated": methylated, "coverage": coverage},
        sheet,
        contigs=list(contigs),
    )


def null_counts(seed, sheet, sites=2000):
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.integers(2, 80, sites))
    return simulate(position, rng.beta(2, 1, sites), np.full(sites, 12.0), sheet, seed=seed)


def logistic_means(y, n, design):
    """Maximum likelihood by plain Newton steps; units that reach 0 or 1 stay there."""
    eta = np.zeros(len(y))
    for _ in range(200):
        mu = 1 / (1 + np.exp(-eta))
        free = (mu > 1e-10) & (mu < 1 - 1e-10)
        weight = n * mu * (1 - mu) * free
        root = np.sqrt(weight)
        residual = n * (y - mu) * free / np.where(free, root, 1)
        step = design @ np.linalg.lstsq(root[:, None] * design, residual, rcond=None)[0]
        eta += np.where(free, step, 0) * min(1, 1 / np.abs(step[free]).max(initial=1e-300))
    return 1 / (1 + np.exp(-eta))


def reference_squares(m, reads, comparison):
    """u' V^-1 u, residual, df of one site, straight from the definitions."""
    seen = reads > 0
    rho = np.interp(m.sum() / reads.sum(), KNOTS, RHOS)
    m, reads = m[seen], reads[seen]
    reduced, exposures = comparison.reduced[seen], comparison.exposures[seen]
    n = reads / (1 + (reads - 1) * rho)
    mu = logistic_means(m / reads, n, reduced)
    inside = (mu > 1e-9) & (mu < 1 - 1e-9)
    m, reads, n, mu = m[inside], reads[inside], n[inside], mu[inside]
    reduced, exposures = reduced[inside], exposures[inside]
    error = np.sqrt(n / (mu * (1 - mu))) * (m / reads - mu)
    root = np.sqrt(n)[:, None]
    clear = np.eye(len(n)) - (root * reduced) @ np.linalg.pinv(root * reduced)
    error, direction = clear @ error, clear @ (root * exposures)
    if np.linalg.matrix_rank(direction, tol=1e-7) < exposures.shape[1]:
        return 0.0, 0.0, 0
    u = direction.T @ error
    squares = u @ np.linalg.solve(direction.T @ direction, u)
    rank = np.linalg.matrix_rank(root * reduced, tol=1e-7)
    return squares, error @ error - squares, len(n) - rank - exposures.shape[1]


@pytest.mark.parametrize(
    ("formula", "text", "block"),
    [
        ("~ cell", "cell", None),
        ("~ cell + batch", "cell", None),
        ("~ cell + age", "cell", None),
        ("~ cell", "cell", "donor"),
        ("~ batch * age", "batch:age", None),
        ("~ batch + poly(age, 2)", "poly(age, 2)", None),
    ],
)
def test_the_kernel_of_several_coefficients_agrees_with_plain_numpy(formula, text, block):
    methylated, coverage = random_counts(3, 60, 12, depth=5)
    comparison = ready(formula, text, block)
    group, n_groups = _groups(comparison.reduced)
    found = fit_several(
        methylated, coverage, comparison.reduced, group, n_groups, _directions(comparison), KNOTS,
        RHOS,
    )  # fmt: skip
    compared = 0
    for i in range(60):
        if min(methylated[i].sum(), (coverage[i] - methylated[i]).sum()) < 5:
            continue
        squares, residual, df = reference_squares(methylated[i], coverage[i], comparison)
        if df < 1:
            assert found[3][i] < 1
            continue
        compared += 1
        assert (found[0][i] ** 2, found[2][i], found[3][i]) == pytest.approx(
            (squares, residual, df), rel=1e-9, abs=1e-9
        )
    assert compared > 20


def test_several_coefficients_on_the_level_scale_are_least_squares():
    methylated, coverage = random_counts(5, 20, 12)
    comparison = ready("~ cell + age", "cell")
    found = coefficients(
        methylated, coverage, comparison.reduced, comparison.exposures, KNOTS, np.zeros(2)
    )
    for i in range(20):
        seen = coverage[i] > 0
        root = np.sqrt(coverage[i][seen])
        model = np.hstack([comparison.reduced, comparison.exposures])[seen] * root[:, None]
        level = root * methylated[i][seen] / coverage[i][seen]
        expected = np.linalg.lstsq(model, level, rcond=None)[0][-3:]
        assert found[i] == pytest.approx(expected, abs=1e-10)


def test_the_tail_of_f():
    assert f_tail(np.array([2.5]), 3, np.array([8.0]))[0] == pytest.approx(
        f_distribution.sf(2.5, 3, 8)
    )


def test_all_levels_of_a_factor_and_the_two_that_differ_most():
    # Levels .2, .4, .9, .6 at 40 reads each: the largest difference is c - a.
    means = dict(zip("abcd", (8, 16, 36, 24), strict=True))
    methylated = np.tile([means[c] for c in SHEET["cell"]], (30, 1))
    methylated += np.random.default_rng(1).integers(-2, 3, methylated.shape)
    made = of_counts(methylated, np.full((30, 12), 40), SHEET)
    result = site_tests(made, make_design(SHEET, "~ cell"), "cell")
    assert (result.comparison.k, result.tested) == (3, 30)
    assert set(result.table["between"]) == {"c - a"}
    assert result.table["delta_beta"].to_numpy() == pytest.approx(0.7, abs=0.08)
    assert result.table["ci_low"].is_null().all()
    assert (result.table["p"] < 1e-6).all()


def test_the_order_in_which_a_factor_is_coded_does_not_matter():
    made = null_counts(1, SHEET, 600).methylome
    first = site_tests(made, make_design(SHEET, "~ cell + age"), "cell").table
    other = SHEET | {"cell": [{"a": "z"}.get(c, c) for c in SHEET["cell"]]}
    second = site_tests(
        made.assign_coords(cell=("sample", other["cell"])), make_design(other, "~ cell + age"),
        "cell",
    ).table  # fmt: skip
    for name in ("statistic", "p"):
        assert first[name].to_numpy() == pytest.approx(
            second[name].to_numpy(), rel=1e-8, nan_ok=True
        )
    assert np.abs(first["delta_beta"].to_numpy()) == pytest.approx(
        np.abs(second["delta_beta"].to_numpy()), nan_ok=True
    )


def test_the_square_of_t_is_the_f_of_one_coefficient():
    methylated, coverage = random_counts(6, 40, 12)
    comparison = ready("~ batch + age", "batch")
    one = SiteFit(*fit_sites(
        methylated, coverage, comparison.reduced, np.zeros(12, np.int64), 0, comparison.exposure,
        KNOTS, RHOS,
    ))  # fmt: skip
    several = SiteFit(*fit_several(
        methylated, coverage, comparison.reduced, np.zeros(12, np.int64), 0,
        _directions(comparison), KNOTS, RHOS,
    ))  # fmt: skip
    known = one.information > 0
    assert known.sum() > 30
    squares = one.score[known] ** 2 / one.information[known]
    assert several.score[known] ** 2 == pytest.approx(squares)
    assert several.residual == pytest.approx(one.residual)
    assert several.excess == pytest.approx(one.excess)
    assert several.skewness == pytest.approx(np.abs(one.skewness))


def test_four_levels_without_an_effect_keep_the_tests_size():
    sheet = {"sample": [f"s{i}" for i in range(20)], "cell": list("abcd" * 5)}
    p = np.concatenate(
        [
            site_tests(made, make_design(sheet, "~ cell"), "cell")
            .table["p"].drop_nulls().to_numpy()
            for made in (null_counts(seed, sheet, 3000).methylome for seed in range(6))
        ]
    )  # fmt: skip
    assert 0.7 < (p < 0.05).mean() / 0.05 < 1.2
    assert (p < 0.01).mean() / 0.01 < 1.4


def test_pairwise_contrasts_are_each_tested():
    made = null_counts(1, SHEET, 300).methylome
    design = make_design(SHEET, "~ cell")
    with pytest.raises(MelismaError, match="is 6 contrasts"):
        site_tests(made, design, "pairwise(cell)")
    results = [site_tests(made, design, c) for c in make_contrasts(design, "pairwise(cell)")]
    assert results[0].comparison.contrast.levels == ("b", "a")
    assert len(results) == 6


def test_an_interaction_is_found_by_its_term_in_either_order():
    design = make_design(SHEET, "~ cell * age")
    one, two = (make_contrasts(design, text)[0] for text in ("cell:age", "age:cell"))
    assert one.vectors.tolist() == two.vectors.tolist()
    assert one.vectors.shape == (3, 8)
    assert compare(design, one).df_residual == 4


def test_a_planted_interaction_is_told_from_main_effects():
    # The slope with time differs between batches at sites 0-99; at 100-199 it is the same in both.
    sheet = {
        "sample": [f"s{i}" for i in range(16)],
        "drug": ["no"] * 8 + ["yes"] * 8,
        "time": [0.0, 1, 2, 3] * 4,
        "animal": [f"m{i // 4}" for i in range(16)],
    }
    rng = np.random.default_rng(4)
    time, drug = np.array(sheet["time"]), np.array(sheet["drug"]) == "yes"
    level = np.concatenate([
        np.tile(0.2 + 0.15 * time * drug, (100, 1)), np.tile(0.2 + 0.15 * time, (100, 1)),
    ])  # fmt: skip
    coverage = np.full(level.shape, 80)
    made = of_counts(rng.binomial(coverage, level), coverage, sheet)
    design = make_design(sheet, "~ drug * time", block="animal")
    interaction = site_tests(made, design, "drug:time")
    assert interaction.comparison.unit == "samples within blocks"
    p = interaction.table["p"].to_numpy()
    assert (p[:100] < 0.01).mean() > 0.95
    assert (p[100:] < 0.01).mean() < 0.05
    # Time itself: repeated measures, each animal its own control.
    over_time = site_tests(made, make_design(sheet, "~ time", block="animal"), "time")
    assert over_time.comparison.df_residual == 16 - 4 - 1
    assert (over_time.table["p"].to_numpy()[100:] < 0.001).mean() > 0.95
    assert over_time.table["delta_beta"].to_numpy()[100:].mean() == pytest.approx(0.15, abs=0.01)


def test_missing_values_name_the_samples_and_can_be_dropped():
    sheet = SHEET | {"age": [None, *SHEET["age"][1:11], float("nan")]}
    with pytest.raises(MelismaError, match="'age' has no value for s0, s11: .*--drop-missing"):
        make_design(sheet, "~ cell + age")
    design = make_design(sheet, "~ cell + age", drop_missing=True)
    assert design.dropped == ("s0", "s11")
    assert design.matrix.shape == (10, 5)
    made = null_counts(1, SHEET, 400).methylome
    result = site_tests(made, design, "cell[b] - cell[a]")
    assert "2 samples without a value are left out: s0, s11." in result.notes
    kept = made.isel(sample=slice(1, 11))
    plain = site_tests(kept, make_design(sample_sheet(kept), "~ cell + age"), "cell[b] - cell[a]")
    assert result.table["p"].to_numpy() == pytest.approx(plain.table["p"].to_numpy(), nan_ok=True)


def test_aliased_columns_are_named():
    sheet = SHEET | {"lane": [{"a": "1", "b": "2"}.get(c, "3") for c in SHEET["cell"]]}
    with pytest.raises(MelismaError, match="cannot be estimated .* are confounded"):
        ready("~ cell + lane", "cell", sheet=sheet)
    # c and d share a lane, so that they can still be compared.
    assert ready("~ cell + lane", "cell[d] - cell[c]", sheet=sheet).k == 1
    # No sample of batch y has cell a.
    batch = ["x" if c == "a" else b for c, b in zip(SHEET["cell"], SHEET["batch"], strict=True)]
    empty = SHEET | {"batch": batch}
    with pytest.raises(MelismaError, match="cannot be estimated"):
        ready("~ cell * batch", "cell:batch", sheet=empty)


TWO = {"sample": [f"s{i}" for i in range(8)], "g": list("aaaabbbb")}


def test_awkward_counts_have_a_p_or_none_and_never_a_nonsense_one():
    rng = np.random.default_rng(3)
    coverage = rng.poisson(12, (206, 8))
    methylated = rng.binomial(coverage, 0.5)
    coverage[0, :4], methylated[0, :4] = 0, 0  # a whole group unseen
    methylated[1] = 0
    methylated[2] = coverage[2]
    coverage[3], methylated[3] = 1, [1, 0, 1, 0, 1, 1, 0, 1]
    coverage[4], methylated[4] = (
        60_000,
        [29_000, 31_000, 30_500, 30_000, 30_200, 29_500, 31_000, 30_000],
    )
    coverage[5], methylated[5] = 20, [0, 0, 0, 0, 20, 20, 20, 20]  # perfectly separated
    made = of_counts(methylated, coverage, TWO)
    table = site_tests(made, make_design(TWO, "~ g"), "g[b] - g[a]").table
    p = table["p"].to_numpy()
    assert np.isnan(p[[0, 1, 2, 3]]).all()
    assert p[4] > 0.01
    assert p[5] < 1e-4
    assert table["delta_beta"][5] == pytest.approx(1.0)
    assert np.isfinite(p[6:]).all()
    assert ((p[4:] >= 0) & (p[4:] <= 1)).all()


def test_contigs_of_one_and_two_sites():
    methylated, coverage = random_counts(8, 300, 8)
    contig = np.repeat([0, 1, 2], [297, 1, 2])
    made = of_counts(methylated.astype(int), coverage.astype(int), TWO, ("c", "d", "e"), contig)
    table = site_tests(made, make_design(TWO, "~ g"), "g[b] - g[a]").table
    assert table["contig"].to_list()[-3:] == ["d", "e", "e"]
    assert table["p"].is_not_null().sum() > 200


def test_five_hundred_samples():
    sheet = {"sample": [f"s{i}" for i in range(500)], "g": list("ab" * 250)}
    methylated, coverage = random_counts(2, 60, 500)
    made = of_counts(methylated.astype(int), coverage.astype(int), sheet)
    result = site_tests(made, make_design(sheet, "~ g"), "g[b] - g[a]")
    assert result.tested == 60
    assert (result.table["p"].to_numpy() > 1e-5).all()


def test_a_block_of_one_member_says_nothing():
    sheet = {
        "sample": [f"s{i}" for i in range(9)],
        "g": list("ababababa"),
        "pair": list("ppqqrrssu"),
    }
    methylated, coverage = random_counts(4, 200, 9)
    made = of_counts(methylated.astype(int), coverage.astype(int), sheet)
    design = make_design(sheet, "~ g", block="pair")
    result = site_tests(made, design, "g[b] - g[a]")
    assert any("1 of 5 blocks" in note for note in result.notes)
    without = made.isel(sample=slice(0, 8))
    alone = site_tests(
        without, make_design(sample_sheet(without), "~ g", block="pair"), "g[b] - g[a]"
    )
    assert result.table["delta_beta"].to_numpy() == pytest.approx(
        alone.table["delta_beta"].to_numpy(), nan_ok=True, abs=0.02
    )


def test_the_command_line_drops_samples_and_tests_every_pair(tmp_path, monkeypatch):
    made = null_counts(1, SHEET, 300).methylome
    made = made.assign_coords(age=("sample", np.array([np.nan, *SHEET["age"][1:]])))
    write(made, tmp_path / "s.zarr")
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    refused = run(app, ["sites", "s.zarr", "-f", "~ cell + age", "-c", "cell"])
    assert isinstance(refused.exception, MelismaError)
    assert "'age' has no value for s0" in str(refused.exception)
    done = run(
        app,
        [
            "sites",
            "s.zarr",
            "-f",
            "~ cell + age",
            "-c",
            "pairwise(cell)",
            "--drop-missing",
            "--test",
            "fast",
            "--filter",
            "-o",
            "x.tsv",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "1 samples without a value are left out: s0." in done.output
    assert sorted(p.name for p in tmp_path.glob("x*.tsv")) == sorted(
        f"x.{b}_vs_{a}.tsv" for a, b in ("ab", "ac", "ad", "bc", "bd", "cd")
    )
    every = run(app, ["sites", "s.zarr", "-f", "~ cell", "-c", "cell"])
    assert "F on 3 coefficients" in every.output

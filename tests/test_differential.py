"""Site tests and calibration: kernels against plain numpy, published values, and a small null."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from melisma.cli.sites import _show as show
from melisma.design import compare, make_contrasts, make_design
from melisma.differential import Noise, calibrate, simulate, site_tests
from melisma.differential._effects import Effects, effects
from melisma.differential._engine import _groups, build_engine, can_test
from melisma.differential._kernels import fit_sites, normal_score
from melisma.differential._moderation import (
    Prior,
    estimate_dispersion,
    estimate_prior,
    moderate,
    outlier_limits,
)
from melisma.differential.sites import benjamini_hochberg, inflation, mover_interval
from melisma.errors import MelismaError
from melisma.methylome import dataset, sample_sheet

KNOTS, RHOS = np.array([0.2, 0.8]), np.array([0.01, 0.05])


def logistic_means(y, n, design, steps=200):
    """Maximum likelihood of a logistic model, by plain Newton steps."""
    beta = np.zeros(design.shape[1])
    for _ in range(steps):
        mu = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        weight = n * mu * (1 - mu)
        step = np.linalg.lstsq(
            design.T @ (design * weight[:, None]), design.T @ (n * (y - mu)), rcond=None
        )[0]
        beta += np.clip(step, -2, 2)
    return 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))


def reference_fit(m, n_reads, reduced, exposure):
    """score, information, residual, df of one site, straight from the definitions."""
    used = n_reads > 0
    m, n_reads, reduced, exposure = m[used], n_reads[used], reduced[used], exposure[used]
    rho = np.interp(m.sum() / n_reads.sum(), KNOTS, RHOS)
    n = n_reads / (1 + (n_reads - 1) * rho)
    y = m / n_reads
    mu = logistic_means(y, n, reduced)
    inside = (mu > 1e-6) & (mu < 1 - 1e-6)
    y, n, mu, reduced, exposure = (
        y[inside],
        n[inside],
        mu[inside],
        reduced[inside],
        exposure[inside],
    )
    error = np.sqrt(n / (mu * (1 - mu))) * (y - mu)
    columns = np.sqrt(n)[:, None] * reduced
    rank = np.linalg.matrix_rank(columns)
    project = columns @ np.linalg.pinv(columns)
    error = error - project @ error
    direction = np.sqrt(n) * exposure
    direction = direction - project @ direction
    u, v = error @ direction, direction @ direction
    return u, v, error @ error - u * u / v, len(y) - rank - 1


def random_counts(seed, sites, units):
    rng = np.random.default_rng(seed)
    coverage = rng.poisson(9, (sites, units))
    level = np.clip(rng.beta(1.5, 1, (sites, 1)) + rng.normal(0, 0.2, (sites, units)), 0, 1)
    return rng.binomial(coverage, level).astype(float), coverage.astype(float)


DESIGNS = {
    "two groups": ("~ g", None),
    "another factor": ("~ g + f", None),
    "a covariate": ("~ g + age", None),
    "pairs": ("~ g", "pair"),
    "pairs and a covariate": ("~ g + age", "pair"),
}
SHEET = {
    "sample": [f"s{i}" for i in range(8)],
    "g": list("abababab"),
    "f": list("xxxyyxyy"),
    "age": [20.0, 31, 25, 50, 44, 38, 61, 29],
    "pair": list("ppqqrrss"),
}


def ready(name, sheet=SHEET):
    formula, block = DESIGNS[name]
    design = make_design(sheet, formula, block=block)
    return compare(design, make_contrasts(design, "g[b] - g[a]")[0])


@pytest.mark.parametrize("name", DESIGNS)
def test_the_score_kernel_agrees_with_plain_numpy(name):
    methylated, coverage = random_counts(3, 60, 8)
    comparison = ready(name)
    group, n_groups = _groups(comparison.reduced)
    found = fit_sites(
        methylated, coverage, comparison.reduced, group, n_groups, comparison.exposure, KNOTS, RHOS
    )
    for i in range(60):
        minor = min(methylated[i].sum(), (coverage[i] - methylated[i]).sum())
        if minor < 5:
            continue
        expected = reference_fit(
            methylated[i], coverage[i], comparison.reduced, comparison.exposure
        )
        got = tuple(float(column[i]) for column in found[:4])
        if expected[3] < 1:
            assert got[3] < 1
            continue
        assert got == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_a_fit_does_not_depend_on_how_the_reduced_model_is_written():
    # Donors that a site does not see, or sees all methylated, leave columns of the basis that are
    # 0 there up to rounding: they must not count as columns. chr1:3,341,539 of the demo's study.
    sheet = {
        "sample": [f"s{i}" for i in range(16)],
        "g": list("aaababababababab")[:16],
        "pair": list("ppqqrrssttuuvvww"),
    }
    comparison = ready("pairs", sheet)
    methylated = np.array([[0.0, 0, 0, 0, 0, 1, 2, 2, 1, 2, 0, 1, 0, 0, 0, 0]])
    coverage = np.array([[0.0, 0, 0, 0, 0, 3, 12, 9, 16, 40, 3, 8, 5, 12, 11, 9]])
    first = None
    for seed in range(4):
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8)))[0]
        reduced = np.ascontiguousarray(comparison.reduced @ turn)
        group, n_groups = _groups(reduced)
        assert n_groups == 8
        found = fit_sites(
            methylated, coverage, reduced, group, n_groups, comparison.exposure, KNOTS, RHOS
        )
        values = [float(column[0]) for column in found]
        first = first or values
        # Seen and not all alike: r (one member), s, t, u; six of seven units, less 4 means and 1.
        assert (values[3], values[4]) == (2, 11)
        assert values == pytest.approx(first, rel=1e-10, abs=1e-10)


def test_a_score_worked_by_hand():
    # One site, two groups of two, rho 0: levels 1/2, 1/2 against 1, 1 at ten reads each.
    # mu = 3/4, errors sqrt(10 / (3/16)) * (-1/4, -1/4, 1/4, 1/4), direction sqrt(10) (-+1/2),
    # so v = 10, u = 10 / sqrt(3/16) / 2 and u^2/v = 10 * 16/3 / 4 = 40/3; nothing is left over.
    reduced, exposure = np.full((4, 1), 0.5), np.array([0.0, 0, 1, 1])
    found = fit_sites(
        np.array([[5.0, 5, 10, 10]]), np.full((1, 4), 10.0), reduced,
        np.zeros(4, np.int64), 1, exposure, np.array([0.5]), np.array([0.0]),
    )  # fmt: skip
    score, information, residual, df = (column[0] for column in found[:4])
    assert score**2 / information == pytest.approx(40 / 3)
    assert residual == pytest.approx(0, abs=1e-12)
    assert df == 2


def effects_of(comparison, methylated, coverage):
    side = comparison.side if comparison.side is not None else np.zeros(8, np.int8)
    return Effects(
        *effects(
            np.asarray(methylated, float), np.asarray(coverage, float), comparison.reduced,
            comparison.exposure, side, np.array([0.5]), np.array([0.0]),
        )
    )  # fmt: skip


def test_effects_worked_by_hand():
    # Levels 5/20 and 18/20 with rho 0: difference, levels, reads a side and variance are exact.
    comparison = ready("two groups", {"sample": list("wxyz"), "g": list("abab")})
    found = effects_of(comparison, [[2, 9, 3, 9]], [[10, 10, 10, 10]])
    values = tuple(float(column[0]) for column in found)
    variance = 0.25 * 0.75 / 20 + 0.9 * 0.1 / 20
    # Pearson about the group means: 10 (.2 - .25)^2 / .1875 twice, and 0 twice.
    pearson = 2 * 10 * 0.05**2 / (0.25 * 0.75)
    assert values == pytest.approx((0.65, 0.9, 0.25, 20, 20, variance, pearson, 2))


def test_effects_of_pairs_with_unlike_levels_have_the_pairs_own_variance():
    # Two pairs at .1/.1 and .9/.9: the variance is that of the units, not of the mean level.
    sheet = {"sample": list("wxyz"), "g": list("abab"), "pair": list("ppqq")}
    found = effects_of(ready("pairs", sheet), [[1, 1, 9, 9]], [[10, 10, 10, 10]])
    assert found.delta[0] == pytest.approx(0.0)
    assert found.variance[0] == pytest.approx(4 * 0.25 * 0.09 / 10)


def test_a_mover_interval_is_newcombes():
    # Newcombe (1998), method 10: 56/70 - 48/80 = 0.2, 95% interval 0.0524 to 0.3339.
    one = np.ones(1)
    found = Effects(
        0.2 * one, 0.8 * one, 0.6 * one, 70 * one, 80 * one, one, one, np.ones(1, np.int32)
    )
    low, high = mover_interval(found, one, np.array([np.inf]))
    assert (low[0], high[0]) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_normal_scores_are_close_to_the_exact_ones():
    from scipy.stats import norm, t

    for df in (3.0, 6.0, 30.0):
        for value in np.linspace(-8, 8, 33):
            assert normal_score(value, df) == pytest.approx(norm.ppf(t.cdf(value, df)), abs=0.05)
    assert normal_score(-1.5, np.inf) == -1.5


def test_squeezing_gives_limmas_numbers():
    # fitFDist and squeezeVar of limma 3.54.1 (R).
    variance = np.array([0.5, 1.2, 0.8, 2.5, 0.3, 1.1, 0.9, 4.0, 0.2, 1.6])
    df = np.array([4.0, 4, 4, 4, 4, 4, 3, 3, 3, 3])
    prior = estimate_prior(variance, df)
    assert prior == pytest.approx((23.2223709317, 1.20640399799), rel=1e-9)
    squeezed, total = moderate(variance * df, df, prior, np.full(6, np.inf))
    assert squeezed[[0, 7]] == pytest.approx([1.10260642653, 1.52600850774], rel=1e-9)
    assert total[[0, 7]] == pytest.approx([27.2223709317, 26.2223709317], rel=1e-9)
    wide = np.array([0.05, 12, 0.8, 25, 0.3, 1.1, 0.09, 40, 0.2, 1.6])
    assert estimate_prior(wide, df) == pytest.approx((1.0321203037, 0.466150180489), rel=1e-9)


def test_variances_that_vary_by_chance_only_have_an_infinite_prior():
    prior = estimate_prior(np.array([1, 1.1, 0.9, 1.05, 0.95, 1]), np.full(6, 4.0))
    assert prior.df == np.inf
    squeezed, total = moderate(np.array([3.0]), np.array([4]), Prior(np.inf, 0.7), np.full(5, 9.0))
    assert (squeezed.tolist(), total.tolist()) == ([0.7], [np.inf])


def test_an_outlying_variance_is_not_squeezed():
    # The 99% point of F(4, 10) is 5.994 (tables): a dispersion of 6 is beyond it, 5.9 is not.
    prior = Prior(10.0, 1.0)
    limits = outlier_limits(prior, 4)
    assert limits[4] == pytest.approx(5.994, abs=1e-3)
    squeezed, total = moderate(np.array([24.0, 23.6]), np.array([4, 4]), prior, limits)
    assert squeezed == pytest.approx([6.0, (10 + 23.6) / 14])
    assert total.tolist() == [4, 14]
    assert outlier_limits(Prior(np.inf, 1.0), 4)[4] == pytest.approx(13.277 / 4, abs=1e-3)


def test_a_discordant_pair_is_not_taken_for_a_boundary():
    # Full Newton steps overshoot here and lose the pair (6/9, 0/2); plain Newton with small
    # steps is the reference.
    sheet = SHEET | {"age": [10.0, 12, 30, 44, 25, 61, 50, 33]}
    comparison = ready("pairs and a covariate", sheet)
    methylated = np.array([[6.0, 0, 9, 8, 11, 12, 7, 9]])
    coverage = np.array([[9.0, 2, 9, 9, 12, 12, 8, 9]])
    group, n_groups = _groups(comparison.reduced)
    found = fit_sites(
        methylated, coverage, comparison.reduced, group, n_groups, comparison.exposure, KNOTS, RHOS
    )
    expected = reference_fit(methylated[0], coverage[0], comparison.reduced, comparison.exposure)
    assert [float(c[0]) for c in found[:4]] == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_a_blocks_level_does_not_depend_on_which_member_has_the_reads():
    # Levels .5 and 1 at 2 and 20 reads: mean .75, effective reads 4 / (1/2 + 1/20).
    sheet = {"sample": list("uvwxyz"), "g": list("aabbab"), "pair": list("ppqqrs")}
    comparison = ready("pairs", sheet)
    assert comparison.unit == "blocks"
    made = small_simulation(sites=400).methylome
    engine = build_engine(made, ready("two groups"))
    from dataclasses import replace

    m, n = replace(engine, comparison=comparison).pool(
        np.array([[1, 20, 3, 3, 4, 5], [1, 1, 1, 1, 1, 1]]),
        np.array([[2, 20, 6, 6, 5, 5], [0, 5, 2, 2, 2, 2]]),
    )
    assert n[0] == pytest.approx([4 / 0.55, 12, 5, 5])
    assert m[0] / n[0] == pytest.approx([0.75, 0.5, 0.8, 1.0])
    assert n[1, 0] == 0


def test_dispersion_is_found_again():
    rng = np.random.default_rng(5)
    level = rng.uniform(0.2, 0.8, 4000)[:, None]
    odds = (1 - 0.06) / 0.06
    coverage = rng.poisson(15, (4000, 8)).astype(np.int32)
    own = rng.beta(level * odds, (1 - level) * odds, (4000, 8))
    methylated = rng.binomial(coverage, own).astype(np.int32)
    methylome = dataset(
        {"contig": np.zeros(4000), "position": np.arange(4000)},
        {"methylated": methylated, "coverage": coverage},
        SHEET,
        contigs=["c"],
    )
    engine = build_engine(methylome, ready("two groups"))
    assert engine.dispersion.rho == pytest.approx(0.06, abs=0.006)
    assert engine.prior.scale == pytest.approx(1.0, abs=0.05)
    fit = engine.fit(methylated.astype(float), coverage.astype(float))
    assert estimate_dispersion(fit, can_test(fit)).rho == pytest.approx(0.0, abs=0.01)


def test_benjamini_hochberg_and_lambda():
    p = np.array([0.01, 0.02, np.nan, 0.03, 0.5])
    assert benjamini_hochberg(p) == pytest.approx([0.04, 0.04, np.nan, 0.04, 0.5], nan_ok=True)
    assert inflation(np.linspace(0.0005, 0.9995, 1000)) == pytest.approx(1.0, abs=1e-3)


def small_simulation(seed=1, sites=3000, **options):
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.integers(2, 80, sites))
    return simulate(
        position, rng.beta(2, 1, sites), np.full(sites, 12.0), SHEET, seed=seed, **options
    )


def test_simulated_truth_is_found():
    exposure = np.array([0.0, 1] * 4)
    made = small_simulation(sites=4000, exposure=exposure, regions=20, delta=0.4)
    assert len(made.truth) == 20
    methylome = made.methylome
    assert methylome.attrs["simulated"]
    result = site_tests(methylome, make_design(sample_sheet(methylome), "~ g"), "g[b] - g[a]")
    planted = np.zeros(4000, dtype=bool)
    position = methylome["position"].values
    for start, end, _, _ in made.truth.iter_rows():
        planted |= (position >= start) & (position < end)
    called = (result.table["q"] < 0.05).fill_null(value=False).to_numpy()
    assert called.sum() > 20
    assert (called & ~planted).sum() / called.sum() < 0.15


def test_ties_in_p_are_ordered_by_the_statistic():
    methylome = small_simulation(sites=1500).methylome
    result = site_tests(methylome, make_design(sample_sheet(methylome), "~ g"), "g[b] - g[a]")
    table = result.table.drop_nulls("p").head(3)
    table = table.with_columns(
        pl.Series("p", [0.0, 0.0, 1e-4]), pl.Series("q", [0.0, 0.0, 0.01]),
        pl.Series("statistic", [40.0, -50.0, 60.0]),
    )  # fmt: skip
    ordered = replace(result, table=table).significant()
    assert ordered["statistic"].to_list() == [-50.0, 40.0, 60.0]


def shown(result, capsys, **changes):
    show(replace(result, **changes), 0.05, None)
    return capsys.readouterr().out


def test_the_terminal_says_what_zero_and_lambda_mean(capsys):
    methylome = small_simulation(sites=1500).methylome
    result = site_tests(methylome, make_design(sample_sheet(methylome), "~ g"), "g[b] - g[a]")
    table = result.table.with_columns(p=pl.lit(0.0), q=pl.lit(0.0)).drop_nulls("statistic")
    text = shown(result, capsys, table=table, inflation=1.1)
    assert text.count("<1e-300") == 20
    assert "Lambda" not in text
    assert "Lambda 2.79 is far above" in shown(result, capsys, inflation=2.79)
    assert "Lambda 0.50 is far below" in shown(result, capsys, inflation=0.5)
    said = ("About 30% of 1,200 tested sites move: a global shift, which …",)
    assert "Lambda" not in shown(result, capsys, inflation=2.79, notes=said)
    assert "Lambda" not in shown(result, capsys, inflation=2.79, tested=99)


def test_a_null_keeps_its_size():
    # 8 seeds of 3,000 sites: the share below .05 and .01, about 20,000 tests.
    p = np.concatenate(
        [
            site_tests(made, make_design(sample_sheet(made), "~ g"), "g[b] - g[a]")
            .table["p"]
            .drop_nulls()
            .to_numpy()
            for made in (small_simulation(seed).methylome for seed in range(8))
        ]
    )
    assert 0.7 < (p < 0.05).mean() / 0.05 < 1.2
    assert (p < 0.01).mean() / 0.01 < 1.3


def test_results_do_not_depend_on_blocks_threads_or_sample_order(monkeypatch):
    made = small_simulation(sites=5000).methylome
    first = site_tests(made, make_design(sample_sheet(made), "~ g + f"), "g[b] - g[a]").table
    order = [3, 0, 7, 1, 6, 5, 2, 4]
    shuffled = made.isel(sample=order)
    monkeypatch.setattr("melisma.methylome.CHUNK_SITES", (512, 512))
    monkeypatch.setattr("melisma.differential._engine.os.cpu_count", lambda: 1)
    second = site_tests(shuffled, make_design(sample_sheet(shuffled), "~ g + f"), "g[b] - g[a]")
    for name in ("statistic", "p", "delta_beta", "ci_low", "ci_high"):
        assert first[name].to_numpy() == pytest.approx(
            second.table[name].to_numpy(), rel=1e-6, abs=1e-9, nan_ok=True
        )


def test_swapping_the_levels_swaps_the_sign():
    made = small_simulation(sites=800).methylome
    design = make_design(sample_sheet(made), "~ g")
    one = site_tests(made, design, "g[b] - g[a]").table
    two = site_tests(made, design, "g[a] - g[b]").table
    assert one["p"].to_numpy() == pytest.approx(two["p"].to_numpy(), nan_ok=True)
    for name, other in (("delta_beta", "delta_beta"), ("ci_low", "ci_high")):
        assert one[name].to_numpy() == pytest.approx(-two[other].to_numpy(), nan_ok=True)


def test_monomorphic_and_sparse_sites_are_not_tested():
    coverage = np.full((3, 8), 10, np.uint16)
    methylated = np.zeros((3, 8), np.uint16)
    methylated[1, :4] = 1
    methylated[2] = [1, 5, 2, 6, 3, 5, 2, 7]
    methylome = dataset(
        {"contig": np.zeros(3), "position": [1, 2, 3]},
        {"methylated": methylated, "coverage": coverage},
        SHEET,
        contigs=["c"],
    )
    result = site_tests(methylome, make_design(SHEET, "~ g"), "g[b] - g[a]")
    assert result.table["p"].is_null().to_list() == [True, True, False]
    assert (result.tested, result.untestable) == (1, 2)
    assert result.table["delta_beta"][2] == pytest.approx((5 + 6 + 5 + 7 - 1 - 2 - 3 - 2) / 40)


def test_a_methylome_without_testable_sites_is_refused():
    values = {k: np.zeros((2, 8), np.uint16) for k in ("methylated", "coverage")}
    methylome = dataset({"contig": [0, 0], "position": [1, 2]}, values, SHEET, contigs=["c"])
    with pytest.raises(MelismaError, match="No site can be tested"):
        site_tests(methylome, make_design(SHEET, "~ g"), "g[b] - g[a]")


def test_a_design_over_other_samples_is_refused():
    made = small_simulation(sites=50).methylome
    other = SHEET | {"sample": [f"t{i}" for i in range(8)]}
    with pytest.raises(MelismaError, match="own sample sheet"):
        site_tests(made, make_design(other, "~ g"), "g[b] - g[a]")


def test_skewed_scores_are_not_tested():
    # Two against six units with all minor reads at an extreme level: the score's tail is heavy.
    sheet = SHEET | {"g": list("aabbbbbb")}
    comparison = ready("two groups", sheet)
    counts = np.full((1, 8), 12.0)
    found = fit_sites(
        counts - [[1.0, 1, 1, 1, 0, 1, 1, 0]], counts, comparison.reduced, np.zeros(8, np.int64), 1,
        comparison.exposure, KNOTS, np.zeros(2),
    )  # fmt: skip
    mu = 90 / 96
    direction = np.sqrt(12) * np.where(np.array(list(sheet["g"])) == "b", 0.25, -0.75)
    unit = (1 - 2 * mu) / np.sqrt(12 * mu * (1 - mu))
    expected = (direction**3).sum() * unit / (direction**2).sum() ** 1.5
    assert abs(found[8][0]) == pytest.approx(abs(expected))


def test_groups_of_unlike_variance_are_named():
    rng = np.random.default_rng(2)
    coverage = np.full((3000, 8), 30)
    spread = np.where(np.array(SHEET["g"]) == "b", 0.25, 0.02)
    level = np.clip(rng.uniform(0.3, 0.7, (3000, 1)) + rng.normal(0, 1, (3000, 8)) * spread, 0, 1)
    methylome = dataset(
        {"contig": np.zeros(3000), "position": np.arange(3000)},
        {"methylated": rng.binomial(coverage, level), "coverage": coverage},
        SHEET,
        contigs=["c"],
    )
    result = site_tests(methylome, make_design(SHEET, "~ g"), "g[b] - g[a]")
    assert any("The b samples vary" in note for note in result.notes)
    assert not any("vary" in note for note in small_notes())


def small_notes():
    made = small_simulation(sites=2000).methylome
    return site_tests(made, make_design(sample_sheet(made), "~ g"), "g[b] - g[a]").notes


@pytest.mark.parametrize(("formula", "levels"), [("~ g", (0.05, 0.95)), ("~ g", (0.4, 0.6))])
def test_an_interval_covers_the_truth(formula, levels):
    # 4,000 simulated sites of two groups of four; 95% up to the error of a discrete statistic.
    rng = np.random.default_rng(11)
    groups = np.array(SHEET["g"])
    level = np.where(groups == "b", levels[1], levels[0])
    odds = (1 - 0.04) / 0.04
    coverage = rng.poisson(20, (4000, 8))
    own = rng.beta(level * odds, (1 - level) * odds, (4000, 8))
    methylome = dataset(
        {"contig": np.zeros(4000), "position": np.arange(4000)},
        {"methylated": rng.binomial(coverage, own), "coverage": coverage},
        SHEET,
        contigs=["c"],
    )
    table = site_tests(methylome, make_design(SHEET, formula), "g[b] - g[a]").table
    delta = levels[1] - levels[0]
    tested = table.drop_nulls("p")
    covered = ((tested["ci_low"] <= delta) & (tested["ci_high"] >= delta)).mean()
    assert 0.9 < covered < 0.99


def test_calibration_relabels_and_counts():
    made = small_simulation(sites=1500, noise=Noise(sample_sd=0.2)).methylome
    result = site_tests(made, make_design(sample_sheet(made), "~ g"), "g[b] - g[a]")
    calibration = calibrate(made, result.engine, relabellings=10)
    assert calibration.distinct == 35
    assert len(calibration.site_calls) == calibration.relabellings == 10
    assert calibration.sites == result.tested
    assert 0.5 < np.median(calibration.inflations) < 1.5
    assert calibration.quantiles["median"].is_sorted()


def test_a_mean_at_the_edge_is_inside_whatever_its_rounding():
    # The a units' mean is 1/4, half a read from 0 at one read: each order of samples rounds apart.
    m = np.array([[0, 3, 0, 1, 0, 0, 0, 3, 0, 3, 1, 3]])
    n = np.array([[0, 3, 1, 1, 1, 2, 0, 4, 1, 3, 1, 3]])
    sheet = {"sample": [f"s{k}" for k in range(12)], "g": ["a", "b"] * 6}
    found = set()
    for seed in range(30):
        order = np.random.default_rng(seed).permutation(12)
        moved = {name: [column[k] for k in order] for name, column in sheet.items()}
        design = make_design(moved, "~ g")
        comparison = compare(design, make_contrasts(design, "g[b] - g[a]")[0])
        made = effects(
            m[:, order].astype(float), n[:, order].astype(float), comparison.reduced,
            comparison.exposure, comparison.side, np.array([0.5]), np.array([0.03]),
        )  # fmt: skip
        found.add(int(made[-1][0]))
    assert found == {7}

"""Site tests of levels without counts: against plain least squares, limma, and simulated nulls."""

import shutil
import subprocess

import numpy as np
import polars as pl
import pytest
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from melisma.cli import main
from melisma.design import compare, make_contrasts, make_design
from melisma.differential import ArrayEngine, calibrate, find_regions, site_tests
from melisma.differential._array_engine import fit_levels, m_values
from melisma.differential._trend import estimate_trend
from melisma.errors import MelismaError
from melisma.methylome import dataset, write

TWO = "g[b] - g[a]"


def levels(seed, sites=2000, samples=12, missing=0.03, effect=0.0, sheet=None, moved=0):
    """Simulated betas: M-values with site variances around a trend; `moved` sites follow g."""
    rng = np.random.default_rng(seed)
    sheet = sheet or {
        "sample": [f"s{k}" for k in range(samples)],
        "g": ["a", "b"] * (samples // 2),
        "age": rng.normal(50, 10, samples).round(1).tolist(),
    }
    mean = rng.normal(0, 2.5, sites)
    spread = np.exp(-1 + 0.05 * mean**2) * np.sqrt(8 / rng.chisquare(8, sites))
    m = mean[:, None] + spread[:, None] * rng.standard_normal((sites, len(sheet["sample"])))
    m[:moved] += effect * (np.array(sheet["g"]) == "b")
    beta = 2.0**m / (1 + 2.0**m)
    beta[rng.random(beta.shape) < missing] = np.nan
    return of(beta, sheet)


def of(beta, sheet, **more):
    return dataset(
        {"contig": np.zeros(len(beta)), "position": 10 * np.arange(len(beta))},
        {"beta": beta.astype(np.float32)},
        sheet,
        contigs=["chr1"],
        strands="merged",
        **more,
    )


def sheet_of(methylome):
    return {name: methylome[name].values.tolist() for name in methylome.coords if name != "site"}


def run_tests(methylome, formula, contrast, block=None):
    return site_tests(methylome, make_design(sheet_of(methylome), formula, block=block), contrast)


def test_fit_equals_plain_least_squares():
    methylome = levels(1, sites=60, missing=0.2)
    design = make_design(sheet_of(methylome), "~ age + g")
    comparison = compare(design, make_contrasts(design, TWO)[0])
    values = m_values(methylome["beta"].values.astype(float))
    fitted = fit_levels(values, comparison.reduced, comparison.exposures)
    for row, value in enumerate(values):
        seen = ~np.isnan(value)
        x, y = design.matrix[seen], value[seen]
        solved = np.linalg.lstsq(x, y, rcond=None)[0]
        left = ((y - x @ solved) ** 2).sum()
        assert fitted.df[row] == seen.sum() - 3
        assert fitted.residual[row] == pytest.approx(left, rel=1e-10)
        error = np.sqrt(np.linalg.inv(x.T @ x)[2, 2])
        assert fitted.effect[row, 0] == pytest.approx(solved[2] / error, rel=1e-10)
        assert fitted.effect[row, 0] / fitted.length[row, 0] == pytest.approx(solved[2], rel=1e-10)


def test_several_coefficients_equal_the_drop_in_residuals():
    sheet = {"sample": [f"s{k}" for k in range(12)], "g": list("abcdabcdabcd")}
    methylome = levels(2, sites=50, missing=0.1, sheet=sheet)
    found = run_tests(methylome, "~ g", "g")
    engine = found.engine
    assert isinstance(engine, ArrayEngine)
    values = m_values(methylome["beta"].values.astype(float))
    design = make_design(sheet, "~ g")
    scale = engine.prior.scale(np.nanmean(values, axis=1))
    for row, value in enumerate(values):
        seen = ~np.isnan(value)
        x, y = design.matrix[seen], value[seen]
        if np.linalg.matrix_rank(x) < 4:
            assert found.table["p"][row] is None
            continue
        left = ((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum()
        whole = ((y - y.mean()) ** 2).sum()
        df = seen.sum() - 4
        variance = (engine.prior.df * scale[row] + left) / (engine.prior.df + df)
        ratio = (whole - left) / 3 / variance
        assert found.table["statistic"][row] == pytest.approx(ratio, rel=1e-9)
        p = f_distribution.sf(ratio, 3, engine.prior.df + df)
        assert found.table["p"][row] == pytest.approx(p, rel=1e-8)


def test_the_largest_difference_is_of_levels():
    beta = np.array([[0.1, 0.1, 0.5, 0.5, 0.3, 0.3], [0.9, 0.9, 0.8, 0.8, 0.2, 0.2]])
    noise = np.random.default_rng(1).normal(0, 0.01, (40, 6))
    beta = np.vstack([beta, 0.5 + noise])
    beta[:, ::2] += 0.001
    sheet = {"sample": [f"s{k}" for k in range(6)], "g": list("aabbcc")}
    found = run_tests(of(beta, sheet), "~ g", "g").table
    assert found["delta_beta"].head(2).to_list() == pytest.approx([0.4, -0.7], abs=1e-6)
    assert found["between"].head(2).to_list() == ["b - a", "c - a"]


@pytest.mark.peer
@pytest.mark.parametrize("contrast", [TWO, "age"])
def test_limma_with_a_trend_gives_the_same(tmp_path, contrast):
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    has = subprocess.run(["Rscript", "-e", "quit(status = !requireNamespace('limma'))"])
    if has.returncode:
        pytest.skip("limma is not installed")
    methylome = levels(3, sites=1500, missing=0.05)
    design = make_design(sheet_of(methylome), "~ age + g")
    m = m_values(methylome["beta"].values.astype(float))
    pl.DataFrame(m).fill_nan(None).write_csv(
        tmp_path / "m.csv", null_value="NA", include_header=False
    )
    pl.DataFrame(design.matrix).write_csv(tmp_path / "x.csv", include_header=False)
    column = list(design.columns).index("age" if contrast == "age" else design.columns[-1]) + 1
    script = f"""
    suppressPackageStartupMessages(library(limma))
    m <- as.matrix(read.csv("m.csv", header = FALSE))
    x <- as.matrix(read.csv("x.csv", header = FALSE))
    f <- eBayes(lmFit(m, x), trend = TRUE)
    write.csv(data.frame(t = f$t[, {column}], p = f$p.value[, {column}], df = f$df.total),
              "out.csv", row.names = FALSE)
    """
    subprocess.run(["Rscript", "-e", script], cwd=tmp_path, check=True, capture_output=True)
    theirs = pl.read_csv(tmp_path / "out.csv")
    mine = site_tests(methylome, design, contrast).table
    assert mine["statistic"].to_list() == pytest.approx(theirs["t"].to_list(), rel=1e-7)
    assert mine["p"].to_list() == pytest.approx(theirs["p"].to_list(), rel=1e-6)
    assert mine["df"].to_list() == pytest.approx(theirs["df"].to_list(), rel=1e-9)


@pytest.mark.parametrize("formula", ["~ g", "~ age + g"])
def test_size_on_simulated_nulls(formula):
    rejected = np.mean(
        [
            [
                (run_tests(levels(seed, samples=8), formula, TWO).table["p"] < a).mean()
                for a in (0.05, 0.01)
            ]
            for seed in range(10, 20)
        ],
        axis=0,
    )
    assert 0.045 < rejected[0] < 0.055
    assert 0.008 < rejected[1] < 0.0125


def test_effects_and_their_intervals():
    methylome = levels(4, sites=3000, samples=20, missing=0.0, effect=1.0, moved=300)
    found = run_tests(methylome, "~ g", TWO)
    assert len(found.significant().filter(pl.col("position") < 3000)) > 200
    b = np.array(methylome["g"].values) == "b"
    beta = methylome["beta"].values.astype(float)
    delta = beta[:, b].mean(axis=1) - beta[:, ~b].mean(axis=1)
    assert found.table["delta_beta"].to_list() == pytest.approx(delta.tolist(), abs=1e-9)
    null = found.table.slice(300)
    covered = ((null["ci_low"] <= 0) & (null["ci_high"] >= 0)).mean()
    assert 0.93 < covered < 0.97


def test_pairs_are_blocks_and_litters_are_units():
    pairs = {"sample": [f"s{k}" for k in range(12)], "g": ["a", "b"] * 6,
             "pair": [f"p{k // 2}" for k in range(12)]}  # fmt: skip
    methylome = levels(5, sites=200, missing=0.0, sheet=pairs)
    found = run_tests(methylome, "~ g", TWO, block="pair")
    assert found.comparison.df_residual == 5
    m = m_values(methylome["beta"].values.astype(float))
    apart = m[:, 1::2] - m[:, ::2]
    assert found.engine.prior.df > 0
    one = t_distribution.ppf(1 - found.table["p"].to_numpy() / 2, found.table["df"].to_numpy())
    assert np.sign(found.table["statistic"]).to_list() == np.sign(apart.mean(axis=1)).tolist()
    assert one.tolist() == pytest.approx(found.table["statistic"].abs().to_list(), rel=1e-6)
    litters = {"sample": [f"s{k}" for k in range(12)], "g": ["a"] * 6 + ["b"] * 6,
               "litter": [f"l{k // 2}" for k in range(12)]}  # fmt: skip
    found = run_tests(levels(6, sites=200, sheet=litters), "~ g", TWO, block="litter")
    assert (found.comparison.unit, found.comparison.df_residual) == ("blocks", 4)


def test_order_of_samples_and_chunks_do_not_matter(monkeypatch):
    methylome = levels(7, sites=500)
    first = run_tests(methylome, "~ age + g", TWO).table
    order = np.random.default_rng(0).permutation(12)
    again = run_tests(methylome.isel(sample=order), "~ age + g", TWO).table
    monkeypatch.setattr("melisma.differential._array_engine.chunk_sites", lambda _: 64)
    cut = run_tests(methylome, "~ age + g", TWO).table
    for other in (again, cut):
        assert other["p"].to_list() == pytest.approx(first["p"].to_list(), rel=1e-9)
        assert other["ci_low"].to_list() == pytest.approx(first["ci_low"].to_list(), rel=1e-8)


def test_relabelled_data_are_calibrated():
    methylome = levels(8, sites=1500, missing=0.01)
    found = run_tests(methylome, "~ g", TWO)
    null = calibrate(methylome, found.engine, relabellings=20)
    assert null.relabellings == 20
    assert 0.85 < np.mean(null.inflations) < 1.15
    assert np.median(null.site_calls) <= 1


def test_odd_sites():
    beta = np.full((40, 6), 0.5) + np.random.default_rng(1).normal(0, 0.02, (40, 6))
    beta[0] = np.nan
    beta[1, :4] = np.nan  # g has one sample a side
    beta[2, [1, 3, 5]] = np.nan  # one side alone
    beta[3] = 0.0
    beta[4] = 1.0
    beta[5, ::2], beta[5, 1::2] = 0.0, 1.0
    sheet = {"sample": [f"s{k}" for k in range(6)], "g": ["a", "b"] * 3}
    found = run_tests(of(beta, sheet), "~ g", TWO)
    assert found.table["p"].head(3).to_list() == [None] * 3
    assert found.table["delta_beta"].head(3).to_list() == [None] * 3
    assert found.table["n_used"].head(3).to_list() == [0, 2, 3]
    assert found.reasons == {"too few samples with a level": 3}
    # Alike in every sample, at the edge: no difference and no error.
    assert found.table["p"].slice(3, 2).to_list() == pytest.approx([1.0, 1.0])
    assert found.table["p"][5] < 1e-6
    assert found.table["delta_beta"][5] == pytest.approx(1.0)


def test_refusals():
    sheet = {"sample": ["s0", "s1", "s2", "s3"], "g": list("abab")}
    nothing = of(np.full((10, 4), np.nan), sheet)
    with pytest.raises(MelismaError, match="0 sites can be tested"):
        run_tests(nothing, "~ g", TWO)
    methylome = levels(9, sites=50)
    design = make_design(sheet_of(methylome), "~ g")
    with pytest.raises(MelismaError, match="needs read counts"):
        find_regions(methylome, design, TWO)


def test_a_trend_of_few_sites_is_flat():
    rng = np.random.default_rng(1)
    variance = rng.chisquare(5, 4) / 5
    trend = estimate_trend(variance, np.full(4, 5.0), np.full(4, 2.0))
    assert np.ptp(trend.scale(np.array([-5.0, 2.0, 9.0]))) == pytest.approx(0.0, abs=1e-12)


def test_the_verb_names_probes(tmp_path, capsys):
    methylome = levels(11, sites=300, missing=0.0, effect=4.0, moved=5)
    bare = dataset(
        {
            "contig": np.full(300, -1),
            "position": np.full(300, -1),
            "probe": np.array([f"cg{k:08d}" for k in range(300)]),
        },
        {"beta": methylome["beta"].values},
        sheet_of(methylome),
        contigs=[],
        strands="unknown",
    )
    write(bare, tmp_path / "s.zarr")
    with pytest.raises(SystemExit) as ended:
        main(["sites", str(tmp_path / "s.zarr"), "-f", "~ age + g", "-c", TWO,
              "-o", str(tmp_path / "sites.tsv")])  # fmt: skip
    assert not ended.value.code
    assert "cg0000000" in capsys.readouterr().out
    table = pl.read_csv(tmp_path / "sites.tsv", separator="\t")
    assert table["probe"].to_list() == [f"cg{k:08d}" for k in range(300)]
    assert table["contig"].null_count() == 300

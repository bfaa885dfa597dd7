"""The bootstrap likelihood ratio: against scipy's likelihoods, its seeds, and refusals."""

import numpy as np
import pytest
from scipy.stats import betabinom

from melisma.cli import main
from melisma.design import make_design
from melisma.differential._bootstrap_kernels import RHOS, fit_model, log_likelihood
from melisma.differential._whitening import make_scratch
from melisma.differential.bootstrap import bootstrap_tests, sites_in_bed
from melisma.errors import MelismaError
from melisma.methylome import dataset, sample_sheet

SHEET = {"sample": [f"s{i}" for i in range(8)], "g": list("abababab"), "pair": list("ppqqrrss")}


def counts(seed, sites, delta=0.0):
    rng = np.random.default_rng(seed)
    level = rng.uniform(0.25, 0.65, (sites, 1)) + delta * (np.array(SHEET["g"]) == "b")
    coverage = rng.poisson(15, (sites, 8))
    odds = (1 - 0.04) / 0.04
    own = rng.beta(level * odds, (1 - level) * odds)
    return dataset(
        {"contig": np.zeros(sites), "position": np.arange(sites) * 10},
        {"methylated": rng.binomial(coverage, own), "coverage": coverage},
        SHEET,
        contigs=["c"],
    )


def test_the_likelihood_is_the_beta_binomials():
    m, n, mu = np.array([3.0, 7, 0]), np.array([10.0, 9, 4]), np.array([0.3, 0.6, 0.2])
    rho = 0.07
    a, b = mu * (1 - rho) / rho, (1 - mu) * (1 - rho) / rho
    exact = betabinom.logpmf(m, n, a, b) - betabinom.logpmf([0, 0, 0], n, a, b)
    found = log_likelihood(m, n, mu, rho) - log_likelihood(np.zeros(3), n, mu, rho)
    from scipy.special import comb

    assert found == pytest.approx(exact.sum() - np.log(comb(n, m)).sum())


def test_the_likeliest_rho_and_group_means_are_found():
    m, n = np.array([2.0, 9, 1, 8, 3, 9]), np.full(6, 10.0)
    columns = np.eye(2)[[0, 1] * 3]
    mu = np.zeros(6)
    best, rho = fit_model(m, n, columns, RHOS, make_scratch(columns, 0, 1), mu)
    assert mu == pytest.approx([0.2, 26 / 30] * 3, rel=1e-9)
    assert best == max(log_likelihood(m, n, mu, r) for r in RHOS)
    assert rho == RHOS[0]


def test_a_difference_is_found_and_its_resolution_said():
    made = counts(1, 12, delta=0.3)
    design = make_design(sample_sheet(made), "~ g")
    result = bootstrap_tests(made, design, "g", sites=range(12), draws=499)
    assert result.resolution == 1 / 500
    p = result.table["p"].to_numpy()
    assert (p >= result.resolution).all()
    assert (p < 0.05).mean() > 0.7
    assert result.table["p_error"].to_numpy() == pytest.approx(np.sqrt(p * (1 - p) / 500))


def test_without_an_effect_p_is_close_to_uniform():
    made = counts(2, 250)
    design = make_design(sample_sheet(made), "~ g")
    p = bootstrap_tests(made, design, "g", sites=range(250), draws=99).table["p"].to_numpy()
    assert 0.3 < np.median(p) < 0.6
    assert (p <= 0.05).mean() < 0.11


def test_draws_depend_on_the_site_and_the_seed_only():
    made = counts(3, 10)
    design = make_design(sample_sheet(made), "~ g")
    first = bootstrap_tests(made, design, "g", sites=range(10), draws=199).table
    some = bootstrap_tests(made, design, "g", sites=[7, 2], draws=199).table
    assert some["p"].to_list() == [first["p"][7], first["p"][2]]
    order = [5, 0, 3, 7, 1, 2, 6, 4]
    moved = made.isel(sample=order)
    again = bootstrap_tests(
        moved, make_design(sample_sheet(moved), "~ g"), "g", sites=range(10), draws=199
    )
    assert again.table["p"].to_list() == first["p"].to_list()
    other = bootstrap_tests(made, design, "g", sites=range(10), draws=199, seed=2).table
    assert other["p"].to_list() != first["p"].to_list()


def test_sparse_sites_have_none_and_blocks_are_refused():
    made = counts(4, 3)
    made["methylated"].values[1] = 0
    table = bootstrap_tests(
        made, make_design(sample_sheet(made), "~ g"), "g", sites=[0, 1], draws=99
    ).table
    assert table["p"].is_null().to_list() == [False, True]
    with pytest.raises(MelismaError, match="designs with blocks"):
        bootstrap_tests(made, make_design(sample_sheet(made), "~ g", block="pair"), "g", sites=[0])
    with pytest.raises(MelismaError, match="use 99 or more"):
        bootstrap_tests(made, make_design(sample_sheet(made), "~ g"), "g", sites=[0], draws=10)


def test_sites_of_a_bed_file(tmp_path):
    made = counts(5, 6)
    path = tmp_path / "list.bed"
    path.write_text("# mine\nc\t10\t21\tx\nother\t0\t9\nc\t50\t51\n")
    assert sites_in_bed(made, path).tolist() == [1, 2, 5]
    path.write_text("c 10 21\n")
    with pytest.raises(MelismaError, match="line 1"):
        sites_in_bed(made, path)
    path.write_text("c\t11\t12\n")
    with pytest.raises(MelismaError, match="No site"):
        sites_in_bed(made, path)


@pytest.mark.parametrize(
    "option", [["--variance", "unequal"], ["--test", "fast"], ["--filter"], ["--incomplete-blocks"]]
)
def test_options_of_other_tests_are_refused_beside_the_bootstrap(option, tmp_path, capsys):
    bed = tmp_path / "sites.bed"
    bed.write_text("chr1\t0\t10\n")
    asked = ["sites", str(tmp_path / "a.zarr"), "-f", "~ g", "-c", "g", "--bootstrap", str(bed)]
    with pytest.raises(SystemExit) as done:
        main([*asked, *option])
    assert done.value.code == 2
    assert f"which {' '.join(option)} cannot change" in " ".join(capsys.readouterr().err.split())

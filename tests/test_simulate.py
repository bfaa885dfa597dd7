"""Studies simulated like a pilot: parameters come back, the truth is the truth, options work."""

import itertools
import json

import numpy as np
import polars as pl
import pytest

from melisma.cli import main
from melisma.design import make_design
from melisma.differential import Noise, find_regions, simulate, site_tests
from melisma.differential._pilot import fit_decay
from melisma.differential._pilot_kernels import covariances, group_residuals, neighbourhood
from melisma.differential._sheets import group_sheet, parse_depths, parse_groups
from melisma.differential.like import learn_pilot, make_plan, set_noise, simulate_like
from melisma.errors import MelismaError
from melisma.methylome import dataset, open_methylome, sample_sheet, write


def baseline(sites=20_000, seed=0):
    """Positions about 60 bases apart and a smooth level."""
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.integers(2, 120, sites))
    kernel = np.exp(-(np.arange(-10, 11) ** 2) / 30)
    level = np.convolve(rng.beta(0.8, 0.6, sites), kernel / kernel.sum(), "same")
    return position, np.clip((level - 0.57) * 3 + 0.57, 0.02, 0.98)


def pilot_store(noise=Noise(), samples=8, depth=14.0, seed=1, pairs=False, sites=20_000):
    position, level = baseline(sites)
    sheet = {
        "sample": [f"s{i}" for i in range(samples)],
        "g": ["a", "b"] * (samples // 2),
        "pair": [f"p{i // 2}" for i in range(samples)],
    }
    return simulate(
        position, level, np.full(sites, depth), sheet, seed=seed, noise=noise,
        block=sheet["pair"] if pairs else None,
    ).methylome  # fmt: skip


@pytest.fixture(scope="module")
def pilot():
    return learn_pilot(pilot_store(), groups=["g"])


@pytest.mark.parametrize(
    "noise",
    [
        Noise(sample_sd=0.3, length=1000, rho=0.03),
        Noise(sample_sd=0.5, length=400, rho=0.05),
        Noise(sample_sd=0.2, length=2500, rho=0.01),
    ],
)
def test_known_parameters_come_back(noise):
    # The tolerances that docs/simulate.md states.
    found = learn_pilot(pilot_store(noise), groups=["g"]).noise
    assert found.sample_sd == pytest.approx(noise.sample_sd, rel=0.15)
    assert found.length == pytest.approx(noise.length, rel=0.35)
    assert found.rho == pytest.approx(noise.rho, rel=0.2, abs=0.003)
    assert found.rho_spread < 0.3


def test_what_pairs_share_is_told_from_what_they_do_not():
    noise = Noise(sample_sd=0.3, block_sd=0.5, length=1000, rho=0.03)
    found = learn_pilot(pilot_store(noise, samples=12, pairs=True), groups=["g"], block="pair")
    assert found.noise.sample_sd == pytest.approx(0.3, rel=0.15)
    assert found.noise.block_sd == pytest.approx(0.5, rel=0.15)
    assert found.origin["block_sd"] == "pilot"


def test_a_spread_of_rho_is_seen():
    found = learn_pilot(pilot_store(Noise(rho=0.06, rho_spread=0.8)), groups=["g"]).noise
    # A log-normal's mean is exp(spread^2 / 2) times its median.
    mean = found.rho * np.exp(found.rho_spread**2 / 2)
    assert mean == pytest.approx(0.06 * np.exp(0.32), rel=0.2)
    assert found.rho_spread == pytest.approx(0.8, abs=0.2)


def test_simulated_and_learned_again(pilot):
    plan = make_plan(pilot, groups="x=5,y=5", regions=0, depth="14")
    again = learn_pilot(simulate_like(pilot, plan).methylome, groups=["group"])
    assert again.noise.sample_sd == pytest.approx(pilot.noise.sample_sd, rel=0.15)
    assert again.noise.length == pytest.approx(pilot.noise.length, rel=0.35)
    assert again.noise.rho == pytest.approx(pilot.noise.rho, rel=0.2)
    assert again.mean_depth == pytest.approx(14.0, rel=0.02)
    assert np.corrcoef(again.level, pilot.level)[0, 1] > 0.97


def test_baseline_is_between_the_sites_own_level_and_its_neighbours():
    rng = np.random.default_rng(3)
    reads = np.full((300, 2), 10)
    marked = rng.binomial(10, 0.8, (300, 2))
    marked[150] = 0
    methylome = dataset(
        {"contig": np.zeros(300), "position": np.arange(300) * 50},
        {"methylated": marked.astype(np.uint16), "coverage": reads.astype(np.uint16)},
        {"sample": ["s", "t"]},
        contigs=["chr1"],
    )
    level = learn_pilot(methylome).level
    assert 0.0 < level[150] < 0.7
    others = np.delete(level, 150)
    own = np.delete(marked.sum(axis=1) / 20, 150)
    assert others.std() < own.std()


def test_kernels_against_plain_numpy():
    rng = np.random.default_rng(5)
    position = np.cumsum(rng.integers(1, 90, 40))
    contig = np.repeat([0, 1], 20)
    position[20:] -= position[20] - 3
    reads = rng.integers(0, 9, (40, 6))
    marked = rng.binomial(reads, 0.6)
    group, block = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, -1, -1])
    near = neighbourhood(position, contig, marked[:, 0] * 1.0, reads[:, 0] * 1.0, 200)
    gap = np.abs(position[:, None] - position)
    weight = np.where((contig[:, None] == contig) & (gap <= 200), 1 - gap / 201.0, 0.0)
    np.fill_diagonal(weight, 0.0)
    assert near[0] == pytest.approx(weight @ marked[:, 0])
    assert near[2] == pytest.approx(weight.sum(axis=1))
    residual, seen = group_residuals(marked * 1.0, reads * 1.0, group, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = marked / reads
    for g in (0, 1):
        for i in range(40):
            own = level[i, (group == g) & (reads[i] > 0)]
            assert seen[i, g] == len(own)
            if len(own) > 1:
                expected = own - own.mean()
                got = residual[i, (group == g) & (reads[i] > 0)]
                assert got == pytest.approx(expected, abs=1e-10)
    edges, variance = np.array([100, 400]), rng.random(40)
    sums = covariances(position, contig, residual, variance, seen, group, block, edges)
    expected = np.zeros((4, 2))
    for i in range(40):
        for k in range(i + 1, 40):
            distance = position[k] - position[i]
            if contig[i] != contig[k] or distance > 400:
                continue
            at, v = int(distance > 100), variance[i] * variance[k]
            both = ~np.isnan(residual[i]) & ~np.isnan(residual[k])
            for j in range(6):
                n, m = seen[i, group[j]], seen[k, group[j]]
                if both[j]:
                    shared = (both & (group == group[j])).sum()
                    expected[0, at] += residual[i, j] * residual[k, j]
                    expected[1, at] += v * (1 - 1 / n - 1 / m + shared / n / m)
                for o in range(6):
                    mates = block[j] >= 0 and block[o] == block[j] and group[o] != group[j]
                    if mates and not np.isnan(residual[i, j]) and not np.isnan(residual[k, o]):
                        m = seen[k, group[o]]
                        expected[2, at] += residual[i, j] * residual[k, o]
                        expected[3, at] += v * (1 - 1 / n - 1 / m + min(n, m) / n / m)
    assert np.array(sums) == pytest.approx(expected, abs=1e-10)


def test_no_covariance_is_no_effect():
    assert fit_decay(np.zeros(10), np.full(10, 3.0)) == (0.0, Noise().length)
    assert fit_decay(np.zeros(10), np.zeros(10)) == (0.0, Noise().length)


def test_the_truth_is_what_was_planted_and_is_found(pilot):
    plan = make_plan(pilot, groups="a=8,b=8", regions=30, delta=0.4, depth="20")
    made = simulate_like(pilot, plan, seed=4)
    assert made.methylome.attrs["simulated"] is True
    assert len(made.regions) == 30
    assert (made.regions["delta"].abs() == 0.4).all()
    inside = made.sites.filter(pl.col("delta") != 0)
    assert len(inside) == made.regions["sites"].sum()
    assert (inside["level"] + inside["delta"]).is_between(0, 1).all()
    first = made.regions.row(0, named=True)
    own = inside.filter(pl.col("position").is_between(first["start"], first["end"] - 1))
    assert own["delta"].mean() == pytest.approx(first["mean_delta"])
    design = make_design(sample_sheet(made.methylome), "~ group")
    table = site_tests(made.methylome, design, "group[b] - group[a]").table
    delta, found = (
        t.cast(pl.Float64).to_numpy() for t in (made.sites["delta"], table["delta_beta"])
    )
    changed = (delta != 0) & np.isfinite(found)
    assert np.polyfit(delta[changed], found[changed], 1)[0] == pytest.approx(1.0, abs=0.1)
    assert abs(np.nanmean(found[delta == 0])) < 0.01
    called = find_regions(
        made.methylome, design, "group[b] - group[a]", relabellings=50
    ).significant()
    hits = sum(
        bool(((called["start"] < row["end"]) & (called["end"] > row["start"])).any())
        for row in made.regions.iter_rows(named=True)
    )
    assert hits >= 24


def test_the_default_number_of_regions_follows_the_sites_and_they_stand_apart(pilot):
    plan = make_plan(pilot, groups="a=2,b=2")
    assert plan.regions == min(len(pilot.level) // 500, 200)
    made = simulate_like(pilot, plan, seed=3)
    assert 0 < len(made.regions) <= plan.regions
    assert 0 < (made.sites["delta"] != 0).mean() < 0.09
    position = made.sites["position"].to_numpy()
    for first, second in itertools.pairwise(made.regions.iter_rows(named=True)):
        between = (position >= first["end"]) & (position < second["start"])
        assert between.sum() >= 90
    assert not make_plan(pilot, groups="a=2,b=2", regions=3).spaced


def test_draws_depend_on_the_seed_alone(pilot):
    plan = make_plan(pilot, groups="a=2,b=2", regions=5)
    one, same, other = (simulate_like(pilot, plan, seed=s).methylome for s in (1, 1, 2))
    assert (one["methylated"].values == same["methylated"].values).all()
    assert (one["methylated"].values != other["methylated"].values).any()
    # A further option leaves the planted regions as they were.
    more = make_plan(pilot, groups="a=2,b=2", regions=5, batch_sd=0.5, cell_sd=0.1)
    planted = simulate_like(pilot, plan, seed=1).regions
    assert simulate_like(pilot, more, seed=1).regions.equals(planted)


def test_groups_at_different_coverage(pilot):
    plan = make_plan(pilot, groups="a=2,b=2", regions=0, depth="a=5,b=30")
    mean = simulate_like(pilot, plan).methylome["coverage"].values.mean(axis=0)
    assert mean == pytest.approx([5, 5, 30, 30], rel=0.03)


def test_a_confounded_batch_looks_like_the_group(pilot):
    def difference(confounding):
        plan = make_plan(
            pilot, groups="a=6,b=6", regions=0, batch_sd=1.0, confounding=confounding, depth="20"
        )
        made = simulate_like(pilot, plan).methylome
        level = made["methylated"].values / np.maximum(made["coverage"].values, 1)
        return np.abs(level[:, 6:].mean(axis=1) - level[:, :6].mean(axis=1)).mean()

    assert difference(1.0) > 1.5 * difference(0.0)


def test_cell_mixture_moves_the_second_cell_types_sites(pilot):
    plan = make_plan(pilot, groups="a=6,b=6", regions=0, cell_sd=0.05, cell_shift=0.4, depth="20")
    made = simulate_like(pilot, plan)
    share = np.array(made.methylome["cell_share"].values)
    assert share[6:].mean() - share[:6].mean() == pytest.approx(0.4, abs=0.1)
    level = made.methylome["methylated"].values / np.maximum(made.methylome["coverage"].values, 1)
    moved = level[:, 6:].mean(axis=1) - level[:, :6].mean(axis=1)
    cells = made.sites["cell_difference"].to_numpy()
    assert (cells == 0).mean() > 0.5
    slope = np.polyfit(cells, moved, 1)[0]
    assert slope == pytest.approx(share[6:].mean() - share[:6].mean(), rel=0.15)


def test_several_contigs_keep_their_places_and_are_independent():
    position, level = baseline(2_000)
    rng = np.random.default_rng(1)
    coverage = rng.poisson(10, (4_000, 4)).astype(np.uint16)
    methylated = rng.binomial(coverage, np.tile(level, 2)[:, None]).astype(np.uint16)
    methylome = dataset(
        {"contig": np.repeat([0, 1], 2_000), "position": np.tile(position, 2)},
        {"methylated": methylated, "coverage": coverage},
        {"sample": list("abcd")},
        contigs=["chr1", "chr2"],
    )
    learned = learn_pilot(methylome)
    made = simulate_like(learned, make_plan(learned, groups="a=3,b=3", regions=10))
    assert made.methylome.attrs["contigs"] == ["chr1", "chr2"]
    assert made.regions["contig"].to_list() == ["chr1"] * 5 + ["chr2"] * 5
    assert made.methylome.attrs["contig_offsets"] == methylome.attrs["contig_offsets"] or (
        made.methylome.sizes["site"] < 4_000
    )


def test_one_sample_takes_defaults_and_says_which():
    methylome = pilot_store(samples=2).isel(sample=[0])
    learned = learn_pilot(methylome)
    assert learned.noise == Noise()
    assert set(learned.origin.values()) == {"default"}
    assert learned.notes == (
        "The pilot has one sample, so how samples vary cannot be learned: sample_sd 0.3, length "
        "1000 and rho 0.03 are defaults.",
    )
    given = set_noise(learned, sample_sd=0.1, rho=0.2)
    assert (given.noise.sample_sd, given.noise.rho) == (0.1, 0.2)
    assert given.rho == pytest.approx(np.full(len(given.level), 0.2))
    assert given.origin["rho"] == "given"
    assert given.origin["length"] == "default"


def test_two_samples_of_one_group_teach_the_effects_alone():
    learned = learn_pilot(pilot_store(samples=2))
    assert learned.origin["sample_sd"] == "pilot"
    assert learned.origin["rho"] == "default"
    assert learned.notes[-1].startswith("Two replicates in all are too few")


def test_what_cannot_work_is_refused(pilot):
    beta = dataset(
        {"contig": [0], "position": [5]},
        {"beta": np.array([[0.5]], dtype=np.float32)},
        {"sample": ["s"]},
        contigs=["chr1"],
    )
    with pytest.raises(MelismaError, match="holds only beta values"):
        learn_pilot(beta)
    with pytest.raises(MelismaError, match="no column 'cell'; it has sample, g, pair"):
        learn_pilot(pilot_store(samples=4, sites=500), groups=["cell"])
    with pytest.raises(MelismaError, match="Give either --samples"):
        make_plan(pilot)
    with pytest.raises(MelismaError, match="write it as a=6,b=6"):
        parse_groups("a:6")
    with pytest.raises(MelismaError, match="should name each group once: a, b"):
        parse_depths("a=5", ["a", "b"], 10.0)
    with pytest.raises(MelismaError, match="no column 'family'"):
        make_plan(pilot, sheet=group_sheet({"a": 2, "b": 2}), block="family")
    small = learn_pilot(pilot_store(samples=4, sites=60), groups=["g"])
    with pytest.raises(MelismaError, match="No region fits: a contig needs at least 100 sites"):
        simulate_like(small, make_plan(small, groups="a=2,b=2", regions=3))


def test_the_command_writes_store_truth_record_and_calls(tmp_path, capsys):
    write(pilot_store(samples=4, sites=3_000), tmp_path / "pilot.zarr")
    (tmp_path / "new.tsv").write_text("sample\tage\tdonor\nx\t20\td1\ny\t40\td1\nz\t60\td2\n")
    with pytest.raises(SystemExit) as done:
        main(
            ["simulate", str(tmp_path / "pilot.zarr"), "-o", str(tmp_path / "out"), "--sheet",
             str(tmp_path / "new.tsv"), "--column", "age", "--block", "donor", "--group", "g",
             "--regions", "4", "--delta", "0.3", "--depth", "9", "--to", "bismark-cov"]
        )  # fmt: skip
    assert done.value.code == 0
    assert "simulated, 3,000 sites × 3 samples, 4 planted regions" in capsys.readouterr().out
    folder = tmp_path / "out"
    record = json.loads((folder / "simulation.json").read_text())
    assert record["exposure"] == [0.0, 0.5, 1.0]
    assert record["block"] == ["d1", "d1", "d2"]
    assert record["simulated"] is True
    assert record["origin"]["block_sd"] == "default"
    truth = pl.read_csv(folder / "truth.tsv", separator="\t")
    assert len(truth) == 4
    bed = [line.split("\t") for line in (folder / "truth.bed").read_text().splitlines()]
    assert [int(row[1]) for row in bed] == truth.sort("contig", "start")["start"].to_list()
    sites = pl.read_parquet(folder / "truth_sites.parquet")
    assert len(sites) == open_methylome(folder / "simulated.zarr").sizes["site"]
    assert (folder / "calls" / "x.cov.gz").exists()
    with pytest.raises(SystemExit):
        main(["info", str(folder / "simulated.zarr")])
    assert "simulated  counts that were drawn, not measured" in capsys.readouterr().out

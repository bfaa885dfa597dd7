"""Power from a pilot: against simulation, in the right directions, and what the page says."""

import json
import re

import numpy as np
import polars as pl
import pytest
from test_simulate import pilot_store

from melisma.cli import main
from melisma.design import make_design
from melisma.differential import Noise
from melisma.differential._moderation import Prior
from melisma.differential._power_checks import interval, overlapping
from melisma.differential._power_sites import (
    drawn_p,
    prior_at,
    site_power,
    study_engine,
)
from melisma.differential.like import learn_pilot
from melisma.differential.power import _checked, _setting, power, samples_needed
from melisma.differential.sites import one_comparison
from melisma.errors import MelismaError
from melisma.methylome import sample_sheet, write
from melisma.report import write_power

ASKED = {"deltas": (0.2, 0.3), "samples": (4, 8, 16), "depths": (8, 20)}


def setting_of(methylome, block=None):
    design = make_design(sample_sheet(methylome), "~ g", block=block)
    comparison = one_comparison(design, "g[b] - g[a]")
    pilot = learn_pilot(methylome, groups=["g"], block=block)
    return _setting(methylome, design, comparison, pilot, q=0.05, share=0.05, seed=1)


@pytest.fixture(scope="module")
def pilot():
    return pilot_store(samples=8, sites=12_000)


@pytest.fixture(scope="module")
def setting(pilot):
    return setting_of(pilot)


@pytest.fixture(scope="module")
def found(pilot):
    return power(
        pilot, make_design(sample_sheet(pilot), "~ g"), "g[b] - g[a]", checks=3, seeds=2, **ASKED
    )


def test_calculated_power_is_that_of_simulated_studies(found):
    error = (found.checks["calculated"] - found.checks["simulated"]).abs()
    assert (error < 0.06).all(), found.checks
    # The points lie where an error would show.
    assert found.checks["calculated"].max() - found.checks["calculated"].min() > 0.3
    assert (found.checks["low"] <= found.checks["simulated"]).all()
    assert (found.checks["false_discoveries"] < 0.1).all()


@pytest.mark.parametrize("noise", [Noise(), Noise(rho=0.06, rho_spread=0.8)])
def test_pairs_and_sites_of_unlike_dispersion_too(noise):
    methylome = pilot_store(noise, samples=12, sites=12_000, pairs=True)
    design = make_design(sample_sheet(methylome), "~ g", block="pair")
    result = power(
        methylome, design, "g[b] - g[a]", deltas=(0.2,), samples=(12,), depths=(15,), checks=1,
        seeds=2,
    )  # fmt: skip
    row = result.checks.row(0, named=True)
    assert row["calculated"] == pytest.approx(row["simulated"], abs=0.06)
    assert 0.05 < row["simulated"] < 0.95
    assert "pairs" in result.sentences[1]


def test_power_rises_with_samples_depth_difference_and_share(setting):
    def of(**changed):
        point = {"delta": 0.2, "samples": 10, "depth": 12.0} | changed
        return site_power(setting, **point).power

    here = of()
    assert 0.1 < here < 0.9
    assert of(samples=20) > here + 0.05
    assert of(depth=30.0) > here + 0.05
    assert of(delta=0.3) > here + 0.05
    assert of(samples=5) < here - 0.05


def test_the_threshold_is_where_benjamini_and_hochberg_rest(setting):
    found = site_power(setting, 0.2, 10, 12.0)
    engine = study_engine(setting, 10, 12.0)
    p = drawn_p(setting, engine, 0.2, 10, 12.0)
    same = drawn_p(setting, engine, 0.0, 10, 12.0)
    assert found.power == pytest.approx((p <= found.alpha).mean())
    changed = 0.05 * np.isfinite(p).mean()
    null = 0.95 * np.isfinite(same).mean()
    rejected = 0.05 * found.power + null * found.alpha
    assert found.alpha * (changed + null) == pytest.approx(0.05 * rejected, rel=0.02)


def test_the_fewest_samples_are_the_fewest(setting):
    n = samples_needed(setting, 0.3, 15.0)
    assert n is not None
    assert site_power(setting, 0.3, n, 15.0).power >= 0.8
    assert site_power(setting, 0.3, n - 1, 15.0).power < 0.8
    assert samples_needed(setting, 0.005, 15.0) is None


def test_one_sample_a_group_finds_nothing(setting):
    assert site_power(setting, 0.3, 1, 20.0) == (0.0, 0.0, 0.0)


def test_the_prior_at_another_depth(setting):
    from dataclasses import replace

    moved = replace(setting, engine=replace(setting.engine, prior=Prior(10.0, 0.8)))
    here, deep, shallow = (prior_at(moved, d) for d in (moved.pilot_depth, 100.0, 4.0))
    assert here.df == pytest.approx(10.0)
    assert here.scale == pytest.approx(0.8)
    # Sites differ more where reads say less of the variation.
    assert deep.df < 10.0 < shallow.df
    # The mean dispersion stays.
    for prior in (deep, shallow):
        assert prior.scale * prior.df / (prior.df - 2) == pytest.approx(1.0)
    assert np.isinf(prior_at(setting, 50.0).df) == np.isinf(setting.engine.prior.df)


def test_intervals_and_overlaps():
    low, high = interval(np.array([5]), np.array([10]))
    # Clopper and Pearson (1934): 5 of 10.
    assert (round(low, 3), round(high, 3)) == (0.187, 0.813)
    assert interval(np.array([0]), np.array([10]))[0] == 0.0
    wide = interval(np.array([100, 300]), np.array([1000, 1000]))
    assert wide == (0.0, 1.0)
    truth = pl.DataFrame({"contig": ["a", "a", "b"], "start": [10, 50, 10], "end": [20, 60, 20]})
    called = pl.DataFrame({"contig": ["a", "a", "b"], "start": [19, 20, 15], "end": [22, 30, 40]})
    assert overlapping(truth, called) == (2, 3, 1)


def test_the_answer_in_words(found):
    assert found.sentences[0] == (
        "If 5% of the sites differ, to find 80% of them at q < .05 you need:"
    )
    rows = {(r["delta"], r["depth"]): r["samples"] for r in found.needed.rows(named=True)}
    at = [f"{rows[0.3, depth]} a group at {depth:g}×" for depth in (8.0, 20.0)]
    assert f"- for differences of 30 points {at[0]}, {at[1]}." in found.sentences
    assert rows[0.3, 20.0] < rows[0.3, 8.0] < rows[0.2, 8.0]
    equal = found.equal_reads
    assert (equal["samples"] * equal["depth"] - equal["reads"]).abs().max() < 1e-6
    assert found.grid.shape == (12, 6)


def test_a_point_outside_its_simulation_is_named(found):
    checks = found.checks.head(2).with_columns(
        calculated=pl.Series([0.51, 0.3]), simulated=pl.Series([0.61, 0.31]),
        low=pl.Series([0.54, 0.2]), high=pl.Series([0.69, 0.4]),
    )  # fmt: skip
    first = checks.row(0, named=True)
    place = f"{100 * first['delta']:g} points, {first['samples']} at {first['depth']:g}×"
    said = _checked(checks)
    assert f"1 of them lies outside what the simulation allows (95%: {place}: 0.51 ag" in said
    assert "outside" not in _checked(checks.tail(1))


def test_a_small_pilot_is_warned_of_and_its_depth_is_among_the_default_ones(tmp_path):
    few = pilot_store(samples=4, sites=2000, depth=40.0)
    reads = few["coverage"].values.copy()
    reads[::2, :2] = 0
    few["coverage"].values[:] = reads
    few["methylated"].values[:] = np.minimum(few["methylated"].values, reads)
    result = power(
        few, make_design(sample_sheet(few), "~ g"), "g[b] - g[a]", deltas=(0.3,), samples=(4,),
        checks=0,
    )  # fmt: skip
    assert result.warning.startswith("The pilot has 2 samples in its smallest group and 2 residual")
    own = result.parameters["pilot_depth"]
    assert result.grid["depth"].to_list() == [5, 10, 20, round(own)]
    assert own == pytest.approx(30, rel=0.05)
    assert f"the pilot's own is {own:.0f}×" in result.notes[-1]
    assert "sees it is 40×" in result.notes[-1]
    text = write_power(result, tmp_path / "power.html").read_text(encoding="utf-8")
    assert "<h4>A small pilot</h4>" in text
    assert "too few to know how samples vary" in text


def test_a_pilot_that_is_large_enough_is_not_warned_of(found, tmp_path):
    assert found.warning == ""
    own = write_power(found, tmp_path / "p.html").read_text(encoding="utf-8").split('id="data">')[0]
    assert "A small pilot" not in own
    # The table has the numbers; the words above it do not repeat them.
    lead = own.split('<p class="words">')[1].split("</p>")[0]
    assert "a group at" not in lead
    assert "you need the samples in this table." in lead
    for sentence in found.sentences:
        if sentence.startswith("Of the same reads"):
            assert own.count(sentence) == 1


def test_regions_by_simulation(pilot):
    result = power(
        pilot, make_design(sample_sheet(pilot), "~ g"), "g[b] - g[a]", deltas=(0.4,),
        samples=(8,), depths=(20,), checks=0, regions=20,
    )  # fmt: skip
    assert len(result.checks) == 0
    row = result.regions.row(0, named=True)
    assert row["planted"] == 20
    assert row["found"] >= 15
    assert row["false_calls"] <= 3


def test_what_cannot_work_is_refused(pilot):
    sheet = sample_sheet(pilot)
    design = make_design(sheet, "~ g")
    for asked, words in (
        ({"deltas": (0.6,)}, "The difference 0.6 should be above 0 and at most 0.5"),
        ({"samples": (1,)}, "samples a group 1 should be from 2 to 200"),
        ({"depths": (0,)}, "The depth 0 should be above 0"),
        ({"share": 0.0}, "share of sites that differ 0"),
        ({"deltas": ()}, "Give at least one difference"),
    ):
        with pytest.raises(MelismaError, match=words):
            power(pilot, design, "g[b] - g[a]", **asked)
    aged = dict(sheet) | {"age": [float(v) for v in range(8)]}
    with pytest.raises(MelismaError, match="age is a coefficient, and power is of a difference"):
        power(pilot, make_design(aged, "~ age"), "age")
    litters = dict(sheet) | {"g": ["a"] * 4 + ["b"] * 4}
    with pytest.raises(MelismaError, match="constant within blocks"):
        power(pilot, make_design(litters, "~ g", block="pair"), "g[b] - g[a]")
    few = pilot.isel(sample=[0, 1])
    with pytest.raises(MelismaError, match="no replicates"):
        power(few, make_design(sample_sheet(few), "~ g"), "g[b] - g[a]")


def test_the_page_holds_all_that_it_shows(found, tmp_path):
    text = write_power(found, tmp_path / "power.html").read_text(encoding="utf-8")
    own = text.split('id="data">')[0]
    assert not re.search(r'(src|href)="https?:', own)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert set(data["figures"]) == {"power", "reads"}
    drawn = [t for t in data["figures"]["power"]["data"] if t["mode"] == "lines+markers"]
    shown = [value for trace in drawn for value in trace["y"]]
    assert sorted(shown) == pytest.approx(sorted(found.grid["power"]))
    points = [t for t in data["figures"]["power"]["data"] if t["mode"] == "markers"]
    assert sorted(v for t in points for v in t["y"]) == pytest.approx(
        sorted(found.checks["simulated"])
    )
    assert "Power for g[b] - g[a]" in own
    assert "Simulated data are not real ones." in own


def test_the_command_prints_and_writes(tmp_path, pilot, capsys):
    write(pilot, tmp_path / "pilot.zarr")
    with pytest.raises(SystemExit) as done:
        main(
            ["power", str(tmp_path / "pilot.zarr"), "-f", "~ g", "-c", "g[b] - g[a]", "--delta",
             "0.3", "--samples", "4,8", "--depth", "10", "--checks", "0", "-o",
             str(tmp_path / "out")]
        )  # fmt: skip
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert "g[b] - g[a]: power of the site test at q < 0.05, by samples a group" in printed
    grid = pl.read_csv(tmp_path / "out" / "power.tsv", separator="\t")
    assert grid["samples"].to_list() == [4, 8]
    assert f"{grid['power'][1]:.2f}" in printed
    assert json.loads((tmp_path / "out" / "power.json").read_text())["share"] == 0.05
    assert (tmp_path / "out" / "power.html").exists()
    with pytest.raises(SystemExit) as done:
        main(["power", "x.zarr", "-f", "~ g", "-c", "g", "--delta", "a,b"])
    assert done.value.code == 2
    assert "--delta is 'a,b', and should be numbers separated by commas" in capsys.readouterr().err

"""Regions without replicates, contexts apart, and global shifts."""

import gzip
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr

from benchmarks._met1 import met1
from melisma.cli.regions import _show_found as show_found
from melisma.design import NoReplicates, make_design
from melisma.differential import find_regions
from melisma.differential._no_replicates import Sides, _differences
from melisma.differential._segments import neighbour_squares
from melisma.differential._shift import make_shift, moving_share
from melisma.errors import MelismaError
from melisma.methylome import dataset

MET1 = Path(__file__).parents[2] / "shared/data/reference/arabidopsis_met1/calls.tsv.gz"
ONE: dict[str, list[Any]] = {"sample": ["x", "y"], "g": ["a", "b"]}


def counts(
    seed: int,
    sites: int = 6000,
    planted: Iterable[int] = (),
    context: Any = 0,
    sheet: dict[str, list[Any]] = ONE,
    delta: float = 0.5,
    position: Any = None,
) -> xr.Dataset:
    """Binomial counts at a level of .6, `delta` less in the second half of samples if planted."""
    rng = np.random.default_rng(seed)
    samples = len(sheet["sample"])
    coverage = rng.poisson(15, (sites, samples)).astype(np.uint16)
    level = np.full((sites, samples), 0.6)
    for start in planted:
        level[start : start + 30, samples // 2 :] -= delta
    return dataset(
        {
            "contig": np.zeros(sites),
            "position": np.arange(sites) * 40 if position is None else position,
            "context": np.broadcast_to(context, sites),
        },
        {"methylated": rng.binomial(coverage, level).astype(np.uint16), "coverage": coverage},
        sheet,
        contigs=["c"],
    )


def test_without_replicates_regions_are_refused_with_the_way_out():
    design = make_design(ONE, "~ g")
    with pytest.raises(NoReplicates, match="no replicates.*--no-replicates"):
        find_regions(counts(1), design, "g[b] - g[a]")


def test_planted_regions_are_found_with_a_warning():
    planted = range(200, 5800, 400)
    design = make_design(ONE, "~ g")
    made = counts(2, planted=planted)
    result = find_regions(made, design, "g[b] - g[a]", no_replicates=True, relabellings=40)
    called = result.significant()
    found = {
        int(s)
        for s in planted
        for a, b in called.select("start", "end").iter_rows()
        if a < (s + 30) * 40 and b > s * 40
    }
    assert found == set(planted)
    assert len(called) <= 15
    assert (called["ci_high"] < 0).all()
    assert called["delta_beta"].median() == pytest.approx(-0.5, abs=0.05)
    assert result.notes[0].startswith("Without replicates: 1 sample against 1, weighted levels")
    assert result.null == "exchanges of reads"
    assert result.comparison is None
    null = find_regions(counts(3), design, "g[b] - g[a]", no_replicates=True, relabellings=40)
    assert not len(null.significant())


def test_replicates_are_not_thrown_away():
    sheet = {"sample": list("wxyz"), "g": list("aabb")}
    with pytest.raises(MelismaError, match="has replicates: leave out --no-replicates"):
        find_regions(
            counts(1, sheet=sheet), make_design(sheet, "~ g"), "g[b] - g[a]", no_replicates=True
        )


def test_a_coefficient_needs_replicates():
    sheet = {"sample": ["x", "y"], "age": [20.0, 40.0]}
    with pytest.raises(MelismaError, match="only two levels of a factor"):
        find_regions(counts(1, sheet=sheet), make_design(sheet, "~ age"), "age", no_replicates=True)


def test_differences_by_hand():
    # One site of 8 of 10 against 3 of 6; one of 2 minor reads; one seen on one side only.
    delta, variance, keep = _differences(
        np.array([[8.0, 3.0], [9.0, 5.0], [5.0, 0.0]]),
        np.array([[10.0, 6.0], [10.0, 6.0], [10.0, 0.0]]),
    )
    assert keep.tolist() == [True, False, False]
    assert delta[0] == pytest.approx(0.3)
    level = 11 / 16
    assert variance[0] == pytest.approx(level * (1 - level) * (1 / 10 + 1 / 6) * 16 / 15)


def test_exchanged_reads_have_the_variance_of_differences():
    rng = np.random.default_rng(1)
    high = rng.hypergeometric(11, 5, 10, 200_000)
    _, variance, _ = _differences(np.array([[8.0, 3.0]]), np.array([[10.0, 6.0]]))
    assert (high / 10 - (11 - high) / 6).var() == pytest.approx(variance[0], rel=0.02)


def test_squares_about_neighbours_by_hand():
    squares = neighbour_squares(
        np.array([0.1, 0.4, 0.9]), np.array([0.01, 0.02, 0.04]), np.array([0, 50, 1000]), 100.0
    )
    assert squares == pytest.approx([0.09 / 0.03, 0.09 / 0.03])


def test_sides_are_summed():
    sides = Sides(np.array([0, 2]), np.array([1]))
    from melisma.differential._stretches import Stretch

    table = np.array([[1, 2, 3], [4, 5, 6]], np.uint16)
    pooled = sides.pool(Stretch(0, np.arange(2), table, table))
    assert pooled.coverage.tolist() == [[4, 2], [10, 5]]


def test_contexts_are_searched_apart():
    planted = range(400, 5600, 400)
    context = np.where(np.arange(6000) % 2, 2, 0)
    design = make_design(ONE, "~ g")
    made = counts(4, planted=planted, context=context, delta=0.55)
    both = find_regions(made, design, "g[b] - g[a]", no_replicates=True, relabellings=20)
    assert set(both.significant()["context"]) == {"CG", "CHH"}
    assert "searched apart" in both.notes[0]
    # A region's sites are those of its own context: half of the planted 30, and what is near.
    assert (both.significant()["sites"] <= 25).all()
    only = find_regions(
        made, design, "g[b] - g[a]", no_replicates=True, relabellings=20, context="CG"
    )
    assert only.table.equals(
        both.table.filter(pl.col("context") == "CG").select(only.table.columns)
    )
    with pytest.raises(MelismaError, match="no sites of context 'CHG'; it has CG, CHH"):
        find_regions(made, design, "g[b] - g[a]", no_replicates=True, context="CHG")


def test_moving_share_and_shift_by_hand():
    rng = np.random.default_rng(1)
    still = rng.standard_normal(20_000)
    assert abs(moving_share(still)) < 0.03
    assert moving_share(np.concatenate([still, np.full(20_000, 5.0)])) == pytest.approx(
        0.5, abs=0.02
    )
    assert moving_share(np.full(10, 9.0)) == 0.0
    level = np.repeat([0.05, 0.5, 0.95], 100)
    shift = make_shift(still, np.repeat([0.0, -0.2, -0.4], 100), level)
    assert (shift.delta, shift.sites) == (-0.2, 20_000)
    # Strata without sites have the genome's.
    assert shift.by_level.tolist() == [0.0, -0.2, -0.2, -0.2, -0.4]


def test_a_global_shift_is_said_and_regions_are_set_against_it():
    sheet = {"sample": [f"s{i}" for i in range(8)], "g": list("aaaabbbb")}
    design = make_design(sheet, "~ g")
    rng = np.random.default_rng(5)
    sites = 6000
    coverage = rng.poisson(15, (sites, 8)).astype(np.uint16)
    # Islands of 40 sites: four in five lose .2, one loses .55.
    island = np.arange(sites) // 40
    level = np.full((sites, 8), 0.7)
    level[island % 5 > 0, 4:] -= 0.2
    level[island == 75, 4:] -= 0.55
    position = np.arange(sites) * 40 + island * 1000
    made = counts(1, sites=sites, sheet=sheet, position=position)
    made["methylated"][:] = rng.binomial(coverage, level).astype(np.uint16)
    made["coverage"][:] = coverage
    result = find_regions(made, design, "g[b] - g[a]", relabellings=60)
    assert any("tested sites move" in n and "a global shift" in n for n in result.notes)
    table = result.table
    planted = table.filter(pl.col("start").is_between(position[3000], position[3039]))
    assert planted["delta_shift"].to_numpy() == pytest.approx(-0.35, abs=0.1)
    assert (planted["p_shift"] < 0.05).all()
    rest = table.filter(pl.col("region").is_in(planted["region"].implode()).not_())
    assert abs(np.median(rest["delta_shift"])) < 0.05
    assert np.median(rest["p_shift"]) > 0.1


@pytest.mark.reference
@pytest.mark.skipif(not MET1.exists(), reason="Arabidopsis met1 is not at hand")
def test_met1_loses_cg_methylation_and_no_chh_region_is_called_as_cg():
    with gzip.open(MET1) as file:
        calls = pl.read_csv(file.read(), separator="\t").sort("pos1")
    context = calls["context"].replace_strict({"CG": 0, "CHG": 1, "CHH": 2}, return_dtype=pl.Int8)
    sheet = {"sample": ["wild", "met1"], "g": ["wt", "met1"]}
    made = dataset(
        {
            "contig": np.zeros(len(calls)),
            "position": calls["pos1"].to_numpy() - 1,
            "strand": np.where(calls["strand"].to_numpy() == "+", 1, -1),
            "context": context.to_numpy(),
        },
        {
            name: calls.select(f"{k}_WT", f"{k}_met1").to_numpy().astype(np.uint16)
            for name, k in (("methylated", "M"), ("coverage", "N"))
        },
        sheet,
        contigs=["Chr3"],
        strands="separate",
    )
    result = find_regions(
        made, make_design(sheet, "~ g"), "g[met1] - g[wt]", no_replicates=True, relabellings=40
    )
    called = result.significant()
    cg = called.filter(pl.col("context") == "CG")
    assert len(cg) > 100
    assert (cg["delta_beta"] < 0).all()
    assert any("CG: Without replicates" in n and "0.004 and 0.161" in n for n in result.notes)
    assert any("CG: " in n and "a global shift" in n for n in result.notes)
    # Every site inside a region called as CG that counts for it is a CG: as many as it says.
    position, held = calls["pos1"].to_numpy() - 1, context.to_numpy()
    for start, end, sites in cg.select("start", "end", "sites").iter_rows():
        inside = (position >= start) & (position < end)
        assert (held[inside] == 0).sum() == sites


@pytest.mark.reference
@pytest.mark.skipif(not MET1.exists(), reason="Arabidopsis met1 is not at hand")
def test_stretches_with_methylation_of_cg_alone_are_called():
    found = met1()
    assert found["body"]["windows"] > 300
    assert found["body"]["called"] > 0.95 * found["body"]["windows"]
    assert found["lower_in_met1"] == found["called"]["CG"]


def test_regions_of_several_contexts_name_theirs_on_the_terminal_and_in_the_bed(tmp_path, capsys):
    context = np.where(np.arange(6000) % 3, 0, 2)
    made = counts(4, planted=range(400, 5600, 400), context=context, delta=0.55)
    design = make_design(ONE, "~ g")
    found = find_regions(made, design, "g[b] - g[a]", no_replicates=True)
    assert found.by_context == {"CG": 999, "CHH": 999}
    assert found.null_words == "999 exchanges of reads, without replicates"
    found = replace(found, by_context={"CG": 991, "CHH": 189})
    show_found(found, tmp_path / "regions.bed")
    shown = capsys.readouterr().out.splitlines()
    assert "(991 (CG) and 189 (CHH) exchanges of reads, without replicates)" in shown[0]
    assert "context" in shown[1].split()
    assert shown[2].split()[1] in ("CG", "CHH")
    called = found.significant()
    names = [line.split("\t")[3] for line in (tmp_path / "regions.bed").read_text().splitlines()]
    assert sorted(names) == sorted(
        f"{region}_{context}" for region, context in called.select("region", "context").iter_rows()
    )


def test_regions_of_one_context_keep_their_names(tmp_path, capsys):
    design = make_design(ONE, "~ g")
    made = counts(2, planted=range(200, 5800, 400))
    found = find_regions(made, design, "g[b] - g[a]", no_replicates=True, relabellings=40)
    show_found(found, tmp_path / "regions.bed")
    assert "context" not in capsys.readouterr().out.splitlines()[1].split()
    assert "_CG" not in (tmp_path / "regions.bed").read_text()

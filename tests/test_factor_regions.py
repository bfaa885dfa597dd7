"""Regions of several coefficients at once: found, judged, and refused."""

import re

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from melisma.cli import app
from melisma.design import compare, make_contrasts, make_design
from melisma.differential import find_regions, region_tests, simulate, tiles
from melisma.differential._engine import build_engine, can_test
from melisma.differential._relabel import (
    count_distinct,
    count_spaces,
    draw_moves,
    draw_moves_of_several,
    draw_rows,
)
from melisma.differential._search import Search, learn_null, moved, search_regions
from melisma.differential._segments import find_segments
from melisma.differential._stretches import Stretch
from melisma.differential._vector_search import cut_of, moved_vectors, normal_length
from melisma.differential._vectors import find_vector_segments
from melisma.differential.simulate import Baseline, simulate_store
from melisma.errors import MelismaError
from melisma.methylome import sample_sheet

FOUR = "aaabbbcccddd"


def simulated(seed, groups=FOUR, regions=0, sites=6000, level="d", **columns):
    rng = np.random.default_rng(seed)
    sheet = {"sample": [f"s{i}" for i in range(len(groups))], "g": list(groups), **columns}
    return simulate(
        np.cumsum(rng.integers(2, 90, sites)),
        rng.beta(2, 1, sites),
        np.full(sites, 12.0),
        sheet,
        seed=seed,
        exposure=np.array([float(g == level) for g in groups]),
        regions=regions,
        delta=0.4,
    )


def searched(methylome, contrast="g", formula="~ g", **options):
    design = make_design(sample_sheet(methylome), formula)
    return find_regions(methylome, design, contrast, **{"relabellings": 60, **options})


def comparison_of(groups, block=None):
    sheet = {"sample": [f"s{i}" for i in range(len(groups))], "g": list(groups)}
    if block:
        sheet["block"] = list(block)
    design = make_design(sheet, "~ g", block="block" if block else None)
    return compare(design, make_contrasts(design, "g")[0])


def test_regions_of_one_level_are_found():
    made = simulated(2, regions=15)
    result = searched(made.methylome)
    called = result.significant()
    true = [
        bool(((made.truth["start"] < end) & (made.truth["end"] > start)).any())
        for start, end in called.select("start", "end").iter_rows()
    ]
    assert sum(true) >= 12
    assert len(true) - sum(true) <= 2
    assert (result.table["statistic"] > 0).all()
    assert called.filter(true)["between"].str.contains("d").all()
    assert (called["delta_beta"].abs() > 0.1).all()
    assert called["ci_low"].null_count() == called["ci_high"].null_count() == len(called)
    assert result.table.columns.index("between") + 1 == result.table.columns.index("delta_beta")
    assert result.null_words == "60 relabellings of 15,400"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_null_has_no_call(seed):
    assert len(searched(simulated(seed).methylome).significant()) == 0


def test_the_samples_order_does_not_matter():
    made = simulated(4, regions=10, sites=3000).methylome
    one = searched(made, relabellings=20)
    again = searched(made.isel(sample=[7, 2, 0, 11, 5, 9, 1, 3, 10, 4, 8, 6]), relabellings=20)
    assert again.table["region"].equals(one.table["region"])
    assert again.table["between"].equals(one.table["between"])
    for name in ("statistic", "q", "delta_beta"):
        assert again.table[name].to_numpy() == pytest.approx(one.table[name].to_numpy(), rel=1e-4)


def test_one_coefficient_as_a_vector_is_the_signed_search():
    made = simulated(5, "aaaaaabbbbbb", regions=10, sites=3000, level="b").methylome
    comparison = comparison_of("aaaaaabbbbbb")
    assert comparison.k == 1
    engine, moves = build_engine(made, comparison), draw_moves(comparison, 20, seed=1)
    null = learn_null(made, engine, moves)
    signed, _ = search_regions(made, engine, moves, null, Search())
    methylated, coverage = engine.pool(made["methylated"].values, made["coverage"].values)
    stretch = Stretch(0, made["position"].values.astype(np.int64), methylated, coverage)
    keep = can_test(engine.fit(methylated, coverage))
    z, root = moved(engine, stretch, moves, keep)
    vectors, roots = moved_vectors(engine, stretch, moves._replace(rows=moves.rows[:, None]), keep)
    assert len(signed.start) > 20
    assert vectors[0] == pytest.approx(z, abs=1e-4)
    assert roots == pytest.approx(root, rel=1e-4)
    n = z.shape[1]
    score, common = np.random.default_rng(1).normal(0, 2, n).astype(np.float32), np.zeros(n)
    along = (stretch.position, keep, common, common)
    start, end, statistic = find_segments(
        score, root[0, :, 0], score, *along, 2.0, 300, 3
    )  # fmt: skip
    same = find_vector_segments(
        score[None], root[0, :, 0], score[None], *along, cut_of(2.0, 1), 300, 3
    )
    assert len(start) > 20
    assert same[0].tolist() == start.tolist()
    assert same[1].tolist() == end.tolist()
    assert normal_length(same[2], 1) == pytest.approx(np.abs(statistic), rel=1e-6)


def test_a_factor_of_two_levels_is_searched_with_signs():
    made = simulated(5, "aaaaaabbbbbb", regions=10, sites=3000, level="b").methylome
    assert searched(made).table.equals(searched(made, "g[b] - g[a]").table)


def test_neighbours_that_point_elsewhere_are_two_regions():
    n = 20
    score = np.zeros((2, n), dtype=np.float32)
    score[0, :10], score[1, 10:] = 4.0, 4.0
    ones = np.ones(n, dtype=np.float32)
    start, end, squares = find_vector_segments(
        score, ones, score, np.arange(n) * 20, ones > 0, np.zeros(n), np.zeros(n), 6.0, 300, 3
    )
    assert (start.tolist(), end.tolist()) == ([0, 10], [10, 20])
    # Ten independent scores of 4 along one direction.
    assert squares == pytest.approx([160.0, 160.0])


def test_lengths_are_normal_scores_far_into_the_tail():
    # chi-square of 3 above 7.8147 has probability .05.
    assert normal_length(np.array([7.8147]), 3) == pytest.approx([1.96], abs=1e-4)
    assert normal_length(np.array([2500.0]), 1) == pytest.approx([50.0], rel=1e-6)
    across = normal_length(np.linspace(590, 610, 41), 4)
    # No jump where the series takes over, at 600.
    assert np.abs(np.diff(across, 2)).max() < 1e-5
    assert (np.diff(across) > 0.01).all()


@pytest.mark.parametrize(
    ("groups", "block", "distinct"),
    [
        ("aabbcc", None, 15),  # 6! / 2!^3 / 3!
        ("aaabbc", None, 60),  # 6! / (3! 2!): no two levels can be exchanged
        (FOUR, None, 15400),  # 12! / 3!^4 / 4!
        ("abcabc", "pppqqq", 6),  # 3!^2 / 3!
    ],
)
def test_labellings_that_swap_levels_count_once(groups, block, distinct):
    comparison = comparison_of(groups, block)
    assert count_spaces(comparison) == distinct
    if distinct < 100:
        assert len(draw_rows(comparison, 200, seed=1)[0]) == distinct - 1


def test_exposures_move_together():
    comparison = comparison_of(FOUR)
    moves = draw_moves_of_several(comparison, 30, seed=1)
    assert moves.rows.shape == (31, 3, 12)
    assert moves.anchor @ moves.anchor.T == pytest.approx(np.eye(4), abs=1e-9)
    own = {tuple(row) for row in moves.rows[0].T.round(6)}
    for moved_rows in moves.rows[1:]:
        assert {tuple(row) for row in moved_rows.T.round(6)} == own


def test_too_few_residual_dimensions_are_refused():
    made = simulated(1, "aabbc", sites=500).methylome
    with pytest.raises(MelismaError, match=r"2 residual degrees of freedom.*pairwise\(g\)"):
        searched(made)
    assert count_distinct(comparison_of("aabb")) == 3  # two levels have rotations, too


def test_frames_are_orthonormal_and_see_nothing_of_the_exposures():
    comparison = comparison_of("aabbccdd")
    moves = draw_moves_of_several(comparison, 12, seed=1)
    assert moves.kind == "rotations"
    assert moves.distinct == 105  # 8! / 2!^4 / 4!
    for frame in moves.rows[1:]:
        assert frame @ frame.T == pytest.approx(np.eye(3), abs=1e-9)
        assert moves.anchor @ frame.T == pytest.approx(np.zeros((4, 3)), abs=1e-9)
    again = draw_moves_of_several(comparison, 12, seed=1)
    assert (again.rows == moves.rows).all()


def test_rotated_scores_are_of_the_size_of_normal_ones():
    made = simulated(8, "aabbccdd", sites=400).methylome
    comparison = comparison_of("aabbccdd")
    engine, moves = build_engine(made, comparison), draw_moves_of_several(comparison, 3, seed=2)
    methylated, coverage = engine.pool(made["methylated"].values, made["coverage"].values)
    stretch = Stretch(0, made["position"].values.astype(np.int64), methylated, coverage)
    keep = can_test(engine.fit(methylated, coverage)) & (coverage > 0).all(axis=1)
    z, _ = moved_vectors(engine, stretch, moves, keep)
    assert keep.sum() > 100
    for r in (1, 2, 3):
        score = z[:, 0, keep, r]
        length = np.linalg.norm(score, axis=0)
        assert np.isfinite(length).all()
        assert (length > 0).all()
        # A frame's share of the residuals is a beta variable of mean k / df.
        assert 0.9 < (length**2).mean() / 3 < 1.25


@pytest.mark.parametrize(("groups", "seed"), [("aabbccdd", 1), ("aabbccdd", 2), ("aabbcc", 3)])
def test_a_small_null_judged_by_rotations_has_no_call(groups, seed):
    result = searched(simulated(seed, groups, level=groups[-1]).methylome)
    assert result.null == "rotations"
    assert len(result.significant()) == 0


def test_small_designs_find_regions_by_rotations():
    made = simulated(3, "aabbccdd", regions=15)
    called = searched(made.methylome).significant()
    true = [
        bool(((made.truth["start"] < end) & (made.truth["end"] > start)).any())
        for start, end in called.select("start", "end").iter_rows()
    ]
    assert sum(true) >= 8
    assert len(true) - sum(true) <= 2


def test_a_term_has_no_difference():
    x = [float(k % 3) for k in range(12)]
    made = simulated(6, regions=5, sites=2000, x=x).methylome
    result = searched(made, "g:x", "~ g * x", relabellings=20)
    assert result.table["delta_beta"].null_count() == len(result.table) > 0
    assert "between" not in result.table.columns
    assert result.comparison is not None
    assert result.comparison.k == 3


def test_given_regions_by_F():
    made = simulated(7, regions=10)
    design = make_design(sample_sheet(made.methylome), "~ g")
    regions = made.truth.select(pl.lit("chr22").alias("contig"), "start", "end")
    planted = region_tests(made.methylome, design, "g", regions=regions).table
    assert (planted["q"] < 0.05).all()
    assert planted["between"].str.contains("d").all()
    p = []
    for seed in (1, 2, 3):
        null = simulated(seed).methylome
        found = region_tests(null, design, "g", regions=tiles(null, 1000)).table
        p.append(found["p"].drop_nulls().to_numpy())
    p = np.concatenate(p)
    assert len(p) > 700
    assert 0.03 < (p < 0.05).mean() < 0.07
    assert np.median(p) == pytest.approx(0.5, abs=0.06)


def test_the_command_prints_the_two_levels(tmp_path):
    rng = np.random.default_rng(2)
    sheet = {"sample": [f"s{i}" for i in range(12)], "g": list(FOUR)}
    baseline = Baseline(
        np.cumsum(rng.integers(2, 90, 3000)), rng.beta(2, 1, 3000), np.full(3000, 12.0)
    )
    store = tmp_path / "study.zarr"
    exposure = np.array([0.0] * 9 + [1.0] * 3)
    options = {"seed": 2, "exposure": exposure, "regions": 4.0, "delta": 0.5}
    simulate_store(store, ["chr1"], [baseline], sheet, **options)
    asked = ["regions", str(store), "-f", "~ g", "-c", "g"]
    found = CliRunner().invoke(app, [*asked, "--relabellings", "60"])
    assert found.exit_code == 0, found.output
    assert "60 relabellings of 15,400" in found.output
    assert re.search(r"\(d - [abc]\) +–", found.output)
    given = CliRunner().invoke(app, [*asked, "--tiles", "1000"])
    assert given.exit_code == 0, given.output
    assert re.search(r"\(d - [abc]\) +–", given.output)

"""Regions: relabellings, the search's kernels and the masked false discovery rate."""

import numpy as np
import pytest

from melisma.design import compare, make_contrasts, make_design
from melisma.differential import find_regions, simulate
from melisma.differential._judge import judge
from melisma.differential._relabel import count_distinct, draw_relabellings, residual_exposure
from melisma.differential._search import Candidates
from melisma.differential._segments import decays, find_segments, smooth_scores
from melisma.differential._stretches import map_spans, spans_of
from melisma.methylome import dataset, sample_sheet


def comparison(groups, block=None, formula="~ g", **columns):
    sheet = {"sample": [f"s{i}" for i in range(len(groups))], "g": list(groups), **columns}
    if block:
        sheet["block"] = list(block)
    design = make_design(sheet, formula, block="block" if block else None)
    return compare(design, make_contrasts(design, "g[b] - g[a]")[0])


@pytest.mark.parametrize(
    ("groups", "block", "distinct"),
    [
        ("aaaabbbb", None, 35),  # C(8, 4) / 2
        ("aaaaaabbbbbb", None, 462),  # C(12, 6) / 2
        ("aaabb", None, 10),  # C(5, 2): no mirror image
        ("abababab", "ppqqrrss", 8),  # 2^4 / 2
        ("aaabbbccc", None, 10),  # C(6, 3) / 2: the third level is not moved
        ("ababaabb", "ppqqrrss", 2),  # two pairs of one level only
    ],
)
def test_distinct_relabellings_are_counted(groups, block, distinct):
    found = comparison(groups, block)
    assert count_distinct(found) == distinct
    drawn = draw_relabellings(found, 1000 if distinct > 100 else distinct - 1, seed=3)
    assert len(drawn) == distinct - 1


def test_pairs_are_flipped_whole():
    found = comparison("abababab", "ppqqrrss")
    for moved in draw_relabellings(found, 7, seed=1):
        pairs = moved.reshape(4, 2)
        assert pairs.sum(axis=1) == pytest.approx(0, abs=1e-12)
        assert np.abs(pairs) == pytest.approx(8**-0.5)


def test_the_exposure_is_residualised_on_covariates():
    found = comparison("aabbabab", formula="~ g + f", f=list("xxxxyyyy"))
    residual = residual_exposure(found)
    assert residual[:4].sum() == pytest.approx(0, abs=1e-12)
    drawn = draw_relabellings(found, 20, seed=1)
    assert np.sort(drawn, axis=1) == pytest.approx(np.tile(np.sort(residual), (len(drawn), 1)))


def test_levels_that_are_not_compared_stay_where_they_are():
    found = comparison("aaabbbccc")
    for moved in draw_relabellings(found, 9, seed=1):
        assert moved[6:] == pytest.approx(residual_exposure(found)[6:])


def test_a_third_level_inside_blocks_stays_too():
    found = comparison("abcabcabcabc", "pppqqqrrrsss")
    # Each block's a and b may change places, its c may not: 2^4 / 2.
    assert count_distinct(found) == 8


def search(score, position, **options):
    score = np.asarray(score, dtype=np.float32)
    n = len(score)
    position = np.asarray(position, dtype=np.int64)
    weight, root, decay = np.ones(n), np.ones(n, dtype=np.float32), np.zeros(n)
    smooth = smooth_scores(
        score[None, :, None], position, weight, options.get("half", 100.0), np.zeros(n), decay
    )
    return find_segments(
        score, root, smooth[0, :, 0], position, weight > 0, np.zeros(n), decay,
        options.get("threshold", 2.0), options.get("max_gap", 300), options.get("min_sites", 3),
    )  # fmt: skip


def test_a_planted_stretch_is_found_with_its_boundaries():
    score = np.zeros(40)
    score[15:23] = -4
    start, end, statistic = search(score, np.arange(40) * 20)
    assert (start.tolist(), end.tolist()) == ([15], [23])
    # Eight independent scores of -4: their sum over its standard deviation.
    assert statistic[0] == pytest.approx(-32 / np.sqrt(8))


def test_a_gap_ends_a_region_and_short_ones_are_left_out():
    score = np.full(10, 4.0)
    position = np.concatenate([np.arange(6) * 20, 5000 + np.arange(4) * 20])
    start, end, _ = search(score, position)
    assert (start.tolist(), end.tolist()) == ([0, 6], [6, 10])
    assert len(search(score, position, min_sites=5)[0]) == 1


def test_neighbouring_regions_never_overlap():
    rng = np.random.default_rng(0)
    for seed in range(20):
        score = np.random.default_rng(seed).normal(0, 3, 400)
        start, end, _ = search(score, np.cumsum(rng.integers(2, 60, 400)), threshold=1.0)
        assert (start[1:] >= end[:-1]).all()


def test_the_smoothed_scores_deviation_allows_for_correlation():
    # Weights of a tricube kernel, correlation shared_i shared_k exp(-d / 100): the double sum.
    position = np.array([0, 30, 60], dtype=np.int64)
    weight, shared = np.array([1.0, 2.0, 1.0]), np.array([0.6, 0.7, 0.8])
    score = np.array([1.0, -2.0, 3.0], dtype=np.float32)
    smooth = smooth_scores(
        score[None, :, None], position, weight, 50.0, shared, decays(position, 100.0)
    )
    u = np.abs(position - 30) / 51.0
    w = weight * (1 - u**3) ** 3
    r = np.outer(shared, shared) * np.exp(-np.abs(position[:, None] - position[None, :]) / 100.0)
    np.fill_diagonal(r, 1.0)
    assert smooth[0, 1, 0] == pytest.approx(w @ score / np.sqrt(w @ r @ w), rel=1e-6)


def test_the_masked_false_discovery_rate_worked_by_hand():
    # Observed 9 and 3; two relabellings with nulls 8 (inside the first region), 2 and 1.
    candidates = Candidates(
        labelling=np.array([0, 0, 1, 1, 2]),
        start=np.array([100, 300, 105, 500, 600]),
        end=np.array([120, 310, 115, 510, 620]),
        statistic=np.array([9.0, -3.0, 8.0, 2.0, -1.0]),
    )
    judged = judge(candidates, sites=1000, relabellings=2, q=0.6)
    # Round 1 masks nothing: FDR(9) = (1 + 0) / 2 / 1, FDR(3) = (1 + 1) / 2 / 2; both .5, called.
    # Then the null at 8 is masked, 30 sites are: FDR(3) = (1 + 0) / 2 * 1000 / 970 / 2.
    assert judged.q == pytest.approx([0.5 * 1000 / 970 / 2] * 2)
    assert judged.p == pytest.approx([1 / 4, 2 / 4])
    assert np.isnan(judged.p_family).all()
    assert judged.called_by_relabelling == (1, 0)


GROUPS = {"sample": [f"s{i}" for i in range(12)], "g": ["a"] * 6 + ["b"] * 6}


def simulated(seed, regions, sites=12_000, **options):
    rng = np.random.default_rng(seed)
    return simulate(
        np.cumsum(rng.integers(2, 90, sites)),
        rng.beta(2, 1, sites),
        np.full(sites, 12.0),
        GROUPS,
        seed=seed,
        exposure=np.array([0.0] * 6 + [1.0] * 6),
        regions=regions,
        delta=0.4,
        **options,
    )


def test_planted_regions_are_found_and_a_null_stays_empty():
    made = simulated(2, regions=30)
    design = make_design(GROUPS, "~ g")
    result = find_regions(made.methylome, design, "g[b] - g[a]", relabellings=60)
    called = result.significant()
    true = [
        any((made.truth["start"] < end) & (made.truth["end"] > start))
        for start, end in called.select("start", "end").iter_rows()
    ]
    assert len(called) >= 24
    assert np.mean(true) > 0.85
    assert result.table["start"].is_sorted()
    assert (called["delta_beta"].abs() > 0.05).all()
    null = simulated(3, regions=0)
    assert (
        len(find_regions(null.methylome, design, "g[b] - g[a]", relabellings=60).significant()) <= 1
    )


def test_regions_do_not_depend_on_stretches_or_sample_order(monkeypatch):
    made = simulated(4, regions=10, sites=5000).methylome
    one = find_regions(made, make_design(sample_sheet(made), "~ g"), "g[b] - g[a]", relabellings=20)
    position = made["position"].values
    assert (np.diff(position) > 80).any()
    shuffled = made.isel(sample=[7, 2, 0, 11, 5, 9, 1, 3, 10, 4, 8, 6])
    monkeypatch.setattr("melisma.methylome.CHUNK_SITES", (300, 300))
    again = find_regions(
        shuffled, make_design(sample_sheet(shuffled), "~ g"), "g[b] - g[a]", relabellings=20
    )
    assert again.table["region"].equals(one.table["region"])
    for name in ("statistic", "q", "delta_beta", "ci_low"):
        assert again.table[name].to_numpy() == pytest.approx(one.table[name].to_numpy(), rel=1e-4)


def test_stretches_are_cut_at_the_widest_gap_and_read_across_chunks(monkeypatch):
    monkeypatch.setattr("melisma.differential._stretches._STRETCH", 10)
    monkeypatch.setattr("melisma.differential._stretches._CUT_WITHIN", 6)
    monkeypatch.setattr("melisma.methylome.CHUNK_SITES", (4, 4))
    position = np.arange(24) * 10
    position[7:] += 1000
    reads = np.arange(24 * 12, dtype=np.uint16).reshape(24, 12)
    methylome = dataset(
        {"contig": [0] * 20 + [1] * 4, "position": position},
        {"methylated": reads // 2, "coverage": reads},
        GROUPS,
        contigs=["c", "d"],
    )
    spans = spans_of(methylome)
    found = list(map_spans(methylome, None, lambda stretch, _: stretch, spans))
    assert [stretch.first for stretch in found[:2]] == [0, 7]
    assert found[-1].first == 20
    assert np.concatenate([s.position for s in found]).tolist() == position.tolist()
    assert np.concatenate([s.coverage for s in found]).tolist() == reads.tolist()
    assert np.concatenate([s.methylated for s in found]).tolist() == (reads // 2).tolist()
    some = list(map_spans(methylome, None, lambda stretch, _: stretch, spans[::2]))
    assert [s.first for s in some] == [s.first for s in found[::2]]
    assert some[1].coverage.tolist() == found[2].coverage.tolist()

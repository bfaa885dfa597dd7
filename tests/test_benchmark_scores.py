"""What the benchmarks count: regions against truth by hand, sizes by stratum, tables compared."""

import numpy as np
import polars as pl
import pytest

from benchmarks._null_designs import Tally, nulls
from benchmarks._peers import SCRIPTS, installed
from benchmarks._region_scores import oracle_recall, score
from benchmarks.scale import genome, largest_difference
from melisma.methylome import dataset

# 100 sites, 10 bases apart; planted sites 10-19, 40-49 and 70-79.
POSITION = np.arange(100) * 10
TRUTH = pl.DataFrame({"start": [100, 400, 700], "end": [191, 491, 791]})


def regions(*spans, statistic=None):
    table = pl.DataFrame(
        {"start": [10 * a for a, _ in spans], "end": [10 * b - 9 for _, b in spans]},
        schema={"start": pl.Int64, "end": pl.Int64},
    )
    return table if statistic is None else table.with_columns(statistic=pl.Series(statistic))


def test_calls_against_truth_worked_by_hand():
    # Exact; 5 of 10 planted sites and 15 others; nothing at all; two calls share the second.
    called = regions((10, 20), (45, 65), (90, 95), (40, 44))
    found = score(called, TRUTH, POSITION)
    assert found.precision == 3 / 4
    assert found.recall == 2 / 3
    assert found.f1 == pytest.approx(2 * (3 / 4) * (2 / 3) / (3 / 4 + 2 / 3))
    # Half of its sites: only the first and the last, which find both regions.
    assert found.fdr == 1 / 2
    assert found.f1_half == pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3))
    # 10 of 10; the best of 5 of 25 and 4 of 10; missed.
    assert found.jaccard.tolist() == [1.0, 0.4, 0.0]


def test_a_call_across_two_planted_regions_counts_the_sites_of_both():
    # Sites 10 to 49: 20 of 40 are planted, which is half.
    found = score(regions((10, 50)), TRUTH, POSITION)
    assert (found.precision, found.recall, found.fdr) == (1, 2 / 3, 0)
    assert found.jaccard.tolist() == [10 / 40, 10 / 40, 0]


def test_no_calls_are_no_false_calls():
    found = score(regions(), TRUTH, POSITION)
    assert (found.precision, found.recall, found.f1, found.fdr) == (0, 0, 0, 0)
    assert found.jaccard.tolist() == [0, 0, 0]


def test_the_oracle_cuts_where_at_most_a_twentieth_is_false():
    # By statistic: true, false, then true ones; one in 20 false is reached by the 20th call.
    spans = [(10, 12), (90, 95), *[(40 + k % 8, 42 + k % 8) for k in range(18)], (70, 80)]
    ranked = regions(*spans, statistic=[float((-1) ** k * (30 - k)) for k in range(21)])
    assert oracle_recall(ranked, TRUTH, POSITION) == 1
    assert oracle_recall(ranked.head(19), TRUTH, POSITION) == 1 / 3


def counted(p, methylated, uncovered=()):
    tally = Tally()
    sites = len(p)
    values = {
        "methylated": np.repeat(np.array(methylated, np.uint16)[:, None], 4, axis=1),
        "coverage": np.full((sites, 4), 10, np.uint16),
    }
    for site in uncovered:
        values["methylated"][site] = values["coverage"][site] = 0
    sheet = {"sample": list("wxyz")}
    made = dataset(
        {"contig": np.zeros(sites), "position": np.arange(sites)}, values, sheet, contigs=["c"]
    )
    tally.add(made, np.array(p))
    return tally


def test_sizes_by_stratum_worked_by_hand():
    # Two tests at level .5, one of them below .05 and .01; one at .2; one not tested.
    report = counted([0.009, 0.5, 0.04, np.nan], [5, 5, 2, 5]).report()
    assert report["0.05"] == pytest.approx(2 / 3 / 0.05, abs=1e-3)
    assert report["0.01"] == pytest.approx(1 / 3 / 0.01, abs=1e-3)
    assert report["strata"]["0.3-0.7"]["0.01"] == 50
    assert report["strata"]["0.3-0.7"]["expected_minor_reads"] == 5
    assert report["strata"]["0.1-0.3"]["tested"] == 1
    assert report["worst_stratum"] == {"0.01": None, "0.001": None}
    assert (report["untestable"], report["tested"], report["seeds"]) == (0.25, 3, 1)
    assert not report["within_bars"]


@pytest.mark.parametrize(
    ("shift", "methylated", "missed"),
    [
        (1.0, 5, []),
        (0.3, 5, ["overall at 0.05", "overall at 0.01", "overall at 0.001"]),
        # Without a minor read a sample the lower bars are waived, the upper ones hold.
        (0.3, 0, []),
        (1.4, 0, ["overall at 0.05", "overall at 0.01", "worst stratum at 0.01"]),
        (1.4, 5, ["overall at 0.05", "overall at 0.01", "worst stratum at 0.01"]),
    ],
)
def test_bars(shift, methylated, missed):
    # p such that the share below alpha is shift * alpha; 20,000 tests of one stratum.
    p = np.minimum((np.arange(20_000) + 0.5) / 20_000 / shift, 1.0)
    tally = counted(p, [methylated] * 20_000)
    report = tally.report()
    assert [text.split(":")[0] for text in report["misses"]] == missed
    assert report["within_bars"] == (not missed)
    assert tally.report(lower=False)["misses"] == [t for t in report["misses"] if ">" in t]


def test_a_p_value_without_a_read_is_no_test():
    report = counted([0.009, 0.5, 0.001], [5, 5, 5], uncovered=[2]).report()
    assert (report["tested"], report["untestable"]) == (2, 0.333)
    assert report["0.001"] == 0


def test_every_design_of_the_bars_is_there():
    bars = {null.name for null in nulls() if null.bars}
    assert bars == {
        "2v2", "3v3", "4v4", "10v10", "20_pairs", "8_litters_of_4", "4_levels", "continuous",
        "batch_covariate", "5x_against_30x",
    }  # fmt: skip
    for null in nulls():
        samples = len(null.sheet["sample"])
        assert all(len(column) == samples for column in null.sheet.values())
        assert null.depth is None or len(null.depth) == samples


def test_tables_are_compared_to_the_last_bit(tmp_path):
    table = pl.DataFrame({"region": ["a", "b"], "p": [0.5, None]})
    runs = (("x", 0.5, "a"), ("y", 0.500005, "a"), ("z", 0.5, "c"), ("w", np.inf, "a"))
    for name, p, region in runs:
        changed = table.with_columns(p=pl.Series([p, None]), region=pl.Series([region, "b"]))
        for k in range(2):
            changed.write_parquet(tmp_path / f"{name}.{k}")
    assert largest_difference(tmp_path / "x", tmp_path / "x") == 0
    assert largest_difference(tmp_path / "x", tmp_path / "y") == pytest.approx(5e-6)
    assert largest_difference(tmp_path / "x", tmp_path / "z") == np.inf
    assert largest_difference(tmp_path / "x", tmp_path / "w") == np.inf
    assert largest_difference(tmp_path / "w", tmp_path / "w") == 0


def test_a_genome_has_the_sites_asked_for(monkeypatch):
    known = (np.array([5, 9, 30]), np.array([0.1, 0.5, 0.9]), np.array([4.0, 5.0, 6.0]))
    monkeypatch.setattr("benchmarks.scale.chromosome", lambda: known_as(*known))
    monkeypatch.setattr("benchmarks.scale._CONTIG_SITES", 4)
    names, contigs = genome(9)
    made = list(contigs)
    assert names == ["chr1", "chr2", "chr3"]
    assert [len(contig.position) for contig in made] == [4, 4, 1]
    assert made[0].position.tolist() == [5, 9, 30, 1035]
    assert made[1].level.tolist() == [0.1, 0.5, 0.9, 0.1]


def known_as(position, level, depth):
    from benchmarks._chr22 import Chromosome

    return Chromosome(position, level, depth)


@pytest.mark.peer
@pytest.mark.skipif(not installed("limma"), reason="R's limma is not installed")
def test_a_peer_gives_a_p_value_a_site(tmp_path):
    from benchmarks import _peers
    from benchmarks._differential_peers import write_counts

    rng = np.random.default_rng(1)
    coverage = rng.poisson(8, (60, 6)).astype(np.uint16)
    coverage[7] = 0
    methylated = rng.binomial(coverage, 0.6).astype(np.uint16)
    sheet = {"sample": [f"s{i}" for i in range(6)], "g": list("aaabbb")}
    made = dataset(
        {"contig": np.zeros(60), "position": np.arange(60) * 9},
        {"methylated": methylated, "coverage": coverage},
        sheet,
        contigs=["c"],
    )
    write_counts(tmp_path, made, sheet)
    told = _peers.run("limma.R", [tmp_path, "~g", "gb"])
    p = np.fromfile(tmp_path / "limma.p.bin", np.float64)
    assert told["seconds"] > 0
    assert np.isnan(p).nonzero()[0].tolist() == [7]
    assert ((p[~np.isnan(p)] > 0) & (p[~np.isnan(p)] <= 1)).all()
    assert (SCRIPTS / "counts.R").exists()

"""bigWig: levels alone, levels with coverage, and what no track of levels is."""

import numpy as np
import pybigtools
import pytest
from calls_files import noted
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.calls import ingest, sniff
from melisma.calls.bigwig import read_bigwig_counts
from melisma.errors import MelismaError
from melisma.methylome import open_methylome

SIZES = {"chr1": 3_000_000, "chr2": 500}


def track(path, rows, sizes=SIZES):
    pybigtools.open(str(path), "w").write(sizes, ((*place, float(v)) for *place, v in rows))
    return path


def row(contig, start, value):
    return contig, start, start + 1, value


def sheet(folder, **paths):
    lines = ["sample,path", *(f"{name},{path.name}" for name, path in paths.items())]
    (folder / "s.csv").write_text("\n".join(lines) + "\n")
    return folder / "s.csv"


def test_levels_of_two_tracks_are_joined_and_gaps_are_missing(tmp_path):
    a = track(tmp_path / "a.bw", [("chr1", 5, 6, 0.5), ("chr1", 2_500_000, 2_500_001, 0.25)])
    b = track(tmp_path / "b.bw", [("chr1", 5, 6, 0), ("chr1", 9, 10, 1), ("chr2", 0, 1, 0.75)])
    assert sniff(a).format.name == "bigwig"
    ingest(sheet(tmp_path, a=a, b=b), tmp_path / "s.zarr")
    made = open_methylome(tmp_path / "s.zarr").load()
    assert made["position"].values.tolist() == [5, 9, 2_500_000, 0]
    assert made["contig"].values.tolist() == [0, 0, 0, 1]
    expected = [[0.5, 0], [np.nan, 1], [0.25, np.nan], [np.nan, 0.75]]
    np.testing.assert_array_equal(made["beta"].values, np.float32(expected))
    assert made.attrs["strands"] == "unknown"


def test_percents_are_divided(tmp_path):
    a = track(tmp_path / "a.bw", [("chr1", 5, 6, 50.0), ("chr1", 7, 8, 100.0)])
    ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr")
    np.testing.assert_array_equal(open_methylome(tmp_path / "s.zarr")["beta"], [[0.5], [1]])


GENOME = ">chr1\nACGTACGTAA\n>chr2\nTTCGA\n"


def test_a_genome_gives_strands_and_contexts(tmp_path):
    sizes = {"chr1": 10, "chr2": 5}
    (tmp_path / "g.fa").write_text(GENOME)
    a = track(tmp_path / "a.bw", [("chr1", 1, 2, 0.5), ("chr1", 2, 3, 1), ("chr2", 2, 3, 0)], sizes)
    ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr", genome=tmp_path / "g.fa")
    made = open_methylome(tmp_path / "s.zarr").load()
    assert made["strand"].values.tolist() == [1, -1, 1]
    assert made["context"].values.tolist() == [0, 0, 0]
    off = track(tmp_path / "off.bw", [("chr1", 0, 1, 0.5), ("chr1", 3, 4, 1)], sizes)
    with pytest.raises(MelismaError, match=r"100.0% of their sites are not on a C or G"):
        ingest(sheet(tmp_path, a=off), tmp_path / "t.zarr", genome=tmp_path / "g.fa")
    assert not list(tmp_path.glob("t.zarr*"))


@pytest.mark.parametrize("counts", [False, True])
def test_values_over_a_whole_cpg_need_a_genome(tmp_path, counts):
    sizes = {"chr1": 10}
    rows = [("chr1", 1, 3, 0.5), ("chr1", 5, 7, 1.0)]
    a = track(tmp_path / "a.level.bw", rows, sizes)
    if counts:
        track(tmp_path / "a.coverage.bw", [("chr1", 0, 10, 4)], sizes)
    (tmp_path / "g.fa").write_text(GENOME)
    with pytest.raises(MelismaError, match="value each 2 bases.*--genome"):
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr")
    ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr", genome=tmp_path / "g.fa")
    made = open_methylome(tmp_path / "s.zarr").load()
    assert made["position"].values.tolist() == [1, 5]
    assert made["strand"].values.tolist() == [0, 0]
    assert made.attrs["strands"] == "merged"
    if counts:
        assert made["methylated"].values.tolist() == [[2], [4]]


def test_coverage_beside_gives_counts(tmp_path):
    level = track(
        tmp_path / "a.level.bw", [row("chr1", 5, 1 / 3), row("chr1", 7, 1), row("chr2", 3, 0)]
    )
    track(tmp_path / "a.coverage.bw", [("chr1", 5, 6, 3), ("chr2", 3, 4, 7)])
    assert sniff(level).format.name == "bigwig-counts"
    made = ingest(sheet(tmp_path, a=level), tmp_path / "s.zarr")
    assert made.drops == {"a": {"coverage of 0": 1}}
    store = open_methylome(tmp_path / "s.zarr").load()
    assert store["methylated"].values.tolist() == [[1], [0]]
    assert store["coverage"].values.tolist() == [[3], [7]]
    with pytest.raises(MelismaError, match="made from other files"):
        ingest(sheet(tmp_path, a=level), tmp_path / "s.zarr", format="bigwig")


def test_a_sheet_may_name_the_coverage(tmp_path):
    level = track(tmp_path / "x.bw", [("chr1", 5, 6, 0.5)])
    depth = track(tmp_path / "y.bw", [("chr1", 5, 6, 8)])
    (tmp_path / "s.csv").write_text(f"sample,path,coverage_path\na,{level.name},{depth.name}\n")
    ingest(tmp_path / "s.csv", tmp_path / "s.zarr")
    assert open_methylome(tmp_path / "s.zarr")["methylated"].values.tolist() == [[4]]


@given(st.lists(st.tuples(st.integers(1, 1 << 16), st.floats(0, 1)), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_counts_come_back_exactly(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("bw")
    counts = [(round(n * share), n) for n, share in cells]
    levels = [row("chr1", 3 * k, m / n) for k, (m, n) in enumerate(counts)]
    depths = [row("chr1", 3 * k, n) for k, (_, n) in enumerate(counts)]
    level = track(folder / "a.level.bw", levels)
    depth = track(folder / "a.coverage.bw", depths)
    read = list(read_bigwig_counts(level, depth))
    found = [
        (int(m), int(n))
        for calls in read
        for m, n in zip(calls.methylated, calls.coverage, strict=True)
    ]
    assert found == counts


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("chr1", 0, 10, 0.5)], "one value over 10 bases"),
        ([("chr1", 0, 1, 0.5), ("chr1", 4, 6, 0.5)], "one value over 2 bases"),
        ([("chr1", 0, 1, 300.0)], "values from 300 to 300"),
        ([("chr1", 0, 1, -1.0)], "values from -1 to -1"),
    ],
)
def test_what_is_no_track_of_levels_is_refused(tmp_path, rows, words):
    a = track(tmp_path / "a.bw", rows)
    with pytest.raises(MelismaError, match=words):
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr")
    assert not list(tmp_path.glob("s.zarr*"))


def test_a_damaged_or_lonely_track_is_refused(tmp_path):
    a = track(tmp_path / "a.bw", [("chr1", 5, 6, 0.5)])
    with pytest.raises(MelismaError, match="no track of coverage beside it"):
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr", format="bigwig-counts")
    a.write_bytes(a.read_bytes()[:70])
    with pytest.raises(MelismaError, match="cannot be read as bigWig"):
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("level", "depth", "sentence"),
    [
        (0.5, 3, r"level at chr1:5 is 0.5, which is that of no count among the 3 reads of"),
        (0.5, 1.5, r"coverage at chr1:5 is 1.5, no whole number"),
    ],
)
def test_a_coverage_that_is_not_the_levels_is_refused(tmp_path, level, depth, sentence):
    track(tmp_path / "a.level.bw", [("chr1", 5, 6, level)])
    track(tmp_path / "a.coverage.bw", [("chr1", 5, 6, depth)])
    with pytest.raises(MelismaError, match=sentence):
        ingest(sheet(tmp_path, a=tmp_path / "a.level.bw"), tmp_path / "s.zarr")
    assert not list(tmp_path.glob("s.zarr*"))


def test_tracks_of_another_build_are_told_by_their_lengths(tmp_path):
    (tmp_path / "g.fa").write_text(GENOME)
    a = track(tmp_path / "a.bw", [("chr1", 1, 2, 0.5)], {"chr1": 12})
    with pytest.raises(MelismaError, match="made on a chr1 of 12 bases, and genome g has 10"):
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr", genome=tmp_path / "g.fa")
    assert not list(tmp_path.glob("s.zarr*"))


@pytest.mark.parametrize("shift", [0, 1])
def test_sites_that_are_all_on_g_are_said(tmp_path, shift):
    (tmp_path / "g.fa").write_text(">chr1\n" + "ACGT" * 30 + "\n")
    rows = [row("chr1", 4 * k + 1 + shift, 0.5) for k in range(30)]
    a = track(tmp_path / "a.bw", rows, {"chr1": 120})
    with noted() as notes:
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr", genome=tmp_path / "g.fa")
    assert any("all 30 sites are on a G of genome g" in note for note in notes) == bool(shift)


def test_a_track_of_nan_holds_no_level(tmp_path):
    a = track(tmp_path / "a.bw", [("chr1", 5, 6, np.nan)])
    with pytest.raises(MelismaError, match="a.bw: it holds no level: every value is NaN"):
        ingest(sheet(tmp_path, a=a), tmp_path / "s.zarr")

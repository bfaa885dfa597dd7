"""Out and in again: what `export` writes, `ingest` reads back as the same store."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from calls_files import SHARED, noted, sites

from melisma.calls import ingest
from melisma.errors import MelismaError
from melisma.export import export
from melisma.methylome import dataset, open_methylome, write

# chr1 has CG at 1, CHG at 4, CHH at 8 and a CG's G at 2; chr2 has AC, then CG at 3.
GENOME = ">chr1\nACGTCAGTCATTAACGN\n>chr2\nAACCGTTG\n"
COUNT_FORMATS = ("bedmethyl", "bismark-cov", "bismark-report", "methylkit", "dss", "allc", "cgmap")


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(GENOME)
    return path


def store(strands, *, marks=("m",), context=True):
    """Four cytosines of two contigs in three samples, one of which has not seen two of them."""
    strand = {"separate": [1, -1, 1, 1], "merged": [0] * 4, "unknown": [0] * 4}[strands]
    position = [1, 2, 4, 3] if strands != "merged" else [1, 4, 8, 3]
    kinds = [0, 0, 1, 0] if strands != "merged" else [0, 1, 2, 0]
    n = np.array([[10, 0, 3], [1, 70_000, 7], [4, 9, 1], [0, 0, 4_000_000_00]], dtype=np.uint32)
    m = np.array([[3, 0, 3], [0, 23_333, 5], [1, 9, 0], [0, 0, 133_333_333]], dtype=np.uint32)
    return dataset(
        {
            "contig": [0, 0, 0, 1],
            "position": position,
            "strand": strand,
            "context": kinds if context else [3] * 4,
        },
        {"methylated": m, "coverage": n},
        {
            "sample": ["a/1", "B", "b"],
            "age": [31.0, float("nan"), 7.25],
            "cell": ["t cell", "0012", 'say "x"'],
        },
        contigs=["chr1", "chr2"],
        marks=marks,
        strands=strands,
    )


def there_and_back(methylome, folder, to, *, mark=None, ingest_genome=None, **options):
    """A store's calls after export and ingest."""
    write(methylome, folder / "in.zarr")
    made = export(folder / "in.zarr", folder / "calls", to=to, mark=mark, **options)
    again = None if mark in (None, "m") else mark
    ingest(folder / "calls" / "samples.tsv", folder / "out.zarr", mark=again, genome=ingest_genome)
    return made, open_methylome(folder / "out.zarr").load()


def expected(methylome, *, strand=True, context=True):
    """The sites of a store, without what a format cannot say."""
    return [
        (contig, position, way if strand else 0, mark, kind if context else "unknown", counts)
        for contig, position, way, mark, kind, counts in sites(methylome)
    ]


# What comes back without a genome: (strand kept, context kept), or None where it is refused.
KEPT = {
    ("bedmethyl", "separate"): (True, False),
    ("bedmethyl", "merged"): (True, False),
    ("bedmethyl", "unknown"): (True, False),
    ("bismark-cov", "separate"): (False, False),
    ("bismark-cov", "merged"): (False, False),
    ("bismark-cov", "unknown"): (False, False),
    ("bismark-report", "separate"): (True, True),
    ("bismark-report", "merged"): (True, True),
    ("bismark-report", "unknown"): None,
    ("methylkit", "separate"): (True, False),
    ("methylkit", "merged"): (True, False),
    ("methylkit", "unknown"): (True, False),
    ("dss", "separate"): (False, False),
    ("dss", "merged"): (False, False),
    ("dss", "unknown"): (False, False),
    ("allc", "separate"): (True, True),
    ("allc", "merged"): (True, True),
    ("allc", "unknown"): None,
    ("cgmap", "separate"): (True, True),
    ("cgmap", "merged"): (True, True),
    ("cgmap", "unknown"): None,
}


@pytest.mark.parametrize(("to", "strands"), [k for k, kept in KEPT.items() if kept])
def test_counts_come_back(to, strands, tmp_path):
    before = store(strands)
    made, after = there_and_back(before, tmp_path, to)
    strand, context = KEPT[to, strands]
    wanted = expected(before, strand=strand, context=context)
    if strands == "merged" and to in ("bismark-report", "allc", "cgmap"):
        wanted = [(c, p, 1, m, kind, counts) for c, p, _, m, kind, counts in wanted]
    assert sites(after) == wanted
    assert list(after["sample"].values) == ["a/1", "B", "b"]
    np.testing.assert_array_equal(after["age"].values, [31.0, np.nan, 7.25])
    assert list(after["cell"].values) == ["t cell", "0012", 'say "x"']
    rows = {"a/1": 3, "B": 2, "b": 4} if to != "bismark-report" else dict.fromkeys(made.rows, 4)
    assert made.rows == rows


@pytest.mark.parametrize("to", COUNT_FORMATS)
def test_a_genome_brings_strands_and_contexts_back(to, tmp_path, fasta):
    before = store("separate")
    _, after = there_and_back(before, tmp_path, to, ingest_genome=fasta, genome=fasta)
    assert sites(after) == sites(before)
    assert after.attrs["strands"] == "separate"


@pytest.mark.parametrize("to", COUNT_FORMATS)
def test_a_genome_gives_what_the_store_does_not_know(to, tmp_path, fasta):
    unknown = store("unknown", context=False)
    _, after = there_and_back(unknown, tmp_path, to, ingest_genome=fasta, genome=fasta)
    assert sites(after) == sites(store("separate"))


@pytest.mark.parametrize("to", ["dss", "methylkit", "bismark-cov", "cgmap", "allc"])
def test_a_mark_that_the_format_does_not_name_is_named_again_at_ingest(to, tmp_path):
    before = store("separate", marks=("h",))
    with noted() as notes:
        _, after = there_and_back(before, tmp_path, to, mark="h")
    assert "pass --mark h to `melisma ingest` (5hmC)" in " ".join(notes)
    assert {site[3] for site in sites(after)} == {"h"}
    assert [site[5] for site in sites(after)] == [site[5] for site in sites(before)]


def two_marks():
    """5mC and 5hmC of two cytosines and 6mA of an adenine: the reads of one base are shared."""
    return dataset(
        {
            "contig": [0] * 5,
            "position": [5, 5, 9, 9, 12],
            "strand": [1, 1, -1, -1, 1],
            "mark": [0, 1, 0, 1, 2],
        },
        {
            "methylated": np.array([[3], [2], [0], [4], [1]], np.uint16),
            "coverage": np.array([[10], [10], [4], [4], [6]], np.uint16),
        },
        {"sample": ["s"]},
        contigs=["chr1"],
        marks=["m", "h", "a"],
        strands="separate",
    )


def test_marks_of_one_base_share_their_reads_in_bedmethyl(tmp_path):
    before = two_marks()
    made, after = there_and_back(before, tmp_path, "bedmethyl", bgzip=False)
    assert sites(after) == sites(before)
    rows = [line.split("\t") for line in made.files["s"][0].read_text().splitlines()]
    # code, N valid, N modified, N canonical, N other
    assert [(row[3], *map(int, (row[9], *row[11:14]))) for row in rows] == [
        ("m", 10, 3, 5, 2),
        ("h", 10, 2, 5, 3),
        ("m", 4, 0, 0, 4),
        ("h", 4, 4, 0, 0),
        ("a", 6, 1, 5, 0),
    ]
    assert rows[0][:9] == ["chr1", "5", "6", "m", "10", "+", "5", "6", "255,0,0"]
    assert rows[0][10] == "30.00"
    assert rows[0][14:] == ["0", "0", "0", "0"]


def test_one_mark_of_several_keeps_the_others_reads_as_other(tmp_path):
    write(two_marks(), tmp_path / "in.zarr")
    made = export(tmp_path / "in.zarr", tmp_path / "o", to="bedmethyl", mark="5hmC", bgzip=False)
    rows = [line.split("\t") for line in made.files["s"][0].read_text().splitlines()]
    assert [(row[3], row[13]) for row in rows] == [("h", "3"), ("h", "0")]


def test_marks_across_a_chunks_end_stay_together(tmp_path):
    positions = np.repeat(np.arange(10_000, dtype=np.int64), 2)
    marks = np.tile([0, 1], 10_000)
    # 16,384 sites are a chunk: one site more than a pair shifts the pairs across its end.
    keep = np.arange(20_000) != 1
    n = np.full((19_999, 300), 9, np.uint16)
    m = np.where(marks[keep, None] == 0, 4, 3).astype(np.uint16) + np.zeros((1, 300), np.uint16)
    names = [f"s{k}" for k in range(300)]
    before = dataset(
        {"contig": np.zeros(19_999, int), "position": positions[keep], "mark": marks[keep]},
        {"methylated": m, "coverage": n},
        {"sample": names},
        contigs=["chr1"],
        marks=["m", "h"],
        strands="merged",
    )
    write(before, tmp_path / "in.zarr")
    made = export(tmp_path / "in.zarr", tmp_path / "o", to="bedmethyl", samples=["s7"], bgzip=False)
    table = pl.read_csv(made.files["s7"][0], separator="\t", has_header=False)
    assert {(row[3], row[13]) for row in table.rows()[1:]} == {("m", 3), ("h", 4)}
    assert table.rows()[0][13] == 0
    assert len(table) == 19_999


def test_more_marked_reads_than_coverage_are_cut_and_said(tmp_path):
    before = two_marks()
    before["methylated"][1] = 8
    write(before, tmp_path / "in.zarr")
    with noted() as notes:
        made = export(tmp_path / "in.zarr", tmp_path / "o", to="bedmethyl", bgzip=False)
    assert any("At 2 calls the marks' reads exceed the coverage" in note for note in notes)
    first = made.files["s"][0].read_text().splitlines()[0].split("\t")
    assert first[9:14] == ["10", "30.00", "3", "0", "7"]
    ingest(tmp_path / "o" / "samples.tsv", tmp_path / "out.zarr")
    assert sites(open_methylome(tmp_path / "out.zarr").load()) == sites(before)


# Real data.


@pytest.mark.parametrize("to", ["bedmethyl", "bismark-cov", "methylkit", "dss"])
def test_the_lupus_calls_come_back(to, tmp_path):
    before = open_lupus(tmp_path)
    export(tmp_path / "in.zarr", tmp_path / "o", to=to)
    ingest(tmp_path / "o" / "samples.tsv", tmp_path / "out.zarr")
    after = open_methylome(tmp_path / "out.zarr").load()
    assert sites(after) == sites(before)
    for column in ("sample", "disease", "cell"):
        assert list(after[column].values) == list(before[column].values)


def open_lupus(folder):
    import melisma

    sheet = Path(melisma.__file__).parent / "datasets" / "lupus" / "samples.tsv"
    ingest(sheet, folder / "in.zarr")
    return open_methylome(folder / "in.zarr").load()


def real(tmp_path, sheet, **options):
    ingest(sheet, tmp_path / "in.zarr", **options)
    return open_methylome(tmp_path / "in.zarr").load()


@pytest.mark.reference
@pytest.mark.parametrize("name", ["nofilt_cg_motif", "nofilt_cg_motif_strand_combine"])
def test_modkits_own_file_comes_out_row_for_row(name, tmp_path):
    source = SHARED / "reference" / "modkit" / f"bc_anchored_10_reads_{name}.bed"
    if not source.exists():
        pytest.skip("no reference data")
    sheet = pl.DataFrame({"sample": ["s"], "path": [str(source)]})
    before = real(tmp_path, sheet)
    made = export(tmp_path / "in.zarr", tmp_path / "o", to="bedmethyl", bgzip=False)

    def rows(path):
        split = (line.split() for line in path.read_text().splitlines())
        # All but the columns that the store does not keep, and rows without coverage.
        kept = [(*row[:6], row[9], float(row[10]), *row[11:14]) for row in split]
        return sorted(row for row in kept if row[6] != "0")

    assert rows(made.files["s"][0]) == rows(source)
    ingest(tmp_path / "o" / "samples.tsv", tmp_path / "out.zarr")
    after = open_methylome(tmp_path / "out.zarr").load()
    assert sites(after) == sites(before)
    assert after.attrs["strands"] == before.attrs["strands"]


@pytest.mark.reference
@pytest.mark.parametrize("to", ["allc", "cgmap", "bismark-report", "methylkit", "bedmethyl"])
@pytest.mark.parametrize("with_genome", [False, True])
def test_arabidopsis_in_all_contexts(to, with_genome, tmp_path):
    folder = SHARED / "reference" / "arabidopsis_col0_chr1"
    if not folder.exists():
        pytest.skip("no reference data")
    genome = folder / "sequence.fa.gz" if with_genome else None
    source = pl.DataFrame({"sample": ["col0"], "path": [str(folder / "bsseeker.txt.gz")]})
    before = real(tmp_path, source, genome=genome)
    export(tmp_path / "in.zarr", tmp_path / "o", to=to, genome=genome)
    ingest(tmp_path / "o" / "samples.tsv", tmp_path / "out.zarr", genome=genome)
    after = open_methylome(tmp_path / "out.zarr").load()
    keeps_context = with_genome or to in ("allc", "cgmap", "bismark-report")
    for name in ("position", "strand", "methylated", "coverage", *(["context"] * keeps_context)):
        np.testing.assert_array_equal(after[name].values, before[name].values, err_msg=name)


@pytest.mark.reference
@pytest.mark.parametrize("to", ["bedmethyl", "bismark-cov", "methylkit", "dss"])
def test_imr90_comes_back(to, tmp_path):
    folder = SHARED / "vendorable"
    if not folder.exists():
        pytest.skip("no reference data")
    calls = pl.read_csv(folder / "imr90_chr22" / "calls.tsv.gz", separator="\t")
    calls = calls.filter((pl.col("rep1_coverage") > 0) | (pl.col("rep2_coverage") > 0))
    values = {
        name: calls.select(pl.col("^rep.*_" + name + "$")).to_numpy().astype(np.uint16)
        for name in ("methylated", "coverage")
    }
    place = {"contig": np.zeros(len(calls), int), "position": calls["start"].to_numpy()}
    before = dataset(place, values, {"sample": ["rep1", "rep2"]}, contigs=["chr22"])
    _, after = there_and_back(before, tmp_path, to)
    for name in ("position", "methylated", "coverage"):
        np.testing.assert_array_equal(after[name].values, before[name].values, err_msg=name)


def test_the_sheet_of_bigwig_tracks_leads_back_to_counts_and_of_levels_to_levels(tmp_path):
    pytest.importorskip("pybigtools")
    (tmp_path / "sizes").write_text("chr1\t17\nchr2\t9\n")
    made = store("merged", context=False)
    small = made.isel(site=[0, 1, 2], sample=[0, 2])
    small = dataset(
        {name: small[name].values for name in ("contig", "position", "strand", "context")},
        {name: small[name].values for name in ("methylated", "coverage")},
        {"sample": ["a/1", "b"]},
        contigs=["chr1"],
        marks=["m"],
        strands="unknown",
    )
    sizes = tmp_path / "sizes"
    _, again = there_and_back(small, tmp_path, "bigwig", sizes=sizes)
    assert sites(again) == sites(small)
    level = small["methylated"] / small["coverage"]
    levels = dataset(
        {name: small[name].values for name in ("contig", "position", "strand", "context")},
        {"beta": level.values.astype(np.float32)},
        {"sample": ["a/1", "b"]},
        contigs=["chr1"],
        marks=["m"],
        strands="unknown",
    )
    (tmp_path / "b").mkdir()
    _, again = there_and_back(levels, tmp_path / "b", "bigwig", sizes=sizes)
    np.testing.assert_array_equal(again["beta"], levels["beta"])


def test_an_export_inside_a_store_is_refused(tmp_path):
    write(store("merged"), tmp_path / "in.zarr")
    with pytest.raises(MelismaError, match=r"lies inside the store .*in.zarr: name a folder"):
        export(tmp_path / "in.zarr", tmp_path / "in.zarr" / "calls", to="dss")
    assert not (tmp_path / "in.zarr" / "calls").exists()

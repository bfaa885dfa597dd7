"""`melisma export`: rows of text, refusals, files of tools, and what an export leaves behind."""

import gzip
import json
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pysam
import pytest
from calls_files import noted
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.cli import main
from melisma.design import read_sheet
from melisma.errors import MelismaError
from melisma.export import EXPORTS, export
from melisma.export._bgzf import BLOCK, END_OF_FILE, TextFile, block
from melisma.export._names import file_stems, sheet_text
from melisma.export._rows import Number, Share, Sites, Slot, Word, layout, write_rows
from melisma.methylome import dataset, write

SEEN = np.array([[10, 0], [4, 8], [0, 2]], dtype=np.uint16)
MARKED = np.array([[3, 0], [4, 2], [0, 0]], dtype=np.uint16)


def small(**changes):
    """Three CpGs of two contigs in two samples."""
    about = {"contigs": ["chr1", "chr2"], "strands": "separate"} | changes
    return dataset(
        {"contig": [0, 0, 1], "position": [9, 10, 4], "strand": [1, -1, 1], "context": [0, 0, 0]},
        {"methylated": MARKED, "coverage": SEEN},
        {"sample": ["liver", "brain"], "age": [3.0, 4.5]},
        **about,
    )


def levels():
    """Four probes' levels in two samples, one missing."""
    beta = np.array([[0.1, 0.5], [0.0, np.nan], [1.0, 0.3333333]], dtype=np.float32)
    return dataset(
        {"contig": [0, 0, 1], "position": [9, 10, 4]},
        {"beta": beta},
        {"sample": ["liver", "brain"]},
        contigs=["chr1", "chr2"],
    )


@pytest.fixture
def at(tmp_path):
    write(small(), tmp_path / "s.zarr")
    write(levels(), tmp_path / "b.zarr")
    return tmp_path


def rows_of(fields, m, n, **columns):
    """The text of rows with these counts."""
    size = len(m)
    names = Sites._fields
    sites = Sites(*(np.asarray(columns.get(f, np.zeros(size)), dtype=np.int64) for f in names))
    counts = [np.asarray(x, dtype=np.uint32) for x in (m, n, [])]
    out = np.empty(1 << 16, dtype=np.uint8)
    done, end, _ = write_rows(0, sites, tuple(counts), layout(fields), out)
    assert done == size
    return bytes(out[:end]).decode()


# Numbers as text.

COUNT = st.integers(1, 2**31 - 2) | st.integers(1, 2000) | st.sampled_from([1000, 1001, 2**31 - 2])


@settings(max_examples=500, deadline=None)
@given(st.data(), COUNT)
def test_percentages_give_every_count_back(data, n):
    m = data.draw(st.integers(0, n) | st.sampled_from([0, n, n // 2, n - 1]))
    text = rows_of([Share(Slot.METHYLATED), Share(Slot.UNMETHYLATED)], [m], [n])
    percents = [float(word) for word in text.split()]
    assert [int(n * p / 100 + 0.5) for p in percents] == [m, n - m]
    assert len(text.split()[0].split(".")[1]) in (2, 4, 6, 8)
    assert abs(percents[0] - 100 * m / n) <= 0.005 + 1e-9


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=5))
def test_whole_numbers_are_written_as_python_writes_them(values):
    text = rows_of(
        [Number(Slot.POSITION), Number(Slot.POSITION, 1), Number(Slot.COVERAGE)],
        [0] * len(values),
        [1] * len(values),
        position=values,
    )
    assert text == "".join(f"{v}\t{v + 1}\t1\n" for v in values)


def test_words_longer_than_eight_bytes_and_side_by_side():
    fields = [[Word(["chrUn_KI270302v1", "é"], Slot.CONTIG), Word(["."]), Number(Slot.POSITION)]]
    text = rows_of([*fields, Word([""]), Word(["end"])], [1, 0], [1, 1], contig=[0, 1])
    assert text == "chrUn_KI270302v1.0\t\tend\né.0\t\tend\n"


def test_rows_go_on_where_the_block_was_full():
    n = 1000
    sites = Sites(*(np.arange(n, dtype=np.int64) for _ in Sites._fields))
    counts = (np.zeros(n, np.uint32), (np.arange(n) % 3).astype(np.uint32), np.empty(0, np.uint32))
    out, at, text, rows = np.empty(200, dtype=np.uint8), 0, b"", 0
    while at < n:
        at, size, written = write_rows(at, sites, counts, layout([Number(Slot.POSITION)]), out)
        text, rows = text + bytes(out[:size]), rows + written
    wanted = [k for k in range(n) if k % 3]
    assert [int(word) for word in text.split()] == wanted
    assert rows == len(wanted)


# bgzip.


@given(st.lists(st.binary(max_size=100_000), max_size=4))
@settings(max_examples=25, deadline=None)
def test_bgzip_holds_what_was_appended(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("bgzf") / "x.gz"
    out = TextFile(path, bgzip=True)
    for piece in pieces:
        out.append(piece)
    out.finish()
    assert gzip.decompress(path.read_bytes()) == b"".join(pieces)
    assert path.read_bytes().endswith(END_OF_FILE)
    with pysam.BGZFile(str(path)) as read:
        assert read.read() == b"".join(pieces)


def test_what_does_not_shrink_is_stored():
    noise = np.random.default_rng(1).integers(0, 256, BLOCK).astype(np.uint8).tobytes()
    packed = block(noise)
    assert len(packed) <= 1 << 16
    assert gzip.decompress(packed) == noise


def test_tabix_indexes_what_is_written(at):
    made = export(at / "s.zarr", at / "o", to="bedmethyl")
    file = str(made.files["brain"][0])
    pysam.tabix_index(file, preset="bed")
    with pysam.TabixFile(file) as table:
        assert [row.split("\t")[1] for row in table.fetch("chr2", 0, 100)] == ["4"]
        assert [row.split("\t")[1] for row in table.fetch("chr1", 0, 100)] == ["10"]


# What each format looks like, worked by hand.

LITERALS = {
    "bismark-cov": ("liver.cov", "chr1\t10\t10\t30.00\t3\t7\nchr1\t11\t11\t100.00\t4\t0\n"),
    "bismark-report": (
        "liver.CX_report.txt",
        "chr1\t10\t+\t3\t7\tCG\tCGN\nchr1\t11\t-\t4\t0\tCG\tCGN\nchr2\t5\t+\t0\t0\tCG\tCGN\n",
    ),
    "methylkit": (
        "liver.methylkit.txt",
        "chrBase\tchr\tbase\tstrand\tcoverage\tfreqC\tfreqT\n"
        "chr1.10\tchr1\t10\tF\t10\t30.00\t70.00\nchr1.11\tchr1\t11\tR\t4\t100.00\t0.00\n",
    ),
    "dss": ("liver.dss.txt", "chr\tpos\tN\tX\nchr1\t10\t10\t3\nchr1\t11\t4\t4\n"),
    "allc": (
        "liver.allc.tsv",
        "chr1\t10\t+\tCGN\t3\t10\t1\nchr1\t11\t-\tCGN\t4\t4\t1\n",
    ),
    "cgmap": (
        "liver.CGmap",
        "chr1\tC\t10\tCG\tCG\t0.30\t3\t10\nchr1\tG\t11\tCG\tCG\t1.00\t4\t4\n",
    ),
}


@pytest.mark.parametrize("to", LITERALS)
def test_rows_are_those_of_the_format(to, at):
    name, text = LITERALS[to]
    made = export(at / "s.zarr", at / "o", to=to, bgzip=False)
    assert made.files["liver"][0] == at / "o" / name
    assert (at / "o" / name).read_text() == text


def test_a_genome_gives_the_exact_letters(tmp_path):
    (tmp_path / "g.fa").write_text(">chr1\nCAGCCTCGACAGCN\n")
    five = dataset(
        {"contig": [0] * 5, "position": [0, 3, 6, 7, 12], "strand": [1, 1, 1, -1, 1]},
        {"methylated": np.ones((5, 1), np.uint16), "coverage": np.full((5, 1), 2, np.uint16)},
        {"sample": ["s"]},
        contigs=["chr1"],
        strands="separate",
    )
    write(five, tmp_path / "s.zarr")
    about = {"genome": tmp_path / "g.fa", "bgzip": False}
    report = export(tmp_path / "s.zarr", tmp_path / "r", to="bismark-report", **about)
    letters = [row.split("\t")[5:] for row in report.files["s"][0].read_text().splitlines()]
    assert letters == [
        ["CHG", "CAG"],
        ["CHH", "CCT"],
        ["CG", "CGA"],
        ["CG", "CGA"],
        ["CN", "CNN"],
    ]
    cgmap = export(tmp_path / "s.zarr", tmp_path / "c", to="cgmap", **about)
    words = [row.split("\t")[3:5] for row in cgmap.files["s"][0].read_text().splitlines()]
    assert words[:2] == [["CHG", "CA"], ["CHH", "CC"]]
    assert words[4] == ["--", "CN"]


# Selection.


def test_a_region_and_samples_in_the_order_asked_for(at):
    made = export(
        at / "s.zarr", at / "o", to="dss", samples=["brain"], region="chr1:10-11", bgzip=False
    )
    assert made.files["brain"][0].read_text() == "chr\tpos\tN\tX\nchr1\t11\t8\t2\n"
    assert (made.sites, made.rows) == (1, {"brain": 1})
    assert read_sheet(at / "o" / "samples.tsv")["age"].to_list() == [4.5]


def test_a_sample_without_calls_is_left_out_and_said(at):
    made = export(at / "s.zarr", at / "o", to="dss", region="chr1:9-10")
    assert made.left_out == {"brain": "no call at the chosen sites"}
    assert {path.name for path in (at / "o").iterdir()} == {
        "export.json",
        "samples.tsv",
        "liver.dss.txt.gz",
    }


def test_contexts_choose_sites(at):
    made = export(at / "s.zarr", at / "o", to="bismark-report", contexts=["CG"])
    assert made.files["liver"][0].name == "liver.CpG_report.txt.gz"
    with pytest.raises(MelismaError, match="None of the chosen samples has a call"):
        export(at / "s.zarr", at / "p", to="dss", contexts=["CHH"])
    assert not (at / "p").exists()
    assert not (at / "p.part").exists()


def test_regions_off_the_chunks_bounds(tmp_path):
    n = 40_000
    many = dataset(
        {"contig": np.repeat([0, 1], n // 2), "position": np.tile(np.arange(n // 2) * 2, 2)},
        {"methylated": np.zeros((n, 200), np.uint16), "coverage": np.ones((n, 200), np.uint16)},
        {"sample": [f"s{k}" for k in range(200)]},
        contigs=["a", "b"],
    )
    write(many, tmp_path / "s.zarr")
    for region, want in (("a", 20_000), ("b:1000-39000", 19_000), (None, 40_000)):
        made = export(
            tmp_path / "s.zarr", tmp_path / "o", to="dss", samples=["s3", "s199"], region=region,
            bgzip=False, overwrite=True,
        )  # fmt: skip
        assert made.rows == {"s3": want, "s199": want}
        table = pl.read_csv(made.files["s199"][0], separator="\t")
        whole = np.concatenate([np.arange(n // 2) * 2] * 2)
        start = {"a": 0, None: 0}.get(region, 20_500)
        np.testing.assert_array_equal(table["pos"].to_numpy(), whole[start : start + want] + 1)


# Refusals.


def two_marks():
    return dataset(
        {"contig": [0, 0], "position": [3, 3], "strand": [1, 1], "mark": [0, 1]},
        {"methylated": np.array([[1], [2]], np.uint16), "coverage": np.full((2, 1), 4, np.uint16)},
        {"sample": ["s"]},
        contigs=["chr1"],
        marks=["m", "h"],
        strands="separate",
    )


def adenines():
    made = small()
    return made.assign_attrs(marks=["a"])


def both_strands_of_one_base():
    return dataset(
        {"contig": [0, 0], "position": [3, 3], "strand": [-1, 1]},
        {"methylated": np.ones((2, 1), np.uint16), "coverage": np.ones((2, 1), np.uint16)},
        {"sample": ["s"]},
        contigs=["chr1"],
        strands="separate",
    )


def unknown_contexts():
    made = small()
    made["context"][:] = 3
    return made


REFUSED = [
    (levels, "bedmethyl", {}, "the store has levels without counts: export it with --to matrix"),
    (two_marks, "bismark-cov", {}, "the store has m, h: choose one with --mark"),
    (two_marks, "bigwig", {}, "choose one with --mark"),
    (two_marks, "matrix", {}, "choose one with --mark"),
    (adenines, "bismark-cov", {}, "is for cytosines, and 6mA is a mark of A"),
    (adenines, "allc", {}, "use --to bedmethyl, dss, parquet or anndata"),
    (both_strands_of_one_base, "dss", {}, "both strands of chr1:3 .* no strand to tell them apart"),
    (lambda: small(strands="unknown"), "allc", {}, "needs strands, .* pass --genome"),
    (unknown_contexts, "bismark-report", {}, "needs each site's context .* pass --genome"),
    (small, "dss", {"samples": ["livr"]}, "no sample 'livr': did you mean 'liver'"),
    (small, "dss", {"samples": ["zz"]}, "no sample 'zz': it has liver, brain"),
    (small, "dss", {"samples": ["liver", "liver"]}, "asked for twice"),
    (small, "dss", {"region": "chr9"}, "no contig 'chr9'"),
    (small, "dss", {"region": "chr1:500-600"}, "no site in chr1:500-600"),
    (small, "dss", {"mark": "6mA"}, r"no mark '6mA'; it has m \(5mC\)"),
    (small, "dss", {"mark": "5xC"}, "'5xC' is not supported"),
    (small, "dss", {"contexts": ["CpG"]}, "no context 'CpG': use CG, CHG, CHH"),
    (small, "vcf", {}, "no format 'vcf' to export to: use one of bedmethyl, "),
    (small, "anndata", {}, "end its name in .h5ad"),
    (small, "bigwig", {}, "needs the contigs' lengths.* --sizes .* or --genome"),
]


@pytest.mark.parametrize(("make", "to", "options", "sentence"), REFUSED)
def test_what_cannot_be_written_is_refused_with_the_remedy(make, to, options, sentence, tmp_path):
    with pytest.raises(MelismaError, match=sentence):
        export(make(), tmp_path / "out", to=to, **options)
    assert list(tmp_path.iterdir()) == []


SIZES = [
    ("", "holds no contig lengths"),
    ("chr1 hundred\n", "line 1: 'chr1 hundred' is no contig and length"),
    ("chr1 100\nchr2\n", "line 2: 'chr2' is no contig and length"),
    ("chr1 100\n", "The contig chr2 has no length"),
    ("chr1 10\nchr2 100\n", r"a site at chr1:10 \(0-based\), past the contig's length of 10"),
    ("chr1 100\nchr1 90\n", "chr1 has two lengths"),
]


@pytest.mark.parametrize(("text", "sentence"), SIZES)
def test_bad_sizes(text, sentence, at):
    (at / "sizes").write_text(text)
    with pytest.raises(MelismaError, match=sentence):
        export(at / "s.zarr", at / "o", to="bigwig", sizes=at / "sizes")
    with pytest.raises(MelismaError, match="no file of contig lengths"):
        export(at / "s.zarr", at / "o", to="bigwig", sizes=at / "none")


def test_another_genome_is_refused(at):
    (at / "g.fa").write_text(">chr1\nAAAAAAAAAAAAAAAA\n>chr2\nCCCCCCCCC\n")
    with pytest.raises(MelismaError, match=r"chr1:9 \(0-based\) is not on a base of genome g"):
        export(at / "s.zarr", at / "o", to="allc", genome=at / "g.fa")
    (at / "h.fa").write_text(">chr9\nACGT\n")
    with pytest.raises(MelismaError, match="no contig 'chr1'"):
        export(at / "s.zarr", at / "o", to="allc", genome=at / "h.fa")


# bigWig, Parquet, AnnData, matrix.


def test_bigwig_gives_counts_back(at):
    pybigtools = pytest.importorskip("pybigtools")
    (at / "sizes").write_text("chr1\t1000\nchr2\t500\nchr3\t9\n")
    made = export(at / "s.zarr", at / "o", to="bigwig", sizes=at / "sizes")
    level, coverage = made.files["liver"]
    assert (level.name, coverage.name) == ("liver.level.bw", "liver.coverage.bw")
    with pybigtools.open(str(level)) as track:
        assert track.chroms() == {"chr1": 1000}
        assert list(track.records("chr1")) == [(9, 10, pytest.approx(0.3)), (10, 11, 1.0)]
    with pybigtools.open(str(coverage)) as track:
        assert list(track.records("chr1")) == [(9, 10, 10.0), (10, 11, 4.0)]
    made = export(at / "b.zarr", at / "p", to="bigwig", sizes=at / "sizes")
    assert [file.name for file in made.files["liver"]] == ["liver.level.bw"]


@given(st.data(), st.integers(1, 1 << 23))
@settings(max_examples=500, deadline=None)
def test_32_bit_levels_give_counts_back(data, n):
    m = data.draw(st.integers(0, n))
    level = np.float32(np.uint32(m) / np.uint32(n))
    assert round(float(level) * float(np.float32(n))) == m


def test_counts_that_bigwig_cannot_hold_are_refused(at):
    pytest.importorskip("pybigtools")
    made = small()
    made["coverage"] = made["coverage"].astype(np.uint32)
    made["coverage"][0, 0] = (1 << 23) + 1
    (at / "sizes").write_text("chr1\t1000\nchr2\t500\n")
    with pytest.raises(MelismaError, match="Sample liver has a site of 8,388,609 reads"):
        export(made, at / "o", to="bigwig", sizes=at / "sizes")
    with pytest.raises(MelismaError, match="both strands of chr1:3"):
        export(both_strands_of_one_base(), at / "o", to="bigwig", sizes=at / "sizes")
    assert not (at / "o").exists()


def test_parquet_a_sample_and_together(at):
    made = export(at / "s.zarr", at / "o", to="parquet")
    table = pl.read_parquet(made.files["brain"][0])
    assert table.rows() == [
        ("chr1", 10, -1, "m", "CG", 2, 8),
        ("chr2", 4, 1, "m", "CG", 0, 2),
    ]
    assert json.loads(pl.read_parquet_metadata(made.files["brain"][0])["melisma"])["strands"]
    export(at / "s.zarr", at / "all.parquet", to="parquet")
    table = pl.read_parquet(at / "all.parquet")
    assert table.select("sample", "contig", "position", "methylated", "coverage").rows() == [
        ("liver", "chr1", 9, 3, 10),
        ("liver", "chr1", 10, 4, 4),
        ("brain", "chr1", 10, 2, 8),
        ("brain", "chr2", 4, 0, 2),
    ]
    export(at / "b.zarr", at / "betas.parquet", to="parquet")
    table = pl.read_parquet(at / "betas.parquet")
    assert table["beta"].to_list() == pytest.approx([0.1, 0.5, 0.0, 1.0, 0.3333333])


def probes():
    return dataset(
        {"contig": [-1, -1], "position": [-1, -1], "probe": ["cg00000029", "cg00000108"]},
        {"beta": np.array([[0.1, 0.25], [np.nan, 1.0]], np.float32)},
        {"sample": ["a", "b"]},
        contigs=[],
    )


def test_probes_without_a_place(at):
    write(probes(), at / "p.zarr")
    made = export(at / "p.zarr", at / "o", to="matrix", bgzip=False)
    assert made.files["a"][0].read_text() == (
        "probe\ta\tb\ncg00000029\t0.1\t0.25\ncg00000108\tNA\t1.0\n"
    )
    export(at / "p.zarr", at / "p.parquet", to="parquet")
    table = pl.read_parquet(at / "p.parquet")
    assert table.select("sample", "contig", "position", "probe", "beta").rows()[1:] == [
        ("b", None, None, "cg00000029", 0.25),
        ("b", None, None, "cg00000108", 1.0),
    ]
    with pytest.raises(MelismaError, match="probes of this store have no positions"):
        export(at / "p.zarr", at / "q", to="bigwig")


def test_a_matrix_of_positions(at):
    made = export(at / "b.zarr", at / "o", to="matrix")
    text = gzip.decompress(made.files["liver"][0].read_bytes()).decode()
    assert text == (
        "chr\tpos\tliver\tbrain\nchr1\t10\t0.1\t0.5\nchr1\t11\t0.0\tNA\nchr2\t5\t1.0\t0.3333333\n"
    )
    counts = export(at / "s.zarr", at / "p", to="matrix", bgzip=False)
    assert counts.files["liver"][0].read_text() == (
        "chr\tpos\tstrand\tliver\tbrain\nchr1\t10\t+\t0.3\tNA\nchr1\t11\t-\t1.0\t0.25\n"
        "chr2\t5\t+\tNA\t0.0\n"
    )
    assert read_sheet_text(at / "p") == [
        "liver\tmatrix.tsv\tmatrix\t3\n",
        "brain\tmatrix.tsv\tmatrix\t4.5\n",
    ]


def test_a_file_of_all_samples_is_printed_once(at, capsys):
    for to, out in (("matrix", "o"), ("parquet", "one.parquet")):
        with pytest.raises(SystemExit) as ended:
            main(["export", str(at / "s.zarr"), "--to", to, "-o", str(at / out)])
        assert not ended.value.code
        shown = capsys.readouterr().out
        assert "2 samples, 1 file" in shown
        assert shown.count("matrix.tsv.gz" if to == "matrix" else "one.parquet") == 1
        assert "liver" in shown
        assert "brain" in shown


def read_sheet_text(folder):
    return (folder / "samples.tsv").read_text().splitlines(keepends=True)[1:]


def test_anndata_dense(at):
    anndata = pytest.importorskip("anndata")
    export(at / "s.zarr", at / "s.h5ad", to="anndata")
    read = anndata.read_h5ad(at / "s.h5ad")
    np.testing.assert_array_equal(read.X, np.array([[0.3, 1, np.nan], [np.nan, 0.25, 0]], "f4"))
    np.testing.assert_array_equal(read.layers["coverage"], SEEN.T)
    np.testing.assert_array_equal(read.layers["methylated"], MARKED.T)
    assert list(read.var_names) == ["chr1:9+m", "chr1:10-m", "chr2:4+m"]
    assert list(read.var["contig"]) == ["chr1", "chr1", "chr2"]
    assert list(read.var["position"]) == [9, 10, 4]
    assert list(read.var["context"]) == ["CG"] * 3
    assert read.obs["age"].to_dict() == {"liver": 3.0, "brain": 4.5}


def test_anndata_sparse_keeps_levels_of_zero(at):
    anndata = pytest.importorskip("anndata")
    many = dataset(
        {"contig": np.zeros(9, int), "position": np.arange(9)},
        {"methylated": np.zeros((9, 3), np.uint16), "coverage": np.eye(9, 3, dtype=np.uint16)},
        {"sample": ["a", "b", "c"]},
        contigs=["chr1"],
    )
    export(many, at / "s.h5ad", to="anndata")
    read = anndata.read_h5ad(at / "s.h5ad")
    assert read.X.format == "csr"
    # A stored level of 0 is one that was seen.
    assert read.X.nnz == read.layers["coverage"].nnz == 3
    assert read.layers["coverage"].toarray().tolist() == np.eye(9, 3).T.tolist()
    export(many, at / "t.h5ad", to="anndata", samples=["b"], region="chr1:0-2")
    assert anndata.read_h5ad(at / "t.h5ad").X.tolist()[0][1] == 0


def test_an_anndata_that_memory_cannot_hold_is_refused(at, monkeypatch):
    pytest.importorskip("anndata")
    from melisma.export import anndata as module

    monkeypatch.setattr(module, "MOST_BYTES", 48)
    with pytest.raises(MelismaError, match="choose a --region or fewer samples"):
        export(at / "s.zarr", at / "s.h5ad", to="anndata")
    assert not (at / "s.h5ad").exists()


def test_groups_of_samples_give_the_same_files(at, monkeypatch):
    from melisma.export import _spool

    whole = export(at / "s.zarr", at / "o", to="parquet")
    monkeypatch.setattr(_spool, "GROUP_BYTES", 1)
    apart = export(at / "s.zarr", at / "p", to="parquet")
    for sample in ("liver", "brain"):
        one, other = (pl.read_parquet(made.files[sample][0]) for made in (whole, apart))
        assert one.equals(other)


# File names, sheets, folders.


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8, unique=True))
def test_file_names_are_safe_and_never_collide(names):
    stems = file_stems(names)
    assert len({stem.lower() for stem in stems}) == len(names)
    for stem in stems:
        assert stem
        assert stem[0] not in ".-"
        assert not set(stem) & set('/\\:*?"<>|\0 \n')


def test_names_that_are_paths_stay_in_the_folder(at):
    made = small().assign_coords(sample=np.array(["../x", ".."], dtype=np.dtypes.StringDType()))
    done = export(made, at / "o", to="dss")
    assert [file.name for files in done.files.values() for file in files] == [
        "_x.dss.txt.gz",
        "sample.dss.txt.gz",
    ]


def test_a_sample_whose_name_begins_with_a_hash_is_no_comment(tmp_path):
    (tmp_path / "x").touch()
    (tmp_path / "samples.tsv").write_text(sheet_text({"sample": ["#1"], "path": ["x"]}))
    assert read_sheet(tmp_path / "samples.tsv")["sample"].to_list() == ["#1"]


def test_an_earlier_export_is_replaced_only_when_asked(at):
    export(at / "s.zarr", at / "o", to="dss")
    with pytest.raises(MelismaError, match="holds an earlier export: pass --overwrite"):
        export(at / "s.zarr", at / "o", to="allc")
    export(at / "s.zarr", at / "o", to="allc", overwrite=True)
    assert not list((at / "o").glob("*.dss*"))
    (at / "mine").mkdir()
    (at / "mine" / "thesis.txt").touch()
    with pytest.raises(MelismaError, match="files that are not from an export"):
        export(at / "s.zarr", at / "mine", to="allc", overwrite=True)
    with pytest.raises(MelismaError, match="is a file: name a folder"):
        export(at / "s.zarr", at / "mine" / "thesis.txt", to="allc")
    with pytest.raises(MelismaError, match="There is no folder"):
        export(at / "s.zarr", at / "none" / "o", to="allc")
    export(at / "s.zarr", at / "x.parquet", to="parquet")
    with pytest.raises(MelismaError, match=r"x\.parquet is there: pass --overwrite"):
        export(at / "s.zarr", at / "x.parquet", to="parquet")


def test_what_a_killed_export_left_is_cleared(at):
    (at / "o.part").mkdir()
    (at / "o.part" / "liver.dss.txt.gz").write_text("half")
    export(at / "s.zarr", at / "o", to="dss")
    assert sorted(path.name for path in at.iterdir()) == ["b.zarr", "o", "s.zarr"]


def test_the_record_tells_what_was_written(at):
    with noted() as notes:
        made = export(at / "s.zarr", at / "o", to="dss")
    record = json.loads((at / "o" / "export.json").read_text())
    assert record["rows"] == made.rows == {"liver": 2, "brain": 2}
    assert record["bytes"]["liver"] == (at / "o" / "liver.dss.txt.gz").stat().st_size
    assert record["notes"] == list(made.notes) == notes
    assert "DSS text has no strand" in notes[0]


# The command line.


def test_the_verb(at, capsys):
    with pytest.raises(SystemExit) as done:
        main(["export", str(at / "s.zarr"), "--to", "dss", "-o", str(at / "o"), "--plain",
              "--sample", "brain", "--region", "chr2"])  # fmt: skip
    assert done.value.code == 0
    assert "1 call of 1 sample, 1 file" in capsys.readouterr().out
    assert (at / "o" / "brain.dss.txt").read_text() == "chr\tpos\tN\tX\nchr2\t5\t2\t0\n"


def test_a_full_disk_leaves_nothing(at):
    n = 200_000
    big = dataset(
        {"contig": np.zeros(n, int), "position": np.arange(n) * 7},
        {"methylated": np.zeros((n, 1), np.uint16), "coverage": np.ones((n, 1), np.uint16)},
        {"sample": ["s"]},
        contigs=["chr1"],
    )
    write(big, at / "big.zarr")
    limit = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
    (at / "sizes").write_text("chr1 99999999\n")
    for to, extra in (("bedmethyl", []), ("parquet", []), ("bigwig", ["--sizes", at / "sizes"])):
        before = sorted(at.iterdir())
        code = limit + "from melisma.cli import main; main()"
        command = [sys.executable, "-c", code, "export", at / "big.zarr", "--to", to, "-o"]
        done = subprocess.run(
            [*map(str, command), str(at / "o"), *map(str, extra)], capture_output=True, text=True
        )
        assert done.returncode == 1, (to, done.stderr)
        assert "disk" in done.stderr
        assert sorted(at.iterdir()) == before, to


def test_ctrl_c_leaves_nothing(at):
    n = 3_000_000
    big = dataset(
        {"contig": np.zeros(n, int), "position": np.arange(n) * 7},
        {"methylated": np.zeros((n, 4), np.uint16), "coverage": np.ones((n, 4), np.uint16)},
        {"sample": list("abcd")},
        contigs=["chr1"],
    )
    write(big, at / "big.zarr")
    before = sorted(at.iterdir())
    code = "from melisma.cli import main; main()"
    command = [sys.executable, "-c", code, "export", at / "big.zarr", "--to", "bedmethyl"]
    command = [*map(str, command), "-o", str(at / "o")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        work = at / "o.part" / "a.bed.gz"
        while not (work.exists() and work.stat().st_size > 1000):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        process.wait()
        assert process.returncode == 130
    assert sorted(at.iterdir()) == before


def test_every_format_has_a_row_in_the_docs():
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    for form in EXPORTS:
        assert f"| `{form.name}` |" in page

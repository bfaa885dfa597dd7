"""BED files: every trap as a literal."""

import gzip
from contextlib import nullcontext

import polars as pl
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma import _text_rows, progress
from melisma.bed import read_bed
from melisma.errors import MelismaError


@pytest.fixture
def bed(tmp_path):
    def write(text: str | bytes, name: str = "toy.bed"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


class Notes:
    def __init__(self):
        self.said = []

    def stage(self, name, total):
        return nullcontext(lambda _: None)

    def note(self, text):
        self.said.append(text)


def test_three_columns(bed):
    table = read_bed(bed("chr1\t0\t10\nchr2\t5\t6\n"))
    assert dict(table.schema) == {
        "contig": pl.String,
        "start": pl.Int64,
        "end": pl.Int64,
        "strand": pl.Int8,
        "name": pl.String,
        "score": pl.Float64,
    }
    assert table.rows() == [
        ("chr1", 0, 10, 0, "chr1:0-10", None),
        ("chr2", 5, 6, 0, "chr2:5-6", None),
    ]


TWELVE = "chr20\t100\t500\tNM_1\t0\t-\t120\t480\t0\t2\t50,60,\t0,340,"


@pytest.mark.parametrize("columns", range(3, 13))
def test_any_number_of_columns(columns, bed):
    (row,) = read_bed(bed("\t".join(TWELVE.split("\t")[:columns]))).rows()
    assert row == (
        "chr20",
        100,
        500,
        -1 if columns >= 6 else 0,
        "NM_1" if columns >= 4 else "chr20:100-500",
        0.0 if columns >= 5 else None,
    )


def test_rows_of_different_widths_and_more_columns_than_bed_has(bed):
    table = read_bed(
        bed("c\t1\t2\n" + "\t".join([*TWELVE.split("\t"), *"abcdef"]) + "\nc\t3\t4\tx\n")
    )
    assert table["name"].to_list() == ["c:1-2", "NM_1", "x"]


def test_comments_tracks_blanks_and_line_ends(bed):
    text = (
        'browser position chr1:1-100\r\ntrack name=a description="x\ty"\r\n#c\r\n\r\n'
        "tracker\t1\t2\r\n  \r\ntrack type=bed\r\nchr1\t3\t4\tpeak \t.\t+"
    )
    assert read_bed(bed(text)).rows() == [
        ("tracker", 1, 2, 0, "tracker:1-2", None),
        ("chr1", 3, 4, 1, "peak", None),
    ]


def test_spaces_separate_where_the_first_row_has_no_tab(bed):
    assert read_bed(bed("chr1 1   5 a 3 +\nchr1  7 9\n")).rows() == [
        ("chr1", 1, 5, 1, "a", 3.0),
        ("chr1", 7, 9, 0, "chr1:7-9", None),
    ]
    assert read_bed(bed("chr1\t1\t5\ta name\n"))["name"][0] == "a name"


@pytest.mark.parametrize("pack", ["gzip", "bgzip", "bom"])
def test_packings(pack, bed, tmp_path):
    text = "chr1\t1\t5\nchr2\t7\t9\n"
    path = bed(text)
    if pack == "gzip":
        path = bed(gzip.compress(text.encode()))
    elif pack == "bgzip":
        pysam.tabix_compress(str(path), str(tmp_path / "x.bed.gz"))
        path = tmp_path / "x.bed.gz"
    else:
        path = bed(b"\xef\xbb\xbf" + text.encode())
    assert read_bed(path).select("contig", "start", "end").rows() == [
        ("chr1", 1, 5),
        ("chr2", 7, 9),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chr1\t1\t2\nchr1\t5\t3\n", r"toy\.bed line 2: start 5 is after end 3\."),
        ("#c\n\nchr1\t-1\t3\n", r"line 3: the start is -1, and BED counts from 0"),
        ("chr1\t7\t7\n", r"line 1: start and end are both 7, which is no base in BED"),
        ("chrom\tstart\tend\nchr1\t1\t2\n", r"line 1: .*'start' and 'end'.*put a # before"),
        ("chr1\t1.5\t3\n", r"line 1: the start and end are '1\.5' and '3'"),
        ("chr1\t1e3\t3000\n", r"line 1: the start and end are '1e3'"),
        ("chr1\t1\t2\nchr1\t1\n", r"line 2: a BED row has contig, start and end"),
        ("\t1\t2\n", r"line 1: a BED row has contig"),
        ("chr1,1,2\n", r"line 1: a BED row has contig"),
        ("chr1\t1\t10\t10\nchr1\t21\t25\t5\n", r"counts from 1, as its fourth column"),
        ("", r"toy\.bed is empty"),
        ("#only\ntrack x\n", r"has no rows"),
        (b"BZh91AY", r"compressed with bzip2"),
        (b"chr1\0\1\t2", r"is not text"),
        (gzip.compress(b"chr1\t1\t2\n" * 9000)[:-20], r"truncated or damaged"),
    ],
)
def test_broken_files_are_refused_in_a_sentence(text, sentence, bed):
    with pytest.raises(MelismaError, match=sentence) as found:
        read_bed(bed(text))
    assert "\n" not in str(found.value)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(MelismaError, match="There is no file at"):
        read_bed(tmp_path / "none.bed")
    with pytest.raises(MelismaError, match="is a folder"):
        read_bed(tmp_path)


def test_contigs_are_renamed_and_said(bed):
    path = bed("1\t1\t2\nMT\t5\t6\nscaffold7\t1\t3\n")
    notes = Notes()
    with progress.reporting(notes):
        table = read_bed(path, contigs=["chr1", "chrM"])
    assert table["contig"].to_list() == ["chr1", "chrM", "scaffold7"]
    assert table["name"][0] == "chr1:1-2"
    assert notes.said == [f"Contigs renamed in {path}: '1' is 'chr1', 'MT' is 'chrM'."]
    with pytest.raises(MelismaError, match="no contig in common with chr9"):
        read_bed(path, contigs=["chr9"])


def test_lengths_are_checked(bed):
    path = bed("#\n1\t1\t2\n1\t5\t11\nother\t1\t99\n")
    assert len(read_bed(path, contigs={"chr1": 11})) == 3
    with pytest.raises(MelismaError, match=r"line 3: it ends at 11 and chr1 has 10 bases"):
        read_bed(path, contigs={"chr1": 10})


def test_line_numbers_go_on_over_blocks(bed, monkeypatch):
    monkeypatch.setitem(_text_rows.read_lines.__kwdefaults__,
                        "block_bytes", 7)  # fmt: skip
    rows = "".join(f"chr1\t{k}\t{k + 1}\r\n" for k in range(50))
    assert read_bed(bed(rows))["start"].to_list() == list(range(50))
    with pytest.raises(MelismaError, match="line 51: start 5 is after end 3"):
        read_bed(bed(rows + "chr1\t5\t3"))


WORD = st.text("abcdefXYZ:_-", min_size=1, max_size=6)
ROW = st.tuples(WORD, st.integers(0, 10**9), st.integers(1, 10**6), WORD, st.sampled_from("+-."))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(ROW, min_size=1, max_size=20), end=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(rows, end, tmp_path_factory):
    path = tmp_path_factory.mktemp("bed") / "x.bed"
    lines = [f"{c}\t{s}\t{s + n}\t{name}\t0\t{strand}" for c, s, n, name, strand in rows]
    path.write_bytes(end.join(lines).encode())
    assert read_bed(path).drop("score").rows() == [
        (c, s, s + n, {"+": 1, "-": -1, ".": 0}[strand], name) for c, s, n, name, strand in rows
    ]

"""Calls from Parquet tables."""

import polars as pl
import pytest

from melisma.calls import ingest, sniff
from melisma.errors import MelismaError
from melisma.methylome import open_methylome

ROWS = {
    "contig": ["chr1", "chr1", "chr2", "chr2"],
    "position": [4, 9, 0, 3],
    "strand": [1, -1, 1, 1],
    "mark": ["m", "m", "m", "h"],
    "context": ["CG", "CHH", "unknown", "CG"],
    "methylated": [1, 0, 3, 2],
    "coverage": [2, 0, 3, 70_000],
}


def make(folder, rows, *, samples=("a",), metadata=None, out="s.zarr", **options):
    table = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
    table.write_parquet(folder / "c.parquet", row_group_size=3, metadata=metadata)
    lines = ["sample,path", *(f"{name},c.parquet" for name in samples)]
    (folder / "s.csv").write_text("\n".join(lines) + "\n")
    summary = ingest(folder / "s.csv", folder / out, **options)
    return open_methylome(folder / out).load(), summary


def test_a_table_is_read_with_strands_marks_and_contexts(tmp_path):
    made, summary = make(tmp_path, ROWS)
    assert made["position"].values.tolist() == [4, 0, 3]
    assert made["contig"].values.tolist() == [0, 1, 1]
    assert made["strand"].values.tolist() == [1, 1, 1]
    assert [made.attrs["marks"][k] for k in made["mark"].values] == ["m", "m", "h"]
    assert made["context"].values.tolist() == [0, 3, 0]
    assert made["methylated"].values.tolist() == [[1], [3], [2]]
    assert made["coverage"].values.tolist() == [[2], [3], [70_000]]
    assert summary.drops == {"a": {"coverage of 0": 1}}
    found = sniff(tmp_path / "c.parquet")
    assert found.format.name == "parquet"


def test_strands_may_be_words_and_columns_absent(tmp_path):
    words = pl.DataFrame(ROWS).with_columns(pl.Series("strand", ["+", "-", "+", "+"]))
    made, _ = make(tmp_path, words.drop("mark", "context"), mark="5hmC")
    assert made["strand"].values.tolist() == [1, 1, 1]
    assert made.attrs["marks"] == ["h"]


def test_a_mark_is_chosen(tmp_path):
    made, _ = make(tmp_path, ROWS, mark="h")
    assert made["position"].values.tolist() == [3]


def test_unsorted_rows_over_several_row_groups_are_sorted(tmp_path):
    made, _ = make(tmp_path, pl.DataFrame(ROWS).reverse())
    assert made["position"].values.tolist() == [4, 0, 3]
    assert made["context"].values.tolist() == [0, 3, 0]


def test_one_file_holds_several_samples(tmp_path):
    table = pl.DataFrame(ROWS | {"sample": ["a", "a", "b", "a"]}).drop("mark")
    made, _ = make(tmp_path, table, samples=("b", "a"))
    assert made["methylated"].values.tolist() == [[0, 1], [3, 0], [0, 2]]
    with pytest.raises(MelismaError, match="no rows of sample 'c'; its samples are a, b"):
        make(tmp_path, table, samples=("a", "c"), out="t.zarr")
    with pytest.raises(MelismaError, match="name the same file"):
        make(tmp_path, table.drop("sample"), samples=("a", "b"), out="t.zarr")


def test_merged_strands_are_told_by_the_metadata(tmp_path):
    table = pl.DataFrame(ROWS).with_columns(pl.lit(0, pl.Int8).alias("strand"))
    made, _ = make(tmp_path, table, metadata={"melisma": '{"strands": "merged"}'})
    assert made.attrs["strands"] == "merged"
    other, _ = make(tmp_path, table, out="t.zarr")
    assert other.attrs["strands"] == "unknown"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"methylated": [3, 0, 3, 2]}, "row 1 has contig chr1, position 4, methylated 3, cov"),
        ({"position": [4, 9, -1, 3]}, "row 3 has contig chr2, position -1"),
        ({"contig": ["chr1", None, "chr2", "chr2"]}, "row 2 has contig None"),
        ({"coverage": [2.0, 0.5, 3, 4]}, "the column coverage holds Float64"),
        ({"strand": ["+", "x", "+", "+"]}, "a strand 'x'"),
        ({"mark": ["m", "q", "m", "m"]}, "'q' is not supported"),
        ({"position": [4, 4, 0, 3], "strand": [1, 1, 1, 1], "coverage": [2, 2, 3, 4]},
         "chr1:4 more than once"),
    ],
)  # fmt: skip
def test_a_broken_table_is_refused(tmp_path, change, words):
    with pytest.raises(MelismaError, match=words):
        make(tmp_path, ROWS | change)
    assert not list(tmp_path.glob("s.zarr*"))


def test_other_tables_are_refused(tmp_path):
    with pytest.raises(
        MelismaError, match=r"lacks the columns methylated, coverage.*levels \(beta\)"
    ):
        make(tmp_path, pl.DataFrame(ROWS).drop("methylated", "coverage").with_columns(beta=0.5))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(MelismaError, match="cannot be read as Parquet"):
        ingest(tmp_path / "s.csv", tmp_path / "s.zarr")

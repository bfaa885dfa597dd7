"""Samples appended, removed, renamed and annotated: as if the store had been made that way."""

import copy
import os

import numpy as np
import polars as pl
import pytest
from calls_files import bed, cov, noted, put, sites
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melisma import methylome as m
from melisma.calls import append, ingest
from melisma.errors import MelismaError
from melisma.methylome import open_methylome
from melisma.samples import annotate_samples, remove_samples, rename_samples

GENOME = ">chr1\nAACGAACGAACGACAGTATTN\n>chr2\nACGT\n"


def sheet(folder, texts, names, **columns):
    """A sheet of files with these texts, written as <name>.txt."""
    files = [
        str(put(folder / f"{name}.txt", text)) for name, text in zip(names, texts, strict=True)
    ]
    return pl.DataFrame({"sample": list(names), "path": files} | columns)


def loaded(path):
    """A store in memory, without the hash of what made it."""
    found = open_methylome(path).load()
    attrs = copy.deepcopy(found.attrs)
    attrs.get("ingest", {}).pop("inputs", None)
    return found.assign_attrs(attrs)


def same(first, second):
    first, second = loaded(first), loaded(second)
    m.validate(first)
    for name in first.variables:
        assert first[name].dtype == second[name].dtype, name
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=str(name))
    assert first.attrs == second.attrs
    assert first.identical(second)


def test_new_samples_are_merged_site_by_site(tmp_path):
    out = tmp_path / "s.zarr"
    ingest(sheet(tmp_path, [cov((5, 1, 1), (9, 2, 0))], "a"), out)
    text = (
        cov((1, 1, 0), (9, 0, 3)) + cov((4, 1, 0), contig="chr10") + cov((2, 0, 1), contig="chr0")
    )
    done = append(out, sheet(tmp_path, [text], "b"))
    assert (done.samples, done.sites, done.new_sites, done.rows) == (2, 5, 3, 4)
    found = open_methylome(out)
    assert sites(found) == [
        ("chr0", 1, 0, "m", "unknown", [(0, 0), (0, 1)]),
        ("chr1", 0, 0, "m", "unknown", [(0, 0), (1, 1)]),
        ("chr1", 4, 0, "m", "unknown", [(1, 2), (0, 0)]),
        ("chr1", 8, 0, "m", "unknown", [(2, 2), (0, 3)]),
        ("chr10", 3, 0, "m", "unknown", [(0, 0), (1, 1)]),
    ]
    assert found.attrs["contig_offsets"] == [0, 1, 4, 5]
    assert list(found.attrs["ingest"]["samples"]) == ["a", "b"]
    assert not m.part_folder(out).exists()


rows = st.lists(
    st.tuples(
        st.sampled_from(["chr1", "chr2", "chr10", "chrX"]),
        st.integers(0, 40),
        st.sampled_from("mha"),
        st.sampled_from("+-"),
        st.integers(1, 90_000) | st.integers(1, 9),
        st.floats(0, 1),
    ),
    min_size=1,
    max_size=40,
    unique_by=lambda row: row[:4],
)


def bedmethyl(drawn, wide):
    return "".join(
        bed((p, code, strand, n, k := round(share * n), n - k, 0), contig=contig)
        for contig, p, code, strand, depth, share in drawn
        for n in [depth if wide else min(depth, 60_000)]
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(rows, min_size=2, max_size=5), st.integers(1, 4), st.booleans(), st.integers(0, 2))
def test_append_equals_ingest_and_remove_undoes_it(tmp_path_factory, drawn, cut, wide, chunk):
    folder = tmp_path_factory.mktemp("x")
    cut = min(cut, len(drawn) - 1)
    names = "abcde"[: len(drawn)]
    texts = [bedmethyl(each, wide) for each in drawn]
    both = sheet(folder, texts, names, age=[float(k) for k in range(len(names))], cell=list(names))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(m, "CHUNK_SITES", ((4, 4), (16, 16), (1 << 14, 1 << 18))[chunk])
        ingest(both, folder / "whole.zarr")
        ingest(both[:cut], folder / "first.zarr")
        ingest(both[:cut], folder / "s.zarr")
        append(folder / "s.zarr", both[cut:])
        same(folder / "s.zarr", folder / "whole.zarr")
        removed = remove_samples(folder / "s.zarr", list(names[cut:]))
        same(folder / "s.zarr", folder / "first.zarr")
        whole, first = (open_methylome(folder / f"{n}.zarr").sizes for n in ("whole", "first"))
        assert removed == (cut, first["site"], whole["site"] - first["site"])
        rename_samples(folder / "s.zarr", {"a": "z"})
        rename_samples(folder / "s.zarr", {"z": "a"})
        same(folder / "s.zarr", folder / "first.zarr")
    assert sorted(f for f in os.listdir(folder / "s.zarr") if f[0] == "v") == ["v5"]


@pytest.mark.parametrize("merge_strands", [False, True])
def test_the_genome_and_the_options_are_those_of_the_store(tmp_path, merge_strands):
    fasta = put(tmp_path / "g.fa", GENOME)
    texts = [cov((3, 9, 1), (4, 8, 1), (14, 0, 7)), cov((8, 2, 3), (4, 1, 1))]
    texts[1] += cov((2, 1, 0), contig="2")
    both = sheet(tmp_path, texts, "ab")
    options = {"genome": fasta, "merge_strands": merge_strands}
    ingest(both, tmp_path / "whole.zarr", **options)
    ingest(both[:1], tmp_path / "s.zarr", **options)
    append(tmp_path / "s.zarr", both[1:])
    same(tmp_path / "s.zarr", tmp_path / "whole.zarr")
    assert open_methylome(tmp_path / "s.zarr").attrs["contigs"] == ["chr1", "chr2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"merge_strands": False}, "was made with --merge-strands on, and off is asked for"),
        ({"mark": "5hmC"}, "was made with --mark not given, and h is asked for"),
        ({"min_probability": 0.5}, "made with --min-probability 0.0, and 0.5 is asked for"),
        ({"genome": "other.fa"}, "not the genome g .*its chr2 has 5 bases, and 4 are expected"),
    ],
)
def test_options_that_contradict_the_store_are_refused(tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    fasta = put(tmp_path / "g.fa", GENOME)
    put(tmp_path / "other.fa", GENOME.replace("ACGT\n", "ACGTA\n"))
    texts = [cov((3, 9, 1)), cov((4, 8, 1))]
    both = sheet(tmp_path, texts, "ab")
    ingest(both[:1], tmp_path / "s.zarr", genome=fasta, merge_strands=True)
    before = loaded(tmp_path / "s.zarr")
    with pytest.raises(MelismaError, match=words):
        append(tmp_path / "s.zarr", both[1:], **options)
    assert loaded(tmp_path / "s.zarr").identical(before)
    append(tmp_path / "s.zarr", both[1:], genome=fasta, merge_strands=True)


def test_a_genome_that_is_gone_or_new_is_refused(tmp_path):
    fasta = put(tmp_path / "g.fa", GENOME)
    both = sheet(tmp_path, [cov((3, 9, 1)), cov((4, 8, 1))], "ab")
    ingest(both[:1], tmp_path / "without.zarr")
    with pytest.raises(MelismaError, match="was made without a genome: leave --genome out"):
        append(tmp_path / "without.zarr", both[1:], genome=fasta)
    ingest(both[:1], tmp_path / "s.zarr", genome=fasta)
    fasta.rename(tmp_path / "moved.fa")
    with pytest.raises(MelismaError, match="compared with genome g, and .* is not there: pass"):
        append(tmp_path / "s.zarr", both[1:])
    append(tmp_path / "s.zarr", both[1:], genome=tmp_path / "moved.fa")
    assert open_methylome(tmp_path / "s.zarr").sizes["sample"] == 2


def test_what_does_not_fit_the_store_is_refused(tmp_path):
    texts = [cov((5, 1, 1)), cov((5, 1, 1)), bed((4, "m", "+", 4, 1, 3, 0))]
    made = sheet(tmp_path, texts, "abc")
    out = tmp_path / "s.zarr"
    ingest(made[:1], out)
    with pytest.raises(MelismaError, match="has a sample 'a' already: list only new samples"):
        append(out, made[:2])
    with pytest.raises(MelismaError, match="strands 'unknown' and sample c 'separate'"):
        append(out, made[2:])
    assert open_methylome(out).sizes == {"site": 1, "sample": 1}
    with pytest.raises(MelismaError, match="There is no methylome store"):
        append(tmp_path / "none.zarr", made[:1])
    levels = m.dataset(
        {"contig": [0], "position": [4]},
        {"beta": np.array([[0.5]], dtype=np.float32)},
        {"sample": ["x"]},
        contigs=["chr1"],
    )
    m.write(levels, tmp_path / "beta.zarr")
    with pytest.raises(MelismaError, match="holds levels .beta. without counts"):
        append(tmp_path / "beta.zarr", made[:1])
    assert sorted(f for f in os.listdir(tmp_path) if "part" in f) == []


def test_ingest_of_the_first_sheet_says_that_the_store_has_more(tmp_path):
    both = sheet(tmp_path, [cov((5, 1, 1)), cov((6, 1, 1))], "ab")
    ingest(both[:1], tmp_path / "s.zarr")
    append(tmp_path / "s.zarr", both[1:])
    with pytest.raises(MelismaError, match="has 1 samples that the sheet has not, such as 'b'"):
        ingest(both[:1], tmp_path / "s.zarr")
    with pytest.raises(MelismaError, match="was made from other files or options"):
        ingest(both, tmp_path / "s.zarr")


def test_counts_are_widened_when_a_new_sample_needs_it(tmp_path):
    deep = cov((5, 70_000, 1), (9, 1, 1))
    both = sheet(tmp_path, [cov((5, 1, 1)), deep], "ab")
    out = tmp_path / "s.zarr"
    ingest(both[:1], out)
    assert open_methylome(out)["coverage"].dtype == np.uint16
    append(out, both[1:])
    found = open_methylome(out)
    assert found["coverage"].dtype == np.uint32
    assert found["coverage"].values.tolist() == [[2, 70_001], [0, 2]]
    remove_samples(out, ["b"])
    assert open_methylome(out)["coverage"].dtype == np.uint16


def test_columns_of_either_sheet_are_kept(tmp_path):
    texts = [cov((5, 1, 1)), cov((5, 2, 1)), cov((5, 3, 1))]
    out = tmp_path / "s.zarr"
    ingest(sheet(tmp_path, texts[:2], "ab", age=[3.0, 4.0], cell=["t", "b"], run=["x", "y"]), out)
    append(out, sheet(tmp_path, texts[2:], "c", cell=["k"], age=["NA"], weight=[7.5]))
    found = m.sample_sheet(open_methylome(out))
    assert list(found) == ["sample", "age", "cell", "run", "weight"]
    assert found["age"][:2] == [3.0, 4.0]
    assert np.isnan(found["age"][2])
    assert found["cell"] == ["t", "b", "k"]
    assert found["run"] == ["x", "y", ""]
    assert np.isnan(found["weight"][:2]).all()
    assert found["weight"][2] == 7.5
    for column, words in (([1.0], "words in the store and numbers in the sheet"),):
        with pytest.raises(MelismaError, match=f"column 'cell' holds {words}"):
            append(out, sheet(tmp_path, texts[2:], "d", cell=column))


def test_removing(tmp_path):
    texts = [cov((5, 1, 1)) + cov((1, 1, 1), contig="chr2"), cov((5, 1, 1)), cov((9, 1, 1))]
    out = tmp_path / "s.zarr"
    ingest(sheet(tmp_path, texts, "abc"), out)
    assert remove_samples(out, ["a"]) == (2, 2, 1)
    found = open_methylome(out)
    assert found.attrs["contigs"] == ["chr1"]
    assert found.attrs["contig_offsets"] == [0, 2]
    assert list(found.attrs["ingest"]["samples"]) == ["b", "c"]
    with pytest.raises(MelismaError, match="no sample 'a', 'q'; it has 'b', 'c'"):
        remove_samples(out, ["b", "a", "q"])
    with pytest.raises(MelismaError, match="All 2 samples .* would be removed"):
        remove_samples(out, ["b", "c"])
    with pytest.raises(MelismaError, match="No sample to remove"):
        remove_samples(out, [])
    assert open_methylome(out).sizes == {"site": 2, "sample": 2}


def test_removing_from_levels_of_probes(tmp_path):
    out = tmp_path / "s.zarr"
    nan = np.nan
    beta = np.array([[0.5, nan, 0], [nan, nan, 0.25], [nan, 1, nan]], dtype=np.float32)
    levels = m.dataset(
        {"contig": [-1] * 3, "position": [-1] * 3, "probe": ["cg1", "cg2", "cg3"]},
        {"beta": beta},
        {"sample": ["x", "y", "z"]},
        contigs=[],
    )
    m.write(levels, out)
    assert remove_samples(out, ["z"]) == (2, 2, 1)
    found = open_methylome(out)
    assert found["probe"].values.tolist() == ["cg1", "cg3"]
    np.testing.assert_array_equal(found["beta"].values, [[0.5, nan], [nan, 1]])
    assert found.attrs["contig_offsets"] == [2]


def inodes(path):
    """The files of the arrays along `site`, of the live generation."""
    (live,) = path.glob("v*")
    arrays = [live / name for name in (*m.SITE_ARRAYS, "methylated", "coverage")]
    return {
        f"{array.name}/{file.relative_to(array)}": file.stat().st_ino
        for array in arrays
        for file in array.rglob("*")
        if file.is_file()
    }


def test_renaming_and_annotating_leave_the_reads_files_alone(tmp_path):
    out = tmp_path / "s.zarr"
    ingest(sheet(tmp_path, [cov((5, 1, 1)), cov((9, 1, 1))], "ab", age=[1.0, 2.0]), out)
    files = inodes(out)
    assert rename_samples(out, {"a": "b", "b": "a"}) == 2
    found = open_methylome(out).load()
    assert found["sample"].values.tolist() == ["b", "a"]
    assert found.attrs["ingest"]["samples"]["b"]["file"] == "a.txt"
    with noted():
        done = annotate_samples(
            out, {"sample": ["b"], "cell": ["t"], "age": [7.0], "dose": [1.5]}, drop=()
        )
    assert done == (["cell", "dose"], ["age"], [], ["a"])
    found = m.sample_sheet(open_methylome(out))
    assert list(found) == ["sample", "age", "cell", "dose"]
    assert found["cell"] == ["t", ""]
    assert np.isnan(found["age"][1])
    assert annotate_samples(out, drop=["age", "dose"]).dropped == ["age", "dose"]
    assert list(m.sample_sheet(open_methylome(out))) == ["sample", "cell"]
    assert inodes(out) == files
    assert rename_samples(out, {"a": "a"}) == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: rename_samples(s, {"q": "b"}), "no sample 'q'; it has 'a', 'b'"),
        (lambda s: rename_samples(s, {"a": "b"}), "'a' and 'b' would both be called 'b'"),
        (lambda s: rename_samples(s, {"a": " "}), "new name is empty"),
        (lambda s: annotate_samples(s, {"sample": ["q"], "x": [1]}), "no sample 'q'"),
        (lambda s: annotate_samples(s, drop=["size"]), "no column 'size' to drop; it has age"),
        (lambda s: annotate_samples(s, drop=["sample"]), "no column 'sample' to drop"),
    ],
)
def test_bad_names_and_columns_are_refused(tmp_path, change, words):
    out = tmp_path / "s.zarr"
    ingest(sheet(tmp_path, [cov((5, 1, 1)), cov((9, 1, 1))], "ab", age=[1.0, 2.0]), out)
    before = loaded(out)
    with pytest.raises(MelismaError, match=words):
        change(out)
    assert loaded(out).identical(before)
    assert not m.part_folder(out).exists()

import json
import os

import numpy as np
import pytest

from melisma import methylome as m
from melisma.errors import MelismaError


def small(**changes):
    sites = {
        "contig": [0, 0, 0, 1],
        "position": [5, 5, 9, 2],
        "strand": [-1, 1, 0, 0],
        "mark": [0, 0, 0, 0],
        "context": [0, 0, 3, 1],
    }
    values = {
        "methylated": np.array([[1, 0], [2, 3], [0, 0], [4, 1]], dtype=np.uint16),
        "coverage": np.array([[2, 0], [2, 3], [5, 1], [4, 9]], dtype=np.uint16),
    }
    arguments = {"contigs": ["chr1", "chr2"], "strands": "separate"} | changes
    samples = {"sample": ["x", "y"], "age": [1.5, 2.0], "cell": ["a", "b"]}
    return m.dataset(sites, values, samples, **arguments)


def test_a_store_gives_back_what_was_written(tmp_path):
    path = tmp_path / "s.zarr"
    before = small(attrs={"genome": {"name": "toy"}})
    m.write(before, path)
    after = m.open_methylome(path)
    for name in (*m.SITE_ARRAYS, "methylated", "coverage"):
        assert after[name].values.tolist() == before[name].values.tolist()
        assert after[name].dtype == before[name].dtype
    assert m.sample_sheet(after) == {"sample": ["x", "y"], "age": [1.5, 2.0], "cell": ["a", "b"]}
    assert after.attrs["contig_offsets"] == [0, 3, 4]
    assert after.attrs["genome"] == {"name": "toy"}
    assert not m.part_folder(path).exists()


def test_a_store_keeps_the_order_of_the_sheets_columns(tmp_path):
    columns = ["sample", *(f"c{(7 * k) % 20}" for k in range(20))]
    samples = {name: [f"{name}x", f"{name}y"] for name in columns}
    before = small().drop_vars(["sample", "age", "cell"])
    before = before.assign_coords({name: ("sample", values) for name, values in samples.items()})
    m.write(before, tmp_path / "s.zarr")
    assert list(m.sample_sheet(m.open_methylome(tmp_path / "s.zarr"))) == columns


def test_blocks_that_straddle_chunks_join(tmp_path, monkeypatch):
    monkeypatch.setattr(m, "CHUNK_SITES", (4, 4))
    monkeypatch.setattr(m, "CHUNK_CELLS", 4)
    n = 23
    sites = {"contig": np.zeros(n), "position": np.arange(n) * 7}
    coverage = np.arange(2 * n, dtype=np.uint32).reshape(n, 2)
    values = {"methylated": coverage // 2, "coverage": coverage}
    before = m.dataset(sites, values, {"sample": ["x", "y"]}, contigs=["c"])
    with m.Writer(
        tmp_path / "s.zarr",
        samples={"sample": ["x", "y"]},
        contigs=["c"],
        marks=["m"],
        strands="unknown",
        values={"methylated": np.uint32, "coverage": np.uint32},
    ) as writer:
        for a, b in ((0, 3), (3, 3), (3, 14), (14, 15), (15, 23)):
            part = before.isel(site=slice(a, b))
            writer.append({k: part[k].values for k in (*m.SITE_ARRAYS, "methylated", "coverage")})
    after = m.open_methylome(tmp_path / "s.zarr")
    assert after["coverage"].values.tolist() == coverage.tolist()
    assert after["position"].values.tolist() == (np.arange(n) * 7).tolist()
    assert [b.start for b in m.blocks(after)] == [0, 4, 8, 12, 16, 20]


def test_an_exception_leaves_no_final_path(tmp_path):
    path = tmp_path / "s.zarr"
    with (
        pytest.raises(RuntimeError),
        m.Writer(
            path,
            samples={"sample": ["x"]},
            contigs=["c"],
            marks=["m"],
            strands="unknown",
            values={"methylated": np.uint16, "coverage": np.uint16},
        ),
    ):
        raise RuntimeError
    assert not path.exists()
    with pytest.raises(MelismaError, match="run the same ingest again to resume"):
        m.open_methylome(path)


def test_writing_again_replaces_the_store(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(small(), path)
    m.write(small().isel(site=slice(0, 2)), path)
    assert m.open_methylome(path).sizes["site"] == 2
    assert sorted(os.listdir(tmp_path)) == ["s.zarr"]


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(small(), path)
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["melisma"]["schema"] = 99
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(MelismaError, match="schema version 99.*install a newer melisma"):
        m.open_methylome(path)


def test_what_is_not_a_store(tmp_path):
    with pytest.raises(MelismaError, match="There is no methylome store"):
        m.open_methylome(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MelismaError, match="is not a methylome store"):
        m.open_methylome(tmp_path / "folder")


@pytest.mark.parametrize(
    ("region", "positions"),
    [
        ("chr1", [5, 5, 9]),
        ("chr1:5-9", [5, 5]),
        ("chr1:6-10", [9]),
        ("chr2:0-2", []),
        ("chr2:2-3", [2]),
    ],
)
def test_selecting_a_region_is_half_open(region, positions):
    assert m.select(small(), region=region)["position"].values.tolist() == positions


def test_selecting_what_is_not_there():
    with pytest.raises(MelismaError, match="no contig 'chr9'; it has chr1, chr2"):
        m.select(small(), region="chr9:1-2")
    with pytest.raises(MelismaError, match="no mark '5hmC'"):
        m.select(small(), mark="5hmC")
    with pytest.raises(MelismaError, match="is empty"):
        m.parse_region("chr1:9-9")


def test_several_marks_need_a_choice():
    both = small(marks=("m", "h"))
    with pytest.raises(MelismaError, match="choose one with --mark"):
        m.single_mark(both, None)
    assert m.single_mark(both, "5mC").sizes["site"] == 4


def test_sites_out_of_order_or_repeated_are_refused():
    values = {k: np.ones((2, 1), np.uint16) for k in ("methylated", "coverage")}
    for positions, word in (([3, 3], "repeated"), ([4, 3], "out of order")):
        with pytest.raises(MelismaError, match=word):
            m.dataset(
                {"contig": [0, 0], "position": positions}, values, {"sample": ["x"]}, contigs=["c"]
            )


def test_more_methylated_than_covered_is_refused():
    values = {"methylated": np.array([[2]]), "coverage": np.array([[1]])}
    with pytest.raises(MelismaError, match="more methylated reads than coverage"):
        m.dataset({"contig": [0], "position": [3]}, values, {"sample": ["x"]}, contigs=["c"])


def test_unknown_marks_and_repeated_samples_are_refused():
    with pytest.raises(MelismaError, match="modification 'z' is not supported"):
        m.parse_mark("z")
    values = {k: np.ones((1, 2), np.uint16) for k in ("methylated", "coverage")}
    with pytest.raises(MelismaError, match="'x' is in the methylome twice"):
        m.dataset({"contig": [0], "position": [3]}, values, {"sample": ["x", "x"]}, contigs=["c"])


def test_atomic_file_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), m.atomic_file(tmp_path / "f") as work:
        work.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def levels(**changes):
    sites = {"contig": [-1, -1, -1], "position": [-1, -1, -1], "probe": ["cg01", "cg02", "ch.1"]}
    beta = np.array([[0.25, np.nan], [1, 0], [0.5, 0.75]], dtype=np.float32)
    values = {"beta": beta} | changes.pop("values", {})
    return m.dataset(sites | changes, values, {"sample": ["x", "y"]}, contigs=[])


def test_probes_without_a_place_are_kept_by_name(tmp_path):
    m.write(levels(), tmp_path / "s.zarr")
    after = m.open_methylome(tmp_path / "s.zarr")
    assert after["probe"].values.tolist() == ["cg01", "cg02", "ch.1"]
    assert after["contig"].values.tolist() == [-1, -1, -1]
    assert after.attrs["contig_offsets"] == [3]
    np.testing.assert_array_equal(after["beta"].values, levels()["beta"].values)
    m.validate(after.load())
    with pytest.raises(MelismaError, match="have no positions.*--manifest"):
        m.select(after, region="chr1:0-10")


def test_probes_with_a_place_are_kept_through_a_selection(tmp_path):
    sites = {"contig": [0, 0, 1], "position": [3, 8, 2], "probe": ["cg3", "cg1", "cg2"]}
    beta = np.full((3, 1), 0.5, dtype=np.float32)
    made = m.dataset(sites, {"beta": beta}, {"sample": ["x"]}, contigs=["chr1", "chr2"])
    m.write(made, tmp_path / "s.zarr")
    chosen = m.select(m.open_methylome(tmp_path / "s.zarr"), region="chr1:5-9")
    assert chosen["probe"].values.tolist() == ["cg1"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probe": ["cg02", "cg01", "cg03"]}, "'cg01' \\(row 1\\) is repeated or out of order"),
        ({"probe": ["cg01", "cg01", "cg03"]}, "'cg01' \\(row 1\\) is repeated"),
        ({"contig": [-1, -1, 0], "position": [-1, -1, 4]}, "Some probes .* have a place"),
        ({"values": {"beta": np.array([[0, 1], [0, 1.5], [0, 0]])}}, "Row 1 of sample y .* 1.5"),
    ],
)
def test_broken_probes_and_levels_are_refused(changes, words):
    with pytest.raises(MelismaError, match=words):
        levels(**changes)


def test_a_site_array_of_words_is_written_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(m, "CHUNK_SITES", (4, 4))
    words = np.array([f"cg{k}" for k in range(10)], dtype=np.dtypes.StringDType())
    with m.Writer(
        tmp_path / "s.zarr",
        samples={"sample": ["x"]},
        contigs=["c"],
        marks=["m"],
        strands="unknown",
        values={"beta": np.float32},
        probes=True,
    ) as writer:
        for part in (slice(0, 3), slice(3, 10)):
            columns = {name: np.zeros(10, dtype)[part] for name, dtype in m.SITE_DTYPES.items()}
            columns |= {"position": np.arange(10)[part], "beta": np.ones((10, 1))[part]}
            writer.append(columns | {"probe": words[part]})
    found = m.open_methylome(tmp_path / "s.zarr")
    assert found["probe"].values.tolist() == words.tolist()

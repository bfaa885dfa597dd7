"""Manifests and IDAT files. No real IDAT is at hand: these are written from the description."""

import gzip
import struct

import numpy as np
import polars as pl
import pytest

from melisma.calls import ingest, sniff
from melisma.calls._idat import read_idat
from melisma.calls._manifest import place, read_manifest
from melisma.errors import MelismaError
from melisma.methylome import open_methylome

HEADING = "Illumina, Inc.,,,\n[Heading],,,\nAssay Format,Infinium 2,,\n[Assay],,,\n"
COLUMNS = (
    "IlmnID,Name,AddressA_ID,AlleleA_ProbeSeq,AddressB_ID,Infinium_Design_Type,Color_Channel,"
    "Genome_Build,CHR,MAPINFO,Strand\n"
)
# Two of design I (red, green), two of design II, a SNP, one without a place.
ROWS = (
    "cg00000001,cg00000001,0010,ACGT,0011,I,Red,37,2,101,F\n"
    "cg00000002,cg00000002,0020,ACGT,0021,I,Grn,37,1,51,R\n"
    "cg00000003,cg00000003,0030,ACGT,,II,,37,X,11,F\n"
    "cg00000004,cg00000004,0040,ACGT,,II,,37,1,21,F\n"
    "rs0001,rs0001,0050,ACGT,,II,,37,,,F\n"
    "cg00000006,cg00000006,0060,ACGT,,II,,37,0,0,F\n"
)
CONTROLS = "[Controls],,,\n21630339,NEGATIVE,AntiqueWhite,High\n"
MANIFEST = HEADING + COLUMNS + ROWS + CONTROLS
GREEN = {10: 1, 11: 2, 20: 300, 21: 600, 30: 900, 40: 0, 50: 5, 60: 7}
RED = {10: 100, 11: 800, 20: 3, 21: 4, 30: 0, 40: 0, 50: 5, 60: 7}


def idat(means, *, version=3):
    """An IDAT file's bytes: a header, the table of fields, then their data."""
    fields = {
        1000: struct.pack("<i", len(means)),
        102: np.array(list(means), "<i4").tobytes(),
        104: np.array(list(means.values()), "<u2").tobytes(),
        107: bytes([9] * len(means)),
    }
    at = 16 + 10 * len(fields)
    table, data = b"", b""
    for code, content in fields.items():
        table += struct.pack("<Hq", code, at + len(data))
        data += content
    return b"IDAT" + struct.pack("<qi", version, len(fields)) + table + data


@pytest.fixture
def study(tmp_path):
    (tmp_path / "m.csv").write_text(MANIFEST)
    for name in ("a", "b"):
        (tmp_path / f"{name}_Grn.idat").write_bytes(idat(GREEN))
        (tmp_path / f"{name}_Red.idat").write_bytes(idat(RED))
    (tmp_path / "s.csv").write_text("sample,path\na,a_Grn.idat\nb,b_Red.idat\n")
    return tmp_path


def run(folder, **options):
    options = {"manifest": folder / "m.csv"} | options
    made = ingest(folder / "s.csv", folder / "s.zarr", **options)
    return open_methylome(folder / "s.zarr").load(), made


def test_raw_levels_by_design_and_channel(study):
    made, summary = run(study)
    assert made["probe"].values.tolist() == [
        "cg00000004", "cg00000002", "cg00000001", "cg00000003",
    ]  # fmt: skip
    assert made.attrs["contigs"] == ["chr1", "chr2", "chrX"]
    assert made["position"].values.tolist() == [20, 50, 100, 10]
    # Design I red: 800 / (800 + 100 + 100); green: 600 / (600 + 300 + 100); II: 900 / (900 + 100).
    expected = np.float32([np.nan, 0.6, 0.8, 0.9])
    np.testing.assert_array_equal(made["beta"].values, np.stack([expected, expected], axis=1))
    assert summary.drops["a"] == {
        "SNP probes (rs)": 1, "probes without a position in the manifest": 1,
    }  # fmt: skip
    assert made.attrs["manifest"] == {"name": "m.csv", "build": "37"}
    assert sniff(study / "a_Grn.idat").format.name == "idat"


def test_idat_may_be_gzip_and_in_any_order(study):
    first, _ = run(study)
    for channel, means in (("Grn", GREEN), ("Red", RED)):
        turned = dict(reversed(means.items()))
        (study / f"a_{channel}.idat.gz").write_bytes(gzip.compress(idat(turned)))
    (study / "s.csv").write_text("sample,path\na,a_Grn.idat.gz\nb,b_Grn.idat\n")
    second, _ = run(study, overwrite=True)
    np.testing.assert_array_equal(first["beta"].values, second["beta"].values)


def test_arrays_and_a_matrix_share_a_store(study):
    (study / "x.tsv").write_text("ID\tc\ncg00000003\t0.5\ncg00000001\t0.25\n")
    (study / "s.csv").write_text("sample,path\na,a_Grn.idat\nc,x.tsv\n")
    made, _ = run(study)
    np.testing.assert_array_equal(
        made["beta"].values[:, 1], np.float32([np.nan, np.nan, 0.25, 0.5])
    )


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda d: (d / "a_Red.idat").unlink(), {}, "no a_Red.idat beside it"),
        (lambda d: (d / "a_Red.idat").write_bytes(idat(RED)[:90]), {}, "damaged or truncated"),
        (lambda d: (d / "a_Red.idat").write_bytes(idat(RED, version=1)), {}, "version 1"),
        (lambda d: (d / "a_Red.idat").write_bytes(b"hello"), {}, "is no IDAT file"),
        (lambda d: None, {"manifest": None}, "pass --manifest"),
        (lambda d: (d / "m.csv").write_text("probe,chrom,position\ncg00000001,1,5\n"), {},
         "no bead addresses"),
        (lambda d: (d / "m.csv").write_text(MANIFEST.replace("I,Red", "I,")), {}, "lacks its col"),
        (lambda d: (d / "a_Grn.idat").write_bytes(idat({k + 99: v for k, v in GREEN.items()})), {},
         "17% of the manifest's probes"),
    ],
)  # fmt: skip
def test_broken_arrays_are_refused(study, change, options, words):
    change(study)
    with pytest.raises(MelismaError, match=words):
        run(study, **options)
    assert not list(study.glob("s.zarr*"))


def test_an_address_twice_is_damage(tmp_path):
    data = bytearray(idat({10: 1, 11: 2}))
    at = data.index(struct.pack("<ii", 10, 11))
    data[at + 4 : at + 8] = struct.pack("<i", 10)
    (tmp_path / "x_Grn.idat").write_bytes(data)
    with pytest.raises(MelismaError, match="address 10 more than once"):
        read_idat(tmp_path / "x_Grn.idat")


@pytest.mark.parametrize(
    ("text", "position"),
    [
        (MANIFEST, 100),
        ("CpG_chrm\tCpG_beg\tCpG_end\tprobe_strand\tprobeID\nchr2\t100\t102\t-\tcg00000001\n", 100),
        ("probe\tchrom\tposition\ncg00000001\tchr2\t101\n", 100),
        ("chr2\t100\t102\tcg00000001\n", 100),
        ('"Name","CHR","MAPINFO"\n"cg00000001","2","101"\n', 100),
        (MANIFEST.replace("\n", "\r\n"), 100),
    ],
    ids=["illumina", "zhou", "table", "bed", "quotes", "crlf"],
)
def test_manifests_say_where_a_probe_is(tmp_path, text, position):
    (tmp_path / "m.txt").write_text(text, newline="")
    read = read_manifest(tmp_path / "m.txt")
    placed, _ = place(read, ["cg00000001"], tmp_path / "x")
    assert placed.rows() == [(0, "cg00000001", "chr2", position)]


V2 = (
    "IlmnID,Name,CHR,MAPINFO\n"
    "cg00000029_TC21,cg00000029,chr16,53434201\n"
    "cg00000029_BC21,cg00000029,chr16,53434201\n"
    "cg00000109_TC21,cg00000109,chr3,172198248\n"
)


@pytest.mark.parametrize(
    ("probes", "rows"),
    [
        (["cg00000109_TC21", "cg00000029_BC21", "cg00000029_TC21"],
         [(0, "cg00000109", "chr3"), (1, "cg00000029", "chr16"), (2, "cg00000029", "chr16")]),
        (["cg00000029", "cg00000109"], [(0, "cg00000029", "chr16"), (1, "cg00000109", "chr3")]),
    ],
)  # fmt: skip
def test_epic_v2_probes_are_found_with_and_without_suffix(tmp_path, probes, rows):
    (tmp_path / "m.csv").write_text(V2)
    placed, drops = place(read_manifest(tmp_path / "m.csv"), probes, tmp_path / "x")
    assert placed.select("row", "probe", "contig").rows() == rows
    assert not drops


def test_replicates_at_one_position_become_one_site(tmp_path):
    (tmp_path / "m.csv").write_text(V2)
    (tmp_path / "b.tsv").write_text(
        "ID\ta\ncg00000109_TC21\t0.5\ncg00000029_BC21\t0.2\ncg00000029_TC21\t0.4\n"
    )
    (tmp_path / "s.csv").write_text("sample,path\na,b.tsv\n")
    made, _ = run(tmp_path)
    assert made["probe"].values.tolist() == ["cg00000109", "cg00000029"]
    np.testing.assert_allclose(made["beta"].values, [[0.5], [0.3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("probe\tchrom\tposition\ncg1\tchr1\t5\ncg1\tchr1\t6\n", "'cg1' more than once"),
        ("probe\tchrom\tposition\ncg1\tNA\tNA\n", "no probe a position"),
        ("name,score\ncg1,5\n", "no contig and no position column"),
        ("probe\tchrom\tposition\n", "a header and no probes"),
    ],
)
def test_broken_manifests_are_refused(tmp_path, text, words):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(MelismaError, match=words):
        read_manifest(tmp_path / "m.csv")


def test_the_manifest_of_another_array_is_refused_with_the_shares(tmp_path):
    (tmp_path / "m.csv").write_text(V2)
    probes = ["cg00000029", *(f"cg1{k:07d}" for k in range(9))]
    with pytest.raises(MelismaError, match="has 10% of the 10 probes .* another array"):
        place(read_manifest(tmp_path / "m.csv"), probes, tmp_path / "x")
    assert pl.DataFrame({"probe": probes}).height == 10

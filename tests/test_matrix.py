"""Matrices of levels: which way round, what is refused, and what the store then holds."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from melisma.calls import describe, ingest, sniff
from melisma.errors import MelismaError
from melisma.methylome import open_methylome, select, validate
from melisma.progress import reporting
from melisma.quality import check_quality

DATA = Path(__file__).parents[2] / "shared" / "data"
PROBES = "ID\ta\tb\tc\ncg00000003\t0.1\t0.2\t0.3\ncg00000001\t1\tNA\t0\ncg00000002\t\t0.5\t1e-1\n"
MANIFEST = "probe\tchrom\tstart\ncg00000001\tchr2\t9\ncg00000002\tchr1\t7\ncg00000003\tchr2\t4\n"


class Notes:
    """A reporter that keeps the notes."""

    def __init__(self):
        self.said = []

    def stage(self, name, total):
        from contextlib import nullcontext

        return nullcontext(lambda done: None)

    def note(self, text):
        self.said.append(text)


def make(folder, matrix, *, samples=("a", "b"), name="m.tsv", sheet=None, **options):
    """Ingest one matrix; returns the opened store and what was said."""
    (folder / name).write_text(matrix)
    (folder / "samples.tsv").write_text(sheet or "sample\n" + "\n".join(samples) + "\n")
    for key in ("manifest", "genome"):
        if key in options:
            file = folder / f"{key}.fa"
            file.write_text(options[key])
            options[key] = file
    notes = Notes()
    with reporting(notes):
        ingest(folder / "samples.tsv", folder / "s.zarr", matrix=folder / name, **options)
    return open_methylome(folder / "s.zarr").load(), notes.said


def test_probes_down_are_sorted_by_name_without_a_manifest(tmp_path):
    made, said = make(tmp_path, PROBES)
    assert made["probe"].values.tolist() == ["cg00000001", "cg00000002", "cg00000003"]
    assert made["contig"].values.tolist() == made["position"].values.tolist() == [-1, -1, -1]
    expected = np.array([[1, np.nan], [np.nan, 0.5], [0.1, 0.2]], dtype=np.float32)
    np.testing.assert_array_equal(made["beta"].values, expected)
    assert any("1 column that the sheet does not name" in text for text in said)
    with pytest.raises(MelismaError, match="--manifest"):
        select(made, region="chr1")


def test_samples_down_give_the_same_store(tmp_path):
    table = pl.read_csv(PROBES.encode(), separator="\t", null_values=["NA"])
    turned = table.transpose(include_header=True, header_name="id", column_names="ID")
    first, _ = make(tmp_path, PROBES, samples=("c", "a"))
    (tmp_path / "down").mkdir()
    second, _ = make(tmp_path / "down", turned.write_csv(), samples=("c", "a"))
    np.testing.assert_array_equal(first["beta"].values, second["beta"].values)
    assert first["probe"].values.tolist() == second["probe"].values.tolist()


@pytest.mark.parametrize(
    "text",
    [
        PROBES.replace("ID\t", ""),
        PROBES.replace("\t", ","),
        PROBES.replace("\t", ";"),
        PROBES.replace(".", ",").replace("\t", ";"),
        PROBES.replace("\n", "\r\n"),
        '!Series_title\t"x"\n!begin\n' + PROBES + "!end\n",
        "\n".join(
            "\t".join(f'"{w}"' for w in line.split("\t")) for line in PROBES.splitlines()
        ).replace('""', ""),
    ],
    ids=["write.table", "comma", "semicolon", "decimal comma", "crlf", "series matrix", "quotes"],
)
def test_the_ways_a_table_is_written(tmp_path, text):
    made, _ = make(tmp_path, text)
    expected = np.array([[1, np.nan], [np.nan, 0.5], [0.1, 0.2]], dtype=np.float32)
    np.testing.assert_array_equal(made["beta"].values, expected)
    assert sniff(tmp_path / "m.tsv").format.name == "matrix"


def test_a_manifest_places_and_sorts_the_probes(tmp_path):
    made, said = make(tmp_path, PROBES, manifest=MANIFEST)
    assert made.attrs["contigs"] == ["chr1", "chr2"]
    assert made["position"].values.tolist() == [7, 4, 9]
    assert made["probe"].values.tolist() == ["cg00000002", "cg00000003", "cg00000001"]
    assert made.attrs["strands"] == "merged"
    assert any("0-based" in text for text in said)
    assert select(made, region="chr2:0-5")["probe"].values.tolist() == ["cg00000003"]


def test_a_sheet_may_name_matrices_and_each_has_its_samples(tmp_path):
    (tmp_path / "one.tsv").write_text("ID\ta\tb\ncg00000001\t0.1\t0.2\n")
    (tmp_path / "two.tsv").write_text("ID\tc\ncg00000002\t0.5\ncg00000001\t0.25\n")
    (tmp_path / "s.csv").write_text("sample,path\na,one.tsv\nc,two.tsv\nb,one.tsv\n")
    ingest(tmp_path / "s.csv", tmp_path / "s.zarr")
    made = open_methylome(tmp_path / "s.zarr")
    expected = np.array([[0.1, 0.25, 0.2], [np.nan, 0.5, np.nan]], dtype=np.float32)
    np.testing.assert_array_equal(made["beta"].values, expected)
    assert ingest(tmp_path / "s.csv", tmp_path / "s.zarr").reused


def test_replicates_are_averaged_where_they_are_known(tmp_path):
    text = "ID\ta\tb\ncg00000001_TC21\t0.2\tNA\ncg00000001_BC21\t0.4\t0.5\ncg00000002_TC11\t1\tNA\n"
    made, said = make(tmp_path, text)
    assert made["probe"].values.tolist() == ["cg00000001", "cg00000002"]
    np.testing.assert_allclose(made["beta"].values, [[0.3, 0.5], [1, np.nan]], rtol=1e-6)
    assert any("1 CpGs are read by several probes (2 in all)" in text for text in said)


METILENE = "chr\tpos\ta\tb\nchr2\t3\t0.5\tNA\nchr1\t6\t0.25\t1\nchr1\t2\t0\t0.75\n"
GENOME = ">chr1\nACGTACGTAA\n>chr2\nTTCGA\n"


def test_sites_with_positions_are_read_as_the_header_says(tmp_path):
    made, said = make(tmp_path, METILENE)
    assert made["position"].values.tolist() == [1, 5, 2]
    assert "probe" not in made
    assert any("1-based, as the header says pos" in text for text in said)
    (tmp_path / "bed").mkdir()
    bed = METILENE.replace("chr\tpos", "chr\tstart\tend").replace("\t3\t", "\t3\t4\t")
    bed = bed.replace("\t6\t", "\t6\t7\t").replace("\t2\t", "\t2\t3\t")
    made, said = make(tmp_path / "bed", bed)
    assert made["position"].values.tolist() == [2, 6, 3]
    assert any("0-based, as the header says start and end" in text for text in said)


def test_a_format_name_decides_the_base(tmp_path):
    made, _ = make(tmp_path, METILENE, format="matrix-0")
    assert made["position"].values.tolist() == [2, 6, 3]


def test_a_genome_decides_the_base_where_the_header_is_wrong(tmp_path):
    zero = METILENE.replace("\t3\t", "\t2\t").replace("\t6\t", "\t5\t").replace("1\t2\t", "1\t1\t")
    made, said = make(tmp_path, zero, genome=GENOME)
    assert made["position"].values.tolist() == [1, 5, 2]
    assert made["context"].values.tolist() == [0, 0, 0]
    assert any("0-based: 100% are then on a CG" in text for text in said)
    with pytest.raises(MelismaError, match="one off the reading"):
        make(tmp_path, zero, genome=GENOME, format="matrix-1", overwrite=True)
    with pytest.raises(MelismaError, match="genome build"):
        make(tmp_path, METILENE, genome=">chr1\nAAAAAAAAAA\n>chr2\nAAAAA\n", overwrite=True)


def test_a_manifest_of_another_build_is_refused(tmp_path):
    with pytest.raises(MelismaError, match="genome build that the positions are of"):
        make(
            tmp_path, PROBES, manifest=MANIFEST, genome=">chr1\nAAAAAAAAAAA\n>chr2\nAAAAAAAAAAAA\n"
        )


def test_percents_are_divided_and_said(tmp_path):
    made, said = make(tmp_path, "ID\ta\tb\ncg00000001\t50\t0\ncg00000002\t100\t12.5\n")
    np.testing.assert_allclose(made["beta"].values, [[0.5, 0], [1, 0.125]])
    assert any("read as percents" in text for text in said)


def test_levels_a_little_outside_are_set_to_the_edge_and_said(tmp_path):
    made, said = make(tmp_path, "ID\ta\tb\ncg00000001\t-0.002\t0.5\ncg00000002\t1.001\t1\n")
    np.testing.assert_array_equal(made["beta"].values, [[0, 0.5], [1, 1]])
    assert any("2 of 4 were set to 0 or 1" in text for text in said)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("ID\ta\tb\ncg00000001\t-3.5\t2\n", {}, "M-values"),
        ("ID\ta\tb\ncg00000001\t0.5\t2\n", {}, "levels lie from 0 to 1"),
        ("ID\ta\tb\ncg00000001\tNA\tNA\n", {}, "every value .* is NA"),
        ("ID\ta\tb\ncg00000001\t0.1\n", {}, "line 2: 2 fields where the header has 3"),
        ("ID\ta\tb\ncg00000001\t0.1\t0\ncg00000002\tlow\t0\n", {}, "line 3, sample a: 'low'"),
        ("ID\ta\tb\ncg00000001\t0.1\tinf\n", {}, "line 2, sample b: 'inf'"),
        ("ID\ta\tb\ncg00000001\t0.1\t0\ncg00000001\t0\t0\n", {}, "'cg00000001' more than once"),
        ("ID\ta\tcg00000001\ncg00000001\t0.1\t0\n", {}, "lacks b of the sample sheet; its samples"),
        ("ID\tX1.A\ncg00000001\t0.1\n", {"samples": ["1-A"]}, "'X1.A', as R's make.names"),
        ("ID\ta\ta\tb\ncg00000001\t0\t0\t0\n", {}, "2 columns named 'a'"),
        ("ID\tx\ty\nq\t0.1\t0.2\n", {}, "neither axis could be the samples"),
        ("ID\ta\tb\na\t0.1\t0.2\n", {}, "both axes could be the samples"),
        ("s\tcg00000001\tcg00000002\na\t0.1\t0.2\n", {}, "lacks b of the sample sheet"),
        ("s\tcg00000001\tcg00000002\na\t0\t0\na\t0\t0\nb\t0\t0\n", {}, "two rows named 'a'"),
        ("s\tcg00000001\tcg00000002\na\t0\nb\t0\t0\n", {}, "line 2: 2 fields where the header"),
        ("s\tcg00000001\tcg00000002\na\t0\tlow\nb\t0\t0\n", {}, "sample a, cg00000002: 'low'"),
        (PROBES, {"merge_strands": True}, "cannot be summed"),
        (PROBES, {"manifest": MANIFEST.replace("cg0", "cg9")}, "0% of the 3 probes .* another"),
        (PROBES, {"manifest": "a\tb\nc\td\n"}, "no manifest that is read"),
        (PROBES, {"sheet": "sample\tpath\na\tm.tsv\n"}, "leave out one of the two"),
        ("chr\tpos\ta\tb\nchr1\tx\t0\t0\n", {}, "line 2: chr1, 'x' is no contig and position"),
        ("chr\tpos\ta\tb\nchr1\t0\t0\t0\n", {}, "name the true reading"),
        ("chr\tpos\ta\tb\nchr1\t2\t0\t0\nchr1\t2\t0\t1\n", {}, "chr1:2 more than once"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence_and_leaves_nothing(tmp_path, text, options, words):
    with pytest.raises(MelismaError, match=words):
        make(tmp_path, text, **options)
    assert not list(tmp_path.glob("s.zarr*"))


def test_levels_and_counts_do_not_share_a_store(tmp_path):
    (tmp_path / "m.tsv").write_text(PROBES)
    (tmp_path / "b.cov").write_text("chr1\t5\t5\t50\t1\t1\n")
    (tmp_path / "s.csv").write_text("sample,path\na,m.tsv\nb,b.cov\n")
    with pytest.raises(MelismaError, match="Sample a has levels .* sample b has counts"):
        ingest(tmp_path / "s.csv", tmp_path / "s.zarr")
    (tmp_path / "s.csv").write_text("sample,path\na,b.cov\nb,b.cov\n")
    with pytest.raises(MelismaError, match="Samples a and b name the same file"):
        ingest(tmp_path / "s.csv", tmp_path / "s.zarr")


def test_a_store_of_levels_is_described(tmp_path):
    make(tmp_path, PROBES)
    found = describe(tmp_path / "s.zarr")
    assert found.contexts == {"CG": 3}
    first, second = found.samples
    assert (first.sites, first.level) == (2, pytest.approx(0.55))
    assert (second.sites, second.level) == (2, pytest.approx(0.35))
    assert np.isnan(first.coverage)


def real(folder, name, samples, out="s.zarr", **options):
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not here")
    pl.DataFrame({"sample": samples}).write_csv(folder / "sheet.csv")
    ingest(folder / "sheet.csv", folder / out, matrix=path, **options)
    return open_methylome(folder / out).load()


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "sites", "count"),
    [("reference/brca_jive/methylation.tsv.gz", 574, 348),
     ("reference/epidish/LiuDataSub.m.tsv.gz", 500, 50)],
)  # fmt: skip
def test_real_matrices_with_probes_down(tmp_path, name, sites, count):
    header: list[str] = []
    if (DATA / name).exists():
        with gzip.open(DATA / name, "rt") as file:
            header = file.readline().split()
    made = real(tmp_path, name, header)
    assert dict(made.sizes) == {"site": sites, "sample": count}
    with gzip.open(DATA / name, "rt") as file:
        row = file.read().splitlines()[1].split("\t")
    at = made["probe"].values.tolist().index(row[0])
    np.testing.assert_array_equal(made["beta"].values[at], np.float32(row[1:]))


@pytest.mark.reference
def test_a_real_matrix_with_samples_down(tmp_path):
    path = DATA / "vendorable/tcga_glioma/betas.tsv.gz"
    table = pl.read_csv(path, separator="\t", null_values=["NA"]) if path.exists() else None
    samples = [] if table is None else table["patient"].to_list()
    made = real(tmp_path, "vendorable/tcga_glioma/betas.tsv.gz", samples)
    assert table is not None
    assert dict(made.sizes) == {"site": 1205, "sample": 880}
    expected = table.select(made["probe"].values.tolist()).to_numpy().T.astype(np.float32)
    np.testing.assert_array_equal(made["beta"].values, expected)
    validate(made)
    assert check_quality(made).samples["sites_seen"].max() <= 1205


@pytest.mark.reference
def test_a_real_27k_study_with_positions(tmp_path):
    name = "reference/hm27_brain/betas_16_brains.csv.gz"
    names = pl.read_csv(DATA / "reference/hm27_brain/samples.csv")["id"].to_list() if (
        DATA / name).exists() else []  # fmt: skip
    manifest = DATA / "reference/hm27_brain/hm27_sequences.tsv.gz"
    made = real(tmp_path, name, names, manifest=manifest)
    assert made.sizes["site"] > 27_000
    assert made.attrs["contigs"][0] == "chr1"
    validate(made)


def test_fractions_beside_percents_are_refused_by_sample(tmp_path):
    text = "ID\ta\tb\ncg00000001\t0.4\t40\ncg00000002\t1\t100\n"
    with pytest.raises(MelismaError, match="up to 1 for sample a and up to 100 for sample b"):
        make(tmp_path, text)
    with pytest.raises(MelismaError, match="up to 0.9 for sample a and up to 90 for sample b"):
        make(tmp_path, "id\tcg00000001\tcg00000002\na\t0.4\t0.9\nb\t40\t90\n")
    # A sample without methylation is the same in both.
    made, _ = make(tmp_path, text.replace("0.4", "0").replace("\t1\t", "\t0\t"))
    assert made["beta"].values.tolist() == pytest.approx(np.array([[0, 0.4], [0, 1]]))


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("100\t600", "line 3: start is 100 and end is 600, and a site is one base"),
        ("100\t90", "line 3: start is 100 and end is 90, and a site is one base"),
        ("100.5\t101", "line 3: chr1, '100.5' is no contig and position"),
    ],
)
def test_places_that_are_no_site_are_refused(tmp_path, place, sentence):
    text = f"chr\tstart\tend\ta\tb\nchr1\t1\t3\t0.1\t0.2\nchr1\t{place}\t0.1\t0.2\n"
    with pytest.raises(MelismaError, match=sentence):
        make(tmp_path, text)


def test_a_short_row_of_a_quoted_matrix_is_no_missing_value(tmp_path):
    text = '"ID"\t"a"\t"b"\n"cg00000001"\t0.1\t0.2\n"cg00000002"\t0.3\n'
    with pytest.raises(MelismaError, match="line 3: 2 fields where the header has 3"):
        make(tmp_path, text)
    made, _ = make(tmp_path, text.replace("0.3", '0.3\t"0.4"').replace("002", "002\t"))
    assert made["beta"].values[1].tolist() == pytest.approx([0.3, 0.4])


def test_decimal_commas_may_begin_below_the_first_row(tmp_path):
    made, _ = make(tmp_path, "ID;a;b\ncg00000001;1;0\ncg00000002;1;0,4\n")
    assert made["beta"].values.tolist() == pytest.approx(np.array([[1, 0], [1, 0.4]]))

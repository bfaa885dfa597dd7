"""Each text format: literal rows with counts worked by hand, and every real file there is."""

import gzip

import numpy as np
import polars as pl
import pytest
from calls_files import SHARED, bed, cov, ingested, noted, put, sheet_of, sites

from melisma.calls import FORMATS, format_named, ingest, sniff
from melisma.errors import MelismaError
from melisma.methylome import open_methylome

REFERENCE = SHARED / "reference"
reference = pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/data is absent")


def test_bismark_cov_is_one_based_and_counts_both(tmp_path):
    text = "chr1\t11\t11\t75\t3\t1\nchr1\t21\t21\t0\t0\t4\n"
    assert sites(ingested(tmp_path, text)) == [
        ("chr1", 10, 0, "m", "unknown", [(3, 4)]),
        ("chr1", 20, 0, "m", "unknown", [(0, 4)]),
    ]


def test_bedmethyl_takes_n_valid_and_modified(tmp_path):
    # modkit: columns 1-9 by tabs, the rest by spaces; 5mC and 5hmC share N valid.
    text = (
        "chr1\t9\t10\th\t4\t+\t9\t10\t255,0,0\t4 50.00 2 1 1 0 0 2 0\n"
        "chr1\t9\t10\tm\t4\t+\t9\t10\t255,0,0\t4 25.00 1 1 2 0 0 2 0\n"
        "chr1\t10\t11\tm\t9\t-\t10\t11\t255,0,0\t9 0.00 0 9 0 1 2 3 4\n"
    )
    found = ingested(tmp_path, text)
    assert sites(found) == [
        ("chr1", 9, 1, "m", "unknown", [(1, 4)]),
        ("chr1", 9, 1, "h", "unknown", [(2, 4)]),
        ("chr1", 10, -1, "m", "unknown", [(0, 9)]),
    ]
    assert found.attrs["strands"] == "separate"


def test_bedmethyl_all_tabs_and_motif_codes_and_chebi_numbers(tmp_path):
    row = "chr1\t{0}\t{1}\t{2}\t4\t.\t{0}\t{1}\t255,0,0\t4\t50.00\t2\t2\t0\t0\t0\t0\t0\n"
    text = row.format(5, 6, "m,CG,0") + row.format(7, 8, "76792") + row.format(8, 9, "21839")
    found = ingested(tmp_path, text)
    assert [(site[1], site[3]) for site in sites(found)] == [(5, "m"), (7, "h"), (8, "21839")]
    assert found.attrs["strands"] == "merged"


def test_bedmethyl_of_21_columns(tmp_path):
    text = (
        "c\t9\t10\th\t4\t+\t9\t10\t255,0,0\t1\t1\t0\t4\t50\t2\t1\t1\t0\t0\t2\t0\n"
        "c\t19\t20\th\t6\t+\t19\t20\t255,0,0\t1\t1\t0\t6\t67\t4\t2\t0\t0\t0\t0\t0\n"
    )
    found = ingested(tmp_path, text)
    assert [site[-1] for site in sites(found)] == [[(2, 4)], [(4, 6)]]


def test_methylkit_rounds_both_counts(tmp_path):
    # 16 × 18.75% = 3; 17 × 88.24% = 15.0008 and 17 × 5.88% = 0.9996: N is 16, not 17.
    text = (
        "chrBase\tchr\tbase\tstrand\tcoverage\tfreqC\tfreqT\n"
        "chr1.5\tchr1\t5\tF\t16\t18.75\t81.25\n"
        "chr1.9\tchr1\t9\tR\t17\t88.24\t5.88\n"
    )
    assert sites(ingested(tmp_path, text)) == [
        ("chr1", 4, 1, "m", "unknown", [(3, 16)]),
        ("chr1", 8, -1, "m", "unknown", [(15, 16)]),
    ]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_dss_n_is_the_total(tmp_path, separator):
    text = "chr\tpos\tN\tX\nchr18\t3014904\t26\t2\nchr18\t3e+06\t33\t12\n"
    found = sites(ingested(tmp_path, text.replace("\t", separator)))
    assert [(site[1], site[-1]) for site in found] == [
        (2_999_999, [(12, 33)]),
        (3_014_903, [(2, 26)]),
    ]


def test_cgmap_base_gives_the_strand(tmp_path):
    text = (
        "chr1\tG\t34\tCHG\tCA\t0.0\t0\t4\n"
        "chr1\tC\t84\tCG\tCG\t0.67\t2\t3\n"
        "chr1\tC\t85\tCHH\tCC\t1.0\t1\t1\n"
        "chr1\tG\t90\t--\t--\t0.5\t1\t2\n"
    )
    found = ingested(tmp_path, text)
    assert sites(found) == [
        ("chr1", 33, -1, "m", "CHG", [(0, 4)]),
        ("chr1", 83, 1, "m", "CG", [(2, 3)]),
        ("chr1", 84, 1, "m", "CHH", [(1, 1)]),
        ("chr1", 89, -1, "m", "unknown", [(1, 2)]),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("suffix", [".cov", ".cov.gz"])
def test_headings_blank_lines_and_a_missing_newline(tmp_path, end, suffix):
    lines = [
        "# comment",
        "",
        'track type="bedGraph"',
        "browser position chr1",
        *cov((5, 1, 1)).split("\n"),
    ]
    lines += ["", *cov((9, 2, 1), contig="tracked").split("\n")]
    found = sites(ingested(tmp_path, end.join(lines).rstrip(), suffix=suffix))
    assert [site[:2] for site in found] == [("chr1", 4), ("tracked", 8)]


@pytest.mark.parametrize("header", ["", "chr\tpos\tN\tX\n"])
@pytest.mark.parametrize("suffix", [".txt", ".gz"])
def test_a_byte_order_mark_is_no_part_of_the_contigs_name(tmp_path, header, suffix):
    rows = "chr1\t5\t2\t1\nchr1\t9\t2\t1\n" if header else cov((5, 1, 1), (9, 1, 1))
    text = b"\xef\xbb\xbf" + (header + rows).encode()
    found = ingested(tmp_path, text, suffix=suffix)
    assert found.attrs["contigs"] == ["chr1"]
    assert [site[1] for site in sites(found)] == [4, 8]


def test_rows_without_coverage_are_left_out_and_counted(tmp_path):
    files = [put(tmp_path / "a.cov", cov((5, 0, 0), (9, 2, 1)))]
    made = ingest(sheet_of(files), tmp_path / "out.zarr")
    assert (made.sites, made.rows) == (1, 2)
    assert made.drops == {"a": {"coverage of 0": 1}}


def test_counts_above_sixteen_bits_widen_the_store(tmp_path):
    found = ingested(tmp_path, cov((5, 70_000, 5)))
    assert found["coverage"].dtype == np.uint32
    assert sites(found)[0][-1] == [(70_000, 70_005)]


def test_mark_labels_formats_without_a_code_and_filters_the_others(tmp_path):
    assert ingested(tmp_path, cov((5, 1, 1)), mark="5hmC").attrs["marks"] == ["h"]
    both = bed((5, "h", "+", 4, 1, 3, 0), (5, "m", "+", 4, 0, 3, 1))
    found = ingested(tmp_path, both, mark="5mC")
    assert sites(found) == [("chr1", 5, 1, "m", "unknown", [(0, 4)])]
    assert found.attrs["ingest"]["samples"]["a"]["drops"] == {"another mark": 1}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("bismark-cov", cov((5, 1, 1)), "start and end equal"),
        ("bedmethyl", bed((5, "m", "+", 4, 1, 3, 0)), "'m' (5mC)"),
        ("dss", "chr pos N X\nchr1 5 2 1\n", "header chr, pos, N, X"),
        ("cgmap", "chr1\tG\t34\tCHG\tCA\t0.0\t0\t4\n", "base C or G"),
    ],
)
def test_sniff_names_the_format_and_says_why(tmp_path, name, text, reason):
    found = sniff(put(tmp_path / "calls.gz", text))
    assert found.format is format_named(name)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chr1\t4\t5\t50.0\n", "a bedGraph, which has levels and no counts"),
        (
            "chr1\t4\t5\t5mC\t4\t+\t4\t5\t0,0,0\t4\t50\n",
            "could be modbam2bed's or encode-bedmethyl, so run modbam2bed with --extended",
        ),
        (
            "chr1\t4\t5\t40\t8\n",
            "could be biscuit or a bedGraph of percentages with a depth, so pass --format biscuit",
        ),
        ("chr1\t4\t5\t0.000\t8\n", "could be biscuit or a bedGraph of percentages with a depth"),
        (
            "chr1\t4\t5\t50\t1\t1\n",
            "could be bismark-zero-cov or bismark-merged-cov or methyldackel (it begins with",
        ),
        (
            "chr1\t4\t5\t33.3333333333333\t1\t2\n",
            "could be bismark-zero-cov or bismark-merged-cov (it begins with",
        ),
        ("chr1.5\tchr1\t5\tF\t4\t50\t50\n", "methylKit text without its header"),
        ("chr1\t5\t4\t2\n", "perhaps DSS text without its header"),
        ("hello world\n", "of no format that is read: its first line has 1 tab-separated column"),
        ("@SQ\tSN:chr1\n", "a SAM file"),
    ],
)
def test_sniff_says_what_it_saw(tmp_path, text, sentence):
    with pytest.raises(MelismaError) as caught:
        sniff(put(tmp_path / "calls", text))
    assert sentence in str(caught.value)


def test_every_format_names_its_evidence():
    assert len({form.name for form in FORMATS}) == len(FORMATS)
    for form in FORMATS:
        real = form.tested == "real files"
        assert form.evidence.startswith("real file" if real else "literals")


@pytest.mark.reference
@reference
@pytest.mark.parametrize("name", ["_strand_combine", ""])
def test_modkit_bedmethyl_row_for_row(tmp_path, name):
    file = REFERENCE / "modkit" / f"bc_anchored_10_reads_nofilt_cg_motif{name}.bed"
    with noted() as notes:
        ingest(sheet_of([file]), tmp_path / "out.zarr")
    assert notes == []
    rows = [line.split() for line in file.read_text().splitlines()]
    strand = {"+": 1, "-": -1, ".": 0}
    expected = sorted(
        (row[0], int(row[1]), strand[row[5]], row[3], int(row[11]), int(row[9])) for row in rows
    )
    found = sites(open_methylome(tmp_path / "out.zarr").load())
    assert sorted((c, p, s, k, m, n) for c, p, s, k, _, [(m, n)] in found) == expected
    assert len(found) == len(rows) == (22 if name else 38)


@pytest.mark.reference
@reference
def test_older_modkit_bedmethyl_row_for_row(tmp_path):
    file = REFERENCE / "modkit" / "modbam.modpileup_nofilt.bed"
    ingest(sheet_of([file]), tmp_path / "out.zarr")
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    found = sites(open_methylome(tmp_path / "out.zarr").load())
    assert sorted((p, k, m, n) for _, p, _, k, _, [(m, n)] in found) == sorted(
        (int(row[1]), row[3], int(row[14]), int(row[12])) for row in rows
    )


@pytest.mark.reference
@reference
def test_modbam_gives_the_store_that_its_bedmethyl_gives(tmp_path):
    folder = REFERENCE / "modkit"
    files = [folder / "bc_anchored_10_reads.sorted.bam", folder / "modbam.modpileup_nofilt.bed"]
    ingest(sheet_of(files), tmp_path / "out.zarr")
    found = open_methylome(tmp_path / "out.zarr").load()
    assert found.sizes["site"] == 52
    for name in ("methylated", "coverage"):
        assert (found[name].values[:, 0] == found[name].values[:, 1]).all()


@pytest.mark.reference
@reference
def test_lung_bedmethyl_of_any_c(tmp_path):
    files = sorted((REFERENCE / "modkit").glob("lung*.bed.gz"))
    ingest(sheet_of(files), tmp_path / "out.zarr")
    found = open_methylome(tmp_path / "out.zarr").load()
    assert found.attrs["marks"] == ["C"]
    for k, file in enumerate(files):
        with gzip.open(file, "rt") as lines:
            rows = np.array([[int(line.split()[i]) for i in (1, 11, 9)] for line in lines])
        seen = found["coverage"].values[:, k] > 0
        assert (found["position"].values[seen] == rows[:, 0]).all()
        assert (found["methylated"].values[seen, k] == rows[:, 1]).all()
        assert (found["coverage"].values[seen, k] == rows[:, 2]).all()


@pytest.mark.reference
@reference
def test_methylkit_files(tmp_path):
    files = sorted((REFERENCE / "methylkit_hg18").glob("*.myCpG.txt"))
    with noted() as notes:
        ingest(sheet_of(files), tmp_path / "out.zarr")
    assert len(notes) == 1
    assert notes[0].startswith("4 of 4 files were not sorted by position")
    found = open_methylome(tmp_path / "out.zarr").load()
    for k, file in enumerate(files):
        rows = pl.read_csv(file, separator="\t").sort("base", pl.col("strand") == "F")
        cover, c, t = (rows[name].to_numpy() for name in ("coverage", "freqC", "freqT"))
        methylated = np.floor(cover * c / 100 + 0.5).astype(int)
        total = methylated + np.floor(cover * t / 100 + 0.5).astype(int)
        seen = found["coverage"].values[:, k] > 0
        assert (found["position"].values[seen] == rows["base"].to_numpy() - 1).all()
        assert (found["methylated"].values[seen, k] == methylated).all()
        assert (found["coverage"].values[seen, k] == total).all()
    odd = [abs(c + t - 100) > 0.011 for file in files for c, t in _frequencies(file)]
    assert sum(odd) == 47


def _frequencies(file):
    return pl.read_csv(file, separator="\t").select("freqC", "freqT").iter_rows()


@pytest.mark.reference
@reference
def test_dss_files(tmp_path):
    files = sorted((REFERENCE / "dss_chr18").glob("*.gz"))
    ingest(sheet_of(files), tmp_path / "out.zarr")
    found = open_methylome(tmp_path / "out.zarr").load()
    for k, file in enumerate(files):
        rows = pl.read_csv(file, separator="\t")
        seen = found["coverage"].values[:, k] > 0
        assert (found["position"].values[seen] == rows["pos"].to_numpy() - 1).all()
        assert (found["methylated"].values[seen, k] == rows["X"].to_numpy()).all()
        assert (found["coverage"].values[seen, k] == rows["N"].to_numpy()).all()


@pytest.mark.reference
@reference
def test_bsseeker_file_against_its_genome(tmp_path):
    folder = REFERENCE / "arabidopsis_col0_chr1"
    columns = ["chrom", "base", "position", "context", "pair", "level", "m", "n"]
    rows = pl.read_csv(
        folder / "bsseeker.txt.gz", separator="\t", has_header=False, new_columns=columns
    )
    files = [folder / "bsseeker.txt.gz"]
    alone = ingest(sheet_of(files), tmp_path / "alone.zarr")
    assert alone.sites == len(rows) == 110_927
    made = ingest(sheet_of(files), tmp_path / "out.zarr", genome=folder / "sequence.fa.gz")
    assert made.drops == {"a": {"past the contig's end": 3}}
    found = open_methylome(tmp_path / "out.zarr").load()
    kept = rows.head(-3)
    assert (found["position"].values == kept["position"].to_numpy() - 1).all()
    assert (found["methylated"].values[:, 0] == kept["m"].to_numpy()).all()
    assert (found["coverage"].values[:, 0] == kept["n"].to_numpy()).all()
    names = np.array(["CG", "CHG", "CHH", "unknown"])[found["context"].values]
    told = kept["context"].is_in(["CG", "CHG", "CHH"]).to_numpy()
    assert (names[told] == kept["context"].to_numpy()[told]).all()


@pytest.mark.reference
@pytest.mark.skipif(not (SHARED / "vendorable").exists(), reason="../shared/data is absent")
@pytest.mark.parametrize("name", ["imr90_chr22", "lupus_rrbs"])
def test_real_counts_written_as_bismark_cov_come_back(tmp_path, name):
    calls = pl.read_csv(SHARED / "vendorable" / name / "calls.tsv.gz", separator="\t")
    samples = [c.removesuffix("_coverage") for c in calls.columns if c.endswith("_coverage")]
    files = []
    for sample in samples:
        m, n = pl.col(f"{sample}_methylated"), pl.col(f"{sample}_coverage")
        position = pl.col("start") + 1
        table = calls.filter(n > 0).select(
            "chrom", position.alias("p"), position.alias("q"), 100 * m / n, m, (n - m).alias("u")
        )
        file = tmp_path / f"{sample}.cov.gz"
        with gzip.open(file, "wb", compresslevel=1) as out:
            table.write_csv(out, separator="\t", include_header=False)
        files.append(file)
    ingest(sheet_of(files), tmp_path / "out.zarr")
    found = open_methylome(tmp_path / "out.zarr").load()
    seen = calls.filter(pl.any_horizontal(pl.col(f"{s}_coverage") > 0 for s in samples))
    assert (found["position"].values == seen["start"].to_numpy()).all()
    for k, sample in enumerate(samples):
        n = seen[f"{sample}_coverage"].to_numpy()
        m = np.where(n > 0, seen[f"{sample}_methylated"].to_numpy(), 0)
        assert (found["coverage"].values[:, k] == n).all()
        assert (found["methylated"].values[:, k] == m).all()

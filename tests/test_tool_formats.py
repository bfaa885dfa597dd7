"""The formats of other tools: literal rows from their documents, with counts worked by hand."""

import gzip

import pytest
from calls_files import bed, ingested, put, sheet_of, sites

from melisma.calls import format_named, ingest, sniff
from melisma.errors import MelismaError
from melisma.methylome import open_methylome


def refused(folder, text, **options):
    """The sentence that this text is refused with."""
    with pytest.raises(MelismaError) as caught:
        ingested(folder, text, **options)
    assert not list(folder.glob("*.zarr*"))
    return str(caught.value).replace(f"{folder}/", "")


BED9 = "chr1\t{0}\t{1}\t{2}\t900\t{3}\t{0}\t{1}\t0,0,0\t"
MODBAM2BED = [
    BED9.format(4, 5, "5mC", "+") + "40\t58.06\t13\t18\t5\n",
    BED9.format(9, 10, "5mC", "-") + "3\tnan\t0\t0\t3\n",
    BED9.format(12, 13, "5mC", "-") + "9\t0.00\t9\t0\t0\n",
]


@pytest.mark.parametrize("more", ["", "\t2", "\t2\t0"])
def test_modbam2bed_has_canonical_before_modified(tmp_path, more):
    found = ingested(tmp_path, "".join(MODBAM2BED).replace("\n", f"{more}\n"))
    assert sites(found) == [
        ("chr1", 4, 1, "m", "unknown", [(18, 31)]),
        ("chr1", 12, -1, "m", "unknown", [(0, 9)]),
    ]
    made = found.attrs["ingest"]["samples"]["a"]
    assert (made["format"], made["drops"]) == ("modbam2bed", {"coverage of 0": 1})


def test_modbam2bed_counts_other_modifications_as_valid(tmp_path):
    # 18 of 31 + 9 reads: 45%.
    text = BED9.format(4, 5, "5mC", "+") + "45\t45.00\t13\t18\t5\t0\t9\n"
    assert sites(ingested(tmp_path, text))[0][-1] == [(18, 40)]


def test_modbam2bed_rows_of_a_whole_cpg_are_merged(tmp_path):
    text = BED9.format(4, 6, "5mC", ".") + "40\t58.06\t13\t18\t5\t0\n"
    found = ingested(tmp_path, text)
    assert sites(found) == [("chr1", 4, 0, "m", "unknown", [(18, 31)])]
    assert found.attrs["strands"] == "merged"
    stranded = BED9.format(4, 6, "5mC", "-") + "40\t58.06\t13\t18\t5\t0\n"
    assert "the end is the start plus 1 or 2 or 3, 1 on strand -" in refused(
        tmp_path / "minus", stranded, format="modbam2bed"
    )


@pytest.fixture(autouse=True)
def _folders(tmp_path):
    for name in ("minus", "other"):
        (tmp_path / name).mkdir()


def test_modbam2bed_columns_must_agree(tmp_path):
    swapped = BED9.format(4, 5, "5mC", "+") + "40\t58.06\t18\t13\t5\n"
    assert "column 11 (percent modified) is 58.06, which is not the percentage" in refused(
        tmp_path, swapped
    )
    deep = BED9.format(4, 5, "5mC", "+") + "30\t58.06\t13\t18\t5\n"
    assert "column 10 (depth) is 30, but column 13 (N modified) is 18 and" in refused(
        tmp_path / "other", deep
    )


@pytest.mark.parametrize("form", [None, "bedmethyl"])
def test_a_bedmethyl_with_canonical_before_modified_is_refused(tmp_path, form):
    good = bed((5, "m", "+", 4, 1, 3, 0))
    # N valid is the sum either way round: the percentage tells 18 of 31 from 13 of 31.
    row = "chr1\t9\t10\tm\t31\t+\t9\t10\t255,0,0\t31 58.06 13 18 0 0 0 0 0\n"
    assert refused(tmp_path, good + row, format=form) == (
        "0.txt line 2: column 11 (percent modified) is 58.06, which is not the percentage that "
        "column 12 (N modified) is 13 of column 10 (N valid) is 31 give: are columns 12 and 13 the "
        "other way round, as in a file of modbam2bed?"
    )


def test_a_bedmethyl_that_is_swapped_further_down_is_refused(tmp_path):
    good = bed(*((5 * k, "m", "+", 4, 1, 3, 0) for k in range(600)))
    swapped = bed(*((5 * k, "m", "+", 4, 1, 3, 0) for k in range(600, 616)))
    sentence = refused(tmp_path, good + swapped.replace(" 1 3 0", " 3 1 0"))
    assert "column 11 (percent modified) is 25.00, which is not the percentage" in sentence


def test_bedmethyl_without_valid_reads_has_no_percentage(tmp_path):
    text = bed((5, "m", "+", 4, 1, 3, 0)) + bed((9, "m", "+", 0, 0, 0, 0)).replace("0.00", "NaN")
    assert len(sites(ingested(tmp_path, text))) == 1
    some = bed((9, "m", "+", 2, 0, 2, 0)).replace("0.00", "NaN")
    assert "column 11 (percent modified) is NaN" in refused(tmp_path / "other", some)


def test_encode_bedmethyl_is_coverage_and_a_whole_percentage(tmp_path):
    rows = [("+", 12, 33), ("-", 7, 57), (".", 0, 0)]
    text = "".join(
        BED9.format(5 * k, 5 * k + 1, ".", strand) + f"{n}\t{percent}\n"
        for k, (strand, n, percent) in enumerate(rows[:2])
    )
    found = sites(ingested(tmp_path, text))
    assert [(site[1], site[2], site[-1]) for site in found] == [
        (0, 1, [(4, 12)]),
        (5, -1, [(4, 7)]),
    ]
    high = text + BED9.format(50, 51, ".", "+") + "5\t101\n"
    assert "line 3: column 11 (percent methylated) is 101, which is not the percentage of" in (
        refused(tmp_path / "other", high)
    )


REPORT = (
    "1\t11\t+\t3\t1\tCG\tCGA\n"
    "1\t12\t-\t0\t0\tCG\tCGT\n"
    "1\t15\t+\t0\t4\tCHG\tCTG\n"
    "1\t17\t-\t1\t0\tCHH\tCCA\n"
)


@pytest.mark.parametrize("more", ["", "\tACGT\tACGTA\tAACGTA"])
def test_bismark_reports_have_strand_context_and_unseen_rows(tmp_path, more):
    found = ingested(tmp_path, REPORT.replace("\n", f"{more}\n"))
    assert sites(found) == [
        ("1", 10, 1, "m", "CG", [(3, 4)]),
        ("1", 14, 1, "m", "CHG", [(0, 4)]),
        ("1", 16, -1, "m", "CHH", [(1, 1)]),
    ]
    made = found.attrs["ingest"]["samples"]["a"]
    assert (made["format"], made["drops"]) == ("bismark-report", {"coverage of 0": 1})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "bismark-report",
            "1\t11\t+\t3\t1\tCG\tCGA\n1\t12\t-\t2\t0\tCG\tCGT\n1\t15\t+\t0\t4\tCHG\tCTG\n",
        ),
        ("allc", "1\t11\t+\tCGA\t3\t4\t1\n1\t12\t-\tCGT\t2\t2\t1\n1\t15\t+\tCTG\t0\t4\t0\n"),
        (
            "dnmtools",
            "1\t10\t+\tCpG\t0.75\t4\n1\t11\t-\tCpG\t1\t2\n1\t14\t+\tCXG\t0\t4\n",
        ),
        (
            "biscuit-context",
            "1\t10\t11\tC\tCG\tCG\tAACGA\t0.750\t4\n1\t11\t12\tG\tCG\tCG\tAACGT\t1.000\t2\n"
            "1\t14\t15\tC\tCHG\tCT\tAACTG\t0.000\t4\n",
        ),
    ],
)
def test_strands_are_merged_without_a_genome_where_the_file_has_contexts(tmp_path, name, text):
    assert sniff(put(tmp_path / "calls", text)).format.name == name
    found = ingested(tmp_path, text, merge_strands=True)
    assert sites(found) == [("1", 10, 0, "m", "CG", [(5, 6)])]
    assert found.attrs["ingest"]["samples"]["a"]["drops"] == {"not in CG": 1}
    assert found.attrs["strands"] == "merged"


def test_allc_contexts_are_bases(tmp_path):
    rows = ["CGT", "CGN", "CTG", "CCG", "CAT", "CNN", "GCGT", "CCGT"]
    text = "".join(f"12\t{k + 1}\t+\t{word}\t1\t2\t1\n" for k, word in enumerate(rows))
    found = ingested(tmp_path, text)
    contexts = ["CG", "CG", "CHG", "CHG", "CHH", "unknown", "unknown", "unknown"]
    assert [(site[0], site[4]) for site in sites(found)] == [("12", word) for word in contexts]


def test_allc_with_matches(tmp_path):
    text = "1\t11\t+\tCGA\t3\t4\t1\t9,12,13\t0,0,1\n1\t15\t-\tCTG\t0\t4\t0\t1,1,1\t0,0,0\n"
    assert [site[-1] for site in sites(ingested(tmp_path, text))] == [[(3, 4)], [(0, 4)]]
    short = text + "1\t19\t-\tCTG\t0\t4\t0\n"
    assert "line 3 has 7 tab-separated columns, and ALLC of methylpy and ALLCools has 9" in (
        refused(tmp_path / "other", short)
    )


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("1\t19\t-\tCTG\t0\t1\t4\n", "column 7 (methylated) is '4', expected 0 or 1"),
        ("1\t19\t-\tCTG\t4\t3\t1\n", "column 5 (mc) is 4, more than the coverage"),
    ],
)
def test_allc_columns_in_another_order(tmp_path, row, sentence):
    assert sentence in refused(tmp_path, "1\t11\t+\tCGA\t3\t4\t1\n" + row)


TRACK = 'track type="bedGraph" description="x CpG methylation levels"\n'


def test_methyldackel_is_zero_based_and_cuts_the_percentage(tmp_path):
    found = ingested(tmp_path, TRACK + "1\t25\t26\t66\t2\t1\n1\t26\t27\t0\t0\t4\n")
    assert sites(found) == [
        ("1", 25, 0, "m", "unknown", [(2, 3)]),
        ("1", 26, 0, "m", "unknown", [(0, 4)]),
    ]
    assert found.attrs["ingest"]["samples"]["a"]["format"] == "methyldackel"
    assert found.attrs["strands"] == "unknown"


@pytest.mark.parametrize("width", [2, 3])
def test_methyldackel_merged_rows(tmp_path, width):
    found = ingested(tmp_path, TRACK + f"1\t25\t{25 + width}\t66\t2\t1\n")
    assert sites(found) == [("1", 25, 0, "m", "unknown", [(2, 3)])]
    assert found.attrs["strands"] == "merged"
    assert "was read as methyldackel and is methyldackel-merged" in refused(
        tmp_path / "other", f"1\t25\t{25 + width}\t66\t2\t1\n", format="methyldackel"
    )


def test_methyldackel_writes_methylkit_with_padded_percentages(tmp_path):
    text = (
        "chrBase\tchr\tbase\tstrand\tcoverage\tfreqC\tfreqT\n"
        "1.26\t1\t26\tF\t4\t 75.00\t 25.00\n"
        "1.27\t1\t27\tR\t5\t100.00\t  0.00\n"
    )
    found = sites(ingested(tmp_path, text))
    assert [(site[1], site[2], site[-1]) for site in found] == [
        (25, 1, [(3, 4)]),
        (26, -1, [(5, 5)]),
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TRACK + "1\t4\t5\t50\t1\t1\n", "methyldackel"),
        ("1\t4\t5\t33\t1\t2\n", "methyldackel"),
        ("1\t4\t6\t33\t1\t2\n", "methyldackel-merged"),
        ("1\t4\t5\t33.3333333333333\t1\t2\n1\t5\t6\t50\t1\t1\n", "bismark-zero-cov"),
        ("1\t4\t5\t0.333\t3\n", "biscuit"),
        ("1\t4\t6\t0.333\t3\tC:0.000:1,G:0.500:2\n", "biscuit-merged"),
        ("1\t4\t+\tCpG\t0.333333\t3\n", "dnmtools"),
        ("1\t4\t-\tCHHx\t0\t0\n", "dnmtools"),
        ("1\t4\t-\tCAT\t0\t3\t0\n", "allc"),
        ("1\t4\t-\t0\t3\tCHH\tCAT\n", "bismark-report"),
        (BED9.format(4, 5, ".", "+") + "12\t33\n", "encode-bedmethyl"),
        (BED9.format(4, 5, "5mC", "+") + "12\tnan\t0\t0\t3\n", "modbam2bed"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_first_lines_tell(tmp_path, text, name, end):
    assert sniff(put(tmp_path / "calls.gz", text.replace("\n", end))).format.name == name


def test_zero_cov_and_merged_cov_are_one_base_apart(tmp_path):
    text = "1\t10\t11\t75\t3\t1\n"
    for name, position, strands in [
        ("bismark-zero-cov", 10, "unknown"),
        ("methyldackel", 10, "unknown"),
        ("bismark-merged-cov", 9, "merged"),
    ]:
        found = ingested(tmp_path, text, format=name)
        assert sites(found) == [("1", position, 0, "m", "unknown", [(3, 4)])]
        assert found.attrs["strands"] == strands


GENOME = ">1\n" + "TTACGTTTCATG" * 40 + "\n"


def test_merged_cov_read_as_zero_cov_is_noticed_with_a_genome(tmp_path):
    put(tmp_path / "genome.fa", GENOME)
    starts = [12 * k + 3 for k in range(40)]  # 0-based C of each CG
    text = "".join(f"1\t{c + 1}\t{c + 2}\t75\t30\t10\n" for c in starts)
    options = {"genome": tmp_path / "genome.fa"}
    assert "as if each position were one too high" in refused(
        tmp_path / "other", text, format="bismark-zero-cov", **options
    )
    found = ingested(tmp_path, text, format="bismark-merged-cov", **options)
    assert [site[1] for site in sites(found)] == starts
    assert {site[4] for site in sites(found)} == {"CG"}


@pytest.mark.parametrize(("name", "base"), [("bismark-report", 0), ("allc", 0), ("dnmtools", 1)])
def test_coordinates_of_the_other_base_are_noticed_with_a_genome(tmp_path, name, base):
    put(tmp_path / "genome.fa", GENOME)
    rows = {
        "bismark-report": "1\t{}\t+\t30\t10\tCG\tCGT\n",
        "allc": "1\t{}\t+\tCGT\t30\t40\t1\n",
        "dnmtools": "1\t{}\t+\tCpG\t0.75\t40\n",
    }
    text = "".join(rows[name].format(12 * k + 3 + base) for k in range(40))
    sentence = refused(tmp_path, text, genome=tmp_path / "genome.fa")
    assert f"coordinates look {base}-based: 0.0% of its reads" in sentence


def test_biscuit_rounds_beta_times_coverage(tmp_path):
    text = "1\t4\t5\t0.333\t3\n1\t8\t9\t0.667\t300\n1\t12\t13\t.\t0\n"
    assert [site[-1] for site in sites(ingested(tmp_path, text))] == [[(1, 3)], [(200, 300)]]


def test_biscuit_with_context(tmp_path):
    text = "1\t4\t5\tG\tCHG\tCT\tAACTG\t0.333\t3\n1\t8\t9\tC\tCN\tCN\tAACNN\t1.000\t2\n"
    assert sites(ingested(tmp_path, text)) == [
        ("1", 4, -1, "m", "CHG", [(1, 3)]),
        ("1", 8, 1, "m", "unknown", [(2, 2)]),
    ]


def test_biscuit_merged_is_a_row_a_cpg(tmp_path):
    found = ingested(tmp_path, "1\t4\t6\t0.333\t3\tC:0.000:1,G:0.500:2\n")
    assert sites(found) == [("1", 4, 0, "m", "unknown", [(1, 3)])]
    assert found.attrs["strands"] == "merged"


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("biscuit", "1\t4\t5\t0.500\t7\n", "column 4 (beta) is 0.500"),
        ("biscuit", "1\t4\t5\t66\t3\n", "column 4 (beta) is 66"),
        ("dnmtools", "1\t4\t+\tCpG\t0.5\t7\n", "column 5 (level) is 0.5"),
    ],
)
def test_a_level_that_no_count_gives(tmp_path, name, text, column):
    sentence = refused(tmp_path, text, format=name)
    assert f"{column}, which is not the fraction of any count among the reads" in sentence


def test_dnmtools_leaves_out_mutated_bases(tmp_path):
    text = (
        "1\t4\t+\tCpG\t0.666667\t3\n1\t5\t-\tCpGx\t0\t5\n1\t9\t+\tCCG\t1\t2\n1\t11\t-\tCXG\t0\t2\n"
        "1\t12\t-\tCHH\t0\t1\n1\t13\t-\tCHH\t0\t0\n"
    )
    found = ingested(tmp_path, text)
    assert [(site[1], site[4], site[-1]) for site in sites(found)] == [
        (4, "CG", [(2, 3)]),
        (9, "CHG", [(2, 2)]),
        (11, "CHG", [(0, 2)]),
        (12, "CHH", [(0, 1)]),
    ]
    made = found.attrs["ingest"]["samples"]["a"]
    assert made["drops"] == {"coverage of 0": 1, "mutated in the sample": 1}
    assert "all of its 1 calls have a coverage of 0 or a mutated base (1)" in refused(
        tmp_path / "other", "1\t5\t-\tCpGx\t0\t5\n"
    )


@pytest.mark.parametrize(
    ("header", "row", "column"),
    [
        (
            "chrom\tpos\tstrand\tmc_class\tmc_count\ttotal\tmethylated\n",
            "1\t4\t+\tCGA\t1\t2\t1\n",
            2,
        ),
        ("chr\tstart\tend\tpercent\tm\tu\n", "1\t5\t5\t50\t1\t1\n", 2),
    ],
)
def test_a_header_where_none_should_be(tmp_path, header, row, column):
    sentence = refused(tmp_path, header + row)
    assert f"0.txt line 1: column {column} (" in sentence
    assert "if the line is a header, remove it" in sentence


@pytest.mark.parametrize("name", ["methylkit", "dss"])
def test_a_missing_header(tmp_path, name):
    text = "1.5\t1\t5\tF\t4\t50\t50\n" if name == "methylkit" else "1\t5\t4\t2\n"
    assert f"and {format_named(name).title} begins with a header of" in refused(
        tmp_path, text, format=name
    )


def test_bgzip_and_windows_line_ends(tmp_path):
    # bgzip: gzip members of blocks, then an empty one.
    data = b"".join(
        gzip.compress(part.replace("\n", "\r\n").encode())
        for part in (REPORT[:23], REPORT[23:], "")
    )
    (tmp_path / "a.txt.gz").write_bytes(data)
    ingest(sheet_of([tmp_path / "a.txt.gz"]), tmp_path / "out.zarr")
    assert len(sites(open_methylome(tmp_path / "out.zarr").load())) == 3

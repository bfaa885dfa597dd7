"""Bad input to ingest: one sentence that says where, nothing left behind."""

import gzip
import re

import polars as pl
import pytest
from calls_files import SHARED, bed, cov, put, sheet_of

from melisma.calls import format_named, ingest
from melisma.errors import MelismaError
from melisma.methylome import open_methylome

DSS = "chr\tpos\tN\tX\n"
METHYLKIT = "chrBase\tchr\tbase\tstrand\tcoverage\tfreqC\tfreqT\n"
GOOD = cov((5, 1, 1), (9, 2, 0))


def refused(tmp_path, *texts, suffix=".txt", sheet=None, **options):
    """The sentence of a refused ingest, which must leave nothing behind."""
    folder = tmp_path / "made"
    folder.mkdir(exist_ok=True)
    files = [put(tmp_path / f"{k}{suffix}", text) for k, text in enumerate(texts)]
    with pytest.raises(MelismaError) as caught:
        ingest(sheet_of(files) if sheet is None else sheet, folder / "out.zarr", **options)
    assert list(folder.iterdir()) == []
    sentence = str(caught.value)
    assert sentence.endswith((".", "?"))
    assert not sentence.endswith("?.")
    assert "\n" not in sentence
    return sentence.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            GOOD + "chr1\t12\t12\t50\tthree\t1\n",
            "0.txt line 3: column 5 (methylated) is 'three', expected a whole number",
        ),
        (
            "# c\n\n" + GOOD + "chr1\t12\t12\t50\t-1\t1\n",
            "0.txt line 5: column 5 (methylated) is '-1', expected a number of 0 or more",
        ),
        (
            GOOD + "chr1\t12\t12\t50\t1.5\t1.5\n",
            "0.txt line 3: column 5 (methylated) is '1.5', expected a whole number",
        ),
        (
            GOOD + "chr1\t99999999999\t99999999999\t50\t1\t1\n",
            "0.txt line 3: column 2 (start) is '99999999999', larger than the largest position",
        ),
        (GOOD + "chr1\t12\t12\t50\t1\n", "0.txt line 3 has 5 tab-separated columns, and Bismark"),
        (GOOD + "chr1\t12\t12\t50\t1\t1\t1\n", "0.txt line 3 has 7 tab-separated columns"),
        (
            GOOD + "chr1\t12\t12\t20\t1\t1\n",
            "0.txt line 3: column 4 (percent methylated) is 20, which is not the percentage that "
            "the counts give, as column 5 (methylated) is 1 and column 6 (unmethylated) is 1",
        ),
        (
            GOOD + "chr1\t12\t13\t50\t1\t1\n",
            "0.txt line 3: column 2 (start) is 12 and column 3 (end) is 13, and in Bismark "
            "coverage the end is the same as the start",
        ),
        (
            GOOD + "chr1\t0\t0\t50\t1\t1\n",
            "0.txt line 3: column 2 (start) is 0, and positions of Bismark coverage start at 1",
        ),
        (GOOD + "chr1\t12\t12\tNA\t1\t1\n", "0.txt line 3: column 4 (percent methylated) is 'NA'"),
        (
            bed((5, "m", "+", 4, 1, 3, 0), (6, "m", "+", 4, 3, 4, 0)),
            "0.txt line 2: column 10 (N valid) is 4, but column 12 (N modified) is 3, column 13 (N "
            "canonical) is 4, column 14 (N other mod) is 0 do not sum to it: is this a file of "
            "modbam2bed",
        ),
        (
            bed((5, "m", "+", 4, 1, 3, 0), (6, "m", "+", 4, 5, 0, 0)),
            "0.txt line 2: column 12 (N modified) is 5, more than the coverage, as column 10 (N "
            "valid) is 4",
        ),
        (
            bed((5, "m", "+", 4, 1, 3, 0), (6, "17596", "+", 4, 3, 1, 0)),
            "0.txt line 2: column 4 (code) is '17596', a modification that is not supported: m "
            "(5mC), h (5hmC)",
        ),
        (
            bed((5, "m", "+", 4, 1, 3, 0), (6, "m", "?", 4, 3, 1, 0)),
            "0.txt line 2: column 6 (strand) is '?', expected a strand",
        ),
        (
            bed((5, "m", "+", 4, 1, 3, 0), (6, "m", ".", 4, 3, 1, 0)),
            "0.txt mixes calls with a strand and calls without",
        ),
        (DSS + "chr1\t5\t2\t3\n", "0.txt line 2: column 4 (X) is 3, more than the coverage"),
        (
            DSS + '"chr1"\t5\t2\t1\n',
            "0.txt line 2: column 1 (chr) is '\"chr1\"', expected a contig's name without quotes",
        ),
        (
            METHYLKIT + "x\tchr1\t5\tF\t10\t60.00\t60.00\n",
            "0.txt line 2: column 6 (freqC) is 60.00 and column 7 (freqT) is 60.00, and together",
        ),
        (
            GOOD + "chr 1\t12\t12\t50\t1\t1\n",
            "0.txt line 3: column 1 (chromosome) is 'chr 1', with a space, and columns of Bismark",
        ),
        (
            METHYLKIT + "x\tchr1\t5\tF\t10\t0.40\t0.60\n",
            "0.txt line 2: column 6 (freqC) is 0.40 and column 7 (freqT) is 0.60, and a percentage "
            "above 0 that is less than half a read, as column 5 (coverage) is 10, is that of no",
        ),
        (
            "chr1\t1\t2\t.\t7\t+\t1\t2\t0,0,0\t7\t43\nchr1\t5\t6\t.\t7\t+\t5\t6\t0,0,0\t7\t0.43\n",
            "0.txt line 2: column 11 (percent methylated) is 0.43, and a percentage above 0 that "
            "is less than half a read, as column 10 (coverage) is 7, is that of no count: if the",
        ),
        (
            "chr1\tC\t5\tCG\tCG\t0.5\t1\t2\nchr1\tA\t7\tCG\tCG\t0.5\t1\t2\n"
            "chr1\tC\t9\tCG\tCG\t0.5\t1\t2\n",
            "0.txt line 2: column 2 (nucleotide) is 'A', expected the base C or G",
        ),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_column(tmp_path, text, sentence):
    assert refused(tmp_path, text).startswith(sentence)
    # The same fault in a later block of a compressed file has the same line.
    assert refused(tmp_path, text, suffix=".gz", block_bytes=300).startswith(
        sentence.replace("0.txt", "0.gz")
    )


def test_repeated_positions_name_both_lines(tmp_path):
    text = "# c\n" + cov((5, 1, 1), (9, 2, 0), (5, 4, 4), (7, 1, 1))
    assert refused(tmp_path, text) == (
        "0.txt lines 2 and 4 are both for chr1:5: keep one row a position."
    )
    text = bed((5, "m", "+", 4, 1, 3, 0), (5, "h", "+", 4, 1, 3, 0), (5, "m,CG,0", "+", 4, 1, 3, 0))
    assert "lines 1 and 3 are both for chr1:5 m" in refused(tmp_path, text)
    apart = cov((5, 1, 1)) + cov((5, 1, 1), contig="chr2") + cov((5, 1, 1))
    assert "lines 1 and 3 are both for chr1:5" in refused(tmp_path, apart)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "0.txt is empty"),
        ("\n\n", "0.txt holds no calls"),
        ("# only a comment\n", "0.txt holds no calls"),
        (DSS, "0.txt holds no calls: it should have rows of DSS text."),
        (cov((5, 0, 0)), "0.txt: all of its 1 calls have a coverage of 0."),
    ],
)
def test_a_file_without_calls(tmp_path, text, sentence):
    assert refused(tmp_path, text).startswith(sentence)


def test_a_mark_that_the_file_lacks(tmp_path):
    sentence = refused(tmp_path, bed((5, "m", "+", 4, 1, 3, 0)), mark="5hmC")
    assert (
        sentence == "0.txt has no calls of 5hmC, only of other marks: choose another with --mark."
    )
    assert "'5fC' is not supported" in refused(tmp_path, GOOD, mark="5fC")


@pytest.mark.parametrize("cut", [11, 40, -9, -1])
def test_a_truncated_gzip_file(tmp_path, cut):
    whole = gzip.compress(cov(*((p, p % 7, 3) for p in range(1, 3000))).encode())
    (tmp_path / "a.cov.gz").write_bytes(whole[:cut])
    sentence = refused(tmp_path, sheet=sheet_of([tmp_path / "a.cov.gz"]), format="bismark-cov")
    assert sentence.startswith("a.cov.gz is truncated: its gzip data ends")


def test_a_damaged_gzip_file(tmp_path):
    whole = bytearray(gzip.compress(cov(*((p, p % 7, 3) for p in range(1, 3000))).encode()))
    whole[len(whole) // 2 : len(whole) // 2 + 40] = b"\xff" * 40
    (tmp_path / "a.cov.gz").write_bytes(whole)
    sentence = refused(tmp_path, sheet=sheet_of([tmp_path / "a.cov.gz"]), format="bismark-cov")
    assert sentence.startswith(("a.cov.gz is damaged: its gzip data", "a.cov.gz line"))


def test_other_compressions_are_named(tmp_path):
    assert "0.txt is compressed with xz" in refused(tmp_path, b"\xfd7zXZ\x00rest")


def test_a_gzip_file_of_several_members_is_read_whole(tmp_path):
    data = gzip.compress(cov((5, 1, 1)).encode()) + gzip.compress(cov((9, 2, 0)).encode())
    (tmp_path / "a.cov.gz").write_bytes(data)
    assert ingest(sheet_of([tmp_path / "a.cov.gz"]), tmp_path / "out.zarr").sites == 2


def test_files_that_are_none(tmp_path):
    assert refused(tmp_path, sheet=sheet_of([tmp_path / "none.cov"])) == (
        "There is no file at none.cov."
    )
    (tmp_path / "folder").mkdir()
    assert "folder is a folder: name a file" in refused(
        tmp_path, sheet=sheet_of([tmp_path / "folder"])
    )


@pytest.mark.parametrize("name", ["dss", "bedmethyl", "methylkit", "cgmap", "modbam"])
def test_the_wrong_format_is_named(tmp_path, name):
    sentence = refused(tmp_path, GOOD, format=name)
    assert sentence == (
        f"0.txt was read as {name} and is bismark-cov by its first lines (6 columns: start and "
        "end equal, a percentage, two counts): leave the format out, or name that one."
    )
    assert "There is no format 'csv': the formats are bedmethyl," in refused(
        tmp_path, GOOD, format="csv"
    )


def test_one_bad_file_among_many_stops_all(tmp_path):
    bad = GOOD + "chr1\t12\t12\t50\tthree\t1\n"
    assert refused(tmp_path, GOOD, GOOD, bad, GOOD, workers=2).startswith("2.txt line 3")


def test_sheets_are_checked(tmp_path):
    file = put(tmp_path / "a.cov", GOOD)
    twice = pl.DataFrame({"sample": ["s", "s"], "path": [str(file)] * 2})
    assert "'s' is in the sample sheet twice: merge its files into one first" in refused(
        tmp_path, sheet=twice
    )
    for name in "bc":
        put(tmp_path / f"{name}.cov", GOOD)
    lines = put(tmp_path / "sheet.tsv", "sample\tpath\ns\ta.cov\nt\tb.cov\ns\tc.cov\n")
    assert re.search("line.* 2 .*4", refused(tmp_path, sheet=lines))
    unknown = put(tmp_path / "sheet.tsv", "sample\tpath\ns\tnone.cov\n")
    assert "none.cov" in refused(tmp_path, sheet=unknown)


def test_an_output_without_a_folder(tmp_path):
    file = put(tmp_path / "a.cov", GOOD)
    with pytest.raises(MelismaError, match="There is no folder"):
        ingest(sheet_of([file]), tmp_path / "none" / "out.zarr")
    assert not (tmp_path / "none").exists()


def test_samples_on_two_builds_by_their_accessions(tmp_path):
    texts = [cov((5, 1, 1), contig=f"NC_000001.{version}") for version in (10, 11)]
    assert refused(tmp_path, *texts) == (
        "Sample a names a contig 'NC_000001.10' and sample b names it 'NC_000001.11': these are "
        "two genome builds, so bring the calls to one, or ingest them apart."
    )


def test_names_that_cannot_be_told_apart(tmp_path):
    # The second file's chr1 is the first one's; its 1 is another contig and stays.
    both = cov((5, 1, 1), contig="1") + GOOD
    assert refused(tmp_path, both, cov((5, 1, 1), contig="Chr1")) == (
        "Sample a names a contig '1' and sample b names it 'Chr1': rename the contigs so that all "
        "samples agree."
    )


def test_samples_that_disagree_on_strands(tmp_path):
    texts = bed((5, "m", "+", 4, 1, 3, 0)), bed((5, "m", ".", 4, 1, 3, 0))
    assert refused(tmp_path, *texts).startswith(
        "Sample a has strands 'separate' and sample b 'merged': ingest them with --genome and"
    )


def test_strands_that_cannot_be_merged(tmp_path):
    assert "cannot be merged without a genome, as its calls have no strand" in refused(
        tmp_path, GOOD, merge_strands=True
    )
    assert "does not say which calls are CpGs: pass --genome" in refused(
        tmp_path, bed((5, "m", "+", 4, 1, 3, 0)), merge_strands=True
    )


def test_a_minus_strand_cpg_at_the_first_base_has_no_place(tmp_path):
    text = "chr1\t1\t-\t3\t2\tCG\tCGT\nchr1\t5\t+\t3\t2\tCG\tCGT\n"
    assert refused(tmp_path, text, merge_strands=True) == (
        "0.txt has a call of a CpG on strand - at position 1, where no C can be before it: Bismark "
        "cytosine report is 1-based, so write it with such positions."
    )


def random_genome(tmp_path, seed=1, length=4000):
    """A random contig, its FASTA, and the 0-based C of each of its CpGs."""
    import random

    random.seed(seed)
    bases = "".join(random.choices("ACGT", k=length))
    fasta = put(tmp_path / f"g{seed}.fa", f">chr1\n{bases}\n")
    return fasta, [i for i in range(length - 1) if bases[i : i + 2] == "CG"]


def test_a_contig_that_the_genome_lacks(tmp_path):
    fasta, cpgs = random_genome(tmp_path)
    text = cov(*((p + 1, 1, 1) for p in cpgs), contig="chr9")
    assert "has no contig 'chr9'; it has chr1" in refused(tmp_path, text, genome=fasta)


@pytest.mark.parametrize("both_strands", [True, False])
def test_positions_of_the_wrong_base_are_told(tmp_path, both_strands):
    fasta, cpgs = random_genome(tmp_path)
    positions = sorted({p + s for p in cpgs for s in range(1 + both_strands)})
    zero_based = cov(*((p, 1, 1) for p in positions))
    sentence = refused(tmp_path, zero_based, genome=fasta)
    assert sentence.startswith("0.txt: coordinates look 0-based: ")
    assert "and 100.0% would be if each position were moved by +1; Bismark coverage is" in sentence
    one_based = bed(*((p + 1, "m", ".", 4, 1, 3, 0) for p in cpgs))
    assert refused(tmp_path, one_based, genome=fasta).startswith(
        "0.txt: coordinates look 1-based: 0.0% of its reads are on a base of genome g1"
    )


def test_positions_one_too_high_are_told_by_the_g(tmp_path):
    fasta, cpgs = random_genome(tmp_path)
    ends = DSS + "".join(f"chr1\t{p + 2}\t9\t3\n" for p in cpgs)
    assert refused(tmp_path, ends, genome=fasta).startswith(
        "0.txt: 100.0% of its reads are on the G of a CG and 0.0% on the C, as if each position"
    )


def test_a_wrong_build_is_told(tmp_path):
    fasta, _ = random_genome(tmp_path)
    _, other = random_genome(tmp_path, seed=2)
    text = cov(*((p + s, 1, 1) for p in other for s in (1, 2)))
    sentence = refused(tmp_path, text, genome=fasta)
    assert re.match(
        r"0.txt: \d\d\.\d% of its reads are on a base of genome g1 that cannot", sentence
    )
    assert "give the genome build that the calls were made on." in sentence


def test_a_few_wrong_calls_are_dropped_and_not_refused(tmp_path):
    fasta, cpgs = random_genome(tmp_path)
    rows = [(p + 1, "m", "+", 4, 1, 3, 0) for p in cpgs[:3]]
    rows += [(p, "m", "+", 9, 1, 8, 0) for p in cpgs[3:]]
    file = put(tmp_path / "a.bed", bed(*sorted(rows)))
    made = ingest(sheet_of([file]), tmp_path / "out.zarr", genome=fasta)
    assert sum(made.drops["a"].values()) <= 3
    assert made.sites == len(cpgs) - sum(made.drops["a"].values())


@pytest.mark.reference
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is absent")
def test_real_calls_on_a_real_genome(tmp_path):
    folder = SHARED / "vendorable" / "imr90_chr22"
    calls = pl.read_csv(folder / "calls.tsv.gz", separator="\t").filter(pl.col("rep1_coverage") > 0)
    m, n = calls["rep1_methylated"], calls["rep1_coverage"]
    genome = folder / "chr22.hg19.fa.gz"
    for shift, word in ((1, None), (0, "coordinates look 0-based"), (1000, "genome build")):
        table = pl.DataFrame(
            {"c": "chr22", "p": calls["start"] + shift, "n": n, "x": m}, schema_overrides={"n": int}
        )
        text = DSS + table.write_csv(separator="\t", include_header=False)
        if word:
            assert word in refused(tmp_path, text, genome=genome)
        else:
            file = put(tmp_path / "good.txt", text)
            made = ingest(sheet_of([file]), tmp_path / "out.zarr", genome=genome)
            assert made.sites == len(calls)
            assert made.drops == {"a": {}}
            contexts = open_methylome(tmp_path / "out.zarr")["context"].values
            assert (contexts == 0).all()


def test_format_names_are_those_of_the_table():
    assert format_named("Bismark-Cov").title == "Bismark coverage"

"""Calls written as each tool writes them come back: random ones, and real ones of Arabidopsis."""

import gzip

import polars as pl
import pytest
from calls_files import SHARED, ingested, put, sheet_of, sites
from hypothesis import given, settings
from hypothesis import strategies as st
from tool_rows import DIALECTS, ENCODE, Call, comes_back, written

from melisma.calls import FORMATS, format_named, ingest, sniff
from melisma.calls._format import Kind
from melisma.calls._reader import read_batches
from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, open_methylome

CASES = [(name, k) for name, dialects in DIALECTS.items() for k in range(len(dialects))]


def test_every_text_format_has_a_dialect():
    # bedMethyl of 21 columns has real files; ENCODE's has a test of its own below.
    left = {"bedmethyl21", "encode-bedmethyl"}
    assert {form.name for form in FORMATS if form.columns} == set(DIALECTS) | left


@st.composite
def some_calls(draw, merged):
    """Sorted calls on two contigs; where rows are CpGs, on + and no two on one."""
    calls = []
    for contig in draw(st.lists(st.sampled_from(["chr1", "2"]), unique=True, min_size=1)):
        places = draw(st.lists(st.integers(0, 10**8), unique=True, max_size=8))
        for place in sorted(places):
            coverage = draw(st.integers(0, 400))
            bases = st.tuples(st.just("C"), st.sampled_from("ACGT"), st.sampled_from("ACGT"))
            calls.append(
                Call(
                    contig,
                    2 * place if merged else place,
                    1 if merged else draw(st.sampled_from([1, -1])),
                    "".join(draw(bases)),
                    draw(st.integers(0, coverage)),
                    coverage,
                )
            )
    return calls


def read(form, file):
    """Every call that the parser gives, as `calls_files.sites` shows them."""
    found = []
    for batch in read_batches(file, form, block_bytes=500):
        contexts = batch.context if form.has(Kind.CONTEXT) else [3] * len(batch.key)
        for run in batch.runs:
            for i in range(run.start, run.stop):
                key, counts = int(batch.key[i]), (int(batch.methylated[i]), int(batch.coverage[i]))
                place = (run.contig, key >> 5, (key >> 3 & 3) - 1, "m")
                found.append((*place, CONTEXTS[contexts[i]], [counts]))
    return found


@settings(deadline=None, max_examples=25)
@pytest.mark.parametrize(("name", "k"), CASES)
@given(data=st.data())
def test_random_calls_come_back(tmp_path_factory, name, k, data):
    dialect = DIALECTS[name][k]
    calls = data.draw(some_calls(dialect.merged))
    text = written(dialect, calls, data.draw(st.sampled_from(["\n", "\r\n"])))
    suffix = data.draw(st.sampled_from([".txt", ".txt.gz"]))
    file = put(tmp_path_factory.getbasetemp() / f"calls{suffix}", text or "\n")
    assert read(format_named(name), file) == comes_back(dialect, calls)


@settings(deadline=None, max_examples=50)
@given(calls=some_calls(merged=False))
def test_encode_comes_back_to_within_the_rounding_of_its_percentage(tmp_path_factory, calls):
    file = put(tmp_path_factory.getbasetemp() / "encode.bed", written(ENCODE, calls) or "\n")
    found = read(format_named("encode-bedmethyl"), file)
    for one, two in zip(found, comes_back(ENCODE, calls), strict=True):
        assert one[:-1] == two[:-1]
        ((m, n),), ((true_m, true_n),) = one[-1], two[-1]
        # Half a percent of fewer than 100 reads is less than half a read.
        assert n == true_n
        assert abs(m - true_m) <= (0 if n < 100 else 0.005 * n + 0.5)


@pytest.mark.parametrize(("name", "k"), CASES)
def test_each_is_recognised_by_its_first_lines(tmp_path, name, k):
    calls = [Call("chr1", p, s, "CGT", p % 4, 3) for p, s in [(9, 1), (10, -1), (21, 1), (22, -1)]]
    if DIALECTS[name][k].merged:
        calls = calls[::2]
    file = put(tmp_path / "calls.gz", written(DIALECTS[name][k], calls))
    if name == "bismark-merged-cov":
        with pytest.raises(MelismaError, match="could be bismark-zero-cov or bismark-merged-cov"):
            sniff(file)
    else:
        assert sniff(file).format.name == name


REFERENCE = SHARED / "reference" / "arabidopsis_col0_chr1"
OPPOSITE = str.maketrans("ACGT", "TGCA")


@pytest.fixture(scope="module")
def arabidopsis():
    """The real calls of BS-Seeker with reads, their bases taken from the sequence."""
    with gzip.open(REFERENCE / "sequence.fa.gz", "rt") as lines:
        sequence = "".join(line.strip() for line in lines if line[0] != ">").upper()
    names = ["contig", "base", "position", "context", "pair", "level", "m", "n"]
    rows = pl.read_csv(
        REFERENCE / "bsseeker.txt.gz", separator="\t", has_header=False, new_columns=names
    )
    calls = []
    for contig, base, position, _, _, _, m, n in rows.iter_rows():
        p = position - 1
        plus = base == "C"
        bases = sequence[p : p + 3] if plus else sequence[max(p - 2, 0) : p + 1][::-1]
        bases = bases if plus else bases.translate(OPPOSITE)
        if len(bases) == 3 and set(bases) <= set("ACGT"):
            calls.append(Call(contig, p, 1 if plus else -1, bases, m, n))
    return calls


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/data is absent")
@pytest.mark.parametrize(
    "name", ["bismark-report", "allc", "dnmtools", "biscuit-context", "modbam2bed", "methyldackel"]
)
def test_real_calls_come_back_from_every_cytosine_format(tmp_path, arabidopsis, name):
    dialect = DIALECTS[name][0]
    calls = arabidopsis[:30_000]
    file = put(tmp_path / "calls.gz", written(dialect, calls))
    made = ingest(sheet_of([file]), tmp_path / "out.zarr")
    assert made.formats == {"a": name}
    assert sites(open_methylome(tmp_path / "out.zarr").load()) == comes_back(dialect, calls)


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="../shared/data is absent")
@pytest.mark.parametrize("name", ["bismark-report", "allc", "dnmtools"])
def test_real_cpgs_merge_alike_with_and_without_the_genome(tmp_path, arabidopsis, name):
    text = written(DIALECTS[name][0], arabidopsis)
    alone = sites(ingested(tmp_path, text, merge_strands=True))
    genome = REFERENCE / "sequence.fa.gz"
    assert alone == sites(ingested(tmp_path, text, merge_strands=True, genome=genome))
    expected = {}
    for call in arabidopsis:
        if call.context == "CG" and call.coverage:
            counts = expected.setdefault(call.position - (call.strand < 0), [0, 0])
            counts[0] += call.methylated
            counts[1] += call.coverage
    assert [(site[1], list(site[-1][0])) for site in alone] == sorted(expected.items())

"""What `describe` counts, and what `melisma info` and `melisma formats` print."""

import pytest
from calls_files import bed, cov, ingested, put, sheet_of

from melisma.calls import FORMATS, append, describe, ingest, sniff
from melisma.cli import main
from melisma.errors import MelismaError
from melisma.samples import annotate_samples


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.fixture
def store(tmp_path):
    texts = cov((5, 3, 1), (9, 0, 2), (12, 0, 0)), cov((9, 1, 0)) + cov((2, 1, 1), contig="chr2")
    files = [put(tmp_path / f"{k}.cov", text) for k, text in enumerate(texts)]
    ingest(sheet_of(files, cell=["b", "t"], age=[61, 35]), tmp_path / "study.zarr")
    return tmp_path / "study.zarr"


def test_describe_counts_by_hand(store):
    found = describe(store)
    assert (found.sites, found.contigs) == (3, {"chr1": 2, "chr2": 1})
    assert (found.marks, found.contexts) == ({"m (5mC)": 3}, {"unknown": 3})
    assert (found.strands, found.genome, found.schema) == ("unknown", None, 1)
    assert found.covariates == {"cell": ["b", "t"], "age": [35, 61]}
    a, b = found.samples
    # a: levels 3/4 and 0/2, coverage 4 and 2; b: 1/1 and 1/2, coverage 1 and 2.
    assert (a.sample, a.sites, a.coverage, a.level) == ("a", 2, 3.0, 0.375)
    assert (b.sample, b.sites, b.coverage, b.level) == ("b", 2, 1.5, 0.75)
    assert (a.rows, a.drops) == (3, {"coverage of 0": 1})
    assert (b.rows, b.drops) == (2, {})


def test_describe_counts_marks(tmp_path):
    text = bed((5, "m", "+", 4, 1, 3, 0), (7, "h", "+", 4, 1, 3, 0), (9, "h", "-", 4, 1, 3, 0))
    ingested(tmp_path, text)
    assert describe(tmp_path / "out.zarr").marks == {"m (5mC)": 1, "h (5hmC)": 2}


def test_info_prints_what_was_left_out(store, capsys):
    shown = run(capsys, "info", store)
    assert "3 sites × 2 samples" in shown
    assert "contigs    chr1 2, chr2 1" in shown
    assert "age        35, 61" in shown
    assert "1 coverage of 0" in shown


def test_missing_values_are_counted_apart_from_values(store, capsys):
    annotate_samples(store, {"sample": ["a"], "dose": [0.5], "site": ["lung"]})
    found = describe(store)
    assert found.covariates["dose"] == [0.5]
    assert found.covariates["site"] == ["lung"]
    assert found.missing == {"dose": 1, "site": 1}
    shown = run(capsys, "info", store)
    assert "dose       0.5; 1 missing" in shown
    assert "site       lung; 1 missing" in shown


def test_formats_lists_every_reader_and_names_a_file(tmp_path, capsys):
    shown = run(capsys, "formats")
    assert all(form.name in shown for form in FORMATS)
    file = put(tmp_path / "a.cov", cov((5, 1, 1)))
    assert run(capsys, "formats", file) == (
        f"{file}: bismark-cov (Bismark coverage, 1-based), as it has 6 columns: start and end "
        "equal, a percentage, two counts.\n"
    )


def test_a_store_without_calls_is_named(tmp_path):
    with pytest.raises(MelismaError, match="There is no methylome store"):
        describe(tmp_path / "none.zarr")


def test_ingest_prints_what_it_made(tmp_path, capsys):
    put(tmp_path / "a.cov", cov((5, 1, 1), (9, 0, 0)))
    put(tmp_path / "sheet.csv", "sample,path\ns,a.cov\n")
    shown = run(capsys, "ingest", tmp_path / "sheet.csv", "-o", tmp_path / "out.zarr")
    assert f"{tmp_path / 'out.zarr'}: 1 sites × 1 samples from 2 rows" in shown
    assert "1 coverage of 0" in shown


def test_info_keeps_long_names_and_numbers_apart(tmp_path, capsys):
    file = put(tmp_path / "a.cov", cov((5, 3, 1)))
    sheet = sheet_of([file], tert_expression_log2=[10.5], dead=[0.0])
    ingest(sheet, tmp_path / "out.zarr")
    shown = run(capsys, "info", tmp_path / "out.zarr")
    assert "  tert_expression_log2 10.5\n" in shown
    assert "  dead                 0\n" in shown
    assert "mean level" in shown


def test_of_many_samples_the_first_are_printed(tmp_path, capsys):
    names = [f"s{k:02}" for k in range(62)]
    for name in names:
        put(tmp_path / f"{name}.cov", cov((5, 3, 1)))
    rows = "".join(f"{name},{name}.cov\n" for name in names)
    sheet, out = put(tmp_path / "sheet.csv", f"sample,path\n{rows}"), tmp_path / "out.zarr"
    made, first = run(capsys, "ingest", sheet, "-o", out), run(capsys, "info", out)
    assert f"2 more are not shown: `melisma info {out} --all` lists them." in made
    assert "2 more are not shown: --all shows them." in first
    assert all("s59" in shown and "s60" not in shown for shown in (made, first))
    every = run(capsys, "info", out, "--all")
    assert "s61" in every
    assert "not shown" not in every


OWN_ROWS = {
    "dss": "chr\tpos\tN\tX\nchr1\t5\t4\t3\n",
    "bismark-report": "chr1\t5\t+\t3\t1\tCG\tCGA\nchr1\t6\t-\t2\t2\tCG\tCGT\n",
}


@pytest.mark.parametrize("name", OWN_ROWS)
def test_a_table_of_ones_own_is_told_what_to_be(name, tmp_path, capsys):
    file = put(tmp_path / "own.tsv", "contig\tat\tM_a\tN_a\tM_b\tN_b\nchr1\t5\t3\t4\t1\t2\n")
    with pytest.raises(MelismaError, match=f"For a table of your own.*{name}"):
        sniff(file)
    assert f"({name})" in run(capsys, "formats")
    assert sniff(put(tmp_path / "as_told.tsv", OWN_ROWS[name])).format.name == name


def test_binary_text_is_of_no_format(tmp_path):
    with pytest.raises(MelismaError, match="of no format that is read"):
        sniff(put(tmp_path / "x", b'\x07"a"\rb,c\x00\nd"\re\n'))


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("a.cov", cov((5, 3, 1)), "a file of calls (bismark-cov)"),
        ("a.cov.gz", cov((5, 3, 1)), "a file of calls (bismark-cov)"),
        ("a.tsv.gz", "contig\tat\nchr1\t5\n", "a gzip file"),
    ],
)
def test_calls_in_place_of_a_sheet_are_named(name, text, what, tmp_path, store):
    file = put(tmp_path / name, text)
    for act in (
        lambda: ingest(file, tmp_path / "new.zarr"),
        lambda: append(store, file),
    ):
        with pytest.raises(MelismaError) as raised:
            act()
        assert f"{file} is {what}, where a sample sheet is wanted" in str(raised.value)


def test_a_sheet_with_a_fault_keeps_its_sentence(tmp_path):
    sheet = put(tmp_path / "sheet.csv", "sample,age\na,3\nb,4\n")
    with pytest.raises(MelismaError, match="has no column 'path'"):
        ingest(sheet, tmp_path / "new.zarr")

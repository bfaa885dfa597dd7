import numpy as np
import pytest

from melisma.design import compare, make_contrasts, make_design, read_sheet
from melisma.errors import MelismaError

SHEET = {
    "sample": ["s1", "s2", "s3", "s4", "s5", "s6"],
    "cell": ["a", "b", "a", "b", "a", "b"],
    "donor": ["d1", "d1", "d2", "d2", "d3", "d3"],
    "disease": ["x", "x", "x", "x", "y", "y"],
    "age": [20.0, 20.0, 30.0, 30.0, 50.0, 50.0],
    "batch": ["p", "q", "p", "q", "p", "q"],
}


def write_sheet(tmp_path, text, files=("a.cov", "b.cov")):
    for file in files:
        (tmp_path / file).write_text("chr1\t1\t1\t0\t0\t1\n")
    path = tmp_path / "samples.tsv"
    path.write_text(text)
    return path


def test_reads_a_sheet_with_words_and_numbers(tmp_path):
    path = write_sheet(tmp_path, "sample\tpath\tage\tcell\ns1\ta.cov\t20\tx\n\ns2\tb.cov\t3.5\ty\n")
    sheet = read_sheet(path)
    assert sheet["sample"].to_list() == ["s1", "s2"]
    assert sheet["age"].to_list() == [20.0, 3.5]
    assert sheet["cell"].to_list() == ["x", "y"]
    assert sheet["path"][0] == str((tmp_path / "a.cov").resolve())


def test_reads_csv_with_windows_line_ends(tmp_path):
    path = write_sheet(tmp_path, "sample,path\r\ns1,a.cov\r\n")
    assert read_sheet(path)["sample"].to_list() == ["s1"]


def test_a_numeric_sample_name_stays_a_word(tmp_path):
    path = write_sheet(tmp_path, "sample\tpath\n1\ta.cov\n2\tb.cov\n")
    assert read_sheet(path)["sample"].to_list() == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample\tcell\ns1\tx\n", "no column 'path'"),
        ("sample\tpath\ns1\ta.cov\ns1\tb.cov\n", "lines 2 and 3"),
        ("sample\tpath\ns1\tnone.cov\n", "line 2: sample 's1' has no file"),
        ("sample\tpath\ns1\n", "line 2: 1 fields where the header has 2"),
        ("sample\tpath\n\ta.cov\n", "line 2: the sample has no name"),
        ("sample\tpath\n", "no samples"),
        ("", "is empty"),
        ("sample\tpath\tpath\ns1\ta.cov\ta.cov\n", "two columns named 'path'"),
        ("sample\tpath\tcoverage\ns1\ta.cov\t3\n", "column 'coverage', which the store cannot"),
        ("sample\tpath\tgroup/x\ns1\ta.cov\t3\n", "column 'group/x', which the store cannot"),
    ],
)
def test_a_bad_sheet_is_one_sentence(tmp_path, text, message):
    with pytest.raises(MelismaError, match=message):
        read_sheet(write_sheet(tmp_path, text))


def test_a_missing_sheet(tmp_path):
    with pytest.raises(MelismaError, match="no sample sheet"):
        read_sheet(tmp_path / "none.tsv")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("~ cel", "'cel', which is not a column"),
        ("~ cell +", "cannot be read"),
    ],
)
def test_a_bad_formula(formula, message):
    with pytest.raises(MelismaError, match=message):
        make_design(SHEET, formula)


def test_a_constant_factor_and_a_missing_value():
    with pytest.raises(MelismaError, match="'cell' is 'a' in every sample"):
        make_design(SHEET | {"cell": ["a"] * 6}, "~ cell")
    with pytest.raises(MelismaError, match="'age' has no value for s2"):
        make_design(SHEET | {"age": [1, float("nan"), 3, 4, 5, 6]}, "~ age")


def test_a_difference_of_levels_is_a_vector_of_coefficients():
    design = make_design(SHEET, "~ cell + disease")
    (contrast,) = make_contrasts(design, "cell[b] - cell[a]")
    assert contrast.vector.tolist() == [0, 1, 0]
    (mirror,) = make_contrasts(design, "cell[a]-cell[b]")
    assert mirror.vector.tolist() == [0, -1, 0]


def test_an_interaction_gives_the_marginal_difference():
    # Model: 1, cell b, disease y, both; 2 of 6 samples have disease y.
    design = make_design(SHEET, "~ cell * disease")
    (contrast,) = make_contrasts(design, "cell[b] - cell[a]")
    assert contrast.vector == pytest.approx([0, 1, 0, 1 / 3])


def test_pairwise_names_every_pair():
    sheet = SHEET | {"cell": ["a", "b", "c", "a", "b", "c"]}
    names = [c.name for c in make_contrasts(make_design(sheet, "~ cell"), "pairwise(cell)")]
    assert names == ["cell[b] - cell[a]", "cell[c] - cell[a]", "cell[c] - cell[b]"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell[c] - cell[a]", "no level 'c'; its levels are a, b"),
        ("cell[a] - cell[a]", "with itself"),
        ("cell[a] - disease[x]", "two columns"),
        ("donor[d1] - donor[d2]", "no factor 'donor'"),
        ("weight", r"such as cell\[b\] - cell\[a\]"),
        ("b - a", r"names no column: write cell\[b\] - cell\[a\]"),
        ("a-b", r"write cell\[a\] - cell\[b\]"),
        ("b - c", "is not understood"),
        ("disease", "does not have 'disease': add it"),
    ],
)
def test_a_bad_contrast(text, message):
    with pytest.raises(MelismaError, match=message):
        make_contrasts(make_design(SHEET, "~ cell"), text)


def comparison(formula, text, block=None, sheet=SHEET):
    design = make_design(sheet, formula, block=block)
    return compare(design, make_contrasts(design, text)[0])


def test_the_exposures_coefficient_is_the_contrast():
    # y = 2 + 0.5 [cell b] + 3 [disease y] has no noise: least squares must give 0.5 back.
    found = comparison("~ cell + disease", "cell[b] - cell[a]")
    y = np.array([2, 2.5, 2, 2.5, 5, 5.5])
    model = np.column_stack([found.reduced, found.exposure])
    assert np.linalg.lstsq(model, y, rcond=None)[0][-1] == pytest.approx(0.5)
    assert (found.unit, found.n_units, found.df_residual) == ("samples", 6, 3)
    assert found.side is not None
    assert found.side.tolist() == [-1, 1, -1, 1, -1, 1]


def test_an_exposure_inside_blocks_is_compared_within_them():
    found = comparison("~ cell + disease", "cell[b] - cell[a]", block="donor")
    # Six samples, three donors and one exposure; disease is inside the donors' span.
    assert (found.unit, found.df_residual) == ("samples within blocks", 2)
    assert found.exchange.tolist() == [0, 0, 2, 2, 4, 4]


def test_a_block_of_one_level_compares_nothing_and_is_said():
    sheet = SHEET | {"cell": ["a", "b", "a", "b", "a", "a"]}
    found = comparison("~ cell", "cell[b] - cell[a]", block="donor", sheet=sheet)
    assert found.side is not None
    assert found.side.tolist() == [-1, 1, -1, 1, 0, 0]
    assert "1 of 3 blocks of donor hold one level only" in found.notes[0]


def test_an_exposure_constant_in_blocks_is_compared_between_them():
    found = comparison("~ age", "age", block="donor")
    assert (found.unit, found.n_units) == ("blocks", 3)
    assert found.pool.tolist() == [0, 0, 1, 1, 2, 2]
    assert "3 blocks, not the 6 samples" in found.notes[0]


def test_confounded_columns_are_named():
    with pytest.raises(MelismaError, match=r"cell\[T.b\], batch\[T.q\] are confounded"):
        comparison("~ cell + batch", "cell[b] - cell[a]")


def test_no_replicates_are_refused():
    sheet = {"sample": ["s1", "s2"], "cell": ["a", "b"]}
    with pytest.raises(MelismaError, match="no replicates"):
        comparison("~ cell", "cell[b] - cell[a]", sheet=sheet)
    with pytest.raises(MelismaError, match="no replicates"):
        comparison("~ disease", "disease[y] - disease[x]", block="disease")


def test_a_block_that_is_the_contrast_is_said():
    with pytest.raises(
        MelismaError, match="The block disease is the contrast .* leave out --block"
    ):
        comparison("~ disease", "disease[y] - disease[x]", block="disease")
    with pytest.raises(MelismaError, match="every level of disease is one block"):
        comparison("~ disease", "disease", block="clinic", sheet=SHEET | {"clinic": list("ppppqq")})


@pytest.mark.parametrize(("offset", "scale"), [(0, 1), (738_000, 1), (1.7e9, 86_400), (0, 1e-9)])
def test_a_covariates_unit_and_offset_do_not_matter(offset, scale):
    sheet = SHEET | {"date": [offset + scale * v for v in (1.0, 5, 2, 9, 4, 3)]}
    found = comparison("~ cell + date", "cell[b] - cell[a]", sheet=sheet)
    plain = comparison(
        "~ cell + date", "cell[b] - cell[a]", sheet=SHEET | {"date": [1.0, 5, 2, 9, 4, 3]}
    )
    assert found.df_residual == 3
    assert found.exposure == pytest.approx(plain.exposure, abs=1e-6)


def test_long_numeric_block_names_stay_apart_and_missing_ones_are_refused():
    names = [1234567.0, 1234567.0, 1234568.0, 1234568.0, 1234569.0, 1234569.0]
    assert make_design(SHEET | {"donor": names}, "~ cell", block="donor").block == (
        *["1234567"] * 2, *["1234568"] * 2, *["1234569"] * 2,
    )  # fmt: skip
    with pytest.raises(MelismaError, match="'donor' has no value for s3"):
        make_design(SHEET | {"donor": ["a", "a", "", "b", "c", "c"]}, "~ cell", block="donor")


def test_names_with_leading_zeros_are_words(tmp_path):
    path = write_sheet(tmp_path, "sample\tpath\tdonor\ns1\ta.cov\t001\ns2\tb.cov\t1\n")
    assert read_sheet(path)["donor"].to_list() == ["001", "1"]


def test_a_level_is_not_a_difference():
    with pytest.raises(MelismaError, match="is a level, not a difference"):
        comparison("~ cell", "Intercept")
    with pytest.raises(MelismaError, match="is a level, not a difference"):
        comparison("~ 0 + cell", "cell[a]")


@pytest.mark.parametrize("formula", ["~ cell + poly(age, 2)", "~ cell + np.log(age)"])
def test_functions_of_covariates(formula):
    assert comparison(formula, "cell[b] - cell[a]").df_residual >= 2


def test_numbers_and_truth_values_as_factors():
    sheet = SHEET | {"batch": [1.0, 2, 1, 2, 1, 2], "flag": [True, False, True, True, False, True]}
    assert make_design(sheet, "~ C(batch)").factors == {"batch": ("1", "2")}
    found = comparison("~ C(batch) + flag", "batch[2] - batch[1]", sheet=sheet)
    assert found.side is not None
    assert found.side.tolist() == [-1, 1, -1, 1, -1, 1]


def test_an_interaction_of_two_kinds_of_exposure():
    # disease is constant within donors though its interaction with cell is not.
    sheet = {
        "sample": [f"s{i}" for i in range(12)],
        "cell": ["a", "b"] * 6,
        "disease": ["x"] * 6 + ["y"] * 6,
        "donor": [f"d{i // 2}" for i in range(12)],
    }
    found = comparison("~ cell * disease", "disease[y] - disease[x]", block="donor", sheet=sheet)
    assert (found.unit, found.n_units) == ("blocks", 6)


@pytest.mark.parametrize(
    "text",
    [
        '"sample","path","note"\r\n"s1","a.cov","30,5"\r\n',
        "\ufeffsample;path;note\ns1;a.cov;30,5 mg\n",
        '"sample"\t"path"\t"note"\n"s1"\t"a.cov"\t"30,5"\n',
    ],
)
def test_reads_sheets_as_r_and_excel_write_them(tmp_path, text):
    sheet = read_sheet(write_sheet(tmp_path, text))
    assert sheet["sample"].to_list() == ["s1"]
    assert sheet["note"].to_list() == ["30,5 mg" if "mg" in text else "30,5"]


@pytest.mark.parametrize(
    "text",
    [
        "\n\nsample,path,age,group\n\na,x,1.5,2_0\n,,,\nb,x,-2,3\n",
        "# of two, by, hand\nsample\tpath\tage\tgroup\na\tx\t1.5\t2_0\nb\tx\t-2\t3\n",
        "sep=;\r\nsample;path;age;group\r\na;x;1,5;2_0\r\nb;x;-2;3\r\n",
        "sample;path;age;group;;\na;x;1,5;2_0;;\nb;x;-2;3;;\n",
    ],
)
def test_what_stands_around_a_sheets_table_does_not_change_it(tmp_path, text):
    (tmp_path / "x").write_text("1")
    (tmp_path / "s.tsv").write_text(text)
    sheet = read_sheet(tmp_path / "s.tsv")
    assert sheet.columns == ["sample", "path", "age", "group"]
    assert sheet["age"].to_list() == [1.5, -2]
    assert sheet["group"].to_list() == ["2_0", "3"]


def test_numbers_are_a_slope_until_told_otherwise():
    with pytest.raises(MelismaError, match=r"write C\(age\) in the formula"):
        make_contrasts(make_design(SHEET, "~ age"), "age[30] - age[20]")
    (contrast,) = make_contrasts(make_design(SHEET, "~ C(age)"), "age[30] - age[20]")
    assert contrast.levels == ("30", "20")


def test_levels_of_a_column_with_a_hyphen():
    sheet = SHEET | {"cell-type": SHEET["cell"]}
    (contrast,) = make_contrasts(make_design(sheet, "~ `cell-type`"), "cell-type[b] - cell-type[a]")
    assert contrast.levels == ("b", "a")


def test_units_that_the_blocks_explain_have_no_exposure_at_all():
    sheet = {
        "sample": [f"s{i}" for i in range(10)],
        "cell": ["a", "b", "a", "b", "a", "b", "b", "b", "a", "a"],
        "disease": ["x", "x", "x", "x", "y", "y", "y", "y", "x", "x"],
        "donor": ["1", "1", "2", "2", "3", "3", "4", "4", "5", "5"],
    }
    found = comparison("~ cell + disease", "cell[b] - cell[a]", block="donor", sheet=sheet)
    assert (found.exposure[6:] == 0).all()
    assert (found.exposure[:6] != 0).all()


CONFOUNDED = {
    "sample": [f"s{i}" for i in range(8)],
    "g": list("aaaabbbb"),
    "batch": list("xxxxyyyy"),
    "age": [31.0, 35, 33, 30, 61, 65, 60, 66],
    "sex": list("fmfmfmfm"),
    "individual": [f"p{i}" for i in range(8)],
}


def going_with(sheet, formula="~ g", block=None):
    design = make_design(sheet, formula, block=block)
    notes = compare(design, make_contrasts(design, "g[b] - g[a]")[0]).notes
    return [note for note in notes if "not in the formula" in note]


def test_columns_outside_the_formula_that_go_with_the_contrast_are_said():
    batch, age = going_with(CONFOUNDED)
    assert "goes with batch, which is not in the formula (R2 = 1.00)" in batch
    # age: the groups' means are 32.25 and 63.0 with pooled sums of squares 14.75 and 26: by hand
    # R2 = 8 * 15.375^2 / (8 * 15.375^2 + 40.75) = .979
    assert "goes with age, which is not in the formula (R2 = 0.98)" in age


def test_columns_in_the_formula_or_balanced_over_the_groups_are_not_said():
    balanced = {**CONFOUNDED, "batch": list("xyxyxyxy"), "age": [31.0, 60, 33, 62, 30, 61, 35, 66]}
    assert going_with(balanced) == []
    sheet = {name: CONFOUNDED[name] for name in ("sample", "g", "age")}
    assert going_with({**sheet, "age": [31.0, 60, 33, 62, 30, 61, 35, 66]}, "~ g + age") == []


def test_a_column_of_pairs_is_judged_within_them():
    pairs = {
        "sample": [f"s{i}" for i in range(12)],
        "g": list("ab" * 6),
        "pair": [f"p{i // 2}" for i in range(12)],
        "batch": list("xxyyxxyyxxyy"),  # constant within pairs
        "lane": list("uvuvuvuvuvuv"),  # is g within every pair
        "day": list("uvuvuvuvuvvu"),  # against it in one of six: R2 = (4 / 6)^2
    }
    (lane,) = going_with(pairs, block="pair")
    assert "goes with lane" in lane

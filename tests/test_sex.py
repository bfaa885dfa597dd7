"""Sex from simulated depths and levels (no real data with sex is at hand), and literals."""

import numpy as np
import pytest

from melisma.methylome import dataset
from melisma.quality import check_quality
from melisma.quality._sex import grouped_median, two_groups

SIZES = {"chr1": 3000, "chrX": 400, "chrY": 120}


def people(sexes, depth, seed=0, *, with_y=True, capture=(1.0, 1.0), sheet=None):
    """Simulated counts: sites vary in capture, Y reads stray into females at 3%."""
    rng = np.random.default_rng(seed)
    parts, levels, contigs = [], [], list(SIZES)[: 3 if with_y else 2]
    for k, name in enumerate(contigs):
        n = SIZES[name]
        copies = np.array(
            [
                1.0 if k == 0 else ((1.0 if s == "female" else 0.5) * capture[0]) if k == 1
                else (0.03 if s == "female" else 0.5) * capture[1]
                for s in sexes
            ]
        )  # fmt: skip
        site = rng.gamma(8, 1 / 8, (n, 1))
        parts.append(rng.poisson(depth * site * copies))
        island = rng.random((n, 1)) < 0.4
        low = rng.beta(1, 20, (n, 1))
        silent = np.where(k == 1, np.array([0.5 if s == "female" else 0.0 for s in sexes]), 0.0)
        levels.append(np.where(island, np.maximum(low, silent), 0.85))
    coverage = np.concatenate(parts)
    sheet = {"sex": sheet} if sheet is not None else {}
    return dataset(
        {
            "contig": np.repeat(np.arange(len(contigs)), [SIZES[c] for c in contigs]),
            "position": np.concatenate([np.arange(SIZES[c]) * 50 for c in contigs]),
        },
        {"methylated": rng.binomial(coverage, np.concatenate(levels)), "coverage": coverage},
        {"sample": [f"s{i}" for i in range(len(sexes))]} | sheet,
        contigs=contigs,
    )


MIXED = ["female", "male"] * 4


def test_grouped_median_by_hand():
    # Depths 0, 1, 1, 2: half of 4 is 2; one below class 1, so (2 - 1) / 2 into it: 0.5 + 0.5.
    assert grouped_median(np.array([[1, 2, 1]])).tolist() == [1.0]
    assert grouped_median(np.array([[9, 1, 0], [0, 0, 0]])).tolist() == [5 / 9 - 0.5, 0.0]


def test_two_groups_need_a_gap():
    assert two_groups(np.array([1.0, 1.1, 1.2]), 0.5) is None
    assert two_groups(np.array([0.0, 0.4, 0.8, 1.2]), 0.5) is None
    # A gap, but not wide beside the group's own spread.
    assert two_groups(np.array([0.0, 0.5, 1.0, 1.5, 2.1]), 0.5) is None
    found = two_groups(np.array([0.0, np.nan, 0.1, 3.0, 3.2]), 0.5)
    assert found is not None
    assert found[0].tolist() == [False, False, False, True, True]


@pytest.mark.parametrize("depth", [2, 5, 10, 30])
@pytest.mark.parametrize("with_y", [True, False])
def test_simulated_sexes_are_told(depth, with_y):
    for seed in range(5):
        quality = check_quality(people(MIXED, depth, seed, with_y=with_y), sites=100)
        assert quality.sex.table["sex"].to_list() == MIXED
    assert "two groups" in quality.sex.method


@pytest.mark.parametrize("sexes", [["female"] * 6, ["male"] * 6, ["male"], ["female", "male"]])
def test_one_sex_or_few_samples_go_by_fixed_limits(sexes):
    quality = check_quality(people(sexes, 10))
    assert quality.sex.table["sex"].to_list() == sexes
    assert quality.sex.method == "fixed limits on the coverage of chrX and chrY"


def test_a_panel_that_shifts_both_chromosomes_is_divided_by_its_groups():
    # X captured at 1.8 times and Y at 0.4 times: the fixed limits would call no one male.
    quality = check_quality(people(MIXED, 20, capture=(1.8, 0.4)))
    assert quality.sex.table["sex"].to_list() == MIXED
    assert min(quality.sex.table["x_ratio"]) > 0.7


def test_one_x_without_y_cannot_be_told():
    made = people(["female"] * 4 + ["male"] * 4, 30)
    y = made["contig"].values == 2
    for name in ("coverage", "methylated"):
        made[name].values[np.ix_(y, [7])] = 0
    sex = check_quality(made).sex.table
    assert sex["sex"].to_list() == ["female"] * 4 + ["male"] * 3 + [None]
    assert "of the autosomes is a male's, but chrY is missing: XXY, X0" in sex["reason"][7]


def test_the_sheet_is_contradicted_by_name():
    sheet = ["F", "male", "woman", "M", "F", "F", "unknown", "2"]
    quality = check_quality(people(MIXED, 20, sheet=sheet))
    assert quality.sex.table["sheet"].to_list() == [
        "female", "male", "female", "male", "female", "female", None, None,
    ]  # fmt: skip
    (found,) = quality.sex.contradictions
    assert (found.samples, found.column, found.found, found.expected) == (
        ("s5",),
        "sex",
        "female",
        "male",
    )
    assert found.sentence.startswith(
        "s5 is female in the sheet, but looks male: chrX is covered 0."
    )
    status = quality.checks.filter(check="max_sex_contradictions")["status"].to_list()
    assert status == ["pass"] * 5 + ["fail"] + ["not applicable"] * 2
    allowed = check_quality(people(MIXED, 20, sheet=sheet), limits={"max_sex_contradictions": 1})
    assert "fail" not in set(allowed.checks.filter(check="max_sex_contradictions")["status"])


def test_x_inactivation_shows_in_the_levels():
    quality = check_quality(people(MIXED, 30))
    share = quality.sex.table["x_intermediate"].to_numpy()
    assert share[::2].min() > share[1::2].max() + 0.2


def test_arrays_are_divided_by_their_x_probes():
    made = people(MIXED, 30)
    beta = made["methylated"].values / np.where(
        made["coverage"].values, made["coverage"].values, np.nan
    )
    array = dataset(
        {"contig": made["contig"].values, "position": made["position"].values},
        {"beta": beta.astype(np.float32)},
        {"sample": [f"s{i}" for i in range(8)]},
        contigs=list(SIZES),
    )
    sex = check_quality(array).sex
    assert sex.table["sex"].to_list() == MIXED
    assert sex.table["x_ratio"].null_count() == 8
    assert sex.table["y_seen"].to_numpy()[1::2].min() > 0.9
    assert sex.method == "two groups by the share of chrX probes near one half"


def test_without_x_nothing_is_said():
    made = people(MIXED, 10)
    quality = check_quality(made.isel(site=made["contig"].values == 0))
    assert quality.sex.table["sex"].null_count() == 8
    assert quality.sentences()["sex"] == "Sex cannot be told: the store holds 0 sites of chrX."

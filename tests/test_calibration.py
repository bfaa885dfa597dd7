"""Calibration of several coefficients at once: what is relabelled, and what chance then calls."""

import numpy as np

from melisma.design import compare, make_contrasts, make_design
from melisma.differential import calibrate, site_tests
from melisma.differential._relabel import draw_rows
from melisma.methylome import dataset


def comparison_of(groups, block=None):
    sheet = {"sample": [f"s{k}" for k in range(len(groups))], "g": list(groups)}
    if block:
        sheet["pair"] = list(block)
    design = make_design(sheet, "~ g", block="pair" if block else None)
    return compare(design, make_contrasts(design, "g")[0])


def test_three_pairs_of_units_divide_in_fifteen_ways():
    # 6! / (2! 2! 2!) = 90 labellings, and each way of dividing has 3! of them.
    drawn, distinct = draw_rows(comparison_of("aabbcc"), 50, seed=1)
    assert distinct == 90
    assert drawn.shape == (14, 6, 2)


def test_a_unit_keeps_its_row_and_its_block():
    made = comparison_of("abcabcabc", block="111222333")
    drawn, distinct = draw_rows(made, 5, seed=1)
    assert distinct == 6**3
    for moved in drawn:
        for block in range(3):
            rows = slice(3 * block, 3 * block + 3)
            mine = sorted(map(tuple, moved[rows].round(9)))
            assert mine == sorted(map(tuple, made.exposures[rows].round(9)))


def simulated(seed, levels_only):
    """2,000 simulated sites of 12 samples in three groups that do not differ."""
    rng = np.random.default_rng(seed)
    sheet = {"sample": [f"s{k}" for k in range(12)], "g": list("abc" * 4)}
    level = rng.beta(2, 2, 2000)[:, None]
    level = np.clip(rng.beta(level * 30, (1 - level) * 30, (2000, 12)), 0.001, 0.999)
    coverage = rng.poisson(15, level.shape).astype(np.uint16)
    values = {"methylated": rng.binomial(coverage, level).astype(np.uint16), "coverage": coverage}
    sites = {"contig": np.zeros(2000), "position": np.arange(2000) * 50, "context": np.zeros(2000)}
    if levels_only:
        values = {"beta": level.astype(np.float32)}
    return dataset(sites, values, sheet, contigs=["c"]), make_design(sheet, "~ g")


def test_chance_calls_nothing_and_lambda_is_near_one():
    for levels_only in (False, True):
        made, design = simulated(1, levels_only)
        tests = site_tests(made, design, "g")
        found = calibrate(made, tests.engine)
        assert found.relabellings == 20
        assert found.distinct == 34650
        assert sum(n > 0 for n in found.site_calls) <= 4
        assert 0.85 < np.median(found.inflations) < 1.15

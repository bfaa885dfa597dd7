"""Lone CpGs by the bases beside them, on sequences written by hand."""

import numpy as np
import pytest

pytest.importorskip("torch")

from melisma.genome import Genome
from melisma.sequence.flanks import _interval, flank_class, flank_levels
from melisma.sequence.predict import Sites


def classes(text, *positions):
    return flank_class(np.frombuffer(text.encode(), np.uint8), np.array(positions)).tolist()


def test_the_bases_beside_decide_the_class():
    pad = "A" * 40
    for middle, expected in (("TCGA", 2), ("ACGC", 1), ("GCGT", 1), ("CCGG", 0), ("NCGA", -1)):
        assert classes(pad + middle + pad, 41) == [expected], middle


@pytest.mark.parametrize(("apart", "lone"), [(35, False), (36, True)])
def test_another_cpg_within_35_bases_is_company(apart, lone):
    text = "T" * 50 + "CG" + "T" * (apart - 2) + "CG" + "T" * 50
    assert classes(text, 50, 50 + apart) == ([2, 2] if lone else [-1, -1])


def test_what_is_no_cpg_or_at_an_end_has_no_class():
    assert classes("CG" + "A" * 40 + "CA" + "A" * 40 + "CG", 0, 42, 84) == [-1, -1, -1]


def test_an_interval_counts_stretches_not_sites():
    # Two stretches of means .2 and .4: t of one degree is 12.7, the error of the mean .1.
    value = np.array([0.2] * 50 + [0.4] * 50)
    mean, low, high = _interval(value, np.repeat([0, 1], 50))
    assert mean == pytest.approx(0.3)
    assert (low, high) == (0.0, 1.0)
    assert _interval(value, np.zeros(100)) == [pytest.approx(0.3), None, None]
    many = _interval(np.tile([0.2, 0.4], 50), np.arange(100))
    assert many[1] == pytest.approx(0.3 - 1.984 * 0.01005, abs=1e-4)


def test_levels_stand_beside_what_was_measured(tmp_path):
    from test_sequence_attributions import model_of

    pieces = ["TCGA", "GCGC", "TCGC"] * 4
    text = "A" * 60 + "".join(piece + "A" * 60 for piece in pieces)
    (tmp_path / "g.fa").write_text(f">a\n{text}\n")
    starts = np.array([60 + 64 * k + 1 for k in range(12)])
    # Each CpG from its other strand: the classes are the same.
    sites = Sites(("a",), np.zeros(12, int), starts + 1, np.full(12, -1, np.int8))
    level = np.tile([0.1, 0.8, np.nan], 4)
    table = flank_levels(
        model_of(("CG",)), Genome.open(tmp_path / "g.fa"), sites, measure=lambda rows: level[rows]
    )
    assert table["flank"].to_list() == ["WCGW", "mixed", "SCGS"]
    assert table["sites"].to_list() == [4, 4, 4]
    assert table["measured_sites"].to_list() == [4, 0, 4]
    assert table["measured"].to_list() == [pytest.approx(0.1), None, pytest.approx(0.8)]
    assert table["predicted"].is_between(0, 1).all()

"""Logos: heights worked by hand, and the SVG as a parser and a colour-blind reader see it."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from melisma.errors import MelismaError
from melisma.sequence.logos import COLOURS, letter_heights, logo

SVG = "{http://www.w3.org/2000/svg}"


def test_bits_of_frequencies_and_of_counts():
    even = np.array([[0.5], [0.5], [0.0], [0.0]])
    assert letter_heights(even, "frequencies").ravel().tolist() == [0.5, 0.5, 0.0, 0.0]
    # Schneider's correction for 10 sequences: 3 / (2 ln 2 × 10) = 0.2164 bits.
    counts = letter_heights(10 * even, "counts").ravel()
    np.testing.assert_allclose(counts, [0.5 * (1 - 0.21640), 0.5 * (1 - 0.21640), 0, 0], atol=1e-4)
    assert letter_heights(np.ones((4, 1)), "counts").sum() == 0
    assert letter_heights(np.zeros((4, 1)), "counts").sum() == 0


def letters(text):
    """(base, x, y scale) of every letter drawn."""
    root = ElementTree.fromstring(text)
    found = []
    for path in root.iter(f"{SVG}path"):
        kind = path.get("class")
        if kind.startswith("base-"):
            x, scale = re.fullmatch(
                r"translate\(([\d.]+) [\d.-]+\) scale\([\d.]+ ([\d.-]+)\)", path.get("transform")
            ).groups()
            found.append((kind[-1], float(x), float(scale)))
    return root, found


def test_contributions_stand_above_and_hang_below_the_line():
    matrix = np.array([[0.3, 0.0], [0.0, -0.1], [0.1, 0.0], [0.0, 0.0]])
    root, found = letters(logo(matrix, kind="contributions", label="a < b", first=-3))
    assert [(base, scale > 0) for base, _, scale in found] == [
        ("G", True), ("A", True), ("C", False),
    ]  # fmt: skip
    a, g = (next(s for b, _, s in found if b == base) for base in "AG")
    assert a == pytest.approx(3 * g, rel=1e-3)
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.find(f"{SVG}title").text == "a < b"
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words == ["+0.4", "−0.1", "−3", "−2"]


def test_letters_of_a_motif_are_as_tall_as_their_information():
    _, found = letters(logo(np.array([[0.0, 1], [0, 1], [1, 1], [0, 1]]), kind="frequencies"))
    assert found == [("G", 41.0, pytest.approx(0.96))]  # 2 bits are 96 pixels of a 100 box


def test_letters_have_colours_of_their_own_that_the_report_tests_for_colour_blindness():
    from melisma.report._style import LIGHT

    assert [COLOURS[base] for base in "ACGT"] == [LIGHT[name] for name in ("c3", "c1", "c4", "c0")]


@pytest.mark.parametrize(
    ("matrix", "kind", "words"),
    [
        (np.ones((3, 4)), "counts", r"this is \(3, 4\): transpose"),
        (np.ones((4, 0)), "counts", r"this is \(4, 0\)"),
        (np.full((4, 1), np.nan), "contributions", "missing or an infinite"),
        (np.full((4, 1), -1.0), "counts", "negative: draw the matrix as contributions"),
    ],
)
def test_what_cannot_be_drawn_is_refused(matrix, kind, words):
    with pytest.raises(MelismaError, match=words):
        logo(matrix, kind=kind)

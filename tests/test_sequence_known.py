"""Which known motif a stretch holds: its p against every word there is."""

import itertools

import numpy as np
import pytest

from melisma.sequence.encodings import encode
from melisma.sequence.known import _scores, _tail, resembles

MATRIX = np.array(
    [[0.7, 0.1, 0.25, 0.05], [0.1, 0.1, 0.25, 0.05], [0.1, 0.1, 0.25, 0.85], [0.1, 0.7, 0.25, 0.05]]
)


def test_p_is_the_share_of_all_words_that_score_as_high():
    score = _scores(MATRIX)
    words = np.array(list(itertools.product(range(4), repeat=4)))
    totals = score[words, np.arange(4)].sum(axis=1)
    for cut in np.unique(totals):
        assert _tail(score, int(cut)) == pytest.approx((totals >= cut).mean(), abs=1e-12)
    assert _tail(score, int(totals.max()) + 1) == 0


def word(text):
    return np.eye(4)[encode([text])[0]].T


def test_the_motif_that_fits_best_is_named_with_its_strand():
    window = encode(["TTTTACGGATCTTTTT"])[0]
    known = {"one": word("ACGGATC"), "near": word("ACGGAAC"), "other": word("CCCCCCC")}
    found = resembles(window, 4, 11, known)
    assert (found.name, found.strand) == ("one", 1)
    # Seven letters at the stretch's own place or one base beside it, on two strands.
    assert found.p == pytest.approx(1 - (1 - 4**-7) ** 6)
    assert found.e == pytest.approx(3 * found.p)
    found = resembles(window, 4, 11, {"turned": word("GATCCGT")})
    assert (found.name, found.strand) == ("turned", -1)


def test_what_fits_no_motif_or_has_no_known_bases_has_no_name():
    window = encode(["TTTTACGGATCTTTTT"])[0]
    assert resembles(window, 4, 11, {"other": word("CCCCCCC")}) is None
    assert resembles(window, 4, 11, {}) is None
    assert resembles(encode(["NNNNNNNN"])[0], 2, 6, {"one": word("ACGT")}) is None
    # A motif longer than the window has no place.
    assert resembles(encode(["ACGT"])[0], 0, 4, {"long": word("ACGTACGT")}) is None
    # A short motif within a long stretch is met by chance.
    assert resembles(window, 0, 16, {"short": word("GA")}) is None

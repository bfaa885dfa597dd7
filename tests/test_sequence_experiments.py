"""Experiments on sequence with functions whose answers are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from melisma.errors import MelismaError
from melisma.sequence.encodings import decode, encode
from melisma.sequence.experiments import (
    ablate,
    dinucleotide_shuffle,
    marginalize,
    space,
    with_motif,
)


def count_of(word):
    """How often a word occurs in each window."""
    codes = encode(word)

    def count(windows):
        width = windows.shape[1] - len(codes) + 1
        same = [windows[:, j : j + width] == c for j, c in enumerate(codes)]
        return np.logical_and.reduce(same).sum(axis=1).astype(float)

    return count


def test_a_motif_is_put_in_the_middle_or_where_it_is_asked():
    windows = encode(["AAAAAAA", "TTTTTTT"])
    assert decode(with_motif(windows, "GNC")) == ["AAGACAA", "TTGTCTT"]
    assert decode(with_motif(windows, "cg", 0)) == ["CGAAAAA", "CGTTTTT"]
    with pytest.raises(MelismaError, match="GATC at base 5 does not fit into windows of 7"):
        with_motif(windows, "GATC", 5)
    with pytest.raises(MelismaError, match="'GAXC' is no motif"):
        with_motif(windows, "GAXC")


def test_marginalize_returns_both_answers():
    windows = encode(["AAAAAAA", "AGATCAA"])
    found = marginalize(count_of("GATC"), windows, "GATC")
    assert found.before.tolist() == [0, 1]
    assert found.after.tolist() == [1, 1]
    assert found.effect.tolist() == [1, 0]


def test_ablate_shuffles_only_the_stretch():
    windows = encode(["TTGATCAACTGGATCCAGTA" + "GATC"] * 3)
    found = ablate(count_of("GATC"), windows, 0, 20, shuffles=10)
    assert found.before.tolist() == [3, 3, 3]
    assert found.after.shape == (3, 10)
    assert found.effect.mean() < 0
    assert (found.after >= 1).all()  # the last is not in the stretch
    with pytest.raises(MelismaError, match="Bases 5 to 30 do not lie in windows of 24"):
        ablate(count_of("GATC"), windows, 5, 30)


def test_space_puts_the_second_motif_at_distances_from_the_first():
    windows = encode(["A" * 20])
    found = space(count_of("GATCNNCC".replace("N", "A")), windows, ("GATC", "CC"), [0, 2, 5], 3)
    assert found.after.tolist() == [[0, 1, 0]]


def pairs(text):
    return sorted(text[i : i + 2] for i in range(len(text) - 1))


@given(st.text("ACGT", min_size=2, max_size=60), st.integers(0, 99))
def test_a_shuffle_keeps_dinucleotides_and_ends(text, seed):
    shuffled = dinucleotide_shuffle(encode([text]), 3, seed=seed)
    for row in shuffled[0]:
        other = decode(row[None])[0]
        assert pairs(other) == pairs(text)
        assert other[0] == text[0]
        assert other[-1] == text[-1]


def test_shuffles_are_even_over_all_orders():
    # ACAGATA keeps AC CA AG GA AT TA: C, G and T come in any of 3! orders.
    found = decode(dinucleotide_shuffle(encode(["ACAGATA"]), 6000, seed=1)[0])
    counts = {order: found.count(order) for order in set(found)}
    assert len(counts) == 6
    assert all(abs(n - 1000) < 150 for n in counts.values())


def test_no_shuffle_is_refused():
    with pytest.raises(MelismaError, match="0 shuffles"):
        dinucleotide_shuffle(encode(["ACGT"]), 0)

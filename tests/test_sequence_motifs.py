"""Motifs of simulated windows whose rule is known."""

import numpy as np
import pytest

from melisma.errors import MelismaError
from melisma.sequence.encodings import encode
from melisma.sequence.motifs import Motif, contributions, find_motifs, find_seqlets, name_motifs


def made(n=400, motif="GATC", start=18, width=41, seed=0, jitter=0):
    """Windows, half of them with a motif, and the effects of a rule that adds its bases up."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, width)).astype(np.uint8)
    word = encode(motif)
    at = start + rng.integers(-jitter, jitter + 1, n)
    effect = rng.normal(0, 0.02, (n, width, 4))
    for i in range(0, n, 2):
        place = np.arange(at[i], at[i] + len(word))
        codes[i, place] = word
        effect[i, place] -= 1.0
    effect[np.arange(n)[:, None], np.arange(width)[None], codes] = 0.0
    return codes, effect, at


def test_a_contribution_is_what_the_own_base_adds_over_the_others():
    codes = encode(["AN"])
    effect = np.array([[[0.0, -0.3, -0.6, -0.9], [np.nan] * 4]])
    assert contributions(codes, effect).tolist() == [[pytest.approx(0.6), 0.0]]


def test_seqlets_lie_where_the_motif_was_put():
    codes, effect, _ = made()
    seqlets = find_seqlets(contributions(codes, effect), width=4)
    with_motif = {s.row for s in seqlets if s.start == 18 and s.strength > 3}
    assert with_motif == set(range(0, 400, 2))
    assert len(seqlets) < 220


def test_a_null_has_hardly_a_seqlet():
    value = np.random.default_rng(1).normal(0, 1, (500, 41))
    assert len(find_seqlets(value, width=6)) < 25


@pytest.mark.parametrize("jitter", [0, 6])
def test_the_motif_is_recovered_with_its_place(jitter):
    codes, effect, _ = made(jitter=jitter)
    value = contributions(codes, effect)
    first = find_motifs(codes, value, find_seqlets(value, width=4))[0]
    assert "GATC" in first.consensus
    assert first.positive
    assert first.seqlets > 150
    if not jitter:
        assert first.offset + first.consensus.index("GATC") == 18 - 20


def test_both_strands_may_be_one_motif():
    codes, effect, _ = made(motif="GGACA", seed=3)
    other, more, _ = made(motif="TGTCC", seed=4)  # its reverse complement
    codes, effect = np.concatenate([codes, other]), np.concatenate([effect, more])
    value = contributions(codes, effect)
    seqlets = find_seqlets(value, width=5)
    apart = find_motifs(codes, value, seqlets)
    together = find_motifs(codes, value, seqlets, strands=True)
    assert {m.consensus for m in apart[:2]} == {"GGACA", "TGTCC"}
    assert together[0].seqlets > 300


def test_letters_of_a_consensus():
    frequency = np.array([[0.7, 0.1, 0.1, 0.1], [0.45, 0.05, 0.05, 0.45], [0.25] * 4]).T
    assert Motif(frequency, np.zeros(3), 9, 0, True).consensus == "AWN"


def test_a_seqlet_wider_than_the_window_is_refused():
    with pytest.raises(MelismaError, match="6 bases does not fit into windows of 5"):
        find_seqlets(np.zeros((2, 5)), width=6)


def test_a_motif_is_named_from_a_database(tmp_path):
    pytest.importorskip("memelite")
    rng = np.random.default_rng(5)
    rows = {"dam": "GATC"} | {f"m{k}": "".join(rng.choice(list("ACGT"), 6)) for k in range(30)}
    text = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
    for name, word in rows.items():
        text += (
            f"MOTIF {name}\nletter-probability matrix: alength= 4 w= {len(word)} nsites= 20 E= 0\n"
        )
        for letter in word:
            text += " ".join("0.97" if b == letter else "0.01" for b in "ACGT") + "\n"
        text += "\n"
    (tmp_path / "known.meme").write_text(text)
    codes, effect, _ = made()
    value = contributions(codes, effect)
    motifs = find_motifs(codes, value, find_seqlets(value, width=4))[:1]
    table = name_motifs(motifs, tmp_path / "known.meme", nearest=1)
    assert table["target"].to_list() == ["dam"]
    assert table["p"].item() < 0.05
    (tmp_path / "none.meme").write_text("MEME version 4\n")
    with pytest.raises(MelismaError, match="holds 0 motifs"):
        name_motifs(motifs, tmp_path / "none.meme")

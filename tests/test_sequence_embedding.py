"""Word vectors and byte-pair tokens of a genome."""

import json

import numpy as np
import pytest

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.encodings import decode, encode

pytest.importorskip("gensim")
pytest.importorskip("tokenizers")

from melisma.sequence import embedding as module
from melisma.sequence.embedding import embed, load_embedding, words_of
from melisma.sequence.tokens import learn_tokens, load_tokens, tokenize


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    assert done.value.code == code


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Two kinds of stretches (simulated): TATA goes with CCAC, and GGTT with AGAG."""
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    rng = np.random.default_rng(0)
    one, two = ["TATA", "CCAC"], ["GGTT", "AGAG"]
    text = ""
    for _ in range(300):
        pair = one if rng.random() < 0.5 else two
        text += "".join(rng.choice(pair, 20)) + "N"
    path.write_text(f">chr1\n{text}\n>chr2\nACGTN\n")
    return Genome.open(path)


def test_words_in_alike_company_lie_near(genome):
    found = embed(genome, k=4, size=16, window=3, epochs=3)
    assert found.vectors.shape == (256, 16)
    near = dict(found.nearest("TATA", 300))
    assert near["CCAC"] > near["GGTT"] + 0.2
    assert near["CCAC"] > near["AGAG"] + 0.2
    with pytest.raises(MelismaError, match="AAAA was never seen"):
        found.vector("AAAA")
    with pytest.raises(MelismaError, match="no word of 4 known bases"):
        found.vector("TANA")


def test_both_strands_are_read_and_unknown_bases_end_a_sentence(genome, monkeypatch):
    monkeypatch.setattr(module, "_PIECE", 7)
    sentences = list(module._Sentences(genome, ["chr2"], 2, 1))
    assert sentences == [["AC", "CG", "GT"], ["AC", "CG", "GT"]]
    seen = {w for s in module._Sentences(genome, ["chr1"], 4, 4) for w in s}
    assert {"TATA", "GTGG", "AACC"} <= seen
    assert all("N" not in word for word in seen)


def test_pieces_do_not_lose_words(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    text = "".join(rng.choice(list("ACGT"), 100))
    (tmp_path / "g.fa").write_text(f">c\n{text}\n")
    genome = Genome.open(tmp_path / "g.fa")
    whole = [w for s in module._Sentences(genome, ["c"], 3, 1) for w in s]
    monkeypatch.setattr(module, "_PIECE", 10)
    pieces = [w for s in module._Sentences(genome, ["c"], 3, 1) for w in s]
    assert sorted(whole) == sorted(pieces)


def test_an_embedding_is_saved_without_pickle_and_opened_again(genome, tmp_path, capsys):
    run(
        "embed", _path(genome, tmp_path), "-o", tmp_path / "words", "-k", "4", "--size", "8",
        "--near", "TATA", "--contig", "chr1",
    )  # fmt: skip
    assert "Nearest to TATA" in capsys.readouterr().out
    files = sorted(path.name for path in (tmp_path / "words").iterdir())
    assert files == ["embedding.json", "vectors.safetensors"]
    found = load_embedding(tmp_path / "words")
    assert (found.k, found.vectors.shape) == (4, (256, 8))
    means = found.mean(encode(["TATACCAC", "NNNNNNNN", "TATANNNN"]))
    assert means.shape == (3, 8)
    assert (means[1] == 0).all()
    np.testing.assert_allclose(means[2], found.vector("TATA"), rtol=1e-6)
    told = json.loads((tmp_path / "words" / "embedding.json").read_text())
    (tmp_path / "words" / "embedding.json").write_text(json.dumps(told | {"k": 5}))
    with pytest.raises(MelismaError, match="256 vectors of words of 5 bases"):
        load_embedding(tmp_path / "words")
    with pytest.raises(MelismaError, match="holds no embedding"):
        load_embedding(tmp_path)


def _path(genome, folder):
    path = folder / "again.fa"
    text = "".join(f">{c}\n{genome.bases(c).tobytes().decode()}\n" for c in genome.contigs)
    path.write_text(text)
    return path


def test_bad_input_is_one_sentence(genome, tmp_path, capsys):
    path = _path(genome, tmp_path)
    for more, words in (
        (("-k", "9"), "choose 2 to 8"),
        (("--contig", "chrX"), "no contig 'chrX'"),
        (("-k", "4", "--contig", "chr1", "--near", "AAAA"), "AAAA was never seen"),
    ):
        run("embed", path, "-o", tmp_path / "x", *more, code=2)
        assert words in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "x").exists()
    (tmp_path / "n.fa").write_text(">c\nNNNNNNNN\n")
    run("embed", tmp_path / "n.fa", "-o", tmp_path / "x", code=2)
    assert "no word of 6 known bases" in capsys.readouterr().err


def test_words_are_in_the_order_of_their_numbers():
    words = words_of(3)
    assert words[int("012", 4)] == "ACG"
    assert len(set(words)) == 64


def test_frequent_words_become_tokens_and_spell_the_window(genome, tmp_path):
    tokenizer = learn_tokens(genome, size=24, bases=20_000)
    assert tokenizer.get_vocab_size() == 24
    windows = encode(["TATATATACCAC", "GGTTNAGAGAGA"])
    found = tokenize(tokenizer, windows)
    for k, text in enumerate(decode(windows)):
        ids = [i for i, s in zip(found.number[k], found.start[k], strict=True) if s >= 0]
        spelled = "".join(tokenizer.id_to_token(int(i)).replace("[UNK]", "N") for i in ids)
        assert spelled == text
        starts = found.start[k][found.start[k] >= 0]
        assert starts[0] == 0
        assert (np.diff(starts) > 0).all()
    assert (found.start >= 0).sum(axis=1).max() < 12
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    again = tokenize(load_tokens(tmp_path / "tokenizer.json"), windows)
    assert (again.number == found.number).all()
    with pytest.raises(MelismaError, match="no tokenizer at"):
        load_tokens(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(MelismaError, match="is no tokenizer"):
        load_tokens(tmp_path / "bad.json")
    with pytest.raises(MelismaError, match="choose 8"):
        learn_tokens(genome, size=5)

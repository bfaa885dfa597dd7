"""Masked-base pretraining, and training that goes on from it."""

import json
from pathlib import Path

import numpy as np
import pytest

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.genome import Genome

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from safetensors.torch import load_file, save_file  # noqa: E402

from melisma.sequence import pretrain as module  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.sequence.pretrain import PretrainRecipe, pretrain  # noqa: E402
from melisma.sequence.pretrained import load_pretrained  # noqa: E402

TAIR = Path(__file__).parents[2] / "shared/data/reference/arabidopsis_col0_chr1/sequence.fa.gz"
CONFIG = ModelConfig(width=31, channels=16, dilations=(1, 2), motif_path=False)
SMALL = PretrainRecipe(epochs=3, epoch_windows=4_000, batch=64, validation_windows=400, rate=0.01)


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    assert done.value.code == code


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    """Random bases (simulated) in which every TTGACA stands whole: who sees TTG.CA knows the A."""
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    rng = np.random.default_rng(0)
    text = "".join(
        "TTGACA" + "".join(rng.choice(list("ACGT"), 4)) if rng.random() < 0.8 else "NACGTNGGTT"
        for _ in range(4_000)
    )
    path.write_text(f">chr1\n{text}\n")
    return Genome.open(path)


@pytest.fixture(scope="module")
def done(genome, tmp_path_factory):
    return pretrain(genome, CONFIG, SMALL, tmp_path_factory.mktemp("p") / "out")


def test_hidden_bases_are_filled_in(done):
    # The words of six are known from their ends alone, which the baseline is told whole.
    own, sides = done.record["validation"], done.record["between_bases"]
    assert 1.5 < sides["perplexity"] < own["perplexity"] < 3
    assert 0.45 < own["accuracy"] < sides["accuracy"]
    assert len(done.record["history"]) == 3


def test_masks_ask_about_known_bases_and_hide_most_of_them():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 5, (2_000, 31)).astype(np.uint8)
    masked = module._mask(codes, rng)
    assert not (masked.asked & (codes == 4)).any()
    assert masked.asked[codes < 4].mean() == pytest.approx(0.15, abs=0.01)
    assert (masked.seen[~masked.asked] == codes[~masked.asked]).all()
    seen, truth = masked.seen[masked.asked], masked.truth[masked.asked]
    assert (seen == 4).mean() == pytest.approx(0.8, abs=0.02)
    # A quarter of the exchanged bases are themselves.
    assert ((seen != 4) & (seen != truth)).mean() == pytest.approx(0.075, abs=0.015)


def test_held_out_blocks_are_never_trained_on(genome):
    source = module._Source(genome, None, 31, SMALL)
    held = set(source.blocks[True]["chr1"].tolist())
    assert held
    assert not held & set(source.blocks[False]["chr1"].tolist())
    text = genome.bases("chr1").tobytes().decode()
    starts = []
    for masked in source.epoch(0, 2):
        for row in masked.truth[:20]:
            word = "".join("ACGTN"[c] for c in row)
            other = word[::-1].translate(str.maketrans("ACGT", "TGCA"))
            starts += [text.index(w) for w in (word, other) if w in text]
    assert starts
    assert not {s // source.block for s in starts if text.count(text[s : s + 31]) == 1} & held


def test_a_killed_pretraining_goes_on_to_the_same_weights(genome, done, tmp_path, monkeypatch):
    calls = []
    real = module._judge

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "_judge", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(genome, CONFIG, SMALL, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(module, "_judge", real)
    again = pretrain(genome, CONFIG, SMALL, tmp_path / "out")
    assert again.fingerprint == done.fingerprint
    assert not (tmp_path / "out.part").exists()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "pretrained.json", "weights.safetensors",
    ]  # fmt: skip


def test_a_network_begins_with_the_weights_that_fit(done):
    config = ModelConfig(width=41, environment=3, neighbours=4, **done.shared)
    torch.manual_seed(5)
    network = SequenceModel(config)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    done.put_into(network)
    after = network.state_dict()
    for name, value in done.weights.items():
        assert torch.equal(after[name], value), name
    kept = [name for name in before if name not in done.weights]
    assert "read_out.weight" in kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    with pytest.raises(MelismaError, match="it has channels 64 for 16"):
        done.check(ModelConfig(width=41, dilations=(1, 2)))


def test_damaged_and_missing_folders_are_refused(done, tmp_path):
    with pytest.raises(MelismaError, match="holds no pretrained network"):
        load_pretrained(tmp_path)
    told = {"format": 1, "config": {"width": 31, "channels": 16, "dilations": [1]}, "record": {}}
    (tmp_path / "pretrained.json").write_text(json.dumps(told))
    save_file(dict(done.weights), tmp_path / "weights.safetensors")
    with pytest.raises(MelismaError, match=r"tower\.1.* does not fit"):
        load_pretrained(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(MelismaError, match="is damaged"):
        load_pretrained(tmp_path)


def test_bad_input_is_one_sentence(genome, tmp_path, capsys):
    with pytest.raises(MelismaError, match="must not pool"):
        pretrain(genome, ModelConfig(width=31, pool=2), SMALL, tmp_path / "x")
    (tmp_path / "n.fa").write_text(">c\n" + "N" * 5_000 + "\n")
    (tmp_path / "s.fa").write_text(">c\nACGT\n")
    for arguments, words in (
        ((tmp_path / "n.fa",), "too few windows of known bases"),
        ((tmp_path / "s.fa",), "no two blocks of 402 bases"),
        ((tmp_path / "n.fa", "--contig", "d"), "no contig 'd'"),
        ((tmp_path / "n.fa", "--width", "20"), "no centre"),
    ):
        run("pretrain", *arguments, "-o", tmp_path / "x", "--epochs", "1", code=2)
        assert words in " ".join(capsys.readouterr().err.split())
        assert not (tmp_path / "x").exists()


def test_training_goes_on_from_a_pretrained_network(genome, tmp_path, capsys):
    from melisma.methylome import dataset, write

    bases = genome.bases("chr1")
    at = np.flatnonzero((bases[:-1] == ord("C")) & (bases[1:] == ord("G")))
    rng = np.random.default_rng(2)
    coverage = rng.poisson(15, (len(at), 1)).astype(np.uint16)
    made = dataset(
        {
            "contig": np.zeros(len(at)), "position": at, "strand": np.zeros(len(at)),
            "context": np.zeros(len(at)),
        },
        {"methylated": rng.binomial(coverage, 0.5).astype(np.uint16), "coverage": coverage},
        {"sample": ["s"]},
        contigs=["chr1"],
        strands="merged",
    )  # fmt: skip
    write(made, tmp_path / "study.zarr")
    fasta = tmp_path / "g.fa"
    fasta.write_text(f">chr1\n{bases.tobytes().decode()}\n")
    run(
        "pretrain", fasta, "-o", tmp_path / "pre", "--width", "31", "--channels", "8", "--epochs",
        "1", "--windows", "500", "--attention", "1", "--position", "grid",
    )  # fmt: skip
    assert "the commonest between 6 bases" in capsys.readouterr().out
    ask = ("train", tmp_path / "study.zarr", "-g", fasta, "--width", "31", "--block", "2000",
           "--epochs", "1", "--batch", "32", "--rate", "1e-9", "-o")  # fmt: skip
    run(*ask, tmp_path / "model", "--start-from", tmp_path / "pre")
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    pre = load_pretrained(tmp_path / "pre")
    assert record["record"]["started_from"] == pre.fingerprint
    assert record["config"]["attention"] == 1
    weights = load_file(tmp_path / "model" / "member-0.safetensors")
    torch.testing.assert_close(
        weights["stem.weight"], pre.weights["stem.weight"], atol=1e-6, rtol=0
    )
    run(*ask, tmp_path / "other", "--start-from", tmp_path, code=2)
    assert "holds no pretrained network" in " ".join(capsys.readouterr().err.split())


@pytest.mark.reference
@pytest.mark.skipif(not TAIR.exists(), reason="../shared is absent")
def test_half_a_megabase_of_arabidopsis_teaches_something(tmp_path):
    recipe = PretrainRecipe(epochs=1, epoch_windows=6_000, batch=64, validation_windows=400)
    found = pretrain(Genome.open(TAIR), CONFIG, recipe, tmp_path / "out")
    # More than the commonest base, A or T, which is 32%.
    assert found.record["validation"]["accuracy"] > 0.34
    assert found.record["validation"]["perplexity"] < 3.9

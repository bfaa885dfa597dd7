"""A language model from a local folder as the backbone: frozen, LoRA, trained whole."""

import json

import numpy as np
import pytest

from melisma.errors import MelismaError

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from safetensors.torch import load_file  # noqa: E402

from melisma.sequence._recipe import Recipe  # noqa: E402
from melisma.sequence.backbone import backbone_fields, make_network  # noqa: E402
from melisma.sequence.checkpoint import as_input, load  # noqa: E402
from melisma.sequence.environment import Environment  # noqa: E402
from melisma.sequence.examples import SequenceExamples  # noqa: E402
from melisma.sequence.model import ModelConfig  # noqa: E402
from melisma.sequence.mutagenesis import mutagenesis  # noqa: E402
from melisma.sequence.train import train  # noqa: E402
from melisma.sequence.windows import FixedWindows  # noqa: E402

N, WIDTH = 400, 15


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of 2 layers with random weights whose tokens are single bases."""
    where = tmp_path_factory.mktemp("language")
    torch.manual_seed(0)
    words = {w: k for k, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGTN"])}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    fast.save_pretrained(where)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def examples():
    """Windows (simulated) that are marked where an A stands two bases after the site, in brain."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (N, WIDTH)).astype(np.uint8)
    tissue = rng.choice(["brain", "liver"], N)
    label = ((codes[:, WIDTH // 2 + 2] == 0) & (tissue == "brain")).astype(np.float32)[:, None]
    parts = np.zeros(N, np.int8)
    parts[N - 100 :] = 1
    told = {"tissue": tissue.tolist()}
    environment = Environment.learn(told, ["tissue"])
    return SequenceExamples(
        FixedWindows(codes), label, np.ones((N, 1), np.float32), parts,
        environment=environment, rows=environment.encode(told).values,
    )  # fmt: skip


def config_of(folder, examples, tune, **more):
    return ModelConfig(
        width=WIDTH, environment=examples.environment.width, hidden=16, film=8,
        **backbone_fields(folder, tune), **more,
    )  # fmt: skip


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_what_is_trained_is_kept_and_opens_again(folder, examples, tune, tmp_path):
    if tune == "lora":
        pytest.importorskip("peft")
    config = config_of(folder, examples, tune)
    model = train(examples, config, Recipe(epochs=2, batch=32, rate=0.01), tmp_path / "m")
    weights = load_file(tmp_path / "m" / "member-0.safetensors")
    language = [name for name in weights if name.startswith("language.")]
    expected = {"frozen": 0, "lora": "lora_", "full": "embeddings"}[tune]
    assert (len(language) == 0) if tune == "frozen" else any(expected in n for n in language)
    if tune == "lora":
        assert all("lora_" in name for name in language)
    record = json.loads((tmp_path / "m" / "model.json").read_text())
    assert record["config"]["backbone_hash"] == config.backbone_hash
    codes = examples.windows.codes(np.arange(8))
    again = load(tmp_path / "m")
    np.testing.assert_array_equal(
        again.predict(codes, examples.rows[:8]).level, model.predict(codes, examples.rows[:8]).level
    )
    assert not list((tmp_path / "m").glob("*.bin"))


def test_only_what_may_move_moves(folder, examples, tmp_path):
    config = config_of(folder, examples, "frozen")
    train(examples, config, Recipe(epochs=1, batch=32, rate=0.01), tmp_path / "m")
    torch.manual_seed(1)
    fresh = make_network(config)
    before = load_file(folder / "model.safetensors")
    for name, value in fresh.language.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(p.requires_grad for p in fresh.language.parameters())
    assert not fresh.train().language.training
    full = make_network(config_of(folder, examples, "full"))
    assert all(p.requires_grad for p in full.language.parameters())


def test_the_token_of_the_site_and_the_mean_are_read(folder, examples):
    network = make_network(config_of(folder, examples, "frozen")).eval()
    codes = examples.windows.codes(np.arange(3))
    codes[1, 0] = 4
    states = network._states(as_input(codes))
    text = ["".join("ACGTN"[c] for c in row) for row in codes]
    told = network._tokenizer(text, return_tensors="pt")
    by_hand = network.language(**told).last_hidden_state
    torch.testing.assert_close(states[:, :32], by_hand[:, 1 + WIDTH // 2])
    torch.testing.assert_close(states[:, 32:], by_hand.mean(1), rtol=1e-4, atol=1e-5)


def test_mutagenesis_runs_a_language_model_whole(folder, examples, tmp_path):
    config = config_of(folder, examples, "frozen")
    model = train(examples, config, Recipe(epochs=1, batch=64), tmp_path / "m")
    codes = examples.windows.codes(np.arange(1))
    found = mutagenesis(model, codes)
    other = codes.copy()
    other[0, 9] = (other[0, 9] + 1) % 4
    level = model.predict(np.concatenate([codes, other])).level[:, 0]
    assert found.effect[0, 9, other[0, 9]] == pytest.approx(level[1] - level[0], abs=1e-5)


def test_folders_that_are_no_backbone_are_refused(folder, examples, tmp_path):
    with pytest.raises(MelismaError, match="holds no Hugging Face model"):
        backbone_fields(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(MelismaError, match="no weights"):
        backbone_fields(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(MelismaError, match=r"pickle only .* safe_serialization=True"):
        backbone_fields(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(MelismaError, match=r"no tokenizer\.json"):
        backbone_fields(tmp_path)
    config = config_of(folder, examples, "frozen")
    with pytest.raises(MelismaError, match="The backbone is not at"):
        make_network(ModelConfig(width=WIDTH, backbone=str(tmp_path / "gone"), backbone_hash="x"))
    other = ModelConfig(width=WIDTH, backbone=config.backbone, backbone_hash="other")
    with pytest.raises(MelismaError, match="other weights"):
        make_network(other)


def test_options_that_do_not_go_together(tmp_path, capsys):
    from melisma.cli import main

    ask = ["train", "s.zarr", "-g", "g.fa", "-o", str(tmp_path / "m")]
    for more, words in (
        (["--tune", "lora"], "--tune is of a backbone"),
        (["--backbone", "x", "--start-from", "y"], "two beginnings"),
    ):
        with pytest.raises(SystemExit) as done:
            main(ask + more)
        assert done.value.code == 2
        assert words in " ".join(capsys.readouterr().err.split())

"""Text models from a folder, and why a text goes on as it does."""

import json
import math

import pytest

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.trace import Trace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from melisma.trace.models import load_text_model  # noqa: E402
from melisma.trace.text import next_tokens, trace_text  # noqa: E402

VOCABULARY = ["<pad>", "<eos>", "the", "king", "queen", "ruled", "land", "sea", "and", "a", "dog"]


def tokenizer():
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: k for k, w in enumerate(VOCABULARY)}, unk_token="<pad>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny GPT-2 with random weights, as save_pretrained writes it."""
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=16, vocab_size=len(VOCABULARY),
        pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    module = transformers.GPT2LMHeadModel(config)
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.4)
    path = tmp_path_factory.mktemp("models") / "tiny"
    module.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def test_a_folder_is_opened_as_it_was_saved(folder):
    model = load_text_model(folder)
    assert model.about["kind"] == "gpt2"
    assert model.about["weights"] == "safetensors"
    assert model.tokens("the king ruled") == ("the", "king", "ruled")
    assert not model.network.module.training
    model.network.verify("the king ruled the")
    direct = transformers.GPT2LMHeadModel.from_pretrained(folder).eval()
    ids = torch.tensor([model.numbers("the king ruled the")])
    with torch.no_grad():
        expected = direct(ids).logits[0, -1].softmax(-1)
    found = next_tokens(model, "the king ruled the", most=3)
    assert [each.number for each in found] == expected.topk(3).indices.tolist()
    assert found[0].probability == pytest.approx(float(expected.max()), abs=1e-6)


def test_parts_add_up_and_tokens_are_taken_out(folder):
    model = load_text_model(folder)
    text = "the king ruled the"
    found = trace_text(model, text, gradients=True)
    trace = found.trace
    first, second = found.next[:2]
    odds = math.log(first.probability / second.probability)
    assert trace.total == pytest.approx(odds, abs=1e-4)
    assert trace.completeness == pytest.approx(1, abs=1e-4)
    # One token replaced by the mean vector, by hand.
    table = model.network.module.get_input_embeddings().weight.detach()
    whole = table[torch.tensor([model.numbers(text)])].clone()
    whole[0, 1] = table.mean(0)
    with torch.no_grad():
        logits = model.network.module(inputs_embeds=whole).logits[0, -1]
    left = logits[first.number] - logits[second.number]
    assert float(found.token_effect[1]) == pytest.approx(trace.total - float(left), abs=1e-4)
    # What the parts lose with the token is what they wrote, less what they write without it.
    by_hand = model.network.run(
        {"inputs_embeds": whole}, keep=model.network.places("layer.0.head.1")
    )
    assert by_hand.kept
    assert bool(found.attribution.converged[0])
    assert trace.about["integrated_gradients"]["converged"]
    assert list(trace.about["lens"]) == ["layer.0.residual", "layer.1.residual"]
    assert trace.about["lens"]["layer.1.residual"] == pytest.approx(trace.total, abs=1e-4)
    assert Trace.from_json(trace.to_json()).total == trace.total


def test_another_text_stands_instead(folder):
    model = load_text_model(folder)
    found = trace_text(model, "the king ruled the", instead="the queen ruled the", winner="land",
                       rival="sea")  # fmt: skip
    effect = found.token_effect
    assert effect[[0, 2, 3]].abs().max() < 1e-5
    ids = [torch.tensor([model.numbers(t)]) for t in ("the king ruled the", "the queen ruled the")]
    with torch.no_grad():
        a, b = (model.network.module(each).logits[0, -1, 6:8] for each in ids)
    assert float(effect[1]) == pytest.approx(float((a[0] - a[1]) - (b[0] - b[1])), abs=1e-4)
    assert found.trace.outcome == "'land' over 'sea'"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"instead": "the queen"}, "has 4 tokens and 'the queen' 2"),
        ({"winner": "the land"}, "is 2 tokens of this model"),
        ({"winner": "land", "rival": "land"}, "cannot be compared with itself"),
    ],
)
def test_words_that_do_not_pair_are_refused(folder, told, words):
    with pytest.raises(MelismaError, match=words):
        trace_text(load_text_model(folder), "the king ruled the", **told)


def test_folders_that_are_no_model_are_refused(folder, tmp_path):
    with pytest.raises(MelismaError, match="There is no model folder at"):
        load_text_model(tmp_path / "none")
    with pytest.raises(MelismaError, match=r"has no config.json and no .gguf"):
        load_text_model(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(MelismaError, match="has no weights"):
        load_text_model(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        MelismaError, match=r"only as a pickle \(pytorch_model.bin\).*save_pretrain"
    ):
        load_text_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(MelismaError, match="cannot be opened as a model"):
        load_text_model(tmp_path)
    two = tmp_path / "two"
    two.mkdir()
    for name in ("a.gguf", "b.gguf"):
        (two / name).write_bytes(b"GGUF")
    with pytest.raises(MelismaError, match=r"holds 2 GGUF files \(a.gguf, b.gguf\): name one"):
        load_text_model(two)
    with pytest.raises(MelismaError, match="cannot be opened"):
        load_text_model(two / "a.gguf")


def test_without_a_tokenizer_no_text_is_read(folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    model = load_text_model(tmp_path)
    assert model.tokenizer is None
    with pytest.raises(MelismaError, match="has no tokenizer"):
        trace_text(model, "the king")
    with pytest.raises(MelismaError, match="The text is empty"):
        trace_text(load_text_model(folder), "")


def test_a_model_without_a_next_token_is_refused(tmp_path):
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        vocab_size=len(VOCABULARY),
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(MelismaError, match="names no next token"):
        trace_text(load_text_model(tmp_path), "the king")


def test_the_verb(folder, tmp_path, capsys):
    out = tmp_path / "trace.json"
    with pytest.raises(SystemExit) as done:
        main(["trace", "text", "the king ruled the", "-m", str(folder), "-o", str(out)])
    assert done.value.code == 0
    said = capsys.readouterr().out
    assert "All 8 parts add up to" in said
    assert json.loads(out.read_text())["unit"] == "logit"
    with pytest.raises(SystemExit) as done:
        main(["trace", "text", "the king", "-m", str(folder), "-o", str(tmp_path / "trace.html")])
    assert done.value.code == 2
    assert "written as .json" in capsys.readouterr().err

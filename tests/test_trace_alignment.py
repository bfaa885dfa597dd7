"""Word alignments on a translator whose alignment is known: it says words backwards."""

import random

import pytest

from melisma.errors import MelismaError
from melisma.network import Network

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from melisma.network_adapters import adapter_of  # noqa: E402
from melisma.trace.alignment import (  # noqa: E402
    Sentence,
    by_attention,
    by_gradients,
    by_patching,
    diagonal,
    judge,
    links,
    trace_translation,
    translated,
)
from melisma.trace.lexicon import Lexicon  # noqa: E402
from melisma.trace.models import TextModel, load_text_model  # noqa: E402

WORDS = [f"w{k}" for k in range(12)]
OTHERS = [f"v{k}" for k in range(12)]
VOCABULARY = ["<pad>", "</s>", "!", *WORDS, *OTHERS]
LEXICON = Lexicon(frozenset(zip(WORDS, OTHERS, strict=True)), 0)


def tokenizer():
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: k for k, w in enumerate(VOCABULARY)}, unk_token="<pad>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>"
    )


def backwards(rng, most=6):
    numbers = [rng.randrange(12) for _ in range(rng.randint(3, most))]
    return (
        " ".join(WORDS[k] for k in numbers) + " !",
        " ".join(OTHERS[k] for k in reversed(numbers)),
    )


@pytest.fixture(scope="module")
def model():
    """Trained here, one layer a side."""
    torch.manual_seed(1)
    rng = random.Random(1)
    config = transformers.MarianConfig(
        vocab_size=len(VOCABULARY), d_model=64, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, max_position_embeddings=16, dropout=0.0, scale_embedding=True,
        pad_token_id=0, eos_token_id=1, bos_token_id=1, decoder_start_token_id=0,
        forced_eos_token_id=None,
    )  # fmt: skip
    module = transformers.MarianMTModel(config).train()
    made = tokenizer()
    optimiser = torch.optim.AdamW(module.parameters(), lr=3e-3)
    for step in range(400):
        pairs = [backwards(rng) for _ in range(64)]
        sides = [made([p[k] for p in pairs], return_tensors="pt", padding=True) for k in (0, 1)]
        labels = sides[1]["input_ids"].masked_fill(sides[1]["attention_mask"] == 0, -100)
        loss = module(
            input_ids=sides[0]["input_ids"], attention_mask=sides[0]["attention_mask"],
            labels=labels,
        ).loss  # fmt: skip
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = 3e-3 * (1 - step / 400)
        optimiser.step()
    assert float(loss.detach()) < 0.3
    module.eval()
    return TextModel(Network(module, adapter_of(module, made)), made, {"model": "backwards"})


@pytest.fixture(scope="module")
def pairs(model):
    rng = random.Random(2)
    return [translated(model, *backwards(rng)) for _ in range(12)]


def test_tokens_are_pooled_to_words():
    one = Sentence("ab c.", ("ab", "c"), torch.arange(4), torch.tensor([0, 0, 1, -1]))
    value = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert one.pooled(value).tolist() == [[3, 4, 8]]
    assert one.pooled(value, mean=True).tolist() == [[1.5, 4, 8]]


def test_words_are_told_from_punctuation(pairs):
    pair = pairs[0]
    assert pair.source.words == tuple(pair.source.text.split()[:-1])
    assert pair.source.word.tolist()[-2:] == [-1, -1]  # the mark and the end
    assert pair.batch["decoder_input_ids"][0].tolist() == [0, *pair.target.numbers[:-1].tolist()]


def test_attention_shares_add_up_and_a_head_looks_backwards(model, pairs):
    found = by_attention(model, pairs[0])
    for value in found.values():
        assert value.sum(1).tolist() == pytest.approx([1] * len(value), abs=1e-5)
    best = max(
        judge([(p, links(by_attention(model, p)[name])) for p in pairs], LEXICON).precision
        for name in found
    )
    assert best > 0.9


def test_gradients_find_the_words_and_add_up(model, pairs):
    told = []
    for pair in pairs:
        value, error = by_gradients(model, pair)
        told.append((pair, links(value)))
        assert float(error.median()) < 0.05
    assert judge(told, LEXICON).precision > 0.9


def test_patching_finds_the_words(model, pairs):
    names = list(by_patching(model, pairs[0]))
    assert names == [
        "patching without encoder.embedding", "patching only encoder.embedding",
        "patching without encoder.layer.0.residual", "patching only encoder.layer.0.residual",
        "patching hidden",
    ]  # fmt: skip
    for name in names[2:]:
        told = [(p, links(by_patching(model, p)[name])) for p in pairs]
        assert judge(told, LEXICON).precision > 0.9, name


def test_patching_is_a_run_of_its_own(model, pairs):
    """One word's states put into the corrupted run, by hooks of one's own."""
    pair = pairs[0]
    module = model.network.module
    found = by_patching(model, pair)["patching only encoder.layer.0.residual"]
    scaled = module.get_input_embeddings().weight.detach() * 8  # the root of its width
    whole = scaled[pair.source.numbers][None]
    bare = whole.clone()
    bare[0, :-2] = scaled.mean(0)
    rest = {k: pair.batch[k] for k in ("attention_mask", "decoder_input_ids")}
    layer = module.model.encoder.layers[0]
    seen = {}
    with torch.no_grad():
        hook = layer.register_forward_hook(lambda *a: seen.update(clean=a[2]))
        module(inputs_embeds=whole, **rest)
        hook.remove()

        def put(_, __, output):
            new = output.clone()
            new[:, 0] = seen["clean"][:, 0]
            return new

        def last(logits):
            token = logits[0].log_softmax(-1)[torch.arange(logits.shape[1]), pair.target.numbers]
            return float(token[len(pair.target.words) - 1])

        before = last(module(inputs_embeds=bare, **rest).logits)
        hook = layer.register_forward_hook(put)
        after = last(module(inputs_embeds=bare, **rest).logits)
        hook.remove()
    assert float(found[-1, 0]) == pytest.approx(after - before, abs=1e-4)


def test_a_trace_has_the_word_behind_a_word(model, pairs):
    pair = pairs[0]
    trace = trace_translation(model, pair, 0)
    assert trace.about["converged"]
    assert trace.completeness == pytest.approx(1, abs=0.05)
    words = {node.name: node.value for node in trace.nodes if node.layer == 0}
    many = len(pair.source.words)
    assert max(words, key=words.get) == f"{many} {pair.source.words[-1]}"
    cross = next(node.name for node in trace.nodes if node.name == "decoder.layer.0.cross")
    looked = [e.evidence["attention"] for e in trace.edges if e.target == cross]
    assert sum(looked) == pytest.approx(1, abs=1e-4)
    for node in trace.nodes:
        if 0 < node.layer < max(n.layer for n in trace.nodes):
            inward = sum(e.effect for e in trace.edges if e.target == node.name)
            outward = sum(e.effect for e in trace.edges if e.source == node.name)
            assert inward == pytest.approx(outward, abs=1e-4)


def test_links_need_a_word_and_evidence():
    score = torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [-1.0, -2.0, -0.5], [0.4, 0.3, 0.0]])
    assert links(score) == ((1, 0), (0, 3))


def test_links_are_judged_where_the_dictionary_knows_a_word(model):
    pair = translated(model, "w0 w1 w2", "v2 v1 v7 v0")
    found = judge([(pair, ((2, 0), (0, 1), (1, 2)))], LEXICON)
    # v7 has no translation here; v2 is right, v1 wrong, v0 without a link.
    assert found == (pytest.approx(1 / 2), pytest.approx(1 / 3), pytest.approx(2 / 3), 3, 0.75)


def test_the_diagonal_goes_along(model):
    assert diagonal(translated(model, "w0 w1 w2", "v0 v1 v2")) == ((0, 0), (1, 1), (2, 2))
    assert diagonal(translated(model, "w0 w1", "v0 v1 v2 v3")) == ((0, 0), (0, 1), (1, 2), (1, 3))


def test_what_cannot_be_aligned_is_refused(model, tmp_path):
    with pytest.raises(MelismaError, match="has no word"):
        translated(model, "!", "v1")
    with pytest.raises(MelismaError, match="3 words, and 3 is none"):
        trace_translation(model, translated(model, "w1 w2", "v1 v2 v3"), 3)
    with pytest.raises(MelismaError, match="knows no word"):
        judge([(translated(model, "w1", "v2"), ())], LEXICON)
    config = transformers.GPT2Config(
        n_embd=8, n_layer=1, n_head=1, n_positions=8, vocab_size=len(VOCABULARY)
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(MelismaError, match="translates nothing"):
        translated(load_text_model(tmp_path), "w1", "v1")


def test_a_translator_is_opened_from_its_folder(model, tmp_path):
    model.network.module.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    opened = load_text_model(tmp_path)
    pair = translated(opened, "w0 w1 w2", "v2 v1 v0")
    own = by_patching(model, translated(model, "w0 w1 w2", "v2 v1 v0"))
    for name, value in by_patching(opened, pair).items():
        assert torch.allclose(value, own[name], atol=1e-5)

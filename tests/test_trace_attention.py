"""Attention maps and rollout."""

import pytest

from melisma.errors import MelismaError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from melisma.network import Network  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.trace.attention import attention, rollout  # noqa: E402

IDS = torch.tensor([[3, 5, 7, 2, 9], [4, 4, 1, 8, 6]])
SMALL = {"vocab_size": 20, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
TWO_SIDED = {"d_model": 16, "decoder_start_token_id": 0, **SMALL}


def first(output, _):
    return (output.logits if hasattr(output, "logits") else output.last_hidden_state)[:, -1, 3]


def family(kind):
    torch.manual_seed(0)
    t = transformers
    made = {
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=16, **SMALL)
        ),
        "llama": lambda: t.LlamaForCausalLM(
            t.LlamaConfig(
                hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=1, **SMALL,
            )
        ),
        "bert": lambda: t.BertModel(
            t.BertConfig(
                hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
                vocab_size=20,
            )
        ),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(d_kv=8, d_ff=32, num_layers=2, num_heads=2, **TWO_SIDED)
        ),
        "marian": lambda: t.MarianMTModel(
            t.MarianConfig(
                encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
                max_position_embeddings=16, **TWO_SIDED,
            )
        ),
    }  # fmt: skip
    return Network(made[kind]().eval())


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_maps_are_shares_and_the_implementation_comes_back(kind):
    network = family(kind)
    before = network.module.config._attn_implementation
    found = attention(network, IDS, first)
    assert found.maps.shape == (2, 2, 2, 5, 5)
    torch.testing.assert_close(found.maps.sum(-1), torch.ones(2, 2, 2, 5))
    assert found.difference < 1e-5
    assert network.module.config._attn_implementation == before == "sdpa"
    if kind != "bert":
        assert found.maps.triu(1).abs().max() == 0

    def broken(output, _):
        if getattr(output, "attentions", None):
            raise RuntimeError("halfway")
        return first(output, _)

    with pytest.raises(RuntimeError, match="halfway"):
        attention(network, IDS, broken)
    assert network.module.config._attn_implementation == before


@pytest.mark.parametrize("kind", ["t5", "marian"])
def test_a_translator_has_three_kinds(kind):
    network = family(kind)
    batch = {"input_ids": IDS, "decoder_input_ids": IDS[:, :3]}
    shapes = {"encoder": (5, 5), "decoder": (3, 3), "cross": (3, 5)}
    for each, shape in shapes.items():
        assert attention(network, batch, first, kind=each).maps.shape == (2, 2, 2, *shape)
    with pytest.raises(
        MelismaError, match="no self attention: ask for encoder or decoder or cross"
    ):
        attention(network, batch, first)


def test_maps_by_hand_from_queries_and_keys():
    network = family("gpt2")
    block = network.module.transformer.h[0]
    with torch.no_grad():
        state = network.run(IDS).blocks[0]
        query, key, _ = block.attn.c_attn(block.ln_1(state)).split(16, dim=2)
        split = [x.view(2, 5, 2, 8).transpose(1, 2) for x in (query, key)]
        score = split[0] @ split[1].transpose(-1, -2) / 8**0.5
        score = score.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    found = attention(network, IDS, first)
    torch.testing.assert_close(found.maps[0], score.softmax(-1), rtol=1e-5, atol=1e-6)


def test_a_model_of_dna_shows_its_attention():
    torch.manual_seed(0)
    config = ModelConfig(width=21, channels=8, dilations=(1,), attention=2, attention_heads=2)
    network = Network(SequenceModel(config).eval())
    codes = torch.randint(0, 4, (3, 21), generator=torch.Generator().manual_seed(2))
    found = attention(network, codes, lambda output, _: output.logit[:, 0])
    assert found.maps.shape[:3] == (2, 3, 2)
    torch.testing.assert_close(found.maps.sum(-1), torch.ones(found.maps.shape[:-1]))
    assert found.difference == 0
    plain = Network(SequenceModel(ModelConfig(width=21, channels=8, dilations=(1,))).eval())
    with pytest.raises(MelismaError, match="no self attention that can be seen"):
        attention(plain, codes, lambda output, _: output.logit[:, 0])


def test_rollout_by_hand():
    one = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    maps = one.expand(2, 1, 1, 2, 2)
    mixed = 0.5 * torch.eye(2) + 0.5 * one
    torch.testing.assert_close(rollout(maps)[0], mixed @ mixed)
    with pytest.raises(MelismaError, match="are no self-attention"):
        rollout(torch.zeros(2, 1, 1, 2, 3))

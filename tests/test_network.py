"""Names of what flows through a network: bit for bit the same, edited, resumed, restored."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch import nn  # noqa: E402

from melisma.errors import MelismaError  # noqa: E402
from melisma.network import Network, Place  # noqa: E402
from melisma.network_adapters import adapter_of  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402

IDS = torch.tensor([[3, 5, 7, 2, 9], [4, 4, 1, 8, 6]])
SMALL = {"vocab_size": 20, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def bert():
    return transformers.BertModel(
        transformers.BertConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
            **SMALL,
        )
    )  # fmt: skip


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=16, **SMALL)
    )


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=32, **SMALL,
        )
    )  # fmt: skip


def t5():
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            d_model=16, d_kv=6, d_ff=32, num_layers=3, num_heads=2, decoder_start_token_id=0,
            **SMALL,
        )
    )  # fmt: skip


def marian():
    return transformers.MarianMTModel(
        transformers.MarianConfig(
            d_model=16, encoder_layers=3, decoder_layers=3, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, scale_embedding=True,
            max_position_embeddings=16, decoder_start_token_id=0, **SMALL,
        )
    )  # fmt: skip


def dna():
    module = SequenceModel(
        ModelConfig(
            width=41, channels=16, dilations=(1, 2), attention=1, position="rotary", centre=21,
            environment=3, attention_heads=2, pool=2,
        )
    )  # fmt: skip
    for value in module.parameters():  # zeros would hide what is not passed on
        nn.init.normal_(value, std=0.1)
    return module


FAMILIES = {"bert": bert, "gpt2": gpt2, "llama": llama, "t5": t5, "marian": marian, "dna": dna}


@pytest.fixture(params=FAMILIES)
def network(request):
    torch.manual_seed(0)
    return Network(FAMILIES[request.param]().eval())


def batch_of(network):
    if isinstance(network.module, SequenceModel):
        codes = torch.randint(0, 5, (2, 41), generator=torch.Generator().manual_seed(1))
        return network.adapter.encode(codes) | {"environment": torch.eye(3)[:2]}
    told = {"input_ids": IDS}
    if "decoder" in " ".join(network.adapter.blocks):
        told["decoder_input_ids"] = IDS[:, :3]
    return told


def bare_of(network, batch, grad=False):
    """The module by itself: fused attention may differ with and without gradients."""
    with torch.set_grad_enabled(grad):
        return first(network.module(**network.adapter.encode(batch)))


def first(output):
    if hasattr(output, "last_hidden_state"):
        return output.last_hidden_state
    return output.logits if hasattr(output, "logits") else output[0]


def test_wrapping_changes_no_bit_and_every_place_is_met(network):
    batch = batch_of(network)
    bare = bare_of(network, batch)
    run = network.run(batch, keep=network.places())
    assert torch.equal(bare, first(run.output))
    assert set(run.kept) == set(network.places())
    assert all(value.dim() == 3 and len(value) == 2 for value in run.kept.values())
    assert len(run.blocks) == len(network.adapter.blocks)
    network.verify(batch)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.module.modules())


def test_a_run_resumes_from_any_block(network):
    batch = batch_of(network)
    run = network.run(batch)
    for k, state in enumerate(run.blocks):
        again = network.run(batch, start=(k, state))
        torch.testing.assert_close(first(again.output), first(run.output), rtol=0, atol=0)
    other = network.run(batch, start=(1, run.blocks[1] + 1))
    assert not torch.allclose(first(other.output), first(run.output))
    with pytest.raises(MelismaError, match="and no block 99"):
        network.run(batch, start=(99, run.blocks[0]))
    with pytest.raises(MelismaError, match="has the shape"):
        network.run(batch, start=(1, run.blocks[1][:, :2]))
    assert torch.equal(first(network.run(batch).output), first(run.output))


def test_the_input_can_be_embedded_and_differentiated(network):
    batch = batch_of(network)
    whole = network.adapter.embed(batch).detach().requires_grad_()
    run = network.run(batch, embedded=whole, grad=True)
    assert torch.equal(first(run.output), bare_of(network, batch, grad=True))
    first(run.output)[0].square().sum().backward()
    assert whole.grad is not None
    assert whole.grad[0].abs().sum() > 0
    assert whole.grad[1].abs().sum() == 0
    with pytest.raises(MelismaError, match="embedded input has the shape"):
        network.run(batch, embedded=whole[:1])


def test_an_edit_of_one_place_is_what_is_kept_there(network):
    batch = batch_of(network)
    for place in network.places():
        ones = network.run(batch, keep=[place], edits={place: lambda x, _: torch.ones_like(x)})
        assert (ones.kept[place] == 1).all(), place


def test_heads_are_slices_of_what_the_projection_reads():
    torch.manual_seed(0)
    network = Network(gpt2().eval())
    run = network.run(IDS, keep=network.places("layer.1.head*"))
    heads = [run.kept[Place(f"layer.1.head.{k}")] for k in range(2)]
    assert torch.equal(torch.cat(heads, -1), run.kept[Place("layer.1.heads")])
    zero = network.run(
        IDS,
        keep=[Place("layer.1.heads")],
        edits={Place("layer.1.head.1"): lambda x, _: torch.zeros_like(x)},
    )
    kept = zero.kept[Place("layer.1.heads")]
    assert torch.equal(kept[..., :8], heads[0])
    assert (kept[..., 8:] == 0).all()


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_heads_agree_with_attention_weights_by_hand(kind):
    torch.manual_seed(0)
    module = gpt2().eval()
    module.set_attn_implementation(kind)
    network = Network(module)
    x = network.run(IDS, keep=[Place("embedding"), Place("layer.0.head.1")])
    block = module.transformer.h[0]
    q, k, v = block.attn.c_attn(block.ln_1(x.kept[Place("embedding")])).split(16, dim=-1)
    q, k, v = (t[..., 8:] for t in (q, k, v))
    mask = torch.full((5, 5), float("-inf")).triu(1)
    by_hand = torch.softmax(q @ k.transpose(1, 2) / 8**0.5 + mask, -1) @ v
    torch.testing.assert_close(x.kept[Place("layer.0.head.1")], by_hand, rtol=1e-5, atol=1e-6)


def test_one_position_and_one_row():
    network = Network(llama().eval())
    place = Place("layer.1.residual", -1)
    bare = network.run(IDS, keep=[Place("layer.1.residual"), place])
    assert bare.kept[place].shape == (2, 1, 16)
    run = network.run(IDS, keep=[Place("layer.1.residual")], edits={place: lambda x, _: x + 1})
    change = run.kept[Place("layer.1.residual")] - bare.kept[Place("layer.1.residual")]
    torch.testing.assert_close(change[:, -1], torch.ones(2, 16))
    assert (change[:, :-1] == 0).all()
    handle = network.attach({Place("layer.1.residual"): lambda x, _: x * 2})
    handle.rows = torch.tensor([1])
    both = bare_of(network, IDS)
    assert torch.equal(both[0], first(bare.output)[0])
    assert not torch.allclose(both[1], first(bare.output)[1])
    handle.remove()
    with pytest.raises(MelismaError, match="5 positions, and no position 7"):
        network.run(IDS, keep=[Place("layer.0.mlp", 7)])


def test_handles_come_first_then_edits_and_off_is_bitwise():
    network = Network(bert().eval())
    bare = bare_of(network, IDS)
    place = Place("layer.0.attention")
    order = []

    def note(name):
        def edit(x, _):
            order.append(name)
            return x + 0.1

        return edit

    older, newer = network.attach({place: note("older")}), network.attach({place: note("newer")})
    run = network.run(IDS, keep=[place], edits={place: note("run")})
    assert order == ["older", "newer", "run"]
    older.enabled = newer.enabled = False
    alone = network.run(IDS, keep=[place])
    torch.testing.assert_close(run.kept[place], alone.kept[place] + 0.3, rtol=0, atol=1e-5)
    assert torch.equal(bare_of(network, IDS), bare)
    older.remove()
    newer.remove()
    newer.remove()


def test_bad_edits_are_refused_and_leave_the_network_as_it_was():
    network = Network(gpt2().eval())
    place = Place("layer.2.mlp")
    bare = bare_of(network, IDS)

    def in_place(x, _):
        return x.add_(1)

    def broken(x, _):
        raise RuntimeError("broken")

    for edit, error, words in (
        (in_place, MelismaError, "changed its input in place"),
        (lambda x, _: x[:1], MelismaError, "returned"),
        (lambda x, _: None, MelismaError, "returned NoneType"),
        (broken, RuntimeError, "broken"),
    ):
        with pytest.raises(error, match=words):
            network.run(IDS, edits={place: edit}, start=(1, torch.zeros(2, 5, 16)))
        assert torch.equal(bare_of(network, IDS), bare)
        assert "forward" not in vars(network.module.transformer.h[0])
    assert torch.is_grad_enabled()
    with pytest.raises(MelismaError, match=r"did you mean 'layer\.2\.mlp'"):
        network.run(IDS, keep=[Place("layer.2.mpl")])
    with pytest.raises(MelismaError, match="no tokenizer"):
        network.run("The cat")


def test_a_module_that_is_called_twice_has_no_one_value():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.unused = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(self.layer(x))

    network = Network(Twice())
    batch = {"x": torch.ones(1, 2, 4)}
    assert torch.equal(network.run(batch).output, network.module(**batch))
    with pytest.raises(MelismaError, match="layer is called more than once"):
        network.run(batch, keep=[Place("layer")])
    with pytest.raises(MelismaError, match="unused was not reached"):
        network.run(batch, keep=[Place("unused")])
    with pytest.raises(MelismaError, match="keyword arguments"):
        network.run(torch.ones(1, 2, 4))


def test_the_fingerprint_is_of_weights_and_configuration():
    torch.manual_seed(0)
    one = Network(gpt2())
    before = one.fingerprint()
    torch.manual_seed(0)
    assert Network(gpt2()).fingerprint() == before
    with torch.no_grad():
        one.module.lm_head.weight[0, 0] += 1
    assert one.fingerprint() != before


def test_texts_go_through_a_tokenizer():
    def tokenizer(texts, return_tensors, padding):
        assert return_tensors == "pt"
        return {"input_ids": torch.tensor([[len(t), 3] for t in texts])}

    module = gpt2().eval()
    network = Network(module, adapter_of(module, tokenizer))
    assert network.run(["a", "bcd"]).output.logits.shape == (2, 2, 20)


def test_what_a_start_leaves_out_is_refused_and_holds_nothing():
    network = Network(gpt2().eval())
    run = network.run(IDS)
    again = network.run(IDS, start=(2, run.blocks[2]))
    assert again.blocks[0].numel() == again.blocks[1].numel() == 0
    assert torch.equal(again.blocks[2], run.blocks[2])
    for asked in (
        {"keep": [Place("layer.0.mlp")]},
        {"edits": {Place("layer.1.mlp"): lambda x, _: x}},
    ):
        with pytest.raises(MelismaError, match="lies before the block"):
            network.run(IDS, start=(2, run.blocks[2]), **asked)


def test_states_have_the_layout_of_residuals_in_every_family(network):
    batch = batch_of(network)
    run = network.run(batch, keep=network.places("*layer.0.residual"))
    first_stack = next(iter(run.kept))
    assert run.blocks[1].shape == run.kept[first_stack].shape
    assert torch.equal(run.blocks[1], run.kept[first_stack])


def test_what_is_kept_has_a_gradient_and_is_not_overwritten():
    network = Network(gpt2().eval())
    place = Place("layer.1.head.1", 2)
    run = network.run(IDS, keep=[place], grad=True)
    assert torch.equal(first(run.output), bare_of(network, IDS, grad=True))
    (slope,) = torch.autograd.grad(first(run.output)[:, -1].sum(), run.kept[place])
    assert slope.abs().sum() > 0

    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True))
    wrapped = Network(net)
    x = torch.tensor([[[-1.0, 2.0, -3.0]]])
    kept = wrapped.run({"input": x}, keep=[Place("0")]).kept[Place("0")]
    assert torch.equal(kept, net[0](x))
    # Nor is what an edit holds, nor a mean that stands at many positions at once.
    held = torch.tensor([[[-1.0, 2.0, -3.0]]])
    wrapped.run({"input": x}, edits={Place("0"): lambda *_: held})
    assert held.tolist() == [[[-1.0, 2.0, -3.0]]]
    wide = {"input": x.repeat(2, 4, 1)}
    mean = wrapped.run(wide, edits={Place("0"): lambda v, _: held.expand_as(v)}).output
    assert mean.tolist() == [[[0.0, 2.0, 0.0]] * 4] * 2


def test_a_refused_edit_changes_nothing_and_training_mode_leaves_averages():
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Give()

        def forward(self, x):
            return x + self.inner(x)

    class Give(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 2, 3))

        def forward(self, x):
            return self.weight

    network = Network(Weights())
    with pytest.raises(MelismaError, match="in place"):
        network.run(
            {"x": torch.zeros(1, 2, 3)}, edits={Place("inner"): lambda x, _: x.detach().add_(1)}
        )
    assert (network.module.inner.weight == 1).all()
    norm = nn.Sequential(nn.BatchNorm1d(2)).train()
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    Network(norm).run({"input": torch.randn(5, 2, 3)})
    assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())


def test_rows_by_mask_other_types_and_inference_mode():
    network = Network(gpt2().eval())
    place = Place("layer.1.residual")
    handle = network.attach({place: lambda x, _: x * 2})
    handle.rows = torch.tensor([False, True])
    with torch.inference_mode():
        told = network.module(IDS).logits
    handle.remove()
    bare = bare_of(network, IDS)
    assert torch.equal(told[0], bare[0])
    assert not torch.equal(told[1], bare[1])
    with pytest.raises(MelismaError, match=r"returned torch\.float64"):
        network.run(IDS, edits={place: lambda x, _: x.double()})
    with pytest.raises(MelismaError, match="did you mean"):
        network.run(IDS, keep=[Place("attn3")])


def test_half_of_a_translator_is_wrapped():
    torch.manual_seed(0)
    encoder = transformers.T5EncoderModel(
        transformers.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, **SMALL)
    )
    network = Network(encoder.eval())
    network.verify(IDS)
    assert {p.name.partition(".")[0] for p in network.places()} == {"encoder"}


def test_the_fingerprint_does_not_tell_folders():
    torch.manual_seed(0)
    one, other = gpt2(), gpt2()
    other.load_state_dict(one.state_dict())
    other.config._name_or_path = "elsewhere"
    assert Network(one).fingerprint() == Network(other).fingerprint()

"""Record, edges, lens, steering and direct logit attribution, against plain hooks and sums."""

import pytest

from melisma.errors import MelismaError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from melisma.network import Network, Place  # noqa: E402
from melisma.trace.direct import direct  # noqa: E402
from melisma.trace.lens import lens  # noqa: E402
from melisma.trace.path import OUTPUT, path  # noqa: E402
from melisma.trace.run import run  # noqa: E402
from melisma.trace.steer import direction_between, steer  # noqa: E402

CLEAN = torch.tensor([[3, 5, 7, 2, 9], [4, 4, 1, 8, 6]])
CORRUPTED = torch.tensor([[3, 11, 7, 2, 9], [4, 4, 12, 8, 6]])
SMALL = {"vocab_size": 20, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def toward(output, _):
    return output.logits[:, -1, 3] - output.logits[:, -1, 7]


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=16, **SMALL)
    module = transformers.GPT2LMHeadModel(config).eval()
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return Network(module)


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16, tie_word_embeddings=True, **SMALL,
    )  # fmt: skip
    module = transformers.LlamaForCausalLM(config).eval()
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return Network(module)


def t5():
    torch.manual_seed(0)
    config = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=32, num_layers=2, num_decoder_layers=2, num_heads=2,
        decoder_start_token_id=0, **SMALL,
    )  # fmt: skip
    module = transformers.T5ForConditionalGeneration(config).eval()
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return Network(module)


def bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        vocab_size=20,
    )  # fmt: skip
    return Network(transformers.BertForMaskedLM(config).eval())


def test_a_run_keeps_places_and_the_metric():
    network = gpt2()
    found = run(network, CLEAN, toward, places="layer.*.mlp")
    assert [place.name for place in found.kept] == ["layer.0.mlp", "layer.1.mlp", "layer.2.mlp"]
    with torch.no_grad():
        logits = network.module(CLEAN).logits
    assert torch.equal(found.value, logits[:, -1, 3] - logits[:, -1, 7])
    with pytest.raises(MelismaError, match="No place of the network fits"):
        run(network, CLEAN, toward, places="layer.9.*")
    with pytest.raises(MelismaError, match="one number a row"):
        run(network, CLEAN, lambda output, _: output.logits)


@pytest.mark.parametrize("build", [gpt2, llama])
def test_the_lens_is_the_head_on_each_state(build):
    network = build()
    found = lens(network, CLEAN, toward)
    module = network.module
    norm = module.transformer.ln_f if build is gpt2 else module.model.norm
    with torch.no_grad():
        states = run(network, CLEAN, toward).kept
        for place, value in zip(found.places, found.value, strict=True):
            logits = module.lm_head(norm(states[place]))
            torch.testing.assert_close(value, logits[:, -1, 3] - logits[:, -1, 7])
    torch.testing.assert_close(found.value[-1], found.final)


def test_the_lens_of_a_translator_reads_its_decoder():
    network = t5()
    batch = {"input_ids": CLEAN, "decoder_input_ids": CORRUPTED}
    found = lens(network, batch, toward)
    assert [p.name for p in found.places] == [
        "decoder.layer.0.residual", "decoder.layer.1.residual",
    ]  # fmt: skip
    torch.testing.assert_close(found.value[-1], found.final)
    with pytest.raises(MelismaError, match="leaves a block of the last stack"):
        lens(network, batch, toward, places="encoder.layer.*.residual")


@pytest.mark.parametrize("build", [gpt2, llama])
def test_what_parts_write_adds_up_to_the_metric(build):
    network = build()
    found = direct(network, CLEAN, toward)
    assert (found.completeness_error < 1e-5).all()
    names = [place.name for place in found.places]
    assert names[0] == "embedding"
    assert len(names) == 1 + 3 * (2 if build is gpt2 else 4) + 3
    with torch.no_grad():
        logits = network.module(CLEAN).logits
    torch.testing.assert_close(found.value, logits[:, -1, 3] - logits[:, -1, 7])
    # The last block's MLP by hand: what it adds, centred where the model centres, scaled, read.
    kept = run(network, CLEAN, toward, places="layer.2.*").kept
    state, mlp = kept[Place("layer.2.residual")][:, -1], kept[Place("layer.2.mlp")][:, -1]
    module = network.module
    norm = module.transformer.ln_f if build is gpt2 else module.model.norm
    if build is gpt2:
        scale = (state.var(-1, unbiased=False) + norm.eps).sqrt()
        mlp = mlp - mlp.mean(-1, keepdim=True)
    else:
        scale = (state.pow(2).mean(-1) + norm.variance_epsilon).sqrt()
    read = (module.lm_head.weight[3] - module.lm_head.weight[7]) * norm.weight
    expected = (mlp * read).sum(-1) / scale
    torch.testing.assert_close(found.effect[-1], expected.detach(), rtol=1e-4, atol=1e-5)


def test_what_has_no_direct_share_is_refused():
    network = gpt2()
    with pytest.raises(MelismaError, match="not linear in the logits"):
        direct(network, CLEAN, lambda output, _: output.logits[:, -1].softmax(-1)[:, 3])
    with pytest.raises(MelismaError, match="final normalisation"):
        direct(bert(), CLEAN, toward)


def by_hooks(module, sender, receiver, head_width=8):
    """The effect of one head through one later head in GPT-2, with plain hooks."""
    attention = [block.attn.c_proj for block in module.transformer.h]
    mlps = [block.mlp for block in module.transformer.h]

    def inputs(ids):
        kept = {}
        handles = [
            layer.register_forward_pre_hook(
                lambda _, args, k=k: kept.__setitem__(("in", k), args[0])
            )
            for k, layer in enumerate(attention)
        ]
        handles += [
            layer.register_forward_hook(lambda _, __, out, k=k: kept.__setitem__(("att", k), out))
            for k, layer in enumerate(attention)
        ]
        handles += [
            layer.register_forward_hook(lambda _, __, out, k=k: kept.__setitem__(("mlp", k), out))
            for k, layer in enumerate(mlps)
        ]
        kept["logits"] = module(ids).logits
        for handle in handles:
            handle.remove()
        return kept

    def replaced(layer, head, value):
        part = slice(head * head_width, (head + 1) * head_width)

        def hook(_, args):
            whole = args[0].clone()
            whole[..., part] = value[..., part]
            return (whole,)

        return attention[layer].register_forward_pre_hook(hook)

    with torch.no_grad():
        clean, corrupted = inputs(CLEAN), inputs(CORRUPTED)
        handles = [replaced(*sender, clean[("in", sender[0])])]
        reached = {}
        for k in range(len(mlps)):
            if k >= sender[0]:
                handles.append(
                    mlps[k].register_forward_hook(lambda _, __, ___, k=k: corrupted[("mlp", k)])
                )
            if k > sender[0]:
                handles.append(
                    attention[k].register_forward_pre_hook(
                        lambda _, args, k=k: reached.__setitem__(k, args[0])
                    )
                )
                handles.append(
                    attention[k].register_forward_hook(
                        lambda _, __, ___, k=k: corrupted[("att", k)]
                    )
                )
        alone = module(CORRUPTED).logits
        for handle in handles:
            handle.remove()
        handle = replaced(*receiver, reached[receiver[0]])
        through = module(CORRUPTED).logits
        handle.remove()
    base = corrupted["logits"]
    gap = lambda x: x[:, -1, 3] - x[:, -1, 7]  # noqa: E731
    return gap(through) - gap(base), gap(alone) - gap(base)


def test_an_edge_is_what_plain_hooks_measure():
    network = gpt2()
    found = path(network, CLEAN, CORRUPTED, toward)
    names = [place.name for place in found.receivers]
    assert found.receivers[-1] == OUTPUT
    for sender, receiver in (((0, 1), (1, 0)), ((0, 0), (2, 1)), ((1, 1), (2, 0))):
        s = [p.name for p in found.senders].index("layer.{}.head.{}".format(*sender))
        r = names.index("layer.{}.head.{}".format(*receiver))
        through, alone = by_hooks(network.module, sender, receiver)
        torch.testing.assert_close(found.effect[s, r], through, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.effect[s, -1], alone, rtol=1e-4, atol=1e-5)
    # No edge goes back, or between heads of one layer.
    back = names.index("layer.0.head.0")
    assert torch.equal(found.effect[:, back], torch.zeros_like(found.effect[:, back]))


def test_edges_of_every_family_and_kind():
    # What is added at one position stays there, so all positions are read.
    def anywhere(output, _):
        return output.logits[:, :, 3].sum(1)

    for network in (bert(), llama()):
        found = path(
            network, CLEAN, CORRUPTED, anywhere, senders=[Place("embedding"), Place("layer.0.mlp")],
            receivers="layer.1.mlp", rows=2,
        )  # fmt: skip
        assert found.effect.shape == (2, 2, 2)
        assert (found.effect[:, 0].abs() > 0).all()
    translator = t5()
    batches = [{"input_ids": ids, "decoder_input_ids": CLEAN} for ids in (CLEAN, CORRUPTED)]
    found = path(
        translator, *batches, toward, senders="encoder.layer.*.head.*",
        receivers="decoder.layer.*.cross_head.*",
    )  # fmt: skip
    assert (found.effect[:, :-1].abs().sum((1, 2)) > 0).all()
    # With all that comes after held, cross-attention included, an encoder's head says nothing.
    assert found.effect[:, -1].abs().max() < 1e-5


def test_ends_that_are_none_are_refused():
    network = gpt2()
    for senders, words in (
        ("layer.0.residual", "no end of an edge"),
        ([Place("layer.0.head.0", 2)], "no end of an edge"),
    ):
        with pytest.raises(MelismaError, match=words):
            path(network, CLEAN, CORRUPTED, toward, senders=senders)
    with pytest.raises(MelismaError, match="as many tokens"):
        path(network, CLEAN, CORRUPTED[:, :4], toward)
    with pytest.raises(MelismaError, match="give pairs"):
        path(network, CLEAN, CORRUPTED[:1], toward)
    plain = Network(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    batch = {"input": torch.zeros(1, 2)}
    with pytest.raises(MelismaError, match="no known names"):
        path(plain, batch, batch, lambda output, _: output[:, 0], senders="*", receivers="*")


def test_steering_adds_a_direction():
    network = gpt2()
    place = Place("layer.1.residual", -1)
    direction = direction_between(network, CLEAN, CORRUPTED, Place("layer.1.residual"))
    found = steer(network, CLEAN, toward, place=place, direction=direction)
    torch.testing.assert_close(found.value[2], run(network, CLEAN, toward).value)
    moved = network.run(CLEAN, edits={place: lambda x, _: x + 2 * direction})
    torch.testing.assert_close(found.value[-1], toward(moved.output, None))
    assert found.slope.shape == (2,)
    kept = network.run(CLEAN, keep=[Place("layer.1.residual")]).kept[Place("layer.1.residual")]
    other = network.run(CORRUPTED, keep=[Place("layer.1.residual")]).kept[Place("layer.1.residual")]
    torch.testing.assert_close(direction, kept[:, -1].mean(0) - other[:, -1].mean(0))
    with pytest.raises(MelismaError, match="the width 16"):
        steer(network, CLEAN, toward, place=place, direction=torch.zeros(3))
    with pytest.raises(MelismaError, match="two different strengths"):
        steer(network, CLEAN, toward, place=place, direction=direction, strengths=(1.0,))
    with pytest.raises(MelismaError, match="not numbers"):
        steer(network, CLEAN, toward, place=place, direction=direction * torch.nan)

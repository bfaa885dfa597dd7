"""The Trace object, and the verbs that fill it: ablation, patching, attribution."""

import math

import pytest

from melisma.errors import MelismaError
from melisma.trace import Edge, Node, Trace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from melisma.network import Network, Place  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.trace.ablate import ablate  # noqa: E402
from melisma.trace.attribute import (  # noqa: E402
    attribution_patching,
    gradient_times_input,
    integrated_gradients,
)
from melisma.trace.patch import patch  # noqa: E402

CLEAN = torch.tensor([[3, 5, 7, 2, 9], [4, 4, 1, 8, 6]])
CORRUPTED = torch.tensor([[3, 11, 7, 2, 9], [4, 4, 12, 8, 6]])
SMALL = {"vocab_size": 20, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def toward(output, batch):
    """The logit of token 3 less that of token 7 after the last token."""
    return output.logits[:, -1, 3] - output.logits[:, -1, 7]


def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=16, **SMALL)
    return Network(transformers.GPT2LMHeadModel(config).eval())


def marian():
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
        max_position_embeddings=16, decoder_start_token_id=0, **SMALL,
    )  # fmt: skip
    return Network(transformers.MarianMTModel(config).eval())


def dna():
    torch.manual_seed(0)
    module = SequenceModel(ModelConfig(width=21, channels=8, dilations=(1, 2)))
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return Network(module.eval())


# ---------------------------------------------------------------- the object


def chain(a=0.6, b=0.3, total=1.0):
    nodes = (
        Node("diet", 0, "exposure"), Node("age", 0, "exposure"), Node("chr1:5", 1, "site"),
        Node("weight", 2, "phenotype"),
    )  # fmt: skip
    edges = (
        Edge("diet", "chr1:5", 0.2, 0.05, "mediation", {"p": 0.001}),
        Edge("chr1:5", "weight", a, 0.1, "mediation"),
        Edge("age", "weight", b, None, "mediation"),
    )
    return Trace(nodes, edges, "weight", total, 0.2, "kg", ("no unmeasured confounding",))


def test_completeness_is_the_share_of_the_total_that_paths_explain():
    trace = chain()
    assert trace.explained == pytest.approx(0.9)
    assert trace.completeness == pytest.approx(0.9)
    assert trace.completeness_error == pytest.approx(0.1 + math.hypot(0.1, 0.2))
    assert math.isnan(chain(total=0.0).completeness)
    assert [edge.source for edge in trace.into("weight")] == ["chr1:5", "age"]
    assert trace.table()["share"].to_list() == pytest.approx([0.2, 0.6, 0.3])


def test_a_trace_is_saved_and_opened_again(tmp_path):
    trace = chain()
    trace.save(tmp_path / "t.json")
    assert Trace.load(tmp_path / "t.json") == trace
    assert not (tmp_path / "t.json.part").exists()
    with pytest.raises(MelismaError, match="no trace at"):
        Trace.load(tmp_path / "none.json")
    with pytest.raises(MelismaError, match="This is no trace"):
        Trace.from_json('{"format": 1, "nodes": []}')
    newer = trace.to_json().replace('"format": 1', '"format": 9')
    with pytest.raises(MelismaError, match="install a newer melisma"):
        Trace.from_json(newer)


def test_filtering_keeps_what_is_on_a_path_and_the_total():
    strong = chain().filter(strongest=1)
    assert [(e.source, e.target) for e in strong.edges] == [
        ("diet", "chr1:5"),
        ("chr1:5", "weight"),
    ]
    assert {node.name for node in strong.nodes} == {"diet", "chr1:5", "weight"}
    assert strong.total == 1.0
    assert strong.completeness == pytest.approx(0.6)
    no_site = chain().filter(lambda edge: edge.source != "chr1:5")
    assert {node.name for node in no_site.nodes} == {"age", "weight"}


def test_the_difference_of_two_traces():
    other = chain(a=0.1, total=0.5)
    found = chain().diff(other)
    effects = {(e.source, e.target): e for e in found.edges}
    assert effects["chr1:5", "weight"].effect == pytest.approx(0.5)
    assert effects["chr1:5", "weight"].error == pytest.approx(math.hypot(0.1, 0.1))
    assert effects["diet", "chr1:5"].effect == 0.0
    assert found.total == 0.5
    assert found.total_error == pytest.approx(math.hypot(0.2, 0.2))
    alone = chain().filter(strongest=1)
    assert chain().diff(alone).table().filter(source="age")["effect"].item() == pytest.approx(0.3)
    with pytest.raises(MelismaError, match="compare one outcome in one unit"):
        chain().diff(Trace((Node("weight", 0),), (), "weight", 1.0))


@pytest.mark.parametrize(
    ("nodes", "edges", "words"),
    [
        ([Node("a", 0), Node("a", 1)], [], "Two nodes are called 'a'"),
        ([Node("a", 0)], [], "outcome 'y' is no node"),
        ([Node("a", 0), Node("y", 1)], [Edge("b", "y", 1.0)], "ends at 'b'"),
        ([Node("a", 1), Node("y", 1)], [Edge("a", "y", 1.0)], "does not go from an earlier"),
        ([Node("a", 0), Node("y", 1)], [Edge("a", "y", math.nan)], "not a number"),
    ],
)
def test_what_is_no_trace_is_refused(nodes, edges, words):
    with pytest.raises(MelismaError, match=words):
        Trace(tuple(nodes), tuple(edges), "y", 1.0)


# ---------------------------------------------------------------- ablation


@pytest.mark.parametrize("kind", ["zero", "mean", "resample"])
def test_an_ablated_head_is_what_stands_in_its_stead(kind):
    network = gpt2()
    place = Place("layer.1.head.0")
    found = ablate(network, CLEAN, toward, places=[place], kind=kind, seed=3)
    value = network.run(CLEAN, keep=[place]).kept[place]
    rows = torch.randint(2, (2,), generator=torch.Generator().manual_seed(3))
    stead = {
        "zero": torch.zeros_like(value), "mean": value.mean((0, 1)).expand_as(value),
        "resample": value[rows],
    }[kind]  # fmt: skip
    by_hand = toward(network.run(CLEAN, edits={place: lambda x, _: stead}).output, None)
    torch.testing.assert_close(found.ablated[0], by_hand)
    torch.testing.assert_close(found.effect[0], found.base - by_hand)


def test_places_are_ablated_one_by_one_or_together():
    network = gpt2()
    each = ablate(network, CLEAN, toward, kind="zero")
    assert each.ablated.shape == (6, 2)
    both = ablate(network, CLEAN, toward, places="layer.*.attention", kind="zero", together=True)
    assert both.ablated.shape == (1, 2)
    mlps = ablate(network, CLEAN, toward, places="layer.*.mlp", kind="zero", together=True)
    assert not torch.allclose(both.ablated, mlps.ablated)
    with pytest.raises(MelismaError, match="No place of the network fits 'layer.9"):
        ablate(network, CLEAN, toward, places="layer.9.*")
    with pytest.raises(MelismaError, match="resample from inputs of the same length"):
        ablate(network, CLEAN, toward, kind="resample", reference=CLEAN[:, :3])


# ---------------------------------------------------------------- patching


@pytest.mark.parametrize("pattern", ["layer.*.residual", "layer.*.head.*", "layer.*.mlp"])
@pytest.mark.parametrize("rows", [3, 64])
def test_patching_equals_one_run_a_patch(pattern, rows):
    network = gpt2()
    found = patch(network, CLEAN, CORRUPTED, toward, places=pattern, rows=rows)
    kept = network.run(CLEAN, keep=found.places).kept
    for k, place in enumerate(found.places):
        for at in range(5):
            one = Place(place.name, at)
            new = kept[place][:, at : at + 1]
            output = network.run(CORRUPTED, edits={one: lambda x, _, new=new: new}).output
            torch.testing.assert_close(
                found.patched[k, at], toward(output, None), rtol=1e-5, atol=1e-6
            )
    torch.testing.assert_close(found.clean, toward(network.run(CLEAN).output, None))


def test_the_last_residual_at_the_last_token_brings_all_back():
    network = gpt2()
    found = patch(network, CLEAN, CORRUPTED, toward)
    torch.testing.assert_close(found.restored[-1, -1], torch.ones(2), rtol=1e-4, atol=1e-4)
    # What the first block says of tokens before the change is the same in both runs.
    torch.testing.assert_close(found.restored[0, 0], torch.zeros(2), rtol=0, atol=1e-4)
    whole = patch(network, CLEAN, CORRUPTED, toward, by_position=False)
    torch.testing.assert_close(whole.restored[:, 0], torch.ones(3, 2), rtol=1e-4, atol=1e-4)


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=16, **SMALL,
    )  # fmt: skip
    return Network(transformers.LlamaForCausalLM(config).eval())


@pytest.mark.parametrize("family", [gpt2, llama])
@pytest.mark.parametrize("keep", [1, 3])
def test_what_stands_before_a_patch_is_not_computed_again(family, keep, monkeypatch):
    network = family()
    monkeypatch.setattr("melisma.trace.patch._ROWS_FROM_POSITION", 2)
    told = [{"input_ids": x, "logits_to_keep": keep} for x in (CLEAN, CORRUPTED)]
    computed = []
    module = network.module

    def counts(_, args, kwargs):
        computed.append(kwargs["inputs_embeds"].shape[1] if "inputs_embeds" in kwargs else 5)

    patterns = ("embedding", "layer.*.residual", "layer.*.head.*", "layer.*.mlp")
    for pattern in patterns:
        whole = patch(network, CLEAN, CORRUPTED, toward, places=pattern)
        found = patch(network, *told, toward, places=pattern)
        torch.testing.assert_close(found.patched, whole.patched, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.clean, whole.clean)
    # Hooks that are not ours see whole runs: what they do may count positions.
    hook = module.register_forward_pre_hook(counts, with_kwargs=True)
    again = patch(network, *told, toward, places="layer.*.mlp")
    hook.remove()
    assert set(computed) == {5}
    torch.testing.assert_close(again.patched, found.patched, rtol=1e-5, atol=1e-6)
    seen = []
    inner = module.forward

    def watched(*args, **kwargs):
        seen.append(kwargs["inputs_embeds"].shape[1] if "inputs_embeds" in kwargs else 5)
        return inner(*args, **kwargs)

    monkeypatch.setattr(module, "forward", watched)
    patch(network, *told, toward, places="layer.*.mlp")
    # Pieces of one position and both rows; the kept logits are always computed.
    assert set(seen) == {5, *(max(5 - at, keep) for at in range(1, 5))}


def test_an_encoder_and_decoder_is_patched_in_both():
    network = marian()
    told = [{"input_ids": ids, "decoder_input_ids": CLEAN[:, :3]} for ids in (CLEAN, CORRUPTED)]
    found = patch(network, *told, toward, places="*.layer.*.residual", by_position=False)
    names = [place.name for place in found.places]
    at = names.index("encoder.layer.1.residual")
    torch.testing.assert_close(found.restored[at, 0], torch.ones(2), rtol=1e-3, atol=1e-3)
    assert (found.restored[names.index("decoder.layer.0.residual"), 0] != 0).all()


def test_inputs_that_do_not_pair_are_refused():
    network = gpt2()
    with pytest.raises(MelismaError, match="prompts must have as many tokens"):
        patch(network, CLEAN, CORRUPTED[:, :4], toward)
    with pytest.raises(MelismaError, match="give pairs"):
        patch(network, CLEAN, CORRUPTED[:1], toward)
    with pytest.raises(MelismaError, match="one number a row"):
        patch(network, CLEAN, CORRUPTED, lambda output, batch: output.logits.mean())


# ---------------------------------------------------------------- attribution


def test_integrated_gradients_add_up_and_equal_a_plain_sum():
    network = gpt2()
    found = integrated_gradients(network, CLEAN, toward, steps=64)
    assert found.converged.all()
    torch.testing.assert_close(found.value.sum((1, 2)), found.difference, rtol=1e-3, atol=1e-4)
    whole = network.adapter.embed({"input_ids": CLEAN}).detach()
    total = torch.zeros_like(whole)
    many = 2000
    for k in range(many):
        at = ((k + 0.5) / many * whole).requires_grad_()
        value = toward(network.module(inputs_embeds=at), None).sum()
        total += torch.autograd.grad(value, at)[0] / many
    plain = total * whole
    torch.testing.assert_close(found.value, plain, rtol=0, atol=2e-4 * plain.abs().max())


def test_integrated_gradients_equal_captums():
    captum = pytest.importorskip("captum.attr")
    network = gpt2()
    whole = network.adapter.embed({"input_ids": CLEAN}).detach()
    baseline = 0.1 * torch.randn(whole.shape, generator=torch.Generator().manual_seed(1))
    found = integrated_gradients(network, CLEAN, toward, baseline=baseline, steps=24, most_steps=24)
    theirs = captum.IntegratedGradients(
        lambda x: toward(network.module(inputs_embeds=x), None)
    ).attribute(whole, baseline, n_steps=24, method="gausslegendre")
    assert (found.value - theirs).abs().max() / theirs.abs().max() <= 1e-6


def test_the_line_is_cut_until_the_parts_add_up_and_rough_ones_are_flagged():
    network = dna()
    codes = torch.randint(0, 4, (3, 21), generator=torch.Generator().manual_seed(2))

    def level(output, batch):
        return output.logit[:, 0]

    found = integrated_gradients(network, codes, level, steps=2, most_steps=256)
    assert found.converged.all()
    rough = gradient_times_input(network, codes, level)
    assert rough.steps == 1
    assert not rough.converged.all()
    assert (rough.completeness_error > found.completeness_error).all()
    with pytest.raises(MelismaError, match="The baseline has the shape"):
        integrated_gradients(network, codes, level, baseline=torch.zeros(1, 5, 4))


def test_attribution_patching_is_the_slope_of_patching():
    network = gpt2()
    clean = network.adapter.embed({"input_ids": CLEAN}).detach()
    # Close inputs, between which the network is nearly linear.
    near = {"inputs_embeds": clean + 1e-3 * torch.randn(clean.shape)}
    told = {"inputs_embeds": clean}
    for pattern in ("layer.*.residual", "layer.*.head.*"):
        estimate = attribution_patching(network, told, near, toward, places=pattern)
        exact = patch(network, told, near, toward, places=pattern)
        change = exact.patched - exact.corrupted
        assert (estimate.effect - change).abs().max() < 0.05 * change.abs().max()
        assert estimate.agreement.correlation > 0.99
        assert estimate.agreement.slope == pytest.approx(1, abs=0.05)
    # Far from linear, the agreement says so.
    far = attribution_patching(network, CLEAN, CORRUPTED, toward, check=2)
    exact = patch(network, CLEAN, CORRUPTED, toward, places=far.agreement.places)
    gone = (exact.patched - exact.corrupted).flatten()
    told = far.effect[[far.places.index(p) for p in exact.places]].flatten()
    expected = torch.corrcoef(torch.stack([told, gone]))[0, 1]
    assert far.agreement.correlation == pytest.approx(float(expected), abs=1e-5)
    assert attribution_patching(network, CLEAN, CORRUPTED, toward, check=0).agreement is None


def test_a_model_of_dna_is_patched_as_one_run_a_patch():
    network = dna()
    generator = torch.Generator().manual_seed(4)
    clean, corrupted = torch.randint(0, 4, (2, 2, 21), generator=generator)

    def level(output, batch):
        return output.logit[:, 0]

    found = patch(network, clean, corrupted, level)
    kept = network.run(clean, keep=found.places).kept
    for k, place in enumerate(found.places):
        one = Place(place.name, 7)
        new = kept[place][:, 7:8]
        output = network.run(corrupted, edits={one: lambda x, _, new=new: new}).output
        torch.testing.assert_close(found.patched[k, 7], level(output, None), rtol=1e-4, atol=1e-5)

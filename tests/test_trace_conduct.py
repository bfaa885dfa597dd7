"""What each part of a network hands on: by hand, and as integrated gradients say."""

import pytest

from melisma.errors import MelismaError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from melisma.network import Network, Place  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.trace.attribute import integrated_gradients  # noqa: E402
from melisma.trace.conduct import conductance, parts_of  # noqa: E402


class Square(torch.nn.Module):
    def forward(self, x):
        return x**2


class Two(torch.nn.Module):
    """h = 2 x; the outcome is 5 h + h² summed over positions: one part straight, one through h."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(1, 1, bias=False)
        self.second = Square()
        torch.nn.init.constant_(self.first.weight, 2.0)

    def forward(self, x):  # (B, L, 1)
        h = self.first(x)
        return (5 * h + self.second(h)).sum((1, 2))


def plain(output, batch):
    return output


BOTH = (Place("first"), Place("second"))


def test_every_part_has_what_it_hands_straight_on():
    told = {"x": torch.tensor([[[3.0], [1.0]], [[0.0], [-1.0]]])}
    found = conductance(Network(Two()), told, plain, places=BOTH)
    # 5 (2 x) straight, (2 x)² through the square, position by position.
    expected = torch.tensor([[[30.0, 36.0], [10.0, 4.0]], [[0.0, 0.0], [-10.0, 4.0]]])
    torch.testing.assert_close(found.value, expected)
    torch.testing.assert_close(found.by_place, expected.sum(1))
    torch.testing.assert_close(found.difference, torch.tensor([80.0, -6.0]))
    assert found.converged.all()
    # From x = 1: 5 (6 - 2) and 36 - 4.
    again = conductance(Network(Two()), told, plain, places=BOTH, baseline=torch.ones(1, 2, 1))
    torch.testing.assert_close(again.value[0], torch.tensor([[20.0, 32.0], [0.0, 0.0]]))


def test_parts_that_leave_a_way_out_do_not_add_up_and_are_flagged():
    told = {"x": torch.tensor([[[3.0]]])}
    found = conductance(Network(Two()), told, plain, places=BOTH[1:], most_steps=16)
    assert found.value.flatten().tolist() == pytest.approx([36])
    assert found.completeness_error.item() == pytest.approx(30 / 66)
    assert not found.converged.any()
    with pytest.raises(MelismaError, match="no parts that are known by name"):
        conductance(Network(Two()), told, plain)
    with pytest.raises(MelismaError, match="The baseline has the shape"):
        conductance(Network(Two()), told, plain, places=BOTH, baseline=torch.ones(1, 2, 1))


def test_rows_of_one_mean_share_its_scale():
    told = {"x": torch.tensor([[[3.0]], [[0.0]]])}
    found = conductance(Network(Two()), told, plain, places=BOTH[1:], together=True, most_steps=16)
    assert found.completeness_error.tolist() == pytest.approx([30 / 33, 0])


@pytest.mark.parametrize(
    "config",
    [
        {"width": 41},
        {"width": 41, "pool": 4, "centre": 11, "near": (1, 2), "environment": 3},
        {"width": 41, "attention": 1, "position": "rotary", "channels": 16, "motif_path": False},
    ],
)
def test_parts_of_dna_models_add_up_to_integrated_gradients(config):
    torch.manual_seed(1)
    module = SequenceModel(ModelConfig(**({"channels": 8, "dilations": (1, 2)} | config)))
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.2)
    network = Network(module.eval())
    codes = torch.randint(0, 4, (3, 41), generator=torch.Generator().manual_seed(2))

    def level(output, batch):
        return output.logit[:, 0]

    found = conductance(network, codes, level, steps=64)
    whole = integrated_gradients(network, codes, level, steps=64)
    assert found.converged.all()
    torch.testing.assert_close(found.by_position, whole.by_position, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.output - found.difference, whole_baseline(network, codes))
    names = [place.name for place in found.places]
    assert ("motif_path" in names) == module.config.motif_path
    assert ("near.0.convolution" in names) == bool(module.config.centre)
    assert (found.by_place.abs().max(0).values > 0).all()


def whole_baseline(network, codes):
    told = network.adapter.encode(codes)
    empty = torch.zeros_like(network.adapter.embed(told))
    return network.run(told, embedded=empty).output.logit[:, 0]


def test_parts_of_a_text_model_add_up_too():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, n_positions=16, vocab_size=20, bos_token_id=0,
        eos_token_id=1,
    )  # fmt: skip
    network = Network(transformers.GPT2LMHeadModel(config).eval())
    ids = torch.tensor([[3, 5, 7, 2, 9]])

    def toward(output, batch):
        return output.logits[:, -1, 3] - output.logits[:, -1, 7]

    assert [place.name for place in parts_of(network)] == [
        "embedding", "layer.0.attention", "layer.0.mlp", "layer.1.attention", "layer.1.mlp",
    ]  # fmt: skip
    found = conductance(network, ids, toward, steps=64)
    whole = integrated_gradients(network, ids, toward, steps=64)
    assert found.converged.all()
    torch.testing.assert_close(found.by_position, whole.by_position, rtol=1e-3, atol=1e-5)

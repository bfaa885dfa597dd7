"""Deletion and insertion curves that are known by hand, and attributions of random weights."""

import math

import pytest

from melisma.errors import MelismaError

torch = pytest.importorskip("torch")

from melisma.network import Network  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.trace.attribute import integrated_gradients  # noqa: E402
from melisma.trace.faithfulness import (  # noqa: E402
    curve,
    random_curves,
    randomised,
    shuffled_weights,
    spearman,
    toward,
)

WEIGHT = torch.tensor([4.0, 0.0, 2.0, -1.0])


class Linear(torch.nn.Module):
    """4 a + 2 c - d of four positions."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(WEIGHT.clone())

    def forward(self, x):  # (B, 4, 1)
        return (x[:, :, 0] * self.weight).sum(1)


def plain(output, batch):
    return output


ONES = {"x": torch.ones(1, 4, 1)}
BEST = torch.tensor([[4.0, 0.0, 2.0, -1.0]])


def test_a_linear_network_loses_its_weights_in_order():
    network = Network(Linear())
    # 5, without 4, without 2, without 0, without -1.
    found = curve(network, ONES, plain, BEST, steps=4)
    assert found.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.value[:, 0].tolist() == [5, 1, -1, -1, 0]
    assert found.area.item() == pytest.approx((5 / 2 + 1 - 1 - 1 + 0) / 4)
    assert found.auc == pytest.approx(1.5 / 4 / 5)
    # The worst order first gains by losing -1.
    worst = curve(network, ONES, plain, -BEST, steps=4)
    assert worst.value[:, 0].tolist() == [5, 6, 6, 4, 0]
    assert worst.area.item() == pytest.approx((5 / 2 + 6 + 6 + 4) / 4)


def test_insertion_gains_them_in_order():
    network = Network(Linear())
    found = curve(network, ONES, plain, BEST, kind="insertion", steps=4)
    assert found.value[:, 0].tolist() == [0, 4, 6, 6, 5]
    assert found.area.item() == pytest.approx((4 + 6 + 6 + 5 / 2) / 4)
    assert (found.baseline.item(), found.whole.item()) == (0, 5)
    # Every other position at once.
    half = curve(network, ONES, plain, BEST, kind="insertion", steps=2)
    assert half.value[:, 0].tolist() == [0, 6, 5]


def test_an_outcome_that_falls_is_followed_downward():
    network = Network(Linear())
    told = {"x": torch.tensor([[[-1.0]] * 4, [[1.0]] * 4]).view(2, 4, 1)}
    value = told["x"][:, :, 0] * WEIGHT
    order = toward(value, torch.tensor([-5.0, 5.0]))
    assert order.tolist() == [[4, 0, 2, -1], [4, 0, 2, -1]]
    found = curve(network, told, plain, order, steps=4)
    assert found.area.tolist() == pytest.approx([1.5 / 4] * 2)
    assert found.auc == pytest.approx(1.5 / 4 / 5)


def test_a_baseline_stands_in_place_of_what_is_deleted():
    network = Network(Linear())
    baseline = torch.full((1, 4, 1), 2.0)
    found = curve(network, ONES, plain, BEST, baseline=baseline, steps=4)
    assert found.value[:, 0].tolist() == [5, 9, 11, 11, 10]
    assert found.baseline.item() == 10
    same = curve(network, ONES, plain, BEST, baseline=torch.ones(1, 4, 1))
    assert math.isnan(same.auc)
    with pytest.raises(MelismaError, match="The baseline has the shape"):
        curve(network, ONES, plain, BEST, baseline=torch.ones(1, 3, 1))
    with pytest.raises(MelismaError, match="1 rows of 4 positions"):
        curve(network, ONES, plain, BEST[:, :3])


def test_random_orders_lie_around_the_half():
    network = Network(Linear())
    told = {"x": torch.ones(400, 4, 1)}
    found = random_curves(network, told, plain, draws=2, steps=4)
    assert not torch.equal(found[0].value, found[1].value)
    # Each position is as often early as late, so the mean curve is a straight line.
    assert sum(one.auc for one in found) / 2 == pytest.approx(0.5, abs=0.05)
    again = random_curves(network, told, plain, draws=2, steps=4)
    assert torch.equal(found[1].value, again[1].value)


def dna():
    torch.manual_seed(0)
    module = SequenceModel(ModelConfig(width=21, channels=8, dilations=(1, 2)))
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return Network(module.eval())


def level(output, batch):
    return output.logit[:, 0]


def test_attributions_of_dna_beat_random_orders_and_depend_on_weights():
    network = dna()
    generator = torch.Generator().manual_seed(2)
    codes, others = torch.randint(0, 4, (2, 12, 21), generator=generator)
    baseline = network.adapter.embed(network.adapter.encode(others))

    def attribute(one):
        return integrated_gradients(one, codes, level, baseline=baseline).by_position

    found = integrated_gradients(network, codes, level, baseline=baseline)
    order = toward(found.by_position, found.difference)
    for kind, better in (("deletion", -1), ("insertion", 1)):
        own = curve(network, codes, level, order, baseline=baseline, kind=kind).auc
        chance = random_curves(network, codes, level, baseline=baseline, kind=kind, draws=3)
        assert all(better * (own - one.auc) > 0.1 for one in chance)
    before = network.fingerprint()
    check = randomised(network, attribute, draws=2)
    assert check.rank_correlation.shape == (2, 12)
    assert check.rank_correlation.mean().abs() < 0.3
    assert network.fingerprint() == before

    def of_input(one):  # says nothing of the network
        return codes.float() + torch.arange(21) / 21

    assert randomised(network, of_input, draws=1).rank_correlation.min() == pytest.approx(1)
    with pytest.raises(MelismaError, match="must be"):
        randomised(network, lambda one: codes[0].float())


def test_shuffled_weights_are_the_same_numbers_and_come_back():
    module = Linear()
    seen = []
    for seed in range(3):
        with shuffled_weights(module, seed=seed):
            seen.append(module.weight.tolist())
        assert module.weight.tolist() == WEIGHT.tolist()
    assert all(sorted(one) == sorted(WEIGHT.tolist()) for one in seen)
    assert any(one != WEIGHT.tolist() for one in seen)
    with pytest.raises(ZeroDivisionError), shuffled_weights(module):
        raise ZeroDivisionError
    assert module.weight.tolist() == WEIGHT.tolist()


def test_rank_correlation_is_spearmans():
    a = torch.tensor([[3.0, 1.0, 2.0, 5.0], [1.0, 1.0, 1.0, 1.0], [4.0, 0.0, 0.0, 1.0]])
    b = torch.tensor([[2.0, 1.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 0.0, 2.0]])
    found = spearman(a, b)
    assert found[0].item() == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 - 6 sum d2 / n(n2 - 1)
    assert math.isnan(found[1].item())
    assert found[2].item() == pytest.approx(-1)  # the two that are 0 in both are left out

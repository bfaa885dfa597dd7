"""Whether an attribution is true to its network: deletion and insertion curves, randomised weights.

Deletion puts the baseline in place of the input's positions, those that are said to carry most
first; an order that is true to the network loses the outcome sooner than a random one. Insertion
puts the input's positions into the baseline and should gain it sooner (Petsiuk et al. 2018). An
attribution that stays the same when the weights are randomised says nothing of the network (Adebayo
et al. 2018).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from melisma.errors import MelismaError
from melisma.network import Metric, Network
from melisma.trace._batches import in_pieces, measured, taken

Kind = Literal["deletion", "insertion"]
_ROWS = 64


class Curve(NamedTuple):
    """The metric as positions are taken out or put in.

    share : (S,), of the positions that are changed, from 0 to 1
    value : (S, batch)
    baseline, whole : (batch,), the metric of the baseline and of the input
    """

    share: Tensor
    value: Tensor
    baseline: Tensor
    whole: Tensor

    @property
    def area(self) -> Tensor:
        """(batch,), the mean height over the baseline, in units of the metric, toward the input.

        By the trapezoid rule. Low is good in deletion, high in insertion.
        """
        toward = torch.sign(self.whole - self.baseline)
        return torch.trapezoid((self.value - self.baseline) * toward, self.share, dim=0)

    @property
    def auc(self) -> float:
        """The areas as a share of all the differences: 0 the baseline's, 1 the input's.

        One ratio over the batch, so that rows where baseline and input hardly differ weigh little;
        nan where none differs.
        """
        whole = (self.whole - self.baseline).abs().sum()
        return float(self.area.sum() / whole) if whole > 0 else float("nan")


def curve(
    network: Network,
    batch: Any,
    metric: Metric,
    order: Tensor,
    *,
    baseline: Tensor | None = None,
    kind: Kind = "deletion",
    steps: int = 20,
    rows: int = _ROWS,
) -> Curve:
    """The metric as an input's positions are exchanged for the baseline's, or the reverse.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    order : (batch, position), which positions come first: the highest number, such as an
        attribution toward the outcome (`toward`)
    baseline : what stands for no input, as `adapter.embed` returns it, or with one row; None: zeros
    kind : "deletion" begins with the input, "insertion" with the baseline
    steps : equal shares in which positions are changed; as many as positions at most
    rows : of a forward pass

    Raises
    ------
    MelismaError
        The order or the baseline does not fit the input.
    """
    told = network.adapter.encode(batch)
    whole = network.adapter.embed(told).detach()
    empty = _baseline(whole, baseline)
    n, positions = whole.shape[:2]
    if order.shape != (n, positions):
        raise MelismaError(
            f"The order has the shape {tuple(order.shape)}, and the input {n} rows of {positions} "
            "positions."
        )
    # How early each position is changed: 0 first.
    place = torch.sort(-order, dim=1, stable=True).indices.argsort(1)
    many = np.linspace(0, positions, min(steps, positions) + 1).round()
    counts = torch.as_tensor(many, dtype=torch.long)
    first, last = (whole, empty) if kind == "deletion" else (empty, whole)

    def work(numbers: Tensor) -> Tensor:
        step, row = numbers // n, numbers % n
        changed = place[row] < counts[step, None]
        state = torch.where(changed[:, :, None], last[row], first[row])
        own = taken(told, row)
        return measured(metric, network.run(own, embedded=state).output, own)

    value = in_pieces(len(counts) * n, rows, work).view(len(counts), n)
    ends = (value[-1], value[0]) if kind == "deletion" else (value[0], value[-1])
    return Curve(counts / positions, value, *ends)


def random_curves(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    baseline: Tensor | None = None,
    kind: Kind = "deletion",
    steps: int = 20,
    rows: int = _ROWS,
    draws: int = 5,
    seed: int = 0,
) -> list[Curve]:
    """Curves of random orders, which an attribution has to beat: parameters as `curve`.

    Parameters
    ----------
    draws : orders, a new one for each row
    """
    shape = network.adapter.embed(network.adapter.encode(batch)).shape[:2]
    generator = torch.Generator().manual_seed(seed)
    return [
        curve(
            network, batch, metric, torch.rand(shape, generator=generator), baseline=baseline,
            kind=kind, steps=steps, rows=rows,
        )
        for _ in range(draws)
    ]  # fmt: skip


def toward(value: Tensor, difference: Tensor) -> Tensor:
    """Attributions (batch, position) as an order: those first that carry most of a difference
    (batch,), whichever sign it has."""
    return value * torch.where(difference < 0, -1.0, 1.0)[:, None]


def _baseline(whole: Tensor, baseline: Tensor | None) -> Tensor:
    empty = torch.zeros_like(whole) if baseline is None else baseline.detach()
    if empty.shape[1:] != whole.shape[1:] or len(empty) not in (1, len(whole)):
        raise MelismaError(
            f"The baseline has the shape {tuple(empty.shape)}, and the input {tuple(whole.shape)}."
        )
    return empty.expand_as(whole)


class Randomised(NamedTuple):
    """How alike attributions are before and after the weights were randomised.

    rank_correlation : (draws, batch), Spearman's, over positions
    absolute : (draws, batch), the same of the sizes alone, whatever the sign
    """

    rank_correlation: Tensor
    absolute: Tensor


def randomised(
    network: Network,
    attribute: Callable[[Network], Tensor],
    *,
    draws: int = 3,
    seed: int = 0,
) -> Randomised:
    """How alike an attribution is to what it says of the same network with random weights.

    Every tensor of parameters has its numbers shuffled, which keeps their distribution. Near 1, the
    attribution tells of the input and not of what the network learned. The network itself is left
    as it is.

    Parameters
    ----------
    attribute : from a network to an attribution (batch, position)
    draws : randomised networks

    Raises
    ------
    MelismaError
        The attribution is not (batch, position).
    """
    own = _attributed(attribute, network)
    signed, sizes = [], []
    for k in range(draws):
        with shuffled_weights(network.module, seed=seed + k):
            other = _attributed(attribute, network)
        signed.append(spearman(own, other))
        sizes.append(spearman(own.abs(), other.abs()))
    return Randomised(torch.stack(signed), torch.stack(sizes))


def _attributed(attribute: Callable[[Network], Tensor], network: Network) -> Tensor:
    found = attribute(network).detach()
    if found.dim() != 2:
        raise MelismaError(
            f"The attribution has the shape {tuple(found.shape)} and must be (batch, position)."
        )
    return found


@contextmanager
def shuffled_weights(module: nn.Module, *, seed: int = 0) -> Iterator[None]:
    """Within the block, the numbers of every tensor of a module's parameters are shuffled.

    Biases and scales that are all alike stay, as do buffers. Afterwards, also after an exception,
    the weights are what they were.
    """
    generator = torch.Generator().manual_seed(seed)
    values = list(module.parameters())
    before = [value.detach().clone() for value in values]
    try:
        with torch.no_grad():
            for value in values:
                order = torch.randperm(value.numel(), generator=generator).to(value.device)
                value.copy_(value.reshape(-1)[order].reshape(value.shape))
        yield
    finally:
        with torch.no_grad():
            for value, old in zip(values, before, strict=True):
                value.copy_(old)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation by row, (batch, position) each; nan where a row is constant.

    Positions that are exactly 0 in both are left out: what no attribution can reach, such as a base
    that every baseline shares, says nothing.

    Examples
    --------
    >>> a = torch.tensor([[1.0, 2.0, 3.0, 0.0]])
    >>> spearman(a, torch.tensor([[1.0, 5.0, 9.0, 0.0]])).tolist()
    [1.0]
    """
    found = []
    for x, y in zip(a.numpy(), b.numpy(), strict=True):
        keep = (x != 0) | (y != 0)
        ranks = [rankdata(each[keep]) for each in (x, y)]
        if not keep.any() or any(np.ptp(rank) == 0 for rank in ranks):
            found.append(float("nan"))
            continue
        found.append(float(np.corrcoef(*ranks)[0, 1]))
    return torch.tensor(found)


__all__ = [
    "Curve", "Randomised", "curve", "random_curves", "randomised", "shuffled_weights", "spearman",
    "toward",
]  # fmt: skip

"""Steering: a direction added to a state, and what it does to the outcome."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Metric, Network, Place
from melisma.trace._batches import block_of, measured


class Steering(NamedTuple):
    """What a direction does.

    strengths : S of them; 0 is the network as it is
    value : (S, batch), the metric at each
    """

    strengths: tuple[float, ...]
    value: Tensor

    @property
    def slope(self) -> Tensor:
        """The metric's change for one unit of strength, by least squares: (batch,)."""
        x = torch.tensor(self.strengths, dtype=self.value.dtype)
        x = x - x.mean()
        return (x[:, None] * self.value).sum(0) / x.pow(2).sum()


def steer(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    place: Place,
    direction: Tensor,
    strengths: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0),
) -> Steering:
    """Add a direction at a place, in several strengths.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    place : where; with a position, at that token only
    direction : (width,), or (positions, width)
    strengths : what the direction is multiplied by, two different ones at least

    Raises
    ------
    MelismaError
        The direction does not fit the place, or there are fewer than two strengths.
    """
    if len(set(strengths)) < 2:
        raise MelismaError("Steering needs two different strengths at least.")
    told = network.adapter.encode(batch)
    base = network.run(told, keep=[place])
    state = base.kept[place]
    if not bool(torch.isfinite(direction).all()):
        raise MelismaError("The direction holds values that are not numbers.")
    if direction.shape not in (state.shape[2:], state.shape[1:]):
        raise MelismaError(
            f"The direction has the shape {tuple(direction.shape)}, and {place.name} the width "
            f"{state.shape[2]}."
        )
    block = block_of(network, place)
    start = (block, base.blocks[block]) if block is not None else None
    values = []
    for strength in strengths:
        moved = (strength * direction).to(state.dtype)
        output = network.run(
            told, edits={place: lambda x, _, moved=moved: x + moved}, start=start
        ).output
        values.append(measured(metric, output, told))
    return Steering(tuple(float(s) for s in strengths), torch.stack(values))


def direction_between(network: Network, toward: Any, away: Any, place: Place) -> Tensor:
    """The mean state of some inputs less that of others, at the last position: (width,).

    Parameters
    ----------
    toward, away : inputs, as the network's adapter encodes them; rows need not pair
    place : where; its own position, or the last
    """
    at = place if place.position is not None else Place(place.name, -1)
    means = [network.run(each, keep=[at]).kept[at].mean(dim=(0, 1)) for each in (toward, away)]
    return means[0] - means[1]

"""Ablation: what is lost when a value is taken out of a network."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Metric, Network, Place
from melisma.trace._batches import block_of, chosen_places, measured, rows_of

Kind = Literal["zero", "mean", "resample"]


class Ablation(NamedTuple):
    """What ablating each place does.

    places : P of them
    base : (batch,), the metric of the network as it is
    ablated : (P, batch), the metric without each
    """

    places: tuple[Place, ...]
    base: Tensor
    ablated: Tensor

    @property
    def effect(self) -> Tensor:
        """What each place adds to the metric, (P, batch)."""
        return self.base - self.ablated


def ablate(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    places: str | Sequence[Place] = "layer.*.head.*",
    kind: Kind = "mean",
    reference: Any = None,
    together: bool = False,
    seed: int = 0,
) -> Ablation:
    """Take places out, one by one or all at once.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    places : a pattern of names, or the places
    kind : in a place's stead stand zeros; its mean over the reference's rows and positions; or its
        values in a row of the reference drawn at random
    reference : inputs that mean and resample are taken from; None: the batch itself
    together : all places at once; `ablated` then has one row

    Raises
    ------
    MelismaError
        No place fits, or the reference's rows have another number of positions.
    """
    chosen = chosen_places(network, places)
    told = network.adapter.encode(batch)
    run = network.run(told)
    base = measured(metric, run.output, told)
    values: dict[Place, Tensor] = {}
    if kind != "zero":
        values = network.run(told if reference is None else reference, keep=chosen).kept
    generator = torch.Generator().manual_seed(seed)
    edits = {p: _edit(kind, values.get(p), rows_of(told), generator) for p in chosen}
    groups = [edits] if together else [{place: edit} for place, edit in edits.items()]
    ablated = []
    for group in groups:
        # All that comes before the first edited block is as it was.
        blocks = [block_of(network, place) for place in group]
        first = min((k for k in blocks if k is not None), default=None)
        start = None
        if first is not None and None not in blocks and len(run.blocks) > first:
            start = (first, run.blocks[first])
        output = network.run(told, edits=group, start=start).output
        ablated.append(measured(metric, output, told))
    return Ablation(chosen, base, torch.stack(ablated))


def _edit(kind: Kind, value: Tensor | None, n: int, generator: torch.Generator) -> Edit:
    if kind == "zero" or value is None:
        return lambda x, _: torch.zeros_like(x)
    if kind == "mean":
        mean = value.mean(dim=(0, 1))
        return lambda x, _: mean.expand_as(x)
    rows = torch.randint(len(value), (n,), generator=generator)
    drawn = value[rows]

    def edit(x: Tensor, place: Place) -> Tensor:
        if drawn.shape != x.shape:
            raise MelismaError(
                f"{place.name} has {x.shape[1]} positions, and the reference's {drawn.shape[1]}: "
                "resample from inputs of the same length."
            )
        return drawn.clone()

    return edit

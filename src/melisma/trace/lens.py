"""The lens: what a network would say if it stopped after each block.

Each intermediate state stands in place of the last block's, and goes through the final
normalisation and the output head (the logit lens, nostalgebraist 2020). What it shows is read
with the last layer's eyes: an early state may hold more than its head can say.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Metric, Network, Place
from melisma.trace._batches import (
    block_of,
    chosen_places,
    leaves_block,
    measured,
)


class Lens(NamedTuple):
    """What each intermediate state says.

    places : P of them
    value : (P, batch), the metric of the state read by the output head
    final : (batch,), the network's own
    """

    places: tuple[Place, ...]
    value: Tensor
    final: Tensor


def lens(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    places: str | Sequence[Place] = "*layer.*.residual",
) -> Lens:
    """Read intermediate states through the output head.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    places : a pattern of names, or the places; of an encoder and a decoder, the decoder's

    Raises
    ------
    MelismaError
        A place does not leave a block, or its state has another width than the last block's.
    """
    last = len(network.adapter.blocks) - 1
    if last < 0:
        raise MelismaError("The network has no blocks that are known, so it has no lens.")
    stack = set(network.before(last)) | {network.adapter.blocks[last]}
    chosen = tuple(
        place
        for place in chosen_places(network, places)
        if network.adapter.fields[place.name].module in stack and leaves_block(network, place)
    )
    if not chosen:
        raise MelismaError(f"No place that fits {places!r} leaves a block of the last stack.")
    told = network.adapter.encode(batch)
    found = network.run(told, keep=chosen)
    out = next(
        p for p in network.places() if block_of(network, p) == last and leaves_block(network, p)
    )
    values = []
    for place in chosen:
        state = found.kept[place]
        if state.shape != found.blocks[last].shape:
            raise MelismaError(
                f"{place.name} has the shape {tuple(state.shape)}, and what the output head reads "
                f"{tuple(found.blocks[last].shape)}."
            )
        output = network.run(
            told, edits={out: lambda _, __, new=state: new}, start=(last, found.blocks[last])
        ).output
        values.append(measured(metric, output, told))
    return Lens(chosen, torch.stack(values), measured(metric, found.output, told))

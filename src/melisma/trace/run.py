"""Recording: what flowed through a network's places while it reached its outcome."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from melisma.network import Metric, Network, Place
from melisma.trace._batches import chosen_places, measured


class Recording(NamedTuple):
    """What a run left behind.

    value : (batch,), the metric
    kept : by place, (batch, position, width)
    output : of the module
    """

    value: Tensor
    kept: dict[Place, Tensor]
    output: Any


def run(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    places: str | Sequence[Place] = "layer.*.residual",
) -> Recording:
    """Run a network once and keep what flows through its places.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    places : a pattern of names, or the places

    Raises
    ------
    MelismaError
        No place fits, or the metric is not one number a row.
    """
    chosen = chosen_places(network, places)
    told = network.adapter.encode(batch)
    found = network.run(told, keep=chosen)
    return Recording(measured(metric, found.output, told), found.kept, found.output)

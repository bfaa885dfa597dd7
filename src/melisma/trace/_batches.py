"""Rows of a batch repeated, and the pieces in which many edited copies of it are run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Metric, Network, Place


def rows_of(batch: Mapping[str, Any]) -> int:
    """How many rows a batch has."""
    for value in batch.values():
        if isinstance(value, Tensor) and value.dim():
            return len(value)
    raise MelismaError("The batch holds no tensor, so it has no rows.")


def taken(batch: Mapping[str, Any], rows: Tensor) -> dict[str, Any]:
    """Rows of a batch, in any order and number; what is not by row stays."""
    n = rows_of(batch)
    return {
        name: value[rows.to(value.device)]
        if isinstance(value, Tensor) and value.dim() and len(value) == n
        else value
        for name, value in batch.items()
    }


def measured(metric: Metric, output: Any, batch: dict[str, Any]) -> Tensor:
    """The metric, one number a row.

    Raises
    ------
    MelismaError
        It has another shape.
    """
    value = metric(output, batch)
    n = rows_of(batch)
    if not isinstance(value, Tensor) or value.shape != (n,):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise MelismaError(
            f"The metric returned {got} for {n} rows: it must be one number a row, ({n},)."
        )
    return value


def standing(baseline: Tensor | None, whole: Tensor) -> Tensor:
    """A baseline in the shape of the embedded input: zeros where there is none.

    Raises
    ------
    MelismaError
        It does not fit.
    """
    if baseline is None:
        return torch.zeros_like(whole)
    try:
        return baseline.detach().expand_as(whole)
    except RuntimeError:
        raise MelismaError(
            f"The baseline has the shape {tuple(baseline.shape)}, and the input "
            f"{tuple(whole.shape)}."
        ) from None


def block_of(network: Network, place: Place) -> int | None:
    """The number of the block in which a place lies; None where it lies in none."""
    module = network.adapter.fields[place.name].module
    for k, path in enumerate(network.adapter.blocks):
        if module == path or module.startswith(path + "."):
            return k
    return None


def leaves_block(network: Network, place: Place) -> bool:
    """Whether a place is the state that leaves its block."""
    found = network.adapter.fields[place.name]
    return found.side == "output" and found.module in network.adapter.blocks


def same_stack(network: Network, k: int) -> bool:
    """Whether block k + 1 continues block k."""
    blocks = network.adapter.blocks
    return k + 1 < len(blocks) and blocks[k] in network.before(k + 1)


def in_pieces(n: int, size: int, work: Callable[[Tensor], Tensor]) -> Tensor:
    """`work` on the numbers 0 to n - 1, some at a time, its results joined."""
    return torch.cat([work(torch.arange(k, min(k + size, n))) for k in range(0, n, size)])


def chosen_places(network: Network, places: str | Sequence[Place]) -> tuple[Place, ...]:
    """The places of a pattern, or those given.

    Raises
    ------
    MelismaError
        There is none.
    """
    chosen = network.places(places) if isinstance(places, str) else tuple(places)
    if not chosen:
        raise MelismaError(f"No place of the network fits {places!r}.")
    return chosen

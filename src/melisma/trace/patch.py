"""Activation patching: which states, put into another run, bring its outcome back.

A clean and a corrupted input of one length. The state of one place and position of the clean run is
put into the corrupted run, and the metric read. Positions of a place are rows of one batch. What
comes before the patched block is not computed again, since it is the corrupted run's own; nor, in a
causal model whose last logits alone are read (`logits_to_keep`), what stands before the patched
position; nor what a state would change that is the same in both runs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Metric, Network, Place
from melisma.trace._batches import (
    block_of,
    chosen_places,
    leaves_block,
    measured,
    rows_of,
    same_stack,
    taken,
)

# Rows of a forward pass; fewer where rows share what stands before the first of their positions.
ROWS = 32
_ROWS_FROM_POSITION = 8


class Patching(NamedTuple):
    """What patching each place and position does.

    places : P of them
    clean, corrupted : (batch,), the metric of the two runs
    patched : (P, positions, batch), the metric with the clean state there; one position where whole
        places were patched
    """

    places: tuple[Place, ...]
    clean: Tensor
    corrupted: Tensor
    patched: Tensor

    @property
    def restored(self) -> Tensor:
        """The share of the difference that comes back: 0 the corrupted run's, 1 the clean one's."""
        return (self.patched - self.corrupted) / (self.clean - self.corrupted)


def patch(
    network: Network,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    places: str | Sequence[Place] = "layer.*.residual",
    by_position: bool = True,
    rows: int = ROWS,
) -> Patching:
    """Put states of the clean run into the corrupted one.

    Parameters
    ----------
    clean, corrupted : inputs with the same rows and positions
    metric : from output and batch to one number a row
    places : a pattern of names, or the places
    by_position : one position at a time; otherwise a whole place
    rows : of a forward pass; more are faster until they leave the processor's cache

    Raises
    ------
    MelismaError
        The inputs differ in rows or positions, or no place fits.
    """
    chosen = chosen_places(network, places)
    good, bad = network.adapter.encode(clean), network.adapter.encode(corrupted)
    if rows_of(good) != rows_of(bad):
        raise MelismaError(
            f"{rows_of(good)} clean rows have no {rows_of(bad)} corrupted ones: give pairs."
        )
    source = network.run(good, keep=chosen)
    told, past = (_remembering(network, bad) if by_position else None) or (bad, None)
    base = network.run(told, keep=chosen)
    clean_value = measured(metric, source.output, good)
    runs = _Corrupted(
        network, bad, metric, base.blocks, measured(metric, base.output, bad), past, by_position,
        rows,
    )  # fmt: skip
    found = []
    for place in chosen:
        new, old = source.kept[place], base.kept[place]
        if new.shape != old.shape:
            raise MelismaError(
                f"{place.name} has {new.shape[1]} positions in the clean run and {old.shape[1]} in "
                "the corrupted one: prompts must have as many tokens."
            )
        found.append(_swept(runs, place, new, old))
    return Patching(chosen, clean_value, runs.value, torch.stack(found))


class _Corrupted(NamedTuple):
    """The corrupted run, and what is known of it.

    blocks : the state that enters each block
    value : (batch,), the metric
    past : keys and values of every position; None where they cannot be used again
    """

    network: Network
    batch: dict[str, Any]
    metric: Metric
    blocks: tuple[Tensor, ...]
    value: Tensor
    past: Any
    by_position: bool
    rows: int


def _swept(runs: _Corrupted, place: Place, new: Tensor, old: Tensor) -> Tensor:
    """One place's patches: (positions, batch)."""
    n = len(old)
    block = block_of(runs.network, place)
    inside = block if block is not None and block < len(runs.blocks) else None
    # A state that is the same in both runs changes nothing.
    moves = (new != old).any(2)  # (batch, positions)
    moves = moves.t() if runs.by_position else moves.any(1)[None]
    found = runs.value.repeat(len(moves), 1)
    at, row = moves.nonzero(as_tuple=True)
    size = runs.rows
    if runs.past is not None and inside is not None:
        size = min(size, max(_ROWS_FROM_POSITION, n))
    for some in torch.arange(len(at)).split(size):
        value = _patched(runs, place, inside, new, old, at[some], row[some])
        found[at[some], row[some]] = value
    return found


def _patched(
    runs: _Corrupted, place: Place, block: int | None, new: Tensor, old: Tensor, at: Tensor,
    row: Tensor,
) -> Tensor:  # fmt: skip
    """The metric with the clean state at each position of each row: (patches,)."""
    network = runs.network
    if runs.by_position:
        state = old[row].clone()
        each = torch.arange(len(row))
        state[each, at] = new[row, at]
    else:
        state = new[row].clone()
    own = taken(runs.batch, row)
    told, start, first = own, None, 0
    if block is not None:
        if runs.past is not None:
            # Before the first of these positions all is the corrupted run's.
            first = min(int(at[0]), old.shape[1] - runs.batch["logits_to_keep"])
        if first:
            told = network.adapter.resumed(own, runs.past, row, first)  # pyright: ignore
            state = state[:, first:]
        start = (block, runs.blocks[block][row][:, first:])
    edits: dict[Place, Edit] = {place: _stands(state)}
    if block is not None and leaves_block(network, place) and same_stack(network, block):
        start, edits = (block + 1, state), {}
    output = network.run(told, edits=edits, start=start).output
    return measured(runs.metric, output, own)


def _remembering(network: Network, batch: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The batch for a run that keeps keys and values; None where they cannot be used again."""
    # Edits that are attached may be of positions, which would then count from elsewhere.
    if any(m._forward_hooks or m._forward_pre_hooks for m in network.module.modules()):
        return None
    remembering = getattr(network.adapter, "remembering", None)
    return None if remembering is None else remembering(batch)


def _stands(state: Tensor) -> Edit:
    return lambda x, _: state

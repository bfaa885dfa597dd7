"""Activation patching: which states, put into another run, bring its outcome back.

A clean and a corrupted input of one length. The state of one place and position of the clean run is
put into the corrupted run, and the metric read. Positions of a place are rows of one batch. What
comes before the patched block is not computed again, since it is the corrupted run's own; nor, in a
causal model whose last logits alone are read (`logits_to_keep`), what stands before the patched
position.
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
    in_pieces,
    leaves_block,
    measured,
    rows_of,
    same_stack,
    taken,
)

# Rows of a forward pass; fewer where rows share what stands before the first of their positions.
ROWS = 32
_ROWS_FROM_POSITION = 6


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
    remembering = _remembering(network, bad) if by_position else None
    base = network.run(bad if remembering is None else remembering[0], keep=chosen)
    past = None if remembering is None else remembering[1]
    told = (measured(metric, r.output, b) for r, b in ((source, good), (base, bad)))
    clean_value, corrupted_value = told
    found = []
    for place in chosen:
        new, old = source.kept[place], base.kept[place]
        if new.shape != old.shape:
            raise MelismaError(
                f"{place.name} has {new.shape[1]} positions in the clean run and {old.shape[1]} in "
                "the corrupted one: prompts must have as many tokens."
            )
        found.append(
            _swept(network, bad, base.blocks, place, new, old, metric, by_position, rows, past)
        )
    return Patching(chosen, clean_value, corrupted_value, torch.stack(found))


def _swept(
    network: Network, batch: dict[str, Any], blocks: tuple[Tensor, ...], place: Place,
    new: Tensor, old: Tensor, metric: Metric, by_position: bool, rows: int, past: Any,
) -> Tensor:  # fmt: skip
    """One place's patches: (positions, batch)."""
    n, positions = old.shape[:2]
    many = positions if by_position else 1
    block = block_of(network, place)
    starts = block is not None and block < len(blocks)
    if past is not None and starts:
        rows = min(rows, max(_ROWS_FROM_POSITION, n))
    last = positions - batch.get("logits_to_keep", 0) if past is not None else 0

    def work(numbers: Tensor) -> Tensor:
        # Patch number j is position j // n of row j % n.
        at, row = numbers // n, numbers % n
        state = old[row].clone()
        if by_position:
            each = torch.arange(len(numbers))
            state[each, at] = new[row, at]
        else:
            state = new[row].clone()
        own = taken(batch, row)
        told, start, edits = own, None, {place: _stands(state)}
        if block is not None and starts:
            # Before the first of these positions all is the corrupted run's.
            first = min(int(at[0]), last) if past is not None else 0
            if first:
                told = network.adapter.resumed(own, past, row, first)  # pyright: ignore
                state = state[:, first:]
                edits = {place: _stands(state)}
            start = (block, blocks[block][row][:, first:])
            if leaves_block(network, place) and same_stack(network, block):
                start, edits = (block + 1, state), {}
        output = network.run(told, edits=edits, start=start).output
        return measured(metric, output, own)

    return in_pieces(many * n, rows, work).view(many, n)


def _remembering(network: Network, batch: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
    """The batch for a run that keeps keys and values; None where they cannot be used again."""
    # Edits that are attached may be of positions, which would then count from elsewhere.
    if any(m._forward_hooks or m._forward_pre_hooks for m in network.module.modules()):
        return None
    remembering = getattr(network.adapter, "remembering", None)
    return None if remembering is None else remembering(batch)


def _stands(state: Tensor) -> Edit:
    return lambda x, _: state

"""Edge patching: what one part of a network tells another, and no third one.

A sender's clean value is put into the corrupted run while every attention and MLP between it and
the receiver is held at its corrupted output, so that the change reaches the receiver only through
the residual stream (path patching: Wang et al. 2023; Goldowsky-Dill et al. 2023). What the receiver
then hands on is put into the corrupted run, and the metric read. The receiver "output" is the
metric itself: what the sender does directly.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Metric, Network, Place
from melisma.trace._batches import block_of, chosen_places, measured, rows_of, taken

# Rows of a forward pass.
ROWS = 32
OUTPUT = Place("output")
_ADDED = ("attention", "mlp", "convolution", "cross")


class Paths(NamedTuple):
    """What each sender does through each receiver.

    senders : S of them
    receivers : R of them, the last one "output"
    clean, corrupted : (batch,), the metric of the two runs
    effect : (S, R, batch), the metric's change; 0 where the receiver is not after the sender
    """

    senders: tuple[Place, ...]
    receivers: tuple[Place, ...]
    clean: Tensor
    corrupted: Tensor
    effect: Tensor


def path(
    network: Network,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    senders: str | Sequence[Place] = "layer.*.head.*",
    receivers: str | Sequence[Place] = "layer.*.head.*",
    rows: int = ROWS,
) -> Paths:
    """Patch the edges from senders to receivers.

    Parameters
    ----------
    clean, corrupted : inputs with the same rows and positions
    metric : from output and batch to one number a row
    senders, receivers : patterns of names, or places without a position; heads, `attention`, `mlp`
        or `embedding`. Receivers may be empty: only direct effects on the outcome are found
    rows : of a forward pass

    Raises
    ------
    MelismaError
        The inputs do not pair, the network's blocks have no names for what they add, or a sender
        is what leaves a block, which holds all that was before.
    """
    sending = chosen_places(network, senders)
    receiving = chosen_places(network, receivers) if receivers else ()
    good, bad = network.adapter.encode(clean), network.adapter.encode(corrupted)
    if rows_of(good) != rows_of(bad):
        raise MelismaError(
            f"{rows_of(good)} clean rows have no {rows_of(bad)} corrupted ones: give pairs."
        )
    held = _added(network)
    order = {place: _depth(network, place) for place in (*sending, *receiving, *held)}
    for place in (*sending, *receiving):
        if place.name.endswith("residual") or place.position is not None:
            raise MelismaError(f"{place.name} is no end of an edge: name heads, attention or mlp.")
    source = network.run(good, keep=sending)
    base = network.run(bad, keep=(*sending, *receiving, *held))
    clean_value = measured(metric, source.output, good)
    corrupted_value = measured(metric, base.output, bad)
    n = rows_of(bad)
    effect = torch.zeros(len(sending), len(receiving) + 1, n)
    for s, sender in enumerate(sending):
        new = source.kept[sender]
        if new.shape != base.kept[sender].shape:
            raise MelismaError(
                f"{sender.name} has {new.shape[1]} positions in the clean run and "
                f"{base.kept[sender].shape[1]} in the corrupted one: prompts must have as many "
                "tokens."
            )
        after = [p for p in receiving if order[p] > order[sender]]
        told: dict[Place, Tensor] = {}
        frozen = {p: _held(base.kept[p], told) for p in held if _is_held(p, sender, order)}
        open_ends = [place for place in after if place not in frozen]
        direct = network.run(bad, keep=open_ends, edits={**frozen, sender: _stands(new)})
        told |= direct.kept
        effect[s, -1] = measured(metric, direct.output, bad) - corrupted_value
        together = max(1, rows // n)
        for k in range(0, len(after), together):
            some = after[k : k + together]
            reached = _through(network, bad, base, some, told, metric)
            for place, each in zip(some, reached - corrupted_value, strict=True):
                effect[s, receiving.index(place)] = each
    return Paths(sending, (*receiving, OUTPUT), clean_value, corrupted_value, effect)


def _through(
    network: Network, bad: dict[str, Any], base: Any, some: Sequence[Place],
    values: dict[Place, Tensor], metric: Metric,
) -> Tensor:  # fmt: skip
    """The metric with each place's value in its own copy of the corrupted rows: (places, rows)."""
    n = rows_of(bad)
    own = taken(bad, torch.arange(n).repeat(len(some)))
    edits: dict[Place, Edit] = {}
    for k, place in enumerate(some):
        edits[place] = _stands_in_rows(values[place], k * n)
    first = min(block_of(network, place) or 0 for place in some)
    start = (first, base.blocks[first].repeat(len(some), 1, 1))
    output = network.run(own, edits=edits, start=start).output
    return measured(metric, output, own).view(len(some), n)


def _added(network: Network) -> tuple[Place, ...]:
    """What each block adds to the state."""
    found = tuple(p for p in network.places() if p.name.rpartition(".")[2] in _ADDED)
    if not found:
        raise MelismaError(
            "The network's attention and MLPs have no known names, so nothing can be held: edges "
            "are patched in melisma's models, BERT, GPT-2, Llama, T5 and Marian."
        )
    return found


def _depth(network: Network, place: Place) -> tuple[int, int]:
    """Where a place comes: its block, and within it the embedding (-1), heads (0), attention (1),
    cross heads (2), cross (3), MLP (4)."""
    block = block_of(network, place)
    if block is None:
        return (-1, 0)
    kind = place.name.split(".")
    if kind[-1] == "embedding":
        return (block, -1)
    if "head" in kind or "heads" in kind:
        return (block, 0)
    if "cross_head" in kind or "cross_heads" in kind:
        return (block, 2)
    return (block, {"attention": 1, "convolution": 1, "cross": 3}.get(kind[-1], 4))


def _is_held(place: Place, sender: Place, order: dict[Place, tuple[int, int]]) -> bool:
    """Whether what a block adds is held: all after the sender but its own projection."""
    if order[place] <= order[sender]:
        return False
    heads = order[sender][1] in (0, 2) and "head" in sender.name
    own = order[place] == (order[sender][0], order[sender][1] + 1)
    return not (heads and own)


def _held(value: Tensor, told: dict[Place, Tensor]) -> Edit:
    """Hold a place at a value, and note what would have stood there."""

    def edit(x: Tensor, place: Place) -> Tensor:
        told[place] = x
        return value

    return edit


def _stands(value: Tensor) -> Edit:
    return lambda x, _: value


def _stands_in_rows(value: Tensor, first: int) -> Edit:
    def edit(x: Tensor, _: Place) -> Tensor:
        return torch.cat([x[:first], value, x[first + len(value) :]])

    return edit

"""Conductance: which parts of a network hand an outcome's difference on, and from which inputs.

Along the straight line from a baseline to the input every part's output moves, and the outcome with
it (Dhamdhere et al. 2018). Here a part is credited with what it hands *straight* to the outcome:
its movement times the gradient at its output with all later parts held, so that only skip
connections and the read-out lie between. Every way from input to outcome has one last part, so what
the parts carry adds up to the difference, and what they carry from one position of the input adds
up to that position's integrated gradients.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Metric, Network, Place
from melisma.trace._batches import measured, rows_of, standing, taken
from melisma.trace.attribute import COMPLETE

# What writes to the read-out in melisma's models and in transformers.
PARTS = (
    "stem", "embedding", "*.embedding", "*layer.*.convolution", "*layer.*.attention",
    "*layer.*.cross", "*layer.*.mlp", "near.*.convolution", "motif_path",
)  # fmt: skip
_ROWS = 64


class Conductance(NamedTuple):
    """What each part hands to the outcome from each position of the input.

    places : P parts, in the network's order
    value : (batch, position, P)
    difference : (batch,), the metric of the input less that of the baseline
    output : (batch,), the metric of the input
    scale : (batch,), what an error is a share of
    steps : points on the line where most were needed
    """

    places: tuple[Place, ...]
    value: Tensor
    difference: Tensor
    output: Tensor
    scale: Tensor
    steps: int

    @property
    def by_place(self) -> Tensor:
        """(batch, P), what each part hands to the outcome."""
        return self.value.sum(1)

    @property
    def by_position(self) -> Tensor:
        """(batch, position), integrated gradients."""
        return self.value.sum(2)

    @property
    def completeness_error(self) -> Tensor:
        """(batch,), what the parts miss of the difference, as a share of it or of the mean."""
        missed = (self.value.sum(dim=(1, 2)) - self.difference).abs()
        return missed / self.scale

    @property
    def converged(self) -> Tensor:
        """(batch,), whether the parts add up to the difference within `COMPLETE`."""
        return self.completeness_error <= COMPLETE


def parts_of(network: Network) -> tuple[Place, ...]:
    """The usual parts that a network has, in the order of its fields.

    Raises
    ------
    MelismaError
        It has none.
    """
    wanted = {place for pattern in PARTS for place in network.places(pattern)}
    found = tuple(place for place in network.places() if place in wanted)
    if not found:
        raise MelismaError(
            "The network has no parts that are known by name: name places such that every way from "
            "input to outcome leads through one."
        )
    return found


def conductance(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    baseline: Tensor | None = None,
    places: Sequence[Place] | None = None,
    together: bool = False,
    steps: int = 8,
    most_steps: int = 512,
) -> Conductance:
    """What each part of a network hands straight to the outcome, by position of the input.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    baseline : what stands for no input, as `adapter.embed` returns it, or with one row or one
        position; None: zeros
    places : parts such that every way from input to outcome leads through one; None: the stem or
        the embedding, and what convolutions, attention and feed-forward layers add
    together : the rows are runs of one mean, so that errors are shares of the mean difference
    steps : points to begin with; they double in the rows that are not complete, up to `most_steps`

    Raises
    ------
    MelismaError
        The network has none of the usual parts, the baseline does not fit, or the metric is not one
        number a row.
    """
    chosen = parts_of(network) if places is None else tuple(places)
    told = network.adapter.encode(batch)
    whole = network.adapter.embed(told).detach()
    start = standing(baseline, whole)
    ends = [measured(metric, network.run(told, embedded=x).output, told) for x in (whole, start)]
    difference = ends[0] - ends[1]
    scale = (difference.mean().expand(len(difference)) if together else difference).abs()
    found = Conductance(
        chosen, whole.new_zeros(*whole.shape[:2], len(chosen)), difference, ends[0],
        scale.clamp(min=1e-12), steps,
    )  # fmt: skip
    rows = torch.arange(len(whole))
    while True:
        found.value[rows] = _along(
            network, taken(told, rows), start[rows], whole[rows], metric, chosen, steps
        )
        rows = (~found.converged).nonzero()[:, 0]
        if not len(rows) or 2 * steps > most_steps:
            return found._replace(steps=steps)
        steps *= 2


def _along(
    network: Network, told: dict[str, Any], start: Tensor, whole: Tensor, metric: Metric,
    places: tuple[Place, ...], steps: int,
) -> Tensor:  # fmt: skip
    """Sums over Gauss-Legendre points of the line: (batch, position, P)."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    share = torch.as_tensor((points + 1) / 2, dtype=whole.dtype)
    weight = torch.as_tensor(weights / 2, dtype=whole.dtype)
    n, way = rows_of(told), whole - start
    total = whole.new_zeros(*whole.shape[:2], len(places))
    for first in range(0, steps * n, _ROWS):
        numbers = torch.arange(first, min(first + _ROWS, steps * n))
        point, row = numbers // n, numbers % n
        inside = start[row] + share[point, None, None] * way[row]
        slope = _straight(network, taken(told, row), inside, metric, places)  # (P, rows, L, W)
        carried = torch.einsum("prlw,rlw,r->rlp", slope, way[row], weight[point])
        total.index_add_(0, row, carried)
    return total


def _straight(
    network: Network, told: dict[str, Any], at: Tensor, metric: Metric, places: tuple[Place, ...]
) -> Tensor:
    """By part, the gradient at the input of what it hands straight on: (P, batch, position, width).

    Two runs: in the first every part's output is let go of, which gives the gradient at each with
    the others held; in the second it is kept, and that gradient led back to the input.
    """
    held: dict[Place, Tensor] = {}

    def hold(x: Tensor, place: Place) -> Tensor:
        held[place] = x.detach().clone().requires_grad_()
        return held[place]

    edits: dict[Place, Edit] = dict.fromkeys(places, hold)
    run = network.run(told, embedded=at, edits=edits, grad=True)
    value = measured(metric, run.output, told)
    pulls = torch.autograd.grad(
        value.sum(), [held[p] for p in places], allow_unused=True, materialize_grads=True
    )
    leaf = at.detach().clone().requires_grad_()
    kept = network.run(told, embedded=leaf, keep=places, grad=True).kept
    slopes = []
    for place, pull in zip(places, pulls, strict=True):
        if not kept[place].requires_grad:  # no way from the input leads there
            slopes.append(torch.zeros_like(at))
            continue
        (slope,) = torch.autograd.grad(
            kept[place], leaf, pull, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        slopes.append(slope)
    return torch.stack(slopes)

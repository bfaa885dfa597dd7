"""Attribution: how much of an outcome's difference each part of the input carries.

Integrated gradients (Sundararajan et al. 2017) along the straight line from a baseline, by
Gauss-Legendre points, doubled until what the parts add up to is the difference; attributions that
do not get there are flagged. Attribution patching is the first-order estimate of what activation
patching measures, for every place at the price of two runs and one gradient.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Metric, Network, Place
from melisma.trace._batches import measured, rows_of, taken

# The error of completeness at which the points are enough, as a share of the difference.
COMPLETE = 0.05
_ROWS = 64


class Attribution(NamedTuple):
    """What each number of the embedded input carries.

    value : (batch, position, width)
    difference : (batch,), the metric of the input less that of the baseline
    steps : points on the line
    """

    value: Tensor
    difference: Tensor
    steps: int

    @property
    def by_position(self) -> Tensor:
        """(batch, position), sums over the width."""
        return self.value.sum(2)

    @property
    def completeness_error(self) -> Tensor:
        """(batch,), what the parts miss of the difference, as a share of it."""
        missed = (self.value.sum(dim=(1, 2)) - self.difference).abs()
        return missed / self.difference.abs().clamp(min=1e-12)

    @property
    def converged(self) -> Tensor:
        """(batch,), whether the parts add up to the difference within `COMPLETE`."""
        return self.completeness_error <= COMPLETE


def gradient_times_input(network: Network, batch: Any, metric: Metric) -> Attribution:
    """The gradient at the input, times the input: integrated gradients of one step from 0."""
    told = network.adapter.encode(batch)
    whole = network.adapter.embed(told).detach()
    slope, value = gradient(network, told, whole, metric)
    nothing = measured(metric, network.run(told, embedded=torch.zeros_like(whole)).output, told)
    return Attribution(slope * whole, value - nothing, 1)


def integrated_gradients(
    network: Network,
    batch: Any,
    metric: Metric,
    *,
    baseline: Tensor | None = None,
    steps: int = 32,
    most_steps: int = 512,
) -> Attribution:
    """The input's parts, weighed by the gradient along the line from a baseline.

    Parameters
    ----------
    baseline : what stands for no input, as `adapter.embed` returns it, or with one row; None: zeros
    steps : points to begin with; they double until every row is complete or `most_steps` is reached

    Raises
    ------
    MelismaError
        The baseline does not fit, or the metric is not one number a row.
    """
    told = network.adapter.encode(batch)
    whole = network.adapter.embed(told).detach()
    if baseline is None:
        baseline = torch.zeros_like(whole)
    if baseline.shape[1:] != whole.shape[1:] or len(baseline) not in (1, len(whole)):
        raise MelismaError(
            f"The baseline has the shape {tuple(baseline.shape)}, and the input "
            f"{tuple(whole.shape)}."
        )
    baseline = baseline.expand_as(whole)
    ends = [measured(metric, network.run(told, embedded=x).output, told) for x in (whole, baseline)]
    difference = ends[0] - ends[1]
    while True:
        found = Attribution(
            _along(network, told, whole, baseline, metric, steps), difference, steps
        )
        if bool(found.converged.all()) or 2 * steps > most_steps:
            return found
        steps *= 2


def _along(
    network: Network, told: dict[str, Any], whole: Tensor, baseline: Tensor, metric: Metric,
    steps: int,
) -> Tensor:  # fmt: skip
    """Gradients along the line by Gauss-Legendre, times the way: like `whole`."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    share = torch.as_tensor((points + 1) / 2, dtype=whole.dtype)
    weight = torch.as_tensor(weights / 2, dtype=whole.dtype)
    total = torch.zeros_like(whole)
    n = rows_of(told)
    together = max(1, _ROWS // n)
    for k in range(0, steps, together):
        some = slice(k, k + together)
        many = len(share[some])
        rows = torch.arange(n).repeat(many)
        at = share[some].repeat_interleave(n)[:, None, None]
        inside = baseline[rows] + at * (whole - baseline)[rows]
        slope, _ = gradient(network, taken(told, rows), inside, metric)
        weighed = slope * weight[some].repeat_interleave(n)[:, None, None]
        total += weighed.view(many, *whole.shape).sum(0)
    return total * (whole - baseline)


def gradient(
    network: Network, told: dict[str, Any], at: Tensor, metric: Metric
) -> tuple[Tensor, Tensor]:
    """The metric's gradient by row at an embedded input, (batch, position, width), and its value,
    (batch,)."""
    leaf = at.detach().clone().requires_grad_()
    value = measured(metric, network.run(told, embedded=leaf, grad=True).output, told)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return slope, value.detach()


class Estimate(NamedTuple):
    """First-order estimates of patching.

    places : P of them
    effect : (P, positions, batch), the change of the corrupted run's metric
    """

    places: tuple[Place, ...]
    effect: Tensor


def attribution_patching(
    network: Network,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    places: str | Sequence[Place] = "layer.*.residual",
) -> Estimate:
    """The gradient of the corrupted run at each place, times the difference of the two states.

    Compare it with `patch` before it is believed: where the network is far from linear between
    the two inputs it is wrong.
    """
    chosen = network.places(places) if isinstance(places, str) else tuple(places)
    if not chosen:
        raise MelismaError(f"No place of the network fits {places!r}.")
    good, bad = network.adapter.encode(clean), network.adapter.encode(corrupted)
    source = network.run(good, keep=chosen).kept
    flowing: dict[Place, Tensor] = {}

    def through(x: Tensor, place: Place) -> Tensor:
        # What is written back is what flows on, so its gradient is the place's.
        flowing[place] = x.clone() if x.requires_grad else x.clone().requires_grad_()
        return flowing[place]

    edits: dict[Place, Edit] = dict.fromkeys(chosen, through)
    leaf = network.adapter.embed(bad).detach().requires_grad_()
    run = network.run(bad, edits=edits, embedded=leaf, grad=True)
    value = measured(metric, run.output, bad)
    slopes = torch.autograd.grad(value.sum(), [flowing[p] for p in chosen], allow_unused=True)
    effects = []
    for place, slope in zip(chosen, slopes, strict=True):
        old = flowing[place].detach()
        if source[place].shape != old.shape:
            raise MelismaError(
                f"{place.name} has {source[place].shape[1]} positions in the clean run and "
                f"{old.shape[1]} in the corrupted one: prompts must have as many tokens."
            )
        moved = torch.zeros_like(old) if slope is None else slope * (source[place] - old)
        effects.append(moved.sum(2).t())
    return Estimate(chosen, torch.stack(effects))

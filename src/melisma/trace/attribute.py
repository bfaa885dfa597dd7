"""Attribution: how much of an outcome's difference each part of the input carries.

Integrated gradients (Sundararajan et al. 2017) along the straight line from a baseline, by
Gauss-Legendre points; where what they add up to is not the difference, the line is cut into
pieces until it is; attributions that do not get there are flagged. Attribution patching is the
first-order estimate of what activation patching measures, for every place at the price of two
runs and one gradient.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Metric, Network, Place
from melisma.trace._batches import chosen_places, measured, standing, taken
from melisma.trace.patch import Patching, patch

# The error of completeness at which the points are enough, as a share of the difference.
COMPLETE = 0.05
_ROWS = 64
# Pieces of the line to begin with where one was not enough, the points on each, and how many of a
# row's are cut before the rest is judged again.
_PIECES = 16
_POINTS = 4
_CUT_AT_ONCE = 16


class Attribution(NamedTuple):
    """What each number of the embedded input carries.

    value : (batch, position, width)
    difference : (batch,), the metric of the input less that of the baseline
    steps : points on the line, of the row that took most
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
    most_steps: int = 2048,
) -> Attribution:
    """The input's parts, weighed by the gradient along the line from a baseline.

    Parameters
    ----------
    baseline : what stands for no input, as `adapter.embed` returns it, or with one row or one
        position; None: zeros. For tokens take `mean_token`: a language model is not defined near 0
    steps : points of the first try, on the whole line; where its sum is not the difference the line
        is cut, and cut again where a piece's sum is not the piece's difference
    most_steps : points a row at most, after which it is left as it is

    Raises
    ------
    MelismaError
        The baseline does not fit, or the metric is not one number a row.
    """
    told = network.adapter.encode(batch)
    whole = network.adapter.embed(told).detach()
    baseline = standing(baseline, whole)
    line = _Line(network, told, baseline, whole - baseline, metric)
    n = len(whole)
    rows, ends = torch.arange(n), torch.ones(n)
    low, high = line.at(rows, 0 * ends), line.at(rows, ends)
    value = line.along(rows, 0 * ends, ends, steps)
    difference = high - low
    found = Attribution(value, difference, steps)
    rough = (~found.converged).nonzero()[:, 0]
    if steps >= most_steps or not len(rough):
        return found
    refined, used = _refined(line, rough, difference, most_steps - steps)
    value[rough] = refined
    return Attribution(value, difference, steps + used)


class _Line(NamedTuple):
    """The straight line from the baseline, and the metric on it."""

    network: Network
    told: dict[str, Any]
    baseline: Tensor
    way: Tensor
    metric: Metric

    def at(self, rows: Tensor, share: Tensor) -> Tensor:
        """The metric of rows at their shares of the way: like `share`."""
        found = []
        for some, at in zip(rows.split(_ROWS), share.split(_ROWS), strict=True):
            own = taken(self.told, some)
            output = self.network.run(own, embedded=self._inside(some, at)).output
            found.append(measured(self.metric, output, own))
        return torch.cat(found)

    def along(self, rows: Tensor, low: Tensor, high: Tensor, points: int) -> Tensor:
        """The gradient's integral over each row's piece of the line, times the way, by
        Gauss-Legendre: (rows, position, width)."""
        place, weight = np.polynomial.legendre.leggauss(points)
        share = torch.as_tensor((place + 1) / 2, dtype=self.way.dtype)
        part = torch.as_tensor(weight / 2, dtype=self.way.dtype)
        total = torch.zeros(len(rows), *self.way.shape[1:], dtype=self.way.dtype)
        many = torch.arange(len(rows) * points)
        for some in many.split(_ROWS):
            piece, k = some // points, some % points
            at = low[piece] + share[k] * (high - low)[piece]
            own = rows[piece]
            slope, _ = gradient(
                self.network, taken(self.told, own), self._inside(own, at), self.metric
            )
            weighed = slope * (part[k] * (high - low)[piece])[:, None, None]
            total.index_add_(0, piece, weighed)
        return total * self.way[rows]

    def _inside(self, rows: Tensor, share: Tensor) -> Tensor:
        return self.baseline[rows] + share[:, None, None] * self.way[rows]


def _refined(line: _Line, rows: Tensor, difference: Tensor, most: int) -> tuple[Tensor, int]:
    """Integrals of rows on pieces that are cut where they do not add up: (rows, position, width),
    and the points that a row took at most.

    What a piece should add up to is known, from the metric at its ends: no error is guessed.
    """
    edges = torch.linspace(0, 1, _PIECES + 1)
    row = torch.arange(len(rows)).repeat_interleave(_PIECES)
    low, high = edges[:-1].repeat(len(rows)), edges[1:].repeat(len(rows))
    ends = line.at(rows.repeat_interleave(_PIECES + 1), edges.repeat(len(rows)))
    ends = ends.view(len(rows), -1)
    first, last = ends[:, :-1].flatten(), ends[:, 1:].flatten()
    value = line.along(rows[row], low, high, _POINTS)
    spent = torch.full((len(rows),), _PIECES * _POINTS)
    while True:
        missed = (value.sum(dim=(1, 2)) - (last - first)).abs()
        many = torch.bincount(row, minlength=len(rows))
        left = torch.zeros(len(rows)).index_add_(0, row, missed)
        wanted = COMPLETE * difference[rows].abs()
        going = (left > wanted) & (spent + 2 * _POINTS <= most)
        cut = going[row] & (missed > wanted[row] / many[row])
        # A row that may not cut all it should cuts its worst pieces.
        for k in going.nonzero()[:, 0].tolist():
            own = (cut & (row == k)).nonzero()[:, 0]
            room = int((most - spent[k]) // (2 * _POINTS))
            worst = own[missed[own].argsort(descending=True)]
            cut[worst[min(room, _CUT_AT_ONCE) :]] = False
        if not bool(cut.any()):
            total = torch.zeros(len(rows), *value.shape[1:], dtype=value.dtype)
            return total.index_add_(0, row, value), int(spent.max())
        middle = (low[cut] + high[cut]) / 2
        inside = line.at(rows[row[cut]], middle)
        spent += 2 * _POINTS * torch.bincount(row[cut], minlength=len(rows))
        pairs = torch.cat([row[cut], row[cut]])
        new_low, new_high = torch.cat([low[cut], middle]), torch.cat([middle, high[cut]])
        halves = line.along(rows[pairs], new_low, new_high, _POINTS)
        kept = ~cut
        first = torch.cat([first[kept], first[cut], inside])
        last = torch.cat([last[kept], inside, last[cut]])
        low, high = torch.cat([low[kept], new_low]), torch.cat([high[kept], new_high])
        row, value = torch.cat([row[kept], pairs]), torch.cat([value[kept], halves])


def mean_token(network: Network) -> Tensor:
    """A baseline for tokens, the mean of the vocabulary's vectors: (1, 1, width).

    Zeros are none: the first normalisation of a language model divides by their length.

    Raises
    ------
    MelismaError
        The network has no table of token vectors.
    """
    table = getattr(network.module, "get_input_embeddings", lambda: None)()
    if table is None:
        raise MelismaError("The network has no table of token vectors: give a baseline.")
    # As the network takes them, which may be scaled.
    every = torch.arange(len(table.weight))[None]
    return network.adapter.embed({"input_ids": every}).detach().mean(1, keepdim=True)


def gradient(
    network: Network, told: dict[str, Any], at: Tensor, metric: Metric
) -> tuple[Tensor, Tensor]:
    """The metric's gradient by row at an embedded input, (batch, position, width), and its value,
    (batch,)."""
    leaf = at.detach().clone().requires_grad_()
    value = measured(metric, network.run(told, embedded=leaf, grad=True).output, told)
    (slope,) = torch.autograd.grad(value.sum(), leaf)
    return slope, value.detach()


class Agreement(NamedTuple):
    """How well estimates agree with patching, on places that were patched.

    correlation : Pearson's, of estimated and exact effects
    slope : estimated on exact, through the origin; 1 where the scale is right
    missed : what is left, root mean square, as a share of the exact effects'
    places : that were patched
    """

    correlation: float
    slope: float
    missed: float
    places: tuple[Place, ...]


class Estimate(NamedTuple):
    """First-order estimates of patching.

    places : P of them
    effect : (P, positions, batch), the change of the corrupted run's metric
    agreement : with exact patching of some places; None where none was asked for
    """

    places: tuple[Place, ...]
    effect: Tensor
    agreement: Agreement | None


def attribution_patching(
    network: Network,
    clean: Any,
    corrupted: Any,
    metric: Metric,
    *,
    places: str | Sequence[Place] = "layer.*.residual",
    check: int = 4,
) -> Estimate:
    """The gradient of the corrupted run at each place, times the difference of the two states.

    Where the network is far from linear between the two inputs it is wrong, so some places are
    patched as well and the agreement is told.

    Parameters
    ----------
    clean, corrupted : inputs with the same rows and positions
    metric : from output and batch to one number a row
    places : a pattern of names, or the places
    check : places that are patched, evenly chosen among them; 0: none
    """
    chosen = chosen_places(network, places)
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
    effect = torch.stack(effects)
    if not check:
        return Estimate(chosen, effect, None)
    some = sorted({round(k) for k in np.linspace(0, len(chosen) - 1, check)})
    exact = patch(network, good, bad, metric, places=[chosen[k] for k in some])
    return Estimate(chosen, effect, _agreement(effect[some], exact))


def _agreement(effect: Tensor, exact: Patching) -> Agreement:
    told, true = effect.flatten(), (exact.patched - exact.corrupted).flatten()
    along = float((told * true).sum() / true.pow(2).sum().clamp(min=1e-20))
    missed = (told - true).pow(2).mean().sqrt() / true.pow(2).mean().sqrt().clamp(min=1e-20)
    both = torch.stack([told, true])
    correlation = float(torch.corrcoef(both)[0, 1]) if bool((both.std(1) > 0).all()) else math.nan
    return Agreement(correlation, along, float(missed), exact.places)

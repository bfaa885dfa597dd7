"""One step of training: a batch as tensors, augmented, through the network and back."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from melisma.sequence._recipe import Recipe
from melisma.sequence.checkpoint import as_input, flip_neighbours, other_strand, symmetric_view
from melisma.sequence.environment import Environment
from melisma.sequence.examples import VALIDATION, Batch, Examples
from melisma.sequence.model import loss

# Validation's order must not change from epoch to epoch.
VALIDATION_SEED = 0


class Tensors(NamedTuple):
    """What a network is called with, and its targets."""

    sequence: torch.Tensor
    environment: torch.Tensor | None
    neighbours: torch.Tensor | None
    surroundings: torch.Tensor | None
    methylated: torch.Tensor
    coverage: torch.Tensor

    def put(self, move: Callable[[torch.Tensor], Any]) -> "Tensors":
        """The same on the network's device."""
        around, told, stretches = self.neighbours, self.environment, self.surroundings
        return Tensors(
            move(self.sequence),
            None if told is None else move(told),
            None if around is None else move(around),
            None if stretches is None else move(stretches),
            move(self.methylated),
            move(self.coverage),
        )


def tensors(
    batch: Batch, recipe: Recipe, environment: Environment, rng: np.random.Generator | None
) -> Tensors:
    """A batch as tensors; with a generator, augmented as training wants it."""
    codes, around, told = batch.codes, batch.neighbours, batch.environment
    if recipe.symmetric:
        n = len(codes)
        flip = np.zeros(n, bool) if rng is None else rng.random(n) < 0.5
        codes = np.where(flip[:, None], other_strand(codes), symmetric_view(codes))
        if around is not None:
            around = np.where(flip[:, None, None], flip_neighbours(around), around)
    if rng is not None and environment.width:
        told = _forget(told, environment, recipe.environment_dropout, rng)
    if rng is not None and around is not None:
        around = _mask(around, recipe.neighbours_dropout, rng)
    return Tensors(
        as_input(codes),
        torch.from_numpy(np.ascontiguousarray(told)) if environment.width else None,
        None if around is None else torch.from_numpy(np.ascontiguousarray(around)),
        None if batch.surroundings is None else torch.from_numpy(batch.surroundings),
        torch.from_numpy(batch.methylated),
        torch.from_numpy(batch.coverage),
    )


def _forget(
    told: npt.NDArray[np.float32], environment: Environment, share: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Columns of the environment set to their mean, each at random."""
    told = told.copy()
    for span in environment.spans():
        told[rng.random(len(told)) < share, span] = 0
    return told


def _mask(
    around: npt.NDArray[np.float32], share: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """All neighbours hidden in a share of the rows, a random part of them in the others."""
    n, _, k = around.shape
    hidden = rng.random((n, k)) < rng.uniform(0, 0.5, (n, 1))
    hidden |= (rng.random(n) < share)[:, None]
    return np.where(hidden[:, None, :], np.float32(0), around)


def step(
    fabric: Fabric,
    module: Any,
    optimizer: Any,
    batch: Batch,
    recipe: Recipe,
    examples: Examples,
    rng: np.random.Generator,
) -> float:
    """One step of the optimiser; the mean loss of the batch's measured marks, over processes."""
    made = tensors(batch, recipe, examples.environment, rng)
    t = made.put(fabric.to_device)
    output = module(t.sequence, t.environment, t.neighbours, t.surroundings)
    each = loss(output, t.methylated, t.coverage, recipe.label_smoothing)
    value = each.sum() / (t.coverage > 0).sum().clamp(min=1)
    optimizer.zero_grad()
    fabric.backward(value)
    fabric.clip_gradients(module, optimizer, max_norm=recipe.clip, error_if_nonfinite=False)
    shared = float(fabric.all_reduce(value.detach(), reduce_op="mean"))  # type: ignore[arg-type]
    if math.isfinite(shared):
        optimizer.step()
    return shared


def validation_loss(module: nn.Module, examples: Examples, recipe: Recipe) -> float:
    """Mean loss of the measured marks of validation, without augmentation or smoothing."""
    module.eval()
    device = next(module.parameters()).device
    total, n = 0.0, 0
    with torch.inference_mode():
        for batch in validation(examples, recipe):
            t = tensors(batch, recipe, examples.environment, None)
            t = t.put(lambda x: x.to(device))
            output = module(t.sequence, t.environment, t.neighbours, t.surroundings)
            each = loss(output, t.methylated, t.coverage)
            total += float(each.sum())
            n += int((t.coverage > 0).sum())
    return total / max(n, 1)


def validation(examples: Examples, recipe: Recipe) -> Iterator[Batch]:
    return examples.batches(
        VALIDATION, 4 * recipe.batch, seed=VALIDATION_SEED, limit=recipe.validation_examples
    )

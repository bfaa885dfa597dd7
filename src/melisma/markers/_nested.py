"""Nested cross-validation: everything that is learned is learned inside the training samples.

Each outer fold's training samples are folded again. In every inner fold priors, standards, the
screen and the path of markers are learned from the inner training samples; the inner folds'
predictions choose the size and teach the calibration; then all of it is learned once more from
the outer fold's training samples, and predicts the samples that were never looked at.
"""

from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma import progress
from melisma.errors import MelismaError
from melisma.markers._features import Features
from melisma.markers._folds import make_folds
from melisma.markers._logistic import (
    Calibration,
    Path,
    calibrate,
    log_softmax,
    marker_path,
    path_logits,
    softmax,
)
from melisma.markers._prepare import Prepared, prepare

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


class Settings(NamedTuple):
    """size : exactly so many markers; None: chosen, at most `max_size`."""

    size: int | None
    max_size: int
    folds: int
    classes: int


@dataclass(frozen=True)
class Model:
    """A panel as learned from some training samples.

    chosen : (size,) features in the order in which they entered
    losses : (sizes,) inner out-of-fold log-loss of each size
    error : standard error of the least of them
    """

    prepared: Prepared
    path: Path
    size: int
    calibration: Calibration
    losses: Floats
    error: float

    @property
    def chosen(self) -> Ints:
        return self.prepared.index[self.path.order[: self.size]]

    def probabilities(self, features: Features, rows: Ints, classes: int) -> Floats:
        """Calibrated probabilities, (rows, classes)."""
        levels = self.prepared.standardised(features, rows, self.path.order[: self.size])
        short = Path(self.path.order[: self.size], self.path.theta[: self.size])
        logits = path_logits(short, levels, classes)[-1]
        return softmax(self.calibration.slope * logits + self.calibration.shift)


class Nested(NamedTuple):
    """Out-of-fold results of repeated nested cross-validation.

    fold : (repeats, samples)
    probability : (repeats, samples, classes)
    chosen : the markers of each training set, features
    """

    fold: Ints
    probability: Floats
    chosen: tuple[Ints, ...]


def fit_model(
    features: Features,
    rows: Ints,
    labels: Ints,
    blocks: Ints,
    settings: Settings,
    rng: np.random.Generator,
) -> Model:
    """Learn a panel from training samples alone.

    Parameters
    ----------
    rows : columns of the training samples
    labels, blocks : theirs, (rows,)
    """
    most = settings.size or settings.max_size
    inner = make_folds(labels, blocks, settings.folds, rng)
    logits = np.full((most, len(rows), settings.classes), np.nan)
    reached = most
    for k in range(int(inner.max()) + 1):
        learn, judge = inner != k, inner == k
        prepared, path = _fit_path(features, rows[learn], labels[learn], settings.classes, most)
        levels = prepared.standardised(features, rows[judge], path.order)
        reached = min(reached, len(path.order))
        logits[:reached, judge] = path_logits(path, levels, settings.classes)[:reached]
    prepared, path = _fit_path(features, rows, labels, settings.classes, most)
    reached = min(reached, len(path.order))
    each = -log_softmax(logits[:reached])[:, np.arange(len(rows)), labels]  # (sizes, rows)
    losses = each.mean(axis=1)
    best = int(np.argmin(losses))
    error = _grouped_error(each[best], blocks)
    if settings.size is not None:
        if reached < settings.size:
            raise MelismaError(
                f"A panel of {settings.size} was asked for, and a training fold has only "
                f"{reached} usable features: ask for fewer with --size."
            )
        size = settings.size
    else:
        # The one-standard-error rule (Breiman et al. 1984).
        size = 1 + int(np.argmax(losses <= losses[best] + error))
    return Model(prepared, path, size, calibrate(logits[size - 1], labels), losses, error)


def _fit_path(
    features: Features, rows: Ints, labels: Ints, classes: int, most: int
) -> tuple[Prepared, Path]:
    prepared = prepare(features, rows, labels, classes)
    if not prepared.usable:
        raise MelismaError(
            "No site or region is seen in half of the samples of a training fold and varies "
            "there: use --on regions or a BED file, or leave out samples of low coverage."
        )
    return prepared, marker_path(prepared.standardised(features, rows), labels, classes, most)


def _grouped_error(losses: Floats, blocks: Ints) -> float:
    """Standard error of the mean of losses whose blocks, not samples, are independent."""
    _, inverse = np.unique(blocks, return_inverse=True)
    count = int(inverse.max()) + 1
    left = np.bincount(inverse, weights=losses - losses.mean())
    return float(np.sqrt((left**2).sum() * count / max(count - 1, 1)) / len(losses))


def cross_validate(
    features: Features,
    labels: Ints,
    blocks: Ints,
    settings: Settings,
    *,
    repeats: int,
    seed: tuple[int, ...],
    pool: Executor | None = None,
    advance: progress.Advance = lambda _: None,
) -> Nested:
    """Repeat nested cross-validation with different folds.

    Parameters
    ----------
    labels, blocks : (samples,), classes and blocks as numbers
    seed : every fold's draws follow from it, its repeat and its number, whatever runs beside it
    pool : where the folds run; None: here
    """
    classes = settings.classes
    fold = np.stack(
        [
            make_folds(labels, blocks, settings.folds, np.random.default_rng([*seed, r]))
            for r in range(repeats)
        ]
    )
    tasks = [(r, k) for r in range(repeats) for k in range(int(fold[r].max()) + 1)]

    def run(task: tuple[int, int]) -> tuple[Floats, Ints]:
        r, k = task
        learn, judge = np.flatnonzero(fold[r] != k), np.flatnonzero(fold[r] == k)
        rng = np.random.default_rng([*seed, r, k])
        model = fit_model(features, learn, labels[learn], blocks[learn], settings, rng)
        advance(1 / repeats / (int(fold[r].max()) + 1))
        return model.probabilities(features, judge, classes), model.chosen

    probability = np.zeros((repeats, len(labels), classes))
    chosen: list[Ints] = []
    results = map(run, tasks) if pool is None else pool.map(run, tasks)
    for (r, k), (found, own) in zip(tasks, results, strict=True):
        probability[r, fold[r] == k] = found
        chosen.append(own)
    return Nested(fold, probability, tuple(chosen))

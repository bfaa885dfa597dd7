"""Ridge logistic regression of several classes, a greedy path of markers, and its calibration.

The path is orthogonal matching pursuit for logistic regression (Lozano, Swirszcz & Abe 2011): the
next marker is the one along which the loss falls most steeply, and all weights are fitted anew.
So a panel of s markers is the first s of one path, and every size costs one fit.

Classes are symmetric: logits are D theta C', where C (classes, classes - 1) is an orthonormal
basis of what sums to zero over classes, so that the ridge does not depend on their order.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from melisma.markers._path_kernels import greedy_path

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

# Half of this times the sum of squared weights is added to the summed log-loss.
RIDGE = 1.0
_LARGEST_SLOPE = 20.0


class Path(NamedTuple):
    """Markers in the order in which they enter, and the fit of each size.

    order : (sizes,) columns of the standardised levels
    theta : `sizes` arrays, the k-th (k + 2, classes - 1): intercept first
    """

    order: Ints
    theta: tuple[Floats, ...]


class Calibration(NamedTuple):
    """Calibrated logits are slope * logits + shift; shift (classes,) sums to 0."""

    slope: float
    shift: Floats


def class_basis(classes: int) -> Floats:
    """An orthonormal basis of the vectors over classes that sum to 0, (classes, classes - 1)."""
    basis = np.zeros((classes, classes - 1))
    for k in range(1, classes):
        basis[:k, k - 1] = 1.0
        basis[k, k - 1] = -k
        basis[:, k - 1] /= np.sqrt(k * (k + 1))
    return basis


def softmax(logits: Floats) -> Floats:
    """Probabilities of the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def log_softmax(logits: Floats) -> Floats:
    """Log probabilities of the last axis."""
    moved = logits - logits.max(axis=-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))


def marker_path(levels: Floats, labels: Ints, classes: int, size: int) -> Path:
    """Add markers one by one, each the one along which the loss falls most steeply.

    Parameters
    ----------
    levels : (samples, candidates), standardised
    labels : (samples,), 0 to classes - 1, each of which occurs
    size : markers at most
    """
    share = np.bincount(labels, minlength=classes) / len(labels)
    order, fits = greedy_path(
        levels,
        np.ascontiguousarray(levels.T, dtype=np.float32),
        labels,
        share,
        class_basis(classes),
        min(size, levels.shape[1]),
        RIDGE,
    )
    return Path(order, tuple(theta[: k + 2] for k, theta in enumerate(fits)))


def path_logits(path: Path, levels: Floats, classes: int) -> Floats:
    """Logits of every size, (sizes, samples, classes), from the levels of the path's markers.

    levels : (samples, sizes), standardised, in the path's order
    """
    basis = class_basis(classes)
    logits = np.empty((len(path.theta), len(levels), classes))
    for k, theta in enumerate(path.theta):
        logits[k] = (theta[0] + levels[:, : k + 1] @ theta[1:]) @ basis.T
    return logits


def calibrate(logits: Floats, labels: Ints) -> Calibration:
    """The slope and shift under which out-of-fold logits are honest probabilities.

    Platt's (1999) scaling for any number of classes, with his smoothed targets, without which
    separated classes have no finite slope. A slope below 0 would turn a panel that predicts
    worse than chance round; it is set to 0, which leaves the classes' shares.
    """
    classes = logits.shape[1]
    basis = class_basis(classes)
    count = np.bincount(labels, minlength=classes)
    targets = np.full(logits.shape, 1.0) / (count[labels] + classes)[:, None]
    targets[np.arange(len(labels)), labels] = (count[labels] + 1) / (count[labels] + classes)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        moved = parameters[0] * logits + basis @ parameters[1:]
        left = softmax(moved) - targets
        value = -(targets * log_softmax(moved)).sum()
        return float(value), np.concatenate([[(left * logits).sum()], left.sum(axis=0) @ basis])

    found = minimize(
        loss,
        np.concatenate([[1.0], np.zeros(classes - 1)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, _LARGEST_SLOPE)] + [(None, None)] * (classes - 1),
    )
    return Calibration(float(found.x[0]), basis @ found.x[1:])

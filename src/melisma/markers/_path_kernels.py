"""Numba kernels of the path of markers: ridge logistic regression by Newton, and the next marker.

Small systems by plain loops: a threaded BLAS costs more than it gives at this size (4 times as
much with other work on the machine), and with the lock released the folds run side by side.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[Any]

_MAX_STEPS = 50
_MAX_HALVINGS = 20
_CONVERGED = 1e-9


@njit(cache=True, nogil=True)
def probabilities(design: Array, theta: Array, basis: Array, p: Array) -> None:
    """Fill p (samples, classes) with the softmax of design theta basis'."""
    q, free = theta.shape
    classes = len(basis)
    weight = np.zeros((q, classes))
    for u in range(q):
        for k in range(classes):
            for a in range(free):
                weight[u, k] += theta[u, a] * basis[k, a]
    for i in range(len(design)):
        largest = -np.inf
        for k in range(classes):
            p[i, k] = 0.0
            for u in range(q):
                p[i, k] += design[i, u] * weight[u, k]
            largest = max(largest, p[i, k])
        total = 0.0
        for k in range(classes):
            p[i, k] = np.exp(p[i, k] - largest)
            total += p[i, k]
        for k in range(classes):
            p[i, k] /= total


@njit(cache=True, nogil=True)
def _penalised(p: Array, labels: Array, theta: Array, ridge: float) -> float:
    loss = 0.0
    for i in range(len(p)):
        loss -= np.log(max(p[i, labels[i]], 1e-300))
    for u in range(1, len(theta)):
        for a in range(theta.shape[1]):
            loss += 0.5 * ridge * theta[u, a] ** 2
    return loss


@njit(cache=True, nogil=True)
def _solve(matrix: Array, vector: Array) -> Array:
    """The solution of a positive definite system; both arguments are overwritten."""
    n = len(vector)
    for j in range(n):
        for k in range(j):
            matrix[j, j] -= matrix[j, k] ** 2
        matrix[j, j] = np.sqrt(max(matrix[j, j], 1e-12))
        for i in range(j + 1, n):
            for k in range(j):
                matrix[i, j] -= matrix[i, k] * matrix[j, k]
            matrix[i, j] /= matrix[j, j]
    for i in range(n):
        for k in range(i):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            vector[i] -= matrix[k, i] * vector[k]
        vector[i] /= matrix[i, i]
    return vector


@njit(cache=True, nogil=True)
def _newton_step(
    design: Array, labels: Array, theta: Array, basis: Array, ridge: float, p: Array
) -> Array:
    n, q = design.shape
    free, classes = theta.shape[1], len(basis)
    hessian = np.zeros((free * q, free * q))
    gradient = np.zeros(free * q)
    for i in range(n):
        for a in range(free):
            left, own = -basis[labels[i], a], 0.0
            for k in range(classes):
                own += p[i, k] * basis[k, a]
            left += own
            for u in range(q):
                gradient[a * q + u] += left * design[i, u]
            for b in range(a + 1):
                both, other = 0.0, 0.0
                for k in range(classes):
                    both += p[i, k] * basis[k, a] * basis[k, b]
                    other += p[i, k] * basis[k, b]
                weight = both - own * other
                for u in range(q):
                    scaled = weight * design[i, u]
                    for v in range(q if b < a else u + 1):
                        hessian[a * q + u, b * q + v] += scaled * design[i, v]
    for a in range(free):
        for u in range(q):
            hessian[a * q + u, a * q + u] += (ridge if u else 0.0) + 1e-10
            if u:
                gradient[a * q + u] += ridge * theta[u, a]
    step = _solve(hessian, gradient)
    return step.reshape(free, q).T.copy()


@njit(cache=True, nogil=True)
def fit_ridge(design: Array, labels: Array, start: Array, basis: Array, ridge: float) -> Array:
    """Weights (q, classes - 1) of least log-loss plus ridge / 2 times their squares' sum.

    Newton's method with halved steps. design : (samples, q), its first column ones, whose weights
    are not penalised; labels : (samples,); start : (q, classes - 1); basis : (classes,
    classes - 1).
    """
    theta = start.copy()
    p = np.empty((len(design), len(basis)))
    probabilities(design, theta, basis, p)
    loss = _penalised(p, labels, theta, ridge)
    for _ in range(_MAX_STEPS):
        step = _newton_step(design, labels, theta, basis, ridge, p)
        factor, better = 1.0, False
        moved, new = theta, loss
        for _ in range(_MAX_HALVINGS):
            moved = theta - factor * step
            probabilities(design, moved, basis, p)
            new = _penalised(p, labels, moved, ridge)
            if new <= loss:
                better = True
                break
            factor /= 2
        if not better:
            return theta
        done = loss - new <= _CONVERGED * (loss + _CONVERGED)
        theta, loss = moved, new
        if done:
            break
    return theta


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def steepest(along: Array, residual: Array, share: Array, free: Array) -> int:
    """The free candidate along which the loss falls most steeply; -1: there is none.

    along : float32 (candidates, samples); residual : float32 (classes, samples); share : (classes,)
    """
    chosen, most = -1, -1.0
    classes, n = residual.shape
    for c in range(len(along)):
        if not free[c]:
            continue
        steepness, rest = 0.0, 0.0
        # What the last class has follows from the others, as a sample's residuals sum to 0.
        for k in range(classes - 1):
            total = np.float32(0.0)
            for i in range(n):
                total += along[c, i] * residual[k, i]
            steepness += float(total) ** 2 / share[k]
            rest -= float(total)
        steepness += rest**2 / share[classes - 1]
        if steepness > most:
            chosen, most = c, steepness
    return chosen


@njit(cache=True, nogil=True)
def greedy_path(
    levels: Array,
    along: Array,
    labels: Array,
    share: Array,
    basis: Array,
    size: int,
    ridge: float,
) -> tuple[Array, Array]:
    """Markers in their order (size,), and each size's weights (size, size + 1, classes - 1).

    levels : (samples, candidates); along : the same as float32 (candidates, samples)
    """
    n, classes = len(labels), len(basis)
    order = np.zeros(size, dtype=np.int64)
    fits = np.zeros((size, size + 1, classes - 1))
    design = np.ones((n, size + 1))
    free = np.ones(len(along), dtype=np.bool_)
    residual = np.zeros((classes, n), dtype=np.float32)
    p = np.empty((n, classes))
    theta = np.zeros((1, classes - 1))
    for a in range(classes - 1):
        for k in range(classes):
            theta[0, a] += np.log(share[k]) * basis[k, a]
    for s in range(size):
        probabilities(design[:, : s + 1], theta, basis, p)
        for i in range(n):
            for k in range(classes):
                residual[k, i] = (1.0 if labels[i] == k else 0.0) - p[i, k]
        chosen = steepest(along, residual, share, free)
        free[chosen] = False
        order[s] = chosen
        design[:, s + 1] = levels[:, chosen]
        start = np.zeros((s + 2, classes - 1))
        start[: s + 1] = theta
        theta = fit_ridge(design[:, : s + 2], labels, start, basis, ridge)
        fits[s, : s + 2] = theta
    return order, fits

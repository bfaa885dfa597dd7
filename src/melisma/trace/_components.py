"""More mediators than individuals can tell apart: their leading components stand in their stead."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]
# Individuals (events, cases) for each coefficient of an outcome's model.
EACH = 15
# Share of the mediators' variance that the components hold, where so many are allowed.
_HELD = 0.9
_RANK = 1e-8


class Components(NamedTuple):
    """Principal components of standardised mediators, covariates taken off.

    They know neither exposure nor outcome. A coefficient b of the components is weights @ b of
    the mediators, so that the mediators' path effects add up to the components'.

    weights : (K, r), from mediators to components
    variance : share of the mediators' variance that they hold
    """

    weights: Floats
    variance: float

    def scores(self, mediators: Floats) -> Floats:
        """The components of mediators (n, K), (n, r)."""
        return (mediators - mediators.mean(0)) @ self.weights


def capacity(informative: int, others: int) -> int:
    """How many mediators an outcome's model can hold beside other columns, 1 at least."""
    return max(1, informative // EACH - others)


def components(
    mediators: Floats, exposure: Floats, covariates: Floats, informative: int, chain: bool
) -> Components | None:
    """What stands in for mediators (n, K) in one model; None where they fit in themselves.

    Parameters
    ----------
    informative : individuals, events or cases that carry the information
    chain : whether a second mediator takes a column
    """
    n, many = mediators.shape
    if not many:
        return None
    room = capacity(informative, 1 + covariates.shape[1] + chain)
    base = np.column_stack([np.ones(n), covariates])
    left, scale = _left(base, mediators)
    if many <= room:
        with_exposure, _ = _left(np.column_stack([base, exposure]), mediators)
        size = np.linalg.svd(with_exposure / scale, compute_uv=False)
        if size[-1] > _RANK * size[0]:
            return None
    standard = left / scale
    _, size, right = np.linalg.svd(standard, full_matrices=False)
    shares = np.cumsum(size**2) / (size**2).sum()
    rank = int((size > _RANK * size[0]).sum())
    wanted = int(np.searchsorted(shares, _HELD)) + 1
    r = min(room, rank, wanted, n - base.shape[1] - 3)
    if r < 1:
        raise MelismaError(f"{n} individuals are too few for a model with mediators.")
    return Components(right[:r].T / scale[:, None], float(shares[r - 1]))


def _left(base: Floats, mediators: Floats) -> tuple[Floats, Floats]:
    """What columns do not explain of mediators (n, K), and the mediators' own deviation (K,)."""
    q, _ = np.linalg.qr(base)
    return mediators - q @ (q.T @ mediators), mediators.std(0)

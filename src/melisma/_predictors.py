"""A sheet's columns as predictors, and those outside a formula that go with what is asked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincc

Floats = npt.NDArray[np.floating[Any]]

NOT_COVARIATES = ("sample", "path")
# Whole numbers with more values than this are measurements, not groups.
_MOST_CODES = 5
# An exposure whose variation another column explains to this share cannot be told from it well.
CONFOUNDED_R2 = 0.6
_NOT_CAUSES = (*NOT_COVARIATES, "format", "individual")


def coded(values: Sequence[Any]) -> tuple[Floats, bool]:
    """A sheet's column as numbers, NaN missing, and whether they are codes of groups."""
    known = [v for v in values if v is not None and v == v and v != ""]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)
    whole = numbers and all(float(v).is_integer() for v in known)
    if numbers and not (whole and len(set(known)) <= _MOST_CODES):
        return np.array([float(v) if v in known else np.nan for v in values]), False
    order = {v: float(k) for k, v in enumerate(sorted(set(known), key=str))}
    return np.array([order.get(v, np.nan) for v in values]), True


def column_basis(values: Floats, *, groups: bool) -> Floats:
    """Orthonormal columns of the centred predictors, (samples, df)."""
    design = (
        (values[:, None] == np.unique(values)[None, 1:]).astype(np.float64)
        if groups
        else values[:, None]
    )
    q, r = np.linalg.qr(design - design.mean(0))
    return q[:, np.abs(np.diag(r)) > 1e-10 * max(float(np.abs(r).max()), 1e-300)]


def r2_tail(r2: float, n: int, df: int) -> float:
    """The F test's p of R2: R2 is beta-distributed with df/2 and (n - 1 - df)/2."""
    return float(betaincc(df / 2, (n - 1 - df) / 2, min(max(r2, 0.0), 1.0)))


def left_out_columns(
    sheet: Mapping[str, Sequence[Any]],
    used: Sequence[str],
    pool: npt.NDArray[np.int64],
    reduced: Floats,
    exposures: Floats,
) -> dict[str, float]:
    """Columns that a formula leaves out and that explain most of what it asks about.

    A column counts where its R2 reaches 0.6 with p below .05, which one group a unit cannot.

    Parameters
    ----------
    sheet : columns, each (samples,)
    used : the formula's own columns, and the block
    pool : (samples,) unit of each sample; a column that varies within units is left aside
    reduced : (units, r) orthonormal, the model without what is asked
    exposures : (units, k), orthogonal to `reduced`

    Returns
    -------
    R2 of the exposures by column, beyond the reduced model
    """
    units = len(exposures)
    asked = np.linalg.qr(exposures)[0]
    found: dict[str, float] = {}
    for name, values in sheet.items():
        if name in used or name in _NOT_CAUSES:
            continue
        codes, groups = coded(values)
        own = np.full(units, np.nan)
        own[pool] = codes
        if not np.isfinite(codes).all() or (own[pool] != codes).any():
            continue
        if len(np.unique(own)) < 2 or (groups and len(np.unique(own)) == units):
            continue
        basis = column_basis(own, groups=groups)
        basis = basis - reduced @ (reduced.T @ basis)
        left, sizes, _ = np.linalg.svd(basis, full_matrices=False)
        left = left[:, sizes > 1e-6]
        df = left.shape[1]
        free = units - reduced.shape[1]
        if df == 0 or free - df < 1:
            continue
        r2 = float(((left.T @ asked) ** 2).sum()) / asked.shape[1]
        if r2 >= CONFOUNDED_R2 and r2_tail(r2, free + 1, df) < 0.05:
            found[name] = r2
    return found

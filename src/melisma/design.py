"""Sample sheet and formula to a model matrix, contrasts and blocks.

A contrast is made ready for any test as a `Comparison`: an orthonormal basis of the reduced
model, a column of exposure for each of the contrast's k rows, whose coefficients are the contrast,
and the units that may be exchanged. With theta the parameters of [block indicators, model matrix]
and L the contrast (columns, k), every theta is L (L'L)^-1 g + B d with B the complement of L, so
the exposure is [A, X] L (L'L)^-1, the reduced model spans [A, X] B, and the contrast cannot be
estimated exactly when the exposure lies in that span. Columns are scaled to unit length first, so
that a covariate's unit and offset do not matter.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from melisma._model import Contrast, Design, level_name, make_contrasts, make_design
from melisma._predictors import left_out_columns
from melisma._sheet import read_sheet
from melisma.errors import MelismaError

__all__ = [
    "Comparison",
    "Contrast",
    "Design",
    "NoReplicates",
    "compare",
    "make_contrasts",
    "make_design",
    "read_sheet",
]

Floats = npt.NDArray[np.floating[Any]]
Unit = Literal["samples", "samples within blocks", "blocks"]
# A column is in the span of others when its relative residual is below this.
_TOLERANCE = 1e-8


class NoReplicates(MelismaError):
    """A contrast whose samples leave no degree of freedom for the variation between them."""


@dataclass(frozen=True)
class Comparison:
    """A contrast ready for tests, over units (samples, or blocks of samples pooled).

    reduced : (units, r) orthonormal basis of the model without the exposure
    exposure : (units,) column whose coefficient is the contrast, orthogonal to the reduced model;
        the first of k where the contrast asks about several coefficients at once
    side : (units,) +1 and -1 for units of the contrast's higher and lower level that it compares,
        else 0; None for a coefficient
    exchange : (units,) exchangeability block of each unit; units that the contrast does not
        compare are exchanged only among themselves
    names : (units,) samples or blocks
    pool : (samples,) unit of each sample
    others : (units, k - 1) the other columns of exposure
    correlated : (units,) block of each unit where blocks are incomplete and their members are taken
        to share one correlation; None elsewhere
    """

    contrast: Contrast
    reduced: Floats
    exposure: Floats
    side: npt.NDArray[np.int8] | None
    exchange: npt.NDArray[np.int64]
    names: tuple[str, ...]
    pool: npt.NDArray[np.int64]
    unit: Unit
    notes: tuple[str, ...]
    others: Floats | None = None
    correlated: npt.NDArray[np.int64] | None = None

    @property
    def exposures(self) -> Floats:
        """All columns of exposure, (units, k)."""
        first = self.exposure[:, None]
        return first if self.others is None else np.hstack([first, self.others])

    @property
    def k(self) -> int:
        """How many coefficients are asked about: 1 is a t test, more are an F test."""
        return 1 if self.others is None else 1 + self.others.shape[1]

    @property
    def n_units(self) -> int:
        """How many units are compared."""
        return len(self.exposure)

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom of a site that every unit covers."""
        return self.n_units - self.reduced.shape[1] - self.k


def compare(design: Design, contrast: Contrast, *, incomplete: bool = False) -> Comparison:
    """Make a contrast ready for tests, with blocks as the design asks.

    An exposure that varies inside blocks is compared within them (a fixed effect a block); one
    that is constant inside every block is compared between them, each block's counts pooled.

    Raises
    ------
    MelismaError
        There are no replicates, or the contrast cannot be estimated (the confounded columns
        are named).
    """
    found = _units_compared(design, contrast, incomplete=incomplete)
    return replace(found, notes=(*found.notes, *_going_with(design, found)))


def _going_with(design: Design, found: Comparison) -> tuple[str, ...]:
    """Sentences for columns of the sheet outside the formula that go with the contrast."""
    used = {str(name) for name in design.spec.required_variables} | {design.block_name or ""}
    columns = left_out_columns(
        design.sheet, sorted(used), found.pool, found.reduced, found.exposures
    )
    return tuple(
        f"{found.contrast.name} goes with {name}, which is not in the formula (R2 = {r2:.2f}): a "
        f"difference may come from {name}; add it to the formula, or say why it cannot matter."
        for name, r2 in columns.items()
    )


def _units_compared(design: Design, contrast: Contrast, *, incomplete: bool) -> Comparison:
    n = len(design.samples)
    left_out = _left_out(design)
    if design.block is None:
        pool = np.arange(n)
        return _comparison(design, contrast, design.matrix, None, pool, "samples", left_out)
    _check_block(design, contrast, design.block)
    labels = list(dict.fromkeys(design.block))
    block = np.array([labels.index(b) for b in design.block])
    along = _exposure_values(design, contrast)
    varying = [k for k in range(len(labels)) if np.ptp(along[block == k], axis=0).max() > 0]
    if varying:
        without = len(labels) - len(varying)
        notes = left_out
        if without and incomplete and len(contrast.vectors) == 1:
            notes += (
                f"{without} of {len(labels)} blocks of {design.block_name} hold one level only: "
                "all samples are compared, with one correlation within blocks for all sites. "
                "Where a site's own is lower its p is too small, and intervals do not use it.",
            )
            found = _comparison(
                design, contrast, design.matrix, None, np.arange(n), "samples", notes
            )
            return replace(found, correlated=block)
        if without:
            notes += (
                f"{without} of {len(labels)} blocks of {design.block_name} hold one level only "
                f"and say nothing about {contrast.name}.",
            )
        return _comparison(
            design, contrast, design.matrix, block, np.arange(n), "samples within blocks", notes
        )
    sizes = np.bincount(block)
    pooled = np.stack([design.matrix[block == k].mean(axis=0) for k in range(len(labels))])
    note = (
        f"{contrast.column} is constant within {design.block_name}: the {len(labels)} blocks, "
        f"not the {n} samples, are the units, each with its members' mean level."
    )
    notes = (*left_out, note) if sizes.max() > 1 else left_out
    return _comparison(design, contrast, pooled, None, block, "blocks", notes)


def _check_block(design: Design, contrast: Contrast, block: tuple[str, ...]) -> None:
    """Blocks that are the contrast's own levels would be its only units."""
    if contrast.column not in design.factors:
        return
    levels = [level_name(value) for value in design.sheet[contrast.column]]
    if (
        len(set(zip(levels, block, strict=True)))
        == len(set(levels))
        == len(set(block))
        < len(block)
    ):
        raise MelismaError(
            f"The block {design.block_name} is the contrast {contrast.name} itself, which leaves "
            f"no replicates: every level of {contrast.column} is one block. A block is a donor, a "
            "pair or a litter: leave out --block (block=), or name another column."
        )


def _left_out(design: Design) -> tuple[str, ...]:
    if not design.dropped:
        return ()
    names = ", ".join(design.dropped[:5]) + ("…" if len(design.dropped) > 5 else "")
    return (f"{len(design.dropped)} samples without a value are left out: {names}.",)


def _exposure_values(design: Design, contrast: Contrast) -> Floats:
    """What a block must vary in to say something about the contrast, (samples, values)."""
    levels = contrast.levels or contrast.among
    if not levels:
        return np.round(design.matrix @ contrast.vectors.T, 9)
    return np.array(
        [
            [levels.index(w) if w in levels else -1]
            for w in map(level_name, design.sheet[contrast.column])
        ],
        dtype=np.float64,
    )


def _comparison(
    design: Design,
    contrast: Contrast,
    matrix: Floats,
    block: npt.NDArray[np.int64] | None,
    pool: npt.NDArray[np.int64],
    unit: Unit,
    notes: tuple[str, ...],
) -> Comparison:
    n = len(matrix)
    indicators = np.zeros((n, 0)) if block is None else np.eye(block.max() + 1)[block]
    model = np.hstack([indicators, matrix])
    norms = np.linalg.norm(model, axis=0)
    norms[norms == 0] = 1.0
    model = model / norms
    rows = contrast.vectors
    vectors = np.hstack([np.zeros((len(rows), indicators.shape[1])), rows]) / norms
    k = len(vectors)
    exposure = model @ np.linalg.pinv(vectors)
    complement = np.linalg.svd(vectors)[2][k:].T
    reduced = _basis(model @ complement)
    left = exposure - reduced @ (reduced.T @ exposure)
    lengths = np.maximum(np.linalg.norm(exposure, axis=0), 1e-300)
    if np.linalg.matrix_rank(left / lengths, tol=_TOLERANCE) < k:
        raise MelismaError(_confounded(design, contrast, model, vectors, unit))
    # Units that the reduced model explains have no exposure; rounding would give them some, and
    # sites where only they are covered would be tested on it.
    left[np.abs(left) < _TOLERANCE * np.abs(left).max(axis=0)] = 0.0
    constant = np.ones(n)
    if np.linalg.norm(constant - reduced @ (reduced.T @ constant)) > 1e-6 * np.sqrt(n):
        raise MelismaError(
            f"{contrast.name} is a level, not a difference: compare it with another level, such as "
            "cell[b] - cell[a]."
        )
    if n - reduced.shape[1] - k < 1:
        raise NoReplicates(
            f"{contrast.name} has no replicates: {n} {unit.split()[0]} and "
            f"{reduced.shape[1] + k} coefficients leave no degree of freedom for the variation "
            "between samples. Add samples."
        )
    side = _sides(design, contrast, np.zeros(n, dtype=np.int64) if block is None else block, pool)
    exchange = np.zeros(n, dtype=np.int64) if block is None else block
    if side is not None:
        exchange = 2 * exchange + (side == 0)
    names = design.samples if unit != "blocks" else tuple(dict.fromkeys(design.block or ()))
    return Comparison(
        contrast=contrast,
        reduced=reduced,
        exposure=np.ascontiguousarray(left[:, 0]),
        side=side,
        exchange=exchange,
        names=names,
        pool=pool.astype(np.int64),
        unit=unit,
        notes=notes,
        others=np.ascontiguousarray(left[:, 1:]) if k > 1 else None,
    )


def _sides(
    design: Design,
    contrast: Contrast,
    exchange: npt.NDArray[np.int64],
    pool: npt.NDArray[np.int64],
) -> npt.NDArray[np.int8] | None:
    """Which units stand on which side; a block with one side only compares nothing."""
    if contrast.levels is None:
        return None
    words = [level_name(v) for v in design.sheet[contrast.column]]
    side = np.zeros(len(exchange), dtype=np.int8)
    for sample, word in enumerate(words):
        side[pool[sample]] = {contrast.levels[0]: 1, contrast.levels[1]: -1}.get(word, 0)
    for k in range(int(exchange.max()) + 1):
        if len(set(side[exchange == k]) - {0}) < 2:
            side[exchange == k] = 0
    return side


def _basis(matrix: Floats) -> Floats:
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return np.ascontiguousarray(left[:, values > _TOLERANCE * max(values.max(initial=0.0), 1e-300)])


def _confounded(
    design: Design, contrast: Contrast, model: Floats, vectors: Floats, unit: Unit
) -> str:
    """Name the columns that the contrast cannot be told from."""
    _, values, right = np.linalg.svd(model)
    rank = int((values > _TOLERANCE * values[0]).sum())
    null = right[rank:]
    # The null directions along which the contrast moves.
    direction = np.abs(null.T @ (null @ vectors.T)).max(axis=1)
    n_blocks = model.shape[1] - len(design.columns)
    names = [f"{design.block_name} (block)"] * n_blocks + list(design.columns)
    involved = [
        name
        for name, weight in zip(names, direction, strict=True)
        if weight > 1e-6 and name != "Intercept"
    ]
    columns = ", ".join(dict.fromkeys(involved))
    return (
        f"{contrast.name} cannot be estimated over these {unit}: the columns {columns} are "
        "confounded. Drop one of them from the formula, or add samples that tell them apart."
    )

"""Relabellings: the exposure's rows moved among units that the null makes exchangeable.

The exposure is first residualised on the reduced model (Smith's method; Winkler et al. 2014), then
its rows are permuted within exchangeability blocks: whole samples keep their counts. Relabellings
that differ only in sign give the same regions and count as one.

Where few distinct relabellings exist the null is made of rotations (Langsrud 2005): unit vectors
that are orthogonal to the reduced model and to the exposure, drawn evenly, take the exposure's
place. They assume residuals alike in every direction, where relabellings assume units alike. As
they see nothing of the exposure no true region enters the null: with it among the directions, 2
against 2 found 27% of what its statistic could.
"""

from itertools import permutations
from math import factorial, perm, prod
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.design import Comparison
from melisma.differential._kernels import Floats
from melisma.errors import MelismaError

# Below this many distinct relabellings the null is made of rotations.
MIN_DISTINCT = 200
# Above this, two draws of several exposures are not the same but for the levels' names.
_MANY_UNITS = 60
_MANY_NAMINGS = 20_000


class Moves(NamedTuple):
    """The observed exposure and what takes its place under the null, by rows of unit length.

    kind : which null
    rows : (1 + drawn, units), the observed exposure first; rotations are orthogonal to it; of
        several coefficients (1 + drawn, k, units), the observed ones orthonormal
    anchor : (r + k, units) orthonormal: the reduced model, then the exposures; the reduced model's
        basis depends on the units' names, not on their order
    distinct : how many distinct relabellings exist, the observed one among them
    """

    kind: Literal["relabellings", "rotations"]
    rows: Floats
    anchor: Floats
    distinct: int

    @property
    def drawn(self) -> int:
        """How many stand for the null."""
        return len(self.rows) - 1


def draw_moves(comparison: Comparison, wanted: int, seed: int) -> Moves:
    """Relabellings, or rotations where fewer than 200 distinct relabellings exist."""
    distinct = count_distinct(comparison)
    own = residual_exposure(comparison)
    if distinct >= MIN_DISTINCT:
        drawn = draw_relabellings(comparison, min(wanted, distinct - 1), seed)
    else:
        drawn = draw_rotations(comparison, wanted, seed)
    return Moves(
        kind="relabellings" if distinct >= MIN_DISTINCT else "rotations",
        rows=np.vstack([own, drawn]),
        anchor=np.vstack([_named_basis(comparison), own]),
        distinct=distinct,
    )


def draw_moves_of_several(
    comparison: Comparison, wanted: int, seed: int, *, judged: bool = True
) -> Moves:
    """Relabellings of the rows of k exposures, or rotated frames where fewer than 200 are distinct.

    judged : whether regions are judged by them; else few relabellings will do

    Raises
    ------
    MelismaError
        Frames are wanted, and the residuals have too few dimensions for them.
    """
    distinct, k = count_spaces(comparison), comparison.k
    rotate = judged and distinct < MIN_DISTINCT
    if rotate and comparison.df_residual <= k:
        others = f"pairwise({comparison.contrast.column}) or " * bool(comparison.contrast.among)
        raise MelismaError(
            f"{comparison.contrast.name} is {k} coefficients at once, and {comparison.n_units} "
            f"{comparison.unit} allow {distinct} distinct relabellings and leave "
            f"{comparison.df_residual} residual degrees of freedom, where regions are judged by "
            f"{MIN_DISTINCT} or by {k + 1}: add samples, or ask for {others}one coefficient."
        )
    drawn = np.zeros((0, *comparison.exposures.shape))
    if not rotate:
        drawn, _ = draw_rows(comparison, min(wanted, distinct - 1), seed)
    rows = np.concatenate([comparison.exposures[None], drawn])
    lengths = np.linalg.norm(comparison.exposures, axis=0)
    products = (comparison.exposures / lengths).T @ (comparison.exposures / lengths)
    turn = np.linalg.inv(np.linalg.cholesky(products)).T / lengths[:, None]
    rows = np.ascontiguousarray(np.swapaxes(rows @ turn, 1, 2))
    anchor = np.vstack([_named_basis(comparison), rows[0]])
    if rotate:
        rows = np.concatenate([rows, draw_frames(comparison, rows[0], wanted, seed)])
    return Moves("rotations" if rotate else "relabellings", rows, anchor, distinct)


def draw_frames(comparison: Comparison, own: Floats, wanted: int, seed: int) -> Floats:
    """k orthonormal vectors orthogonal to the model and the exposures, (wanted, k, units), evenly
    drawn.

    own : (k, units) the exposures, orthonormal
    """
    rng = np.random.default_rng(seed)
    normal = np.empty((wanted, *own.shape))
    normal[:, :, _by_name(comparison)] = rng.standard_normal(normal.shape)
    for basis in (comparison.reduced.T, own):
        normal -= (normal @ basis.T) @ basis
    frames = np.linalg.qr(np.swapaxes(normal, 1, 2))[0]
    return np.ascontiguousarray(np.swapaxes(frames, 1, 2))


def draw_rows(comparison: Comparison, wanted: int, seed: int) -> tuple[Floats, int]:
    """Relabelled exposures of several coefficients, (relabellings, units, k), and how many exist.

    A unit keeps its row; rows are exchanged within exchangeability blocks. Labellings that only
    swap the names of levels span the same space and count once among the drawn.
    """
    rng = np.random.default_rng(seed)
    rows = comparison.exposures
    order = _by_name(comparison)
    members = [order[comparison.exchange[order] == b] for b in np.unique(comparison.exchange)]
    distinct = 1
    for inside in members:
        counts = np.unique(rows[inside].round(9), axis=0, return_counts=True)[1]
        distinct *= factorial(len(inside)) // prod(factorial(int(n)) for n in counts)
    seen = {_space(rows)}
    drawn: list[Floats] = []
    for _ in range(100 * wanted):
        if len(drawn) == wanted:
            break
        moved = rows.copy()
        for inside in members:
            moved[inside] = rows[rng.permutation(inside)]
        key = _space(moved)
        if key not in seen:
            seen.add(key)
            drawn.append(moved)
    return np.array(drawn).reshape(len(drawn), *rows.shape), distinct


def _space(rows: Floats) -> bytes:
    """The same bytes for columns that span the same space; of many units, for the same rows."""
    if len(rows) > _MANY_UNITS:
        return rows.tobytes()
    basis = np.linalg.qr(rows)[0]
    return (np.round(basis @ basis.T, 6) + 0.0).tobytes()


def count_spaces(comparison: Comparison) -> int:
    """How many relabellings of several exposures span distinct spaces, the observed one among them.

    Relabellings that span one space are each other's with the levels' names exchanged, which is a
    linear change of the rows; of very many levels' names the exchanges are not looked for.
    """
    _, total = draw_rows(comparison, 0, seed=0)
    rows = comparison.exposures / np.linalg.norm(comparison.exposures, axis=0)
    values, place = np.unique(rows.round(9), axis=0, return_inverse=True)
    if perm(len(values), comparison.k) > _MANY_NAMINGS:
        return total
    counts = np.zeros((len(values), comparison.exchange.max() + 1), dtype=np.int64)
    np.add.at(counts, (place.ravel(), comparison.exchange), 1)
    chosen: list[int] = []
    for row in range(len(values)):
        if np.linalg.matrix_rank(values[[*chosen, row]], tol=1e-6) > len(chosen):
            chosen.append(row)
    inverse = np.linalg.inv(values[chosen])
    namings = 0
    for image in permutations(range(len(values)), comparison.k):
        if (counts[list(image)] != counts[chosen]).any():
            continue
        moved = values @ (inverse @ values[list(image)])
        apart = np.abs(moved[:, None] - values[None]).max(axis=2)
        named = apart.argmin(axis=1)
        namings += bool(
            apart.min(axis=1).max() < 1e-6
            and len(set(named.tolist())) == len(values)
            and (counts[named] == counts).all()
        )
    return max(total // namings, 1)


def draw_rotations(comparison: Comparison, wanted: int, seed: int) -> Floats:
    """Unit vectors orthogonal to the model and the exposure, (wanted, units), evenly drawn."""
    rng = np.random.default_rng(seed)
    normal = np.empty((wanted, comparison.n_units))
    normal[:, _by_name(comparison)] = rng.standard_normal(normal.shape)
    own = residual_exposure(comparison)
    normal -= (normal @ comparison.reduced) @ comparison.reduced.T
    normal -= np.outer(normal @ own, own)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _by_name(comparison: Comparison) -> npt.NDArray[np.int64]:
    return np.argsort(np.array(comparison.names), kind="stable")


def _named_basis(comparison: Comparison) -> Floats:
    """The reduced model's basis, (r, units): its projector's columns, orthonormal by Gram-Schmidt
    in the order of the units' names."""
    projector = comparison.reduced @ comparison.reduced.T
    columns: list[Floats] = []
    for unit in _by_name(comparison):
        column = projector[:, unit].copy()
        for _ in range(2):
            for other in columns:
                column -= (other @ column) * other
        norm = np.linalg.norm(column)
        if norm > 1e-6 and len(columns) < comparison.reduced.shape[1]:
            columns.append(column / norm)
    return np.array(columns)


def residual_exposure(comparison: Comparison) -> Floats:
    """The exposure without the reduced model's span, of unit length, (units,)."""
    return comparison.exposure / np.linalg.norm(comparison.exposure)


def count_distinct(comparison: Comparison) -> int:
    """How many distinct relabellings exist, the observed one among them, mirror images as one."""
    values = np.round(residual_exposure(comparison), 9)
    total, symmetric = 1, True
    for block in np.unique(comparison.exchange):
        inside = values[comparison.exchange == block]
        _, counts = np.unique(inside, return_counts=True)
        total *= factorial(len(inside))
        for count in counts:
            total //= factorial(int(count))
        symmetric &= np.allclose(np.sort(-inside), np.sort(inside), atol=1e-8)
    return max(total // 2, 1) if symmetric else total


def draw_relabellings(comparison: Comparison, wanted: int, seed: int) -> Floats:
    """Up to `wanted` distinct relabelled exposures, (relabellings, units), without the observed."""
    rng = np.random.default_rng(seed)
    residual = residual_exposure(comparison)
    # In the order of the names, so that the draw does not depend on the samples' order.
    order = _by_name(comparison)
    members = sorted(
        (order[comparison.exchange[order] == block] for block in np.unique(comparison.exchange)),
        key=lambda inside: comparison.names[inside[0]],
    )
    seen = {_canonical(residual)}
    drawn: list[Floats] = []
    for _ in range(100 * wanted):
        if len(drawn) == wanted:
            break
        moved = residual.copy()
        for inside in members:
            moved[inside] = residual[rng.permutation(inside)]
        key = _canonical(moved)
        if key not in seen:
            seen.add(key)
            drawn.append(moved)
    return np.array(drawn).reshape(len(drawn), len(residual))


def _canonical(exposure: Floats) -> bytes:
    """The same bytes for an exposure and its mirror image."""
    rounded = np.round(exposure, 9) + 0.0
    first = rounded[np.argmax(rounded != 0)]
    return (rounded * (1.0 if first >= 0 else -1.0) + 0.0).tobytes()

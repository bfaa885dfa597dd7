"""The region search of several coefficients: lengths of score vectors as normal scores."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc, chdtri, gammaln, ndtr, ndtri_exp

from melisma.differential import _segments, _vectors
from melisma.differential._engine import Engine
from melisma.differential._kernels import Floats
from melisma.differential._relabel import Moves
from melisma.differential._stretches import Stretch

# Beyond this a chi-square's tail is by its asymptotic series: it underflows.
_FAR = 600.0


def normal_length(squares: Floats, k: int) -> Floats:
    """The size of a normal score as unlikely, on both sides, as a chi-square of k is above.

    >>> normal_length(np.array([1.0, 9.0, 7.8147]), 1).round(2).tolist()
    [1.0, 3.0, 2.8]
    >>> normal_length(np.array([7.8147]), 3).round(2).tolist()
    [1.96]
    """
    half, order = np.maximum(squares, _FAR) / 2, k / 2
    series = 1.0 + (order - 1) / half * (1.0 + (order - 2) / half)
    far = (order - 1) * np.log(half) - half - gammaln(order) + np.log(series)
    near = np.log(chdtrc(k, np.minimum(squares, _FAR)))
    return -ndtri_exp(np.where(squares > _FAR, far, near) - np.log(2.0))


def cut_of(threshold: float, k: int) -> float:
    """The chi-square of k as unlikely as a normal score beyond +- threshold."""
    return float(chdtri(k, 2.0 * ndtr(-threshold)))


def moved_vectors(
    engine: Engine, stretch: Stretch, moves: Moves, keep: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """z and root of `_vectors.moved_vectors` for the moves' rows (b, k, units)."""
    learned = (
        engine.dispersion.knots, engine.dispersion.rho, engine.prior.df, engine.prior.scale,
        engine.limits, keep,
    )  # fmt: skip
    counts, groups = (stretch.methylated, stretch.coverage), (engine.group, engine.n_groups)
    rows = moves.rows if moves.kind == "relabellings" else moves.rows[:1]
    z, root = _vectors.moved_vectors(*counts, engine.comparison.reduced, *groups, rows, *learned)
    if moves.kind == "relabellings" or len(moves.rows) == 1:
        return z, root
    frames = np.ascontiguousarray(moves.rows)
    turned, turned_root = _vectors.rotated_vectors(*counts, moves.anchor, *groups, frames, *learned)
    turned[:, 0, :, 0], turned_root[0, :, 0] = z[:, 0, :, 0], root[0, :, 0]
    return turned, turned_root


def learning_scores(
    engine: Engine, stretch: Stretch, moves: Moves, keep: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], Floats, Floats]:
    """Which sites are tested, the null's mean squares a direction, and observed normal scores."""
    z, root = moved_vectors(engine, stretch, moves, keep)
    used = keep & (root[0, :, 0] > 0)
    k, _, sites, _ = z.shape
    squares = (z.astype(np.float64) ** 2).sum(axis=0).transpose(0, 2, 1).reshape(-1, sites)
    squares = squares[: len(moves.rows), used]
    # Without a relabelling the scores are taken as they are.
    null = squares[1:].mean(axis=0) / k if len(moves.rows) > 1 else np.ones(squares.shape[1])
    return used, null, normal_length(squares[0], k)


def find_in_lot(
    engine: Engine,
    stretch: Stretch,
    moves: Moves,
    keep: npt.NDArray[np.bool_],
    along: tuple[Floats, Floats, Floats, Floats],
    settings: tuple[float, float, int, int],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]]:
    """start, end and statistic of every row's candidates, a row after the other.

    Parameters
    ----------
    along : scale, shared, weight and decay of each site
    settings : half width, threshold, largest gap and fewest sites
    """
    scale, shared, weight, decay = along
    half_width, threshold, max_gap, min_sites = settings
    z, root = moved_vectors(engine, stretch, moves, keep)
    z /= scale[None, None, :, None]
    k, blocks, sites, lanes = z.shape
    smooth = _segments.smooth_scores(
        z.reshape(k * blocks, sites, lanes), stretch.position, weight, half_width, shared, decay
    ).reshape(z.shape)
    for r in range(len(moves.rows)):
        block, lane = divmod(r, lanes)
        start, end, squares = _vectors.find_vector_segments(
            z[:, block, :, lane], root[block, :, lane], smooth[:, block, :, lane],
            stretch.position, keep, shared, decay, cut_of(threshold, k), max_gap, min_sites,
        )  # fmt: skip
        yield start, end, normal_length(squares, k)

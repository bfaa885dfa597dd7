"""The region search over a methylome: standardised scores, candidates, their levels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma import progress
from melisma.differential import _levels, _scores, _segments, _vector_search
from melisma.differential._engine import Engine, can_test
from melisma.differential._kernels import Floats
from melisma.differential._relabel import Moves
from melisma.differential._stretches import Stretch, map_stretches

# Sites that teach the strata's scales and the autocorrelation.
_LEARNING_SITES = 200_000
_LEARNING_MOVES = 20
# Labellings that are searched at once: the reduced model is fitted anew for each such lot.
_LOT = 8 * _scores.LANES
LEVELS = np.array([0.1, 0.3, 0.7, 0.9])
_STRATA = 15
_FEW_PAIRS = 2000.0
_DISTANCES = np.array([1, 10, 25, 50, 100, 200, 400, 800, 1600, 3200])


@dataclass(frozen=True)
class Search:
    """Settings of the region search.

    half_width : tricube kernel's half width, bases
    threshold : on the absolute smoothed score, in standard deviations
    max_gap : bases without a tested site that end a region
    min_sites : tested sites in a region
    """

    half_width: float = 250.0
    threshold: float = 2.0
    max_gap: int = 300
    min_sites: int = 3


class Null(NamedTuple):
    """How scores behave without an effect, by stratum of level and coverage, (strata,).

    scale : root mean square
    shared : the scores of two sites d apart correlate by shared_i * shared_k * exp(-d / length)
    scores : the observed normal scores of the sites it was learned from
    """

    coverage_edges: Floats
    scale: Floats
    shared: Floats
    length: float
    scores: Floats


class Candidates(NamedTuple):
    """Candidate regions of every labelling: site indices [start, end) and the statistic, signed
    where one coefficient is asked about."""

    labelling: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    statistic: Floats


class Levelled(NamedTuple):
    """M and N of the units over each observed region, (regions, units), sites levelled first."""

    methylated: Floats
    coverage: Floats


def learn_null(methylome: xr.Dataset, engine: Engine, moves: Moves) -> Null:
    """Scales of the null's scores by level and coverage, and the residuals' autocorrelation."""
    learned = moves._replace(rows=moves.rows[: 1 + _LEARNING_MOVES])
    every = max(1, methylome.sizes["site"] // _LEARNING_SITES)
    reads = map_stretches(methylome, engine, lambda s: s.coverage.sum(axis=1), every=every)
    edges = np.quantile(np.concatenate([part[part > 0] for part in reads]), [1 / 3, 2 / 3])

    def learn(stretch: Stretch) -> tuple[Any, ...]:
        fit = engine.fit(stretch.methylated, stretch.coverage)
        keep = can_test(fit)
        if engine.comparison.k > 1:
            used, squares, scores = _vector_search.learning_scores(engine, stretch, learned, keep)
        else:
            z, root = moved(engine, stretch, learned, keep)
            used = keep & (root[0, :, 0] > 0)
            squares = (lanes(z, len(learned.rows))[1:, used].astype(np.float64) ** 2).mean(axis=0)
            scores = z[0, used, 0]
        residual = engine.residuals(stretch.methylated, stretch.coverage, keep)
        strata = strata_of(stretch, edges)
        pairs = _segments.residual_correlation(
            residual, stretch.position, strata, _STRATA, _DISTANCES, 8
        )
        return squares, strata[used], scores, *pairs

    parts = list(map_stretches(methylome, engine, learn, every=every))
    squares, where, scores = (np.concatenate([part[k] for part in parts]) for k in range(3))
    sums, pairs = (np.sum([part[k] for part in parts], axis=0) for k in (3, 4))
    return Null(edges, _strata_scales(squares, where), *_fit_correlation(sums, pairs), scores)


def strata_of(stretch: Stretch, coverage_edges: Floats) -> npt.NDArray[np.int64]:
    """The stratum of each site's level and coverage."""
    reads = stretch.coverage.sum(axis=1)
    level = stretch.methylated.sum(axis=1) / np.maximum(reads, 1)
    return np.searchsorted(LEVELS, level) * 3 + np.searchsorted(coverage_edges, reads)


def moved(
    engine: Engine, stretch: Stretch, moves: Moves, keep: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """z and root of `_scores.moved_scores` for the moves' rows."""
    return _scores.moved_scores(
        stretch.methylated, stretch.coverage, moves.anchor, engine.group, engine.n_groups,
        moves.rows, moves.kind == "rotations", engine.dispersion.knots, engine.dispersion.rho,
        engine.prior.df, engine.prior.scale, engine.limits, keep,
    )  # fmt: skip


def lanes(values: Floats, labellings: int) -> Floats:
    """(blocks, sites, lanes) as (labellings, sites)."""
    return values.transpose(0, 2, 1).reshape(-1, values.shape[1])[:labellings]


def _strata_scales(squares: Floats, stratum: npt.NDArray[np.int64]) -> Floats:
    """Root mean square score in each stratum, shrunk to 1 where sites lack."""
    count = np.bincount(stratum, minlength=_STRATA)
    total = np.bincount(stratum, weights=squares, minlength=_STRATA)
    # 50 sites' worth of unit variance keeps a stratum of few sites near 1.
    return np.sqrt((total + 50.0) / (count + 50.0))


def _fit_correlation(sums: Floats, pairs: Floats) -> tuple[Floats, float]:
    """shared, a stratum, and length of shared^2 * exp(-d / length) by least squares.

    sums, pairs : (strata, distances)
    """
    weight = np.where(pairs > 100, pairs, 0.0)
    if not weight.any():
        return np.zeros(len(sums)), 1.0
    middle = np.sqrt(_DISTANCES[:-1] * _DISTANCES[1:])
    observed = sums / np.maximum(pairs, 1.0)
    # A stratum of few pairs is drawn to what all strata have together.
    whole = (weight * observed).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0)
    weight = np.vstack([weight, weight.sum(axis=0)])
    observed = np.vstack([observed, whole])
    best = (np.inf, np.zeros(len(sums)), 1.0)
    for length in np.geomspace(50, 20_000, 60):
        shape = np.exp(-middle / length)
        top, norm = (weight * shape * observed).sum(axis=1), (weight * shape**2).sum(axis=1)
        common = top[-1] / norm[-1]
        ceiling = (top + _FEW_PAIRS * common) / (norm + _FEW_PAIRS)
        ceiling = np.clip(ceiling[:-1], 0.0, 0.95)
        left = observed[:-1] - ceiling[:, None] * shape
        loss = float((weight[:-1] * left**2).sum())
        if loss < best[0]:
            best = (loss, np.sqrt(ceiling), float(length))
    return best[1], best[2]


def search_regions(
    methylome: xr.Dataset, engine: Engine, moves: Moves, null: Null, search: Search
) -> tuple[Candidates, Levelled]:
    """Candidates of every labelling (0 is the observed one), and the observed ones' levels."""
    empty = np.zeros(0, dtype=np.int64)
    nothing = np.zeros((0, engine.comparison.n_units))
    found = [Candidates(empty, empty, empty, np.zeros(0))]
    levelled = [Levelled(nothing, nothing)]

    def work(stretch: Stretch) -> tuple[list[Candidates], Levelled, int]:
        candidates = _search_stretch(stretch, engine, moves, null, search)
        own = [part for part in candidates if part.labelling[0] == 0]
        start, end = (
            np.concatenate([empty, *(part[k] - stretch.first for part in own)]) for k in (1, 2)
        )
        levels = levels_of(stretch, start, end, engine)
        return candidates, levels, len(stretch.position)

    with progress.stage("Searching regions", methylome.sizes["site"]) as advance:
        for candidates, levels, sites in map_stretches(methylome, engine, work):
            found.extend(candidates)
            levelled.append(levels)
            advance(sites)
    return (
        Candidates(*(np.concatenate(column) for column in zip(*found, strict=True))),
        Levelled(*(np.concatenate(column) for column in zip(*levelled, strict=True))),
    )


def levels_of(
    stretch: Stretch, start: npt.NDArray[np.int64], end: npt.NDArray[np.int64], engine: Engine
) -> Levelled:
    """Levels of the units over regions [start, end) of a stretch."""
    side = engine.comparison.side
    sides = np.zeros(engine.comparison.n_units, np.int8) if side is None else side
    return Levelled(*_levels.region_levels(stretch.methylated, stretch.coverage, sides, start, end))


def _search_stretch(
    stretch: Stretch, engine: Engine, moves: Moves, null: Null, search: Search
) -> list[Candidates]:
    keep = can_test(engine.fit(stretch.methylated, stretch.coverage))
    if not keep.any():
        return []
    reads = stretch.coverage.sum(axis=1)
    strata = strata_of(stretch, null.coverage_edges)
    scale, shared = null.scale[strata].astype(np.float32), null.shared[strata]
    weight = np.where(keep, np.sqrt(reads), 0.0)
    decay = _segments.decays(stretch.position, null.length)
    along = scale, shared, weight, decay
    settings = search.half_width, search.threshold, search.max_gap, search.min_sites
    found = []
    for first in range(0, len(moves.rows), _LOT):
        # The observed exposure is a lot's first row: the sites' directions follow it.
        rows = np.concatenate([moves.rows[:1], moves.rows[max(first, 1) : first + _LOT]])
        lot = moves._replace(rows=rows)
        if engine.comparison.k > 1:
            regions = _vector_search.find_in_lot(engine, stretch, lot, keep, along, settings)
        else:
            regions = _find_in_lot(engine, stretch, lot, keep, along, settings)
        for r, (start, end, statistic) in enumerate(regions):
            if len(start) and (r or not first):
                labelling = np.full(len(start), r + max(first - 1, 0))
                found.append(
                    Candidates(labelling, start + stretch.first, end + stretch.first, statistic)
                )
    return found


def _find_in_lot(
    engine: Engine,
    stretch: Stretch,
    moves: Moves,
    keep: npt.NDArray[np.bool_],
    along: tuple[Floats, Floats, Floats, Floats],
    settings: tuple[float, float, int, int],
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]]:
    """As `_vector_search.find_in_lot`, with signed scores of one coefficient."""
    scale, shared, weight, decay = along
    half_width, *rules = settings
    z, root = moved(engine, stretch, moves, keep)
    z /= scale[None, :, None]
    smooth = _segments.smooth_scores(z, stretch.position, weight, half_width, shared, decay)
    for r in range(len(moves.rows)):
        block, lane = divmod(r, _scores.LANES)
        yield _segments.find_segments(
            z[block, :, lane], root[block, :, lane], smooth[block, :, lane], stretch.position,
            keep, shared, decay, *rules,
        )  # fmt: skip

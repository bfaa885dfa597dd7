"""The region search over a methylome: stretches, standardised scores, candidates."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma import progress
from melisma.differential import _segments
from melisma.differential._engine import Engine, can_test
from melisma.differential._kernels import Floats
from melisma.methylome import blocks, contig_offsets

# A stretch of about this many sites is searched at once, cut at the widest gap near its end.
_STRETCH = 32_768
_CUT_WITHIN = 4_096
# Sites that teach the strata's scales and the autocorrelation.
_LEARNING_SITES = 200_000
_LEARNING_LABELLINGS = 20
_LEVELS = np.array([0.1, 0.3, 0.7, 0.9])
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
    """How scores behave without an effect: strata's scales and their correlation in space."""

    coverage_edges: Floats
    scale: Floats
    ceiling: float
    length: float


class Candidates(NamedTuple):
    """Candidate regions of one labelling: site indices [start, end) and the signed statistic."""

    labelling: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    statistic: Floats


class Stretch(NamedTuple):
    """Counts of the units over neighbouring sites of one contig."""

    first: int
    position: npt.NDArray[np.int64]
    methylated: Floats
    coverage: Floats


def stretches(methylome: xr.Dataset, engine: Engine) -> Iterator[Stretch]:
    """Walk the methylome in stretches that end at contigs' ends and wide gaps."""
    offsets = contig_offsets(methylome["contig"].values, len(methylome.attrs["contigs"]))
    for begin, stop in pairwise(offsets):
        start = begin
        while start < stop:
            end = min(start + _STRETCH, stop)
            if end < stop:
                look = methylome["position"][end - _CUT_WITHIN : end + 1].values
                end = end - _CUT_WITHIN + 1 + int(np.argmax(np.diff(look)))
            part = methylome.isel(site=slice(start, end))
            for block in blocks(part, end - start):
                counts = engine.pool(block.methylated, block.coverage)
                yield Stretch(start, block.position.astype(np.int64), *counts)
            start = end


def learn_null(methylome: xr.Dataset, engine: Engine, exposures: Floats) -> Null:
    """Scales of the relabelled scores by level and coverage, and the residuals' autocorrelation."""
    scores, strata_level, strata_reads = [], [], []
    sums, pairs = np.zeros(len(_DISTANCES) - 1), np.zeros(len(_DISTANCES) - 1)
    sites = methylome.sizes["site"]
    every = max(1, sites // _LEARNING_SITES)
    for k, stretch in enumerate(stretches(methylome, engine)):
        if k % every:
            continue
        fit = engine.fit(stretch.methylated, stretch.coverage)
        keep = can_test(fit)
        z, _ = engine.relabelled(
            stretch.methylated, stretch.coverage, exposures[:_LEARNING_LABELLINGS], keep
        )
        used = np.isfinite(z).all(axis=0)
        scores.append((z[:, used].astype(np.float64) ** 2).mean(axis=0))
        strata_level.append(fit.level[used])
        strata_reads.append(stretch.coverage.sum(axis=1)[used])
        residual = engine.residuals(stretch.methylated, stretch.coverage, keep)
        more = _segments.residual_correlation(residual, stretch.position, _DISTANCES, 8)
        sums += more[0]
        pairs += more[1]
    level, reads = np.concatenate(strata_level), np.concatenate(strata_reads)
    edges = np.quantile(reads, [1 / 3, 2 / 3])
    scale = _strata_scales(np.concatenate(scores), level, reads, edges)
    return Null(edges, scale, *_fit_correlation(sums, pairs))


def _strata_scales(squares: Floats, level: Floats, reads: Floats, edges: Floats) -> Floats:
    """Root mean square score in each stratum, (levels, coverages), shrunk to 1 where sites lack."""
    where = np.searchsorted(_LEVELS, level) * 3 + np.searchsorted(edges, reads)
    count = np.bincount(where, minlength=15)
    total = np.bincount(where, weights=squares, minlength=15)
    # 50 sites' worth of unit variance keeps a stratum of few sites near 1.
    return np.sqrt((total + 50.0) / (count + 50.0)).reshape(5, 3)


def _fit_correlation(sums: Floats, pairs: Floats) -> tuple[float, float]:
    """ceiling and length of ceiling * exp(-d / length), least squares over distance bins."""
    used = pairs > 100
    if not used.any():
        return 0.0, 1.0
    middle = np.sqrt(_DISTANCES[:-1] * _DISTANCES[1:])[used]
    observed, weight = (sums[used] / pairs[used]), np.sqrt(pairs[used])
    best = (np.inf, 0.0, 1.0)
    for length in np.geomspace(50, 20_000, 60):
        shape = np.exp(-middle / length)
        ceiling = (weight * shape * observed).sum() / (weight * shape**2).sum()
        ceiling = float(np.clip(ceiling, 0.0, 0.95))
        loss = float((weight * (observed - ceiling * shape) ** 2).sum())
        if loss < best[0]:
            best = (loss, ceiling, float(length))
    return best[1], best[2]


def search_regions(
    methylome: xr.Dataset, engine: Engine, exposures: Floats, null: Null, search: Search
) -> Candidates:
    """Candidates of every labelling; labelling 0 is the observed one.

    Parameters
    ----------
    exposures : (labellings, units)
    """
    found: list[list[npt.NDArray[Any]]] = []
    with progress.stage("Searching regions", methylome.sizes["site"]) as advance:
        for stretch in stretches(methylome, engine):
            found.extend(_search_stretch(stretch, engine, exposures, null, search))
            advance(len(stretch.position))
    if not found:
        empty = np.zeros(0, dtype=np.int64)
        return Candidates(empty, empty, empty, np.zeros(0))
    return Candidates(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _search_stretch(
    stretch: Stretch, engine: Engine, exposures: Floats, null: Null, search: Search
) -> Iterator[list[npt.NDArray[Any]]]:
    keep = can_test(engine.fit(stretch.methylated, stretch.coverage))
    if not keep.any():
        return
    z, root = engine.relabelled(stretch.methylated, stretch.coverage, exposures, keep)
    reads = stretch.coverage.sum(axis=1)
    level = stretch.methylated.sum(axis=1) / np.maximum(reads, 1)
    strata = (np.searchsorted(_LEVELS, level), np.searchsorted(null.coverage_edges, reads))
    z = np.nan_to_num(z / null.scale[strata].astype(np.float32))
    weight = np.where(keep, np.sqrt(reads), 0.0)
    sites = len(reads)
    first, last = np.zeros(sites, np.int64), np.zeros(sites, np.int64)
    norm = np.zeros(sites)
    _segments.kernel_weights(
        stretch.position, weight, search.half_width, null.ceiling, null.length, first, last, norm
    )
    for r in range(len(exposures)):
        start, end, statistic = _segments.find_segments(
            z[r], root[r], stretch.position, weight, search.half_width, first, last, norm,
            null.ceiling, null.length, search.threshold, search.max_gap, search.min_sites,
        )  # fmt: skip
        if len(start):
            yield [
                np.full(len(start), r),
                start + stretch.first,
                end + stretch.first,
                statistic,
            ]

"""Regions without replicates: the variance comes from reads and neighbouring sites.

Two levels of a factor, the samples of each put together. Under the null a site's reads are
exchanged between them, which keeps its coverage and its level; what varies beyond that is one
dispersion, from the differences of neighbouring sites. How samples of one level differ from each
other along whole stretches cannot be known, and every result says so.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma import progress
from melisma._plural import count
from melisma.design import Contrast, Design
from melisma.differential import _levels, _scores, _segments
from melisma.differential._effects import Effects
from melisma.differential._engine import MIN_MINOR_READS
from melisma.differential._kernels import Floats
from melisma.differential._search import Candidates, Levelled, Search
from melisma.differential._shift import Shift, make_shift
from melisma.differential._stretches import Stretch, map_spans, spans_of
from melisma.errors import MelismaError

# A dispersion needs this many sites with a neighbour within the kernel.
_ENOUGH = 100
_LEARNING_STRETCHES = 12
# The median of a chi-square of one degree of freedom.
_MEDIAN = 0.4549
_SIDES = np.array([1, -1], dtype=np.int8)


class Sides(NamedTuple):
    """Which samples are of the contrast's higher and lower level."""

    high: npt.NDArray[np.int64]
    low: npt.NDArray[np.int64]

    def pool(self, stretch: Stretch) -> Stretch:
        """The two levels' summed counts, (sites, 2), the higher first."""
        return stretch._replace(
            methylated=_summed(stretch.methylated, self),
            coverage=_summed(stretch.coverage, self),
        )


def _summed(counts: Floats, sides: Sides) -> Floats:
    return np.stack([counts[:, rows].sum(axis=1, dtype=np.float64) for rows in sides], axis=1)


def sides_of(design: Design, contrast: Contrast) -> Sides:
    """The samples of a contrast's two levels.

    Raises
    ------
    MelismaError
        The contrast is a coefficient.
    """
    if contrast.levels is None:
        raise MelismaError(
            f"{contrast.name} is a coefficient, and without replicates only two levels of a factor "
            "can be compared."
        )
    words = np.array([str(value) for value in design.sheet[contrast.column]])
    return Sides(*(np.flatnonzero(words == level) for level in contrast.levels))


class Learned(NamedTuple):
    """What the counts say in all: dispersion, the sides' weighted levels, the genome's shift."""

    dispersion: float
    levels: tuple[float, float]
    shift: Shift


def note(contrast: Contrast, sides: Sides, learned: Learned) -> str:
    """What every output of a search without replicates says."""
    high, low = learned.levels
    return (
        f"Without replicates: {count(len(sides.high), 'sample')} against {len(sides.low)}, "
        f"weighted levels {high:.3f} and {low:.3f}; {contrast.name} cannot be told from the "
        "difference of any two samples. Variation is that of reads and neighbouring sites "
        f"(dispersion {learned.dispersion:.2f}): treat regions as leads, not findings."
    )


def learn(methylome: xr.Dataset, sides: Sides, search: Search) -> Learned:
    """Dispersion, levels and shift from evenly spaced stretches.

    The dispersion is the variance of sites' differences about their neighbours', over the
    binomial, by the median of squares, which true regions and their edges move little; at least 1.
    """
    cuts = spans_of(methylome)
    cuts = cuts[:: max(1, len(cuts) // _LEARNING_STRETCHES)]

    def work(stretch: Stretch, _: int) -> tuple[Floats, ...]:
        stretch = sides.pool(stretch)
        delta, variance, keep = _differences(stretch.methylated, stretch.coverage)
        squares = _segments.neighbour_squares(
            delta[keep], variance[keep], stretch.position[keep], search.half_width
        )
        sums = np.stack([stretch.methylated.sum(axis=0), stretch.coverage.sum(axis=0)])
        reads = stretch.coverage[keep].sum(axis=1)
        level = stretch.methylated[keep].sum(axis=1) / reads
        return squares, delta[keep], variance[keep], level, sums[None]

    parts = list(map_spans(methylome, None, work, cuts))
    squares, delta, variance, level, sums = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    if not len(delta):
        raise MelismaError(
            "No site can be compared: none has at least 5 methylated and 5 unmethylated reads and "
            "coverage on both sides."
        )
    dispersion = 1.0
    if len(squares) >= _ENOUGH:
        dispersion = max(float(np.median(squares)) / _MEDIAN, 1.0)
    marked, reads = sums.sum(axis=0)
    shift = make_shift(delta / np.sqrt(variance * dispersion), delta, level)
    high, low = marked / np.maximum(reads, 1.0)
    return Learned(dispersion, (float(high), float(low)), shift)


def effects(levelled: Levelled, dispersion: float) -> Effects:
    """Differences of regions' levels, with reads of which the dispersion is already taken."""
    reads = np.maximum(levelled.coverage, 1e-9)
    level = levelled.methylated / reads
    reads = reads / dispersion
    variance = (level * (1.0 - level) / reads).sum(axis=1)
    nothing = np.zeros(len(level))
    return Effects(
        level[:, 0] - level[:, 1], level[:, 0], level[:, 1], reads[:, 0], reads[:, 1], variance,
        nothing, nothing.astype(np.int32),
    )  # fmt: skip


def _differences(
    methylated: Floats, coverage: Floats
) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
    """Difference of levels, its binomial variance at the common level, and which sites count."""
    reads, marked = coverage.sum(axis=1), methylated.sum(axis=1)
    keep = (np.minimum(marked, reads - marked) >= MIN_MINOR_READS) & (coverage > 0).all(axis=1)
    n = np.where(keep[:, None], coverage, 1.0)
    level = np.where(keep, marked / np.maximum(reads, 1.0), 0.5)
    delta = np.where(keep, methylated[:, 0] / n[:, 0] - methylated[:, 1] / n[:, 1], 0.0)
    # Reads are exchanged without replacement.
    finite = np.where(keep, reads / np.maximum(reads - 1.0, 1.0), 1.0)
    return delta, level * (1.0 - level) * (1.0 / n).sum(axis=1) * finite, keep


def search_without_replicates(
    methylome: xr.Dataset, sides: Sides, dispersion: float, draws: int, seed: int, search: Search
) -> tuple[Candidates, Levelled]:
    """Candidates of the observed counts (labelling 0) and of counts with exchanged reads."""
    empty = np.zeros(0, dtype=np.int64)
    found = [Candidates(empty, empty, empty, np.zeros(0))]
    levelled = [Levelled(np.zeros((0, 2)), np.zeros((0, 2)))]

    def work(stretch: Stretch, _: int) -> tuple[list[Candidates], Levelled, int]:
        stretch = sides.pool(stretch)
        candidates = _search_stretch(stretch, dispersion, draws, seed, search)
        own = [part for part in candidates if part.labelling[0] == 0]
        start, end = (
            np.concatenate([empty, *(part[k] - stretch.first for part in own)]) for k in (1, 2)
        )
        levels = Levelled(
            *_levels.region_levels(stretch.methylated, stretch.coverage, _SIDES, start, end)
        )
        return candidates, levels, len(stretch.position)

    with progress.stage("Searching regions", methylome.sizes["site"]) as advance:
        for candidates, levels, sites in map_spans(methylome, None, work, spans_of(methylome)):
            found.extend(candidates)
            levelled.append(levels)
            advance(sites)
    return (
        Candidates(*(np.concatenate(column) for column in zip(*found, strict=True))),
        Levelled(*(np.concatenate(column) for column in zip(*levelled, strict=True))),
    )


def _search_stretch(
    stretch: Stretch, dispersion: float, draws: int, seed: int, search: Search
) -> list[Candidates]:
    delta, variance, keep = _differences(stretch.methylated, stretch.coverage)
    if not keep.any():
        return []
    sites = len(keep)
    lots = -(-(1 + draws) // _scores.LANES)
    score = np.zeros((lots, sites, _scores.LANES), dtype=np.float32)
    score[0, :, 0] = delta / np.sqrt(variance * dispersion)
    score[0, ~keep, 0] = 0.0
    # A stretch's draws do not depend on the other stretches.
    rng = np.random.default_rng([seed, stretch.first])
    n = stretch.coverage[keep].astype(np.int64)
    marked = stretch.methylated[keep].sum(axis=1).astype(np.int64)
    for r in range(1, 1 + draws):
        high = rng.hypergeometric(marked, n.sum(axis=1) - marked, n[:, 0])
        moved = high / n[:, 0] - (marked - high) / n[:, 1]
        score[r // _scores.LANES, keep, r % _scores.LANES] = moved / np.sqrt(variance[keep])
    root = np.where(keep, 1.0 / np.sqrt(np.where(keep, variance, 1.0)), 0.0).astype(np.float32)
    weight = np.where(keep, np.sqrt(stretch.coverage.sum(axis=1)), 0.0)
    none = np.zeros(sites)
    smooth = _segments.smooth_scores(score, stretch.position, weight, search.half_width, none, none)
    found = []
    for r in range(1 + draws):
        lot, lane = divmod(r, _scores.LANES)
        start, end, statistic = _segments.find_segments(
            score[lot, :, lane], root, smooth[lot, :, lane], stretch.position, keep, none, none,
            search.threshold, search.max_gap, search.min_sites,
        )  # fmt: skip
        if len(start):
            first = stretch.first
            found.append(Candidates(np.full(len(start), r), start + first, end + first, statistic))
    return found

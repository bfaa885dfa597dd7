"""One library twice: samples whose reads, not only whose genotype, are the same.

Two libraries of one person differ at least as much as independent reads must: with m of n and m'
of n' reads of one level p, the expected squared difference of levels is p (1 - p) (1/n + 1/n').
Any true difference adds to it. Samples that differ less have reads in common: a file under two
names has none of it, half of a library against all of it a third.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from melisma.quality._pair_kernels import read_differences
from melisma.quality._pool import Pool, site_hash
from melisma.quality._relations import in_threads
from melisma.quality._walk import Floats, Stretch

COPY, SHARED = "the same calls", "reads in common"
# Comparing every two of n samples takes n^2 steps a site.
_SITES, _CELLS = (1000, 4000), 1_500_000
# Equal counts are a surprise from so many reads, and proof at so many sites.
_LEAST_READS, _LEAST_SITES = 5, 50
_EQUAL = 0.95
# Levels with so many values of their own are not equal by rounding.
_LEAST_LEVELS = 50
# Far below 1, by so many standard errors; smoothed or scaled counts make every pair look so.
_MOST_DIFFERENCE, _ERRORS = 0.6, 6.0
_LEAST_TYPICAL = 0.8


@dataclass(frozen=True)
class Copy:
    """Two samples with calls or reads in common.

    kind : `COPY` or `SHARED`
    equal : share of sites whose calls are equal
    difference : variance between the two over the least that independent reads give; NaN for betas
    """

    first: int
    second: int
    kind: str
    equal: float
    difference: float


class CopyPool:
    """A bounded random choice of sites with all samples' counts or levels."""

    def __init__(self, n_samples: int) -> None:
        self._limit = min(max(_CELLS // max(n_samples, 1), _SITES[0]), _SITES[1])
        self._pool = Pool(self._limit)

    def add(self, stretch: Stretch) -> None:
        """Offer one stretch of sites."""
        rows: dict[str, npt.NDArray[np.generic]] = {"level": stretch.level}
        if stretch.methylated is not None and stretch.coverage is not None:
            rows = {"methylated": stretch.methylated, "coverage": stretch.coverage}
        tie = site_hash(stretch, seed=1)
        self._pool.add(np.zeros(len(tie)), tie, rows, np.ones(len(tie), dtype=bool))

    def find(self) -> tuple[Copy, ...]:
        """The pairs of samples with calls or reads in common, in order."""
        rows = self._pool.rows()
        if "coverage" in rows:
            return _by_reads(rows["methylated"], rows["coverage"])
        return _by_levels(rows["level"]) if "level" in rows else ()


def _by_reads(methylated: npt.NDArray[np.generic], coverage: npt.NDArray[np.generic]):
    m, n = (np.ascontiguousarray(values.T, dtype=np.int64) for values in (methylated, coverage))
    out = np.zeros((len(n), len(n), 5))
    in_threads(read_differences, m, n, _LEAST_READS, outputs=(out,))
    first, second = np.triu_indices(len(n), 1)
    sites, same, observed, expected, square = out[first, second].T
    equal = same / np.maximum(sites, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference, error = observed / expected, np.sqrt(square) / expected
    copied = (sites >= _LEAST_SITES) & (equal >= _EQUAL)
    shared = (expected > 0) & (difference < _MOST_DIFFERENCE) & (sites >= _LEAST_SITES)
    shared &= 1 - difference > _ERRORS * error
    # Of two samples only, or where all pairs are as close, the counts may not be reads at all.
    usual = difference[(expected > 0) & ~copied]
    if len(usual) < 3 or np.median(usual) < _LEAST_TYPICAL:
        shared[:] = False
    return _listed(first, second, copied, shared, equal, difference)


def _by_levels(level: Floats) -> tuple[Copy, ...]:
    n_samples = level.shape[1]
    first, second = np.triu_indices(n_samples, 1)
    equal = np.zeros(len(first))
    for a in range(n_samples):
        own = level[:, a]
        seen = np.isfinite(own)
        if len(np.unique(own[seen])) < _LEAST_LEVELS:
            continue
        both = np.isfinite(level[seen]).sum(0)
        same = (level[seen] == own[seen, None]).sum(0) / np.maximum(both, 1)
        same[both < _LEAST_SITES] = 0
        equal[first == a] = same[a + 1 :]
    nothing = np.zeros(len(equal), dtype=bool)
    return _listed(first, second, equal >= _EQUAL, nothing, equal, np.full(len(equal), np.nan))


def _listed(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    copied: npt.NDArray[np.bool_],
    shared: npt.NDArray[np.bool_],
    equal: Floats,
    difference: Floats,
) -> tuple[Copy, ...]:
    return tuple(
        Copy(
            int(first[k]),
            int(second[k]),
            COPY if copied[k] else SHARED,
            float(equal[k]),
            float(difference[k]),
        )
        for k in np.flatnonzero(copied | shared)
    )

"""How the samples resemble each other: principal components and correlation of levels.

Both need all samples at the same sites, so they use a bounded subset of well-covered sites,
chosen by a hash of each site's place: the same subset whatever the chunks.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.quality._pool import Pool, site_hash
from melisma.quality._walk import Floats, Stretch

# 20 million levels of four bytes are 80 MB.
MATRIX_CELLS = 20_000_000
# A site counts as covered in a sample from this many reads; the first tier is used up first.
_TIER_READS = (10, 5, 1)
_SHARE_COVERED = 0.75
# Fewer shared sites than this say nothing about a correlation.
_SITES_TO_CORRELATE = 10
_ROWS = 4096


class SiteSubset:
    """The best covered sites seen so far, at most `sites` of them, hash order within a tier."""

    def __init__(self, n_samples: int, sites: int, seed: int) -> None:
        self._pool = Pool(max(1, min(sites, MATRIX_CELLS // max(n_samples, 1))))
        self._seed = seed

    def add(self, stretch: Stretch) -> None:
        """Offer one stretch of sites."""
        tier = _tier(stretch)
        tie = site_hash(stretch, self._seed)
        self._pool.add(tier, tie, {"level": stretch.level}, tier < len(_TIER_READS))

    def levels(self) -> npt.NDArray[np.float32]:
        """The kept levels, (sites, samples), NaN missing, in an order no chunk decides."""
        return self._pool.rows()["level"]


def _tier(stretch: Stretch) -> npt.NDArray[np.int64]:
    """0, 1, 2: enough samples are covered by 10, 5, 1 reads; 3: they are not."""
    tier = np.full(len(stretch.level), len(_TIER_READS))
    if stretch.coverage is None:
        tier[np.isfinite(stretch.level).mean(1) >= _SHARE_COVERED] = 0
        return tier
    for rank in range(len(_TIER_READS) - 1, -1, -1):
        tier[(stretch.coverage >= _TIER_READS[rank]).mean(1) >= _SHARE_COVERED] = rank
    return tier


def principal_components(levels: npt.NDArray[np.float32]) -> tuple[Floats, Floats]:
    """The directions in which the samples' levels differ most.

    Parameters
    ----------
    levels : (sites, samples), NaN missing, which takes its site's mean

    Returns
    -------
    scores : (samples, samples - 1), in units of level (root mean square over sites)
    share : (samples - 1,), each component's share of the variance, largest first
    """
    n_sites, n_samples = levels.shape
    count = n_samples - 1
    if count < 1 or not n_sites:
        return np.zeros((n_samples, 0)), np.zeros(0)
    gram = np.zeros((n_samples, n_samples))
    for rows in _row_slices(n_sites):
        seen = np.isfinite(levels[rows])
        part = np.where(seen, levels[rows], 0).astype(np.float64)
        means = part.sum(1) / np.maximum(seen.sum(1), 1)
        centred = np.where(seen, part - means[:, None], 0)
        gram += centred.T @ centred
    values, vectors = np.linalg.eigh(gram / n_sites)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    total = values.sum()
    if total <= 0:
        return np.zeros((n_samples, count)), np.zeros(count)
    # An eigenvector's sign is arbitrary: its first large entry is made positive.
    large = np.abs(vectors) > 0.5 * np.abs(vectors).max(0)
    signs = np.sign(vectors[large.argmax(0), np.arange(n_samples)])
    return (vectors * signs * np.sqrt(values))[:, :count], (values / total)[:count]


def correlations(levels: npt.NDArray[np.float32]) -> Floats:
    """Pearson correlation of every two samples over the sites both see, (samples, samples).

    NaN where they share fewer than 10 sites or one of them does not vary.
    """
    n, sums, squares, products = np.zeros((4, levels.shape[1], levels.shape[1]))
    for rows in _row_slices(len(levels)):
        seen = np.isfinite(levels[rows]).astype(np.float64)
        # Levels lie in [0, 1]; taking off the middle keeps the sums of squares small.
        x = np.where(seen > 0, levels[rows] - 0.5, 0).astype(np.float64)
        n += seen.T @ seen
        sums += x.T @ seen
        squares += (x * x).T @ seen
        products += x.T @ x
    safe = np.maximum(n, 1)
    covariance = products / safe - sums * sums.T / safe**2
    variance = np.maximum(squares / safe - (sums / safe) ** 2, 0)
    spread = np.sqrt(variance * variance.T)
    usable = (n >= _SITES_TO_CORRELATE) & (spread > 1e-12)
    r = np.divide(covariance, spread, out=np.full_like(covariance, np.nan), where=usable)
    return np.clip((r + r.T) / 2, -1, 1)


def _row_slices(n_rows: int) -> list[slice]:
    """Rows a few thousand at a time, so that float64 copies stay small."""
    return [slice(start, start + _ROWS) for start in range(0, n_rows, _ROWS)]


def median_to_others(matrix: Floats) -> Floats:
    """Each sample's median correlation to the other samples, (samples,); NaN where none."""
    off = np.where(np.eye(len(matrix), dtype=bool), np.nan, matrix)
    return np.array(
        [np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in off]
    )


def square_table(matrix: Floats, samples: Sequence[str]) -> pl.DataFrame:
    """A samples-by-samples matrix as a table: `sample`, then one column a sample; NaN is null."""
    names = pl.Series("sample", list(samples), dtype=pl.String)
    columns = [pl.Series(name, matrix[:, i], dtype=pl.Float64) for i, name in enumerate(samples)]
    return pl.DataFrame([names, *columns]).with_columns(pl.selectors.float().fill_nan(None))

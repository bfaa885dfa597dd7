"""The site fit over a methylome: dispersion and prior from a part of it, then every site.

`Engine` holds what is common to all sites of one comparison, and turns a block of counts into
statistics; sites and regions both use it.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma.design import Comparison
from melisma.differential import _kernels
from melisma.differential._kernels import Floats, SiteFit
from melisma.differential._moderation import (
    NO_DISPERSION,
    Dispersion,
    Prior,
    estimate_dispersion,
    estimate_prior,
    moderate,
)
from melisma.errors import MelismaError
from melisma.methylome import Block, blocks, chunk_sites

# STATISTICS: with fewer minor reads over all samples a site is not testable.
MIN_MINOR_READS = 5
# Dispersion and prior are learned from about this many sites, taken evenly along the genome.
_LEARNING_SITES = 1_000_000
_ENOUGH_SITES = 500

Counts = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Engine:
    """A comparison with its dispersion and prior.

    `group` (units,) and `n_groups` describe a reduced model of one mean a group; `n_groups` is
    0 for others.
    """

    comparison: Comparison
    group: npt.NDArray[np.int64]
    n_groups: int
    dispersion: Dispersion
    prior: Prior
    learned_from: int

    def pool(self, counts: Counts) -> Counts:
        """Counts of the units, (sites, units) int32, from counts of the samples."""
        if self.comparison.unit != "blocks":
            return counts.astype(np.int32)
        summed = np.zeros((len(counts), self.comparison.n_units), dtype=np.int32)
        for sample, unit in enumerate(self.comparison.pool):
            summed[:, unit] += counts[:, sample]
        return summed

    def fit(self, methylated: Counts, coverage: Counts) -> SiteFit:
        """Score test of the exposure at every site of a block of unit counts."""
        return _fit(self, methylated, coverage, self.dispersion)

    def variance(self, fit: SiteFit) -> Floats:
        """Moderated dispersion of each site."""
        return moderate(fit.residual, fit.df.astype(np.float64), self.prior)

    def effects(self, methylated: Counts, coverage: Counts) -> tuple[Floats, ...]:
        """delta, mean, high, low, inverse of `_kernels.effects`."""
        side = self.comparison.side
        sides = np.zeros(self.comparison.n_units, np.int8) if side is None else side

        def kernel(m: Counts, n: Counts) -> Any:
            return _kernels.effects(
                m, n, self.comparison.reduced, self.comparison.exposure, sides,
                self.dispersion.knots, self.dispersion.rho,
            )  # fmt: skip

        return _in_threads(kernel, methylated, coverage)

    def relabelled(
        self, methylated: Counts, coverage: Counts, exposures: Floats, keep: npt.NDArray[np.bool_]
    ) -> tuple[Floats, Floats, Floats]:
        """z, a (relabellings, sites) and df (sites,) of `_kernels.relabelled_scores`."""

        def kernel(m: Counts, n: Counts, k: npt.NDArray[np.bool_]) -> Any:
            return _kernels.relabelled_scores(
                m, n, self.comparison.reduced, self.group, self.n_groups, exposures,
                self.dispersion.knots, self.dispersion.rho, self.prior.df, self.prior.scale, k,
            )  # fmt: skip

        z, a, df = _in_threads(kernel, methylated, coverage, keep, axis=(1, 1, 0))
        return z, a, df

    def residuals(
        self, methylated: Counts, coverage: Counts, keep: npt.NDArray[np.bool_]
    ) -> Floats:
        """Whitened full-model residuals, (sites, units), rows of unit length or zero."""
        return _kernels.residual_rows(
            methylated, coverage, self.comparison.reduced, self.group, self.n_groups,
            self.comparison.exposure, self.dispersion.knots, self.dispersion.rho, keep,
        )  # fmt: skip


def can_test(fit: SiteFit) -> npt.NDArray[np.bool_]:
    """Sites with enough minor reads and a residual degree of freedom."""
    return (fit.minor >= MIN_MINOR_READS) & (fit.information > 0) & (fit.df >= 1)


def build_engine(methylome: xr.Dataset, comparison: Comparison) -> Engine:
    """Learn dispersion and prior of a comparison from evenly spaced stretches of the methylome.

    Raises
    ------
    MelismaError
        The methylome holds no site that can be tested.
    """
    group, n_groups = _groups(comparison.reduced)
    engine = Engine(comparison, group, n_groups, NO_DISPERSION, Prior(np.inf, 1.0), 0)
    methylated, coverage = _learning_counts(methylome, engine)
    binomial = engine.fit(methylated, coverage)
    keep = can_test(binomial)
    if not keep.any():
        raise MelismaError(
            "No site can be tested: none has at least 5 methylated and 5 unmethylated reads over "
            "all samples and coverage in enough of them."
        )
    dispersion = estimate_dispersion(binomial, keep)
    fit = _fit(engine, methylated, coverage, dispersion)
    keep = can_test(fit)
    prior = estimate_prior(fit.residual[keep] / fit.df[keep], fit.df[keep].astype(float))
    return Engine(comparison, group, n_groups, dispersion, prior, int(keep.sum()))


def _learning_blocks(methylome: xr.Dataset) -> Iterator[Block]:
    """All blocks, or every k-th of them where the genome is large."""
    sites = methylome.sizes["site"]
    step = chunk_sites(methylome.sizes["sample"])
    stride = max(1, -(-sites // _LEARNING_SITES))
    for start in range(0, sites, step * stride):
        yield from blocks(methylome.isel(site=slice(start, start + step)))


def _learning_counts(methylome: xr.Dataset, engine: Engine) -> tuple[Counts, Counts]:
    """Unit counts of the sites that teach dispersion: covered nearly everywhere, two minor reads
    a unit on average; where these are too few, every site with enough reads to test."""
    counts: list[tuple[Counts, Counts, npt.NDArray[np.bool_]]] = []
    for block in _learning_blocks(methylome):
        methylated, coverage = engine.pool(block.methylated), engine.pool(block.coverage)
        units = coverage.shape[1]
        reads = coverage.sum(axis=1, dtype=np.int64)
        marked = methylated.sum(axis=1, dtype=np.int64)
        minor = np.minimum(marked, reads - marked)
        covered = (coverage > 0).sum(axis=1)
        enough = minor >= MIN_MINOR_READS
        well = (covered >= np.ceil(0.9 * units)) & (minor >= 2 * units)
        counts.append((methylated[enough], coverage[enough], well[enough]))
    methylated, coverage, well = (np.concatenate(column) for column in zip(*counts, strict=True))
    if well.sum() >= _ENOUGH_SITES:
        return methylated[well], coverage[well]
    return methylated, coverage


def _groups(reduced: Floats) -> tuple[npt.NDArray[np.int64], int]:
    """Group of each unit when the reduced model is one mean a group; else (zeros, 0)."""
    rows, group = np.unique(np.round(reduced, 9), axis=0, return_inverse=True)
    if len(rows) == reduced.shape[1]:
        return group.astype(np.int64).ravel(), len(rows)
    return np.zeros(len(reduced), dtype=np.int64), 0


def _fit(engine: Engine, methylated: Counts, coverage: Counts, dispersion: Dispersion) -> SiteFit:

    def kernel(m: Counts, n: Counts) -> Any:
        return _kernels.fit_sites(
            m, n, engine.comparison.reduced, engine.group, engine.n_groups,
            engine.comparison.exposure, dispersion.knots, dispersion.rho,
        )  # fmt: skip

    return SiteFit(*_in_threads(kernel, methylated, coverage))


def _in_threads(
    kernel: Callable[..., Any], *arrays: npt.NDArray[Any], axis: tuple[int, ...] | None = None
) -> tuple[npt.NDArray[Any], ...]:
    """Run a kernel on stretches of sites in threads (kernels release the GIL), results joined."""
    sites = len(arrays[0])
    workers = min(os.cpu_count() or 1, max(1, sites // 2048))
    arrays = tuple(np.ascontiguousarray(array) for array in arrays)
    if workers == 1:
        return kernel(*arrays)
    cuts = [(k * sites // workers, (k + 1) * sites // workers) for k in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda cut: kernel(*(a[cut[0] : cut[1]] for a in arrays)), cuts))
    axes = axis or (0,) * len(parts[0])
    return tuple(
        np.concatenate(pieces, axis=along)
        for pieces, along in zip(zip(*parts, strict=True), axes, strict=True)
    )

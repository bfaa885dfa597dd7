"""The sites that teach dispersion and prior, in evenly spaced stretches of the methylome."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma.differential._kernels import MIN_MINOR_READS, ROUNDING
from melisma.differential._whitening import Floats
from melisma.methylome import Block, blocks, chunk_sites

# Dispersion and prior are learned from about this many counts, taken evenly along the genome.
_LEARNING_COUNTS = 16_000_000
_ENOUGH_SITES = 500

Counts = npt.NDArray[np.integer[Any]]
Pool = Callable[[Counts, Counts], tuple[Floats, Floats]]


def _learning_blocks(methylome: xr.Dataset) -> Iterator[Block]:
    """All blocks, or every k-th of them where the genome is large."""
    sites = methylome.sizes["site"]
    step = chunk_sites(methylome.sizes["sample"])
    stride = max(1, -(-sites * methylome.sizes["sample"] // _LEARNING_COUNTS))
    for start in range(0, sites, step * stride):
        yield from blocks(methylome.isel(site=slice(start, start + step)))


def learning_counts(methylome: xr.Dataset, pool: Pool) -> tuple[Floats, Floats]:
    """Unit counts of the sites that teach dispersion: covered nearly everywhere, two minor reads
    a unit on average; where these are too few, every site with enough reads to test."""
    counts: list[tuple[Floats, Floats, npt.NDArray[np.bool_]]] = []
    for block in _learning_blocks(methylome):
        methylated, coverage = pool(block.methylated, block.coverage)
        units = coverage.shape[1]
        reads, marked = coverage.sum(axis=1), methylated.sum(axis=1)
        minor = np.minimum(marked, reads - marked)
        covered = (coverage > 0).sum(axis=1)
        enough = minor >= MIN_MINOR_READS - ROUNDING
        well = (covered >= np.ceil(0.9 * units)) & (minor >= 2 * units - ROUNDING)
        counts.append((methylated[enough], coverage[enough], well[enough]))
    methylated, coverage, well = (np.concatenate(column) for column in zip(*counts, strict=True))
    if well.sum() >= _ENOUGH_SITES:
        return methylated[well], coverage[well]
    return methylated, coverage

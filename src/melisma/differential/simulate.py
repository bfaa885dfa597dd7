"""Simulated methylomes on real positions, with the truth beside them.

Every figure that comes from here is a simulated one and must be called so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr
from numba import njit

from melisma.methylome import dataset

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Noise:
    """How samples vary.

    sample_sd : standard deviation on the logit scale of a sample's own, spatially correlated
        effect (Ornstein-Uhlenbeck, correlation length `length` in bases)
    block_sd : the same for what the members of a block share
    rho : beta-binomial overdispersion of a site's reads
    rho_spread : standard deviation of log rho between sites
    """

    sample_sd: float = 0.3
    block_sd: float = 0.5
    length: float = 1000.0
    rho: float = 0.03
    rho_spread: float = 0.0


@dataclass(frozen=True)
class Simulation:
    """A simulated methylome and the regions planted in it (start, end, sites, delta)."""

    methylome: xr.Dataset
    truth: pl.DataFrame


@njit(cache=True)
def _ornstein_uhlenbeck(position, shocks, length):
    """A stationary unit-variance process sampled at sorted positions, from unit normal shocks."""
    out = np.empty(len(position))
    for k in range(len(position)):
        if k == 0:
            out[k] = shocks[k]
        else:
            kept = np.exp(-abs(position[k] - position[k - 1]) / length)
            out[k] = kept * out[k - 1] + np.sqrt(1.0 - kept * kept) * shocks[k]
    return out


def simulate(
    position: npt.NDArray[np.integer[Any]],
    level: Floats,
    depth: Floats,
    sheet: Mapping[str, Sequence[Any]],
    *,
    seed: int,
    noise: Noise = Noise(),
    exposure: Floats | None = None,
    regions: int = 0,
    delta: float = 0.25,
    block: Sequence[Any] | None = None,
    sample_depth: Floats | None = None,
) -> Simulation:
    """Simulate counts on real positions.

    Parameters
    ----------
    position : (sites,) sorted 0-based positions on one contig
    level : (sites,) baseline level, 0-1
    depth : (sites,) expected coverage
    sheet : sample-sheet columns, `sample` among them
    seed : of every draw
    exposure : (samples,) how much of `delta` each sample receives inside planted regions
    regions : how many regions to plant, fewer where they do not fit (see the truth): 10 to 40
        neighbouring sites, the square root of half a sine that peaks at `delta` (mean 0.77 of
        it), towards the side of 1/2
    block : (samples,) block of each sample; members share an effect
    sample_depth : (samples,) factor on `depth`

    Returns
    -------
    Simulation
    """
    rng = np.random.default_rng(seed)
    samples, sites = len(sheet["sample"]), len(position)
    shape, truth = _plant(rng, position, level, regions, delta)
    logit = np.log(np.clip(level, 0.005, 0.995) / (1 - np.clip(level, 0.005, 0.995)))
    rho = np.minimum(noise.rho * np.exp(noise.rho_spread * rng.standard_normal(sites)), 0.5)
    odds = (1 - rho) / rho
    shared: dict[Any, Floats] = {}
    methylated = np.empty((sites, samples), dtype=np.uint16)
    coverage = np.empty((sites, samples), dtype=np.uint16)
    for j in range(samples):
        effect = noise.sample_sd * _process(rng, position, noise.length)
        if block is not None:
            if block[j] not in shared:
                shared[block[j]] = noise.block_sd * _process(rng, position, noise.length)
            effect = effect + shared[block[j]]
        mean = 1 / (1 + np.exp(-(logit + effect)))
        if exposure is not None:
            mean = np.clip(mean + shape * exposure[j], 0.001, 0.999)
        factor = 1.0 if sample_depth is None else float(sample_depth[j])
        coverage[:, j] = rng.poisson(rng.gamma(8.0, depth * factor / 8.0))
        own = rng.beta(np.maximum(mean * odds, 1e-3), np.maximum((1 - mean) * odds, 1e-3))
        methylated[:, j] = rng.binomial(coverage[:, j], own)
    methylome = dataset(
        {"contig": np.zeros(sites), "position": position},
        {"methylated": methylated, "coverage": coverage},
        sheet,
        contigs=["chr22"],
        strands="merged",
        attrs={"simulated": True, "seed": seed},
    )
    return Simulation(methylome, truth)


def _process(rng: np.random.Generator, position: npt.NDArray[Any], length: float) -> Floats:
    return _ornstein_uhlenbeck(position, rng.standard_normal(len(position)), length)


def _plant(
    rng: np.random.Generator, position: npt.NDArray[Any], level: Floats, regions: int, delta: float
) -> tuple[Floats, pl.DataFrame]:
    """Choose stretches without gaps over 300 bases, far from each other, and shape them."""
    shape = np.zeros(len(position))
    taken = np.zeros(len(position), dtype=bool)
    rows: list[tuple[int, int, int, float]] = []
    tries = 0
    while len(rows) < regions and tries < 200 * regions:
        tries += 1
        size = int(rng.integers(10, 41))
        first = int(rng.integers(0, len(position) - size))
        stretch = slice(first, first + size)
        margin = slice(max(first - 20, 0), first + size + 20)
        if taken[margin].any() or np.diff(position[stretch]).max() > 300:
            continue
        sign = 1.0 if level[stretch].mean() < 0.5 else -1.0
        inside = np.sin(np.pi * (np.arange(size) + 0.5) / size)
        shape[stretch] = sign * delta * np.sqrt(inside)
        taken[stretch] = True
        rows.append((int(position[first]), int(position[first + size - 1]) + 1, size, sign * delta))
    truth = pl.DataFrame(sorted(rows), schema=["start", "end", "sites", "delta"], orient="row")
    return shape, truth

"""Simulated methylomes on real positions, with the truth beside them.

Every figure that comes from here is a simulated one and must be called so. Each sample, each
block and each contig has a random stream of its own, so that the draws depend neither on threads
nor on the pieces in which a contig is drawn.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma._generations import clear_part, work_lock
from melisma.differential import _draws
from melisma.methylome import SITE_DTYPES, Writer, dataset

Floats = npt.NDArray[np.floating[Any]]
Counts = npt.NDArray[np.uint16]
_CG = 0
_PLANTS, _SITES, _BLOCKS, _EFFECTS, _READS = range(5)


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


class Baseline(NamedTuple):
    """A contig's sites: sorted 0-based position, level (0-1), expected coverage; each (sites,)."""

    position: npt.NDArray[np.integer[Any]]
    level: Floats
    depth: Floats


class _Study(NamedTuple):
    """What the draws of every contig have in common; exposure, block, depth: (samples,)."""

    samples: int
    seed: int
    noise: Noise
    delta: float
    exposure: Floats
    block: npt.NDArray[np.int64] | None
    depth: Floats


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
    study = _study(sheet, seed, noise, delta, exposure, block, sample_depth)
    baseline = Baseline(position, level, depth)
    shape, truth = _plant(_stream(study, 0, _PLANTS), baseline, regions, delta)
    ((methylated, coverage),) = _pieces(study, 0, baseline, shape, max(len(position), 1))
    methylome = dataset(
        {"contig": np.zeros(len(position)), "position": position},
        {"methylated": methylated, "coverage": coverage},
        sheet,
        contigs=["chr22"],
        strands="merged",
        attrs={"simulated": True, "seed": seed},
    )
    return Simulation(methylome, truth)


def simulate_store(
    path: Path,
    names: Sequence[str],
    contigs: Iterable[Baseline],
    sheet: Mapping[str, Sequence[Any]],
    *,
    seed: int,
    noise: Noise = Noise(),
    exposure: Floats | None = None,
    regions: float = 0.0,
    delta: float = 0.25,
    block: Sequence[Any] | None = None,
    sample_depth: Floats | None = None,
) -> pl.DataFrame:
    """Simulate a genome straight into a store: one contig's sites and one chunk's counts in memory.

    Parameters
    ----------
    path : of the store; one that is there gets a new generation
    names : of the contigs, in order
    contigs : their sites, as many; read one after another
    regions : how many regions to plant a thousand sites
    sheet, seed, noise, exposure, delta, block, sample_depth : as for `simulate`

    Returns
    -------
    The truth: contig, start, end, sites, delta of each planted region.
    """
    study = _study(sheet, seed, noise, delta, exposure, block, sample_depth)
    truths = []
    writer = Writer(
        path,
        samples=sheet,
        contigs=names,
        marks=["m"],
        strands="merged",
        values={"methylated": np.uint16, "coverage": np.uint16},
        attrs={"simulated": True, "seed": seed},
        threads=os.cpu_count() or 1,
    )
    with work_lock(path) as part:
        with writer:
            for k, (name, contig) in enumerate(zip(names, contigs, strict=True)):
                planted = round(len(contig.position) * regions / 1000)
                shape, truth = _plant(_stream(study, k, _PLANTS), contig, planted, delta)
                truths.append(truth.insert_column(0, pl.lit(name).alias("contig")))
                first = 0
                for methylated, coverage in _pieces(study, k, contig, shape, writer.chunk):
                    last = first + len(coverage)
                    sites = _site_columns(k, contig.position[first:last])
                    writer.append(sites | {"methylated": methylated, "coverage": coverage})
                    first = last
        clear_part(part)
    return pl.concat(truths)


def _study(
    sheet: Mapping[str, Sequence[Any]],
    seed: int,
    noise: Noise,
    delta: float,
    exposure: Floats | None,
    block: Sequence[Any] | None,
    sample_depth: Floats | None,
) -> _Study:
    samples = len(sheet["sample"])
    labels = {} if block is None else {label: k for k, label in enumerate(dict.fromkeys(block))}
    return _Study(
        samples=samples,
        seed=seed,
        noise=noise,
        delta=delta,
        exposure=np.zeros(samples) if exposure is None else np.asarray(exposure, np.float64),
        block=None if block is None else np.array([labels[label] for label in block]),
        depth=np.ones(samples) if sample_depth is None else np.asarray(sample_depth, np.float64),
    )


def _stream(study: _Study, contig: int, kind: int, index: int = 0) -> np.random.Generator:
    key = np.random.SeedSequence(study.seed, spawn_key=(contig, kind, index))
    return np.random.Generator(np.random.PCG64(key))


def _site_columns(contig: int, position: npt.NDArray[np.integer[Any]]) -> dict[str, Any]:
    columns = {name: np.zeros(len(position), dtype) for name, dtype in SITE_DTYPES.items()}
    columns["contig"][:] = contig
    columns["position"][:] = position
    columns["context"][:] = _CG
    return columns


class _Streams(NamedTuple):
    """The random streams of one contig, and where its processes stand."""

    sites: np.random.Generator
    blocks: list[np.random.Generator]
    effects: list[np.random.Generator]
    reads: list[np.random.Generator]
    last_of_block: Floats
    last_of_sample: Floats


def _streams(study: _Study, contig: int) -> _Streams:
    n_blocks = 0 if study.block is None else int(study.block.max()) + 1
    return _Streams(
        _stream(study, contig, _SITES),
        [_stream(study, contig, _BLOCKS, b) for b in range(n_blocks)],
        [_stream(study, contig, _EFFECTS, j) for j in range(study.samples)],
        [_stream(study, contig, _READS, j) for j in range(study.samples)],
        np.zeros(n_blocks),
        np.zeros(study.samples),
    )


def _pieces(
    study: _Study, contig: int, baseline: Baseline, shape: Floats, step: int
) -> Iterator[tuple[Counts, Counts]]:
    """M and N of a contig, (sites, samples), in pieces of `step` sites."""
    streams = _streams(study, contig)
    # exp(-gap / length) of neighbours; the first site's process begins anew.
    gap = np.diff(baseline.position.astype(np.int64))
    kept = np.append(np.zeros(min(len(shape), 1)), np.exp(-gap / study.noise.length))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for first in range(0, max(len(shape), 1), step):
            part = slice(first, first + step)
            piece = Baseline(baseline.position[part], baseline.level[part], baseline.depth[part])
            yield _piece(study, streams, piece, kept[part], shape[part], pool)


def _piece(
    study: _Study,
    streams: _Streams,
    baseline: Baseline,
    kept: Floats,
    shape: Floats,
    pool: ThreadPoolExecutor,
) -> tuple[Counts, Counts]:
    noise, sites = study.noise, len(kept)
    level = np.clip(baseline.level, 0.005, 0.995)
    logit = np.log(level / (1 - level))
    spread = noise.rho_spread * streams.sites.standard_normal(sites)
    rho = np.minimum(noise.rho * np.exp(spread), 0.5)
    shared = np.zeros((len(streams.blocks), sites))
    methylated, coverage = np.zeros((2, study.samples, sites), dtype=np.uint16)

    def block(b: int) -> None:
        last = streams.last_of_block
        last[b] = _draws.walk(streams.blocks[b], kept, last[b], shared[b])

    def sample(j: int) -> None:
        effect, last = np.empty(sites), streams.last_of_sample
        last[j] = _draws.walk(streams.effects[j], kept, last[j], effect)
        effect *= noise.sample_sd
        if study.block is not None:
            effect += noise.block_sd * shared[study.block[j]]
        _draws.mean_levels(logit, effect, shape, study.exposure[j], effect)
        depth = baseline.depth * study.depth[j]
        _draws.draw_counts(streams.reads[j], effect, rho, depth, methylated[j], coverage[j])

    list(pool.map(block, range(len(streams.blocks))))
    list(pool.map(sample, range(study.samples)))
    return np.ascontiguousarray(methylated.T), np.ascontiguousarray(coverage.T)


def _plant(
    rng: np.random.Generator, baseline: Baseline, regions: int, delta: float
) -> tuple[Floats, pl.DataFrame]:
    """Choose stretches without gaps over 300 bases, far from each other, and shape them."""
    position, level, _ = baseline
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

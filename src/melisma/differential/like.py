"""Studies simulated like a pilot: its sites, coverage, levels and variation, with the truth.

Every figure that comes from here is a simulated one and must be called so.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma._model import level_name
from melisma.differential import _draws
from melisma.differential._pilot import Pilot, learn_pilot, set_noise
from melisma.differential._sheets import (
    confounded_batches,
    group_exposure,
    group_sheet,
    parse_depths,
    parse_groups,
)
from melisma.differential.simulate import Baseline, _plant
from melisma.errors import MelismaError
from melisma.methylome import dataset

__all__ = [
    "Pilot", "Plan", "Simulated", "learn_pilot", "make_plan", "set_noise", "simulate_like",
]  # fmt: skip

Floats = npt.NDArray[np.floating[Any]]

# Streams of random numbers, each with its own key, so that an option that is switched on leaves
# the planted regions and the other effects as they were.
_PLANTS, _RHO, _BLOCKS, _EFFECTS, _READS, _BATCHES, _CELLS, _FRACTIONS = range(8)
# A contig with fewer sites has no room for a region and its margins.
_ROOM = 100
# By default about 5% of the sites are in planted regions, each in a stretch of its own whose outer
# tenths stay without: more would move the genome as a whole.
_SITES_A_REGION = 500
_MOST_REGIONS = 200
_MARGIN = 0.1
# The second cell type differs where an Ornstein-Uhlenbeck process of this length exceeds this.
_CELL_LENGTH = 2000.0
_CELL_CUT = 1.0
_CELL_STRENGTH = 4.0
_CELL_SHARE = 0.3


@dataclass(frozen=True)
class Plan:
    """What a simulated study is to contain.

    exposure : (samples,) how much of `delta` each sample receives inside planted regions
    regions, delta : how many regions, and their peak difference; or `shape`, (sites,), the
        difference itself at every site
    spaced : each region in an equal part of its contig, so that no two are side by side
    depth : (samples,) mean coverage
    block : (samples,) pairs or blocks, whose members share an effect of sd `Noise.block_sd`
    batch, batch_sd : (samples,) batches, whose members share an effect of that sd
    cell_sd, cell_shift : standard deviation of a second cell type's share between samples, and
        how much the share rises with the exposure
    """

    sheet: Mapping[str, Sequence[Any]]
    exposure: Floats
    depth: Floats
    regions: int = 0
    delta: float = 0.2
    shape: Floats | None = None
    spaced: bool = False
    block: Sequence[Any] | None = None
    batch: Sequence[Any] | None = None
    batch_sd: float = 0.0
    cell_sd: float = 0.0
    cell_shift: float = 0.0


def make_plan(
    pilot: Pilot,
    *,
    groups: str | None = None,
    sheet: Mapping[str, Sequence[Any]] | None = None,
    column: str = "group",
    regions: int | None = None,
    delta: float = 0.2,
    depth: str | None = None,
    pairs: bool = False,
    block: str | None = None,
    batch_sd: float = 0.0,
    confounding: float = 0.0,
    cell_sd: float = 0.0,
    cell_shift: float = 0.0,
) -> Plan:
    """Plan a study of groups such as `a=6,b=6`, or of a sheet, and check it.

    Parameters
    ----------
    column : of the sheet: numbers, or groups in the order in which they appear. The exposure
        rises from 0 to 1, over groups in equal steps
    regions : default: one in 500 sites, at most 200, spaced apart
    depth : mean coverage, `10` or `a=5,b=30`; default: the pilot's mean
    pairs : with `groups`, the k-th samples of all groups are a block
    block : a column of the sheet
    confounding : 0, batches balanced over the groups, to 1, the batch is the group; a sheet's own
        column `batch` goes before it

    Raises
    ------
    MelismaError
        What is asked for contradicts itself, or a column is missing.
    """
    if (groups is None) == (sheet is None):
        raise MelismaError("Give either --samples a=6,b=6 or --sheet samples.tsv.")
    if not 0 <= delta <= 1:
        raise MelismaError(f"The difference {delta:g} should be from 0 to 1.")
    if pairs and sheet is not None:
        raise MelismaError("--pairs goes with --samples: name the sheet's column with --block.")
    columns = (
        dict(sheet) if sheet is not None else group_sheet(parse_groups(groups or ""), pairs=pairs)
    )
    block = "pair" if pairs else block
    for name in (column, *([block] if block else ())):
        if name not in columns:
            raise MelismaError(f"The sheet has no column {name!r}; it has {', '.join(columns)}.")
    words = [level_name(value) for value in columns[column]]
    exposure = group_exposure(columns[column])
    depths = parse_depths(depth, list(dict.fromkeys(words)), pilot.mean_depth)
    if batch_sd > 0 and "batch" not in columns:
        columns["batch"] = confounded_batches(exposure, confounding)
    return Plan(
        sheet=columns,
        exposure=exposure,
        depth=np.array([depths[word] for word in words]),
        regions=_default_regions(pilot) if regions is None else regions,
        delta=delta,
        spaced=regions is None,
        block=columns[block] if block else None,
        batch=columns["batch"] if batch_sd > 0 else None,
        batch_sd=batch_sd,
        cell_sd=cell_sd,
        cell_shift=cell_shift,
    )


def _default_regions(pilot: Pilot) -> int:
    sizes = np.bincount(pilot.sites["contig"])
    return int(np.clip(sizes[sizes >= _ROOM].sum() // _SITES_A_REGION, 1, _MOST_REGIONS))


@dataclass(frozen=True)
class Simulated:
    """A simulated study.

    `regions` has a row a planted region: contig, start, end, sites, delta (peak), mean_delta.
    `sites` has a row a site: contig, position, strand, level (baseline), delta (planted
    difference between no and full exposure, before a sample's own effect) and, with a second
    cell type, cell_difference. `parameters` says what was simulated, and from where.
    """

    methylome: xr.Dataset
    regions: pl.DataFrame
    sites: pl.DataFrame
    parameters: dict[str, Any]


def simulate_like(pilot: Pilot, plan: Plan, *, seed: int = 1) -> Simulated:
    """Simulate a study on a pilot's sites.

    A sample's level at a site is the baseline moved on the logit scale by its own
    Ornstein-Uhlenbeck effect and by those of its block and batch, then by the planted difference;
    reads are beta-binomial, coverage gamma-Poisson.

    Parameters
    ----------
    pilot : of `learn_pilot`
    plan : samples and what is planted
    seed : of every draw

    Returns
    -------
    Simulated; its methylome's attributes say `simulated`

    Raises
    ------
    MelismaError
        No region fits, as the pilot's contigs have too few sites.
    """
    shape, regions = _planted(pilot, plan, seed)
    cells, share = _cells(pilot, plan, seed)
    methylated, coverage = draw(pilot, plan, shape, seed, cells=cells, share=share - share.mean())
    sheet = dict(plan.sheet) | ({"cell_share": share.tolist()} if cells is not None else {})
    methylome = dataset(
        pilot.sites,
        {"methylated": methylated, "coverage": coverage},
        sheet,
        contigs=pilot.attrs["contigs"],
        marks=pilot.attrs["marks"],
        strands=pilot.attrs["strands"],
        attrs={"simulated": True, "seed": seed},
    )
    changed = np.clip(pilot.level + shape, 0.001, 0.999) - pilot.level
    sites = pl.DataFrame(
        {
            "contig": pl.Series(pilot.attrs["contigs"], dtype=pl.String).gather(
                pilot.sites["contig"]
            ),
            "position": pilot.sites["position"],
            "strand": pilot.sites["strand"],
            "level": pilot.level,
            "delta": np.where(shape == 0, 0.0, changed),
            **({} if cells is None else {"cell_difference": cells}),
        }
    )
    return Simulated(
        methylome, _with_mean(regions, sites), sites, _parameters(pilot, plan, regions, seed)
    )


def draw(
    pilot: Pilot,
    plan: Plan,
    shape: Floats,
    seed: int,
    *,
    cells: Floats | None = None,
    share: Floats | None = None,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """M and N, (sites, samples), of a plan with the difference `shape`, (sites,), planted.

    Parameters
    ----------
    cells, share : (sites,) difference of the second cell type, (samples,) its share less the mean
    """
    kept = _kept(pilot, pilot.noise.length)
    sites, samples = len(pilot.level), len(plan.exposure)
    spread = pilot.noise.rho_spread
    draws = _stream(seed, _RHO).standard_normal(sites)
    rho = np.minimum(pilot.rho * np.exp(spread * draws - spread**2 / 2), 0.5)
    shared = [
        (plan.block, pilot.noise.block_sd, _walks(plan.block, kept, seed, _BLOCKS)),
        (plan.batch, plan.batch_sd, _walks(plan.batch, kept, seed, _BATCHES)),
    ]
    methylated, coverage = np.zeros((2, samples, sites), dtype=np.uint16)

    def sample(j: int) -> None:
        effect = np.empty(sites)
        _draws.walk(_stream(seed, _EFFECTS, j), kept, 0.0, effect)
        effect *= pilot.noise.sample_sd
        for labels, sd, walks in shared:
            if labels is not None:
                effect += sd * walks[labels[j]]
        level = pilot.level
        if cells is not None and share is not None:
            level = np.clip(level + share[j] * cells, 0.005, 0.995)
        logit = np.log(level / (1 - level))
        _draws.mean_levels(logit, effect, shape, float(plan.exposure[j]), effect)
        depth = pilot.depth * (plan.depth[j] / pilot.mean_depth)
        _draws.draw_counts(_stream(seed, _READS, j), effect, rho, depth, methylated[j], coverage[j])

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(sample, range(samples)))
    return np.ascontiguousarray(methylated.T), np.ascontiguousarray(coverage.T)


def _stream(seed: int, kind: int, index: int = 0) -> np.random.Generator:
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(kind, index)))
    )


def _kept(pilot: Pilot, length: float) -> Floats:
    """exp(-gap / length) of each site and the one before; 0 where a contig begins."""
    position = pilot.sites["position"].astype(np.int64)
    contig = pilot.sites["contig"]
    kept = np.zeros(len(position))
    kept[1:] = np.exp(-np.maximum(np.diff(position), 0) / length) * (contig[1:] == contig[:-1])
    return kept


def _walks(labels: Sequence[Any] | None, kept: Floats, seed: int, kind: int) -> dict[Any, Floats]:
    """One unit-variance process a label."""
    walks: dict[Any, Floats] = {}
    for k, label in enumerate(dict.fromkeys(labels or ())):
        walks[label] = np.empty(len(kept))
        _draws.walk(_stream(seed, kind, k), kept, 0.0, walks[label])
    return walks


def _planted(pilot: Pilot, plan: Plan, seed: int) -> tuple[Floats, pl.DataFrame]:
    """The difference at every site, and the regions; over contigs by their numbers of sites."""
    contig = pilot.sites["contig"]
    names = pilot.attrs["contigs"]
    edges = np.searchsorted(contig, np.arange(len(names) + 1))
    schema = {"contig": pl.String, "start": pl.Int64, "end": pl.Int64, "sites": pl.Int64}
    empty = pl.DataFrame(schema=schema | {"delta": pl.Float64})
    if plan.shape is not None:
        return plan.shape, empty
    shape = np.zeros(len(contig))
    sizes = np.diff(edges)
    room = np.where(sizes >= _ROOM, sizes, 0)
    if plan.regions and not room.sum():
        raise MelismaError(
            f"No region fits: a contig needs at least {_ROOM} sites, and the pilot's longest has "
            f"{int(sizes.max(initial=0))}. Take another pilot, or --regions 0."
        )
    planted = [empty]
    share = np.cumsum(room) / max(room.sum(), 1) * plan.regions
    wanted = np.diff(np.round(share).astype(int), prepend=0)
    for k, name in enumerate(names):
        if not wanted[k]:
            continue
        stream = _stream(seed, _PLANTS, k)
        for part, regions in _parts(edges[k], edges[k + 1], int(wanted[k]), spaced=plan.spaced):
            baseline = Baseline(
                pilot.sites["position"][part].astype(np.int64), pilot.level[part], pilot.depth[part]
            )
            shape[part], truth = _plant(stream, baseline, regions, plan.delta)
            planted.append(truth.insert_column(0, pl.lit(name).alias("contig")))
    return shape, pl.concat(planted, how="vertical_relaxed")


def _parts(start: int, end: int, regions: int, *, spaced: bool) -> list[tuple[slice, int]]:
    """Stretches of a contig's sites with their numbers of regions; one each where spaced."""
    if not spaced:
        return [(slice(start, end), regions)]
    edges = np.linspace(start, end, regions + 1).astype(int)
    margins = (_MARGIN * np.diff(edges)).astype(int)
    return [
        (slice(low + margin, high - margin), 1)
        for low, high, margin in zip(edges[:-1], edges[1:], margins, strict=True)
    ]


def _with_mean(regions: pl.DataFrame, sites: pl.DataFrame) -> pl.DataFrame:
    """The regions with the mean planted difference over their sites."""
    inside = sites.filter(pl.col("delta") != 0)
    means = [
        inside.filter(
            (pl.col("contig") == row["contig"])
            & pl.col("position").is_between(row["start"], row["end"], closed="left")
        )["delta"].mean()
        for row in regions.iter_rows(named=True)
    ]
    return regions.with_columns(pl.Series("mean_delta", means, dtype=pl.Float64))


def _cells(pilot: Pilot, plan: Plan, seed: int) -> tuple[Floats | None, Floats]:
    """The second cell type's difference, (sites,), and each sample's share of it."""
    samples = len(plan.exposure)
    if plan.cell_sd == 0 and plan.cell_shift == 0:
        return None, np.zeros(samples)
    process = np.empty(len(pilot.level))
    _draws.walk(_stream(seed, _CELLS), _kept(pilot, _CELL_LENGTH), 0.0, process)
    beyond = np.sign(process) * np.maximum(np.abs(process) - _CELL_CUT, 0.0)
    logit = np.log(pilot.level / (1 - pilot.level)) + _CELL_STRENGTH * beyond
    cells = np.where(beyond == 0, 0.0, 1 / (1 + np.exp(-logit)) - pilot.level)
    own = _stream(seed, _FRACTIONS).standard_normal(samples) * plan.cell_sd
    share = np.clip(_CELL_SHARE + own + plan.cell_shift * plan.exposure, 0.0, 1.0)
    return cells, share


def _parameters(pilot: Pilot, plan: Plan, regions: pl.DataFrame, seed: int) -> dict[str, Any]:
    listed = {name: [float(v) for v in getattr(plan, name)] for name in ("exposure", "depth")}
    return {
        "simulated": True,
        "seed": seed,
        "samples": [level_name(name) for name in plan.sheet["sample"]],
        **listed,
        "regions_asked": plan.regions,
        "regions_planted": len(regions),
        "delta": plan.delta,
        "block": None if plan.block is None else [level_name(b) for b in plan.block],
        "batch": None if plan.batch is None else [level_name(b) for b in plan.batch],
        "batch_sd": plan.batch_sd,
        "cell_sd": plan.cell_sd,
        "cell_shift": plan.cell_shift,
        "noise": asdict(pilot.noise),
        "rho_by_level": {
            "level": [float(v) for v in pilot.rho_knots],
            "rho": [float(v) for v in pilot.rho_values],
        },
        "origin": dict(pilot.origin),
        "pilot_mean_depth": pilot.mean_depth,
        "notes": list(pilot.notes),
    }

"""What a pilot study teaches a simulation: baseline, coverage, and how samples vary.

Variation is told apart by moments. An effect of a sample moves neighbouring sites together, and
reads do not, so that the covariance of two sites' residuals by distance, over samples of one
group, is that of the effects alone: sd^2 exp(-d / length), fitted by least squares over bins of
distance. The engine's dispersion is of a single site: what it has beyond sd^2 mu (1 - mu) is the
beta-binomial rho of the site's reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma._plural import count
from melisma.design import Design, make_design
from melisma.differential._engine import Engine, build_engine
from melisma.differential._pilot_kernels import (
    DISTANCES,
    covariances,
    group_residuals,
    neighbourhood,
)
from melisma.differential._spread import COVERAGE_SHAPE, rho_spread
from melisma.differential.simulate import Noise
from melisma.differential.sites import one_comparison
from melisma.errors import MelismaError
from melisma.methylome import SITE_ARRAYS, blocks, sample_sheet, single_mark

Floats = npt.NDArray[np.floating[Any]]
Origin = Literal["pilot", "default", "given"]

# Neighbours within this many bases inform a site's baseline and depth.
_HALF_WIDTH = 300
# Covariances are summed over about this many sites, in stretches taken evenly along the genome.
_COVARIANCE_SITES = 100_000
_STRETCH = 5_000
_LENGTHS = np.geomspace(20.0, 20_000.0, 200)
_SMALLEST_RHO = 1e-3
_EDGE = 0.005
_TAUGHT = 0.05
# A pilot with fewer says too little about how samples vary.
_FEWEST_REPLICATES = 3
_FEWEST_DF = 6


@dataclass(frozen=True)
class Pilot:
    """Sites with what is expected of each, and how samples vary about it.

    sites : contig, position, strand, mark, context, each (sites,)
    level : (sites,) baseline, 0-1; depth : (sites,) expected coverage of an average sample
    sample_depth : each pilot sample's coverage over the average
    seen_depth : mean coverage of the sites that a sample sees; `depth` counts the others as 0
    noise : as the simulator takes it; rho_knots, rho_values : mean rho as a function of level
    origin : where each number of the noise comes from; attrs : contigs, marks, strands
    notes : what a reader of a simulation must know
    """

    sites: Mapping[str, npt.NDArray[Any]]
    level: Floats
    depth: Floats
    sample_depth: Mapping[str, float]
    seen_depth: float
    noise: Noise
    rho_knots: Floats
    rho_values: Floats
    origin: Mapping[str, Origin]
    attrs: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def rho(self) -> Floats:
        """Mean beta-binomial rho of each site's reads, by its level, (sites,)."""
        return np.interp(self.level, self.rho_knots, self.rho_values)

    @property
    def mean_depth(self) -> float:
        """Mean expected coverage over the sites."""
        return float(self.depth.mean())


def learn_pilot(
    methylome: xr.Dataset,
    *,
    groups: Sequence[str] = (),
    block: str | None = None,
    mark: str | None = None,
    design: Design | None = None,
) -> Pilot:
    """Learn positions, coverage, baseline and variation from a store.

    Parameters
    ----------
    groups : columns of the sample sheet; samples that agree in all of them are replicates.
        Without any, all samples are
    block : a column of pairs or blocks: what their members share is told from what they do not
    design : where its sheet has columns that the store lacks, such as `identity`

    Raises
    ------
    MelismaError
        The store holds levels without counts, several marks and no choice, or no covered site.
    """
    if "coverage" not in methylome:
        raise MelismaError(
            "A simulation needs a pilot with read counts, and this store holds only beta values "
            "(levels of arrays, matrices or bigWig): take a store of sequencing calls."
        )
    methylome = single_mark(methylome, mark)
    sheet = sample_sheet(methylome) if design is None else design.sheet
    group = _labels(sheet, groups)
    blocked = np.full(len(group), -1) if block is None else _labels(sheet, [block])
    sites, marked, reads, per_sample, pairs = _totals(methylome)
    if not len(reads):
        raise MelismaError("The pilot store has no site with reads.")
    samples = len(group)
    pilot = Pilot(
        sites=sites,
        level=_level(sites, marked, reads),
        depth=_depth(sites, reads, samples),
        sample_depth=dict(
            zip(map(str, sheet["sample"]), map(float, per_sample / per_sample.mean()), strict=True)
        ),
        seen_depth=float(reads.sum() / pairs),
        noise=Noise(),
        rho_knots=np.array([0.5]),
        rho_values=np.array([Noise().rho]),
        origin=dict.fromkeys(("sample_sd", "block_sd", "length", "rho", "rho_spread"), "default"),
        attrs={name: methylome.attrs[name] for name in ("contigs", "marks", "strands")},
        notes=() if groups else _one_group(samples),
    )
    if samples - (group.max() + 1) < 1:
        words = "one sample" if samples == 1 else "one sample a group"
        return replace(
            pilot,
            notes=(
                f"The pilot has {words}, so how samples vary cannot be learned: sample_sd "
                f"{Noise.sample_sd:g}, length {Noise.length:g} and rho {Noise.rho:g} are defaults.",
            ),
        )
    few = few_samples(int(np.bincount(group).min()), samples - int(group.max()) - 1)
    if few and design is None:
        pilot = replace(pilot, notes=(*pilot.notes, few))
    return _with_noise(pilot, methylome, group, blocked)


def few_samples(replicates: int, df: int) -> str:
    """A warning of a pilot that is too small to teach how samples vary; empty where it is not.

    Parameters
    ----------
    replicates, df : samples of the smallest group, and residual degrees of freedom

    >>> few_samples(3, 6)
    ''
    >>> few_samples(2, 2).split(":")[0]
    'The pilot has 2 samples in its smallest group and 2 residual degrees of freedom'
    """
    if replicates >= _FEWEST_REPLICATES and df >= _FEWEST_DF:
        return ""
    return (
        f"The pilot has {count(replicates, 'sample')} in its smallest group and {df} residual "
        f"{'degree' if df == 1 else 'degrees'} of freedom: that is too few to know how samples "
        "vary, and all numbers that follow from it are a rough guess. Take a pilot of at least "
        f"{_FEWEST_REPLICATES} samples a group and {_FEWEST_DF} degrees of freedom."
    )


def set_noise(pilot: Pilot, **values: float | None) -> Pilot:
    """The pilot with numbers of its noise replaced by given ones; None leaves one as it is."""
    given = {name: value for name, value in values.items() if value is not None}
    changed = replace(
        pilot,
        noise=replace(pilot.noise, **given),
        origin={**pilot.origin, **dict.fromkeys(given, "given")},
    )
    if "rho" in given:
        changed = replace(
            changed,
            rho_knots=np.array([0.5]),
            rho_values=np.array([changed.noise.rho * np.exp(changed.noise.rho_spread**2 / 2)]),
        )
    return changed


def _one_group(samples: int) -> tuple[str, ...]:
    if samples == 1:
        return ()
    return (
        f"All {samples} samples of the pilot are taken for replicates, so differences between its "
        "groups count as variation: name the columns of its groups.",
    )


def _labels(sheet: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> npt.NDArray[np.int64]:
    """0-based label of each sample by its values in the columns, in order of appearance."""
    for name in columns:
        if name not in sheet:
            raise MelismaError(
                f"The pilot's sample sheet has no column {name!r}; it has {', '.join(sheet)}."
            )
    keys = [tuple(sheet[name][j] for name in columns) for j in range(len(sheet["sample"]))]
    order = {key: k for k, key in enumerate(dict.fromkeys(keys))}
    return np.array([order[key] for key in keys], dtype=np.int64)


def _totals(
    methylome: xr.Dataset,
) -> tuple[dict[str, npt.NDArray[Any]], Floats, Floats, Floats, int]:
    """Site columns, M and N over all samples of the covered sites, each sample's mean N, and how
    often a sample sees a site.
    """
    marked, reads = [], []
    per_sample, pairs = np.zeros(methylome.sizes["sample"]), 0
    for block in blocks(methylome):
        marked.append(block.methylated.sum(axis=1, dtype=np.float64))
        reads.append(block.coverage.sum(axis=1, dtype=np.float64))
        per_sample += block.coverage.sum(axis=0, dtype=np.float64)
        pairs += int(np.count_nonzero(block.coverage))
    totals = np.concatenate(reads) if reads else np.zeros(0)
    seen = totals > 0
    sites = {name: methylome[name].values[seen] for name in SITE_ARRAYS}
    per_sample = np.maximum(per_sample / max(int(seen.sum()), 1), 1e-3)
    summed = np.concatenate(marked)[seen] if marked else totals
    return sites, summed, totals[seen], per_sample, pairs


def _level(sites: Mapping[str, npt.NDArray[Any]], marked: Floats, reads: Floats) -> Floats:
    """Baseline: the reads of all samples, shrunk towards the neighbours' level.

    How far: k pseudo-reads with k = (1 - r) / r, r the overdispersion of sites about their
    neighbours, a ratio of sums over sites whose neighbours have at least 10 reads.
    """
    near_marked, near_reads, _ = neighbourhood(
        sites["position"], sites["contig"], marked, reads, _HALF_WIDTH
    )
    overall = marked.sum() / reads.sum()
    near = (near_marked + 2.0 * overall) / (near_reads + 2.0)
    own, enough = marked / reads, (near_reads >= 10) & (reads > 1)
    binomial = near * (1 - near)
    gain = ((own - near) ** 2 - binomial / reads)[enough].sum()
    most = (binomial * (1 - 1 / reads))[enough].sum()
    share = float(np.clip(gain / most, 1e-4, 0.9)) if most > 0 else 0.5
    k = (1 - share) / share
    return np.clip((marked + k * near) / (reads + k), _EDGE, 1 - _EDGE)


def _depth(sites: Mapping[str, npt.NDArray[Any]], reads: Floats, samples: int) -> Floats:
    """Expected coverage: the samples' mean, shrunk towards the neighbours' as a gamma prior."""
    _, near, ones = neighbourhood(sites["position"], sites["contig"], reads, reads, _HALF_WIDTH)
    smooth = (near + reads.mean()) / (ones + 1.0)
    spread = ((reads - smooth) ** 2 - reads).sum() / (smooth**2).sum()
    # What the simulator adds between samples is not the sites' own.
    spread = max(float(spread) - 1.0 / (COVERAGE_SHAPE * samples), 1e-3)
    return smooth * (reads + 1 / spread) / (smooth + 1 / spread) / samples


def _with_noise(
    pilot: Pilot,
    methylome: xr.Dataset,
    group: npt.NDArray[np.int64],
    block: npt.NDArray[np.int64],
) -> Pilot:
    own, own_weight, mate, mate_weight = _covariance_sums(methylome, group, block)
    total, length = fit_decay(own, own_weight)
    mates = mate_weight.sum() > 0
    shared = _at_length(mate, mate_weight, length) if mates else 0.0
    shared = min(shared, total)
    origin: dict[str, Origin] = {**pilot.origin, "sample_sd": "pilot", "length": "pilot"}
    if mates:
        origin["block_sd"] = "pilot"
    noise = replace(
        pilot.noise,
        sample_sd=float(np.sqrt(total - shared)),
        length=length,
        block_sd=float(np.sqrt(shared)) if mates else Noise().block_sd,
    )
    pilot = replace(pilot, noise=noise, origin=origin)
    engine = _replicates_engine(methylome, group)
    if engine is None:
        return replace(
            pilot,
            notes=(
                *pilot.notes,
                f"Two replicates in all are too few for the dispersion: rho {Noise.rho:g} is a "
                "default.",
            ),
        )
    return _with_dispersion(pilot, engine, total)


def _with_dispersion(pilot: Pilot, engine: Engine, effect_variance: float) -> Pilot:
    """rho of reads: the engine's dispersion less what the samples' effects explain."""
    knots = np.asarray(engine.dispersion.knots)
    total = np.asarray(engine.dispersion.rho)
    if len(knots) > 1:
        spread_of_level = knots * (1 - knots)
    else:
        # One rho for all is a mean over the sites that can teach it.
        inner = pilot.level[(pilot.level > _TAUGHT) & (pilot.level < 1 - _TAUGHT)]
        spread_of_level = np.array([(inner * (1 - inner)).mean() if len(inner) else 0.25])
    values = np.clip(total - effect_variance * spread_of_level, _SMALLEST_RHO, 0.5)
    mean = float(np.interp(pilot.level, knots, values).mean())
    factors = np.array(list(pilot.sample_depth.values()))
    spread = rho_spread(pilot.level, pilot.depth, factors, engine, values)
    return replace(
        pilot,
        # `Noise.rho` is the median of a log-normal with that spread.
        noise=replace(pilot.noise, rho=mean * float(np.exp(-(spread**2) / 2)), rho_spread=spread),
        rho_knots=knots,
        rho_values=values,
        origin={**pilot.origin, "rho": "pilot", "rho_spread": "pilot"},
    )


def _replicates_engine(methylome: xr.Dataset, group: npt.NDArray[np.int64]) -> Engine | None:
    """The engine over the replicates: one mean a group; None with too few for a dispersion.

    Where all samples are one group, an arbitrary half against the other takes one degree of
    freedom and says nothing.
    """
    cells = group if group.max() > 0 else np.arange(len(group)) % 2
    if len(group) - (cells.max() + 1) < 1:
        return None
    names = [f"c{cell:04d}" for cell in cells]
    design = make_design(
        {"sample": [str(s) for s in methylome["sample"].values], "cell": names}, "~ cell"
    )
    return build_engine(methylome, one_comparison(design, "cell[c0001] - cell[c0000]"))


def _covariance_sums(
    methylome: xr.Dataset, group: npt.NDArray[np.int64], block: npt.NDArray[np.int64]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Sums of `covariances` over evenly spaced stretches of the genome."""
    sites = methylome.sizes["site"]
    stride = max(1, -(-sites // _COVARIANCE_SITES)) * _STRETCH
    sums = np.zeros((4, len(DISTANCES)))
    for start in range(0, sites, stride):
        part = methylome.isel(site=slice(start, start + _STRETCH))
        marked = part["methylated"].values.astype(np.float64)
        reads = part["coverage"].values.astype(np.float64)
        residual, seen = group_residuals(marked, reads, group, int(group.max()) + 1)
        total = np.maximum(reads.sum(axis=1), 2.0)
        level = marked.sum(axis=1) / total
        # Unbiased for mu (1 - mu) under binomial reads.
        variance = level * (1 - level) * total / (total - 1)
        sums += covariances(
            part["position"].values.astype(np.int64), part["contig"].values, residual, variance,
            seen, group, block, DISTANCES,
        )  # fmt: skip
    own, own_weight, mate, mate_weight = sums
    return own, own_weight, mate, mate_weight


def _middles() -> Floats:
    lower = np.concatenate([[1], DISTANCES[:-1]])
    return np.sqrt(lower * DISTANCES.astype(np.float64))


def fit_decay(sums: Floats, weight: Floats) -> tuple[float, float]:
    """sd^2 and length of sd^2 exp(-d / length) from sums over bins of distance.

    Least squares over the bins, each weighted with what a covariance of 1 would give it.

    >>> middle = _middles()
    >>> variance, length = fit_decay(5.0 * 0.09 * np.exp(-middle / 800), np.full(10, 5.0))
    >>> round(variance, 3), round(length / 800, 1)
    (0.09, 1.0)
    """
    used = weight > 0
    if not used.any():
        return 0.0, Noise().length
    middle, weight = _middles()[used], weight[used]
    covariance = sums[used] / weight
    decay = np.exp(-middle / _LENGTHS[:, None])
    heights = np.maximum((weight * covariance * decay).sum(1) / (weight * decay**2).sum(1), 0.0)
    lost = (weight * (covariance - heights[:, None] * decay) ** 2).sum(axis=1)
    best = int(np.argmin(lost))
    if heights[best] <= 0:
        return 0.0, Noise().length
    return float(heights[best]), float(_LENGTHS[best])


def _at_length(sums: Floats, weight: Floats, length: float) -> float:
    """The variance at a given length."""
    decay = np.exp(-_middles() / length)
    return max(float((sums * decay).sum() / (weight * decay**2).sum()), 0.0)

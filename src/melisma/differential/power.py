"""How many samples, and how deep: power from a pilot study, by calculation and by simulation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma import progress
from melisma._model import level_name
from melisma.design import Comparison, Design
from melisma.differential._engine import build_engine
from melisma.differential._pilot import Pilot, few_samples, learn_pilot
from melisma.differential._power_checks import Study, check_sites, simulate_regions, spread_over
from melisma.differential._power_sites import Setting, site_power
from melisma.differential.sites import of_design, one_comparison
from melisma.errors import MelismaError
from melisma.methylome import single_mark

Floats = npt.NDArray[np.floating[Any]]

WANTED = 0.8
_MOST_SAMPLES = 200
# A fixed effect a pair makes a fit as slow as the square of their number.
_MOST_PAIRS = 60
_EQUAL_STEPS = 7
_DEPTHS = (5.0, 10.0, 20.0)
# Depths and coverages this far apart are told apart.
_APART = 1.1


@dataclass(frozen=True)
class Power:
    """What `power` found.

    grid : delta, samples (a group, or pairs), depth, power, p_threshold, testable (share of the
        sites that differ)
    needed : delta, depth, samples (null: more than 200, or 60 pairs), power; for 80%
    equal_reads : delta, reads (a group: samples times depth), samples, depth, power
    checks : delta, samples, depth, calculated, simulated, low, high (95%), false_discoveries,
        changed (sites), seeds
    regions : delta, samples, depth, planted, found, low, high, calls, false_calls; None: not asked
    sentences : the answer in words; notes : what a reader must know; parameters : all that went in
    warning : why the pilot is too small to be relied on; empty where it is not
    """

    grid: pl.DataFrame
    needed: pl.DataFrame
    equal_reads: pl.DataFrame
    checks: pl.DataFrame
    regions: pl.DataFrame | None
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    parameters: dict[str, Any]
    warning: str = ""

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by the names of their files."""
        named = {
            "power": self.grid,
            "needed": self.needed,
            "equal_reads": self.equal_reads,
            "checks": self.checks,
        }
        return named if self.regions is None else named | {"regions": self.regions}


def power(
    methylome: xr.Dataset,
    design: Design,
    contrast: str,
    *,
    deltas: Sequence[float] = (0.05, 0.1, 0.2, 0.3),
    samples: Sequence[int] = (3, 4, 6, 8, 12, 20),
    depths: Sequence[float] | None = None,
    q: float = 0.05,
    share: float = 0.05,
    checks: int = 3,
    seeds: int = 3,
    regions: int = 0,
    mark: str | None = None,
    seed: int = 1,
) -> Power:
    """How large a study finds differences of a size, judged by a pilot.

    The power of the site test is calculated by drawing single sites from the engine's model, with
    its dispersion and prior on the pilot and the pilot's levels and coverage. It is checked at a
    few points by simulating studies like the pilot and testing them with `site_tests`. That of
    the region test is simulated alone.

    Parameters
    ----------
    methylome : the pilot, counts
    design, contrast : as for `site_tests`; a contrast of two levels
    deltas : differences of level, 0-1, towards the side of 1/2
    samples : of each group; with blocks, complete pairs
    depths : mean coverage of the pilot's sites, 0 where a sample has no read; default 5, 10 and
        20, and the pilot's own where that is higher
    q : false discovery rate
    share : assumed share of the sites that differ
    checks, seeds : points checked by simulation, and simulations of each
    regions : planted regions of the region test's simulations; 0: none
    seed : of every draw

    Raises
    ------
    MelismaError
        The pilot has no replicates or no counts, the contrast is no difference of two levels, or
        a number is out of range.
    """
    _check(deltas, samples, _DEPTHS if depths is None else depths, q, share)
    comparison = one_comparison(design, contrast)
    methylome = of_design(methylome, design)
    _check_comparison(comparison)
    methylome = single_mark(methylome, mark)
    pilot = learn_pilot(
        methylome, groups=tuple(design.factors), block=design.block_name, design=design
    )
    depths = default_depths(pilot.mean_depth) if depths is None else depths
    setting = _setting(methylome, design, comparison, pilot, q=q, share=share, seed=seed)
    grid = _grid(setting, deltas, samples, depths)
    needed = _needed(setting, deltas, depths)
    study = Study(pilot, setting, seed)
    checked = check_sites(study, spread_over(grid, checks), seeds)
    found = simulate_regions(study, deltas, samples, depths, regions) if regions else None
    equal = _equal_reads(setting, needed, deltas, depths, samples)
    return Power(
        grid=grid,
        needed=needed,
        equal_reads=equal,
        checks=checked,
        regions=found,
        sentences=_sentences(setting, needed, equal, checked),
        notes=(*comparison.notes, *pilot.notes, *_coverage(pilot)),
        warning=_warning(design, comparison),
        parameters={
            "formula": design.formula,
            "contrast": comparison.contrast.name,
            "block": design.block_name,
            "unit": comparison.unit,
            "q": q,
            "share": share,
            "seed": seed,
            "pilot_samples": len(design.samples),
            "pilot_sites": len(pilot.level),
            "pilot_depth": pilot.mean_depth,
            "pilot_depth_seen": pilot.seen_depth,
            "pilot_df": comparison.df_residual,
            "rho": [float(r) for r in setting.engine.dispersion.rho],
            "prior_df": None
            if np.isinf(setting.engine.prior.df)
            else float(setting.engine.prior.df),
            "prior_scale": float(setting.engine.prior.scale),
            "sample_sd": pilot.noise.sample_sd,
            "block_sd": pilot.noise.block_sd if design.block else None,
            "length": pilot.noise.length,
        },
    )


def default_depths(own: float) -> tuple[float, ...]:
    """5, 10 and 20, and a pilot's own depth where that is higher.

    >>> default_depths(21.0), default_depths(33.4)
    ((5.0, 10.0, 20.0), (5.0, 10.0, 20.0, 33.0))
    """
    return _DEPTHS if own < _APART * _DEPTHS[-1] else (*_DEPTHS, float(round(own)))


def _warning(design: Design, comparison: Comparison) -> str:
    column = [level_name(value) for value in design.sheet[comparison.contrast.column]]
    sizes = [column.count(level) for level in comparison.contrast.levels or ()]
    return few_samples(min(sizes), comparison.df_residual)


def _coverage(pilot: Pilot) -> tuple[str, ...]:
    """That the depth meant here is not that of the sites seen, where the two differ."""
    if pilot.seen_depth < _APART * pilot.mean_depth:
        return ()
    return (
        "Depths are mean coverage of all the pilot's sites, 0 where a sample has no read: the "
        f"pilot's own is {pilot.mean_depth:.0f}×. Over the sites that a sample sees it is "
        f"{pilot.seen_depth:.0f}×, as `melisma info` counts.",
    )


def _check(
    deltas: Sequence[float], samples: Sequence[int], depths: Sequence[float], q: float, share: float
) -> None:
    ranges = (
        ("difference", deltas, 0.0, 0.5, "above 0 and at most 0.5"),
        ("number of samples a group", samples, 1.0, _MOST_SAMPLES, f"from 2 to {_MOST_SAMPLES}"),
        ("depth", depths, 0.0, 10_000.0, "above 0 and at most 10,000"),
        ("q", [q], 0.0, 0.999, "between 0 and 1"),
        ("share of sites that differ", [share], 0.0, 0.999, "between 0 and 1"),
    )
    for name, values, low, high, words in ranges:
        if not values:
            raise MelismaError(f"Give at least one {name}.")
        for value in values:
            if not low < value <= high:
                raise MelismaError(f"The {name} {value:g} should be {words}.")


def _check_comparison(comparison: Comparison) -> None:
    name = comparison.contrast.name
    if comparison.contrast.levels is None:
        raise MelismaError(
            f"{name} is a coefficient, and power is of a difference of two levels: ask for one "
            'such as "cell[b] - cell[a]".'
        )
    if comparison.unit == "blocks":
        raise MelismaError(
            f"{name} is constant within blocks, so that blocks are the units: make a pilot of one "
            "sample a block, and leave out --block."
        )


def _setting(
    methylome: xr.Dataset,
    design: Design,
    comparison: Comparison,
    pilot: Pilot,
    *,
    q: float,
    share: float,
    seed: int,
) -> Setting:
    engine = build_engine(methylome, comparison)
    paired = comparison.unit == "samples within blocks"
    # A column a level besides the first, and those of other terms, which are taken for balanced.
    columns = comparison.reduced.shape[1] - (len(set(design.block or ())) if paired else 1)
    used = set(comparison.contrast.levels or ())
    others = len(set(design.factors[comparison.contrast.column]) - used)
    return Setting(
        engine=engine,
        level=pilot.level,
        depth=pilot.depth / pilot.mean_depth,
        pilot_depth=pilot.mean_depth,
        paired=paired,
        extra=max(columns - others, 0),
        share=share,
        q=q,
        seed=seed,
    )


def _grid(
    setting: Setting, deltas: Sequence[float], samples: Sequence[int], depths: Sequence[float]
) -> pl.DataFrame:
    rows = []
    points = [(d, n, x) for d in deltas for x in depths for n in samples]
    with progress.stage("Calculating power", len(points)) as advance:
        for delta, n, depth in points:
            found = site_power(setting, delta, n, depth)
            rows.append((delta, n, float(depth), found.power, found.alpha, found.testable))
            advance(1)
    return pl.DataFrame(
        rows,
        schema={
            "delta": pl.Float64, "samples": pl.Int64, "depth": pl.Float64, "power": pl.Float64,
            "p_threshold": pl.Float64, "testable": pl.Float64,
        },
        orient="row",
    )  # fmt: skip


def _most(setting: Setting) -> int:
    return _MOST_PAIRS if setting.paired else _MOST_SAMPLES


def samples_needed(
    setting: Setting, delta: float, depth: float, wanted: float = WANTED
) -> int | None:
    """The fewest samples a group that reach a power; None above 200 (or 60 pairs)."""
    low, high, most = 1, 2, _most(setting)
    while site_power(setting, delta, high, depth).power < wanted:
        if high == most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if site_power(setting, delta, middle, depth).power >= wanted:
            high = middle
        else:
            low = middle
    return high


def _needed(setting: Setting, deltas: Sequence[float], depths: Sequence[float]) -> pl.DataFrame:
    rows = []
    for delta in deltas:
        for depth in depths:
            n = samples_needed(setting, delta, depth)
            reached = site_power(setting, delta, n or _most(setting), depth).power
            rows.append((delta, float(depth), n, reached))
    return pl.DataFrame(
        rows,
        schema={
            "delta": pl.Float64, "depth": pl.Float64, "samples": pl.Int64, "power": pl.Float64,
        },
        orient="row",
    )  # fmt: skip


def _equal_reads(
    setting: Setting,
    needed: pl.DataFrame,
    deltas: Sequence[float],
    depths: Sequence[float],
    samples: Sequence[int],
) -> pl.DataFrame:
    """Power when the same reads are spread over more or fewer samples.

    As many reads as the middle depth needs for 80%, or, where that is out of reach, as the
    largest study of the grid has.
    """
    middle = float(sorted(depths)[(len(depths) - 1) // 2])
    steps = np.geomspace(min(depths), max(depths), _EQUAL_STEPS)
    rows = []
    for delta in deltas:
        own = needed.filter((pl.col("delta") == delta) & (pl.col("depth") == middle))["samples"][0]
        reads = (own or max(samples)) * middle
        for n in sorted({max(round(reads / x), 2) for x in (*depths, *steps)}):
            if n > _most(setting):
                continue
            depth = reads / n
            rows.append((delta, reads, n, depth, site_power(setting, delta, n, depth).power))
    return pl.DataFrame(
        rows,
        schema={
            "delta": pl.Float64, "reads": pl.Float64, "samples": pl.Int64, "depth": pl.Float64,
            "power": pl.Float64,
        },
        orient="row",
    )  # fmt: skip


def _sentences(
    setting: Setting, needed: pl.DataFrame, equal: pl.DataFrame, checks: pl.DataFrame
) -> tuple[str, ...]:
    """The answer in words."""
    unit = "pairs" if setting.paired else "a group"
    words = [
        f"If {setting.share:.0%} of the sites differ, to find {WANTED:.0%} of them at "
        f"q < {f'{setting.q:g}'.removeprefix('0')} you need:"
    ]
    for delta in needed["delta"].unique(maintain_order=True):
        rows = needed.filter(pl.col("delta") == delta).rows(named=True)
        parts = [
            f"more than {_most(setting)} {unit} at {row['depth']:g}×"
            if row["samples"] is None
            else f"{row['samples']} {unit} at {row['depth']:g}×"
            for row in rows
        ]
        words.append(f"- for differences of {100 * delta:g} points {', '.join(parts)}.")
    for delta in equal["delta"].unique(maintain_order=True):
        own = equal.filter(pl.col("delta") == delta).sort("power", descending=True)
        best, worst = own.row(0, named=True), own.row(-1, named=True)
        if best["power"] - worst["power"] > 0.05:
            words.append(
                f"Of the same reads ({best['reads']:g}× a group), {best['samples']} {unit} at "
                f"{best['depth']:.3g}× find {best['power']:.0%} of differences of "
                f"{100 * delta:g} points, and {worst['samples']} at {worst['depth']:.3g}× "
                f"{worst['power']:.0%}."
            )
    if len(checks):
        words.append(_checked(checks))
    return tuple(words)


def _checked(checks: pl.DataFrame) -> str:
    """How far calculation and simulation differ, and where by more than chance."""
    error = (checks["calculated"] - checks["simulated"]).abs().max()
    said = (
        f"Calculated and simulated power differ by at most {error:.2f} at the "
        f"{len(checks)} points that were checked."
    )
    outside = checks.filter(~pl.col("calculated").is_between(pl.col("low"), pl.col("high")))
    if outside.is_empty():
        return said
    listed = "; ".join(
        f"{100 * row['delta']:g} points, {row['samples']} at {row['depth']:g}×: "
        f"{row['calculated']:.2f} against {row['low']:.2f} to {row['high']:.2f}"
        for row in outside.iter_rows(named=True)
    )
    verb = "lies" if len(outside) == 1 else "lie"
    return (
        f"{said} {len(outside)} of them {verb} outside what the simulation allows (95%: {listed}): "
        "the calculation is off there by more than chance."
    )

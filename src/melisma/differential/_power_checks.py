"""Simulated studies that check a calculated power, and that of the region test."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr
from scipy.stats import beta as beta_distribution
from scipy.stats import t as student

from melisma import progress
from melisma.design import Design, make_design
from melisma.differential._pilot import Pilot
from melisma.differential._power_sites import CONTRAST, GROUPS, Setting, site_power
from melisma.differential._sheets import group_sheet
from melisma.differential.like import Plan, draw, simulate_like
from melisma.differential.regions import find_regions
from melisma.differential.sites import site_tests
from melisma.errors import MelismaError
from melisma.methylome import dataset, sample_sheet

# Sites of a simulation at most.
_SIMULATED_SITES = 40_000
_REGION_POINTS = 8
_REGION_RELABELLINGS = 100
# A planted difference at every site is drawn with this seed's successors.
_CHANGED = 17


@dataclass(frozen=True)
class Study:
    """What the simulations have in common."""

    pilot: Pilot
    setting: Setting
    seed: int

    @property
    def part(self) -> Pilot:
        """The pilot's first sites, as many as a simulation takes."""
        pilot = self.pilot
        few = slice(0, _SIMULATED_SITES)
        return replace(
            pilot,
            sites={name: column[few] for name, column in pilot.sites.items()},
            level=pilot.level[few],
            depth=pilot.depth[few],
        )

    def plan(self, n: int, depth: float, **options: Any) -> Plan:
        sheet = group_sheet(dict.fromkeys(GROUPS, n), pairs=self.setting.paired)
        exposure = np.array([group == GROUPS[1] for group in sheet["group"]], dtype=np.float64)
        return Plan(
            sheet,
            exposure,
            np.full(2 * n, float(depth)),
            block=sheet.get("pair"),
            **options,
        )

    def design(self, methylome: xr.Dataset) -> Design:
        block = "pair" if self.setting.paired else None
        return make_design(sample_sheet(methylome), "~ group", block=block)


def spread_over(grid: pl.DataFrame, wanted: int) -> list[tuple[float, int, float]]:
    """Points whose power is nearest to evenly spaced ones: where an error would show."""
    left = grid.rows(named=True)
    chosen: list[dict[str, Any]] = []
    for target in (np.arange(wanted) + 0.5) / max(wanted, 1):
        if left:
            best = min(left, key=lambda row: (abs(row["power"] - target), row["samples"]))
            left.remove(best)
            chosen.append(best)
    return [(row["delta"], row["samples"], row["depth"]) for row in chosen]


def check_sites(
    study: Study, points: Sequence[tuple[float, int, float]], seeds: int
) -> pl.DataFrame:
    """Calculated against simulated power, the real test on studies like the pilot."""
    rows = []
    part = study.part
    with progress.stage("Simulating sites", len(points) * seeds) as advance:
        for at, (delta, n, depth) in enumerate(points):
            calculated = site_power(study.setting, delta, n, depth).power
            counts = []
            for k in range(seeds):
                counts.append(_one_check(study, part, delta, n, depth, (at, k)))
                advance(1)
            changed, found, false = (np.array(column) for column in zip(*counts, strict=True))
            low, high = interval(found, changed)
            calls = max(int(found.sum() + false.sum()), 1)
            rows.append(
                (delta, n, float(depth), calculated, found.sum() / changed.sum(), low, high,
                 false.sum() / calls, int(changed.sum()), seeds)
            )  # fmt: skip
    names = ("calculated", "simulated", "low", "high", "false_discoveries")
    return pl.DataFrame(
        rows,
        schema={
            "delta": pl.Float64, "samples": pl.Int64, "depth": pl.Float64,
            **dict.fromkeys(names, pl.Float64), "changed": pl.Int64, "seeds": pl.Int64,
        },
        orient="row",
    )  # fmt: skip


def _one_check(
    study: Study, part: Pilot, delta: float, n: int, depth: float, key: tuple[int, int]
) -> tuple[int, int, int]:
    """Sites that differ, how many of them are found, and how many others."""
    rng = np.random.default_rng((study.seed, _CHANGED, *key))
    changed = rng.random(len(part.level)) < study.setting.share
    shape = np.where(changed, np.where(part.level < 0.5, delta, -delta), 0.0)
    plan = study.plan(n, depth, shape=shape)
    seed = int(rng.integers(2**31))
    methylated, coverage = draw(part, plan, shape, seed)
    methylome = dataset(
        part.sites,
        {"methylated": methylated, "coverage": coverage},
        plan.sheet,
        contigs=part.attrs["contigs"],
        marks=part.attrs["marks"],
        strands=part.attrs["strands"],
        attrs={"simulated": True, "seed": seed},
    )
    result = site_tests(methylome, study.design(methylome), CONTRAST)
    called = (result.table["q"] < study.setting.q).fill_null(value=False).to_numpy()
    return int(changed.sum()), int((called & changed).sum()), int((called & ~changed).sum())


def interval(found: npt.NDArray[Any], all_: npt.NDArray[Any]) -> tuple[float, float]:
    """95% of a share: Clopper and Pearson's, or t over the seeds where that is wider."""
    k, n = int(found.sum()), int(all_.sum())
    low = float(beta_distribution.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta_distribution.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    if len(found) > 1:
        shares = found / np.maximum(all_, 1)
        error = float(shares.std(ddof=1) / np.sqrt(len(shares)))
        half = float(student.ppf(0.975, len(shares) - 1)) * error
        low, high = min(low, k / n - half), max(high, k / n + half)
    return max(low, 0.0), min(high, 1.0)


def simulate_regions(
    study: Study,
    deltas: Sequence[float],
    samples: Sequence[int],
    depths: Sequence[float],
    planted: int,
) -> pl.DataFrame:
    """Recall of the region test at a few points, at the middle depth."""
    depth = float(sorted(depths)[(len(depths) - 1) // 2])
    points = [(delta, n) for delta in deltas for n in samples]
    few = np.unique(np.linspace(0, len(points) - 1, _REGION_POINTS).round().astype(int))
    rows = []
    with progress.stage("Simulating regions", len(few)) as advance:
        for at in few:
            delta, n = points[at]
            plan = study.plan(n, depth, regions=planted, delta=delta)
            made = simulate_like(study.part, plan, seed=study.seed + int(at))
            try:
                result = find_regions(
                    made.methylome,
                    study.design(made.methylome),
                    CONTRAST,
                    q=study.setting.q,
                    relabellings=_REGION_RELABELLINGS,
                    seed=study.seed,
                )
            except MelismaError:
                # Too few relabellings at this size.
                advance(1)
                continue
            found, calls, false = overlapping(made.regions, result.significant())
            true = len(made.regions)
            low, high = interval(np.array([found]), np.array([max(true, 1)]))
            rows.append((delta, n, depth, true, found, low, high, calls, false))
            advance(1)
    names = ("delta", "samples", "depth", "planted", "found", "low", "high", "calls", "false_calls")
    floats = ("delta", "depth", "low", "high")
    return pl.DataFrame(
        rows, schema={n: pl.Float64 if n in floats else pl.Int64 for n in names}, orient="row"
    )


def overlapping(truth: pl.DataFrame, called: pl.DataFrame) -> tuple[int, int, int]:
    """Planted regions that a call overlaps, calls, and calls that overlap none."""
    hit, true_calls = set(), set()
    for i, call in enumerate(called.iter_rows(named=True)):
        for k, region in enumerate(truth.iter_rows(named=True)):
            same = call["contig"] == region["contig"]
            if same and call["start"] < region["end"] and region["start"] < call["end"]:
                hit.add(k)
                true_calls.add(i)
    return len(hit), len(called), len(called) - len(true_calls)

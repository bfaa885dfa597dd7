"""Site and region tests: speed, size on simulated nulls, regions against planted truth.

All counts are simulated on the real positions, smoothed levels and depths of chromosome 22
(`_chr22`). Engine settings were chosen on seeds 0 to 3; the figures come from seeds 100 and up.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks._chr22 import Chromosome, chromosome
from melisma.design import make_design
from melisma.differential import Noise, find_regions, simulate, site_tests
from melisma.differential._engine import build_engine
from melisma.differential.sites import one_comparison
from melisma.methylome import open_methylome, sample_sheet, write

ALPHAS = (0.05, 0.01, 0.001)
STRATA = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1.01))
FIRST_SEED = 100


class Null(NamedTuple):
    """A design without an effect: sheet, formula, contrast, block, depth factors, noise."""

    name: str
    sheet: dict[str, list[Any]]
    formula: str
    contrast: str
    block: str | None = None
    depth: np.ndarray | None = None
    noise: Noise = Noise()


def nulls() -> Iterator[Null]:
    """The designs whose null size is shown."""

    def sheet(n: int, **columns: list[Any]) -> dict[str, list[Any]]:
        return {"sample": [f"s{i}" for i in range(n)], **columns}

    two = "g[b] - g[a]"
    yield Null("4v4", sheet(8, g=["a"] * 4 + ["b"] * 4), "~ g", two)
    yield Null("10v10", sheet(20, g=["a"] * 10 + ["b"] * 10), "~ g", two)
    yield Null(
        "4v4_dispersion_by_site",
        sheet(8, g=["a"] * 4 + ["b"] * 4),
        "~ g",
        two,
        noise=Noise(rho_spread=0.8),
    )
    batch = sheet(16, g=["a"] * 8 + ["b"] * 8, f=["x", "y", "y"] * 5 + ["x"])
    yield Null("batch_covariate", batch, "~ g + f", two)
    yield Null("continuous", sheet(12, age=list(np.linspace(20, 70, 12))), "~ age", "age")
    pairs = sheet(40, g=["a", "b"] * 20, pair=[f"p{i // 2}" for i in range(40)])
    yield Null("20_pairs", pairs, "~ g", two, block="pair")
    litters = sheet(32, g=["a"] * 16 + ["b"] * 16, litter=[f"l{i // 4}" for i in range(32)])
    yield Null("8_litters_of_4", litters, "~ g", two, block="litter")
    depth = np.array([0.4] * 4 + [2.4] * 4)
    yield Null("5x_against_30x", sheet(8, g=["a"] * 4 + ["b"] * 4), "~ g", two, depth=depth)
    few = sheet(12, g=["a"] * 3 + ["b"] * 9)
    yield Null("3v9_5x_against_30x", few, "~ g", two, depth=np.array([0.4] * 3 + [2.4] * 9))
    levels = sheet(15, g=["a"] * 5 + ["b"] * 5 + ["c"] * 5)
    yield Null("one_of_3_levels", levels, "~ g", two)
    # Each litter's second member is sequenced 2.5 times deeper where the exposure is b.
    deep = np.array([1.0] * 12 + [1.0, 2.5] * 6)
    litters = sheet(24, g=["a"] * 12 + ["b"] * 12, litter=[f"l{i // 2}" for i in range(24)])
    yield Null("12_litters_uneven_members", litters, "~ g", two, block="litter", depth=deep)


def null_ratio(null: Null, chromosome: Chromosome, seeds: int) -> dict[str, Any]:
    """Observed share of p < alpha over alpha, overall and in the worst stratum of level."""
    counts = np.zeros((1 + len(STRATA), 1 + len(ALPHAS)))
    untestable = tested = 0
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        made = simulate(
            *chromosome,
            null.sheet,
            seed=seed,
            noise=null.noise,
            block=null.sheet[null.block] if null.block else None,
            sample_depth=null.depth,
        ).methylome
        design = make_design(sample_sheet(made), null.formula, block=null.block)
        result = site_tests(made, design, null.contrast)
        tested += result.tested
        untestable += result.untestable
        p = result.table["p"].to_numpy()
        reads = made["coverage"].values.sum(axis=1)
        level = made["methylated"].values.sum(axis=1) / np.maximum(reads, 1)
        for row, (low, high) in enumerate(((0.0, 1.01), *STRATA)):
            inside = p[(level >= low) & (level < high) & np.isfinite(p)]
            counts[row] += [len(inside), *((inside < alpha).sum() for alpha in ALPHAS)]
    ratio = counts[:, 1:] / np.maximum(counts[:, :1], 1) / np.array(ALPHAS)
    # A stratum with fewer than ten expected p < .001 says nothing at that level.
    heavy = counts[1:, 0] * 0.001 >= 10
    return {
        **{f"{a:g}": round(float(r), 3) for a, r in zip(ALPHAS, ratio[0], strict=True)},
        "worst_stratum": {
            f"{a:g}": round(float(ratio[1:, k][heavy].max()), 3) if heavy.any() else None
            for k, a in enumerate(ALPHAS)
            if a < 0.05
        },
        "untestable": round(untestable / (tested + untestable), 3),
        "tested": tested,
        "seeds": seeds,
    }


def region_scores(chromosome: Chromosome, group: int, seeds: int) -> dict[str, Any]:
    """Planted regions found by the whole region search, means over seeds, and calls on nulls."""
    sheet = {
        "sample": [f"s{i}" for i in range(2 * group)],
        "g": ["a"] * group + ["b"] * group,
    }
    exposure = np.array([0.0] * group + [1.0] * group)
    design = make_design(sheet, "~ g")
    planted = max(len(chromosome.position) // 500, 20)
    rows, null_calls, found_truth = [], [], []
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        made = simulate(
            *chromosome, sheet, seed=seed, exposure=exposure, regions=planted, delta=0.25
        )
        result = find_regions(made.methylome, design, "g[b] - g[a]")
        found_truth.append(len(made.truth))
        rows.append(_score(result.table, result.significant(), made.truth, chromosome.position))
        null = simulate(*chromosome, sheet, seed=seed + 1000)
        null_calls.append(len(find_regions(null.methylome, design, "g[b] - g[a]").significant()))
    means = {key: round(float(np.mean([row[key] for row in rows])), 3) for key in rows[0]}
    return means | {
        "null_seeds_with_calls": sum(calls > 0 for calls in null_calls),
        "null_seeds": seeds,
        "samples": 2 * group,
        "planted": float(np.mean(found_truth)),
    }


def _score(
    table: pl.DataFrame, called: pl.DataFrame, truth: pl.DataFrame, position: np.ndarray
) -> dict[str, float]:
    inside = np.zeros(len(position), dtype=bool)
    starts, ends = truth["start"].to_numpy(), truth["end"].to_numpy()
    for start, end in zip(starts, ends, strict=True):
        inside[np.searchsorted(position, start) : np.searchsorted(position, end)] = True

    def measures(regions: pl.DataFrame) -> dict[str, float]:
        any_true = half_true = 0
        found, found_half = np.zeros(len(truth), dtype=bool), np.zeros(len(truth), dtype=bool)
        jaccard = np.zeros(len(truth))
        for start, end in regions.select("start", "end").iter_rows():
            a, b = np.searchsorted(position, [start, end])
            overlap = (starts < end) & (ends > start)
            any_true += overlap.any()
            found |= overlap
            if inside[a:b].mean() >= 0.5:
                half_true += 1
                found_half |= overlap
            for k in np.flatnonzero(overlap):
                c, d = np.searchsorted(position, [starts[k], ends[k]])
                common = max(0, min(b, d) - max(a, c))
                jaccard[k] = max(jaccard[k], common / (b - a + d - c - common))
        n = max(len(regions), 1)
        precision, half = any_true / n, half_true / n
        return {
            "precision": precision,
            "recall": found.mean(),
            "f1": _f1(precision, found.mean()),
            "f1_half": _f1(half, found_half.mean()),
            "fdr": 1 - half if len(regions) else 0.0,
            "jaccard": float(np.median(jaccard)),
        }

    ranked = table.with_columns(pl.col("statistic").abs().alias("size")).sort(
        "size", descending=True
    )
    true = np.array(
        [
            ((starts < end) & (ends > start)).any()
            for start, end in ranked.head(5000).select("start", "end").iter_rows()
        ]
    )
    wrong = np.cumsum(~true) / np.arange(1, len(true) + 1)
    oracle = measures(ranked.head(int(np.flatnonzero(wrong <= 0.05).max(initial=-1)) + 1))
    mine = measures(called)
    return mine | {"recall_of_oracle": min(mine["recall"] / max(oracle["recall"], 1e-9), 1.0)}


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / max(precision + recall, 1e-9)


def speed(chromosome: Chromosome, sites: int, repeats: int) -> dict[str, Any]:
    """Sites a second of the default test, and seconds from an open store to both tables."""
    times = -(-sites // len(chromosome.position))
    span = int(chromosome.position[-1]) + 1000
    position = np.concatenate([chromosome.position + k * span for k in range(times)])[:sites]
    level, depth = (np.tile(values, times)[:sites] for values in chromosome[1:])
    groups = {"g": list("abababab"), "f": list("xxxyyyxy"), "age": list(range(8))}
    eight = {"sample": [f"s{i}" for i in range(8)], **groups, "w": [1, 5, 2, 2, 8, 4, 6, 3]}
    made = simulate(position, level, depth, eight, seed=1).methylome
    # The fast arcsine test is not built yet.
    found: dict[str, Any] = {"fast_2": None, "fast_6": None}
    for name, formula in (("default_2", "~ g"), ("default_5", "~ g + f + age + w")):
        design = make_design(sample_sheet(made), formula)
        engine = build_engine(made, one_comparison(design, "g[b] - g[a]"))
        m, n = engine.pool(made["methylated"].values, made["coverage"].values)
        found[name] = round(sites / _median(lambda: engine.fit(m, n), repeats))  # noqa: B023
    twelve = {"sample": [f"s{i}" for i in range(12)], "g": list("ab" * 6)}
    made = simulate(position, level, depth, twelve, seed=1).methylome
    with tempfile.TemporaryDirectory() as folder:
        write(made, Path(folder) / "s.zarr")
        opened = open_methylome(Path(folder) / "s.zarr")
        design = make_design(sample_sheet(opened), "~ g")

        def both() -> None:
            site_tests(opened, design, "g[b] - g[a]")
            find_regions(opened, design, "g[b] - g[a]", relabellings=34)

        seconds = _median(both, repeats)
    return {
        "sites_per_second": found,
        "seconds_sites_and_regions": {
            "value": round(seconds, 2),
            "sites": sites,
            "samples": 12,
            "relabellings": 34,
        },
    }


def _median(work: Any, repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def measure(*, quick: bool) -> dict[str, Any]:
    """Everything that the contract asks of `differential` and this version can do."""
    whole = chromosome()
    sites, seeds = (8_000, 2) if quick else (100_000, 20)
    part = whole.part(100_000, sites)
    return {
        **speed(whole, 50_000 if quick else 500_000, 1 if quick else 5),
        "null_ratio": {null.name: null_ratio(null, part, seeds) for null in nulls()},
        "regions": region_scores(
            whole.part(60_000, 20_000 if quick else 200_000), 6, 1 if quick else 20
        ),
        "peers": {},
        "simulated": True,
        "seeds": [FIRST_SEED, FIRST_SEED + seeds - 1],
    }

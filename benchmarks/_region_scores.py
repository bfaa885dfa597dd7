"""Called regions against planted ones, means over simulated data sets.

A call is found true by any overlap for precision, recall and F1; for the false discovery rate and
`f1_half` it is true when at least half of its CpGs lie in planted regions. The Jaccard index of a
planted region, in CpGs, is that of the best single call, and 0 where it was missed.
"""

import time
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from benchmarks._chr22 import Chromosome
from benchmarks._null_designs import FIRST_SEED
from melisma.design import make_design
from melisma.differential import Simulation, find_regions, simulate
from melisma.errors import MelismaError

CONTRAST = "g[b] - g[a]"
DELTA = 0.25
NULL_SEEDS = 1000
FDR = 0.05
_RESAMPLES = 2000


class Scores(NamedTuple):
    """How one data set's calls fit: shares, and the Jaccard index of each planted region."""

    precision: float
    recall: float
    f1: float
    f1_half: float
    fdr: float
    jaccard: np.ndarray


def sheet(group: int, levels: int = 2) -> dict[str, list[Any]]:
    """A sheet of so many levels, a, b, ..., of `group` samples each."""
    names = [chr(ord("a") + level) for level in range(levels) for _ in range(group)]
    return {"sample": [f"s{i}" for i in range(len(names))], "g": names}


def planted(chromosome: Chromosome, group: int, seed: int, levels: int = 2) -> Simulation:
    """Groups, the last of which differs in a region a 500 sites."""
    exposure = np.array([0.0] * group * (levels - 1) + [1.0] * group)
    regions = max(len(chromosome.position) // 500, 20)
    return simulate(
        *chromosome,
        sheet(group, levels),
        seed=seed,
        exposure=exposure,
        regions=regions,
        delta=DELTA,
    )


def without_effect(chromosome: Chromosome, group: int, seed: int, levels: int = 2) -> Simulation:
    """The matched null of `planted`."""
    return simulate(*chromosome, sheet(group, levels), seed=seed + NULL_SEEDS)


class Overlaps(NamedTuple):
    """Regions against the truth: hits are pairs of a region and a planted one that share sites.

    call, true, common : (hits,) indices, and sites in common
    inside : (regions,) sites of a region that lie in planted ones
    size, true_size : (regions,), (planted,) sites
    """

    call: np.ndarray
    true: np.ndarray
    common: np.ndarray
    inside: np.ndarray
    size: np.ndarray
    true_size: np.ndarray


def overlaps(regions: pl.DataFrame, truth: pl.DataFrame, position: np.ndarray) -> Overlaps:
    """Compare tables with `start` and `end` by the sites they hold; planted ones are disjoint."""
    a, b = (np.searchsorted(position, regions[name].to_numpy()) for name in ("start", "end"))
    c, d = (np.searchsorted(position, truth[name].to_numpy()) for name in ("start", "end"))
    first, last = np.searchsorted(d, a, side="right"), np.searchsorted(c, b, side="left")
    count = np.maximum(last - first, 0)
    call = np.repeat(np.arange(len(a)), count)
    offset = np.arange(len(call)) - np.repeat(np.cumsum(count) - count, count)
    true = first[call] + offset
    common = np.minimum(b[call], d[true]) - np.maximum(a[call], c[true])
    inside = np.bincount(call, weights=common, minlength=len(a))
    return Overlaps(call, true, common, inside, b - a, d - c)


def score(regions: pl.DataFrame, truth: pl.DataFrame, position: np.ndarray) -> Scores:
    """How called regions fit the planted ones."""
    found = overlaps(regions, truth, position)
    calls, n_true = len(found.size), len(found.true_size)
    any_true, half = found.inside > 0, found.inside >= 0.5 * np.maximum(found.size, 1)
    recall = len(np.unique(found.true)) / max(n_true, 1)
    recall_half = len(np.unique(found.true[half[found.call]])) / max(n_true, 1)
    precision, precision_half = any_true.sum() / max(calls, 1), half.sum() / max(calls, 1)
    jaccard = np.zeros(n_true)
    union = found.size[found.call] + found.true_size[found.true] - found.common
    np.maximum.at(jaccard, found.true, found.common / union)
    return Scores(
        precision=float(precision),
        recall=recall,
        f1=_f1(precision, recall),
        f1_half=_f1(precision_half, recall_half),
        fdr=1 - float(precision_half) if calls else 0.0,
        jaccard=jaccard,
    )


def oracle_recall(candidates: pl.DataFrame, truth: pl.DataFrame, position: np.ndarray) -> float:
    """Recall at the lowest cut of the statistic at which at most 5% of the calls are false."""
    ranked = candidates.sort(pl.col("statistic").abs(), descending=True)
    found = overlaps(ranked, truth, position)
    half = found.inside >= 0.5 * np.maximum(found.size, 1)
    wrong = np.cumsum(~half) / np.arange(1, len(half) + 1)
    cut = int(np.flatnonzero(wrong <= FDR).max(initial=-1)) + 1
    return len(np.unique(found.true[found.call < cut])) / max(len(truth), 1)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / max(precision + recall, 1e-9)


def summary(rows: list[Scores]) -> dict[str, Any]:
    """Means over data sets, the Jaccard index's median over all planted regions."""
    means = {
        name: round(float(np.mean([getattr(row, name) for row in rows])), 3)
        for name in Scores._fields[:-1]
    }
    jaccard = np.concatenate([row.jaccard for row in rows])
    return means | {
        "jaccard": round(float(np.median(jaccard)), 3),
        "jaccard_half_or_more": round(float((jaccard >= 0.5).mean()), 3),
    }


def _interval(values: list[float]) -> dict[str, float]:
    """Mean with its 95% bootstrap interval over data sets."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(np.array(values), (_RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    found = {"value": np.mean(values), "low": low, "high": high}
    return {name: round(float(value), 4) for name, value in found.items()}


def region_scores(
    chromosome: Chromosome,
    group: int,
    seeds: int,
    null_seeds: int,
    relabellings: int | None = None,
    levels: int = 2,
) -> dict[str, Any] | str:
    """Planted regions found by the whole search, calls on nulls; the reason if it refuses.

    Two levels are a difference, more are asked about at once by F.
    """
    design = make_design(sheet(group, levels), "~ g")
    contrast = CONTRAST if levels == 2 else "g"
    rows, recalls, seconds = [], [], []
    truths, null_kind = 0, ""
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        made = planted(chromosome, group, seed, levels)
        began = time.perf_counter()
        try:
            result = find_regions(made.methylome, design, contrast, relabellings=relabellings)
        except MelismaError as error:
            return str(error)
        seconds.append(time.perf_counter() - began)
        truths += len(made.truth)
        null_kind = result.null
        rows.append(score(result.significant(), made.truth, chromosome.position))
        best = oracle_recall(result.table, made.truth, chromosome.position)
        recalls.append(min(rows[-1].recall / max(best, 1e-9), 1.0))
    calls = []
    for seed in range(FIRST_SEED, FIRST_SEED + null_seeds):
        null = without_effect(chromosome, group, seed, levels).methylome
        result = find_regions(null, design, contrast, relabellings=relabellings)
        calls.append(len(result.significant()))
    return summary(rows) | {
        "recall_of_oracle": round(float(np.mean(recalls)), 3),
        "fdr_interval": _interval([row.fdr for row in rows]),
        "f1_interval": _interval([row.f1 for row in rows]),
        "null_seeds_with_calls": sum(n > 0 for n in calls),
        "null_seeds": null_seeds,
        "null_calls": calls,
        "null": null_kind,
        "samples": levels * group,
        "seeds": seeds,
        "planted": truths / seeds,
        "sites": len(chromosome.position),
        "seconds": round(float(np.median(seconds)), 2),
    }

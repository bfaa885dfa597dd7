"""Size of the site tests on simulated designs without an effect, and the bars it must keep.

Observed share of p < alpha over alpha: overall, in strata of a site's pooled level, and over the
strata in which a sample has at least one read of the rarer state on average, where the lower bars
hold (a discrete statistic of fewer reads cannot fill its tail).
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from benchmarks._chr22 import Chromosome
from melisma.design import make_design
from melisma.differential import Noise, simulate, site_tests
from melisma.errors import MelismaError
from melisma.methylome import sample_sheet

Test = Literal["score", "arcsine"]
ALPHAS = (0.05, 0.01, 0.001)
STRATA = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.7), (0.7, 0.9), (0.9, 1.01))
FIRST_SEED = 100
MOST_SEEDS = 40
LOWER = {0.05: 0.80, 0.01: 0.65, 0.001: 0.4}
UPPER = {0.05: 1.15, 0.01: 1.20, 0.001: 1.5}
STRATUM_UPPER = {0.01: 1.3, 0.001: 2.0}
# A stratum with fewer than ten expected p < .001 says nothing at that level.
_ENOUGH = 10 / 0.001


class Null(NamedTuple):
    """A design without an effect: sheet, formula, contrast, block, depth factors, noise."""

    name: str
    sheet: dict[str, list[Any]]
    formula: str
    contrast: str
    block: str | None = None
    depth: np.ndarray | None = None
    noise: Noise = Noise()
    bars: bool = True
    lower: bool = True


def _sheet(n: int, **columns: list[Any]) -> dict[str, list[Any]]:
    return {"sample": [f"s{i}" for i in range(n)], **columns}


def groups(a: int, b: int) -> dict[str, list[Any]]:
    """A sheet of `a` samples of level a and `b` of level b."""
    return _sheet(a + b, g=["a"] * a + ["b"] * b)


def nulls() -> Iterator[Null]:
    """The designs whose size is shown; those with `bars` have to keep them."""
    two = "g[b] - g[a]"
    yield Null("2v2", groups(2, 2), "~ g", two, lower=False)
    yield Null("3v3", groups(3, 3), "~ g", two)
    yield Null("4v4", groups(4, 4), "~ g", two)
    yield Null("10v10", groups(10, 10), "~ g", two)
    pairs = _sheet(40, g=["a", "b"] * 20, pair=[f"p{i // 2:02}" for i in range(40)])
    yield Null("20_pairs", pairs, "~ g", two, block="pair")
    litters = _sheet(32, g=["a"] * 16 + ["b"] * 16, litter=[f"l{i // 4}" for i in range(32)])
    yield Null("8_litters_of_4", litters, "~ g", two, block="litter")
    levels = _sheet(16, g=[level for level in "abcd" for _ in range(4)])
    yield Null("4_levels", levels, "~ g", "g")
    yield Null("continuous", _sheet(12, age=list(np.linspace(20, 70, 12))), "~ age", "age")
    batch = _sheet(16, g=["a"] * 8 + ["b"] * 8, f=["x", "y", "y"] * 5 + ["x"])
    yield Null("batch_covariate", batch, "~ g + f", two)
    depth = np.array([0.4] * 4 + [2.4] * 4)
    yield Null("5x_against_30x", groups(4, 4), "~ g", two, depth=depth)
    spread = Noise(rho_spread=0.8)
    yield Null("4v4_dispersion_by_site", groups(4, 4), "~ g", two, noise=spread, bars=False)
    depth = np.array([0.4] * 3 + [2.4] * 9)
    yield Null("3v9_5x_against_30x", groups(3, 9), "~ g", two, depth=depth, bars=False)
    levels = _sheet(15, g=[level for level in "abc" for _ in range(5)])
    yield Null("one_of_3_levels", levels, "~ g", two, bars=False)
    # Each litter's second member is sequenced 2.5 times deeper where the exposure is b.
    deep = np.array([1.0] * 12 + [1.0, 2.5] * 6)
    litters = _sheet(24, g=["a"] * 12 + ["b"] * 12, litter=[f"l{i // 2:02}" for i in range(24)])
    yield Null(
        "12_litters_uneven_members", litters, "~ g", two, block="litter", depth=deep, bars=False
    )


def named(name: str) -> Null:
    """The design of this name."""
    return next(null for null in nulls() if null.name == name)


def simulated(null: Null, chromosome: Chromosome, seed: int) -> xr.Dataset:
    """One data set of a design."""
    return simulate(
        *chromosome,
        null.sheet,
        seed=seed,
        noise=null.noise,
        block=null.sheet[null.block] if null.block else None,
        sample_depth=null.depth,
    ).methylome


class Tally:
    """Counts of p < alpha by stratum over data sets.

    tests : (seeds, 1 + alphas, strata), tests and how many of them fell below each alpha
    minor : (strata,) reads of the rarer state a sample, summed over tests
    """

    def __init__(self) -> None:
        self.tests: list[np.ndarray] = []
        self.minor = np.zeros(len(STRATA))
        self.sites = 0

    def add(self, methylome: xr.Dataset, p: np.ndarray) -> None:
        """Count one data set's p-values, (sites,), NaN where a site was not tested."""
        methylated, coverage = methylome["methylated"].values, methylome["coverage"].values
        marked, reads = methylated.sum(axis=1, dtype=np.int64), coverage.sum(axis=1, dtype=np.int64)
        # A peer that smooths has p-values where no sample has a read, too.
        tested = np.isfinite(p) & (reads > 0)
        self.sites += len(p)
        p, marked, reads = p[tested], marked[tested], reads[tested]
        stratum = np.searchsorted([high for _, high in STRATA], marked / reads, side="right")
        minor = np.minimum(marked, reads - marked) / coverage.shape[1]
        k = len(STRATA)
        self.minor += np.bincount(stratum, weights=minor, minlength=k)
        below = [np.bincount(stratum[p < alpha], minlength=k) for alpha in ALPHAS]
        self.tests.append(np.stack([np.bincount(stratum, minlength=k), *below]))

    @property
    def tested(self) -> int:
        """How many tests were made."""
        return int(sum(counts[0].sum() for counts in self.tests))

    def report(self, *, lower: bool = True) -> dict[str, Any]:
        """Ratios, strata, and whether they lie within the bars; `lower` False waives the lower."""
        by_seed = np.array(self.tests)
        counts = by_seed.sum(axis=0)
        per_seed = np.stack([_ratios(seed.sum(axis=1)) for seed in by_seed])
        error = per_seed.std(axis=0, ddof=1) / np.sqrt(len(by_seed)) if len(by_seed) > 1 else None
        minor = self.minor / np.maximum(counts[0], 1)
        judged = minor >= 1
        strata, worst = {}, {}
        for k, (low, high) in enumerate(STRATA):
            ratio = dict(zip(ALPHAS, _ratios(counts[:, k]), strict=True))
            strata[f"{low:g}-{min(high, 1):g}"] = {
                **_named(ratio),
                "tested": int(counts[0, k]),
                "expected_minor_reads": round(float(minor[k]), 2),
            }
            if counts[0, k] >= _ENOUGH:
                worst = {alpha: max(worst.get(alpha, 0.0), ratio[alpha]) for alpha in STRATUM_UPPER}
        overall = dict(zip(ALPHAS, _ratios(counts.sum(axis=1)), strict=True))
        enough = dict(zip(ALPHAS, _ratios(counts[:, judged].sum(axis=1)), strict=True))
        misses = _misses(overall, enough if lower and judged.any() else None, worst)
        return {
            **_named(overall),
            "worst_stratum": _named(worst) or dict.fromkeys(map("{:g}".format, STRATUM_UPPER)),
            "untestable": round(1 - self.tested / max(self.sites, 1), 3),
            "with_a_minor_read_a_sample": _named(enough) if judged.any() else None,
            "standard_error": None
            if error is None
            else _named(dict(zip(ALPHAS, error, strict=True))),
            "strata": strata,
            "within_bars": not misses,
            "misses": misses,
            "tested": self.tested,
            "seeds": len(by_seed),
        }


def _ratios(counts: np.ndarray) -> np.ndarray:
    return counts[1:] / max(counts[0], 1) / np.array(ALPHAS)


def _named(ratio: dict[float, Any]) -> dict[str, float]:
    return {f"{alpha:g}": round(float(value), 3) for alpha, value in ratio.items()}


def _misses(
    overall: dict[float, float], enough: dict[float, float] | None, worst: dict[float, float]
) -> list[str]:
    """Which bars are missed, and by what."""
    found = [
        f"overall at {alpha:g}: {overall[alpha]:.3f} > {bar:g}"
        for alpha, bar in UPPER.items()
        if overall[alpha] > bar
    ]
    found += [
        f"overall at {alpha:g}: {enough[alpha]:.3f} < {bar:g}"
        for alpha, bar in LOWER.items()
        if enough is not None and max(overall[alpha], enough[alpha]) < bar
    ]
    return found + [
        f"worst stratum at {alpha:g}: {worst[alpha]:.3f} > {bar:g}"
        for alpha, bar in STRATUM_UPPER.items()
        if worst.get(alpha, 0.0) > bar
    ]


def null_ratio(
    null: Null, chromosome: Chromosome, *, seeds: int, tests: int, test: Test = "score"
) -> dict[str, Any] | str:
    """Size of a test over at least so many seeds and tests; the reason if it refuses."""
    tally = Tally()
    for seed in range(FIRST_SEED, FIRST_SEED + MOST_SEEDS):
        made = simulated(null, chromosome, seed)
        design = make_design(sample_sheet(made), null.formula, block=null.block)
        try:
            result = site_tests(made, design, null.contrast, test=test)
        except MelismaError as error:
            return str(error)
        tally.add(made, result.table["p"].to_numpy())
        if len(tally.tests) >= seeds and tally.tested >= tests:
            break
    report = tally.report(lower=null.lower)
    return report if null.bars else report | {"bars": "not asked"}

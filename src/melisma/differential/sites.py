"""Site tests: which sites' marks follow a contrast."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr
from scipy.special import chdtri, stdtr, stdtrit

from melisma import progress
from melisma.design import Comparison, Contrast, Design, compare, make_contrasts
from melisma.differential._array_engine import ArrayEngine
from melisma.differential._array_sites import UNTESTABLE_LEVELS, level_columns
from melisma.differential._effects import Effects
from melisma.differential._engine import (
    UNTESTABLE,
    Engine,
    build_engine,
    can_test,
    untestable,
)
from melisma.differential._filter import Filtered, filter_by_reads
from melisma.differential._filter import benjamini_hochberg as benjamini_hochberg
from melisma.differential._kernels import Floats
from melisma.differential._site_table import Columns, site_table
from melisma.differential._unequal_engine import (
    UNTESTABLE_SIDES,
    UnequalEngine,
    build_unequal,
)
from melisma.errors import MelismaError
from melisma.methylome import Block, blocks, single_mark

CONFIDENCE = 0.95
# Above this share of moving sites a difference is called global.
_GLOBAL_SHIFT = 0.2


@dataclass(frozen=True)
class SiteTests:
    """What `site_tests` found.

    `table` has a row a site: contig, position, strand, mark, context, delta_beta, ci_low,
    ci_high, statistic (t), df, p, q, n_used. Sites that cannot be tested have null statistic, p
    and q. Where the contrast asks about several coefficients at once the statistic is F on
    (comparison.k, df); for a factor delta_beta is then the largest difference between two of its
    levels, which the column `between` names, without an interval, and null for other terms.
    A methylome of probes has the column `probe` too, and null contigs and positions where a probe
    has no place. `inflation` is the genomic-control lambda, the median chi-square over its
    expectation; `reasons` counts why sites could not be tested; `notes` says what a reader of the
    result must know.
    """

    table: pl.DataFrame
    comparison: Comparison
    engine: Engine | ArrayEngine
    tested: int
    untestable: int
    inflation: float
    reasons: dict[str, int]
    notes: tuple[str, ...]

    def significant(self, q: float = 0.05) -> pl.DataFrame:
        """The sites with a q-value below `q`, the smallest p first, ties by |statistic|."""
        strength = pl.col("statistic").abs()
        called = self.table.filter(pl.col("q") < q)
        return called.sort(pl.col("p"), strength, descending=[False, True], maintain_order=True)


def site_tests(
    methylome: xr.Dataset,
    design: Design,
    contrast: str | Contrast,
    *,
    mark: str | None = None,
    test: Literal["score", "arcsine"] = "score",
    filter_at: float | None = None,
    incomplete: bool = False,
    variance: Literal["equal", "unequal"] = "equal",
) -> SiteTests:
    """Which sites' marks differ along a contrast, the variation between samples allowed for.

    A quasi-binomial score test: the variance of M/N at the reduced model's mean is
    mu (1 - mu) (1 + (N - 1) rho) / N with rho common to all sites or a smooth function of level;
    what a site varies beyond that is its Pearson dispersion, squeezed across sites (Smyth 2004),
    and t has the residual and the prior's degrees of freedom; p in the tails of t is by a
    saddlepoint approximation, as scores of unequal groups are skewed. Blocks are fixed effects
    where the exposure varies inside them; where it does not, whole blocks are the units.

    Levels without counts (arrays, matrices) are tested by linear models of M-values, whose
    variances are squeezed towards a trend in the mean M-value (limma's, Smyth 2004).

    Parameters
    ----------
    methylome : Dataset with `methylated` and `coverage`, (sites, samples), counts; or with `beta`
    design : the model, over the same samples in the same order
    contrast : `cell[b] - cell[a]`, a coefficient's name, a factor (are all its levels equal?), a
        term such as `cell:age` (are all its coefficients 0?), or one of `make_contrasts`
    mark : which mark, where the methylome has several
    test : "score", or "arcsine" for least squares of arcsine levels, one pass and faster, with
        mean and variance from the beta-binomial distribution (of counts only)
    filter_at : leave sites with few reads over all samples out of the correction, the threshold
        chosen for the most sites with q below this; their q is null (of counts only)
    incomplete : use blocks that hold one level only, by one correlation within blocks for all
        sites and generalised least squares, instead of one fixed effect a block (score test)
    variance : "unequal" gives each of the two levels that are compared a dispersion and a prior of
        its own, and t Satterthwaite's degrees of freedom (score test, samples or whole blocks)

    Returns
    -------
    SiteTests; delta_beta and its interval are on the 0-1 scale (for a coefficient: a unit of
    the covariate), the interval by MOVER from the two groups' Wilson intervals
    (Zou & Donner 2008).

    Raises
    ------
    MelismaError
        The contrast cannot be estimated, there are no replicates, no site can be tested,
        design and methylome have different samples, or unequal variances are asked for within
        blocks or of something else than two levels.
    """
    comparison = one_comparison(design, contrast, several=True, incomplete=incomplete)
    if comparison.correlated is not None and (test == "arcsine" or "beta" in methylome):
        raise MelismaError("Incomplete blocks are used by the score test of counts only.")
    unequal = variance == "unequal"
    if unequal and (test == "arcsine" or "beta" in methylome):
        raise MelismaError("Unequal variances are allowed for by the score test of counts only.")
    methylome = of_design(methylome, design)
    methylome = single_mark(methylome, mark)
    if "beta" in methylome:
        columns, array_engine = level_columns(methylome, comparison)
        if comparison.contrast.among:
            columns["delta_beta"], columns["between"] = largest_difference(
                columns.pop("coefficients")
            )
        return _results(methylome, array_engine, columns, UNTESTABLE_LEVELS)
    if unequal:
        engine = build_unequal(methylome, comparison)
    else:
        engine = build_engine(methylome, comparison, arcsine=test == "arcsine")
    columns = Columns(methylome.sizes["site"])
    with progress.stage("Testing sites", methylome.sizes["site"]) as advance:
        for block in blocks(methylome):
            part = _test_block(engine, block)
            if filter_at is not None:
                part["reads"] = block.coverage.sum(axis=1, dtype=np.int64)
            columns.add(part)
            advance(len(block.position))
    values = columns.values | columns.sums
    filtered = None
    if filter_at is not None:
        filtered = filter_by_reads(values["p"], values.pop("reads"), filter_at)
    del columns
    reasons = UNTESTABLE_SIDES if unequal else UNTESTABLE
    return _results(methylome, engine, values, reasons, filtered)


def one_comparison(
    design: Design, contrast: str | Contrast, *, several: bool = False, incomplete: bool = False
) -> Comparison:
    """The single comparison that a contrast's text means; of several coefficients if allowed."""
    if isinstance(contrast, str):
        contrasts = make_contrasts(design, contrast)
        if len(contrasts) > 1:
            names = "; ".join(c.name for c in contrasts)
            raise MelismaError(f"{contrast} is {len(contrasts)} contrasts: ask for one of {names}.")
        contrast = contrasts[0]
    if len(contrast.vectors) > 1 and not several:
        pairs = f" pairwise({contrast.column}) or" if contrast.among else ""
        raise MelismaError(
            f"{contrast.name} is {len(contrast.vectors)} coefficients at once, which only tests of "
            f"sites and regions can judge: ask for{pairs} one coefficient."
        )
    return compare(design, contrast, incomplete=incomplete)


def of_design(methylome: xr.Dataset, design: Design) -> xr.Dataset:
    """The methylome without the samples that the design left out for missing values."""
    if design.dropped:
        names = methylome["sample"].values
        left_out = set(design.dropped)
        methylome = methylome.isel(sample=[k for k, n in enumerate(names) if n not in left_out])
    check_samples(methylome, design)
    return methylome


def check_samples(methylome: xr.Dataset, design: Design) -> None:
    """The design must be over the methylome's samples, in its order."""
    names = tuple(str(name) for name in methylome["sample"].values)
    if names != design.samples:
        raise MelismaError(
            f"The design has the samples {', '.join(design.samples[:4])}… and the methylome "
            f"{', '.join(names[:4])}…: build the design from the methylome's own sample sheet."
        )


def _test_block(engine: Engine, block: Block) -> dict[str, Any]:
    methylated, coverage = engine.pool(block.methylated, block.coverage)
    p = None
    if isinstance(engine, UnequalEngine):
        fit, statistic, df, p = engine.test(methylated, coverage)
        tested = can_test(fit)
    else:
        fit = engine.fit(methylated, coverage)
        tested = can_test(fit)
        variance, df = engine.variance(fit)
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.where(tested, fit.score / np.sqrt(fit.information * variance), np.nan)
    unknown = np.where(tested, 0.0, np.nan)
    between = {}
    k = engine.comparison.k
    if k > 1:
        statistic = statistic**2 / k
        delta = np.full(len(tested), np.nan)
        if engine.comparison.contrast.among:
            above_first = engine.coefficients(methylated, coverage)
            delta, between["between"] = largest_difference(above_first)
        ci_low = ci_high = np.full(len(tested), np.nan)
    else:
        effects = engine.effects(methylated, coverage)
        delta = effects.delta
        ci_low, ci_high = mover_interval(effects, *engine.effect_variance(effects))
    if p is None:
        p = engine.p_values(methylated, coverage, statistic, df, tested)
    return {
        "contig": block.contig,
        "position": block.position,
        "strand": block.strand,
        "context": block.context,
        "delta_beta": delta,
        "ci_low": ci_low + unknown,
        "ci_high": ci_high + unknown,
        "statistic": statistic,
        "df": df + unknown,
        "p": p,
        "n_used": fit.used,
        "untestable": np.array([untestable(fit)]),
        **between,
    }


def largest_difference(above_first: Floats) -> tuple[Floats, npt.NDArray[np.int16]]:
    """The largest difference between two of a factor's levels, and which two.

    Parameters
    ----------
    above_first : (sites, k) each further level less the first, on the 0-1 scale; NaN unknown

    Returns
    -------
    delta : (sites,) the later level less the earlier; NaN where a level is not seen
    between : (sites, 2) the later and the earlier level's place among the contrast's levels
    """
    sites = len(above_first)
    levels = np.hstack([np.zeros((sites, 1)), above_first])
    known = ~np.isnan(above_first[:, 0])
    levels[~known] = 0.0
    ends = np.stack([levels.argmax(axis=1), levels.argmin(axis=1)], axis=1)
    late, early = ends.max(axis=1), ends.min(axis=1)
    rows = np.arange(sites)
    delta = np.where(known, levels[rows, late] - levels[rows, early], np.nan)
    return delta, np.stack([late, early], axis=1).astype(np.int16)


def two_sided(t: Floats, df: Floats) -> Floats:
    """Two-sided p of a t statistic; df may be infinite.

    >>> round(float(two_sided(np.array([2.0]), np.array([np.inf]))[0]), 4)
    0.0455
    """
    # stdtr does not take infinite degrees of freedom; 1e10 is the normal to 10 digits.
    return 2.0 * stdtr(np.minimum(df, 1e10), -np.abs(t))


def mover_interval(effects: Effects, dispersion: Floats, df: Floats) -> tuple[Floats, Floats]:
    """MOVER interval of a difference from Wilson intervals at effective reads a side.

    Parameters
    ----------
    effects : of `Engine.effects`
    dispersion, df : (sites,) variance over its model, and its degrees of freedom

    Returns
    -------
    ci_low, ci_high; for a coefficient, which has no sides, the usual t interval.
    """
    delta = effects.delta
    quantile = stdtrit(np.clip(df, 1.0, 1e10), 0.5 + CONFIDENCE / 2)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        half = quantile * np.sqrt(dispersion * effects.variance)
        high_low, high_high = _wilson(effects.high, effects.reads_high / dispersion, quantile)
        low_low, low_high = _wilson(effects.low, effects.reads_low / dispersion, quantile)
        below = np.hypot(effects.high - high_low, low_high - effects.low)
        above = np.hypot(high_high - effects.high, effects.low - low_low)
        sided = np.isfinite(effects.high)
        low = np.where(sided, np.maximum(delta - below, -1.0), delta - half)
        return low, np.where(sided, np.minimum(delta + above, 1.0), delta + half)


def _wilson(p: Floats, reads: Floats, quantile: Floats) -> tuple[Floats, Floats]:
    """Wilson's score interval of a proportion (1927)."""
    z2 = quantile**2
    centre = (p + z2 / (2 * reads)) / (1 + z2 / reads)
    half = quantile * np.sqrt(p * (1 - p) / reads + z2 / (4 * reads**2)) / (1 + z2 / reads)
    return np.minimum(centre - half, p), np.maximum(centre + half, p)


def inflation(p: Floats) -> float:
    """Genomic-control lambda: the median chi-square of the p-values over its expectation."""
    p = p[~np.isnan(p)]
    if not len(p):
        return float("nan")
    median = float(chdtri(1, np.median(p)))
    return median / float(chdtri(1, 0.5))


def _results(
    methylome: xr.Dataset,
    engine: Engine | ArrayEngine,
    columns: dict[str, Any],
    reasons: tuple[str, ...],
    filtered: Filtered | None = None,
) -> SiteTests:
    """The results of columns, which are emptied on the way."""
    p = columns["p"]
    tested, sites = int(np.isfinite(p).sum()), len(p)
    notes = (
        *engine.comparison.notes,
        *engine.notes,
        *_filter_note(filtered),
        *_shift(p, columns["delta_beta"], engine.comparison.k),
    )
    found = inflation(p)
    q = benjamini_hochberg(p) if filtered is None else filtered.q
    del p
    between = _between(engine, columns)
    counted = columns["untestable"].sum(axis=0)
    return SiteTests(
        table=site_table(methylome, columns, q, between),
        comparison=engine.comparison,
        engine=engine,
        tested=tested,
        untestable=sites - tested,
        inflation=found,
        reasons=dict(zip(reasons, map(int, counted), strict=True)),
        notes=notes,
    )


def _filter_note(filtered: Filtered | None) -> tuple[str, ...]:
    if filtered is None:
        return ()
    return (
        f"{filtered.left_out:,} tested sites with fewer than {filtered.reads:g} reads over all "
        "samples are filtered: they have p but no q.",
    )


def _between(engine: Engine | ArrayEngine, columns: dict[str, Any]) -> pl.Series | None:
    """A column that names the two levels of the largest difference, `b - a`, for a factor."""
    levels = engine.comparison.contrast.among
    return between_levels(levels, columns["delta_beta"], columns["between"]) if levels else None


def between_levels(
    levels: tuple[str, ...], delta: Floats, between: npt.NDArray[np.int16]
) -> pl.Series:
    """The names of the two levels of `largest_difference`, `b - a`; null where it is unknown."""
    words = pl.Series(levels, dtype=pl.String)
    late, early = (words.gather(between[:, k].astype(np.int64)) for k in (0, 1))
    both = pl.DataFrame({"late": late, "early": early, "known": pl.Series(np.isfinite(delta))})
    text = pl.when("known").then(pl.format("{} - {}", "late", "early"))
    return both.select(text.alias("between"))["between"]


def _shift(p: Floats, delta: Floats, k: int) -> tuple[str, ...]:
    """A sentence where more than a fifth of the genome moves (Storey's share of p above 1/2)."""
    tested = np.isfinite(p)
    n = np.count_nonzero(tested)
    moving = 1.0 - 2.0 * np.count_nonzero(p > 0.5) / n if n else 0.0
    if moving < _GLOBAL_SHIFT or n < 1000:
        return ()
    median = "" if k > 1 else f" (median difference {np.median(delta[tested]):+.3f})"
    return (
        f"About {moving:.0%} of {n:,} tested sites move{median}: a global shift, which single "
        "regions do not explain.",
    )

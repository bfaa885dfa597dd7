"""Region tests: where neighbouring sites differ together, with an FDR from relabelled data."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma.design import Comparison, Design
from melisma.differential._engine import Engine, build_engine
from melisma.differential._kernels import Floats
from melisma.differential._relabel import draw_moves
from melisma.differential._search import (
    Candidates,
    Levelled,
    Search,
    learn_null,
    search_regions,
)
from melisma.differential.sites import (
    check_samples,
    mover_interval,
    one_comparison,
)
from melisma.methylome import single_mark

# Family-wise p needs this many relabellings to reach .05 with room (1 / 40).
_MIN_FAMILY = 39
_MASK_ROUNDS = 2
# Labellings times sites kept in reach of a minute: 999 up to 50,000 sites, 100 at half a
# million, 10 at 5 million and above.
_WORK = 5e7
_MOST_RELABELLINGS = 999
_FEWEST_RELABELLINGS = 10


@dataclass(frozen=True)
class RegionTests:
    """What `find_regions` found.

    `table` has a row a candidate region: region, contig, start, end, mark, sites, statistic,
    delta_beta, ci_low, ci_high, p, q, p_family. `called_by_relabelling` says how many regions
    each relabelled (or rotated, as `null` says) data set would have called at the same cut;
    `distinct` is the number of distinct relabellings.
    """

    table: pl.DataFrame
    comparison: Comparison
    engine: Engine
    null: Literal["relabellings", "rotations"]
    relabellings: int
    distinct: int
    null_regions: float
    called_by_relabelling: tuple[int, ...]
    q: float
    seed: int
    search: Search

    @property
    def null_words(self) -> str:
        """What the regions were judged against: `999 relabellings of 6,435`."""
        if self.null == "relabellings":
            return f"{self.relabellings} relabellings of {self.distinct:,}"
        relabellings = "relabelling" if self.distinct == 1 else "relabellings"
        units = f"{self.comparison.n_units} {self.comparison.unit}"
        if self.comparison.side is not None and self.comparison.unit == "samples":
            units = " against ".join(str((self.comparison.side == s).sum()) for s in (1, -1))
        return f"{self.relabellings} rotations: {units} allow {self.distinct} {relabellings}"

    @property
    def null_adjective(self) -> str:
        """What the null's data are: `relabelled` or `rotated`."""
        return "relabelled" if self.null == "relabellings" else "rotated"

    def significant(self) -> pl.DataFrame:
        """The regions with a q-value below the asked one, the smallest p first."""
        return self.table.filter(pl.col("q") < self.q).sort("p", "start")


def find_regions(
    methylome: xr.Dataset,
    design: Design,
    contrast: str,
    *,
    mark: str | None = None,
    q: float = 0.05,
    relabellings: int | None = None,
    seed: int = 1,
    search: Search = Search(),
) -> RegionTests:
    """Which regions' marks differ along a contrast, judged against relabelled or rotated data.

    Signed site scores are smoothed along the genome; stretches beyond a threshold become
    candidates, their boundaries the stretch of largest likelihood ratio; a candidate's statistic
    is its information-weighted score over its standard deviation, the residuals'
    autocorrelation allowed for. The same search runs on relabelled data (whole samples, within
    exchangeability blocks) or, where fewer than 200 distinct relabellings exist, on rotated
    residuals, and q is the expected number of null regions outside called regions over the
    observed number.

    Parameters
    ----------
    methylome, design, contrast, mark : as for `site_tests`
    q : the false discovery rate at which regions are called (and masked from the null)
    relabellings : how many, or how many rotations; default 999 up to 50,000 sites, fewer on
        more, 10 at the least
    seed : of their choice

    Returns
    -------
    RegionTests. A region's FDR concerns "no site in it differs", not its boundaries; its
    interval for delta_beta does not allow for the region's having been selected.

    Raises
    ------
    MelismaError
        As `site_tests`.
    """
    comparison = one_comparison(design, contrast)
    check_samples(methylome, design)
    methylome = single_mark(methylome, mark)
    engine = build_engine(methylome, comparison)
    moves = draw_moves(comparison, relabellings or _affordable(methylome.sizes["site"]), seed)
    null = learn_null(methylome, engine, moves)
    candidates, levelled = search_regions(methylome, engine, moves, null, search)
    judged = judge(candidates, methylome.sizes["site"], moves.drawn, q)
    return RegionTests(
        table=_table(methylome, engine, candidates, levelled, judged),
        comparison=comparison,
        engine=engine,
        null=moves.kind,
        relabellings=moves.drawn,
        distinct=moves.distinct,
        null_regions=float((candidates.labelling > 0).sum() / moves.drawn),
        called_by_relabelling=judged.called_by_relabelling,
        q=q,
        seed=seed,
        search=search,
    )


def _affordable(sites: int) -> int:
    return int(np.clip(_WORK / max(sites, 1), _FEWEST_RELABELLINGS, _MOST_RELABELLINGS))


@dataclass(frozen=True)
class Judged:
    """p, q, p_family of the observed candidates, (regions,), and the null's calls at the cut."""

    p: Floats
    q: Floats
    p_family: Floats
    called_by_relabelling: tuple[int, ...]


def judge(candidates: Candidates, sites: int, relabellings: int, q: float) -> Judged:
    """False discovery rates with called regions masked from the null.

    FDR(t) = (1 + null regions >= t outside called ones) / relabellings, scaled by all sites over
    unmasked sites, over observed regions >= t; made monotone; called, masked, twice over.
    """
    observed = candidates.labelling == 0
    statistic = np.abs(candidates.statistic)
    own, null = statistic[observed], statistic[~observed]
    start, end = candidates.start[observed], candidates.end[observed]
    called = np.zeros(len(own), dtype=bool)
    values = np.ones(len(own))
    for _ in range(_MASK_ROUNDS + 1):
        outside = ~_overlaps(
            candidates.start[~observed], candidates.end[~observed], start[called], end[called]
        )
        masked = int((end[called] - start[called]).sum())
        values = _false_discovery(own, null[outside], relabellings, sites / max(sites - masked, 1))
        again = values < q
        if (again == called).all():
            break
        called = again
    above = _count_at_least(null, own)
    # At least one null candidate a relabelling: p is never resolved finer than their number.
    p = np.minimum((1.0 + above) / (1.0 + max(len(null), relabellings)), 1.0)
    family = np.full(len(own), np.nan)
    labelling = candidates.labelling[~observed]
    if relabellings >= _MIN_FAMILY:
        largest = np.zeros(relabellings)
        np.maximum.at(largest, labelling - 1, null)
        family = (1.0 + _count_at_least(largest, own)) / (1.0 + relabellings)
    cut = own[called].min() if called.any() else np.inf
    calls = np.bincount(labelling[null >= cut] - 1, minlength=relabellings)
    return Judged(p, values, family, tuple(int(n) for n in calls))


def _count_at_least(values: Floats, thresholds: Floats) -> Floats:
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left").astype(float)


def _false_discovery(own: Floats, null: Floats, relabellings: int, rescale: float) -> Floats:
    expected = (1.0 + _count_at_least(null, own)) / relabellings * rescale
    rate = np.minimum(expected / _count_at_least(own, own), 1.0)
    order = np.argsort(own)
    monotone = np.empty(len(own))
    # A smaller statistic never has a smaller q: running minimum from the smallest upwards.
    monotone[order] = np.minimum.accumulate(rate[order])
    return monotone


def _overlaps(
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    other_start: npt.NDArray[np.int64],
    other_end: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Which [start, end) overlap any of the sorted, disjoint others."""
    order = np.argsort(other_start)
    k = np.searchsorted(other_end[order], start, side="right")
    starts = np.append(other_start[order], np.iinfo(np.int64).max)
    return starts[k] < end


def _table(
    methylome: xr.Dataset,
    engine: Engine,
    candidates: Candidates,
    levelled: Levelled,
    judged: Judged,
) -> pl.DataFrame:
    own = candidates.labelling == 0
    start, end = candidates.start[own], candidates.end[own]
    contigs = methylome.attrs["contigs"]
    mark = methylome.attrs["marks"][int(methylome["mark"][:1].values[0])]
    position = methylome["position"].values
    contig = [contigs[i] for i in methylome["contig"].values[start]]
    first, last = position[start].astype(np.int64), position[end - 1].astype(np.int64) + 1
    delta, low, high = region_effects(engine, levelled)
    table = pl.DataFrame(
        {
            "region": [f"{c}:{a}-{b}" for c, a, b in zip(contig, first, last, strict=True)],
            "contig": contig,
            "start": first,
            "end": last,
            "mark": [mark] * len(start),
            "sites": end - start,
            "statistic": candidates.statistic[own],
            "delta_beta": delta,
            "ci_low": low,
            "ci_high": high,
            "p": judged.p,
            "q": judged.q,
            "p_family": judged.p_family,
        },
        schema_overrides={"region": pl.String, "contig": pl.String, "mark": pl.String},
    )
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def region_effects(engine: Engine, levelled: Levelled) -> tuple[Floats, Floats, Floats]:
    """Difference of each region's levels, with an interval from the units' own variation."""
    effects = engine.effects(levelled.methylated, levelled.coverage)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.where(effects.df >= 1, effects.residual / effects.df, np.nan)
    low, high = mover_interval(effects, dispersion, effects.df.astype(np.float64))
    return effects.delta, low, high

"""A global shift: much of the genome moves, and regions are set against what it does."""

from typing import NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from melisma.differential._engine import Engine, can_test
from melisma.differential._judge import null_share
from melisma.differential._kernels import Floats
from melisma.differential._search import LEVELS, Candidates, Levelled
from melisma.differential._stretches import Stretch, map_stretches

# Above this share of moving sites a difference is called global.
GLOBAL_SHIFT = 0.2
_ENOUGH_SITES = 1000
# The median of an absolute normal score: p is above one half below it.
_MEDIAN = 0.6745
_SITES = 200_000
_FEW = 50


class Shift(NamedTuple):
    """What the genome does along a contrast: the median difference, in all and by level.

    `moving` is the share of `sites`, the tested sites that were looked at.
    """

    moving: float
    sites: int
    delta: float
    by_level: Floats


def moving_share(scores: Floats) -> float:
    """Storey's estimate of the share of sites that move, from normal scores; 0 of too few."""
    if len(scores) < _ENOUGH_SITES:
        return 0.0
    return 1.0 - 2.0 * float((np.abs(scores) < _MEDIAN).mean())


def learn_shift(methylome: xr.Dataset, engine: Engine, scores: Floats) -> Shift:
    """A shift from normal scores, and differences of sites of evenly spaced stretches."""

    def work(stretch: Stretch) -> tuple[Floats, Floats]:
        keep = can_test(engine.fit(stretch.methylated, stretch.coverage))
        methylated, coverage = stretch.methylated[keep], stretch.coverage[keep]
        delta = engine.effects(methylated, coverage).delta
        return delta, methylated.sum(axis=1) / coverage.sum(axis=1)

    every = max(1, methylome.sizes["site"] // _SITES)
    parts = list(map_stretches(methylome, engine, work, every=every))
    delta, level = (np.concatenate(column) for column in zip(*parts, strict=True))
    return make_shift(scores, delta, level)


def make_shift(scores: Floats, delta: Floats, level: Floats) -> Shift:
    """A shift from sites' normal scores, and from differences and pooled levels."""
    known = np.isfinite(delta)
    delta, stratum = delta[known], np.searchsorted(LEVELS, level[known])
    whole = float(np.median(delta))
    by_level = [
        np.median(delta[stratum == k]) if (stratum == k).sum() >= _FEW else whole
        for k in range(len(LEVELS) + 1)
    ]
    return Shift(moving_share(scores), len(scores), whole, np.array(by_level))


def against_shift(
    table: pl.DataFrame,
    shift: Shift,
    levelled: Levelled,
    candidates: Candidates,
    relabellings: int,
) -> pl.DataFrame:
    """The table with delta_shift, a region's difference less the genome's at its level, and
    p_shift, the share of null regions that are as extreme as what is left of its statistic."""
    reads = np.maximum(levelled.coverage.sum(axis=1), 1e-9)
    stratum = np.searchsorted(LEVELS, levelled.methylated.sum(axis=1) / reads)
    delta = table["delta_beta"].to_numpy()
    left = delta - shift.by_level[stratum]
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = table["statistic"].to_numpy() * left / delta
    p = null_share(candidates, np.nan_to_num(statistic), relabellings)
    return table.with_columns(pl.Series("delta_shift", left), pl.Series("p_shift", p))


def shift_note(shift: Shift, called: pl.DataFrame, q: float) -> str:
    """The sentence that goes with a global shift; `called` has p_shift."""
    also = int((called["p_shift"] < q).sum())
    return (
        f"About {shift.moving:.0%} of {shift.sites:,} tested sites move (median difference "
        f"{shift.delta:+.3f}): a global shift. {also:,} of the {len(called):,} called regions "
        f"also differ from it (p_shift < {q:g}; delta_shift is what is left of the difference)."
    )

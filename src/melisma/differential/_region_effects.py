"""What a region's levels differ by, with an interval where there is one."""

import numpy as np
import polars as pl

from melisma.differential._effects import Effects
from melisma.differential._engine import Engine
from melisma.differential._kernels import Floats
from melisma.differential._moderation import FEWEST_FOR_INTERVALS, moderate_regions
from melisma.differential._search import Levelled
from melisma.differential.sites import between_levels, largest_difference, mover_interval


def region_effects(engine: Engine, levelled: Levelled) -> tuple[Floats, Floats, Floats]:
    """Difference of each region's levels, with an interval from the units' variation.

    A region's dispersion is squeezed towards those of regions of about as many reads. Of a factor's
    levels the largest difference; of several coefficients no interval.
    """
    if engine.comparison.k > 1:
        delta = np.full(len(levelled.coverage), np.nan)
        unknown = delta.copy()
        if engine.comparison.contrast.among and len(delta):
            delta, _ = largest_difference(engine.coefficients(*levelled))
        return delta, unknown, unknown
    effects = engine.effects(levelled.methylated, levelled.coverage)
    dispersion, df = moderate_regions(
        effects.residual, effects.df, levelled.coverage.sum(axis=1), engine.comparison.n_units,
        FEWEST_FOR_INTERVALS,
    )  # fmt: skip
    # A common dispersion is not known better than all regions together know it.
    df = np.minimum(df, effects.df.sum())
    return effects.delta, *mover_interval(effects, dispersion, df)


def region_between(engine: Engine, levelled: Levelled) -> pl.Series:
    """The two levels of a factor between which each region's difference is largest, `b - a`."""
    levels = engine.comparison.contrast.among
    if not len(levelled.coverage):
        return pl.Series("between", [], dtype=pl.String)
    return between_levels(levels, *largest_difference(engine.coefficients(*levelled)))


def known_interval(effects: Effects) -> tuple[Floats, Floats, Floats]:
    """Difference and interval where the dispersion is already in the effective reads."""
    known = np.ones(len(effects.delta))
    return effects.delta, *mover_interval(effects, known, np.full(len(known), np.inf))

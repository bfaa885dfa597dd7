"""What the site tests say of relabelled data: the calibration that stands beside every p-value."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import xarray as xr
from scipy.special import ndtr

from melisma.differential._array_engine import ArrayEngine, level_blocks
from melisma.differential._array_sites import p_of
from melisma.differential._engine import Engine, can_test
from melisma.differential._kernels import Floats
from melisma.differential._relabel import count_distinct, draw_relabellings, draw_rows
from melisma.differential._stretches import Stretch, map_stretches
from melisma.differential.sites import benjamini_hochberg, inflation, two_sided

# Above this, evenly spaced stretches of the genome stand for all of it.
_MOST_SITES = 1_000_000
_GRID = 200


@dataclass(frozen=True)
class Calibration:
    """Site tests on relabelled data.

    `site_calls` and `inflations` have an entry a relabelling; `quantiles` has the columns
    expected (uniform quantile), observed_low and observed_high (5% and 95% of the relabelled
    p-values at that quantile), median. `sites` is the number of sites a relabelling.
    """

    relabellings: int
    distinct: int
    sites: int
    site_calls: tuple[int, ...]
    inflations: tuple[float, ...]
    quantiles: pl.DataFrame


def calibrate(
    methylome: xr.Dataset,
    engine: Engine | ArrayEngine,
    *,
    q: float = 0.05,
    relabellings: int = 20,
    seed: int = 1,
) -> Calibration:
    """How many sites the same test calls when the exposure is moved among the samples.

    Parameters
    ----------
    methylome : of one mark, over the engine's samples
    engine : of a `SiteTests`
    q : the false discovery rate of a call
    relabellings : at most this many; fewer where fewer exist
    seed : of their choice

    Returns
    -------
    Calibration; a true effect stays in the data and widens the residuals, so that calls on
    relabelled data are few where the test holds its size, and not exactly q. Groups of
    unequal variance cannot show here: relabelling mixes them.
    """
    if engine.comparison.k > 1:
        drawn, distinct = draw_rows(engine.comparison, relabellings, seed)
    else:
        distinct = count_distinct(engine.comparison)
        drawn = draw_relabellings(engine.comparison, min(relabellings, distinct - 1), seed)
    if isinstance(engine, ArrayEngine):
        p = _relabelled_p_of_levels(methylome, engine, drawn)
    else:
        p = _relabelled_p(methylome, engine, drawn)
    rows = [row[~np.isnan(row)] for row in p]
    expected = np.geomspace(1.0 / max(p.shape[1], 2), 1.0, _GRID)
    if rows and p.shape[1]:
        observed = np.stack([np.quantile(row, expected) for row in rows if len(row)])
    else:
        observed = np.full((1, _GRID), np.nan)
    return Calibration(
        relabellings=len(drawn),
        distinct=distinct,
        sites=p.shape[1],
        site_calls=tuple(int((benjamini_hochberg(row) < q).sum()) for row in rows),
        inflations=tuple(inflation(row) for row in rows),
        quantiles=pl.DataFrame(
            {
                "expected": expected,
                "observed_low": np.quantile(observed, 0.05, axis=0),
                "median": np.median(observed, axis=0),
                "observed_high": np.quantile(observed, 0.95, axis=0),
            }
        ),
    )


def _relabelled_p(methylome: xr.Dataset, engine: Engine, drawn: Floats) -> Floats:
    """p-values of relabelled data, (relabellings, tested sites)."""
    every = max(1, methylome.sizes["site"] // _MOST_SITES)

    def work(stretch: Stretch) -> Floats:
        keep = can_test(engine.fit(stretch.methylated, stretch.coverage))
        z, _ = engine.relabelled(stretch.methylated, stretch.coverage, drawn, keep)
        z = z[:, keep].astype(np.float64)
        if engine.comparison.k > 1:
            return ndtr(-z)
        return two_sided(z, np.full(z.shape, np.inf))

    none = np.zeros((len(drawn), 0))
    parts = map_stretches(methylome, engine, work, every=every) if len(drawn) else ()
    return np.concatenate([none, *parts], axis=1)


def _relabelled_p_of_levels(methylome: xr.Dataset, engine: ArrayEngine, drawn: Floats) -> Floats:
    """As `_relabelled_p`, for levels without counts; of every k-th block of many sites."""
    every = max(1, methylome.sizes["site"] // _MOST_SITES)
    parts = [np.zeros((len(drawn), 0))]
    for number, block in enumerate(level_blocks(methylome)):
        if number % every == 0 and len(drawn):
            found = engine.relabelled(block.beta, drawn)
            parts.append(np.stack([p_of(*both, engine.comparison.k) for both in found]))
    return np.concatenate(parts, axis=1)

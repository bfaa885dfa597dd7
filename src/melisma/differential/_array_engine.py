"""The fit of levels without counts: linear models of M-values, variances squeezed to a trend.

M = log2(beta / (1 - beta)) is near normal where beta is not (Du et al. 2010). Variances are
squeezed towards a smooth function of the mean M-value, as limma does with a trend (Smyth 2004).
Differences and their intervals are of the levels themselves, by the same model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma.design import Comparison
from melisma.differential._array_kernels import fit_rows
from melisma.differential._engine import MAX_VARIANCE_RATIO
from melisma.differential._kernels import Floats
from melisma.differential._trend import Trend, estimate_trend
from melisma.errors import MelismaError
from melisma.methylome import chunk_sites

# Levels are kept this far from 0 and 1, where M-values would be infinite.
EDGE = 1e-3
_FEWEST_SITES = 3


class LevelFit(NamedTuple):
    """One row a site: k orthonormal effects and lengths (sites, k), residual sum, rank, df."""

    effect: Floats
    length: Floats
    residual: Floats
    rank: npt.NDArray[np.int64]
    df: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ArrayEngine:
    """A comparison of levels, with the priors of its variances on the M and on the 0-1 scale."""

    comparison: Comparison
    prior: Trend
    beta_prior: Trend
    learned_from: int
    notes: tuple[str, ...] = ()

    def statistic(self, fitted: LevelFit, level: Floats) -> tuple[Floats, Floats]:
        """t of one coefficient or F of several at every site, and its residual df; NaN untestable.

        fitted, level : of M-values, and their mean
        """
        k = self.comparison.k
        variance, df = moderated(fitted, level, self.prior)
        with np.errstate(divide="ignore", invalid="ignore"):
            if k == 1:
                value = fitted.effect[:, 0] / np.sqrt(variance)
            else:
                value = (fitted.effect**2).sum(axis=1) / k / variance
        return np.where(testable(fitted, k), value, np.nan), df

    def relabelled(self, beta: Floats, exposures: Floats) -> Iterator[tuple[Floats, Floats]]:
        """The statistic and its df for each relabelled exposure, (b, units) or (b, units, k)."""
        values = m_values(pool(self.comparison, beta))
        level = mean_of(values)
        for exposure in exposures:
            columns = exposure.reshape(len(exposure), -1)
            yield self.statistic(fit_levels(values, self.comparison.reduced, columns), level)


def m_values(beta: Floats) -> Floats:
    """log2(beta / (1 - beta)), levels kept 0.001 from 0 and 1; NaN stays."""
    kept = np.clip(beta, EDGE, 1.0 - EDGE)
    return np.log2(kept / (1.0 - kept))


def mean_of(values: Floats) -> Floats:
    """Mean over the units that a site has, (sites,); 0 where it has none."""
    seen = ~np.isnan(values)
    return np.where(seen, values, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)


def pool(comparison: Comparison, beta: Floats) -> Floats:
    """Levels of the units, float64: a block has its members' mean, and none where one lacks it."""
    values = beta.astype(np.float64)
    if comparison.unit != "blocks":
        return values
    size = np.bincount(comparison.pool)
    pooled = np.zeros((len(values), comparison.n_units))
    for sample, unit in enumerate(comparison.pool):
        pooled[:, unit] += values[:, sample] / size[unit]
    return pooled


def fit_levels(values: Floats, reduced: Floats, exposures: Floats) -> LevelFit:
    """Least squares of every site's values (sites, units) on reduced (units, r) and exposures.

    reduced is orthonormal; exposures (units, k) are taken out of its span.

    Sites that every unit has are fitted together, the others one by one over their units.
    """
    sites, k = len(values), exposures.shape[1]
    # A relabelled exposure is no longer orthogonal to the reduced model.
    exposures = exposures - reduced @ (reduced.T @ exposures)
    fitted = LevelFit(
        np.zeros((sites, k)),
        np.zeros((sites, k)),
        np.zeros(sites),
        np.zeros(sites, dtype=np.int64),
        np.zeros(sites, dtype=np.int64),
    )
    complete = ~np.isnan(values).any(axis=1)
    directions, upper = _directions(exposures)
    whole = values[complete]
    effect = whole @ directions
    left = whole - (whole @ reduced) @ reduced.T - effect @ directions.T
    fitted.effect[complete] = effect
    fitted.length[complete] = np.diag(upper)
    fitted.residual[complete] = (left**2).sum(axis=1)
    fitted.rank[complete] = k
    fitted.df[complete] = values.shape[1] - reduced.shape[1] - k
    if not complete.all():
        columns = np.ascontiguousarray(np.hstack([reduced, exposures]).T)
        part = LevelFit(*(np.ascontiguousarray(column[~complete]) for column in fitted))
        fit_rows(values[~complete], columns, reduced.shape[1], *part)
        for column, own in zip(fitted, part, strict=True):
            column[~complete] = own
    return fitted


def level_coefficients(comparison: Comparison, beta: Floats) -> Floats:
    """The contrast's k coefficients at every site, (sites, k), of unit levels; NaN unknown."""
    found = np.full((len(beta), comparison.k), np.nan)
    complete = ~np.isnan(beta).any(axis=1)
    directions, upper = _directions(comparison.exposures)
    found[complete] = np.linalg.solve(upper, (beta[complete] @ directions).T).T
    whole = np.hstack([comparison.reduced, comparison.exposures])
    for row in np.flatnonzero(~complete):
        seen = ~np.isnan(beta[row])
        if np.linalg.matrix_rank(whole[seen]) == whole.shape[1]:
            solved = np.linalg.lstsq(whole[seen], beta[row, seen], rcond=None)[0]
            found[row] = solved[comparison.reduced.shape[1] :]
    return found


def _directions(exposures: Floats) -> tuple[Floats, Floats]:
    """Orthonormal columns of the exposures, which are orthogonal to the reduced model, and R."""
    q, r = np.linalg.qr(exposures)
    sign = np.where(np.diag(r) < 0, -1.0, 1.0)
    return q * sign, r * sign[:, None]


def testable(fitted: LevelFit, k: int) -> npt.NDArray[np.bool_]:
    """Sites that tell all k coefficients and have a residual degree of freedom."""
    return (fitted.rank == k) & (fitted.df >= 1)


def moderated(fitted: LevelFit, level: Floats, prior: Trend) -> tuple[Floats, Floats]:
    """Squeezed variance of each site, and its degrees of freedom."""
    scale = prior.scale(level)
    if np.isinf(prior.df):
        return scale, np.full(len(scale), np.inf)
    total = prior.df + fitted.df
    return (prior.df * scale + fitted.residual) / total, total


def build_array_engine(
    comparison: Comparison, m_fit: LevelFit, beta_fit: LevelFit, level: Floats, beta_level: Floats
) -> ArrayEngine:
    """Learn the priors from all testable sites.

    Raises
    ------
    MelismaError
        Fewer than three sites can be tested.
    """
    keep = testable(m_fit, comparison.k)
    if keep.sum() < _FEWEST_SITES:
        raise MelismaError(
            f"{keep.sum()} sites can be tested, and variances are learned from at least 3: the "
            f"others lack values in too many of the {comparison.n_units} {comparison.unit}."
        )
    df = m_fit.df[keep].astype(np.float64)
    prior = estimate_trend(m_fit.residual[keep] / df, df, level[keep])
    beta_prior = estimate_trend(beta_fit.residual[keep] / df, df, beta_level[keep])
    return ArrayEngine(comparison, prior, beta_prior, int(keep.sum()))


def variance_note(comparison: Comparison, squares: Floats) -> tuple[str, ...]:
    """A sentence where one side's residuals are larger; squares (units,): mean share of each."""
    if comparison.side is None or comparison.contrast.levels is None:
        return ()
    along = np.linalg.qr(comparison.exposures)[0]
    leverage = (comparison.reduced**2).sum(axis=1) + (along**2).sum(axis=1)
    sides = [comparison.side == 1, comparison.side == -1]
    varies = [squares[s].sum() / max((1 - leverage[s]).sum(), 1e-9) for s in sides]
    order = np.argsort(varies)
    quiet, noisy = (comparison.contrast.levels[k] for k in order)
    ratio = varies[order[1]] / max(varies[order[0]], 1e-9)
    if ratio <= MAX_VARIANCE_RATIO:
        return ()
    return (
        f"The {noisy} samples vary {ratio:.1f} times as much as the {quiet} ones: p-values assume "
        "equal variances and, where the groups' sizes differ, are too small if the smaller group "
        "varies more.",
    )


class LevelBlock(NamedTuple):
    """A stretch of sites in memory: site arrays (sites,) by name, levels (sites, samples)."""

    columns: dict[str, npt.NDArray[Any]]
    beta: Floats


def level_blocks(methylome: xr.Dataset) -> Iterator[LevelBlock]:
    """Walk a methylome of levels a chunk at a time, in order."""
    step = chunk_sites(methylome.sizes["sample"])
    names = [n for n in ("contig", "position", "strand", "context", "probe") if n in methylome]
    for start in range(0, methylome.sizes["site"], step):
        part = methylome.isel(site=slice(start, start + step))
        yield LevelBlock({name: part[name].values for name in names}, part["beta"].values)

"""Tests of every site of a methylome of levels, in one walk."""

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import stdtr, stdtrit

from melisma import progress
from melisma.design import Comparison
from melisma.differential._array_engine import (
    ArrayEngine,
    LevelFit,
    build_array_engine,
    fit_levels,
    level_blocks,
    level_coefficients,
    m_values,
    mean_of,
    moderated,
    pool,
    testable,
    variance_note,
)
from melisma.differential._engine import f_tail
from melisma.differential._kernels import Floats

UNTESTABLE_LEVELS = ("too few samples with a level",)
_CONFIDENCE = 0.95


def level_columns(
    methylome: xr.Dataset, comparison: Comparison
) -> tuple[dict[str, npt.NDArray[Any]], ArrayEngine]:
    """The columns of `SiteTests.table`, but for the mark and q, and the engine learned from them.

    Raises
    ------
    MelismaError
        Fewer than three sites can be tested.
    """
    parts: list[dict[str, npt.NDArray[Any]]] = []
    fits: list[tuple[LevelFit, LevelFit]] = []
    squares, rows = np.zeros(comparison.n_units), 0
    with progress.stage("Testing sites", methylome.sizes["site"]) as advance:
        for block in level_blocks(methylome):
            beta = pool(comparison, block.beta)
            values = m_values(beta)
            fits.append(
                (
                    fit_levels(values, comparison.reduced, comparison.exposures),
                    fit_levels(beta, comparison.reduced, comparison.exposures),
                )
            )
            parts.append(
                block.columns
                | {
                    "level": mean_of(values),
                    "beta_level": mean_of(beta),
                    "n_used": (~np.isnan(beta)).sum(axis=1),
                }
            )
            if comparison.contrast.among:
                parts[-1]["coefficients"] = level_coefficients(comparison, beta)
            more = residual_shares(values, comparison)
            squares, rows = squares + more.sum(axis=0), rows + len(more)
            advance(len(beta))
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    of_m, of_beta = (
        LevelFit(*(np.concatenate(column) for column in zip(*which, strict=True)))
        for which in zip(*fits, strict=True)
    )
    level, beta_level = columns.pop("level"), columns.pop("beta_level")
    engine = build_array_engine(comparison, of_m, of_beta, level, beta_level)
    notes = variance_note(comparison, squares / max(rows, 1))
    engine = ArrayEngine(comparison, engine.prior, engine.beta_prior, engine.learned_from, notes)
    statistic, df = engine.statistic(of_m, level)
    tested = testable(of_m, comparison.k)
    columns |= {"statistic": statistic, "df": np.where(tested, df, np.nan)}
    columns["p"] = p_of(statistic, df, comparison.k)
    columns["untestable"] = np.array([[int((~tested).sum())]])
    columns |= _effects(engine, of_beta, beta_level, tested)
    return columns, engine


def p_of(statistic: Floats, df: Floats, k: int) -> Floats:
    """Two-sided p of t, or p of F on (k, df); df may be infinite."""
    if k > 1:
        return f_tail(statistic, k, df)
    return 2.0 * stdtr(np.minimum(df, 1e10), -np.abs(statistic))


def _effects(
    engine: ArrayEngine, fitted: LevelFit, level: Floats, tested: npt.NDArray[np.bool_]
) -> dict[str, Floats]:
    """The difference of levels and its t interval, for one coefficient."""
    unknown = np.full(len(level), np.nan)
    if engine.comparison.k > 1:
        return {"delta_beta": unknown, "ci_low": unknown, "ci_high": unknown}
    variance, df = moderated(fitted, level, engine.beta_prior)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = fitted.effect[:, 0] / fitted.length[:, 0]
        half = stdtrit(np.minimum(df, 1e10), 0.5 + _CONFIDENCE / 2) * np.sqrt(variance)
        half /= fitted.length[:, 0]
    low, high = delta - half, delta + half
    if engine.comparison.contrast.levels is not None:
        low, high = np.maximum(low, -1.0), np.minimum(high, 1.0)
    return {
        "delta_beta": np.where(tested, delta, np.nan),
        "ci_low": np.where(tested, low, np.nan),
        "ci_high": np.where(tested, high, np.nan),
    }


def residual_shares(values: Floats, comparison: Comparison) -> Floats:
    """Squared full-model residuals of sites that every unit has, each row's sum 1."""
    whole = values[~np.isnan(values).any(axis=1)]
    model = np.linalg.qr(np.hstack([comparison.reduced, comparison.exposures]))[0]
    squares = (whole - (whole @ model) @ model.T) ** 2
    total = squares.sum(axis=1, keepdims=True)
    return squares[total[:, 0] > 1e-12] / total[total[:, 0] > 1e-12]

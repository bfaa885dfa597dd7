"""Which samples stand apart from the rest: robust deviations, each named in plain words."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from melisma.quality._walk import Floats

FEWEST_SAMPLES = 6
TOO_FEW = f"Outliers cannot be told from fewer than {FEWEST_SAMPLES} samples."
# Median/MAD deviations beyond this are named.
DEVIATIONS = 6.0
# Noise alone makes components of up to 2.3 times the median variance, each led by one sample.
_STRONG = 3.0
# Makes the MAD of a normal sample estimate its standard deviation.
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Measure:
    """One number a sample: its words, the least spread taken as real, and the side that counts."""

    low: str
    high: str
    least_spread: float
    transform: str = "none"


MEASURES: Mapping[str, Measure] = {
    "coverage_mean": Measure(
        "coverage {value:.3g} is low beside a median of {median:.3g}",
        "coverage {value:.3g} is high beside a median of {median:.3g}",
        0.25,
        "log2",
    ),
    "share_seen": Measure(
        "it sees {value:.1%} of the sites, the others about {median:.1%}",
        "it sees {value:.1%} of the sites, the others about {median:.1%}",
        0.02,
    ),
    "level": Measure(
        "level {value:.3f} is low beside a median of {median:.3f}",
        "level {value:.3f} is high beside a median of {median:.3f}",
        0.005,
    ),
    "correlation_median": Measure(
        "correlation with the others {value:.3f} is low beside a median of {median:.3f}",
        "",
        0.05,
        "fisher",
    ),
    "pc1": Measure("it lies apart on PC1", "it lies apart on PC1", 0.005),
    "pc2": Measure("it lies apart on PC2", "it lies apart on PC2", 0.005),
    "pc3": Measure("it lies apart on PC3", "it lies apart on PC3", 0.005),
}


def deviations(values: Floats, least_spread: float) -> Floats:
    """How many robust standard deviations each value lies from the median; NaN stays.

    >>> deviations(np.array([1.0, 2.0, 3.0, 4.0, 30.0]), 0.1).round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 18.21]
    """
    known = values[np.isfinite(values)]
    if not known.size:
        return np.full(len(values), np.nan)
    median = np.median(known)
    spread = _MAD_TO_SD * np.median(np.abs(known - median))
    return (values - median) / max(float(spread), least_spread)


def _transformed(values: Floats, transform: str) -> Floats:
    if transform == "log2":
        return np.log2(np.maximum(values, 1e-3))
    if transform == "fisher":
        return np.arctanh(np.clip(values, -0.999999, 0.999999))
    return values


def name_outliers(table: pl.DataFrame, variance: Floats) -> pl.DataFrame:
    """Add `outlier` and `outlier_reason` to the table of samples.

    A sample without a single read is always an outlier. From fewer than 6 samples nothing else
    can be told: `outlier` is then null and the reason says so.

    Parameters
    ----------
    table : one row a sample, with the columns of `MEASURES`
    variance : (components,), all components' shares, largest first
    """
    usual = float(np.median(variance)) if len(variance) else 0.0
    weak = {f"pc{k + 1}" for k, share in enumerate(variance[:3]) if share < _STRONG * usual}
    reasons = _reasons(table, weak) if table.height >= FEWEST_SAMPLES else [[]] * table.height
    empty = (table["sites_seen"] == 0).to_list()
    few = table.height < FEWEST_SAMPLES
    words = [
        "no site is seen"
        if nothing
        else f"cannot be told from fewer than {FEWEST_SAMPLES} samples"
        if few
        else "; ".join(found)
        for nothing, found in zip(empty, reasons, strict=True)
    ]
    flags = [
        True if nothing else None if few else bool(found)
        for nothing, found in zip(empty, reasons, strict=True)
    ]
    return table.with_columns(
        pl.Series("outlier", flags, dtype=pl.Boolean),
        pl.Series("outlier_reason", words, dtype=pl.String),
    )


def _reasons(table: pl.DataFrame, weak: Collection[str]) -> Sequence[list[str]]:
    """In words, why each sample stands apart; `weak` components are not looked at."""
    reasons: list[list[str]] = [[] for _ in range(table.height)]
    for name, measure in MEASURES.items():
        if name in weak:
            continue
        values = table[name].cast(pl.Float64).to_numpy()
        away = deviations(_transformed(values, measure.transform), measure.least_spread)
        if not np.isfinite(values).any():
            continue
        median = float(np.median(values[np.isfinite(values)]))
        for i in np.flatnonzero(np.abs(away) > DEVIATIONS):
            words = measure.low if away[i] < 0 else measure.high
            if words:
                reasons[i].append(words.format(value=values[i], median=median))
    return reasons

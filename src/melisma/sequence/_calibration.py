"""Calibration on validation: the ensemble's temperature and conformal intervals of levels.

Intervals are split conformal by bins of the predicted level: in each bin, residuals of validation
sites give the offsets between which nine of ten measured levels lie (Vovk's Mondrian conformal
prediction, with the finite-sample correction of Lei et al. 2018). Levels are bimodal, so one
width for all would be wrong for most.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

# The share of measured levels that an interval holds.
COVERAGE = 0.9
# Reads a measured level needs to count; fewer reads are mostly binomial noise.
MIN_READS = 10
BINS = 10
# Fewer residuals in a bin than this make its quantiles too rough.
FEWEST = 100

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Conformal:
    """edges: (heads, bins - 1) predicted levels; low, high: (heads, bins) offsets."""

    edges: tuple[tuple[float, ...], ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]

    @classmethod
    def fit(cls, predicted: Floats, methylated: Floats, coverage: Floats) -> "Conformal | None":
        """From validation: each (n, heads). None where some head has too few measured levels."""
        edges, lows, highs = [], [], []
        for head in range(predicted.shape[1]):
            seen = coverage[:, head] >= MIN_READS
            p = predicted[seen, head].astype(float)
            residual = methylated[seen, head] / coverage[seen, head] - p
            bins = min(BINS, len(p) // FEWEST)
            if bins < 1:
                return None
            cuts = np.quantile(p, np.arange(1, bins) / bins)
            of = np.searchsorted(cuts, p)
            low, high = [], []
            for k in range(bins):
                inside = residual[of == k]
                if not len(inside):
                    inside = residual
                tail = (1 - COVERAGE) / 2
                low.append(-_quantile(-inside, 1 - tail))
                high.append(_quantile(inside, 1 - tail))
            edges.append(tuple(cuts.tolist()))
            lows.append(tuple(low))
            highs.append(tuple(high))
        return cls(tuple(edges), tuple(lows), tuple(highs))

    def interval(self, level: Floats) -> tuple[Floats, Floats]:
        """low and high, (n, heads) each, within 0 and 1."""
        low, high = np.empty_like(level), np.empty_like(level)
        for head in range(level.shape[1]):
            of = np.searchsorted(np.asarray(self.edges[head]), level[:, head])
            low[:, head] = level[:, head] + np.asarray(self.low[head])[of]
            high[:, head] = level[:, head] + np.asarray(self.high[head])[of]
        return np.clip(low, 0, 1), np.clip(high, 0, 1)

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {"edges": self.edges, "low": self.low, "high": self.high, "coverage": COVERAGE}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "Conformal":
        """What `record` wrote."""
        edges, low, high = (
            tuple(tuple(row) for row in record[name]) for name in ("edges", "low", "high")
        )
        return cls(edges, low, high)


def _quantile(values: npt.NDArray[np.floating[Any]], share: float) -> float:
    """The smallest value that at least `share` of n + 1 exchangeable values do not exceed."""
    rank = int(np.ceil(share * (len(values) + 1)))
    return float(np.sort(values)[min(rank, len(values)) - 1])


def temperature(
    logits: npt.NDArray[np.float32],
    methylated: npt.NDArray[np.float32],
    coverage: npt.NDArray[np.float32],
) -> float:
    """What to divide log odds by so that the ensemble's mean is likeliest (Guo et al. 2017)."""
    seen = coverage > 0
    if not seen.any():
        return 1.0
    x, share = logits[:, seen].astype(float), methylated[seen] / coverage[seen]

    def cost(log_temperature: float) -> float:
        p = (1 / (1 + np.exp(-x / np.exp(log_temperature)))).mean(0)
        p = np.clip(p, 1e-9, 1 - 1e-9)
        return float(-np.mean(share * np.log(p) + (1 - share) * np.log1p(-p)))

    found: Any = minimize_scalar(cost, bounds=(-2, 2), method="bounded")
    return float(np.exp(found.x))

"""Figures of calibration: QQ, and calls on relabelled data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import beta

from melisma.report._study import Contrast
from melisma.report._style import Figure, direct_label, packed, y_title
from melisma.report._words import counted_of


def qq(contrast: Contrast) -> Figure:
    """Whether p-values are as small as chance alone makes them, and no smaller."""
    table = contrast.sites if contrast.sites is not None else pl.DataFrame({"p": []})
    seen = np.sort(table["p"].fill_nan(None).drop_nulls().to_numpy().astype(float))
    n = len(seen)
    ranks = _log_spaced(n, 300)
    expected = -np.log10((ranks - 0.5) / n)
    low, high = (beta.ppf(tail, ranks, n - ranks + 1) for tail in (0.025, 0.975))
    traces = [
        _band(expected, -np.log10(high), -np.log10(np.maximum(low, 1e-300)), "@faint/.35"),
        *_null_envelope(contrast.null, expected),
        {
            "type": "scatter",
            "mode": "markers",
            "x": packed(expected),
            "y": packed(-np.log10(np.maximum(seen[ranks - 1], 1e-300))),
            "marker": {"size": 4.5, "color": "@ink"},
            "hovertemplate": "observed %{y:.2f}, expected %{x:.2f}<extra></extra>",
            "cliponaxis": False,
        },
    ]
    reach = float(expected.max(initial=1.0)) * 1.04
    layout = {
        "xaxis": {"title": {"text": "expected −log<sub>10</sub> p"}, "range": [0, reach]},
        "yaxis": {"rangemode": "tozero", "nticks": 6},
        "margin": {"l": 34, "t": 30},
        "annotations": [y_title("observed −log<sub>10</sub> p", 34)],
        "shapes": [
            {
                "type": "line",
                "x0": 0,
                "y0": 0,
                "x1": reach,
                "y1": reach,
                "line": {"color": "@soft", "width": 1},
                "layer": "below",
            }
        ],
    }
    return Figure(traces, layout, 320, f"QQ plot of {n:,} p-values against the uniform.")


def _log_spaced(n: int, most: int) -> npt.NDArray[np.int64]:
    if n <= most:
        return np.arange(1, n + 1)
    return np.unique(np.geomspace(1, n, most).round().astype(np.int64))


def _band(
    x: npt.NDArray[Any], low: npt.NDArray[Any], high: npt.NDArray[Any], token: str
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": packed(np.concatenate([x, x[::-1]])),
        "y": packed(np.concatenate([low, high[::-1]])),
        "fill": "toself",
        "fillcolor": token,
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def _null_envelope(null: pl.DataFrame | None, within: npt.NDArray[Any]) -> list[dict[str, Any]]:
    if null is None or null.is_empty():
        return []
    values = null.select("expected", "observed_low", "observed_high").drop_nulls().sort("expected")
    x, low, high = (-np.log10(np.maximum(values[c].to_numpy(), 1e-300)) for c in values.columns)
    keep = x <= within.max(initial=0.0)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": packed(x[keep]),
            "y": packed(y[keep]),
            "line": {"width": 1, "dash": "dash", "color": "@soft"},
            "hoverinfo": "skip",
        }
        for y in (low, high)
    ]


def _whole_step(top: float, most: int) -> int:
    """The smallest 1, 2 or 5 times a power of ten that takes at most `most` steps to the top.

    >>> _whole_step(1, 6), _whole_step(22, 6)
    (1, 5)
    """
    step = 1
    for k in range(40):
        step = (1, 2, 5)[k % 3] * 10 ** (k // 3)
        if top / step <= most:
            break
    return step


def null_calls(calls: Sequence[float], real: int, noun: str, null: str = "relabelling") -> Figure:
    """How many calls chance makes: moved data as bars, the real data as one line.

    noun : what is called, `sites`; null : one of the moved data sets, `rotation`
    """
    values = np.asarray(calls, dtype=float)
    top = max(float(values.max(initial=0)), float(real), 5.0)
    width = max(1.0, np.ceil((top + 1) / 40))
    bins = np.floor(values / width).astype(int)
    heights = np.bincount(bins, minlength=int(top // width) + 1)
    centres = (np.arange(len(heights)) + 0.5) * width - 0.5
    tall = float(heights.max(initial=1))
    traces = [
        {
            "type": "bar",
            "x": [float(c) for c in centres],
            "y": [int(h) for h in heights],
            "width": 0.8 * width,
            "marker": {"color": "@faint", "line": {"width": 0}},
            "hovertemplate": f"%{{y}} with %{{x:.0f}} {noun}<extra></extra>",
        }
    ]
    moved = counted_of(len(values), null)
    words = f"{moved} call at most {int(values.max(initial=0)):,} {noun}"
    layout = _calls_layout(real, noun, counted_of(2, null)[2:], (top, tall))
    return Figure(traces, layout, 320, f"{words}; the real data {real:,}.")


def _calls_layout(real: int, noun: str, null: str, reach: tuple[float, float]) -> dict[str, Any]:
    top, tall = reach
    right = real > top / 2
    return {
        "xaxis": {
            "title": {"text": f"{noun} called"},
            "range": [-0.06 * top - 0.5, 1.04 * top + 0.6],
            "dtick": _whole_step(top, 6),
            "tick0": 0,
            "tickformat": ",d",
        },
        "yaxis": {
            "dtick": _whole_step(1.35 * tall, 4),
            "tickformat": ",d",
            "range": [0, 1.35 * tall],
        },
        "margin": {"l": 34, "t": 30},
        "shapes": [
            {
                "type": "line",
                "x0": real,
                "x1": real,
                "y0": 0,
                "y1": 1.15 * tall,
                "line": {"color": "@ink", "width": 2.5},
            }
        ],
        "annotations": [
            y_title(null, 34),
            direct_label(
                f"real data: {real:,}",
                real,
                1.15 * tall,
                "@ink",
                shift=(-4 if right else 4, 0),
                yanchor="bottom",
                xanchor="right" if right else "left",
            ),
        ],
    }

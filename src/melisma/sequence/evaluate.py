"""How well marks are predicted: scores with intervals, beside baselines, on a test part.

Labels are judged by ranking (areas under the ROC and the precision-recall curve, the latter at
the prevalence that the data have), by decisions at one half (accuracy, Matthews' correlation) and
by calibration; levels by correlation and by absolute error. Intervals are percentiles over
resampled examples, and two models are compared on the same resamples.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import rankdata

from melisma.errors import MelismaError
from melisma.sequence._metric_kernels import weighted_correlation, weighted_ranking

Floats = npt.NDArray[np.floating[Any]]

DRAWS = 200
LABEL_METRICS = ("auc", "auprc", "accuracy", "mcc", "calibration_error")
LEVEL_METRICS = ("pearson", "spearman", "mae")
_BINS = 10
_LEAST = 1e-12


class Score(NamedTuple):
    """A metric with the 2.5th and 97.5th percentile over resamples."""

    value: float
    low: float
    high: float


def score_labels(
    label: npt.NDArray[Any], predicted: Floats, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Score]:
    """The scores of predicted probabilities of labels.

    Parameters
    ----------
    label : (n,) 0 or 1; predicted : (n,) probabilities
    draws : resamples; 0 for none, intervals are then NaN

    Returns
    -------
    auc, auprc (average precision), accuracy and mcc at one half, calibration_error (mean absolute
    gap of ten bins of equal size); NaN where a class is missing

    Examples
    --------
    >>> found = score_labels(np.array([1, 0, 1, 0]), np.array([0.9, 0.6, 0.8, 0.1]), draws=0)
    >>> [round(found[name].value, 2) for name in ("auc", "auprc", "accuracy")]
    [1.0, 1.0, 0.75]
    """
    label, predicted = _checked(label, predicted)
    order = np.argsort(-predicted, kind="stable")
    truth = (label[order] > 0.5).astype(np.uint8)
    ranked = predicted[order]
    tied = np.concatenate([[False], ranked[1:] == ranked[:-1]])
    bins = np.arange(len(truth)) * _BINS // max(len(truth), 1)

    def measure(weight: Floats) -> list[float]:
        auc, precision = weighted_ranking(truth, tied, weight)
        return [auc, precision, *_decisions(truth, ranked, bins, weight)]

    return _with_intervals(LABEL_METRICS, measure, len(truth), draws, seed)


def score_levels(
    level: Floats, predicted: Floats, *, draws: int = DRAWS, seed: int = 0
) -> dict[str, Score]:
    """The scores of predicted levels: pearson, spearman, mae.

    Parameters
    ----------
    level, predicted : (n,) 0 to 1

    Examples
    --------
    >>> found = score_levels(np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.3, 0.4]), draws=0)
    >>> [round(score.value, 2) for score in found.values()]
    [1.0, 1.0, 0.27]
    """
    level, predicted = _checked(level, predicted)
    ranks = rankdata(level), rankdata(predicted)
    gap = np.abs(level - predicted)

    def measure(weight: Floats) -> list[float]:
        return [
            weighted_correlation(level, predicted, weight),
            weighted_correlation(*ranks, weight),
            float(weight @ gap / weight.sum()),
        ]

    return _with_intervals(LEVEL_METRICS, measure, len(level), draws, seed)


def auc_difference(
    label: npt.NDArray[Any], one: Floats, other: Floats, *, draws: int = 1000, seed: int = 0
) -> Score:
    """AUC of one prediction less that of another, both on the same resamples.

    Parameters
    ----------
    label : (n,); one, other : (n,) scores
    """
    label, one = _checked(label, one)
    _, other = _checked(label, other)
    ranked = []
    for score in (one, other):
        order = np.argsort(-score, kind="stable")
        sorted_score = score[order]
        tied = np.concatenate([[False], sorted_score[1:] == sorted_score[:-1]])
        ranked.append(((label[order] > 0.5).astype(np.uint8), tied, order))

    def measure(weight: Floats) -> list[float]:
        first, second = (
            weighted_ranking(truth, tied, weight[order])[0] for truth, tied, order in ranked
        )
        return [first - second]

    return _with_intervals(("auc",), measure, len(label), draws, seed)["auc"]


def compare_models(
    truth: Floats,
    predicted: Mapping[str, Floats],
    *,
    kind: Literal["labels", "levels"],
    strata: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Every model's scores, over all examples and by stratum.

    Parameters
    ----------
    truth : (n,) labels or levels
    predicted : (n,) by model
    strata : (n,) which examples belong, by name: contexts, islands; they may overlap

    Returns
    -------
    model, stratum ("all" first), n, prevalence (labels) or mean level, metric, value, low, high
    """
    if not len(truth):
        raise MelismaError("The test part holds no example: give the split a test part.")
    judge = score_labels if kind == "labels" else score_levels
    masks = {"all": np.ones(len(truth), bool), **(strata or {})}
    rows = []
    for stratum, mask in masks.items():
        if not mask.any():
            continue
        for model, values in predicted.items():
            found = judge(truth[mask], values[mask], draws=draws, seed=seed)
            rows += [
                (model, stratum, int(mask.sum()), float(truth[mask].mean()), metric, *score)
                for metric, score in found.items()
            ]
    names = ("model", "stratum", "n", "mean", "metric", "value", "low", "high")
    types = (*[pl.String] * 2, pl.Int64, pl.Float64, pl.String, *[pl.Float64] * 3)
    table = pl.DataFrame(rows, schema=dict(zip(names, types, strict=True)), orient="row")
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def _checked(truth: Any, predicted: Any) -> tuple[Floats, Floats]:
    truth, predicted = np.asarray(truth, float).ravel(), np.asarray(predicted, float).ravel()
    if len(truth) != len(predicted):
        raise MelismaError(
            f"There are {len(truth):,} examples and {len(predicted):,} predictions: give one each."
        )
    if not np.isfinite(predicted).all() or not np.isfinite(truth).all():
        raise MelismaError("Predictions or examples hold NaN: leave those examples out.")
    return truth, predicted


def _decisions(
    truth: npt.NDArray[np.uint8], predicted: Floats, bins: npt.NDArray[Any], weight: Floats
) -> list[float]:
    """Accuracy and Matthews' correlation at one half, and the calibration error."""
    said = predicted >= 0.5
    tp, fp = weight[said & (truth == 1)].sum(), weight[said & (truth == 0)].sum()
    fn, tn = weight[~said & (truth == 1)].sum(), weight[~said & (truth == 0)].sum()
    root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    total = weight.sum()
    gap = np.bincount(bins, weight * (predicted - truth), minlength=_BINS)
    return [
        float((tp + tn) / total),
        float((tp * tn - fp * fn) / root) if root > _LEAST else float("nan"),
        float(np.abs(gap).sum() / total),
    ]


def _with_intervals(
    names: tuple[str, ...], measure: Any, n: int, draws: int, seed: int
) -> dict[str, Score]:
    own = measure(np.ones(n))
    if not draws:
        return {name: Score(v, np.nan, np.nan) for name, v in zip(names, own, strict=True)}
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [measure(np.bincount(rng.integers(n, size=n), minlength=n).astype(float))
         for _ in range(draws)]
    )  # fmt: skip
    found = {}
    for k, name in enumerate(names):
        column = drawn[np.isfinite(drawn[:, k]), k]
        low, high = np.quantile(column, [0.025, 0.975]) if len(column) else (np.nan, np.nan)
        found[name] = Score(float(own[k]), float(low), float(high))
    return found

"""The figures of a search: of the labels as they are, and of permuted ones."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.markers import _figures
from melisma.markers._features import Features
from melisma.markers._nested import Model, Nested
from melisma.markers._phenotype import Labelled

Ints = npt.NDArray[np.integer[Any]]

# From here on coverage alone is said to tell the classes.
_COVERAGE_TELLS = 0.75
# Above it permuted labels are said to do as well.
_LEVEL = 0.05


def all_figures(
    features: Features,
    labelled: Labelled,
    nested: Nested,
    permuted: list[tuple[Ints, Nested]],
    model: Model,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """The record `figures` of a panel; NaN is None, as JSON has it."""
    labels, p = labelled.labels, nested.probability
    shares = np.bincount(labels) / len(labels)
    constant = np.broadcast_to(shares, (1, *p.shape[1:]))
    area = _figures.auc_interval(p, nested.fold, labels, labelled.blocks, rng)
    slope, intercept = _figures.recalibration(p, labels)
    stable = _figures.stability(nested.chosen, features.count)
    values = {
        "samples": len(labels),
        "blocks": None if labelled.block is None else len(np.unique(labelled.blocks)),
        "class_samples": np.bincount(labels).tolist(),
        "features": features.count,
        "usable": model.prepared.usable,
        "folds": int(nested.fold.max()) + 1,
        "auc": area.value,
        "auc_low": area.low,
        "auc_high": area.high,
        "accuracy": _figures.accuracy(p, labels),
        "accuracy_prevalence": float(shares.max()),
        "brier": _figures.brier(p, labels),
        "brier_prevalence": _figures.brier(constant, labels),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "calibration_error": _figures.expected_calibration_error(p, labels),
        "stability": stable.value,
        "stability_low": stable.low,
        "stability_high": stable.high,
        "sizes": [len(c) for c in nested.chosen],
        "inner_log_loss": [float(loss) for loss in model.losses],
        "inner_log_loss_error": model.error,
        "permuted": _permuted_figures(features, permuted, area.value),
    }
    return {name: _number(value) for name, value in values.items()}


def _permuted_figures(
    features: Features, permuted: list[tuple[Ints, Nested]], area: float
) -> dict[str, Any] | None:
    """What the procedure finds where there is nothing, and how often as much as was found.

    A permuted run deals its folds once and so varies more than a mean over dealings: p is rather
    too large than too small.
    """
    if not permuted:
        return None
    areas = np.array([_figures.auc(n.probability, n.fold, own) for own, n in permuted])
    values = {
        "runs": len(permuted),
        "auc": float(np.nanmean(areas)),
        "auc_lowest": float(np.nanmin(areas)),
        "auc_highest": float(np.nanmax(areas)),
        "accuracy": np.mean([_figures.accuracy(n.probability, own) for own, n in permuted]),
        "brier": np.mean([_figures.brier(n.probability, own) for own, n in permuted]),
        "stability": np.mean(
            [_figures.stability(n.chosen, features.count)[0] for _, n in permuted]
        ),
        "p": (1 + int((areas >= area).sum())) / (1 + len(permuted)),
    }
    return {name: _number(value) for name, value in values.items()}


def _number(value: Any) -> Any:
    """A number as JSON has it, which has no NaN; what is no number as it is."""
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def figure_notes(features: Features, labelled: Labelled, figures: dict[str, Any]) -> list[str]:
    """What a reader of the figures must know."""
    notes = []
    if features.coverage is not None and len(labelled.classes) == 2:
        depth = features.coverage.mean(axis=0, dtype=np.float64)
        alone = np.tile(depth / depth.max(), (1, 1))
        both = np.stack([1 - alone, alone], axis=2)
        area = _figures.auc(both, np.zeros_like(alone, dtype=np.int64), labelled.labels)
        if max(area, 1 - area) >= _COVERAGE_TELLS:
            notes.append(
                f"Coverage alone tells the classes with an AUC of {max(area, 1 - area):.2f}: the "
                "panel may have learned how samples were sequenced."
            )
    permuted = figures["permuted"]
    if figures["auc_low"] is not None and figures["auc_low"] <= 0.5:
        notes.append("The AUC's interval holds 0.5: this is no evidence that the panel works.")
    elif permuted and permuted["p"] > _LEVEL:
        notes.append(
            f"Permuted labels give an AUC as high too often (p = {permuted['p']:.2g}): this is no "
            "evidence that the panel works."
        )
    if figures["brier"] >= figures["brier_prevalence"]:
        notes.append("Probabilities are no closer to the truth than the classes' shares are.")
    return notes

"""The markers of a panel: where they are, what they weigh, and how often they were chosen."""

from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.markers._features import Features
from melisma.markers._logistic import class_basis
from melisma.markers._nested import Model, Nested
from melisma.markers._panel import Marker
from melisma.markers._phenotype import Labelled

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

# Markers that correlate so are said to be alike.
_ALIKE = 0.8


def by_class(theta: Floats, labelled: Labelled) -> tuple[float, ...]:
    """Weights of the classes, which sum to 0."""
    return tuple(float(w) for w in class_basis(len(labelled.classes)) @ theta)


def chosen_markers(
    features: Features, model: Model, nested: Nested, labelled: Labelled
) -> tuple[Marker, ...]:
    """The markers of the panel that was learned from all samples."""
    rows = np.arange(len(labelled.labels))
    at = model.path.order[: model.size]
    prepared, theta = model.prepared, model.path.theta[model.size - 1]
    levels = prepared.levels(features, rows, at)
    sets = len(nested.chosen)
    share, alike = _selected(features, model, nested)
    chance = sum(len(c) for c in nested.chosen) / sets / features.count
    found = []
    for k, i in enumerate(at):
        own = features.table.row(int(prepared.index[i]), named=True)
        found.append(
            Marker(
                **_place(own, features.kind),
                prior=float(prepared.prior[i]),
                strength=float(prepared.strength[i]),
                mean=float(prepared.mean[i]),
                scale=float(prepared.scale[i]),
                weights=by_class(theta[k + 1], labelled),
                levels=tuple(
                    float(levels[labelled.labels == c, k].mean())
                    for c in range(len(labelled.classes))
                ),
                selected=float(share[k]),
                selected_beyond_chance=float((share[k] - chance) / (1 - chance))
                if chance < 1
                else 0.0,
                selected_alike=float(alike[k]),
            )
        )
    return tuple(found)


def _place(row: dict[str, Any], kind: str) -> dict[str, Any]:
    """Where a feature is; a probe without a place has none."""
    if kind == "region":
        keys = ("contig", "start", "end", "mark")
        return {"name": row["region"], "strand": 0, "probe": None} | {k: row[k] for k in keys}
    placed = row["position"] >= 0
    sign = {1: "+", -1: "-", 0: ""}[row["strand"]]
    probe = row.get("probe")
    return {
        "name": probe or f"{row['contig']}:{row['position']}{sign}",
        "contig": row["contig"] if placed else None,
        "start": row["position"] if placed else None,
        "end": row["position"] + 1 if placed else None,
        "strand": row["strand"],
        "mark": row["mark"],
        "probe": probe,
    }


def _selected(features: Features, model: Model, nested: Nested) -> tuple[Floats, Floats]:
    """Share of training sets that chose each marker, and that chose it or one like it."""
    names = np.unique(np.concatenate([*nested.chosen, model.chosen]))
    columns = np.arange(nested.fold.shape[1])
    values = _raw_levels(features, names, columns)
    mine = values[np.searchsorted(names, model.chosen)]
    close = np.abs(_correlations(mine, values)) >= _ALIKE
    close[np.arange(len(mine)), np.searchsorted(names, model.chosen)] = True
    held = np.stack([np.isin(names, own) for own in nested.chosen])  # (sets, names)
    share = held[:, np.searchsorted(names, model.chosen)].mean(axis=0)
    return share, (held.astype(np.float64) @ close.T > 0).mean(axis=0)


def _raw_levels(features: Features, index: Ints, columns: Ints) -> Floats:
    """Levels as they are, a missing one its feature's mean, (features, samples)."""
    where = np.ix_(index, columns)
    if features.beta is not None:
        level = features.beta[where].astype(np.float64)
    else:
        assert features.methylated is not None
        assert features.coverage is not None
        reads = features.coverage[where].astype(np.float64)
        level = np.where(reads > 0, features.methylated[where] / np.maximum(reads, 1), np.nan)
    missing = np.isnan(level)
    total = np.where(missing, 0.0, level).sum(axis=1, keepdims=True)
    mean = total / np.maximum((~missing).sum(axis=1, keepdims=True), 1)
    return np.where(missing, mean, level)


def _correlations(first: Floats, second: Floats) -> Floats:
    def unit(values: Floats) -> Floats:
        left = values - values.mean(axis=1, keepdims=True)
        return left / np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-12)

    return unit(first) @ unit(second).T

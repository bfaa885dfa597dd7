"""The smallest panel of sites or regions that tells a phenotype's classes, honestly judged."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma import __version__, progress
from melisma.errors import MelismaError
from melisma.markers._chosen import by_class, chosen_markers
from melisma.markers._features import Features, load_features
from melisma.markers._folds import class_blocks, permute_labels
from melisma.markers._judged import all_figures, figure_notes
from melisma.markers._nested import Model, Nested, Settings, cross_validate, fit_model
from melisma.markers._panel import Panel
from melisma.markers._phenotype import Labelled, labelled_samples
from melisma.methylome import single_mark

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

_LARGEST = 20
# Streams of random draws: the folds, the permutations with theirs, the final panel, the interval.
_FOLDS, _PERMUTED, _FINAL, _INTERVAL = range(4)


class Found(NamedTuple):
    """A panel, and the out-of-fold probabilities behind its figures.

    folds : a row a repeat and sample; repeat, fold, sample, block, class, and p_<class>
    """

    panel: Panel
    folds: pl.DataFrame


def find_markers(
    methylome: xr.Dataset,
    phenotype: str,
    *,
    block: str | None = None,
    on: str = "sites",
    mark: str | None = None,
    size: int | None = None,
    max_size: int | None = None,
    folds: int = 5,
    repeats: int = 5,
    permutations: int = 20,
    seed: int = 1,
) -> Found:
    """Which few sites or regions tell a phenotype's classes, and how well they would tell others.

    Ridge logistic regression on a greedy path of markers (Lozano, Swirszcz & Abe 2011), inside
    nested cross-validation: screening, selection, standards, priors, imputation, size and
    calibration are learned from training samples alone (Varma & Simon 2006). The figures are those
    of the procedure; the panel is the procedure's result on all samples.

    Parameters
    ----------
    methylome : Dataset of counts or of levels, (sites, samples)
    phenotype : a column of the sample sheet, words or few numbers; samples without one are left out
    block : a column of what stays together in a fold: individuals, pairs, litters, centres
    on : "sites"; "regions", runs of neighbouring sites; or a BED file
    mark : which mark, if there are several
    size : exactly so many markers; None: the fewest within a standard error of the best
    max_size : at most so many; default 20, or half of the rarest class's samples (blocks) if fewer
    folds : at most so many outer, and inner, folds
    repeats : how often the folds are dealt anew
    permutations : runs of the whole procedure on permuted labels; 0: none
    seed : of folds, permutations and intervals

    Returns
    -------
    Found, the panel and the out-of-fold table. Samples' order does not matter.

    Raises
    ------
    MelismaError
        The column is missing, or has one class, or a class has fewer than 4 samples or blocks;
        the blocks cannot be dealt into folds; the store is too large for --on sites.
    """
    _check_settings(size, max_size, folds, repeats, permutations)
    labelled = labelled_samples(methylome, phenotype, block)
    chosen = single_mark(methylome, mark)
    with progress.stage("Reading the store", None):
        features = load_features(chosen, on, labelled.columns)
    most = min(max_size or _usual_size(labelled), features.count)
    settings = Settings(size, most, folds, len(labelled.classes))
    _check_size(features, size)
    labels, blocks = labelled.labels, labelled.blocks
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        with progress.stage("Nested cross-validation", repeats) as advance:
            nested = cross_validate(
                features, labels, blocks, settings,
                repeats=repeats, seed=(seed, _FOLDS), pool=pool, advance=advance,
            )  # fmt: skip
        permuted = _permuted(features, labelled, settings, permutations, seed, pool)
    rng = np.random.default_rng([seed, _FINAL])
    model = fit_model(features, np.arange(len(labels)), labels, blocks, settings, rng)
    rng = np.random.default_rng([seed, _INTERVAL])
    figures = all_figures(features, labelled, nested, permuted, model, rng)
    panel = Panel(
        phenotype=phenotype,
        classes=labelled.classes,
        kind=features.kind,
        values="levels" if features.beta is not None else "counts",
        strands=methylome.attrs["strands"],
        markers=chosen_markers(features, model, nested, labelled),
        intercept=by_class(model.path.theta[model.size - 1][0], labelled),
        slope=model.calibration.slope,
        shift=tuple(float(s) for s in model.calibration.shift),
        genome=_genome(methylome),
        training=_training(features, model, labelled),
        settings={
            "on": on, "block": block, "mark": mark, "size": size, "max_size": most,
            "folds": folds, "repeats": repeats, "permutations": permutations, "seed": seed,
        },
        figures=figures,
        notes=(*labelled.notes, *figure_notes(features, labelled, figures)),
        version=__version__,
    )  # fmt: skip
    return Found(panel, _folds_table(labelled, nested))


def _check_settings(
    size: int | None, max_size: int | None, folds: int, repeats: int, permutations: int
) -> None:
    least = {"size": (size, 1), "max_size": (max_size, 1), "folds": (folds, 2)}
    least |= {"repeats": (repeats, 1), "permutations": (permutations, 0)}
    for name, (value, lowest) in least.items():
        if value is not None and value < lowest:
            raise MelismaError(f"{name} is {value}; it must be at least {lowest}.")


def _usual_size(labelled: Labelled) -> int:
    """The largest panel that is tried without being asked for."""
    fewest = class_blocks(labelled.labels, labelled.blocks, len(labelled.classes)).min()
    return min(_LARGEST, int(fewest) // 2)


def _check_size(features: Features, size: int | None) -> None:
    if size is not None and size > features.count:
        raise MelismaError(
            f"A panel of {size:,} was asked for, and there are {features.count:,} "
            f"{features.kind}s to choose from."
        )


def _permuted(
    features: Features,
    labelled: Labelled,
    settings: Settings,
    permutations: int,
    seed: int,
    pool: ThreadPoolExecutor,
) -> list[tuple[Ints, Nested]]:
    """The whole procedure, one dealing of folds each, on permuted labels: labels and results."""

    def run(k: int) -> tuple[Ints, Nested]:
        rng = np.random.default_rng([seed, _PERMUTED, k])
        for _ in range(100):
            moved = permute_labels(labelled.labels, labelled.blocks, rng)
            try:
                found = cross_validate(
                    features, moved, labelled.blocks, settings, repeats=1, seed=(seed, _PERMUTED, k)
                )
            except MelismaError:
                # Blocks of unequal size: this draw leaves a class out of a fold.
                continue
            advance(1)
            return moved, found
        raise MelismaError(
            "No permutation of the labels could be dealt into folds: pass --permutations 0."
        )

    with progress.stage("The same on permuted labels", permutations) as advance:
        return list(pool.map(run, range(permutations)))


def _genome(methylome: xr.Dataset) -> dict[str, Any]:
    attrs = methylome.attrs
    known = attrs.get("genome") or {}
    build = (attrs.get("build") or {}).get("name") or (attrs.get("manifest") or {}).get("build")
    lengths = known.get("lengths", {})
    return {
        "name": known.get("name"),
        "build": build,
        "lengths": {c: int(lengths[c]) for c in attrs["contigs"] if c in lengths},
    }


def _training(features: Features, model: Model, labelled: Labelled) -> dict[str, Any]:
    coverage = None
    if features.coverage is not None:
        coverage = float(np.median(features.coverage[model.chosen].mean(axis=0)))
    return {
        "samples": list(labelled.names),
        "classes": [labelled.classes[k] for k in labelled.labels],
        "coverage": coverage,
    }


def _folds_table(labelled: Labelled, nested: Nested) -> pl.DataFrame:
    repeats, n = nested.fold.shape
    columns: dict[str, Any] = {
        "repeat": np.repeat(np.arange(1, repeats + 1), n),
        "fold": nested.fold.ravel() + 1,
        "sample": list(labelled.names) * repeats,
        "block": list(labelled.block_names) * repeats,
        "class": [labelled.classes[k] for k in labelled.labels] * repeats,
    }
    if labelled.block is None:
        del columns["block"]
    for k, name in enumerate(labelled.classes):
        columns[f"p_{name}"] = nested.probability[:, :, k].ravel()
    return pl.DataFrame(columns)

"""A trained model on its test part, beside its baselines; refused where the test part leaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.sequence.baselines import fit_composition, fit_profile, fit_words
from melisma.sequence.checkpoint import Model
from melisma.sequence.encodings import Codes
from melisma.sequence.evaluate import DRAWS, compare_models
from melisma.sequence.examples import TEST, TRAIN, VALIDATION, Examples
from melisma.sequence.splits import leak

# A measured level needs this many reads to be judged; fewer are mostly binomial noise.
MIN_READS = 10
# Examples that baselines are fitted on; more change their scores in the third decimal.
_FITTED = 200_000
_JUDGED = 500_000
_BATCH = 4096


@dataclass(frozen=True)
class Judgement:
    """What `judge` found.

    table : mark, model, stratum, n, mean, metric, value, low, high
    kind : "labels" or "levels"
    coverage : share of measured levels inside the model's intervals, by mark; empty for labels
    leak : what the test part shares with what the model has seen, or ""
    """

    table: pl.DataFrame
    kind: str
    coverage: Mapping[str, float]
    leak: str


def judge(
    model: Model,
    examples: Examples,
    *,
    strata: Mapping[str, npt.NDArray[np.bool_]] | None = None,
    allow_leak: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Judgement:
    """Score a model on the test part, beside composition, words and the mean profile.

    A model that knows neighbouring marks is scored with and without them, and beside their mean.

    Parameters
    ----------
    examples : with a test part, which training has not read
    strata : (windows,) which windows belong, by name: contexts, islands
    allow_leak : score a test part that overlaps or resembles what the model has seen, and say so

    Raises
    ------
    MelismaError
        The test part leaks, or holds no example with enough reads.
    """
    windows: Any = getattr(examples, "windows", None)
    found = leak(windows, examples.parts) if windows is not None else None
    if found is not None and not allow_leak:
        raise MelismaError(
            f"{found.sentence} A score there would be of memory: split by contig, block or "
            "cluster, or allow the leak, which the result then names."
        )
    test = _gather(examples, TEST, _JUDGED, seed)
    labels = bool((test.coverage <= 1).all() and np.isin(test.methylated, (0, 1)).all())
    tables, held = [], {}
    for head, mark in enumerate(model.config.heads):
        measured = test.coverage[:, head] >= (1 if labels else MIN_READS)
        if not measured.any():
            raise MelismaError(
                f"No test site of {mark} has {MIN_READS} reads or more: a level of fewer reads "
                "judges nothing."
            )
        part = test.of(measured)
        truth = part.methylated[:, head] / part.coverage[:, head]
        predicted = _predictions(model, examples, part, head, seed)
        masks = {name: mask[part.rows] for name, mask in (strata or {}).items()}
        table = compare_models(
            truth, {name: level for name, (level, *_) in predicted.items()},
            kind="labels" if labels else "levels", strata=masks, draws=draws, seed=seed,
        )  # fmt: skip
        tables.append(table.select(pl.lit(mark).alias("mark"), pl.all()))
        _, low, high = predicted["model"]
        if np.isfinite(low).all():
            held[mark] = float(((truth >= low - 1e-9) & (truth <= high + 1e-9)).mean())
    return Judgement(
        pl.concat(tables),
        "labels" if labels else "levels",
        held,
        found.sentence if found is not None else "",
    )


@dataclass(frozen=True)
class _Gathered:
    """Examples of a part: (n, ...) each, as in `Batch`."""

    codes: Codes
    environment: Any
    neighbours: Any
    surroundings: Any
    methylated: Any
    coverage: Any
    rows: Any
    group: Any

    def of(self, mask: npt.NDArray[np.bool_]) -> "_Gathered":
        taken: dict[str, Any] = {
            name: None if value is None else value[mask] for name, value in vars(self).items()
        }
        return _Gathered(**taken)


def _gather(examples: Examples, part: int, limit: int, seed: int) -> _Gathered:
    batches = list(examples.batches(part, _BATCH, seed=seed, limit=limit))
    if not batches:
        raise MelismaError("The test part holds no example: give the split a test part.")
    columns = zip(*batches, strict=True)
    joined: list[Any] = [None if c[0] is None else np.concatenate(c) for c in columns]
    return _Gathered(*joined)


def _predictions(
    model: Model, examples: Examples, test: _Gathered, head: int, seed: int
) -> dict[str, tuple[Any, Any, Any]]:
    """level, low and high of the model, and the levels of its baselines."""
    nothing = np.full(len(test.codes), np.nan)
    own = model.predict(test.codes, test.environment, test.neighbours, test.surroundings)
    found = {"model": (own.level[:, head], own.low[:, head], own.high[:, head])}
    if test.neighbours is not None:
        alone = model.predict(test.codes, test.environment, surroundings=test.surroundings)
        found["model, sequence alone"] = alone.level[:, head], nothing, nothing
    levels = _baselines(examples, test, head, seed)
    if test.neighbours is not None:
        known = test.neighbours[:, 1] > 0
        mean = 0.5 + test.neighbours[:, 0].sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        levels["neighbours' mean"] = np.where(known.any(axis=1), mean, levels["profile"])
    return found | {name: (level, nothing, nothing) for name, level in levels.items()}


def _baselines(examples: Examples, test: _Gathered, head: int, seed: int) -> dict[str, Any]:
    """Every baseline's levels of the test examples, each environment fitted for itself."""
    train = _gather(examples, TRAIN, _FITTED, seed)
    validation = _gather(examples, VALIDATION, _FITTED // 4, seed)
    levels = {name: np.zeros(len(test.codes)) for name in ("composition", "words", "profile")}
    own, others, asked = _environments(examples, (train, validation, test))
    groups = np.unique(asked)
    with progress.stage("Fitting baselines", len(groups)) as advance:
        for group in groups:
            seen = (own == group) & (train.coverage[:, head] > 0)
            # An environment that training never saw has the baselines of all.
            a = train.of(seen) if seen.any() else train.of(train.coverage[:, head] > 0)
            b = validation.of((others == group) & (validation.coverage[:, head] > 0))
            counts = a.methylated[:, head], a.coverage[:, head]
            choose = b.codes, b.methylated[:, head], b.coverage[:, head]
            here = asked == group
            for name, baseline in (
                ("composition", fit_composition(a.codes, *counts)),
                ("words", fit_words(a.codes, *counts, choose)),
                ("profile", fit_profile(a.codes, *counts)),
            ):
                levels[name][here] = baseline.predict(test.codes[here])
            advance(1)
    return levels


def _environments(examples: Examples, parts: tuple[_Gathered, ...]) -> list[Any]:
    """The environment of every example of each part, numbered alike."""
    rows = np.concatenate([part.environment for part in parts])
    if not examples.environment.width:
        return [np.zeros(len(part.codes), int) for part in parts]
    _, group = np.unique(rows, axis=0, return_inverse=True)
    return np.split(group.reshape(-1), np.cumsum([len(part.codes) for part in parts])[:-1])

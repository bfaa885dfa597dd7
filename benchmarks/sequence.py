"""Models of marks from sequence: published data sets, held-out chromosomes, throughput.

Every setting was chosen on validation parts of the training data; test sets are read once, by the
scores. Two processes work side by side, one thread each.
"""

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _hm27, _idna_ms, _imr90, _throughput
from melisma.sequence._recipe import Recipe
from melisma.sequence.baselines import fit_composition, fit_profile, fit_words
from melisma.sequence.checkpoint import Model
from melisma.sequence.evaluate import auc_difference, score_labels, score_levels
from melisma.sequence.examples import TEST, TRAIN, VALIDATION, SequenceExamples
from melisma.sequence.model import ModelConfig
from melisma.sequence.splits import shares_a_word

SEED = 1
PROCESSES = 2
IDNA_MEMBERS, IDNA_EPOCHS = 6, 8
HM27_MEMBERS, HM27_EPOCHS = 4, 20
IMR90_EPOCHS = 8
# Species that have both marks: the combination that is held out, one at a time.
HELD_OUT = ("4mC_F.vesca", "4mC_S.cerevisiae", "4mC_Tolypocladium", "4mC_C.equisetifolia")


def measure(*, quick: bool) -> dict[str, Any]:
    """Everything that the contract asks of `sequence`."""
    with tempfile.TemporaryDirectory() as folder:
        tasks = _tasks(Path(folder), quick=quick)
        context = multiprocessing.get_context("spawn")
        if quick:
            done = {key: _task(*task) for key, task in tasks.items()}
        else:
            with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
                waiting = {key: pool.submit(_task, *task) for key, task in tasks.items()}
                done = {key: future.result() for key, future in waiting.items()}
        found = _scores(done, quick=quick)
    found |= _throughput.measure(quick=quick)
    missing = [] if _idna_ms.available() else ["idna_ms", "hm27_brain"]
    return found | {"missing": missing, "seeds": [SEED]}


def _tasks(folder: Path, *, quick: bool) -> dict[Any, tuple[Any, ...]]:
    """What is trained: a function's name and its arguments, the longest first."""
    tasks: dict[Any, tuple[Any, ...]] = {}
    if _imr90.FASTA.exists() and not quick:
        tasks["imr90", "alone"] = ("imr90", folder / "imr90", 1001, 0)
        tasks["imr90", "around"] = ("imr90", folder / "imr90n", 201, 40)
    if not _idna_ms.available():
        return tasks
    half = 1 if quick else IDNA_MEMBERS // 2
    for k in range(1 if quick else 2):
        tasks["idna_ms", k] = ("idna_ms", folder / f"idna{k}", SEED + 100_000 * k, half, quick)
    for name in () if quick else HELD_OUT:
        tasks["unseen", name] = ("unseen", folder / f"unseen-{name}", name)
    tasks["hm27",] = ("hm27", folder / "hm27", quick)
    return tasks


def _task(name: str, *arguments: Any) -> Any:
    import torch

    torch.set_num_threads(1)
    began = time.perf_counter()
    made = {"idna_ms": _train_idna, "hm27": _score_hm27, "imr90": _score_imr90, "unseen": _unseen}
    return made[name](*arguments), time.perf_counter() - began


def _scores(done: dict[Any, Any], *, quick: bool) -> dict[str, Any]:
    """The tasks' results under the contract's keys."""
    found: dict[str, Any] = {}
    ensembles = [done[key] for key in done if key[0] == "idna_ms"]
    if ensembles:
        logits = np.concatenate([told for told, _ in ensembles], axis=0)
        seconds = max(seconds for _, seconds in ensembles)
        found["idna_ms"] = _score_idna(logits, quick=quick) | {"seconds": round(seconds)}
    if ("hm27",) in done:
        told, seconds = done["hm27",]
        found["hm27"] = told | {"seconds": round(seconds)}
    if ("imr90", "alone") in done:
        alone, around = (done["imr90", name] for name in ("alone", "around"))
        found["imr90"] = alone[0] | {
            "spearman_with_neighbours": around[0].pop("spearman"),
            "with_neighbours": around[0],
            "seconds": round(alone[1] + around[1]),
        }
        found["conformal_coverage"] = alone[0]["conformal_coverage"]
    unseen = {key[1]: told for key, (told, _) in done.items() if key[0] == "unseen"}
    if unseen:
        found["unseen_combination"] = unseen
    return found


# ---------------------------------------------------------------- iDNA-MS


def idna_config(environment: int) -> ModelConfig:
    """The network of 41-base windows, chosen on validation."""
    return ModelConfig(width=41, environment=environment, dropout=0.4)


def idna_recipe(**changes: Any) -> Recipe:
    """How it is trained, chosen on validation."""
    told: dict[str, Any] = {
        "epochs": IDNA_EPOCHS, "rate": 2e-3, "weight_decay": 0.1, "label_smoothing": 0.02,
        "environment_dropout": 0.05, "patience": 8,
    }  # fmt: skip
    return Recipe(**(told | changes))


def _train_idna(out: Path, seed: int, members: int, quick: bool) -> np.ndarray:
    """Log odds of the test windows, (members, n, 1); training reads training windows only."""
    from melisma.sequence.train import train

    windows = _idna_ms.read("train")
    examples = _idna_ms.examples(windows, seed=seed)
    limit = 6_000 if quick else None
    recipe = idna_recipe(seed=seed, members=members, epoch_examples=limit)
    if quick:
        recipe = replace(recipe, epochs=1, validation_examples=2_000)
    model = train(examples, idna_config(examples.environment.width), recipe, out)
    test = _idna_ms.read("test")
    rows = examples.environment.encode(_idna_ms.sheet(test)).values
    at = _some(len(test.codes), quick)
    return model.logits(test.codes[at], rows[at]) / np.asarray(model.temperature, np.float32)


def _some(n: int, quick: bool) -> np.ndarray:
    return np.arange(n)[:: 40 if quick else 1]


def _score_idna(logits: np.ndarray, *, quick: bool) -> dict[str, Any]:
    """Scores by set beside the published ones and linear k-mers, with and without leaks."""
    train, test = _idna_ms.read("train"), _idna_ms.read("test")
    at = _some(len(test.codes), quick)
    predicted = (1 / (1 + np.exp(-logits))).mean(0)[:, 0]
    published = {
        row["dataset"].replace(" ", "_"): row for row in _idna_ms.published().iter_rows(named=True)
    }
    per_set: dict[str, Any] = {}
    for k, name in enumerate(test.names):
        own = np.flatnonzero(test.of[at] == k)
        label = test.label[at][own]
        scored = score_labels(label, predicted[own], seed=SEED, draws=0 if quick else 200)
        seen = train.codes[train.of == k]
        leaked = shares_a_word(test.codes[at][own], seen)
        told: dict[str, Any] = {
            "n": len(own),
            "auc": _named(scored["auc"]),
            "accuracy": round(scored["accuracy"].value, 4),
            "mcc": round(scored["mcc"].value, 4),
            "published_auc": round(published[name]["ABF_automl_AUC"], 4),
            "published_accuracy": round(published[name]["ABF_automl_ACC"], 4),
            "leaked": int(leaked.sum()),
        }
        if not quick:
            told["auc_without_leaked"] = round(
                score_labels(label[~leaked], predicted[own][~leaked], draws=0)["auc"].value, 4
            )
            words = fit_words(seen, train.label[train.of == k], np.ones(len(seen)))
            linear = words.predict(test.codes[at][own])
            told["words_auc"] = round(score_labels(label, linear, draws=0)["auc"].value, 4)
            told["auc_over_words"] = _named(auc_difference(label, predicted[own], linear))
        per_set[name] = told
    in_mean = [told for name, told in per_set.items() if name not in _idna_ms.NOT_IN_MEAN]
    wins = [told["auc"]["value"] > told["published_auc"] for told in in_mean]
    found = {
        "mean_auc_15": round(float(np.mean([told["auc"]["value"] for told in in_mean])), 4),
        "mean_accuracy_15": round(float(np.mean([told["accuracy"] for told in in_mean])), 4),
        "published_mean_auc_15": round(float(np.mean([t["published_auc"] for t in in_mean])), 4),
        "wins_15": int(sum(wins)),
        "members": len(logits),
        "per_set": per_set,
    }
    if not quick:
        found["mean_auc_15_without_leaked"] = round(
            float(np.mean([told["auc_without_leaked"] for told in in_mean])), 4
        )
        found["words_mean_auc_15"] = round(float(np.mean([t["words_auc"] for t in in_mean])), 4)
    return found


def _named(score: Any) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in score._asdict().items()}


def _unseen(out: Path, name: str) -> dict[str, Any]:
    """A species and mark that were never seen together, and the mark's model without species."""
    from melisma.sequence.train import train

    windows = _idna_ms.read("train")
    examples = _idna_ms.examples(windows, seed=SEED)
    held = windows.of == windows.names.index(name)
    mark = name.split("_")[0]
    same = np.array([windows.names[k].startswith(mark) for k in windows.of])
    test = _idna_ms.read("test")
    own = test.of == test.names.index(name)
    told = _idna_ms.sheet(test)
    rows = examples.environment.encode({k: np.array(v)[own] for k, v in told.items()}).values
    scores = {}
    for kind, keep in (("auc", ~held), ("reference", same & ~held)):
        parts = np.where(keep, examples.parts, -1).astype(np.int8)
        cut = SequenceExamples(
            examples.windows, examples.methylated, examples.coverage, parts,
            environment=examples.environment, rows=examples.rows,
        )  # fmt: skip
        recipe = idna_recipe(seed=SEED, members=2, epochs=6)
        if kind == "reference":
            recipe = replace(recipe, environment_dropout=1.0)
        model = train(cut, idna_config(examples.environment.width), recipe, out / kind)
        asked = rows if kind == "auc" else None
        level = model.predict(test.codes[own], asked).level[:, 0]
        scores[kind] = _named(score_labels(test.label[own], level, seed=SEED)["auc"])
    return scores | {"n": int(own.sum())}


# ---------------------------------------------------------------- levels


def _score_hm27(out: Path, quick: bool) -> dict[str, Any]:
    """CpGs of held-out chromosomes, high or low, by island."""
    from melisma.sequence.train import train

    table = _hm27.read()
    examples = _hm27.examples(table)
    recipe = Recipe(
        epochs=1 if quick else HM27_EPOCHS, rate=2e-3, weight_decay=0.3, symmetric=True,
        members=1 if quick else HM27_MEMBERS, patience=HM27_EPOCHS, seed=SEED,
        epoch_examples=4_000 if quick else None,
    )  # fmt: skip
    model = train(examples, hm27_config(), recipe, out)
    rows = np.flatnonzero(examples.parts == TEST)
    codes = examples.windows.codes(rows)
    label = examples.methylated[rows, 0] > 0.5
    level = model.predict(codes).level[:, 0]
    masks = {"": np.ones(len(rows), bool)} | {
        f"_{name}": mask[rows] for name, mask in _hm27.strata(table).items()
    }
    found: dict[str, Any] = {"n": len(rows), "members": recipe.members}
    seen = np.flatnonzero(examples.parts == TRAIN)
    chosen = np.flatnonzero(examples.parts == VALIDATION)
    fit = examples.windows.codes(seen), examples.methylated[seen, 0], examples.coverage[seen, 0]
    choose = (
        examples.windows.codes(chosen), examples.methylated[chosen, 0],
        examples.coverage[chosen, 0],
    )  # fmt: skip
    others = {
        "words": fit_words(*fit, choose), "composition": fit_composition(*fit),
        "profile": fit_profile(*fit),
    }  # fmt: skip
    baselines: dict[str, Any] = {}
    predicted = {"model": level} | {name: b.predict(codes) for name, b in others.items()}
    for name, values in predicted.items():
        for suffix, mask in masks.items():
            score = score_labels(label[mask], values[mask], seed=SEED, draws=0 if quick else 500)
            place = found if name == "model" else baselines.setdefault(name, {})
            place[f"auc{suffix}"] = _named(score["auc"])
    return found | {"baselines": baselines}


def hm27_config() -> ModelConfig:
    """The network of 123-base windows, chosen on validation."""
    return ModelConfig(
        width=123, pool=4, stem=13, dilations=(1, 2, 4, 8), read_out=8, hidden=32, dropout=0.5
    )


def _score_imr90(out: Path, width: int, neighbours: int) -> dict[str, Any]:
    """Levels of a held-out stretch of chr22."""
    from melisma.genome import Genome
    from melisma.sequence.defaults import default_config
    from melisma.sequence.judge import judge
    from melisma.sequence.train import train

    methylome, genome = _imr90.read(), Genome.open(_imr90.FASTA)
    examples = _imr90.examples(methylome, genome, width, neighbours)
    config = default_config(examples, counts=True, dropout=0.2)
    recipe = Recipe(
        epochs=IMR90_EPOCHS, rate=2e-3, weight_decay=0.1, symmetric=True, seed=SEED,
        epoch_examples=60_000, validation_examples=15_000, patience=IMR90_EPOCHS,
    )  # fmt: skip
    model = train(examples, config, recipe, out)
    judged = judge(model, examples, seed=SEED)
    whole = judged.table.filter(stratum="all")
    scores = {
        name: {
            row["metric"]: {k: round(row[k], 4) for k in ("value", "low", "high")}
            for row in whole.filter(model=name).iter_rows(named=True)
        }
        for name in whole["model"].unique(maintain_order=True)
    }
    found: dict[str, Any] = {
        "spearman": scores["model"]["spearman"],
        "n": int(whole["n"][0]),
        "width": width,
        "neighbours": neighbours,
        "scores": scores,
        "conformal_coverage": round(judged.coverage["m"], 4),
    }
    if not neighbours:
        found["solo"] = _solo(model, examples, methylome, genome)
    return found


def _solo(model: Model, examples: Any, methylome: Any, genome: Any) -> dict[str, Any]:
    """Mean level of lone CpGs of the test part by their flanks, measured and predicted."""
    batches = list(examples.batches(TEST, 4096))
    rows = np.concatenate([b.rows for b in batches])
    measured = np.concatenate([b.methylated / b.coverage for b in batches])[:, 0]
    predicted = np.concatenate([model.predict(b.codes).level[:, 0] for b in batches])
    alone, weak = _imr90.solo(methylome, genome, rows)
    found = {}
    for name, count in (("SCGS", 0), ("mixed", 1), ("WCGW", 2)):
        mask = alone & (weak == count)
        found[name] = {
            "n": int(mask.sum()),
            "measured": round(float(measured[mask].mean()), 4),
            "predicted": round(float(predicted[mask].mean()), 4),
        }
    return found | {
        "spearman": round(score_levels(measured, predicted, draws=0)["spearman"].value, 4)
    }

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

from benchmarks import (
    _arabidopsis,
    _hm27,
    _idna_ms,
    _imr90,
    _interaction,
    _position_codes,
    _sequence_motifs,
    _throughput,
)
from benchmarks._scores import named
from melisma.sequence._recipe import Recipe
from melisma.sequence.baselines import fit_words
from melisma.sequence.evaluate import auc_difference, score_labels
from melisma.sequence.examples import SequenceExamples
from melisma.sequence.model import ModelConfig
from melisma.sequence.splits import shares_a_word

SEED = 1
PROCESSES = 2
IDNA_MEMBERS, IDNA_EPOCHS = 6, 8
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
        tasks["imr90", "alone"] = ("imr90", folder / "imr90", 201, 0)
        tasks["imr90", "around"] = ("imr90", folder / "imr90n", 201, 40)
        tasks["position_codes",] = ("position_codes", folder / "codes")
    if _arabidopsis.CALLS.exists() and not quick:
        tasks["arabidopsis",] = ("arabidopsis", folder / "arabidopsis")
    if not quick:
        tasks["interaction",] = ("interaction", folder / "interaction")
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
    made: dict[str, Any] = {
        "idna_ms": _train_idna,
        "unseen": _unseen,
        "hm27": lambda out, quick: _hm27.score(out, seed=SEED, quick=quick),
        "imr90": lambda *told: _imr90.score(*told, seed=SEED),
        "arabidopsis": lambda out: _arabidopsis.score(out, seed=SEED),
        "interaction": lambda out: _interaction.score(out, seed=SEED),
        "position_codes": _position_codes.score,
    }
    return made[name](*arguments), time.perf_counter() - began


def _scores(done: dict[Any, Any], *, quick: bool) -> dict[str, Any]:
    """The tasks' results under the contract's keys."""
    found: dict[str, Any] = {}
    ensembles = [done[key] for key in done if key[0] == "idna_ms"]
    if ensembles:
        logits = np.concatenate([told[0] for told, _ in ensembles], axis=0)
        seconds = max(seconds for _, seconds in ensembles)
        found["idna_ms"] = _score_idna(logits, quick=quick) | {"seconds": round(seconds)}
        found["idna_ms"]["motifs"] = ensembles[0][0][1]
    for name in ("hm27", "arabidopsis", "interaction", "position_codes"):
        if (name,) in done:
            told, seconds = done[name,]
            found[name] = told | {"seconds": round(seconds)}
    if ("imr90", "alone") in done:
        alone, around = (done["imr90", name] for name in ("alone", "around"))
        found["imr90"] = alone[0] | {
            "spearman_with_neighbours": around[0].pop("spearman"),
            "with_neighbours": around[0],
            "seconds": round(alone[1] + around[1]),
        }
        found["conformal_coverage"] = alone[0]["conformal_coverage"]
    found["baselines"] = _baselines(found)
    unseen = {key[1]: told for key, (told, _) in done.items() if key[0] == "unseen"}
    if unseen:
        found["unseen_combination"] = unseen
    return found


def _baselines(found: dict[str, Any]) -> dict[str, Any]:
    """What stands beside the models, by task."""
    baselines: dict[str, Any] = {}
    if "hm27" in found:
        baselines["hm27"] = found["hm27"]["baselines"]
    if "imr90" in found:
        baselines["imr90"] = {
            name: scores["spearman"]
            for name, scores in found["imr90"]["with_neighbours"]["scores"].items()
            if not name.startswith("model")
        }
    if "words_mean_auc_15" in found.get("idna_ms", {}):
        baselines["idna_ms"] = {"words_mean_auc_15": found["idna_ms"]["words_mean_auc_15"]}
    return baselines


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


def _train_idna(out: Path, seed: int, members: int, quick: bool) -> tuple[np.ndarray, Any]:
    """Log odds of the test windows, (members, n, 1), and the motifs of the first half's ensemble.

    Training reads training windows only.
    """
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
    logits = model.logits(test.codes[at], rows[at]) / np.asarray(model.temperature, np.float32)
    return logits, {} if quick or seed != SEED else _sequence_motifs.motifs(model)


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
            "auc": named(scored["auc"]),
            "accuracy": round(scored["accuracy"].value, 4),
            "mcc": round(scored["mcc"].value, 4),
            "published_auc": published[name]["ABF_automl_AUC"],
            "published_accuracy": published[name]["ABF_automl_ACC"],
            "leaked": int(leaked.sum()),
        }
        if not quick:
            told["auc_without_leaked"] = round(
                score_labels(label[~leaked], predicted[own][~leaked], draws=0)["auc"].value, 4
            )
            words = fit_words(seen, train.label[train.of == k], np.ones(len(seen)))
            linear = words.predict(test.codes[at][own])
            told["words_auc"] = round(score_labels(label, linear, draws=0)["auc"].value, 4)
            told["auc_over_words"] = named(auc_difference(label, predicted[own], linear))
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
        recipe = idna_recipe(seed=SEED, epochs=6)
        if kind == "reference":
            recipe = replace(recipe, environment_dropout=1.0)
        model = train(cut, idna_config(examples.environment.width), recipe, out / kind)
        asked = rows if kind == "auc" else None
        level = model.predict(test.codes[own], asked).level[:, 0]
        scores[kind] = named(score_labels(test.label[own], level, seed=SEED)["auc"])
    return scores | {"n": int(own.sum())}

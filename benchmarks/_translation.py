"""A translator trained from scratch: BLEU beside shuffled sources, and word alignments.

Trained by `examples/translate.py` on Tatoeba's English and French, half an hour on two cores; the
environment variable MELISMA_TRANSLATOR names a folder where that was done. The dictionary is of
training sentences, the method and its layer are chosen on validation sentences, and judged on test
sentences; its thresholds are the defaults, set before a figure was seen.
"""

import json
import os
import runpy
import statistics
import tempfile
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from melisma.trace.alignment import (
    Translated,
    by_attention,
    by_gradients,
    by_patching,
    diagonal,
    judge,
    links,
    trace_translation,
    translated,
)
from melisma.trace.lexicon import Lexicon, learn_lexicon
from melisma.trace.models import TextModel, load_text_model

PAIRS = Path(__file__).parents[2] / "shared/data/reference/tatoeba_en_fr/fra-eng.zip"
SCRIPT = Path(__file__).parents[1] / "examples" / "translate.py"
MINUTES = 29.0
VALIDATION, TEST = 100, 200
# Words whose origin the demo's sentence shows.
SENTENCE, BEHIND = "The cat sat on the mat.", {"chat": "cat"}


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """BLEU, alignments and the sentence's words; nothing where the data or a package is missing."""
    needed = [name for name in ("transformers", "tokenizers", "sacrebleu") if not find_spec(name)]
    if quick or needed or not PAIRS.is_file():
        return {"translation": {"skipped": needed or ("quick" if quick else "no sentences")}}
    script = runpy.run_path(str(SCRIPT))
    parts = script["split_pairs"](script["read_pairs"](PAIRS), seed=seed)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(os.environ.get("MELISMA_TRANSLATOR", work))
        if not (folder / "model.safetensors").is_file():
            torch.set_num_threads(2)
            script["train"](script["read_pairs"](PAIRS), folder, minutes=MINUTES, seed=seed)
        trained = json.loads((folder / "training.json").read_text())
        if trained["seed"] != seed:
            raise SystemExit(f"The translator has seed {trained['seed']}: its split is another.")
        opened = script["open_translator"](folder)
        score = script["bleu"](*opened, parts["test"], seed=seed)
        model = load_text_model(folder)
        (told,) = script["translate"](*opened, [SENTENCE])
    return {
        "bleu": score,
        "word_alignment": _aligned(model, parts),
        "translation": {"training": trained, "sentence": _behind(model, told)},
    }


def _aligned(model: TextModel, parts: dict[str, Any]) -> dict[str, Any]:
    lexicon = learn_lexicon(parts["train"])
    chosen = _judged(model, _first(model, parts["validation"], VALIDATION), lexicon)
    best = {
        family: max(
            (name for name in chosen if name.startswith(family)),
            key=lambda name: chosen[name]["precision"],
        )
        for family in ("attention", "gradients", "patching", "diagonal")
    }
    method = max(chosen, key=lambda name: chosen[name]["precision"])
    test = _judged(model, _first(model, parts["test"], TEST), lexicon, set(best.values()))
    return {
        "method": method, **test[method],
        "diagonal_precision": test["diagonal"]["precision"],
        "sentences": TEST, "dictionary_pairs": len(lexicon.pairs),
        "chosen_on": {"sentences": VALIDATION, "methods": len(chosen), "precision": chosen},
        "best_of_each": {family: {"method": name, **test[name]} for family, name in best.items()},
    }  # fmt: skip


def _first(model: TextModel, rows: list[tuple[str, str]], many: int) -> list[Translated]:
    """The first sentences with their first translations."""
    first: dict[str, str] = {}
    for source, target in rows:
        first.setdefault(source, target)
    return [translated(model, *pair) for pair in list(first.items())[:many]]


def _judged(
    model: TextModel, pairs: Iterable[Translated], lexicon: Lexicon, only: set[str] | None = None
) -> dict[str, Any]:
    """Each method beside the dictionary."""
    proposed: dict[str, list[Any]] = {}
    errors: list[float] = []
    for pair in pairs:
        value, error = by_gradients(model, pair)
        errors += error.tolist()
        scores = by_attention(model, pair) | by_patching(model, pair) | {"gradients": value}
        for name, score in scores.items():
            if only is None or name in only:
                proposed.setdefault(name, []).append((pair, links(score)))
        proposed.setdefault("diagonal", []).append((pair, diagonal(pair)))
    found: dict[str, Any] = {
        name: judge(each, lexicon)._asdict() for name, each in proposed.items()
    }
    if "gradients" in found:
        found["gradients"]["completeness_error_median"] = statistics.median(errors)
        found["gradients"]["within_5_percent"] = sum(e <= 0.05 for e in errors) / len(errors)
    return found


def _behind(model: TextModel, told: str) -> dict[str, Any]:
    """The words behind each word of the sentence that is shown."""
    pair = translated(model, SENTENCE, told)
    found: dict[str, Any] = {"source": SENTENCE, "translation": told, "behind": {}}
    for k, word in enumerate(pair.target.words):
        trace = trace_translation(model, pair, k)
        first = {n.name: n.value or 0.0 for n in trace.nodes if n.layer == 0}
        top = max(first, key=lambda name: first[name])
        found["behind"][f"{k + 1} {word}"] = {
            "word": top, "nats": first[top], "total": trace.total,
            "completeness": trace.completeness,
        }  # fmt: skip
    found["expected"] = {
        word: any(
            name.split(" ")[1].lower() == word and each["word"].split(" ")[-1].lower() == source
            for name, each in found["behind"].items()
        )
        for word, source in BEHIND.items()
    }
    return found

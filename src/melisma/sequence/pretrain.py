"""Masked-base pretraining: a network learns DNA by filling in bases that were taken out.

Fifteen of a hundred bases are asked about; of those 80% are hidden, 10% exchanged and 10% left, as
language models are taught (Devlin et al. 2019). Windows come from random places and either strand;
blocks of bases are held out, and the score stands beside that of the commonest base between the
same three bases on either side.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence._memory import keep_freed_memory
from melisma.sequence._resume import Epoch, State, begin
from melisma.sequence.checkpoint import as_input
from melisma.sequence.encodings import CODE_OF_BYTE, UNKNOWN, Codes, reverse_complement
from melisma.sequence.model import ModelConfig, SequenceModel
from melisma.sequence.pretrained import Pretrained, load_pretrained, save_pretrained

_ASKED, _HIDDEN, _EXCHANGED = 0.15, 0.8, 0.1
_VALIDATION_SHARE = 0.1
# A window with more unknown bases teaches nothing.
_MOST_UNKNOWN = 0.1
# Batches drawn from one contig before another is read.
_LOT = 64
_SIDE = 3


@dataclass(frozen=True)
class PretrainRecipe:
    """How a network is pretrained.

    Attributes
    ----------
    epochs, epoch_windows : rounds, and windows of each
    batch : windows a step
    rate, weight_decay : AdamW's, with one cycle of the rate
    block : bases of the blocks of which a tenth is held out
    validation_windows : windows that each epoch is judged on
    """

    epochs: int = 10
    epoch_windows: int = 100_000
    batch: int = 128
    rate: float = 2e-3
    weight_decay: float = 0.01
    block: int = 100_000
    validation_windows: int = 4_000
    seed: int = 1


class MaskedBases(nn.Module):
    """A sequence model's stem and body, and what they say of every base."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.model = SequenceModel(config)
        self.base = nn.Conv1d(config.channels, 4, 1)

    def forward(self, sequence: torch.Tensor) -> torch.Tensor:  # (B, 4, W)
        """Log odds of the four bases at every position, (B, 4, W)."""
        model = self.model
        x = model.body(model.film_stem(model.stem(sequence), None), None)
        return self.base(F.gelu(model.film(x, None)))


class _Masked(NamedTuple):
    """Windows with bases taken out: what is seen (n, width), what was there, where it is asked."""

    seen: Codes
    truth: Codes
    asked: npt.NDArray[np.bool_]


def pretrain(
    genome: Genome,
    config: ModelConfig,
    recipe: PretrainRecipe,
    out: Path | str,
    *,
    contigs: list[str] | None = None,
) -> Pretrained:
    """Teach a network to fill in bases, and write it to a folder.

    Parameters
    ----------
    config : the network; without pooling, since every base is asked about
    contigs : which; None for all
    out : the folder to make; work lies in `<out>.part`, from which a killed run goes on

    Raises
    ------
    MelismaError
        The folder exists, the network pools, a contig is not there, or no block holds a window.
    """
    out = Path(out)
    if out.exists():
        raise MelismaError(f"{out} exists: choose another folder, or remove it first.")
    if config.pool != 1:
        raise MelismaError("Pretraining asks about every base: the network must not pool.")
    keep_freed_memory()
    source = _Source(genome, contigs, config.width, recipe)
    work = out.with_name(out.name + ".part")
    told = [asdict(config), asdict(recipe), genome.name, source.names]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    begin(work, digest, "Pretraining")
    torch.manual_seed(recipe.seed)
    module = MaskedBases(config)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
    )
    steps = math.ceil(recipe.epoch_windows / recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=steps * recipe.epochs + 1
    )
    state = State(work, 0)
    history = state.resume(module, optimizer, schedule)
    judged_on = source.validation()
    with progress.stage("Pretraining", recipe.epochs * recipe.epoch_windows) as advance:
        advance(len(history) * recipe.epoch_windows)
        for epoch in range(len(history), recipe.epochs):
            began = time.perf_counter()
            module.train()
            total = 0.0
            for masked in source.epoch(epoch, steps):
                value = _loss(module, masked)
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                total += float(value.detach())
                if not math.isfinite(total):
                    raise MelismaError(
                        f"The loss is not a number in epoch {epoch + 1}: lower the learning rate. "
                        "The epochs before are kept."
                    )
                advance(len(masked.seen))
            loss, accuracy = _judge(module, judged_on)
            better = loss < min((e.validation_loss for e in history), default=math.inf)
            rate, took = float(schedule.get_last_lr()[0]), time.perf_counter() - began
            entry = Epoch(epoch + 1, total / steps, loss, rate, took)
            history.append(entry)
            progress.note(
                f"Epoch {epoch + 1} of {recipe.epochs}: loss {entry.train_loss:.4f}, validation "
                f"perplexity {math.exp(loss):.3f}, accuracy {accuracy:.3f}, {took:.0f} s."
            )
            state.save(module, optimizer, schedule, history, better=better)
    module.load_state_dict(load_file(state.best))
    loss, accuracy = _judge(module, judged_on)
    context_loss, context_accuracy = source.context_baseline(judged_on)
    save_pretrained(
        work,
        module.model,
        {
            "genome": genome.name, "contigs": source.names, "recipe": asdict(recipe),
            "history": [entry._asdict() for entry in history],
            "validation": {"perplexity": math.exp(loss), "accuracy": accuracy},
            "between_bases": {
                "bases": 2 * _SIDE, "perplexity": math.exp(context_loss),
                "accuracy": context_accuracy,
            },
            "torch": torch.__version__,
        },
    )  # fmt: skip
    for path in work.iterdir():
        if path.name not in ("pretrained.json", "weights.safetensors"):
            path.unlink()
    work.replace(out)
    return load_pretrained(out)


class _Source:
    """Windows of a genome: from blocks for training, or from those held out."""

    def __init__(
        self, genome: Genome, contigs: list[str] | None, width: int, recipe: PretrainRecipe
    ) -> None:
        self.genome, self.width, self.recipe = genome, width, recipe
        names = list(genome.contigs) if contigs is None else contigs
        # A genome shorter than twenty blocks has shorter blocks, so that two are held out.
        total = sum(genome.length(name) for name in names)
        self.block = max(min(recipe.block, total // 20), 2 * width)
        held: dict[str, npt.NDArray[np.bool_]] = {}
        for name in names:
            blocks = genome.length(name) // self.block
            if blocks:
                rng = np.random.default_rng([recipe.seed, *name.encode()])
                held[name] = rng.random(blocks) < _VALIDATION_SHARE
        every = [(name, k) for name, of in held.items() for k in range(len(of))]
        if len(every) < 2:
            raise MelismaError(
                f"Genome {genome.name} has no two blocks of {self.block:,} bases: choose a "
                "shorter window, or more sequence."
            )
        if not any(held[name][k] for name, k in every):
            held[every[-1][0]][every[-1][1]] = True
        if all(held[name][k] for name, k in every):
            held[every[0][0]][every[0][1]] = False
        self.names = list(held)
        self.blocks = {
            kind: {n: np.flatnonzero(of == kind) for n, of in held.items()}
            for kind in (False, True)
        }

    def epoch(self, epoch: int, steps: int) -> Iterator[_Masked]:
        """An epoch's batches of training blocks."""
        rng = np.random.default_rng([self.recipe.seed, 1, epoch])
        for first in range(0, steps, _LOT):
            many = min(_LOT, steps - first)
            windows = self._windows(False, many * self.recipe.batch, rng)
            for start in range(0, len(windows), self.recipe.batch):
                yield _mask(windows[start : start + self.recipe.batch], rng)

    def validation(self) -> list[_Masked]:
        """The same windows and masks of the held-out blocks whenever it is called."""
        rng = np.random.default_rng([self.recipe.seed, 2])
        found = []
        for _ in range(4):
            windows = self._windows(True, self.recipe.validation_windows // 4, rng)
            found += [_mask(windows[k : k + 256], rng) for k in range(0, len(windows), 256)]
        return found

    def context_baseline(self, judged_on: list[_Masked]) -> tuple[float, float]:
        """Loss and accuracy of the commonest base between the same bases on either side."""
        rng = np.random.default_rng([self.recipe.seed, 3])
        counts = np.ones((4 ** (2 * _SIDE), 4))
        for _ in range(8):
            number, base = _between(self._windows(False, 2_000, rng), None)
            np.add.at(counts, (number, base), 1.0)
        share = counts / counts.sum(axis=1, keepdims=True)
        number, base = (
            np.concatenate(part)
            for part in zip(*(_between(m.truth, m.asked) for m in judged_on), strict=True)
        )
        told = share[number]
        loss = float(-np.log(told[np.arange(len(base)), base]).mean())
        return loss, float((told.argmax(axis=1) == base).mean())

    def _windows(self, held: bool, n: int, rng: np.random.Generator) -> Codes:
        """Windows of one contig, of either strand, of known bases."""
        blocks = {name: of for name, of in self.blocks[held].items() if len(of)}
        names = list(blocks)
        sizes = np.array([len(blocks[name]) for name in names], float)
        found = np.empty((0, self.width), np.uint8)
        for _ in range(50):
            name = names[int(rng.choice(len(names), p=sizes / sizes.sum()))]
            block = rng.choice(blocks[name], n)
            start = block * self.block + rng.integers(0, self.block - self.width + 1, n)
            bases = self.genome.bases(name)
            codes = CODE_OF_BYTE[bases[start[:, None] + np.arange(self.width)]]
            codes = codes[(codes == UNKNOWN).mean(axis=1) <= _MOST_UNKNOWN]
            flip = rng.random(len(codes)) < 0.5
            codes[flip] = reverse_complement(codes[flip])
            found = np.concatenate([found, codes])
            if len(found) >= n:
                return found[:n]
        raise MelismaError(f"Genome {self.genome.name} has too few windows of known bases.")


def _mask(codes: Codes, rng: np.random.Generator) -> _Masked:
    known = codes < UNKNOWN
    asked = (rng.random(codes.shape) < _ASKED) & known
    fate = rng.random(codes.shape)
    seen = codes.copy()
    seen[asked & (fate < _HIDDEN)] = UNKNOWN
    exchanged = asked & (fate >= _HIDDEN) & (fate < _HIDDEN + _EXCHANGED)
    seen[exchanged] = rng.integers(0, 4, int(exchanged.sum()))
    return _Masked(seen, codes, asked)


def _between(
    codes: Codes, asked: npt.NDArray[np.bool_] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The number of the bases on either side, and the base between, where all are known."""
    views = np.lib.stride_tricks.sliding_window_view(codes, 2 * _SIDE + 1, axis=1)
    use = (views < UNKNOWN).all(axis=2)
    if asked is not None:
        use &= asked[:, _SIDE:-_SIDE]
    rows = views[use].astype(np.int64)
    sides = np.delete(rows, _SIDE, axis=1)
    number = (sides * 4 ** np.arange(2 * _SIDE)[::-1]).sum(axis=1)
    return number, rows[:, _SIDE]


def _loss(module: MaskedBases, masked: _Masked) -> torch.Tensor:
    logits = module(as_input(masked.seen)).transpose(1, 2)  # (B, W, 4)
    asked = torch.from_numpy(masked.asked)
    return F.cross_entropy(logits[asked], torch.from_numpy(masked.truth.astype(np.int64))[asked])


def _judge(module: MaskedBases, judged_on: list[_Masked]) -> tuple[float, float]:
    """Mean loss in nats and accuracy of the asked bases."""
    module.eval()
    total, right, n = 0.0, 0, 0
    with torch.inference_mode():
        for masked in judged_on:
            asked = torch.from_numpy(masked.asked)
            logits = module(as_input(masked.seen)).transpose(1, 2)[asked]
            truth = torch.from_numpy(masked.truth.astype(np.int64))[asked]
            total += float(F.cross_entropy(logits, truth, reduction="sum"))
            right += int((logits.argmax(1) == truth).sum())
            n += len(truth)
    return total / n, right / n

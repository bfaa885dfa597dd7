"""Abilities: when they appear in training, how abruptly, and which heads changed there."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Network
from melisma.trace._change_point import FEWEST, ChangePoint, change_point
from melisma.trace._trace import Edge, Node, Trace
from melisma.trace.ablate import ablate
from melisma.trace.attention import attention
from melisma.trace.probes import Probe, guessed, right

# Rows of a forward pass.
_ROWS = 32
_ASSUMPTIONS = (
    "A head's effect is that of replacing it by its mean over the probe, the others as they are.",
    "A head that changed while the ability appeared need not have caused it.",
)


class Score(NamedTuple):
    """How well a network does on a probe.

    right, asked : answers
    share : right of asked
    error : its standard error, rows counted as wholes
    chance : what guessing gets
    """

    right: int
    asked: int
    share: float
    error: float
    chance: float


class Heads(NamedTuple):
    """What heads do at one checkpoint.

    names : H of them
    effect : (H,), what each adds to the share of right answers
    error : (H,), standard errors, rows counted as wholes
    prefix : (H,), attention from a token to what came after its last occurrence (prefix matching,
        Olsson et al. 2022), 0 to 1; nan where nothing repeats
    """

    names: tuple[str, ...]
    effect: Tensor
    error: Tensor
    prefix: Tensor


class Ability(NamedTuple):
    """An ability over training.

    steps : k of them
    scores : at each
    change : where it appears; None with fewer than six checkpoints
    before, after : heads at the last checkpoint before the change's interval and the first after
    trace : heads that changed there, and the ability
    """

    steps: tuple[int, ...]
    scores: tuple[Score, ...]
    change: ChangePoint | None
    before: Heads | None
    after: Heads | None
    trace: Trace | None


def score(network: Network, probe: Probe) -> Score:
    """How many of a probe's answers a network gets right.

    Raises
    ------
    MelismaError
        The network has no logits of the probe's length.
    """
    said = _said(network, probe)
    counts = right(said, probe).double()
    share = float(counts[:, 0].sum() / counts[:, 1].sum())
    # The ratio's error over rows, since answers within one hang together.
    off = counts[:, 0] - share * counts[:, 1]
    n = len(off)
    error = float(off.std() * math.sqrt(n) / counts[:, 1].sum()) if n > 1 else math.nan
    return Score(
        int(counts[:, 0].sum()), int(counts[:, 1].sum()), share, error, guessed(said, probe)
    )


def heads(network: Network, probe: Probe) -> Heads:
    """What each head adds to a probe, and how it matches prefixes.

    Raises
    ------
    MelismaError
        The network's heads have no names.
    """
    told = {"input_ids": probe.tokens}

    def share(output: Any, batch: dict[str, Any]) -> Tensor:
        counts = right(output.logits.argmax(-1), probe).float()
        return counts[:, 0] / counts[:, 1]

    found = ablate(network, told, share, places="layer.*.head.*", kind="mean")
    rows = found.effect.shape[1]
    return Heads(
        tuple(place.name for place in found.places),
        found.effect.mean(1),
        found.effect.std(1) / math.sqrt(rows),
        prefix_matching(network, probe),
    )


def prefix_matching(network: Network, probe: Probe) -> Tensor:
    """Attention from a token to what came after its last occurrence: (H,), nan if none repeats."""
    names = network.places("layer.*.head.*")
    if probe.period is None:
        return torch.full((len(names),), math.nan)
    seen = attention(
        network, {"input_ids": probe.tokens}, lambda output, _: output.logits[:, -1, 0]
    ).maps  # (layers, rows, heads, query, key)
    length = probe.tokens.shape[1]
    query = torch.arange(length)[None].expand(len(probe.tokens), -1)
    key = query - probe.period[:, None] + 1
    told = probe.asked & (key > 0)
    row, at = told.nonzero(as_tuple=True)
    return seen[:, row, :, at, key[row, at]].mean(0).flatten()


def ability(checkpoints: Mapping[int, Callable[[], Network]], probe: Probe) -> Ability:
    """Follow an ability through checkpoints.

    Parameters
    ----------
    checkpoints : by step, what opens the network as it was then
    probe : questions, see `melisma.trace.probes`

    Raises
    ------
    MelismaError
        There is no checkpoint.
    """
    if not checkpoints:
        raise MelismaError("There is no checkpoint: give a folder of them.")
    steps = tuple(sorted(checkpoints))
    scores = tuple(score(checkpoints[step](), probe) for step in steps)
    if len(steps) < FEWEST:
        return Ability(steps, scores, None, None, None, None)
    # Rows are what is independent, so counts are of rows.
    rows = len(probe.tokens)
    change = change_point(steps, [s.share * rows for s in scores], [rows] * len(steps))
    early = max((s for s in steps if s <= change.low), default=steps[0])
    late = min((s for s in steps if s >= change.high), default=steps[-1])
    before, after = (heads(checkpoints[step](), probe) for step in (early, late))
    trace = _trace(probe, steps, scores, change, (early, late), before, after)
    return Ability(steps, scores, change, before, after, trace)


def without(network: Network, probe: Probe, names: tuple[str, ...], *, seed: int = 0) -> float:
    """The share of right answers with heads taken out together, their values those of other rows.

    Raises
    ------
    MelismaError
        A head is not there.
    """
    places = [place for place in network.places("layer.*.head.*") if place.name in names]
    if len(places) != len(set(names)):
        raise MelismaError(f"The network has not all of the heads {', '.join(names)}.")
    told = {"input_ids": probe.tokens}

    def counts(output: Any, _: dict[str, Any]) -> Tensor:
        return right(output.logits.argmax(-1), probe)[:, 0].float()

    asked = right(probe.tokens, probe)[:, 1].sum()
    found = ablate(network, told, counts, places=places, kind="resample", together=True, seed=seed)
    return float(found.ablated.sum() / asked)


def _said(network: Network, probe: Probe) -> Tensor:
    """The likeliest token after each: (rows, length). Logits of a vocabulary are not kept."""
    pieces = []
    for rows in probe.tokens.split(_ROWS):
        output = network.run({"input_ids": rows}).output
        logits = getattr(output, "logits", None)
        if logits is None or logits.shape[:2] != rows.shape:
            raise MelismaError("The network gives no logits for each token, so nothing is asked.")
        pieces.append(logits.argmax(-1))
    return torch.cat(pieces)


def _trace(
    probe: Probe, steps: tuple[int, ...], scores: tuple[Score, ...], change: ChangePoint,
    ends: tuple[int, int], before: Heads, after: Heads,
) -> Trace:  # fmt: skip
    """Heads to the ability: what each adds after the change, less what it added before."""
    outcome = f"{probe.name}, steps {ends[0]} to {ends[1]}"
    values = dict(zip(steps, scores, strict=True))
    moved = after.effect - before.effect
    error = (after.error**2 + before.error**2).sqrt()
    nodes = [Node(outcome, 1 + _deepest(after.names), "ability", values[ends[1]].share)]
    edges = []
    for k, name in enumerate(after.names):
        about = {"prefix_matching_before": float(before.prefix[k]),
                 "prefix_matching_after": float(after.prefix[k])}  # fmt: skip
        about = {key: value for key, value in about.items() if not math.isnan(value)}
        nodes.append(Node(name, int(name.split(".")[1]), "head", float(after.effect[k]), about))
        edges.append(Edge(name, outcome, float(moved[k]), float(error[k]), "mean ablation"))
    total = values[ends[1]].share - values[ends[0]].share
    total_error = math.hypot(values[ends[0]].error, values[ends[1]].error)
    return Trace(
        tuple(nodes), tuple(edges), outcome, total, total_error, "share of right answers",
        _ASSUMPTIONS,
        {"probe": probe.name, "chance": scores[-1].chance, "steps": list(steps),
         "shares": [s.share for s in scores], "change": _finite(change._asdict())},
    )  # fmt: skip


def _finite(told: dict[str, Any]) -> dict[str, Any]:
    """Without what JSON cannot say."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in told.items()
    }


def _deepest(names: tuple[str, ...]) -> int:
    return max(int(name.split(".")[1]) for name in names)

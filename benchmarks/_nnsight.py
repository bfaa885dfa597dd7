"""nnsight's patching sweeps, as its manual patches: one a trace, or a batch of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Rows of a batch, as melisma's own.
ROWS = 32


def sweeps(
    module: Any, clean: Tensor, corrupted: Tensor, first: int, second: int
) -> dict[str, Callable[[], Tensor]]:
    """Three ways to patch every layer's output at every position: (layers, positions) each.

    Parameters
    ----------
    clean, corrupted : int64 (1, positions)
    first, second : tokens whose logits are compared
    """
    from nnsight import NNsight

    model = NNsight(module)
    layers, positions = len(module.model.layers), clean.shape[1]

    def own() -> list[Tensor]:
        kept: list[Any] = []
        with torch.no_grad(), model.trace(clean):
            for layer in model.model.layers:
                kept.append(layer.output.save())  # noqa: PERF401 (a comprehension loses them)
        return [each[0] if isinstance(each, tuple) else each for each in kept]

    def gap(logits: Tensor) -> Tensor:
        return logits[:, -1, first] - logits[:, -1, second]

    def one_by_one() -> Tensor:
        source = own()
        found = torch.empty(layers, positions)
        with torch.no_grad():
            for k in range(layers):
                for at in range(positions):
                    with model.trace(corrupted):
                        model.model.layers[k].output[:, at] = source[k][:, at]
                        logits = model.output.logits.save()
                    found[k, at] = gap(logits)[0]
        return found

    def batched(**more: Any) -> Tensor:
        source = own()
        found = torch.empty(layers, positions)
        with torch.no_grad():
            for k in range(layers):
                for some in torch.arange(positions).split(ROWS):
                    rows = torch.arange(len(some))
                    with model.trace(corrupted.expand(len(some), -1), **more):
                        model.model.layers[k].output[rows, some] = source[k][0, some]
                        logits = model.output.logits.save()
                    found[k, some] = gap(logits)
        return found

    return {
        "nnsight": one_by_one,
        "nnsight_batched": batched,
        "nnsight_batched_last_logit": lambda: batched(logits_to_keep=1),
    }

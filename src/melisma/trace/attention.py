"""Attention maps: from which positions each position reads, head by head, and their rollout.

Fused attention returns no weights, so a Hugging Face model is switched to its plain ("eager")
implementation for the run; how far the outcome moves by that is told, and the model is switched
back whatever happens. In melisma's own models the weights are computed again from the queries and
keys as they pass, and nothing is switched. Where a head looks is not what it does there: patch it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Metric, Network
from melisma.trace._batches import measured

Kind = Literal["self", "encoder", "decoder", "cross"]
_OUTPUTS = {
    "self": "attentions", "encoder": "encoder_attentions", "decoder": "decoder_attentions",
    "cross": "cross_attentions",
}  # fmt: skip


class Attention(NamedTuple):
    """What each head reads.

    maps : (layers, batch, heads, query, key), rows that add up to 1 over keys
    value : (batch,), the metric under the module's own attention
    difference : by how much the metric moves at most where the weights are seen
    """

    maps: Tensor
    value: Tensor
    difference: float


def attention(network: Network, batch: Any, metric: Metric, *, kind: Kind = "self") -> Attention:
    """See where heads look.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row
    kind : "self"; of an encoder and a decoder "encoder", "decoder", or "cross" (from the decoder's
        positions to the encoder's)

    Raises
    ------
    MelismaError
        The network has no attention of this kind that can be seen.
    """
    told = network.adapter.encode(batch)
    value = measured(metric, network.run(told).output, told)
    if hasattr(network.module, "set_attn_implementation"):
        with _eager(network.module):
            output = network.run({**told, "output_attentions": True}).output
        maps = getattr(output, _OUTPUTS[kind], None)
        if not maps:
            has = [k for k, name in _OUTPUTS.items() if getattr(output, name, None)]
            raise MelismaError(
                f"{type(network.module).__name__} has no {kind} attention"
                + (f": ask for {' or '.join(has)}." if has else ".")
            )
    else:
        seen: list[Tensor] = []
        with _watched(seen):
            output = network.run(told).output
        if not seen or kind != "self":
            raise MelismaError(
                f"{type(network.module).__name__} has no {kind} attention that can be seen."
            )
        maps = seen
    moved = (measured(metric, output, told) - value).abs().max()
    return Attention(torch.stack(tuple(maps)), value, float(moved))


def rollout(maps: Tensor, *, own: float = 0.5) -> Tensor:
    """Attention followed through the layers (Abnar & Zuidema 2020).

    Parameters
    ----------
    maps : (layers, batch, heads, position, position), self-attention
    own : share of a position that stays in its residual, 0 to 1

    Returns
    -------
    (batch, position, position) : how much of each input position (last axis) is in each output
    position; rows add up to 1
    """
    if maps.dim() != 5 or maps.shape[-1] != maps.shape[-2]:
        raise MelismaError(f"Maps of the shape {tuple(maps.shape)} are no self-attention.")
    eye = torch.eye(maps.shape[-1], dtype=maps.dtype)
    total = eye.expand(maps.shape[1], -1, -1)
    for layer in maps.mean(2):
        total = (own * eye + (1 - own) * layer) @ total
    return total


@contextmanager
def _eager(module: Any) -> Iterator[None]:
    """A Hugging Face model with attention whose weights are seen, for a while."""
    before = module.config._attn_implementation
    try:
        module.set_attn_implementation("eager")
        yield
    finally:
        module.set_attn_implementation(before)


@contextmanager
def _watched(seen: list[Tensor]) -> Iterator[None]:
    """Every fused attention's weights, computed from its queries and keys as it runs."""
    own = torch.nn.functional.scaled_dot_product_attention

    def watched(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        score = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            score = score.masked_fill(~attn_mask, -math.inf) if hidden else score + attn_mask
        seen.append(score.softmax(-1).detach())
        return own(query, key, value, attn_mask, **kwargs)

    with mock.patch.object(torch.nn.functional, "scaled_dot_product_attention", watched):
        yield

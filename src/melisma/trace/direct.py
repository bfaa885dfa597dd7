"""Direct logit attribution: what heads, MLPs and the embedding write into the outcome themselves.

A pre-normalised transformer's last state is a sum of what its parts wrote. With the final
normalisation's scale held at its value, the logits are linear in that sum, and so is any metric
that is linear in the logits: the parts, the embedding and the biases add up to it (Elhage et al.
2021). What a part does through later ones is not in it: that is what patching measures.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from melisma.errors import MelismaError
from melisma.network import Metric, Network, Place
from melisma.trace._batches import measured

_CLOSE = 1e-3


class Direct(NamedTuple):
    """What each part writes into the metric.

    places : P of them: `embedding`, heads, MLPs
    effect : (P, batch)
    bias : (batch,), what biases and the metric's constant add
    value : (batch,), the metric
    """

    places: tuple[Place, ...]
    effect: Tensor
    bias: Tensor
    value: Tensor

    @property
    def completeness_error(self) -> Tensor:
        """(batch,), what parts and biases miss of the metric, as a share of the largest part."""
        missed = (self.effect.sum(0) + self.bias - self.value).abs()
        return missed / self.effect.abs().amax(0).clamp(min=1e-12)


def direct(network: Network, batch: Any, metric: Metric) -> Direct:
    """Split a metric of the logits into what each part of the network writes.

    Parameters
    ----------
    batch : inputs, as the network's adapter encodes them
    metric : from output and batch to one number a row, linear in `output.logits`

    Raises
    ------
    MelismaError
        The network is not a pre-normalised language model (GPT-2, Llama), or the metric is not
        linear in the logits.
    """
    told = network.adapter.encode(batch)
    reader = Reader.of(network, told, metric)
    return Direct(reader.parts, reader.written(reader.kept), reader.bias, reader.value)


class Reader(NamedTuple):
    """How what parts write reaches a metric, the final normalisation's scale held.

    toward : (batch, positions that have logits, width), the metric's slope in a normalised state
    kept : what the parts wrote in this run
    """

    network: Network
    parts: tuple[Place, ...]
    toward: Tensor
    scaled: "_Scaled"
    kept: dict[Place, Tensor]
    bias: Tensor
    value: Tensor

    @classmethod
    def of(cls, network: Network, told: dict[str, Any], metric: Metric) -> "Reader":
        """Run a batch and find what its metric reads; raises as `direct` does."""
        module: Any = network.module
        head = getattr(module, "get_output_embeddings", lambda: None)()
        norm = _final_norm(network)
        if not isinstance(head, nn.Linear) or norm is None:
            raise MelismaError(
                "Parts write into the logits directly only in models with a final normalisation "
                "after their blocks and a linear head, as GPT-2 and Llama."
            )
        names = [place.name for place in network.places()]
        parts = tuple(
            Place(n) for n in names if n == "embedding" or ".head." in n or n.endswith(".mlp")
        )
        out = Place([name for name in names if name.endswith(".residual")][-1])
        found = network.run(told, keep=(*parts, out))
        slope, value, constant = _slope(found.output, told, metric)
        with torch.no_grad():
            # Logits of the last positions only, where the model was told to keep those.
            state = found.kept[out][:, -slope.shape[1] :]
            scaled = _Scaled.of(norm, state)
            toward = slope @ head.weight
            biases = scaled(_projection_biases(network, state)) + scaled.bias
            bias = (biases * toward).sum(dim=(1, 2)) + constant
            if head.bias is not None:
                bias = bias + (slope * head.bias).sum(dim=(1, 2))
        kept = {place: found.kept[place] for place in parts}
        return cls(network, parts, toward, scaled, kept, bias, value)

    def written(self, kept: dict[Place, Tensor]) -> Tensor:
        """What the parts of some run write into this one's metric: (P, batch)."""
        found = []
        with torch.no_grad():
            for place in self.parts:
                wrote = _written(self.network, place, kept[place][:, -self.toward.shape[1] :])
                found.append((self.scaled(wrote) * self.toward).sum(dim=(1, 2)))
        return torch.stack(found)


def _slope(output: Any, told: dict[str, Any], metric: Metric) -> tuple[Tensor, Tensor, Tensor]:
    """The metric's slope in the logits, its value, and its constant.

    Raises
    ------
    MelismaError
        The metric is not linear in the logits.
    """
    own = output.logits.detach()
    leaf = own.clone().requires_grad_()
    with torch.enable_grad():
        value = measured(metric, type(output)(logits=leaf), told)
        (slope,) = torch.autograd.grad(value.sum(), leaf)
    value = value.detach()
    constant = value - (slope * own).sum(dim=(1, 2))
    doubled = measured(metric, type(output)(logits=2 * own), told)
    if not torch.allclose(doubled + constant, 2 * value, rtol=1e-3, atol=1e-3):
        raise MelismaError(
            "The metric is not linear in the logits, so no part has its own share of it: take a "
            "logit, or a difference of two."
        )
    return slope, value, constant


class _Scaled(NamedTuple):
    """A normalisation with its scale held: linear, and a bias."""

    weight: Tensor
    bias: Tensor
    scale: Tensor
    centred: bool

    @classmethod
    def of(cls, norm: Any, state: Tensor) -> "_Scaled":
        centred = isinstance(norm, nn.LayerNorm)
        moved = state - state.mean(-1, keepdim=True) if centred else state
        eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", 0.0))
        scale = (moved.pow(2).mean(-1, keepdim=True) + eps).rsqrt()
        bias = getattr(norm, "bias", None)
        weight = norm.weight
        found = cls(weight, torch.zeros_like(weight) if bias is None else bias, scale, centred)
        gap = (found(state) + found.bias - norm(state)).abs().max()
        if gap > _CLOSE * norm(state).abs().max():
            raise MelismaError(
                f"The final normalisation ({type(norm).__name__}) is none that is known to scale "
                "and shift only."
            )
        return found

    def __call__(self, part: Tensor) -> Tensor:
        if self.centred:
            part = part - part.mean(-1, keepdim=True)
        return part * self.scale * self.weight


def _final_norm(network: Network) -> Any:
    """The normalisation between the last block and the head: what stands beside the blocks."""
    if not network.adapter.blocks:
        return None
    above = network.adapter.blocks[-1].rpartition(".")[0].rpartition(".")[0]
    module = network.module.get_submodule(above)
    for name in ("norm", "ln_f", "final_layer_norm"):
        if isinstance(getattr(module, name, None), nn.Module):
            return getattr(module, name)
    return None


def _written(network: Network, place: Place, value: Tensor) -> Tensor:
    """What a place adds to the state: a head's slice goes through its columns of the projection."""
    if ".head." not in place.name:
        return value
    number = place.name.rpartition(".")[2]
    projection: Any = network.module.get_submodule(network.adapter.fields[place.name].module)
    width = value.shape[-1]
    columns = slice(int(number) * width, (int(number) + 1) * width)
    if isinstance(projection, nn.Linear):
        return value @ projection.weight[:, columns].T
    return value @ projection.weight[columns]  # GPT-2's Conv1D is (in, out)


def _projection_biases(network: Network, state: Tensor) -> Tensor:
    """The output projections' biases, which belong to no head: like `state`."""
    total = torch.zeros_like(state)
    for place in network.places("layer.*.attention"):
        projection: Any = network.module.get_submodule(network.adapter.fields[place.name].module)
        if projection.bias is not None:
            total = total + projection.bias
    return total

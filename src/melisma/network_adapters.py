"""What flows through known families of networks, by name.

Names are alike in all: `embedding` enters the first block, and block i has

- `layer.i.heads`, `layer.i.head.k`: what attention heads hand to the output projection, read as
  slices of its input, so that fused attention keeps running
- `layer.i.attention`, `layer.i.mlp` (of convolutions `layer.i.convolution`): what each adds
- `layer.i.residual`: what leaves the block

With an encoder and a decoder the names begin with `encoder.` and `decoder.`, and the decoder has
`layer.i.cross`, `layer.i.cross_heads` and `layer.i.cross_head.k` besides.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.errors import MelismaError
from melisma.network import Adapter, Field, state_of, with_state

Fields = dict[str, Field]


class TransformerAdapter:
    """An adapter of a Hugging Face model.

    Parameters
    ----------
    module : the model
    fields, blocks : as in `Adapter`
    tokenizer : makes a batch of texts; None: only tensors are taken
    """

    channels_first = False

    def __init__(
        self, module: nn.Module, fields: Fields, blocks: Sequence[str], tokenizer: Any = None
    ) -> None:
        self.fields: Mapping[str, Field] = fields
        self.blocks = tuple(blocks)
        self.tokenizer = tokenizer
        self._module: Any = module
        self.first_returns_for_all = self._module.config.model_type == "t5"

    def encode(self, inputs: Any) -> dict[str, Any]:
        """A text, texts, token numbers (batch, position), or keyword arguments as they are."""
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, Tensor):
            return {"input_ids": inputs}
        if self.tokenizer is None:
            raise MelismaError("This network has no tokenizer: give token numbers, or one with it.")
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        return dict(self.tokenizer(texts, return_tensors="pt", padding=len(texts) > 1))

    def embed(self, batch: Mapping[str, Any]) -> Tensor:
        """The tokens' vectors before positions are added: (batch, position, width)."""
        if "inputs_embeds" in batch:
            return batch["inputs_embeds"]
        vectors = self._module.get_input_embeddings()(batch["input_ids"])
        encoder = getattr(getattr(self._module, "model", self._module), "encoder", None)
        return vectors * getattr(encoder, "embed_scale", 1.0)

    def embedded(self, batch: Mapping[str, Any], value: Tensor) -> dict[str, Any]:
        """The batch with `value` as its tokens' vectors."""
        told = {name: each for name, each in batch.items() if name != "input_ids"}
        return told | {"inputs_embeds": value}

    def remembering(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], Any] | None:
        """A batch whose run keeps every block's keys and values, and where it keeps them.

        None where what is read of the run could be of earlier positions, or positions read later
        ones: it takes a causal family and `logits_to_keep`.
        """
        config = self._module.config
        keep = batch.get("logits_to_keep", 0)
        if (
            config.model_type not in _CAUSAL
            or not hasattr(self._module, "lm_head")
            or getattr(config, "add_cross_attention", False)
            or not set(batch) <= {"input_ids", "attention_mask", "logits_to_keep"}
            or not isinstance(keep, int)
            or keep < 1
        ):
            return None
        from transformers import DynamicCache

        cache = DynamicCache(config=config)
        return {**batch, "use_cache": True, self._cache: cache}, cache

    def resumed(
        self, batch: Mapping[str, Any], cache: Any, rows: Tensor, position: int
    ) -> dict[str, Any]:
        """Rows of a batch from a position on, what comes before read from a remembering run.

        Parameters
        ----------
        batch : the rows' own, whole
        cache : of `remembering`, after its run
        rows : int64, the run's row of each
        position : the first that is computed; embeddings are left at zeros, for a run that starts
            at a block
        """
        from transformers import DynamicCache

        past = [
            (layer.keys[:, :, :position][rows], layer.values[:, :, :position][rows])
            for layer in cache.layers
        ]
        told = {name: each for name, each in batch.items() if name != "input_ids"}
        length, table = batch["input_ids"].shape[1], self._module.get_input_embeddings().weight
        empty = table.new_zeros(len(rows), length - position, table.shape[1])
        return told | {
            "inputs_embeds": empty, "use_cache": True, self._cache: DynamicCache(past),
        }  # fmt: skip

    @property
    def _cache(self) -> str:
        """What `forward` calls keys and values of earlier positions: transformers renamed it."""
        told = inspect.signature(type(self._module).forward).parameters
        return "cache" if "cache" in told else "past_key_values"


class SequenceAdapter:
    """An adapter of `melisma.sequence`'s models: blocks of convolutions, then of attention."""

    # What enters a block is (batch, channels, position) in the module.
    channels_first = True
    first_returns_for_all = False

    def __init__(self, module: nn.Module) -> None:
        config: Any = module.config
        fields: Fields = {"stem": _channels("film_stem")}
        blocks = []
        for k in range(len(config.dilations)):
            name, path = f"layer.{k}", f"tower.{k}"
            blocks.append(path)
            fields[f"{name}.convolution"] = _channels(f"{path}.mix")
            fields[f"{name}.residual"] = _channels(path)
        for k in range(config.attention):
            name, path = f"layer.{len(config.dilations) + k}", f"attention.{k}"
            blocks.append(path)
            width = config.channels // config.attention_heads
            _add_heads(fields, name, f"{path}.out", config.attention_heads, width)
            fields[f"{name}.attention"] = _output(f"{path}.out")
            fields[f"{name}.mlp"] = _output(f"{path}.narrow")
            fields[f"{name}.residual"] = _channels(path)
        for k in range(len(config.near) if config.centre else 0):
            fields[f"near.{k}.convolution"] = _channels(f"near.tower.{k}.mix")
            fields[f"near.{k}.residual"] = _channels(f"near.tower.{k}")
        fields["read"] = _channels("film")
        fields["hidden"] = _row("read_film")
        if config.motif_path:
            fields["motif_path"] = _row("motif_path")
        self.fields: Mapping[str, Field] = fields
        self.blocks = tuple(blocks)

    def encode(self, inputs: Any) -> dict[str, Any]:
        """Base codes uint8 (batch, width), or keyword arguments of the network."""
        if isinstance(inputs, Mapping):
            return dict(inputs)
        bases = torch.as_tensor(inputs).long()  # an unknown base is four zeros
        return {"sequence": F.one_hot(bases, 5)[..., :4].transpose(1, 2).float()}

    def embed(self, batch: Mapping[str, Any]) -> Tensor:
        """The one-hot bases, (batch, width, 4)."""
        return batch["sequence"].transpose(1, 2)

    def embedded(self, batch: Mapping[str, Any], value: Tensor) -> dict[str, Any]:
        """The batch with `value`, (batch, width, 4), as its sequence."""
        return {**batch, "sequence": value.transpose(1, 2)}


class PathAdapter:
    """An adapter of any module: the first tensor of every submodule's output, by its path."""

    blocks: tuple[str, ...] = ()
    channels_first = False
    first_returns_for_all = False

    def __init__(self, module: nn.Module) -> None:
        names = [name for name, _ in module.named_modules() if name]
        self.fields: Mapping[str, Field] = {name: _output(name) for name in names}

    def encode(self, inputs: Any) -> dict[str, Any]:
        """Keyword arguments of the module."""
        if not isinstance(inputs, Mapping):
            raise MelismaError("Give the module's keyword arguments as a mapping.")
        return dict(inputs)

    def embed(self, batch: Mapping[str, Any]) -> Tensor:
        """The one floating-point tensor among the arguments."""
        return batch[self._floating(batch)]

    def embedded(self, batch: Mapping[str, Any], value: Tensor) -> dict[str, Any]:
        """The batch with `value` in place of that tensor."""
        return {**batch, self._floating(batch): value}

    def _floating(self, batch: Mapping[str, Any]) -> str:
        found = [n for n, v in batch.items() if isinstance(v, Tensor) and v.is_floating_point()]
        if len(found) != 1:
            raise MelismaError(
                f"The input has {len(found)} floating-point tensors, so none is the embedded one."
            )
        return found[0]


def adapter_of(module: nn.Module, tokenizer: Any = None) -> Adapter:
    """The adapter that fits a module.

    Parameters
    ----------
    tokenizer : of a Hugging Face model, so that texts are taken
    """
    if type(module).__module__ == "melisma.sequence.model":
        return SequenceAdapter(module)
    config: Any = getattr(module, "config", None)
    build = _FAMILIES.get(getattr(config, "model_type", ""))
    if build is None:
        return PathAdapter(module)
    prefix = _prefix(module, config.model_type)
    if prefix is None:
        return PathAdapter(module)
    fields: Fields = {}
    blocks = build(prefix, config, fields)
    # An encoder or a decoder alone has its own half of the names.
    have = {name for name, _ in module.named_modules()}
    fields = {name: field for name, field in fields.items() if field.module in have}
    return TransformerAdapter(module, fields, [b for b in blocks if b in have], tokenizer)


# Families whose positions read none that come later.
_CAUSAL = ("gpt2", "llama")
_STACKS = {
    "bert": ("encoder.layer.0",), "gpt2": ("h.0",), "llama": ("layers.0",),
    "t5": ("encoder.block.0", "decoder.block.0"),
    "marian": ("encoder.layers.0", "decoder.layers.0"),
}  # fmt: skip


def _prefix(module: nn.Module, kind: str) -> str | None:
    """What stands before the stack of blocks: a model with a head has it under a name."""
    for wanted in _STACKS[kind]:
        for name, _ in module.named_modules():
            if name == wanted or name.endswith("." + wanted):
                return name[: -len(wanted)]
    return None


def _bert(prefix: str, config: Any, fields: Fields) -> list[str]:
    heads = config.num_attention_heads
    blocks = [f"{prefix}encoder.layer.{k}" for k in range(config.num_hidden_layers)]
    fields["embedding"] = _entering(blocks[0])
    for k, path in enumerate(blocks):
        out = f"{path}.attention.output.dense"
        _add_block(fields, f"layer.{k}", path, out, heads, config.hidden_size // heads)
        fields[f"layer.{k}.mlp"] = _output(f"{path}.output.dense")
    return blocks


def _gpt2(prefix: str, config: Any, fields: Fields) -> list[str]:
    blocks = [f"{prefix}h.{k}" for k in range(config.n_layer)]
    fields["embedding"] = _entering(blocks[0])
    for k, path in enumerate(blocks):
        width = config.n_embd // config.n_head
        _add_block(fields, f"layer.{k}", path, f"{path}.attn.c_proj", config.n_head, width)
        fields[f"layer.{k}.mlp"] = _output(f"{path}.mlp.c_proj")
    return blocks


def _llama(prefix: str, config: Any, fields: Fields) -> list[str]:
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    blocks = [f"{prefix}layers.{k}" for k in range(config.num_hidden_layers)]
    fields["embedding"] = _entering(blocks[0])
    for k, path in enumerate(blocks):
        _add_block(fields, f"layer.{k}", path, f"{path}.self_attn.o_proj", heads, width)
        fields[f"layer.{k}.mlp"] = _output(f"{path}.mlp.down_proj")
    return blocks


def _t5(prefix: str, config: Any, fields: Fields) -> list[str]:
    found = []
    for side, n in (("encoder", config.num_layers), ("decoder", config.num_decoder_layers)):
        blocks = [f"{prefix}{side}.block.{k}" for k in range(n)]
        found += blocks
        fields[f"{side}.embedding"] = _entering(blocks[0])
        for k, path in enumerate(blocks):
            name, out = f"{side}.layer.{k}", f"{path}.layer.0.SelfAttention.o"
            _add_block(fields, name, path, out, config.num_heads, config.d_kv)
            if side == "decoder":
                cross = f"{path}.layer.1.EncDecAttention.o"
                _add_heads(fields, name, cross, config.num_heads, config.d_kv, "cross_head")
                fields[f"{name}.cross"] = _output(cross)
            last = 2 if side == "decoder" else 1
            fields[f"{name}.mlp"] = _output(f"{path}.layer.{last}.DenseReluDense.wo")
    return found


def _marian(prefix: str, config: Any, fields: Fields) -> list[str]:
    found = []
    for side, n, heads in (
        ("encoder", config.encoder_layers, config.encoder_attention_heads),
        ("decoder", config.decoder_layers, config.decoder_attention_heads),
    ):
        blocks = [f"{prefix}{side}.layers.{k}" for k in range(n)]
        found += blocks
        width = config.d_model // heads
        fields[f"{side}.embedding"] = _entering(blocks[0])
        for k, path in enumerate(blocks):
            name = f"{side}.layer.{k}"
            _add_block(fields, name, path, f"{path}.self_attn.out_proj", heads, width)
            if side == "decoder":
                cross = f"{path}.encoder_attn.out_proj"
                _add_heads(fields, name, cross, heads, width, "cross_head")
                fields[f"{name}.cross"] = _output(cross)
            fields[f"{name}.mlp"] = _output(f"{path}.fc2")
    return found


_FAMILIES: dict[str, Callable[[str, Any, Fields], list[str]]] = {
    "bert": _bert, "gpt2": _gpt2, "llama": _llama, "t5": _t5, "marian": _marian,
}  # fmt: skip


def _add_block(
    fields: Fields, name: str, path: str, projection: str, heads: int, width: int
) -> None:
    _add_heads(fields, name, projection, heads, width)
    fields[f"{name}.attention"] = _output(projection)
    fields[f"{name}.residual"] = _output(path)


def _add_heads(
    fields: Fields, name: str, projection: str, heads: int, width: int, kind: str = "head"
) -> None:
    """Heads as slices of the output projection's input."""
    fields[f"{name}.{kind}s"] = Field(projection, "input", state_of, with_state)
    for k in range(heads):
        fields[f"{name}.{kind}.{k}"] = _slice(projection, k * width, (k + 1) * width)


def _slice(module: str, low: int, high: int) -> Field:
    def read(value: Any) -> Tensor:
        return state_of(value)[..., low:high]

    def write(value: Any, new: Tensor) -> Any:
        whole = state_of(value)
        return with_state(value, torch.cat([whole[..., :low], new, whole[..., high:]], dim=-1))

    return Field(module, "input", read, write)


def _entering(module: str) -> Field:
    return Field(module, "input", state_of, with_state)


def _output(module: str) -> Field:
    """The first tensor of a module's output."""

    def read(value: Any) -> Tensor:
        found = value if isinstance(value, Tensor) else value[0]
        if not isinstance(found, Tensor):
            raise MelismaError(f"The output of {module} begins with no tensor.")
        return found

    def write(value: Any, new: Tensor) -> Any:
        if isinstance(value, Tensor):
            return new
        rest = (new, *value[1:])
        return type(value)(*rest) if hasattr(value, "_fields") else rest

    return Field(module, "output", read, write)


def _channels(module: str) -> Field:
    """An output of (batch, channels, position), read as (batch, position, channels)."""
    return Field(
        module, "output", lambda value: value.transpose(1, 2), lambda _, new: new.transpose(1, 2)
    )


def _row(module: str) -> Field:
    """An output of (batch, width), read as one position."""
    return Field(module, "output", lambda value: value[:, None], lambda _, new: new[:, 0])


__all__ = ["PathAdapter", "SequenceAdapter", "TransformerAdapter", "adapter_of"]

"""A stem and tower that were pretrained on bases alone, on disk: JSON and safetensors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from melisma.errors import MelismaError
from melisma.sequence.checkpoint import as_tuples
from melisma.sequence.model import ModelConfig, SequenceModel

FORMAT = 1
# What two networks must have in common for one to begin with the other's weights.
SHARED = (
    "channels", "stem", "kernel", "dilations", "pool", "attention", "attention_heads", "position",
)  # fmt: skip
_PARTS = ("stem.", "tower.", "attention.", "position.", "film_stem.", "film.")


@dataclass(frozen=True)
class Pretrained:
    """What `melisma pretrain` left.

    Attributes
    ----------
    config : of the network that was pretrained
    weights : of its stem, tower and attention
    record : how it was trained, and its scores on bases it has not seen
    """

    config: ModelConfig
    weights: Mapping[str, torch.Tensor]
    record: Mapping[str, Any]

    @property
    def shared(self) -> dict[str, Any]:
        """The fields of `ModelConfig` that a network which begins from it must have."""
        return {name: getattr(self.config, name) for name in SHARED}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights."""
        found = hashlib.sha256()
        for name in sorted(self.weights):
            found.update(name.encode())
            found.update(self.weights[name].contiguous().numpy().tobytes())
        return found.hexdigest()

    def check(self, config: ModelConfig) -> None:
        """Refuse a network whose stem or tower is another.

        Raises
        ------
        MelismaError
            They differ; the fields are named.
        """
        other = [
            f"{name} {getattr(config, name)} for {value}"
            for name, value in self.shared.items()
            if getattr(config, name) != value
        ]
        if self.config.position == "learned" and config.width != self.config.width:
            other.append(f"width {config.width} for {self.config.width}")
        if other:
            raise MelismaError(
                f"The network is not the one that was pretrained: it has {', '.join(other)}."
            )

    def put_into(self, module: SequenceModel) -> None:
        """Give a network the pretrained weights; the rest of it stays as it is."""
        own = module.state_dict()
        own.update({name: value for name, value in self.weights.items() if name in own})
        module.load_state_dict(own)


def save_pretrained(folder: Path, module: SequenceModel, record: Mapping[str, Any]) -> None:
    """Write `weights.safetensors` and, last, `pretrained.json` into an existing folder."""
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in module.state_dict().items()
        if name.startswith(_PARTS)
    }
    save_file(weights, folder / "weights.safetensors")
    told = {"format": FORMAT, "config": asdict(module.config), "record": dict(record)}
    partial = folder / "pretrained.json.part"
    partial.write_text(json.dumps(told, indent=1) + "\n")
    partial.replace(folder / "pretrained.json")


def load_pretrained(folder: Path | str) -> Pretrained:
    """Open a folder that `melisma pretrain` made.

    Raises
    ------
    MelismaError
        It holds no pretrained network, or a damaged one.
    """
    folder = Path(folder)
    path = folder / "pretrained.json"
    if not path.is_file():
        raise MelismaError(
            f"{folder} holds no pretrained network (pretrained.json): make one with `melisma "
            "pretrain`."
        )
    try:
        told = json.loads(path.read_text())
        config = ModelConfig(**as_tuples(told["config"]))
        weights = load_file(folder / "weights.safetensors")
        own: nn.Module = SequenceModel(config)
        state = own.state_dict()
        for name, value in weights.items():
            if name not in state or state[name].shape != value.shape:
                raise ValueError(f"{name} does not fit")
        return Pretrained(config, weights, told["record"])
    except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise MelismaError(f"{folder} is damaged ({error}): copy it again.") from None

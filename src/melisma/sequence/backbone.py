"""A language model of DNA in the tower's place: Hugging Face's, from a local folder.

The window is spelled out for the model's own tokenizer. The state of the token that holds the site
and the mean over tokens are read out as the tower's positions are, and the environment scales and
shifts that read-out. The backbone is frozen, given low-rank additions (LoRA, Hu et al. 2022), or
trained whole. Weights are read from safetensors only, and no code from the folder is run.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.errors import MelismaError
from melisma.sequence.encodings import UNKNOWN, decode
from melisma.sequence.model import (
    Film,
    ModelConfig,
    MotifPath,
    Output,
    SequenceModel,
    Surroundings,
)

Tune = Literal["frozen", "lora", "full"]
_LORA_RANK = 8
_LANGUAGE = "language."


def backbone_fields(folder: Path | str, tune: Tune = "frozen") -> dict[str, Any]:
    """The fields of `ModelConfig` that a backbone sets.

    Raises
    ------
    MelismaError
        The folder holds no model, only pickled weights, or no tokenizer.
    """
    folder = Path(folder)
    return {
        "backbone": str(folder.resolve()), "backbone_hash": _hash(_files(folder)), "tune": tune,
    }  # fmt: skip


def _files(folder: Path) -> list[Path]:
    """The weights of a folder, which must be safetensors."""
    if not (folder / "config.json").is_file():
        raise MelismaError(
            f"{folder} holds no Hugging Face model (config.json): give the folder that "
            "`save_pretrained` made."
        )
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = [p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt")]
        if pickled:
            raise MelismaError(
                f"{folder} has its weights as pickle only ({pickled[0]}), which can run code: save "
                "them with `save_pretrained(..., safe_serialization=True)` where you trust them."
            )
        raise MelismaError(f"{folder} has a config.json and no weights (*.safetensors).")
    if not (folder / "tokenizer.json").is_file():
        raise MelismaError(
            f"{folder} has no tokenizer.json, so bases cannot be made its tokens: save its fast "
            "tokenizer there."
        )
    return found


def _hash(files: list[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()


class BackboneModel(nn.Module):
    """A language model, a read-out that is told the environment, and the position-weight path.

    Raises
    ------
    MelismaError
        The folder is gone or holds other weights than the configuration's.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        from transformers import AutoModel, AutoTokenizer

        folder = Path(config.backbone)
        if not folder.is_dir():
            raise MelismaError(f"The backbone is not at {folder}: bring it back, or train again.")
        if _hash(_files(folder)) != config.backbone_hash:
            raise MelismaError(f"{folder} holds other weights than the model was trained with.")
        self.config = config
        try:
            # transformers' loader returns whatever class the configuration names.
            with _quiet():
                language: Any = AutoModel.from_pretrained(
                    folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
                )
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, use_fast=True, trust_remote_code=False
            )
        except (ValueError, OSError, KeyError, ImportError) as error:
            first = str(error).strip().splitlines()[0]
            raise MelismaError(f"{folder} cannot be read as a language model ({first}).") from None
        if not self._tokenizer.is_fast:
            raise MelismaError(f"{folder} has no fast tokenizer, which tells where tokens begin.")
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        width = int(language.config.hidden_size)
        self.language: Any = _tuned(language, config.tune)
        told = config.film if config.environment else 0
        self.environment = (
            nn.Linear(config.environment, config.film, bias=False) if config.environment else None
        )
        self.motif_path = MotifPath(config) if config.motif_path else None
        self.norm = nn.LayerNorm(2 * width)
        self.read_out = nn.Linear(2 * width, config.hidden)
        self.neighbours = (
            nn.Linear(3 * config.neighbours, config.hidden) if config.neighbours else None
        )
        self.surroundings = Surroundings(config) if config.surroundings else None
        self.read_film = Film(told, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, len(config.heads))
        self.precision = (
            nn.Linear(config.hidden, len(config.heads)) if config.head == "beta_binomial" else None
        )

    def train(self, mode: bool = True) -> "BackboneModel":
        """A frozen backbone has no dropout in training either."""
        super().train(mode)
        if self.config.tune == "frozen":
            self.language.eval()
        return self

    def forward(
        self,
        sequence: Tensor,  # (B, 4, W)
        environment: Tensor | None = None,  # (B, E)
        neighbours: Tensor | None = None,  # (B, 3, K)
        surroundings: Tensor | None = None,  # (B, scales, 5)
    ) -> Output:
        """As `SequenceModel.forward`."""
        b = len(sequence)
        if self.environment is not None and environment is None:
            environment = sequence.new_zeros(b, self.config.environment)
        told = self.environment(environment) if self.environment is not None else None
        hidden = self.read_out(self.drop(self.norm(self._states(sequence))))
        if self.neighbours is not None:
            if neighbours is None:
                neighbours = sequence.new_zeros(b, 3, self.config.neighbours)
            hidden = hidden + self.neighbours(neighbours.flatten(1))
        if self.surroundings is not None:
            hidden = hidden + self.surroundings(surroundings, b)
        hidden = self.drop(F.gelu(self.read_film(hidden, told)))
        logit = self.head(hidden)
        if self.motif_path is not None:
            logit = logit + self.motif_path(sequence, environment)
        precision = self.precision(hidden) if self.precision is not None else None
        return Output(logit, precision)

    def _states(self, sequence: Tensor) -> Tensor:
        """The state of the token that holds the site, and the mean: (B, 2 width)."""
        codes = sequence.argmax(1).masked_fill(sequence.sum(1) == 0, UNKNOWN)
        texts = decode(codes.to(torch.uint8).cpu().numpy())
        told = self._tokenizer(
            [texts] if isinstance(texts, str) else texts, return_tensors="pt", padding=True,
            return_offsets_mapping=True,
        )  # fmt: skip
        offsets = told.pop("offset_mapping")  # (B, T, 2)
        middle = self.config.width // 2
        holds = (offsets[:, :, 0] <= middle) & (offsets[:, :, 1] > middle)  # (B, T)
        if not bool(holds.any(1).all()):
            raise MelismaError("The tokenizer has no token that holds the window's centre.")
        device = sequence.device
        inputs = {name: value.to(device) for name, value in told.items()}
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.tune != "frozen"):
            states = self.language(**inputs).last_hidden_state  # (B, T, width)
        mask = inputs["attention_mask"].to(states.dtype)[:, :, None]
        mean = (states * mask).sum(1) / mask.sum(1)
        at = holds.to(torch.int64).argmax(1).to(device)
        return torch.cat([states[torch.arange(len(at), device=device), at], mean], dim=1)


def _tuned(language: nn.Module, tune: Tune) -> nn.Module:
    for value in language.parameters():
        value.requires_grad_(tune == "full")
    if tune != "lora":
        return language
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=_LORA_RANK, lora_alpha=2 * _LORA_RANK, target_modules="all-linear")
    with warnings.catch_warnings():
        # peft asks transformers by a name that is going away.
        warnings.simplefilter("ignore", FutureWarning)
        return cast(nn.Module, get_peft_model(cast(Any, language), config))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own progress bars."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def make_network(config: ModelConfig) -> "SequenceModel | BackboneModel":
    """The network that a configuration describes."""
    return BackboneModel(config) if config.backbone else SequenceModel(config)


def kept_weights(module: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds: all but the parts of a backbone that were not trained."""
    return {
        name: value.detach().cpu().contiguous().clone()
        for name, value in module.state_dict().items()
        if _is_kept(module, name)
    }


def _is_kept(module: nn.Module, name: str) -> bool:
    if not isinstance(module, BackboneModel) or not name.startswith(_LANGUAGE):
        return True
    return module.config.tune == "full" or (module.config.tune == "lora" and "lora_" in name)


def put_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load what `kept_weights` returned.

    Raises
    ------
    RuntimeError
        A weight is missing, too many, or of another shape.
    """
    missing, unexpected = module.load_state_dict(weights, strict=False)
    wrong = [name for name in missing if _is_kept(module, name)] + list(unexpected)
    if wrong:
        raise RuntimeError(f"{wrong[0]} is missing or too many")

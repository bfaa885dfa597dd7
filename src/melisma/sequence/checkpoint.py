"""A trained model on disk and in use: a JSON record and safetensors weights, never pickle.

A model's folder holds `model.json` (what the network is, what it was told of the environment,
how it was trained and on which split) and one `member-<k>.safetensors` for each network of the
ensemble. Loading runs no code from the folder.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from scipy.special import expit
from torch import nn

from melisma.errors import MelismaError
from melisma.sequence._calibration import Conformal
from melisma.sequence._memory import keep_freed_memory
from melisma.sequence.backbone import kept_weights, make_network, put_weights
from melisma.sequence.encodings import LETTERS, UNKNOWN, Codes, reverse_complement
from melisma.sequence.environment import Environment
from melisma.sequence.model import ModelConfig

FORMAT = 1
# Windows a step of prediction: large enough that the matrix products are.
PREDICT_BATCH = 512

Floats = npt.NDArray[np.float32]


class Prediction(NamedTuple):
    """What a model says of n windows; every array is float32 (n, heads).

    level : the mark's expected level, 0 to 1
    spread : standard deviation of the level among the ensemble's members; 0 for one member
    low, high : interval that holds the level measured at 10 reads or more in nine of ten sites;
        NaN for a model that was trained on labels
    """

    level: Floats
    spread: Floats
    low: Floats
    high: Floats


def other_strand(codes: Codes) -> Codes:
    """The view from a CpG's other strand: its C stands where this strand's stood."""
    view = np.full_like(codes, UNKNOWN)
    view[:, 1:] = reverse_complement(codes)[:, :-1]
    return view


def symmetric_view(codes: Codes) -> Codes:
    """The bases that both strands of a CpG see: the window without its first base."""
    view = codes.copy()
    view[:, 0] = UNKNOWN
    return view


def strand_views(own: Codes, others: Codes) -> list[tuple[Codes, Codes, npt.NDArray[np.int64]]]:
    """A window (width,) and others like it (n, width) as both strands of a CpG see them.

    Returns
    -------
    For each strand its view of the window and of the others, and the window's base that each base
    of a view is: int64 (width,), -1 for none
    """
    place = np.arange(len(own))
    return [
        (symmetric_view(own[None])[0], symmetric_view(others), np.where(place, place, -1)),
        (other_strand(own[None])[0], other_strand(others), np.where(place, len(own) - place, -1)),
    ]


def flip_neighbours(neighbours: Floats) -> Floats:
    """The neighbours as the other strand meets them: sides swapped, distances negated."""
    half = neighbours.shape[2] // 2
    flipped = np.concatenate([neighbours[:, :, half:], neighbours[:, :, :half]], axis=2)
    flipped[:, 2] *= -1
    return flipped


def as_input(codes: Codes) -> torch.Tensor:
    """One-hot float32 (n, 4, width) of codes; an unknown base is four zeros."""
    table = torch.cat([torch.eye(4), torch.zeros(1, 4)])
    return table[torch.from_numpy(codes.astype(np.int64))].transpose(1, 2)


@dataclass(frozen=True)
class Model:
    """A trained ensemble. Load one with `load`, make one with `train`.

    Attributes
    ----------
    config : what each network is
    environment : what the networks are told besides sequence
    members : the networks, in evaluation mode
    temperature : (heads,), what the ensemble's log odds are divided by
    symmetric : whether both strands of a CpG are read and averaged
    conformal : how the intervals are made; None for a model of labels
    record : everything else that `model.json` holds: recipe, split, data, history, versions
    """

    config: ModelConfig
    environment: Environment
    members: tuple[nn.Module, ...]
    temperature: tuple[float, ...]
    symmetric: bool = False
    conformal: Conformal | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    def predict(
        self,
        codes: Codes,
        environment: Floats | None = None,
        neighbours: Floats | None = None,
        surroundings: Floats | None = None,
    ) -> Prediction:
        """The marks' levels in windows.

        Parameters
        ----------
        codes : uint8 (n, width)
        environment : float32 (n, environment width) or (1, environment width), as
            `self.environment.encode` makes them; None: the mean environment
        neighbours : float32 (n, 3, neighbours); None: none is known
        surroundings : float32 (n, scales, 5), as `GenomeWindows.surroundings` makes them; None:
            the mean of training

        Raises
        ------
        MelismaError
            The windows have another width than the model's.
        """
        logits = self.logits(codes, environment, neighbours, surroundings)
        tempered = logits / np.asarray(self.temperature, np.float32)
        members = expit(tempered)
        level = members.mean(0)
        nothing = np.full_like(level, np.nan)
        low, high = self.conformal.interval(level) if self.conformal else (nothing, nothing)
        return Prediction(level, members.std(0), low, high)

    def logits(
        self,
        codes: Codes,
        environment: Floats | None = None,
        neighbours: Floats | None = None,
        surroundings: Floats | None = None,
    ) -> Floats:
        """Each member's log odds before temperature: float32 (members, n, heads)."""
        self._check(codes)
        n, width = len(codes), self.environment.width
        if environment is None:
            environment = np.zeros((1, width), np.float32)
        rows = np.broadcast_to(environment, (n, width))
        views = [(codes, neighbours)]
        if self.symmetric:
            flipped = None if neighbours is None else flip_neighbours(neighbours)
            views = [(symmetric_view(codes), neighbours), (other_strand(codes), flipped)]
        out = np.zeros((len(self.members), n, len(self.config.heads)), np.float32)
        with torch.inference_mode():
            for start in range(0, n, PREDICT_BATCH):
                at = slice(start, start + PREDICT_BATCH)
                told = torch.from_numpy(rows[at].copy()) if width else None
                stretches = None
                if surroundings is not None and self.config.surroundings:
                    stretches = torch.from_numpy(surroundings[at])
                for view, around in views:
                    x = as_input(view[at])
                    known = self._known(around, at, len(x))
                    for k, member in enumerate(self.members):
                        out[k, at] += member(x, told, known, stretches).logit.numpy() / len(views)
        return out

    def _known(self, neighbours: Floats | None, at: slice, n: int) -> torch.Tensor | None:
        if not self.config.neighbours:
            return None
        if neighbours is None:
            return torch.zeros(n, 3, self.config.neighbours)
        return torch.from_numpy(neighbours[at].copy())

    def _check(self, codes: Codes) -> None:
        if codes.ndim != 2 or codes.shape[1] != self.config.width:
            raise MelismaError(
                f"This model reads windows of {self.config.width} bases, and these are "
                f"{codes.shape[-1]}: cut the windows to its width."
            )

    def function(
        self, head: int | str = 0, environment: Mapping[str, Any] | None = None
    ) -> Callable[[Codes], Floats]:
        """The level of one mark in one environment, as experiments on sequence take it.

        Returns
        -------
        f(codes uint8 (n, width)) -> float32 (n,)
        """
        column = self.config.heads.index(head) if isinstance(head, str) else head
        told = self.environment.encode_one(environment or {}).values
        return lambda codes: self.predict(codes, told).level[:, column]

    def save(self, folder: Path) -> None:
        """Write `model.json` and the weights into an existing folder; the record comes last."""
        for k, member in enumerate(self.members):
            save_file(kept_weights(member), folder / f"member-{k}.safetensors")
        text = json.dumps(
            {
                "format": FORMAT,
                "alphabet": LETTERS[:4],
                "kind": "sequence",
                "config": asdict(self.config),
                "environment": self.environment.record(),
                "members": len(self.members),
                "temperature": list(self.temperature),
                "symmetric": self.symmetric,
                "conformal": self.conformal.record() if self.conformal else None,
                "record": dict(self.record),
            },
            indent=1,
        )
        partial = folder / "model.json.part"
        partial.write_text(text + "\n")
        partial.replace(folder / "model.json")


def load(folder: Path | str) -> Model:
    """Open a trained model.

    Raises
    ------
    MelismaError
        The folder holds no model, its record is damaged, it was written for another alphabet or
        by a newer melisma, or its weights do not fit its record.
    """
    keep_freed_memory()
    folder = Path(folder)
    path = folder / "model.json"
    if not path.is_file():
        raise MelismaError(f"{folder} holds no model (model.json): make one with `melisma train`.")
    try:
        found = json.loads(path.read_text())
        version, alphabet = int(found["format"]), found["alphabet"]
    except (ValueError, KeyError, TypeError) as error:
        raise MelismaError(f"{path} is damaged ({error}): copy the model's folder again.") from None
    if version > FORMAT:
        raise MelismaError(
            f"{path} has format {version}, and this melisma reads up to {FORMAT}: install a newer "
            "melisma."
        )
    if alphabet != LETTERS[:4]:
        raise MelismaError(
            f"{path} was trained on the alphabet {alphabet}, and windows here are {LETTERS[:4]}."
        )
    try:
        config = ModelConfig(**as_tuples(found["config"]))
        members = tuple(_member(folder, k, config) for k in range(found["members"]))
        return Model(
            config,
            Environment.from_record(found["environment"]),
            members,
            tuple(found["temperature"]),
            found["symmetric"],
            Conformal.from_record(found["conformal"]) if found["conformal"] else None,
            found["record"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise MelismaError(f"{path} is damaged ({error}): copy the model's folder again.") from None


def as_tuples(config: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that a frozen configuration holds."""
    return {
        k: tuple(v) if isinstance(v, Sequence) and not isinstance(v, str) else v
        for k, v in config.items()
    }


def _member(folder: Path, k: int, config: ModelConfig) -> nn.Module:
    path = folder / f"member-{k}.safetensors"
    if not path.is_file():
        raise MelismaError(f"{path} is missing: copy the model's folder again.")
    module = make_network(config)
    try:
        put_weights(module, load_file(path))
    except (RuntimeError, SafetensorError) as error:
        first = str(error).splitlines()[-1].strip()
        raise MelismaError(f"{path} does not fit model.json ({first}).") from None
    return module.eval()

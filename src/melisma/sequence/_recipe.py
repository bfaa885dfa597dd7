"""How a model is trained: the settings, in one place."""

import math
from dataclasses import dataclass

from melisma.errors import MelismaError


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes
    ----------
    epochs : at most; `patience` epochs without a better validation loss end it sooner
    batch : examples a step
    rate : the one-cycle's highest learning rate
    weight_decay : AdamW's
    label_smoothing : share of every target that is moved to one half
    members : networks of the ensemble
    epoch_examples : examples an epoch, drawn at random; None for all
    validation_examples : examples that early stopping, temperature and intervals see
    symmetric : CpGs whose strands are merged: both strands are read
    environment_dropout : how often a column of the environment is left out, so that the model
        answers for its mean
    neighbours_dropout : how often all marks around a site are left out; otherwise a random share
    """

    epochs: int = 10
    batch: int = 256
    rate: float = 3e-3
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    patience: int = 3
    members: int = 1
    seed: int = 1
    epoch_examples: int | None = None
    validation_examples: int = 50_000
    symmetric: bool = False
    environment_dropout: float = 0.1
    neighbours_dropout: float = 0.25
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "members", "validation_examples"):
            if getattr(self, name) < 1:
                raise MelismaError(f"{name} is {getattr(self, name)}: it must be 1 or more.")
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise MelismaError(f"The learning rate is {self.rate}: it must be above 0.")

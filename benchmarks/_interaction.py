"""A simulated sequence x environment interaction: a motif that one diet reads and another does not.

Windows are random. A word at any place raises the log odds by 2 under one diet and lowers it by 2
under the other, in two tissues of which one raises everything; one of the four combinations is
never trained on. What is asked is the word's effect in all four.
"""

from pathlib import Path
from typing import Any

import numpy as np

from melisma.sequence._recipe import Recipe
from melisma.sequence.encodings import encode
from melisma.sequence.environment import Environment
from melisma.sequence.examples import SequenceExamples
from melisma.sequence.experiments import marginalize
from melisma.sequence.model import ModelConfig
from melisma.sequence.windows import FixedWindows

WIDTH, WINDOWS, WORD, EFFECT, TISSUE = 41, 40_000, "TGACG", 2.0, 1.0
HELD_OUT = ("royal jelly", "brain")
# How often a factor is left out in training: the default, and oftener.
FORGOTTEN = (0.1, 0.4)


def score(out: Path, *, seed: int) -> dict[str, Any]:
    """The word's effect on the log odds by combination: true and recovered."""
    from melisma.sequence.train import train

    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (WINDOWS, WIDTH)).astype(np.uint8)
    word = encode([WORD])[0]
    carries = rng.random(WINDOWS) < 0.5
    place = rng.integers(0, WIDTH - len(word), WINDOWS)
    for row in np.flatnonzero(carries):
        codes[row, place[row] : place[row] + len(word)] = word
    views = np.lib.stride_tricks.sliding_window_view(codes, len(word), axis=1)
    has = (views == word).all(axis=2).any(axis=1)
    diet = rng.choice(["royal jelly", "worker jelly"], WINDOWS)
    tissue = rng.choice(["brain", "gut"], WINDOWS)
    sign = np.where(diet == "royal jelly", 1.0, -1.0)
    odds = EFFECT * sign * has + TISSUE * (tissue == "brain") - TISSUE / 2
    label = (rng.random(WINDOWS) < 1 / (1 + np.exp(-odds))).astype(np.float32)
    told = {"diet": diet.tolist(), "tissue": tissue.tolist()}
    environment = Environment.learn(told, ["diet", "tissue"])
    parts = np.where(rng.random(WINDOWS) < 0.1, 1, 0).astype(np.int8)
    parts[(diet == HELD_OUT[0]) & (tissue == HELD_OUT[1])] = -1
    made = SequenceExamples(
        FixedWindows(codes), label[:, None], np.ones((WINDOWS, 1), np.float32), parts,
        environment=environment, rows=environment.encode(told).values,
    )  # fmt: skip
    config = ModelConfig(width=WIDTH, environment=environment.width)
    backgrounds = rng.integers(0, 4, (1000, WIDTH)).astype(np.uint8)
    clean = backgrounds[
        ~(np.lib.stride_tricks.sliding_window_view(backgrounds, len(word), axis=1) == word)
        .all(axis=2)
        .any(axis=1)
    ]
    found: dict[str, Any] = {"true": {"royal jelly": EFFECT, "worker jelly": -EFFECT}}
    for forgotten in FORGOTTEN:
        recipe = Recipe(
            epochs=16, rate=2e-3, weight_decay=0.05, patience=16, seed=seed,
            environment_dropout=forgotten,
        )  # fmt: skip
        model = train(made, config, recipe, out / str(forgotten))
        told = found.setdefault("environment_dropout", {}).setdefault(str(forgotten), {})
        for one in ("royal jelly", "worker jelly"):
            for other in ("brain", "gut"):
                ask = model.function(environment={"diet": one, "tissue": other})
                answer = marginalize(ask, clean, WORD)
                change = [np.log(p / (1 - p)) for p in (answer.after, answer.before)]
                told[f"{one}, {other}"] = round(float(np.mean(change[0] - change[1])), 3)
    return found | {"held_out": ", ".join(HELD_OUT), "windows": WINDOWS, "simulated": True}

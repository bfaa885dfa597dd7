"""Position codes of the attention layers, compared on windows of 1 kb and more: IMR90's levels.

Scored on validation, since it is a choice; every network is trained alike, from the same seeds.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _imr90
from melisma.genome import Genome
from melisma.sequence._recipe import Recipe
from melisma.sequence.defaults import default_config
from melisma.sequence.evaluate import score_levels
from melisma.sequence.examples import VALIDATION, StoreExamples

# Windows and the seeds of each.
WIDTHS = {1001: (1, 2), 2001: (1,)}
CODES = ("no attention", "none", "learned", "rotary", "grid")


def score(out: Path) -> dict[str, Any]:
    """Spearman's correlation on validation by width and code, a value a seed."""
    from melisma.sequence.train import train

    methylome, genome = _imr90.read(), Genome.open(_imr90.FASTA)
    parts = _imr90.split(methylome, genome).parts
    found: dict[str, Any] = {}
    for width, seeds in WIDTHS.items():
        made = StoreExamples(methylome, genome, width, parts, min_coverage=10)
        batches = list(made.batches(VALIDATION, 4096))
        truth = np.concatenate([b.methylated / b.coverage for b in batches])[:, 0]
        base = default_config(
            made, counts=True, channels=32, pool=16, attention=2, centre=61, read_out=4,
            hidden=32, dropout=0.2, dilations=(1, 2, 4),
        )  # fmt: skip
        for code in CODES:
            config = replace(base, position="none" if code == "no attention" else code)
            if code == "no attention":
                config = replace(config, attention=0)
            for seed in seeds:
                recipe = Recipe(
                    epochs=2, rate=2e-3, weight_decay=0.05, symmetric=True, seed=seed, patience=2,
                    epoch_examples=30_000, validation_examples=10_000,
                )  # fmt: skip
                model = train(made, config, recipe, out / f"{width}-{code}-{seed}")
                level = np.concatenate([model.predict(b.codes).level[:, 0] for b in batches])
                value = score_levels(truth, level, draws=0)["spearman"].value
                found.setdefault(str(width), {}).setdefault(code, []).append(round(value, 4))
    return found

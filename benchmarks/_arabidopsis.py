"""Arabidopsis Col-0, the first 534 kb of chromosome 1: CG, CHG and CHH from one model.

The last fifth is held out, the eighth before it validates. Contexts are no input: the window shows
the base after the C. The trinucleotide mean is the profile baseline's coarser half, so it is scored
by itself.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xarray as xr

from benchmarks._scores import named
from melisma.genome import Genome
from melisma.methylome import CONTEXTS, dataset
from melisma.sequence._recipe import Recipe
from melisma.sequence.defaults import default_config
from melisma.sequence.evaluate import score_labels, score_levels
from melisma.sequence.examples import TEST, TRAIN, StoreExamples
from melisma.sequence.splits import by_interval

FOLDER = Path(__file__).parents[2] / "shared/data/reference/arabidopsis_col0_chr1"
FASTA, CALLS = FOLDER / "sequence.fa.gz", FOLDER / "bsseeker.txt.gz"
LENGTH, FIRST_TEST, FIRST_VALIDATION, MARGIN = 533_566, 426_853, 360_000, 2_000
WIDTH, MIN_READS = 201, 4
SCALES = (250, 1_000)


def read(genome: Genome) -> xr.Dataset:
    """The cytosines within the sequence."""
    table = pl.read_csv(
        CALLS, separator="\t", has_header=False,
        new_columns=["contig", "base", "place", "context", "pair", "level", "m", "n"],
    ).filter(pl.col("place") <= LENGTH)  # fmt: skip
    n = len(table)
    return dataset(
        {
            "contig": np.zeros(n), "position": table["place"].to_numpy() - 1,
            "strand": np.where(table["base"].to_numpy() == "C", 1, -1),
            "context": [CONTEXTS.index(name) for name in table["context"]],
        },
        {
            "methylated": table["m"].to_numpy().astype(np.uint16)[:, None],
            "coverage": table["n"].to_numpy().astype(np.uint16)[:, None],
        },
        {"sample": ["col0"]},
        contigs=[genome.contigs[0]],
    )  # fmt: skip


def score(out: Path, *, seed: int) -> dict[str, Any]:
    """AUC of level above one half, and correlations of levels, by context."""
    from melisma.sequence.train import train

    genome = Genome.open(FASTA)
    methylome = read(genome)
    position = methylome["position"].values
    name = genome.contigs[0]
    split = by_interval(
        np.full(len(position), name), position,
        test=(name, FIRST_TEST, LENGTH), validation=(name, FIRST_VALIDATION, FIRST_TEST - MARGIN),
        margin=MARGIN,
    )  # fmt: skip
    # One read teaches a little; four or more judge.
    made = StoreExamples(methylome, genome, WIDTH, split.parts, scales=SCALES)
    recipe = Recipe(
        epochs=8, rate=2e-3, weight_decay=0.05, members=2, patience=8, seed=seed,
        validation_examples=20_000,
    )  # fmt: skip
    model = train(made, default_config(made, counts=True, channels=32, dropout=0.2), recipe, out)
    test, seen = (_gathered(made, part) for part in (TEST, TRAIN))
    level = model.predict(test["codes"], surroundings=test["around"]).level[:, 0]
    trinucleotide = _means(seen, test)
    found: dict[str, Any] = {}
    for k, context in enumerate(CONTEXTS[:3]):
        own = methylome["context"].values[test["rows"]] == k
        truth = test["level"][own]
        told: dict[str, Any] = {"n": int(own.sum()), "methylated": round(float(truth.mean()), 4)}
        for who, values in (("model", level), ("trinucleotide", trinucleotide)):
            of_levels = score_levels(truth, values[own], seed=seed)
            told[who] = {
                "auc": named(score_labels(truth > 0.5, values[own], seed=seed)["auc"]),
                "pearson": named(of_levels["pearson"]),
                "spearman": named(of_levels["spearman"]),
            }
        found[context] = told
    return found


def _gathered(made: StoreExamples, part: int) -> dict[str, Any]:
    batches = list(made.batches(part, 4096))
    enough = np.concatenate([b.coverage for b in batches])[:, 0] >= MIN_READS
    found = {
        "codes": np.concatenate([b.codes for b in batches]),
        "around": np.concatenate([b.surroundings for b in batches if b.surroundings is not None]),
        "level": np.concatenate([b.methylated / b.coverage for b in batches])[:, 0],
        "rows": np.concatenate([b.rows for b in batches]),
    }
    return {name: values[enough] for name, values in found.items()}


def _means(seen: dict[str, Any], asked: dict[str, Any]) -> Any:
    """The mean level of training sites of the same C and the two bases after it."""
    middle = WIDTH // 2
    words = [5 * d["codes"][:, middle + 1].astype(int) + d["codes"][:, middle + 2]
             for d in (seen, asked)]  # fmt: skip
    total = np.bincount(words[0], seen["level"], 25)
    n = np.bincount(words[0], minlength=25)
    return np.where(n > 0, total / np.maximum(n, 1), seen["level"].mean())[words[1]]

"""27,578 human CpGs of 16 occipital cortices: 122 bases each, and the mean level.

Positions in the file are of another build than its column says, so only the sequences are used.
Contigs are those of the probes; 8, 9 and 20 to 22 are held out for testing.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks._scores import named
from melisma.sequence._recipe import Recipe
from melisma.sequence.baselines import fit_composition, fit_profile, fit_words
from melisma.sequence.encodings import encode
from melisma.sequence.evaluate import score_labels
from melisma.sequence.examples import TEST as TEST_PART
from melisma.sequence.examples import TRAIN, SequenceExamples
from melisma.sequence.examples import VALIDATION as VALIDATION_PART
from melisma.sequence.model import ModelConfig
from melisma.sequence.splits import by_contig
from melisma.sequence.windows import FixedWindows

FILE = Path(__file__).parents[2] / "shared/data/reference/hm27_brain/hm27_sequences.tsv.gz"
TEST = ("chr8", "chr9", "chr20", "chr21", "chr22")
VALIDATION = ("chr5", "chr12")
# The network of 123-base windows and how it is trained, chosen on validation.
CONFIG = ModelConfig(width=123, pool=2, dropout=0.25)
MEMBERS, EPOCHS = 4, 16


def read() -> pl.DataFrame:
    """The probes whose level and sequence are known."""
    table = pl.read_csv(FILE, separator="\t", null_values=["NA", ""], infer_schema_length=None)
    return table.filter(
        pl.col("mean_beta_occ16").is_not_null() & pl.col("top_seq122").str.contains(r"\[CG\]")
    )


def examples(table: pl.DataFrame) -> SequenceExamples:
    """Windows of 123 bases with the CpG's C in the middle; the level counts as one read."""
    codes = encode(("N" + table["top_seq122"].str.replace_all(r"[\[\]]", "")).to_list())
    level = table["mean_beta_occ16"].to_numpy().astype(np.float32)[:, None]
    split = by_contig(table["chr_hg19"].to_list(), test=TEST, validation=VALIDATION)
    return SequenceExamples(FixedWindows(codes), level, np.ones_like(level), split.parts)


def strata(table: pl.DataFrame) -> dict[str, Any]:
    """Which probes lie in CpG islands, and which do not."""
    island = table["cpg_island"].cast(pl.String).str.to_uppercase().is_in(["TRUE"]).to_numpy()
    return {"island": island, "open": ~island}


def score(out: Path, *, seed: int, quick: bool) -> dict[str, Any]:
    """CpGs of held-out chromosomes, high or low, by island."""
    from melisma.sequence.train import train

    table = read()
    made = examples(table)
    recipe = Recipe(
        epochs=1 if quick else EPOCHS, rate=2e-3, weight_decay=0.05, symmetric=True,
        members=1 if quick else MEMBERS, patience=EPOCHS, seed=seed,
        epoch_examples=4_000 if quick else None,
    )  # fmt: skip
    model = train(made, CONFIG, recipe, out)
    rows = np.flatnonzero(made.parts == TEST_PART)
    codes = made.windows.codes(rows)
    label = made.methylated[rows, 0] > 0.5
    masks = {"": np.ones(len(rows), bool)} | {
        f"_{name}": mask[rows] for name, mask in strata(table).items()
    }
    found: dict[str, Any] = {"n": len(rows), "members": recipe.members}
    fit, choose = (_counts(made, part) for part in (TRAIN, VALIDATION_PART))
    others = {
        "words": fit_words(*fit, choose), "composition": fit_composition(*fit),
        "profile": fit_profile(*fit),
    }  # fmt: skip
    level = model.predict(codes).level[:, 0]
    predicted = {"model": level} | {name: b.predict(codes) for name, b in others.items()}
    odds = [np.log(p / (1 - p)) for p in (level, np.clip(predicted["words"], 1e-4, 1 - 1e-4))]
    predicted["model and words"] = 1 / (1 + np.exp(-(odds[0] + odds[1]) / 2))
    baselines: dict[str, Any] = {}
    for name, values in predicted.items():
        for suffix, mask in masks.items():
            scored = score_labels(label[mask], values[mask], seed=seed, draws=0 if quick else 500)
            place = found if name == "model" else baselines.setdefault(name, {})
            place[f"auc{suffix}"] = named(scored["auc"])
    return found | {"baselines": baselines}


def _counts(made: SequenceExamples, part: int) -> tuple[Any, Any, Any]:
    rows = np.flatnonzero(made.parts == part)
    return made.windows.codes(rows), made.methylated[rows, 0], made.coverage[rows, 0]

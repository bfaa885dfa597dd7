"""IMR90 fibroblasts on chr22 (Lister et al. 2009): level from sequence, and from marks around.

The set records no CpG without a methylated read in a replicate: what is modelled is the level of
recorded CpGs. Judged are CpGs of 36 to 40 Mb with a pooled coverage of 10 or more and known bases
500 to either side.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xarray as xr

from melisma.genome import Genome
from melisma.methylome import dataset
from melisma.sequence._recipe import Recipe
from melisma.sequence.checkpoint import Model
from melisma.sequence.defaults import default_config
from melisma.sequence.examples import TEST as TEST_PART
from melisma.sequence.examples import StoreExamples
from melisma.sequence.experiments import with_motif
from melisma.sequence.flanks import flank_class
from melisma.sequence.judge import judge
from melisma.sequence.splits import Split, by_interval

FOLDER = Path(__file__).parents[2] / "shared/data/vendorable/imr90_chr22"
FASTA = FOLDER / "chr22.hg19.fa.gz"
TEST = ("chr22", 36_000_000, 40_000_000)
VALIDATION = ("chr22", 30_000_000, 33_000_000)
MARGIN = 500_000
REACH = 500
# Composition is told of stretches of up to 256 kb, half of the margin.
SCALES = tuple(500 * 2**k for k in range(9))


def read() -> xr.Dataset:
    """Both replicates as a methylome of CpGs whose strands are merged."""
    calls = pl.read_csv(FOLDER / "calls.tsv.gz", separator="\t")
    n = len(calls)
    return dataset(
        {
            "contig": np.zeros(n), "position": calls["start"].to_numpy(),
            "strand": np.zeros(n), "context": np.zeros(n),
        },
        {
            kind: calls.select(f"rep1_{kind}", f"rep2_{kind}").to_numpy().astype(np.uint16)
            for kind in ("methylated", "coverage")
        },
        {"sample": ["rep1", "rep2"]},
        contigs=["chr22"],
        strands="merged",
    )  # fmt: skip


def split(methylome: xr.Dataset, genome: Genome) -> Split:
    """36 to 40 Mb for testing, 0.5 Mb margins; CpGs near unknown bases are left out."""
    position = methylome["position"].values.astype(np.int64)
    made = by_interval(
        np.full(len(position), "chr22"), position, test=TEST, validation=VALIDATION, margin=MARGIN
    )
    bases = genome.bases("chr22")
    unknown = np.concatenate([[0], np.cumsum(bases == ord("N"))])
    low = np.maximum(position - REACH, 0)
    high = np.minimum(position + REACH + 1, len(bases))
    parts = made.parts.copy()
    parts[unknown[high] > unknown[low]] = -1
    return Split(parts, made.record)


def examples(methylome: xr.Dataset, genome: Genome, width: int, neighbours: int) -> StoreExamples:
    """CpGs with 10 reads or more over both replicates."""
    parts = split(methylome, genome).parts
    return StoreExamples(
        methylome, genome, width, parts, neighbours=neighbours, scales=SCALES, min_coverage=10
    )


# The networks, chosen on validation.
NARROW = {"channels": 32, "pool": 1, "dropout": 0.2}
EPOCHS, EPOCH_EXAMPLES, MEMBERS = 6, 100_000, 2


def score(out: Path, width: int, neighbours: int, *, seed: int) -> dict[str, Any]:
    """Levels of a held-out stretch of chr22, from sequence or from the marks around as well."""
    from melisma.sequence.train import train

    methylome, genome = read(), Genome.open(FASTA)
    made = examples(methylome, genome, width, neighbours)
    config = default_config(made, counts=True, **NARROW)
    recipe = Recipe(
        epochs=EPOCHS, rate=3e-3, weight_decay=0.05, symmetric=True, seed=seed, members=MEMBERS,
        epoch_examples=EPOCH_EXAMPLES, validation_examples=15_000, patience=EPOCHS,
    )  # fmt: skip
    model = train(made, config, recipe, out)
    judged = judge(model, made, seed=seed)
    whole = judged.table.filter(stratum="all")
    scores = {
        name: {
            row["metric"]: {k: round(row[k], 4) for k in ("value", "low", "high")}
            for row in whole.filter(model=name).iter_rows(named=True)
        }
        for name in whole["model"].unique(maintain_order=True)
    }
    found: dict[str, Any] = {
        "spearman": scores["model"]["spearman"],
        "n": int(whole["n"][0]),
        "width": width,
        "neighbours": neighbours,
        "surroundings": list(SCALES),
        "members": MEMBERS,
        "scores": scores,
        "conformal_coverage": round(judged.coverage["m"], 4),
    }
    if not neighbours:
        found["solo"] = _solo(model, made, methylome, genome)
    return found


def _solo(model: Model, made: StoreExamples, methylome: xr.Dataset, genome: Genome) -> Any:
    """Mean level of lone CpGs of the test part by their flanks, measured and predicted, and what
    the model says of flanks put around the same CpGs."""
    batches = list(made.batches(TEST_PART, 4096))
    rows = np.concatenate([b.rows for b in batches])
    codes = np.concatenate([b.codes for b in batches])
    around = np.concatenate([b.surroundings for b in batches if b.surroundings is not None])
    measured = np.concatenate([b.methylated / b.coverage for b in batches])[:, 0]
    predicted = model.predict(codes, surroundings=around).level[:, 0]
    position = methylome["position"].values[rows]
    classes = flank_class(genome.bases("chr22"), position)
    found: dict[str, Any] = {}
    for k, name in enumerate(("SCGS", "SCGW", "WCGW")):
        own = classes == k
        found[name] = {
            "n": int(own.sum()),
            "measured": round(float(measured[own].mean()), 4),
            "predicted": round(float(predicted[own].mean()), 4),
        }
    # The same lone CpGs with the four bases beside them exchanged: an experiment, not a mean.
    some = np.flatnonzero(classes >= 0)[:2000]
    asked = {}
    for motif in ("ACGT", "TCGA", "GCGC", "CCGG"):
        changed = with_motif(codes[some], motif, codes.shape[1] // 2 - 1)
        told = model.predict(changed, surroundings=around[some]).level[:, 0]
        asked[motif] = round(float(told.mean()), 4)
    found["inserted"] = asked
    return found

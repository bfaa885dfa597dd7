"""A small model of a known rule, trained for the tests that read it."""

from dataclasses import replace

import numpy as np
import pytest

from melisma.cli import main
from melisma.methylome import dataset, write

BASES = 30_000


def make_study(where):
    """Two contigs and a store (simulated): CpGs in ACG or CGT are low in brain, others high."""
    rng = np.random.default_rng(0)
    text, contig, position, low = "", [], [], []
    for k, name in enumerate(("chr1", "chr2")):
        bases = rng.choice(list("ACGT"), BASES, p=[0.2, 0.3, 0.3, 0.2])
        at = 1 + np.flatnonzero((bases[1:-2] == "C") & (bases[2:-1] == "G"))
        text += f">{name}\n{''.join(bases)}\n"
        contig.append(np.full(len(at), k))
        position.append(at)
        low.append((bases[at + 2] == "T") | (bases[at - 1] == "A"))
    (where / "genome.fa").write_text(text)
    low = np.concatenate(low)
    level = np.stack([np.where(low, 0.1, 0.8), np.full(len(low), 0.8)] * 2, axis=1)
    coverage = rng.poisson(20, level.shape)
    made = dataset(
        {
            "contig": np.concatenate(contig), "position": np.concatenate(position),
            "strand": np.zeros(len(low)), "context": np.zeros(len(low)),
        },
        {
            "methylated": rng.binomial(coverage, level).astype(np.uint16),
            "coverage": coverage.astype(np.uint16),
        },
        {"sample": ["s1", "s2", "s3", "s4"], "tissue": ["brain", "liver"] * 2},
        contigs=["chr1", "chr2"],
        strands="merged",
    )  # fmt: skip
    write(made, where / "study.zarr")


def train_model(where):
    """A network small enough that a test may ask it a hundred thousand times."""
    from melisma.genome import Genome
    from melisma.methylome import open_methylome
    from melisma.sequence.defaults import default_config, default_recipe
    from melisma.sequence.examples import StoreExamples
    from melisma.sequence.judge import judge
    from melisma.sequence.splits import by_block
    from melisma.sequence.train import train

    methylome = open_methylome(where / "study.zarr")
    contig = np.array(methylome.attrs["contigs"])[methylome["contig"].values]
    split = by_block(contig, methylome["position"].values, width=21, size=2000, seed=1)
    genome = Genome.open(where / "genome.fa")
    examples = StoreExamples(methylome, genome, 21, split.parts, environment=["tissue"])
    small = {"channels": 8, "hidden": 8, "read_out": 4, "dilations": (1,), "film": 8}
    model = train(
        examples,
        replace(default_config(examples, counts=True), **small),
        default_recipe(
            examples, symmetric=True, members=1, epochs=3, batch=32, rate=0.01,
            epoch_examples=None, seed=1,
        ),
        where / "model",
        record={"store": "study.zarr", "contexts": ["CG"], "strands": "merged"},
    )  # fmt: skip
    table = judge(model, examples, draws=20).table
    table.write_csv(where / "model" / "scores.tsv", separator="\t")


def write_database(path):
    """Thirty-one motifs in MEME's format: ACGT under the name `rule`, and random ones."""
    rng = np.random.default_rng(5)
    rows = {"rule": "ACG"} | {f"m{k}": "".join(rng.choice(list("ACGT"), 7)) for k in range(30)}
    text = "MEME version 4\n\nALPHABET= ACGT\n\nstrands: + -\n\n"
    for name, word in rows.items():
        text += f"MOTIF {name}\nletter-probability matrix: alength= 4 w= {len(word)} nsites= 20\n"
        for letter in word:
            text += " ".join("0.97" if b == letter else "0.01" for b in "ACGT") + "\n"
        text += "\n"
    path.write_text(text)


def main_ok(*arguments):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    assert done.value.code == 0


def refused(capsys, *arguments):
    """The one sentence of a refusal, exit code 2."""
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    assert done.value.code == 2
    return " ".join(capsys.readouterr().err.split())

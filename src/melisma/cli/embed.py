"""`melisma embed`: vectors of k-mers."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.errors import MelismaError


def embed(
    genome: Annotated[Path, typer.Argument(help="FASTA or 2bit.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to make.", show_default=False)
    ],
    contig: Annotated[
        list[str] | None, typer.Option(help="Only this contig; may be given again.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Bases of a word, 2 to 8.")] = 6,
    size: Annotated[int, typer.Option(min=1, help="Numbers of a vector.")] = 64,
    window: Annotated[int, typer.Option(min=1, help="Words to either side.")] = 12,
    step: Annotated[
        int | None, typer.Option(min=1, help="Bases from word to word; without it, k.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Times the genome is read.")] = 1,
    near: Annotated[str | None, typer.Option(help="Show the words nearest to this one.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Learn vectors of the words of a genome: words in alike company come to lie near.

    \b
    Example:
      melisma embed genome.fa -k 6 --near TATAAA -o words
    """
    from melisma._extras import require
    from melisma.cli._terminal import show_table, terminal

    require("text", "gensim", "safetensors", what="Embedding")
    from melisma.genome import Genome
    from melisma.sequence.embedding import embed as learn

    if out.exists():
        raise MelismaError(f"{out} exists: choose another folder, or remove it first.")
    with terminal():
        found = learn(
            Genome.open(genome), contigs=contig, k=k, size=size, window=window, step=step,
            epochs=epochs, seed=seed,
        )  # fmt: skip
        nearest = found.nearest(near) if near is not None else []
        found.save(out)
    if nearest:
        rows = [(word, f"{cosine:.3f}") for word, cosine in nearest]
        show_table(f"Nearest to {near}", ("word", "cosine"), rows)
    typer.echo(f"Written: {out}, {found.record['words']:,} words read.")

"""`melisma pretrain`: a network that has read a genome before it is taught marks."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def pretrain(
    genome: Annotated[Path, typer.Argument(help="FASTA or 2bit.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The folder to make.", show_default=False)
    ],
    contig: Annotated[
        list[str] | None, typer.Option(help="Only this contig; may be given again.")
    ] = None,
    width: Annotated[int, typer.Option(help="Bases of a window, odd.")] = 201,
    channels: Annotated[int, typer.Option(min=4, help="Width of the network.")] = 64,
    attention: Annotated[int, typer.Option(min=0, help="Layers of attention.")] = 0,
    position: Annotated[
        Literal["none", "learned", "rotary", "grid"],
        typer.Option(help="How attention knows where it is."),
    ] = "rotary",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    windows: Annotated[int, typer.Option(min=1, help="Windows of an epoch.")] = 100_000,
    batch: Annotated[int, typer.Option(min=1)] = 128,
    rate: Annotated[float, typer.Option(help="The highest learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Teach a network to fill in hidden bases; `melisma train --start-from` goes on from it.

    \b
    Example:
      melisma pretrain genome.fa -o pretrained
      melisma train study.zarr -g genome.fa --start-from pretrained -o model
    """
    from melisma._extras import require
    from melisma.cli._terminal import show_table, terminal

    require("deep", "torch", "safetensors", what="Pretraining")
    from melisma.genome import Genome
    from melisma.sequence.model import ModelConfig
    from melisma.sequence.pretrain import PretrainRecipe
    from melisma.sequence.pretrain import pretrain as learn

    with terminal():
        config = ModelConfig(
            width=width, channels=channels, dilations=(1, 2, 4, 8, 1), attention=attention,
            position=position if attention else "none", motif_path=False,
        )  # fmt: skip
        recipe = PretrainRecipe(
            epochs=epochs, epoch_windows=windows, batch=batch, rate=rate, seed=seed
        )
        found = learn(Genome.open(genome), config, recipe, out, contigs=contig)
    own, sides = found.record["validation"], found.record["between_bases"]
    show_table(
        "Hidden bases of held-out blocks",
        ("", "perplexity", "accuracy"),
        [
            ("the network", f"{own['perplexity']:.3f}", f"{own['accuracy']:.3f}"),
            (
                f"the commonest between {sides['bases']} bases", f"{sides['perplexity']:.3f}",
                f"{sides['accuracy']:.3f}",
            ),
        ],
    )  # fmt: skip
    typer.echo(f"Written: {out}.")

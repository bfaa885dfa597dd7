"""`melisma append`: calls of new samples into a store that is there."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli._options import Store
from melisma.cli._terminal import show_first, terminal


def append(
    store: Store,
    sheet: Annotated[
        Path, typer.Argument(help="Sample sheet (TSV or CSV) of the new samples, as for ingest.")
    ],
    genome: Annotated[
        Path | None, typer.Option(help="FASTA of the reference; default: the store's own.")
    ] = None,
    merge_strands: Annotated[
        bool | None,
        typer.Option("--merge-strands", help="Sum the strands; default: as the store was made."),
    ] = None,
    mark: Annotated[
        str | None, typer.Option(help="As for ingest; default: as the store was made.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="The files' format; default: the store's, or by first lines.")
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="modBAM; default: as the store was made."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files read at a time; default: the processors.")
    ] = None,
) -> None:
    """Read new samples into a store; sites that only they have are merged in.

    Options are those that the store was made with; others are refused. After Ctrl-C or a full
    disk the store is as it was, and the same command goes on.

    \b
    Example:
      melisma append study.zarr new_samples.tsv
    """
    from melisma.calls import append as append_samples

    with terminal():
        made = append_samples(
            store,
            sheet,
            genome=genome,
            merge_strands=merge_strands or None,
            mark=mark,
            format=format,
            min_probability=min_probability,
            workers=workers,
        )
    rows = [
        (name, made.formats[name], ", ".join(f"{n:,} {why}" for why, n in drops.items()) or "none")
        for name, drops in made.drops.items()
    ]
    show_first(
        f"{made.store}: {made.sites:,} sites ({made.new_sites:,} new) × {made.samples:,} samples, "
        f"{made.rows:,} rows read",
        ("new sample", "format", "left out"),
        rows,
        rest=f"`melisma info {made.store} --all` lists them",
    )

"""`melisma ingest`: calls of many samples into one store."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli._terminal import show_first, terminal


def ingest(
    sheet: Annotated[
        Path, typer.Argument(help="Sample sheet (TSV or CSV) with the columns sample and path.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The store to make.")],
    matrix: Annotated[
        Path | None,
        typer.Option(help="One matrix of levels with all samples; the sheet then has no path."),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="The arrays' manifest: positions of the probes.")
    ] = None,
    genome: Annotated[
        Path | None,
        typer.Option(help="FASTA of the reference: calls are checked, strands and contexts set."),
    ] = None,
    merge_strands: Annotated[
        bool, typer.Option("--merge-strands", help="Sum the two strands of each CpG.")
    ] = False,
    mark: Annotated[
        str | None,
        typer.Option(help="The mark of formats without a code (default 5mC), or the one to keep."),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="The files' format; default: by their first lines.")
    ] = None,
    min_probability: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="modBAM: less probable calls are not counted."),
    ] = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a store made from other inputs.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Files read at a time; default: the processors.")
    ] = None,
) -> None:
    """Read methylation calls of many samples into one store.

    Formats are told by their first lines (`melisma formats`). Work lies in `STORE.part`; after
    Ctrl-C or a full disk the same command goes on.

    \b
    Example:
      melisma ingest samples.tsv -o study.zarr
    """
    from melisma.calls import ingest as read_samples

    with terminal():
        made = read_samples(
            sheet,
            out,
            matrix=matrix,
            manifest=manifest,
            genome=genome,
            merge_strands=merge_strands,
            mark=mark,
            format=format,
            min_probability=min_probability,
            overwrite=overwrite,
            workers=workers,
        )
    if made.reused:
        return
    rows = [
        (name, made.formats[name], ", ".join(f"{n:,} {why}" for why, n in drops.items()) or "none")
        for name, drops in made.drops.items()
    ]
    show_first(
        f"{made.store}: {made.sites:,} sites × {made.samples:,} samples from {made.rows:,} rows",
        ("sample", "format", "left out"),
        rows,
        rest=f"`melisma info {made.store} --all` lists them",
    )

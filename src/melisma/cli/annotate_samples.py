"""`melisma annotate-samples`: columns that describe a store's samples."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli._options import Store
from melisma.errors import MelismaError


def annotate_samples(
    store: Store,
    sheet: Annotated[
        Path | None,
        typer.Argument(help="Table (TSV or CSV) with the column sample, and columns to add."),
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="A column to take out; may be repeated.")
    ] = None,
) -> None:
    """Add, replace or drop columns of a store's sample sheet; counts are not touched.

    \b
    Example:
      melisma annotate-samples study.zarr phenotypes.tsv --drop batch
    """
    from melisma.samples import annotate_samples as annotate
    from melisma.samples import read_columns

    if sheet is None and not drop:
        raise MelismaError("There is nothing to do: name a table, or a column to --drop.")
    done = annotate(store, None if sheet is None else read_columns(sheet), drop=drop or ())
    words = [
        f"{what} {', '.join(columns)}"
        for what, columns in zip(("added", "replaced", "dropped"), done[:3], strict=True)
        if columns
    ]
    typer.echo(f"{store}: {'; '.join(words) or 'nothing changed'}")
    if done.unnamed:
        shown = ", ".join(done.unnamed[:5]) + (" …" if len(done.unnamed) > 5 else "")
        typer.echo(f"  {len(done.unnamed):,} samples not in {sheet} have missing values: {shown}")

"""`melisma formats`: what can be read, and what a file is."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli._terminal import show_table


def formats(
    file: Annotated[
        Path | None,
        typer.Argument(help="A file of calls; its format is named.", show_default=False),
    ] = None,
) -> None:
    """List the formats that are read, or name a file's format and say why.

    \b
    Example:
      melisma formats
    """
    from melisma.calls import FORMATS, OWN_TABLE, sniff

    if file is None:
        show_table(
            "Formats that are read, plain, gzip or bgzip, and what each reader was tested on",
            ("name", "format", "first base", "tested on", "in detail"),
            [(form.name, form.title, form.base, form.tested, form.evidence) for form in FORMATS],
        )
        typer.echo(OWN_TABLE)
        return
    found = sniff(file)
    form = found.format
    typer.echo(f"{file}: {form.name} ({form.title}, {form.base}-based), as it has {found.reason}.")

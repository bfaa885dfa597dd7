"""`melisma run`: the main job, from calls to report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from melisma.study import Run


def run(
    study: Annotated[Path, typer.Argument(help="A study.toml.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The folder to fill; default melisma-out.")
    ] = None,
) -> None:
    """Run a study: ingest, quality, tests, regions, report.

    Steps whose inputs and parameters have not changed are skipped. Without a [design] it stops
    after quality. With [qc] strict it exits with 1 if a check fails, and tests nothing.

    \b
    Example:
      melisma run study.toml --out results
    """
    from melisma.cli._readings import readings
    from melisma.cli._terminal import terminal
    from melisma.study import read_study, run_study

    with terminal():
        config = read_study(study)
        result = run_study(config, out, traces=readings(config))
    show_run(result)


def show_run(result: "Run") -> None:
    """Say what was computed and where the report is."""
    for word, steps in (("up to date", result.skipped), ("computed", result.done)):
        for step in steps:
            typer.echo(f"{word:<10}  {step}")
    for sentence in result.left_out:
        typer.echo(sentence)
    typer.echo(f"Report: {result.report}")
    if result.failed:
        for line in result.failed:
            typer.echo(f"- {line}", err=True)
        raise typer.Exit(1)

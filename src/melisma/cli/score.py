"""`melisma score`: a panel's probabilities for the samples of a store."""

from pathlib import Path
from typing import Annotated

import typer

from melisma._plural import count
from melisma.cli._options import Store


def score(
    panel: Annotated[
        Path,
        typer.Argument(
            help="A panel.json of `melisma markers`, or its folder.", show_default=False
        ),
    ],
    store: Store,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the table here: .tsv or .parquet."),
    ] = None,
) -> None:
    """Classify the samples of a store with a panel of markers.

    \b
    Example:
      melisma score panel/panel.json melisma-demo/study.zarr -o scores.tsv
    """
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import show_first, terminal
    from melisma.markers import Panel
    from melisma.markers import score as score_samples
    from melisma.methylome import open_methylome

    check_output(out)
    with terminal():
        read = Panel.read(panel)
        scores = score_samples(read, open_methylome(store))
    table = scores.table
    probabilities = [f"p_{name}" for name in read.classes]
    show_first(
        f"{read.phenotype}: {count(len(table), 'sample')}, {count(len(read.markers), 'marker')}",
        ("sample", "call", *probabilities, "markers", "flags"),
        [
            (
                row["sample"],
                row["call"] or "–",
                *("–" if row[p] is None else f"{row[p]:.3f}" for p in probabilities),
                row["markers"],
                row["flags"],
            )
            for row in table.iter_rows(named=True)
        ],
        rest="--out writes all" if out is None else f"{out} has all",
    )
    if scores.missing:
        typer.echo(
            f"Not in the store, and taken at their training mean: {len(scores.missing)} of "
            f"{len(read.markers)} markers ({', '.join(scores.missing[:3])})."
        )
    flagged = table.filter(table["flags"] != "")
    if len(flagged):
        typer.echo(f"Flagged: {len(flagged):,} of {len(table):,} samples.")
    if len(table) and table["flags"].str.contains("training sample", literal=True).all():
        typer.echo(
            "The panel was learned from all of these samples, so their probabilities say nothing "
            "about new ones: how well it tells those is in its panel.json, out of fold."
        )
    for note in scores.notes:
        typer.echo(note)
    if out is not None:
        write_table(out, table)
        typer.echo(f"Written: {out}, {len(table):,} samples.")

"""`melisma remove`: samples out of a store."""

from typing import Annotated

import typer

from melisma.cli._options import Store
from melisma.cli._terminal import terminal


def remove(
    store: Store,
    samples: Annotated[list[str], typer.Argument(help="Names of the samples to take out.")],
) -> None:
    """Take samples out of a store, and sites that no other sample has seen.

    \b
    Example:
      melisma remove study.zarr outlier_1 outlier_2
    """
    from melisma.samples import remove_samples

    with terminal():
        left = remove_samples(store, samples)
    typer.echo(
        f"{store}: {left.sites:,} sites × {left.samples:,} samples are left; "
        f"{left.dropped_sites:,} sites that none of them has seen were dropped"
    )

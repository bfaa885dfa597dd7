"""`melisma rename`: other names for a store's samples."""

from pathlib import Path
from typing import Annotated

import typer

from melisma._plural import count
from melisma.cli._options import Store
from melisma.errors import MelismaError


def rename(
    store: Store,
    names: Annotated[
        list[str],
        typer.Argument(help="old=new pairs, or one table (TSV or CSV) with the columns old, new."),
    ],
) -> None:
    """Rename samples of a store; counts are not touched.

    \b
    Example:
      melisma rename study.zarr s1=control_1 s2=control_2
    """
    from melisma.samples import rename_samples

    pairs = _pairs(names)
    changed = rename_samples(store, pairs)
    typer.echo(f"{store}: {count(changed, 'sample')} renamed")


def _pairs(names: list[str]) -> dict[str, str]:
    """Old to new, from the words or from a table."""
    if len(names) == 1 and "=" not in names[0]:
        from melisma.samples import read_names

        return read_names(Path(names[0]))
    pairs: dict[str, str] = {}
    for word in names:
        old, equals, new = word.partition("=")
        if not equals or not old:
            raise MelismaError(f"{word!r} is not old=new: write the old name, =, and the new one.")
        if old in pairs:
            raise MelismaError(
                f"The sample {old!r} is renamed twice, to {pairs[old]!r} and {new!r}."
            )
        pairs[old] = new
    return pairs

"""Writing a verb's table to the file that the user names."""

from pathlib import Path
from typing import TYPE_CHECKING

from melisma.errors import MelismaError

if TYPE_CHECKING:
    import polars as pl

_KINDS = (".tsv", ".parquet")


def check_output(path: Path | None, kinds: tuple[str, ...] = _KINDS) -> None:
    """Refuse an output that cannot be written before anything is computed."""
    if path is None:
        return
    if path.suffix not in kinds:
        raise MelismaError(f"{path} ends in {path.suffix or 'nothing'}; use {' or '.join(kinds)}.")
    if path.is_dir():
        raise MelismaError(f"{path} is a folder; name a file.")


def with_context(called: "pl.DataFrame", searched: "pl.DataFrame") -> "pl.DataFrame":
    """Called regions, their context in the name where regions of several contexts may overlap.

    A BED's names have no other room for it: `chr1:100-200_CHG`.
    """
    import polars as pl

    if "context" not in searched.columns or searched["context"].n_unique() < 2:
        return called
    return called.with_columns(pl.format("{}_{}", "region", "context").alias("region"))


def write_table(path: Path, table: "pl.DataFrame") -> None:
    """Write a table as TSV, Parquet or BED, atomically."""
    from melisma.methylome import atomic_file

    with atomic_file(path) as work:
        if path.suffix == ".parquet":
            table.write_parquet(work)
        elif path.suffix == ".bed":
            columns = table.sort("contig", "start").select("contig", "start", "end", "region")
            columns.write_csv(work, separator="\t", include_header=False)
        else:
            table.write_csv(work, separator="\t")

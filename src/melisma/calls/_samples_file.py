"""The sample sheet that an ingest is given, told from a file of calls in its place."""

from pathlib import Path

import polars as pl

from melisma.calls._level_formats import BINARY_FORMATS
from melisma.calls._registry import sniff
from melisma.calls._source import open_bytes, read_into
from melisma.design import read_sheet
from melisma.errors import MelismaError

_GZIP = b"\x1f\x8b"


def read_samples(sheet: Path | str, *, matrix: Path | str | None = None) -> pl.DataFrame:
    """Read a sample sheet; calls in its place are named as what they are.

    Raises
    ------
    MelismaError
        As `design.read_sheet`, or the file is one of calls, or compressed.
    """
    try:
        return read_sheet(sheet, matrix=matrix)
    except MelismaError:
        path = Path(sheet)
        instead = _instead(path) if path.is_file() and path.stat().st_size else ""
        if not instead:
            raise
    raise MelismaError(
        f"{path} is {instead}, where a sample sheet is wanted: a plain TSV or CSV with the columns "
        "sample and path, a row a sample, path naming its file of calls."
    )


def _instead(path: Path) -> str:
    """What a file is that is no sample sheet: calls of a format, or compressed; else empty."""
    try:
        form = sniff(path).format
    except MelismaError:
        form = None
    # Much with numbers in it looks like a matrix of levels, a sheet with faults too.
    if form is not None and (form not in BINARY_FORMATS or _is_binary(path)):
        return f"a file of calls ({form.name})"
    with path.open("rb") as file:
        return "a gzip file" if file.read(2) == _GZIP else ""


def _is_binary(path: Path) -> bool:
    """Whether the first bytes, decompressed, have a zero, which no text has."""
    stream, raw = open_bytes(path)
    with raw, stream:
        buffer = bytearray(64)
        return 0 in buffer[: read_into(path, stream, memoryview(buffer))]

"""Rows of a text table as polars strings, a block of lines at a time, with their line numbers.

What annotation files (BED, GTF, GFF3) share: gzip, Windows line ends, comments, blank lines.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
from isal import igzip, isal_zlib

from melisma.errors import MelismaError

BLOCK_BYTES = 1 << 25
_REFUSED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


def read_lines(path: Path, what: str, *, block_bytes: int = BLOCK_BYTES) -> Iterator[pl.DataFrame]:
    """A file's lines, in blocks of whole lines.

    Parameters
    ----------
    path : plain, gzip or bgzip text
    what : what it should hold, for messages
    block_bytes : of decompressed text at a time

    Returns
    -------
    Tables of `line` (Int64, from 1) and `text` (without line end); comments and blanks included

    Raises
    ------
    MelismaError
        There is no such file, it is empty, truncated, not text, or compressed with something else.
    """
    first, kept = 1, b""
    for block in _blocks(path, what, block_bytes):
        text, newline, rest = (kept + block).rpartition(b"\n")
        kept = rest
        if newline:
            table = _lines(path, what, text, first)
            first += len(table)
            yield table
    if kept:
        yield _lines(path, what, kept, first)


def _lines(path: Path, what: str, data: bytes, first: int) -> pl.DataFrame:
    try:
        text = data.decode("utf-8-sig" if first == 1 else "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise MelismaError(f"{path} is not text: it should hold {what}.")
    lines = pl.Series("text", text.split("\n"), pl.String).str.strip_chars_end("\r")
    return pl.DataFrame(
        {"line": pl.int_range(first, first + len(lines), eager=True), "text": lines}
    )


def _blocks(path: Path, what: str, size: int) -> Iterator[bytes]:
    if path.is_dir():
        raise MelismaError(f"{path} is a folder: name a file of {what}.")
    if not path.is_file():
        raise MelismaError(f"There is no file at {path}: name a file of {what}.")
    with path.open("rb") as file:
        magic = file.read(6)
    if not magic:
        raise MelismaError(f"{path} is empty: it should hold {what}.")
    for start, name in _REFUSED.items():
        if magic.startswith(start):
            raise MelismaError(
                f"{path} is compressed with {name}, and gzip and bgzip are read: recompress it."
            )
    broken = (EOFError, cast(Any, isal_zlib).error, igzip.BadGzipFile)
    try:
        with igzip.open(path, "rb") if magic[:2] == b"\x1f\x8b" else path.open("rb") as stream:
            while block := cast(bytes, stream.read(size)):
                yield block
    except broken as error:
        raise MelismaError(
            f"{path} cannot be read to its end ({error}): it is truncated or damaged; copy or "
            "download it again."
        ) from None


def refuse_first(path: Path, rows: pl.DataFrame, wrong: pl.Expr, sentence: str) -> None:
    """Raise a MelismaError on the first row where `wrong` is true or unknown.

    sentence : with {columns} of `rows` in braces; the file and the line go before it
    """
    bad = rows.filter(wrong.fill_null(True)).head(1)
    if len(bad):
        row = bad.row(0, named=True)
        raise MelismaError(f"{path} line {row['line']:,}: {sentence.format(**row)}")

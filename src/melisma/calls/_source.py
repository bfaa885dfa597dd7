"""Bytes of an input file, decompressed, in blocks that end at a line's end."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from melisma.calls._words import PADDING
from melisma.errors import MelismaError

BLOCK_BYTES = 1 << 22
# What Windows programs put before UTF-8 text; it is no part of the first contig's name.
MARK_OF_UTF8 = b"\xef\xbb\xbf"
_NEWLINE = 10
_BROKEN: tuple[type[Exception], ...] = (cast(Any, isal_zlib).error, zlib.error, OSError)
_GZIP = b"\x1f\x8b"
_REFUSED = {
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


class TextBlock(NamedTuple):
    """Whole lines text[:end]; `offset` is their first byte's place in the decompressed file."""

    text: npt.NDArray[np.uint8]
    end: int
    offset: int


def check_file(path: Path) -> None:
    """Raise a MelismaError where `path` is not a readable file with something in it."""
    if path.is_dir():
        raise MelismaError(f"{path} is a folder: name a file of methylation calls.")
    if not path.exists():
        raise MelismaError(f"There is no file at {path}.")
    if not path.is_file():
        raise MelismaError(f"{path} is not a regular file: save the calls to a file first.")
    if not path.stat().st_size:
        raise MelismaError(f"{path} is empty: it should hold methylation calls.")


def open_bytes(path: Path) -> tuple[IO[bytes], IO[bytes]]:
    """The decompressed bytes of `path`, and the file underneath, for its progress.

    Raises
    ------
    MelismaError
        The file is compressed with something other than gzip or bgzip.
    """
    try:
        raw = cast(IO[bytes], path.open("rb", buffering=0))
    except PermissionError:
        raise MelismaError(f"{path} cannot be read: you lack the permission.") from None
    magic = raw.read(6)
    raw.seek(0)
    for start, name in _REFUSED.items():
        if magic.startswith(start):
            raw.close()
            raise MelismaError(
                f"{path} is compressed with {name}, and gzip and bgzip are read: recompress it."
            )
    if magic.startswith(_GZIP):
        return cast(IO[bytes], igzip.GzipFile(fileobj=raw, mode="rb")), raw
    return raw, raw


def read_into(path: Path, stream: IO[bytes], view: memoryview) -> int:
    """Fill `view` from the stream as far as it goes; a broken gzip file is a MelismaError."""
    filled = 0
    # A gzip file's own buffer reads into ours; the file would copy, a tenth of the time.
    source: Any = getattr(stream, "_buffer", stream)
    try:
        while filled < len(view):
            got = source.readinto(view[filled:])
            if not got:
                break
            filled += got
    except EOFError:
        raise MelismaError(
            f"{path} is truncated: its gzip data ends before the end marker; copy or download "
            "it again."
        ) from None
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise MelismaError(
            f"{path} is damaged: its gzip data cannot be read ({error}); copy or download it again."
        ) from None
    return filled


def head_lines(path: Path, count: int = 100) -> list[bytes]:
    """The first lines of a file, at most `count`, without line ends."""
    stream, raw = open_bytes(path)
    with raw, stream:
        buffer = bytearray(1 << 16)
        filled = read_into(path, stream, memoryview(buffer))
    lines = bytes(buffer[:filled]).removeprefix(MARK_OF_UTF8).split(b"\n")
    if filled == len(buffer):
        lines = lines[:-1]
    return [line.removesuffix(b"\r") for line in lines[:count]]


def text_blocks(
    path: Path, size: int = BLOCK_BYTES, advance: Callable[[float], Any] | None = None
) -> Iterator[TextBlock]:
    """Walk a file's whole lines in blocks of about `size` bytes, decompressed.

    The block's array is reused for the next one. A missing newline at the end of the file is
    added. `advance` takes the bytes read from disk since the last call.

    Raises
    ------
    MelismaError
        A line is longer than a block, or the gzip data are truncated or damaged.
    """
    stream, raw = open_bytes(path)
    with raw, stream:
        buffer = np.empty(size + PADDING + 1, dtype=np.uint8)
        view = buffer.data
        carried, offset, told = 0, 0, 0
        while True:
            filled = carried + read_into(path, stream, view[carried:size])
            if filled == 0:
                return
            last = filled < size
            end = filled if last else _last_line_end(buffer, filled)
            if end == 0:
                raise MelismaError(
                    f"{path} has a line of more than {size:,} bytes: it is not a table of calls."
                )
            rest = buffer[end:filled].copy()
            if buffer[end - 1] != _NEWLINE:
                buffer[end] = _NEWLINE
                end += 1
            buffer[end : end + PADDING] = _NEWLINE
            yield TextBlock(buffer, end, offset)
            if advance:
                place = raw.tell()
                advance(place - told)
                told = place
            if last:
                return
            carried, offset = len(rest), offset + end
            buffer[:carried] = rest


def _last_line_end(buffer: npt.NDArray[np.uint8], filled: int) -> int:
    """One past the last newline in buffer[:filled], 0 where there is none."""
    step = 1 << 12
    for stop in range(filled, 0, -step):
        start = max(0, stop - step)
        found = np.flatnonzero(buffer[start:stop] == _NEWLINE)
        if found.size:
            return start + int(found[-1]) + 1
    return 0


def line_number(path: Path, offset: int) -> int:
    """The 1-based number of the line that holds byte `offset` of the decompressed file."""
    stream, raw = open_bytes(path)
    lines = 1
    with raw, stream:
        buffer = bytearray(1 << 20)
        while offset > 0:
            got = read_into(path, stream, memoryview(buffer)[: min(offset, len(buffer))])
            if not got:
                break
            lines += buffer.count(b"\n", 0, got)
            offset -= got
    return lines

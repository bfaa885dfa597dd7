"""A text file in pieces that can be read apart: plain text by offset, bgzip by its blocks.

A piece owns the lines that begin behind its first byte, up to the one that begins at its end; the
first piece owns the file's first line too. So each piece skips to its first line end and reads on
through the one at or behind its own end, and every line has one owner.

Where bgzip's blocks lie is read from the `.gzi` index beside the file (`bgzip -r`), or from the
blocks' own headers.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from melisma.calls._source import TextBlock
from melisma.calls._words import PADDING
from melisma.errors import MelismaError

_NEWLINE = 10
# The header of a block whose only extra field is its size, as bgzip writes it: 18 bytes.
_HEADER, _FOOTER = 18, 8
_MAGIC, _EXTRA = b"\x1f\x8b\x08\x04", b"\x06\x00BC\x02\x00"
_LARGEST_BLOCK = 1 << 16
# The empty block (SAM specification, 4.1.2).
_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_READ = 1 << 18

Offsets = npt.NDArray[np.int64]


class Pieces(NamedTuple):
    """A file cut into pieces.

    path : the file
    packed : (pieces + 1,), where each piece begins in the file, the file's data's end last
    plain : (pieces + 1,), the same in the decompressed text
    compressed : whether the file is bgzip
    """

    path: Path
    packed: Offsets
    plain: Offsets
    compressed: bool

    def __len__(self) -> int:
        return len(self.packed) - 1


def cut(path: Path, size: int) -> Pieces | None:
    """Pieces of about `size` bytes of text; None where the file is plain gzip, or one piece."""
    total = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER)
    if head[:2] != _MAGIC[:2]:
        bounds = np.array([*range(0, total, size), total], dtype=np.int64)
        return Pieces(path, bounds, bounds, compressed=False) if len(bounds) > 2 else None
    if head[:4] != _MAGIC or head[10:16] != _EXTRA:
        return None
    found = _indexed_blocks(path, total)
    if found is None:
        found = _walked_blocks(path, total)
    if found is None:
        return None
    packed, plain = found
    text = int(plain[-1])
    firsts = np.unique(np.searchsorted(plain, np.arange(0, text, size)))
    firsts = np.unique(np.append(firsts[firsts < len(plain) - 1], len(plain) - 1))
    if len(firsts) < 3:
        return None
    return Pieces(path, packed[firsts], plain[firsts], compressed=True)


def lacks_end(path: Path) -> bool:
    """Whether a bgzip file lacks the empty block at its end, as one cut short between blocks."""
    with path.open("rb") as file:
        head = file.read(_HEADER)
        if head[:4] != _MAGIC or head[10:16] != _EXTRA:
            return False
        file.seek(-min(len(_END), path.stat().st_size), 2)
        return file.read() != _END


def _indexed_blocks(path: Path, total: int) -> tuple[Offsets, Offsets] | None:
    """Where the blocks begin, packed and plain, by the `.gzi` index; None without a usable one.

    The last block's length is in no index: it is walked to the end.
    """
    index = Path(f"{path}.gzi")
    try:
        if index.stat().st_mtime < path.stat().st_mtime:
            return None
        numbers = np.fromfile(index, dtype="<u8").astype(np.int64)
    except OSError:
        return None
    if not len(numbers) or len(numbers) != 2 * numbers[0] + 1:
        return None
    packed, plain = (np.concatenate([[0], numbers[1 + k :: 2]]) for k in range(2))
    if (np.diff(packed) <= 0).any() or packed[-1] >= total or (np.diff(plain) < 0).any():
        return None
    rest = _walked_blocks(path, total, int(packed[-1]))
    if rest is None:
        return None
    return (
        np.concatenate([packed[:-1], rest[0]]),
        np.concatenate([plain[:-1], rest[1] + plain[-1]]),
    )


def _walked_blocks(path: Path, total: int, start: int = 0) -> tuple[Offsets, Offsets] | None:
    """Where the blocks from `start` on begin, and the end; None where one is no bgzip block."""
    packed, plain, place, text = [start], [0], start, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while place < total:
            if data[place : place + 4] != _MAGIC or data[place + 10 : place + 16] != _EXTRA:
                return None
            end = place + struct.unpack_from("<H", data, place + 16)[0] + 1
            if end > total:
                return None
            text += struct.unpack_from("<I", data, end - 4)[0]
            place = end
            packed.append(place)
            plain.append(text)
    return np.array(packed, dtype=np.int64), np.array(plain, dtype=np.int64)


def read_piece(pieces: Pieces, k: int, longest: int) -> TextBlock:
    """Piece k's whole lines, in an array of its own.

    longest : bytes; a longer line is refused

    Raises
    ------
    MelismaError
        A line is too long, or the compressed data are damaged.
    """
    start, stop = (int(bound) for bound in pieces.packed[k : k + 2])
    offset = int(pieces.plain[k])
    text = bytearray().join(_parts(pieces, start, stop))
    if len(text) != pieces.plain[k + 1] - offset:
        raise _damaged(pieces.path, "it is not as long as its index says")
    skipped = text.find(b"\n") + 1 if k else 0
    if k and not skipped:
        # The line that an earlier piece began goes on beyond this one: nothing here is its own.
        return TextBlock(np.full(PADDING, _NEWLINE, dtype=np.uint8), 0, offset)
    behind = len(text)
    for part in _parts(pieces, stop, int(pieces.packed[-1])):
        text += part
        # The line that begins at the piece's very end is its own.
        found = text.find(b"\n", behind)
        if found >= 0:
            del text[found + 1 :]
            break
        if len(text) - behind > longest:
            raise MelismaError(
                f"{pieces.path} has a line of more than {longest:,} bytes: it is not a table of "
                "calls."
            )
    if not text.endswith(b"\n"):
        text += b"\n"
    end = len(text)
    text += b"\n" * PADDING
    return TextBlock(np.frombuffer(text, dtype=np.uint8)[skipped:], end - skipped, offset + skipped)


def _parts(pieces: Pieces, start: int, stop: int) -> Iterator[bytes]:
    """The text of [start, stop) of the file, some at a time: a block, or a plain stretch."""
    with pieces.path.open("rb", buffering=_READ) as file:
        file.seek(start)
        while start < stop:
            if not pieces.compressed:
                part = file.read(min(_READ, stop - start))
                start += len(part)
            else:
                head = file.read(_HEADER)
                size = struct.unpack_from("<H", head, 16)[0] + 1 if len(head) == _HEADER else 0
                part = _inflate(pieces.path, file.read(max(0, size - _HEADER)))
                start += size
            if not part and not pieces.compressed:
                raise _damaged(pieces.path, "it became shorter while it was read")
            yield part


def _inflate(path: Path, body: bytes) -> bytes:
    try:
        checksum, length = struct.unpack_from("<II", body, len(body) - _FOOTER)
        part = isal_zlib.decompress(memoryview(body)[:-_FOOTER], -15, _LARGEST_BLOCK)
    except (cast(Any, isal_zlib).error, struct.error) as error:
        raise _damaged(path, str(error)) from None
    if len(part) != length or isal_zlib.crc32(part) != checksum:
        raise _damaged(path, "a block fails its checksum")
    return part


def _damaged(path: Path, why: str) -> MelismaError:
    return MelismaError(
        f"{path} is damaged: its gzip data cannot be read ({why}); copy or download it again."
    )

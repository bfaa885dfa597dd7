"""2bit files for `genome`: four bases a byte, with lists of N and of soft-masked stretches.

Read straight from the file's bytes (UCSC's format description): py2bit, the binding that there is,
ends the whole process on a truncated file. Soft masking is left out, as bases are upper case.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError

_SIGNATURE = 0x1A412743
_HEADER = 16
# Four bases of each byte value, the first in the highest bits; T 0, C 1, A 2, G 3.
_BASES_OF_BYTE = np.frombuffer(b"TCAG", np.uint8)[
    (np.arange(256)[:, None] >> np.array([6, 4, 2, 0])) & 3
]

Bases = npt.NDArray[np.uint8]


class _Record(NamedTuple):
    """Where a contig's packed bases begin, its length, and its stretches of N."""

    place: int
    length: int
    n_starts: npt.NDArray[np.int64]
    n_ends: npt.NDArray[np.int64]


def is_twobit(head: bytes) -> bool:
    """Whether a file that begins so is 2bit, in either byte order.

    >>> is_twobit(bytes.fromhex("4327411a"))
    True
    """
    return len(head) >= 4 and _SIGNATURE in struct.unpack("<I", head[:4]) + struct.unpack(
        ">I", head[:4]
    )


def open_twobit(path: Path) -> tuple[dict[str, int], Callable[[str, int, int], Bases]]:
    """Contig lengths in file order, and a function that reads contig, start, end.

    Raises
    ------
    MelismaError
        The file is truncated, of an unknown version, or repeats a contig.
    """
    data = np.memmap(path, np.uint8, "r")
    order = "<" if struct.unpack("<I", data[:4].tobytes())[0] == _SIGNATURE else ">"
    records: dict[str, _Record] = {}
    for name, place in _index(path, data, order):
        if name in records:
            raise MelismaError(
                f"{path} holds the contig {name!r} more than once: contig names must be unique, "
                "so remove or rename the repeats."
            )
        records[name] = _record(path, data, order, place)

    def fetch(contig: str, start: int, end: int) -> Bases:
        record = records[contig]
        packed = data[record.place + start // 4 : record.place + (end + 3) // 4]
        skip = start % 4
        found = _BASES_OF_BYTE[packed].reshape(-1)[skip : skip + end - start].copy()
        first = int(np.searchsorted(record.n_ends, start, side="right"))
        last = int(np.searchsorted(record.n_starts, end))
        for k in range(first, last):
            low, high = int(record.n_starts[k]) - start, int(record.n_ends[k]) - start
            found[max(low, 0) : high] = ord("N")
        found.setflags(write=False)
        return found

    return {name: record.length for name, record in records.items()}, fetch


def _numbers(
    path: Path, data: npt.NDArray[np.uint8], order: str, place: int, count: int, size: int = 4
) -> npt.NDArray[np.int64]:
    """Unsigned integers of a few bytes; a file that ends before them is an error."""
    raw = data[place : place + count * size]
    if len(raw) < count * size:
        raise _truncated(path)
    return np.frombuffer(raw.tobytes(), f"{order}u{size}").astype(np.int64)


def _truncated(path: Path) -> MelismaError:
    return MelismaError(
        f"{path} ends before its contigs do: the 2bit file is truncated or damaged; copy or "
        "download it again."
    )


def _index(path: Path, data: npt.NDArray[np.uint8], order: str) -> list[tuple[str, int]]:
    _, version, count, _ = _numbers(path, data, order, 0, 4).tolist()
    if version not in (0, 1):
        raise MelismaError(f"{path} is 2bit of version {version}, and 0 and 1 are known.")
    if not count:
        raise MelismaError(f"The genome file {path} holds no contigs: give another.")
    size = 8 if version else 4
    place, found = _HEADER, []
    for _ in range(count):
        (length,) = _numbers(path, data, order, place, 1, 1).tolist()
        name = _numbers(path, data, order, place + 1, length, 1).astype(np.uint8).tobytes()
        (record,) = _numbers(path, data, order, place + 1 + length, 1, size).tolist()
        found.append((name.decode("utf-8", "replace"), record))
        place += 1 + length + size
    return found


def _record(path: Path, data: npt.NDArray[np.uint8], order: str, place: int) -> _Record:
    length, n_blocks = _numbers(path, data, order, place, 2).tolist()
    place += 8
    blocks = _numbers(path, data, order, place, 2 * n_blocks)
    place += 8 * n_blocks
    (masked,) = _numbers(path, data, order, place, 1).tolist()
    place += 4 + 8 * masked + 4
    if place + (length + 3) // 4 > len(data):
        raise _truncated(path)
    starts, sizes = blocks[:n_blocks], blocks[n_blocks:]
    by_start = np.argsort(starts, kind="stable")
    starts = starts[by_start]
    return _Record(place, length, starts, starts + sizes[by_start])

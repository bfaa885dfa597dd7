"""A sample's calls on disk while an ingest is under way: compressed frames of calls, in order.

Sorted keys are written as steps, and all four arrays bit-shuffled and packed: about 3 bytes a call
of whole-genome calls, where the plain arrays take 17.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

ARRAYS: dict[str, Any] = {
    "key": np.int64,
    "methylated": np.uint32,
    "coverage": np.uint32,
    "context": np.int8,
}
# What a call costs in memory, bytes.
CALL_BYTES = sum(np.dtype(dtype).itemsize for dtype in ARRAYS.values())
# Calls a frame: a thousand samples are joined with one frame of each in memory.
FRAME_CALLS = 1 << 13
_DATA, _INDEX = "calls.bin", "index.npy"
# A frame's row in the index: its first call, its first key, and where its four arrays begin.
_FIRST_CALL, _FIRST_KEY, _PLACES = 0, 1, 2


class Calls(NamedTuple):
    """Calls of one contig, (calls,) each: `site_key`, M, N; context of length 0 where unknown."""

    key: npt.NDArray[np.int64]
    methylated: npt.NDArray[np.uint32]
    coverage: npt.NDArray[np.uint32]
    context: npt.NDArray[np.int8]

    def take(self, rows: Any) -> "Calls":
        """The calls of an index or a mask."""
        context = self.context[rows] if self.context.size else self.context
        return Calls(self.key[rows], self.methylated[rows], self.coverage[rows], context)


def joined(parts: list[Calls]) -> Calls:
    """Several stretches of calls as one."""
    if len(parts) == 1:
        return parts[0]
    columns: list[Any] = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return Calls(*columns)


class Spool:
    """Appends calls to a folder. Use as a context manager."""

    def __init__(self, folder: Path, *, context: bool) -> None:
        self.folder = folder
        self._closed = 0
        self._context = context
        self._held: list[Calls] = []
        self._held_rows = 0
        self._index: list[tuple[int, ...]] = []
        self._place = 0
        self._codec = Blosc("lz4", 1, Blosc.BITSHUFFLE)

    def __enter__(self) -> "Spool":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = (self.folder / _DATA).open("wb", 1 << 20)
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        with self._file:
            if kind is not None:
                return
            self.end_frame()
        end = (self._closed, 0, *(self._place for _ in ARRAYS))
        np.save(self.folder / _INDEX, np.array([*self._index, end], dtype=np.int64))

    @property
    def rows(self) -> int:
        """How many calls were added."""
        return self._closed + self._held_rows

    def append(self, calls: Calls) -> None:
        """Add calls at the end; the arrays may be used again afterwards."""
        start, count = 0, len(calls.key)
        while start < count:
            taken = min(FRAME_CALLS - self._held_rows, count - start)
            part = calls.take(slice(start, start + taken))
            whole = taken == FRAME_CALLS
            # What waits for more must not change with the caller's arrays.
            columns: list[Any] = [array if whole else array.copy() for array in part]
            self._held.append(Calls(*columns))
            self._held_rows += taken
            start += taken
            if self._held_rows == FRAME_CALLS:
                self.end_frame()

    def end_frame(self) -> None:
        """Close the frame, so that the next call begins another, as a contig's first should."""
        if not self._held_rows:
            return
        calls = joined(self._held)
        places = []
        for name, dtype in ARRAYS.items():
            places.append(self._place)
            values = np.ascontiguousarray(getattr(calls, name), dtype)
            if name == "key":
                values = np.diff(values, prepend=values[0])
            if name != "context" or self._context:
                self._place += self._file.write(self._codec.encode(values))
        self._index.append((self._closed, int(calls.key[0]), *places))
        self._closed += self._held_rows
        self._held, self._held_rows = [], 0


class Reader:
    """Reads a folder's calls, any stretch of them."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _DATA
        self._index: npt.NDArray[np.int64] = np.load(folder / _INDEX)
        self._codec = Blosc("lz4", 1, Blosc.BITSHUFFLE)

    def read(self, start: int, stop: int, buffers: Calls) -> None:
        """Fill the buffers, (stop - start,) each, with calls start:stop, which must be there.

        A context buffer of length 0 is left out.
        """
        done = 0
        for first, calls in self._frames(start, stop, context=bool(buffers.context.size)):
            part = calls.take(slice(max(start - first, 0), stop - first))
            count = len(part.key)
            for buffer, values in zip(buffers, part, strict=True):
                buffer[done : done + len(values)] = values
            done += count

    def rows_around(self, start: int, stop: int, low: int, high: int) -> tuple[int, int]:
        """The rows of a contig, start:stop, that hold its keys from `low` to `high`, and more."""
        firsts = self._index[:, _FIRST_CALL]
        frames = np.flatnonzero((firsts >= start) & (firsts < stop))
        keys = self._index[frames, _FIRST_KEY]
        before = int(np.searchsorted(keys, low, side="right")) - 1
        after = int(np.searchsorted(keys, high, side="right"))
        begin = start if before < 0 else int(firsts[frames[before]])
        return begin, stop if after == len(frames) else int(firsts[frames[after]])

    def _frames(self, start: int, stop: int, *, context: bool) -> Iterator[tuple[int, Calls]]:
        firsts = self._index[:, _FIRST_CALL]
        frame = int(np.searchsorted(firsts, start, side="right")) - 1
        with self._path.open("rb", 0) as file:
            while start < stop and firsts[frame] < stop:
                row, after = self._index[frame], self._index[frame + 1]
                count = int(after[_FIRST_CALL] - row[_FIRST_CALL])
                places = [*row[_PLACES:].tolist(), int(after[_PLACES])]
                file.seek(places[0])
                data = file.read(places[-1] - places[0])
                arrays: list[Any] = []
                for k, (name, dtype) in enumerate(ARRAYS.items()):
                    packed = data[places[k] - places[0] : places[k + 1] - places[0]]
                    wanted = bool(packed) and (name != "context" or context)
                    arrays.append(np.empty(count if wanted else 0, dtype))
                    if wanted:
                        self._codec.decode(packed, arrays[-1])
                # In place, from steps to keys; the first step is 0.
                arrays[0][0] = row[_FIRST_KEY]
                np.cumsum(arrays[0], out=arrays[0])
                yield int(row[_FIRST_CALL]), Calls(*arrays)
                frame += 1


@lru_cache(maxsize=4096)
def _reader(folder: Path, _state: tuple[int, ...]) -> Reader:
    return Reader(folder)


def reader_of(folder: Path) -> Reader:
    """The reader of a spool that is closed; kept, as its index is wanted for every contig."""
    state = (folder / _INDEX).stat()
    return _reader(folder, (state.st_ino, state.st_size, state.st_mtime_ns))


def load(folder: Path, start: int, stop: int, *, context: bool) -> Calls:
    """Calls start:stop of a spool."""
    arrays: dict[str, Any] = {
        name: np.empty(stop - start if context or name != "context" else 0, dtype)
        for name, dtype in ARRAYS.items()
    }
    reader_of(folder).read(start, stop, Calls(**arrays))
    return Calls(**arrays)

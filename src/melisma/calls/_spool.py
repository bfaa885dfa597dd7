"""A sample's calls on disk while an ingest is under way: flat arrays, one file each."""

from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

ARRAYS: dict[str, Any] = {
    "key": np.int64,
    "methylated": np.uint32,
    "coverage": np.uint32,
    "context": np.int8,
}
# What a call costs in memory, bytes.
CALL_BYTES = sum(np.dtype(dtype).itemsize for dtype in ARRAYS.values())


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


class Spool:
    """Appends calls to a folder; `rows` counts them. Use as a context manager."""

    def __init__(self, folder: Path, *, context: bool) -> None:
        self.folder, self.rows = folder, 0
        self._names = [name for name in ARRAYS if context or name != "context"]
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> "Spool":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files = [(self.folder / f"{name}.bin").open("wb", 0) for name in self._names]
        return self

    def __exit__(self, *_: Any) -> None:
        for file in self._files:
            file.close()

    def append(self, calls: Calls) -> None:
        """Add calls at the end."""
        for name, file in zip(self._names, self._files, strict=True):
            left = np.ascontiguousarray(getattr(calls, name), ARRAYS[name]).data.cast("B")
            while left:
                left = left[file.write(left) :]
        self.rows += len(calls.key)


def load(folder: Path, start: int, stop: int, *, context: bool) -> Calls:
    """Calls start:stop of a spool."""
    arrays: dict[str, Any] = {
        name: np.fromfile(
            folder / f"{name}.bin", dtype, stop - start, offset=start * np.dtype(dtype).itemsize
        )
        if context or name != "context"
        else np.empty(0, dtype)
        for name, dtype in ARRAYS.items()
    }
    return Calls(**arrays)


def load_into(folder: Path, start: int, buffers: Calls) -> None:
    """Fill the buffers, (calls,) each, with a spool's calls from `start` on; no copy is made.

    A context buffer of length 0 is left out. The calls must be there.
    """
    for name, buffer in zip(Calls._fields, buffers, strict=True):
        if not buffer.size:
            continue
        with (folder / f"{name}.bin").open("rb", 0) as file:
            file.seek(start * buffer.itemsize)
            left = buffer.data.cast("B")
            while left:
                got = file.readinto(left)
                if not got:
                    raise EOFError(f"{file.name} is shorter than it was written.")
                left = left[got:]

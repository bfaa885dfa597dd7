"""A Zarr store that reads one generation, holds it, and never reads zeros for what is not there.

Zarr takes a chunk without a file for one of the fill value: a generation that is removed or
replaced under a reader would turn into numbers that are wrong without a word.
"""

import re
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from melisma._generations import ROOT, hold, is_in_place, root_record
from melisma.errors import MelismaError

_TRIES, _PAUSE = 100, 0.02
_CHUNK = re.compile(r"v\d+/(?P<array>[^/]+)/c/")


class HeldStore(LocalStore):
    """One generation of a store, held by a shared lock for as long as this object lives.

    Pickled, it holds the same generation again where it arrives, such as in a Dask worker.

    Parameters
    ----------
    root : the store's folder
    generation : "v1"; None: the live one
    written : arrays of which every chunk has a file
    mark : what tells this generation from another one of the same name; None: any
    """

    def __init__(
        self,
        root: Path | str,
        *,
        generation: str | None = None,
        written: Iterable[str] = (),
        mark: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__(Path(root).absolute(), read_only=True)
        self.written = frozenset(written)
        self.generation, self._file = _held(self.root, generation)
        # Closing gives the lock up; unlocking would take it from a forked process too.
        weakref.finalize(self, self._file.close)
        state = (self.root / self.generation / ROOT).stat()
        self.mark = (state.st_ino, state.st_mtime_ns, state.st_size)
        if mark is not None and mark != self.mark:
            raise self._replaced()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.root, self.generation, self.written, self.mark)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeldStore) and (self.root, self.mark) == (other.root, other.mark)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return str(self.root), self.generation, self.mark

    def with_read_only(self, read_only: bool = False) -> "HeldStore":
        """The store itself: it is only read."""
        if not read_only:
            raise MelismaError(f"{self.root} is opened to be read: change it by melisma's verbs.")
        return self

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """A file's bytes; those of a generation that is gone are an error."""
        return self._checked(key, await super().get(key, prototype, byte_range))

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """As `get`, for Zarr's path without an event loop."""
        return self._checked(key, super().get_sync(key, prototype=prototype, byte_range=byte_range))

    def _checked(self, key: str, found: Buffer | None) -> Buffer | None:
        # After the read: a generation's name never comes back, so what was read was of this one.
        if not is_in_place(self._file, self.root / self.generation / ROOT):
            raise self._replaced()
        chunk = _CHUNK.match(key)
        if found is None and chunk is not None and chunk["array"] in self.written:
            raise MelismaError(
                f"{self.root} is damaged: the file {key} is not there. Make the store again."
            )
        return found

    def _replaced(self) -> MelismaError:
        return MelismaError(
            f"{self.root} was removed or replaced while it was open: open it again."
        )


def _again(
    root: Path, generation: str, written: frozenset[str], mark: tuple[int, ...]
) -> HeldStore:
    return HeldStore(root, generation=generation, written=written, mark=mark)


def _held(root: Path, generation: str | None) -> tuple[str, Any]:
    """A generation's name and its open, locked file; the live one may change while we look."""
    for _ in range(_TRIES):
        name = generation
        if name is None:
            record = root_record(root)
            name = None if record is None else record["generation"]
        file = None if name is None else hold(root / name / ROOT)
        if name is not None and file is not None:
            return name, file
        if generation is not None and not (root / generation / ROOT).exists():
            break
        time.sleep(_PAUSE)
    asked = generation or "a live generation"
    raise MelismaError(
        f"{root} has not {asked}: it was removed or replaced, or is damaged. Open it again."
    )

"""Generations of a store: `v<N>` folders, of which the root's metadata names the live one.

A change writes `v<N+1>` in `<store>.part`, moves it into the store and then replaces the root's
`zarr.json`: a reader sees the old store or the new one. Readers hold a shared lock on their
generation's `zarr.json`, and only a generation on which the exclusive lock is got is removed.
"""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from melisma._store import part_folder, replace_folder
from melisma.errors import MelismaError

ROOT = "zarr.json"
_REMOVED = "removed-"


def root_record(store: Path) -> dict[str, Any] | None:
    """What the root's metadata say, `schema` and `generation`; None where there is no store."""
    try:
        record = json.loads((store / ROOT).read_text())["attributes"]["melisma"]
        return record if {"schema", "generation"} <= record.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def next_generation(store: Path) -> str:
    """A name that no generation in the store has, and none ever had."""
    numbers = [int(folder.name[1:]) for folder in _generations(store)]
    return f"v{max(numbers, default=0) + 1}"


def _generations(store: Path) -> list[Path]:
    if not store.is_dir():
        return []
    return sorted(f for f in store.iterdir() if re.fullmatch(r"v\d+", f.name) and f.is_dir())


def publish(work: Path, store: Path) -> None:
    """Make the generation in `work`, a whole store of its own, the live one of `store`.

    A store that is there stays as it was until the last step; its older generations are removed
    where no reader holds them.
    """
    store = store.resolve()
    made = root_record(work)
    if made is None:
        raise RuntimeError(f"{work} is no finished store.")
    if root_record(store) is None:
        replace_folder(work, store)
        return
    name = made["generation"]
    _sync_tree(work)
    (work / name).rename(store / name)
    _sync(store)
    os.replace(work / ROOT, store / ROOT)
    _sync(store)
    sweep(store)


def sweep(store: Path) -> list[str]:
    """Remove generations that neither live nor are read; returns those that are still held.

    The caller holds the store's `work_lock`.
    """
    store = store.resolve()
    live, part = root_record(store), part_folder(store)
    if live is None:
        return []
    held: list[str] = []
    for folder in _generations(store):
        if folder.name == live["generation"]:
            continue
        with _exclusively(folder / ROOT) as mine:
            if not mine:
                held.append(folder.name)
                continue
            part.mkdir(exist_ok=True)
            # Out of the store in one step: a kill leaves no half of a generation in it.
            folder.rename(part / f"{_REMOVED}{folder.name}")
    for folder in part.glob(f"{_REMOVED}*"):
        shutil.rmtree(folder)
    return held


@contextmanager
def _exclusively(path: Path) -> Iterator[bool]:
    """Whether this process alone holds the file; one that is not there is nobody's."""
    try:
        # Writable, as network file systems want for an exclusive lock.
        file = path.open("r+b")
    except FileNotFoundError:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def hold(path: Path) -> IO[bytes] | None:
    """Open a generation's `zarr.json` and hold it shared; None: it is gone, or about to go.

    The lock goes with the file object. Where the file system has no locks there is none, and a
    reader finds out by `is_in_place`.
    """
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            file.close()
            return None
    if not is_in_place(file, path):
        file.close()
        return None
    return file


def is_in_place(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one at `path`: not removed, and not replaced."""
    try:
        found = path.stat()
    except OSError:
        return False
    mine = os.fstat(file.fileno())
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


@contextmanager
def work_lock(store: Path) -> Iterator[Path]:
    """Hold `<store>.part` against other processes; the lock goes with the process.

    Raises
    ------
    MelismaError
        Another process holds it.
    """
    part = part_folder(store)
    while True:
        part.mkdir(parents=True, exist_ok=True)
        try:
            file = (part / "lock").open("wb")
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise MelismaError(
                f"Another process is making or changing {store}: wait for it, or name another "
                "store."
            ) from None
        # The process before may have removed the folder between the two steps above.
        if is_in_place(file, part / "lock"):
            break
        file.close()
    with file:
        yield part


def clear_part(part: Path, keep: str | None = None) -> None:
    """Remove a `.part` folder whose lock is held, the lock's file last.

    keep : the name of work that is left, and the folder with it, such as samples that were read
    """
    for entry in part.iterdir():
        if entry.name in ("lock", keep):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if keep is not None and (part / keep).exists():
        return
    (part / "lock").unlink(missing_ok=True)
    try:
        part.rmdir()
    except OSError as error:
        # Another process has begun work of its own.
        if error.errno != errno.ENOTEMPTY:
            raise


def _sync_tree(folder: Path) -> None:
    """Bring every file of a folder to the disk, and the folders that name them."""
    for name, _, files in os.walk(folder):
        for file in files:
            _sync(Path(name, file))
        _sync(Path(name))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Where an export goes: work beside the final path, which appears only when all is written."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from melisma.errors import MelismaError
from melisma.methylome import part_folder, replace_folder

RECORD = "export.json"


def check_output(out: Path, *, single: bool, overwrite: bool) -> None:
    """Refuse an output that is taken, before anything is computed.

    Raises
    ------
    MelismaError
        `out` is there and not an earlier export, or is one and is not to be replaced.
    """
    parent = out.resolve().parent
    if not parent.is_dir():
        raise MelismaError(f"There is no folder {parent}: make it first.")
    if not os.access(parent, os.W_OK):
        raise MelismaError(f"The folder {parent} cannot be written to: name another with --out.")
    store = next((folder for folder in (parent, *parent.parents) if _is_store(folder)), None)
    if store is not None:
        raise MelismaError(f"{out} lies inside the store {store}: name a folder beside it.")
    if not out.exists():
        return
    if single:
        if out.is_dir():
            raise MelismaError(f"{out} is a folder; name a file.")
        if not overwrite:
            raise MelismaError(f"{out} is there: pass --overwrite to replace it.")
        return
    if not out.is_dir():
        raise MelismaError(f"{out} is a file: name a folder for the samples' files.")
    if not any(out.iterdir()):
        return
    if not (out / RECORD).exists():
        raise MelismaError(
            f"{out} holds files that are not from an export: choose another folder, or empty it."
        )
    if not overwrite:
        raise MelismaError(f"{out} holds an earlier export: pass --overwrite to replace it.")


def _is_store(folder: Path) -> bool:
    return (folder / "zarr.json").exists()


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A new, empty `<out>.part`, removed whatever happens; one export at a time writes to it."""
    part = part_folder(out)
    lock = part.with_name(part.name + ".lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MelismaError(
                f"Another process is writing {out}: wait for it, or name another output."
            ) from None
        try:
            # What a killed export left.
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            lock.unlink(missing_ok=True)


def publish(work: Path, out: Path, *, single: bool) -> None:
    """Move the finished work to its final path."""
    if single:
        os.replace(work / out.name, out)
    else:
        replace_folder(work, out)


def write_record(work: Path, summary: Any) -> None:
    """Write export.json: what the folder holds, and how to know it as an export."""
    record = {
        "format": summary.format,
        "sites": summary.sites,
        "rows": summary.rows,
        "bytes": summary.bytes,
        "files": {name: [file.name for file in files] for name, files in summary.files.items()},
        "left_out": summary.left_out,
        "notes": list(summary.notes),
    }
    (work / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

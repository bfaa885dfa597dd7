"""A change of a store killed at every step: run as a process of its own, which only forks.

Arguments: the change, a folder with `s.zarr` and, for append, `new.tsv`. Prints one line a kill:
the step's number, and whether the store then is the old or the new one.
"""

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from melisma import methylome as m
from melisma.calls import append
from melisma.methylome import open_methylome
from melisma.samples import annotate_samples, remove_samples, rename_samples

CHANGES = {
    "append": lambda folder: append(folder / "s.zarr", folder / "new.tsv", workers=1),
    "remove": lambda folder: remove_samples(folder / "s.zarr", ["b"]),
    "rename": lambda folder: rename_samples(folder / "s.zarr", {"b": "z"}),
    "annotate": lambda folder: annotate_samples(
        folder / "s.zarr", {"sample": ["a", "b"], "dose": [1.0, 2.0]}
    ),
}
# What changes files: a kill comes before one of these calls.
STEPS = (
    (os, "rename"), (os, "replace"), (os, "fsync"), (os, "link"), (os, "rmdir"), (os, "unlink"),
    (os, "mkdir"), (Path, "write_bytes"), (shutil, "rmtree"),
)  # fmt: skip


def watch(act):
    """Call `act(number, name, path)` before each change of the file system."""
    number = [0]

    def counted(name, function):
        def call(*args, **kwargs):
            number[0] += 1
            act(number[0], name, str(args[0]))
            return function(*args, **kwargs)

        return call

    for where, name in STEPS:
        setattr(where, name, counted(name, getattr(where, name)))


def kill_before(step):
    """Make this process kill itself before its `step`th change of the file system."""
    watch(lambda number, *_: number == step and os.kill(os.getpid(), signal.SIGKILL))


def chosen_steps(folder, change):
    """The steps to kill at: every move in the store and its `.part`, and some of the others."""
    log = folder / "steps"

    def run():
        with log.open("w") as file:
            watch(lambda number, name, path: print(number, name, path, file=file, flush=True))
            CHANGES[change](folder)

    if forked(run):
        sys.exit("The change fails without a kill.")
    steps = [line.split(" ", 2) for line in log.read_text().splitlines()]
    top = {str(folder / "s.zarr"), str(folder / "s.zarr.part"), str(folder / "s.zarr.part/store")}
    moves = {
        int(number)
        for number, name, path in steps
        if name in ("rename", "replace", "rmtree", "rmdir")
        and ".partial" not in path
        and (path in top or str(Path(path).parent) in top)
    }
    return sorted(moves | {1, len(steps) // 4, len(steps) // 2})


def forked(function):
    """Run in a child; returns its status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def print_of(store):
    """A hash of all that a store holds, but of what made it."""
    found = open_methylome(store).load()
    said = hashlib.sha256()
    for name in sorted(map(str, found.variables)):
        said.update(name.encode())
        said.update(repr(np.asarray(found[name].values).tolist()).encode())
    return said.hexdigest()


def written(folder, name):
    """`print_of` in a child, into a file."""
    (folder / name).unlink(missing_ok=True)
    code = forked(lambda: (folder / name).write_text(print_of(folder / "s.zarr")))
    return (folder / name).read_text() if code == 0 else f"unreadable ({code})"


def main(change, folder):
    m.CHUNK_SITES = (64, 64)
    folder = Path(folder)
    shutil.copytree(folder / "s.zarr", folder / "kept.zarr")

    def fresh():
        for name in ("s.zarr", "s.zarr.part"):
            shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(folder / "kept.zarr", folder / "s.zarr")

    old = written(folder, "old")
    if forked(lambda: CHANGES[change](folder)):
        sys.exit("The change fails without a kill.")
    new = written(folder, "new")
    assert old != new

    def killed(step):
        kill_before(step)
        CHANGES[change](folder)

    fresh()
    for step in chosen_steps(folder, change):
        fresh()
        code = forked(lambda step=step: killed(step))
        if code != -signal.SIGKILL:
            sys.exit(f"Step {step}: {code}")
        seen = written(folder, "seen")
        state = {old: "old", new: "new"}.get(seen, f"broken: {seen}")
        if state == "old":
            # The same command again, after whatever the kill left.
            if forked(lambda: CHANGES[change](folder)):
                sys.exit(f"Step {step}: the same command fails after the kill.")
            left = sorted(os.listdir(folder / "s.zarr"))
            tidy = len([name for name in left if name.startswith("v")]) == 1
            tidy &= not (folder / "s.zarr.part").exists()
            state += " then new" if tidy and written(folder, "seen") == new else f" then {left}"
        print(step, state, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

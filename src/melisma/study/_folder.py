"""A run's folder: work in `<out>.part`, steps that are skipped when nothing changed, run.json."""

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import polars as pl

from melisma._store import link_or_copy
from melisma.errors import MelismaError
from melisma.methylome import atomic_file, part_folder, replace_folder

RECORD = "run.json"


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class RunFolder:
    """The folder of one run; unfinished work lies in `<out>.part` and is resumed.

    A re-run begins from hard links to the finished folder, so that unchanged steps cost
    nothing and the finished folder stays whole until the new one replaces it.
    """

    def __init__(self, final: Path, study: Mapping[str, Any]) -> None:
        self.final = final
        self.path = part_folder(final)
        _refuse_other_study(final, study)
        if final.exists() and not (final / RECORD).exists() and any(final.iterdir()):
            raise MelismaError(
                f"{final} holds files that are not from a run: choose another folder, or empty it."
            )
        self._locked = _lock(self.path.with_name(self.path.name + ".lock"), final)
        if not self.path.exists():
            if (final / RECORD).exists():
                shutil.copytree(final, self.path, copy_function=link_or_copy)
            else:
                self.path.mkdir(parents=True)
        self._steps: dict[str, Any] = {}
        record = self.path / RECORD
        self._before: dict[str, Any] = {}
        if record.exists():
            self._before = json.loads(record.read_text())
        self.skipped: list[str] = []
        self.done: list[str] = []

    @property
    def before(self) -> Mapping[str, Any]:
        """run.json of the run before, or of the interrupted one; empty if there was none."""
        return self._before

    def step(
        self, name: str, key: Any, outputs: Sequence[str], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Run a step, or take its earlier result if its key is the same and its outputs exist."""
        fingerprint = digest(key)
        earlier = self._before.get("steps", {}).get(name, {})
        present = all((self.path / output).exists() for output in outputs)
        if earlier.get("key") == fingerprint and present:
            self.skipped.append(name)
            self._steps[name] = earlier
            return earlier["result"]
        began = time.perf_counter()
        result = compute()
        seconds = round(time.perf_counter() - began, 2)
        self._steps[name] = {"key": fingerprint, "seconds": seconds, "result": result}
        self.done.append(name)
        self.write_record(self._before | {"steps": self._before.get("steps", {}) | self._steps})
        return result

    def table(self, name: str, table: pl.DataFrame, *, text: bool = True) -> None:
        """Write a table as Parquet and, unless told not to, as TSV."""
        folder = self.path / "tables"
        with atomic_file(folder / f"{name}.parquet") as work:
            table.write_parquet(work)
        if text:
            with atomic_file(folder / f"{name}.tsv") as work:
                table.write_csv(work, separator="\t")

    def bed(self, name: str, regions: pl.DataFrame) -> None:
        """Write regions as BED6: the score is -10 log10 q, capped at 1000; the strand is `.`."""
        score = (pl.col("q").clip(1e-100, 1.0).log(10) * -10).round(0).cast(pl.Int64).clip(0, 1000)
        columns = regions.sort("contig", "start").select(
            "contig", "start", "end", "region", score.alias("score"), pl.lit(".").alias("strand")
        )
        with atomic_file(self.path / "tables" / f"{name}.bed") as work:
            columns.write_csv(work, separator="\t", include_header=False)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write run.json, atomically."""
        with atomic_file(self.path / RECORD) as work:
            work.write_text(json.dumps(record, indent=2, default=str, allow_nan=False))

    @property
    def steps(self) -> Mapping[str, Any]:
        """Key, seconds and result of each step of this run."""
        return self._steps

    def remove_stale(self, keep: set[str]) -> None:
        """Remove the run's own tables of contrasts that the study no longer asks for."""
        for stem, step in self._before.get("steps", {}).items():
            for kind in step["result"].get("tables", ()):
                if f"{stem}.{kind}" not in keep:
                    (self.path / "tables" / f"{stem}.{kind}").unlink(missing_ok=True)

    def finish(self) -> Path:
        """Move the work to its final path."""
        replace_folder(self.path, self.final)
        self._release()
        return self.final

    def discard(self) -> None:
        """Remove the work, as bad input asks."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        Path(self._locked.name).unlink(missing_ok=True)
        self._locked.close()


def _refuse_other_study(final: Path, study: Mapping[str, Any]) -> None:
    """A folder that holds another study's results is not overwritten."""
    record = final / RECORD
    if record.exists():
        other = json.loads(record.read_text()).get("study", study)
        if dict(other) != dict(study):
            raise MelismaError(
                f"{final} holds the run of another study, {other['title']!r} on "
                f"{other['samples']}: name another folder with --out, or remove it."
            )


def _lock(path: Path, final: Path) -> IO[str]:
    """Keep other runs away from the same folder; the lock goes with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise MelismaError(f"Another run is writing {final}: wait for it to end.") from None
    return file


def file_record(path: Path, earlier: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Name, size and SHA-256 of an input; a hash is reused while size and time are the same."""
    state = path.stat()
    for record in earlier:
        if (record.get("path"), record.get("bytes"), record.get("mtime_ns")) == (
            str(path),
            state.st_size,
            state.st_mtime_ns,
        ):
            return dict(record)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": str(path),
        "bytes": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "sha256": sha256,
    }

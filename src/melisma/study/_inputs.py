"""The files of a study and their hashes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from melisma import progress
from melisma.calls import read_samples
from melisma.errors import MelismaError
from melisma.study._config import StudyConfig
from melisma.study._folder import file_record

Records = list[dict[str, Any]]


def hash_inputs(
    config: StudyConfig, sheet: pl.DataFrame, earlier: Sequence[Mapping[str, Any]]
) -> tuple[Records, Records]:
    """Name, size and SHA-256 of what the store is made of, and of what is laid beside it.

    Parameters
    ----------
    earlier : records of the run before, whose hashes are reused

    Raises
    ------
    MelismaError
        A file is missing, or two samples are one file.
    """
    given = config.input
    # Several samples may be in one matrix.
    files = [given.samples, *dict.fromkeys(map(Path, sheet["path"]))]
    files += [file for file in (given.manifest, given.genome) if file]
    named: list[Path | None] = [given.annotation, given.islands, config.regions.bed]
    if config.sequence is not None:
        named.append(config.sequence.genome)
        if config.sequence.samples is not None:
            named.append(config.sequence.samples)
            named += map(Path, read_samples(config.sequence.samples)["path"])
    beside = [file for file in dict.fromkeys(named) if file]
    with progress.stage("Hashing inputs", len(files) + len(beside)) as advance:
        records = []
        for file in (*files, *beside):
            if not file.is_file():
                raise MelismaError(f"There is no file at {file}.")
            records.append(file_record(file.resolve(), earlier))
            advance(1)
    _refuse_copies(records[: len(files)])
    return records[: len(files)], records[len(files) :]


def _refuse_copies(records: Records) -> None:
    seen: dict[str, str] = {}
    for record in records:
        if record["sha256"] in seen:
            raise MelismaError(
                f"{seen[record['sha256']]} and {record['path']} are the same, byte for byte: one "
                "of the samples is a copy; correct the sample sheet."
            )
        seen[record["sha256"]] = record["path"]

"""The samples of a store changed: some removed, renamed, or described by other columns.

Each change makes a new generation of the store: readers of the old one are not disturbed, and a
change that is cut short leaves the store as it was.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma import _merge_kernels, progress
from melisma._columns import Sheet, missing_values
from melisma._generations import (
    clear_part,
    next_generation,
    publish,
    root_record,
    sweep,
    work_lock,
)
from melisma._sheet import check_names, read_rows, typed_column
from melisma._store import ArrayReader, link_or_copy, write_sheet
from melisma.errors import MelismaError
from melisma.methylome import (
    SITE_ARRAYS,
    VALUE_ARRAYS,
    Writer,
    open_methylome,
    other_attributes,
    part_folder,
    sample_array,
    sample_sheet,
)

__all__ = [
    "Annotated", "Removed", "annotate_samples", "read_columns", "read_names", "remove_samples",
    "rename_samples",
]  # fmt: skip

# Samples that an interrupted append has read.
_SAMPLES = "samples"
_THREADS = 2
_MOST_NAMED = 5


class Removed(NamedTuple):
    """What is left of a store, and how many sites no sample that is left has seen."""

    samples: int
    sites: int
    dropped_sites: int


class Annotated(NamedTuple):
    """Columns that were added, replaced and dropped, and samples that the sheet does not name."""

    added: list[str]
    replaced: list[str]
    dropped: list[str]
    unnamed: list[str]


class Current(NamedTuple):
    """A store as it is when a change begins."""

    folder: Path
    attrs: dict[str, Any]
    sheet: dict[str, list[Any]]
    values: list[str]
    probes: bool


@contextmanager
def changing(store: Path | str) -> Iterator[Current]:
    """Hold a store for a change; its work is cleared away, whatever ends it."""
    store = Path(store)
    open_methylome(store)
    with work_lock(store) as part:
        try:
            sweep(store)
            yield current(store)
        finally:
            clear_part(part, keep=_SAMPLES)


def current(store: Path) -> Current:
    """The live generation's folder, attributes, sheet and arrays; nothing stays open."""
    opened = open_methylome(store)
    record = root_record(store)
    if record is None:
        raise MelismaError(f"There is no methylome store at {store}.")
    return Current(
        folder=store / record["generation"],
        attrs=dict(opened.attrs),
        sheet=sample_sheet(opened),
        values=[name for name in VALUE_ARRAYS if name in opened],
        probes="probe" in opened,
    )


def changed_record(attrs: Mapping[str, Any], *change: Any) -> dict[str, Any]:
    """The attribute `ingest` after a change: `inputs` no longer is that of the sheet alone."""
    record = dict(attrs.get("ingest", {}))
    made_from = json.dumps([record.get("inputs"), *change], default=str)
    return record | {"inputs": hashlib.sha256(made_from.encode()).hexdigest()}


def require_samples(store: Path | str, asked: Collection[str], have: Collection[str]) -> None:
    """Refuse names that the store does not have, by name."""
    unknown = [name for name in asked if name not in have]
    if unknown:
        raise MelismaError(f"{store} has no sample {_named(unknown)}; it has {_named(have)}.")


def _named(names: Collection[str]) -> str:
    shown = ", ".join(repr(name) for name in list(names)[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else "")


def remove_samples(store: Path | str, samples: Sequence[str]) -> Removed:
    """Take samples out of a store, and with them the sites that no other sample has seen.

    Contigs and marks of which no site is left are taken out too.

    Raises
    ------
    MelismaError
        A sample is not in the store, or none would be left.
    """
    with changing(store) as now:
        names = [str(name) for name in now.sheet["sample"]]
        require_samples(store, samples, names)
        left = [name for name in names if name not in samples]
        if not left:
            raise MelismaError(
                f"All {len(names)} samples of {store} would be removed: remove the store instead."
            )
        if len(left) == len(names):
            raise MelismaError("No sample to remove is named.")
        return _without(Path(store), now, left)


def _without(store: Path, now: Current, left: list[str]) -> Removed:
    columns = np.array([now.sheet["sample"].index(name) for name in left], dtype=np.int64)
    reader = ArrayReader(now.folder, _array_names(now))
    steps = progress.stage("Looking for sites that are left", reader.rows)
    with steps as advance:
        kept, contigs, marks, dtypes = _survey(reader, now, columns, advance)
    record = changed_record(now.attrs, "remove", left)
    if "samples" in record:
        record["samples"] = {n: r for n, r in record["samples"].items() if n in left}
    attrs = other_attributes(now.attrs) | ({"ingest": record} if "ingest" in now.attrs else {})
    sheet = {name: [column[k] for k in columns.tolist()] for name, column in now.sheet.items()}
    with (
        progress.stage("Writing the store", reader.rows) as advance,
        Writer(
            store,
            samples=sheet,
            contigs=[now.attrs["contigs"][k] for k in contigs],
            marks=[now.attrs["marks"][k] for k in marks],
            strands=now.attrs["strands"],
            values=dtypes,
            attrs=attrs,
            probes=now.probes,
            threads=_THREADS,
        ) as writer,
    ):
        start = 0
        for block in reader.chunks(_array_names(now)):
            rows = np.flatnonzero(kept[start : start + len(block["position"])])
            start += len(block["position"])
            writer.append(_taken(block, rows, columns, dtypes, (contigs, marks)))
            advance(len(block["position"]))
    sites = int(np.count_nonzero(kept))
    return Removed(samples=len(left), sites=sites, dropped_sites=len(kept) - sites)


def _array_names(now: Current) -> list[str]:
    return [*SITE_ARRAYS, *now.values, *(["probe"] if now.probes else [])]


def _survey(
    reader: ArrayReader, now: Current, columns: npt.NDArray[np.int64], advance: Any
) -> tuple[npt.NDArray[np.bool_], list[int], list[int], dict[str, np.dtype[Any]]]:
    """Which sites are left, (sites,); contigs and marks that they have; the values' types."""
    kept = np.zeros(reader.rows, dtype=np.bool_)
    seen_in = now.values[-1]
    contigs = np.zeros(len(now.attrs["contigs"]), dtype=np.int64)
    marks = np.zeros(len(now.attrs["marks"]), dtype=np.int64)
    largest, start = 0, 0
    for block in reader.chunks(["contig", "mark", seen_in]):
        here = kept[start : start + len(block["contig"])]
        start += len(here)
        if seen_in == "coverage":
            found = _merge_kernels.covered_rows(block[seen_in], columns, here)
            largest = max(largest, int(found))
        else:
            _merge_kernels.levelled_rows(block[seen_in], columns, here)
        contig = block["contig"][here]
        contigs += np.bincount(contig[contig >= 0], minlength=len(contigs))
        marks += np.bincount(block["mark"][here], minlength=len(marks))
        advance(len(here))
    dtypes = {name: reader.dtypes[name] for name in now.values}
    if seen_in == "coverage" and largest <= np.iinfo(np.uint16).max:
        dtypes = dict.fromkeys(dtypes, np.dtype(np.uint16))
    return kept, np.flatnonzero(contigs).tolist(), np.flatnonzero(marks).tolist(), dtypes


def _taken(
    block: dict[str, npt.NDArray[Any]],
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    dtypes: Mapping[str, np.dtype[Any]],
    left: tuple[list[int], list[int]],
) -> dict[str, npt.NDArray[Any]]:
    """The rows and columns of a block, its contigs and marks numbered anew."""
    taken = {name: array[rows] for name, array in block.items() if name not in dtypes}
    for name, numbers in zip(("contig", "mark"), left, strict=True):
        placed = taken[name] >= 0
        taken[name][placed] = np.searchsorted(numbers, taken[name][placed])
    for name, dtype in dtypes.items():
        taken[name] = np.empty((len(rows), len(columns)), dtype=dtype)
        _merge_kernels.take_cells(block[name], rows, columns, taken[name])
    return taken


def rename_samples(store: Path | str, names: Mapping[str, str]) -> int:
    """Give samples other names, old to new; returns how many changed. Reads are not touched.

    Raises
    ------
    MelismaError
        An old name is not in the store, or two samples would have one name.
    """
    with changing(store) as now:
        have = [str(name) for name in now.sheet["sample"]]
        require_samples(store, names, have)
        if any(not new.strip() for new in names.values()):
            raise MelismaError("A sample's new name is empty: give it one.")
        new = [names.get(name, name) for name in have]
        if len(set(new)) < len(new):
            twice = next(name for name in new if new.count(name) > 1)
            both = [old for old, name in zip(have, new, strict=True) if name == twice]
            raise MelismaError(
                f"The samples {both[0]!r} and {both[1]!r} would both be called {twice!r}."
            )
        changed = {old: name for old, name in zip(have, new, strict=True) if old != name}
        if changed:
            record = changed_record(now.attrs, "rename", changed)
            if "samples" in record:
                samples = record["samples"].items()
                record["samples"] = {names.get(name, name): value for name, value in samples}
            _with_sheet(Path(store), now, {**now.sheet, "sample": new}, record)
        return len(changed)


def annotate_samples(
    store: Path | str, sheet: Sheet | None = None, *, drop: Sequence[str] = ()
) -> Annotated:
    """Add or replace the columns that describe a store's samples. Reads are not touched.

    Parameters
    ----------
    sheet : columns by name, `sample` among them; a sample of the store that it does not name gets
        missing values in them
    drop : columns to take out

    Raises
    ------
    MelismaError
        The sheet names a sample, or `drop` a column, that the store does not have.
    """
    new = {name: list(column) for name, column in (sheet or {"sample": []}).items()}
    with changing(store) as now:
        have = [str(name) for name in now.sheet["sample"]]
        named = [str(name) for name in new.pop("sample")]
        require_samples(store, named, have)
        for name in drop:
            if name == "sample" or name not in now.sheet:
                columns = ", ".join(column for column in now.sheet if column != "sample")
                raise MelismaError(
                    f"{store} has no column {name!r} to drop; it has {columns or 'none'}."
                )
        columns = {name: column for name, column in now.sheet.items() if name not in drop}
        place = {name: k for k, name in enumerate(named)}
        for name, values in new.items():
            missing = missing_values(values, 1)[0]
            columns[name] = [values[place[s]] if s in place else missing for s in have]
        done = Annotated(
            added=[name for name in new if name not in now.sheet],
            replaced=[name for name in new if name in now.sheet],
            dropped=list(drop),
            unnamed=[name for name in have if name not in place] if new else [],
        )
        if new or drop:
            _with_sheet(Path(store), now, columns, changed_record(now.attrs, "annotate", columns))
        return done


def read_names(path: Path | str) -> dict[str, str]:
    """Old names to new ones, from a table with the columns `old` and `new`.

    Raises
    ------
    MelismaError
        The table is no such table, or renames a sample twice.
    """
    path = Path(path)
    names, rows = read_rows(path)
    if sorted(names) != ["new", "old"]:
        raise MelismaError(f"{path} should have the columns old and new; it has {_listed(names)}.")
    renamed: dict[str, str] = {}
    for line, fields in rows:
        _require_width(path, line, fields, names)
        old, new = (fields[names.index(name)] for name in ("old", "new"))
        if old in renamed:
            raise MelismaError(f"{path} line {line}: the sample {old!r} is renamed twice.")
        renamed[old] = new
    return renamed


def read_columns(path: Path | str) -> dict[str, list[Any]]:
    """Columns that describe samples, `sample` among them, typed as in a sample sheet.

    `path` and `format`, which a sample sheet has, are left out.

    Raises
    ------
    MelismaError
        The table has no column `sample`, no other one, or one that a store cannot hold, or names
        a sample twice.
    """
    path = Path(path)
    names, rows = read_rows(path)
    if "sample" not in names:
        raise MelismaError(f"{path} has no column 'sample'; its columns are {_listed(names)}.")
    check_names(path, names)
    seen: dict[str, int] = {}
    for line, fields in rows:
        _require_width(path, line, fields, names)
        sample = fields[names.index("sample")]
        if sample in seen:
            raise MelismaError(
                f"{path}: the sample {sample!r} is on lines {seen[sample]} and {line}; give each "
                "sample one line."
            )
        seen[sample] = line
    columns = {
        name: typed_column(name, [fields[k] for _, fields in rows])
        for k, name in enumerate(names)
        if name not in ("path", "format")
    }
    if len(columns) == 1:
        raise MelismaError(f"{path} has no column beside 'sample': add one to describe samples by.")
    return columns


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _require_width(path: Path, line: int, fields: Sequence[str], names: Sequence[str]) -> None:
    if len(fields) != len(names):
        raise MelismaError(
            f"{path} line {line}: {len(fields)} fields where the header has {len(names)}."
        )


def _with_sheet(
    store: Path, now: Current, sheet: Mapping[str, Sequence[Any]], record: dict[str, Any]
) -> None:
    """A generation with another sheet; the arrays along `site` are the same files."""
    import zarr

    name, work = next_generation(store), part_folder(store) / "store"
    if work.exists():
        shutil.rmtree(work)
    root = zarr.open_group(work, mode="w", zarr_format=3)
    group = root.create_group(name)
    for array in _array_names(now):
        shutil.copytree(now.folder / array, work / name / array, copy_function=link_or_copy)
    write_sheet(group, {column: sample_array(values) for column, values in sheet.items()})
    attrs = now.attrs | {"sheet": list(sheet)}
    group.attrs.update(attrs | ({"ingest": record} if "ingest" in now.attrs else {}))
    schema = now.attrs["schema"]
    root.attrs.update({"melisma": {"schema": schema, "generation": name}})
    publish(work, store)

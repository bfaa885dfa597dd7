"""The methylome store: one schema, as an xarray Dataset in a Zarr v3 store.

A methylome has the dimensions (site, sample). A site is one (contig, position, strand, mark);
each cell holds M reads that carry the mark out of N valid reads, and N = 0 says "not seen".
This module is the only place that knows the schema; everything else takes Datasets.

| name | dims | dtype | meaning |
|---|---|---|---|
| methylated | site, sample | uint16 or uint32 | reads that carry the mark, M |
| coverage | site, sample | as above | valid reads for that mark, N (0: not seen) |
| beta | site, sample | float32, NaN missing | levels, where counts do not exist |
| contig | site | int16 | index into attrs["contigs"] |
| position | site | int32 | 0-based position of the modified base |
| strand | site | int8 | +1, -1, or 0: merged or unknown |
| mark | site | int8 | index into attrs["marks"] |
| context | site | int8 | index into `CONTEXTS` |
| probe | site | str | array probe; only where the levels came from probes |
| sample | sample | str | and every sample-sheet column as a coordinate on this dim |

Sites are sorted by contig, position, strand, mark. Array probes without a manifest have no place:
contig and position are -1, `contigs` is empty, and they are sorted by probe. On disk the arrays
live in a generation group (`v1/`), and the root's attributes name the live generation and the
schema version.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma import _contigs
from melisma._generations import clear_part, next_generation, publish, root_record, work_lock
from melisma._store import ArrayWriter, atomic_file, part_folder, replace_folder
from melisma.errors import MelismaError

__all__ = [
    "CONTEXTS", "MARKS", "SCHEMA_VERSION", "SITE_ARRAYS", "SITE_DTYPES", "STRANDS",
    "UNKNOWN_CONTEXT", "VALUE_ARRAYS", "Block", "Mark", "Region", "Writer", "atomic_file", "blocks",
    "chunk_sites", "contig_offsets", "dataset", "natural_order", "open_methylome", "parse_mark",
    "parse_region", "part_folder", "replace_folder", "sample_array", "sample_sheet", "select",
    "single_mark", "validate", "write",
]  # fmt: skip

SCHEMA_VERSION = 1
CONTEXTS = ("CG", "CHG", "CHH", "unknown")
UNKNOWN_CONTEXT = CONTEXTS.index("unknown")
VALUE_ARRAYS = ("methylated", "coverage", "beta")
STRANDS = ("separate", "merged", "unknown")
SITE_ARRAYS = ("contig", "position", "strand", "mark", "context")
SITE_DTYPES = {
    "contig": np.dtype(np.int16),
    "position": np.dtype(np.int32),
    "strand": np.dtype(np.int8),
    "mark": np.dtype(np.int8),
    "context": np.dtype(np.int8),
}
# One chunk holds all samples of a stretch of sites: 4 million cells are 8 MB of uint16.
CHUNK_CELLS = 1 << 22
CHUNK_SITES = (1 << 14, 1 << 18)


class Mark(NamedTuple):
    """A base modification: its code in SAM and bedMethyl, ChEBI number, name, modified base."""

    code: str
    chebi: str | None
    name: str
    base: str


MARKS = (
    Mark("m", "27551", "5mC", "C"),
    Mark("h", "76792", "5hmC", "C"),
    Mark("a", "28871", "6mA", "A"),
    Mark("21839", "21839", "4mC", "C"),
    Mark("C", None, "any modified C", "C"),
)
_MARK_BY_WORD = {
    word.lower() if len(word) > 1 else word: mark
    for mark in MARKS
    for word in (mark.code, mark.chebi, mark.name)
    if word
}


def parse_mark(text: str) -> Mark:
    """Which modification a code, ChEBI number or name means.

    >>> parse_mark("5mC").code, parse_mark("76792").name
    ('m', '5hmC')

    Raises
    ------
    MelismaError
        The text names none of the supported modifications.
    """
    mark = _MARK_BY_WORD.get(text if len(text) == 1 else text.lower())
    if mark is None:
        known = ", ".join(f"{m.code} ({m.name})" for m in MARKS)
        raise MelismaError(f"The modification {text!r} is not supported: use one of {known}.")
    return mark


class Region(NamedTuple):
    """A stretch of one contig, 0-based and half open; `end` None is the contig's end."""

    contig: str
    start: int
    end: int | None

    def __str__(self) -> str:
        return self.contig if self.end is None else f"{self.contig}:{self.start}-{self.end}"


def parse_region(text: str) -> Region:
    """Read `chr1:start-end`, 0-based and half open, or a whole contig's name.

    >>> parse_region("chr1:1,000-2000")
    Region(contig='chr1', start=1000, end=2000)

    Raises
    ------
    MelismaError
        The text is neither, or the region is empty.
    """
    found = re.fullmatch(r"(?P<contig>.+):(?P<start>[\d,]+)-(?P<end>[\d,]+)", text)
    if found is None:
        if not text or text.endswith(":"):
            raise MelismaError(f"The region {text!r} is not chr:start-end (0-based, half open).")
        return Region(text, 0, None)
    start, end = (int(found[name].replace(",", "")) for name in ("start", "end"))
    if end <= start:
        raise MelismaError(
            f"The region {text!r} is empty: 0-based and half open, its end must exceed its start."
        )
    return Region(found["contig"], start, end)


def natural_order(names: Sequence[str]) -> list[str]:
    """Contig names in the order a reader expects: chr2 before chr10.

    >>> natural_order(["chr10", "chr2", "chrX"])
    ['chr2', 'chr10', 'chrX']
    """

    def key(name: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", name)
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]

    return sorted(names, key=key)


def chunk_sites(n_samples: int) -> int:
    """How many sites one chunk holds for this many samples (a power of two)."""
    sites = CHUNK_CELLS // max(1, n_samples)
    return int(min(max(1 << (sites.bit_length() - 1), CHUNK_SITES[0]), CHUNK_SITES[1]))


def dataset(
    sites: Mapping[str, npt.ArrayLike],
    values: Mapping[str, npt.NDArray[Any]],
    samples: Mapping[str, Sequence[Any]],
    *,
    contigs: Sequence[str],
    marks: Sequence[str] = ("m",),
    strands: str = "unknown",
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Build a methylome in memory and check it.

    Parameters
    ----------
    sites : contig, position and, optionally, strand, mark, context; each (sites,), integers
        Missing ones are 0, the first mark and the unknown context. `probe`, str, is optional.
    values : `methylated` and `coverage`, or `beta`; each (sites, samples)
    samples : the sample sheet's columns, `sample` among them; each of length samples
    contigs, marks : names that the indices in `sites` point to
    strands : "separate", "merged" or "unknown"

    Returns
    -------
    Dataset of the schema above.

    Raises
    ------
    MelismaError
        The arrays break the schema.
    """
    n_sites = len(np.asarray(sites["position"]))
    defaults = {"strand": 0, "mark": 0, "context": UNKNOWN_CONTEXT}
    columns = {
        name: np.asarray(sites[name]).astype(dtype)
        if name in sites
        else np.full(n_sites, defaults[name], dtype)
        for name, dtype in SITE_DTYPES.items()
    }
    if "probe" in sites:
        columns["probe"] = sample_array(cast(Any, sites["probe"]))
    built = xr.Dataset(
        {name: ("site", column) for name, column in columns.items()}
        | {name: (("site", "sample"), array) for name, array in values.items()},
        coords={name: ("sample", sample_array(column)) for name, column in samples.items()},
        attrs={
            "schema": SCHEMA_VERSION,
            "contigs": list(contigs),
            "contig_offsets": contig_offsets(columns["contig"], len(contigs)),
            "marks": [parse_mark(mark).code for mark in marks],
            "strands": strands,
        }
        | dict(attrs or {}),
    )
    return validate(built)


def sample_array(column: Sequence[Any] | npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A sample-sheet column as an array that Zarr can store: numbers stay, words become str."""
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array
    words = ["" if word is None else str(word) for word in column]
    return np.array(words, dtype=np.dtypes.StringDType())


def contig_offsets(contig: npt.NDArray[Any], n_contigs: int) -> list[int]:
    """Where each contig's sites begin, (contigs + 1,), from sorted contig indices."""
    return [int(i) for i in np.searchsorted(contig, np.arange(n_contigs + 1))]


def validate(methylome: xr.Dataset) -> xr.Dataset:
    """Check a Dataset against the schema and return it.

    Array values are checked only where they are in memory; a lazily opened store was checked
    when it was written.

    Raises
    ------
    MelismaError
        A variable is missing or misshapen, sites are out of order or repeated, M exceeds N.
    """
    missing = [name for name in SITE_ARRAYS if name not in methylome]
    counts = {"methylated", "coverage"} <= set(methylome.variables)
    if missing or counts == ("beta" in methylome):
        found = ", ".join(str(name) for name in methylome.data_vars)
        raise MelismaError(
            "A methylome needs contig, position, strand, mark, context and either methylated "
            f"and coverage or beta; this Dataset has {found or 'nothing'}."
        )
    for name in ("contigs", "marks", "strands"):
        if name not in methylome.attrs:
            raise MelismaError(f"The methylome's attributes lack {name!r}.")
    if methylome.attrs["strands"] not in STRANDS:
        raise MelismaError(
            f"The attribute strands is {methylome.attrs['strands']!r}, not one of {STRANDS}."
        )
    if "sample" not in methylome.coords:
        raise MelismaError("The methylome has no sample names: give it a `sample` coordinate.")
    names = [str(name) for name in methylome["sample"].values]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MelismaError(f"The sample {twice!r} is in the methylome twice.")
    if all(isinstance(methylome[name].variable._data, np.ndarray) for name in methylome.data_vars):
        _validate_values(methylome, counts=counts)
    return methylome


def _validate_values(methylome: xr.Dataset, *, counts: bool) -> None:
    if not counts:
        _validate_levels(methylome)
    keys = np.stack([methylome[name].values.astype(np.int64) for name in SITE_ARRAYS[:4]])
    if "probe" in methylome and (keys[0] < 0).any():
        _validate_unplaced(methylome["probe"].values, keys)
        return
    steps = np.zeros(max(keys.shape[1] - 1, 0), dtype=np.int64)
    for step in np.diff(keys, axis=1):
        steps = np.where(steps == 0, step, steps)
    if (steps <= 0).any():
        i = int(np.argmax(steps <= 0)) + 1
        contig = methylome.attrs["contigs"][keys[0, i]]
        word = "repeated" if steps[i - 1] == 0 else "out of order"
        raise MelismaError(
            f"The site {contig}:{keys[1, i]} (row {i}) is {word}: sites must be unique and sorted "
            "by contig, position, strand and mark."
        )
    if counts and (methylome["methylated"].values > methylome["coverage"].values).any():
        where = np.argwhere(methylome["methylated"].values > methylome["coverage"].values)[0]
        raise MelismaError(
            f"Row {where[0]} of sample {methylome['sample'].values[where[1]]} has more methylated "
            "reads than coverage."
        )


def _validate_levels(methylome: xr.Dataset) -> None:
    beta = methylome["beta"].values
    outside = (beta < 0) | (beta > 1)
    if outside.any():
        row, sample = np.argwhere(outside)[0]
        raise MelismaError(
            f"Row {row} of sample {methylome['sample'].values[sample]} has a level of "
            f"{beta[row, sample]:g}: levels lie from 0 to 1, NaN missing."
        )


def _validate_unplaced(probe: npt.NDArray[Any], keys: npt.NDArray[np.int64]) -> None:
    """Probes without a place: all of them, sorted by name, each once."""
    if (keys[:2] != -1).any():
        raise MelismaError(
            "Some probes of the methylome have a place and some have none: contig and position are "
            "-1 for all of them, or for none."
        )
    names = probe.astype(object)
    wrong = names[1:] <= names[:-1]
    if wrong.any():
        i = int(np.argmax(wrong)) + 1
        raise MelismaError(
            f"The probe {names[i]!r} (row {i}) is repeated or out of order: probes without a place "
            "must be unique and sorted by name."
        )


class Writer:
    """Write a store block by block; the final path appears only when everything is written.

    Use as a context manager. Work lies in `<path>.part/store`; leaving the block without an
    exception moves it to `path`, and an exception leaves `.part` to whoever owns it. A store that
    is there gets a new generation: what reads the old one goes on reading it.

    Parameters
    ----------
    samples : the sheet's columns, `sample` among them; each of length samples
    values : the arrays (site, sample) and their types
    probes : whether each block has a `probe` array too
    threads : threads that compress and write; 0: the caller's
    """

    def __init__(
        self,
        path: Path,
        *,
        samples: Mapping[str, Sequence[Any]],
        contigs: Sequence[str],
        marks: Sequence[str],
        strands: str,
        values: Mapping[str, npt.DTypeLike],
        attrs: Mapping[str, Any] | None = None,
        probes: bool = False,
        threads: int = 0,
    ) -> None:
        self.path = Path(path)
        self._samples = samples
        self._site_dtypes = SITE_DTYPES | ({"probe": np.dtypes.StringDType()} if probes else {})
        self._values = {name: np.dtype(dtype) for name, dtype in values.items()}
        self._attrs: dict[str, Any] = {
            "schema": SCHEMA_VERSION,
            "contigs": list(contigs),
            "marks": list(marks),
            "strands": strands,
            "sheet": list(samples),
        } | dict(attrs or {})
        self._chunk = chunk_sites(len(samples["sample"]))
        self._per_contig = np.zeros(len(contigs), dtype=np.int64)
        self._unplaced = 0
        self._threads = threads
        self._generation: str
        self._writer: ArrayWriter

    def __enter__(self) -> "Writer":
        self._generation = next_generation(self.path)
        self._writer = ArrayWriter(
            part_folder(self.path) / "store",
            self._generation,
            sites=self._site_dtypes,
            values=self._values,
            samples={name: sample_array(column) for name, column in self._samples.items()},
            chunk=self._chunk,
            threads=self._threads,
        )
        return self

    @property
    def chunk(self) -> int:
        """Sites of a chunk: blocks of as many are written without a copy."""
        return self._chunk

    def append(self, block: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add the next sites, in order: every site array and value array, equally long."""
        if not len(block["position"]):
            return
        placed = block["contig"][block["contig"] >= 0]
        self._per_contig += np.bincount(placed, minlength=len(self._per_contig))
        self._unplaced += len(block["contig"]) - len(placed)
        if "probe" in self._site_dtypes:
            block = {**block, "probe": sample_array(block["probe"])}
        self._writer.append(block)

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._writer.close()

    def _finish(self) -> None:
        offsets = [self._unplaced + int(i) for i in (0, *np.cumsum(self._per_contig))]
        root = {"melisma": {"schema": SCHEMA_VERSION, "generation": self._generation}}
        self._writer.finish(self._attrs | {"contig_offsets": offsets}, root)
        publish(self._writer.folder, self.path)


def write(methylome: xr.Dataset, path: Path | str) -> None:
    """Write a methylome to a store, atomically; an existing store is replaced."""
    validate(methylome)
    values = [name for name in VALUE_ARRAYS if name in methylome]
    final = Path(path)
    kept = other_attributes(methylome.attrs)
    with work_lock(final) as part:
        with Writer(
            final,
            samples=sample_sheet(methylome),
            contigs=methylome.attrs["contigs"],
            marks=methylome.attrs["marks"],
            strands=methylome.attrs["strands"],
            values={name: methylome[name].dtype for name in values},
            attrs=kept,
            probes="probe" in methylome,
        ) as writer:
            for start in range(0, methylome.sizes["site"], writer.chunk):
                piece = methylome.isel(site=slice(start, start + writer.chunk))
                names = (*SITE_ARRAYS, *(["probe"] if "probe" in methylome else []), *values)
                writer.append({name: piece[name].values for name in names})
        clear_part(part)


def other_attributes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that are not the schema's own, such as `genome` and `ingest`."""
    return {name: value for name, value in attrs.items() if name not in _ATTRIBUTES}


_ATTRIBUTES = ("schema", "contigs", "contig_offsets", "marks", "strands", "sheet")


def sample_sheet(methylome: xr.Dataset) -> dict[str, list[Any]]:
    """The sample sheet's columns, `sample` first, as plain lists of length samples."""
    names = [str(n) for n, c in methylome.coords.items() if c.dims == ("sample",)]
    names = ["sample", *(name for name in names if name != "sample")]
    return {name: methylome[name].values.tolist() for name in names}


def open_methylome(path: Path | str, *, chunks: Any = None) -> xr.Dataset:
    """Open a store, lazily.

    The Dataset goes on reading the generation that lived when it was opened, whatever changes
    the store meanwhile; that generation's files stay for as long as the Dataset is not loaded.

    Parameters
    ----------
    path : the store's folder
    chunks : None for arrays that load when sliced; "auto" or a mapping for Dask arrays

    Raises
    ------
    MelismaError
        There is no store, it is unfinished, or a newer version of melisma wrote it.
    """
    path = Path(path)
    if not path.exists():
        hint = (
            f" Unfinished work lies in {part_folder(path)}: run the same ingest again to resume."
            if part_folder(path).exists()
            else ""
        )
        raise MelismaError(f"There is no methylome store at {path}.{hint}")
    root = root_record(path)
    if root is None:
        raise MelismaError(f"{path} is not a methylome store: make one with `melisma ingest`.")
    if root["schema"] > SCHEMA_VERSION:
        raise MelismaError(
            f"{path} has schema version {root['schema']}, and this melisma reads up to "
            f"{SCHEMA_VERSION}: install a newer melisma."
        )
    from melisma._held_store import HeldStore

    held = HeldStore(path, written=(*SITE_ARRAYS, *VALUE_ARRAYS))
    opened = xr.open_zarr(cast(Any, held), group=held.generation, consolidated=False, chunks=chunks)
    # Zarr does not tell a sample-sheet column from a variable; their dimensions do.
    sheet = {str(n): array for n, array in opened.data_vars.items() if array.dims == ("sample",)}
    # Zarr lists arrays in the file system's order; the sheet has its own.
    order = [name for name in opened.attrs.get("sheet", sorted(sheet)) if name in sheet]
    opened = opened.drop_vars(order).assign_coords({name: sheet[name] for name in order})
    return validate(opened)


def select(
    methylome: xr.Dataset,
    *,
    region: Region | str | None = None,
    mark: str | None = None,
) -> xr.Dataset:
    """The sites of a region and a mark; `1:…` finds `chr1` where only that is there.

    Raises
    ------
    MelismaError
        The contig or the mark is not in the methylome.
    """
    offsets = methylome.attrs.get("contig_offsets")
    if region is not None:
        wanted = parse_region(region) if isinstance(region, str) else region
        contigs = methylome.attrs["contigs"]
        if not contigs and "probe" in methylome:
            raise MelismaError(
                f"The probes of this methylome have no positions, so {wanted} selects nothing: "
                "ingest it again with --manifest."
            )
        contig = _contigs.find(wanted.contig, contigs)
        if contig is None:
            some = ", ".join(contigs[:5])
            raise MelismaError(f"The methylome has no contig {wanted.contig!r}; it has {some}.")
        k = contigs.index(contig)
        if offsets is None:
            offsets = contig_offsets(methylome["contig"].values, len(contigs))
        positions = methylome["position"][offsets[k] : offsets[k + 1]].values
        end = np.iinfo(np.int64).max if wanted.end is None else wanted.end
        first, last = np.searchsorted(positions, [wanted.start, end])
        methylome = methylome.isel(site=slice(offsets[k] + int(first), offsets[k] + int(last)))
    if mark is not None:
        code = parse_mark(mark).code
        marks = methylome.attrs["marks"]
        if code not in marks:
            have = ", ".join(marks)
            raise MelismaError(f"The methylome has no mark {mark!r}; it has {have}.")
        if len(marks) > 1:
            keep = np.flatnonzero(methylome["mark"].values == marks.index(code))
            methylome = methylome.isel(site=keep)
    if region is not None or mark is not None:
        offsets = contig_offsets(methylome["contig"].values, len(methylome.attrs["contigs"]))
        methylome = methylome.assign_attrs(contig_offsets=offsets)
    return methylome


def single_mark(methylome: xr.Dataset, mark: str | None) -> xr.Dataset:
    """The sites of the one mark to analyse; several marks and no choice is an error."""
    marks = methylome.attrs["marks"]
    if mark is None and len(marks) > 1:
        raise MelismaError(
            f"The methylome holds several marks ({', '.join(marks)}): choose one with --mark."
        )
    return select(methylome, mark=mark or marks[0])


@dataclass(frozen=True)
class Block:
    """A stretch of sites in memory: site arrays (sites,), counts (sites, samples)."""

    start: int
    contig: npt.NDArray[np.int16]
    position: npt.NDArray[np.int32]
    strand: npt.NDArray[np.int8]
    context: npt.NDArray[np.int8]
    methylated: npt.NDArray[np.unsignedinteger[Any]]
    coverage: npt.NDArray[np.unsignedinteger[Any]]


def blocks(methylome: xr.Dataset, sites: int | None = None) -> Iterator[Block]:
    """Walk a methylome of counts in stretches of sites (default: one chunk), in order.

    Raises
    ------
    MelismaError
        The methylome holds levels without counts.
    """
    if "coverage" not in methylome:
        raise MelismaError(
            "This needs read counts, and the methylome holds only beta values (levels of arrays, "
            "matrices or bigWig): ingest files with counts for it."
        )
    step = sites or chunk_sites(methylome.sizes["sample"])
    for start in range(0, methylome.sizes["site"], step):
        part = methylome.isel(site=slice(start, start + step))
        arrays = {
            name: cast(Any, part[name].values)
            for name in ("contig", "position", "strand", "context", "methylated", "coverage")
        }
        yield Block(start=start, **arrays)

"""Walking a store's chunks: each stretch of sites with every chosen sample's values, samples first.

The next chunk is read while the one before it is written.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from melisma.export._reference import Reference
from melisma.export._rows import other_reads
from melisma.export._selection import Selection
from melisma.methylome import SITE_ARRAYS, chunk_sites, parse_mark


@dataclass(frozen=True)
class Stretch:
    """Sites in memory: site arrays (rows,), values (samples, rows).

    methylated, coverage, other : uint32; other marks' reads of the same base, (samples, 0) where
        the store has none
    beta : float32, NaN missing; counts or beta are there
    probe : names of array probes, None where the store has none
    row : the sites' numbers in the store
    letters : which two bases follow the cytosine (`Reference`), or None without a genome
    clashing : cells where the marks' reads exceed the coverage
    """

    contig: npt.NDArray[np.int16]
    position: npt.NDArray[np.int32]
    strand: npt.NDArray[np.int8]
    mark: npt.NDArray[np.int8]
    context: npt.NDArray[np.int8]
    probe: npt.NDArray[Any] | None
    row: npt.NDArray[np.int64]
    methylated: npt.NDArray[np.uint32] | None
    coverage: npt.NDArray[np.uint32] | None
    other: npt.NDArray[np.uint32] | None
    beta: npt.NDArray[np.float32] | None
    letters: npt.NDArray[np.uint8] | None
    clashing: int

    def __len__(self) -> int:
        return len(self.position)

    def counts(self, sample: int) -> tuple[npt.NDArray[np.uint32], ...]:
        """M, N and other marks' reads of one sample, (rows,) each."""
        assert self.methylated is not None
        assert self.coverage is not None
        assert self.other is not None
        return self.methylated[sample], self.coverage[sample], self.other[sample]

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which cells hold a value, (samples, rows)."""
        if self.coverage is not None:
            return self.coverage > 0
        assert self.beta is not None
        return ~np.isnan(self.beta)


Arrays = dict[str, npt.NDArray[Any]]


def walk(selection: Selection, reference: Reference | None = None) -> Iterator[Stretch]:
    """Every stretch of the selected sites, in order; empty ones are left out."""
    step = chunk_sites(selection.methylome.sizes["sample"])
    inner = range((selection.first // step + 1) * step, selection.last, step)
    bounds = [selection.first, *inner, selection.last]
    held: Arrays | None = None
    with ThreadPoolExecutor(1) as reader:
        spans = list(pairwise(bounds))
        coming: Future[Arrays] = reader.submit(_read, selection, *spans[0])
        for number, span in enumerate(spans):
            arrays = coming.result()
            if number + 1 < len(spans):
                coming = reader.submit(_read, selection, *spans[number + 1])
            if held is not None:
                arrays = {name: np.concatenate([held[name], arrays[name]]) for name in arrays}
                held = None
            if len(selection.methylome.attrs["marks"]) > 1 and span[1] < selection.last:
                arrays, held = _hold_last_position(arrays)
            if len(arrays["position"]):
                stretch = _stretch(selection, arrays, reference)
                if len(stretch):
                    yield stretch


def _read(selection: Selection, start: int, stop: int) -> Arrays:
    part = selection.methylome.isel(site=slice(start, stop))
    names = [n for n in (*SITE_ARRAYS, "probe", "methylated", "coverage", "beta") if n in part]
    rows = np.arange(start, stop, dtype=np.int64)
    return {"row": rows} | {name: cast(Any, part[name].values) for name in names}


def _hold_last_position(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """All but the last position, and that one: its other marks may stand in the next chunk."""
    same = np.ones(len(arrays["position"]), dtype=np.bool_)
    for name in ("contig", "position", "strand"):
        same &= arrays[name] == arrays[name][-1]
    cut = int(np.argmax(same))
    first = {name: array[:cut] for name, array in arrays.items()}
    return first, {name: array[cut:] for name, array in arrays.items()}


def _stretch(selection: Selection, arrays: Arrays, reference: Reference | None) -> Stretch:
    values: dict[str, Any] = {"methylated": None, "coverage": None, "other": None, "beta": None}
    for name in ("methylated", "coverage", "beta"):
        if name in arrays:
            dtype = np.float32 if name == "beta" else np.uint32
            chosen = arrays[name][:, selection.samples]
            values[name] = np.ascontiguousarray(chosen.T, dtype=dtype)
    clashing = 0
    if "coverage" in arrays:
        values["other"], clashing = _other(selection, arrays, values)
    sites = {name: arrays.get(name) for name in (*SITE_ARRAYS, "probe", "row")}
    kept = _kept(selection, arrays)
    if not kept.all():
        sites = {name: None if a is None else a[kept] for name, a in sites.items()}
        values = {
            name: a if a is None or not a.shape[1] else np.ascontiguousarray(a[:, kept])
            for name, a in values.items()
        }
    letters = None
    if reference is not None and kept.any():
        sites["strand"], sites["context"], letters = reference.complete(
            *(cast(Any, sites[name]) for name in SITE_ARRAYS)
        )
    return Stretch(**cast(Any, sites), **values, letters=letters, clashing=clashing)


def _kept(selection: Selection, arrays: Arrays) -> npt.NDArray[np.bool_]:
    kept = np.ones(len(arrays["position"]), dtype=np.bool_)
    if selection.mark is not None and len(selection.methylome.attrs["marks"]) > 1:
        kept &= arrays["mark"] == selection.mark
    if selection.contexts is not None:
        kept &= np.isin(arrays["context"], selection.contexts)
    return kept


def _other(selection: Selection, arrays: Arrays, values: Arrays) -> tuple[Any, int]:
    """Other marks' reads at each site, (samples, rows), and the cells where they exceed N - M."""
    samples, rows = values["coverage"].shape
    bases = [parse_mark(code).base for code in selection.methylome.attrs["marks"]]
    if len(set(bases)) == len(bases):
        return np.empty((samples, 0), dtype=np.uint32), 0
    base = np.array([ord(letter) for letter in bases], dtype=np.int8)[arrays["mark"]]
    other, clashing = np.empty((samples, rows), dtype=np.uint32), 0
    sites = (arrays["contig"], arrays["position"], arrays["strand"], base)
    for k in range(samples):
        counts = (values["methylated"][k], values["coverage"][k])
        clashing += int(other_reads(*sites, *counts, other[k]))
    return other, clashing

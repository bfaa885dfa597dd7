"""A methylome in stretches of neighbouring sites: read by whole chunks, searched in threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma.differential._engine import Engine
from melisma.differential._kernels import Floats
from melisma.methylome import chunk_sites, contig_offsets

# A stretch of about this many sites is searched at once, cut at the widest gap near its end.
_STRETCH = 32_768
_CUT_WITHIN = 4_096

Found = TypeVar("Found")
Counts = npt.NDArray[np.unsignedinteger]


class Stretch(NamedTuple):
    """Counts of the samples over neighbouring sites of one contig, or of the units once pooled."""

    first: int
    position: npt.NDArray[np.int64]
    methylated: Floats
    coverage: Floats


def spans_of(methylome: xr.Dataset) -> list[tuple[int, int]]:
    """[start, end) of every stretch; they depend on positions only, not on how a store is cut."""
    offsets = contig_offsets(methylome["contig"].values, len(methylome.attrs["contigs"]))
    position = methylome["position"].values
    cuts = []
    for begin, stop in pairwise(offsets):
        start = begin
        while start < stop:
            end = min(start + _STRETCH, stop)
            if end < stop:
                look = position[end - _CUT_WITHIN : end + 1]
                end = end - _CUT_WITHIN + 1 + int(np.argmax(np.diff(look)))
            cuts.append((start, end))
            start = end
    return cuts


class _Held:
    """The chunks that the stretches still need, each read from the store once."""

    def __init__(self, methylome: xr.Dataset) -> None:
        self.methylome = methylome
        self.parts: deque[tuple[int, npt.NDArray[np.int64], Counts, Counts]] = deque()

    def stretch(self, start: int, end: int) -> Stretch:
        """Positions and counts of the sites [start, end), which may span chunks."""
        while self.parts and self.parts[0][0] + len(self.parts[0][1]) <= start:
            self.parts.popleft()
        if not self.parts:
            self._read(start)
        while self.parts[-1][0] + len(self.parts[-1][1]) < end:
            self._read(self.parts[-1][0] + len(self.parts[-1][1]))
        pieces = [
            tuple(array[max(start - first, 0) : end - first] for array in arrays)
            for first, *arrays in self.parts
            if first < end
        ]
        position, methylated, coverage = (
            column[0] if len(column) == 1 else np.concatenate(column)
            for column in zip(*pieces, strict=True)
        )
        return Stretch(start, position, methylated, coverage)

    def _read(self, site: int) -> None:
        """Read the chunk that holds a site."""
        step = chunk_sites(self.methylome.sizes["sample"])
        first = site // step * step
        part = self.methylome[["position", "methylated", "coverage"]].isel(
            site=slice(first, first + step)
        )
        self.parts.append(
            (
                first,
                part["position"].values.astype(np.int64),
                part["methylated"].values,
                part["coverage"].values,
            )
        )


def map_stretches(
    methylome: xr.Dataset,
    engine: Engine,
    work: Callable[[Stretch], Found],
    *,
    every: int = 1,
) -> Iterator[Found]:
    """Apply `work` to the stretches of the units' counts in threads; results come in order.

    every : take each k-th stretch
    """
    spans = spans_of(methylome)[::every]
    return map_spans(methylome, engine, lambda stretch, _: work(stretch), spans)


def map_spans(
    methylome: xr.Dataset,
    engine: Engine | None,
    work: Callable[[Stretch, int], Found],
    spans: Sequence[tuple[int, int]],
) -> Iterator[Found]:
    """Apply `work` to spans of sites [start, end) and their number, starts in order, as above.

    A few spans more than there are threads are held at once. Without an engine the counts are the
    samples'.
    """
    workers = os.cpu_count() or 1
    held = _Held(methylome)

    def pooled(stretch: Stretch, k: int) -> Found:
        if engine is None:
            return work(stretch, k)
        counts = engine.pool(stretch.methylated, stretch.coverage)
        return work(Stretch(stretch.first, stretch.position, *counts), k)

    waiting: deque[Future[Found]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for k, (start, end) in enumerate(spans):
            waiting.append(pool.submit(pooled, held.stretch(start, end), k))
            if len(waiting) > workers + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

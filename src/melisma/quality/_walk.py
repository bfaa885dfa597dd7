"""Walk a methylome of counts or of levels in stretches of sites that fit in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma.methylome import blocks, chunk_sites

Integers = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.floating[Any]]
_CELLS = 2_000_000


@dataclass(frozen=True)
class Stretch:
    """Sites in memory: site arrays (sites,), values (sites, samples); level NaN: not seen.

    `methylated` and `coverage` are None where the methylome holds levels without counts.
    """

    contig: Integers
    position: Integers
    strand: Integers
    context: Integers
    level: npt.NDArray[np.float32]
    methylated: Integers | None
    coverage: Integers | None


def stretches(methylome: xr.Dataset, sites: int | None = None) -> Iterator[Stretch]:
    """The methylome's sites in order, about two million cells at a time.

    `sites` are read at once (default: one chunk).
    """
    step = max(1, _CELLS // max(methylome.sizes["sample"], 1))
    for whole in _read(methylome, sites):
        for start in range(0, len(whole.position), step):
            yield _part(whole, slice(start, start + step))


class _Values(NamedTuple):
    contig: Integers
    position: Integers
    strand: Integers
    context: Integers
    beta: Floats | None
    methylated: Integers | None
    coverage: Integers | None


def _read(methylome: xr.Dataset, sites: int | None) -> Iterator[_Values]:
    if "beta" not in methylome:
        for b in blocks(methylome, sites):
            yield _Values(b.contig, b.position, b.strand, b.context, None, b.methylated, b.coverage)
        return
    step = sites or chunk_sites(methylome.sizes["sample"])
    for start in range(0, methylome.sizes["site"], step):
        read = methylome.isel(site=slice(start, start + step))
        contig, position, strand, context, beta = (
            cast(Any, read[name].values)
            for name in ("contig", "position", "strand", "context", "beta")
        )
        yield _Values(contig, position, strand, context, beta, None, None)


def _part(whole: _Values, rows: slice) -> Stretch:
    contig, position, strand, context = (column[rows] for column in whole[:4])
    if whole.methylated is None or whole.coverage is None:
        assert whole.beta is not None
        return Stretch(
            contig, position, strand, context, whole.beta[rows].astype(np.float32), None, None
        )
    methylated, coverage = whole.methylated[rows], whole.coverage[rows]
    seen = np.where(coverage > 0, coverage, np.nan).astype(np.float32)
    return Stretch(
        contig,
        position,
        strand,
        context,
        methylated.astype(np.float32) / seen,
        methylated,
        coverage,
    )

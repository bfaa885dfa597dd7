"""A matrix of levels as TSV: probes or positions down, samples across; missing is NA."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from melisma.export._bgzf import TextFile
from melisma.export._format import ExportFormat
from melisma.export._reference import Reference
from melisma.export._selection import Selection
from melisma.export._walk import Stretch, walk

MATRIX = ExportFormat(
    "matrix", "A matrix of levels", "matrix.tsv", "matrix", levels=True, strands=True
)
_SIGNS = ("-", ".", "+")


def write_matrix(
    selection: Selection,
    path: Path,
    *,
    reference: Reference | None,
    bgzip: bool,
    advance: Callable[[float], Any],
) -> list[int]:
    """Write the matrix; returns how many levels each sample has.

    Positions are 1-based, under the header `pos`, as tools that take such a table have them; a
    store of probes is written by probe.
    """
    out = TextFile(path, bgzip=bgzip)
    found = np.zeros(len(selection.samples), dtype=np.int64)
    signs = _has_strands(selection, reference)
    header = True
    for stretch in walk(selection, reference):
        seen = stretch.seen
        levels = stretch.beta
        if levels is None:
            assert stretch.methylated is not None
            assert stretch.coverage is not None
            levels = np.full(seen.shape, np.nan, dtype=np.float32)
            np.divide(
                stretch.methylated, stretch.coverage, out=levels, where=seen, casting="unsafe"
            )
        found += seen.sum(axis=1)
        names = _site_columns(selection, stretch, signs=signs)
        table = pl.DataFrame(
            names
            + [
                pl.Series(name, levels[k], nan_to_null=True)
                for k, name in enumerate(selection.names)
            ]
        )
        text = table.write_csv(separator="\t", null_value="NA", include_header=header)
        out.append(text.encode())
        header = False
        advance(len(stretch))
    out.finish()
    return [int(n) for n in found]


def _has_strands(selection: Selection, reference: Reference | None) -> bool:
    strands = selection.methylome.attrs["strands"]
    return strands == "separate" or (strands == "unknown" and reference is not None)


def _site_columns(selection: Selection, stretch: Stretch, *, signs: bool) -> list[pl.Series]:
    if stretch.probe is not None:
        return [pl.Series("probe", stretch.probe.tolist(), pl.String)]
    contigs = pl.Series("chr", selection.methylome.attrs["contigs"], pl.String)
    columns = [
        contigs.gather(stretch.contig.astype(np.uint32)),
        pl.Series("pos", stretch.position.astype(np.int64) + 1),
    ]
    if signs:
        words = pl.Series("strand", _SIGNS)
        columns.append(words.gather((stretch.strand + 1).astype(np.uint32)))
    return columns

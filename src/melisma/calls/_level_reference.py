"""Positions of levels against the genome: the reading of the base decided, strands, contexts."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.calls._manifest import Manifest
from melisma.calls._matrix_values import Piece
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts
from melisma.methylome import CONTEXTS

_WINDOW = 1 << 19
_FLANK = 2
_FITS = 0.9
_CG = CONTEXTS.index("CG")
# Fewer minus-strand positions than this are variants, not strands kept apart.
_FEW = 0.01


def contig_in(genome: Genome, contig: str) -> str:
    """The genome's name of a contig: as given, or with or without chr."""
    other = contig.removeprefix("chr") if contig.startswith("chr") else f"chr{contig}"
    if contig not in genome.lengths and other in genome.lengths:
        return other
    genome.length(contig)
    return contig


def fit_positions(
    piece: Piece, rows: pl.DataFrame, genome: Genome, *, manifest: Manifest | None = None
) -> pl.DataFrame:
    """Rows with 0-based positions and the genome's contig names, checked against its bases.

    Raises
    ------
    MelismaError
        No reading puts nine in ten positions on a CG, or not the one that was asked for.
    """
    names = {name: contig_in(genome, name) for name in rows["contig"].unique()}
    rows = rows.with_columns(pl.col("contig").replace_strict(names))
    tested = rows.filter(pl.col("probe").str.starts_with("cg")) if manifest is not None else rows
    tested = tested if tested.height else rows
    source, expected = (manifest.path, 0) if manifest is not None else (piece.path, piece.base or 0)
    on_c, on_g = {}, {}
    for base in (0, 1):
        on_c[base], on_g[base] = _on_cg(genome, tested, base)
    # One too high puts each C of a CG on its G, so C decides where both are on a CG.
    best = max((0, 1), key=lambda base: (on_c[base] + on_g[base] > _FITS, on_c[base]))
    share = on_c[best] + on_g[best]
    if share <= _FITS:
        raise MelismaError(
            f"{source}: {share:.0%} of its positions are on a CG of genome {genome.name}, and "
            "nearly all should be: give the genome build that the positions are of."
        )
    if best != expected and (piece.chosen or manifest is not None):
        raise MelismaError(
            f"{source}: positions look one off the reading that was taken: {on_c[expected]:.0%} "
            f"are on the C of a CG of genome {genome.name}, and {on_c[best]:.0%} if each were "
            f"moved by {expected - best:+d}; correct the file"
            + (f", or pass --format matrix-{best}." if manifest is None else ".")
        )
    if manifest is None:
        progress.note(
            f"{piece.path}: positions were read as {best}-based: {share:.0%} are then on a CG of "
            f"genome {genome.name}"
            + ("." if best == expected else f" (the header alone would be {expected}-based).")
        )
        rows = rows.with_columns(pl.col("position") - best)
    separate = on_g[best] > _FEW
    return rows if manifest is not None or not separate else _with_strands(genome, rows)


def site_contexts(genome: Genome, sites: pl.DataFrame) -> npt.NDArray[np.int8]:
    """Context of each site, sorted by contig and position; strand 0 is taken from the base."""
    found = np.empty(sites.height, dtype=np.int8)
    for take, bases, position in _windows(genome, sites):
        strand = sites["strand"].to_numpy()[take].astype(np.int8)
        found[take] = contexts(bases, position, strand)
    return found


def _on_cg(genome: Genome, rows: pl.DataFrame, base: int) -> tuple[float, float]:
    """Shares of positions on the C and on the G of a CG."""
    on_c = on_g = 0
    moved = rows.select("contig", pl.col("position") - base)
    for _, bases, position in _windows(genome, moved, outside=True):
        plus, minus = np.int8(1), np.int8(-1)
        on_c += int((contexts(bases, position, np.full(len(position), plus)) == _CG).sum())
        on_g += int((contexts(bases, position, np.full(len(position), minus)) == _CG).sum())
    return on_c / rows.height, on_g / rows.height


def _with_strands(genome: Genome, rows: pl.DataFrame) -> pl.DataFrame:
    strand = rows["strand"].to_numpy().astype(np.int8).copy()
    for take, bases, position in _windows(genome, rows):
        at = bases[position]
        strand[take] = np.where(at == ord("C"), 1, np.where(at == ord("G"), -1, 0))
    return rows.with_columns(pl.Series("strand", strand))


def _windows(
    genome: Genome, rows: pl.DataFrame, *, outside: bool = False
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Rows by stretches of a contig: row numbers, its bases, positions inside them.

    `outside` leaves out positions that the contig does not have; else they are an error.
    """
    numbered = rows.select("contig", "position").with_row_index("row")
    for (name,), part in numbered.group_by("contig", maintain_order=True):
        contig = str(name)
        length = genome.lengths[contig]
        position = part["position"].to_numpy().astype(np.int64)
        row = part["row"].to_numpy().astype(np.int64)
        order = np.argsort(position, kind="stable")
        position, row = position[order], row[order]
        inside = (position >= 0) & (position < length)
        if not inside.all() and not outside:
            raise MelismaError(
                f"The position {contig}:{position[~inside][0]} is not in genome {genome.name}, "
                f"whose {contig} has {length:,} bases: give the genome build of the positions."
            )
        position, row = position[inside], row[inside]
        first = 0
        while first < len(position):
            start = max(0, int(position[first]) - _FLANK)
            last = int(np.searchsorted(position, start + _WINDOW - _FLANK))
            bases = genome.bases(contig, start, min(start + _WINDOW, length))
            yield row[first:last], bases, position[first:last] - start
            first = last

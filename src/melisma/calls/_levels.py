"""Levels without counts, of matrices and arrays, into one store of (sites, samples).

Each file's values lie in a flat file (a `Piece`). Here its rows are given a place, by the
manifest, the position columns or the probe's name alone; the pieces' sites are united and sorted,
and the values gathered a stretch of sites at a time.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.calls._level_reference import contig_in, fit_positions, site_contexts
from melisma.calls._manifest import Manifest, place, unplaced
from melisma.calls._matrix_values import Piece
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import CONTEXTS, UNKNOWN_CONTEXT, Writer, chunk_sites, natural_order

# Cells gathered at a time: 128 MB of float32.
_CELLS = 1 << 25
_KEY = ["contig", "position", "strand"]


class _Placed(NamedTuple):
    """A piece and its rows' sites: `row`, contig, position (0-based), strand and probe."""

    piece: Piece
    rows: pl.DataFrame
    drops: dict[str, int]


class LevelSummary(NamedTuple):
    """What writing levels found, for the store's attributes: each (samples,) in the sheet's order.

    rows : values that the file has for the sample; drops : those left out, by reason
    """

    rows: list[int]
    drops: list[dict[str, int]]


def write_levels(
    out: Path,
    sheet: dict[str, list[Any]],
    pieces: Sequence[Piece],
    *,
    manifest: Manifest | None,
    genome: Genome | None,
    mark: str,
    attrs: Callable[[LevelSummary], Mapping[str, Any]],
    advance: Callable[[float], Any],
) -> int:
    """Join pieces into a store of levels; returns how many sites it has.

    Parameters
    ----------
    sheet : the sample sheet's columns; every sample is in one piece
    attrs : the store's attributes, from what was found

    Raises
    ------
    MelismaError
        The pieces mix probes and positions, or do not fit the manifest or the genome.
    """
    placed = [_place(piece, manifest, genome) for piece in pieces]
    by_name = manifest is None and "probe" in pieces[0].sites.columns
    for piece in pieces:
        if manifest is None and ("probe" in piece.sites.columns) != by_name:
            raise MelismaError(
                f"{pieces[0].path} and {piece.path} have probes in one and positions in the other: "
                "pass --manifest, which gives the probes positions, or ingest them apart."
            )
    sites, contigs = _united(placed, genome)
    probes = "probe" in sites.columns
    numbers = [_site_rows(each, sites, by_name=by_name) for each in placed]
    _say_averaged(numbers)
    samples = [str(name) for name in sheet["sample"]]
    summary = _summary(placed, samples, numbers)
    context = _contexts(sites, contigs, genome)
    strand = sites["strand"].to_numpy().astype(np.int8)
    with Writer(
        out,
        samples=sheet,
        contigs=contigs,
        marks=[mark],
        strands=_strands(sites, genome, probes=probes and not by_name),
        values={"beta": np.float32},
        attrs=attrs(summary),
        probes=probes,
    ) as writer:
        step = max(chunk_sites(len(samples)), _CELLS // len(samples))
        for start in range(0, sites.height, step):
            stop = min(start + step, sites.height)
            part = sites[start:stop]
            block = {
                "contig": part["index"].to_numpy().astype(np.int16),
                "position": part["position"].to_numpy().astype(np.int32),
                "strand": strand[start:stop],
                "mark": np.zeros(stop - start, dtype=np.int8),
                "context": context[start:stop],
                "beta": _gathered(placed, numbers, samples, start, stop),
            }
            writer.append(block | ({"probe": part["probe"].to_numpy()} if probes else {}))
            advance((stop - start) * len(samples))
    return sites.height


def _place(piece: Piece, manifest: Manifest | None, genome: Genome | None) -> _Placed:
    if "probe" not in piece.sites.columns:
        rows = piece.sites.with_row_index("row")
        rows = fit_positions(piece, rows, genome) if genome else _by_header(piece, rows)
        return _Placed(piece, rows, {})
    names = piece.sites["probe"].to_list()
    rows, drops = unplaced(names) if manifest is None else place(manifest, names, piece.path)
    if not rows.height:
        raise MelismaError(f"{piece.path} has no methylation probe that has a place.")
    rows = rows.with_columns(pl.lit(0, pl.Int8).alias("strand"))
    if genome is not None and manifest is not None:
        rows = fit_positions(piece, rows, genome, manifest=manifest)
    return _Placed(piece, rows, drops)


def _by_header(piece: Piece, rows: pl.DataFrame) -> pl.DataFrame:
    progress.note(
        f"{piece.path}: positions were read as {piece.base}-based, as {piece.reason}."
        if not piece.chosen
        else f"{piece.path}: positions were read as {piece.base}-based."
    )
    if int(rows["position"].min() or 0) < (piece.base or 0):  # type: ignore[arg-type]
        raise MelismaError(
            f"{piece.path} has a position of {rows['position'].min()} and was read as "
            f"{piece.base}-based: name the true reading with --format matrix-0 or matrix-1."
        )
    return rows.with_columns(pl.col("position") - (piece.base or 0))


def _united(placed: Sequence[_Placed], genome: Genome | None) -> tuple[pl.DataFrame, list[str]]:
    """All sites, sorted, with `index` of their contig; and the contigs in order."""
    probes = any("probe" in each.rows.columns for each in placed)
    parts = []
    for each in placed:
        columns = [*_KEY, *(["probe"] if probes and "probe" in each.rows.columns else [])]
        part = each.rows.select(columns)
        if probes and "probe" not in part.columns:
            part = part.with_columns(pl.lit("").alias("probe"))
        parts.append(part)
    sites = pl.concat(parts)
    if probes and sites["contig"].null_count():
        sites = sites.unique("probe").sort("probe")
        return sites.with_columns(pl.lit(-1, pl.Int16).alias("index")), []
    if probes:
        named = pl.col("probe").filter(pl.col("probe") != "").min()
        sites = sites.group_by(_KEY).agg(named.fill_null("").alias("probe"))
    else:
        sites = sites.unique(_KEY)
    found = set(sites["contig"].unique())
    order = (
        [contig for contig in genome.contigs if contig in found]
        if genome
        else natural_order(sorted(found))
    )
    index = pl.col("contig").replace_strict(
        {name: k for k, name in enumerate(order)}, return_dtype=pl.Int16
    )
    sites = sites.with_columns(index.alias("index")).sort("index", "position", "strand")
    return sites, order


def _site_rows(
    each: _Placed, sites: pl.DataFrame, *, by_name: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Site numbers, sorted, and the piece's row of each: several rows a site are averaged."""
    key = ["probe"] if by_name else _KEY
    joined = each.rows.select(*key, "row").join(
        sites.with_row_index("site").select(*key, "site"), on=key, how="inner"
    )
    joined = joined.sort("site", "row")
    return joined["site"].to_numpy().astype(np.int64), joined["row"].to_numpy().astype(np.int64)


def _say_averaged(numbers: Sequence[tuple[npt.NDArray[np.int64], Any]]) -> None:
    for site, _ in numbers:
        extra = len(site) - len(np.unique(site))
        if extra:
            shared = len(np.unique(site[1:][np.diff(site) == 0]))
            progress.note(
                f"{shared:,} CpGs are read by several probes ({shared + extra:,} in all): their "
                "levels were averaged."
            )
            return


def _summary(
    placed: Sequence[_Placed],
    samples: Sequence[str],
    numbers: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
) -> LevelSummary:
    rows, drops = dict.fromkeys(samples, 0), {name: dict[str, int]() for name in samples}
    for each, (site, _) in zip(placed, numbers, strict=True):
        averaged = len(site) - len(np.unique(site))
        for name in each.piece.samples:
            rows[name] = each.piece.sites.height
            drops[name] = each.drops | (
                {"averaged with another probe of the CpG": averaged} if averaged else {}
            )
    return LevelSummary([rows[name] for name in samples], [drops[name] for name in samples])


def _gathered(
    placed: Sequence[_Placed],
    numbers: Sequence[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]],
    samples: Sequence[str],
    start: int,
    stop: int,
) -> npt.NDArray[np.float32]:
    """Levels of sites start:stop, (sites, samples), NaN missing."""
    beta = np.full((stop - start, len(samples)), np.nan, dtype=np.float32)
    column = {name: k for k, name in enumerate(samples)}
    for each, (site, row) in zip(placed, numbers, strict=True):
        first, last = np.searchsorted(site, [start, stop])
        here, values = site[first:last] - start, each.piece.take(row[first:last])
        if not len(here):
            continue
        if (np.diff(here) == 0).any():
            here, values = _averaged(here, values)
        beta[here[:, None], [column[name] for name in each.piece.samples]] = values
    return beta


def _averaged(
    site: npt.NDArray[np.int64], values: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The mean over the rows of each site, of those that are not missing."""
    starts = np.flatnonzero(np.diff(site, prepend=-1))
    known = ~np.isnan(values)
    total = np.add.reduceat(np.where(known, values, 0), starts, axis=0, dtype=np.float64)
    count = np.add.reduceat(known, starts, axis=0, dtype=np.int64)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return site[starts], mean.astype(np.float32)


def _contexts(
    sites: pl.DataFrame, contigs: Sequence[str], genome: Genome | None
) -> npt.NDArray[np.int8]:
    """From the genome; without one, probes named cg are CG."""
    if genome is not None and contigs:
        return site_contexts(genome, sites)
    if "probe" not in sites.columns:
        return np.full(sites.height, UNKNOWN_CONTEXT, dtype=np.int8)
    cpg = sites["probe"].str.starts_with("cg").to_numpy()
    return np.where(cpg, CONTEXTS.index("CG"), UNKNOWN_CONTEXT).astype(np.int8)


def _strands(sites: pl.DataFrame, genome: Genome | None, *, probes: bool) -> str:
    """A probe's level is its CpG's, whatever strand the probe is designed on: merged."""
    if (sites["strand"] != 0).any():
        return "separate"
    return "merged" if probes or genome is not None else "unknown"


__all__ = ["LevelSummary", "contig_in", "write_levels"]

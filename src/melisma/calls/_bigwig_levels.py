"""Levels of bigWig tracks, joined a stretch of a contig at a time into one store."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma import progress
from melisma.calls._level_reference import contig_in
from melisma.calls.bigwig import Track, level_stretches
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts, strand_of_base
from melisma.methylome import CONTEXTS, UNKNOWN_CONTEXT, Writer, natural_order

_FLANK = 2
_MOST_OFF = 0.05
# Of fewer sites than this, all may be on one strand by chance.
_FEW_SITES = 20
_CG = CONTEXTS.index("CG")


def write_bigwig_levels(
    out: Path,
    sheet: dict[str, list[Any]],
    files: Sequence[Path],
    *,
    genome: Genome | None,
    mark: str,
    attrs: Mapping[str, Any],
    advance: Callable[[float], Any],
) -> int:
    """Write the store; returns its sites. `files` are the samples' tracks, in the sheet's order.

    Raises
    ------
    MelismaError
        A track is at fault, tracks differ in their values' width, or the genome does not fit.
    """
    tracks = [Track(path) for path in files]
    _check_widths(tracks, genome)
    contigs = _contigs(tracks, genome)
    merged = tracks[0].width == 2
    strands = "merged" if merged else "separate" if genome is not None else "unknown"
    seen = off = sites = minus = known = 0
    with Writer(
        out,
        samples=sheet,
        contigs=list(contigs),
        marks=[mark],
        strands=strands,
        values={"beta": np.float32},
        attrs=attrs,
    ) as writer:
        for index, (contig, named) in enumerate(contigs.items()):
            for position, beta in level_stretches(tracks, named):
                context = np.full(len(position), UNKNOWN_CONTEXT, dtype=np.int8)
                strand = np.zeros(len(position), dtype=np.int8)
                if genome is not None:
                    keep, strand, context = _against(genome, contig, position, merged=merged)
                    seen, off = seen + len(keep), off + int((~keep).sum())
                    position, beta = position[keep], beta[keep]
                writer.append(
                    {
                        "contig": np.full(len(position), index, dtype=np.int16),
                        "position": position.astype(np.int32),
                        "strand": strand,
                        "mark": np.zeros(len(position), dtype=np.int8),
                        "context": context,
                        "beta": beta,
                    }
                )
                sites += len(position)
                minus += int((strand < 0).sum())
                known += int(np.count_nonzero(~np.isnan(beta)))
            advance(1)
        if genome is not None and off > _MOST_OFF * seen:
            where = "the C of a CG" if merged else "a C or G"
            raise MelismaError(
                f"{_named(files)}: {off / seen:.1%} of their sites are not on {where} of "
                f"genome {genome.name}: give the genome build that the tracks were made on."
            )
        if not known:
            raise MelismaError(f"{_named(files)}: it holds no level: every value is NaN.")
    if sites >= _FEW_SITES and minus == sites:
        progress.note(
            f"{_named(files)}: all {sites:,} sites are on a G of genome {genome and genome.name}: "
            "unless the tracks are of the - strand alone, their positions are one too high."
        )
    if off:
        progress.note(
            f"{off:,} sites are not on a base that can carry the mark: they were left out."
        )
    return sites


def _named(files: Sequence[Path]) -> str:
    """The first track, and how many others there are."""
    return str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def _check_widths(tracks: Sequence[Track], genome: Genome | None) -> None:
    for track in tracks:
        if track.width != tracks[0].width:
            raise MelismaError(
                f"{tracks[0].path} has a value each {tracks[0].width} bases and {track.path} each "
                f"{track.width}: write them alike."
            )
    if tracks[0].width == 2 and genome is None:
        raise MelismaError(
            f"{tracks[0].path} has a value each 2 bases, as of whole CpGs: pass --genome, which "
            "shows that they are, or write a value a base."
        )


def _contigs(tracks: Sequence[Track], genome: Genome | None) -> dict[str, str]:
    """The store's contigs, in order, and what the tracks call them."""
    found = list(dict.fromkeys(name for track in tracks for name in track.contigs))
    for name in found:
        if f"chr{name}" in found:
            raise MelismaError(
                f"Some tracks name a contig {name!r} and others 'chr{name}': write them alike."
            )
    if genome is None:
        return {name: name for name in natural_order(found)}
    named = {contig_in(genome, name): name for name in found}
    for track in tracks:
        for name, length in track.contigs.items():
            contig = contig_in(genome, name)
            if length != genome.lengths[contig]:
                raise MelismaError(
                    f"{track.path} was made on a {name} of {length:,} bases, and genome "
                    f"{genome.name} has {genome.lengths[contig]:,}: give the genome build of the "
                    "tracks."
                )
    return {contig: named[contig] for contig in genome.contigs if contig in named}


def _against(
    genome: Genome, contig: str, position: npt.NDArray[np.int64], *, merged: bool
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Which sites lie on a base that can carry the mark, and strand and context of those."""
    length = genome.lengths[contig]
    inside = position < length
    start = max(0, int(position[0]) - _FLANK)
    bases = genome.bases(contig, min(start, length), min(int(position[-1]) + _FLANK + 1, length))
    at = np.where(inside, position - start, 0)
    strand = strand_of_base(bases, at) if len(bases) else np.zeros(len(at), dtype=np.int8)
    context = contexts(bases, at, strand) if len(bases) else np.zeros(len(at), dtype=np.int8)
    keep = inside & ((strand == 1) & (context == _CG) if merged else strand != 0)
    strand = np.zeros(len(at), dtype=np.int8) if merged else strand
    return keep, strand[keep].astype(np.int8), context[keep]

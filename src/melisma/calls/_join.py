"""Many samples' sorted calls into one store of (sites, samples), a stretch at a time."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma import _contigs, progress
from melisma.calls._kernels import join_samples
from melisma.calls._records import unpack_key
from melisma.calls._sample import SampleCalls
from melisma.calls._spool import CALL_BYTES, FRAME_CALLS, Calls
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts
from melisma.methylome import (
    MARKS,
    SITE_DTYPES,
    UNKNOWN_CONTEXT,
    Writer,
    chunk_sites,
    natural_order,
)

# Memory for the samples' read buffers together, bytes.
_BUFFER_BYTES = 64 << 20
# Bases fetched at a time, below what the genome would keep in memory as a whole contig.
_WINDOW = 1 << 19
_FLANK = 2
_MOST_NAMED = 3

Block = dict[str, npt.NDArray[Any]]


def join_order(samples: Sequence[SampleCalls], genome: Genome | None) -> list[str]:
    """The contigs that any sample has, in the genome's order, else in natural order."""
    found = {contig for sample in samples for contig in sample.contigs}
    most = np.iinfo(SITE_DTYPES["contig"]).max
    if len(found) > most:
        raise MelismaError(
            f"The samples have calls on {len(found):,} contigs, and a store holds up to {most:,}: "
            "keep the contigs of the assembly that matter."
        )
    if genome is None:
        return natural_order(sorted(found))
    return [contig for contig in genome.contigs if contig in found]


def name_alike(
    names: Sequence[str], samples: Sequence[SampleCalls], known: Collection[str] = ()
) -> list[SampleCalls]:
    """The samples, with the contigs that they name differently called by one name; says so.

    Parameters
    ----------
    names, samples : the samples and their calls
    known : names that win: a store's, or a genome's; without them the first sample's do
    """
    mappings = _contigs.align([sample.contigs for sample in samples], known)
    renamed = [sample.renamed(m) for sample, m in zip(samples, mappings, strict=True)]
    alike: dict[str, list[str]] = {}
    for name, sample in zip(names, renamed, strict=True):
        if sample.aliases:
            alike.setdefault(_contigs.describe(sample.aliases), []).append(name)
    for words, who in alike.items():
        shown = ", ".join(who[:_MOST_NAMED])
        more = f" and {len(who) - _MOST_NAMED:,} more" if len(who) > _MOST_NAMED else ""
        plural = "s" if len(who) > 1 else ""
        progress.note(f"Contigs renamed in sample{plural} {shown}{more}: {words}.")
    return renamed


def check_agreement(names: Sequence[str], samples: Sequence[SampleCalls]) -> str:
    """What the samples' strands are, the same in all of them.

    Raises
    ------
    MelismaError
        Two samples name a chromosome differently and `name_alike` could not tell that they mean
        the same (accessions of two assemblies), or they disagree on strands.
    """
    found = _contigs.conflict([sample.contigs for sample in samples])
    if found is not None:
        first, second = found
        one = next(n for n, s in zip(names, samples, strict=True) if first in s.contigs)
        two = next(n for n, s in zip(names, samples, strict=True) if second in s.contigs)
        why = (
            "rename the contigs so that all samples agree"
            if _contigs.same_assembly(first, second)
            else "these are two genome builds, so bring the calls to one, or ingest them apart"
        )
        raise MelismaError(
            f"Sample {one} names a contig {first!r} and sample {two} names it {second!r}: {why}."
        )
    for name, sample in zip(names, samples, strict=True):
        if sample.strands != samples[0].strands:
            raise MelismaError(
                f"Sample {names[0]} has strands {samples[0].strands!r} and sample {name} "
                f"{sample.strands!r}: ingest them with --genome and --merge-strands, or apart."
            )
    return samples[0].strands


def write_joined(
    out: Path,
    sheet: dict[str, list[Any]],
    samples: Sequence[SampleCalls],
    *,
    strands: str,
    genome: Genome | None,
    attrs: dict[str, Any],
    advance: Callable[[float], Any],
) -> int:
    """Write the store; returns how many sites it has."""
    contigs = join_order(samples, genome)
    present = [k for k in range(len(MARKS)) if any(sample.marks >> k & 1 for sample in samples)]
    largest = max(sample.largest for sample in samples)
    dtype = np.dtype(np.uint16 if largest <= np.iinfo(np.uint16).max else np.uint32)
    mark_index = np.zeros(len(MARKS), dtype=np.int8)
    mark_index[present] = np.arange(len(present))
    sites = 0
    with Writer(
        out,
        samples=sheet,
        contigs=contigs,
        marks=[MARKS[k].code for k in present],
        strands=strands,
        values={"methylated": dtype, "coverage": dtype},
        attrs=attrs,
    ) as writer:
        for index, contig in enumerate(contigs):
            for key, context, methylated, coverage in _joined(contig, samples, dtype, advance):
                position, strand, mark = unpack_key(key)
                if genome is not None:
                    context = _contexts(genome, contig, position, strand)
                writer.append(
                    {
                        "contig": np.full(len(key), index, dtype=np.int16),
                        "position": position,
                        "strand": strand,
                        "mark": mark_index[mark],
                        "context": context,
                        "methylated": methylated,
                        "coverage": coverage,
                    }
                )
                sites += len(key)
    return sites


def _joined(
    contig: str,
    samples: Sequence[SampleCalls],
    dtype: npt.DTypeLike,
    advance: Callable[[float], Any],
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """One contig's sites in stretches: key, context (sites,), M and N (sites, samples)."""
    n, block = len(samples), chunk_sites(len(samples))
    buffers = _Buffers(contig, samples)
    while True:
        out = (
            np.empty(block, dtype=np.int64),
            np.empty(block, dtype=np.int8),
            np.empty((block, n), dtype=dtype),
            np.empty((block, n), dtype=dtype),
        )
        rows = 0
        while rows < block:
            advance(buffers.refill())
            got = buffers.join(tuple(array[rows:] for array in out))
            if not got:
                break
            rows += got
        if rows:
            yield tuple(array[:rows] for array in out)
        if rows < block:
            return


class _Buffers:
    """The next calls of every sample on one contig."""

    def __init__(self, contig: str, samples: Sequence[SampleCalls]) -> None:
        self._contig, self._samples = contig, samples
        n = len(samples)
        total = [stop - start for start, stop in (s.contigs.get(contig, (0, 0)) for s in samples)]
        # Whole frames, as part of one costs as much to read.
        frames = _BUFFER_BYTES // (n * CALL_BYTES * FRAME_CALLS)
        size = max(1, frames) * FRAME_CALLS
        size = max(1, min(size, max(total)))
        has_context = any(sample.context for sample in samples)
        self._key = np.empty((n, size), dtype=np.int64)
        self._methylated = np.empty((n, size), dtype=np.uint32)
        self._coverage = np.empty((n, size), dtype=np.uint32)
        self._context = np.full((n, size if has_context else 0), UNKNOWN_CONTEXT, dtype=np.int8)
        self._total = np.array(total, dtype=np.int64)
        self._read = np.zeros(n, dtype=np.int64)
        self._head = np.zeros(n, dtype=np.int64)
        self._filled = np.zeros(n, dtype=np.int64)

    def refill(self) -> int:
        """Read on in the samples whose buffer is used up; returns the calls read."""
        wanted = np.flatnonzero((self._head == self._filled) & (self._read < self._total))
        for s in wanted.tolist():
            context = self._context[s] if self._samples[s].context else self._context[s, :0]
            buffers = Calls(self._key[s], self._methylated[s], self._coverage[s], context)
            got = self._samples[s].load_into(self._contig, int(self._read[s]), buffers)
            self._read[s] += got
            self._head[s], self._filled[s] = 0, got
        return int(self._filled[wanted].sum())

    def join(self, out: tuple[npt.NDArray[Any], ...]) -> int:
        """Join what is buffered into `out`; returns the sites written."""
        return int(
            join_samples(
                self._key,
                self._methylated,
                self._coverage,
                self._context,
                self._head,
                self._filled,
                self._read == self._total,
                out,
            )
        )


def _contexts(
    genome: Genome, contig: str, position: npt.NDArray[np.int32], strand: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """The sites' contexts from the genome, a stretch of bases at a time; merged sites are on +."""
    found = np.empty(len(position), dtype=np.int8)
    length, row = genome.lengths[contig], 0
    on_strand = np.where(strand == 0, np.int8(1), strand)
    while row < len(position):
        start = max(0, int(position[row]) - _FLANK)
        stop = int(np.searchsorted(position, start + _WINDOW - _FLANK))
        bases = genome.bases(contig, start, min(start + _WINDOW, length))
        found[row:stop] = contexts(bases, position[row:stop] - start, on_strand[row:stop])
        row = stop
    return found

"""What a genome adds to sites: strands that the calls lack, contexts, and the letters after a C."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from melisma.errors import MelismaError
from melisma.genome import Genome, contexts, strand_of_base
from melisma.methylome import UNKNOWN_CONTEXT, parse_mark

# Bases fetched at a time, below what the genome would keep in memory as a whole contig.
_WINDOW = 1 << 19
_FLANK = 2
LETTERS = "ACGTN"
# Index into LETTERS of each byte, and of its complement.
_FORWARD = np.full(256, LETTERS.index("N"), dtype=np.uint8)
_REVERSE = _FORWARD.copy()
for _letter, _other in zip("ACGT", "TGCA", strict=True):
    _FORWARD[ord(_letter)] = LETTERS.index(_letter)
    _REVERSE[ord(_letter)] = LETTERS.index(_other)


@njit(cache=True, nogil=True)
def _read_letters(bases, position, strand, forward, reverse, letters, first):
    """Set the modified base and 5 × the next base + the one after it, on the site's strand."""
    n = forward[78]
    for i in range(len(position)):
        at, step = position[i], 1 if strand[i] >= 0 else -1
        table = forward if step > 0 else reverse
        first[i] = table[bases[at]] if 0 <= at < len(bases) else n
        one, two = at + step, at + 2 * step
        next_base = table[bases[one]] if 0 <= one < len(bases) else n
        letters[i] = 5 * next_base + (table[bases[two]] if 0 <= two < len(bases) else n)


class Reference:
    """A genome against which a store's sites are completed, stretch by stretch."""

    def __init__(self, genome: Genome, contigs: list[str], marks: list[str], strands: str) -> None:
        self._genome, self._contigs, self._strands = genome, contigs, strands
        bases = [parse_mark(code).base for code in marks]
        self._base = np.array([LETTERS.index(base) for base in bases], dtype=np.uint8)

    def complete(
        self,
        contig: npt.NDArray[np.int16],
        position: npt.NDArray[np.int32],
        strand: npt.NDArray[np.int8],
        mark: npt.NDArray[np.int8],
        context: npt.NDArray[np.int8],
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.uint8]]:
        """Strands, contexts and letters, (rows,) each; what the store knows stays.

        Raises
        ------
        MelismaError
            The genome lacks a contig, or a site is not on a base that can carry its mark.
        """
        strand, context = strand.copy(), context.copy()
        letters = np.empty(len(position), dtype=np.uint8)
        row = 0
        while row < len(position):
            on = int(contig[row])
            stop = int(np.searchsorted(contig, on, side="right"))
            start = max(0, int(position[row]) - _FLANK)
            stop = row + int(np.searchsorted(position[row:stop], start + _WINDOW - _FLANK))
            rows = slice(row, stop)
            args = (position[rows], mark[rows], strand[rows], context[rows], letters[rows])
            self._window(self._contigs[on], start, *args)
            row = stop
        return strand, context, letters

    def _window(
        self,
        name: str,
        start: int,
        position: Any,
        mark: Any,
        strand: Any,
        context: Any,
        letters: Any,
    ) -> None:
        length = self._genome.length(name)
        first = min(start, length)
        bases = self._genome.bases(name, first, min(start + _WINDOW, length))
        at = position - np.int32(first)
        if self._strands == "unknown":
            adenine = self._base[mark] == LETTERS.index("A")
            found = np.where(
                adenine, strand_of_base(bases, at, "A"), strand_of_base(bases, at, "C")
            )
            strand[:] = np.where(strand == 0, found, strand)
        read = np.empty(len(at), dtype=np.uint8)
        _read_letters(bases, at, strand, _FORWARD, _REVERSE, letters, read)
        wrong = read != self._base[mark]
        if wrong.any():
            i = int(np.argmax(wrong))
            raise MelismaError(
                f"The site {name}:{int(position[i])} (0-based) is not on a base of genome "
                f"{self._genome.name} that can carry its mark: give the genome that the calls were "
                "made on."
            )
        open_ = context == UNKNOWN_CONTEXT
        if open_.any():
            on_strand = np.where(strand == 0, np.int8(1), strand).astype(np.int8)
            context[:] = np.where(open_, contexts(bases, at, on_strand), context)

"""Calls against the reference genome: dropped, given a strand, or refused as a whole."""

from pathlib import Path

import numpy as np

from melisma.calls import _kernels
from melisma.calls._spool import Calls
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import MARKS

# Bases compared at a time, below what the genome would keep in memory as a whole contig.
_WINDOW = 1 << 19
# Shares of reads: wrong calls and variants stay below the first; few calls prove little below
# the second.
_MOST_MISSED, _MOST_MISSED_OF_FEW, _FEW_CALLS = 0.05, 0.25, 10
_FITS = 0.9
_IS_ADENINE = np.array([mark.base == "A" for mark in MARKS])


class ReferenceCheck:
    """Compares one sample's calls with a genome, contig by contig, and judges at the end."""

    def __init__(self, genome: Genome, *, merged: bool, only_cg: bool) -> None:
        self.genome = genome
        self._merged, self._only_cg = merged, only_cg
        self._tally = np.zeros(10, dtype=np.int64)

    def filter(self, contig: str, calls: Calls) -> Calls:
        """The calls that lie on their base, with strands from the reference; sorted as given.

        Raises
        ------
        MelismaError
            The genome has no such contig.
        """
        self.genome.bases(contig, 0, 0)
        length = self.genome.lengths[contig]
        keep = np.empty(len(calls.key), dtype=np.bool_)
        position = calls.key >> 5
        row = 0
        while row < len(position):
            start = max(0, int(position[row]) - 1)
            stop = int(np.searchsorted(position, start + _WINDOW))
            bases = self.genome.bases(contig, min(start, length), min(start + _WINDOW + 1, length))
            _kernels.check_bases(
                calls.key[row:stop],
                calls.coverage[row:stop],
                bases,
                start,
                length,
                _IS_ADENINE,
                self._merged,
                self._only_cg,
                keep[row:stop],
                self._tally,
            )
            row = stop
        return calls if keep.all() else calls.take(keep)

    @property
    def drops(self) -> dict[str, int]:
        """How many calls were left out, by reason."""
        return {
            "past the contig's end": int(self._tally[_kernels.PAST_END]),
            "not on a base that carries the mark": int(self._tally[_kernels.OFF_BASE]),
            "on an N of the genome": int(self._tally[_kernels.ON_N]),
            "not in CG": int(self._tally[_kernels.NOT_CG]),
        }

    def judge(self, path: Path, title: str, base: int, *, strandless: bool) -> None:
        """Raise where too many calls missed: wrong coordinate base, or wrong genome build."""
        compared = int(self._tally[_kernels.COMPARED])
        if not compared:
            return
        here, before, after, on_c, on_g = (
            float(share) for share in self._tally[_kernels.IN_PLACE :] / compared
        )
        few = self._tally[_kernels.PAST_END] + self._tally[_kernels.OFF_BASE] <= _FEW_CALLS
        if strandless and not self._merged and compared >= 100 and on_g > 0.95 and on_c < 0.01:
            raise MelismaError(
                f"{path}: {on_g:.1%} of its reads are on the G of a CG and {on_c:.1%} on the C, as "
                f"if each position were one too high: {title} is {base}-based; write it so."
            )
        if 1 - here <= (_MOST_MISSED_OF_FEW if few else _MOST_MISSED):
            return
        shift, share = (-1, before) if before >= after else (1, after)
        if share >= _FITS and 4 * (1 - share) <= 1 - here:
            found = base - shift
            look = f"{found}-based" if found in (0, 1) else "one off"
            raise MelismaError(
                f"{path}: coordinates look {look}: {here:.1%} of its reads are on a base of genome "
                f"{self.genome.name} that can carry the mark, and {share:.1%} would be if each "
                f"position were moved by {shift:+d}; {title} is {base}-based, so write the file "
                "with such positions or name its true format with --format."
            )
        raise MelismaError(
            f"{path}: {1 - here:.1%} of its reads are on a base of genome {self.genome.name} that "
            f"cannot carry the mark, and at most {_MOST_MISSED:.0%} may be: give the genome build "
            "that the calls were made on."
        )

"""Windows of sequence around sites, read where they lie: no copy of the data set is made.

A window has an odd width and its site at index `width // 2`. A site on the minus strand is read
from that strand, 5' to 3', so that the modified base always stands at the centre as the mark's
own base. Bases beyond a contig's end are unknown, as N is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence._window_kernels import compose, cumulated_composition, gather
from melisma.sequence.encodings import CODE_OF_BYTE, Codes

if TYPE_CHECKING:
    import xarray as xr

# The base that each mark modifies, as read from the site's own strand.
BASE_OF_MARK = {"m": "C", "h": "C", "C": "C", "21839": "C", "a": "A"}

# What `surroundings` measures, a column each, and the bases that are counted together.
COMPOSITION = ("GC", "CpG", "TpA", "CpA or TpG", "ApA or TpT")
_BLOCK = 32

Rows = npt.NDArray[np.int64]


class Windows(Protocol):
    """What a model reads: windows of one width, fetched by row number."""

    @property
    def width(self) -> int: ...
    def __len__(self) -> int: ...
    def codes(self, rows: Rows) -> Codes:
        """uint8 (len(rows), width)."""
        ...


@dataclass(frozen=True)
class FixedWindows:
    """Windows that are given as sequences.

    Parameters
    ----------
    array : uint8 (n, width), codes as `encodings.encode` makes them
    """

    array: Codes

    def __post_init__(self) -> None:
        if self.array.ndim != 2 or self.array.dtype != np.uint8:
            raise MelismaError(
                f"Windows are codes, uint8 (n, width); these are {self.array.dtype} "
                f"{self.array.shape}: make them with `encode`."
            )

    @property
    def width(self) -> int:
        return self.array.shape[1]

    def __len__(self) -> int:
        return len(self.array)

    def codes(self, rows: Rows) -> Codes:
        """uint8 (len(rows), width)."""
        return self.array[rows]


class GenomeWindows:
    """Windows around sites of a genome, read from its FASTA when they are asked for.

    Ask for rows of few contigs at a time: the genome keeps the last two contigs in memory.

    Parameters
    ----------
    genome : the genome that the sites lie on
    contigs : names that `contig` indexes
    contig : integers (n,), index into `contigs`
    position : integers (n,), 0-based position of the modified base
    strand : int8 (n,), +1, -1, or 0: read as +
    width : odd, in bases
    scales : how far `surroundings` looks to either side, in bases; () for not at all

    Raises
    ------
    MelismaError
        The width is even, a scale is not positive, a contig is not in the genome, or a site lies
        beyond its contig's end.
    """

    def __init__(
        self,
        genome: Genome,
        contigs: tuple[str, ...],
        contig: npt.NDArray[np.integer[Any]],
        position: npt.NDArray[np.integer[Any]],
        strand: npt.NDArray[np.int8],
        width: int,
        scales: tuple[int, ...] = (),
    ) -> None:
        require_odd(width)
        if any(scale < 1 for scale in scales):
            raise MelismaError("Surroundings reach 1 base or more to either side.")
        self.genome = genome.named_as(contigs)
        self.contigs = contigs
        self.contig, self.position, self.strand = contig, position, strand
        self._width, self.scales = width, tuple(scales)
        self._composition: dict[int, npt.NDArray[np.int32]] = {}
        for index in np.unique(contig):
            length = self.genome.length(contigs[index])
            of_it = position[contig == index]
            beyond = of_it[(of_it < 0) | (of_it >= length)]
            if len(beyond):
                raise MelismaError(
                    f"{contigs[index]}:{beyond[0]:,} lies beyond the {length:,} bases of "
                    f"{contigs[index]} in genome {genome.name}: is this the right genome build?"
                )

    @property
    def width(self) -> int:
        return self._width

    @property
    def reach(self) -> int:
        """Bases that anything about a site is read from."""
        return max(self._width, *(2 * scale + 1 for scale in self.scales), 1)

    def __len__(self) -> int:
        return len(self.position)

    def codes(self, rows: Rows) -> Codes:
        """uint8 (len(rows), width)."""
        out = np.empty((len(rows), self._width), np.uint8)
        contig = self.contig[rows]
        for index in np.unique(contig):
            here = np.flatnonzero(contig == index)
            at = rows[here]
            bases = self.genome.bases(self.contigs[index])
            gather(bases, self.position[at], self.strand[at], CODE_OF_BYTE, out, here)
        return out

    def surroundings(self, rows: Rows) -> npt.NDArray[np.float32]:
        """What the stretches around sites are made of, the same read from either strand.

        Returns
        -------
        float32 (len(rows), scales, 5), square roots of shares of the known bases, in the order of
        `COMPOSITION`; a stretch is rounded outward to whole blocks of 32 bases
        """
        out = np.empty((len(rows), len(self.scales), len(COMPOSITION)), np.float32)
        contig = self.contig[rows]
        reach = np.asarray(self.scales, np.int64)
        for index in np.unique(contig):
            here = np.flatnonzero(contig == index)
            compose(self._counted(int(index)), _BLOCK, self.position[rows[here]], reach, out, here)
        return out

    def _counted(self, index: int) -> npt.NDArray[np.int32]:
        found = self._composition.get(index)
        if found is None:
            bases = self.genome.bases(self.contigs[index])
            found = self._composition[index] = cumulated_composition(bases, CODE_OF_BYTE, _BLOCK)
        return found


def require_odd(width: int) -> None:
    """Refuse a width that has no centre."""
    if width < 1 or width % 2 == 0:
        raise MelismaError(
            f"A window of {width} bases has no centre: choose an odd width, such as {width + 1}."
        )


def site_windows(
    methylome: "xr.Dataset", genome: Genome, width: int, scales: tuple[int, ...] = ()
) -> GenomeWindows:
    """The windows around a methylome's sites, in its order.

    Strands that are merged or unknown are read from the base: a C is on the plus strand, a G on
    the minus. A CpG whose strands were merged stands at its C, so it is read from the plus strand.

    Raises
    ------
    MelismaError
        The sites have no positions, lie beyond their contig, or most of them do not hold the
        mark's base: the genome is another build.
    """
    from melisma.genome import strand_of_base

    if not methylome.attrs["contigs"]:
        raise MelismaError(
            "The sites of this methylome have no positions, so they have no windows: ingest it "
            "again with --manifest."
        )
    contigs = tuple(methylome.attrs["contigs"])
    contig = np.asarray(methylome["contig"].values)
    position = np.asarray(methylome["position"].values)
    strand = np.array(methylome["strand"].values, np.int8)
    named = genome.named_as(contigs)
    wrong, example = 0, ""
    marks = np.asarray(methylome["mark"].values)
    for index in np.unique(contig):
        bases = named.bases(contigs[index])
        for mark in np.unique(marks[contig == index]):
            letter = BASE_OF_MARK[methylome.attrs["marks"][mark]]
            here = np.flatnonzero((contig == index) & (marks == mark))
            inside = position[here] < len(bases)
            found = np.zeros(len(here), np.int8)
            found[inside] = strand_of_base(bases, position[here][inside], letter)
            given = strand[here]
            strand[here] = np.where(given == 0, found, given)
            bad = (found == 0) | ((given != 0) & (found != given))
            if bad.any() and not example:
                first = position[here][bad][0]
                base = chr(bases[first]) if first < len(bases) else "no base"
                example = f"{contigs[index]}:{first:,} holds {base}"
            wrong += int(bad.sum())
    _check_bases(wrong, len(position), example, genome.name)
    return GenomeWindows(genome, contigs, contig, position, strand, width, scales)


# Single-nucleotide differences between a sample and its reference leave far fewer.
MOST_WRONG = 0.1


def _check_bases(wrong: int, n: int, example: str, name: str) -> None:
    from melisma import progress

    if wrong > MOST_WRONG * n:
        raise MelismaError(
            f"{wrong:,} of {n:,} sites do not hold the mark's base in genome {name} ({example}): "
            "give the genome that the calls were made on."
        )
    if wrong:
        progress.note(
            f"{wrong:,} of {n:,} sites do not hold the mark's base in genome {name} ({example}); "
            "they are read as they stand."
        )

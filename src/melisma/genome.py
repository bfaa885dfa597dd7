"""The reference genome: a FASTA or 2bit file's bases, and the sequence context of a cytosine.

Plain and bgzip FASTA are read through an index, so that only the asked stretch is in memory;
a FASTA compressed with plain gzip cannot be indexed and is held in memory whole.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma import _contigs, _fasta, _genome_kernels, _twobit
from melisma.errors import MelismaError

# Whole contigs kept after use: the current one and the one before it.
CACHED_CONTIGS = 2
# A shorter stretch of a contig that is not cached is read on its own.
DIRECT_READ = 1 << 20

Bases = npt.NDArray[np.uint8]


class Genome:
    """A reference sequence: contigs in file order, and their upper-case bases.

    Safe to use from several threads. Make one with `Genome.open`.

    Attributes
    ----------
    name : the file's name without its folder and its .fa, .fasta, .fna and .gz endings
    contigs : contig names in file order; those without bases are left out
    lengths : bases of each contig
    """

    def __init__(
        self, name: str, lengths: Mapping[str, int], fetch: Callable[[str, int, int], Bases]
    ) -> None:
        self.name = name
        # A FASTA's index does not list contigs without bases, so they count nowhere.
        self.lengths = {contig: length for contig, length in lengths.items() if length}
        self.contigs = tuple(self.lengths)
        self._fetch = fetch
        self._cache: OrderedDict[str, Bases] = OrderedDict()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Genome({self.name!r}, {len(self.contigs)} contigs)"

    @classmethod
    def open(cls, path: Path | str) -> "Genome":
        """Open a 2bit file, or a FASTA file: plain, bgzip, or plain gzip (held in memory).

        2bit and the indexed forms read only what is asked for. Bases come in upper case; a FASTA's
        IUPAC codes are kept as they are.

        A FASTA's index (`.fai`, for bgzip `.gzi` too) is used if it is there and not older than the
        file; otherwise it is written beside the file, or, where that folder cannot be written
        to, in the user's cache folder.

        Raises
        ------
        MelismaError
            The file is missing, empty, truncated or neither, names a contig twice, or is plain
            gzip of more than 2 GB of text.
        """
        path = Path(path)
        name = re.sub(r"(\.(2bit|fa|fasta|fna))?(\.(gz|bgz|bgzf))?$", "", path.name, flags=re.I)
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(4)
            if _twobit.is_twobit(head):
                return cls(name, *_twobit.open_twobit(path))
            if path.suffix.lower() == ".2bit":
                raise MelismaError(
                    f"{path} is not a 2bit file, whose first four bytes are 43 27 41 1a; it begins "
                    f"with {head!r}."
                )
        return cls(name, *_fasta.open_fasta(path))

    def bases(self, contig: str, start: int = 0, end: int | None = None) -> Bases:
        """The bases of a stretch, 0-based and half open, as upper-case ASCII codes.

        Returns
        -------
        uint8 (end - start,), read-only

        Raises
        ------
        MelismaError
            The contig is not in the genome, or the stretch does not lie within it.
        """
        length = self.length(contig)
        end = length if end is None else end
        if not 0 <= start <= end <= length:
            raise MelismaError(
                f"{contig}:{start}-{end} does not lie within {contig} of genome {self.name}, which "
                f"has {length:,} bases: is this the right genome build?"
            )
        with self._lock:
            whole = self._cache.get(contig)
            if whole is None:
                if end - start < min(DIRECT_READ, length):
                    return self._fetch(contig, start, end)
                whole = self._fetch(contig, 0, length)
                self._cache[contig] = whole
            self._cache.move_to_end(contig)
            while len(self._cache) > CACHED_CONTIGS:
                self._cache.popitem(last=False)
        return whole[start:end]

    def length(self, contig: str) -> int:
        """Bases of a contig; one that is not there is an error that names a likely one."""
        if contig in self.lengths:
            return self.lengths[contig]
        other = _contigs.find(contig, self.contigs)
        if other is not None:
            remedy = f"it has {other!r}: rename the contigs of one of the two files"
        else:
            remedy = f"it has {', '.join(self.contigs[:5])}: give the genome the calls were made on"
        raise MelismaError(f"Genome {self.name} has no contig {contig!r}; {remedy}.")

    def named_as(self, names: Collection[str]) -> "Genome":
        """The same genome, with its contigs called what another file calls them.

        names : the other file's contigs; those with one certain counterpart here replace its
            name (`1` for `chr1`), and all other contigs keep theirs
        """
        new = {mine: other for other, mine in _contigs.match(names, self.contigs).items()}
        if not new:
            return self
        mine = {new.get(contig, contig): contig for contig in self.contigs}
        lengths = {contig: self.lengths[old] for contig, old in mine.items()}
        return Genome(self.name, lengths, lambda c, start, end: self.bases(mine[c], start, end))


def contexts(
    bases: Bases, position: npt.NDArray[np.integer[Any]], strand: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8]:
    """The sequence context of cytosines, from one contig's bases.

    Parameters
    ----------
    bases : uint8 (length,), upper-case ASCII codes
    position : integers (n,), 0-based
    strand : int8 (n,), +1, -1, or 0: taken from the base (C is +, G is -)

    Returns
    -------
    int8 (n,), index into `methylome.CONTEXTS`; "unknown" where the base is no cytosine on that
    strand, or an end of the contig or an N leaves the context open

    Examples
    --------
    >>> bases = np.frombuffer(b"ACGCAGCTT", np.uint8)
    >>> contexts(bases, np.array([1, 2, 3, 6, 0]), np.array([1, -1, 1, 1, 1], np.int8)).tolist()
    [0, 0, 1, 2, 3]
    """
    return _genome_kernels.contexts(bases, position, strand)


def strand_of_base(
    bases: Bases, position: npt.NDArray[np.integer[Any]], base: str = "C"
) -> npt.NDArray[np.int8]:
    """Which strand carries the modifiable base at each position.

    Parameters
    ----------
    bases : uint8 (length,), upper-case ASCII codes
    position : integers (n,), 0-based
    base : the base that is modified: C, or A for 6mA

    Returns
    -------
    int8 (n,): +1 where the position holds `base`, -1 where it holds its complement, else 0

    Examples
    --------
    >>> strand_of_base(np.frombuffer(b"ACGT", np.uint8), np.arange(4)).tolist()
    [0, 1, -1, 0]
    """
    return _genome_kernels.strands(bases, position, ord(base))

"""What a model learns from: windows, the environment, the marks around, and counts.

Targets are counts for every kind of data: a site's methylated reads of its coverage; a label is
one read; a mark that was not measured has coverage 0. Samples that share an environment are
summed, since the model cannot tell them apart. A store is read piece by piece in random order,
so that a data set larger than memory is trained on in the memory of a few pieces.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.sequence._neighbour_kernels import neighbours as nearest
from melisma.sequence.encodings import Codes
from melisma.sequence.environment import Environment
from melisma.sequence.windows import Rows, Windows, site_windows

if TYPE_CHECKING:
    import xarray as xr

    from melisma.genome import Genome

TRAIN, VALIDATION, TEST = 0, 1, 2

# Sites read at a time, and how many pieces are mixed: 131,072 sites are shuffled together.
PIECE = 16_384
MIXED = 8
# Sites beside a piece that are read for the neighbours of those at its ends.
FLANK = 256

Floats = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """One step's examples, b of them.

    codes : uint8 (b, width)
    environment : float32 (b, environment width)
    neighbours : float32 (b, 3, neighbours), or None
    surroundings : float32 (b, scales, 5), or None
    methylated, coverage : float32 (b, heads)
    rows : int64 (b,), each example's window
    group : int32 (b,), each example's environment
    """

    codes: Codes
    environment: Floats
    neighbours: Floats | None
    surroundings: Floats | None
    methylated: Floats
    coverage: Floats
    rows: Rows
    group: npt.NDArray[np.int32]


class Examples(Protocol):
    """What training and evaluation read.

    width : bases of a window; heads : the marks; neighbours : sites around, 0 for none
    scales : how far surroundings reach to either side, () for none
    parts : int8 (windows,), 0 train, 1 validation, 2 test, -1 left out
    """

    heads: tuple[str, ...]
    environment: Environment
    neighbours: int
    scales: tuple[int, ...]
    parts: npt.NDArray[np.int8]

    @property
    def width(self) -> int: ...

    def count(self, part: int) -> int:
        """Examples of a part."""
        ...

    def batches(
        self, part: int, size: int, *, seed: int | None = None, limit: int | None = None
    ) -> Iterator[Batch]:
        """Batches of `size` examples of a part, at most `limit` examples in all.

        seed : of the random order; None for the order of the data
        """
        ...


def require_parts(parts: npt.NDArray[np.int8], n: int) -> None:
    """Refuse parts of another length, or without examples to train or validate on."""
    if len(parts) != n:
        raise MelismaError(
            f"The split has {len(parts):,} windows and the data {n:,}: make the split from these."
        )
    for part, name in ((TRAIN, "training"), (VALIDATION, "validation")):
        if not (parts == part).any():
            raise MelismaError(
                f"The split leaves no windows for {name}: give it a larger share or other contigs."
            )


@dataclass(frozen=True)
class SequenceExamples:
    """Examples whose windows were given as sequences, one example a window.

    Parameters
    ----------
    windows : n windows
    methylated, coverage : float32 (n, heads)
    parts : int8 (n,)
    rows : float32 (n, environment width), the encoded environment of each; None without one
    """

    windows: Windows
    methylated: Floats
    coverage: Floats
    parts: npt.NDArray[np.int8]
    heads: tuple[str, ...] = ("m",)
    environment: Environment = field(default_factory=Environment)
    rows: Floats | None = None
    neighbours: int = 0
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.windows)
        shape = (n, len(self.heads))
        for name, array in (("methylated", self.methylated), ("coverage", self.coverage)):
            if array.shape != shape:
                raise MelismaError(f"{name} has the shape {array.shape} and must have {shape}.")
        if not np.isfinite(self.methylated).all() or not np.isfinite(self.coverage).all():
            raise MelismaError("methylated and coverage hold NaN: a missing mark has coverage 0.")
        if (self.rows is None) != (self.environment.width == 0):
            raise MelismaError("An environment needs its encoded row for every window.")
        require_parts(self.parts, n)

    @property
    def width(self) -> int:
        return self.windows.width

    def _of(self, part: int) -> Rows:
        return np.flatnonzero((self.parts == part) & (self.coverage > 0).any(1))

    def count(self, part: int) -> int:
        """Examples of a part."""
        return len(self._of(part))

    def batches(
        self, part: int, size: int, *, seed: int | None = None, limit: int | None = None
    ) -> Iterator[Batch]:
        """Batches of a part; see `Examples`."""
        rows = self._of(part)
        if seed is not None:
            rows = np.random.default_rng(seed).permutation(rows)
        rows = rows[:limit]
        for start in range(0, len(rows), size):
            at = rows[start : start + size]
            yield Batch(
                self.windows.codes(at),
                np.zeros((len(at), 0), np.float32) if self.rows is None else self.rows[at],
                None,
                None,
                self.methylated[at],
                self.coverage[at],
                at,
                at.astype(np.int32),
            )


class _Piece(NamedTuple):
    """Examples of a few pieces of a store: site (n,), group (n,), and their values."""

    site: Rows
    group: npt.NDArray[np.int32]
    methylated: Floats
    coverage: Floats
    neighbours: Floats | None


class StoreExamples:
    """Examples of a methylome: every site in every environment in which it was seen.

    Parameters
    ----------
    methylome : counts or levels; levels count as one read each
    genome : what the sites lie on
    width : bases of a window, odd
    environment : columns of the sample sheet that the model is told
    parts : int8 (sites,)
    neighbours : how many sites around, both sides together, an even number; 0 for none
    scales : how far to either side the composition of stretches around a site is measured
    min_coverage : reads, summed over the samples of an environment, that an example needs

    Raises
    ------
    MelismaError
        The genome does not fit, the parts have another length, or no example is left.
    """

    def __init__(
        self,
        methylome: "xr.Dataset",
        genome: "Genome",
        width: int,
        parts: npt.NDArray[np.int8],
        *,
        environment: Sequence[str] = (),
        neighbours: int = 0,
        scales: Sequence[int] = (),
        min_coverage: int = 1,
        learned: Environment | None = None,
    ) -> None:
        from melisma.methylome import sample_sheet

        if neighbours % 2:
            raise MelismaError(f"{neighbours} neighbours are not two sides: give an even number.")
        if neighbours and len(methylome.attrs["marks"]) > 1:
            raise MelismaError(
                "Neighbouring marks are of one kind, and the methylome holds "
                f"{', '.join(methylome.attrs['marks'])}: choose one with --mark."
            )
        require_parts(parts, methylome.sizes["site"])
        self.methylome, self.parts = methylome, parts
        self.neighbours, self.min_coverage = neighbours, min_coverage
        self.heads: tuple[str, ...] = tuple(methylome.attrs["marks"])
        self.scales = tuple(scales)
        self.windows = site_windows(methylome, genome, width, self.scales)
        sheet = sample_sheet(methylome)
        self.environment = learned or Environment.learn(sheet, environment)
        encoded = self.environment.encode(sheet).values
        self.rows, group = np.unique(encoded, axis=0, return_inverse=True)
        # Samples that share an environment are summed: (samples, groups).
        self._sum = np.eye(len(self.rows), dtype=np.float32)[group.reshape(-1)]
        if not self.environment.columns:
            self.rows = np.zeros((1, 0), np.float32)
            self._sum = np.ones((methylome.sizes["sample"], 1), np.float32)
        self._counts: dict[int, int] = {}

    @property
    def width(self) -> int:
        return self.windows.width

    def count(self, part: int) -> int:
        """Examples of a part; the store is walked once."""
        if not self._counts:
            found = {TRAIN: 0, VALIDATION: 0, TEST: 0}
            for start in range(0, len(self.parts), PIECE):
                _, coverage = self._values(start, start + PIECE)
                seen = (coverage >= self.min_coverage).sum(1)
                here = self.parts[start : start + PIECE]
                for each in found:
                    found[each] += int(seen[here == each].sum())
            self._counts = found
        return self._counts[part]

    def batches(
        self, part: int, size: int, *, seed: int | None = None, limit: int | None = None
    ) -> Iterator[Batch]:
        """Batches of a part; see `Examples`. A limit with a seed takes pieces at random."""
        starts = np.arange(0, len(self.parts), PIECE)
        starts = np.array([s for s in starts if (self.parts[s : s + PIECE] == part).any()], int)
        rng = None if seed is None else np.random.default_rng(seed)
        if rng is not None:
            starts = rng.permutation(starts)
        left = np.iinfo(np.int64).max if limit is None else limit
        kept: _Piece | None = None
        for k in range(0, len(starts), MIXED):
            found = [self._piece(int(start), part) for start in starts[k : k + MIXED]]
            mixed = _joined([kept, *found] if kept is not None else found)
            order = np.arange(len(mixed.site)) if rng is None else rng.permutation(len(mixed.site))
            last = k + MIXED >= len(starts)
            whole = len(order) if last else len(order) // size * size
            for start in range(0, whole, size):
                taken = _taken(mixed, order[start : start + min(size, left)])
                left -= len(taken.site)
                yield self._batch(taken)
                if left <= 0:
                    return
            kept = _taken(mixed, order[whole:])

    def _values(self, start: int, end: int) -> tuple[Floats, Floats]:
        """methylated and coverage of a stretch, summed by environment: (sites, groups)."""
        part = self.methylome.isel(site=slice(start, end))
        if "coverage" in part:
            methylated, coverage = part["methylated"].values, part["coverage"].values
            return methylated.astype(np.float32) @ self._sum, coverage.astype(
                np.float32
            ) @ self._sum
        level = part["beta"].values
        seen = ~np.isnan(level)
        return np.nan_to_num(level) @ self._sum, seen.astype(np.float32) @ self._sum

    def _piece(self, start: int, part: int) -> _Piece:
        end = min(start + PIECE, len(self.parts))
        before = min(FLANK, start) if self.neighbours else 0
        after = FLANK if self.neighbours else 0
        methylated, coverage = self._values(start - before, end + after)
        inner = slice(before, before + end - start)
        wanted = (coverage[inner] >= max(self.min_coverage, 1)) & (self.parts[start:end] == part)[
            :, None
        ]
        at, group = np.nonzero(wanted)
        heads = (
            np.arange(len(self.heads))
            == np.asarray(self.methylome["mark"].isel(site=slice(start, end)).values)[at][:, None]
        )
        seen_at = at + before
        return _Piece(
            site=at + start,
            group=group.astype(np.int32),
            methylated=heads * methylated[seen_at, group][:, None],
            coverage=heads * coverage[seen_at, group][:, None],
            neighbours=self._around(start - before, methylated, coverage, seen_at, group),
        )

    def _around(
        self, start: int, methylated: Floats, coverage: Floats, at: Rows, group: npt.NDArray[Any]
    ) -> Floats | None:
        """The neighbours of sites `at` of a stretch in their own environment."""
        if not self.neighbours:
            return None
        found = np.zeros((len(at), 3, self.neighbours), np.float32)
        stretch = slice(start, start + len(coverage))
        contig = self.windows.contig[stretch]
        position = self.windows.position[stretch]
        for each in range(len(self.rows)):
            here = np.flatnonzero(group == each)
            level = np.full(len(coverage), np.nan, np.float32)
            seen = coverage[:, each] > 0
            level[seen] = methylated[seen, each] / coverage[seen, each]
            found[here] = nearest(at[here], contig, position, level, self.neighbours // 2)
        return found

    def _batch(self, piece: _Piece) -> Batch:
        return Batch(
            self.windows.codes(piece.site),
            self.rows[piece.group],
            piece.neighbours,
            self.windows.surroundings(piece.site) if self.scales else None,
            piece.methylated,
            piece.coverage,
            piece.site,
            piece.group,
        )


def _joined(pieces: list[_Piece]) -> _Piece:
    columns = zip(*pieces, strict=True)
    return _Piece(*(None if c[0] is None else np.concatenate(c) for c in columns))  # type: ignore[arg-type]


def _taken(piece: _Piece, at: Rows) -> _Piece:
    return _Piece(*(None if column is None else column[at] for column in piece))  # type: ignore[arg-type]

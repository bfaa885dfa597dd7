"""bigWig: levels alone, or levels beside a track of coverage, which together give counts.

A track of levels has one value a site, each over one base, or over the two bases of a CpG (then
with a genome). A gap is missing, never 0. `X.level.bw` with `X.coverage.bw` beside it, as
`melisma export --to bigwig` writes them, gives M = round(level × N).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma import progress
from melisma.calls._format import Format, Strandless
from melisma.calls._records import ContigCalls
from melisma.errors import MelismaError

BIGWIG = Format(
    name="bigwig",
    title="bigWig of levels, a value a site",
    base=0,
    evidence="literals written with pybigtools",
    tested="literals and round trips",
    sniff=lambda lines: None,
)
BIGWIG_COUNTS = BIGWIG._replace(
    name="bigwig-counts",
    title="bigWig of levels with one of coverage (X.level.bw, X.coverage.bw)",
    evidence="literals written with pybigtools, and round trips through melisma's own export",
)
_LEVEL, _COVERAGE = ".level.bw", ".coverage.bw"
_MAGIC = (b"\x26\xfc\x8f\x88", b"\x88\x8f\xfc\x26")
_RECORDS = 1 << 16
# How far a level may be from that of whole reads, as in the text formats.
_TOLERANCE = 0.01
_WINDOW = 1 << 20


def is_bigwig(start: bytes) -> bool:
    """Whether a file begins with bigWig's magic number, in either byte order."""
    return start[:4] in _MAGIC


def coverage_beside(path: Path) -> Path | None:
    """The track of coverage that belongs to a track of levels, by its name."""
    if not path.name.endswith(_LEVEL):
        return None
    beside = path.with_name(path.name.removesuffix(_LEVEL) + _COVERAGE)
    return beside if beside.is_file() else None


class Track:
    """A bigWig of levels, read once from its first contig to its last.

    contigs : lengths by name; width : bases of each value's interval, 1 or 2
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_bigwig(path)
        self.contigs: Mapping[str, int] = self._file.chroms()
        summary = self._file.info()["summary"]
        self.scale = _scale(path, float(summary["min"]), float(summary["max"]))
        self.width = self._first_width()
        self._left: Iterator[tuple[int, int, float]] = iter(())
        self._start = np.empty(0, dtype=np.int64)
        self._level = np.empty(0, dtype=np.float32)

    def _first_width(self) -> int:
        for contig in self.contigs:
            for start, end, _ in self._file.records(contig):
                return end - start
        raise MelismaError(f"{self.path} holds no values.")

    def begin(self, contig: str) -> None:
        """Go to a contig's first value; one that the file lacks has none."""
        known = contig in self.contigs
        self._left = iter(self._file.records(contig)) if known else iter(())
        self._start, self._level = self._start[:0], self._level[:0]
        self._contig = contig
        self._more = known

    def until(self, bound: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The next values that start before `bound`: starts and levels, (values,)."""
        while self._more and (not len(self._start) or self._start[-1] < bound):
            self._read()
        cut = int(np.searchsorted(self._start, bound))
        found = self._start[:cut], self._level[:cut]
        self._start, self._level = self._start[cut:], self._level[cut:]
        return found

    def next_start(self) -> int | None:
        """Where the next value starts; None: the contig has no more."""
        if self._more and not len(self._start):
            self._read()
        return int(self._start[0]) if len(self._start) else None

    def _read(self) -> None:
        records = list(islice(self._left, _RECORDS))
        self._more = len(records) == _RECORDS
        if not records:
            return
        start, end, level = (np.array(column) for column in zip(*records, strict=True))
        wrong = end - start != self.width
        if wrong.any() or self.width > 2:
            k = int(np.argmax(wrong))
            raise MelismaError(
                f"{self.path}: {self._contig}:{start[k]}-{end[k]} is one value over "
                f"{end[k] - start[k]} bases, and a track of levels has a value a base, or one a "
                "CpG of 2 bases: is this a smoothed or binned track?"
            )
        self._start = np.concatenate([self._start, start.astype(np.int64)])
        levels = (level * self.scale).astype(np.float32)
        self._level = np.concatenate([self._level, levels])


def open_bigwig(path: Path) -> Any:
    """Open a bigWig.

    Raises
    ------
    MelismaError
        The file is damaged, or no bigWig, or the extra that reads it is not installed.
    """
    try:
        import pybigtools
    except ImportError:
        raise MelismaError(
            f'{path} is bigWig, which needs pybigtools: pip install "melisma[bigwig]".'
        ) from None
    try:
        return pybigtools.open(str(path))
    except Exception as error:
        raise MelismaError(
            f"{path} cannot be read as bigWig ({str(error).splitlines()[0]}): copy or write it "
            "again."
        ) from None


def _scale(path: Path, low: float, high: float) -> float:
    if low >= 0 and high <= 1:
        return 1.0
    if low >= 0 and 10 < high <= 100:
        progress.note(f"{path} has values up to {high:g}: they were read as percents.")
        return 0.01
    raise MelismaError(
        f"{path} has values from {low:g} to {high:g}, and a track of levels has 0 to 1, or "
        "percents up to 100: is this a track of coverage or of signal?"
    )


def bigwig_format(path: Path, form: Format, *, genome: bool) -> Format:
    """The format with what the width of its values says of strands: 2 bases are a whole CpG.

    Raises
    ------
    MelismaError
        Values are over 2 bases and there is no genome to show that they are CpGs.
    """
    if Track(path).width != 2:
        return form
    if not genome:
        raise MelismaError(
            f"{path} has a value each 2 bases, as of whole CpGs: pass --genome, which shows that "
            "they are, or write a value a base."
        )
    return form._replace(strandless=Strandless.MERGED)


def read_bigwig_counts(
    level: Path,
    coverage: Path,
    *,
    mark: int | None = None,
    advance: Callable[[float], Any] | None = None,
) -> Iterator[ContigCalls]:
    """Counts from a track of levels and one of coverage: N, and M = round(level × N).

    A level without coverage has N = 0.

    Raises
    ------
    MelismaError
        A track is damaged, or its values are no levels or no coverage.
    """
    track, depth = Track(level), open_bigwig(coverage)
    low = float(depth.info()["summary"]["min"])
    if low < 0:
        raise MelismaError(f"{coverage} has a coverage of {low:g}: it should count reads.")
    lengths = depth.chroms()
    for contig in track.contigs:
        track.begin(contig)
        while (first := track.next_start()) is not None:
            bound = (first // _WINDOW + 1) * _WINDOW
            start, levels = track.until(bound)
            count = _coverage(depth, lengths.get(contig, 0), contig, start)
            _check_counts(level, coverage, contig, start, levels, count)
            yield ContigCalls(
                contig=contig,
                position=start.astype(np.int32),
                strand=np.zeros(len(start), dtype=np.int8),
                mark=np.full(len(start), mark or 0, dtype=np.int8),
                methylated=np.rint(levels.astype(np.float64) * count).astype(np.uint32),
                coverage=count.astype(np.uint32),
            )
    if advance:
        advance(level.stat().st_size)


def _coverage(
    depth: Any, length: int, contig: str, start: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    inside = start < length
    count = np.zeros(len(start))
    if inside.any():
        first, last = int(start[inside][0]), int(start[inside][-1]) + 1
        values = np.asarray(depth.values(contig, first, last, fillna=None), dtype=np.float64)
        count[inside] = np.nan_to_num(values[start[inside] - first])
    return count


def _check_counts(
    level: Path,
    coverage: Path,
    contig: str,
    start: npt.NDArray[np.int64],
    levels: npt.NDArray[np.float32],
    count: npt.NDArray[np.float64],
) -> None:
    """Raise at the first coverage that counts no reads, or level that is of no count of them."""
    broken = count != np.rint(count)
    if broken.any():
        k = int(np.argmax(broken))
        raise MelismaError(
            f"{coverage}: the coverage at {contig}:{start[k]} is {count[k]:.6g}, no whole number: "
            "give the track of reads, not of normalised coverage."
        )
    reads = levels.astype(np.float64) * count
    wrong = np.abs(reads - np.rint(reads)) > _TOLERANCE * count + 1e-6
    if wrong.any():
        k = int(np.argmax(wrong))
        raise MelismaError(
            f"{level}: the level at {contig}:{start[k]} is {levels[k]:.4g}, which is that of no "
            f"count among the {count[k]:.0f} reads of {coverage}: is it the coverage of another "
            "sample, or of all reads?"
        )


def level_stretches(
    tracks: Sequence[Track], contig: str
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """All tracks' sites on a contig by stretches: starts (sites,), levels (sites, tracks)."""
    for track in tracks:
        track.begin(contig)
    while True:
        starts = [start for track in tracks if (start := track.next_start()) is not None]
        if not starts:
            return
        bound = (min(starts) // _WINDOW + 1) * _WINDOW
        found = [track.until(bound) for track in tracks]
        position = np.unique(np.concatenate([start for start, _ in found]))
        beta = np.full((len(position), len(tracks)), np.nan, dtype=np.float32)
        for k, (start, level) in enumerate(found):
            beta[np.searchsorted(position, start), k] = level
        yield position, beta

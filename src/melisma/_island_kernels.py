"""Numba kernels of `islands`: windows that slide over one contig's bases.

A stretch is counted as C, G, CpG and known (A, C, G or T) bases; counts move with the window, so
that memory does not grow with the contig.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

A, C, G, T = (ord(letter) for letter in "ACGT")

Bases = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _known(base: int) -> bool:
    return base in (C, G, A, T)


@njit(cache=True, nogil=True)
def count(bases: Bases, start: int, end: int) -> Counts:
    """C, G, CpG and known bases of bases[start:end], int64 (4,)."""
    found = np.zeros(4, np.int64)
    for i in range(start, end):
        base = bases[i]
        found[0] += base == C
        found[1] += base == G
        found[2] += base == C and i + 1 < end and bases[i + 1] == G
        found[3] += _known(base)
    return found


@njit(cache=True, nogil=True)
def _add_right(bases: Bases, start: int, end: int, counts: Counts) -> None:
    """Counts of [start, end) become those of [start, end + 1)."""
    base = bases[end]
    counts[0] += base == C
    counts[1] += base == G
    counts[2] += base == G and end > start and bases[end - 1] == C
    counts[3] += _known(base)


@njit(cache=True, nogil=True)
def _drop_left(bases: Bases, start: int, end: int, counts: Counts) -> None:
    """Counts of [start, end) become those of [start + 1, end)."""
    base = bases[start]
    counts[0] -= base == C
    counts[1] -= base == G
    counts[2] -= base == C and start + 1 < end and bases[start + 1] == G
    counts[3] -= _known(base)


@njit(cache=True, nogil=True)
def _add_left(bases: Bases, start: int, end: int, counts: Counts) -> None:
    """Counts of [start, end) become those of [start - 1, end)."""
    base = bases[start - 1]
    counts[0] += base == C
    counts[1] += base == G
    counts[2] += base == C and start < end and bases[start] == G
    counts[3] += _known(base)


@njit(cache=True, nogil=True)
def _drop_right(bases: Bases, start: int, end: int, counts: Counts) -> None:
    """Counts of [start, end) become those of [start, end - 1)."""
    base = bases[end - 1]
    counts[0] -= base == C
    counts[1] -= base == G
    counts[2] -= base == G and end - 1 > start and bases[end - 2] == C
    counts[3] -= _known(base)


@njit(cache=True, nogil=True)
def fits(counts: Counts, length: int, min_gc: float, min_oe: float, min_cpgs: int) -> bool:
    """Whether a stretch meets the thresholds; unknown bases count against its GC share."""
    c, g, cpgs, known = counts
    if length < 1 or c == 0 or g == 0 or cpgs < min_cpgs:
        return False
    return (c + g) / length >= min_gc and cpgs * known / (c * g) >= min_oe


@njit(cache=True, nogil=True)
def _without_unknown_ends(bases: Bases, start: int, end: int) -> tuple[int, int]:
    while start < end and not _known(bases[start]):
        start += 1
    while start < end and not _known(bases[end - 1]):
        end -= 1
    return start, end


@njit(cache=True, nogil=True)
def jumping_windows(
    bases: Bases, window: int, min_gc: float, min_oe: float, min_cpgs: int, gap: int
) -> tuple[Counts, int]:
    """Stretches by the steps of Takai and Jones 2002, figure 1, before the cut on length.

    Returns
    -------
    int64 (n, 2) start and end in order, of which the first `found` rows hold; and `found`
    """
    stretches = np.empty((len(bases) // window + 1, 2), np.int64)
    found, start = 0, 0
    counts = count(bases, 0, min(window, len(bases)))
    while start + window <= len(bases):
        if not fits(counts, window, min_gc, min_oe, min_cpgs):
            if start + window < len(bases):
                _drop_left(bases, start, start + window, counts)
                _add_right(bases, start + 1, start + window, counts)
            start += 1
            continue
        first, end = start, _extend(bases, start, window, min_gc, min_oe, min_cpgs)
        left, right = _trim(bases, first, end, window, min_gc, min_oe, min_cpgs)
        if left < right:
            joined = False
            if found and left - stretches[found - 1, 1] < gap:
                before = stretches[found - 1, 0]
                whole = count(bases, before, right)
                joined = fits(whole, right - before, min_gc, min_oe, min_cpgs)
            if joined:
                stretches[found - 1, 1] = right
            else:
                stretches[found, 0], stretches[found, 1] = left, right
                found += 1
        start = end
        counts = count(bases, start, min(start + window, len(bases)))
    for k in range(found):
        stretches[k] = _without_unknown_ends(bases, stretches[k, 0], stretches[k, 1])
    return stretches, found


@njit(cache=True, nogil=True)
def _extend(
    bases: Bases, start: int, window: int, min_gc: float, min_oe: float, min_cpgs: int
) -> int:
    """The end of a stretch whose first window fits: whole windows on, the last one moved back."""
    at = start
    while at + 2 * window <= len(bases) and fits(
        count(bases, at + window, at + 2 * window), window, min_gc, min_oe, min_cpgs
    ):
        at += window
    last = min(at + window, len(bases) - window)
    counts = count(bases, last, last + window)
    while last > at and not fits(counts, window, min_gc, min_oe, min_cpgs):
        _drop_right(bases, last, last + window, counts)
        _add_left(bases, last, last + window - 1, counts)
        last -= 1
    return last + window


@njit(cache=True, nogil=True)
def _trim(
    bases: Bases, start: int, end: int, window: int, min_gc: float, min_oe: float, min_cpgs: int
) -> tuple[int, int]:
    """A stretch without as many bases at each side as it takes to fit; empty if it gets short."""
    counts = count(bases, start, end)
    while end - start >= window:
        if fits(counts, end - start, min_gc, min_oe, min_cpgs):
            return start, end
        _drop_left(bases, start, end, counts)
        start += 1
        _drop_right(bases, start, end, counts)
        end -= 1
    return start, start


@njit(cache=True, nogil=True)
def moving_average(
    bases: Bases, window: int, min_length: int, min_gc: float, min_oe: float
) -> tuple[Counts, int]:
    """Runs of at least `min_length` bases at which the window around each fits (1987's rule).

    Returns
    -------
    int64 (n, 2) start and end in order, of which the first `found` rows hold; and `found`
    """
    stretches = np.empty((len(bases) // min_length + 1, 2), np.int64)
    found, run = 0, 0
    if len(bases) < window:
        return stretches, found
    counts = count(bases, 0, window)
    half = window // 2
    windows = len(bases) - window + 1
    for start in range(windows + 1):
        if start < windows and fits(counts, window, min_gc, min_oe, 0):
            run += 1
        else:
            if run >= min_length:
                left, right = start - run + half, start + half
                stretches[found] = _without_unknown_ends(bases, left, right)
                found += 1
            run = 0
        if start + window < len(bases):
            _drop_left(bases, start, start + window, counts)
            _add_right(bases, start + 1, start + window, counts)
    return stretches, found

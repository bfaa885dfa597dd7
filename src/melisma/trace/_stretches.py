"""Stretches of a window whose contributions stand out against those of its shuffles."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]

# A base beside a stretch, or at its end, belongs to it from this share of its strongest base on.
_BELONGS = 0.2
# A stretch stands out that is stronger than the strongest of so many of the shuffles.
_STRONGER_THAN = 0.5


class Stretch(NamedTuple):
    """Bases `start` to `end` (half open, 0-based in the window).

    p : how often a shuffle's strongest stretch is as strong, counted with the window itself
    """

    start: int
    end: int
    p: float


def standing_out(value: Floats, null: Floats, width: int = 6) -> list[Stretch]:
    """The stretches that are stronger than the strongest one of half of the shuffles.

    All stretches of `width` bases slide over the window, and the one with the largest sum, whatever
    its sign, is taken; bases at its ends and beside it leave or join as they share its sign and
    have a fifth of its strongest base or more; then the next one that does not overlap.

    Parameters
    ----------
    value : (width of the window,), contributions of its bases
    null : (shuffles, width of the window), contributions of the shuffles' own bases

    Returns
    -------
    In the window's order; they do not overlap

    Examples
    --------
    >>> value = np.array([0, 0, 0, 3.0, 2.0, 4.0, 0, 0, 0, 0])
    >>> standing_out(value, np.ones((3, 10)), width=4)
    [Stretch(start=3, end=6, p=0.25)]
    """
    width = min(width, len(value))
    strongest = np.abs(_sums(null, width)).max(axis=1)
    left = value.astype(float)
    taken = np.zeros(len(value), bool)
    found = []
    while True:
        sums = np.abs(_sums(left[None], width))[0]
        at = int(sums.argmax())
        if sums[at] <= np.quantile(strongest, _STRONGER_THAN):
            return sorted(found)
        start, end = _grown(left, at, at + width, taken)
        p = (1 + int((strongest >= sums[at]).sum())) / (len(strongest) + 1)
        found.append(Stretch(start, end, p))
        taken[start:end] = True
        left[taken] = 0.0


def _grown(value: Floats, start: int, end: int, taken: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """The stretch without weak ends and with strong neighbours."""
    same = value * np.sign(value[start:end].sum())
    belongs = (same >= _BELONGS * same[start:end].max()) & ~taken
    inside = np.flatnonzero(belongs[start:end])
    start, end = start + int(inside[0]), start + int(inside[-1]) + 1
    while start > 0 and belongs[start - 1]:
        start -= 1
    while end < len(value) and belongs[end]:
        end += 1
    return start, end


def _sums(value: Floats, width: int) -> Floats:
    total = np.cumsum(np.pad(value, ((0, 0), (1, 0))), axis=1)
    return total[:, width:] - total[:, :-width]


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Stretches of several traces, those that overlap as one, with the smaller p.

    Examples
    --------
    >>> joined([Stretch(7, 9, 0.1), Stretch(2, 5, 0.3), Stretch(4, 6, 0.2)])
    [Stretch(start=2, end=6, p=0.2), Stretch(start=7, end=9, p=0.1)]
    """
    found: list[Stretch] = []
    for one in sorted(stretches):
        if found and one.start < found[-1].end:
            last = found.pop()
            one = Stretch(last.start, max(last.end, one.end), min(last.p, one.p))
        found.append(one)
    return found

"""Experiments on sequence: what a model answers when a motif comes, goes or moves.

Every function takes the model as `predict`, a function from windows of base codes (n, width) to
levels (n,), as `Model.function` makes it, so that one experiment asks about one mark in one
environment and any other function can be asked as well. Both answers are returned, not their
difference: what changed is seen beside what it changed from.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.sequence._shuffle_kernels import dinucleotide_shuffle as _shuffle
from melisma.sequence.encodings import UNKNOWN, Codes, encode

Floats = npt.NDArray[np.floating[Any]]
Predict = Callable[[Codes], Floats]


class BeforeAfter(NamedTuple):
    """Levels of the windows as they were and after the change: (n,) or (n, variants) each."""

    before: Floats
    after: Floats

    @property
    def effect(self) -> Floats:
        """After less before, a mean over variants."""
        after = self.after if self.after.ndim == 1 else self.after.mean(axis=1)
        return after - self.before


def marginalize(
    predict: Predict, windows: Codes, motif: str, *, start: int | None = None
) -> BeforeAfter:
    """What a motif does to backgrounds: levels without it and with it put in.

    Parameters
    ----------
    predict : from uint8 (n, width) to (n,)
    windows : uint8 (n, width), the backgrounds
    motif : bases; N leaves the background's base
    start : where the motif's first base goes; None: around the centre

    Raises
    ------
    MelismaError
        The motif holds other letters or does not fit.

    Examples
    --------
    >>> gc = lambda codes: ((codes == 1) | (codes == 2)).mean(1)
    >>> found = marginalize(gc, encode(["AAAAAAAA"]), "GGCC")
    >>> found.before.tolist(), found.after.tolist()
    ([0.0], [0.5])
    """
    return BeforeAfter(predict(windows), predict(with_motif(windows, motif, start)))


def with_motif(windows: Codes, motif: str, start: int | None = None) -> Codes:
    """The windows with a motif in place of their own bases; N leaves them."""
    codes = _motif(motif)
    width = windows.shape[1]
    first = (width - len(codes)) // 2 if start is None else start
    if first < 0 or first + len(codes) > width:
        raise MelismaError(
            f"The motif {motif} at base {first} does not fit into windows of {width} bases."
        )
    changed = windows.copy()
    place = first + np.flatnonzero(codes != UNKNOWN)
    changed[:, place] = codes[codes != UNKNOWN]
    return changed


def ablate(
    predict: Predict, windows: Codes, start: int, end: int, *, shuffles: int = 20, seed: int = 0
) -> BeforeAfter:
    """What a stretch does: levels with it, and with its bases shuffled.

    Parameters
    ----------
    start, end : the stretch, 0-based within the window, half open
    shuffles : how many; dinucleotides are kept

    Returns
    -------
    before (n,), after (n, shuffles)
    """
    width = windows.shape[1]
    if not 0 <= start < end <= width:
        raise MelismaError(f"Bases {start} to {end} do not lie in windows of {width} bases.")
    shuffled = dinucleotide_shuffle(windows[:, start:end], shuffles, seed=seed)
    after = np.empty((len(windows), shuffles))
    for k in range(shuffles):
        changed = windows.copy()
        changed[:, start:end] = shuffled[:, k]
        after[:, k] = predict(changed)
    return BeforeAfter(predict(windows), after)


def space(
    predict: Predict, windows: Codes, motifs: tuple[str, str], distances: Sequence[int], start: int
) -> BeforeAfter:
    """What two motifs do at distances from each other.

    Parameters
    ----------
    motifs : the first is put at `start`, the second `distance` bases after the first's end
    distances : bases between the two

    Returns
    -------
    before (n,), after (n, distances)
    """
    first, second = motifs
    placed = with_motif(windows, first, start)
    after = np.stack(
        [predict(with_motif(placed, second, start + len(first) + d)) for d in distances], axis=1
    )
    return BeforeAfter(predict(windows), after)


def dinucleotide_shuffle(windows: Codes, n: int, *, seed: int = 0) -> Codes:
    """Sequences with the same dinucleotides in another order.

    A random Eulerian path through each window's dinucleotides, with the last exits drawn as a
    random spanning tree (Altschul & Erickson 1985; Wilson 1996). The first and the last base stay.

    Parameters
    ----------
    windows : uint8 (n windows, width); an unknown base counts as a base of its own
    n : shuffles of each

    Returns
    -------
    uint8 (n windows, n, width)

    Examples
    --------
    >>> from melisma.sequence.encodings import decode
    >>> decode(dinucleotide_shuffle(encode(["ACGTACGGCTAAC"]), 1, seed=4)[:, 0])
    ['ACGTACTAACGGC']
    """
    if n < 1:
        raise MelismaError(f"{n} shuffles are none: ask for one or more.")
    seeds = np.random.default_rng(seed).integers(0, 2**31, (len(windows), n))
    return _shuffle(np.ascontiguousarray(windows), seeds)


def _motif(text: str) -> npt.NDArray[np.uint8]:
    letters = text.upper()
    if not letters or set(letters) - set("ACGTN"):
        raise MelismaError(f"{text!r} is no motif: write bases A, C, G, T, and N for any.")
    return encode(letters)

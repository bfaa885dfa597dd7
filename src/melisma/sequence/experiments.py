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
from scipy.stats import t as student

from melisma.errors import MelismaError
from melisma.sequence._shuffle_kernels import dinucleotide_shuffle as _shuffle
from melisma.sequence.encodings import Codes

Floats = npt.NDArray[np.floating[Any]]
Predict = Callable[[Codes], Floats]

# The bases that each letter stands for (IUPAC).
IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
    "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip


class BeforeAfter(NamedTuple):
    """Levels of the windows as they were and after the change: (n,) or (n, variants) each."""

    before: Floats
    after: Floats

    @property
    def effect(self) -> Floats:
        """After less before, a mean over variants."""
        after = self.after if self.after.ndim == 1 else self.after.mean(axis=1)
        return after - self.before


class Effect(NamedTuple):
    """A mean over windows: before and after a change, their difference, and its 95% interval.

    n : windows; low, high : Student's t over them, NaN for one
    """

    n: int
    before: float
    after: float
    effect: float
    low: float
    high: float


def mean_effect(found: BeforeAfter) -> Effect:
    """What a change does on average, with an interval over windows.

    Examples
    --------
    >>> found = mean_effect(BeforeAfter(np.array([0.1, 0.3]), np.array([0.6, 0.8])))
    >>> found.n, round(found.effect, 3), round(found.high - found.low, 3)
    (2, 0.5, 0.0)
    """
    value = np.asarray(found.effect, float)
    before = float(np.mean(found.before))
    return Effect(len(value), before, before + float(value.mean()), *mean_interval(value))


def mean_interval(value: Floats) -> tuple[float, float, float]:
    """A mean and its 95% interval by Student's t: (n,) to mean, low, high."""
    n, mean = len(value), float(value.mean())
    if n < 2:
        return mean, float("nan"), float("nan")
    reach = float(student.ppf(0.975, n - 1)) * float(value.std(ddof=1)) / n**0.5
    return mean, mean - reach, mean + reach


def marginalize(
    predict: Predict, windows: Codes, motif: str, *, start: int | None = None, seed: int = 0
) -> BeforeAfter:
    """What a motif does to backgrounds: levels without it and with it put in.

    Parameters
    ----------
    predict : from uint8 (n, width) to (n,)
    windows : uint8 (n, width), the backgrounds
    motif : bases in IUPAC's letters; a letter of several bases leaves the background's base where
        it is one of them, and draws one where it is not
    start : where the motif's first base goes; None: around the centre
    seed : of the bases that are drawn

    Raises
    ------
    MelismaError
        The motif holds other letters or does not fit.

    Examples
    --------
    >>> from melisma.sequence.encodings import encode
    >>> gc = lambda codes: ((codes == 1) | (codes == 2)).mean(1)
    >>> found = marginalize(gc, encode(["AAAAAAAA"]), "GGCC")
    >>> found.before.tolist(), found.after.tolist()
    ([0.0], [0.5])
    """
    return BeforeAfter(predict(windows), predict(with_motif(windows, motif, start, seed=seed)))


def with_motif(windows: Codes, motif: str, start: int | None = None, *, seed: int = 0) -> Codes:
    """The windows with a motif in place of their own bases, as `marginalize` puts it."""
    allowed = motif_bases(motif)
    width = windows.shape[1]
    first = (width - len(allowed)) // 2 if start is None else start
    if first < 0 or first + len(allowed) > width:
        raise MelismaError(
            f"The motif {motif} at base {first} does not fit into windows of {width} bases."
        )
    rng = np.random.default_rng(seed)
    changed = windows.copy()
    for j, bases in enumerate(allowed):
        if bases.all():
            continue
        own = changed[:, first + j]
        wrong = ~np.append(bases, False)[own]
        own[wrong] = rng.choice(np.flatnonzero(bases), int(wrong.sum()))
    return changed


def matches(windows: Codes, motif: str) -> npt.NDArray[np.bool_]:
    """Where a motif in IUPAC's letters stands: bool (n, width - length + 1), at its first base.

    Examples
    --------
    >>> from melisma.sequence.encodings import encode
    >>> matches(encode(["AACGT"]), "WCG").tolist()
    [[False, True, False]]
    """
    allowed = np.concatenate([motif_bases(motif), np.zeros((len(motif), 1), bool)], axis=1)
    places = windows.shape[1] - len(motif) + 1
    if places < 1:
        raise MelismaError(
            f"The motif {motif} does not fit into windows of {windows.shape[1]} bases."
        )
    held = np.ones((len(windows), places), bool)
    for j, bases in enumerate(allowed):
        held &= bases[windows[:, j : j + places]]
    return held


def ablate(
    predict: Predict, windows: Codes, start: int, end: int, *, shuffles: int = 20, seed: int = 0,
    keep: Sequence[int] = (), wide: bool = False,
) -> BeforeAfter:  # fmt: skip
    """What a stretch does: levels with it, and with its bases shuffled.

    Parameters
    ----------
    start, end : the stretch, 0-based within the window, half open
    shuffles : how many; dinucleotides are kept
    keep : positions side by side whose bases stay, as those of the site itself
    wide : take the stretch from a shuffle of the whole window, for one so short that few orders of
        its own bases exist

    Returns
    -------
    before (n,), after (n, shuffles)
    """
    width = windows.shape[1]
    if not 0 <= start < end <= width:
        raise MelismaError(f"Bases {start} to {end} do not lie in windows of {width} bases.")
    if wide:
        shuffled = shuffled_around(windows, shuffles, keep, seed=seed)[:, :, start:end]
    else:
        shuffled = dinucleotide_shuffle(windows[:, start:end], shuffles, seed=seed)
    after = np.empty((len(windows), shuffles))
    for k in range(shuffles):
        changed = windows.copy()
        changed[:, start:end] = shuffled[:, k]
        changed[:, list(keep)] = windows[:, list(keep)]
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


def shuffled_around(windows: Codes, n: int, keep: Sequence[int] = (), *, seed: int = 0) -> Codes:
    """Windows that are shuffled around bases that stay.

    What stands before and after those bases is shuffled as one sequence: a shuffle keeps its first
    and last base, and those beside the site are not to be kept.

    Parameters
    ----------
    windows : uint8 (n windows, width)
    keep : positions side by side; none: the window is shuffled whole

    Returns
    -------
    uint8 (n windows, n, width)

    Examples
    --------
    >>> from melisma.sequence.encodings import decode, encode
    >>> decode(shuffled_around(encode(["ACACGGTCA"]), 3, (3, 4), seed=1)[0])
    ['AGTCGCACA', 'ACACGGTCA', 'ACACGGTCA']
    """
    rest = np.setdiff1d(np.arange(windows.shape[1]), list(keep))
    shuffled = np.repeat(windows[:, None], n, axis=1)
    if len(rest):
        around = np.ascontiguousarray(windows[:, rest])
        shuffled[:, :, rest] = dinucleotide_shuffle(around, n, seed=seed)
    return shuffled


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
    >>> from melisma.sequence.encodings import decode, encode
    >>> decode(dinucleotide_shuffle(encode(["ACGTACGGCTAAC"]), 1, seed=4)[:, 0])
    ['ACGTACTAACGGC']
    """
    if n < 1:
        raise MelismaError(f"{n} shuffles are none: ask for one or more.")
    seeds = np.random.default_rng(seed).integers(0, 2**31, (len(windows), n))
    return _shuffle(np.ascontiguousarray(windows), seeds)


def motif_bases(text: str) -> npt.NDArray[np.bool_]:
    """Which bases each letter of a motif stands for: bool (length, 4).

    Raises
    ------
    MelismaError
        The motif is empty or holds a letter that IUPAC does not have.
    """
    letters = text.upper()
    if not letters or set(letters) - set(IUPAC):
        raise MelismaError(
            f"{text!r} is no motif: write bases A, C, G, T, and IUPAC's letters for several (N for "
            "any)."
        )
    return np.array([[base in IUPAC[letter] for base in "ACGT"] for letter in letters])

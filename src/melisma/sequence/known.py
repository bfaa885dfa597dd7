"""Which known motif a stretch of one sequence holds.

Motifs of many sequences are compared with known ones by tomtom (`motifs.name_motifs`). A stretch of
one sequence is a word, so it is scanned: the p of a hit is the share of random words whose
log-likelihood score is as high (Staden 1989), exact but for rounding the scores.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.sequence.encodings import UNKNOWN, Codes, reverse_complement

Floats = npt.NDArray[np.floating[Any]]

# A frequency of 0 would forbid a base for good.
_PSEUDO = 0.01
# Steps of a bit's logarithm in which scores are counted.
_STEPS = 100
# Bases by which a motif may reach over a stretch's ends, or the stretch over the motif's.
_OVER = 1


class Known(NamedTuple):
    """A motif that a stretch resembles.

    name : the motif's
    p : how often a random sequence scores as high at any of the places that were tried
    e : how many of the motifs would by chance
    strand : 1, or -1 where the reverse complement fits
    """

    name: str
    p: float
    e: float
    strand: int


def resembles(
    window: Codes, start: int, end: int, known: Mapping[str, Floats], *, most: float = 0.5
) -> Known | None:
    """The known motif that a stretch of a window fits best, if so good a fit is rare.

    The motif lies within the stretch or the stretch within the motif, a base of overhang allowed.

    Parameters
    ----------
    window : uint8 (width,), codes
    start, end : the stretch, half open
    known : name and (4, length) base frequencies, as `motifs.read_database` returns them
    most : motifs that by chance would fit as well; None is returned where there are more

    Examples
    --------
    >>> from melisma.sequence.encodings import encode
    >>> matrix = np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]].T  # ACGTACGT
    >>> found = resembles(encode(["TTTACGTACGTTTT"])[0], 3, 11, {"word": matrix})
    >>> found.name, found.strand, f"{found.e:.1g}"
    ('word', 1, '9e-05')
    """
    best: Known | None = None
    both = {1: window, -1: reverse_complement(window[None])[0]}
    for name, frequency in known.items():
        score = _scores(frequency)
        length = score.shape[1]
        cut, strand, places = -np.inf, 1, 0
        for sign, codes in both.items():
            first, last = (start, end) if sign == 1 else (len(codes) - end, len(codes) - start)
            for at in range(
                max(min(first, last - length) - _OVER, 0),
                min(max(first, last - length) + _OVER, len(codes) - length) + 1,
            ):
                own = codes[at : at + length]
                if (own == UNKNOWN).any():
                    continue
                places += 1
                value = score[own, np.arange(length)].sum()
                if value > cut:
                    cut, strand = value, sign
        if not places:
            continue
        p = -np.expm1(places * np.log1p(-min(_tail(score, int(cut)), 1 - 1e-12)))
        if best is None or p < best.p:
            best = Known(name, float(p), float(p * len(known)), strand)
    return best if best is not None and best.e <= most else None


def _scores(frequency: Floats) -> npt.NDArray[np.int64]:
    """Log-likelihoods against even bases, in hundredths of a bit: (4, length)."""
    even = (frequency + _PSEUDO) / (1 + 4 * _PSEUDO)
    return np.round(_STEPS * np.log2(even / 0.25)).astype(np.int64)


def _tail(score: npt.NDArray[np.int64], cut: int) -> float:
    """The share of words of even bases that score `cut` or more."""
    lowest = score.min(axis=0)
    share = np.ones(1)
    for column, low in zip(score.T, lowest, strict=True):
        more = np.zeros(len(share) + int(column.max() - low))
        for value in column:
            at = int(value - low)
            more[at : at + len(share)] += share / 4
        share = more
    return float(share[max(cut - int(lowest.sum()), 0) :].sum())

"""Bases as small integers: codes, their reverse complement, one-hot arrays and k-mers.

Codes are A, C, G, T = 0, 1, 2, 3; everything else, and what lies beyond a contig's end, is 4.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError

LETTERS = "ACGTN"
UNKNOWN = 4

Codes = npt.NDArray[np.uint8]


def _table() -> Codes:
    table = np.full(256, UNKNOWN, np.uint8)
    for code, letter in enumerate("ACGT"):
        table[[ord(letter), ord(letter.lower())]] = code
    table[[ord("U"), ord("u")]] = 3
    return table


# The code of each ASCII byte; RNA's U is read as T, IUPAC's ambiguous letters as unknown.
CODE_OF_BYTE = _table()
_COMPLEMENT = np.array([3, 2, 1, 0, 4], np.uint8)
_ONE_HOT = np.vstack([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])


def encode(text: str | bytes | Sequence[str]) -> Codes:
    """The codes of one sequence, or of several of one length.

    Parameters
    ----------
    text : one sequence, or n sequences of equal length; case does not matter, U is T

    Returns
    -------
    uint8 (width,) for one sequence, (n, width) for several

    Raises
    ------
    MelismaError
        The sequences' lengths differ, or one holds something other than letters.

    Examples
    --------
    >>> encode("ACGTN").tolist()
    [0, 1, 2, 3, 4]
    >>> encode(["AC", "gt"]).tolist()
    [[0, 1], [2, 3]]
    """
    if isinstance(text, str | bytes):
        return CODE_OF_BYTE[_letters(text, 0)]
    if len(text) == 0:
        return np.zeros((0, 0), np.uint8)
    lengths = np.fromiter(map(len, text), np.int64, len(text))
    if (lengths != lengths[0]).any():
        odd = int(np.flatnonzero(lengths != lengths[0])[0])
        raise MelismaError(
            f"Sequence {odd + 1} has {lengths[odd]:,} bases where the first has {lengths[0]:,}: "
            "windows of one model have one width."
        )
    return CODE_OF_BYTE[_letters("".join(text), int(lengths[0])).reshape(len(text), -1)]


def _letters(text: str | bytes, width: int) -> npt.NDArray[np.uint8]:
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        letter = error.object[error.start]
        raise MelismaError(f"{letter!r} is not a base: sequences are written in ASCII.") from None
    found = np.frombuffer(raw, np.uint8)
    folded = found & 0xDF
    bad = np.flatnonzero((folded < ord("A")) | (folded > ord("Z")))
    if len(bad):
        at = int(bad[0])
        where = f"sequence {at // width + 1}, base {at % width + 1}" if width else f"base {at + 1}"
        raise MelismaError(f"{chr(found[at])!r} is not a base ({where}): write A, C, G, T or N.")
    return found


def decode(codes: Codes) -> str | list[str]:
    """The letters of codes: a string for (width,), a list of strings for (n, width).

    Examples
    --------
    >>> decode(np.array([0, 1, 4], np.uint8))
    'ACN'
    """
    letters = np.frombuffer(LETTERS.encode(), np.uint8)[codes]
    if codes.ndim == 1:
        return letters.tobytes().decode()
    return [row.tobytes().decode() for row in letters]


def reverse_complement(codes: Codes) -> Codes:
    """The other strand, read 5' to 3', along the last axis; the same shape.

    Examples
    --------
    >>> decode(reverse_complement(encode("AACGN")))
    'NCGTT'
    """
    return np.ascontiguousarray(_COMPLEMENT[codes[..., ::-1]])


def one_hot(codes: Codes) -> npt.NDArray[np.float32]:
    """One row a base: (..., width) codes to float32 (..., 4, width); unknown is four zeros.

    Examples
    --------
    >>> one_hot(encode("AN")).tolist()
    [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    return np.ascontiguousarray(np.moveaxis(_ONE_HOT[codes], -1, -2))


def kmers(codes: Codes, k: int) -> npt.NDArray[np.int32]:
    """The k-mer that starts at each base, as a number in base 4.

    Returns
    -------
    int32 (..., width - k + 1), 0 to 4**k - 1 in the order AA, AC, ...; 4**k where a base of the
    k-mer is unknown

    Raises
    ------
    MelismaError
        k is not 1 to 12, or longer than the window.

    Examples
    --------
    >>> kmers(encode("AACN"), 2).tolist()
    [0, 1, 16]
    """
    if not 1 <= k <= 12:
        raise MelismaError(f"k-mers of {k} bases were asked for: choose 1 to 12.")
    width = codes.shape[-1]
    if k > width:
        raise MelismaError(f"A window of {width} bases has no k-mer of {k}: choose a smaller k.")
    n = width - k + 1
    number = np.zeros((*codes.shape[:-1], n), np.int32)
    unknown = np.zeros(number.shape, bool)
    for step in range(k):
        base: npt.NDArray[Any] = codes[..., step : step + n]
        number = number * 4 + np.minimum(base, 3)
        unknown |= base == UNKNOWN
    number[unknown] = 4**k
    return number

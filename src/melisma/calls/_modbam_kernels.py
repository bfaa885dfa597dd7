"""Numba kernels of `modbam`: one read's MM/ML calls added to a window's counts.

The counts are uint32 (2 strands, positions, CHANNELS); strand 0 is -, 1 is +. A channel is
reads: of each mark, then for each modifiable base (C, A) of an unsupported modification, of
the canonical base, of failed calls, of the base whether called or not; then of any base, of a
deletion, and last a bit set of the marks that the reads tell about.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from melisma.methylome import MARKS

BASES = "CA"
MARK_BASE = tuple(BASES.index(mark.base) for mark in MARKS)
OTHER = len(MARKS)
CANONICAL = OTHER + len(BASES)
FAIL = CANONICAL + len(BASES)
SEEN = FAIL + len(BASES)
DEPTH = SEEN + len(BASES)
DELETE = DEPTH + 1
TOLD = DELETE + 1
CHANNELS = TOLD + 1

ANY = ord("N")
# What `count_read` returns.
DONE, TOO_MANY_CALLS = 0, 1

_A, _C, _G = ord("A"), ord("C"), ord("G")
# Probabilities are kept as (2 ML + 1) / 512, exact integers over 512.
_ONE = 512
_COMPLEMENT = np.full(256, ANY, np.uint8)
for _base, _pair in ("AT", "CG", "GC", "TA"):
    _COMPLEMENT[ord(_base)] = ord(_pair)

Integers = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def parse_deltas(text: npt.NDArray[np.uint8]) -> Integers:
    """The numbers of a `,5,0,12` list of MM, int64 (calls,); [-1] where it is none."""
    count = 0
    for letter in text:
        count += letter == 44
    deltas = np.zeros(count, np.int64)
    malformed = np.full(1, -1, np.int64)
    at = -1
    digits = 1
    for letter in text:
        if letter == 44:
            if digits == 0:
                return malformed
            at += 1
            digits = 0
        elif 48 <= letter <= 57 and at >= 0 and digits < 10:
            deltas[at] = 10 * deltas[at] + letter - 48
            digits += 1
        else:
            return malformed
    return deltas if digits > 0 else malformed


@njit(cache=True, nogil=True)
def count_read(
    counts: npt.NDArray[np.uint32],
    first: int,
    query: npt.NDArray[np.uint8],
    reverse: bool,
    start: int,
    operations: Integers,
    lengths: Integers,
    on_strand: npt.NDArray[np.bool_],
    letters: npt.NDArray[np.uint8],
    implicit: npt.NDArray[np.bool_],
    deltas: Integers,
    delta_start: Integers,
    slots: Integers,
    slot_letters: npt.NDArray[np.uint8],
    slot_start: Integers,
    quality: npt.NDArray[np.uint8],
    min_score: float,
) -> int:
    """Add one aligned read to the counts of the window that begins at `first`.

    `query` is the sequence as the BAM stores it, `start` its first aligned reference position,
    `operations` and `lengths` its CIGAR; `on_strand` says whether its MM groups speak of the
    read's own strand and of the opposite one. A group has a letter, whether its skipped bases
    are canonical, its deltas and its slots (channels of its codes, -1: ignored), each with the
    letter at which it counts; `quality` is ML. Calls below `min_score` / 512 fail.
    """
    original = query
    if reverse:
        original = _COMPLEMENT[query[::-1]]
    status, best, slot, total, told = _read_calls(
        original, letters, implicit, deltas, delta_start, slots, slot_letters, slot_start, quality
    )
    if status != DONE:
        return status
    window = counts.shape[1]
    at = 0
    reference = start - first
    own = 0 if reverse else 1
    for k in range(len(operations)):
        operation, length = operations[k], lengths[k]
        if operation in (0, 7, 8):
            for i in range(max(0, -reference), min(length, window - reference)):
                step = at + i
                if reverse:
                    step = len(query) - 1 - step
                here = reference + i
                letter = original[step]
                if on_strand[0]:
                    _see(counts[own, here], letter)
                if on_strand[1]:
                    _see(counts[1 - own, here], int(_COMPLEMENT[letter]))
                if told[step]:
                    side = own if letter in (_C, _A) else 1 - own
                    base = 0 if letter in (_C, _G) else 1
                    score, channel = _call(best[step], slot[step], total[step], base)
                    counts[side, here, channel if score >= min_score else FAIL + base] += 1
                    counts[side, here, TOLD] |= told[step]
        elif operation == 2:
            for here in range(max(0, reference), min(reference + length, window)):
                counts[own, here, DELETE] += on_strand[0]
                counts[1 - own, here, DELETE] += on_strand[1]
        if operation in (0, 1, 4, 7, 8):
            at += length
        if operation in (0, 2, 3, 7, 8):
            reference += length
    return DONE


@njit(cache=True, nogil=True)
def _see(channels: npt.NDArray[np.uint32], letter: int) -> None:
    channels[DEPTH] += 1
    if letter == _C:
        channels[SEEN] += 1
    elif letter == _A:
        channels[SEEN + 1] += 1


@njit(cache=True, nogil=True)
def _call(best: int, slot: int, total: int, base: int) -> tuple[int, int]:
    """Score over 512 and channel of the most probable of canonical and the marks."""
    canonical = _ONE - total
    if canonical > best:
        return canonical, CANONICAL + base
    return best, slot


@njit(cache=True, nogil=True)
def _read_calls(
    original: npt.NDArray[np.uint8],
    letters: npt.NDArray[np.uint8],
    implicit: npt.NDArray[np.bool_],
    deltas: Integers,
    delta_start: Integers,
    slots: Integers,
    slot_letters: npt.NDArray[np.uint8],
    slot_start: Integers,
    quality: npt.NDArray[np.uint8],
) -> tuple[int, npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Best mark's score and slot, all marks' scores and the marks told of, (bases,) each.

    `original` is the sequence as it was read, 5' to 3'.
    """
    n = len(original)
    best, total = np.zeros(n, np.int32), np.zeros(n, np.int32)
    slot, told = np.zeros(n, np.int8), np.zeros(n, np.uint8)
    ml = 0
    for g in range(len(letters)):
        codes = slot_start[g + 1] - slot_start[g]
        d, last = delta_start[g], delta_start[g + 1]
        skip = deltas[d] if d < last else n
        for i in range(n):
            if letters[g] != ANY and original[i] != letters[g]:
                continue
            called = d < last and skip == 0
            if called or implicit[g]:
                for c in range(slot_start[g], slot_start[g + 1]):
                    if slots[c] < 0 or original[i] != slot_letters[c]:
                        continue
                    told[i] |= 1 << slots[c]
                    if called:
                        score = 2 * np.int32(quality[ml + c - slot_start[g]]) + 1
                        total[i] += score
                        if score > best[i] or (score == best[i] and slots[c] < slot[i]):
                            best[i], slot[i] = score, slots[c]
            if called:
                d += 1
                ml += codes
                skip = deltas[d] if d < last else n
            else:
                skip -= 1
                if d == last and not implicit[g]:
                    break
        if d < last:
            return TOO_MANY_CALLS, best, slot, total, told
    return DONE, best, slot, total, told

"""Rows of text from columns of numbers: one kernel for every format, driven by its fields.

The reverse of `calls._parser`: a format is a list of fields, each a word from a table, a whole
number, or a share of two counts; the kernel writes one row a covered site into a block of bytes.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from melisma.export._bytes import PADDING, put_byte, put_bytes, put_decimals, put_number

Ints = npt.NDArray[np.int64]


class Slot(IntEnum):
    """The numbers of one row that fields are written from."""

    CONTIG = 0
    POSITION = 1
    STRAND = 2
    MARK = 3
    CONTEXT = 4
    LETTERS = 5
    METHYLATED = 6
    COVERAGE = 7
    UNMETHYLATED = 8
    OTHER = 9
    CANONICAL = 10


class Op(IntEnum):
    """How a field is written."""

    WORD = 0
    NUMBER = 1
    SHARE = 2


class Word(NamedTuple):
    """The word of a table that a slot's number points to; one word alone is a constant."""

    words: Sequence[str]
    slot: Slot | None = None


class Number(NamedTuple):
    """A slot's number, with `add` added."""

    slot: Slot
    add: int = 0


class Share(NamedTuple):
    """A slot's reads out of the coverage, times `scale`: 1 a level, 100 a percentage."""

    slot: Slot
    scale: int = 100


Field = Word | Number | Share


class Layout(NamedTuple):
    """Fields as the kernel takes them.

    program : int64 (fields, 4): op, slot (-1: none), argument, the byte written after it
    pool, bounds : the words' bytes, and where each begins and ends (words + 1,)
    longest : bytes of the longest row that can be
    """

    program: Ints
    pool: npt.NDArray[np.uint8]
    bounds: Ints
    longest: int


_TAB, _NEWLINE, _NO_BYTE = 9, 10, -1
_MOST_DIGITS = 20


def layout(columns: Sequence[Field | Sequence[Field]]) -> Layout:
    """Lay out tab-separated columns; a column of several fields has them side by side."""
    program: list[tuple[int, int, int, int]] = []
    words: list[bytes] = []
    longest = 0
    for number, column in enumerate(columns):
        fields = [column] if isinstance(column, Word | Number | Share) else list(column)
        last = _NEWLINE if number == len(columns) - 1 else _TAB
        for k, field in enumerate(fields):
            after = last if k == len(fields) - 1 else _NO_BYTE
            if isinstance(field, Word):
                slot = -1 if field.slot is None else int(field.slot)
                program.append((Op.WORD, slot, len(words), after))
                words += [word.encode() for word in field.words]
                longest += max(len(word.encode()) for word in field.words) + 1
            else:
                share = isinstance(field, Share)
                argument = field.scale if share else field.add
                op = Op.SHARE if share else Op.NUMBER
                program.append((op, int(field.slot), argument, after))
                longest += 2 * _MOST_DIGITS if share else _MOST_DIGITS + 1
    bounds = np.cumsum([0, *(len(word) for word in words)], dtype=np.int64)
    pool = np.frombuffer(b"".join(words) + bytes(PADDING), dtype=np.uint8)
    return Layout(np.array(program, dtype=np.int64), pool, bounds, longest)


class Sites(NamedTuple):
    """Columns of a stretch of sites, (rows,) each; strand as 0 (-), 1 (none), 2 (+)."""

    contig: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    strand: npt.NDArray[np.int64]
    mark: npt.NDArray[np.int64]
    context: npt.NDArray[np.int64]
    letters: npt.NDArray[np.int64]


_TEN, _HUNDRED, _ONE, _TWO = np.uint64(10), np.uint64(100), np.uint64(1), np.uint64(2)
_POINT = 46


@njit(cache=True, nogil=True, forceinline=True)
def _put_share(text, at, part, whole, scale):
    """Write scale × part / whole, rounded to 2, 4, 6 or 8 decimals.

    There are so many that a reader who rounds share × whole / scale has `part` again: a unit of
    the last decimal is at most a tenth of a read. Eight decimals of a percentage are still good
    for 2**32 reads, of which half a unit is 0.21.
    """
    decimals, units = 2, _HUNDRED
    while decimals < 8 and whole * _TEN > units * scale:
        decimals += 2
        units *= _HUNDRED
    whole = max(whole, _ONE)
    number = part * scale // whole
    rest = part * scale - number * whole
    decimal = (rest * units + whole // _TWO) // whole
    if decimal >= units:
        number += _ONE
        decimal -= units
    at = put_number(text, at, number)
    put_byte(text, at, _POINT)
    return put_decimals(text, at + 1, decimal, decimals)


@njit(cache=True, nogil=True)
def _write_rows(start, sites, counts, uncovered, program, bounds, pool, text, room, slots):
    contig, position, strand, mark, context, letters = sites
    methylated, coverage, other = counts
    at, written, i = 0, 0, start
    while i < len(position) and at <= room:
        n = np.int64(coverage[i])
        if n > 0 or uncovered:
            m = np.int64(methylated[i])
            rest = np.int64(other[i]) if len(other) else np.int64(0)
            slots[0], slots[1], slots[2], slots[3] = contig[i], position[i], strand[i], mark[i]
            slots[4], slots[5] = context[i], letters[i]
            slots[6], slots[7], slots[8] = m, n, n - m
            slots[9], slots[10] = rest, n - m - rest
            for k in range(len(program)):
                op, slot, argument = program[k, 0], program[k, 1], program[k, 2]
                if op == Op.WORD:
                    word = argument + slots[slot] if slot >= 0 else argument
                    at = put_bytes(text, at, pool, bounds[word], bounds[word + 1])
                elif op == Op.NUMBER:
                    at = put_number(text, at, np.uint64(slots[slot] + argument))
                else:
                    part, whole = np.uint64(slots[slot]), np.uint64(n)
                    at = _put_share(text, at, part, whole, np.uint64(argument))
                after = program[k, 3]
                put_byte(text, at, after)
                at += after >= 0
            written += 1
        i += 1
    return i, at, written


def write_rows(
    start: int,
    sites: Sites,
    counts: tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint32]],
    laid: Layout,
    out: npt.NDArray[np.uint8],
    *,
    uncovered: bool = False,
) -> tuple[int, int, int]:
    """Write rows from site `start` on until the sites or the room in `out` end.

    Parameters
    ----------
    counts : M, N and other marks' reads (length 0: none), each (rows,)
    uncovered : whether sites with N = 0 have a row

    Returns
    -------
    the next site, the bytes written, the rows written
    """
    slots = np.zeros(len(Slot), dtype=np.int64)
    program, pool, bounds, longest = laid
    done: Any = _write_rows(
        start,
        tuple(sites),
        counts,
        uncovered,
        program,
        bounds,
        pool.ctypes.data,
        out.ctypes.data,
        len(out) - longest - PADDING,
        slots,
    )
    return int(done[0]), int(done[1]), int(done[2])


@njit(cache=True, nogil=True)
def other_reads(contig, position, strand, base, methylated, coverage, out):
    """Other marks' reads at each site, at most N - M; how many sites had to be cut to that.

    Sites of one contig, position and strand stand together; only marks of one base share reads.
    """
    cut, first = 0, 0
    while first < len(position):
        last = first + 1
        while (
            last < len(position)
            and position[last] == position[first]
            and strand[last] == strand[first]
            and contig[last] == contig[first]
        ):
            last += 1
        for i in range(first, last):
            found = np.int64(0)
            for j in range(first, last):
                if j != i and base[j] == base[i]:
                    found += np.int64(methylated[j])
            room = np.int64(coverage[i]) - np.int64(methylated[i])
            if coverage[i] > 0 and found > room:
                cut += 1
            out[i] = min(found, room)
        first = last
    return cut

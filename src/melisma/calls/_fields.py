"""One field of a row of text: what it says, and what may be wrong with it.

Each field goes into the row's slots, (ROW_SLOTS,) int64, at the place of its `Kind`; levels in
units of 1e-8. Text and slots are addresses, as `_words` explains.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from melisma.calls._format import Counts, Kind
from melisma.calls._words import (
    byte_at,
    decimals,
    digits,
    first_of,
    integer_at,
    is_word,
    set_integer,
    word_at,
)


class Fault(IntEnum):
    """Why the parser stopped."""

    NONE = 0
    TOO_FEW = 1
    TOO_MANY = 2
    INTEGER = 3
    NEGATIVE = 4
    NUMBER = 5
    STRAND = 6
    BASE = 7
    CODE = 8
    WIDTH = 9
    EXCEEDS = 10
    VALID = 11
    LEVEL = 12
    LARGE = 13
    BEFORE_FIRST = 14
    NAME = 15


# The row's contig name, after the slots of the kinds: start, end, and whether it is a new one.
NAME_START, NAME_END, NAME_NEW, ROW_SLOTS = 14, 15, 16, 17
_PLUS, _COMMA, _MINUS, _DOT, _ZERO, _QUOTE, _STAR = 43, 44, 45, 46, 48, 34, 42
_LETTER_C, _LETTER_F, _LETTER_G, _LETTER_H, _LETTER_R = 67, 70, 71, 72, 82
_LARGEST = (1 << 31) - 2
_LEVEL_UNITS = 100_000_000


@njit(cache=True, nogil=True)
def _decimal(text, i, end):
    """The number text[i:end] with a sign, a point or an exponent, and whether it is one."""
    value, found, places, point = 0.0, 0, 0, False
    negative = byte_at(text, i) == _MINUS
    i += negative
    while i < end:
        byte = byte_at(text, i)
        if 48 <= byte <= 57:
            value = value * 10.0 + (byte - _ZERO)
            found += 1
            places += point
        elif byte == _DOT and not point:
            point = True
        else:
            break
        i += 1
    exponent, good = 0, found > 0
    if good and i < end and (byte_at(text, i) == 101 or byte_at(text, i) == 69):
        i += 1
        down = byte_at(text, i) == _MINUS
        i += down or byte_at(text, i) == _PLUS
        exponent = digits(text, i, end - i) if 0 < end - i <= 3 else -1
        good = exponent >= 0
        exponent = -exponent if down else exponent
        i = end
    exponent -= places
    if exponent:
        value = value * 10.0**exponent if exponent > 0 else value / 10.0 ** (-exponent)
    return (-value if negative else value), good and i == end


@njit(cache=True, nogil=True)
def _written_otherwise(text, i, end):
    """A whole number that is not plain digits, such as R's 3e+06, and a fault."""
    number, good = _decimal(text, i, end)
    if not good:
        return np.int64(0), Fault.INTEGER
    if number < 0:
        return np.int64(0), Fault.NEGATIVE
    if number != np.floor(number):
        return np.int64(0), Fault.INTEGER
    if number > _LARGEST:
        return np.int64(0), Fault.LARGE
    return np.int64(number), Fault.NONE


@njit(cache=True, nogil=True, forceinline=True)
def _integer(text, i, end):
    """The whole number of 0 or more text[i:end], and a fault."""
    length = end - i
    if 0 < length <= 8:
        value = digits(text, i, length)
        if value >= 0:
            return value, Fault.NONE
    elif length == 9 or length == 10:
        value, head = digits(text, end - 8, 8), digits(text, i, length - 8)
        if value >= 0 and head >= 0 and head <= 20:
            return head * _LEVEL_UNITS + value, Fault.NONE
    return _written_otherwise(text, i, end)


@njit(cache=True, nogil=True)
def _level_otherwise(text, i, end):
    """A level that is not up to three digits, a point and decimals; and a fault."""
    number, good = _decimal(text, i, end)
    if not good or number > 1e9:
        return np.int64(0), Fault.NUMBER
    if number < 0:
        return np.int64(0), Fault.NEGATIVE
    return np.int64(number * _LEVEL_UNITS + 0.5), Fault.NONE


@njit(cache=True, nogil=True, forceinline=True)
def _level(text, i, end):
    """The level text[i:end] in units of 1e-8, and a fault; decimals after the eighth are cut."""
    length = end - i
    if 0 < length <= 3:
        value = digits(text, i, length)
        if value >= 0:
            return value * _LEVEL_UNITS, Fault.NONE
    point = first_of(text, i, _DOT)
    places = length - point - 1
    if 0 < point < 4 and places > 0:
        known = min(places, 8)
        whole, part = digits(text, i, point), decimals(text, i + point + 1, known)
        # The last decimals must be digits too; of up to 16, these and the first are all.
        if whole >= 0 and part >= 0 and decimals(text, end - known, known) >= 0 and places <= 16:
            return whole * _LEVEL_UNITS + part, Fault.NONE
    return _level_otherwise(text, i, end)


@njit(cache=True, nogil=True, forceinline=True)
def _strand(byte):
    """The strand of a sign or of methylKit's F and R, and a fault."""
    if byte in (_PLUS, _LETTER_F):
        return 1, Fault.NONE
    if byte in (_MINUS, _LETTER_R):
        return -1, Fault.NONE
    return 0, Fault.NONE if byte in (_DOT, _STAR) else Fault.STRAND


@njit(cache=True, nogil=True, forceinline=True)
def _strand_of_base(byte):
    """The strand on which a base reads C, and a fault."""
    if byte == _LETTER_C or byte == _LETTER_C + 32:
        return 1, Fault.NONE
    if byte == _LETTER_G or byte == _LETTER_G + 32:
        return -1, Fault.NONE
    return 0, Fault.BASE


@njit(cache=True, nogil=True, forceinline=True)
def _context(text, i, end):
    """Index into `CONTEXTS` of the context text[i:end]; what is none of them is unknown."""
    if byte_at(text, i) == _LETTER_C:
        if end - i == 2 and byte_at(text, i + 1) == _LETTER_G:
            return 0
        if end - i == 3 and byte_at(text, i + 1) == _LETTER_H:
            if byte_at(text, i + 2) == _LETTER_G:
                return 1
            if byte_at(text, i + 2) == _LETTER_H:
                return 2
    return 3


@njit(cache=True, nogil=True, forceinline=True)
def _mark(text, i, end, codes):
    """Index of the mark whose code stands at text[i:end], up to a comma, or -1."""
    for k in range(integer_at(codes, 0)):
        length = integer_at(codes, 3 * k + 2)
        stop = i + length
        whole = stop == end or (stop < end and byte_at(text, stop) == _COMMA)
        if whole and is_word(text, i, np.uint64(integer_at(codes, 3 * k + 1)), length):
            return integer_at(codes, 3 * k + 3)
    return -1


@njit(cache=True, nogil=True, forceinline=True)
def read_field(text, i, end, kind, slot, codes):
    """Read the field text[i:end] into its slot; returns a fault."""
    if kind <= Kind.OTHER:
        value, fault = _integer(text, i, end)
        set_integer(slot, kind, value)
    elif kind <= Kind.LEVEL_UNMETHYLATED:
        value, fault = _level(text, i, end)
        set_integer(slot, kind, value)
    elif kind == Kind.CODE:
        value = _mark(text, i, end, codes)
        fault = Fault.CODE if value < 0 else Fault.NONE
        set_integer(slot, Kind.CODE, value)
    elif kind == Kind.CONTEXT:
        set_integer(slot, Kind.CONTEXT, _context(text, i, end))
        fault = Fault.NONE
    elif kind == Kind.STRAND:
        value, fault = _strand(byte_at(text, i))
        set_integer(slot, Kind.STRAND, value)
        fault = fault if end == i + 1 else Fault.STRAND
    else:
        value, fault = _strand_of_base(byte_at(text, i))
        set_integer(slot, Kind.STRAND, value)
        fault = fault if end == i + 1 else Fault.BASE
    return fault


@njit(cache=True, nogil=True, forceinline=True)
def count_reads(rule, slot, scale):
    """M, N and a fault from a row's slots, by the format's rule.

    scale : what a level of 1 is written as (1 or 100), 0 where there is no level to check
    """
    methylated = integer_at(slot, Kind.METHYLATED)
    unmethylated = integer_at(slot, Kind.UNMETHYLATED)
    coverage = integer_at(slot, Kind.COVERAGE)
    if rule == Counts.METHYLATED_UNMETHYLATED:
        coverage = methylated + unmethylated
    elif rule == Counts.PERCENTS:
        parts = 100.0 * _LEVEL_UNITS
        methylated = np.int64(coverage * (integer_at(slot, Kind.LEVEL) / parts) + 0.5)
        unmethylated = np.int64(
            coverage * (integer_at(slot, Kind.LEVEL_UNMETHYLATED) / parts) + 0.5
        )
        if methylated + unmethylated > coverage + 1:
            return methylated, coverage, Fault.LEVEL
        coverage = methylated + unmethylated
    if methylated > coverage:
        return methylated, coverage, Fault.EXCEEDS
    if rule == Counts.VALID_SUM and coverage != methylated + unmethylated + integer_at(
        slot, Kind.OTHER
    ):
        return methylated, coverage, Fault.VALID
    if coverage > _LARGEST:
        return methylated, coverage, Fault.LARGE
    if scale:
        level = integer_at(slot, Kind.LEVEL) * (1.0 / _LEVEL_UNITS)
        if abs(level * coverage - scale * methylated) > 0.01 * scale * coverage + 1e-6:
            return methylated, coverage, Fault.LEVEL
    return methylated, coverage, Fault.NONE


@njit(cache=True, nogil=True, forceinline=True)
def note_contig(text, i, end, slot):
    """Note in the slots whether the contig's name text[i:end] is another than before; a fault."""
    start, length = integer_at(slot, NAME_START), end - i
    same = length > 0 and integer_at(slot, NAME_END) - start == length
    if same and length <= 8:
        same = is_word(text, i, word_at(text, start), length)
    elif same:
        j = 0
        while j < length and byte_at(text, i + j) == byte_at(text, start + j):
            j += 1
        same = j == length
    set_integer(slot, NAME_NEW, 0 if same else 1)
    if same:
        return Fault.NONE
    set_integer(slot, NAME_START, i)
    set_integer(slot, NAME_END, end)
    return Fault.NAME if length == 0 or byte_at(text, i) == _QUOTE else Fault.NONE

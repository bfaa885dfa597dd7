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
    hundredths,
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
    FLAG = 16
    DEPTH = 17
    FRACTION = 18


# The row's contig name, after the slots of the kinds: start, end, and whether it is a new one.
NAME_START, NAME_END, NAME_NEW, ROW_SLOTS = 15, 16, 17, 18
# Added to the context of a base that is mutated in the sample.
MUTATED = 4
_PLUS, _COMMA, _MINUS, _DOT, _ZERO, _QUOTE, _STAR = 43, 44, 45, 46, 48, 34, 42
_LETTER_A, _LETTER_C, _LETTER_F, _LETTER_G, _LETTER_H = 65, 67, 70, 71, 72
_LETTER_N, _LETTER_P, _LETTER_R, _LETTER_T, _LETTER_X = 78, 80, 82, 84, 88
_UPPER = 0xDF
_LARGEST = (1 << 31) - 2
_LEVEL_UNITS = 100_000_000
# A level that is written as missing; it fits no counts but those of no reads.
_NO_LEVEL = -10_000 * _LEVEL_UNITS


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
def _is_missing(text, i, end):
    """Whether text[i:end] is nan in any case, with or without a sign, or a single point."""
    if end == i + 1:
        return byte_at(text, i) == _DOT
    i += byte_at(text, i) == _MINUS
    first, last = byte_at(text, i) & _UPPER, byte_at(text, i + 2) & _UPPER
    middle = byte_at(text, i + 1) & _UPPER
    return end == i + 3 and first == _LETTER_N and middle == _LETTER_A and last == _LETTER_N


@njit(cache=True, nogil=True)
def _level_otherwise(text, i, end):
    """A level that is not up to three digits, a point and decimals; and a fault."""
    if _is_missing(text, i, end):
        return np.int64(_NO_LEVEL), Fault.NONE
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
    elif 4 <= length <= 6:
        # Two decimals, as modkit and methylKit write; there are columns before, so 8 bytes.
        value = hundredths(text, end, length)
        if value >= 0:
            return value * (_LEVEL_UNITS // 100), Fault.NONE
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
def _is_base(letter):
    """Whether an upper-case letter is A, C, T or the H that stands for one of them."""
    return letter in (_LETTER_A, _LETTER_C, _LETTER_H, _LETTER_T)


@njit(cache=True, nogil=True)
def _context(text, i, end):
    """Index into `CONTEXTS` of the context text[i:end]: CG, CpG, CHG, CXG, CHH, the bases from
    the C on, or a base and CG; what is none of them is unknown. `MUTATED` is added for an x.
    """
    mutated = 0
    if end - i > 3 and byte_at(text, end - 1) & _UPPER == _LETTER_X:
        end -= 1
        mutated = MUTATED
    first, second = byte_at(text, i) & _UPPER, byte_at(text, i + 1) & _UPPER
    third = byte_at(text, i + 2) & _UPPER
    context = 3
    if end - i == 2:
        if first == _LETTER_C and second == _LETTER_G:
            context = 0
    elif end - i == 3:
        if first != _LETTER_C:
            context = 0 if second == _LETTER_C and third == _LETTER_G else 3
        elif second == _LETTER_G or (second == _LETTER_P and third == _LETTER_G):
            context = 0
        elif third == _LETTER_G and (_is_base(second) or second == _LETTER_X):
            context = 1
        elif _is_base(second) and _is_base(third):
            context = 2
    return context + mutated


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
    elif kind == Kind.FLAG:
        good = end == i + 1 and byte_at(text, i) in (_ZERO, _ZERO + 1)
        fault = Fault.NONE if good else Fault.FLAG
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
def _from_percents(slot):
    """M, N and a fault, where a row has N and both percentages, each rounded."""
    coverage, parts = integer_at(slot, Kind.COVERAGE), 100.0 * _LEVEL_UNITS
    level, other = integer_at(slot, Kind.LEVEL), integer_at(slot, Kind.LEVEL_UNMETHYLATED)
    if min(level, other) < 0:
        return np.int64(0), coverage, Fault.LEVEL if coverage else Fault.NONE
    # Multiplied first, so that 29% of 50 is 14.5 and not a little less.
    methylated = np.int64(float(coverage) * level / parts + 0.5)
    unmethylated = np.int64(float(coverage) * other / parts + 0.5)
    if methylated + unmethylated > coverage + 1:
        return methylated, coverage, Fault.LEVEL
    if coverage and ((level and not methylated) or (other and not unmethylated)):
        return methylated, coverage, Fault.FRACTION
    return methylated, methylated + unmethylated, Fault.NONE


@njit(cache=True, nogil=True, forceinline=True)
def _from_level(slot, scale):
    """M and a fault, where a row has N and a level of at most `scale`."""
    coverage = integer_at(slot, Kind.COVERAGE)
    level, most = integer_at(slot, Kind.LEVEL), float(scale) * _LEVEL_UNITS
    if level < 0 or level > most:
        return np.int64(0), Fault.LEVEL if coverage or level > most else Fault.NONE
    methylated = np.int64(float(coverage) * level / most + 0.5)
    # One read's percentage, rounded or cut to a whole one, is never less than half a read.
    fraction = scale == 100 and coverage > 0 and level > 0 and methylated == 0
    return methylated, Fault.FRACTION if fraction else Fault.NONE


@njit(cache=True, nogil=True, forceinline=True)
def count_reads(rule, slot, scale, tolerance):
    """M, N and a fault from a row's slots, by the format's rule.

    scale : what a level of 1 is written as (1 or 100), 0 where there is no level to check
    tolerance : how far a level may be from M / N, in units of 1e-8 of 1
    """
    methylated = integer_at(slot, Kind.METHYLATED)
    unmethylated = integer_at(slot, Kind.UNMETHYLATED)
    coverage, fault = integer_at(slot, Kind.COVERAGE), Fault.NONE
    if rule == Counts.METHYLATED_UNMETHYLATED:
        coverage = methylated + unmethylated
    elif rule == Counts.WITHIN_DEPTH:
        depth = coverage
        coverage = methylated + unmethylated + integer_at(slot, Kind.OTHER)
        fault = Fault.DEPTH if coverage > depth else Fault.NONE
    elif rule == Counts.PERCENTS:
        methylated, coverage, fault = _from_percents(slot)
    elif rule == Counts.LEVEL_COVERAGE:
        methylated, fault = _from_level(slot, scale)
    if fault != Fault.NONE:
        return methylated, coverage, fault
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
        allowed = tolerance * (1.0 / _LEVEL_UNITS) * scale * coverage + 1e-6
        if abs(level * coverage - scale * methylated) > allowed:
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

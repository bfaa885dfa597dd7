"""Text many bytes at a time: where fields end, and what number digits make, without a loop.

Separators are found as bits of a word, 64 bytes at once, as in Langdale & Lemire, "Parsing
gigabytes of JSON per second" (2019); eight digits are summed as in Lemire, "Number parsing at a
gigabyte per second" (2021). Text is an address here: numba counts the references of an array at
every call, which took more than half of the parser's time. Who passes an address keeps its array
alive.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

if sys.byteorder != "little":
    raise ImportError("melisma reads text in little-endian words, and this machine is big-endian.")

# Its result takes no typing context, which type checkers cannot see.
intrinsic: Any = extending.intrinsic
# How far past the end of the text the functions may read.
PADDING = 80
_LANES = 64
# More columns than any format has.
MOST_FIELDS = 64
_NOWHERE = np.int64(1 << 62)
_EIGHT_ZEROS = np.uint64(0x3030303030303030)
_ABOVE_NINE = np.uint64(0x7676767676767676)
_ONES = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)
_DIGIT_FACTOR = np.uint64((10 << 8) + 1)
_PAIRS, _PAIR_FACTOR = np.uint64(0x00FF00FF00FF00FF), np.uint64((100 << 16) + 1)
_FOURS, _FOUR_FACTOR = np.uint64(0x0000FFFF0000FFFF), np.uint64((10000 << 32) + 1)
_0, _1, _8, _16, _32 = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(16), np.uint64(32)
_40, _63 = np.uint64(40), np.uint64(63)
_BYTE, _POINT, _LAST_TWO = np.uint64(0xFF), np.uint64(46), np.uint64(0xFFFF << 48)


def _pointer(builder: Any, address: Any, i: Any, bits: int) -> Any:
    place = builder.inttoptr(address, ir.IntType(bits).as_pointer())
    return builder.gep(place, [i])


@intrinsic
def byte_at(typing_context: Any, address: Any, i: Any) -> Any:
    """The byte at `address` + i, as int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = builder.load(_pointer(builder, arguments[0], arguments[1], 8))
        return builder.zext(byte, ir.IntType(64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def word_at(typing_context: Any, address: Any, i: Any) -> Any:
    """The eight bytes from `address` + i on as one little-endian uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _pointer(builder, arguments[0], arguments[1], 8)
        word = builder.bitcast(place, ir.IntType(64).as_pointer())
        return builder.load(word, align=1)

    return types.uint64(types.int64, types.int64), generate


def _bits_of(byte: int) -> Any:
    """An intrinsic: which of the 64 bytes from an address + i on equal `byte`."""

    def compare(typing_context: Any, address: Any, i: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes = ir.VectorType(ir.IntType(8), _LANES)
            place = _pointer(builder, arguments[0], arguments[1], 8)
            found = builder.load(builder.bitcast(place, lanes.as_pointer()), align=1)
            equal = builder.icmp_unsigned("==", found, ir.Constant(lanes, [byte] * _LANES))
            return builder.bitcast(equal, ir.IntType(64))

        return types.uint64(types.int64, types.int64), generate

    return intrinsic(compare)


TAB, NEWLINE, RETURN, SPACE = 9, 10, 13, 32
_tabs_at, _newlines_at = _bits_of(TAB), _bits_of(NEWLINE)
_returns_at, _spaces_at = _bits_of(RETURN), _bits_of(SPACE)


@intrinsic
def integer_at(typing_context: Any, address: Any, i: Any) -> Any:
    """Element i of the int64 array at `address`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_pointer(builder, arguments[0], arguments[1], 64))

    return types.int64(types.int64, types.int64), generate


@intrinsic
def set_integer(typing_context: Any, address: Any, i: Any, value: Any) -> Any:
    """Set element i of the int64 array at `address`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, i, value = arguments
        builder.store(value, _pointer(builder, address, i, 64))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@intrinsic
def trailing_zeros(typing_context: Any, word: Any) -> Any:
    """How many of a uint64's low bits are 0: 64 where all are."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


@intrinsic
def _count_bits(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@njit(cache=True, nogil=True, forceinline=True)
def split_line(text, i, ends):
    """Where the fields of the line at i end: how many do, its newline, its first space, and
    whether a separator follows another or a carriage return is inside (0: neither).

    ends : address of int64 (MOST_FIELDS + 8,): set to each separator's place, the newline the last;
        of a line with more separators not all are set, and its newline is given as -1
    """
    count, space, base, odd, before = 0, _NOWHERE, i, _0, _0
    while True:
        lines, spaces = _newlines_at(text, base), _spaces_at(text, base)
        returns = _returns_at(text, base)
        bits = _tabs_at(text, base) | spaces | returns | lines
        if spaces != _0 and space == _NOWHERE:
            space = base + trailing_zeros(spaces)
        if lines != _0:
            bits &= lines ^ (lines - _1)
        before |= (bits & ~returns) << _1
        odd |= (bits & before) | (bits & returns & ~(lines >> _1))
        before = bits >> _63
        last = count + _count_bits(bits)
        if last > MOST_FIELDS:
            return count, np.int64(-1), space, odd
        # Eight at a time, some for nothing: how many there are is what no branch foresees.
        while count < last:
            for k in range(8):
                set_integer(ends, count + k, base + trailing_zeros(bits))
                bits &= bits - _1
            count += 8
        count = last
        if lines != _0:
            return count, base + trailing_zeros(lines), space, odd
        base += _LANES


@njit(cache=True, nogil=True, forceinline=True)
def separator_after(text, i):
    """Where the first separator at or after i stands."""
    while byte_at(text, i) not in (TAB, NEWLINE, RETURN, SPACE):
        i += 1
    return i


@njit(cache=True, nogil=True, forceinline=True)
def _to_number(word):
    """The number of eight digits, one a byte, the first in the lowest byte."""
    word = (word * _DIGIT_FACTOR) >> _8
    word = ((word & _PAIRS) * _PAIR_FACTOR) >> _16
    return np.int64(((word & _FOURS) * _FOUR_FACTOR) >> _32)


@njit(cache=True, nogil=True, forceinline=True)
def digits(text, i, length):
    """The number that text[i:i + length] is, 1 to 8 bytes; -1 where one is no digit."""
    word = (word_at(text, i) ^ _EIGHT_ZEROS) << np.uint64(64 - 8 * length)
    if ((word + _ABOVE_NINE) | word) & _HIGH_BITS:
        return np.int64(-1)
    return _to_number(word)


@njit(cache=True, nogil=True, forceinline=True)
def decimals(text, i, length):
    """text[i:i + length], 1 to 8 digits, as decimals in units of 1e-8; -1 where one is none."""
    shift = np.uint64(64 - 8 * length)
    word = ((word_at(text, i) ^ _EIGHT_ZEROS) << shift) >> shift
    if ((word + _ABOVE_NINE) | word) & _HIGH_BITS:
        return np.int64(-1)
    return _to_number(word)


@njit(cache=True, nogil=True, forceinline=True)
def hundredths(text, end, length):
    """100 times the number of `length` bytes before `end`, 4 to 8, the third from the end a point;
    -1 where it is another or one of the others is no digit. Reads 8 bytes before `end`.
    """
    word = word_at(text, end - 8)
    if (word >> _40) & _BYTE != _POINT:
        return np.int64(-1)
    shift = np.uint64(64 - 8 * (length - 1))
    word = (word & _LAST_TWO) | ((word << _8) & ~_LAST_TWO)
    word = ((word ^ _EIGHT_ZEROS) >> shift) << shift
    if ((word + _ABOVE_NINE) | word) & _HIGH_BITS:
        return np.int64(-1)
    return _to_number(word)


@njit(cache=True, nogil=True, forceinline=True)
def first_of(text, i, byte):
    """How far after i the first of the next 8 bytes is that equals `byte`; 8 where none is."""
    other = word_at(text, i) ^ (np.uint64(byte) * _ONES)
    return trailing_zeros((other - _ONES) & ~other & _HIGH_BITS) >> 3


@njit(cache=True, nogil=True, forceinline=True)
def is_word(text, i, word, length):
    """Whether the bytes from i on begin with the first `length` bytes of `word`, 1 to 8."""
    return ((word_at(text, i) ^ word) << np.uint64(64 - 8 * length)) == _0

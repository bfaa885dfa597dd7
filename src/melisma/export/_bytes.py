"""Text written eight bytes at a time: words are stored whole, digits come from one multiplication.

Text is an address here, as in `calls._words`: who passes one keeps its array alive. A store may
reach 7 bytes past the text's end, which the next one overwrites: buffers need `PADDING`.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

if sys.byteorder != "little":
    raise ImportError("melisma writes text in little-endian words, and this machine is big-endian.")

PADDING = 16
# Its result takes no typing context, which type checkers cannot see.
_intrinsic: Any = extending.intrinsic
_8, _16, _20, _10, _32 = (np.uint64(bits) for bits in (8, 16, 20, 10, 32))
_TEN, _HUNDRED, _TEN_THOUSAND = np.uint64(10), np.uint64(100), np.uint64(10_000)
_HUNDRED_MILLION = np.uint64(100_000_000)
# Division by 100 of numbers below 10,000 in two halves, by 10 of those below 100 in four quarters.
_BY_100, _HALVES = np.uint64(10_486), np.uint64(0x0000007F0000007F)
_BY_10, _QUARTERS = np.uint64(103), np.uint64(0x000F000F000F000F)
_ZEROS, _LAST_DIGIT = np.uint64(0x3030303030303030), np.uint64(1 << 56)


def _place(builder: Any, address: Any, i: Any, bits: int) -> Any:
    byte = builder.gep(builder.inttoptr(address, ir.IntType(8).as_pointer()), [i])
    return builder.bitcast(byte, ir.IntType(bits).as_pointer())


@_intrinsic
def word_at(typing_context: Any, address: Any, i: Any) -> Any:
    """The eight bytes from `address` + i on as one uint64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_place(builder, arguments[0], arguments[1], 64), align=1)

    return types.uint64(types.int64, types.int64), generate


@_intrinsic
def put_word(typing_context: Any, address: Any, i: Any, word: Any) -> Any:
    """Store a uint64's eight bytes at `address` + i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _place(builder, arguments[0], arguments[1], 64), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.uint64), generate


@_intrinsic
def put_byte(typing_context: Any, address: Any, i: Any, byte: Any) -> Any:
    """Store an int64's lowest byte at `address` + i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = builder.trunc(arguments[2], ir.IntType(8))
        builder.store(byte, _place(builder, arguments[0], arguments[1], 8))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@_intrinsic
def _trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True, forceinline=True)
def _eight_digits(value):
    """The digits of a number below 10**8, one a byte, the first in the lowest."""
    high = value // _TEN_THOUSAND
    lanes = high | ((value - high * _TEN_THOUSAND) << _32)
    high = ((lanes * _BY_100) >> _20) & _HALVES
    lanes = high | ((lanes - high * _HUNDRED) << _16)
    high = ((lanes * _BY_10) >> _10) & _QUARTERS
    return high | ((lanes - high * _TEN) << _8)


@njit(cache=True, nogil=True, forceinline=True)
def put_number(text, at, value):
    """Write a uint64 below 10**16; returns where it ends."""
    if value >= _HUNDRED_MILLION:
        high = value // _HUNDRED_MILLION
        digits = _eight_digits(high)
        leading = _trailing_zeros(digits) & ~np.uint64(7)
        put_word(text, at, (digits | _ZEROS) >> leading)
        at += 8 - np.int64(leading >> np.uint64(3))
        put_word(text, at, _eight_digits(value - high * _HUNDRED_MILLION) | _ZEROS)
        return at + 8
    digits = _eight_digits(value)
    leading = _trailing_zeros(digits | _LAST_DIGIT) & ~np.uint64(7)
    put_word(text, at, (digits | _ZEROS) >> leading)
    return at + 8 - np.int64(leading >> np.uint64(3))


@njit(cache=True, nogil=True, forceinline=True)
def put_decimals(text, at, value, places):
    """Write a uint64 as exactly `places` digits, 1 to 8; returns where they end."""
    digits = (_eight_digits(value) | _ZEROS) >> np.uint64(64 - 8 * places)
    put_word(text, at, digits)
    return at + places


@njit(cache=True, nogil=True, forceinline=True)
def put_bytes(text, at, pool, start, end):
    """Copy the bytes pool[start:end]; returns where they end."""
    length = end - start
    put_word(text, at, word_at(pool, start))
    done = 8
    while done < length:
        put_word(text, at + done, word_at(pool, start + done))
        done += 8
    return at + length

"""The byte-level parser: one kernel for every tab-separated format, driven by its columns.

It reads whole lines from a block of bytes, writes keys and counts, and stops at the first fault
with the row's offset and column; composing the sentence is left to `_faults`.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from melisma.calls._fields import (
    MUTATED,
    NAME_END,
    NAME_NEW,
    NAME_START,
    ROW_SLOTS,
    Fault,
    count_reads,
    note_contig,
    read_field,
)
from melisma.calls._format import Counts, Kind
from melisma.calls._words import (
    MOST_FIELDS,
    NEWLINE,
    RETURN,
    SPACE,
    TAB,
    byte_at,
    integer_at,
    is_word,
    separator_after,
    set_integer,
    split_line,
)


class Stat(IntEnum):
    """Where each result stands in the kernel's `stats`."""

    FAULT = 0
    OFFSET = 1
    COLUMN = 2
    RUNS = 3
    ASCENDING = 4
    NO_COVERAGE = 5
    OTHER_MARK = 6
    STRANDED = 7
    STRANDLESS = 8
    LARGEST = 9
    SEEN = 10
    MARKS = 11
    MUTATED = 12


# A row's slots, then where its fields end, with the row's own start before them.
SCRATCH = ROW_SLOTS + 1 + MOST_FIELDS + 8
# Where the level is only a check, it is read in a block's first rows and then in one of so many:
# two columns in the wrong order are so in every row, and reading it in all took a tenth more time.
_CHECKED_ROWS, _CHECKED_EVERY = 512, 8
_HASH, _LETTER_B, _LETTER_T = 35, 98, 116
_TRACK = np.frombuffer(b"track\0\0\0", dtype=np.uint64)[0]
_BROWSER = np.frombuffer(b"browser\0", dtype=np.uint64)[0]


@njit(cache=True, nogil=True)
def _line_end(text, i):
    while byte_at(text, i) != NEWLINE:
        i += 1
    return i


@njit(cache=True, nogil=True)
def _after_heading(text, i, spaces_from):
    """Past a blank, comment, track or browser line, or past leading space that separates."""
    byte = byte_at(text, i)
    if byte <= SPACE:
        rest = i
        while byte_at(text, rest) in (SPACE, TAB):
            rest += 1
        if byte_at(text, rest) == RETURN and byte_at(text, rest + 1) == NEWLINE:
            rest += 1
        if byte_at(text, rest) == NEWLINE:
            return rest + 1
        return rest if spaces_from == 0 else i
    track = is_word(text, i, _TRACK, 5) and byte_at(text, i + 5) in (SPACE, TAB)
    browser = is_word(text, i, _BROWSER, 7) and byte_at(text, i + 7) in (SPACE, TAB)
    if byte == _HASH or track or browser:
        return _line_end(text, i) + 1
    return i


@njit(cache=True, nogil=True, forceinline=True)
def _read(text, i, end, kind, slot, codes):
    if kind == Kind.CONTIG:
        return note_contig(text, i, end, slot)
    return read_field(text, i, end, kind, slot, codes)


@njit(cache=True, nogil=True, forceinline=True)
def _plain_row(text, kinds, n_columns, n_read, ends, slot, codes):
    """Read a row of which the fields' ends are known: the column reached, a fault."""
    for k in range(n_columns, n_columns + n_read):
        column = integer_at(kinds, k)
        i, end = integer_at(ends, column - 1) + 1, integer_at(ends, column)
        fault = _read(text, i, end, integer_at(kinds, column), slot, codes)
        if fault != Fault.NONE:
            return column, fault
    return n_columns - 1, Fault.NONE


@njit(cache=True, nogil=True)
def _odd_row(text, i, kinds, n_columns, spaces_from, slot, codes):
    """Read a row field by field: where the next begins, the column reached, a fault."""
    last = n_columns - 1
    for column in range(n_columns):
        while column >= spaces_from and byte_at(text, i) in (TAB, SPACE):
            i += 1
        end = separator_after(text, i)
        kind, fault = integer_at(kinds, column), Fault.NONE
        if kind != Kind.SKIP:
            fault = _read(text, i, end, kind, slot, codes)
        if fault == Fault.NONE and column >= spaces_from and end == i:
            fault = Fault.TOO_FEW
        if fault != Fault.NONE:
            return i, column, fault
        i = end
        if column == last:
            break
        byte = byte_at(text, i)
        if byte in (NEWLINE, RETURN) or (byte == SPACE and column < spaces_from):
            return i, column, Fault.TOO_FEW
        i += 1
    while last >= spaces_from and byte_at(text, i) in (TAB, SPACE):
        i += 1
    i += byte_at(text, i) == RETURN
    return i + 1, last, Fault.NONE if byte_at(text, i) == NEWLINE else Fault.TOO_MANY


@njit(cache=True, nogil=True, forceinline=True)
def _row(text, i, kinds, n_columns, n_read, spaces_from, slot, codes):
    """Read the row at i into its slots: where the next begins, the column reached, a fault."""
    ends = slot + 8 * (ROW_SLOTS + 1)
    set_integer(ends, -1, i - 1)
    count, newline, space, odd = split_line(text, i, ends)
    count -= byte_at(text, newline - 1) == RETURN
    from_here = integer_at(ends, spaces_from) if spaces_from < n_columns else newline
    if newline >= 0 and count == n_columns and space >= from_here and odd == 0:
        column, fault = _plain_row(text, kinds, n_columns, n_read, ends, slot, codes)
        return newline + 1, column, fault
    return _odd_row(text, i, kinds, n_columns, spaces_from, slot, codes)


@njit(cache=True, nogil=True)
def parse(text_array, start, end, kinds_array, settings, codes_array, slots, out, stats):
    """Parse the whole lines text[start:end]; see `Stat` for what `stats` returns.

    text_array : uint8, with at least `_words.PADDING` newlines after `end`
    kinds_array : int64: the columns' kinds, then the numbers of the columns that are read
    settings : int64: base, width (-1: no end), rule, spaces_from, level's scale, mark, wanted
        mark, columns, greatest width, level's tolerance in units of 1e-8
    codes_array : int64: how many codes, then for each its bytes as a word, length and mark
    slots : int64 (SCRATCH,); it belongs to the caller because its address is used
    out : (key int64, methylated uint32, coverage uint32, context int8, offset int64, run_row
        int64, run_start int64, run_end int64); context, offset of length 0 are left out.
        A run is a stretch of rows with the same contig name text[run_start:run_end].
    Returns the number of rows written.
    """
    base, width, rule, spaces_from = settings[0], settings[1], settings[2], settings[3]
    scale, wanted, widest, tolerance = settings[4], settings[6], settings[8], settings[9]
    key_out, methylated_out, coverage_out, context_out, offset_out, run_row, run_start, run_end = (
        out
    )
    text, kinds, codes = text_array.ctypes.data, kinds_array.ctypes.data, codes_array.ctypes.data
    n_columns, n_read, slot = settings[7], kinds_array.size - settings[7], slots.ctypes.data
    slots[:] = 0
    slots[Kind.CODE], slots[Kind.CONTEXT] = settings[5], 3
    stats[:] = 0
    rows, runs, i, previous, ascending, pending = 0, 0, start, np.int64(-1), True, False
    no_coverage, other_mark, mutated, strandless, marks, largest, seen = 0, 0, 0, 0, 0, 0, 0
    while i < end:
        byte = byte_at(text, i)
        if byte <= _HASH or byte in (_LETTER_B, _LETTER_T):
            row = _after_heading(text, i, spaces_from)
            if row != i:
                i = row
                continue
        row, reads, checked = i, n_read, scale
        if scale and rule == Counts.VALID_SUM and seen >= _CHECKED_ROWS and seen % _CHECKED_EVERY:
            reads, checked = n_read - 1, 0
        i, column, fault = _row(text, i, kinds, n_columns, reads, spaces_from, slot, codes)
        position = integer_at(slot, Kind.POSITION) - base
        methylated, coverage = np.int64(0), np.int64(0)
        if fault == Fault.NONE:
            if position < 0:
                fault = Fault.BEFORE_FIRST
            elif width >= 0:
                span = integer_at(slot, Kind.END) - position - base
                if span < width or span > widest:
                    fault = Fault.WIDTH
                elif span > 1 and integer_at(slot, Kind.STRAND) < 0:
                    # A row of several bases begins on the + strand's C.
                    fault = Fault.WIDTH
            if fault == Fault.NONE:
                methylated, coverage, fault = count_reads(rule, slot, checked, tolerance)
        if fault != Fault.NONE:
            stats[Stat.FAULT], stats[Stat.OFFSET], stats[Stat.COLUMN] = fault, row, column
            return rows
        seen += 1
        pending = pending or integer_at(slot, NAME_NEW) == 1
        mark, strand = integer_at(slot, Kind.CODE), integer_at(slot, Kind.STRAND)
        if wanted >= 0 and mark != wanted:
            other_mark += 1
            continue
        if coverage == 0:
            no_coverage += 1
            continue
        context = integer_at(slot, Kind.CONTEXT)
        if context >= MUTATED:
            mutated += 1
            continue
        if pending:
            run_row[runs] = rows
            run_start[runs] = integer_at(slot, NAME_START)
            run_end[runs] = integer_at(slot, NAME_END)
            runs += 1
            previous, pending = np.int64(-1), False
        key = (position << 5) | ((strand + 1) << 3) | mark
        ascending = ascending and key > previous
        previous = key
        key_out[rows], methylated_out[rows], coverage_out[rows] = key, methylated, coverage
        if context_out.size:
            context_out[rows] = context
        if offset_out.size:
            offset_out[rows] = row
        rows += 1
        strandless += strand == 0
        marks |= 1 << mark
        largest = max(largest, coverage)
    stats[Stat.RUNS], stats[Stat.ASCENDING] = runs, ascending
    stats[Stat.NO_COVERAGE], stats[Stat.OTHER_MARK] = no_coverage, other_mark
    stats[Stat.STRANDED], stats[Stat.STRANDLESS] = rows - strandless, strandless
    stats[Stat.LARGEST], stats[Stat.SEEN], stats[Stat.MARKS] = largest, seen, marks
    stats[Stat.MUTATED] = mutated
    return rows

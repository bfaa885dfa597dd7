"""The byte-level parser: one kernel for every tab-separated format, driven by its columns.

It reads whole lines from a block of bytes, writes keys and counts, and stops at the first fault
with the row's offset and column; composing the sentence is left to `_faults`.
"""

from enum import IntEnum

import numpy as np
from numba import njit

from melisma.calls._format import Counts, Kind


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


_TAB, _NEWLINE, _RETURN, _SPACE, _HASH = 9, 10, 13, 32, 35
_PLUS, _MINUS, _DOT, _ZERO, _QUOTE, _COMMA = 43, 45, 46, 48, 34, 44
_LARGEST = (1 << 31) - 2
_TRACK = np.frombuffer(b"track", dtype=np.uint8)
_BROWSER = np.frombuffer(b"browser", dtype=np.uint8)

_SKIP, _CONTIG, _POSITION = int(Kind.SKIP), int(Kind.CONTIG), int(Kind.POSITION)
_OTHER, _LEVEL, _LEVEL_2 = int(Kind.OTHER), int(Kind.LEVEL), int(Kind.LEVEL_UNMETHYLATED)
_STRAND, _BASE, _CONTEXT, _CODE = (
    int(Kind.STRAND),
    int(Kind.BASE),
    int(Kind.CONTEXT),
    int(Kind.CODE),
)
_END, _METHYLATED = int(Kind.END), int(Kind.METHYLATED)
_UNMETHYLATED, _COVERAGE = int(Kind.UNMETHYLATED), int(Kind.COVERAGE)
_BOTH, _VALID_SUM = int(Counts.METHYLATED_UNMETHYLATED), int(Counts.VALID_SUM)
_PERCENTS = int(Counts.PERCENTS)
_FAULT_TOO_FEW, _FAULT_TOO_MANY = int(Fault.TOO_FEW), int(Fault.TOO_MANY)
_FAULT_INTEGER, _FAULT_NEGATIVE = int(Fault.INTEGER), int(Fault.NEGATIVE)
_FAULT_NUMBER, _FAULT_STRAND = int(Fault.NUMBER), int(Fault.STRAND)
_FAULT_BASE, _FAULT_CODE = int(Fault.BASE), int(Fault.CODE)
_FAULT_WIDTH, _FAULT_EXCEEDS = int(Fault.WIDTH), int(Fault.EXCEEDS)
_FAULT_VALID, _FAULT_LEVEL = int(Fault.VALID), int(Fault.LEVEL)
_FAULT_LARGE, _FAULT_BEFORE_FIRST = int(Fault.LARGE), int(Fault.BEFORE_FIRST)
_FAULT_NAME = int(Fault.NAME)
_STAT_FAULT, _STAT_OFFSET, _STAT_COLUMN = int(Stat.FAULT), int(Stat.OFFSET), int(Stat.COLUMN)
_STAT_RUNS, _STAT_ASCENDING = int(Stat.RUNS), int(Stat.ASCENDING)
_STAT_NO_COVERAGE, _STAT_OTHER_MARK = int(Stat.NO_COVERAGE), int(Stat.OTHER_MARK)
_STAT_STRANDED, _STAT_STRANDLESS = int(Stat.STRANDED), int(Stat.STRANDLESS)
_STAT_LARGEST, _STAT_SEEN, _STAT_MARKS = int(Stat.LARGEST), int(Stat.SEEN), int(Stat.MARKS)


@njit(cache=True, nogil=True)
def _number(text, i):  # type: ignore[no-untyped-def]
    """A decimal number at `i`: its value, where it ends, and whether it is one."""
    value, digits, point = 0.0, 0, -1
    negative = text[i] == _MINUS
    if negative:
        i += 1
    while True:
        byte = text[i]
        if 48 <= byte <= 57:
            value = value * 10.0 + (byte - _ZERO)
            digits += 1
            if point >= 0:
                point += 1
        elif byte == _DOT and point < 0:
            point = 0
        else:
            break
        i += 1
    exponent, sign = 0, 1
    if digits and (text[i] == 101 or text[i] == 69):
        i += 1
        if text[i] == _MINUS:
            sign = -1
            i += 1
        elif text[i] == _PLUS:
            i += 1
        start = i
        while 48 <= text[i] <= 57 and i - start < 3:
            exponent = exponent * 10 + (text[i] - _ZERO)
            i += 1
        if i == start:
            digits = 0
    exponent = sign * exponent - point if point > 0 else sign * exponent
    if exponent:
        value = value * 10.0**exponent if exponent > 0 else value / 10.0 ** (-exponent)
    return (-value if negative else value), i, digits > 0


@njit(cache=True, nogil=True)
def _mark(text, start, end, codes, code_marks):  # type: ignore[no-untyped-def]
    """Index of the mark that the code text[start:end] names, or -1."""
    for k in range(codes.shape[0]):
        length = 0
        while length < codes.shape[1] and codes[k, length] != 0:
            length += 1
        if length != end - start:
            continue
        same = True
        for j in range(length):
            if codes[k, j] != text[start + j]:
                same = False
                break
        if same:
            return code_marks[k]
    return -1


@njit(cache=True, nogil=True)
def _is_heading(text, i):  # type: ignore[no-untyped-def]
    """Whether a comment, `track` or `browser` line begins at `i`."""
    if text[i] == _HASH:
        return True
    for word in (_TRACK, _BROWSER):
        same = True
        for j in range(word.size):
            if text[i + j] != word[j]:
                same = False
                break
        if same and (text[i + word.size] == _SPACE or text[i + word.size] == _TAB):
            return True
    return False


@njit(cache=True, nogil=True)
def _counts(rule, slot, level, level_2):  # type: ignore[no-untyped-def]
    """M, N and a fault from a row's columns, by the format's rule."""
    methylated, unmethylated, coverage = slot[_METHYLATED], slot[_UNMETHYLATED], slot[_COVERAGE]
    if rule == _BOTH:
        coverage = methylated + unmethylated
    elif rule == _VALID_SUM:
        if methylated > coverage:
            return methylated, coverage, _FAULT_EXCEEDS
        if coverage != methylated + unmethylated + slot[_OTHER]:
            return methylated, coverage, _FAULT_VALID
    elif rule == _PERCENTS:
        methylated = int(coverage * level / 100.0 + 0.5)
        unmethylated = int(coverage * level_2 / 100.0 + 0.5)
        if level > 100.005 or level_2 > 100.005 or methylated + unmethylated > coverage + 1:
            return methylated, coverage, _FAULT_LEVEL
        coverage = methylated + unmethylated
    if methylated > coverage:
        return methylated, coverage, _FAULT_EXCEEDS
    return methylated, coverage, 0


@njit(cache=True, nogil=True)
def parse(text, start, end, kinds, settings, codes, code_marks, out, stats):  # type: ignore[no-untyped-def]
    """Parse the whole lines text[start:end]; see `Stat` for what `stats` returns.

    text : uint8, ends with 16 bytes after `end` that the caller set to newlines
    kinds : int64 (columns,)
    settings : int64: base, width, rule, spaces_from, percent, mark, wanted mark
    out : (key int64, methylated uint32, coverage uint32, context int8, offset int64, run_row
        int64, run_start int64, run_end int64); context, offset of length 0 are left out.
        A run is a stretch of rows with the same contig name text[run_start:run_end].
    Returns the number of rows written.
    """
    base, width, rule, spaces_from = settings[0], settings[1], settings[2], settings[3]
    scale = 100.0 if settings[4] else 1.0
    default_mark, wanted = settings[5], settings[6]
    key_out, methylated_out, coverage_out, context_out, offset_out = (
        out[0],
        out[1],
        out[2],
        out[3],
        out[4],
    )
    run_row, run_start, run_end = out[5], out[6], out[7]
    n_columns = kinds.size
    slot = np.zeros(14, dtype=np.int64)
    check_level = False
    for k in range(n_columns):
        if kinds[k] == _LEVEL and rule != _PERCENTS:
            check_level = True
    rows, runs, i = 0, 0, start
    name_start, name_end = 0, 0
    previous, ascending = np.int64(-1), True
    no_coverage, other_mark, stranded, strandless, seen, marks, largest = 0, 0, 0, 0, 0, 0, 0
    fault, column = 0, 0
    row = i
    while i < end:
        row = i
        byte = text[i]
        if byte == _NEWLINE:
            i += 1
            continue
        if byte == _RETURN and text[i + 1] == _NEWLINE:
            i += 2
            continue
        if (byte == _HASH or byte == 116 or byte == 98) and _is_heading(text, i):
            while text[i] != _NEWLINE:
                i += 1
            i += 1
            continue
        strand, mark, context = 0, default_mark, 3
        level, level_2 = 0.0, 0.0
        new_name = False
        for column in range(n_columns):
            kind = kinds[column]
            begin = i
            if kind == _SKIP:
                while text[i] > _SPACE:
                    i += 1
            elif _POSITION <= kind <= _OTHER:
                value = np.int64(0)
                digit = text[i] - _ZERO
                while digit <= 9 and digit >= 0:
                    value = value * 10 + digit
                    i += 1
                    digit = text[i] - _ZERO
                if i == begin or text[i] > _SPACE or i - begin > 10:
                    number, i, good = _number(text, begin)
                    if not good or text[i] > _SPACE:
                        fault = _FAULT_INTEGER
                    elif number < 0:
                        fault = _FAULT_NEGATIVE
                    elif number != np.floor(number):
                        fault = _FAULT_INTEGER
                    elif number > _LARGEST:
                        fault = _FAULT_LARGE
                    else:
                        value = np.int64(number)
                if value > _LARGEST:
                    fault = _FAULT_LARGE
                slot[kind] = value
            elif kind == _CONTIG:
                length = name_end - name_start
                same = length > 0
                for j in range(length):
                    if text[i + j] != text[name_start + j]:
                        same = False
                        break
                if same and text[i + length] <= _SPACE:
                    i += length
                else:
                    while text[i] > _SPACE:
                        i += 1
                    if i == begin or text[begin] == _QUOTE:
                        fault = _FAULT_NAME
                    new_name = True
                    name_start, name_end = begin, i
            elif kind == _STRAND:
                byte = text[i]
                if byte == _PLUS or byte == 70:
                    strand = 1
                elif byte == _MINUS or byte == 82:
                    strand = -1
                elif byte != _DOT and byte != 42:
                    fault = _FAULT_STRAND
                i += 1
                if text[i] > _SPACE:
                    fault = _FAULT_STRAND
            elif kind == _CODE:
                while text[i] > _SPACE and text[i] != _COMMA:
                    i += 1
                mark = _mark(text, begin, i, codes, code_marks)
                if mark < 0:
                    fault = _FAULT_CODE
                while text[i] > _SPACE:
                    i += 1
            elif kind in (_LEVEL, _LEVEL_2):
                number, i, good = _number(text, i)
                if not good or text[i] > _SPACE:
                    fault = _FAULT_NUMBER
                elif number < 0:
                    fault = _FAULT_NEGATIVE
                if kind == _LEVEL:
                    level = number
                else:
                    level_2 = number
            elif kind == _BASE:
                byte = text[i]
                if byte == 67 or byte == 99:
                    strand = 1
                elif byte == 71 or byte == 103:
                    strand = -1
                else:
                    fault = _FAULT_BASE
                i += 1
                if text[i] > _SPACE:
                    fault = _FAULT_BASE
            elif kind == _CONTEXT:
                while text[i] > _SPACE:
                    i += 1
                if text[begin] == 67:
                    if i - begin == 2 and text[begin + 1] == 71:
                        context = 0
                    elif i - begin == 3 and text[begin + 1] == 72:
                        if text[begin + 2] == 71:
                            context = 1
                        elif text[begin + 2] == 72:
                            context = 2
            if fault:
                break
            byte = text[i]
            if byte == _SPACE and column < spaces_from:
                fault = _FAULT_TOO_FEW
                break
            if column + 1 < n_columns:
                i += 1
                if column >= spaces_from:
                    while text[i] == _SPACE or text[i] == _TAB:
                        i += 1
                ended = text[i] == _NEWLINE or text[i] == _RETURN
                if byte in (_NEWLINE, _RETURN) or (column >= spaces_from and ended):
                    fault = _FAULT_TOO_FEW
                    break
        if fault:
            break
        if spaces_from <= n_columns:
            while text[i] == _SPACE:
                i += 1
        if text[i] == _RETURN:
            i += 1
        if text[i] != _NEWLINE:
            fault = _FAULT_TOO_MANY
            break
        i += 1
        position = slot[_POSITION] - base
        if position < 0:
            fault = _FAULT_BEFORE_FIRST
            break
        if width >= 0 and slot[_END] - slot[_POSITION] != width:
            fault = _FAULT_WIDTH
            break
        methylated, coverage, fault = _counts(rule, slot, level, level_2)
        if fault:
            break
        if (
            check_level
            and abs(level * coverage - scale * methylated) > 0.01 * scale * coverage + 1e-9
        ):
            fault = _FAULT_LEVEL
            break
        seen += 1
        if wanted >= 0 and mark != wanted:
            other_mark += 1
            if new_name:
                name_end = name_start
            continue
        if coverage == 0:
            no_coverage += 1
            if new_name:
                name_end = name_start
            continue
        if new_name:
            run_row[runs], run_start[runs], run_end[runs] = rows, name_start, name_end
            runs += 1
            previous = np.int64(-1)
        if strand == 0:
            strandless += 1
        else:
            stranded += 1
        marks |= 1 << mark
        key = (position << 5) | ((strand + 1) << 3) | mark
        if key <= previous:
            ascending = False
        previous = key
        key_out[rows] = key
        methylated_out[rows] = methylated
        coverage_out[rows] = coverage
        if coverage > largest:
            largest = coverage
        if context_out.size:
            context_out[rows] = context
        if offset_out.size:
            offset_out[rows] = row
        rows += 1
    stats[:] = 0
    stats[_STAT_FAULT], stats[_STAT_OFFSET], stats[_STAT_COLUMN] = fault, row, column
    stats[_STAT_RUNS], stats[_STAT_ASCENDING] = runs, ascending
    stats[_STAT_NO_COVERAGE], stats[_STAT_OTHER_MARK] = no_coverage, other_mark
    stats[_STAT_STRANDED], stats[_STAT_STRANDLESS] = stranded, strandless
    stats[_STAT_LARGEST], stats[_STAT_SEEN], stats[_STAT_MARKS] = largest, seen, marks
    return rows

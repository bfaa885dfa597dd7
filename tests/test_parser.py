"""The parser's kernel against a plain Python parser, and the numbers it reads."""

import math
import re

import numpy as np
import pytest
from calls_files import put
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.calls import FORMATS, format_named
from melisma.calls._fields import Fault
from melisma.calls._format import Counts, Kind, Strandless
from melisma.calls._reader import read_batches
from melisma.calls._words import PADDING, digits
from melisma.errors import MelismaError
from melisma.methylome import MARKS

TEXT_FORMATS = [form for form in FORMATS if form.columns is not None]
CODES = {word: k for k, m in enumerate(MARKS) for word in (m.code, m.chebi, m.name) if word}
STRAND = {"+": 1, "F": 1, "-": -1, "R": -1, ".": 0, "*": 0, "C": 1, "G": -1, "c": 1, "g": -1}


def plain_rows(form, text):
    """The rows that the format's definition gives, one at a time; None where one is at fault."""
    rows = []
    skip_header, fitted = form.header is not None, False
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if form.spaces_from == 0:
            line = line.lstrip(" \t")
        if not line.strip(" \t") or line.startswith(("#", "track ", "track\t", "browser ")):
            continue
        if skip_header:
            skip_header = False
            continue
        if not fitted:
            form, fitted = plain_layout(form, line), True
        row = plain_row(form, line)
        if row is None:
            return rows, False
        if row[4] and row[6] < 4:
            rows.append(row)
    return rows, True


def plain_fields(form, line):
    if form.spaces_from is None:
        return line.split("\t")
    fields = line.split("\t", form.spaces_from)
    return [*fields[: form.spaces_from], *" ".join(fields[form.spaces_from :]).split()]


def plain_layout(form, line):
    """The format with the layout that has as many columns as its first row."""
    count = len(plain_fields(form, line))
    layouts = [form.columns, *form.layouts]
    return form._replace(columns=next((k for k in layouts if len(k) == count), form.columns))


def plain_row(form, line):
    """(contig, position, strand, mark, N, M, context), or None."""
    tabbed = line if form.spaces_from is None else "".join(line.split("\t")[: form.spaces_from])
    if " " in tabbed or "\r" in line:
        return None
    fields = plain_fields(form, line)
    if len(fields) != len(form.columns):
        return None
    read = {Kind.STRAND: 0, Kind.CODE: 0, Kind.CONTEXT: 3}
    try:
        for column, field in zip(form.columns, fields, strict=True):
            read[column.kind] = plain_field(column.kind, field)
        n, m = plain_counts(form, read)
    except (ValueError, KeyError):
        return None
    position = read[Kind.POSITION] - form.base
    if position < 0 or not read[Kind.CONTIG] or read[Kind.CONTIG].startswith('"'):
        return None
    strand = read.get(Kind.BASE, read[Kind.STRAND])
    if Kind.END in read:
        width = read[Kind.END] - read[Kind.POSITION]
        if not form.width <= width <= (form.widest or form.width) or (width > 1 and strand < 0):
            return None
    return read[Kind.CONTIG], position, strand, read[Kind.CODE], n, m, read[Kind.CONTEXT]


def plain_field(kind, field):
    if kind in (Kind.SKIP, Kind.CONTIG):
        return field
    if kind <= Kind.OTHER:
        value = float(field)
        if value < 0 or value != int(value) or value > 2**31 - 2:
            raise ValueError
        return int(value)
    if kind <= Kind.LEVEL_UNMETHYLATED:
        if re.fullmatch(r"-?nan|\.", field, flags=re.IGNORECASE):
            return math.nan
        if not 0 <= float(field) <= 1e9:
            raise ValueError
        return float(field)
    if kind == Kind.CODE:
        return CODES[field.split(",")[0]]
    if kind == Kind.CONTEXT:
        return plain_context(field.upper())
    if kind == Kind.FLAG:
        return ["0", "1"].index(field)
    if (field in "CGcg") != (kind == Kind.BASE):
        raise ValueError
    return STRAND[field]


def plain_context(field):
    """The context's index, and 4 more where the base is mutated."""
    if len(field) > 3 and field.endswith("X"):
        return plain_context(field[:-1]) + 4 if len(field) == 4 else 7
    forms = ["CG|CG.|CPG|[^C]CG", "C[ACTHX]G", "C[ACTH][ACTH]", ".*"]
    return next(k for k, form in enumerate(forms) if re.fullmatch(form, field, flags=re.DOTALL))


def plain_counts(form, read):
    m, n = read.get(Kind.METHYLATED), read.get(Kind.COVERAGE)
    if form.counts == Counts.METHYLATED_UNMETHYLATED:
        n = m + read[Kind.UNMETHYLATED]
    if form.counts == Counts.WITHIN_DEPTH:
        depth, n = n, m + read[Kind.UNMETHYLATED] + read.get(Kind.OTHER, 0)
        if n > depth:
            raise ValueError
    levels = [read[kind] for kind in (Kind.LEVEL, Kind.LEVEL_UNMETHYLATED) if kind in read]
    if any(map(math.isnan, levels)):
        if n:
            raise ValueError
        return 0, 0
    scale = 100 if form.percent else 1
    if form.counts == Counts.LEVEL_COVERAGE:
        if read[Kind.LEVEL] > scale:
            raise ValueError
        m = math.floor(n * read[Kind.LEVEL] / scale + 0.5)
        if form.percent and n and read[Kind.LEVEL] and not m:
            raise ValueError
    if form.counts == Counts.PERCENTS:
        m, u = (
            math.floor(n * read[kind] / 100 + 0.5) for kind in (Kind.LEVEL, Kind.LEVEL_UNMETHYLATED)
        )
        if m + u > n + 1:
            raise ValueError
        if n and any(level and not reads for level, reads in zip(levels, (m, u), strict=True)):
            raise ValueError
        return m + u, m
    if form.counts == Counts.VALID_SUM and n != m + read[Kind.UNMETHYLATED] + read[Kind.OTHER]:
        raise ValueError
    if m > n:
        raise ValueError
    allowed = form.tolerance * scale * n + 1e-6
    if Kind.LEVEL in read and abs(read[Kind.LEVEL] * n - scale * m) > allowed:
        raise ValueError
    return n, m


@st.composite
def a_row(draw, form, columns):
    """One row's fields; counts agree with each other."""
    m, u, other = (draw(st.integers(0, 300)) for _ in range(3))
    position = draw(st.integers(form.base, 2**31 - 3))
    n = m + u + (other if any(column.kind == Kind.OTHER for column in columns) else 0)
    depth = n + draw(st.integers(0, 9)) * (form.counts == Counts.WITHIN_DEPTH)
    written = ["{:.3f}", "{:.10g}", "{!r}"] if form.tolerance < 0.01 else ["{:.2f}", "{!r}"]
    percent = 100.0 if form.percent else 1.0
    level = percent * m / n if n else 0.0
    made = {
        Kind.SKIP: draw(st.sampled_from(["0", "x", "255,0,0", "a_long_name_of_22_chars", "μ"])),
        Kind.CONTIG: draw(st.sampled_from(["1", "chr1", "chrX", "scaffold_1234.5", "track_a"])),
        Kind.POSITION: str(position),
        Kind.END: str(position + draw(st.integers(form.width, form.widest or form.width))),
        Kind.METHYLATED: str(m),
        Kind.UNMETHYLATED: str(u),
        Kind.COVERAGE: str(depth),
        Kind.OTHER: str(other),
        Kind.LEVEL: draw(st.sampled_from(written)).format(level) if n else "nan",
        Kind.LEVEL_UNMETHYLATED: f"{percent - level:.2f}",
        Kind.STRAND: draw(st.sampled_from("+-.FR*")),
        Kind.BASE: draw(st.sampled_from("CGcg")),
        Kind.CONTEXT: draw(st.sampled_from(CONTEXTS)),
        Kind.FLAG: draw(st.sampled_from("01")),
        Kind.CODE: draw(st.sampled_from(["m", "h", "a", "C", "21839", "27551", "5mC", "m,CG,0"])),
    }
    return [made[column.kind] for column in columns]


CONTEXTS = ["CG", "CHG", "CHH", "--", "CN", "C", "CpG", "CXG", "CCG", "CHHx", "CpGx", "CGT", "CAT"]
CONTEXTS += ["CNN", "CTG", "ACG", "GCGA", "cgt", "HCG"]


WRONG = ["", "-1", "x", "1.5", "1e3", "12345678901", "99999999999999999999", "NA", "m", '"c"', "+"]


@st.composite
def a_file(draw):
    """A format, its text, and the size of the blocks to read it in."""
    form = draw(st.sampled_from(TEXT_FORMATS))
    columns = draw(st.sampled_from([form.columns, *form.layouts]))
    rows = draw(st.lists(a_row(form, columns), max_size=12))
    if rows and draw(st.booleans()):
        row = draw(st.sampled_from(rows))
        row[draw(st.integers(0, len(row) - 1))] = draw(st.sampled_from(WRONG))
    if rows and draw(st.integers(0, 5)) == 0:
        row = draw(st.sampled_from(rows))
        row.append("7") if draw(st.booleans()) else row.pop()
    lines = [_separated(draw, form, row) for row in rows]
    for heading in draw(
        st.lists(st.sampled_from(["", "# c\t1", "track x=1", "  ", "\t"]), max_size=2)
    ):
        lines.insert(draw(st.integers(0, len(lines))), heading)
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = end.join(lines)
    if text and draw(st.integers(0, 2)) == 0:
        i = draw(st.integers(0, len(text) - 1))
        text = text[:i] + draw(st.sampled_from("\t \r\n,.x1\x00")) + text[i + 1 :]
    if form.header:
        text = "\t".join(form.header) + end + text
    return form, text + draw(st.sampled_from(["", "\n"])), draw(st.integers(400, 900))


def _separated(draw, form, row):
    if form.spaces_from is None:
        return "\t".join(row)
    space = draw(st.sampled_from([" ", "\t", "  "]))
    return "\t".join([*row[: form.spaces_from], space.join(row[form.spaces_from :])])


def kernel_rows(form, file, block_bytes):
    rows = []
    for batch in read_batches(file, form, block_bytes=block_bytes):
        contexts = batch.context if batch.context.size else [3] * len(batch.key)
        for run in batch.runs:
            for i in range(run.start, run.stop):
                key = int(batch.key[i])
                rows.append(
                    (
                        run.contig,
                        key >> 5,
                        (key >> 3 & 3) - 1,
                        key & 7,
                        int(batch.coverage[i]),
                        int(batch.methylated[i]),
                        int(contexts[i]),
                    )
                )
    return rows


@settings(deadline=None, max_examples=400)
@given(a_file())
def test_the_kernel_reads_what_a_plain_parser_reads(tmp_path_factory, made):
    form, text, block_bytes = made
    file = put(tmp_path_factory.getbasetemp() / "calls.txt", text)
    expected, whole = plain_rows(form, text)
    if not whole:
        with pytest.raises(MelismaError):
            kernel_rows(form, file, block_bytes)
    elif text:
        assert kernel_rows(form, file, block_bytes) == expected


@settings(deadline=None)
@given(st.text("0123456789", min_size=1, max_size=8), st.text(max_size=3))
def test_eight_digits_at_once(number, after):
    text = np.frombuffer(number.encode() + after.encode() + b"\n" * PADDING, dtype=np.uint8)
    assert digits(text.ctypes.data, 0, len(number)) == int(number)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=8))
def test_a_byte_that_is_no_digit_is_found(some):
    text = np.frombuffer(some + b"7" * PADDING, dtype=np.uint8)
    expected = int(some) if some.isdigit() else -1
    assert digits(text.ctypes.data, 0, len(some)) == expected


def test_rows_keep_their_place_in_the_file(tmp_path):
    text = "# one\nchr1\t5\t5\t50\t1\t1\n\nchr1\t9\t9\t0\t0\t2\n"
    file = put(tmp_path / "a.cov", text)
    (batch,) = read_batches(file, format_named("bismark-cov"), offsets=True)
    assert [text[i:].split("\t")[1] for i in batch.offset] == ["5", "9"]


def test_the_enumerations_keep_the_order_that_the_kernels_use():
    assert Kind.POSITION < Kind.OTHER < Kind.LEVEL < Kind.LEVEL_UNMETHYLATED < Kind.STRAND
    assert Fault.NONE == 0
    assert Strandless.UNKNOWN == 0

"""From the parser's fault to the sentence that a user reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from melisma.calls._fields import Fault
from melisma.calls._format import Counts, Format, Kind
from melisma.errors import MelismaError
from melisma.methylome import MARKS

_LONGEST = 60


class Row(NamedTuple):
    """The row at fault: where it is and its fields."""

    path: Path
    line: int
    fields: list[str]

    def field(self, column: int) -> str:
        """The field, shortened, as it is shown."""
        text = self.fields[column] if column < len(self.fields) else ""
        return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


def split_row(form: Format, line: bytes) -> list[str]:
    """A line's fields as the parser sees them.

    >>> split_row(Format("x", "x", 0, "", lambda lines: None, spaces_from=1), b"a\\tb  c")
    ['a', 'b', 'c']
    """
    text = line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    if form.spaces_from is None:
        return text.split("\t")
    fields = text.split("\t", form.spaces_from)
    return [*fields[: form.spaces_from], *" ".join(fields[form.spaces_from :]).split()]


def fault_error(form: Format, fault: Fault, column: int, row: Row) -> MelismaError:
    """The error for a row that the parser refused."""
    where = f"{row.path} line {row.line:,}"
    columns = form.columns or ()
    if fault == Fault.TOO_FEW and len(row.fields) in form.column_counts:
        return MelismaError(
            f"{where}: column {column + 1} ({columns[column].name}) is {row.field(column)!r}, with "
            f"a space, and columns of {form.title} have none: separate them by tabs alone."
        )
    if fault in (Fault.TOO_FEW, Fault.TOO_MANY):
        separators = "tab-separated columns" if form.spaces_from is None else "columns"
        counts = " or ".join(map(str, form.column_counts))
        return MelismaError(
            f"{where} has {len(row.fields)} {separators}, and {form.title} has {counts}: "
            "if the line is whole, the file has another format; see `melisma formats`."
        )
    about = f"{where}: column {column + 1} ({columns[column].name}) is {row.field(column)!r}"
    if fault == Fault.INTEGER and row.line == 1 and not any(map(str.isdigit, row.field(column))):
        return MelismaError(
            f"{about}, expected a whole number: if the line is a header, remove it, as "
            f"{form.title} has none."
        )
    if fault in _ONE_COLUMN:
        return MelismaError(f"{about}, {_ONE_COLUMN[fault]}")
    if fault == Fault.CODE:
        known = ", ".join(f"{mark.code} ({mark.name})" for mark in MARKS)
        return MelismaError(f"{about}, a modification that is not supported: {known} are.")
    return MelismaError(f"{where}: {_several_columns(form, fault, row)}")


_ONE_COLUMN = {
    Fault.INTEGER: "expected a whole number; is the file of another format, or damaged?",
    Fault.NEGATIVE: "expected a number of 0 or more: counts and positions are never negative.",
    Fault.NUMBER: "expected a number; is the file of another format, or damaged?",
    Fault.STRAND: "expected a strand: +, -, or . where both are combined (F or R in methylKit).",
    Fault.BASE: "expected the base C or G.",
    Fault.LARGE: "larger than the largest position or count, 2,147,483,646: is the line damaged?",
    Fault.FLAG: "expected 0 or 1; are the columns in another order?",
    Fault.NAME: "expected a contig's name without quotes or spaces: write the table without them.",
}


def _several_columns(form: Format, fault: Fault, row: Row) -> str:
    """What is wrong between a row's columns, and the remedy."""
    named = {column.kind: (k, column.name) for k, column in enumerate(form.columns or ())}

    def shown(kind: Kind) -> str:
        k, name = named[kind]
        return f"column {k + 1} ({name}) is {row.field(k)}"

    if fault == Fault.BEFORE_FIRST:
        return (
            f"{shown(Kind.POSITION)}, and positions of {form.title} start at {form.base}: write "
            "the file with coordinates that start there."
        )
    if fault == Fault.WIDTH:
        widths = [str(width) for width in range(form.width, (form.widest or form.width) + 1)]
        wanted = "the start plus " + " or ".join(widths) if form.width else "the same as the start"
        return (
            f"{shown(Kind.POSITION)} and {shown(Kind.END)}, and in {form.title} the end is "
            f"{wanted}{', 1 on strand -' if form.widest else ''}: is it a file of another format, "
            "of other coordinates, or of merged CpGs?"
        )
    if fault == Fault.VALID:
        parts = (Kind.METHYLATED, Kind.UNMETHYLATED, Kind.OTHER)
        return (
            f"{shown(Kind.COVERAGE)}, but {', '.join(shown(kind) for kind in parts)} do not sum "
            "to it: is this a file of modbam2bed, where columns 12 and 13 are the other way "
            "round? Then pass --format modbam2bed."
        )
    if fault == Fault.DEPTH:
        parts = (Kind.METHYLATED, Kind.UNMETHYLATED)
        return (
            f"{shown(Kind.COVERAGE)}, but {' and '.join(shown(kind) for kind in parts)} sum to "
            "more: is the file of another format?"
        )
    if fault == Fault.EXCEEDS:
        return (
            f"{shown(Kind.METHYLATED)}, more than the coverage, as {shown(Kind.COVERAGE)}: are "
            "the columns in another order, or is the file of another format?"
        )
    if fault == Fault.FRACTION:
        kinds = (Kind.LEVEL, Kind.LEVEL_UNMETHYLATED)
        levels = " and ".join(shown(kind) for kind in kinds if kind in named)
        return (
            f"{levels}, and a percentage above 0 that is less than half a read, as "
            f"{shown(Kind.COVERAGE)}, is that of no count: if the levels are fractions, write them "
            "as percentages."
        )
    if Kind.LEVEL_UNMETHYLATED in named:
        return (
            f"{shown(Kind.LEVEL)} and {shown(Kind.LEVEL_UNMETHYLATED)}, and together they are at "
            "most 100 percent: is the file of another format?"
        )
    unit = "percentage" if form.percent else "fraction"
    if form.counts == Counts.LEVEL_COVERAGE:
        return (
            f"{shown(Kind.LEVEL)}, which is not the {unit} of any count among the reads, as "
            f"{shown(Kind.COVERAGE)}: is the file of another format, or is the level not that of "
            "the reads?"
        )
    if form.counts == Counts.VALID_SUM:
        return (
            f"{shown(Kind.LEVEL)}, which is not the {unit} that {shown(Kind.METHYLATED)} of "
            f"{shown(Kind.COVERAGE)} give: are columns 12 and 13 the other way round, as in a file "
            "of modbam2bed?"
        )
    other = Kind.UNMETHYLATED if Kind.UNMETHYLATED in named else Kind.COVERAGE
    return (
        f"{shown(Kind.LEVEL)}, which is not the {unit} that the counts give, as "
        f"{shown(Kind.METHYLATED)} and {shown(other)}: is the file of another format?"
    )


def unsorted_words(files: Sequence[Path], read: int) -> str:
    """That files were sorted, in one sentence however many they are."""
    if len(files) == 1:
        return f"{files[0]} was not sorted by position: its calls were sorted."
    return (
        f"{len(files):,} of {read:,} files were not sorted by position, the first {files[0]}: "
        "their calls were sorted."
    )

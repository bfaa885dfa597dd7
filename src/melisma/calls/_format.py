"""How a text format is described: its columns, how they give counts, how it is recognised."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class Kind(IntEnum):
    """What the parser does with a column."""

    SKIP = 0
    CONTIG = 1
    POSITION = 2
    END = 3
    METHYLATED = 4
    UNMETHYLATED = 5
    COVERAGE = 6
    OTHER = 7
    LEVEL = 8
    LEVEL_UNMETHYLATED = 9
    STRAND = 10
    BASE = 11
    CONTEXT = 12
    CODE = 13
    FLAG = 14


class Counts(IntEnum):
    """How a row's columns give M and N."""

    METHYLATED_UNMETHYLATED = 0
    METHYLATED_COVERAGE = 1
    VALID_SUM = 2
    PERCENTS = 3
    LEVEL_COVERAGE = 4
    WITHIN_DEPTH = 5


class Strandless(IntEnum):
    """What a row without a strand means."""

    UNKNOWN = 0
    MERGED = 1


class Column(NamedTuple):
    """One column: its name in the format's own documentation and what it holds."""

    name: str
    kind: Kind = Kind.SKIP


class Format(NamedTuple):
    """One input format.

    name : what `--format` takes
    title : the format as its users call it, with the tool that writes it
    base : coordinate of a contig's first base, 0 or 1
    evidence : what the reader was tested on, in words
    tested : whether on files that the tools wrote, or on rows made from their documentation
    sniff : from the first lines to the reason why they are this format, or None
    columns : None for binary formats, which have readers of their own
    layouts : other columns that the format may have; a file's first row says by its length
    width, widest : end minus start, where there is an END column; None: `widest` is `width`
    percent : whether LEVEL is a percentage (else a fraction)
    tolerance : how far LEVEL may be from the counts' share, as a fraction
    spaces_from : first column (0-based) after which any white space separates; None: tabs only
    header : first column names of the header line, lower case; None: no header
    strandless : what a row without a strand means
    carries_context : whether the calls of a binary format carry contexts
    """

    name: str
    title: str
    base: int
    evidence: str
    sniff: Callable[[Sequence[bytes]], str | None]
    columns: tuple[Column, ...] | None = None
    tested: Literal["real files", "literals and round trips"] = "real files"
    layouts: tuple[tuple[Column, ...], ...] = ()
    counts: Counts = Counts.METHYLATED_COVERAGE
    width: int = 1
    widest: int | None = None
    percent: bool = True
    tolerance: float = 0.01
    spaces_from: int | None = None
    header: tuple[str, ...] | None = None
    strandless: Strandless = Strandless.UNKNOWN
    carries_context: bool = False

    def has(self, kind: Kind) -> bool:
        """Whether a column of this kind exists."""
        if kind == Kind.CONTEXT and self.carries_context:
            return True
        return any(column.kind == kind for column in self.columns or ())

    def with_columns(self, count: int) -> "Format":
        """The format with the layout of so many columns; itself where none has them."""
        for layout in (self.columns or (), *self.layouts):
            if len(layout) == count:
                return self._replace(columns=layout, layouts=())
        return self

    @property
    def column_counts(self) -> list[int]:
        """How many columns a row may have, ascending."""
        return sorted(len(layout) for layout in (self.columns or (), *self.layouts))

    @property
    def kinds(self) -> npt.NDArray[np.int64]:
        """The columns' kinds, then the numbers of those that are read, for the parser.

        Of VALID_SUM the level comes last, so that the parser can leave it out.
        """
        kinds = [column.kind for column in self.columns or ()]
        read = [number for number, kind in enumerate(kinds) if kind != Kind.SKIP]
        if self.counts == Counts.VALID_SUM:
            read.sort(key=lambda number: kinds[number] == Kind.LEVEL)
        return np.array([*kinds, *read], dtype=np.int64)

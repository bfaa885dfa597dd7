"""From a text file to batches of calls, through the parser's kernel."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.calls._faults import Row, fault_error, split_row
from melisma.calls._fields import Fault
from melisma.calls._format import Counts, Format, Kind
from melisma.calls._parser import SCRATCH, Stat, parse
from melisma.calls._source import BLOCK_BYTES, TextBlock, line_number, text_blocks
from melisma.errors import MelismaError
from melisma.methylome import MARKS

Ints = npt.NDArray[np.int64]
_HEADINGS = (b"#", b"track ", b"track\t", b"browser ", b"browser\t")


class Run(NamedTuple):
    """Rows start:stop of a batch are on one contig."""

    contig: str
    start: int
    stop: int


class Batch(NamedTuple):
    """Calls in file order, (rows,) each; the arrays are reused for the next batch.

    `key` is `site_key`; `context` and `offset` (of a row's first byte in the decompressed file)
    have length 0 where they were not asked for.
    """

    runs: list[Run]
    key: Ints
    methylated: npt.NDArray[np.uint32]
    coverage: npt.NDArray[np.uint32]
    context: npt.NDArray[np.int8]
    offset: Ints
    ascending: bool
    stats: Ints


def _code_table() -> Ints:
    """Every word for a mark as the parser's kernel takes it."""
    table = [
        (int.from_bytes(word.encode(), "little"), len(word), index)
        for index, mark in enumerate(MARKS)
        for word in dict.fromkeys((mark.code, mark.chebi, mark.name))
        if word and " " not in word
    ]
    return np.array([len(table), *chain.from_iterable(table)], dtype=np.int64)


_CODES = _code_table()


def read_batches(
    path: Path,
    form: Format,
    *,
    mark: int | None = None,
    offsets: bool = False,
    contexts: bool = True,
    block_bytes: int = BLOCK_BYTES,
    advance: Callable[[float], Any] | None = None,
) -> Iterator[Batch]:
    """Read a text file of calls batch by batch.

    Parameters
    ----------
    mark : index of the mark that formats without a code carry (default 5mC) and that formats
        with one are filtered to (default: all)
    offsets, contexts : whether each row's byte offset and its context are wanted

    Raises
    ------
    MelismaError
        The first row that breaks the format, by line and column.
    """
    settings = _settings(form, mark)
    wants_context = contexts and form.has(Kind.CONTEXT)
    out = _outputs(form, block_bytes, context=wants_context, offset=offsets)
    kinds, slots = form.kinds, np.zeros(SCRATCH, dtype=np.int64)
    stats = np.zeros(max(Stat) + 1, dtype=np.int64)
    first = True
    for block in text_blocks(path, block_bytes, advance):
        start = 0
        if first:
            start = _skip_header(path, form, block)
            first = start is None
            start = start or 0
            if first:
                continue
        rows = int(parse(block.text, start, block.end, kinds, settings, _CODES, slots, out, stats))
        if stats[Stat.FAULT]:
            raise _fault(path, form, block, stats)
        yield _batch(block, out, rows, stats)


def _settings(form: Format, mark: int | None) -> Ints:
    never = len(form.columns or ()) + 1
    scale = 100 if form.percent else 1
    checks_level = form.has(Kind.LEVEL) and form.counts != Counts.PERCENTS
    return np.array(
        [
            form.base,
            form.width if form.has(Kind.END) else -1,
            form.counts,
            never if form.spaces_from is None else form.spaces_from,
            scale if checks_level else 0,
            mark or 0,
            mark if mark is not None and form.has(Kind.CODE) else -1,
            len(form.columns or ()),
        ],
        dtype=np.int64,
    )


def _outputs(
    form: Format, block_bytes: int, *, context: bool, offset: bool
) -> tuple[npt.NDArray[Any], ...]:
    # A row has at least one byte and one separator a column.
    rows = block_bytes // (2 * len(form.columns or ())) + 2
    return (
        np.empty(rows, dtype=np.int64),
        np.empty(rows, dtype=np.uint32),
        np.empty(rows, dtype=np.uint32),
        np.empty(rows if context else 0, dtype=np.int8),
        np.empty(rows if offset else 0, dtype=np.int64),
        np.empty(rows, dtype=np.int64),
        np.empty(rows, dtype=np.int64),
        np.empty(rows, dtype=np.int64),
    )


def _batch(block: TextBlock, out: Sequence[npt.NDArray[Any]], rows: int, stats: Ints) -> Batch:
    n_runs = int(stats[Stat.RUNS])
    bounds = [*(int(row) for row in out[5][:n_runs]), rows]
    runs = [
        Run(bytes(block.text[a:b]).decode("utf-8", "backslashreplace"), start, stop)
        for a, b, (start, stop) in zip(
            out[6][:n_runs], out[7][:n_runs], pairwise(bounds), strict=True
        )
    ]
    key, methylated, coverage, context, offset = (array[:rows] for array in out[:5])
    if offset.size:
        offset = offset + block.offset
    return Batch(
        runs, key, methylated, coverage, context, offset, bool(stats[Stat.ASCENDING]), stats
    )


def _skip_header(path: Path, form: Format, block: TextBlock) -> int | None:
    """Where the rows begin, after a header that the format has; None: not in this block."""
    if form.header is None:
        return 0
    text = block.text[: block.end].tobytes()
    start = 0
    while start < len(text):
        stop = text.index(b"\n", start)
        line = text[start:stop].rstrip(b"\r")
        if line and not line.startswith(_HEADINGS):
            names = tuple(field.strip('"').lower() for field in split_row(form, line))
            if names[: len(form.header)] == form.header:
                return stop + 1
            raise MelismaError(
                f"{path} begins with {line[:60].decode('utf-8', 'backslashreplace')!r}, and "
                f"{form.title} begins with a header of {', '.join(form.header)}: is it a file of "
                "another format?"
            )
        start = stop + 1
    return None


def _fault(path: Path, form: Format, block: TextBlock, stats: Ints) -> MelismaError:
    offset = int(stats[Stat.OFFSET])
    line = block.text[offset : block.end].tobytes().split(b"\n", 1)[0]
    row = Row(path, line_number(path, block.offset + offset), split_row(form, line))
    return fault_error(form, Fault(int(stats[Stat.FAULT])), int(stats[Stat.COLUMN]), row)


def lines_of_site(path: Path, form: Format, contig: str, key: int, mark: int | None) -> list[int]:
    """The 1-based line numbers of the rows of one site; a second pass, for error messages."""
    lines: list[int] = []
    for batch in read_batches(path, form, mark=mark, offsets=True, contexts=False):
        for run in batch.runs:
            if run.contig == contig:
                found = np.flatnonzero(batch.key[run.start : run.stop] == key) + run.start
                lines += [line_number(path, int(batch.offset[row])) for row in found]
    return lines

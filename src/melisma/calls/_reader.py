"""From a text file to batches of calls, through the parser's kernel."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.calls._faults import Row, fault_error, split_row
from melisma.calls._fields import Fault
from melisma.calls._format import Counts, Format, Kind
from melisma.calls._parser import SCRATCH, Stat, parse
from melisma.calls._pieces import Pieces, cut, read_piece
from melisma.calls._source import (
    BLOCK_BYTES,
    MARK_OF_UTF8,
    TextBlock,
    head_lines,
    line_number,
    text_blocks,
)
from melisma.errors import MelismaError
from melisma.methylome import MARKS

Ints = npt.NDArray[np.int64]
# More than the first 64 KB hold, of which `head_lines` gives the first ones.
_HEAD_LINES = 1 << 16
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
    threads: int = 1,
    advance: Callable[[float], Any] | None = None,
) -> Iterator[Batch]:
    """Read a text file of calls batch by batch.

    Parameters
    ----------
    mark : index of the mark that formats without a code carry (default 5mC) and that formats
        with one are filtered to (default: all)
    offsets, contexts : whether each row's byte offset and its context are wanted
    threads : how many parse at a time, where the file is plain or bgzip; the batches' order is
        the file's

    Raises
    ------
    MelismaError
        The first row that breaks the format, by line and column.
    """
    form = _with_layout(path, form)

    def parser() -> _Parser:
        return _Parser(path, form, mark, contexts=contexts, offsets=offsets)

    pieces = cut(path, block_bytes) if threads > 1 else None
    if pieces is not None:
        yield from _read_pieces(pieces, parser, form, threads, block_bytes, advance)
        return
    one, first = parser(), True
    for block in text_blocks(path, block_bytes, advance):
        start = _skip_header(path, form, block) if first else 0
        first = start is None
        if start is not None:
            yield one.parse(block, start)


def _read_pieces(
    pieces: Pieces,
    parser: Callable[[], "_Parser"],
    form: Format,
    threads: int,
    longest: int,
    advance: Callable[[float], Any] | None,
) -> Iterator[Batch]:
    """The batches of a file's pieces in order, some pieces ahead of the one that is asked for."""

    def work(k: int, with_parser: _Parser) -> Batch | None:
        block = read_piece(pieces, k, longest)
        start = 0 if k else _skip_header(pieces.path, form, block)
        return None if start is None else with_parser.parse(block, start)

    # Each parser's arrays hold a batch until its consumer asks for the next one.
    spare = [parser() for _ in range(threads + 2)]
    pool = ThreadPoolExecutor(threads)
    waiting: deque[tuple[Future[Batch | None], _Parser]] = deque()
    begun = 0
    try:
        for k in range(len(pieces)):
            while begun < len(pieces) and spare:
                with_parser = spare.pop()
                waiting.append((pool.submit(work, begun, with_parser), with_parser))
                begun += 1
            job, with_parser = waiting.popleft()
            batch = job.result()
            if batch is None:
                raise MelismaError(
                    f"{pieces.path} begins with more than {longest:,} bytes of comments: it is "
                    "not a table of calls."
                )
            yield batch
            spare.append(with_parser)
            if advance:
                advance(float(pieces.packed[k + 1] - pieces.packed[k]))
    finally:
        pool.shutdown(cancel_futures=True)


class _Parser:
    """The parser's kernel with its settings and the arrays that it fills."""

    def __init__(
        self, path: Path, form: Format, mark: int | None, *, contexts: bool, offsets: bool
    ) -> None:
        self._path, self._form = path, form
        self._settings, self._kinds = _settings(form, mark), form.kinds
        self._contexts, self._offsets = contexts and form.has(Kind.CONTEXT), offsets
        self._slots = np.zeros(SCRATCH, dtype=np.int64)
        self._bytes = -1
        self._out: tuple[npt.NDArray[Any], ...] = ()

    def parse(self, block: TextBlock, start: int) -> Batch:
        """The calls of a block's lines from `start` on; its arrays are used again next time."""
        if block.end > self._bytes:
            self._bytes = max(block.end, BLOCK_BYTES)
            self._out = _outputs(
                self._form, self._bytes, context=self._contexts, offset=self._offsets
            )
        stats = np.zeros(max(Stat) + 1, dtype=np.int64)
        rows = int(
            parse(
                block.text, start, block.end, self._kinds, self._settings, _CODES, self._slots,
                self._out, stats,
            )
        )  # fmt: skip
        if stats[Stat.FAULT]:
            raise _fault(self._path, self._form, block, stats)
        return _batch(block, self._out, rows, stats)


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
            form.width if form.widest is None else form.widest,
            round(form.tolerance * 1e8),
        ],
        dtype=np.int64,
    )


def _outputs(
    form: Format, block_bytes: int, *, context: bool, offset: bool
) -> tuple[npt.NDArray[Any], ...]:
    # A row has at least one byte and one separator a column.
    rows = block_bytes // (2 * form.column_counts[0]) + 2
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
    """Where the rows begin, after a byte order mark and a header; None: not in this block."""
    marked = block.text[: len(MARK_OF_UTF8)].tobytes() == MARK_OF_UTF8
    start = len(MARK_OF_UTF8) if marked else 0
    if form.header is None:
        return start
    text = block.text[: block.end].tobytes()
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


def _with_layout(path: Path, form: Format) -> Format:
    """The format with the layout that the file's first row has, by its columns."""
    if form.layouts:
        for line in head_lines(path, _HEAD_LINES):
            if line.strip() and not line.startswith(_HEADINGS):
                return form.with_columns(len(split_row(form, line)))
    return form


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

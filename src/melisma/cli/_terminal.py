"""What the verbs share: progress drawn with rich on stderr, notes, and tables on stdout."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table


class TerminalReporter:
    """Draws stages as bars on stderr; each note is a line of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextmanager
    def stage(self, name: str, total: float | None) -> Iterator[Callable[[float], None]]:
        with self._progress:
            task = self._progress.add_task(name, total=total)
            yield lambda done: self._progress.advance(task, done)
            self._progress.remove_task(task)

    def note(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def terminal() -> Iterator[None]:
    """Show the library's progress and notes on stderr while the block runs."""
    from melisma.progress import reporting

    with reporting(TerminalReporter(Console(stderr=True))):
        yield


# What a table may take where stdout is a file or a pipe, which have no width of their own.
_PIPE_WIDTH = 160


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a small table to stdout; numbers are aligned right, words are never cut."""
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
    console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    if not rows:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        numeric = all(isinstance(row[i], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    console.print(table, highlight=False)


# More rows than this are not printed where another command or file has them all.
MOST_ROWS = 60


def show_first(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, rest: str
) -> None:
    """Print a table's first rows, and how many are left out; `rest` says what shows them."""
    show_table(title, columns, rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        Console(soft_wrap=True).print(
            f"{len(rows) - MOST_ROWS:,} more are not shown: {rest}.", markup=False, highlight=False
        )


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if value != value else f"{value:.3g}" if abs(value) < 0.1 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

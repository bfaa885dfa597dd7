"""How library code says what it is doing, without printing.

A caller installs a `Reporter` for a block of code with `reporting`; library functions open a
`stage` and advance it, or leave a `note`. Without a reporter nothing happens.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Advance = Callable[[float], None]


class Reporter(Protocol):
    """What draws progress: the command line's bar, a page, a test's list."""

    def stage(self, name: str, total: float | None) -> AbstractContextManager[Advance]:
        """Open a stage of `total` units (None: unknown); the value advances it."""
        ...

    def note(self, text: str) -> None:
        """Say one sentence that the user should see."""
        ...


def _ignore(_: float) -> None:
    return None


# A module value, not a context variable: worker threads report to the same bar.
_installed: list[Reporter] = []


@contextmanager
def reporting(reporter: Reporter) -> Generator[None]:
    """Send every stage and note of this block to `reporter`."""
    _installed.append(reporter)
    try:
        yield
    finally:
        _installed.remove(reporter)


def stage(name: str, total: float | None = None) -> AbstractContextManager[Advance]:
    """Open a named stage of work; the context's value takes the units done since the last call."""
    return _installed[-1].stage(name, total) if _installed else nullcontext(_ignore)


def note(text: str) -> None:
    """Say one sentence that the user should see, such as an assumption that was made."""
    if _installed:
        _installed[-1].note(text)

"""Sample-sheet columns of several sheets put together: what is missing, and what does not fit."""

from collections.abc import Mapping, Sequence
from typing import Any

from melisma._sheet import MISSING_WORDS
from melisma.errors import MelismaError

Sheet = Mapping[str, Sequence[Any]]


def holds_words(column: Sequence[Any]) -> bool:
    """Whether a column holds words, else numbers."""
    return any(isinstance(value, str) for value in column)


def _says_nothing(column: Sequence[Any]) -> bool:
    return all(value in MISSING_WORDS for value in column)


def missing_values(column: Sequence[Any], count: int) -> list[Any]:
    """As many missing values as fit a column: "" beside words, NaN beside numbers."""
    return [""] * count if holds_words(column) else [float("nan")] * count


def appended(old: Sheet, new: Sheet, sheet: str) -> dict[str, list[Any]]:
    """The columns of samples that are there, followed by those of new samples.

    A column that only one side has gets missing values on the other.

    Parameters
    ----------
    old, new : columns by name, `sample` among them
    sheet : what the new columns are from, for messages

    Raises
    ------
    MelismaError
        A column has numbers on one side and words on the other.
    """
    n_old, n_new = len(old["sample"]), len(new["sample"])
    joined: dict[str, list[Any]] = {}
    for name in [*old, *(name for name in new if name not in old)]:
        if name not in new:
            joined[name] = [*old[name], *missing_values(old[name], n_new)]
        elif name not in old:
            joined[name] = [*missing_values(new[name], n_old), *new[name]]
        else:
            joined[name] = _alike(name, old[name], new[name], sheet)
    return joined


def _alike(name: str, old: Sequence[Any], new: Sequence[Any], sheet: str) -> list[Any]:
    sides = [old, new]
    for k, other in ((0, new), (1, old)):
        # A side of nothing but NA is words by itself; beside the other it is missing.
        if name != "sample" and holds_words(sides[k]) and _says_nothing(sides[k]):
            sides[k] = missing_values(other, len(sides[k]))
    if holds_words(sides[0]) != holds_words(sides[1]):
        kinds = ("words", "numbers") if holds_words(sides[0]) else ("numbers", "words")
        raise MelismaError(
            f"The column {name!r} holds {kinds[0]} in the store and {kinds[1]} in {sheet}: write "
            "it alike, or give the column another name."
        )
    return [*sides[0], *sides[1]]

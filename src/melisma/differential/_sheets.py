"""Sample sheets of studies that are to be simulated."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma._model import level_name
from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]


def parse_groups(text: str) -> dict[str, int]:
    """Groups and their sizes.

    >>> parse_groups("a=6,b=6")
    {'a': 6, 'b': 6}

    Raises
    ------
    MelismaError
        The text is not of that kind.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        read = re.fullmatch(r"\s*([^=\s][^=]*?)\s*=\s*(\d+)\s*", part)
        if read is None or int(read[2]) < 1 or read[1] in found:
            raise MelismaError(
                f"{text!r} is not a list of groups and their sizes: write it as a=6,b=6."
            )
        found[read[1]] = int(read[2])
    return found


def parse_depths(text: str | None, groups: Sequence[str], default: float) -> dict[str, float]:
    """Mean coverage of each group: `10` for all, or `a=5,b=30`.

    >>> parse_depths("a=5,b=30", ["a", "b"], 10.0), parse_depths("8", ["a"], 10.0)
    ({'a': 5.0, 'b': 30.0}, {'a': 8.0})

    Raises
    ------
    MelismaError
        A number is none or not positive, or a group is not there.
    """
    if text is None:
        return dict.fromkeys(groups, default)
    parts = [part.split("=") for part in text.split(",")]
    try:
        if len(parts) == 1 and len(parts[0]) == 1:
            depths = dict.fromkeys(groups, float(text))
        else:
            depths = {name.strip(): float(value) for name, value in parts}
    except ValueError:
        raise MelismaError(
            f"The depth {text!r} is neither a number nor one a group: write 10, or a=5,b=30."
        ) from None
    if set(depths) != set(groups):
        raise MelismaError(f"The depth {text!r} should name each group once: {', '.join(groups)}.")
    if not all(0 < depth <= 10_000 for depth in depths.values()):
        raise MelismaError(f"The depth {text!r} should be more than 0 and at most 10,000.")
    return depths


def group_sheet(groups: Mapping[str, int], *, pairs: bool = False) -> dict[str, list[Any]]:
    """A sheet with the columns sample and group and, with `pairs`, pair.

    >>> group_sheet({"a": 1, "b": 2}, pairs=True)["pair"]
    ['p1', 'p1', 'p2']
    """
    sheet: dict[str, list[Any]] = {
        "sample": [f"{name}{k + 1}" for name, size in groups.items() for k in range(size)],
        "group": [name for name, size in groups.items() for _ in range(size)],
    }
    if pairs:
        sheet["pair"] = [f"p{k + 1}" for size in groups.values() for k in range(size)]
    return sheet


def group_exposure(column: Sequence[Any]) -> Floats:
    """0 to 1: numbers from the smallest to the largest, words in equal steps in their order.

    >>> group_exposure(["a", "b", "c"]).tolist(), group_exposure([20.0, 30.0, 60.0]).tolist()
    ([0.0, 0.5, 1.0], [0.0, 0.25, 1.0])
    """
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in column):
        values = np.array(column, dtype=np.float64)
    else:
        order = {word: k for k, word in enumerate(dict.fromkeys(map(level_name, column)))}
        values = np.array([order[level_name(v)] for v in column], dtype=np.float64)
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0 else np.zeros(len(values))


def confounded_batches(exposure: Floats, confounding: float) -> list[str]:
    """Two batches: at 0 balanced over the exposure, at 1 the batch follows it.

    >>> confounded_batches(np.array([0.0, 0, 1, 1]), 1.0)
    ['batch1', 'batch1', 'batch2', 'batch2']
    >>> confounded_batches(np.array([0.0, 0, 1, 1]), 0.0)
    ['batch1', 'batch2', 'batch1', 'batch2']
    """
    batch = [""] * len(exposure)
    for value in np.unique(exposure):
        members = np.flatnonzero(exposure == value)
        share = 0.5 + confounding * (value - 0.5)
        second = round(share * len(members) + 1e-9)
        for k, j in enumerate(members):
            batch[j] = "batch2" if k >= len(members) - second else "batch1"
    return batch

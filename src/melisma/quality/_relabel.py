"""The fewest labels to change so that the sheet's people are those of the calls."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.optimize import linear_sum_assignment

from melisma.quality._walk import Floats

# Every way is listed for up to so many people at once; beyond, only whether it is the only one.
_MOST_LISTED = 6
_NEVER = -1_000_000.0


@dataclass(frozen=True)
class Reconciliation:
    """One knot of people and labels, and the fewest changes that untie it.

    labels : the labels concerned
    ways : each way as (sample, new label) pairs; a label of None is a person not in the sheet
    exchange : whether the changes only exchange labels among these samples
    complete : whether `ways` holds every way with so few changes
    """

    labels: tuple[Hashable, ...]
    ways: tuple[tuple[tuple[int, Hashable], ...], ...]
    exchange: bool
    complete: bool

    @property
    def unique(self) -> bool:
        """Whether no other way has so few changes."""
        return self.complete and len(self.ways) == 1


def reconcile(people: Sequence[int], labels: Sequence[Hashable]) -> tuple[Reconciliation, ...]:
    """The fewest relabellings for each knot of people and labels that contradict each other.

    An exchange, which keeps how often each label occurs, is preferred where one mends everything.

    Parameters
    ----------
    people : (samples,), negative: not known
    labels : (samples,), empty: not known

    Examples
    --------
    >>> (found,) = reconcile([0, 0, 0, 1, 1, 1], ["a", "a", "b", "b", "b", "a"])
    >>> found.ways, found.exchange, found.unique
    ((((2, 'a'), (5, 'b')),), True, True)
    """
    known = [i for i, label in enumerate(labels) if label and people[i] >= 0]
    return tuple(
        found
        for rows in _knots([people[i] for i in known], [labels[i] for i in known])
        if (found := _untie([known[k] for k in rows], people, labels)) is not None
    )


def _knots(people: Sequence[int], labels: Sequence[Hashable]) -> list[list[int]]:
    """Samples joined by a person or a label, where there is more than one of either."""
    knot = list(range(len(people)))

    def root(i: int) -> int:
        while knot[i] != i:
            knot[i] = knot[knot[i]]
            i = knot[i]
        return i

    seen: dict[Hashable, int] = {}
    for i, (person, label) in enumerate(zip(people, labels, strict=True)):
        for key in (("person", person), ("label", label)):
            knot[root(i)] = root(seen.setdefault(key, i))
    groups: dict[int, list[int]] = {}
    for i in range(len(people)):
        groups.setdefault(root(i), []).append(i)
    return [
        rows
        for rows in groups.values()
        if len({people[i] for i in rows}) > 1 or len({labels[i] for i in rows}) > 1
    ]


def _untie(
    rows: Sequence[int], people: Sequence[int], labels: Sequence[Hashable]
) -> Reconciliation | None:
    groups = list(dict.fromkeys(people[i] for i in rows))
    names = list(dict.fromkeys(labels[i] for i in rows))
    agree = np.zeros((len(groups), len(names)))
    for i in rows:
        agree[groups.index(people[i]), names.index(labels[i])] += 1
    sizes, counts = agree.sum(1), agree.sum(0)
    fitting = sizes[:, None] == counts
    exchange = len(groups) == len(names)
    worth = np.where(fitting, agree, _NEVER)
    if exchange:
        exchange = bool(worth[linear_sum_assignment(worth, maximize=True)].min() > _NEVER)
    if not exchange:
        worth = agree
    found, complete = _assignments(worth)
    ways = []
    for assigned in found:
        chosen = [None if k is None else names[k] for k in assigned]
        wanted = dict(zip(groups, chosen, strict=True))
        ways.append(tuple((i, wanted[people[i]]) for i in rows if labels[i] != wanted[people[i]]))
    distinct = tuple(dict.fromkeys(ways))
    if 2 * len(distinct[0]) > len(rows):
        return None
    return Reconciliation(tuple(names), distinct, exchange, complete)


def _assignments(worth: Floats) -> tuple[list[list[int | None]], bool]:
    """The best assignments of columns to rows, and whether these are all of them."""
    n_rows, n_columns = worth.shape
    # Columns of worth 0 stand for people that are not in the sheet.
    padded = np.concatenate([worth, np.zeros((n_rows, max(0, n_rows - n_columns)))], axis=1)
    rows, columns = linear_sum_assignment(padded, maximize=True)
    best = padded[rows, columns].sum()
    if max(padded.shape) <= _MOST_LISTED:
        every = permutations(range(padded.shape[1]), n_rows)
        found = [list(p) for p in every if padded[np.arange(n_rows), list(p)].sum() == best]
        return [[k if k < n_columns else None for k in p] for p in found], True
    alone = True
    for row, column in zip(rows, columns, strict=True):
        other = padded.copy()
        other[row, column] = _NEVER
        alone &= other[linear_sum_assignment(other, maximize=True)].sum() < best
    return [[k if k < n_columns else None for k in columns.tolist()]], bool(alone)

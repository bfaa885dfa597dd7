"""Candidates judged against the null's: false discovery rates with called regions masked."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from melisma.differential._kernels import Floats
from melisma.differential._search import Candidates

# Family-wise p needs this many relabellings to reach .05 with room (1 / 40).
_MIN_FAMILY = 39
_MASK_ROUNDS = 2


@dataclass(frozen=True)
class Judged:
    """p, q, p_family of the observed candidates, (regions,), and the null's calls at the cut."""

    p: Floats
    q: Floats
    p_family: Floats
    called_by_relabelling: tuple[int, ...]


def judge(candidates: Candidates, sites: int, relabellings: int, q: float) -> Judged:
    """False discovery rates with called regions masked from the null.

    FDR(t) = (1 + null regions >= t outside called ones) / relabellings, scaled by all sites over
    unmasked sites, over observed regions >= t; made monotone; called, masked, twice over.
    """
    observed = candidates.labelling == 0
    statistic = np.abs(candidates.statistic)
    own, null = statistic[observed], statistic[~observed]
    start, end = candidates.start[observed], candidates.end[observed]
    called = np.zeros(len(own), dtype=bool)
    values = np.ones(len(own))
    for _ in range(_MASK_ROUNDS + 1):
        outside = ~_overlaps(
            candidates.start[~observed], candidates.end[~observed], start[called], end[called]
        )
        masked = int((end[called] - start[called]).sum())
        values = _false_discovery(own, null[outside], relabellings, sites / max(sites - masked, 1))
        again = values < q
        if (again == called).all():
            break
        called = again
    p = null_share(candidates, own, relabellings)
    family = np.full(len(own), np.nan)
    labelling = candidates.labelling[~observed]
    if relabellings >= _MIN_FAMILY:
        largest = np.zeros(relabellings)
        np.maximum.at(largest, labelling - 1, null)
        family = (1.0 + _count_at_least(largest, own)) / (1.0 + relabellings)
    cut = own[called].min() if called.any() else np.inf
    calls = np.bincount(labelling[null >= cut] - 1, minlength=relabellings)
    return Judged(p, values, family, tuple(int(n) for n in calls))


def null_share(candidates: Candidates, statistic: Floats, relabellings: int) -> Floats:
    """The share of all null regions whose statistic is at least as large, one added to both.

    At least one null candidate a relabelling: p is never resolved finer than their number.
    """
    null = np.abs(candidates.statistic[candidates.labelling > 0])
    above = _count_at_least(null, np.abs(statistic))
    return np.minimum((1.0 + above) / (1.0 + max(len(null), relabellings)), 1.0)


def _count_at_least(values: Floats, thresholds: Floats) -> Floats:
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left").astype(float)


def _false_discovery(own: Floats, null: Floats, relabellings: int, rescale: float) -> Floats:
    expected = (1.0 + _count_at_least(null, own)) / relabellings * rescale
    rate = np.minimum(expected / _count_at_least(own, own), 1.0)
    order = np.argsort(own)
    monotone = np.empty(len(own))
    # A smaller statistic never has a smaller q: running minimum from the smallest upwards.
    monotone[order] = np.minimum.accumulate(rate[order])
    return monotone


def _overlaps(
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    other_start: npt.NDArray[np.int64],
    other_end: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Which [start, end) overlap any of the sorted, disjoint others."""
    order = np.argsort(other_start)
    k = np.searchsorted(other_end[order], start, side="right")
    starts = np.append(other_start[order], np.iinfo(np.int64).max)
    return starts[k] < end

"""Samples that hold a second person's DNA, and how much of it.

If a share a of a sample is someone else's, a site where the sample has g copies of the intact
allele and the other person h reads at (1 - a) c(g) + a c(h) instead of c(g). The other person is
not known: h has Hardy-Weinberg proportions. The profile of the likelihood in a gives an estimate
and an interval (the model of Jun et al. 2012, with levels for alleles).
"""

from functools import cache
from typing import NamedTuple

import numpy as np

from melisma.quality._candidates import GenotypeSites
from melisma.quality._genotypes import CLASSES, STRAYS, beta_binomial, hardy_weinberg
from melisma.quality._walk import Floats

SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
_SITES_AT_ONCE = 500
# Sites whose levels are not quite 0, 1/2 and 1 make every sample look a little mixed.
_LEAST_SHARE, _LEAST_GAIN = 0.03, 10.0
_SPREADS = 6.0
_FEWEST_SITES = 50


class Mixing(NamedTuple):
    """One row a sample: share of foreign DNA, its 95% interval, whether it stands out."""

    share: Floats
    low: Floats
    high: Floats
    mixed: Floats


@cache
def _tables() -> Floats:
    """Probability of the reads at each share, own and foreign copies, (shares, cells, 3, 3)."""
    wide = [[_mean_table(share, g, h) for g in range(3) for h in range(3)] for share in SHARES]
    tables = np.array(wide).transpose(0, 2, 1)
    return np.ascontiguousarray(tables.reshape(len(SHARES), -1, 3, 3))


def _mean_table(share: float, own: int, foreign: int) -> Floats:
    mean, dispersion = (
        (1 - share) * x + share * y for x, y in zip(CLASSES[own], CLASSES[foreign], strict=True)
    )
    table = np.exp(beta_binomial(mean, dispersion))
    # A stray cell may hold any number of reads, as in `class_table`.
    width = int(np.sqrt(len(table)))
    n, m = (grid.ravel() for grid in np.mgrid[:width, :width])
    return (1 - STRAYS) * table + STRAYS * np.where(m <= n, 1 / (n + 1), 0.0)


def share_logs(sites: GenotypeSites, frequency: Floats) -> Floats:
    """Log likelihood of each sample's reads at each share of `SHARES`, (samples, shares).

    Parameters
    ----------
    sites : with `cells`
    frequency : (sites,) or (sites, samples)
    """
    assert sites.cells is not None
    n_sites, n_samples = sites.cells.shape
    logs = np.zeros((n_samples, len(SHARES)))
    for start in range(0, n_sites, _SITES_AT_ONCE):
        part = slice(start, start + _SITES_AT_ONCE)
        q = frequency[part] if frequency.ndim == 2 else frequency[part, None]
        own = np.broadcast_to(hardy_weinberg(q), (*sites.cells[part].shape, 3))
        for k, table in enumerate(_tables()):
            # (sites, samples, own, foreign)
            chances = table[sites.cells[part]]
            total = np.einsum("jsg,jsgh,jsh->js", own, chances, own, optimize=True)
            logs[:, k] += (sites.weight[part, None] * np.log(total)).sum(0)
    return logs


def mixing(sites: GenotypeSites, frequency: Floats) -> Mixing:
    """The share of foreign DNA in each sample.

    A sample stands out if its interval begins above .03 and above the usual estimate, and its
    gain in log likelihood is both 10 and far beyond the other samples' gains.
    """
    logs = share_logs(sites, frequency)
    grid = np.array(SHARES)
    best = logs.argmax(1)
    top = logs.max(1)
    share = grid[best]
    low, high = share.copy(), share.copy()
    for i, row in enumerate(logs):
        low[i] = _crossing(grid, row - top[i] + 1.92, best[i], -1)
        high[i] = _crossing(grid, row - top[i] + 1.92, best[i], 1)
    gain = top - logs[:, 0]
    middle = np.median(gain)
    spread = 1.4826 * np.median(np.abs(gain - middle))
    mixed = (low > max(_LEAST_SHARE, _LEAST_SHARE + float(np.median(share)))) & (
        gain > middle + np.maximum(_LEAST_GAIN, _SPREADS * spread)
    )
    if len(sites.weight) < _FEWEST_SITES:
        mixed[:] = False
    return Mixing(share, low, high, mixed)


def _crossing(grid: Floats, above: Floats, start: int, step: int) -> float:
    """Where the profile falls below 0 on one side of its maximum, linearly between shares."""
    i = start
    while 0 <= i + step < len(grid) and above[i + step] > 0:
        i += step
    if not 0 <= i + step < len(grid):
        return float(grid[i])
    part = above[i] / (above[i] - above[i + step])
    return float(grid[i] + part * (grid[i + step] - grid[i]))


def likely_source(sites: GenotypeSites, frequency: Floats, sample: int, share: float) -> int | None:
    """The other sample whose person explains the foreign reads far better than chance would.

    Parameters
    ----------
    sites, frequency : as in `share_logs`
    sample : the mixed sample
    share : of foreign DNA in it
    """
    assert sites.cells is not None
    q = frequency[:, sample] if frequency.ndim == 2 else frequency
    own = hardy_weinberg(q)
    chances = _tables()[int(np.abs(np.array(SHARES) - share).argmin())][sites.cells[:, sample]]
    foreign = np.einsum("jg,jgh->jh", own, chances)  # (sites, 3)
    unknown = (foreign * own).sum(1)
    others = sites.likelihood * own[:, None, :]
    others /= others.sum(2, keepdims=True)
    known = np.einsum("jh,jsh->js", foreign, others)
    gain = (sites.weight[:, None] * np.log(known / unknown[:, None])).sum(0)
    gain[sample] = -np.inf
    best = int(gain.argmax())
    return best if gain[best] > np.log(len(gain)) + _LEAST_GAIN else None

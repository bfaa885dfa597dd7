"""Independent filtering: sites with few reads over all samples are left out of the correction.

The reads of all samples together say nothing about a difference between them where there is none,
so that a filter by them keeps the size of the tests that are left (Bourgon et al. 2010). Reads by
group would not.
"""

from typing import NamedTuple

import numpy as np

from melisma.differential._whitening import Floats

_PIECE = 1 << 20
# Shares of the tested sites that a threshold may leave out.
_SHARES = np.linspace(0.0, 0.95, 20)


class Filtered(NamedTuple):
    """q-values with NaN where a site is left out, the least reads that are kept, and how many of
    the tested sites are left out."""

    q: Floats
    reads: float
    left_out: int


def benjamini_hochberg(p: Floats) -> Floats:
    """q-values (Benjamini & Hochberg 1995); NaN stays NaN and does not count as a test.

    >>> benjamini_hochberg(np.array([0.01, 0.04, np.nan, 0.03])).round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    # In place and in pieces: at 28 million sites each array of them is a quarter of a gigabyte.
    order = np.argsort(p, kind="stable")[: len(p) - np.count_nonzero(np.isnan(p))]
    order = order.astype(np.min_scalar_type(len(p)))
    steps = p[order]
    steps *= len(order)
    for start in range(0, len(order), _PIECE):
        stop = min(start + _PIECE, len(order))
        steps[start:stop] /= np.arange(start + 1, stop + 1)
    np.minimum.accumulate(steps[::-1], out=steps[::-1])
    np.minimum(steps, 1.0, out=steps)
    q = np.full(len(p), np.nan)
    q[order] = steps
    return q


def filter_by_reads(p: Floats, reads: Floats, level: float) -> Filtered:
    """The threshold of pooled reads with the most discoveries at `level`, the lowest such.

    Parameters
    ----------
    p : (sites,) p-values, NaN not tested
    reads : (sites,) reads of all samples together
    """
    tested = ~np.isnan(p)
    if not tested.any():
        return Filtered(np.full(len(p), np.nan), 0.0, 0)
    best, threshold, q = -1, 0.0, p
    for cut in np.unique(np.quantile(reads[tested], _SHARES, method="higher")):
        values = benjamini_hochberg(np.where(reads >= cut, p, np.nan))
        found = int((values < level).sum())
        if found > best:
            best, threshold, q = found, float(cut), values
    return Filtered(q, threshold, int((tested & (reads < threshold)).sum()))

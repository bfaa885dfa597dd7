"""Numba kernel of regions' levels: M and N of each unit, its sites levelled first."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def region_levels(methylated, coverage, side, start, end):
    """M and N of each unit over regions of sites.

    A unit's level is its mean, weighted with reads, of the deviation from each site's own level
    (the mean of the two sides' levels there), so that units that cover the sites unevenly are
    compared site by site. Sites that a side never covers are left out.

    Parameters
    ----------
    methylated, coverage : (sites, units) counts
    side : (units,) +1, -1 or 0; all 0 where there are no sides
    start, end : (regions,) half open indices of sites

    Returns
    -------
    methylated, coverage, each (regions, units)
    """
    regions, units = len(start), coverage.shape[1]
    sided = np.any(side != 0)
    marked, reads = np.zeros((regions, units)), np.zeros((regions, units))
    for r in range(regions):
        all_reads = 0.0
        mean = 0.0
        for i in range(start[r], end[r]):
            sums = np.zeros(3)
            counts = np.zeros(3)
            site_reads = 0.0
            for j in range(units):
                if coverage[i, j] > 0.0:
                    sums[side[j]] += methylated[i, j] / coverage[i, j]
                    counts[side[j]] += 1.0
                    site_reads += coverage[i, j]
            if sided:
                if counts[1] == 0.0 or counts[-1] == 0.0:
                    continue
                level = 0.5 * (sums[1] / counts[1] + sums[-1] / counts[-1])
            else:
                if counts[0] == 0.0:
                    continue
                level = sums[0] / counts[0]
            all_reads += site_reads
            mean += site_reads * level
            for j in range(units):
                marked[r, j] += methylated[i, j] - level * coverage[i, j]
                reads[r, j] += coverage[i, j]
        for j in range(units):
            if reads[r, j] > 0.0:
                own = mean / all_reads + marked[r, j] / reads[r, j]
                marked[r, j] = min(max(own, 0.0), 1.0) * reads[r, j]
            else:
                marked[r, j] = 0.0
    return marked, reads

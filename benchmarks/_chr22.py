"""Real positions, levels and depth on human chromosome 22, for simulations.

IMR90 (Lister et al. 2009, two replicates). The recorded set has no CpG that is unmethylated in a
replicate, so the zeros are put back: every CpG of the sequence that is not recorded and lies in a
run of at least five such is taken as unmethylated at its neighbours' coverage; single ones are
left to smoothing.
"""

import gzip
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numba import njit

SHARED = Path(__file__).parents[2] / "shared" / "data"
_RUN = 5
_HALF_WIDTH = 300


class Chromosome(NamedTuple):
    """CpGs of chr22: 0-based position, smoothed level, depth a replicate; each (sites,)."""

    position: np.ndarray
    level: np.ndarray
    depth: np.ndarray

    def part(self, first: int, sites: int) -> "Chromosome":
        return Chromosome(*(values[first : first + sites] for values in self))


@cache
def chromosome() -> Chromosome:
    """The 336,904 CpGs of the sequence that is at hand (21.6 Mb of hg19)."""
    folder = SHARED / "vendorable" / "imr90_chr22"
    with gzip.open(folder / "chr22.hg19.fa.gz", "rt") as lines:
        text = "".join(line.strip() for line in lines if not line.startswith(">"))
    bases = np.frombuffer(text.upper().encode(), dtype=np.uint8)
    position = np.flatnonzero((bases[:-1] == ord("C")) & (bases[1:] == ord("G")))
    calls = pl.read_csv(folder / "calls.tsv.gz", separator="\t")
    recorded = np.isin(position, calls["start"].to_numpy())
    methylated, coverage = np.zeros(len(position)), np.zeros(len(position))
    methylated[recorded] = (calls["rep1_methylated"] + calls["rep2_methylated"]).to_numpy()
    coverage[recorded] = (calls["rep1_coverage"] + calls["rep2_coverage"]).to_numpy()
    near = np.interp(np.arange(len(position)), np.flatnonzero(recorded), coverage[recorded])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (~recorded).astype(int), [0]])))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if last - first >= _RUN:
            coverage[first:last] = near[first:last]
    level = np.clip(_smooth(position, methylated, coverage, _HALF_WIDTH), 0.005, 0.995)
    depth = np.maximum(np.where(coverage > 0, coverage, near), 1.0) / 2.0
    return Chromosome(position, level, depth)


@njit
def _smooth(position, methylated, coverage, half):
    out = np.empty(len(position))
    lo = 0
    for i in range(len(position)):
        while position[i] - position[lo] > half:
            lo += 1
        marked, reads = 0.3, 0.5
        k = lo
        while k < len(position) and position[k] - position[i] <= half:
            weight = 1.0 - abs(position[k] - position[i]) / (half + 1.0)
            marked += weight * methylated[k]
            reads += weight * coverage[k]
            k += 1
        out[i] = marked / reads
    return out

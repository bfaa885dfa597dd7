"""Whether places meet features more often than matched places do."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr
from scipy.stats import false_discovery_control

from melisma._overlaps import Disjoint
from melisma._plural import count
from melisma.errors import MelismaError
from melisma.methylome import blocks, contig_offsets

# Sites within this many bases on either side give a site's CpG density.
DENSITY_REACH = 500
DENSITY_STRATA, COVERAGE_STRATA = 10, 5
CLUSTER_GAP = 1_000
_FEWEST = 2

Ints = npt.NDArray[np.int64]


class Clusters(NamedTuple):
    """Places joined, (clusters,) each: contig, [start, end) in bases, and the site in the middle.

    without_sites : places that hold no site of the methylome, which are left out
    """

    contig: Ints
    start: Ints
    end: Ints
    middle: Ints
    without_sites: int


def enrichment(
    places: pl.DataFrame,
    methylome: xr.Dataset,
    features: Mapping[str, pl.DataFrame],
    *,
    draws: int = 999,
    seed: int = 1,
    gap: int = CLUSTER_GAP,
) -> pl.DataFrame:
    """Whether places meet features more, or less, often than like places of the same methylome do.

    Places closer than `gap` are one cluster, as neighbouring sites are not independent. Each draw
    puts every cluster, with its length in bases, around a random site of the same stratum of CpG
    density (tenths of the methylome's sites within 500 bases) and coverage (fifths) as its middle
    site, on any contig. A cluster counts once a feature, whatever it meets of it.

    Parameters
    ----------
    places : contig, start, end (0-based): what was called
    methylome : the store in which they were called
    features : interval tables by name
    draws, seed : how many random sets, and their seed
    gap : bases

    Returns
    -------
    A row a feature: feature, clusters, observed (clusters that meet it), expected, expected_low,
    expected_high (the middle 95% of draws), fold, p (two-sided, from the draws), q
    (Benjamini-Hochberg over features)

    Raises
    ------
    MelismaError
        Fewer than two clusters hold a site of the methylome, or there are no features.
    """
    if not features:
        raise MelismaError("There are no features to look for: give genes, islands or a BED file.")
    contigs = [str(name) for name in methylome.attrs["contigs"]]
    offsets = np.asarray(contig_offsets(methylome["contig"].values, len(contigs)), dtype=np.int64)
    position = methylome["position"].values.astype(np.int64)
    clusters = make_clusters(places, contigs, offsets, position, gap)
    found = len(clusters.middle)
    if found < _FEWEST:
        raise MelismaError(
            f"{count(len(places), 'place')} {'makes' if len(places) == 1 else 'make'} "
            f"{count(found, 'cluster')} with sites of the store: enrichment needs at least 2."
        )
    stratum = _strata(methylome, offsets, position)
    merged = {name: Disjoint(table) for name, table in features.items()}
    length = clusters.end - clusters.start
    observed = _meets(clusters.contig, clusters.start, clusters.end, contigs, merged)
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            _meets(np.searchsorted(offsets, site, side="right") - 1, start, start + length,
                   contigs, merged)
            for site in _draw(rng, stratum[clusters.middle], stratum, draws)
            for start in [np.maximum(position[site] - length // 2, 0)]
        ]
    )  # fmt: skip
    return _summary(list(features), found, observed, drawn)


def make_clusters(
    places: pl.DataFrame, contigs: list[str], offsets: Ints, position: Ints, gap: int
) -> Clusters:
    """Places joined over gaps, those that hold a site."""
    parts: list[tuple[Ints, Ints, Ints, Ints]] = []
    empty = 0
    for (contig,), part in places.partition_by("contig", as_dict=True).items():
        if contig not in contigs:
            empty += len(part)
            continue
        k = contigs.index(str(contig))
        own = position[offsets[k] : offsets[k + 1]]
        ordered = part.sort("start")
        start, end = ordered["start"].to_numpy(), np.maximum.accumulate(ordered["end"].to_numpy())
        new = np.concatenate([[True], start[1:] - end[:-1] >= gap])
        low = start[new]
        high = end[np.append(np.flatnonzero(new)[1:], len(start)) - 1]
        first, last = np.searchsorted(own, low), np.searchsorted(own, high)
        held = first < last
        empty += int((~held).sum())
        middle = (first + last)[held] // 2 + offsets[k]
        parts.append((np.full(held.sum(), k), low[held], high[held], middle))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Clusters(none, none, none, none, empty)
    number, low, high, middle = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Clusters(number, low, high, middle, empty)


def _strata(methylome: xr.Dataset, offsets: Ints, position: Ints) -> Ints:
    """Stratum of every site by local CpG density and mean coverage; levels have density alone."""
    density = np.zeros(len(position), dtype=np.int64)
    for begin, stop in pairwise(offsets):
        own = position[begin:stop]
        density[begin:stop] = np.searchsorted(
            own, own + DENSITY_REACH, side="right"
        ) - np.searchsorted(own, own - DENSITY_REACH, side="left")
    stratum = _quantile_bins(density, DENSITY_STRATA)
    if "coverage" not in methylome:
        return stratum
    mean = np.concatenate(list(_mean_coverage(methylome)))
    return stratum * COVERAGE_STRATA + _quantile_bins(mean, COVERAGE_STRATA)


def _mean_coverage(methylome: xr.Dataset) -> Iterator[npt.NDArray[np.float64]]:
    for block in blocks(methylome):
        yield block.coverage.mean(axis=1)


def _quantile_bins(values: npt.NDArray[np.float64] | Ints, bins: int) -> Ints:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _draw(rng: np.random.Generator, wanted: Ints, stratum: Ints, draws: int) -> Iterator[Ints]:
    """Random sites, one of each wanted stratum, (clusters,) a draw."""
    order = np.argsort(stratum, kind="stable")
    begin = np.searchsorted(stratum[order], wanted, side="left")
    among = np.searchsorted(stratum[order], wanted, side="right") - begin
    for _ in range(draws):
        yield order[begin + rng.integers(0, among)]


def _meets(
    contig: Ints, start: Ints, end: Ints, contigs: list[str], features: Mapping[str, Disjoint]
) -> Ints:
    """How many of [start, end) meet each feature, (features,)."""
    found = np.zeros(len(features), dtype=np.int64)
    for k in np.unique(contig):
        own = contig == k
        for row, feature in enumerate(features.values()):
            found[row] += feature.meets(contigs[k], start[own], end[own]).sum()
    return found


def _summary(names: list[str], clusters: int, observed: Ints, drawn: Ints) -> pl.DataFrame:
    expected = drawn.mean(axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    above = (1 + (drawn >= observed).sum(axis=0)) / (1 + len(drawn))
    below = (1 + (drawn <= observed).sum(axis=0)) / (1 + len(drawn))
    p = np.minimum(2 * np.minimum(above, below), 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        fold = observed / expected
    return pl.DataFrame(
        {
            "feature": names,
            "clusters": [clusters] * len(names),
            "observed": observed,
            "expected": expected,
            "expected_low": low,
            "expected_high": high,
            "fold": fold,
            "p": p,
            "q": false_discovery_control(p),
        }
    ).with_columns(pl.col("fold").fill_nan(None).replace(float("inf"), None))

"""Bootstrap likelihood ratio: an asymptotic-free second opinion on a chosen list of sites."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma import progress
from melisma.design import Comparison, Contrast, Design
from melisma.differential._bootstrap_kernels import RHOS, bootstrap_site
from melisma.differential._kernels import MIN_MINOR_READS
from melisma.differential._whitening import Floats
from melisma.differential.sites import of_design, one_comparison
from melisma.errors import MelismaError
from melisma.methylome import single_mark

_FEWEST_DRAWS = 99


@dataclass(frozen=True)
class BootstrapTests:
    """What `bootstrap_tests` found.

    `table` has a row a chosen site: contig, position, strand, likelihood_ratio, rho, p, p_error.
    p is (1 + data sets that reach the site's ratio) / (1 + draws), so never below `resolution`;
    p_error is its Monte-Carlo standard error. Sites with fewer than 5 reads of the rarer state
    have null.
    """

    table: pl.DataFrame
    comparison: Comparison
    draws: int
    seed: int

    @property
    def resolution(self) -> float:
        """The smallest p that the draws can show."""
        return 1.0 / (1 + self.draws)


def bootstrap_tests(
    methylome: xr.Dataset,
    design: Design,
    contrast: str | Contrast,
    *,
    sites: Sequence[int] | npt.NDArray[np.integer],
    draws: int = 9999,
    seed: int = 1,
    mark: str | None = None,
) -> BootstrapTests:
    """Beta-binomial likelihood-ratio tests of chosen sites, each with a parametric bootstrap p.

    Parameters
    ----------
    methylome, design, contrast, mark : as for `site_tests`; units must be samples, not blocks
    sites : rows of the methylome (of the mark) to test
    draws : simulated data sets a site, from the model without the contrast
    seed : of the draws; a site's depend on it and on the site alone

    Returns
    -------
    BootstrapTests

    Raises
    ------
    MelismaError
        As `site_tests`; the contrast has blocks; too few draws.
    """
    comparison = one_comparison(design, contrast, several=True)
    if comparison.unit == "blocks" or design.block is not None:
        raise MelismaError(
            "The bootstrap draws samples as if independent, which members of a block are not: use "
            "the site tests for designs with blocks."
        )
    if draws < _FEWEST_DRAWS:
        raise MelismaError(f"{draws} draws show no p below {1 / (1 + draws):.2g}: use 99 or more.")
    methylome = single_mark(of_design(methylome, design), mark)
    part = methylome.isel(site=np.asarray(sites, dtype=np.int64))
    # In the order of names, so that the draws do not depend on the samples' order.
    order = np.argsort(np.array(comparison.names), kind="stable")
    methylated, coverage = (
        np.ascontiguousarray(part[name].values[:, order], dtype=np.float64)
        for name in ("methylated", "coverage")
    )
    reduced = np.ascontiguousarray(comparison.reduced[order])
    full = np.ascontiguousarray(np.hstack([reduced, comparison.exposures[order]]))
    contig, position = part["contig"].values, part["position"].values
    enough = np.minimum(methylated.sum(axis=1), (coverage - methylated).sum(axis=1))
    tested = np.flatnonzero(enough >= MIN_MINOR_READS)
    strand = part["strand"].values
    # A seed a site: its place beside the asked seed, none of them negative.
    seeds = [[seed, *(int(v[k]) + 1 for v in (contig, position, strand))] for k in tested]
    columns = np.full((3, len(position)), np.nan)
    columns[:, tested] = _run(methylated[tested], coverage[tested], reduced, full, seeds, draws)
    ratio, rho, reached = columns
    p = (1.0 + reached) / (1.0 + draws)
    table = pl.DataFrame(
        {
            "contig": [methylome.attrs["contigs"][k] for k in contig],
            "position": position,
            "strand": strand,
            "likelihood_ratio": ratio,
            "rho": rho,
            "p": p,
            "p_error": np.sqrt(p * (1.0 - p) / (1.0 + draws)),
        },
        schema_overrides={"contig": pl.String},
    ).with_columns(pl.col(pl.Float64).fill_nan(None))
    return BootstrapTests(table, comparison, draws, seed)


def _run(
    methylated: Floats,
    coverage: Floats,
    reduced: Floats,
    full: Floats,
    seeds: Sequence[list[int]],
    draws: int,
) -> Floats:
    """ratio, rho and reached, (3, sites), a site at a time in threads."""

    def one(site: int) -> tuple[float, float, int]:
        generator = np.random.default_rng(seeds[site])
        return bootstrap_site(
            methylated[site], coverage[site], reduced, full, RHOS, generator, draws
        )

    results = np.zeros((3, len(seeds)))
    with (
        progress.stage("Bootstrap", len(seeds)) as advance,
        ThreadPoolExecutor(cpu_count() or 1) as pool,
    ):
        for site, found in enumerate(pool.map(one, range(len(seeds)))):
            results[:, site] = found
            advance(1)
    return results


def sites_in_bed(methylome: xr.Dataset, path: Path) -> npt.NDArray[np.int64]:
    """Rows of the methylome's sites that lie in any interval of a BED file.

    Raises
    ------
    MelismaError
        The file is missing, a line is not BED, or no site lies in it.
    """
    if not path.is_file():
        raise MelismaError(f"{path} is not a file.")
    contigs = {name: k for k, name in enumerate(methylome.attrs["contigs"])}
    contig, position = methylome["contig"].values, methylome["position"].values
    inside = np.zeros(len(position), dtype=bool)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith(("#", "track", "browser")):
            continue
        fields = line.split("\t")
        if len(fields) < 3 or not (fields[1].isdigit() and fields[2].isdigit()):
            raise MelismaError(f"{path} line {number}: not contig, start, end between tabs.")
        start, end = int(fields[1]), int(fields[2])
        if fields[0] in contigs:
            inside |= (contig == contigs[fields[0]]) & (position >= start) & (position < end)
    if not inside.any():
        raise MelismaError(f"No site of the store lies in an interval of {path}.")
    return np.flatnonzero(inside)

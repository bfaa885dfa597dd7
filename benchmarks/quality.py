"""Sex on simulated studies at several depths, and saturation predicted from a part of the reads.

No real data with sex is at hand, so that every study here is simulated: sites differ in capture
(gamma), a fifth of chrY's sites also catches X reads, samples differ in how X and Y are captured,
and panels capture both unlike the autosomes.
"""

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from melisma.methylome import dataset
from melisma.quality import check_quality
from melisma.quality._saturation import AT_LEAST, extended_sites, mixture_weights, thinned_sites

FIRST_SEED = 100
DEPTHS = (2, 5, 10, 30)
_IMR90 = Path(__file__).parents[2] / "shared" / "data" / "vendorable" / "imr90_chr22"
_LUPUS = Path(__file__).parents[1] / "src" / "melisma" / "datasets" / "lupus"


_COV_COLUMNS = ["contig", "position", "end", "percent", "methylated", "unmethylated"]


class Study(NamedTuple):
    """A kind of study: its samples' sexes, sites of autosomes, X and Y, and their capture."""

    name: str
    sexes: Sequence[str]
    sites: tuple[int, int, int] = (3000, 300, 60)
    capture: tuple[float, float] = (1.0, 1.0)
    uneven: float = 3.0


def studies() -> Iterator[Study]:
    """The kinds of studies whose figures are shown."""
    mixed = ["female", "male"] * 4
    yield Study("mixed", mixed)
    yield Study("mixed_without_y", mixed, sites=(3000, 300, 0))
    yield Study("one_male_of_eight", ["male", *["female"] * 7])
    yield Study("females_only", ["female"] * 8)
    yield Study("males_only", ["male"] * 8)
    yield Study("pair", ["female", "male"])
    yield Study("panel", mixed, sites=(800, 60, 25), capture=(1.7, 0.4), uneven=1.0)


def simulated(study: Study, depth: float, seed: int) -> xr.Dataset:
    """One study's counts; levels do not matter here."""
    rng = np.random.default_rng(seed)
    n = len(study.sexes)
    female = np.array([sex == "female" for sex in study.sexes])
    x = np.where(female, 1.0, 0.5) * study.capture[0] * rng.lognormal(0, 0.06, n)
    y = np.where(female, 0.01, 0.5) * study.capture[1] * rng.lognormal(0, 0.12, n)
    shape = study.uneven
    parts = []
    for size, copies in zip(study.sites, (np.ones(n), x, y), strict=True):
        site = rng.gamma(shape, 1 / shape, (size, 1))
        strays = (rng.random((size, 1)) < 0.2) * x if copies is y else 0.0
        parts.append(rng.poisson(depth * site * (copies + strays)))
    coverage = np.concatenate(parts)
    # A site that no sample sees is not in a store.
    kept = coverage.any(1)
    contig = np.repeat(np.arange(3), study.sites)[kept]
    coverage = coverage[kept]
    return dataset(
        {"contig": contig, "position": np.arange(len(contig)) * 50},
        {"methylated": rng.binomial(coverage, 0.7), "coverage": coverage},
        {"sample": [f"s{i}" for i in range(n)]},
        contigs=["chr1", "chrX", "chrY"],
    )


def sex_errors(study: Study, depth: float, seeds: int) -> dict[str, int]:
    """Samples, those called the other sex, and those of which nothing is said."""
    wrong = untold = 0
    for k in range(seeds):
        found = check_quality(simulated(study, depth, FIRST_SEED + k), sites=50).sex.table["sex"]
        wrong += sum(f not in (None, s) for f, s in zip(found, study.sexes, strict=True))
        untold += found.null_count()
    return {"samples": seeds * len(study.sexes), "wrong": wrong, "untold": untold}


def saturation_errors(counts: np.ndarray[Any, Any]) -> dict[str, Any]:
    """A half of all calls drawn, thinning and extrapolation against what is there.

    counts : (sites, samples), coverage
    """
    rng = np.random.default_rng(FIRST_SEED)
    whole, half = counts, rng.binomial(counts, 0.5)
    depth, given = (
        np.stack([np.bincount(np.minimum(column, 4095), minlength=4096) for column in reads.T])
        for reads in (whole, half)
    )
    weights = mixture_weights(given)
    found: dict[str, Any] = {}
    for k in AT_LEAST:
        true, drawn = (whole >= k).sum(0), (half >= k).sum(0)
        ahead = extended_sites(given, weights, 2.0, k)
        found[f"sites_{k}"] = {
            "half": drawn.tolist(),
            "half_expected": thinned_sites(depth, 0.5, k).round(1).tolist(),
            "whole": true.tolist(),
            "whole_predicted": ahead.round(1).tolist(),
            "worst_error": float(np.abs(ahead / np.maximum(true, 1) - 1).max()),
        }
    return found


def _imr90() -> np.ndarray[Any, Any]:
    with gzip.open(_IMR90 / "calls.tsv.gz", "rb") as file:
        table = pl.read_csv(file.read(), separator="\t")
    return table.select("rep1_coverage", "rep2_coverage").to_numpy()


def _lupus() -> np.ndarray[Any, Any]:
    tables = []
    for path in sorted(_LUPUS.glob("*.cov.gz")):
        with gzip.open(path, "rb") as file:
            table = pl.read_csv(
                file.read(), separator="\t", has_header=False, new_columns=_COV_COLUMNS
            )
        depth = (pl.col("methylated") + pl.col("unmethylated")).alias(path.name)
        tables.append(table.select("position", depth))
    joined = tables[0]
    for table in tables[1:]:
        joined = joined.join(table, on="position", how="full", coalesce=True)
    return joined.drop("position").fill_null(0).to_numpy()


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures; `quick` uses fewer seeds."""
    seeds = 2 if quick else 50
    saturation = {"lupus": saturation_errors(_lupus())}
    if _IMR90.exists():
        saturation["imr90"] = saturation_errors(_imr90())
    return {
        "sex_simulated": {
            study.name: {str(depth): sex_errors(study, depth, seeds) for depth in DEPTHS}
            for study in studies()
        },
        "saturation_from_half": saturation,
    }

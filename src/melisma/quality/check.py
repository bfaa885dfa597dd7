"""`check_quality`: coverage, levels, resemblance, outliers and identity in one walk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import xarray as xr

from melisma.errors import MelismaError
from melisma.methylome import sample_sheet, single_mark
from melisma.progress import stage
from melisma.quality import _outliers
from melisma.quality._candidates import GenotypePool
from melisma.quality._coverage import (
    Tally,
    coverage_table,
    level_table,
    sample_table,
    strangers,
)
from melisma.quality._identity import Identity, identify, person_labels
from melisma.quality._matrix import (
    SiteSubset,
    correlations,
    median_to_others,
    principal_components,
    square_table,
)
from melisma.quality._walk import Floats, stretches

_COMPONENTS_SHOWN = 10


@dataclass(frozen=True)
class Quality:
    """What a study's samples look like, before any question is asked of them.

    Attributes
    ----------
    samples : sample, sites_seen, share_seen, coverage_mean, coverage_median, coverage_p05,
        coverage_p95 (reads, over the sites the sample sees; null without counts), level (of all
        reads), level_mean (of all sites), pc1, pc2, pc3, correlation_median (to the others),
        outlier (null: cannot be told), outlier_reason
    levels : sample, contig, context, sites, reads (null without counts), level
    coverage : sample, coverage (0, 1, 2, ..., 100 and deeper), sites; None without counts
    correlation : sample, then one column a sample
    pca_variance : component, share of the variance
    matrix_sites : number of well-covered sites behind the correlation and the components
    identity : which samples come from one person
    strangers : a sentence for each sample that shares hardly a site with the others
    """

    samples: pl.DataFrame = field(repr=False)
    levels: pl.DataFrame = field(repr=False)
    coverage: pl.DataFrame | None = field(repr=False)
    correlation: pl.DataFrame = field(repr=False)
    pca_variance: pl.DataFrame = field(repr=False)
    matrix_sites: int
    identity: Identity
    strangers: tuple[str, ...] = ()

    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by the name of their file."""
        names = self.samples["sample"].to_list()
        tables = {
            "qc_samples": self.samples,
            "qc_levels": self.levels,
            "qc_correlation": self.correlation,
            "identity_pairs": self.identity.pairs,
            "identity_distance": square_table(self.identity.distance, names),
        }
        return tables if self.coverage is None else tables | {"qc_coverage": self.coverage}

    def summary(self) -> dict[str, Any]:
        """Identity, outliers and the components' variance as plain values, for JSON."""
        names = self.samples["sample"].to_list()
        identity = self.identity
        labels = person_labels(identity) if identity.resolved else []
        few = len(names) < _outliers.FEWEST_SAMPLES
        return {
            "identity": {
                "sites": identity.sites,
                "people": dict(zip(names, labels, strict=True)) if labels else {},
                "resolved": identity.resolved,
                "reason": identity.reason,
                "sentence": identity.sentence,
                "contradictions": [
                    {"samples": list(c.samples), "column": c.column, "sentence": c.sentence}
                    for c in identity.contradictions
                ],
            },
            "outliers": self.samples.filter(pl.col("outlier"))["sample"].to_list(),
            "notes": [*self.strangers, *([_outliers.TOO_FEW] if few else [])],
            "pca_variance": self.pca_variance["share"].to_list(),
            "matrix_sites": self.matrix_sites,
        }


def check_quality(
    methylome: xr.Dataset, *, mark: str | None = None, sites: int = 100_000, seed: int = 0
) -> Quality:
    """How well each sample is covered, how methylated it is, whom it resembles, whose it is.

    One walk over the sites in memory that does not grow with them. Correlation and components
    use at most `sites` well-covered sites, fewer with more than 200 samples; identity uses up to
    400 genotype-like sites. Neither depends on how the store is chunked.

    Parameters
    ----------
    methylome : Dataset of the methylome schema, counts or beta values
    mark : the modification, required where the methylome holds several
    sites : how many sites the correlation and the components use at most
    seed : of the hash that chooses them

    Raises
    ------
    MelismaError
        There are no sites or samples, or several marks and no choice.

    Examples
    --------
    >>> from melisma.methylome import dataset
    >>> methylome = dataset(
    ...     {"contig": [0, 0], "position": [10, 20]},
    ...     {"methylated": np.array([[4, 0], [2, 1]]), "coverage": np.array([[8, 0], [2, 4]])},
    ...     {"sample": ["a", "b"]},
    ...     contigs=["chr1"],
    ... )
    >>> quality = check_quality(methylome)
    >>> quality.samples.select("sample", "sites_seen", "coverage_mean", "level").rows()
    [('a', 2, 5.0, 0.6), ('b', 1, 4.0, 0.25)]
    >>> quality.identity.sentence
    'Which samples come from one person cannot be told.'
    """
    chosen = single_mark(methylome, mark)
    sheet = sample_sheet(chosen)
    samples = [str(name) for name in sheet["sample"]]
    _refuse_empty(chosen, samples)
    contigs = [str(name) for name in chosen.attrs["contigs"]]
    tally = Tally(len(samples))
    subset = SiteSubset(len(samples), sites, seed)
    pool = GenotypePool(len(samples), contigs)
    with stage("quality", float(chosen.sizes["site"])) as advance:
        for stretch in stretches(chosen):
            tally.add(stretch)
            subset.add(stretch)
            pool.add(stretch)
            advance(len(stretch.position))
    levels = subset.levels()
    scores, share = principal_components(levels)
    matrix = correlations(levels)
    table = sample_table(tally, samples).with_columns(
        *_component_columns(scores),
        pl.Series("correlation_median", median_to_others(matrix)).fill_nan(None),
    )
    return Quality(
        samples=_outliers.name_outliers(table, share),
        levels=level_table(tally, samples, contigs),
        coverage=coverage_table(tally, samples),
        correlation=square_table(matrix, samples),
        pca_variance=_variance_table(share[:_COMPONENTS_SHOWN]),
        matrix_sites=len(levels),
        identity=identify(pool.select(), samples, _traits(sheet)),
        strangers=strangers(tally, samples),
    )


def _refuse_empty(methylome: xr.Dataset, samples: list[str]) -> None:
    if not samples or not methylome.sizes["site"]:
        raise MelismaError(
            f"The methylome holds {methylome.sizes['site']} sites of {len(samples)} samples: "
            "quality needs at least one of each."
        )
    if "sample" in samples:
        raise MelismaError(
            'A sample is named "sample", which is the name of a column in the tables: rename it '
            "in the sample sheet."
        )


def _component_columns(scores: Floats) -> list[pl.Series]:
    """pc1, pc2, pc3; null where there are fewer components."""
    missing = np.full(len(scores), np.nan)
    return [
        pl.Series(f"pc{k + 1}", scores[:, k] if k < scores.shape[1] else missing).fill_nan(None)
        for k in range(3)
    ]


def _variance_table(share: Floats) -> pl.DataFrame:
    names = [f"PC{k + 1}" for k in range(len(share))]
    schema = {"component": pl.String, "share": pl.Float64}
    return pl.DataFrame({"component": names, "share": share}, schema=schema)


def _traits(sheet: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {name: column for name, column in sheet.items() if name != "sample"}

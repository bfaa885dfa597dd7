"""`check_quality`: coverage, levels, resemblance, outliers and identity in one walk."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from melisma.errors import MelismaError
from melisma.methylome import parse_mark, sample_sheet, single_mark
from melisma.progress import stage
from melisma.quality import _outliers
from melisma.quality._batch import Covariates, covariates
from melisma.quality._bias import StrandPairs, bias_table, strand_sentence
from melisma.quality._candidates import GenotypePool, GenotypeSites, variant_probes
from melisma.quality._checks import Measured, check_table, failed, read_limits
from melisma.quality._conversion import conversion_sentence, conversion_table, find_controls
from melisma.quality._copies import CopyPool
from melisma.quality._coverage import (
    Tally,
    coverage_table,
    level_table,
    sample_table,
    strangers,
)
from melisma.quality._identity import FEWEST_SITES, Identity, identify, person_labels
from melisma.quality._matrix import (
    SiteSubset,
    correlations,
    median_to_others,
    principal_components,
    square_table,
)
from melisma.quality._multiqc import multiqc_files
from melisma.quality._saturation import saturation_sentence, saturation_table
from melisma.quality._sex import SexCheck, SexTally, check_sex
from melisma.quality._walk import Floats, stretches

_COMPONENTS_SHOWN = 10
_VARIANT_PROBE = re.compile(r"rs\d+")


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
    conversion : how completely each sample was converted, or why that cannot be told
    bias : the strands' difference and the level by context
    sex : what chrX and chrY say of each sample
    saturation : sites with 1, 5 and 10 reads at shares of the reads; None without counts
    covariates : what the sheet's columns explain, and which of them go together
    checks : check, sample (null: the study), value, limit, status, sentence
    strangers : a sentence for each sample that shares hardly a site with the others
    """

    samples: pl.DataFrame = field(repr=False)
    levels: pl.DataFrame = field(repr=False)
    coverage: pl.DataFrame | None = field(repr=False)
    correlation: pl.DataFrame = field(repr=False)
    pca_variance: pl.DataFrame = field(repr=False)
    matrix_sites: int
    identity: Identity
    conversion: pl.DataFrame = field(repr=False)
    bias: pl.DataFrame = field(repr=False)
    sex: SexCheck = field(repr=False)
    saturation: pl.DataFrame | None = field(repr=False)
    covariates: Covariates = field(repr=False)
    checks: pl.DataFrame = field(repr=False)
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
            "qc_conversion": self.conversion,
            "qc_bias": self.bias,
            "qc_sex": self.sex.table,
            "qc_covariates": self.covariates.table,
            "qc_confounding": self.covariates.pairs,
            "qc_checks": self.checks,
        }
        if self.coverage is None or self.saturation is None:
            return tables
        return tables | {"qc_coverage": self.coverage, "qc_saturation": self.saturation}

    @property
    def failed(self) -> list[str]:
        """A line for each failed check: its name, and what was found against the limit."""
        return failed(self.checks)

    def multiqc(self) -> dict[str, dict[str, Any]]:
        """MultiQC's custom content by the name of its file."""
        return multiqc_files(
            self.samples, self.conversion, self.bias, self.sex.table, self.saturation, self.checks
        )

    def sentences(self) -> dict[str, str]:
        """Conversion, sex, strands, saturation and the sheet's columns, a sentence each."""
        return {
            "conversion": conversion_sentence(self.conversion),
            "sex": self.sex.sentence,
            "strands": strand_sentence(self.bias),
            "saturation": saturation_sentence(self.saturation),
            "covariates": self.covariates.sentence,
        }

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
                "power": identity.power,
                "notes": list(identity.notes),
                "mixtures": identity.mixtures.to_dicts(),
                "contradictions": [
                    {"samples": list(c.samples), "column": c.column, "sentence": c.sentence}
                    for c in identity.contradictions
                ],
            },
            "outliers": self.samples.filter(pl.col("outlier"))["sample"].to_list(),
            "notes": [*self.strangers, *([_outliers.TOO_FEW] if few else [])],
            "pca_variance": self.pca_variance["share"].to_list(),
            "matrix_sites": self.matrix_sites,
            "sentences": self.sentences(),
            "sex_contradictions": [c.sentence for c in self.sex.contradictions],
            "confounded": self.covariates.pairs.filter(pl.col("relation") != "")[
                "sentence"
            ].to_list(),
            "checks": {
                status: int((self.checks["status"] == status).sum())
                for status in ("pass", "warn", "fail", "not applicable")
            },
            "failed": self.failed,
        }


def check_quality(
    methylome: xr.Dataset,
    *,
    mark: str | None = None,
    sites: int = 100_000,
    seed: int = 0,
    spike_in: str | None = None,
    methylated_control: str | None = None,
    limits: Mapping[str, float] | Sequence[str] = (),
) -> Quality:
    """How well each sample is covered, how methylated it is, whom it resembles, whose it is.

    One walk over the sites in memory that does not grow with them. Correlation and components
    use at most `sites` well-covered sites, fewer with more than 200 samples; identity uses up to
    5,000 genotype-like sites, 400 with 1,000 samples. Neither depends on how the store is chunked.

    Parameters
    ----------
    methylome : Dataset of the methylome schema, counts or beta values
    mark : the modification, required where the methylome holds several
    sites : how many sites the correlation and the components use at most
    seed : of the hash that chooses them, and of the permutations of the sheet's columns
    spike_in, methylated_control : contigs of unmethylated and of methylated DNA, `NAME` or
        `what=NAME`; default those whose names tell
    limits : of the checks where they differ from the defaults, by name or as `name=value`

    Raises
    ------
    MelismaError
        There are no sites or samples, several marks and no choice, or a contig or a limit that
        does not exist.

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
    bounds = read_limits(limits)
    chosen = single_mark(methylome, mark)
    sheet = sample_sheet(chosen)
    samples = [str(name) for name in sheet["sample"]]
    _refuse_empty(chosen, samples)
    contigs = [str(name) for name in chosen.attrs["contigs"]]
    controls = find_controls(contigs, spike_in, methylated_control)
    walked = _walk(chosen, contigs, len(samples), sites, seed)
    tally, traits = walked.tally, _traits(sheet)
    levels = walked.subset.levels()
    scores, share = principal_components(levels)
    matrix = correlations(levels)
    table = sample_table(tally, samples).with_columns(
        *_component_columns(scores),
        pl.Series("correlation_median", median_to_others(matrix)).fill_nan(None),
    )
    named = _outliers.name_outliers(table, share)
    identity = identify(
        _known_variants(chosen) or walked.pool.select(),
        samples,
        traits,
        walked.copies.find(),
        placed=bool(contigs),
    )
    shown = parse_mark(mark or chosen.attrs["marks"][0]).code
    conversion = conversion_table(
        tally, samples, contigs, {**chosen.attrs, "mark_shown": shown}, controls
    )
    bias = bias_table(walked.strands, tally, samples)
    sex = check_sex(walked.sex, samples, traits)
    explained = covariates(scores, share, traits, seed=seed)
    measured = Measured(
        samples=named,
        conversion=conversion,
        bias=bias,
        sex=sex,
        covariates=explained,
        shared=(tally.shared / np.maximum(tally.seen, 1)).tolist(),
        identity=identity.contradictions,
        identity_resolved=identity.resolved,
    )
    return Quality(
        samples=named,
        levels=level_table(tally, samples, contigs),
        coverage=coverage_table(tally, samples),
        correlation=square_table(matrix, samples),
        pca_variance=_variance_table(share[:_COMPONENTS_SHOWN]),
        matrix_sites=len(levels),
        identity=identity,
        conversion=conversion,
        bias=bias,
        sex=sex,
        saturation=saturation_table(tally.depth, samples) if tally.has_counts else None,
        covariates=explained,
        checks=check_table(measured, bounds),
        strangers=strangers(tally, samples),
    )


def _known_variants(methylome: xr.Dataset) -> GenotypeSites | None:
    """The array's own probes for variants, whose names begin with rs; None without enough."""
    if "probe" not in methylome or "beta" not in methylome:
        return None
    names = methylome["probe"].values.astype(object)
    chosen = np.array([_VARIANT_PROBE.match(str(name)) is not None for name in names])
    if chosen.sum() < FEWEST_SITES:
        return None
    return variant_probes(methylome["beta"].isel(site=np.flatnonzero(chosen)).values)


class _Walked(NamedTuple):
    """What one walk over the sites leaves."""

    tally: Tally
    subset: SiteSubset
    pool: GenotypePool
    strands: StrandPairs
    sex: SexTally
    copies: CopyPool


def _walk(chosen: xr.Dataset, contigs: list[str], n: int, sites: int, seed: int) -> _Walked:
    walked = _Walked(
        Tally(n),
        SiteSubset(n, sites, seed),
        GenotypePool(n, contigs),
        StrandPairs(n, separate=chosen.attrs["strands"] == "separate"),
        SexTally(n, contigs),
        CopyPool(n),
    )
    # Probes without a place belong to no contig, which identity and sex go by.
    parts = walked if contigs else (walked.tally, walked.subset, walked.copies)
    with stage("quality", float(chosen.sizes["site"])) as advance:
        for stretch in stretches(chosen):
            for part in parts:
                part.add(stretch)
            advance(len(stretch.position))
    return walked


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

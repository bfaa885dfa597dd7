"""One contrast of a study: site tests, regions, calibration, their tables and their summary."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from melisma._model import level_name
from melisma.bed import read_bed
from melisma.design import Contrast, Design
from melisma.differential import (
    ArrayEngine,
    Calibration,
    GivenRegionTests,
    RegionTests,
    SiteTests,
    calibrate,
    find_regions,
    region_tests,
    site_tests,
    tiles,
)
from melisma.errors import MelismaError
from melisma.methylome import single_mark
from melisma.study._annotation import Annotation
from melisma.study._config import StudyConfig
from melisma.study._folder import RunFolder


def slug(contrast: Contrast) -> str:
    """A name for files: `cell_activated_vs_resting`.

    >>> import numpy as np
    >>> slug(Contrast("cell[b] - cell[a]", "cell", ("b", "a"), np.zeros(1)))
    'cell_b_vs_a'
    """
    text = contrast.name
    if contrast.levels:
        text = f"{contrast.column}_{contrast.levels[0]}_vs_{contrast.levels[1]}"
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_")


class Question(NamedTuple):
    """One contrast of a design over its samples' methylome.

    `stem` begins its tables' names; `no_replicates` says why its sites cannot be tested, and is
    empty where they can.
    """

    methylome: xr.Dataset
    design: Design
    contrast: Contrast
    stem: str
    no_replicates: str = ""


class _Found(NamedTuple):
    """What was found; a reason where it could not be looked for."""

    sites: SiteTests | str
    regions: RegionTests | GivenRegionTests | str
    calibration: Calibration | None


def analyse(
    asked: Question,
    config: StudyConfig,
    folder: RunFolder,
    annotation: Callable[[], Annotation],
) -> dict[str, Any]:
    """Test one contrast, write its tables, and return its entry of run.json."""
    beside, given = annotation(), _given(asked, config)
    tables = []
    sites: SiteTests | str = asked.no_replicates
    calibration = None
    if not asked.no_replicates:
        sites = site_tests(asked.methylome, asked.design, asked.contrast, mark=config.ingest.mark)
        calibration = calibrate(
            single_mark(asked.methylome, config.ingest.mark),
            sites.engine,
            q=config.sites.q,
            seed=config.regions.seed,
        )
        tables += _write_sites(sites, calibration, asked.stem, config, folder, beside)
    regions: RegionTests | GivenRegionTests | str
    try:
        regions = _regions(asked, config, given)
        table = beside.of(regions.table)
        folder.table(f"{asked.stem}.regions", table)
        folder.bed(f"{asked.stem}.regions", table.filter(pl.col("q") < config.regions.q))
        tables += ["regions.parquet", "regions.tsv", "regions.bed"]
    except MelismaError as error:
        if asked.no_replicates:
            raise
        regions = str(error)
    return {
        "contrast": _summary(asked, _Found(sites, regions, calibration), config),
        "tables": tables,
    }


def _write_sites(
    sites: SiteTests,
    calibration: Calibration,
    stem: str,
    config: StudyConfig,
    folder: RunFolder,
    beside: Annotation,
) -> list[str]:
    folder.table(f"{stem}.sites", sites.table)
    folder.table(f"{stem}.null", calibration.quantiles, text=False)
    tables = ["sites.parquet", "sites.tsv", "null.parquet"]
    if beside.given:
        folder.table(f"{stem}.called", beside.of(sites.significant(config.sites.q)))
        tables += ["called.parquet", "called.tsv"]
    return tables


def _given(asked: Question, config: StudyConfig) -> pl.DataFrame | None:
    """The regions that the study gives, if it does; levels without counts have no regions."""
    section = config.regions
    if "beta" in asked.methylome:
        return None
    if section.bed:
        return read_bed(section.bed, contigs=asked.methylome.attrs["contigs"])
    return tiles(asked.methylome, section.tiles) if section.tiles else None


def _regions(
    asked: Question, config: StudyConfig, given: pl.DataFrame | None
) -> RegionTests | GivenRegionTests:
    """The search, or the tests of the regions that the study gives."""
    section, mark = config.regions, config.ingest.mark
    methylome, design, contrast = asked.methylome, asked.design, asked.contrast.name
    if given is not None:
        return region_tests(methylome, design, contrast, regions=given, mark=mark)
    return find_regions(
        methylome,
        design,
        contrast,
        mark=mark,
        context=section.context,
        q=section.q,
        relabellings=section.relabellings,
        seed=section.seed,
        no_replicates=bool(asked.no_replicates),
    )


def _summary(asked: Question, found: _Found, config: StudyConfig) -> dict[str, Any]:
    contrast = asked.contrast
    if isinstance(found.sites, str):
        about = {"unit": "samples", "n_units": _compared(asked), "df_residual": None}
        sites: dict[str, Any] = {"refused": found.sites}
        said: tuple[str, ...] = ()
    else:
        comparison = found.sites.comparison
        about = {
            "unit": comparison.unit,
            "n_units": comparison.n_units,
            "df_residual": comparison.df_residual,
        }
        sites, said = _sites_summary(found.sites, config.sites.q), found.sites.notes
    return {
        "name": contrast.name,
        "slug": slug(contrast),
        "label": _label(contrast),
        "column": contrast.column,
        "levels": list(contrast.levels) if contrast.levels else None,
        "among": list(contrast.among) or None,
        "coefficients": len(contrast.vectors),
        "no_replicates": bool(asked.no_replicates),
        **about,
        "sites": sites,
        "regions": _regions_summary(found.regions, config, said, signed=len(contrast.vectors) == 1),
        "calibration": _calibration_summary(found),
    }


def _compared(asked: Question) -> int:
    """How many samples are of the contrast's levels."""
    words = map(level_name, asked.design.sheet[asked.contrast.column])
    return sum(word in (asked.contrast.levels or ()) for word in words)


def _label(contrast: Contrast) -> str:
    if contrast.levels is None:
        return contrast.column
    high, low = (level.replace("_", " ") for level in contrast.levels)
    return f"{high} against {low}"


def _number(value: Any) -> float | None:
    """A float for JSON, which has neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


def _countable(n: int) -> int | None:
    """A count for JSON, None where a double could not hold it."""
    return n if n < 2**53 else None


def _ways(called: pl.DataFrame, *, signed: bool) -> dict[str, int | None]:
    """How many called rows are higher and lower; None of a contrast without a direction."""
    delta = called["delta_beta"]
    return {
        "higher": int((delta > 0).sum()) if signed else None,
        "lower": int((delta < 0).sum()) if signed else None,
    }


def _sites_summary(sites: SiteTests, q: float) -> dict[str, Any]:
    engine = sites.engine
    called = sites.significant(q)
    signed = sites.comparison.k == 1
    if isinstance(engine, ArrayEngine):
        rho = None
        scale = float(np.median(engine.prior.scale(np.linspace(-4.0, 4.0, 9))))
    else:
        rho = [float(min(engine.dispersion.rho)), float(max(engine.dispersion.rho))]
        scale = engine.prior.scale
    tested = sites.table.filter(pl.col("p").is_not_null())
    return {
        "tested": sites.tested,
        "untestable": sites.untestable,
        "untestable_reasons": sites.reasons,
        "significant": len(called),
        **_ways(called, signed=signed),
        "q": q,
        "smallest_q": _number(sites.table["q"].min()),
        "median_delta": _number(tested["delta_beta"].median()) if signed else None,
        "lambda": _number(sites.inflation),
        "method": "levels" if isinstance(engine, ArrayEngine) else "counts",
        "rho": rho,
        "prior_df": _number(engine.prior.df),
        "prior_scale": _number(scale),
        "notes": list(sites.notes),
    }


def _regions_summary(
    regions: RegionTests | GivenRegionTests | str,
    config: StudyConfig,
    said: tuple[str, ...],
    *,
    signed: bool,
) -> dict[str, Any]:
    if isinstance(regions, str):
        return {"refused": regions}
    section = config.regions
    called = regions.table.filter(pl.col("q") < section.q)
    common = {
        "candidates": len(regions.table),
        "significant": len(called),
        **_ways(called, signed=signed),
        "q": section.q,
        "smallest_q": _number(regions.table["q"].min()),
        "notes": [note for note in regions.notes if note not in said],
    }
    if isinstance(regions, GivenRegionTests):
        reasons = regions.table["reason"].drop_nulls().value_counts(sort=True)
        given = section.bed.name if section.bed else f"windows of {section.tiles:,} bases"
        return common | {
            "given": given,
            "tested": regions.tested,
            "untestable_reasons": dict(reasons.iter_rows()),
        }
    return common | {
        "null": regions.null,
        "relabellings": regions.relabellings,
        "distinct": _countable(regions.distinct),
        "null_regions_per_relabelling": regions.null_regions,
        "called_per_relabelling": _mean(regions.called_by_relabelling),
        "median_called_per_relabelling": _number(np.median(regions.called_by_relabelling or [0])),
        "seed": regions.seed,
    }


def _mean(values: tuple[int, ...]) -> float:
    return sum(values) / len(values) if values else 0.0


def _calibration_summary(found: _Found) -> dict[str, Any]:
    calls = None
    if isinstance(found.regions, RegionTests):
        calls = list(found.regions.called_by_relabelling)
    if isinstance(found.sites, str) or found.calibration is None:
        return {"lambda": None, "relabelled_region_calls": calls}
    return {
        "lambda": _number(found.sites.inflation),
        "relabellings": found.calibration.relabellings,
        "distinct": _countable(found.calibration.distinct),
        "sites": found.calibration.sites,
        "relabelled_lambda": [_number(value) for value in found.calibration.inflations],
        "relabelled_site_calls": list(found.calibration.site_calls),
        "relabelled_region_calls": calls,
    }

"""One contrast of a study: site tests, regions, calibration, their tables and their summary."""

import math
import re
from typing import Any

import numpy as np
import polars as pl
import xarray as xr

from melisma.design import Contrast, Design
from melisma.differential import (
    ArrayEngine,
    Calibration,
    RegionTests,
    SiteTests,
    calibrate,
    find_regions,
    site_tests,
)
from melisma.errors import MelismaError
from melisma.methylome import single_mark
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


def analyse(
    methylome: xr.Dataset,
    design: Design,
    contrast: Contrast,
    config: StudyConfig,
    folder: RunFolder,
    stem: str,
) -> dict[str, Any]:
    """Test one contrast, write its tables, and return its entry of run.json."""
    mark = config.ingest.mark
    sites = site_tests(methylome, design, contrast.name, mark=mark)
    folder.table(f"{stem}.sites", sites.table)
    calibration = calibrate(
        single_mark(methylome, mark), sites.engine, q=config.sites.q, seed=config.regions.seed
    )
    folder.table(f"{stem}.null", calibration.quantiles, text=False)
    tables = ["sites.parquet", "sites.tsv", "null.parquet"]
    regions: RegionTests | str
    try:
        regions = find_regions(
            methylome,
            design,
            contrast.name,
            mark=mark,
            q=config.regions.q,
            relabellings=config.regions.relabellings,
            seed=config.regions.seed,
        )
        folder.table(f"{stem}.regions", regions.table)
        folder.bed(f"{stem}.regions", regions.significant())
        tables += ["regions.parquet", "regions.tsv", "regions.bed"]
    except MelismaError as error:
        regions = str(error)
    comparison = sites.comparison
    summary = {
        "name": contrast.name,
        "slug": slug(contrast),
        "label": _label(contrast),
        "column": contrast.column,
        "levels": list(contrast.levels) if contrast.levels else None,
        "unit": comparison.unit,
        "n_units": comparison.n_units,
        "df_residual": comparison.df_residual,
        "sites": _sites_summary(sites, config.sites.q),
        "regions": _regions_summary(regions),
        "calibration": _calibration_summary(sites, calibration, regions),
    }
    return {"contrast": summary, "tables": tables}


def _label(contrast: Contrast) -> str:
    if contrast.levels is None:
        return contrast.column
    high, low = (level.replace("_", " ") for level in contrast.levels)
    return f"{high} against {low}"


def _number(value: Any) -> float | None:
    """A float for JSON, which has neither NaN nor infinity."""
    return None if value is None or not math.isfinite(value) else float(value)


def _sites_summary(sites: SiteTests, q: float) -> dict[str, Any]:
    engine = sites.engine
    called = sites.significant(q)
    if isinstance(engine, ArrayEngine):
        rho = None
        scale = float(np.median(engine.prior.scale(np.linspace(-4.0, 4.0, 9))))
    else:
        rho = [float(min(engine.dispersion.rho)), float(max(engine.dispersion.rho))]
        scale = engine.prior.scale
    return {
        "tested": sites.tested,
        "untestable": sites.untestable,
        "untestable_reasons": sites.reasons,
        "significant": len(called),
        "higher": int((called["delta_beta"] > 0).sum()),
        "lower": int((called["delta_beta"] < 0).sum()),
        "q": q,
        "smallest_q": _number(sites.table["q"].min()),
        "median_delta": _number(
            sites.table.filter(pl.col("p").is_not_null())["delta_beta"].median()
        ),
        "lambda": _number(sites.inflation),
        "rho": rho,
        "prior_df": _number(engine.prior.df),
        "prior_scale": _number(scale),
        "notes": list(sites.notes),
    }


def _regions_summary(regions: RegionTests | str) -> dict[str, Any]:
    if isinstance(regions, str):
        return {"refused": regions}
    called = regions.significant()
    return {
        "candidates": len(regions.table),
        "significant": len(called),
        "higher": int((called["delta_beta"] > 0).sum()),
        "lower": int((called["delta_beta"] < 0).sum()),
        "q": regions.q,
        "smallest_q": _number(regions.table["q"].min()),
        "null": regions.null,
        "relabellings": regions.relabellings,
        "distinct": regions.distinct,
        "null_regions_per_relabelling": regions.null_regions,
        "called_per_relabelling": _mean(regions.called_by_relabelling),
        "median_called_per_relabelling": _number(np.median(regions.called_by_relabelling or [0])),
        "seed": regions.seed,
        "notes": [],
    }


def _mean(values: tuple[int, ...]) -> float:
    return sum(values) / len(values) if values else 0.0


def _calibration_summary(
    sites: SiteTests, calibration: Calibration, regions: RegionTests | str
) -> dict[str, Any]:
    return {
        "lambda": _number(sites.inflation),
        "relabellings": calibration.relabellings,
        "distinct": calibration.distinct,
        "sites": calibration.sites,
        "relabelled_lambda": [_number(value) for value in calibration.inflations],
        "relabelled_site_calls": list(calibration.site_calls),
        "relabelled_region_calls": None
        if isinstance(regions, str)
        else list(regions.called_by_relabelling),
    }

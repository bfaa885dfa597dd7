"""What a store holds, counted in one pass."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma import methylome as schema


class SampleDescription(NamedTuple):
    """One sample: sites seen, mean coverage and level of those, and what ingest left out.

    coverage : NaN where the store holds levels without counts
    """

    sample: str
    sites: int
    coverage: float
    level: float
    rows: int | None
    drops: dict[str, int]


class StoreDescription(NamedTuple):
    """What a store holds.

    contigs, marks, contexts : how many sites each has
    strands : "separate", "merged" or "unknown"
    genome : the reference's name, None where none was given
    build : the known assembly's name and what told it (`told_by`), None where it is not certain
    covariates : the sample sheet's other columns, each with its distinct values in order
    missing : how many samples have no value, for each column where one lacks it
    simulated : whether the counts were drawn and not measured
    """

    schema: int
    sites: int
    contigs: dict[str, int]
    marks: dict[str, int]
    contexts: dict[str, int]
    strands: str
    genome: str | None
    build: dict[str, str] | None
    covariates: dict[str, list[Any]]
    missing: dict[str, int]
    samples: list[SampleDescription]
    simulated: bool


def describe(store: Path | str) -> StoreDescription:
    """What a store holds: its sites by kind, its covariates, and each sample's coverage.

    Raises
    ------
    MelismaError
        There is no such store.
    """
    opened = schema.open_methylome(store)
    attrs = opened.attrs
    offsets = np.diff(attrs["contig_offsets"])
    sheet = schema.sample_sheet(opened)
    names = sheet.pop("sample")
    known = {name: [v for v in column if not _is_missing(v)] for name, column in sheet.items()}
    contexts, samples = _count(opened, names)
    marks = np.bincount(opened["mark"].values, minlength=len(attrs["marks"]))
    return StoreDescription(
        schema=attrs["schema"],
        sites=opened.sizes["site"],
        contigs={name: int(n) for name, n in zip(attrs["contigs"], offsets, strict=True)},
        marks={
            f"{code} ({schema.parse_mark(code).name})": int(n)
            for code, n in zip(attrs["marks"], marks, strict=True)
        },
        contexts={name: n for name, n in contexts.items() if n},
        strands=attrs["strands"],
        genome=attrs.get("genome", {}).get("name"),
        build=attrs.get("build"),
        covariates={name: sorted(set(values), key=_order) for name, values in known.items()},
        missing={
            name: len(column) - len(known[name])
            for name, column in sheet.items()
            if len(known[name]) < len(column)
        },
        samples=samples,
        simulated=bool(attrs.get("simulated", False)),
    )


def _is_missing(value: Any) -> bool:
    """Whether a sheet's value is none: an empty word, or NaN, which equals nothing."""
    return value is None or value == "" or value != value


def _order(value: Any) -> tuple[bool, Any]:
    return (isinstance(value, str), value)


def _count(opened: xr.Dataset, names: list[str]) -> tuple[dict[str, int], list[SampleDescription]]:
    """Sites by context, and each sample's sites, coverage and level."""
    contexts = np.zeros(len(schema.CONTEXTS), dtype=np.int64)
    sites = np.zeros(len(names), dtype=np.int64)
    coverage, level = np.zeros(len(names)), np.zeros(len(names))
    if "beta" in opened:
        coverage[:] = np.nan
        step = schema.chunk_sites(len(names))
        for start in range(0, opened.sizes["site"], step):
            part = opened.isel(site=slice(start, start + step))
            beta = part["beta"].values
            contexts += np.bincount(part["context"].values, minlength=len(contexts))
            sites += (~np.isnan(beta)).sum(axis=0)
            level += np.nansum(beta, axis=0, dtype=np.float64)
        return dict(zip(schema.CONTEXTS, map(int, contexts), strict=True)), _described(
            opened, names, sites, coverage, level
        )
    for block in schema.blocks(opened):
        contexts += np.bincount(block.context, minlength=len(contexts))
        seen = block.coverage > 0
        sites += seen.sum(axis=0)
        coverage += block.coverage.sum(axis=0, dtype=np.float64)
        level += (block.methylated / np.maximum(block.coverage, 1)).sum(axis=0)
    return dict(zip(schema.CONTEXTS, map(int, contexts), strict=True)), _described(
        opened, names, sites, coverage, level
    )


def _described(
    opened: xr.Dataset,
    names: list[str],
    sites: npt.NDArray[np.int64],
    coverage: npt.NDArray[np.float64],
    level: npt.NDArray[np.float64],
) -> list[SampleDescription]:
    """Sums over each sample's sites as means."""
    made = opened.attrs.get("ingest", {}).get("samples", {})
    divisor = np.where(sites > 0, sites, np.nan)
    return [
        SampleDescription(
            sample=name,
            sites=int(sites[k]),
            coverage=float(coverage[k] / divisor[k]),
            level=float(level[k] / divisor[k]),
            rows=made.get(name, {}).get("rows"),
            drops=made.get(name, {}).get("drops", {}),
        )
        for k, name in enumerate(names)
    ]

"""A whole genome from its store to sites and regions: seconds, peak memory, and the same answer.

28 million CpGs × 8 samples stand for human whole-genome bisulfite sequencing: counts are simulated
on chromosome 22's sites (`_chr22`), repeated along as many contigs as are needed, and written to
the store chunk by chunk. Each size is analysed in a process of its own, which is what is measured.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import xarray as xr

from benchmarks._chr22 import chromosome
from benchmarks.ingest import _peak_mb
from melisma import methylome as schema
from melisma.design import make_design
from melisma.differential import find_regions, site_tests
from melisma.differential.simulate import Baseline, simulate_store
from melisma.methylome import open_methylome, sample_sheet

SEED = 100
CONTRAST = "g[b] - g[a]"
# Sites by samples; the last is the goal's: 4 minutes and 3 GB.
SIZES = ((2_000_000, 8), (7_000_000, 8), (28_000_000, 8), (2_000_000, 100))
QUICK_SIZES = ((100_000, 8), (400_000, 8))
LABELLINGS = 10
# Planted regions a thousand sites.
_PLANTED = 0.2
# What another order of additions may change.
_ROUNDING = 1e-9
_CONTIG_SITES = 1_300_000
# Enough for every kernel to be compiled for the arrays that a genome gives it.
_WARM_SITES = 250_000


def sheet(samples: int) -> dict[str, list[str]]:
    """Two groups in turn."""
    return {
        "sample": [f"s{i:03}" for i in range(samples)],
        "g": ["ab"[i % 2] for i in range(samples)],
    }


def genome(sites: int) -> tuple[list[str], Iterator[Baseline]]:
    """Contigs of up to 1.3 million sites, chromosome 22 over and over."""
    starts = range(0, sites, _CONTIG_SITES)
    return [f"chr{k + 1}" for k in range(len(starts))], (
        _contig(min(_CONTIG_SITES, sites - start)) for start in starts
    )


def _contig(sites: int) -> Baseline:
    known = chromosome()
    times = -(-sites // len(known.position))
    span = int(known.position[-1]) + 1000
    position = np.concatenate([known.position + k * span for k in range(times)])[:sites]
    return Baseline(position, *(np.tile(values, times)[:sites] for values in known[1:]))


def _simulate(path: Path, sites: int, columns: dict[str, list[str]]) -> None:
    names, contigs = genome(sites)
    exposure = np.array([float(level == "b") for level in columns["g"]])
    simulate_store(path, names, contigs, columns, seed=SEED, exposure=exposure, regions=_PLANTED)


def analysed(store: Path) -> dict[str, Any]:
    """Seconds from an open store to both tables, kernels compiled."""
    methylome = open_methylome(store)
    design = make_design(sample_sheet(methylome), "~ g")
    _both(methylome.isel(site=slice(0, _WARM_SITES)), design)
    began = time.perf_counter()
    tests = site_tests(methylome, design, CONTRAST)
    seconds, peak, tested = time.perf_counter() - began, _peak_mb(), tests.tested
    del tests
    regions = find_regions(methylome, design, CONTRAST, relabellings=LABELLINGS)
    return {
        "seconds": time.perf_counter() - began,
        "seconds_sites": seconds,
        "peak_mb_sites": peak,
        "tested": tested,
        "regions": len(regions.table),
        "called": len(regions.significant()),
    }


def _both(methylome: xr.Dataset, design: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    sites = site_tests(methylome, design, CONTRAST).table
    return sites, find_regions(methylome, design, CONTRAST, relabellings=LABELLINGS).table


def _alone(*arguments: object, cores: int = 2) -> dict[str, Any]:
    """What a process of its own tells, its peak memory included."""
    command = [sys.executable, "-m", "benchmarks.scale", str(cores), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"scale failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def scaled(folder: Path, sites: int, samples: int) -> dict[str, Any]:
    """One size: simulated and analysed, each in a process of its own."""
    store = folder / f"{sites}_{samples}.zarr"
    made = _alone("simulate", store, sites, samples)
    told = _alone("analyse", store)
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
    return {
        "sites": sites,
        "samples": samples,
        "seconds": round(told["seconds"], 2),
        "seconds_sites": round(told["seconds_sites"], 2),
        "peak_mb": round(told["peak_mb"]),
        "peak_mb_sites": round(told["peak_mb_sites"]),
        "store_mb": round(size / 1e6),
        "tested": told["tested"],
        "regions": told["regions"],
        "called": told["called"],
        "simulation": {
            "seconds": round(made["seconds"], 2),
            "peak_mb": round(made["peak_mb"]),
        },
    }


def tables(store: Path, how: str, out: Path) -> None:
    """Write both tables, from small chunks or with the samples in reverse."""
    if how == "small_chunks":
        schema.CHUNK_SITES = (1 << 12, 1 << 12)
    methylome = open_methylome(store)
    if how == "samples_reversed":
        methylome = methylome.isel(sample=slice(None, None, -1))
    for k, table in enumerate(_both(methylome, make_design(sample_sheet(methylome), "~ g"))):
        table.write_parquet(f"{out}.{k}")


def largest_difference(one: Path, other: Path) -> float:
    """Largest difference of two runs' floats, over the value where that is above 1.

    Infinite where anything else differs, or a value is missing or infinite in one only.
    """
    most = 0.0
    for k in range(2):
        a, b = (pl.read_parquet(f"{path}.{k}") for path in (one, other))
        floats = a.select(pl.col(pl.Float64)).columns
        if not a.drop(floats).equals(b.drop(floats)):
            return float("inf")
        for name in floats:
            x, y = (table[name].fill_null(np.nan).to_numpy() for table in (a, b))
            differ = (x != y) & ~(np.isnan(x) & np.isnan(y))
            x, y = x[differ], y[differ]
            if not np.isfinite([x, y]).all():
                return float("inf")
            most = max(most, float((np.abs(x - y) / np.maximum(np.abs(x), 1.0)).max(initial=0.0)))
    return most


def identical(folder: Path, sites: int) -> dict[str, Any]:
    """Both tables on one core, from small chunks, and with the samples in reverse, against plain.

    Chunks and cores must change no bit; another order of the samples adds in another order.
    """
    store, columns = folder / "same.zarr", sheet(12)
    _simulate(store, sites, columns)
    runs = {"plain": 2, "one_core": 1, "small_chunks": 2, "samples_reversed": 2}
    for how, cores in runs.items():
        _alone("tables", store, how, folder / how, cores=cores)
    apart = {how: largest_difference(folder / "plain", folder / how) for how in runs}
    del apart["plain"]
    same = max(apart["one_core"], apart["small_chunks"]) == 0
    return {
        "identical": same and apart["samples_reversed"] <= _ROUNDING,
        "largest_difference": {
            how: value if np.isfinite(value) else "other sites, regions or missing values"
            for how, value in apart.items()
        },
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Everything that the contract asks of `scale`."""
    sizes = QUICK_SIZES if quick else SIZES
    rows, speedup = [], None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k, (sites, samples) in enumerate(sizes):
            rows.append(scaled(folder, sites, samples))
            store = folder / f"{sites}_{samples}.zarr"
            if k == len(QUICK_SIZES) - 1:
                one = _alone("analyse", store, cores=1)
                speedup = round(one["seconds"] / rows[-1]["seconds"], 2)
            shutil.rmtree(store)
        same = identical(folder, 50_000 if quick else 1_000_000)
    keyed = {f"{row['sites']}x{row['samples']}": row for row in rows}
    return {
        "seconds": {name: row["seconds"] for name, row in keyed.items()},
        "peak_mb": {name: row["peak_mb"] for name, row in keyed.items()},
        "two_worker_speedup": speedup,
        **same,
        "sizes": keyed,
        "labellings": LABELLINGS,
        "simulated": True,
        "seeds": [SEED],
    }


def _child(cores: str, what: str, store: str, *arguments: str) -> None:
    """One step in a process of its own, on so many cores and with so many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    os.cpu_count = lambda: int(cores)
    began = time.perf_counter()
    told: dict[str, Any] = {}
    if what == "simulate":
        _simulate(Path(store), int(arguments[0]), sheet(int(arguments[1])))
    elif what == "analyse":
        told = analysed(Path(store))
    else:
        tables(Path(store), arguments[0], Path(arguments[1]))
    print(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": _peak_mb()} | told))


if __name__ == "__main__":
    _child(*sys.argv[1:])

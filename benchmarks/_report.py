"""The one JSON line that a benchmark prints, and what it ran on."""

import datetime
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "melisma",
    "numpy",
    "scipy",
    "numba",
    "xarray",
    "zarr",
    "polars",
    "isal",
    "pysam",
    "torch",
    "transformers",
)


def finish(name: str, found: dict[str, Any], *, quick: bool, out: Path | None) -> str:
    """The JSON line of a benchmark's figures; a full run and `out` also write it to a file."""
    report = {
        "benchmark": name,
        "quick": quick,
        **found,
        "machine": machine(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    if out is not None or not quick:
        path = out or RESULTS / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n")
    return json.dumps(report)


def machine() -> dict[str, Any]:
    """Processor, cores that may be used, memory in GB and system; no name of the host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "processor": _processor(),
        "cores": cores,
        "memory_gb": round(memory, 1),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def versions() -> dict[str, str]:
    """Versions of the packages that matter and are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found

"""Changes of a store: seconds and peak memory of append, remove, rename and annotate-samples.

Counts are simulated: a store of many samples on one set of sites, each seen in a sample with
probability 0.9, and one new sample of which 2% of the sites are in no other. Each change runs in
a process of its own.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ingest import _peak_mb
from melisma import methylome as schema
from melisma.calls import append
from melisma.samples import annotate_samples, remove_samples, rename_samples

SEED = 20260
NEW_SHARE, SEEN, DEPTH = 0.02, 0.9, 12.0
CHANGES = ("append", "rename", "annotate-samples", "remove")


def simulate(folder: Path, *, samples: int, sites: int) -> None:
    """Write `s.zarr`, and the new sample's file and sheet."""
    rng = np.random.default_rng(SEED)
    new = rng.random(sites) < NEW_SHARE
    position = _positions(rng, sites)
    _write(folder / "s.zarr", rng, position[~new], samples, stranded=False)
    n = rng.poisson(DEPTH, sites) + 1
    m = rng.binomial(n, 0.7)
    with (folder / "new.cov").open("w") as file:
        file.writelines(
            f"chr1\t{p + 1}\t{p + 1}\t{100 * a / b:.6g}\t{a}\t{b - a}\n"
            for p, a, b in zip(position.tolist(), m.tolist(), n.tolist(), strict=True)
        )
    (folder / "new.tsv").write_text("sample\tpath\nnew\tnew.cov\n")


def write_store(path: Path, *, samples: int, sites: int, stranded: bool) -> None:
    """Write a store of CpGs; `stranded` says that they have strands and contexts."""
    rng = np.random.default_rng(SEED)
    _write(path, rng, _positions(rng, sites), samples, stranded=stranded)


def _positions(rng: np.random.Generator, sites: int) -> Any:
    return np.cumsum(rng.integers(2, 200, sites)).astype(np.int64)


def _write(
    path: Path, rng: np.random.Generator, position: Any, samples: int, *, stranded: bool
) -> None:
    with schema.Writer(
        path,
        samples={"sample": [f"s{k}" for k in range(samples)]},
        contigs=["chr1"],
        marks=["m"],
        strands="separate" if stranded else "unknown",
        values={"methylated": np.uint16, "coverage": np.uint16},
    ) as writer:
        for start in range(0, len(position), writer.chunk):
            here = position[start : start + writer.chunk]
            seen = rng.random((len(here), samples)) < SEEN
            coverage = (rng.poisson(DEPTH, seen.shape) * seen).astype(np.uint16)
            columns = {
                name: np.zeros(len(here), dtype) for name, dtype in schema.SITE_DTYPES.items()
            }
            columns["position"] = here.astype(np.int32)
            if stranded:
                columns["strand"][:] = 1
            else:
                columns["context"][:] = schema.UNKNOWN_CONTEXT
            methylated = rng.binomial(coverage, 0.7).astype(np.uint16)
            writer.append(columns | {"methylated": methylated, "coverage": coverage})


def change(name: str, folder: Path) -> None:
    """Make one change of the store."""
    store = folder / "s.zarr"
    if name == "append":
        append(store, folder / "new.tsv")
    elif name == "rename":
        rename_samples(store, {"s0": "first"})
    elif name == "annotate-samples":
        annotate_samples(store, {"sample": ["s1"], "age": [30.0]})
    else:
        remove_samples(store, ["new"])


def measure(*, quick: bool) -> dict[str, Any]:
    """Seconds and peak MB of each change."""
    samples, sites = (20, 200_000) if quick else (100, 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate(folder, samples=samples, sites=sites)
        seconds, peak = {}, {}
        for what in CHANGES:
            command = [sys.executable, "-m", "benchmarks.append", what, name]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            told = json.loads(done.stdout.splitlines()[-1])
            seconds[what], peak[what] = round(told["seconds"], 2), round(told["peak_mb"])
        size = schema.open_methylome(folder / "s.zarr").sizes
        if size["sample"] != samples:
            raise RuntimeError(f"{size['sample']} samples are left of {samples}.")
    return {
        "samples": samples,
        "sites": sites,
        "new_share": NEW_SHARE,
        "seconds": seconds,
        "peak_mb": peak,
        "simulated": True,
        "seeds": [SEED],
    }


def _child(name: str, folder: str) -> None:
    began = time.perf_counter()
    change(name, Path(folder))
    print(json.dumps({"seconds": time.perf_counter() - began, "peak_mb": _peak_mb()}))


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2])

"""Export: seconds, calls a second, bytes a call and peak memory of each format, and the way back.

Counts are simulated: a store of some samples on one set of sites, each seen in a sample with
probability 0.9. Each export runs in a process of its own; so does the ingest of the text formats
of counts, whose store must hold as many calls as went out.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.append import SEED, write_store
from benchmarks.ingest import _peak_mb
from melisma import methylome as schema
from melisma.calls import ingest
from melisma.export import export

# The store's strands and contexts are known, so that every format can hold it.
FORMATS = ("bedmethyl", "bismark-cov", "bismark-report", "methylkit", "dss", "allc", "cgmap",
           "bigwig", "parquet", "anndata", "matrix")  # fmt: skip
BACK = ("bedmethyl", "bismark-cov", "methylkit", "dss", "allc", "cgmap", "parquet")


def measure(*, quick: bool) -> dict[str, Any]:
    """Figures of each format."""
    samples, sites = (4, 100_000) if quick else (16, 1_000_000)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(folder / "s.zarr", samples=samples, sites=sites, stranded=True)
        for form in FORMATS:
            told = _child_of(form, name)
            found[form] = {
                "seconds": round(told["seconds"], 2),
                "calls_per_second": round(told["calls"] / told["seconds"]),
                "bytes_per_call": round(told["bytes"] / told["calls"], 2),
                "peak_mb": round(told["peak_mb"]),
            }
            if form in BACK:
                back = _child_of(f"back:{form}", name)
                if back["calls"] != told["calls"]:
                    raise RuntimeError(f"{back['calls']} of {told['calls']} calls of {form} back.")
                found[form]["ingest_seconds"] = round(back["seconds"], 2)
    return {
        "samples": samples,
        "sites": sites,
        "formats": found,
        "simulated": True,
        "seeds": [SEED],
    }


def _child_of(what: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.export", what, folder]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def _out(folder: Path, form: str) -> Path:
    return folder / {"anndata": "a.h5ad"}.get(form, form)


def _child(what: str, folder: Path) -> dict[str, Any]:
    back, _, form = what.rpartition(":")
    began = time.perf_counter()
    if back:
        ingest(_out(folder, form) / "samples.tsv", folder / f"{form}.zarr")
        seconds = time.perf_counter() - began
        blocks = schema.blocks(schema.open_methylome(folder / f"{form}.zarr"))
        calls = sum(int((block.coverage > 0).sum()) for block in blocks)
        return {"seconds": seconds, "calls": calls}
    sizes = folder / "sizes"
    sizes.write_text("chr1\t2000000000\n")
    made = export(
        folder / "s.zarr",
        _out(folder, form),
        to=form,
        sizes=sizes if form == "bigwig" else None,
    )
    seconds = time.perf_counter() - began
    files = {file for own in made.files.values() for file in own}
    size = sum(file.stat().st_size for file in files)
    return {"seconds": seconds, "calls": sum(made.rows.values()), "bytes": size,
            "peak_mb": _peak_mb()}  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], Path(sys.argv[2]))))

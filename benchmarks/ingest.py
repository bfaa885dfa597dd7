"""Ingest: rows a second from file to closed store, beside a limit and a peer; peak memory.

Counts are simulated on real CpG positions (chromosome 22, repeated as contigs): a sample's
coverage is Poisson around the recorded depth, its methylated reads binomial at the recorded level.
The limit is Python iterating over the lines of the decompressed file.
"""

import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pysam

from benchmarks import _peers
from benchmarks._chr22 import chromosome
from melisma.calls import format_named, ingest
from melisma.calls._reader import read_batches
from melisma.calls._sample import Options, Source, read_sample

FIRST_SEED = 100
FORMATS = ("bedmethyl", "bismark_cov")
PEAK_SAMPLES, PEAK_ROWS = 16, 5_000_000
SCALE_SAMPLES, SCALE_ROWS = 16, 28_000_000


def sample(rows: int, seed: int) -> pl.DataFrame:
    """One sample's calls: contig, 0-based position, methylated m and coverage n above 0."""
    whole = chromosome()
    rng = np.random.default_rng(seed)
    times = -(-rows // len(whole.position))
    contig = np.repeat([f"chr{k + 1}" for k in range(times)], len(whole.position))[:rows]
    position, level, depth = (np.tile(values, times)[:rows] for values in whole)
    n = rng.poisson(depth)
    m = rng.binomial(n, level)
    table = pl.DataFrame({"contig": contig, "position": position, "n": n, "m": m})
    return table.filter(pl.col("n") > 0)


def write(calls: pl.DataFrame, form: str, path: Path) -> int:
    """Write calls as one format, as gzip does where the name ends in .gz; returns the rows."""
    p, n, m = pl.col("position"), pl.col("n"), pl.col("m")
    percent = 100 * m / n
    if form == "bismark_cov":
        table = calls.select("contig", p + 1, q=p + 1, percent=percent, m=m, u=n - m)
    else:
        counts = pl.format("{} {} {} {} 0 0 0 0 0", n, percent.round(2), m, n - m)
        words = {"score": n, "strand": pl.lit("+"), "a": p, "b": p + 1, "colour": pl.lit("255,0,0")}
        table = calls.select("contig", p, q=p + 1, code=pl.lit("m"), **words, counts=counts)
    with gzip.open(path, "wb", 6) if path.suffix == ".gz" else path.open("wb") as out:
        table.write_csv(out, separator="\t", include_header=False, quote_style="never")
    return len(table)


def limit(path: Path, repeats: int) -> float:
    """Lines a second that Python iterates over in a decompressed file, on one core; the best."""
    found = []
    for _ in range(repeats):
        lines = 0
        began = time.perf_counter()
        with path.open("rb") as file:
            for _line in file:
                lines += 1
        found.append(lines / (time.perf_counter() - began))
    return max(found)


def rate(files: list[Path], rows: int, repeats: int) -> dict[str, float]:
    """Rows a second from these files to a closed store, and processor time over time."""
    names = [f"s{k}" for k in range(len(files))]
    sheet = pl.DataFrame({"sample": names, "path": [str(file) for file in files]})
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repeats):
            cpu, wall = time.process_time(), time.perf_counter()
            made = ingest(sheet, Path(folder) / "s.zarr", overwrite=True)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if made.rows != rows:
                raise RuntimeError(f"{made.rows} rows were read, {rows} written.")
            found.append((rows / wall, cpu / wall))
    return {
        "rows_per_second": statistics.median(speed for speed, _ in found),
        "cores_used": statistics.median(cores for _, cores in found),
    }


def speeds(folder: Path, *, samples: int, rows: int, repeats: int) -> dict[str, Any]:
    """Ingest's speed for each format, plain and gzip, its limit, and their ratio a core."""
    calls = [sample(rows, FIRST_SEED + k) for k in range(samples)]
    found: dict[str, dict[str, float]] = {}
    for form in FORMATS:
        plain = [folder / f"{form}_{k}" for k in range(samples)]
        total = sum(write(c, form, path) for c, path in zip(calls, plain, strict=True))
        packed = [path.with_suffix(".gz") for path in plain]
        for table, path in zip(calls, packed, strict=True):
            write(table, form, path)
        rate(plain[:1], len(calls[0]), 1)
        bound = limit(plain[0], repeats)
        for name, files in ((form, plain), (f"{form}_gzip", packed)):
            found[name] = rate(files, total, repeats) | {"limit": bound}
    return _keyed(found) | {"samples": samples, "rows": rows}


def _keyed(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {
        "rows_per_second": {name: round(row["rows_per_second"]) for name, row in found.items()},
        "limit_rows_per_second": {name: round(row["limit"]) for name, row in found.items()},
        "cores_used": {name: round(row["cores_used"], 2) for name, row in found.items()},
        "ratio_to_limit": {
            name: round(row["rows_per_second"] / row["limit"] / row["cores_used"], 3)
            for name, row in found.items()
        },
    }


def peers(folder: Path, *, rows: int, repeats: int) -> dict[str, Any]:
    """Rows a second of bsseq::read.bismark on two plain files, and of ingest on the same."""
    if not _peers.installed("bsseq"):
        return {"peers": {}, "missing": ["bsseq"]}
    files = [folder / f"peer_{k}.cov" for k in range(2)]
    calls = [sample(rows, FIRST_SEED + k) for k in range(2)]
    total = sum(write(c, "bismark_cov", path) for c, path in zip(calls, files, strict=True))
    told = _peers.run("bsseq.R", files)
    if told["reads"] != sum(int(table["n"].sum()) for table in calls):
        raise RuntimeError("bsseq read other counts than were written.")
    mine = rate(files, total, repeats)["rows_per_second"]
    theirs = total / told["seconds"]
    return {
        "peers": {"bsseq": round(theirs)},
        "peer_versions": {"bsseq": told["version"]},
        "same_files_rows_per_second": round(mine),
        "times_bsseq": round(mine / theirs, 1),
        "missing": [],
    }


def peak(folder: Path, *, samples: int, rows: int) -> dict[str, Any]:
    """Seconds and peak memory in MB of a process that ingests these samples, of bgzip files.

    At most four are distinct; the others are links to them.
    """
    folder.mkdir()
    distinct = min(4, samples)
    written = []
    for k in range(distinct):
        plain = folder / f"peak_{k}.cov"
        written.append(write(sample(rows, FIRST_SEED + k), "bismark_cov", plain))
        pysam.tabix_compress(str(plain), f"{plain}.gz")
        plain.unlink()
    files = []
    for k in range(samples):
        path = folder / f"sample_{k}.cov.gz"
        os.link(folder / f"peak_{k % distinct}.cov.gz", path)
        files.append(path)
    command = [sys.executable, "-m", "benchmarks.ingest", str(folder / "peak.zarr")]
    done = subprocess.run([*command, *map(str, files)], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    total = sum(written[k % distinct] for k in range(samples))
    return {
        "samples": samples,
        "distinct_samples": distinct,
        "sites": told["sites"],
        "rows": total,
        "seconds": round(told["seconds"], 2),
        "rows_per_second": round(total / told["seconds"]),
        "peak_mb": round(told["peak_mb"]),
        "files_mb": round(sum(file.stat().st_size for file in files) / 1e6),
        "work_mb": round(told["work_mb"]),
    }


def one_file(folder: Path, *, rows: int, repeats: int) -> dict[str, Any]:
    """Seconds to parse one bgzip file with one thread and with two, in turn, and their ratio."""
    plain = folder / "one.cov"
    total = write(sample(rows, FIRST_SEED), "bismark_cov", plain)
    pysam.tabix_compress(str(plain), f"{plain}.gz")
    form, path = format_named("bismark-cov"), Path(f"{plain}.gz")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for threads, found in seconds.items():
            began = time.perf_counter()
            read = sum(len(batch.key) for batch in read_batches(path, form, threads=threads))
            found.append(time.perf_counter() - began)
            if read != total:
                raise RuntimeError(f"{read} rows were read, {total} written.")
    one, two = (statistics.median(found) for found in seconds.values())
    return {"rows": total, "seconds_1": round(one, 3), "seconds_2": round(two, 3),
            "speedup_2": round(one / two, 2)}  # fmt: skip


def _child(out: str, files: list[str]) -> None:
    sheet = pl.DataFrame({"sample": [f"s{k}" for k in range(len(files))], "path": files})
    began = time.perf_counter()
    made = ingest(sheet, out)
    told = {"seconds": time.perf_counter() - began, "sites": made.sites, "peak_mb": _peak_mb()}
    print(json.dumps(told | {"work_mb": _work_mb(files[0])}))


def _work_mb(file: str) -> float:
    """What one sample's calls take on disk while an ingest is under way."""
    with tempfile.TemporaryDirectory() as folder:
        source = Source("s", Path(file), format_named("bismark-cov"), Path(folder) / "0")
        read_sample(source, Options())
        return sum(path.stat().st_size for path in Path(folder).rglob("*.*")) / 1e6


def _peak_mb() -> float:
    """This process's largest resident memory; ru_maxrss would begin with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measure(*, quick: bool) -> dict[str, Any]:
    """Everything that the contract asks of `ingest`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples, rows, repeats = (4, 600_000, 3) if quick else (8, 1_000_000, 5)
        found = speeds(folder, samples=samples, rows=rows, repeats=repeats)
        found |= {"peers": {}, "missing": []} if quick else peers(folder, rows=rows, repeats=3)
        found["one_file"] = one_file(folder, rows=500_000 if quick else 8_000_000, repeats=repeats)
        size = (4, 500_000) if quick else (PEAK_SAMPLES, PEAK_ROWS)
        small = peak(folder / "peak", samples=size[0], rows=size[1])
        found |= {"peak_mb": small["peak_mb"], "peak_of": small}
        if not quick:
            shutil.rmtree(folder / "peak")
            found["scale"] = peak(folder / "scale", samples=SCALE_SAMPLES, rows=SCALE_ROWS)
    return found | {"simulated": True, "seeds": [FIRST_SEED, FIRST_SEED + samples - 1]}


if __name__ == "__main__":
    _child(sys.argv[1], sys.argv[2:])

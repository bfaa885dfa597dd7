"""Site and region tests: speed, size on simulated nulls, regions against planted truth, peers.

All counts are simulated on the real positions, smoothed levels and depths of chromosome 22
(`_chr22`). Engine settings were chosen on seeds 0 to 3; the figures come from seeds 100 and up.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from benchmarks._chr22 import Chromosome, chromosome
from benchmarks._differential_peers import peers
from benchmarks._met1 import met1
from benchmarks._null_designs import FIRST_SEED, Test, named, null_ratio, nulls
from benchmarks._region_scores import CONTRAST, region_scores
from melisma.design import make_design
from melisma.differential import find_regions, simulate, site_tests
from melisma.differential._engine import build_engine
from melisma.differential.sites import one_comparison
from melisma.errors import MelismaError
from melisma.methylome import open_methylome, sample_sheet, write

# Levels and samples of each: data sets with planted regions, data sets without an effect.
REGION_SEEDS = {(2, 6): (20, 20), (2, 4): (20, 20), (2, 3): (10, 20), (4, 2): (10, 20)}
PROCESSES = 2
TESTS: tuple[Test, ...] = ("score", "arcsine")


def speed(chromosome: Chromosome, sites: int, repeats: int) -> dict[str, Any]:
    """Sites a second of the tests' fits, and seconds from an open store to both tables."""
    times = -(-sites // len(chromosome.position))
    span = int(chromosome.position[-1]) + 1000
    position = np.concatenate([chromosome.position + k * span for k in range(times)])[:sites]
    level, depth = (np.tile(values, times)[:sites] for values in chromosome[1:])
    eight = {
        "sample": [f"s{i}" for i in range(8)],
        "g": list("abababab"),
        "f": list("xxxyyyxy"),
        "age": list(range(8)),
        "w": [1, 5, 2, 2, 8, 4, 6, 3],
        "v": [3, 1, 4, 1, 5, 9, 2, 6],
    }
    made = simulate(position, level, depth, eight, seed=1).methylome
    found = {}
    for columns, formula in ((2, "~ g"), (6, "~ g + f + age + w + v")):
        comparison = one_comparison(make_design(sample_sheet(made), formula), CONTRAST)
        for name, arcsine in (("fast", True), ("default", False)):
            engine = build_engine(made, comparison, arcsine=arcsine)
            m, n = engine.pool(made["methylated"].values, made["coverage"].values)
            seconds = _median(lambda: engine.fit(m, n), repeats)  # noqa: B023
            found[f"{name}_{columns}"] = round(sites / seconds)
    return {"sites_per_second": found, "seconds_sites_and_regions": _both(made, repeats)}


def _both(made: xr.Dataset, repeats: int) -> dict[str, Any]:
    """Seconds from an open store to the tables of sites and of regions."""
    told = {**made.sizes, "relabellings": 34}
    with tempfile.TemporaryDirectory() as folder:
        write(made, Path(folder) / "s.zarr")
        opened = open_methylome(Path(folder) / "s.zarr")
        design = make_design(sample_sheet(opened), "~ g")

        def both() -> None:
            site_tests(opened, design, CONTRAST)
            find_regions(opened, design, CONTRAST, relabellings=34)

        try:
            return {"value": round(_median(both, repeats), 2), **told}
        except MelismaError as error:
            return {"value": None, **told, "reason": str(error)}


def _median(work: Callable[[], Any], repeats: int) -> float:
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _null_task(
    name: str, test: Test, first: int, sites: int, seeds: int, tests: int
) -> dict[str, Any] | str:
    part = chromosome().part(first, sites)
    return null_ratio(named(name), part, seeds=seeds, tests=tests, test=test)


def _region_task(
    levels: int, group: int, sites: int, relabellings: int | None, seeds: int, nulls: int
) -> dict[str, Any] | str:
    part = chromosome().part(60_000, sites)
    return region_scores(part, group, seeds, nulls, relabellings, levels)


def _region_name(levels: int, group: int) -> str:
    return f"{group}v{group}" if levels == 2 else f"{levels}_levels_of_{group}"


def sizes_and_regions(*, quick: bool) -> dict[str, Any]:
    """`null_ratio` and `regions`; a full run has two processes, the longest tasks first."""
    size = (100_000, 8_000, 2, 0) if quick else (60_000, 250_000, 10, 2_000_000)
    seeds = dict.fromkeys(REGION_SEEDS, (1, 1)) if quick else REGION_SEEDS
    sites, relabellings = (20_000, 40) if quick else (200_000, None)
    designs = [null.name for null in nulls()]
    tasks: dict[Any, tuple[Any, ...]] = {
        (_region_name(*each),): (_region_task, *each, sites, relabellings, *pair)
        for each, pair in seeds.items()
    }
    longest = sorted(designs, key=lambda name: -len(named(name).sheet["sample"]))
    tasks |= {(name, test): (_null_task, name, test, *size) for name in longest for test in TESTS}
    if quick:
        done = {key: task[0](*task[1:]) for key, task in tasks.items()}
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
            waiting = {key: pool.submit(*task) for key, task in tasks.items()}
            done = {key: future.result() for key, future in waiting.items()}
    regions = {
        key[0]: told for key, told in done.items() if len(key) == 1 and isinstance(told, dict)
    }
    refused = {key: told for key, told in done.items() if isinstance(told, str)}
    ratios = {
        test: {name: done[name, test] for name in designs if (name, test) not in refused}
        for test in TESTS
    }
    return {
        "null_ratio": ratios["score"],
        "null_ratio_fast": ratios["arcsine"],
        "regions": {**regions.get("6v6", {}), "designs": regions},
        "skipped": {
            ("regions " if len(key) == 1 else "") + ", ".join(key): told
            for key, told in refused.items()
        },
    }


def measure(*, quick: bool) -> dict[str, Any]:
    """Everything that the contract asks of `differential`."""
    whole = chromosome()
    found = speed(whole, 50_000 if quick else 500_000, 1 if quick else 5)
    found |= sizes_and_regions(quick=quick)
    found["met1"] = met1()
    if quick:
        found |= {"peers": {}, "missing": []}
    else:
        found |= peers(whole.part(100_000, 100_000), whole.part(60_000, 200_000), seeds=2)
    last = max(told["seeds"] for told in found["null_ratio"].values())
    return found | {"simulated": True, "seeds": [FIRST_SEED, FIRST_SEED + last - 1]}

"""DSS, BSmooth and limma on the data that melisma is measured on, with their manuals' settings.

Regions are called on the planted data of `_region_scores`, seed by seed, and on its nulls; the size
of site tests comes from some of the designs of `_null_designs`. Only the first planted data set is
timed, by each peer alone on the machine.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from benchmarks import _peers
from benchmarks._chr22 import Chromosome
from benchmarks._null_designs import FIRST_SEED, Tally, groups, named, simulated
from benchmarks._region_scores import CONTRAST, planted, score, summary, without_effect
from melisma.design import make_design
from melisma.differential import find_regions, site_tests
from melisma.methylome import sample_sheet

# They do not run here: their figures elsewhere are not quoted as measured.
NOT_HERE = ("metilene", "dmrseq")
GROUP = 4
_CORES = 2


class Peer(NamedTuple):
    """A peer: R package, script and its arguments for a formula and a coefficient.

    calls : its sets of called regions, the first part of their files' names
    designs : the null designs in which its p-values are counted; none where it has no p-values
    """

    package: str
    script: str
    arguments: Callable[[str, str, int], Sequence[object]]
    calls: tuple[str, ...] = ()
    designs: tuple[str, ...] = ()


TWO_GROUPS = ("4v4", "10v10", "5x_against_30x")
# A peer's formula and coefficient where they are not "~ g" and "gb": blocks are columns.
FORMULAE = {"batch_covariate": "~g+f", "20_pairs": "~pair+g"}
PEERS = {
    "dss": Peer(
        "DSS",
        "dss.R",
        lambda _formula, _coefficient, cores: ("two", cores),
        ("dss_1e-3", "dss_1e-5"),
        TWO_GROUPS,
    ),
    "dss_multi": Peer(
        "DSS",
        "dss.R",
        lambda formula, coefficient, _cores: ("multi", formula, coefficient),
        ("dss_multi_1e-3", "dss_multi_1e-5"),
        ("4v4", "batch_covariate", "20_pairs"),
    ),
    "bsmooth": Peer(
        "bsseq", "bsmooth.R", lambda _formula, _coefficient, cores: (cores,), ("bsmooth",)
    ),
    "limma": Peer(
        "limma",
        "limma.R",
        lambda formula, coefficient, _cores: (formula, coefficient),
        (),
        (*TWO_GROUPS, "batch_covariate", "20_pairs"),
    ),
}


def write_counts(folder: Path, methylome: xr.Dataset, sheet: Mapping[str, Sequence[Any]]) -> None:
    """Write what `peers/counts.R` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    methylated, coverage = methylome["methylated"].values, methylome["coverage"].values
    with (folder / "counts.bin").open("wb") as file:
        np.array(coverage.shape, np.int32).tofile(file)
        for values in (methylome["position"].values, methylated.T, coverage.T):
            values.astype(np.int32).tofile(file)
    pl.DataFrame(dict(sheet)).write_csv(folder / "sheet.tsv", separator="\t")


def _run(name: str, folder: Path, formula: str = "~g", cores: int = 1) -> dict[str, Any]:
    peer = PEERS[name]
    return _peers.run(peer.script, [folder, *peer.arguments(formula, "gb", cores)])


def _regions(folder: Path, name: str) -> pl.DataFrame:
    columns = {"start": pl.Int64, "end": pl.Int64, "size": pl.Float64}
    return pl.read_csv(folder / f"{name}.regions.tsv", separator="\t", schema=columns)


def _in_turn(work: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Two R processes at a time; the threads only wait for them."""
    with ThreadPoolExecutor(_CORES) as pool:
        return list(pool.map(lambda task: work(*task), tasks))


def peer_sizes(
    chromosome: Chromosome, here: Sequence[str], seeds: int
) -> dict[str, dict[str, Any]]:
    """Size of every peer's p-values, and of melisma's, on the same null data sets."""
    sizes: dict[str, dict[str, Any]] = {name: {} for name in (*here, "melisma")}
    designs = dict.fromkeys(design for name in here for design in PEERS[name].designs)
    with tempfile.TemporaryDirectory() as base:
        for design in designs:
            null = named(design)
            made = {}
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                made[seed] = simulated(null, chromosome, seed)
                write_counts(Path(base) / design / str(seed), made[seed], null.sheet)
            asked = [name for name in here if design in PEERS[name].designs]
            formula = FORMULAE.get(design, "~g")
            tasks = [
                (name, Path(base) / design / str(seed), formula) for name in asked for seed in made
            ]
            _in_turn(_run, tasks)
            for name in asked:
                tally = Tally()
                for seed, methylome in made.items():
                    file = Path(base) / design / str(seed) / f"{name}.p.bin"
                    tally.add(methylome, np.fromfile(file, np.float64))
                sizes[name][design] = _size(tally)
            tally = Tally()
            for methylome in made.values():
                model = make_design(sample_sheet(methylome), null.formula, block=null.block)
                tally.add(
                    methylome, site_tests(methylome, model, null.contrast).table["p"].to_numpy()
                )
            sizes["melisma"][design] = _size(tally)
    return sizes


def _size(tally: Tally) -> dict[str, Any]:
    report = tally.report()
    return {k: v for k, v in report.items() if k not in ("within_bars", "misses", "strata")}


def peer_regions(
    chromosome: Chromosome, here: Sequence[str], seeds: int
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Regions of each set of calls, and seconds on the first data set, of 4 against 4."""
    sheet, truths, timed = groups(GROUP, GROUP), {}, {}
    calling = [name for name in here if PEERS[name].calls]
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            made = planted(chromosome, GROUP, seed)
            null = without_effect(chromosome, GROUP, seed)
            truths[seed] = made.truth
            for kind, methylome in (("planted", made.methylome), ("null", null.methylome)):
                folder = base / kind / str(seed)
                write_counts(folder, methylome, sheet)
                # Kernels are compiled on the first data set; timed is its second time.
                repeats = 1 + (not timed)
                told = [_own(methylome, folder) for _ in range(repeats)]
                timed.setdefault("melisma", told[-1])
        first = base / "planted" / str(FIRST_SEED)
        timed |= {name: _run(name, first, cores=_CORES) for name in here}
        folders = [base / kind / str(seed) for seed in truths for kind in ("planted", "null")]
        tasks = [(name, folder) for name in calling for folder in folders if folder != first]
        _in_turn(_run, tasks)
        kinds = ["melisma", *(calls for name in calling for calls in PEERS[name].calls)]
        scores = {
            calls: _region_summary(base, calls, truths, chromosome.position) for calls in kinds
        }
    return scores, {name: _speed(told, len(chromosome.position)) for name, told in timed.items()}


def _own(methylome: xr.Dataset, folder: Path) -> dict[str, Any]:
    """melisma's calls, written as a peer's are, and the seconds of both of its tables."""
    design = make_design(sample_sheet(methylome), "~ g")
    began = time.perf_counter()
    site_tests(methylome, design, CONTRAST)
    sites = time.perf_counter() - began
    called = find_regions(methylome, design, CONTRAST).significant()
    seconds = time.perf_counter() - began
    table = called.select("start", "end", pl.col("statistic").abs().alias("size"))
    table.write_csv(folder / "melisma.regions.tsv", separator="\t")
    return {"seconds": seconds, "seconds_sites": round(sites, 2)}


def _speed(told: Mapping[str, Any], sites: int) -> dict[str, Any]:
    seconds = told["seconds"]
    return {
        **told,
        "seconds": round(seconds, 2),
        "sites_per_second": round(sites / seconds),
    }


def _region_summary(
    base: Path, calls: str, truths: Mapping[int, pl.DataFrame], position: np.ndarray
) -> dict[str, Any]:
    rows = [
        score(_regions(base / "planted" / str(seed), calls), truth, position)
        for seed, truth in truths.items()
    ]
    null = [len(_regions(base / "null" / str(seed), calls)) for seed in truths]
    return summary(rows) | {
        "null_seeds_with_calls": sum(n > 0 for n in null),
        "null_seeds": len(null),
        "null_calls": null,
        "seeds": len(rows),
    }


def peers(sizes_on: Chromosome, regions_on: Chromosome, *, seeds: int) -> dict[str, Any]:
    """`peers` and `missing` of the contract; 4 against 4 for regions."""
    packages = {peer.package for peer in PEERS.values()}
    absent = sorted(package for package in packages if not _peers.installed(package))
    here = [name for name, peer in PEERS.items() if peer.package not in absent]
    scores, seconds = peer_regions(regions_on, here, seeds)
    sizes = peer_sizes(sizes_on, here, seeds)
    found = {
        name: {
            **seconds[name],
            "null_ratio": sizes[name],
            "regions": {calls: scores[calls] for calls in PEERS[name].calls},
        }
        for name in here
    }
    return {
        "peers": found,
        "melisma_on_the_same": {
            **seconds["melisma"],
            "null_ratio": sizes["melisma"],
            "regions": scores["melisma"],
        },
        "missing": [*absent, *NOT_HERE],
    }

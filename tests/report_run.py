"""A finished run of six samples and ten sites, built literally, and a reader of its report."""

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from melisma.methylome import dataset, write

SAMPLES = ["s1", "s2", "s3", "s4", "s5", "s<6>"]
POSITIONS = [100, 150, 200, 260, 300, 900, 950, 1000, 50, 80]
CONTIGS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]
DELTA = [-0.4, -0.5, -0.45, -0.3, 0.1, 0.02, -0.01, 0.2, 0.05, 0.0]
P = [1e-6, 1e-7, 2e-5, 0.004, 0.6, 0.8, 0.95, 0.03, 0.5, None]
Q = [4.5e-6, 9e-7, 6e-5, 0.009, 0.77, 0.9, 0.95, 0.054, 0.75, None]
REFUSED = "3 pairs allow 8 distinct relabellings and 200 are needed: add pairs."


def _sites(p: list[float | None], q: list[float | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "contig": [f"chr{k + 1}" for k in CONTIGS],
            "position": POSITIONS,
            "strand": [0] * 10,
            "mark": ["m"] * 10,
            "context": ["CG"] * 10,
            "delta_beta": DELTA,
            "ci_low": [d - 0.1 for d in DELTA],
            "ci_high": [d + 0.1 for d in DELTA],
            "statistic": [10 * d for d in DELTA],
            "df": [4.0] * 10,
            "p": p,
            "q": q,
            "n_used": [6] * 10,
        }
    )


def _regions(q: list[float]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "region": ["chr1:900-1001", "chr1:100-261"],
            "contig": ["chr1", "chr1"],
            "start": [900, 100],
            "end": [1001, 261],
            "mark": ["m", "m"],
            "sites": [3, 4],
            "statistic": [1.5, -6.0],
            "delta_beta": [0.07, -0.41],
            "ci_low": [-0.1, -0.55],
            "ci_high": [0.2, -0.27],
            "p": [0.4, 0.001],
            "q": q,
            "p_family": [1.0, 0.01],
        }
    )


def _contrast(slug: str, column: str, levels: list[str], regions: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": f"{column}[{levels[0]}] - {column}[{levels[1]}]",
        "slug": slug,
        "label": f"{levels[0]} against {levels[1]}",
        "column": column,
        "levels": levels,
        "unit": "samples",
        "n_units": 6,
        "df_residual": 4,
        "sites": {"q": 0.05, "notes": ["One site is <b>odd</b>."]},
        "regions": regions,
        "calibration": {
            "lambda": 1.23,
            "relabelled_lambda": [0.8, 0.9, 0.95, 1.0, 1.0, 1.0, 1.02, 1.03, 1.05, 1.1],
            "relabelled_site_calls": [0, 0, 1],
            "relabelled_region_calls": None if "refused" in regions else [0, 0, 2],
        },
    }


def _quality_tables(folder: Path) -> None:
    n = len(SAMPLES)
    distance = np.full((n, n), 0.4)
    for i, j in ((0, 3), (1, 4), (2, 5)):
        distance[i, j] = distance[j, i] = 0.05
    np.fill_diagonal(distance, 0.0)
    square = {name: distance[:, i] for i, name in enumerate(SAMPLES)}
    tables = {
        "qc_samples": {
            "sample": SAMPLES,
            "sites_seen": [10] * n,
            "share_seen": [1.0] * n,
            "coverage_mean": [20.0] * n,
            "coverage_median": [20, 21, 22, 23, 24, 25],
            "coverage_p05": [5] * n,
            "coverage_p95": [40] * n,
            "level": [0.5, 0.51, 0.52, 0.31, 0.32, 0.33],
            "level_mean": [0.5] * n,
            "pc1": [1.0, 1.1, 1.2, -1.0, -1.1, -1.2],
            "pc2": [0.1, -0.1, 0.2, -0.2, 0.3, -0.3],
            "pc3": [0.0] * n,
            "correlation_median": [0.9] * n,
            "outlier": [False] * 5 + [True],
            "outlier_reason": [""] * 5 + ["it lies apart on PC2"],
        },
        "qc_levels": {
            "sample": SAMPLES * 2,
            "contig": ["chr1"] * n + ["chr2"] * n,
            "context": ["CG"] * 2 * n,
            "sites": [8] * n + [2] * n,
            "reads": [160] * n + [40] * n,
            "level": [0.5] * 2 * n,
        },
        "qc_correlation": {"sample": SAMPLES} | {k: 1 - v for k, v in square.items()},
        "identity_distance": {"sample": SAMPLES} | square,
        "identity_pairs": [
            {
                "sample_a": SAMPLES[i],
                "sample_b": SAMPLES[j],
                "distance": distance[i, j],
                "sites": 40,
                "same_person": distance[i, j] < 0.1,
            }
            for i, j in itertools.combinations(range(n), 2)
        ],
    }
    for name, columns in tables.items():
        pl.DataFrame(columns).write_parquet(folder / f"{name}.parquet")


def make_run(folder: Path) -> Path:
    """A finished run of six samples and ten sites, three contrasts."""
    (folder / "tables").mkdir(parents=True)
    coverage = np.full((10, 6), 20, dtype=np.uint16)
    methylated = np.full((10, 6), 16, dtype=np.uint16)
    methylated[:4, 3:] = 8
    sheet = {
        "sample": SAMPLES,
        "cell": ["rest_ing"] * 3 + ["acti<v>e"] * 3,
        "arm": ["x", "y"] * 3,
        "age": [20.0, 31.0, 42.0, 53.0, 64.0, 75.0],
    }
    write(
        dataset(
            {"contig": CONTIGS, "position": POSITIONS, "context": [0] * 10},
            {"methylated": methylated, "coverage": coverage},
            sheet,
            contigs=["chr1", "chr2"],
            strands="merged",
        ),
        folder / "study.zarr",
    )
    _quality_tables(folder / "tables")
    nothing = [None if p is None else 0.53 for p in P]
    for stem, p, q, region_q in (
        ("main.cell", P, Q, [0.41, 0.012]),
        ("main.arm", nothing, nothing, [0.61, 0.48]),
        ("paired.cell", P, Q, None),
    ):
        _sites(p, q).write_parquet(folder / "tables" / f"{stem}.sites.parquet")
        if region_q:
            _regions(region_q).write_parquet(folder / "tables" / f"{stem}.regions.parquet")
    tested = {"q": 0.05, "candidates": 2, "relabellings": 3, "distinct": 20, "notes": []}
    cell = ["acti<v>e", "rest_ing"]
    people = ["donor1", "donor2", "donor3"] * 2
    run = {
        "title": "Study </script><script>alert(1)</script>",
        "created": "2026-02-11T09:31:22+00:00",
        "melisma": "0.1.0",
        "versions": {"python": "3.11.7", "numpy": "2.4.6"},
        "inputs": [
            {"path": "/home/someone/data/samples.tsv", "bytes": 507, "sha256": "ab" * 32},
            {"path": "/home/someone/data/calls/s1.cov.gz", "bytes": 1234, "sha256": "cd" * 32},
        ],
        "data_notices": ["# Where from\n\nFrom *somewhere* `x` <i>.\n\n- one\n- two"],
        "samples": 6,
        "sites": 10,
        "mark": "5mC",
        "genome": None,
        "qc": {
            "identity": {
                "sites": 40,
                "people": dict(zip(SAMPLES, people, strict=True)),
                "resolved": True,
                "reason": "",
                "sentence": "By 40 genotype-like sites the 6 samples come from 3 people.",
                "contradictions": [
                    {
                        "samples": ["s1", "s4"],
                        "column": "cell",
                        "sentence": "s1 and s4 come from one person, but <differ>.",
                    }
                ],
            },
            "outliers": ["s<6>"],
            "pca_variance": [0.4, 0.2],
            "notes": [],
        },
        "designs": [
            {
                "name": "main",
                "formula": "~ cell + arm",
                "block": None,
                "contrasts": [
                    _contrast("cell", "cell", cell, tested),
                    _contrast("arm", "arm", ["y", "x"], tested),
                ],
            },
            {
                "name": "paired",
                "formula": "~ cell",
                "block": "identity",
                "contrasts": [_contrast("cell", "cell", cell, {"refused": REFUSED})],
            },
        ],
        "parameters": {"regions": {"q": 0.05, "seed": 1, "relabellings": None}},
    }
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


class Reading(HTMLParser):
    """Elements, attributes and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = self._silent and tag not in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words).replace("\u00a0", " "))

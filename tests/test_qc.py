"""`melisma qc` as a user meets it: the printed summary, the files, and bad input."""

import json
import shlex
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from melisma.cli import qc
from melisma.methylome import dataset, write
from melisma.quality import check_quality


def melisma(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", "from melisma.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store of six donors, each seen twice, the last one under two individuals."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(6), 2)
    copies = rng.binomial(2, rng.uniform(0.2, 0.8, (400, 1)), (400, 6))[:, people]
    variants = np.array([0.02, 0.48, 0.96])[copies]
    ordinary = np.clip(rng.beta(0.8, 0.4, (1600, 1)) + rng.normal(0, 0.04, (1600, 12)), 0, 1)
    level = np.concatenate([variants, ordinary])
    rng.shuffle(level)
    coverage = rng.poisson(25, level.shape).astype(np.uint16)
    methylome = dataset(
        {"contig": np.zeros(2000), "position": np.arange(2000) * 3000},
        {"methylated": rng.binomial(coverage, level).astype(np.uint16), "coverage": coverage},
        {
            "sample": [f"s{i}" for i in range(12)],
            "individual": ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e", "f", "g"],
        },
        contigs=["chr1"],
    )
    path = tmp_path_factory.mktemp("qc")
    write(methylome, path / "melisma-demo" / "study.zarr")
    return path


def test_the_example_of_the_help_runs_and_says_who_is_who(folder):
    example = str(qc.qc.__doc__).split("Example:\n      melisma ")[1].strip()
    done = melisma(*shlex.split(example), cwd=folder)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "12 samples; correlation over 2,000 sites" in words
    assert "the 12 samples come from 6 people, each seen twice." in words
    assert "1 contradiction with the sample sheet:" in words
    assert "s10 and s11 come from one person, but the sheet has s10 as f and s11 as g." in words
    assert "No sample stands apart." in words
    written = {path.name for path in (folder / "qc").iterdir()}
    tables = (
        "qc_samples", "qc_levels", "qc_coverage", "qc_correlation",
        "identity_pairs", "identity_distance", "qc_conversion", "qc_bias", "qc_sex",
        "qc_saturation", "qc_covariates", "qc_confounding", "qc_checks",
    )  # fmt: skip
    multiqc = {f"melisma_{name}_mqc.json" for name in ("qc", "checks", "saturation")}
    assert written == {f"{name}.tsv" for name in tables} | {"qc.json"} | multiqc
    samples = pl.read_csv(folder / "qc" / "qc_samples.tsv", separator="\t")
    assert samples["sample"].to_list() == [f"s{i}" for i in range(12)]
    summary = json.loads((folder / "qc" / "qc.json").read_text())
    assert summary["identity"]["people"]["s11"] == "donor6"
    assert summary["identity"]["contradictions"][0]["samples"] == ["s10", "s11"]


def test_many_samples_are_listed_only_where_they_stand_apart(capsys):
    rng = np.random.default_rng(0)
    coverage = rng.poisson(20, (500, 61)).astype(np.uint16)
    methylated = rng.binomial(coverage, rng.random((500, 1))).astype(np.uint16)
    coverage[:, 7] = methylated[:, 7]
    methylome = dataset(
        {"contig": np.zeros(500), "position": np.arange(500)},
        {"methylated": methylated, "coverage": coverage},
        {"sample": [f"s{i}" for i in range(61)]},
        contigs=["chr1"],
    )
    qc._show(check_quality(methylome))
    printed = capsys.readouterr().out
    assert "61 samples; correlation over 500 sites; those that stand apart (1)" in printed
    assert "s7 stands apart: level 1.000 is high" in printed
    assert "s8" not in printed


def test_a_store_that_is_not_there_is_named(folder):
    done = melisma("qc", "absent.zarr", "-o", "none", cwd=folder)
    assert done.returncode == 2
    assert "no methylome store at absent.zarr" in " ".join(done.stderr.split())
    assert not (folder / "none").exists()


def test_an_output_that_is_a_file_is_refused_first(folder):
    (folder / "taken").write_text("mine")
    done = melisma("qc", "melisma-demo/study.zarr", "-o", "taken", cwd=folder)
    assert done.returncode == 2
    assert "taken is a file: name a folder for the tables." in " ".join(done.stderr.split())
    assert (folder / "taken").read_text() == "mine"
    assert done.stdout == ""

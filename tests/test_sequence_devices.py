"""Training in two processes (CPU, gloo): one model, said once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from melisma.methylome import dataset, write

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CpGs (simulated) that are high where an A follows."""
    where = tmp_path_factory.mktemp("devices")
    rng = np.random.default_rng(0)
    bases = rng.choice(list("ACGT"), 40_000)
    at = np.flatnonzero((bases[:-2] == "C") & (bases[1:-1] == "G"))
    (where / "genome.fa").write_text(f">chr1\n{''.join(bases)}\n")
    coverage = rng.poisson(20, (len(at), 1)).astype(np.uint16)
    level = np.where(bases[at + 2] == "A", 0.9, 0.2)[:, None]
    made = dataset(
        {
            "contig": np.zeros(len(at)), "position": at, "strand": np.zeros(len(at)),
            "context": np.zeros(len(at)),
        },
        {"methylated": rng.binomial(coverage, level).astype(np.uint16), "coverage": coverage},
        {"sample": ["s"]},
        contigs=["chr1"],
        strands="merged",
    )  # fmt: skip
    write(made, where / "study.zarr")
    return where


def test_two_processes_train_one_model_and_say_it_once(folder):
    command = [
        Path(sys.executable).with_name("melisma"), "train", folder / "study.zarr", "-g",
        folder / "genome.fa", "--width", "11", "--block", "2000", "--epochs", "8", "--batch", "32",
        "--rate", "0.01", "--devices", "2", "-o", folder / "model",
    ]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written:") == 1
    assert done.stderr.count("No GPU was found") == 1
    record = json.loads((folder / "model" / "model.json").read_text())
    assert len(record["record"]["history"][0]) == 8
    scores = (folder / "model" / "scores.tsv").read_text().splitlines()
    assert len(scores) > 4
    assert not (folder / "model.part").exists()
    values = [line.split("\t") for line in scores]
    head = values[0]
    pearson = {
        row[head.index("model")]: float(row[head.index("value")])
        for row in values[1:]
        if row[head.index("metric")] == "pearson" and row[head.index("stratum")] == "all"
    }
    assert pearson["model"] > 0.6

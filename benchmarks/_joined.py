"""A study and a network joined: gliomas' CpGs, and how a model of brains reads each one's sequence.

IDH mutation to CpGs to the immune score in TCGA's gliomas; a network trained on 27,578 CpGs of
healthy occipital cortex (`_hm27`, one member here) reads the 123 bases around each CpG of the path.
The CpGs are the six that the study's own screen ranks first; nothing of the network chooses them.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch

from benchmarks import _hm27
from melisma.sequence._recipe import Recipe
from melisma.sequence.checkpoint import strand_views
from melisma.sequence.experiments import dinucleotide_shuffle
from melisma.sequence.train import train
from melisma.trace import Trace
from melisma.trace.site import shuffled_around_site, site_effects, site_trace
from melisma.trace.study import Question, read_mediators, trace_study

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "vendorable" / "tcga_glioma"
OUTCOME = "immune_score"
CPGS, EPOCHS, SHUFFLES = 6, 6, 20
QUESTION = Question("idh_status=Mutant", OUTCOME, covariates=("age_years", "gender"))


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """Units, shares and completeness of the joined trace."""
    torch.set_num_threads(1)
    if quick or not FOLDER.exists() or not _hm27.FILE.exists():
        return {"joined": {"skipped": "quick" if quick else "the data are not here"}}
    study = _study(seed)
    cpgs = [node.name for node in study.nodes if node.name.startswith("cg")]
    readings = _readings(cpgs, seed)
    joined = study
    for name, reading in readings.items():
        joined = joined.join(reading, name)
    told = joined.about["joined"]
    return {
        "joined": {
            "cpgs": len(cpgs), "nodes": len(joined.nodes), "edges": len(joined.edges),
            "study": {
                "total": study.total, "unit": study.unit, "completeness": study.completeness,
            },
            "kept": joined.completeness == study.completeness and joined.total == study.total,
            "readings": {
                name: {
                    "completeness": told[name]["completeness"],
                    "strongest": _strongest(readings[name]),
                }
                for name in cpgs
            },
        }
    }  # fmt: skip


def _study(seed: int) -> Trace:
    """The six CpGs that the screen ranks first, in one model."""
    sheet = pl.read_csv(
        FOLDER / "clinical.tsv", separator="\t", null_values=["NA", ""], infer_schema_length=None
    ).rename({"patient": "sample"})
    used = ["sample", "idh_status", OUTCOME, "age_years", "gender"]
    sheet = sheet.select(used).drop_nulls()
    mediators = read_mediators(FOLDER / "betas.tsv.gz", known=set(sheet["sample"]))
    tried = trace_study(sheet, mediators, QUESTION, drop_mediators=True, bootstraps=0, seed=seed)
    first = tried.mediators.drop_nulls("q").sort("q", "mediator")["mediator"][:CPGS].to_list()
    chosen = mediators.taken(columns=[mediators.names.index(name) for name in first])
    return trace_study(sheet, chosen, QUESTION, drop_missing=True, bootstraps=500, seed=seed).trace


def _readings(cpgs: list[str], seed: int) -> dict[str, Trace]:
    """What bases, motifs and layers carry of each CpG's level."""
    table = _hm27.read()
    made = _hm27.examples(table)
    recipe = Recipe(
        epochs=EPOCHS, rate=2e-3, weight_decay=0.05, symmetric=True, patience=EPOCHS, seed=seed
    )
    place = {name: k for k, name in enumerate(table["probe"].to_list())}
    found = {}
    with TemporaryDirectory() as out:
        model = train(made, _hm27.CONFIG, recipe, Path(out) / "model")
        for name in cpgs:
            window = made.windows.codes(np.array([place[name]]))[0]
            others = shuffled_around_site(
                window, SHUFFLES, 2, lambda part, n: dinucleotide_shuffle(part, n, seed=seed)
            )
            effects = site_effects(
                model.members, window, others, {}, temperature=model.temperature[0],
                views=strand_views if model.symmetric else None,
            )  # fmt: skip
            found[name] = site_trace(effects, about={"site": name, "model": "hm27"})
    return found


def _strongest(reading: Trace) -> dict[str, float]:
    """The stretch of bases that carries most."""
    own = [node for node in reading.nodes if node.layer == 1]
    top = max(own, key=lambda node: abs(node.about["effect"]))
    return {top.name: top.about["effect"]}

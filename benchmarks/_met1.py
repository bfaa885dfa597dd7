"""Arabidopsis met1 against wild type: a plant that cannot maintain CG methylation, one of each.

Genes carry methylation of CG alone (Tran et al. 2005; Zilberman et al. 2007); transposons carry it
in all contexts. Without a gene annotation at hand, a stretch of the wild type counts as
body-methylated where CG is methylated and neither CHG nor CHH is, and as methylated in all
contexts where all three are.
"""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from melisma.design import make_design
from melisma.differential import find_regions
from melisma.methylome import dataset

CALLS = Path(__file__).parents[2] / "shared/data/reference/arabidopsis_met1/calls.tsv.gz"
_WINDOW = 500
_CONTEXTS = {"CG": 0, "CHG": 1, "CHH": 2}
# Levels of a window that is methylated in CG, and of contexts that are not.
_METHYLATED, _ALSO, _UNMETHYLATED = 0.3, 0.1, 0.05
_FEWEST_CG = 5


def read_calls() -> pl.DataFrame:
    """pos1, strand, context, M_WT, N_WT, M_met1, N_met1, sorted."""
    with gzip.open(CALLS) as file:
        return pl.read_csv(file.read(), separator="\t").sort("pos1")


def windows(calls: pl.DataFrame) -> pl.DataFrame:
    """Windows of 500 bases by the wild type's contexts: start, end, kind."""
    level = pl.col("M_WT").sum() / pl.col("N_WT").sum()
    wide = (
        calls.filter(pl.col("N_WT") > 0)
        .group_by((pl.col("pos1") - 1) // _WINDOW * _WINDOW, "context")
        .agg(level.alias("level"), pl.len().alias("sites"))
        .pivot("context", index="pos1", values=["level", "sites"])
        .drop_nulls()
    )
    body = pl.col("level_CHG").lt(_UNMETHYLATED) & pl.col("level_CHH").lt(_UNMETHYLATED)
    everywhere = pl.col("level_CHG").gt(_ALSO) & pl.col("level_CHH").gt(_UNMETHYLATED)
    kind = pl.when(body).then(pl.lit("body")).when(everywhere).then(pl.lit("all contexts"))
    return (
        wide.filter((pl.col("level_CG") > _METHYLATED) & (pl.col("sites_CG") >= _FEWEST_CG))
        .select(start="pos1", end=pl.col("pos1") + _WINDOW, kind=kind)
        .drop_nulls()
        .sort("start")
    )


def met1() -> dict[str, Any]:
    """What is called, and the share of windows of each kind that a called CG region meets."""
    if not CALLS.exists():
        return {"missing": "arabidopsis_met1"}
    calls = read_calls()
    sheet = {"sample": ["wild", "met1"], "g": ["wt", "met1"]}
    made = dataset(
        {
            "contig": np.zeros(len(calls)),
            "position": calls["pos1"].to_numpy() - 1,
            "strand": np.where(calls["strand"].to_numpy() == "+", 1, -1),
            "context": calls["context"].replace_strict(_CONTEXTS, return_dtype=pl.Int8).to_numpy(),
        },
        {
            name: calls.select(f"{k}_WT", f"{k}_met1").to_numpy().astype(np.uint16)
            for name, k in (("methylated", "M"), ("coverage", "N"))
        },
        sheet,
        contigs=["Chr3"],
        strands="separate",
    )
    result = find_regions(made, make_design(sheet, "~ g"), "g[met1] - g[wt]", no_replicates=True)
    called = result.significant()
    cg = called.filter(pl.col("context") == "CG").sort("start")
    start, end = cg["start"].to_numpy(), cg["end"].to_numpy()
    found: dict[str, Any] = {
        "called": {name: int((called["context"] == name).sum()) for name in _CONTEXTS},
        "lower_in_met1": int((cg["delta_beta"] < 0).sum()),
        "global_shift_said": any("a global shift" in note for note in result.notes),
    }
    judged = windows(calls)
    meets = [
        bool(((start < b) & (end > a)).any()) for a, b in judged.select("start", "end").iter_rows()
    ]
    judged = judged.with_columns(pl.Series("meets", meets))
    for kind in ("body", "all contexts"):
        own = judged.filter(pl.col("kind") == kind)
        name = kind.replace(" ", "_")
        found[name] = {"windows": len(own), "called": int(own["meets"].sum())}
    return found

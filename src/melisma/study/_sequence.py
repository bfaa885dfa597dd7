"""The step that reads the sequence: a model of the marks, its scores, flanks and motifs."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from melisma.calls import ingest, read_samples
from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, open_methylome, parse_mark, single_mark
from melisma.study._config import SequenceSection, StudyConfig
from melisma.study._folder import RunFolder
from melisma.study._traces import chosen_site

if TYPE_CHECKING:
    import xarray as xr

STORE = "sequence.zarr"
MODEL = "model"
# Raised when what `read_sequence` keeps changes, so that older work is done again.
KEPT = 2
TABLES = ("sequence.scores", "sequence.flanks", "sequence.motifs", "sequence.positions")
# Blocks of one part each, as shares of training, validation and testing.
_SHARES = (0.6, 0.15, 0.25)
_EXPLAINED, _SEQLET, _FEWEST = 300, 5, 12
# Positions that the report draws, to either side of the site.
_DRAWN = 10


def check_sequence(config: StudyConfig) -> None:
    """Refuse a `[sequence]` that cannot be computed, before anything is.

    Raises
    ------
    MelismaError
        The extra `deep` is not installed, there is no genome, or a sheet without one.
    """
    section = config.sequence
    if section is None:
        return
    from melisma._extras import require

    require("deep", "torch", "lightning_fabric", "safetensors", what="[sequence] in a study")
    if section.genome is None and (section.samples is not None or config.input.genome is None):
        raise MelismaError("[sequence] needs a genome: name its FASTA under [sequence] or [input].")


def read_sequence(config: StudyConfig, folder: RunFolder) -> dict[str, Any]:
    """Train a model on a store and its genome, judge it, and say what it reads.

    Returns
    -------
    What run.json keeps; `model/` and the tables of `TABLES` are written
    """
    from melisma.genome import Genome
    from melisma.sequence.defaults import default_config, default_recipe
    from melisma.sequence.examples import StoreExamples
    from melisma.sequence.judge import judge
    from melisma.sequence.predict import sites_of_store
    from melisma.sequence.splits import by_block
    from melisma.sequence.train import train

    section = config.sequence
    assert section is not None
    path = section.genome or config.input.genome
    assert path is not None
    methylome = single_mark(_store(section, path, folder), section.mark)
    genome = Genome.open(path)
    contig = np.asarray(methylome.attrs["contigs"], dtype=str)[methylome["contig"].values]
    reach = max(section.width, *(2 * scale + 1 for scale in section.surroundings), 1)
    split = by_block(
        contig, methylome["position"].values, width=reach, size=section.block, shares=_SHARES,
        seed=section.seed,
    )  # fmt: skip
    examples = StoreExamples(
        methylome, genome, section.width, split.parts, environment=section.environment,
        scales=section.surroundings, min_coverage=section.min_coverage,
    )  # fmt: skip
    contexts = [CONTEXTS[k] for k in np.unique(methylome["context"].values)]
    symmetric = contexts == ["CG"] and methylome.attrs["strands"] == "merged"
    made = default_config(
        examples, counts="coverage" in methylome, channels=section.channels, dropout=0.2
    )
    recipe = default_recipe(
        examples, symmetric=symmetric, epochs=section.epochs, patience=section.epochs, batch=128,
        weight_decay=0.05, seed=section.seed, members=section.members,
    )  # fmt: skip
    shutil.rmtree(folder.path / MODEL, ignore_errors=True)
    record = {
        "split": dict(split.record), "contexts": contexts, "strands": methylome.attrs["strands"],
        "min_coverage": section.min_coverage,
    }  # fmt: skip
    model = train(examples, made, recipe, folder.path / MODEL, record=record)
    judged = judge(model, examples, seed=section.seed)
    folder.table("sequence.scores", judged.table)
    # Beside the model as well, as `melisma train` leaves them.
    judged.table.write_csv(folder.path / MODEL / "scores.tsv", separator="\t")
    tested = _tested(examples)
    folder.table("sequence.flanks", _flanks(model, genome, methylome, tested, contexts))
    motifs = _explained(model, genome, methylome, tested, section, folder)
    site = chosen_site(
        model, genome, sites_of_store(methylome).of(tested["rows"]), tested["measured"],
        cpg=contexts == ["CG"], seed=section.seed,
    )  # fmt: skip
    return {
        "data": None if section.samples is None else section.samples.resolve().parent.name,
        "genome": genome.name,
        "width": section.width,
        "surroundings": list(section.surroundings),
        "environment": list(section.environment),
        "members": section.members,
        "kind": judged.kind,
        "coverage": {parse_mark(mark).name: held for mark, held in judged.coverage.items()},
        "sites": {name: int(count) for name, count in split.sizes.items()},
        "samples": methylome.sizes["sample"],
        "explained": motifs,
        "site": site,
        "cpg": contexts == ["CG"],
        "block": section.block,
        "tables": [
            f"{name.partition('.')[2]}.{kind}" for name in TABLES for kind in ("parquet", "tsv")
        ],
    }


def _store(section: SequenceSection, genome: Path, folder: RunFolder) -> "xr.Dataset":
    """The study's own store, or one of the section's sheet."""
    if section.samples is None:
        return open_methylome(folder.path / "study.zarr")
    ingest(
        read_samples(section.samples), folder.path / STORE, genome=genome, merge_strands=True,
        mark=section.mark, overwrite=True,
    )  # fmt: skip
    return open_methylome(folder.path / STORE)


def _tested(examples: Any) -> dict[str, Any]:
    """The test part's sites that have enough reads, and their levels."""
    from melisma.sequence.examples import TEST
    from melisma.sequence.judge import MIN_READS

    rows, measured = [], []
    for batch in examples.batches(TEST, 4096):
        enough = batch.coverage[:, 0] >= MIN_READS
        rows.append(batch.rows[enough])
        measured.append((batch.methylated[:, 0] / np.maximum(batch.coverage[:, 0], 1))[enough])
    # A site that was seen in several environments has their mean.
    at, which = np.unique(np.concatenate(rows), return_inverse=True)
    total = np.bincount(which, np.concatenate(measured), len(at))
    return {"rows": at, "measured": total / np.bincount(which, minlength=len(at))}


def _flanks(
    model: Any, genome: Any, methylome: "xr.Dataset", tested: dict[str, Any], contexts: list[str]
) -> pl.DataFrame:
    """Levels of lone CpGs by flank; without rows where the marks are not those of CpGs."""
    from melisma.sequence.flanks import flank_levels
    from melisma.sequence.predict import sites_of_store

    if contexts != ["CG"]:
        return pl.DataFrame(schema={"flank": pl.String, "sites": pl.Int64})
    sites = sites_of_store(methylome).of(tested["rows"])
    return flank_levels(model, genome, sites, measure=lambda rows: tested["measured"][rows])


def _explained(
    model: Any, genome: Any, methylome: "xr.Dataset", tested: dict[str, Any],
    section: SequenceSection, folder: RunFolder,
) -> int:  # fmt: skip
    """Motifs and contributions by position of test sites; how many were asked about."""
    from melisma.sequence.explanation import explain
    from melisma.sequence.predict import sites_of_store

    sites = sites_of_store(methylome).of(tested["rows"])
    told = explain(
        model, genome, sites, most=_EXPLAINED, seqlet=min(_SEQLET, section.width), test=False,
        fewest=_FEWEST, seed=section.seed,
    )  # fmt: skip
    matrices = [str(motif.frequency.round(4).tolist()) for motif in told.motifs]
    folder.table(
        "sequence.motifs",
        told.table.with_columns(pl.Series("frequency", matrices, dtype=pl.String)),
    )
    by_position = told.found.by_position()
    half = by_position.shape[1] // 2
    drawn = min(half, _DRAWN)
    part = by_position[:, half - drawn : half + drawn + 1]
    folder.table(
        "sequence.positions",
        pl.DataFrame({"offset": np.arange(-drawn, drawn + 1)}).with_columns(
            *(pl.Series(letter, part[k]) for k, letter in enumerate("ACGT"))
        ),
    )
    return len(told.found.windows)

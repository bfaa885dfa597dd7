"""What a model reads, gathered: mutagenesis, seqlets, motifs with names, and their tests.

Motifs that mutagenesis finds are seen where they are. Whether they do it is asked by experiment:
each motif is put into shuffled backgrounds at its usual place, and shuffled away where it stands.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.attributions import Attributions, attributions, reads_cpgs
from melisma.sequence.checkpoint import Model
from melisma.sequence.flanks import flank_levels
from melisma.sequence.motifs import (
    Motif,
    Seqlet,
    find_motifs,
    find_seqlets,
    name_motifs,
    read_database,
    require_whole,
)
from melisma.sequence.predict import Sites, head_of
from melisma.sequence.site_experiments import (
    SCHEMA,
    Bench,
    ablate_motif,
    bench,
    marginalize_motifs,
)

_BACKGROUNDS = 200
# Windows that hold a motif, and shuffles of each, from which it is taken away.
_HOLDING, _SHUFFLES = 100, 5


@dataclass(frozen=True)
class Explanation:
    """What `explain` found.

    Attributes
    ----------
    found : mutagenesis of the windows
    seqlets : stretches that matter
    motifs : seqlets that read alike, the commonest first
    table : a row a motif: motif (from 1), consensus, name, p, e, seqlets, share (seqlets a
        window), offset, direction, contribution, effect, low, high, backgrounds
    experiments : a row a motif and experiment, as `site_experiments` makes them
    names : the nearest known motifs of each: motif, consensus, target, p, e
    flanks : levels of lone CpGs, as `flank_levels` makes them; None for other models
    """

    found: Attributions
    seqlets: list[Seqlet]
    motifs: list[Motif]
    table: pl.DataFrame
    experiments: pl.DataFrame
    names: pl.DataFrame
    flanks: pl.DataFrame | None


def explain(
    model: Model,
    genome: Genome,
    sites: Sites,
    *,
    environment: Mapping[str, Any] | None = None,
    mark: str | None = None,
    most: int | None = None,
    database: Path | str | None = None,
    seqlet: int = 6,
    fewest: int = 20,
    strands: bool = False,
    measure: Callable[[Any], Any] | None = None,
    test: bool = True,
    seed: int = 0,
) -> Explanation:
    """Mutate windows around sites and gather what matters into motifs.

    Parameters
    ----------
    environment : a value for each column that the model was told; what is left out is the mean
    most : sites that are drawn; None: all
    database : known motifs in MEME's format, to name the found ones by
    seqlet : bases of a seqlet
    fewest : seqlets of a motif
    strands : take a motif and its reverse complement as one
    measure : from rows of `sites` to measured levels, which `flanks` then has beside predicted ones
    test : put motifs to the test and look at lone CpGs, which takes as long as mutagenesis

    Raises
    ------
    MelismaError
        As `attributions`, `read_database` and `find_seqlets`.
    """
    size = 0
    if database is not None:
        known = read_database(database)
        require_whole(known, database)
        size = len(known)
    width = model.config.width
    if seqlet < 3 or seqlet > width:
        raise MelismaError(
            f"A seqlet of {seqlet} bases does not fit: choose 3 to {width} for this model."
        )
    found = attributions(
        model, genome, sites, environment=environment, mark=mark, most=most, seed=seed
    )
    with progress.stage("Gathering motifs", 1) as advance:
        contribution = found.contribution
        seqlets = find_seqlets(contribution, width=seqlet, skip=found.fixed, seed=seed)
        motifs = find_motifs(
            found.windows, contribution, seqlets, fewest=fewest, strands=strands,
            flank=min(2, (width - seqlet) // 2),
        )  # fmt: skip
        advance(1)
    names = _named(motifs, database, size)
    experiments = pl.DataFrame(schema=SCHEMA)
    if test and motifs:
        of = bench(model, genome, sites, environment=environment, mark=mark, seed=seed)
        experiments = _tested(of, motifs, seed)
    table = _table(found, motifs, names, experiments)
    flanks = None
    if test and reads_cpgs(model, head_of(model, mark)[1]):
        flanks = flank_levels(
            model, genome, sites, environment=environment, mark=mark, measure=measure, seed=seed
        )
    return Explanation(found, seqlets, motifs, table, experiments, names, flanks)


def _named(motifs: list[Motif], database: Path | str | None, size: int) -> pl.DataFrame:
    types = {
        "motif": pl.Int64, "consensus": pl.String, "target": pl.String, "p": pl.Float64,
        "e": pl.Float64,
    }  # fmt: skip
    if database is None or not motifs:
        return pl.DataFrame(schema=types)
    named = name_motifs(motifs, database)
    # By chance, this many motifs of the database would look as close.
    return named.with_columns(pl.col("motif") + 1, (pl.col("p") * size).alias("e"))


def _tested(of: Bench, motifs: list[Motif], seed: int) -> pl.DataFrame:
    """Every motif put in at its usual place, and shuffled away where it stands."""
    centre = of.width // 2
    inside: dict[str, str] = {}
    places: dict[str, list[int]] = {}
    for k, motif in enumerate(motifs, 1):
        text, offset = spared(motif, of)
        if not set(text) - {"N"}:
            continue
        last = of.width - len(text) - centre
        inside[str(k)], places[str(k)] = text, [min(max(offset, -centre), last)]
    put = marginalize_motifs(of, inside, places, n=_BACKGROUNDS, seed=seed)
    taken = []
    for name, text in inside.items():
        offset = places[name][0]
        # A motif that holds the site is one at that place alone.
        over = offset < len(of.site) and offset + len(text) > 0
        taken.append(
            ablate_motif(
                of, name, text, offset=offset if over else None, n=_HOLDING, shuffles=_SHUFFLES,
                seed=seed,
            )
        )  # fmt: skip
    return pl.concat([put, *taken])


def spared(motif: Motif, of: Bench) -> tuple[str, int]:
    """A motif's consensus with N where it lies over the site, which stays, and its offset."""
    centre = of.width // 2
    text = "".join(
        "N" if centre + motif.offset + j in of.site else letter
        for j, letter in enumerate(motif.consensus)
    )
    return text, motif.offset


def _table(
    found: Attributions, motifs: list[Motif], names: pl.DataFrame, experiments: pl.DataFrame
) -> pl.DataFrame:
    types = {
        "motif": pl.Int64, "consensus": pl.String, "seqlets": pl.Int64, "share": pl.Float64,
        "offset": pl.Int64, "direction": pl.String, "contribution": pl.Float64,
    }  # fmt: skip
    rows = [
        (
            k, motif.consensus, motif.seqlets, motif.seqlets / len(found.windows), motif.offset,
            "raises" if motif.positive else "lowers", float(np.sum(motif.importance)),
        )
        for k, motif in enumerate(motifs, 1)
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=types, orient="row")
    best = names.group_by("motif", maintain_order=True).first()
    put = experiments.filter(pl.col("experiment") == "marginalize").select(
        pl.col("name").cast(pl.Int64).alias("motif"), "effect", "low", "high",
        pl.col("n").alias("backgrounds"),
    )  # fmt: skip
    return (
        table.join(best.select("motif", "target", "p", "e"), on="motif", how="left")
        .rename({"target": "name"})
        .join(put, on="motif", how="left")
        .select(
            "motif", "consensus", "name", "p", "e", "seqlets", "share", "offset", "direction",
            "contribution", "effect", "low", "high", "backgrounds",
        )
    )  # fmt: skip


__all__ = ["Explanation", "explain", "spared"]

"""What sites and regions lie in and near: genes, CpG islands, any BED; and whether beyond chance.

Coordinates are 0-based and half open. A place in several features is said to be in the first of
`LOCATIONS`.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from melisma._enrichment import enrichment
from melisma._overlaps import nearest, overlap_any, overlap_pairs
from melisma.bed import read_bed
from melisma.errors import MelismaError
from melisma.genes import Genes
from melisma.islands import SHELF, SHORE, shelves, shores

__all__ = [
    "ISLAND_RELATIONS",
    "LOCATIONS",
    "annotate",
    "enrichment",
    "feature_sets",
    "read_places",
]

LOCATIONS = (
    "promoter",
    "five_prime_UTR",
    "CDS",
    "three_prime_UTR",
    "exon",
    "intron",
    "intergenic",
)
ISLAND_RELATIONS = ("island", "shore", "shelf", "open sea")
_MOST_NAMES = 5


def read_places(path: Path | str) -> pl.DataFrame:
    """Read a table of sites or regions: what `melisma sites` and `regions` write, or any BED.

    Parameters
    ----------
    path : .tsv, .csv or .parquet with contig and either start and end, or position; else BED

    Returns
    -------
    The file's columns, with start and end (0-based, half open) among them

    Raises
    ------
    MelismaError
        The file is missing, or lacks these columns.
    """
    path = Path(path)
    name = path.name.lower().removesuffix(".gz")
    if not path.is_file():
        raise MelismaError(f"There is no table at {path}.")
    if not name.endswith((".tsv", ".csv", ".parquet")):
        return read_bed(path)
    try:
        if name.endswith(".parquet"):
            table = pl.read_parquet(path)
        else:
            separator = "\t" if name.endswith(".tsv") else ","
            table = pl.read_csv(path, separator=separator, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise MelismaError(f"{path} cannot be read as a table: {reason}.") from error
    return _with_ends(table, str(path))


def _with_ends(table: pl.DataFrame, what: str) -> pl.DataFrame:
    """The table with start and end; a site is one base."""
    columns = set(table.columns)
    if "contig" not in columns or not ({"start", "end"} <= columns or "position" in columns):
        raise MelismaError(
            f"{what} has the columns {', '.join(table.columns[:8])}: places need contig, start and "
            "end, or contig and position (0-based)."
        )
    if not {"start", "end"} <= columns:
        position = pl.col("position")
        if table["position"].null_count() == len(table):
            position = position.cast(pl.Int64)
        table = table.with_columns(start=position, end=position + 1)
    for name in ("start", "end"):
        # A column without any value has no type in text.
        if not table[name].dtype.is_integer() and table[name].null_count() < len(table):
            raise MelismaError(f"{what}: the column {name} should hold whole numbers.")
    if len(table) and table["start"].null_count() == len(table):
        raise MelismaError(
            f"{what} has no positions: give probes theirs by --manifest at `melisma ingest`."
        )
    return table.with_columns(
        pl.col("start", "end").cast(pl.Int64), pl.col("contig").cast(pl.String)
    )


def annotate(
    places: pl.DataFrame,
    *,
    genes: Genes | None = None,
    islands: pl.DataFrame | None = None,
    beds: Mapping[str, pl.DataFrame] | None = None,
    upstream: int = 1_000,
    downstream: int = 0,
) -> pl.DataFrame:
    """What each place lies in, and what is nearest.

    Parameters
    ----------
    places : contig, and start and end or position (0-based); any other columns are kept, and so
        are rows without a position, which get nulls
    genes : of `read_genes`
    islands : contig, start, end, name: of `cpg_islands` or `read_bed`
    beds : other interval tables by name
    upstream, downstream : bases before and after a transcription start that are its promoter

    Returns
    -------
    The places' columns, and

    - with genes: location (the first that applies of `LOCATIONS`), genes (names of those whose
      body or promoter it overlaps), nearest_gene, nearest_name, tss_distance (bases from the
      nearest transcription start of any transcript, negative upstream of it);
    - with islands: island_relation (island, shore to 2 kb, shelf to 4 kb, open sea), island,
      island_distance;
    - for each BED: its name (what it overlaps, or null) and name_distance.

    Distances are null where the contig has no such feature.

    Raises
    ------
    MelismaError
        Nothing to annotate with, a column is there already, or no contig is shared.
    """
    whole = _with_ends(places, "The table of places").with_row_index("_row")
    table = whole.filter(pl.col("contig").is_not_null() & pl.col("start").is_not_null())
    spans = table.select("contig", "start", "end")
    added: dict[str, pl.Series] = {}
    if genes is not None:
        _check_contigs(spans, genes.genes, genes.source)
        added |= _gene_columns(spans, genes, upstream, downstream)
    if islands is not None:
        _check_contigs(spans, islands, "the islands' table")
        added |= _island_columns(spans, islands)
    for name, intervals in (beds or {}).items():
        _check_contigs(spans, intervals, name)
        near = nearest(spans, intervals)
        added[name] = _names(overlap_pairs(spans, intervals), intervals["name"], len(spans))
        added[f"{name}_distance"] = _known(np.abs(near.distance), near.row >= 0)
    if not added:
        raise MelismaError("There is nothing to annotate with: give genes, islands or a BED file.")
    taken = [name for name in added if name in table.columns]
    if taken:
        raise MelismaError(
            f"The table has the columns {', '.join(taken)} already: it was annotated before, or a "
            "BED file needs another name."
        )
    unplaced = whole.join(table.select("_row"), "_row", "anti")
    both = [table.with_columns(**added), unplaced]
    return pl.concat(both, how="diagonal").sort("_row").drop("_row")


def feature_sets(
    genes: Genes | None,
    islands: pl.DataFrame | None,
    beds: Mapping[str, pl.DataFrame],
    upstream: int = 1_000,
    downstream: int = 0,
) -> dict[str, pl.DataFrame]:
    """The intervals that `enrichment` compares, by name: promoters, exons, introns, islands, …

    Unlike a place's location they do not exclude each other: an exon may be a promoter too.
    """
    sets: dict[str, pl.DataFrame] = {}
    if genes is not None:
        if upstream + downstream:
            sets["promoter"] = genes.promoters(upstream, downstream, of="transcripts")
        sets["exon"] = genes.features.filter(pl.col("feature") == "exon")
        sets["intron"] = genes.introns()
        sets["gene"] = genes.genes
    if islands is not None:
        sets |= {"island": islands, "shore": shores(islands), "shelf": shelves(islands)}
    return sets | dict(beds)


def _check_contigs(places: pl.DataFrame, features: pl.DataFrame, what: str) -> None:
    mine, theirs = places["contig"].unique(), features["contig"].unique()
    if len(mine) and not mine.is_in(theirs.implode()).any():
        raise MelismaError(
            f"{what} has the contigs {', '.join(theirs.sort().head(3))} and the places have "
            f"{', '.join(mine.sort().head(3))}: none is shared."
        )


def _known(values: np.ndarray, there: np.ndarray) -> pl.Series:
    return pl.select(pl.when(pl.Series(there)).then(pl.Series(values))).to_series()


def _names(pairs: pl.DataFrame, names: pl.Series, places: int) -> pl.Series:
    """The distinct names of each place's intervals in one text, null where it has none."""
    each = (
        pairs.with_columns(name=names.gather(pairs["interval"]))
        .group_by("place", maintain_order=True)
        .agg(pl.col("name").unique(maintain_order=True))
    )
    count, first = pl.col("name").list.len(), pl.col("name").list.head(_MOST_NAMES)
    told = each.select(
        "place",
        text=first.list.join(", ")
        + pl.when(count > _MOST_NAMES)
        .then(pl.format(" and {} more", count.cast(pl.Int64) - _MOST_NAMES))
        .otherwise(pl.lit("")),
    )
    every = pl.select(place=pl.int_range(places, dtype=pl.UInt32))
    return every.join(told, "place", "left", maintain_order="left")["text"]


def _gene_columns(
    spans: pl.DataFrame, genes: Genes, upstream: int, downstream: int
) -> dict[str, pl.Series]:
    columns = ["contig", "start", "end", "name"]
    starts = genes.transcripts.filter(pl.col("tss").is_not_null())
    promoters = (
        genes.promoters(upstream, downstream, of="transcripts")
        if upstream + downstream and len(starts)
        else genes.genes.head(0)
    )
    names = genes.genes.unique("gene", keep="first").select("gene", gene_name="name")
    # A transcript's promoter goes by its gene's name.
    promoters = promoters.join(names, "gene", "left").with_columns(
        name=pl.coalesce("gene_name", "name")
    ) if len(promoters) else promoters  # fmt: skip
    inside = {
        "promoter": promoters,
        "intron": genes.genes,
        **{
            feature: genes.features.filter(pl.col("feature") == feature)
            for feature in ("five_prime_UTR", "CDS", "three_prime_UTR", "exon")
        },
    }
    location = np.full(len(spans), len(LOCATIONS) - 1)
    for k in reversed(range(len(LOCATIONS) - 1)):
        location[overlap_any(spans, inside[LOCATIONS[k]])] = k
    around = pl.concat([genes.genes.select(columns), promoters.select(columns)])
    point = starts.select("contig", "strand", "gene", start="tss", end=pl.col("tss") + 1)
    near = nearest(spans, point)
    there = near.row >= 0
    rows = pl.Series(np.maximum(near.row, 0))
    if len(point):
        gene = point["gene"].gather(rows)
        # nearest() counts from the place to the start; biology counts from the start, along it.
        signed = -near.distance * point["strand"].gather(rows).to_numpy()
    else:
        gene, signed = pl.Series([None] * len(spans), dtype=pl.String), near.distance
    chosen = pl.select(gene=pl.when(pl.Series(there)).then(gene)).join(
        names, "gene", "left", maintain_order="left"
    )
    return {
        "location": pl.Series(LOCATIONS, dtype=pl.String).gather(location),
        "genes": _names(overlap_pairs(spans, around), around["name"], len(spans)),
        "nearest_gene": chosen["gene"],
        "nearest_name": chosen["gene_name"],
        "tss_distance": _known(signed, there),
    }


def _island_columns(spans: pl.DataFrame, islands: pl.DataFrame) -> dict[str, pl.Series]:
    near = nearest(spans, islands)
    # A base that touches an island is 1 away: the shore's first 2,000 bases are 1 to 2,000 away.
    away = np.where(near.row >= 0, np.abs(near.distance), SHELF + 1)
    relation = np.searchsorted([0, SHORE, SHELF], away, side="left")
    name = islands["name"].gather(pl.Series(np.maximum(near.row, 0))) if len(islands) else None
    there = near.row >= 0
    return {
        "island_relation": pl.Series(ISLAND_RELATIONS, dtype=pl.String).gather(relation),
        "island": pl.select(pl.when(pl.Series(there & (away <= SHELF))).then(name)).to_series(),
        "island_distance": _known(np.abs(near.distance), there),
    }

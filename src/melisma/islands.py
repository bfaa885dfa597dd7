"""CpG islands from sequence, and the shores and shelves around islands.

Two published rules. Gardiner-Garden and Frommer (1987): 200 bases or more along which a 100-base
moving average has GC of at least .5 and observed over expected CpGs of at least .6. Takai and
Jones (2002): 500 bases or more with .55 and .65, which leaves out most Alu repeats.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import _contigs, _island_kernels, progress
from melisma.errors import MelismaError
from melisma.genome import Bases, Genome

SHORE = 2_000
SHELF = 4_000


class Rule(NamedTuple):
    """What makes a stretch of sequence an island.

    Attributes
    ----------
    window : bases that are judged at a time
    min_length : bases of an island
    min_gc, min_observed_expected : of every window, and of the island
    min_cpgs : CpGs of every window, against stretches that are "mathematical" islands only
    gap : islands closer than this are joined, where what is joined still fits; None: windows slide
        base by base and are not joined
    """

    window: int
    min_length: int
    min_gc: float
    min_observed_expected: float
    min_cpgs: int = 0
    gap: int | None = None


RULES: Mapping[str, Rule] = {
    "takai-jones": Rule(200, 500, 0.55, 0.65, min_cpgs=7, gap=100),
    "gardiner-garden": Rule(100, 200, 0.5, 0.6),
}


def cpg_islands(
    genome: Genome, rule: str | Rule = "takai-jones", *, contigs: Iterable[str] | None = None
) -> pl.DataFrame:
    """Where a genome's CpG islands are, from its sequence alone.

    Upper and lower case are the same. A base that is not A, C, G or T counts in an island's length
    and as no G or C, and never stands at its end.

    Parameters
    ----------
    genome : the sequence
    rule : "takai-jones" (Takai & Jones 2002), "gardiner-garden" (Gardiner-Garden & Frommer 1987),
        or a `Rule` of your own
    contigs : only these; another file's names (`1` for `chr1`) are understood

    Returns
    -------
    A row an island, in the genome's order: contig, start and end (0-based, half open), strand (0),
    name, length, cpgs, gc (share of the length), observed_expected (CpGs × known bases / (C × G))

    Raises
    ------
    MelismaError
        There is no such rule or contig.

    References
    ----------
    Gardiner-Garden M, Frommer M. J Mol Biol 196:261 (1987).
    Takai D, Jones PA. PNAS 99:3740 (2002).

    Examples
    --------
    >>> bases = np.frombuffer(b"AT" * 500 + b"ACG" * 200 + b"AT" * 500, np.uint8)
    >>> toy = Genome("toy", {"chr1": len(bases)}, lambda _, start, end: bases[start:end])
    >>> cpg_islands(toy).select("contig", "start", "end", "cpgs").row(0)
    ('chr1', 965, 1636, 200)
    """
    if isinstance(rule, str):
        if rule not in RULES:
            raise MelismaError(f"There is no rule {rule!r} for islands: use {' or '.join(RULES)}.")
        rule = RULES[rule]
    wanted = list(genome.contigs) if contigs is None else _resolved(genome, contigs)
    tables: list[pl.DataFrame] = []
    total = sum(genome.lengths[contig] for contig in wanted)
    with progress.stage("CpG islands", total) as advance:
        for contig in wanted:
            tables.append(_table(contig, *islands_of(genome.bases(contig), rule)))
            advance(genome.lengths[contig])
    return pl.concat([_table("", *_nothing()), *tables])


def _resolved(genome: Genome, contigs: Iterable[str]) -> list[str]:
    """The genome's names of some contigs, each once and in the genome's order."""
    renamed: dict[str, str] = {}
    for contig in dict.fromkeys(contigs):
        renamed[contig] = _contigs.find(contig, genome.contigs) or contig
        genome.length(renamed[contig])
    said = {old: new for old, new in renamed.items() if old != new}
    if said:
        progress.note(f"Contigs as genome {genome.name} names them: {_contigs.describe(said)}.")
    chosen = set(renamed.values())
    return [contig for contig in genome.contigs if contig in chosen]


Intervals = npt.NDArray[np.int64]


def islands_of(bases: Bases, rule: Rule) -> tuple[Intervals, Intervals]:
    """One contig's islands.

    Returns
    -------
    int64 (n, 2) start and end; int64 (n, 4) C, G, CpG and known bases of each
    """
    gc, oe = float(rule.min_gc), float(rule.min_observed_expected)
    if rule.gap is None:
        found = _island_kernels.moving_average(bases, rule.window, rule.min_length, gc, oe)
    else:
        found = _island_kernels.jumping_windows(bases, rule.window, gc, oe, rule.min_cpgs, rule.gap)
    kept: list[tuple[int, int]] = []
    counts: list[Intervals] = []
    for start, end in found[0][: found[1]].tolist():
        own = _island_kernels.count(bases, start, end)
        long_enough = end - start >= rule.min_length
        if long_enough and _island_kernels.fits(own, end - start, gc, oe, rule.min_cpgs):
            kept.append((start, end))
            counts.append(own)
    if not kept:
        return _nothing()
    return np.array(kept, np.int64), np.array(counts, np.int64)


def _nothing() -> tuple[Intervals, Intervals]:
    return np.empty((0, 2), np.int64), np.empty((0, 4), np.int64)


def _table(contig: str, intervals: Intervals, counts: Intervals) -> pl.DataFrame:
    length = intervals[:, 1] - intervals[:, 0]
    c, g, cpgs, known = counts.T
    return pl.DataFrame(
        {
            "start": intervals[:, 0],
            "end": intervals[:, 1],
            "length": length,
            "cpgs": cpgs,
            "gc": (c + g) / length,
            "observed_expected": cpgs * known / (c * g),
        }
    ).select(
        pl.lit(contig).alias("contig"),
        "start",
        "end",
        pl.lit(0, pl.Int8).alias("strand"),
        pl.format("{}:{}-{}", pl.lit(contig), "start", "end").alias("name"),
        "length",
        "cpgs",
        "gc",
        "observed_expected",
    )


def shores(islands: pl.DataFrame, lengths: Mapping[str, int] | None = None) -> pl.DataFrame:
    """The 2 kb on both sides of each island.

    A base belongs to the nearest island, so that no shore lies in an island or in another shore;
    islands that overlap are one.

    Parameters
    ----------
    islands : contig, start, end, and name where the shores are to be named
    lengths : bases of each contig, where shores end with it (`Genome.lengths`)

    Returns
    -------
    contig, start, end, strand (0), name (the island's), side ("before" or "after" the island)

    Examples
    --------
    >>> two = pl.DataFrame({"contig": ["chr1"] * 2, "start": [500, 4000], "end": [1000, 5000]})
    >>> shores(two, {"chr1": 5600}).select("start", "end", "side").rows()
    [(0, 500, 'before'), (1000, 2500, 'after'), (2500, 4000, 'before'), (5000, 5600, 'after')]
    """
    return _around(islands, lengths, 0, SHORE)


def shelves(islands: pl.DataFrame, lengths: Mapping[str, int] | None = None) -> pl.DataFrame:
    """The 2 kb beyond the shores, 2 to 4 kb from the nearest island; otherwise as `shores`."""
    return _around(islands, lengths, SHORE, SHELF)


def _around(
    islands: pl.DataFrame, lengths: Mapping[str, int] | None, near: int, far: int
) -> pl.DataFrame:
    """What is from `near` to `far` bases away from the nearest island."""
    merged = merge_overlapping(islands)
    start, end = pl.col("start"), pl.col("end")
    contig_end = (
        pl.lit(None, pl.Int64)
        if lengths is None
        else pl.col("contig").replace_strict(dict(lengths), default=None, return_dtype=pl.Int64)
    )
    last, following = end.shift(1).over("contig"), start.shift(-1).over("contig")
    merged = merged.with_columns(
        # The middle of the gap to the neighbour; a contig's ends where there is none.
        from_=pl.when(last.is_null()).then(0).otherwise((last + start) // 2),
        to_=pl.when(following.is_null()).then(contig_end).otherwise((end + following) // 2),
    )
    before = merged.with_columns(
        start=pl.max_horizontal("from_", start - far),
        end=pl.max_horizontal("from_", start - near),
        side=pl.lit("before"),
    )
    after = merged.with_columns(
        start=pl.min_horizontal("to_", end + near),
        end=pl.min_horizontal("to_", end + far),
        side=pl.lit("after"),
    )
    return (
        pl.concat([before, after])
        .filter(start < end)
        .sort("order", "start", maintain_order=True)
        .select("contig", "start", "end", pl.lit(0, pl.Int8).alias("strand"), "name", "side")
    )


def merge_overlapping(intervals: pl.DataFrame) -> pl.DataFrame:
    """Intervals that overlap or touch made one, named for the first; sorted within each contig.

    intervals : contig, start, end, and name where there are names

    Returns
    -------
    contig, start, end, strand (0), name, and order: the contig's place of first appearance
    """
    first = {name: k for k, name in enumerate(intervals["contig"].unique(maintain_order=True))}
    if "name" not in intervals.columns:
        intervals = intervals.with_columns(
            name=pl.format("{}:{}-{}", "contig", "start", "end"),
        )
    ordered = intervals.select(
        "contig",
        pl.col("start", "end").cast(pl.Int64),
        "name",
        order=pl.col("contig").replace_strict(first, return_dtype=pl.Int64),
    ).sort("order", "start", "end", maintain_order=True)
    reach = pl.col("end").cum_max().shift(1).over("contig")
    group = (reach.is_null() | (pl.col("start") > reach)).cum_sum()
    return (
        ordered.with_columns(group=group)
        .group_by("group", maintain_order=True)
        .agg(
            pl.col("contig").first(),
            pl.col("start").min(),
            pl.col("end").max(),
            pl.lit(0, pl.Int8).alias("strand").first(),
            pl.col("name").first(),
            pl.col("order").first(),
        )
        .drop("group")
    )

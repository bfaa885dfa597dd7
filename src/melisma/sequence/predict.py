"""Levels of a mark where nobody measured them: at sites, over contigs, in any environment."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts, strand_of_base
from melisma.methylome import CONTEXTS, contig_offsets
from melisma.sequence._neighbour_kernels import neighbours as nearest
from melisma.sequence.checkpoint import Model
from melisma.sequence.windows import BASE_OF_MARK, GenomeWindows

if TYPE_CHECKING:
    import xarray as xr

# Sites a step; their windows are all that is in memory besides the table.
_STEP = 65_536


class Sites(NamedTuple):
    """Where to predict: contigs, and (n,) arrays sorted by contig and position."""

    contigs: tuple[str, ...]
    contig: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]
    strand: npt.NDArray[np.int8]

    def of(self, rows: npt.NDArray[Any]) -> "Sites":
        """The sites at some rows, or where a mask is true."""
        return Sites(self.contigs, self.contig[rows], self.position[rows], self.strand[rows])


def sites_of_contigs(
    genome: Genome, model: Model, contigs: Sequence[str], *, mark: str | None = None
) -> Sites:
    """Every site of the mark on whole contigs: the contexts and strands that the model learned.

    Parameters
    ----------
    mark : a head's code; None for the model's first

    Raises
    ------
    MelismaError
        A contig is not in the genome.
    """
    base = BASE_OF_MARK[head_of(model, mark)[1]]
    wanted = set(model.record.get("contexts", CONTEXTS))
    merged = model.record.get("strands") == "merged"
    found: list[tuple[npt.NDArray[Any], ...]] = []
    for k, name in enumerate(contigs):
        bases = genome.bases(name)
        every = np.arange(len(bases))
        strand = strand_of_base(bases, every, base)
        keep = (strand == 1) if merged else (strand != 0)
        position, strand = every[keep], strand[keep]
        if base == "C":
            of = contexts(bases, position, strand)
            inside = np.isin(of, [CONTEXTS.index(name) for name in wanted])
            position, strand = position[inside], strand[inside]
        found.append((np.full(len(position), k), position, strand.astype(np.int8)))
    columns = (np.concatenate(column) for column in zip(*found, strict=True))
    return Sites(tuple(contigs), *columns)


def sites_of_intervals(intervals: pl.DataFrame, every: Sites) -> Sites:
    """The sites that lie in any of some intervals: contig, start, end (0-based, half open)."""
    offsets = contig_offsets(every.contig, len(every.contigs))
    keep = np.zeros(len(every.position), bool)
    for name, start, end in intervals.select("contig", "start", "end").iter_rows():
        if name not in every.contigs:
            continue
        k = every.contigs.index(name)
        own = every.position[offsets[k] : offsets[k + 1]]
        first, last = np.searchsorted(own, [start, end])
        keep[offsets[k] + first : offsets[k] + last] = True
    return every.of(keep)


def sites_of_store(methylome: "xr.Dataset") -> Sites:
    """A methylome's own sites."""
    return Sites(
        tuple(methylome.attrs["contigs"]),
        np.asarray(methylome["contig"].values, np.int64),
        np.asarray(methylome["position"].values, np.int64),
        np.asarray(methylome["strand"].values, np.int8),
    )


def windows_of_sites(
    model: Model, genome: Genome, sites: Sites, *, mark: str | None = None
) -> tuple[GenomeWindows, int, str]:
    """The windows that a model reads around sites, the head that answers, and its mark's code.

    Strands that are merged or unknown are read from the base.

    Raises
    ------
    MelismaError
        The model does not predict the mark, or the sites do not lie in the genome.
    """
    head, code = head_of(model, mark)
    windows = GenomeWindows(
        genome, sites.contigs, sites.contig, sites.position, strands_of(genome, sites, code),
        model.config.width, model.config.surroundings,
    )  # fmt: skip
    return windows, head, code


def predict_sites(
    model: Model,
    genome: Genome,
    sites: Sites,
    *,
    environment: Mapping[str, Any] | None = None,
    mark: str | None = None,
    known: npt.NDArray[np.float32] | None = None,
    allow_unseen: bool = False,
) -> pl.DataFrame:
    """A mark's level at sites in one environment.

    Parameters
    ----------
    environment : a value for each column that the model was told; what is left out is the mean
    mark : a head's code; None for the model's first
    known : float32 (n,) measured levels of the same sites, NaN unknown, from which the marks
        around each site are taken; None: sequence alone
    allow_unseen : answer a level that training never saw by the mean, with a flag

    Returns
    -------
    contig, position, strand, mark, level, spread, low, high, unseen (what of the environment
    training never saw; else null)

    Raises
    ------
    MelismaError
        A column or level of the environment is not known, or the sites do not lie in the genome.
    """
    encoded = model.environment.encode_one(environment or {}, allow_unseen=allow_unseen)
    windows, head, code = windows_of_sites(model, genome, sites, mark=mark)
    each_side = model.config.neighbours // 2
    columns = np.full((4, len(sites.position)), np.nan, np.float32)
    with progress.stage("Predicting", len(sites.position)) as advance:
        for start in range(0, len(sites.position), _STEP):
            rows = np.arange(start, min(start + _STEP, len(sites.position)))
            around = None
            if known is not None and each_side:
                around = nearest(rows, sites.contig, sites.position, known, each_side)
            told = model.predict(
                windows.codes(rows), encoded.values, around, windows.surroundings(rows)
            )
            columns[:, rows] = [column[:, head] for column in told]
            advance(len(rows))
    level, spread, low, high = columns
    names = pl.Series(sites.contigs, dtype=pl.String).gather(sites.contig)
    unseen = encoded.unseen[0] or None
    return pl.DataFrame(
        {
            "contig": names,
            "position": sites.position,
            "strand": pl.Series(sites.strand.astype(np.int64)).replace_strict(
                {1: "+", -1: "-", 0: "."}, return_dtype=pl.String
            ),
            "mark": pl.repeat(code, len(level), eager=True, dtype=pl.String),
            "level": level, "spread": spread, "low": low, "high": high,
        }
    ).with_columns(
        pl.col("low", "high").fill_nan(None), pl.lit(unseen, dtype=pl.String).alias("unseen")
    )  # fmt: skip


def head_of(model: Model, mark: str | None) -> tuple[int, str]:
    """The head of a mark and its code; the model's first where none is named."""
    heads = model.config.heads
    if mark is None:
        return 0, heads[0]
    from melisma.methylome import parse_mark

    code = parse_mark(mark).code
    if code not in heads:
        raise MelismaError(f"The model predicts {', '.join(heads)}, not {mark!r}.")
    return heads.index(code), code


def strands_of(genome: Genome, sites: Sites, code: str) -> npt.NDArray[np.int8]:
    """Strands, those of merged or unknown ones read from the base."""
    strand = sites.strand.copy()
    named = genome.named_as(sites.contigs)
    for k in np.unique(sites.contig):
        here = np.flatnonzero((sites.contig == k) & (sites.strand == 0))
        if len(here):
            bases = named.bases(sites.contigs[k])
            inside = here[sites.position[here] < len(bases)]
            strand[inside] = strand_of_base(bases, sites.position[inside], BASE_OF_MARK[code])
    return strand


def as_bedmethyl(table: pl.DataFrame, reads: int = 100) -> pl.DataFrame:
    """A prediction as the 18 columns of bedMethyl, levels as whole reads of `reads`.

    The counts are not reads that anybody saw: readers of bedMethyl want counts.
    """
    marked = (pl.col("level") * reads).round().cast(pl.Int64)
    zero = pl.lit(0, pl.Int64)
    start, end = pl.col("position"), pl.col("position") + 1
    return table.select(
        pl.col("contig"), start.alias("start"), end.alias("end"), pl.col("mark"),
        pl.lit(reads).alias("score"), pl.col("strand"),
        start.alias("thick_start"), end.alias("thick_end"), pl.lit("255,0,0").alias("colour"),
        pl.lit(reads).alias("valid"), (pl.col("level") * 100).round(2).alias("percent"),
        marked.alias("modified"), (reads - marked).alias("canonical"),
        *(zero.alias(name) for name in ("other", "delete", "fail", "diff", "nocall")),
    )  # fmt: skip


__all__ = [
    "Sites", "as_bedmethyl", "head_of", "predict_sites", "sites_of_contigs", "sites_of_intervals",
    "sites_of_store", "strands_of", "windows_of_sites",
]  # fmt: skip

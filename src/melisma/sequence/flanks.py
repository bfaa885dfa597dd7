"""Levels of lone CpGs by the bases beside them, where cell divisions leave their trace.

Methylation is lost with cell divisions in late-replicating domains, first at CpGs without another
CpG near whose neighbours are A or T (solo-WCGW; Zhou et al. 2018). A model that has learned it
predicts lower levels there.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import t as student

from melisma.genome import Bases, Genome
from melisma.sequence.checkpoint import Model
from melisma.sequence.predict import Sites, head_of, predict_sites, strands_of

Floats = npt.NDArray[np.floating[Any]]

# No other CpG within so many bases makes a CpG a lone one.
ALONE = 35
# Both neighbours C or G, one of them, none.
CLASSES = ("SCGS", "mixed", "WCGW")
NOT_LONE = -1
# Neighbouring sites share a domain, so that an interval counts stretches of so many bases.
_STRETCH = 100_000
# Lone CpGs of a class whose level is asked for.
_MOST = 2000


def flank_class(bases: Bases, position: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int8]:
    """The class of CpGs: index into `CLASSES`, -1 where another CpG is within 35 bases.

    Parameters
    ----------
    bases : uint8 (length,), upper-case ASCII of one contig
    position : integers (n,), the C of each CpG on the plus strand

    Returns
    -------
    int8 (n,); -1 too for what is no CpG, stands beside an N or at an end of the contig

    Examples
    --------
    >>> text = b"A" * 40 + b"ACGT" + b"A" * 80 + b"CCGT" + b"A" * 40
    >>> flank_class(np.frombuffer(text, np.uint8), np.array([41, 125])).tolist()
    [2, 1]
    """
    cpg = np.flatnonzero((bases[:-1] == ord("C")) & (bases[1:] == ord("G")))
    at = np.asarray(position, np.int64)
    found = np.full(len(at), NOT_LONE, np.int8)
    near = np.searchsorted(cpg, at + ALONE, side="right") - np.searchsorted(cpg, at - ALONE)
    inside = (at > 0) & (at + 2 < len(bases))
    place = np.clip(at, 1, max(len(bases) - 3, 1))
    own = (bases[place] == ord("C")) & (bases[place + 1] == ord("G"))
    sides = np.stack([bases[place - 1], bases[place + 2]])
    known = np.isin(sides, [ord(base) for base in "ACGT"]).all(axis=0)
    weak = np.isin(sides, [ord("A"), ord("T")]).sum(axis=0)
    lone = inside & own & known & (near == 1)
    found[lone] = weak[lone]
    return found


def flank_levels(
    model: Model,
    genome: Genome,
    sites: Sites,
    *,
    environment: Mapping[str, Any] | None = None,
    mark: str | None = None,
    measure: Callable[[npt.NDArray[np.int64]], Floats] | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Mean levels of lone CpGs by the bases beside them, predicted and, where known, measured.

    Parameters
    ----------
    sites : CpGs, at most 2,000 of a class are drawn
    measure : from rows of `sites` to their measured levels, NaN where not known

    Returns
    -------
    flank (WCGW, mixed, SCGS), sites, predicted, predicted_low, predicted_high, measured_sites,
    measured, measured_low, measured_high; null where there is nothing. Intervals are 95%, by
    stretches of 100,000 bases, whose sites are not independent.
    """
    strand = strands_of(genome, sites, head_of(model, mark)[1])
    start = np.where(strand < 0, sites.position - 1, sites.position)
    classes = np.full(len(start), NOT_LONE, np.int8)
    named = genome.named_as(sites.contigs)
    for k in np.unique(sites.contig):
        here = np.flatnonzero(sites.contig == k)
        classes[here] = flank_class(named.bases(sites.contigs[k]), start[here])
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(np.flatnonzero(classes == k))[:_MOST] for k in range(len(CLASSES))]
    rows = np.sort(np.concatenate(drawn))
    if not len(rows):
        return pl.DataFrame(schema=_SCHEMA)
    told = predict_sites(model, genome, sites.of(rows), environment=environment, mark=mark)
    levels = {"predicted": told["level"].to_numpy().astype(float)}
    if measure is not None:
        levels["measured"] = np.asarray(measure(rows), float)
    stretch = sites.contig[rows].astype(np.int64) << 32 | start[rows] // _STRETCH
    table = []
    for k in reversed(range(len(CLASSES))):
        own = classes[rows] == k
        row: list[Any] = [CLASSES[k], int(own.sum())]
        for name in ("predicted", "measured"):
            value = levels.get(name, np.full(len(rows), np.nan))
            held = own & np.isfinite(value)
            if name == "measured":
                row.append(int(held.sum()))
            row += _interval(value[held], stretch[held])
        table.append(row)
    return pl.DataFrame(table, schema=_SCHEMA, orient="row")


_SCHEMA = {
    "flank": pl.String, "sites": pl.Int64, "predicted": pl.Float64, "predicted_low": pl.Float64,
    "predicted_high": pl.Float64, "measured_sites": pl.Int64, "measured": pl.Float64,
    "measured_low": pl.Float64, "measured_high": pl.Float64,
}  # fmt: skip


def _interval(value: Floats, stretch: npt.NDArray[Any]) -> list[float | None]:
    """A mean and its 95% interval with stretches as the units (Liang & Zeger 1986)."""
    if not len(value):
        return [None, None, None]
    mean = float(value.mean())
    kinds, unit = np.unique(stretch, return_inverse=True)
    if len(kinds) < 2:
        return [mean, None, None]
    sums = np.bincount(unit.reshape(-1), weights=value - mean)
    error = float(np.sqrt((sums**2).sum() * len(kinds) / (len(kinds) - 1)) / len(value))
    reach = float(student.ppf(0.975, len(kinds) - 1)) * error
    return [mean, max(mean - reach, 0.0), min(mean + reach, 1.0)]


__all__ = ["ALONE", "CLASSES", "NOT_LONE", "flank_class", "flank_levels"]

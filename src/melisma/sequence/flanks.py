"""The mitotic clock's CpGs: alone in their neighbourhood, by the bases beside them.

Methylation is lost with cell divisions in late-replicating domains, first at CpGs without another
CpG near whose neighbours are A or T (solo-WCGW; Zhou et al. 2018).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.genome import Bases, Genome

# No other CpG within so many bases makes a CpG a lone one.
ALONE = 35
# Both neighbours C or G, one of them, none.
CLASSES = ("SCGS", "SCGW", "WCGW")
NOT_LONE = -1


def flank_class(bases: Bases, position: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int8]:
    """The class of CpGs: index into `CLASSES`, -1 where another CpG is near.

    Parameters
    ----------
    bases : uint8 (length,), upper-case ASCII of one contig
    position : integers (n,), the C of each CpG on the plus strand

    Returns
    -------
    int8 (n,); -1 too for what is no CpG or lies at the contig's ends

    Examples
    --------
    >>> text = b"A" * 40 + b"ACGT" + b"A" * 80 + b"CCGT" + b"A" * 40
    >>> flank_class(np.frombuffer(text, np.uint8), np.array([41, 125])).tolist()
    [2, 1]
    """
    cpg = np.flatnonzero((bases[:-1] == ord("C")) & (bases[1:] == ord("G")))
    at = np.asarray(position, np.int64)
    found = np.full(len(at), NOT_LONE, np.int8)
    if not len(cpg):
        return found
    place = np.minimum(np.searchsorted(cpg, at), len(cpg) - 1)
    far = np.iinfo(np.int64).max
    before = np.where(place > 0, at - cpg[np.maximum(place - 1, 0)], far)
    after = np.where(place + 1 < len(cpg), cpg[np.minimum(place + 1, len(cpg) - 1)] - at, far)
    lone = (cpg[place] == at) & (before > ALONE) & (after > ALONE)
    lone &= (at > 0) & (at + 2 < len(bases))
    inside = at[lone]
    weak = np.isin(bases[inside - 1], [65, 84]).astype(np.int8)
    weak += np.isin(bases[inside + 2], [65, 84])
    known = np.isin(bases[inside - 1], [65, 67, 71, 84]) & np.isin(
        bases[inside + 2], [65, 67, 71, 84]
    )
    found[lone] = np.where(known, weak, NOT_LONE)
    return found


def levels_by_flank(
    genome: Genome,
    contigs: tuple[str, ...],
    contig: npt.NDArray[np.integer[Any]],
    position: npt.NDArray[np.integer[Any]],
    levels: dict[str, npt.NDArray[np.floating[Any]]],
) -> pl.DataFrame:
    """Mean levels of lone CpGs by the bases beside them.

    Parameters
    ----------
    contig : integers (n,), index into `contigs`; position : integers (n,), each CpG's C
    levels : (n,) each, by name: measured, predicted

    Returns
    -------
    flank, n, and for each of `levels` its mean and the mean's standard error, <name> and
    <name>_error
    """
    classes = np.full(len(position), NOT_LONE, np.int8)
    named = genome.named_as(contigs)
    for k in np.unique(contig):
        here = np.flatnonzero(contig == k)
        classes[here] = flank_class(named.bases(contigs[k]), position[here])
    rows = []
    for k, name in enumerate(CLASSES):
        own = classes == k
        row: dict[str, Any] = {"flank": name, "n": int(own.sum())}
        for kind, values in levels.items():
            some = values[own]
            row[kind] = float(some.mean()) if len(some) else None
            error = float(some.std(ddof=1) / np.sqrt(len(some))) if len(some) > 1 else None
            row[f"{kind}_error"] = error
        rows.append(row)
    return pl.DataFrame(rows)

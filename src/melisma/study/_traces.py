"""The step that traces: readings of causes to an outcome, each kept as JSON for the report."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from melisma.study._folder import RunFolder
from melisma.trace import Trace

if TYPE_CHECKING:
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import Model
    from melisma.sequence.predict import Sites

FOLDER = "traces"
# From the run's folder and what run.json keeps of its sequence (None without) to a trace.
Reading = Callable[[Path, Mapping[str, Any] | None], Trace]
# Sites among which the one that is traced is chosen.
_MOST = 2000


def make_traces(
    readings: Mapping[str, Reading], folder: RunFolder, sequence: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Compute traces and write them to `traces/`; what run.json keeps."""
    place = folder.path / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    kept = []
    for k, (title, reading) in enumerate(readings.items(), start=1):
        file = f"{FOLDER}/{k}.json"
        reading(folder.path, sequence).save(folder.path / file)
        kept.append({"title": title, "file": file})
    return {"traces": kept}


def files(readings: Mapping[str, Reading]) -> list[str]:
    """The files that `make_traces` leaves."""
    return [f"{FOLDER}/{k}.json" for k in range(1, len(readings) + 1)]


def chosen_site(
    model: "Model", genome: "Genome", sites: "Sites", measured: npt.NDArray[Any], *, cpg: bool,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """The site whose reading says most: the one whose predicted level departs most from the mean.

    Among lone CpGs between A or T, where there are any; among 2,000 at most, drawn at random.

    Parameters
    ----------
    sites : of the test part
    measured : (n,) their levels
    cpg : whether all are CpGs

    Returns
    -------
    place ("contig:position"), level (predicted, in the mean environment), measured, mean (of the
    predicted levels it was chosen from), among (how many those were), lone (whether they are lone
    CpGs between A or T)
    """
    from melisma.sequence.flanks import CLASSES, flank_class
    from melisma.sequence.predict import head_of, predict_sites, strands_of

    rows, lone = np.arange(len(sites.position)), False
    if cpg:
        strand = strands_of(genome, sites, head_of(model, None)[1])
        start = np.where(strand < 0, sites.position - 1, sites.position)
        named = genome.named_as(sites.contigs)
        kinds = np.full(len(start), -1)
        for k in np.unique(sites.contig):
            here = np.flatnonzero(sites.contig == k)
            kinds[here] = flank_class(named.bases(sites.contigs[k]), start[here])
        found = np.flatnonzero(kinds == CLASSES.index("WCGW"))
        rows, lone = (found, True) if len(found) else (rows, False)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:_MOST])
    level = predict_sites(model, genome, sites.of(rows))["level"].to_numpy().astype(float)
    odds = np.log(np.clip(level, 1e-6, 1 - 1e-6) / np.clip(1 - level, 1e-6, 1))
    k = int(np.abs(odds - odds.mean()).argmax())
    row = rows[k]
    return {
        "place": f"{sites.contigs[sites.contig[row]]}:{int(sites.position[row])}",
        "level": float(level[k]), "measured": float(measured[row]), "mean": float(level.mean()),
        "among": len(rows), "lone": lone,
    }  # fmt: skip

"""Where the verbs of sequence models look: whole contigs, intervals, or a store's sites."""

from pathlib import Path
from typing import TYPE_CHECKING

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import Model
    from melisma.sequence.predict import Sites


def one_place(contig: list[str] | None, bed: Path | None, store: Path | None) -> None:
    """Refuse no place and several of them before anything is opened."""
    if sum(asked is not None for asked in (contig, bed, store)) != 1:
        raise MelismaError("Name the sites by one of --contig, --bed and --store.")


def asked_sites(
    genome: "Genome",
    model: "Model",
    *,
    contig: list[str] | None,
    bed: Path | None,
    store: Path | None = None,
    mark: str | None = None,
) -> "Sites":
    """The sites that --contig, --bed or --store name."""
    from melisma.sequence.predict import sites_of_contigs, sites_of_intervals, sites_of_store

    if store is not None:
        from melisma.methylome import open_methylome, single_mark

        sites = sites_of_store(single_mark(open_methylome(store), mark))
    elif bed is not None:
        from melisma.bed import read_bed

        intervals = read_bed(bed, contigs=genome.lengths)
        names = intervals["contig"].unique(maintain_order=True).to_list()
        sites = sites_of_intervals(intervals, sites_of_contigs(genome, model, names, mark=mark))
    else:
        sites = sites_of_contigs(genome, model, contig or [], mark=mark)
    if not len(sites.position):
        raise MelismaError("No site of the mark lies there: name another contig or interval.")
    return sites

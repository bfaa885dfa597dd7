"""Genes and CpG islands of a study, beside its called sites and its regions."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from melisma._gff import sniff
from melisma.annotate import annotate
from melisma.bed import read_bed
from melisma.errors import MelismaError
from melisma.genes import Genes, read_genes
from melisma.study._config import StudyConfig


class Annotation(NamedTuple):
    """Genes and islands, None where the study names none."""

    genes: Genes | None
    islands: pl.DataFrame | None

    @property
    def given(self) -> bool:
        """Whether there is anything to annotate with."""
        return self.genes is not None or self.islands is not None

    def of(self, places: pl.DataFrame) -> pl.DataFrame:
        """The places with the columns of `annotate`, null for those without a place."""
        if not self.given:
            return places
        if places["contig"].null_count() == len(places):
            return places
        named = annotate(places, genes=self.genes, islands=self.islands)
        # A site's start and end are its position again.
        return named.drop(n for n in ("start", "end") if n not in places.columns)


def check_beside(config: StudyConfig) -> None:
    """Refuse genes that are no GTF or GFF3, and broken BEDs, before any calls are read.

    Raises
    ------
    MelismaError
        A file is missing, or of another kind.
    """
    genes, beds = config.input.annotation, (config.input.islands, config.regions.bed)
    for file in (genes, *beds):
        if file is not None and not file.is_file():
            raise MelismaError(f"There is no file at {file}.")
    if genes is not None:
        sniff(genes)
    for bed in beds:
        if bed is not None:
            read_bed(bed)


def read_annotation(config: StudyConfig, contigs: Sequence[str]) -> Annotation:
    """Read the study's genes and islands, with the store's names of contigs."""
    genes, islands = config.input.annotation, config.input.islands
    return Annotation(
        None if genes is None else read_genes(genes, contigs=contigs),
        None if islands is None else read_bed(islands, contigs=contigs),
    )

"""Genes from GTF or GFF3: where they, their transcripts, exons and promoters are.

Every flavour comes out alike: ids as the file has them, exons and untranslated regions made
where the file leaves them out, stop codons in the coding sequence, positions 0-based, half open.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from melisma import _contigs, progress
from melisma._gff import read_rows
from melisma.errors import MelismaError

_PLACE = ("contig", "start", "end", "strand")
_TRANSCRIPT = ("transcript", "gene", "contig", "strand")


@dataclass(frozen=True)
class Genes:
    """A genome annotation as tables of intervals, by contig in the file's order and start.

    Every table has contig, start, end (0-based, half open), strand (1, -1; 0 unknown) and name.

    Attributes
    ----------
    source : the file's name
    genes : + gene (id), biotype, tss (0-based position of the first base; null without a strand)
    transcripts : + transcript (id), gene, biotype, tss
    features : + feature (exon, CDS, five_prime_UTR, three_prime_UTR), transcript, gene; name is
        the gene's
    """

    source: str
    genes: pl.DataFrame
    transcripts: pl.DataFrame
    features: pl.DataFrame

    def __repr__(self) -> str:
        return f"Genes({self.source!r}, {len(self.genes):,} genes)"

    def promoters(
        self,
        upstream: int = 1_000,
        downstream: int = 0,
        *,
        of: str = "genes",
        lengths: Mapping[str, int] | None = None,
    ) -> pl.DataFrame:
        """The stretch around each transcription start, along the strand.

        Parameters
        ----------
        upstream, downstream : bases before the start, and from it on (the start is the first)
        of : "genes", or "transcripts" for alternative starts too
        lengths : bases of each contig, where promoters end with it

        Returns
        -------
        contig, start, end, strand, name, gene, tss, and transcript where asked; genes without
        a strand, and what lies wholly outside the contig, are left out
        """
        if upstream < 0 or downstream < 0 or not upstream + downstream:
            raise MelismaError(
                f"A promoter of {upstream} bases upstream and {downstream} downstream is empty: "
                "give lengths of 0 or more, not both 0."
            )
        if of not in ("genes", "transcripts"):
            raise MelismaError(f"Promoters of {of!r} are not known: use genes or transcripts.")
        table = self.genes if of == "genes" else self.transcripts
        tss, forward = pl.col("tss"), pl.col("strand") > 0
        start = pl.when(forward).then(tss - upstream).otherwise(tss + 1 - downstream)
        end = pl.when(forward).then(tss + downstream).otherwise(tss + 1 + upstream)
        if lengths is not None:
            known = pl.col("contig").replace_strict(
                dict(lengths), default=None, return_dtype=pl.Int64
            )
            end = pl.min_horizontal(end, known)
        ids = ["gene", "tss"] if of == "genes" else ["gene", "transcript", "tss"]
        return (
            table.filter(tss.is_not_null())
            .with_columns(start=pl.max_horizontal(start, 0), end=end)
            .filter(pl.col("start") < pl.col("end"))
            .select(*_PLACE, "name", *ids)
        )

    def bodies(self) -> pl.DataFrame:
        """Each gene from its first to its last base: contig, start, end, strand, name, gene."""
        return self.genes.select(*_PLACE, "name", "gene")

    def parts(self, feature: str) -> pl.DataFrame:
        """The exons, CDS, five_prime_UTR or three_prime_UTR of all transcripts."""
        known = self.features["feature"].unique().to_list()
        if feature not in known:
            raise MelismaError(
                f"{self.source} has no {feature!r}: it has {', '.join(sorted(known)) or 'none'}."
            )
        return self.features.filter(pl.col("feature") == feature).drop("feature")

    def introns(self) -> pl.DataFrame:
        """What lies between the neighbouring exons of each transcript.

        Returns
        -------
        contig, start, end, strand, name, transcript, gene
        """
        exons = self.features.filter(pl.col("feature") == "exon")
        order = _order_of(exons["contig"])
        before = pl.col("end").cum_max().shift(1).over(_TRANSCRIPT)
        return (
            exons.sort(order, *_TRANSCRIPT, "start", "end", maintain_order=True)
            .with_columns(start=before, end=pl.col("start"))
            .filter(pl.col("start").is_not_null() & (pl.col("start") < pl.col("end")))
            .sort(order, "start", "end", maintain_order=True)
            .select(*_PLACE, "name", "transcript", "gene")
        )


def read_genes(
    path: Path | str, *, contigs: Collection[str] | Mapping[str, int] | None = None
) -> Genes:
    """Read genes, transcripts, exons and coding parts from a GTF or GFF3 file.

    The content tells which of the two it is. Genes and transcripts that have no row of their own
    are made from their exons; untranslated regions are what of the exons lies outside the coding
    sequence. A gene of several rows (trans-spliced, or on X and Y) keeps them all.

    Parameters
    ----------
    path : plain, gzip or bgzip
    contigs : the contigs of a store or a genome, whose names win over the file's (`chr1` over
        `1` or `NC_000001.11`), and whose lengths, where given, the genes must fit

    Raises
    ------
    MelismaError
        The file is neither, a row is broken, a gene lies outside its contig, or none of the
        contigs is one of `contigs`.

    Examples
    --------
    >>> import tempfile
    >>> row = 'chr1\\thand\\texon\\t101\\t200\\t.\\t-\\t.\\tgene_id "g1"; transcript_id "t1";'
    >>> with tempfile.NamedTemporaryFile("w", suffix=".gtf") as file:
    ...     _ = file.write(row)
    ...     file.flush()
    ...     found = read_genes(file.name)
    >>> found.genes.select("contig", "start", "end", "strand", "name", "tss").rows()
    [('chr1', 100, 200, -1, 'g1', 199)]
    """
    path = Path(path)
    rows, lengths = read_rows(path)
    if not len(rows):
        raise MelismaError(f"{path} has no rows of genes, transcripts or exons.")
    if contigs is not None:
        rows, lengths = _renamed(path, rows, lengths, contigs)
    _check_ends(path, rows, lengths)
    parts = _parts(rows.filter(~pl.col("kind").is_in(["gene", "transcript"])))
    transcripts = _transcripts(rows, parts)
    genes = _genes(rows, transcripts)
    _say_odd(path, genes, transcripts, made=not (rows["kind"] == "gene").any())
    names = genes.unique("gene", keep="first").select("gene", "name")
    order = _order_of(rows["contig"])
    features = parts.join(names, "gene", "left").select(
        *_PLACE, "name", "feature", "transcript", "gene"
    )
    in_order = [order, "start", "end"]
    return Genes(
        path.name,
        genes.sort(in_order, maintain_order=True),
        transcripts.sort(in_order, maintain_order=True),
        features.sort(in_order, maintain_order=True),
    )


def _order_of(contigs: pl.Series) -> pl.Expr:
    """A contig's place of first appearance."""
    first = {name: k for k, name in enumerate(contigs.unique(maintain_order=True))}
    return pl.col("contig").replace_strict(first, return_dtype=pl.Int64)


def _renamed(
    path: Path,
    rows: pl.DataFrame,
    lengths: Mapping[str, int],
    contigs: Collection[str] | Mapping[str, int],
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows with another file's contig names, and the lengths known of these."""
    found = rows["contig"].unique(maintain_order=True).to_list()
    aliases = _contigs.match(found, contigs)
    if not any(aliases.get(name, name) in contigs for name in found):
        raise MelismaError(
            f"{path} has genes on {', '.join(found[:3])} and no contig in common with "
            f"{', '.join(list(contigs)[:3])}: is it of another genome?"
        )
    if aliases:
        progress.note(f"Contigs renamed in {path}: {_contigs.describe(aliases)}.")
        rows = rows.with_columns(pl.col("contig").replace(aliases))
    known = {aliases.get(name, name): length for name, length in lengths.items()}
    if isinstance(contigs, Mapping):
        known |= contigs
    return rows, known


def _check_ends(path: Path, rows: pl.DataFrame, lengths: Mapping[str, int]) -> None:
    length = pl.col("contig").replace_strict(dict(lengths), default=None, return_dtype=pl.Int64)
    outside = rows.with_columns(length=length).filter(pl.col("end") > pl.col("length")).head(1)
    for row in outside.iter_rows(named=True):
        raise MelismaError(
            f"{path} line {row['line']:,}: the {row['kind']} ends at {row['end']:,} and "
            f"{row['contig']} has {row['length']:,} bases: is this the right genome build?"
        )


def _parts(rows: pl.DataFrame) -> pl.DataFrame:
    """Exons, coding sequence and untranslated regions of each transcript, without repeats."""
    rows = rows.with_columns(transcript=pl.coalesce("transcript", "gene"))
    columns = [*_TRANSCRIPT, "start", "end"]
    of = {kind: rows.filter(pl.col("kind") == kind).select(columns).unique() for kind in
          ("exon", "CDS", "stop", "UTR")}  # fmt: skip
    coding = _with_stops(of["CDS"], of["stop"])
    without = pl.concat([coding, of["UTR"]]).join(of["exon"], _TRANSCRIPT, "anti")
    exons = pl.concat([of["exon"], _joined(without)])
    # Where exons are given, untranslated regions follow from them: files name these differently.
    span = coding.group_by(_TRANSCRIPT).agg(
        coding_start=pl.col("start").min(), coding_end=pl.col("end").max()
    )
    split = exons.join(span, _TRANSCRIPT).filter(pl.col("strand") != 0)
    low = split.with_columns(end=pl.min_horizontal("end", "coding_start"))
    high = split.with_columns(start=pl.max_horizontal("start", "coding_end"))
    five, three = pl.lit("five_prime_UTR"), pl.lit("three_prime_UTR")
    forward = pl.col("strand") > 0
    return pl.concat(
        [
            exons.with_columns(feature=pl.lit("exon")),
            coding.with_columns(feature=pl.lit("CDS")),
            *(
                table.filter(pl.col("start") < pl.col("end"))
                .with_columns(feature=pl.when(forward).then(first).otherwise(second))
                .select(*columns, "feature")
                for table, first, second in ((low, five, three), (high, three, five))
            ),
        ]
    ).sort("transcript", "feature", "start", maintain_order=True)


def _with_stops(coding: pl.DataFrame, stops: pl.DataFrame) -> pl.DataFrame:
    """Coding parts with the stop codons that GTF keeps apart from them."""
    if not len(stops):
        return coding
    after = stops.select(*_TRANSCRIPT, stop_start="start", stop_end="end")
    for touching, column, new in (
        ("end", "stop_start", "stop_end"),
        ("start", "stop_end", "stop_start"),
    ):
        there = after.unique([*_TRANSCRIPT, column])
        coding = (
            coding.join(there, left_on=[*_TRANSCRIPT, touching],
                        right_on=[*_TRANSCRIPT, column], how="left")
            .with_columns(pl.coalesce(new, touching).alias(touching))
            .select(coding.columns)
        )  # fmt: skip
    # A stop codon across an intron has a part in an exon without any other coding base.
    inside = (
        stops.join(coding, _TRANSCRIPT, suffix="_coding")
        .filter(
            (pl.col("start") >= pl.col("start_coding")) & (pl.col("end") <= pl.col("end_coding"))
        )
        .select(stops.columns)
    )
    return pl.concat([coding, stops.join(inside, stops.columns, "anti")])


def _joined(parts: pl.DataFrame) -> pl.DataFrame:
    """Parts of a transcript that overlap or touch made one."""
    ordered = parts.sort(*_TRANSCRIPT, "start", "end")
    reach = pl.col("end").cum_max().shift(1).over(_TRANSCRIPT)
    return (
        ordered.with_columns(run=(reach.is_null() | (pl.col("start") > reach)).cum_sum())
        .group_by(*_TRANSCRIPT, "run")
        .agg(pl.col("start").min(), pl.col("end").max())
        .select(parts.columns)
    )


_TSS = (
    pl.when(pl.col("strand") > 0).then("start").when(pl.col("strand") < 0).then(pl.col("end") - 1)
)


def _transcripts(rows: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """A row a transcript: the file's own, and those that only their parts tell of."""
    given = rows.filter(pl.col("kind") == "transcript").unique(
        [*_TRANSCRIPT, "start", "end"], keep="first", maintain_order=True
    )
    attributes = (
        rows.filter(~pl.col("kind").is_in(["gene", "transcript"]))
        .with_columns(transcript=pl.coalesce("transcript", "gene"))
        .group_by("transcript")
        .agg(pl.col("transcript_name", "transcript_biotype").drop_nulls().first())
    )
    derived = (
        parts.join(given, ["transcript"], "anti")
        .group_by(_TRANSCRIPT, maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max())
        .join(attributes, "transcript", "left")
    )
    columns = [*_TRANSCRIPT, "start", "end", "transcript_name", "transcript_biotype"]
    return pl.concat([given.select(columns), derived.select(columns)]).select(
        *_PLACE,
        pl.coalesce("transcript_name", "transcript").alias("name"),
        "transcript",
        "gene",
        pl.col("transcript_biotype").alias("biotype"),
        _TSS.alias("tss"),
    )


def _genes(rows: pl.DataFrame, transcripts: pl.DataFrame) -> pl.DataFrame:
    """A row a gene: the file's own, and those that only their transcripts tell of."""
    given = rows.filter(pl.col("kind") == "gene").unique(
        ["gene", *_PLACE], keep="first", maintain_order=True
    )
    attributes = (
        rows.filter(pl.col("kind") != "gene")
        .group_by("gene")
        .agg(pl.col("gene_name", "gene_biotype").drop_nulls().first())
    )
    derived = (
        transcripts.join(given, "gene", "anti")
        .group_by("gene", "contig", "strand", maintain_order=True)
        .agg(pl.col("start").min(), pl.col("end").max())
        .join(attributes, "gene", "left")
    )
    columns = ["gene", *_PLACE, "gene_name", "gene_biotype"]
    return pl.concat([given.select(columns), derived.select(columns)]).select(
        *_PLACE,
        pl.coalesce("gene_name", "gene").alias("name"),
        "gene",
        pl.col("gene_biotype").alias("biotype"),
        _TSS.alias("tss"),
    )


def _say_odd(path: Path, genes: pl.DataFrame, transcripts: pl.DataFrame, *, made: bool) -> None:
    """Note what a reader of counts by gene must know."""
    repeated = genes.filter(pl.col("gene").is_duplicated())["gene"].unique(maintain_order=True)
    if len(repeated):
        shown = ", ".join(repeated.head(3))
        more = f" and {len(repeated) - 3:,} more" if len(repeated) > 3 else ""
        progress.note(
            f"{path}: {shown}{more} stand in several places each (trans-spliced, on two "
            "chromosomes, or two genes of one id): every place is a row."
        )
    if made and len(transcripts) > 1 and (transcripts["gene"] == transcripts["transcript"]).all():
        progress.note(
            f"{path}: every gene id is also its transcript's id, as in GTF from the UCSC table "
            "browser: transcripts of one gene count as genes."
        )

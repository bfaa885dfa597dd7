"""GTF and GFF3 read into one form: a row a gene, transcript, exon or coding part, with its ids.

Which of the two a file is, its ninth column tells, not its name. `genes` puts the rows together.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import polars as pl

from melisma._text_rows import read_lines, refuse_first
from melisma.errors import MelismaError

WHAT = "genes in GTF or GFF3"
PART_KINDS = ("exon", "CDS", "stop", "UTR")
# What `genes` is given; ids and names are null where the file has none.
ROW_SCHEMA = {
    "line": pl.Int64,
    "kind": pl.String,
    "contig": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
    "strand": pl.Int8,
    "gene": pl.String,
    "transcript": pl.String,
    "gene_name": pl.String,
    "transcript_name": pl.String,
    "gene_biotype": pl.String,
    "transcript_biotype": pl.String,
}
_COLUMNS = ("contig", "source", "type", "start", "end", "score", "strand", "phase", "attributes")
_GTF = re.compile(r"\s*[\w.-]+\s+(\"|[^=]+;)")
_GFF3 = re.compile(r"\s*[\w.:-]+=")
# TAIR, Ensembl and the Sequence Ontology each have words of their own.
_GENE_TYPE = r"(?i)^(pseudo|.*_)?gene$"
_TRANSCRIPT_TYPE = r"(?i)(transcript|RNA)$"
_PARTS = {
    "exon": r"(?i)^((pseudogenic|noncoding|coding)_)?exon$",
    "CDS": r"(?i)^CDS$",
    "stop": r"(?i)^stop_codon$",
    "UTR": r"(?i)(^|_|prime)UTR$|^[35]'?UTR$",
}
_DEPTH = 8

_BED = (
    "{path} is a BED file, and genes are read from GTF or GFF3: take it as intervals, in `melisma "
    "annotate` by --bed NAME=FILE."
)


def sniff(path: Path) -> str:
    """Whether a file is "gtf" or "gff3", from the attributes of its first rows.

    Raises
    ------
    MelismaError
        It is neither.
    """
    said = ""
    for lines in read_lines(path, WHAT, block_bytes=1 << 16):
        for line in lines["text"]:
            if line.startswith("#") or not line.strip():
                said = said or ("gff3" if re.match(r"##\s*gff-version\s+3", line) else "")
                continue
            fields = line.split("\t")
            if len(fields) > 2 and fields[1].isdigit() and fields[2].isdigit():
                raise MelismaError(_BED.format(path=path))
            if len(fields) < 9:
                raise MelismaError(
                    f"{path} is neither GTF nor GFF3, which have nine columns separated by tabs: "
                    f"its first row is {line[:60]!r}."
                )
            attributes = fields[8].strip()
            if _GFF3.match(attributes):
                return "gff3"
            if _GTF.match(attributes):
                return "gtf"
            if said and attributes in (".", ""):
                return said
            raise MelismaError(
                f"{path} is neither GTF nor GFF3: the ninth column of its first row is "
                f"{attributes[:60]!r}, and should read 'gene_id \"...\";' or 'ID=...'."
            )
    raise MelismaError(f"{path} has no rows: it should hold {WHAT}.")


def read_rows(path: Path) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows of a file that say something of genes, by `ROW_SCHEMA`; and contigs' lengths.

    The lengths are those of `##sequence-region` lines; circular contigs are left out, whose genes
    may lie across their end.
    """
    form = sniff(path)
    kinds, tables, lengths, circular = _kinds(form), list[pl.DataFrame](), dict[str, int](), set()
    for lines in read_lines(path, WHAT):
        lines, last = _before_fasta(lines)
        for text in lines.filter(pl.col("text").str.starts_with("##sequence-region"))["text"]:
            words = text.split()
            if len(words) == 4 and words[3].isdigit():
                lengths[unquote(words[1])] = int(words[3])
        rows = _fields(path, lines)
        if form == "gff3":
            of_region = pl.col("attributes").str.contains("(?i)Is_circular=true", literal=False)
            circular.update(rows.filter(of_region)["contig"])
        rows = rows.with_columns(kind=kinds).filter(pl.col("kind").is_not_null())
        tables.append(_gtf_ids(path, rows) if form == "gtf" else _gff3_ids(rows))
        if last:
            break
    table = pl.concat(tables)
    if form == "gff3":
        table = table.with_columns(_decoded(table["contig"]))
        table = _with_ancestors(path, table)
    for contig in circular:
        lengths.pop(unquote(contig), None)
    return table.select(pl.col(name).cast(dtype) for name, dtype in ROW_SCHEMA.items()), lengths


def _before_fasta(lines: pl.DataFrame) -> tuple[pl.DataFrame, bool]:
    """The lines before the sequence that may end a GFF3; whether there is one."""
    text = pl.col("text")
    starts = lines.with_row_index().filter(
        text.str.starts_with("##FASTA") | text.str.starts_with(">")
    )
    return (lines.head(starts["index"][0]), True) if len(starts) else (lines, False)


def _fields(path: Path, lines: pl.DataFrame) -> pl.DataFrame:
    """The nine columns of a block's rows, with checked coordinates, 0-based and half open."""
    text = pl.col("text")
    rows = lines.filter(~text.str.starts_with("#") & (text.str.strip_chars() != ""))
    rows = rows.select(
        "line", text.str.split_exact("\t", 9).struct.rename_fields([*_COLUMNS, "rest"])
    ).unnest("text")
    number = rows.with_columns(
        first=pl.col("start").cast(pl.Int64, strict=False),
        last=pl.col("end").cast(pl.Int64, strict=False),
        fields=9 - pl.sum_horizontal(pl.col(_COLUMNS).is_null()).cast(pl.Int64),
    )
    refuse_first(
        path, number, pl.col("fields") < 9, "it has {fields} columns separated by tabs, not nine."
    )
    refuse_first(
        path,
        number,
        pl.col("first").is_null() | pl.col("last").is_null(),
        "the start and end are {start!r} and {end!r}, and should be whole numbers.",
    )
    refuse_first(
        path,
        number,
        pl.col("first") < 1,
        "the start is {start}, and GTF and GFF3 count from 1: was it written from a BED file?",
    )
    refuse_first(
        path, number, pl.col("first") > pl.col("last"), "start {start} is after end {end}."
    )
    refuse_first(
        path,
        number,
        ~pl.col("strand").is_in(["+", "-", ".", "?"]),
        "the strand is {strand!r}, and should be +, -, . or ?.",
    )
    strand = pl.col("strand").replace_strict({"+": 1, "-": -1}, default=0, return_dtype=pl.Int8)
    return number.select(
        "line",
        "contig",
        "type",
        start=pl.col("first") - 1,
        end=pl.col("last"),
        strand=strand,
        attributes=pl.col("attributes").str.strip_chars(),
    )


def _kinds(form: str) -> pl.Expr:
    """The kind of a row: gene, transcript, exon, CDS, stop or UTR; null: of no interest.

    In a GFF3 a row of any other type with a Parent is "other": a transcript by its children.
    """
    kind = pl.when(pl.col("type").str.contains(_GENE_TYPE)).then(pl.lit("gene"))
    for name, pattern in _PARTS.items():
        kind = kind.when(pl.col("type").str.contains(pattern)).then(pl.lit(name))
    kind = kind.when(pl.col("type").str.contains(_TRANSCRIPT_TYPE)).then(pl.lit("transcript"))
    if form == "gtf":
        return kind.otherwise(None)
    named = pl.col("attributes").str.contains("(?:^|;) *ID=")
    return kind.when(named).then(pl.lit("other")).otherwise(None)


def _gtf(key: str) -> pl.Expr:
    # A quoted value may hold semicolons: gene "CYCA2;3".
    start = rf"(?:^|;)\s*{key}\s+"
    quoted = pl.col("attributes").str.extract(start + r'"([^"]*)"')
    value = pl.coalesce(quoted, pl.col("attributes").str.extract(start + r'([^";\s]+)'))
    return pl.when(value.str.strip_chars() != "").then(value.str.strip_chars())


def _gtf_ids(path: Path, rows: pl.DataFrame) -> pl.DataFrame:
    table = rows.with_columns(
        gene=_gtf("gene_id"),
        transcript=pl.when(pl.col("kind") != "gene").then(_gtf("transcript_id")),
        gene_name=pl.coalesce(_gtf("gene_name"), _gtf("gene_symbol"), _gtf("gene")),
        transcript_name=_gtf("transcript_name"),
        gene_biotype=pl.coalesce(_gtf("gene_biotype"), _gtf("gene_type")),
        transcript_biotype=pl.coalesce(_gtf("transcript_biotype"), _gtf("transcript_type")),
    )
    refuse_first(path, table, pl.col("gene").is_null(), "the row of type {type!r} has no gene_id.")
    refuse_first(
        path,
        table,
        (pl.col("kind") == "transcript") & pl.col("transcript").is_null(),
        "the row of type {type!r} has no transcript_id.",
    )
    return table.drop("attributes", "type")


def _gff3(*keys: str) -> pl.Expr:
    values: list[pl.Expr] = []
    for key in keys:
        value = pl.col("attributes").str.extract(rf"(?:^|;) *{key}=([^;]*)").str.strip_chars()
        values.append(pl.when(value != "").then(value))
    return pl.coalesce(values)


def _gff3_ids(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        id=_gff3("ID"),
        parent=_gff3("Parent"),
        name=_gff3("gene_name", "symbol", "Name"),
        transcript_name=_gff3("transcript_name", "Name"),
        biotype=_gff3("gene_biotype", "gene_type", "biotype", "locus_type"),
        transcript_biotype=_gff3("transcript_biotype", "transcript_type", "biotype"),
        # TAIR's word for it: Note=protein_coding_gene.
        note=pl.col("attributes").str.extract(r"(?:^|;) *Note=(\w+_gene|pseudogene)(?:;|$)"),
        given_gene=_gff3("gene_id", "geneID"),
        ncbi=pl.col("attributes").str.contains("(?:^|;) *gbkey="),
    ).drop("attributes")


def _decoded(values: pl.Series) -> pl.Series:
    """Percent codes as the letters they stand for."""
    coded = values.drop_nulls().filter(values.drop_nulls().str.contains("%", literal=True)).unique()
    return values.replace({text: unquote(text) for text in coded}) if len(coded) else values


def _with_ancestors(path: Path, table: pl.DataFrame) -> pl.DataFrame:
    """GFF3 rows with the transcript and the gene that their Parents lead to."""
    parts = table.filter(pl.col("kind").is_in(PART_KINDS))
    nodes = table.filter(~pl.col("kind").is_in(PART_KINDS))
    parts = _exploded(parts)
    owners = set(parts["parent"].drop_nulls())
    links = _exploded(nodes.filter(pl.col("id").is_not_null()))
    genes = set(nodes.filter(pl.col("kind") == "gene")["id"].drop_nulls())
    gene_of = _gene_of(path, links, genes)
    is_transcript = (pl.col("kind") == "transcript") | (
        (pl.col("kind") == "other")
        & pl.col("id").is_in(list(owners))
        & ~pl.col("type").str.contains("(?i)^(protein|polypeptide)$")
    )
    transcripts = nodes.filter(is_transcript & pl.col("id").is_not_null())
    names = set(transcripts["id"])
    here = set(nodes["id"].drop_nulls())
    # TAIR gives a CDS two Parents, mRNA and protein: the protein is no transcript.
    parent = pl.col("parent")
    parts = parts.filter(
        parent.is_null() | parent.is_in(list(names | genes)) | ~parent.is_in(list(here))
    )
    refuse_first(
        path, parts, parent.is_null() & pl.col("given_gene").is_null(), "the {kind} has no Parent."
    )
    owner = pl.coalesce(parent, pl.col("given_gene"))
    found = pl.concat(
        [
            nodes.filter(pl.col("kind") == "gene").with_columns(
                gene=pl.coalesce("id", "given_gene", "name"), transcript=pl.lit(None, pl.String)
            ),
            transcripts.with_columns(
                kind=pl.lit("transcript"),
                transcript=pl.col("id"),
                gene=_looked_up(pl.col("id"), gene_of),
            ),
            parts.with_columns(transcript=owner, gene=_looked_up(owner, gene_of)),
        ],
        how="diagonal",
    )
    refuse_first(
        path,
        found,
        (pl.col("kind") == "gene") & pl.col("gene").is_null(),
        "the {type} has neither ID nor Name.",
    )
    found = found.with_columns(gene=pl.coalesce("gene", "given_gene", "transcript"))
    return _named(found)


def _exploded(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("parent").str.split(",")).explode("parent")


def _looked_up(ids: pl.Expr, gene_of: dict[str, str]) -> pl.Expr:
    return ids.replace_strict(gene_of, default=None, return_dtype=pl.String)


def _gene_of(path: Path, links: pl.DataFrame, genes: set[str]) -> dict[str, str]:
    """The gene that each row with an ID leads to, over up to eight Parents."""
    parent_of: dict[str, list[str]] = {}
    for child, parent in links.select("id", "parent").drop_nulls().iter_rows():
        parent_of.setdefault(child, []).append(parent)
    found = {gene: gene for gene in genes}
    for name in parent_of:
        for ancestor in _ancestors(path, name, parent_of):
            if ancestor in genes and name not in genes:
                found[name] = ancestor
                break
    return found


def _ancestors(path: Path, name: str, parent_of: dict[str, list[str]]) -> Iterator[str]:
    level = [name]
    for _ in range(_DEPTH):
        level = [parent for child in level for parent in parent_of.get(child, ())]
        if not level:
            return
        yield from level
    raise MelismaError(
        f"{path}: the Parents of {name!r} lead on for more than {_DEPTH} steps or in a circle."
    )


def _named(rows: pl.DataFrame) -> pl.DataFrame:
    """Ids without the prefixes of Ensembl and NCBI, percent codes decoded, names and biotypes."""
    ncbi = bool(rows["ncbi"].any())
    prefix = r"(?i)^(gene|transcript|rna)[:-]" if ncbi else r"(?i)^(gene|transcript):"
    is_gene = pl.col("kind") == "gene"
    typed = pl.col("type").str.extract("^(.+)_gene$")
    rows = rows.with_columns(
        pl.col("gene", "transcript").str.replace(prefix, ""),
        gene_name=pl.when(is_gene).then("name"),
        transcript_name=pl.when(pl.col("kind") == "transcript").then("transcript_name"),
        gene_biotype=pl.when(is_gene).then(
            pl.coalesce(
                "biotype",
                pl.col("note").str.replace("_gene$", ""),
                typed,
                pl.when(pl.col("type") == "pseudogene").then(pl.lit("pseudogene")),
            )
        ),
        transcript_biotype=pl.when(pl.col("kind") == "transcript").then(
            pl.coalesce("transcript_biotype", "type")
        ),
    )
    words = ("gene", "transcript", "gene_name", "transcript_name", "gene_biotype")
    return rows.with_columns(_decoded(rows[name]) for name in words)

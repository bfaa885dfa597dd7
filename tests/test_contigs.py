"""Contig names of one chromosome: which are matched, which never, and samples brought together."""

import json

import pytest
from calls_files import bed, cov, ingested, noted, put, sheet_of, sites
from hypothesis import given
from hypothesis import strategies as st

from melisma import _contigs
from melisma._assemblies import ASSEMBLIES, accession
from melisma.calls import ingest
from melisma.genome import Genome
from melisma.methylome import open_methylome, select

HUMAN = [str(k) for k in range(1, 23)] + ["X", "Y"]


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (["1", "X", "MT"], ["chr1", "chrX", "chrM"], {"1": "chr1", "X": "chrX", "MT": "chrM"}),
        (["chr1", "chrM"], ["1", "MT"], {"chr1": "1", "chrM": "MT"}),
        (["Chr1", "ChrM", "ChrC"], ["1", "Mt", "Pt"], {"Chr1": "1", "ChrM": "Mt", "ChrC": "Pt"}),
        (["NC_003070.9"], ["Chr1", "ChrC"], {"NC_003070.9": "Chr1"}),
        (["NC_000932.1"], ["Chr1", "ChrC"], {"NC_000932.1": "ChrC"}),
        (["CP002685.1"], ["NC_003071.7"], {"CP002685.1": "NC_003071.7"}),
        (["NC_000023.11"], ["chr23", "chrX"], {"NC_000023.11": "chrX"}),
        (["NC_000087.8", "NC_000068.8"], ["Y", "2"], {"NC_000087.8": "Y", "NC_000068.8": "2"}),
        (["chrI", "chrX", "chrIX"], ["1", "9", "10"], {"chrI": "1", "chrX": "10", "chrIX": "9"}),
        (["I", "III", "X"], ["chr1", "chr3", "chrX"], {"I": "chr1", "III": "chr3", "X": "chrX"}),
        (["NC_001142.9"], ["chrX", "chrIX", "chrII"], {"NC_001142.9": "chrX"}),
        (["MtDNA"], ["chrM"], {"MtDNA": "chrM"}),
        (["chr01", "chr12"], ["1", "12"], {"chr01": "1", "chr12": "12"}),
        (["chr1_KI270706v1_random"], ["KI270706.1"], {"chr1_KI270706v1_random": "KI270706.1"}),
        (["GL000191.1"], ["chr1_gl000191_random"], {"GL000191.1": "chr1_gl000191_random"}),
        (["2L", "4"], ["chr2L", "chr4", "chr2R"], {"2L": "chr2L", "4": "chr4"}),
        # hg19 of UCSC has both mitochondria: MT is its chrMT.
        (["MT"], ["chrM", "chrMT"], {"MT": "chrMT"}),
        # A name that is there as it is needs nothing, and two contigs are never merged.
        (["1", "chr1"], ["chr1"], {}),
        (["1", "chr1"], ["Chr1"], {}),
        (["1"], ["chr1", "Chr1"], {}),
        # Another assembly's accession, another organism's, another version.
        (["NC_000001.10"], ["NC_000001.11"], {}),
        (["NC_000001.10"], ["NC_000067.6"], {}),
        (["NC_000001.10"], ["CM000663.2"], {}),
        (["GL000191.1"], ["GL000191.2"], {}),
        (["chr2"], ["chr20", "chr12"], {}),
        (["lambda"], ["chrL"], {}),
    ],
)
def test_which_names_are_matched(names, known, expected):
    assert _contigs.match(names, known) == expected
    # Never two to one, and nothing that the file has under its own name.
    assert len(set(expected.values())) == len(expected)


def test_accessions_of_every_assembly():
    assert accession("NC_000022.10").assemblies == {"hg19"}
    assert accession("NC_000022.11").assemblies == {"hg38"}
    assert accession("NC_000021.7").assemblies == {"hg18"}
    assert accession("NC_000024.9").chromosome == "Y"
    assert accession("NC_000068.7").assemblies == {"mm10"}
    assert accession("NC_000069.7").assemblies == {"mm39"}
    assert accession("CM001012.3") == ("mouse", "19", {"mm39"})
    assert accession("NC_012920.1").assemblies == {"hg19", "hg38"}
    assert accession("NC_000001").assemblies == frozenset()
    assert accession("NC_000001.99").assemblies == frozenset()
    assert accession("NC_003284.9") == ("worm", "X", {"ce11"})
    for name in ("chr1", "NM_000001.1", "NC_999999.1", "", "NC_000001.10.2"):
        assert accession(name) is None


def test_lengths_are_of_the_right_chromosomes():
    """Spot checks against the published tables, one at each end of a list."""
    lengths = {assembly.name: assembly.lengths for assembly in ASSEMBLIES}
    assert lengths["hg18"]["22"] == 49_691_432
    assert lengths["hg19"]["19"] == 59_128_983
    assert lengths["hg19"]["20"] == 63_025_520
    assert lengths["hg38"]["X"] == 156_040_895
    assert lengths["mm9"]["19"] == 61_342_430
    assert lengths["mm10"]["Y"] == 91_744_698
    assert lengths["mm39"]["10"] == 130_530_862
    assert lengths["TAIR10"]["5"] == 26_975_502


NAMES = st.sampled_from(
    [p + n for p in ("", "chr", "Chr") for n in ("1", "2", "X", "M", "MT", "I", "II", "V", "C")]
    + ["NC_000001.10", "NC_000001.11", "NC_000067.6", "lambda", "chr1_gl000191_random"]
)


@given(st.sets(NAMES), st.sets(NAMES))
def test_matching_never_merges_and_never_renames_what_is_known(names, known):
    found = _contigs.match(sorted(names), sorted(known))
    after = [found.get(name, name) for name in names]
    assert len(set(after)) == len(after)
    assert set(found) <= names - known
    assert set(found.values()) <= known - names


@given(st.lists(st.sets(NAMES), max_size=4), st.sets(NAMES))
def test_aligned_samples_keep_their_contigs_apart(samples, known):
    mappings = _contigs.align([sorted(names) for names in samples], sorted(known))
    for names, mapping in zip(samples, mappings, strict=True):
        assert set(mapping) <= names
        assert len({mapping.get(name, name) for name in names}) == len(names)


def test_the_first_samples_style_is_kept_for_contigs_that_it_lacks():
    assert _contigs.align([["chr1"], ["1", "2", "MT", "lambda"], ["2"]]) == [
        {},
        {"1": "chr1", "2": "chr2", "MT": "chrM"},
        {"2": "chr2"},
    ]
    assert _contigs.align([["1"], ["chr1", "chrM"]]) == [{}, {"chr1": "1", "chrM": "MT"}]
    assert _contigs.align([["1", "2"]], known=["chr1"]) == [{"1": "chr1", "2": "chr2"}]


def test_samples_are_brought_to_the_first_ones_names(tmp_path):
    texts = (
        cov((5, 1, 2)) + cov((7, 3, 0), contig="chrX"),
        cov((5, 2, 2), contig="1") + cov((9, 1, 0), contig="2") + cov((2, 1, 1), contig="lambda"),
        cov((9, 5, 0), contig="2"),
    )
    with noted() as notes:
        found = ingested(tmp_path, *texts)
    assert found.attrs["contigs"] == ["chr1", "chr2", "chrX", "lambda"]
    assert sites(found) == [
        ("chr1", 4, 0, "m", "unknown", [(1, 3), (2, 4), (0, 0)]),
        ("chr2", 8, 0, "m", "unknown", [(0, 0), (1, 1), (5, 5)]),
        ("chrX", 6, 0, "m", "unknown", [(3, 3), (0, 0), (0, 0)]),
        ("lambda", 1, 0, "m", "unknown", [(0, 0), (1, 2), (0, 0)]),
    ]
    samples = found.attrs["ingest"]["samples"]
    assert "aliases" not in samples["a"]
    assert samples["b"]["aliases"] == {"1": "chr1", "2": "chr2"}
    assert samples["c"]["aliases"] == {"2": "chr2"}
    assert [note for note in notes if "Contigs" in note] == [
        "Contigs renamed in sample b: '1' is 'chr1', '2' is 'chr2'.",
        "Contigs renamed in sample c: '2' is 'chr2'.",
    ]
    assert sites(select(found, region="1:0-10")) == sites(select(found, region="chr1:0-10"))


def test_the_genomes_names_win(tmp_path):
    put(tmp_path / "g.fa", ">NC_000001.10 whole\nACGTACG\n>NC_012920.1\nCG\n")
    texts = cov((2, 1, 2)), cov((6, 2, 2), contig="1") + cov((1, 1, 0), contig="MT")
    with noted() as notes:
        found = ingested(tmp_path, *texts, genome=tmp_path / "g.fa")
    assert sites(found) == [
        ("NC_000001.10", 1, 1, "m", "CG", [(1, 3), (0, 0)]),
        ("NC_000001.10", 5, 1, "m", "CG", [(0, 0), (2, 4)]),
        ("NC_012920.1", 0, 1, "m", "CG", [(0, 0), (1, 1)]),
    ]
    assert "Contigs renamed in sample a: 'chr1' is 'NC_000001.10'." in notes
    assert found.attrs["ingest"]["samples"]["b"]["aliases"] == {
        "1": "NC_000001.10",
        "MT": "NC_012920.1",
    }


def test_renamed_samples_resume(tmp_path):
    """What an interrupted ingest kept is the file's own names, and the store is the same."""
    put(tmp_path / "g.fa", ">chr1\nACGTACG\n")
    files = [put(tmp_path / "a.txt", bed((1, "m", "+", 4, 1, 3, 0), contig="1"))]
    ingest(sheet_of(files), tmp_path / "a.zarr", genome=tmp_path / "g.fa")
    again = ingest(sheet_of(files), tmp_path / "a.zarr", genome=tmp_path / "g.fa")
    assert again.reused
    attrs = open_methylome(tmp_path / "a.zarr").attrs
    assert attrs["contigs"] == ["chr1"]
    assert json.dumps(attrs["ingest"]["samples"]["a"]["aliases"]) == '{"1": "chr1"}'


def test_a_genome_under_another_files_names(tmp_path):
    put(tmp_path / "g.fa", ">chr1\nACGT\n>chr2\nGG\n>other\nA\n")
    genome = Genome.open(tmp_path / "g.fa")
    named = genome.named_as(["1", "chr2", "unknown"])
    assert named.contigs == ("1", "chr2", "other")
    assert named.bases("1", 1, 3).tobytes() == b"CG"
    assert named.bases("chr2").tobytes() == b"GG"
    assert genome.named_as(["chr1"]) is genome


def test_conflicts_are_between_files_only():
    assert _contigs.conflict([["chrM", "chrMT"], ["chrM"]]) is None
    assert _contigs.conflict([["chr1"], ["Chr1"]]) == ("chr1", "Chr1")
    assert _contigs.conflict([["NC_000001.10"], ["NC_000001.11"]]) is not None
    assert _contigs.conflict([["chr1", "chr2"], ["lambda"]]) is None
    assert set(HUMAN) == set(ASSEMBLIES[0].lengths)

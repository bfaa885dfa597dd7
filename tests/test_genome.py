"""Bases and contexts: plain, bgzip and gzip FASTA; every answer is read off the literal below."""

import gzip
import os
import threading
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma import _fasta, genome
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts, strand_of_base
from melisma.methylome import CONTEXTS

SHARED = Path(__file__).parents[2] / "shared"

FASTA = ">chr2 the first\nACGTacgtNN\nCCGG\n>chr10\nTTTTTTTTTT\nGA\n"
BASES = {"chr2": b"ACGTACGTNNCCGG", "chr10": b"TTTTTTTTTTGA"}


def plain(folder: Path, text: str = FASTA, name: str = "toy.fa") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def bgzip(folder: Path) -> Path:
    path = folder / "toy.fa.gz"
    pysam.tabix_compress(str(plain(folder, name="source.fa")), str(path))
    return path


def gzipped(folder: Path) -> Path:
    path = folder / "toy.fa.gz"
    path.write_bytes(gzip.compress(FASTA.encode()))
    return path


def crlf(folder: Path) -> Path:
    return plain(folder, FASTA.replace("\n", "\r\n"))


def ragged(folder: Path) -> Path:
    return plain(folder, FASTA.replace("ACGTacgtNN\nCCGG", "ACG\n\nTacgtNNCC\nGG"))


@pytest.mark.parametrize("make", [plain, bgzip, gzipped, crlf, ragged])
def test_every_packing_gives_the_same_bases(make, tmp_path):
    opened = Genome.open(make(tmp_path))
    assert opened.name == "toy"
    assert opened.contigs == ("chr2", "chr10")
    assert opened.lengths == {"chr2": 14, "chr10": 12}
    for contig, expected in BASES.items():
        found = opened.bases(contig)
        assert found.dtype == np.uint8
        assert found.tobytes() == expected
        assert not found.flags.writeable
    assert opened.bases("chr2", 8, 12).tobytes() == b"NNCC"
    assert opened.bases("chr2", 14).tobytes() == b""


ODD = ">a one two\n\nACgtRYkmN\n\nCG\n>none\n>b\tdescribed\nCNG\n\n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packing", ["plain", "gzip", "bgzip"])
def test_odd_fasta_files(packing, end, tmp_path):
    """Lower case, IUPAC codes, empty lines, an empty contig, descriptions, Windows line ends."""
    path = plain(tmp_path, ODD.replace("\n", end))
    if packing == "gzip":
        path = tmp_path / "odd.fa.gz"
        path.write_bytes(gzip.compress(ODD.replace("\n", end).encode()))
    elif packing == "bgzip":
        pysam.tabix_compress(str(path), str(tmp_path / "odd.fa.gz"))
        path = tmp_path / "odd.fa.gz"
    opened = Genome.open(path)
    assert opened.lengths == {"a": 11, "b": 3}
    assert opened.bases("a").tobytes() == b"ACGTRYKMNCG"
    assert opened.bases("b", 1, 3).tobytes() == b"NG"
    # The C before an N is open; an ambiguous letter is no cytosine.
    position, strand = np.array([1, 9, 4, 5]), np.ones(4, np.int8)
    assert words(contexts(opened.bases("a"), position, strand)) == [
        "CG", "CG", "unknown", "unknown",
    ]  # fmt: skip


@pytest.mark.parametrize("make", [plain, bgzip, crlf])
def test_what_can_be_indexed_is_not_read_whole(make, tmp_path, monkeypatch):
    monkeypatch.setattr(_fasta, "MEMORY_LIMIT", 20)
    assert Genome.open(make(tmp_path)).bases("chr10").tobytes() == BASES["chr10"]


def test_a_broken_index_is_refused(tmp_path):
    path = plain(tmp_path)
    (tmp_path / "toy.fa.fai").write_text("nonsense\n")
    with pytest.raises(MelismaError, match=r"toy\.fa\.fai .* cannot be read: remove it"):
        Genome.open(path)


def test_index_is_used_again_and_rebuilt_when_the_file_is_newer(tmp_path):
    path = plain(tmp_path)
    Genome.open(path)
    index = tmp_path / "toy.fa.fai"
    assert index.read_text().splitlines()[1].split("\t")[:2] == ["chr10", "12"]
    path.write_text(">chr1\nACG\n")
    os.utime(path, (index.stat().st_mtime + 10,) * 2)
    assert Genome.open(path).lengths == {"chr1": 3}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["toy.fa", "toy.fa.fai"]


def test_index_goes_to_the_cache_where_the_folder_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "genomes"
    folder.mkdir()
    path = bgzip(folder)
    before = sorted(folder.iterdir())
    real = os.replace

    def refuse(source, target):
        # Root may write to a read-only folder, so the refusal is made here.
        if Path(target).parent == folder:
            raise PermissionError(13, "Permission denied", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    assert Genome.open(path).bases("chr2", 0, 4).tobytes() == b"ACGT"
    assert sorted(folder.iterdir()) == before
    kept = sorted(p.suffix for p in (tmp_path / "cache" / "melisma" / "genomes").iterdir())
    assert kept == [".fai", ".gzi"]


def test_cache_holds_the_last_contigs_only(tmp_path):
    text = "".join(f">c{i}\n{'ACGT'[i]}CGT\n" for i in range(4))
    opened = Genome.open(plain(tmp_path, text))
    for contig in opened.contigs:
        opened.bases(contig)
    assert list(opened._cache) == ["c2", "c3"]
    assert opened.bases("c2", 1, 3).tobytes() == b"CG"
    assert list(opened._cache) == ["c3", "c2"]
    assert opened.bases("c0", 1, 3).tobytes() == b"CG"
    assert list(opened._cache) == ["c3", "c2"]


def test_long_contigs_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(_fasta, "_READ_SIZE", 3)
    monkeypatch.setattr(genome, "DIRECT_READ", 5)
    opened = Genome.open(plain(tmp_path))
    assert opened.bases("chr10", 1, 5).tobytes() == b"TTTT"
    assert opened.bases("chr2", 1, 13).tobytes() == b"CGTACGTNNCCG"


def test_threads_read_the_same_bases(tmp_path):
    letters = np.random.default_rng(1).choice(list(b"ACGT"), (6, 5000)).astype(np.uint8)
    text = "".join(f">c{i}\n{row.tobytes().decode()}\n" for i, row in enumerate(letters))
    opened = Genome.open(plain(tmp_path, text))
    wrong: list[str] = []

    def read(seed: int) -> None:
        wrong.extend(
            f"c{i}"
            for i in np.random.default_rng(seed).integers(0, 6, 100)
            if not (opened.bases(f"c{i}", 10 * i, 4000) == letters[i, 10 * i : 4000]).all()
        )

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("@read\nACGT\n+\nIIII\n", "begins with '@read"),
        (">a\nAC\n>b\nAC\n>a\nGG\n", "holds the contig 'a' 2 times"),
        (">a\nAC\n>\nGG\n", "without a contig name"),
        (">a\nAC\nACG\nA\n>a\nGG\n", "holds the contig 'a' 2 times"),
    ],
)
def test_what_is_no_genome_is_refused(text, said, tmp_path):
    with pytest.raises(MelismaError, match=said):
        Genome.open(plain(tmp_path, text))
    assert [p.name for p in tmp_path.iterdir()] == ["toy.fa"]


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.fa", tmp_path):
        with pytest.raises(MelismaError, match="no genome file"):
            Genome.open(path)


def test_a_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "toy.fa.gz"
    path.write_bytes(gzip.compress(FASTA.encode())[:-12])
    with pytest.raises(MelismaError, match="truncated or damaged"):
        Genome.open(path)


def test_gzip_of_something_else_is_refused(tmp_path):
    path = tmp_path / "toy.fa.gz"
    path.write_bytes(gzip.compress(b"chr1\t5\n"))
    with pytest.raises(MelismaError, match="is not a FASTA file"):
        Genome.open(path)


def test_a_large_gzip_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(_fasta, "MEMORY_LIMIT", 20)
    with pytest.raises(MelismaError, match=r"`bgzip toy\.fa`"):
        Genome.open(gzipped(tmp_path))


def test_a_file_that_shrank_behind_its_index_is_refused(tmp_path):
    path = plain(tmp_path)
    Genome.open(path)
    path.write_text(">chr2\nACG\n")
    os.utime(path, (1, 1))
    with pytest.raises(MelismaError, match=r"shorter than its index says at chr10:0-12"):
        Genome.open(path).bases("chr10")


@pytest.mark.parametrize(
    ("contig", "start", "end", "said"),
    [
        ("2", 0, 1, "it has 'chr2': rename"),
        ("chrX", 0, 1, "it has chr2, chr10: give the genome"),
        ("chr2", 3, 15, "chr2:3-15 does not lie within .* 14 bases"),
        ("chr2", -1, 2, "does not lie within"),
        ("chr2", 3, 2, "does not lie within"),
    ],
)
def test_a_stretch_that_is_not_there_is_refused(contig, start, end, said, tmp_path):
    with pytest.raises(MelismaError, match=said):
        Genome.open(plain(tmp_path)).bases(contig, start, end)


def test_contexts_on_both_strands_by_hand():
    #                0123456789
    bases = ascii_("CGACAGTTNC")
    # +: 0 CG, 3 C then A, G: CHG; 9 C at the end: unknown. 2 is A: unknown.
    plus = contexts(bases, np.array([0, 3, 9, 2]), np.array([1, 1, 1, 1], np.int8))
    assert words(plus) == ["CG", "CHG", "unknown", "unknown"]
    # -: 1 G reads CG; 5 G: complement before it is T (of A), then G (of C): CHG.
    minus = contexts(bases, np.array([1, 5, 0]), np.array([-1, -1, -1], np.int8))
    assert words(minus) == ["CG", "CHG", "unknown"]


def test_contexts_are_unknown_only_where_they_must_be():
    for text, expected in [
        ("CG", "CG"),
        ("CN", "unknown"),
        ("CT", "unknown"),
        ("CTN", "unknown"),
        ("CTT", "CHH"),
        ("CTG", "CHG"),
        ("CRG", "unknown"),
    ]:
        assert words(contexts(ascii_(text), np.array([0]), np.array([1], np.int8))) == [expected]


def test_strand_zero_is_read_from_the_base():
    bases = ascii_("TCGAATGA")
    position = np.array([1, 2, 6, 0, 99, -1])
    found = contexts(bases, position, np.zeros(6, np.int8))
    # 6 is G: read backwards its complements are A, T: CHH.
    assert words(found) == ["CG", "CG", "CHH", "unknown", "unknown", "unknown"]
    assert strand_of_base(bases, position).tolist() == [1, -1, -1, 0, 0, 0]
    assert strand_of_base(bases, position, "A").tolist() == [0, 0, 0, -1, 0, 0]


def reference_context(bases: str, position: int, strand: int) -> str:
    """The same answer from strings: the reverse complement, and three letters of it."""
    if strand < 0:
        bases = bases.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        position = len(bases) - 1 - position
    first, second, third = (bases[position : position + 3] + "NNN")[:3]
    if first == "C" and second == "G":
        return "CG"
    if first == "C" and second in "ACT" and third in "ACGT":
        return "CHG" if third == "G" else "CHH"
    return "unknown"


@settings(deadline=None)
@given(st.text("ACGTN", min_size=1, max_size=30))
def test_contexts_match_the_reverse_complement(text):
    position = np.arange(len(text))
    for strand in (1, -1):
        found = contexts(ascii_(text), position, np.full(len(text), strand, np.int8))
        assert words(found) == [reference_context(text, int(p), strand) for p in position]


@given(st.lists(st.tuples(st.sampled_from("ACGTNacgtn"), st.integers(0, 40)), max_size=6))
def test_header_scan_sees_every_contig_whatever_the_read_size(contigs):
    text = "".join(f">c{i}>\n{letter * n}\n" for i, (letter, n) in enumerate(contigs))
    for size in (1, 2, 7, 1000):
        pieces = [text[i : i + size].encode() for i in range(0, len(text), size)]
        assert list(_fasta.header_counts(pieces)) == [f"c{i}>" for i in range(len(contigs))]


@pytest.mark.reference
def test_plain_gzip_of_a_human_chromosome():
    path = SHARED / "data" / "vendorable" / "imr90_chr22" / "chr22.hg19.fa.gz"
    if not path.exists():
        pytest.skip("../shared is absent")
    opened = Genome.open(path)
    assert opened.name == "chr22.hg19"
    assert opened.lengths == {"chr22": 51_304_566}


def ascii_(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def words(found: np.ndarray) -> list[str]:
    assert found.dtype == np.int8
    return [CONTEXTS[i] for i in found]

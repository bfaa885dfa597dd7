"""modBAM to counts: small BAMs worked out by hand."""

from contextlib import contextmanager, nullcontext
from pathlib import Path

import pysam
import pytest
from modbam_files import Read, all_rows, bam, rows

from melisma.calls import modbam
from melisma.calls.modbam import pileup, read_modbam
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import CONTEXTS
from melisma.progress import reporting

# Its cytosines are bases 1, 4 and 7; at position 10 they lie at 11, 14 and 17.
FORWARD = "ACGTCGAC"
# The same molecule aligned in reverse: its cytosines lie at 16, 13 and 10.
REVERSE = "GTCGACGT"
# m at the first: 401 of 512 against h 41 and canonical 70; h at the third: 461 against 21, 30.
SEPARATE = Read(FORWARD, "C+m?,0,1;C+h?,0,1;", (200, 10, 20, 230))
M_THEN_H = {(11, "+", "m"): [1, 1, 0, 0], (11, "+", "h"): [1, 0, 0, 1]} | {
    (17, "+", "m"): [1, 0, 0, 1],
    (17, "+", "h"): [1, 1, 0, 0],
}


@pytest.mark.parametrize(
    ("mm", "ml"),
    [
        ("C+m?,0,1;C+h?,0,1;", (200, 10, 20, 230)),
        ("C+h?,0,1;C+m?,0,1;", (20, 230, 200, 10)),
        ("C+mh?,0,1;", (200, 20, 10, 230)),
        ("C+hm?,0,1;", (20, 200, 230, 10)),
        ("C+27551?,0,1;C+76792?,0,1;", (200, 10, 20, 230)),
    ],
)
def test_two_marks_however_they_are_written(mm, ml, tmp_path):
    assert rows(bam(tmp_path, Read(FORWARD, mm, ml))) == M_THEN_H


def test_deltas_count_from_the_reads_own_start_when_it_is_reversed(tmp_path):
    path = bam(tmp_path, Read(REVERSE, "C+m?,0,1;", (200, 10), flag=16))
    assert rows(path) == {(16, "-", "m"): [1, 1, 0, 0], (10, "-", "m"): [1, 0, 1, 0]}


@pytest.mark.parametrize("skipped", [".", ""])
def test_skipped_bases_are_canonical_without_a_question_mark(skipped, tmp_path):
    path = bam(tmp_path, Read(FORWARD, f"C+m{skipped},1;", (200,)))
    assert rows(path) == {
        (11, "+", "m"): [1, 0, 1, 0],
        (14, "+", "m"): [1, 1, 0, 0],
        (17, "+", "m"): [1, 0, 1, 0],
    }


def test_a_group_without_calls_and_an_empty_tag(tmp_path):
    canonical = {(p, "+", "m"): [1, 0, 1, 0] for p in (11, 14, 17)}
    assert rows(bam(tmp_path, Read(FORWARD, "C+m.;"))) == canonical
    assert rows(bam(tmp_path, Read(FORWARD, "C+m.;", None))) == canonical
    assert rows(bam(tmp_path, Read(FORWARD, "C+m?;"))) == {}
    assert rows(bam(tmp_path, Read(FORWARD, ""))) == {}


def test_one_group_skips_what_another_calls(tmp_path):
    # h is called at 14 only; m says that 11 and 17 are unmodified and calls 14 less probable.
    path = bam(tmp_path, Read(FORWARD, "C+h?,1;C+m.,1;", (150, 60)))
    assert rows(path) == {
        (11, "+", "m"): [1, 0, 1, 0],
        (14, "+", "m"): [1, 0, 0, 1],
        (14, "+", "h"): [1, 1, 0, 0],
        (17, "+", "m"): [1, 0, 1, 0],
    }


@pytest.mark.parametrize(
    ("mm", "key"),
    [
        ("A+a?,1;", (16, "+", "a")),
        ("A+28871?,1;", (16, "+", "a")),
        ("C+21839?,1;", (14, "+", "21839")),
        ("C+C?,1;", (14, "+", "C")),
        ("N+m?,4;", (14, "+", "m")),
        ("N+a?,6;", (16, "+", "a")),
        ("G-m?,1;", (15, "-", "m")),
        ("T-a?,0;", (13, "-", "a")),
    ],
)
def test_every_supported_code_and_the_opposite_strand(mm, key, tmp_path):
    assert rows(bam(tmp_path, Read(FORWARD, mm, (255,)))) == {key: [1, 1, 0, 0]}


def test_a_group_of_any_base_counts_only_at_its_marks_base(tmp_path):
    # N+m calls bases 0 (A) and 1 (C).
    path = bam(tmp_path, Read(FORWARD, "N+m?,0,0;", (255, 255)))
    assert rows(path) == {(11, "+", "m"): [1, 1, 0, 0]}


def test_clips_insertions_deletions_and_skips_move_the_calls(tmp_path):
    # Bases AC GTC GAC CGC: 2 clipped, 3 at 10-12, 2 inserted, 1 at 13, deletion 14-15,
    # 1 at 16, skip 17-19, 2 at 20-21. Cytosines 1 (clipped), 4 -> 12, 7 -> 16 (see below).
    sequence = "ACGTCGACCGC"
    cigar = "2S3M2I1M2D1M3N2M"
    path = bam(tmp_path, Read(sequence, "C+m?,0,0,0,0,0;", (255,) * 5, cigar=cigar))
    # Query 0-1 clipped, 2-4 -> 10-12, 5-6 inserted, 7 -> 13, 8 -> 16, 9-10 -> 20-21.
    expected = {p: [1, 1, 0, 0] for p in (12, 13, 16, 21)}
    assert rows(path) == {(p, "+", "m"): count for p, count in expected.items()}


def test_the_remaining_columns_of_modkits_table(tmp_path):
    # At position 11 (+): a call, a fail at .6 (140.5 / 256), another base, a deletion, no call.
    reads = [
        Read("ACGT", "C+m?,0;", (250,)),
        Read("ACGT", "C+m?,0;", (140,)),
        Read("ATGTC", "C+m?,0;", (250,)),
        Read("AGT", "C+m?;", (), cigar="1M1D2M"),
        Read("ACGTC", "C+m?,1;", (250,)),
        Read("ACGT", "C+m?,0;", (250,), flag=16),
    ]
    found = all_rows(bam(tmp_path, *reads), min_probability=0.6)
    assert found[11, "+", "m"] == [1, 1, 0, 0, 1, 1, 1, 1]
    assert found[14, "+", "m"] == [2, 2, 0, 0, 0, 0, 0, 0]
    assert found[12, "-", "m"] == [1, 1, 0, 0, 0, 0, 0, 0]
    assert len(found) == 3


def test_a_call_as_probable_as_the_threshold_counts(tmp_path):
    path = bam(tmp_path, Read("ACGT", "C+m?,0;", (128,)))
    assert rows(path, min_probability=257 / 512) == {(11, "+", "m"): [1, 1, 0, 0]}
    assert all_rows(path, min_probability=258 / 512)[11, "+", "m"][:6] == [0, 0, 0, 0, 0, 1]
    (calls,) = read_modbam(path, min_probability=258 / 512)
    assert calls.position.tolist() == []


def test_halfway_codes_and_ties(tmp_path):
    # ML 127 is 255 of 512 against canonical 257; two marks of 241 each: the first of MARKS.
    assert rows(bam(tmp_path, Read("ACGT", "C+m?,0;", (127,)))) == {(11, "+", "m"): [1, 0, 1, 0]}
    tie = {(11, "+", "m"): [1, 1, 0, 0], (11, "+", "h"): [1, 0, 0, 1]}
    assert rows(bam(tmp_path, Read("ACGT", "C+hm?,0;", (120, 120)))) == tie


def test_only_primary_mapped_reads_without_duplicates_count(tmp_path):
    skipped = [Read("ACGT", "C+m?,0;", (255,), flag=f) for f in (4, 256, 1024, 2048)]
    untagged = Read("ACGT", None, None)
    path = bam(tmp_path, *skipped, untagged, Read("ACGT", "C+m?,0;", (0,)))
    assert all_rows(path) == {(11, "+", "m"): [1, 0, 1, 0, 0, 0, 0, 0]}


def test_an_unsupported_code_is_refused_unless_one_mark_is_chosen(tmp_path):
    read = Read(FORWARD, "C+m?,0;C+f?,0;A+17596?,0;", (100, 140, 255))
    path = bam(tmp_path, read)
    with pytest.raises(MelismaError, match=r"toy\.bam read read0: the modification 'f' is not"):
        list(pileup(path))
    # f is the more probable at 11: another modification of C.
    assert rows(path, mark="5mC") == {(11, "+", "m"): [1, 0, 0, 1]}
    assert rows(path, mark="6mA") == {}
    with pytest.raises(MelismaError, match=r"'A\+m\?' is not supported, for 5mC is on C"):
        list(pileup(bam(tmp_path, Read(FORWARD, "A+m?,0;", (255,)))))


def test_a_chosen_mark_keeps_the_other_marks_calls_in_its_coverage(tmp_path):
    path = bam(tmp_path, SEPARATE)
    assert rows(path, mark="5hmC") == {k: v for k, v in M_THEN_H.items() if k[2] == "h"}
    calls = list(read_modbam(path, mark="76792"))
    assert [c.contig for c in calls] == ["chr1"]
    assert calls[0].position.tolist() == [11, 17]
    assert calls[0].methylated.tolist() == [0, 1]
    assert calls[0].coverage.tolist() == [1, 1]
    assert calls[0].mark.tolist() == [1, 1]
    assert calls[0].context is None
    assert [a.dtype.name for a in calls[0][1:6]] == ["int32", "int8", "int8", "uint32", "uint32"]


def test_the_old_spelling_of_the_tags(tmp_path):
    path = bam(tmp_path, SEPARATE)
    old = tmp_path / "old.bam"
    with (
        pysam.AlignmentFile(str(path)) as source,
        pysam.AlignmentFile(str(old), "wb", template=source) as target,
    ):
        for read in source:
            for name in ("MM", "ML"):
                read.set_tag(name.title(), read.get_tag(name))
                read.set_tag(name, None)
            target.write(read)
    pysam.index(str(old))
    assert rows(old) == M_THEN_H


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (Read("ACGT", "C+m?,0;", (255,), mn=9), "called on 9 bases, and its sequence has 4"),
        (Read("ACGT", "C+m?,0;", (255,), cigar="2H4M"), "hard-clipped and has no MN"),
        (Read("ACGT", "C+m?,1;", (255,)), "counts more bases than its sequence has"),
        (Read("ACGT", "C+m?,0;", ()), "0 probabilities and its MM tag 1"),
        (Read("ACGT", "C+m?,0;", None), "0 probabilities and its MM tag 1"),
        (Read("ACGT", "C+mh?,0;", (255,)), "1 probabilities and its MM tag 2"),
        (Read("ACGT", "C+m?,0", (255,)), "without the final ';'"),
        (Read("ACGT", "C+m?,x;", (255,)), "has 'C\\+m\\?,x', not a base"),
        (Read("ACGT", "C+m?,0,;", (255, 1)), "not a base, strand, code and numbers"),
        (Read("ACGT", "Cm?,0;", (255,)), "has 'Cm\\?', not a base"),
        (Read("ACGT", "C+m?,0;C+m?,0;", (255, 255)), "holds C\\+m twice"),
    ],
)
def test_contradictory_tags_are_refused_with_the_reads_name(read, said, tmp_path):
    with pytest.raises(MelismaError, match=rf"toy\.bam read read0: .*{said}"):
        list(pileup(bam(tmp_path, read)))


def test_hard_clips_are_fine_where_the_length_agrees(tmp_path):
    path = bam(tmp_path, Read("ACGT", "C+m?,0;", (255,), cigar="2H4M", mn=4))
    assert rows(path) == {(11, "+", "m"): [1, 1, 0, 0]}


def test_what_is_no_indexed_modbam_is_refused(tmp_path):
    with pytest.raises(MelismaError, match="no file"):
        next(pileup(tmp_path / "none.bam"))
    path = bam(tmp_path, SEPARATE, index=False)
    with pytest.raises(MelismaError, match=r"no index beside it: .*`samtools index toy\.bam`"):
        next(pileup(path))
    with pytest.raises(MelismaError, match="no MM tag in its first 1 reads"):
        next(pileup(bam(tmp_path, Read("ACGT", None, None))))
    with pytest.raises(MelismaError, match="no mapped primary read"):
        next(pileup(bam(tmp_path, Read("ACGT", "C+m?,0;", (1,), flag=4))))
    text = tmp_path / "toy.txt"
    text.write_text("chr1\t1\n")
    with pytest.raises(MelismaError, match="cannot be read as BAM"):
        next(pileup(text))
    sam = tmp_path / "toy.sam"
    sam.write_text("@SQ\tSN:chr1\tLN:60\n")
    with pytest.raises(MelismaError, match="not BAM but SAM or CRAM"):
        next(pileup(sam))
    with pytest.raises(MelismaError, match="from 0 to 1"):
        next(pileup(text, min_probability=2))
    with pytest.raises(MelismaError, match="no contig 'chr9'; it has chr1, chr2"):
        next(pileup(bam(tmp_path, SEPARATE), contigs=["chr9"]))


def test_a_truncated_bam_is_refused(tmp_path):
    reads = [Read(FORWARD * 6, "C+m?,0,1;", (200, 10), start=i % 10) for i in range(40)]
    path = bam(tmp_path, *reads)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(MelismaError, match="truncated"):
        list(pileup(path))


@contextmanager
def notes():
    """The notes that a block of code leaves."""
    said = []

    class Listener:
        def stage(self, name, total):
            return nullcontext(lambda done: None)

        def note(self, text):
            said.append(text)

    with reporting(Listener()):
        yield said


def toy_genome(folder: Path, text: str) -> Genome:
    (folder / "toy.fa").write_text(text)
    return Genome.open(folder / "toy.fa")


def test_a_genome_gives_contexts_and_drops_other_bases(tmp_path):
    # Under the read at 10: ACGTTGAC, whose 14 is T; 17 is C before A, A: CHH.
    bases = "T" * 10 + "ACGTTGAC" + "A" * 42
    genome = toy_genome(tmp_path, f">chr1\n{bases}\n>chr2\n{bases}\n")
    path = bam(tmp_path, Read(FORWARD, "C+m.,0;", (255,)))
    with notes() as said:
        (found,) = pileup(path, genome=genome)
    assert found.position.tolist() == [11, 17]
    assert [CONTEXTS[i] for i in found.context] == ["CG", "CHH"]
    assert said == [
        "toy.bam: 1 of 3 rows lie on another reference base (read errors or variants) and were "
        "dropped."
    ]
    (calls,) = read_modbam(path, genome=genome)
    assert calls.context is not None
    assert calls.context.tolist() == found.context.tolist()


def test_another_genome_is_refused(tmp_path, monkeypatch):
    path = bam(tmp_path, Read(FORWARD, "C+m.,0;", (255,)))
    with pytest.raises(MelismaError, match=r"no contig 'chr1'; it has chr2"):
        list(pileup(path, genome=toy_genome(tmp_path, ">2\nACGT\n")))
    with pytest.raises(MelismaError, match=r"chr1 of 60 bases, and genome toy has 4"):
        list(pileup(path, genome=toy_genome(tmp_path, ">chr1\nACGT\n")))
    monkeypatch.setattr(modbam, "MATCHING_CALLS", 3)
    with pytest.raises(MelismaError, match=r"0% lie on their base in genome toy"):
        list(pileup(path, genome=toy_genome(tmp_path, f">chr1\n{'A' * 60}\n")))

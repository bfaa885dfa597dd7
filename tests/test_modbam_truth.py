"""modBAM to counts against modkit's files, a slow plain reference, windows and processes."""

import re
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from modbam_files import Read, all_rows, bam

from melisma.calls import _modbam_kernels as kernels
from melisma.calls import modbam
from melisma.calls.modbam import pileup
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import CONTEXTS, MARKS

MODKIT = Path(__file__).parents[2] / "shared" / "data" / "reference" / "modkit"
BAM = MODKIT / "bc_anchored_10_reads.sorted.bam"
# Columns N valid, modified, canonical, other, delete, fail, diff, no-call.
BEDMETHYL = (9, 11, 12, 13, 14, 15, 16, 17)
OLD_LAYOUT = (12, 14, 15, 16, 17, 18, 19, 20)
CONTIG = "oligo_1512_adapters"
needs_modkit = pytest.mark.skipif(not BAM.exists(), reason="../shared is absent")


def expected_rows(name: str, columns: tuple[int, ...]) -> dict[tuple[int, str, str], list[int]]:
    """modkit's rows; every one of these files is about one contig."""
    table = [line.split() for line in (MODKIT / name).read_text().splitlines()]
    assert {row[0] for row in table} == {CONTIG}
    return {(int(r[1]), r[5], r[3]): [int(r[k]) for k in columns] for r in table}


def cg_rows(folder: Path) -> dict[tuple[int, str, str], list[int]]:
    # The index is written beside the FASTA, so it is copied first.
    reference = folder / "ladder.fa"
    reference.write_bytes((MODKIT / "CGI_ladder_3.6kb_ref.fa").read_bytes())
    genome = Genome.open(reference)
    (found,) = pileup(BAM, genome=genome)
    context = {int(p): CONTEXTS[c] for p, c in zip(found.position, found.context, strict=True)}
    every = all_rows(BAM, CONTIG, genome=genome)
    return {key: counts for key, counts in every.items() if context[key[0]] == "CG"}


@pytest.mark.reference
@needs_modkit
def test_all_positions_equal_modkits_52_rows():
    expected = expected_rows("modbam.modpileup_nofilt.bed", OLD_LAYOUT)
    assert len(expected) == 52
    assert all_rows(BAM, CONTIG) == expected


@pytest.mark.reference
@needs_modkit
def test_cpg_positions_equal_modkits_38_rows(tmp_path):
    expected = expected_rows("bc_anchored_10_reads_nofilt_cg_motif.bed", BEDMETHYL)
    assert len(expected) == 38
    assert cg_rows(tmp_path) == expected


@pytest.mark.reference
@needs_modkit
def test_combined_strands_equal_modkits_22_rows(tmp_path):
    expected = expected_rows("bc_anchored_10_reads_nofilt_cg_motif_strand_combine.bed", BEDMETHYL)
    assert len(expected) == 22
    combined = defaultdict(lambda: [0] * 8)
    for (position, strand, code), counts in cg_rows(tmp_path).items():
        # A minus-strand call belongs to the CpG one position before it.
        key = (position - (strand == "-"), ".", code)
        combined[key] = [a + b for a, b in zip(combined[key], counts, strict=True)]
    assert dict(combined) == expected


ORDER = ("canonical", *(mark.code for mark in MARKS))
PAIR = str.maketrans("ACGT", "TGCA")


def slow_pileup(reads: list[Read], min_probability: float) -> dict[tuple[int, str, str], list[int]]:
    """The rules of the SAM tags, one base at a time, with dictionaries and exact fractions."""
    letters, deletes = defaultdict(list), defaultdict(int)
    calls, told = defaultdict(list), defaultdict(set)
    for read in reads:
        reverse = bool(read.flag & 16)
        original = read.sequence.translate(PAIR)[::-1] if reverse else read.sequence
        sides, bases = slow_tags(original, read.mm or "", list(read.ml or ()))
        strands = {"+": "-" if reverse else "+", "-": "+" if reverse else "-"}
        for query, reference in slow_alignment(read):
            if query is None:
                for side in sides:
                    deletes[reference, strands[side]] += 1
                continue
            at = len(original) - 1 - query if reverse else query
            for side in sides:
                letter = original[at] if side == "+" else original[at].translate(PAIR)
                letters[reference, strands[side]].append(letter)
            for side, probability in bases.get(at, {}).items():
                modified = original[at] if side == "+" else original[at].translate(PAIR)
                options = {"canonical": 1 - sum(probability.values())} | probability
                # The first of the most probable: canonical, then in the order of MARKS.
                options = {code: options[code] for code in ORDER if code in options}
                best = max(options, key=lambda code: options[code])
                key = (reference, strands[side], modified)
                calls[key].append(best if options[best] >= min_probability else "fail")
                told[key] |= set(probability)
    found = {}
    for (position, strand, base), made in calls.items():
        seen = letters[position, strand]
        valid = [call for call in made if call != "fail"]
        for code in told[position, strand, base]:
            n, m, c = len(valid), valid.count(code), valid.count("canonical")
            found[position, strand, code] = [
                *(n, m, c, n - m - c, deletes[position, strand], len(made) - n),
                *(len(seen) - seen.count(base), seen.count(base) - len(made)),
            ]
    return found


def slow_tags(original: str, mm: str, ml: list[int]):
    """Strands that the groups speak of, and code probabilities of each (base, strand)."""
    sides, bases = set(), defaultdict(dict)
    of_code = {mark.code: mark.base for mark in MARKS}
    for base, side, codes, skipped, numbers in re.findall(
        r"(.)([+-])(\w+?)([.?]?)((?:,\d+)*);", mm
    ):
        sides.add(side)
        places = [i for i, letter in enumerate(original) if base in ("N", letter)]
        todo = [int(n) for n in numbers.split(",")[1:]]
        for i in places:
            known = {}
            if todo and todo[0] == 0:
                todo.pop(0)
                known = {code: (ml.pop(0) + 0.5) / 256 for code in codes}
            else:
                if todo:
                    todo[0] -= 1
                if skipped != "?":
                    known = dict.fromkeys(codes, 0.0)
            letter = original[i] if side == "+" else original[i].translate(PAIR)
            for code, probability in known.items():
                if of_code[code] == letter:
                    bases[i].setdefault(side, {})[code] = probability
        assert not todo
    assert not ml
    return sides or {"+"}, bases


def slow_alignment(read: Read):
    """(query, reference) of each aligned base, (None, reference) of each deleted one."""
    query, reference = 0, read.start
    for length, operation in re.findall(r"(\d+)(\w)", read.cigar or f"{len(read.sequence)}M"):
        for _ in range(int(length)):
            if operation in "MD":
                yield (query if operation == "M" else None), reference
            query += operation in "MIS"
            reference += operation in "MDN"


@st.composite
def toy_reads(draw) -> Read:
    sequence = draw(st.text("ACGT", min_size=1, max_size=14))
    reverse = draw(st.booleans())
    original = sequence.translate(PAIR)[::-1] if reverse else sequence
    heads = [["C+m", "C+h"], ["C+mh"], ["C+hm", "A+a"], ["G-m", "C+m"], ["N+m"], ["T-a"], []]
    mm, ml = "", []
    for head in draw(st.sampled_from(heads)):
        places = sum(head[0] in ("N", letter) for letter in original)
        called = draw(st.lists(st.booleans(), min_size=places, max_size=places))
        gaps = "".join("1" if c else "0" for c in called).split("1")[: sum(called)]
        mm += head + draw(st.sampled_from(["", ".", "?"]))
        mm += "".join(f",{len(gap)}" for gap in gaps) + ";"
        values = st.sampled_from([0, 63, 127, 128, 255]) | st.integers(0, 127)
        n = len(gaps) * (len(head) - 2)
        ml += draw(st.lists(values, min_size=n, max_size=n))
    cigar, left = "", len(sequence)
    if clip := draw(st.integers(0, min(2, left - 1))):
        cigar, left = f"{clip}S", left - clip
    while left:
        matched = draw(st.integers(1, left))
        cigar, left = f"{cigar}{matched}M", left - matched
        operation = draw(st.sampled_from("IDN"))
        length = draw(st.integers(1, 3))
        if operation != "I" and left:
            cigar += f"{length}{operation}"
        elif operation == "I" and left > length:
            cigar, left = f"{cigar}{length}I", left - length
    return Read(sequence, mm, tuple(ml), cigar, draw(st.integers(0, 12)), 16 * reverse)


@settings(max_examples=150, deadline=None)
@given(st.lists(toy_reads(), min_size=1, max_size=5), st.sampled_from([0.0, 0.4, 0.7]))
def test_counts_match_a_slow_reference(reads, min_probability):
    with tempfile.TemporaryDirectory() as folder:
        found = all_rows(bam(Path(folder), *reads), min_probability=min_probability, workers=1)
    assert found == slow_pileup(reads, min_probability)


def test_the_result_is_the_same_in_windows_and_processes(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    reads = []
    for i in range(60):
        sequence = "".join(rng.choice(list("ACGT"), 25))
        count = sequence.count("G" if i % 2 else "C")
        ml = tuple(int(k) for k in rng.integers(0, 256, 2 * count))
        mm = "C+mh?" + ",0" * count + ";"
        start, contig = int(rng.integers(0, 30)), f"chr{1 + i % 2}"
        reads.append(Read(sequence, mm, ml, "10M3D15M", start, 16 * (i % 2), contig=contig))
    path = bam(tmp_path, *reads)
    whole = list(pileup(path, workers=1))
    assert [part.contig for part in whole] == ["chr1", "chr2"]
    monkeypatch.setattr(modbam, "WINDOW_BASES", 7)
    monkeypatch.setattr(modbam, "BYTES_PER_WORKER", 1)
    for workers in (1, 2):
        if workers == 2:
            # Processes started anew have the real one: counting in this process would fail.
            monkeypatch.setattr(modbam, "WindowCounter", None)
        done: list[float] = []
        split = list(pileup(path, workers=workers, advance=done.append))
        assert sum(done) == pytest.approx(path.stat().st_size)
        for a, b in zip(whole, split, strict=True):
            assert a.contig == b.contig
            for one, other in zip(a[1:], b[1:], strict=True):
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)
    monkeypatch.undo()
    (only,) = pileup(path, contigs=["chr2"])
    np.testing.assert_array_equal(only.coverage, whole[1].coverage)


def test_an_error_in_a_worker_process_reaches_the_caller(tmp_path, monkeypatch):
    monkeypatch.setattr(modbam, "BYTES_PER_WORKER", 1)
    monkeypatch.setattr(modbam, "WindowCounter", None)
    good = Read("ACGT", "C+m?,0;", (255,))
    path = bam(tmp_path, good, Read("ACGT", "C+m?,1;", (255,), contig="chr2"))
    with pytest.raises(MelismaError, match="read1: its MM tag counts more bases"):
        list(pileup(path, workers=2))


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9 - 1), max_size=20))
def test_delta_lists_are_read_back(numbers):
    text = "".join(f",{n}" for n in numbers)
    assert kernels.parse_deltas(as_bytes(text)).tolist() == numbers


@settings(deadline=None)
@given(st.text(",01x", max_size=8))
def test_delta_lists_are_what_the_grammar_says(text):
    parts = text.split(",")
    legal = not text or (parts[0] == "" and all(p.isdigit() for p in parts[1:]))
    expected = [int(p) for p in parts[1:]] if legal else [-1]
    assert kernels.parse_deltas(as_bytes(text)).tolist() == expected


def as_bytes(text: str) -> np.ndarray:
    return np.frombuffer(bytearray(text.encode()), np.uint8)

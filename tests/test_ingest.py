"""Ingest: samples joined, strands merged, the genome compared, work taken up again."""

import fcntl
import json

import numpy as np
import polars as pl
import pytest
from calls_files import bed, cov, ingested, noted, put, sheet_of, sites
from hypothesis import given, settings
from hypothesis import strategies as st
from modbam_files import Read, bam

from melisma.calls import ingest
from melisma.calls._kernels import join_samples, settle, sum_repeats
from melisma.errors import MelismaError
from melisma.methylome import open_methylome, part_folder

# chr1 has CpGs at 2, 6 and 10 (0-based C), a CHG at 13, an N at 20.
GENOME = ">chr1\nAACGAACGAACGACAGTATTN\n>chr2\nACGT\n"


def test_samples_are_joined_at_the_union_of_their_sites(tmp_path):
    found = ingested(
        tmp_path, cov((5, 1, 1), (9, 2, 0)), cov((9, 0, 3)) + cov((4, 1, 0), contig="chr10")
    )
    assert sites(found) == [
        ("chr1", 4, 0, "m", "unknown", [(1, 2), (0, 0)]),
        ("chr1", 8, 0, "m", "unknown", [(2, 2), (0, 3)]),
        ("chr10", 3, 0, "m", "unknown", [(0, 0), (1, 1)]),
    ]
    assert found.attrs["contig_offsets"] == [0, 2, 3]
    assert found.attrs["strands"] == "unknown"


def test_contigs_come_in_natural_order_and_in_the_genomes(tmp_path):
    text = cov((2, 1, 0), contig="chr2") + cov((3, 1, 0), contig="chr10")
    assert ingested(tmp_path, text).attrs["contigs"] == ["chr2", "chr10"]
    fasta = put(tmp_path / "g.fa", ">chr10\nAACG\n>chr1\nAAAA\n>chr2\nACGT\n")
    assert ingested(tmp_path, text, genome=fasta).attrs["contigs"] == ["chr10", "chr2"]


def test_the_sheets_columns_stay_with_the_samples(tmp_path):
    files = [put(tmp_path / f"{k}.cov", cov((5, 1, 1))) for k in "xy"]
    sheet = sheet_of(files, cell=["b", "t"], age=[3, 4], format=["bismark-cov", None])
    ingest(sheet, tmp_path / "out.zarr")
    found = open_methylome(tmp_path / "out.zarr")
    assert found["cell"].values.tolist() == ["b", "t"]
    assert found["age"].values.tolist() == [3, 4]
    assert "path" not in found.coords
    assert "format" not in found.coords
    made = found.attrs["ingest"]["samples"]["b"]
    assert (made["file"], made["format"], made["rows"]) == ("y.cov", "bismark-cov", 1)


def test_the_genome_gives_strand_and_context_and_drops_calls_by_reason(tmp_path):
    fasta = put(tmp_path / "g.fa", GENOME)
    # 3, 4: C and G of the first CpG; 14: CHG; 1: an A; 21: the N; 22: past the end.
    text = cov((1, 0, 1), (3, 9, 1), (4, 8, 1), (14, 0, 7), (21, 1, 0), (22, 0, 1))
    found = ingested(tmp_path, text, genome=fasta)
    assert sites(found) == [
        ("chr1", 2, 1, "m", "CG", [(9, 10)]),
        ("chr1", 3, -1, "m", "CG", [(8, 9)]),
        ("chr1", 13, 1, "m", "CHG", [(0, 7)]),
    ]
    assert found.attrs["strands"] == "separate"
    assert found.attrs["genome"] == {"name": "g", "lengths": {"chr1": 21, "chr2": 4}}
    assert found.attrs["ingest"]["samples"]["a"]["drops"] == {
        "past the contig's end": 1,
        "not on a base that carries the mark": 1,
        "on an N of the genome": 1,
    }


def test_six_methyl_a_sits_on_a_or_t(tmp_path):
    fasta = put(tmp_path / "g.fa", GENOME)
    text = bed((0, "a", "+", 4, 1, 3, 0), (16, "a", "-", 9, 1, 8, 0))
    found = ingested(tmp_path, text, genome=fasta)
    assert [(site[1], site[2], site[3]) for site in sites(found)] == [(0, 1, "a"), (16, -1, "a")]


def test_strands_are_merged_at_the_c(tmp_path):
    fasta = put(tmp_path / "g.fa", GENOME)
    text = cov((3, 9, 1), (4, 8, 1), (8, 2, 3), (14, 0, 7))
    found = ingested(tmp_path, text, genome=fasta, merge_strands=True)
    assert sites(found) == [
        ("chr1", 2, 0, "m", "CG", [(17, 19)]),
        ("chr1", 6, 0, "m", "CG", [(2, 5)]),
    ]
    assert found.attrs["strands"] == "merged"
    assert found.attrs["ingest"]["samples"]["a"]["drops"] == {"not in CG": 1}


def test_strands_of_several_marks_are_merged_apart(tmp_path):
    fasta = put(tmp_path / "g.fa", GENOME)
    text = bed(
        (2, "h", "+", 4, 1, 2, 1),
        (2, "m", "+", 4, 1, 2, 1),
        (3, "h", "-", 6, 0, 3, 3),
        (3, "m", "-", 6, 3, 3, 0),
    )
    found = ingested(tmp_path, text, genome=fasta, merge_strands=True)
    assert [site[1:4] + tuple(site[5]) for site in sites(found)] == [
        (2, 0, "m", (4, 10)),
        (2, 0, "h", (1, 10)),
    ]


def test_strands_are_merged_by_the_files_own_context(tmp_path):
    text = (
        "chr1\tC\t3\tCG\tCG\t0.5\t1\t2\n"
        "chr1\tG\t4\tCG\tCG\t1.0\t3\t3\n"
        "chr1\tC\t9\tCHH\tCA\t0.0\t0\t3\n"
    )
    found = ingested(tmp_path, text, merge_strands=True)
    assert sites(found) == [("chr1", 2, 0, "m", "CG", [(4, 5)])]


def test_merged_bedmethyl_stays_as_it_is(tmp_path):
    fasta = put(tmp_path / "g.fa", GENOME)
    text = bed((2, "m", ".", 4, 1, 3, 0), (6, "m", ".", 5, 1, 4, 0))
    for options in ({}, {"genome": fasta}, {"merge_strands": True}):
        found = ingested(tmp_path, text, **options)
        assert [site[1:3] + tuple(site[5]) for site in sites(found)] == [
            (2, 0, (1, 4)),
            (6, 0, (1, 5)),
        ]
        assert found.attrs["strands"] == "merged"


def test_unsorted_input_is_sorted_and_said(tmp_path):
    rows = [(9, 2, 0), (5, 1, 1), (40, 0, 3), (7, 1, 0)]
    with noted() as notes:
        found = ingested(tmp_path, cov(*rows[:2]) + cov((3, 1, 0), contig="chr2") + cov(*rows[2:]))
    assert [site[:2] for site in sites(found)] == [
        ("chr1", 4),
        ("chr1", 6),
        ("chr1", 8),
        ("chr1", 39),
        ("chr2", 2),
    ]
    assert notes == [f"{tmp_path / '0.txt'} was not sorted by position: its calls were sorted."]


def test_several_unsorted_files_are_said_once(tmp_path):
    back, on = cov((9, 2, 0), (5, 1, 1)), cov((5, 1, 1), (9, 2, 0))
    with noted() as notes:
        ingested(tmp_path, on, back, back)
    assert notes == [
        f"2 of 3 files were not sorted by position, the first {tmp_path / '1.txt'}: their calls "
        "were sorted."
    ]


def test_codes_of_one_position_in_any_order_are_not_unsorted(tmp_path):
    with noted() as notes:
        found = ingested(tmp_path, bed((5, "h", "+", 4, 1, 3, 0), (5, "m", "+", 4, 2, 2, 0)))
    assert [site[3] for site in sites(found)] == ["m", "h"]
    assert notes == []


def random_samples(n_samples, seed):
    """Sorted strand-less calls of several samples on two contigs, as text and as a table."""
    rng = np.random.default_rng(seed)
    texts, cells = [], {}
    for sample in range(n_samples):
        text = ""
        for contig in ("chr1", "chr2"):
            position = np.flatnonzero(rng.random(400) < 0.5) + 1
            n = rng.integers(1, 30, len(position))
            m = rng.binomial(n, 0.6)
            text += cov(*zip(position, m, n - m, strict=True), contig=contig)
            for p, a, b in zip(position, m, n, strict=True):
                cells.setdefault((contig, int(p) - 1), [(0, 0)] * n_samples)[sample] = (
                    int(a),
                    int(b),
                )
        texts.append(text)
    return texts, cells


@pytest.mark.parametrize("suffix", [".cov", ".cov.gz"])
@pytest.mark.parametrize(
    ("workers", "block_bytes"), [(1, 1 << 22), (2, 1 << 22), (1, 100), (3, 257)]
)
def test_workers_and_blocks_change_nothing(tmp_path, suffix, workers, block_bytes):
    texts, cells = random_samples(3, seed=5)
    found = ingested(tmp_path, *texts, suffix=suffix, workers=workers, block_bytes=block_bytes)
    assert {site[:2]: site[-1] for site in sites(found)} == cells
    assert found.sizes["site"] == len(cells)


def test_buffers_smaller_than_a_contig_change_nothing(tmp_path, monkeypatch):
    from melisma.calls import _join, _spool

    texts, cells = random_samples(3, seed=6)
    monkeypatch.setattr(_join, "_BUFFER_BYTES", 0)
    monkeypatch.setattr(_join, "FRAME_CALLS", 7)
    monkeypatch.setattr(_spool, "FRAME_CALLS", 7)
    monkeypatch.setattr(_join, "chunk_sites", lambda n: 11)
    found = ingested(tmp_path, *texts)
    assert {site[:2]: site[-1] for site in sites(found)} == cells


@pytest.mark.parametrize("stretch", [1, 2, 3, 5])
def test_stretches_change_nothing(tmp_path, monkeypatch, stretch):
    from melisma.calls import _sample

    fasta = put(tmp_path / "g.fa", ">chr1\n" + "CGACCGCGTTCGCAGCG" * 20 + "\n")
    rng = np.random.default_rng(stretch)
    rows = []
    for k in range(20):
        for c in (0, 4, 6, 10, 15):
            for strand, p in (("+", 17 * k + c), ("-", 17 * k + c + 1)):
                m, h, u = rng.integers(0, 5, 3).tolist()
                if m + h + u and rng.random() < 0.8:
                    n = m + h + u
                    rows += [(p, "m", strand, n, m, u, h), (p, "h", strand, n, h, u, m)]
    options = {"genome": fasta, "merge_strands": True}
    whole = sites(ingested(tmp_path, bed(*rows), **options))
    assert len(whole) > 100
    monkeypatch.setattr(_sample, "STRETCH_CALLS", stretch)
    assert sites(ingested(tmp_path, bed(*rows), **options)) == whole


def test_a_finished_store_of_the_same_inputs_is_left_alone(tmp_path):
    files = [put(tmp_path / "a.cov", cov((5, 1, 1)))]
    first = ingest(sheet_of(files), tmp_path / "out.zarr")
    before = (tmp_path / "out.zarr" / "zarr.json").stat().st_mtime_ns
    with noted() as notes:
        again = ingest(sheet_of(files), tmp_path / "out.zarr")
    assert again == first._replace(reused=True)
    assert (tmp_path / "out.zarr" / "zarr.json").stat().st_mtime_ns == before
    assert notes == [
        f"{tmp_path / 'out.zarr'} is complete and made from the same inputs: nothing to do."
    ]


def test_a_store_of_other_inputs_is_replaced_only_when_told(tmp_path):
    file = put(tmp_path / "a.cov", cov((5, 1, 1)))
    ingest(sheet_of([file]), tmp_path / "out.zarr")
    put(file, cov((5, 1, 1), (9, 1, 1)))
    with pytest.raises(MelismaError, match="made from other files or options: pass --overwrite"):
        ingest(sheet_of([file]), tmp_path / "out.zarr")
    assert open_methylome(tmp_path / "out.zarr").sizes["site"] == 1
    assert ingest(sheet_of([file]), tmp_path / "out.zarr", overwrite=True).sites == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cov", "out.zarr"]


def interrupt_joining(monkeypatch, tmp_path, sheet, **options):
    """Ingest until the samples are read, then fail as a full disk does."""
    from melisma.calls import _join

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_join, "write_joined", full)
        with pytest.raises(OSError, match="The disk is full"):
            ingest(sheet, tmp_path / "out.zarr", **options)


def test_finished_samples_are_taken_over_and_changed_ones_read_again(tmp_path, monkeypatch):
    files = [put(tmp_path / f"{k}.cov", cov((5, 1, k))) for k in range(1, 4)]
    interrupt_joining(monkeypatch, tmp_path, sheet_of(files))
    done = sorted((part_folder(tmp_path / "out.zarr") / "samples").glob("*/done.json"))
    assert len(done) == 3
    before = [json.loads(path.read_text()) for path in done]
    put(files[1], cov((6, 1, 7)))
    with noted() as notes:
        ingest(sheet_of(files), tmp_path / "out.zarr")
    assert notes == ["2 of 3 samples were read before."]
    assert before[0]["calls"]["rows"] == 1
    found = sites(open_methylome(tmp_path / "out.zarr").load())
    assert [site[-1] for site in found] == [[(1, 2), (0, 0), (1, 4)], [(0, 0), (1, 8), (0, 0)]]
    assert not part_folder(tmp_path / "out.zarr").exists()


def test_other_options_read_all_samples_again(tmp_path, monkeypatch):
    files = [put(tmp_path / "a.cov", cov((5, 1, 1)))]
    interrupt_joining(monkeypatch, tmp_path, sheet_of(files))
    with noted() as notes:
        ingest(sheet_of(files), tmp_path / "out.zarr", mark="5hmC")
    assert notes == []
    assert open_methylome(tmp_path / "out.zarr").attrs["marks"] == ["h"]


@st.composite
def sorted_calls(draw):
    """Several samples' keys, each ascending, and a buffer length."""
    keys = st.lists(st.integers(0, 40), max_size=20, unique=True).map(sorted)
    return draw(st.lists(keys, min_size=1, max_size=5)), draw(st.integers(1, 9))


@settings(deadline=None)
@given(sorted_calls())
def test_join_kernel_equals_a_union(case):
    samples, block = case
    n, longest = len(samples), max(1, *map(len, samples))
    keys = np.full((n, longest), -1, dtype=np.int64)
    for s, sample in enumerate(samples):
        keys[s, : len(sample)] = sample
    counts = (keys * 3 + np.arange(n)[:, None] + 1).astype(np.uint32)
    head, filled = np.zeros(n, dtype=np.int64), np.array([len(sample) for sample in samples])
    none = np.empty((n, 0), dtype=np.int8)
    found = []
    while True:
        out = (
            np.empty(block, dtype=np.int64),
            np.empty(block, dtype=np.int8),
            np.empty((block, n), dtype=np.uint16),
            np.empty((block, n), dtype=np.uint16),
        )
        rows = join_samples(
            keys, counts, counts + 1, none, head, filled, np.ones(n, dtype=np.bool_), out
        )
        found += [(int(out[0][r]), out[2][r].tolist(), out[3][r].tolist()) for r in range(rows)]
        if not rows:
            break
    union = sorted({key for sample in samples for key in sample})
    expected = [
        (
            key,
            [key * 3 + s + 1 if key in sample else 0 for s, sample in enumerate(samples)],
            [key * 3 + s + 2 if key in sample else 0 for s, sample in enumerate(samples)],
        )
        for key in union
    ]
    assert found == expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=40))
def test_settle_sorts_or_says_that_it_cannot(values):
    key = np.array(values, dtype=np.int64)
    columns = [key.astype(np.uint32), key.astype(np.uint32) + 1]
    if settle(key, *columns, key.astype(np.int8)):
        assert key.tolist() == sorted(values)
    assert sorted(key.tolist()) == sorted(values)
    assert columns[0].tolist() == key.tolist()
    assert columns[1].tolist() == [value + 1 for value in key.tolist()]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9)), max_size=30).map(sorted))
def test_sum_repeats_equals_a_dictionary(rows):
    key = np.array([key for key, _ in rows], dtype=np.int64)
    m = np.array([count for _, count in rows], dtype=np.uint32)
    left = sum_repeats(key, m, m.copy())
    expected: dict[int, int] = {}
    for k, count in rows:
        expected[k] = expected.get(k, 0) + count
    assert dict(zip(key[:left].tolist(), m[:left].tolist(), strict=True)) == expected
    assert left == len(expected)


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path):
    file = put(tmp_path / "a.cov", cov((5, 1, 1)))
    (tmp_path / "mine").mkdir()
    put(tmp_path / "mine" / "thesis.txt", "years of work")
    for overwrite in (False, True):
        with pytest.raises(MelismaError, match="mine is there and is no store"):
            ingest(sheet_of([file]), tmp_path / "mine", overwrite=overwrite)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_two_processes_do_not_make_one_store(tmp_path):
    file = put(tmp_path / "a.cov", cov((5, 1, 1)))
    part = part_folder(tmp_path / "out.zarr")
    part.mkdir()
    with (part / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MelismaError, match="Another process is making"):
            ingest(sheet_of([file]), tmp_path / "out.zarr")
        assert part.exists()
    assert ingest(sheet_of([file]), tmp_path / "out.zarr").sites == 1


def test_modbam_and_text_samples_join(tmp_path):
    # Both reads begin at 10; MM skips no C: the Cs at 10 and 14 have probabilities .998 and .002.
    read = Read("CAAACA", "C+m.,0,0;", (255, 0))
    calls = put(tmp_path / "b.bed", bed((10, "m", "+", 4, 1, 3, 0)))
    made = ingest(sheet_of([bam(tmp_path, read, read), calls]), tmp_path / "out.zarr")
    assert made.formats == {"a": "modbam", "b": "bedmethyl"}
    assert sites(open_methylome(tmp_path / "out.zarr").load()) == [
        ("chr1", 10, 1, "m", "unknown", [(2, 2), (1, 4)]),
        ("chr1", 14, 1, "m", "unknown", [(0, 2), (0, 0)]),
    ]


def test_improbable_modbam_calls_are_not_counted(tmp_path):
    read = Read("CAAACA", "C+m.,0,0;", (255, 160))
    options = {"min_probability": 0.8}
    ingest(sheet_of([bam(tmp_path, read)]), tmp_path / "out.zarr", **options)
    assert [site[1] for site in sites(open_methylome(tmp_path / "out.zarr").load())] == [10]


def test_a_sheet_file_is_read(tmp_path):
    put(tmp_path / "x.cov", cov((5, 1, 1)))
    pl.DataFrame({"sample": ["s"], "path": ["x.cov"]}).write_csv(tmp_path / "sheet.csv")
    made = ingest(tmp_path / "sheet.csv", tmp_path / "out.zarr")
    assert (made.samples, made.sites, made.formats) == (1, 1, {"s": "bismark-cov"})

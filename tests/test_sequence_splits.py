"""Splits and leaks, on literal windows worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.errors import MelismaError
from melisma.sequence._kmer_kernels import NO_WORD, canonical_words
from melisma.sequence.encodings import encode, reverse_complement
from melisma.sequence.splits import (
    Split,
    by_block,
    by_cluster,
    by_contig,
    by_interval,
    clusters,
    leak,
    leave_out,
    published,
    shares_a_word,
)
from melisma.sequence.windows import FixedWindows


def test_words_are_the_smaller_of_both_strands():
    # AAC is 0b000001; GTT, its reverse complement, is larger. CAT and ATG: 0b010011 and 0b001110.
    words = canonical_words(encode(["AACAT", "AANAT"]), 3)
    assert words.tolist() == [[1, 4, 14], [int(NO_WORD)] * 3]


@given(st.lists(st.integers(0, 4), min_size=8, max_size=40), st.integers(1, 8))
def test_words_of_both_strands_are_the_same_in_reverse(bases, k):
    codes = np.array([bases], np.uint8)
    forward = canonical_words(codes, k)[0]
    backward = canonical_words(np.ascontiguousarray(reverse_complement(codes)), k)[0]
    assert forward.tolist() == backward[::-1].tolist()


def test_contigs_are_whole():
    split = by_contig(list("112233"), test=["3"], validation=["2"])
    assert split.sizes == {"train": 2, "validation": 2, "test": 2, "left_out": 0}
    with pytest.raises(MelismaError, match="No window lies on contig '4'"):
        by_contig(list("1122"), test=["4"], validation=["2"])
    with pytest.raises(MelismaError, match="both testing and validation"):
        by_contig(list("1122"), test=["2"], validation=["2"])
    with pytest.raises(MelismaError, match="no windows for training"):
        by_contig(list("1122"), test=["1"], validation=["2"])


def test_blocks_drop_windows_over_their_edges_and_agree_between_data_sets():
    position = np.arange(0, 40_000, 7)
    split = by_block(["chr1"] * len(position), position, width=101, size=1000, seed=3)
    within = position % 1000
    assert ((split.parts == -1) == ((within < 50) | (within >= 950))).all()
    for block in range(40):
        inside = split.parts[(position // 1000 == block) & (split.parts >= 0)]
        assert len(set(inside.tolist())) == 1
    # Another data set of the same genome: a place is on the same side.
    other = np.arange(3, 40_000, 11)
    again = by_block(["chr1"] * len(other), other, width=101, size=1000, seed=3)
    shared = np.intersect1d(position, other)
    one = split.parts[np.searchsorted(position, shared)]
    assert (one == again.parts[np.searchsorted(other, shared)]).all()
    with pytest.raises(MelismaError, match="too short for windows of 501"):
        by_block(["chr1"] * 3, np.array([1, 2, 3]), width=501, size=1000)


def test_an_interval_has_margins():
    position = np.arange(0, 1000, 10)
    split = by_interval(
        ["c"] * 100, position, test=("c", 400, 500), validation=("c", 700, 800), margin=50
    )
    parts = dict(zip(position.tolist(), split.parts.tolist(), strict=True))
    assert [parts[p] for p in (340, 350, 390, 400, 490, 500, 540, 550)] == [
        0, -1, -1, 2, 2, -1, -1, 0,
    ]  # fmt: skip
    assert [parts[p] for p in (640, 650, 700, 790, 800, 840, 850)] == [0, -1, 1, 1, -1, -1, 0]


def test_windows_that_share_a_word_stay_together():
    one = "ACGTTGCAACGGTCATTAGCAGT"
    two = "TTT" + one[:20]  # its first 20 bases
    codes = encode([one, two, "CCGATTAGGCATCAGGATACGAT", "GTGTGCGCCCATATATTGGACAC"])
    flipped = reverse_complement(codes[:1])
    codes = np.concatenate([codes, flipped])
    assert clusters(codes).tolist() == [0, 0, 2, 3, 0]
    assert clusters(codes, k=23).tolist() == [0, 1, 2, 3, 0]
    with pytest.raises(MelismaError, match="Words of 31 bases cannot be read from windows of 23"):
        clusters(codes, k=31)


def test_clusters_fill_the_shares():
    rng = np.random.default_rng(1)
    unique = rng.integers(0, 4, (600, 41)).astype(np.uint8)
    codes = np.concatenate([unique, unique[:300]])  # 300 clusters of two
    split = by_cluster(codes, shares=(0.6, 0.2, 0.2), seed=1)
    assert split.sizes["train"] == pytest.approx(540, abs=2)
    assert (split.parts[:300] == split.parts[600:]).all()
    assert leak(FixedWindows(codes), split.parts) is None
    assert split.record["largest"] == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_clusters_never_leak(seed):
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 4, 400).astype(np.uint8)
    start = rng.integers(0, 360, 60)
    codes = np.concatenate(
        [base[start[:, None] + np.arange(41)], rng.integers(0, 4, (90, 41)).astype(np.uint8)]
    )
    split = by_cluster(codes, shares=(0.4, 0.3, 0.3), seed=seed)
    assert leak(FixedWindows(codes), split.parts) is None


def test_groups_are_left_out_whole():
    group = ["fly", "bee", "ant", "bee", "ant", "ant"]
    split = leave_out(group, test=["bee"], validation=["fly"])
    assert split.parts.tolist() == [1, 2, 0, 2, 0, 0]
    with pytest.raises(MelismaError, match="no group 'wasp'"):
        leave_out(group, test=["wasp"])
    many = leave_out([*"ab" * 200], test=["b"], share=0.2, seed=1)
    assert (many.parts[1::2] == 2).all()
    assert 20 < many.sizes["validation"] < 60


def test_a_leak_is_named():
    codes = encode(["ACGTTGCAACGGTCATTAGCA", "CCGATTAGGCATCAGGATACG", "TGCTAATGACCGTTGCAACGT"])
    # The third is the first's reverse complement.
    found = leak(FixedWindows(codes), np.array([0, 1, 2], np.int8))
    assert found is not None
    assert found.rows.tolist() == [2]
    assert found.sentence == (
        "1 of 1 test windows share 20 bases with windows that the model has seen, window 3 the "
        "first."
    )
    assert leak(FixedWindows(codes), np.array([-1, 0, 2], np.int8)) is None
    assert shares_a_word(codes[2:], codes[:1]).tolist() == [True]
    # Shorter windows leak where they are the same.
    short = encode(["ACGTA", "TACGT", "ACGTC"])
    assert shares_a_word(short, short[:1]).tolist() == [True, True, False]


def test_a_published_split_says_where_it_is_from():
    split = published(np.array([0, 0, 1, 2]), "iDNA-MS")
    assert isinstance(split, Split)
    assert split.record == {"kind": "published", "source": "iDNA-MS"}
    assert split.rows(2).tolist() == [3]

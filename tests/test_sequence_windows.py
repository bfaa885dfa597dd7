"""Windows, encodings and environments: what a model is given to read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.encodings import decode, encode, kmers, one_hot, reverse_complement
from melisma.sequence.environment import Environment
from melisma.sequence.windows import FixedWindows, GenomeWindows

DNA = st.text("ACGTN", min_size=1, max_size=60)


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "toy.fa"
    path.write_text(">chr1\nACGTAC\nGGTTNA\n>chr2\nCCG\n")
    return Genome.open(path)


@given(DNA)
@settings(deadline=None)
def test_codes_round_trip_and_the_reverse_complement_is_its_own_inverse(text):
    codes = encode(text)
    assert decode(codes) == text
    assert decode(reverse_complement(reverse_complement(codes))) == text
    assert one_hot(codes).sum() == sum(letter != "N" for letter in text)


def test_letters_that_are_not_acgt():
    assert encode("acguRYn").tolist() == [0, 1, 2, 3, 4, 4, 4]
    with pytest.raises(MelismaError, match=r"'-' is not a base \(sequence 2, base 1\)"):
        encode(["AC", "-C"])
    with pytest.raises(MelismaError, match="Sequence 2 has 3 bases where the first has 2"):
        encode(["AC", "ACG"])
    with pytest.raises(MelismaError, match="'é' is not a base"):
        encode("é")


@given(DNA.filter(lambda text: len(text) >= 3))
@settings(deadline=None)
def test_kmers_are_numbers_in_base_four(text):
    found = kmers(encode(text), 3)
    for i, number in enumerate(found):
        word = text[i : i + 3]
        if "N" in word:
            assert number == 64
        else:
            assert number == sum("ACGT".index(b) * 4 ** (2 - j) for j, b in enumerate(word))


def test_a_kmer_longer_than_the_window_is_refused():
    with pytest.raises(MelismaError, match="no k-mer of 4"):
        kmers(encode("ACG"), 4)


def test_windows_keep_the_site_at_the_centre_on_both_strands(genome):
    windows = GenomeWindows(
        genome,
        ("chr1", "chr2"),
        np.array([0, 0, 1, 0]),
        np.array([1, 2, 0, 11]),
        np.array([1, -1, 0, 1], np.int8),
        5,
    )
    # chr1 is ACGTACGGTTNA: what lies beyond an end is N.
    assert decode(windows.codes(np.arange(4))) == ["NACGT", "TACGT", "NNCCG", "TNANN"]
    assert decode(windows.codes(np.array([2, 0]))) == ["NNCCG", "NACGT"]
    assert len(windows) == 4


def test_a_window_needs_a_centre_and_a_site_within_its_contig(genome):
    one = np.array([0])
    strand = np.array([1], np.int8)
    with pytest.raises(MelismaError, match="no centre: choose an odd width, such as 5"):
        GenomeWindows(genome, ("chr1",), one, one, strand, 4)
    with pytest.raises(MelismaError, match="chr1:12 lies beyond the 12 bases"):
        GenomeWindows(genome, ("chr1",), one, np.array([12]), strand, 5)
    with pytest.raises(MelismaError, match="no contig 'chr9'"):
        GenomeWindows(genome, ("chr9",), one, one, strand, 5)
    with pytest.raises(MelismaError, match="make them with `encode`"):
        FixedWindows(np.zeros((2, 3), np.int64))  # pyright: ignore[reportArgumentType]


def test_an_environment_is_encoded_as_training_saw_it():
    sheet = {"tissue": ["brain", "liver", "brain"], "age": [10, 20, 30], "sample": list("abc")}
    environment = Environment.learn(sheet, ["tissue", "age"])
    assert environment.width == 3
    rows = environment.encode(sheet).values
    assert rows[:, :2].tolist() == [[1, 0], [0, 1], [1, 0]]
    np.testing.assert_allclose(rows[:, 2], [-1.2247449, 0, 1.2247449], rtol=1e-6)
    assert Environment.from_record(environment.record()) == environment
    assert environment.encode({}).values.tolist() == [[0, 0, 0]]
    with pytest.raises(MelismaError, match="tissue 'lung' was never seen in training"):
        environment.encode({"tissue": ["lung"]})
    answered = environment.encode({"tissue": ["lung"]}, allow_unseen=True)
    assert answered.unseen == ("tissue=lung",)
    assert not answered.values.any()
    with pytest.raises(MelismaError, match="age is a number in this model, and 'old' is none"):
        environment.encode({"age": ["old"]})


def test_a_combination_that_was_not_seen_is_flagged_not_refused():
    sheet = {"species": ["a", "a", "b"], "mark": ["x", "y", "x"]}
    environment = Environment.learn(sheet, ["species", "mark"])
    answered = environment.encode({"species": ["b", "a"], "mark": ["y", "y"]})
    assert answered.unseen == ("species=b&mark=y", "")


def test_a_column_that_teaches_nothing_is_refused():
    with pytest.raises(MelismaError, match="no column 'diet'"):
        Environment.learn({"sample": ["a"]}, ["diet"])
    with pytest.raises(MelismaError, match="is 'f' in every sample"):
        Environment.learn({"sex": ["f", "f"]}, ["sex"])
    with pytest.raises(MelismaError, match="no value for sample 2"):
        Environment.learn({"age": [1.0, float("nan")]}, ["age"])


def test_surroundings_are_shares_of_the_blocks_they_touch(tmp_path):
    rng = np.random.default_rng(4)
    text = "".join(rng.choice(list("ACGTN"), 5_000, p=[0.3, 0.2, 0.2, 0.25, 0.05]))
    (tmp_path / "toy.fa").write_text(">chr1\n" + text + "\n")
    genome = Genome.open(tmp_path / "toy.fa")
    position = np.array([0, 700, 2_500, 4_999])
    none = np.zeros(4, np.int8)
    windows = GenomeWindows(genome, ("chr1",), np.zeros(4, int), position, none, 5, (40, 1_000))
    found = windows.surroundings(np.arange(4))
    assert windows.reach == 2_001
    for i, place in enumerate(position):
        for s, reach in enumerate((40, 1_000)):
            low = max((place - reach) // 32 * 32, 0)
            high = min(((place + reach) // 32 + 1) * 32, 5_000)
            known = sum(base != "N" for base in text[low:high])
            pairs = [text[k : k + 2] for k in range(low, high)]
            counted = [
                sum(base in "GC" for base in text[low:high]),
                *(
                    sum(p in of for p in pairs)
                    for of in (["CG"], ["TA"], ["CA", "TG"], ["AA", "TT"])
                ),
            ]
            np.testing.assert_allclose(found[i, s] ** 2, np.array(counted) / known, rtol=1e-5)
    assert windows.surroundings(np.array([2])).tolist() == found[2:3].tolist()
    with pytest.raises(MelismaError, match="reach 1 base or more"):
        GenomeWindows(genome, ("chr1",), np.zeros(4, int), position, none, 5, (0,))


def test_surroundings_are_the_same_from_either_strand(tmp_path):
    text = "".join(np.random.default_rng(6).choice(list("ACGT"), 320))
    other = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
    found = []
    for k, bases in enumerate((text, other)):
        (tmp_path / f"{k}.fa").write_text(f">chr1\n{bases}\n")
        genome = Genome.open(tmp_path / f"{k}.fa")
        at, none = np.array([160]), np.zeros(1, np.int8)
        windows = GenomeWindows(genome, ("chr1",), np.zeros(1, int), at, none, 5, (400,))
        found.append(windows.surroundings(np.array([0])))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)

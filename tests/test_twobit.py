"""2bit: the same genome as the FASTA of the same bases; written by its description."""

import re
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.errors import MelismaError
from melisma.genome import Genome


def blocks(order, text, pattern):
    found = [(m.start(), len(m[0])) for m in re.finditer(pattern, text)]
    numbers = [len(found), *(start for start, _ in found), *(size for _, size in found)]
    return struct.pack(f"{order}{len(numbers)}I", *numbers)


def record(order, text):
    codes = ["TCAG".index(base) if base in "TCAG" else 0 for base in text.upper()] + [0, 0, 0]
    packed = bytes(
        codes[i] << 6 | codes[i + 1] << 4 | codes[i + 2] << 2 | codes[i + 3]
        for i in range(0, len(text), 4)
    )
    parts = (blocks(order, text, "[nN]+"), blocks(order, text, "[a-z]+"))
    return struct.pack(f"{order}I", len(text)) + b"".join(parts) + bytes(4) + packed


def twobit(contigs, order="<", version=0):
    """A 2bit file of (name, bases) pairs."""
    size = "Q" if version else "I"
    records = [record(order, text) for _, text in contigs]
    place = 16 + sum(1 + len(name) + struct.calcsize(order + size) for name, _ in contigs)
    data = struct.pack(f"{order}4I", 0x1A412743, version, len(contigs), 0)
    for (name, _), content in zip(contigs, records, strict=True):
        data += bytes([len(name)]) + name.encode() + struct.pack(order + size, place)
        place += len(content)
    return data + b"".join(records)


TOY = [("chr2", "ACGTacgtNNCCGG"), ("empty", ""), ("chr10", "nnTTTTgaN")]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [0, 1])
def test_the_same_as_the_fasta(order, version, tmp_path):
    (tmp_path / "toy.2bit").write_bytes(twobit(TOY, order, version))
    (tmp_path / "toy.fa").write_text("".join(f">{name}\n{text}\n" for name, text in TOY))
    packed, plain = Genome.open(tmp_path / "toy.2bit"), Genome.open(tmp_path / "toy.fa")
    assert packed.name == plain.name == "toy"
    assert packed.lengths == plain.lengths == {"chr2": 14, "chr10": 9}
    for contig, text in (TOY[0], TOY[2]):
        found = packed.bases(contig)
        assert found.tobytes() == plain.bases(contig).tobytes() == text.upper().encode()
        assert found.dtype == np.uint8
        assert not found.flags.writeable
        for start in range(len(text)):
            for end in range(start, len(text) + 1):
                piece = Genome.open(tmp_path / "toy.2bit").bases(contig, start, end)
                assert piece.tobytes() == text.upper()[start:end].encode()


@settings(deadline=None)
@given(st.text("ACGTacgtNn", max_size=60), st.data())
def test_any_bases_and_any_stretch(tmp_path_factory, text, data):
    path = tmp_path_factory.mktemp("any") / "any.2bit"
    text += "A"
    path.write_bytes(twobit([("c", text), ("d", "ACGT")]))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert Genome.open(path).bases("c", start, end).tobytes() == text.upper()[start:end].encode()
    assert Genome.open(path).bases("d").tobytes() == b"ACGT"


def test_agrees_with_py2bit(tmp_path):
    py2bit = pytest.importorskip("py2bit")
    letters = np.random.default_rng(1).choice(list("ACGTacgtNn"), 3000)
    path = tmp_path / "toy.2bit"
    path.write_bytes(twobit([("c", "".join(letters))]))
    peer, mine = py2bit.open(str(path)), Genome.open(path)
    assert peer.chroms() == mine.lengths
    for start in range(0, 3000, 97):
        assert peer.sequence("c", start, 3000).encode() == mine.bases("c", start, 3000).tobytes()


@pytest.mark.parametrize("left", [4, 15, 17, 30, 60, 74, -1])
def test_a_truncated_file_is_refused(left, tmp_path):
    path = tmp_path / "toy.2bit"
    path.write_bytes(twobit(TOY)[:left])
    with pytest.raises(MelismaError, match="truncated or damaged"):
        Genome.open(path)


def test_what_is_no_2bit_is_refused(tmp_path):
    path = tmp_path / "toy.2bit"
    path.write_text(">chr1\nACGT\n")
    with pytest.raises(MelismaError, match=r"is not a 2bit file.* begins with b'>chr'"):
        Genome.open(path)
    path.write_bytes(twobit([("a", "AC"), ("a", "GT")]))
    with pytest.raises(MelismaError, match="holds the contig 'a' more than once"):
        Genome.open(path)
    path.write_bytes(twobit(TOY, version=7))
    with pytest.raises(MelismaError, match="version 7"):
        Genome.open(path)
    path.write_bytes(twobit([]))
    with pytest.raises(MelismaError, match="holds no contigs"):
        Genome.open(path)


def test_a_2bit_by_its_bytes_whatever_its_name(tmp_path):
    (tmp_path / "genome").write_bytes(twobit(TOY))
    assert Genome.open(tmp_path / "genome").lengths["chr2"] == 14


def test_threads_read_the_same_bases(tmp_path):
    letters = np.random.default_rng(1).choice(list(b"ACGT"), (4, 5000)).astype(np.uint8)
    path = tmp_path / "toy.2bit"
    path.write_bytes(twobit([(f"c{i}", row.tobytes().decode()) for i, row in enumerate(letters)]))
    opened = Genome.open(path)
    wrong = []

    def read(seed):
        for i in np.random.default_rng(seed).integers(0, 4, 100):
            same = (opened.bases(f"c{i}", 10 * i, 4000) == letters[i, 10 * i : 4000]).all()
            wrong.extend([] if same else [i])

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong

import gzip
import os

import numpy as np
import polars as pl
import pysam
import pytest
from calls_files import noted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from melisma.calls import ingest
from melisma.calls._pieces import cut, lacks_end, read_piece
from melisma.calls._reader import read_batches
from melisma.calls._registry import format_named
from melisma.errors import MelismaError

COV = format_named("bismark-cov")


def bgzip(path, data, block=None):
    """Write bgzip; `block` closes a block after so many bytes, as bgzip itself does at 65,280."""
    with pysam.BGZFile(str(path), "wb") as file:
        for start in range(0, len(data), block or len(data) or 1):
            file.write(data[start : start + (block or len(data))])
            if block:
                file.flush()
    return path


def lines_of(pieces, longest=1 << 20):
    found = []
    for k in range(len(pieces)):
        block = read_piece(pieces, k, longest)
        text = block.text[: block.end].tobytes()
        found.append((block.offset, text.split(b"\n")[:-1]))
    return found


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(st.text("ab\t1", max_size=30), min_size=1, max_size=60),
    size=st.integers(1, 200),
    block=st.integers(1, 90),
    compressed=st.booleans(),
    ended=st.booleans(),
)
def test_every_line_is_in_one_piece(tmp_path, lines, size, block, compressed, ended):
    text = "\n".join(lines).encode() + (b"\n" if ended else b"")
    path = tmp_path / "lines"
    if compressed:
        bgzip(path, text, block)
    else:
        path.write_bytes(text)
    pieces = cut(path, size) if path.stat().st_size else None
    if pieces is None:
        return
    found = lines_of(pieces)
    whole = text if text.endswith(b"\n") else text + b"\n"
    assert [line for _, part in found for line in part] == whole.split(b"\n")[:-1]
    for offset, part in found:
        if part:
            assert whole[offset:].startswith(b"\n".join(part) + b"\n")


def cov(rows):
    return "".join(f"chr{1 + k // 700}\t{p}\t{p}\t50\t1\t1\n" for k, p in enumerate(rows)).encode()


def read(path, threads, block_bytes=500):
    calls, runs = [], []
    for batch in read_batches(path, COV, block_bytes=block_bytes, threads=threads, offsets=True):
        for run in batch.runs:
            runs.append(run.contig)
            calls += [
                (run.contig, *row)
                for row in zip(
                    *(
                        column[run.start : run.stop].tolist()
                        for column in (batch.key, batch.methylated, batch.coverage, batch.offset)
                    ),
                    strict=True,
                )
            ]
    return calls


@pytest.mark.parametrize("packing", ["plain", "bgzip"])
def test_threads_change_nothing(tmp_path, packing):
    text = cov(range(10, 5000, 2))
    path = tmp_path / "a.cov"
    path.write_bytes(text)
    if packing == "bgzip":
        path = bgzip(tmp_path / "a.cov.gz", text, 333)
    assert cut(path, 500) is not None
    assert read(path, 3) == read(path, 1)
    assert len(read(path, 3)) == len(range(10, 5000, 2))


def test_an_index_is_used_where_it_fits_and_left_where_it_is_old(tmp_path):
    text = cov(range(10, 9000, 2))
    path = bgzip(tmp_path / "a.cov.gz", text, 1000)
    walked = cut(path, 5000)
    assert walked is not None
    blocks = cut(path, 1)
    assert blocks is not None
    packed, plain = blocks.packed[1:-1], blocks.plain[1:-1]
    index = np.empty(2 * len(packed) + 1, dtype="<u8")
    index[0], index[1::2], index[2::2] = len(packed), packed, plain
    gzi = tmp_path / "a.cov.gz.gzi"
    gzi.write_bytes(index.tobytes())
    by_index = cut(path, 5000)
    assert by_index is not None
    assert by_index.packed.tolist() == walked.packed.tolist()
    # One that lies is found out when a piece is not as long as it says.
    index[2::2] += 1
    gzi.write_bytes(index.tobytes())
    with pytest.raises(MelismaError, match="not as long as its index says"):
        read(path, 2)
    old = path.stat().st_mtime - 10
    os.utime(gzi, (old, old))
    assert read(path, 2) == read(path, 1)


def test_blocks_of_htslib_are_found(tmp_path):
    text = cov(range(10, 60000, 2))
    path = tmp_path / "a.cov"
    path.write_bytes(text)
    pysam.tabix_compress(str(path), str(tmp_path / "a.cov.gz"))
    walked = cut(tmp_path / "a.cov.gz", 70000)
    assert walked is not None
    assert walked.plain[-1] == len(text)
    assert len(walked) > 5


def test_plain_gzip_is_one_piece(tmp_path):
    path = tmp_path / "a.cov.gz"
    path.write_bytes(gzip.compress(cov(range(10, 5000, 2))))
    assert cut(path, 100) is None
    assert len(read(path, 3)) == len(range(10, 5000, 2))


def test_a_fault_is_named_by_its_line(tmp_path):
    rows = cov(range(10, 5000, 2)).split(b"\n")
    rows[1700] = rows[1700].replace(b"\t50\t", b"\tx\t")
    path = bgzip(tmp_path / "a.cov.gz", b"\n".join(rows), 700)
    with pytest.raises(MelismaError, match=r"line 1,701: column 4 \(percent methylated\) is 'x'"):
        read(path, 3)


def test_a_damaged_block_is_said(tmp_path):
    path = bgzip(tmp_path / "a.cov.gz", cov(range(10, 5000, 2)), 700)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(MelismaError, match="is damaged"):
        read(path, 3)


def test_a_truncated_file_is_said(tmp_path):
    path = bgzip(tmp_path / "a.cov.gz", cov(range(10, 5000, 2)), 700)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(MelismaError, match="is truncated"):
        read(path, 3)


def test_a_file_cut_between_blocks_is_said(tmp_path):
    text = cov(range(10, 5000, 2))
    # 28 bytes shorter: whole blocks and whole lines, without the mark of the end.
    path = bgzip(tmp_path / "a.cov.gz", text)
    assert not lacks_end(path)
    path.write_bytes(path.read_bytes()[:-28])
    assert lacks_end(path)
    sheet = pl.DataFrame({"sample": ["a"], "path": [str(path)]})
    with noted() as notes:
        ingest(sheet, tmp_path / "out.zarr")
    assert any("were its last calls lost in a copy?" in note for note in notes)
    (tmp_path / "b.cov").write_bytes(text)
    assert not lacks_end(tmp_path / "b.cov")


def test_a_line_without_end_is_refused(tmp_path):
    path = tmp_path / "a.cov"
    path.write_bytes(b"chr1\t10\t10\t50\t1\t1\n" + b"x" * 5000)
    with pytest.raises(MelismaError, match="a line of more than 500 bytes"):
        read(path, 2)

"""Ingest cut short in a real process: by Ctrl-C, by a kill, by a full disk; then taken up again."""

import resource
import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest

from melisma.calls import _join, ingest
from melisma.methylome import open_methylome, part_folder

COMMAND = "from melisma.cli import main; main()"
SAMPLES, ROWS = 20, 150_000


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """A sheet of many samples, which take a while to read."""
    folder = tmp_path_factory.mktemp("calls")
    rng = np.random.default_rng(0)
    n = ROWS
    position, cover = np.arange(1, n + 1) * 37, rng.integers(1, 40, n)
    m = rng.binomial(cover, 0.7)
    table = pl.DataFrame(
        {"c": ["chr1"] * n, "p": position, "q": position, "l": 100 * m / cover, "m": m}
    ).with_columns(u=pl.Series(cover - m))
    table.write_csv(folder / "a.cov", separator="\t", include_header=False)
    names = [f"s{k}" for k in range(SAMPLES)]
    for name in names:
        (folder / f"{name}.cov").hardlink_to(folder / "a.cov")
    paths = [f"{name}.cov" for name in names]
    pl.DataFrame({"sample": names, "path": paths}).write_csv(folder / "sheet.csv")
    return folder / "sheet.csv"


def start(sheet, out, **options):
    arguments = ["ingest", str(sheet), "-o", str(out), "--workers", "1"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments], stderr=subprocess.PIPE, text=True, **options
    )


def wait_for(out, count):
    """Wait until so many samples are done; the process is then in the middle of its work."""
    give_up = time.monotonic() + 60
    while len(list(part_folder(out).glob("samples/*/done.json"))) < count:
        assert time.monotonic() < give_up
        time.sleep(0.005)


def equal(first, second):
    first, second = open_methylome(first).load(), open_methylome(second).load()
    return first.identical(second)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_ingest_resumes(tmp_path, sheet, sent, code):
    out = tmp_path / "out.zarr"
    process = start(sheet, out)
    wait_for(out, 2)
    process.send_signal(sent)
    told = process.communicate()[1]
    assert process.returncode == code
    assert not out.exists()
    assert "Traceback" not in told
    assert sent != signal.SIGINT or "the same command resumes" in told
    done = list(part_folder(out).glob("samples/*/done.json"))
    assert 2 <= len(done) < SAMPLES
    kept = {path: path.stat().st_mtime_ns for path in done}
    again = start(sheet, out)
    wait_for(out, SAMPLES)
    seen = {path: path.stat().st_mtime_ns for path in done if path.exists()}
    told = again.communicate()[1]
    assert again.returncode == 0
    assert f"{len(done)} of {SAMPLES} samples were read before." in told
    assert seen.items() <= kept.items()
    assert not part_folder(out).exists()
    ingest(sheet, tmp_path / "whole.zarr")
    assert equal(out, tmp_path / "whole.zarr")


def limit(size):
    def apply():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return apply


def test_a_full_disk_keeps_the_work(tmp_path, sheet):
    # The limit stops a sample's first file, of 1.2 MB, as a full disk would.
    out = tmp_path / "out.zarr"
    process = start(sheet, out, preexec_fn=limit(1 << 19))
    told = process.communicate()[1]
    assert process.returncode == 1
    assert "The disk is full (or a file too large): make room" in told
    assert "Traceback" not in told
    assert not out.exists()
    assert part_folder(out).exists()
    again = start(sheet, out)
    again.communicate()
    assert again.returncode == 0
    assert open_methylome(out).sizes == {"site": ROWS, "sample": SAMPLES}


def test_a_disk_that_fills_while_the_store_is_written(tmp_path, sheet, monkeypatch):
    out = tmp_path / "out.zarr"

    def stop(*_, **__):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(_join, "write_joined", stop)
        with pytest.raises(InterruptedError):
            ingest(sheet, out)
    # All samples are read, so that the first file to be written is a chunk of the store.
    process = start(sheet, out, preexec_fn=limit(1 << 17))
    told = process.communicate()[1]
    assert process.returncode == 1
    assert f"{SAMPLES} of {SAMPLES} samples were read before." in told
    assert "The disk is full" in told
    assert "Traceback" not in told
    assert not out.exists()
    assert ingest(sheet, out).sites == ROWS
    ingest(sheet, tmp_path / "whole.zarr")
    assert equal(out, tmp_path / "whole.zarr")

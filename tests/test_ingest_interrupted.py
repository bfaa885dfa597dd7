"""Ingest cut short in a real process: by Ctrl-C, by a kill, by a full disk; then taken up again."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from modbam_files import Read, bam

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


# Many small windows, so that several processes have work for a while.
BAM_COMMAND = """
import sys
from melisma.calls import modbam
from melisma.cli import main

if __name__ == "__main__":
    modbam.BYTES_PER_WORKER, modbam.WINDOW_BASES = 1, 2000
    main(sys.argv[1:])
"""


def children(pid):
    """The processes below one, by the kernel's own list."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ignores_interrupts(pid):
    """Whether a process ignores SIGINT by now."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    return bool(int(ignored.split()[1], 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the kernel's list of processes")
def test_an_interrupted_ingest_of_a_bam_leaves_no_process(tmp_path):
    reads = [
        Read("ACGTTCGA" * 25, "C+m?,0,0,0;", (200, 10, 250), start=2000 * k + 100)
        for k in range(2000)
    ]
    path = bam(tmp_path, *reads, lengths={"chr1": 4_100_000})
    (tmp_path / "sheet.csv").write_text(f"sample,path\na,{path}\n")
    (tmp_path / "run.py").write_text(BAM_COMMAND)
    out = tmp_path / "out.zarr"
    arguments = ["ingest", str(tmp_path / "sheet.csv"), "-o", str(out), "--workers", "2"]
    command = [sys.executable, str(tmp_path / "run.py"), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    give_up = time.monotonic() + 60
    spool = part_folder(out) / "samples" / "0" / "read" / "calls.bin"
    # The tracker of resources and two workers, all past their start: a process that Ctrl-C meets
    # while Python itself starts in it cannot be quiet.
    workers: list[int] = []
    while not spool.exists() or len(workers) < 3 or not all(map(ignores_interrupts, workers)):
        assert time.monotonic() < give_up
        time.sleep(0.01)
        workers = children(process.pid)
    # As a terminal does: to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in told
    assert "the same command resumes" in told
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < give_up
        time.sleep(0.01)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0
    assert open_methylome(out).sizes["site"] == 2000 * 3

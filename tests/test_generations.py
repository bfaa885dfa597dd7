"""Generations: readers stay undisturbed, and nothing that is gone is read as zeros."""

import fcntl
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from calls_files import cov, put, sheet_of

from melisma import methylome as m
from melisma._generations import next_generation, root_record
from melisma.calls import ingest
from melisma.errors import MelismaError

SITES = 200


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(m, "CHUNK_SITES", (16, 16))


def counts(seed, n=SITES):
    """A methylome of two samples; every count differs from 0, and between seeds."""
    rng = np.random.default_rng(seed)
    coverage = rng.integers(1, 1000, (n, 2)).astype(np.uint16)
    values = {"methylated": coverage - 1, "coverage": coverage}
    sites = {"contig": np.zeros(n), "position": np.arange(n) * 3}
    samples = {"sample": ["x", "y"], "age": [0.0, 0.0]}
    return m.dataset(sites, values, samples, contigs=["c"])


def generations(path):
    return sorted(name for name in os.listdir(path) if name.startswith("v"))


def test_a_reader_keeps_its_generation(tmp_path):
    path = tmp_path / "s.zarr"
    old, new = counts(1), counts(2)
    m.write(old, path)
    reader = m.open_methylome(path)
    m.write(new, path)
    assert root_record(path) == {"schema": 1, "generation": "v2"}
    assert generations(path) == ["v1", "v2"]
    assert reader["coverage"].values.tolist() == old["coverage"].values.tolist()
    assert m.open_methylome(path)["coverage"].values.tolist() == new["coverage"].values.tolist()
    # Two variables and all their copies hold the same store.
    part = reader[["methylated"]].isel(site=slice(3, 99))
    del reader
    m.write(old, path)
    assert generations(path) == ["v1", "v3"]
    assert part["methylated"].values.tolist() == old["methylated"].values[3:99].tolist()
    del part
    m.write(new, path)
    assert generations(path) == ["v4"]
    assert not m.part_folder(path).exists()


def test_a_loaded_reader_holds_nothing(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    reader = m.open_methylome(path).load()
    m.write(counts(2), path)
    assert generations(path) == ["v2"]
    assert reader["coverage"].values.tolist() == counts(1)["coverage"].values.tolist()


def test_a_store_can_be_rewritten_from_itself(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    m.write(m.open_methylome(path).isel(site=slice(20, 90)), path)
    found = m.open_methylome(path)
    assert found["coverage"].values.tolist() == counts(1)["coverage"].values[20:90].tolist()


def test_a_pickled_reader_holds_its_generation_again(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    reader = m.open_methylome(path)
    packed = pickle.dumps(reader)
    again = pickle.loads(packed)
    del reader
    m.write(counts(2), path)
    assert again["coverage"].values.tolist() == counts(1)["coverage"].values.tolist()
    del again
    m.write(counts(1), path)
    with pytest.raises(MelismaError, match="has not v1: it was removed or replaced"):
        pickle.loads(packed)


def test_a_generation_that_is_gone_is_never_read_as_zeros(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    reader = m.open_methylome(path)
    # As by another program, or on a file system that knows no locks.
    shutil.rmtree(path)
    with pytest.raises(MelismaError, match="was removed or replaced while it was open"):
        reader["coverage"].values  # noqa: B018
    m.write(counts(2), path)
    assert generations(path) == ["v1"]
    with pytest.raises(MelismaError, match="was removed or replaced while it was open"):
        reader["methylated"].values  # noqa: B018
    chunked = m.open_methylome(path, chunks="auto")
    shutil.rmtree(path)
    with pytest.raises(MelismaError, match="was removed or replaced while it was open"):
        chunked["methylated"].compute()


def test_a_chunk_that_is_missing_is_never_read_as_zeros(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    reader = m.open_methylome(path)
    (path / "v1" / "coverage" / "c" / "2" / "0").unlink()
    assert reader["coverage"][:32].values.min() > 0
    with pytest.raises(MelismaError, match="damaged: the file v1/coverage/c/2/0 is not there"):
        reader["coverage"].values  # noqa: B018


def test_a_chunk_of_nothing_but_zeros_has_a_file(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    found = m.open_methylome(path)
    assert found["strand"].values.tolist() == [0] * SITES
    assert found["age"].values.tolist() == [0.0, 0.0]
    assert (path / "v1" / "age" / "c" / "0").exists()


READER = """
    import sys
    from melisma.methylome import open_methylome
    reader = open_methylome(sys.argv[1])
    print("open", flush=True)
    for line in sys.stdin:
        print(int(reader["coverage"].astype("int64").sum()), flush=True)
"""


def test_another_process_reads_on_through_a_change(tmp_path):
    path = tmp_path / "s.zarr"
    old = counts(1)
    m.write(old, path)
    expected = int(old["coverage"].astype("int64").sum())
    reader = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(READER), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert reader.stdin
        assert reader.stdout
        assert reader.stdout.readline() == "open\n"
        for seed in (2, 3):
            m.write(counts(seed), path)
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert int(reader.stdout.readline()) == expected
            assert generations(path) == ["v1", f"v{seed}"]
        reader.stdin.close()
    m.write(counts(4), path)
    assert generations(path) == ["v4"]


def test_generation_names_never_come_back(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    # As a kill leaves it between the move and the new root.
    shutil.copytree(path / "v1", path / "v2")
    assert (
        m.open_methylome(path)["coverage"].values.tolist() == counts(1)["coverage"].values.tolist()
    )
    assert next_generation(path) == "v3"
    m.write(counts(2), path)
    assert generations(path) == ["v3"]


def test_two_writers_at_once(tmp_path):
    path = tmp_path / "s.zarr"
    m.write(counts(1), path)
    part = m.part_folder(path)
    part.mkdir()
    with (part / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MelismaError, match="Another process is making or changing"):
            m.write(counts(2), path)
    assert (
        m.open_methylome(path)["coverage"].values.tolist() == counts(1)["coverage"].values.tolist()
    )


def test_a_link_to_a_store_is_the_store(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    path, link = tmp_path / "elsewhere" / "s.zarr", tmp_path / "link.zarr"
    m.write(counts(1), path)
    link.symlink_to(path)
    m.write(counts(2), link)
    assert link.is_symlink()
    assert generations(path) == ["v2"]
    assert (
        json.loads((path / "zarr.json").read_text())["attributes"]["melisma"]["generation"] == "v2"
    )


def _read_in_worker(reader):
    """What a worker sees of a Dataset that it got by pickle, and its process."""
    return int(reader["coverage"].astype("int64").sum()), os.getpid()


def _open_in_worker(path):
    return int(m.open_methylome(path)["coverage"].astype("int64").sum())


def test_a_cluster_of_processes_reads_on_through_a_change(tmp_path):
    distributed = pytest.importorskip("distributed")
    psutil = pytest.importorskip("psutil")
    path = tmp_path / "s.zarr"
    old, new = counts(1), counts(2)
    before, after = (int(made["coverage"].astype("int64").sum()) for made in (old, new))
    m.write(old, path)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        chunked = m.open_methylome(path, chunks="auto")
        total = chunked["coverage"].astype("int64").sum()
        assert int(total.compute(scheduler=client)) == before
        lazy = m.open_methylome(path)
        kept = client.scatter(lazy, broadcast=True)
        m.write(new, path)
        assert generations(path) == ["v1", "v2"]
        # What the client holds, what a worker got before, and what a worker opens by path now.
        assert int(total.compute(scheduler=client)) == before
        workers = list(client.scheduler_info()["workers"])
        seen = [client.submit(_read_in_worker, kept, workers=[w], pure=False) for w in workers]
        found = client.gather(seen)
        assert [value for value, _ in found] == [before, before]
        assert len({process for _, process in found} - {os.getpid()}) == 2
        assert client.submit(_open_in_worker, path).result() == after
        # Without the client's own hold, the workers' keep the generation.
        del chunked, total, lazy
        m.write(old, path)
        assert generations(path) == ["v1", "v3"]
        again = [client.submit(_read_in_worker, kept, workers=[w], pure=False) for w in workers]
        assert [value for value, _ in client.gather(again)] == [before, before]
    # The cluster is closed before the last of its processes has ended, and with it its lock.
    for _ in range(500):
        gc.collect()
        if not any(psutil.pid_exists(process) for _, process in found):
            break
        time.sleep(0.02)
    m.write(new, path)
    assert "v1" not in generations(path)


@pytest.mark.parametrize("change", ["append", "remove", "rename", "annotate"])
def test_a_change_that_is_killed_leaves_the_old_store_or_the_new_one(tmp_path, change):
    rng = np.random.default_rng(1)
    for name in "abc":
        places = np.sort(rng.choice(np.arange(1, 400), 150, replace=False))
        rows = [(int(p), int(rng.integers(1, 9)), int(rng.integers(0, 9))) for p in places]
        put(tmp_path / f"{name}.cov", cov(*rows))
    ingest(sheet_of([tmp_path / "a.cov", tmp_path / "b.cov"]), tmp_path / "s.zarr")
    (tmp_path / "new.tsv").write_text("sample\tpath\nc\tc.cov\n")
    script = Path(__file__).parent / "kill_change.py"
    done = subprocess.run(
        [sys.executable, str(script), change, str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
    states = [line.split(" ", 1)[1] for line in done.stdout.splitlines()]
    # The old store up to one moment, where the same command then succeeds, and then the new one.
    assert states == sorted(states, key=["old then new", "new"].index)
    assert set(states) == {"old then new", "new"}

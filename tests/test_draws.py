"""Simulated methylomes: draws against plain numpy and the model's moments, pieces, stores."""

import numpy as np
import polars as pl
import pytest

from melisma.differential import Noise, simulate
from melisma.differential._draws import draw_counts, mean_levels, walk
from melisma.differential.simulate import Baseline, simulate_store
from melisma.methylome import open_methylome

SHEET = {"sample": ["w", "x", "y", "z"], "g": list("abab"), "pair": list("ppqq")}


def baseline(seed, sites):
    rng = np.random.default_rng(seed)
    return Baseline(
        np.cumsum(rng.integers(2, 80, sites)), rng.beta(2, 1, sites), rng.gamma(9, 1.3, sites)
    )


def test_the_walk_agrees_with_plain_numpy():
    kept = np.array([0.0, 0.9, 0.5, 0.0, 0.99])
    out = np.empty(5)
    last = walk(np.random.default_rng(4), kept, 0.0, out)
    shocks, expected, value = np.random.default_rng(4).standard_normal(5), [], 0.0
    for share, shock in zip(kept, shocks, strict=True):
        value = share * value + np.sqrt(1 - share**2) * shock
        expected.append(value)
    assert out == pytest.approx(expected, abs=1e-12)
    assert last == out[-1]


def test_levels_worked_by_hand():
    # Logit 0 is 1/2 and log 3 is 3/4; planted changes stop at .001 and .999.
    out = np.empty(4)
    logit, effect = np.array([0.0, 0, np.log(3), 0]), np.array([0.0, np.log(3), 0, 0])
    mean_levels(logit, effect, np.array([0.0, 0, 0.2, -0.9]), 1.0, out)
    assert out == pytest.approx([0.5, 0.75, 0.95, 0.001])
    mean_levels(logit, effect, np.array([0.0, 0, 0.2, -0.9]), 0.0, out)
    assert out == pytest.approx([0.5, 0.75, 0.75, 0.5])


@pytest.mark.parametrize(("mean", "depth", "rho"), [(0.3, 10.0, 0.1), (0.9, 200.0, 0.02)])
def test_counts_have_the_models_moments(mean, depth, rho):
    # The first depth draws by urn, the second by beta and binomial.
    n = 100_000
    m, reads = np.zeros((2, n), dtype=np.uint16)
    full = np.ones(n)
    draw_counts(np.random.default_rng(1), mean * full, rho * full, depth * full, m, reads)
    reads, m = reads.astype(float), m.astype(float)
    # Gamma of shape 8 mixed with Poisson: variance depth + depth^2 / 8.
    assert reads.mean() == pytest.approx(depth, rel=0.01)
    assert reads.var() == pytest.approx(depth + depth**2 / 8, rel=0.03)
    seen = reads > 0
    scaled = (m - reads * mean)[seen] / np.sqrt(
        reads * mean * (1 - mean) * (1 + (reads - 1) * rho)
    )[seen]
    assert scaled.mean() == pytest.approx(0, abs=0.02)
    assert scaled.var() == pytest.approx(1, rel=0.03)


def test_members_of_a_block_share_what_others_do_not():
    made = simulate(
        *baseline(1, 40_000), SHEET, seed=3, block=SHEET["pair"], noise=Noise(block_sd=1.0)
    ).methylome
    m, n = made["methylated"].values.astype(float), made["coverage"].values
    level = np.where(n > 0, m / np.maximum(n, 1), np.nan)
    level -= level.mean(axis=1, keepdims=True)
    keep = np.isfinite(level).all(axis=1)
    within = np.corrcoef(level[keep].T)
    assert within[0, 1] > 0.1
    assert within[2, 3] > 0.1
    assert max(within[0, 2], within[0, 3], within[1, 2], within[1, 3]) < -0.1


def test_a_store_in_pieces_is_the_methylome_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("melisma.methylome.CHUNK_SITES", (1000, 1000))
    contigs = [baseline(1, 4500), baseline(2, 300)]
    options = {
        "seed": 7,
        "noise": Noise(rho_spread=0.5),
        "exposure": np.array([0.0, 1.0, 0.0, 1.0]),
        "block": SHEET["pair"],
    }
    truth = simulate_store(tmp_path / "s.zarr", ["c", "d"], contigs, SHEET, regions=2.0, **options)
    stored = open_methylome(tmp_path / "s.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]
    assert stored.attrs["simulated"]
    assert stored.attrs["contig_offsets"] == [0, 4500, 4800]
    once = simulate(*contigs[0], SHEET, regions=9, **options)
    assert truth.filter(pl.col("contig") == "c").drop("contig").equals(once.truth)
    for name in ("methylated", "coverage", "position"):
        assert (stored[name][:4500].values == once.methylome[name].values).all()
    # The second contig has streams of its own.
    again = simulate(*contigs[1], SHEET, regions=1, **options).methylome
    assert (stored["coverage"][4500:].values != again["coverage"].values).any()

"""Examples: what batches hold, pooled by environment, in pieces, with the marks around."""

import numpy as np
import pytest

from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import dataset
from melisma.sequence import examples as module
from melisma.sequence._neighbour_kernels import neighbours
from melisma.sequence.encodings import encode
from melisma.sequence.environment import Environment
from melisma.sequence.examples import TEST, TRAIN, VALIDATION, SequenceExamples, StoreExamples
from melisma.sequence.windows import FixedWindows


@pytest.fixture
def study(tmp_path):
    """A contig of 400 CpGs, three samples, two of which share an environment."""
    rng = np.random.default_rng(3)
    n = 400
    path = tmp_path / "toy.fa"
    path.write_text(">chr1\n" + "ACGT" * n + "\n")
    coverage = rng.integers(0, 9, (n, 3)).astype(np.uint16)
    methylated = rng.binomial(coverage, 0.6).astype(np.uint16)
    methylome = dataset(
        {
            "contig": np.zeros(n, np.int16),
            "position": 4 * np.arange(n, dtype=np.int32) + 1,
            "strand": np.zeros(n, np.int8),
            "mark": np.zeros(n, np.int8),
            "context": np.zeros(n, np.int8),
        },
        {"methylated": methylated, "coverage": coverage},
        {"sample": ["a", "b", "c"], "diet": ["royal", "worker", "royal"]},
        contigs=["chr1"],
        marks=["m"],
        strands="merged",
    )
    return methylome, Genome.open(path), coverage, methylated


def _parts(n):
    parts = np.zeros(n, np.int8)
    parts[n // 2 :] = VALIDATION
    parts[-50:] = TEST
    return parts


def test_every_example_is_met_once_with_its_counts(study, monkeypatch):
    methylome, genome, coverage, methylated = study
    # Small pieces, so that the walk crosses several and mixes them.
    monkeypatch.setattr(module, "PIECE", 32)
    monkeypatch.setattr(module, "MIXED", 2)
    examples = StoreExamples(methylome, genome, 9, _parts(400), environment=["diet"])
    pooled = np.stack([coverage[:, 0] + coverage[:, 2], coverage[:, 1]], 1)
    marked = np.stack([methylated[:, 0] + methylated[:, 2], methylated[:, 1]], 1)
    royal = examples.rows[:, 0] == 1
    for part, sites in ((TRAIN, slice(0, 200)), (TEST, slice(350, 400))):
        for seed in (None, 5):
            met = np.zeros((400, 2))
            counts = np.zeros((400, 2))
            for batch in examples.batches(part, 7, seed=seed):
                assert len(batch.codes) <= 7
                column = np.where(royal[batch.group], 0, 1)
                met[batch.rows, column] += batch.coverage[:, 0]
                counts[batch.rows, column] += batch.methylated[:, 0]
                assert (batch.codes[:, 4] == 1).all()
            np.testing.assert_array_equal(met[sites], pooled[sites])
            np.testing.assert_array_equal(counts[sites], marked[sites])
            assert met.sum() == pooled[sites].sum()
        assert examples.count(part) == (pooled[sites] > 0).sum()


def test_a_limit_ends_the_walk_and_a_seed_orders_it(study):
    methylome, genome, _, _ = study
    examples = StoreExamples(methylome, genome, 9, _parts(400))
    first = [b.rows for b in examples.batches(TRAIN, 16, seed=1, limit=40)]
    again = [b.rows for b in examples.batches(TRAIN, 16, seed=1, limit=40)]
    other = [b.rows for b in examples.batches(TRAIN, 16, seed=2, limit=40)]
    assert [len(rows) for rows in first] == [16, 16, 8]
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(again))
    assert (np.concatenate(first) != np.concatenate(other)).any()


def test_neighbours_are_the_nearest_known_sites_and_never_the_site_itself():
    contig = np.array([0, 0, 0, 0, 0, 1])
    position = np.array([0, 9, 109, 119, 50_000, 50_010])
    level = np.array([0.1, np.nan, 0.9, 0.3, 0.5, 0.7], np.float32)
    found = neighbours(np.array([2, 4]), contig, position, level, 2)
    # Left: the site at 9 has no level, so 0 is nearest; right: 119, then 50,000 is too far.
    np.testing.assert_allclose(found[0, 0], [-0.4, 0, -0.2, 0], atol=1e-6)
    assert found[0, 1].tolist() == [1, 0, 1, 0]
    np.testing.assert_allclose(found[0, 2], [-np.log10(110) / 5, 0, np.log10(11) / 5, 0], atol=1e-6)
    assert not found[1].any()


def test_neighbours_cross_pieces_and_keep_to_their_environment(study, monkeypatch):
    methylome, genome, _, _ = study
    whole = StoreExamples(methylome, genome, 9, _parts(400), environment=["diet"], neighbours=6)
    wanted = {(r, g): n for b in whole.batches(TRAIN, 50) for r, g, n in _each(b)}
    monkeypatch.setattr(module, "PIECE", 32)
    pieces = StoreExamples(methylome, genome, 9, _parts(400), environment=["diet"], neighbours=6)
    met = {(r, g): n for b in pieces.batches(TRAIN, 50) for r, g, n in _each(b)}
    assert met.keys() == wanted.keys()
    for key, value in met.items():
        np.testing.assert_array_equal(value, wanted[key])


def _each(batch):
    return zip(batch.rows.tolist(), batch.group.tolist(), batch.neighbours, strict=True)


def test_levels_of_arrays_count_as_one_read(study):
    methylome, genome, coverage, methylated = study
    seen = coverage > 0
    beta = np.where(seen, methylated / np.maximum(coverage, 1), np.nan).astype(np.float32)
    levels = methylome.drop_vars(["methylated", "coverage"]).assign(beta=(("site", "sample"), beta))
    examples = StoreExamples(levels, genome, 9, _parts(400))
    batch = next(iter(examples.batches(TRAIN, 400)))
    np.testing.assert_array_equal(batch.coverage[:, 0], seen.sum(1)[batch.rows])


def test_windows_given_as_sequences():
    windows = FixedWindows(encode(["ACG", "CCG", "TCA", "GCG"]))
    parts = np.array([0, 0, 1, 2], np.int8)
    one = np.ones((4, 1), np.float32)
    environment = Environment.learn({"species": ["x", "y", "x", "y"]}, ["species"])
    rows = environment.encode({"species": ["x", "y", "x", "y"]}).values
    examples = SequenceExamples(windows, one, one, parts, environment=environment, rows=rows)
    (batch,) = examples.batches(TRAIN, 8)
    assert batch.codes.tolist() == [[0, 1, 2], [1, 1, 2]]
    assert batch.environment.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(MelismaError, match="no windows for validation"):
        SequenceExamples(windows, one, one, np.zeros(4, np.int8))
    with pytest.raises(MelismaError, match="a missing mark has coverage 0"):
        SequenceExamples(windows, one * np.nan, one, parts)
    with pytest.raises(MelismaError, match="must have"):
        SequenceExamples(windows, one[:2], one, parts)


def test_another_build_and_odd_neighbours_are_refused(study, tmp_path):
    methylome, genome, _, _ = study
    other = tmp_path / "other.fa"
    other.write_text(">chr1\n" + "GATT" * 400 + "\n")
    with pytest.raises(MelismaError, match=r"400 of 400 sites do not hold the mark's base"):
        StoreExamples(methylome, Genome.open(other), 9, _parts(400))
    with pytest.raises(MelismaError, match="give an even number"):
        StoreExamples(methylome, genome, 9, _parts(400), neighbours=3)
    with pytest.raises(MelismaError, match="The split has 399 windows and the data 400"):
        StoreExamples(methylome, genome, 9, _parts(399))

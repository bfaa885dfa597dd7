"""Attributions of an untrained network around sites of a random genome, read back from files."""

from collections import defaultdict

import numpy as np
import pytest

from melisma.errors import MelismaError

torch = pytest.importorskip("torch")

from melisma.genome import Genome  # noqa: E402
from melisma.sequence.attributions import (  # noqa: E402
    attributions,
    attributions_of_windows,
    base_contributions,
    to_bigwig,
    to_modisco,
    to_npz,
)
from melisma.sequence.checkpoint import Model  # noqa: E402
from melisma.sequence.encodings import encode, one_hot  # noqa: E402
from melisma.sequence.environment import Environment  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.sequence.predict import Sites, sites_of_contigs  # noqa: E402

WIDTH = 21


def model_of(contexts=("CHH",), heads=("m",), strands="separate"):
    torch.manual_seed(3)
    config = ModelConfig(WIDTH, heads=heads, channels=8, dilations=(1,), hidden=8, read_out=4)
    record = {"contexts": list(contexts), "strands": strands} if contexts else {}
    member = SequenceModel(config).eval()
    return Model(config, Environment(), (member,), (1.0,) * len(heads), record=record)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    rng = np.random.default_rng(1)
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    bases = rng.choice(list("ACGT"), 300)
    bases[100:105] = "N"
    path.write_text(
        f">b\n{''.join(bases)}\n>a\n{''.join(rng.choice(list('ACGT'), 80))}\n"
        f">n\n{'N' * 40}CGA{'N' * 40}\n"
    )
    return Genome.open(path)


@pytest.fixture(scope="module")
def found(genome):
    model = model_of()
    return attributions(model, genome, sites_of_contigs(genome, model, ["b", "a"]))


def test_an_own_base_is_worth_what_it_adds_over_the_others(found, genome):
    model = model_of()
    window = found.windows[:1]
    position = 4
    levels = []
    for base in range(4):
        changed = window.copy()
        changed[0, position] = base
        levels.append(float(model.predict(changed).level[0, 0]))
    own = int(window[0, position])
    others = np.mean([level for base, level in enumerate(levels) if base != own])
    assert found.contribution[0, position] == pytest.approx(levels[own] - others, abs=1e-5)
    expected = np.array(levels) - others
    np.testing.assert_allclose(found.hypothetical[0, :, position], expected, atol=1e-5)


def test_the_site_and_unknown_bases_contribute_nothing(found):
    assert found.fixed == (10,)
    assert (found.windows[:, 10] == 1).all()
    assert (found.contribution[:, 10] == 0).all()
    assert (found.hypothetical[:, :, 10] == 0).all()
    unknown = found.windows == 4
    assert unknown.any()
    assert (found.contribution[unknown] == 0).all()
    assert (found.contribution[~unknown] != 0).any()


def test_modiscos_files_are_as_it_reads_them(found, tmp_path):
    to_modisco(found, tmp_path / "ohe.npz", tmp_path / "attr.npz")
    with np.load(tmp_path / "ohe.npz") as file:
        sequences = file["arr_0"]
    with np.load(tmp_path / "attr.npz") as file:
        scores = file["arr_0"]
    assert sequences.shape == scores.shape == (len(found.windows), 4, WIDTH)
    assert sequences.dtype == np.int8
    assert scores.dtype == np.float32
    assert (sequences == one_hot(found.windows)).all()
    # tf-modisco's contributions are the product, (n, length, 4) after its transposition.
    actual = (sequences.transpose(0, 2, 1) * scores.transpose(0, 2, 1)).sum(axis=2)
    np.testing.assert_allclose(actual, found.contribution, atol=1e-6)


def test_one_file_holds_arrays_and_sites(found, tmp_path):
    to_npz(found, tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        assert set(file) == {"ohe", "attr", "level", "contig", "position", "strand"}
        assert file["attr"].shape == (len(found.windows), 4, WIDTH)
        assert set(file["contig"]) == {"a", "b"}
        assert set(file["strand"]) == {1, -1}


def test_the_track_holds_each_bases_mean_over_its_windows(found, genome, tmp_path):
    pybigtools = pytest.importorskip("pybigtools")
    expected = defaultdict(list)
    sites = found.sites
    value = found.contribution
    for row in range(len(found.windows)):
        name = sites.contigs[sites.contig[row]]
        for j in range(WIDTH):
            if j == 10 or found.windows[row, j] == 4:
                continue
            place = sites.position[row] + (j - 10) * int(sites.strand[row])
            expected[name, int(place)].append(value[row, j])
    n = to_bigwig(found, tmp_path / "c.bw", dict(genome.lengths))
    read = {}
    with pybigtools.open(str(tmp_path / "c.bw")) as track:
        assert dict(track.chroms())["b"] == 300
        for name in ("a", "b"):
            for start, end, mean in track.records(name):
                for place in range(start, end):
                    read[name, place] = mean
    assert n == len(read) == len(expected)
    for key, values in expected.items():
        assert read[key] == pytest.approx(np.mean(values), abs=1e-6)
    table = base_contributions(found)
    assert table["windows"].max() == max(map(len, expected.values()))


def test_a_sample_of_sites_is_drawn_by_its_seed(genome):
    model = model_of()
    sites = sites_of_contigs(genome, model, ["b"])
    one, two, other = (
        attributions(model, genome, sites, most=10, seed=seed).sites.position for seed in (1, 1, 2)
    )
    assert len(one) == 10
    assert one.tolist() == two.tolist() == sorted(one)
    assert one.tolist() != other.tolist()


def test_merged_sites_are_read_from_their_c(genome):
    model = model_of(("CG",), strands="merged")
    found = attributions(model, genome, sites_of_contigs(genome, model, ["b"]))
    assert found.fixed == (10, 11)
    assert (found.windows[:, 11] == 2).all()
    assert (found.sites.strand == 1).all()


def test_windows_that_say_nothing_are_left_out_or_refused(genome):
    model = model_of(("CG",), strands="merged")
    with pytest.raises(MelismaError, match=r"Of 1 windows, 1 are mostly N and 0 have no site"):
        attributions(model, genome, sites_of_contigs(genome, model, ["n"]))
    wrong = Sites(("b",), np.zeros(2, int), np.array([20, 21]), np.ones(2, np.int8))
    bases = genome.bases("b", 20, 23).tobytes()
    assert b"CG" not in bases
    with pytest.raises(MelismaError, match="2 have no site of the mark"):
        attributions(model, genome, wrong)


def test_models_that_are_for_no_sites_are_refused(genome):
    sites = Sites(("b",), np.zeros(1, int), np.array([20]), np.ones(1, np.int8))
    with pytest.raises(MelismaError, match="predicts promoter, which is no mark"):
        attributions(model_of(heads=("promoter",)), genome, sites)
    labels = model_of(contexts=())
    with pytest.raises(MelismaError, match="trained on labels of given windows"):
        attributions(labels, genome, sites)
    found = attributions_of_windows(labels, encode(["ACGTA" * 4 + "N"]))
    assert found.hypothetical.shape == (1, 4, WIDTH)
    with pytest.raises(MelismaError, match="no place in a genome"):
        base_contributions(found)

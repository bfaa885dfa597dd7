"""Mutations by stretches against whole runs, on random networks of every shape."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from melisma.errors import MelismaError  # noqa: E402
from melisma.sequence.checkpoint import Model  # noqa: E402
from melisma.sequence.environment import Environment  # noqa: E402
from melisma.sequence.model import ModelConfig, SequenceModel  # noqa: E402
from melisma.sequence.mutagenesis import _reach, mutagenesis  # noqa: E402

SHEET = {"tissue": ["a", "b", "c"]}


def random_model(width, symmetric=False, environment=False, members=1, **more):
    torch.manual_seed(width)
    told = Environment.learn(SHEET, ["tissue"]) if environment else Environment()
    config = ModelConfig(
        width=width, environment=told.width,
        **({"channels": 8, "read_out": 3, "hidden": 8, "film": 6} | more),
    )  # fmt: skip
    modules = []
    for _ in range(members):
        module = SequenceModel(config).eval()
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        modules.append(module)
    return Model(config, told, tuple(modules), (1.3,), symmetric)


def windows(n, width, seed=0, unknown=True):
    codes = np.random.default_rng(seed).integers(0, 4, (n, width)).astype(np.uint8)
    if unknown:
        codes[0, 3] = 4
    return codes


SHAPES = [
    {"width": 61, "stem": 5, "dilations": (1, 2)},
    {"width": 61, "stem": 5, "dilations": (1, 2), "symmetric": True},
    {"width": 101, "stem": 7, "dilations": (1, 2, 1), "pool": 4, "environment": True},
    {"width": 101, "stem": 9, "dilations": (1, 2), "pool": 3, "symmetric": True, "members": 2},
    {"width": 61, "stem": 5, "kernel": 5, "dilations": (2,), "motif_path": False},
    {"width": 61, "stem": 5, "dilations": (1,), "neighbours": 4},
    {"width": 101, "stem": 5, "dilations": (1,), "pool": 4, "centre": 21, "environment": True},
    {"width": 101, "stem": 9, "dilations": (1,), "pool": 5, "centre": 31, "symmetric": True},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_stretches_are_whole_runs(shape):
    model = random_model(**shape)
    codes = windows(2, shape["width"])
    told = None
    if shape.get("environment"):
        told = model.environment.encode({"tissue": ["b"]}).values
    assert _reach(model.members[0]) < model.config.length
    found = mutagenesis(model, codes, told)
    whole = mutagenesis(model, codes, told, whole=True)
    assert np.abs(found.effect[np.isfinite(whole.effect)]).max() > 1e-3
    np.testing.assert_allclose(found.effect, whole.effect, atol=2e-5)
    np.testing.assert_allclose(found.level, model.predict(codes, told).level[:, 0], atol=1e-6)


def test_an_effect_is_the_difference_of_two_predictions():
    model = random_model(61, stem=5, dilations=(1, 2), symmetric=True)
    codes = windows(1, 61, unknown=False)
    found = mutagenesis(model, codes)
    for place, base in ((0, 0), (1, 2), (30, 1), (60, 3)):
        changed = codes.copy()
        changed[0, place] = base
        expected = model.predict(changed).level[0, 0] - model.predict(codes).level[0, 0]
        assert found.effect[0, place, base] == pytest.approx(expected, abs=2e-6)
    own = found.effect[0, np.arange(61), codes[0]]
    assert (own == 0).all()


def test_unknown_bases_have_no_effect_to_tell():
    found = mutagenesis(random_model(61, stem=5, dilations=(1,)), windows(1, 61))
    assert np.isnan(found.effect[0, 3]).all()
    assert np.isfinite(found.effect[0, 4]).all()


def test_attention_runs_whole():
    model = random_model(61, stem=5, dilations=(1,), attention=1, position="rotary")
    codes = windows(1, 61, unknown=False)
    np.testing.assert_array_equal(
        mutagenesis(model, codes).effect, mutagenesis(model, codes, whole=True).effect
    )


def test_windows_of_another_width_are_refused():
    with pytest.raises(MelismaError, match="reads windows of 61 bases, and these are 21"):
        mutagenesis(random_model(61), windows(1, 21))

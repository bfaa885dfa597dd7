"""The network, its training and its checkpoints, on toy sequences with a known rule (simulated)."""

import json
import math

import numpy as np
import pytest

from melisma import progress
from melisma.errors import MelismaError

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from melisma.sequence import _steps as steps_module  # noqa: E402
from melisma.sequence._calibration import Conformal, temperature  # noqa: E402
from melisma.sequence._recipe import Recipe  # noqa: E402
from melisma.sequence.checkpoint import (  # noqa: E402
    as_input,
    flip_neighbours,
    load,
    other_strand,
    symmetric_view,
)
from melisma.sequence.encodings import encode, one_hot  # noqa: E402
from melisma.sequence.environment import Environment  # noqa: E402
from melisma.sequence.examples import TEST, SequenceExamples  # noqa: E402
from melisma.sequence.model import (  # noqa: E402
    ModelConfig,
    Output,
    SequenceModel,
    grid_code,
    loss,
)
from melisma.sequence.train import train  # noqa: E402
from melisma.sequence.windows import FixedWindows  # noqa: E402

TINY = {"channels": 8, "stem": 3, "dilations": (1, 2), "read_out": 4, "hidden": 8, "film": 8}


def _simulated(n=1200, seed=0):
    """Windows of 11 bases in two tissues: a G after the centre marks one, a T the other."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, (n, 11)).astype(np.uint8)
    tissue = rng.integers(0, 2, n)
    wanted = np.where(tissue == 0, 2, 3)
    label = (codes[:, 6] == wanted).astype(np.float32)[:, None]
    sheet = {"tissue": ["a" if t == 0 else "b" for t in tissue]}
    environment = Environment.learn(sheet, ["tissue"])
    parts = np.repeat(np.array([0, 1, 2], np.int8), [n * 4 // 6, n // 6, n - n * 5 // 6])
    return SequenceExamples(
        FixedWindows(codes),
        label,
        np.ones_like(label),
        parts,
        environment=environment,
        rows=environment.encode(sheet).values,
    )


def _config(examples, **more):
    told = {"width": examples.width, "environment": examples.environment.width}
    return ModelConfig(**(TINY | told | more))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    examples = _simulated()
    out = tmp_path_factory.mktemp("models") / "model"
    recipe = Recipe(epochs=12, batch=32, rate=0.02, members=2, patience=12)
    return examples, train(examples, _config(examples), recipe, out), out


def test_what_the_environment_decides_is_learned(trained):
    examples, model, _ = trained
    (batch,) = examples.batches(TEST, 1000)
    level = model.predict(batch.codes, batch.environment).level[:, 0]
    assert ((level > 0.5) == (batch.methylated[:, 0] > 0.5)).mean() > 0.98
    f = model.function(environment={"tissue": "a"})
    after_g, after_t = f(encode(["AAAAACGAAAA", "AAAAACTAAAA"]))
    assert after_g > 0.8
    assert after_t < 0.2


def test_a_checkpoint_is_the_same_model_and_holds_no_pickle(trained):
    examples, model, out = trained
    assert sorted(p.name for p in out.iterdir()) == [
        "member-0.safetensors",
        "member-1.safetensors",
        "model.json",
    ]
    again = load(out)
    (batch,) = examples.batches(TEST, 1000)
    for one, two in zip(
        model.predict(batch.codes, batch.environment),
        again.predict(batch.codes, batch.environment),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
    assert again.environment == model.environment
    assert again.record["recipe"]["rate"] == 0.02


def test_damaged_and_foreign_checkpoints_are_refused(trained, tmp_path):
    _, _, out = trained
    with pytest.raises(MelismaError, match="holds no model"):
        load(tmp_path)
    found = json.loads((out / "model.json").read_text())
    cases = {
        "RNA": (found | {"alphabet": "ACGU"}, "trained on the alphabet ACGU"),
        "newer": (found | {"format": 99}, "install a newer"),
        "cut": (found | {"config": {"width": 11}}, "does not fit model.json"),
        "odd": (found | {"config": {"breadth": 11}}, "is damaged"),
        "more": (found | {"members": 3}, "member-2.safetensors is missing"),
    }
    for name, (record, message) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        for path in out.glob("*.safetensors"):
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "model.json").write_text(json.dumps(record))
        with pytest.raises(MelismaError, match=message):
            load(folder)
    (tmp_path / "RNA" / "model.json").write_text("{")
    with pytest.raises(MelismaError, match="is damaged"):
        load(tmp_path / "RNA")


class _Killed(Exception):
    """What stands for a kill."""


class _KillAfter:
    """A reporter that ends the process's work after so many epochs."""

    def __init__(self, epochs):
        self.left = epochs
        self.said = []

    def stage(self, name, total):
        from contextlib import nullcontext

        return nullcontext(lambda _: None)

    def note(self, text):
        self.said.append(text)
        if text.startswith("Epoch"):
            self.left -= 1
            if self.left < 0:
                raise _Killed


def test_a_killed_training_goes_on_to_the_same_model(tmp_path):
    examples = _simulated(300)
    recipe = Recipe(epochs=4, batch=32, members=2)
    whole = train(examples, _config(examples), recipe, tmp_path / "whole")
    for epochs in (1, 2, 1):
        with pytest.raises(_Killed), progress.reporting(_KillAfter(epochs)):
            train(examples, _config(examples), recipe, tmp_path / "killed")
    reporter = _KillAfter(99)
    with progress.reporting(reporter):
        resumed = train(examples, _config(examples), recipe, tmp_path / "killed")
    assert any("goes on from" in text for text in reporter.said)
    for one, two in zip(whole.members, resumed.members, strict=True):
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
            assert torch.equal(a, b)
    assert not (tmp_path / "killed.part").exists()


def test_other_settings_do_not_go_on_from_old_work(tmp_path):
    examples = _simulated(300)
    with pytest.raises(_Killed), progress.reporting(_KillAfter(1)):
        train(examples, _config(examples), Recipe(epochs=3, batch=32), tmp_path / "model")
    reporter = _KillAfter(99)
    with progress.reporting(reporter):
        train(examples, _config(examples), Recipe(epochs=2, batch=32), tmp_path / "model")
    assert any("starts anew" in text for text in reporter.said)
    with pytest.raises(MelismaError, match="exists: choose another folder"):
        train(examples, _config(examples), Recipe(epochs=2), tmp_path / "model")


def test_a_loss_that_is_not_a_number_keeps_the_last_good_epoch(tmp_path, monkeypatch):
    examples = _simulated(300)
    real, calls = steps_module.loss, []

    def broken(*args):
        calls.append(1)
        each = real(*args)
        # The second epoch's first training step: 200 rows are 7 steps, then 1 of validation.
        return each * math.nan if len(calls) == 9 else each

    monkeypatch.setattr(steps_module, "loss", broken)
    reporter = _KillAfter(99)
    with progress.reporting(reporter):
        model = train(examples, _config(examples), Recipe(epochs=5, batch=32), tmp_path / "m")
    assert len(model.record["history"][0]) == 1
    assert any("best of the 1 epochs" in text for text in reporter.said)
    monkeypatch.setattr(steps_module, "loss", lambda *args: real(*args) * math.nan)
    with pytest.raises(MelismaError, match="not a number in its first epoch: lower the learning"):
        train(examples, _config(examples), Recipe(epochs=2, batch=32), tmp_path / "n")


def test_a_network_must_fit_the_examples(tmp_path):
    examples = _simulated(60)
    with pytest.raises(MelismaError, match="width is 9, and the examples' is 11"):
        train(examples, _config(examples, width=9), Recipe(), tmp_path / "m")
    with pytest.raises(MelismaError, match="environment is 0, and the examples' is 2"):
        train(examples, _config(examples, environment=0), Recipe(), tmp_path / "m")
    with pytest.raises(MelismaError, match="rate is -1"):
        Recipe(rate=-1)
    with pytest.raises(MelismaError, match="choose an odd one"):
        ModelConfig(width=10)
    assert list(tmp_path.iterdir()) == []


def test_windows_of_another_width_are_refused(trained):
    _, model, _ = trained
    with pytest.raises(MelismaError, match="reads windows of 11 bases, and these are 9"):
        model.predict(np.zeros((1, 9), np.uint8))


def test_the_loss_is_the_beta_binomial_and_one_read_is_bernoulli():
    from scipy.special import betaln

    logit = torch.tensor([[0.4], [-1.0], [0.4]], dtype=torch.float64)
    precision = torch.tensor([[1.2], [0.3], [1.2]], dtype=torch.float64)
    methylated = torch.tensor([[3.0], [1.0], [0.0]], dtype=torch.float64)
    coverage = torch.tensor([[7.0], [1.0], [0.0]], dtype=torch.float64)
    found = loss(Output(logit, precision), methylated, coverage)[:, 0].numpy()
    mean, s = 1 / (1 + np.exp(-logit.numpy()[:, 0])), np.exp(precision.numpy()[:, 0])
    a, b = mean * s, (1 - mean) * s
    m, n = methylated.numpy()[:, 0], coverage.numpy()[:, 0]
    np.testing.assert_allclose(found[:2], (betaln(a, b) - betaln(a + m, b + n - m))[:2], rtol=1e-9)
    assert found[2] == 0
    np.testing.assert_allclose(found[1], -np.log(mean[1]), rtol=1e-9)
    plain = loss(Output(logit, None), methylated, coverage)[:, 0].numpy()
    np.testing.assert_allclose(plain[0], -(3 * np.log(mean[0]) + 4 * np.log(1 - mean[0])))


@pytest.mark.parametrize("position", ["none", "learned", "rotary", "grid"])
def test_every_position_code_runs_and_all_but_none_tell_places_apart(position):
    torch.manual_seed(0)
    config = ModelConfig(
        width=33, attention=1, attention_heads=2, position=position, dropout=0.0, **TINY
    )
    module = SequenceModel(config).eval()
    x = as_input(encode(["A" * 33, "ACGTA" * 6 + "CCC"]))
    assert module(x).logit.shape == (2, 1)
    # Attention alone, on positions that all hold the same: only a code tells them apart.
    layer = module.attention[0]
    same = torch.ones(1, 8, 33)
    if module.position is not None:
        same = same + module.position()
    out = layer(same, None)
    differ = bool((out.std(dim=2) > 1e-5).any())
    # Rotary codes turn queries and keys but not values, so equal positions mix to equal ones.
    assert differ == (position in ("learned", "grid"))


def test_grid_periods_grow_by_their_ratio():
    code = grid_code(101)
    scales = code.shape[1] // 2
    assert torch.allclose(code[50, :scales], torch.zeros(scales))
    near, far = (code[50] - code[51]).norm(), (code[50] - code[90]).norm()
    assert near < far


def test_the_other_strand_of_a_cpg_is_read_as_this_one():
    """Both windows of one CpG, seen symmetrically, are each other's views."""
    genome = encode("TTGACCAACGTTGCATG")
    plus, at = genome[8 - 5 : 8 + 6][None], 8
    minus = (3 - genome[at + 1 - 5 : at + 1 + 6][::-1])[None].astype(np.uint8)
    assert plus[0, 5] == minus[0, 5] == 1
    np.testing.assert_array_equal(other_strand(plus), symmetric_view(minus))
    np.testing.assert_array_equal(other_strand(minus), symmetric_view(plus))
    around = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    np.testing.assert_array_equal(flip_neighbours(flip_neighbours(around)), around)
    np.testing.assert_array_equal(as_input(plus).numpy(), one_hot(plus))


def test_symmetric_models_answer_alike_for_both_strands(tmp_path):
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 4, (200, 13)).astype(np.uint8)
    codes[:, 6], codes[:, 7] = 1, 2
    label = (codes[:, 5] == 0).astype(np.float32)[:, None]
    parts = np.repeat(np.array([0, 1], np.int8), 100)
    examples = SequenceExamples(FixedWindows(codes), label, np.ones_like(label), parts)
    recipe = Recipe(epochs=2, batch=20, symmetric=True)
    model = train(examples, _config(examples), recipe, tmp_path / "m")
    np.testing.assert_allclose(
        model.predict(symmetric_view(codes)).level,
        model.predict(other_strand(codes)).level,
        atol=1e-6,
    )


def test_conformal_intervals_hold_nine_of_ten_simulated_levels():
    rng = np.random.default_rng(2)
    p = rng.beta(0.5, 0.5, (40_000, 1)).astype(np.float32)
    coverage = rng.integers(10, 40, p.shape).astype(np.float32)
    truth = np.clip(p + 0.15 * rng.standard_normal(p.shape) * (0.2 + p), 0, 1)
    methylated = rng.binomial(coverage.astype(int), truth).astype(np.float32)
    half = slice(0, 20_000), slice(20_000, None)
    conformal = Conformal.fit(p[half[0]], methylated[half[0]], coverage[half[0]])
    assert conformal is not None
    low, high = conformal.interval(p[half[1]])
    level = (methylated / coverage)[half[1]]
    held = (level >= low) & (level <= high)
    assert 0.885 < held.mean() < 0.915
    # In every quarter of the predicted level, not only overall.
    for quarter in np.array_split(np.argsort(p[half[1]][:, 0]), 4):
        assert 0.87 < held[quarter].mean() < 0.93
    assert Conformal.from_record(json.loads(json.dumps(conformal.record()))) == conformal
    assert Conformal.fit(p[:50], methylated[:50], coverage[:50]) is None


def test_temperature_finds_what_the_log_odds_were_multiplied_by():
    rng = np.random.default_rng(3)
    logit = rng.normal(0, 2, 20_000)
    label = (rng.random(20_000) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    found = temperature((2.5 * logit[None]).astype(np.float32), label, np.ones_like(label))
    assert found == pytest.approx(2.5, rel=0.05)
    assert temperature(np.zeros((1, 0), np.float32), label[:0], label[:0]) == 1.0

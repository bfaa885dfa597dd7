"""Abilities: probes, scores against chance, change points and the heads that changed."""

import json

import numpy as np
import pytest
from scipy.special import expit

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.trace._change_point import change_point

STEPS = np.array([0, *np.unique(np.geomspace(20, 2000, 30).astype(int))])
PLACE = np.log(np.where(STEPS == 0, 10, STEPS))


def counts(share, seed, n=400):
    """Simulated right answers, the share itself a little off at each checkpoint."""
    rng = np.random.default_rng(seed)
    moved = np.clip(share + rng.normal(0, 0.01, len(STEPS)), 0.001, 0.999)
    return rng.binomial(n, moved), np.full(len(STEPS), n)


def test_a_jump_is_found_and_called_abrupt():
    share = np.where(STEPS > 300, 0.95, 0.05)
    found = [change_point(STEPS, *counts(share, seed)) for seed in range(20)]
    assert all(one.abrupt for one in found)
    assert all(one.changed for one in found)
    last, first = STEPS[STEPS <= 300].max(), STEPS[STEPS > 300].min()
    assert np.mean([one.low <= first and one.high >= last for one in found]) >= 0.95
    assert found[0].before == pytest.approx(0.05, abs=0.02)
    assert found[0].after == pytest.approx(0.95, abs=0.02)
    assert found[0].smooth_bic_difference > 6


def test_slow_rises_are_seldom_called_abrupt():
    # 10% to 90% takes a factor of four: 2 log 9 scales of the logistic.
    share = 0.05 + 0.9 * expit((PLACE - np.log(300)) / (np.log(4) / (2 * np.log(9))))
    found = [change_point(STEPS, *counts(share, seed)) for seed in range(40)]
    assert np.mean([one.abrupt is True for one in found]) <= 0.05
    assert np.mean([one.low <= 300 <= one.high for one in found]) >= 0.9
    assert np.median([one.factor for one in found]) == pytest.approx(4, rel=0.3)


def test_what_does_not_change_has_no_change_point():
    flat = [change_point(STEPS, *counts(np.full(len(STEPS), 0.1), seed)) for seed in range(40)]
    assert np.mean([one.changed for one in flat]) <= 0.05
    with pytest.raises(MelismaError, match="3 checkpoints show no change point"):
        change_point([1, 2, 3], [1, 1, 1], [2, 2, 2])
    with pytest.raises(MelismaError, match="increasing steps"):
        change_point([1, 2, 2, 3, 4, 5], np.ones(6), np.ones(6))
    with pytest.raises(MelismaError, match="more right answers"):
        change_point(range(6), np.full(6, 3), np.full(6, 2))


torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from melisma.network import Network  # noqa: E402
from melisma.trace import probes  # noqa: E402
from melisma.trace.ability import ability, heads, prefix_matching, score, without  # noqa: E402
from melisma.trace.attention import attention  # noqa: E402


def small(seed=0, layers=2):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=12, hidden_size=16, intermediate_size=8, num_hidden_layers=layers,
        num_attention_heads=2, pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return Network(transformers.LlamaForCausalLM(config).eval())


class Repeats(torch.nn.Module):
    """Says what stood one period before, whatever is asked."""

    def __init__(self, period):
        super().__init__()
        self.period = period

    def forward(self, input_ids):
        at = (torch.arange(input_ids.shape[1]) - self.period + 1).clamp(min=0)
        hot = torch.nn.functional.one_hot(input_ids[:, at], 12).float()
        return transformers.modeling_outputs.CausalLMOutput(logits=hot)


def test_induction_repeats_with_a_period_of_its_own():
    probe = probes.induction(12, items=30, length=20, periods=(4, 8), seed=2)
    assert len(set(probe.period.tolist())) > 2
    for row, period, asked in zip(probe.tokens, probe.period, probe.asked, strict=True):
        k = int(period)
        assert torch.equal(row[k:], row[:-k])
        assert asked.tolist() == [k <= at < 19 for at in range(20)]
    assert probe.chance == 1 / 12
    with pytest.raises(MelismaError, match="do not repeat within 8 tokens"):
        probes.induction(12, length=8)


def test_a_score_is_the_share_of_right_answers_with_rows_as_wholes():
    probe = probes.induction(12, items=40, length=20, periods=(5, 5), seed=2)
    perfect = score(Network(Repeats(5)), probe)
    assert perfect.share == 1
    assert perfect.asked == 40 * (20 - 5 - 1)
    network = small()
    found = score(network, probe)
    with torch.no_grad():
        said = network.module(probe.tokens).logits.argmax(-1)
    hits = ((said == probe.answers) & probe.asked).sum(1).double()
    assert found.right == int(hits.sum())
    assert found.error == pytest.approx(float((hits / 14).std()) / 40**0.5, rel=1e-6)


def test_prefix_matching_is_attention_one_period_back_and_one_on():
    network = small()
    probe = probes.induction(12, items=6, length=16, periods=(4, 6), seed=3)
    maps = attention(network, {"input_ids": probe.tokens}, lambda o, _: o.logits[:, 0, 0]).maps
    total, many = torch.zeros(2, 2), 0
    for row in range(6):
        for at in range(16):
            if probe.asked[row, at] and at - int(probe.period[row]) + 1 > 0:
                total += maps[:, row, :, at, at - int(probe.period[row]) + 1]
                many += 1
    torch.testing.assert_close(prefix_matching(network, probe), (total / many).flatten())


def test_an_ability_is_followed_and_heads_are_compared():
    probe = probes.induction(12, items=16, length=20, periods=(4, 8), seed=4)
    opened = {step: lambda seed=step: small(seed) for step in (0, 1, 2, 4, 8, 16, 32)}
    found = ability(opened, probe)
    assert found.steps == (0, 1, 2, 4, 8, 16, 32)
    assert [s.share for s in found.scores] == [score(small(k), probe).share for k in found.steps]
    expected = heads(small(32), probe)
    assert found.after.names == expected.names
    moved = found.after.effect - found.before.effect
    assert [e.effect for e in found.trace.edges] == pytest.approx(moved.tolist())
    few = ability({0: opened[0]}, probe)
    assert few.change is None
    assert few.trace is None
    with pytest.raises(MelismaError, match="There is no checkpoint"):
        ability({}, probe)
    with pytest.raises(MelismaError, match="has not all of the heads layer.7.head.0"):
        without(small(), probe, ("layer.7.head.0",))
    assert 0 <= without(small(), probe, ("layer.0.head.0",)) <= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of a tiny Llama with a tokenizer of digits and words."""
    path = tmp_path_factory.mktemp("checkpoints")
    symbols = ["<unk>", *"0123456789", "+", "=", ":", "\n", *probes._WORDS, "The", "list", "is"]
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: k for k, w in enumerate(symbols)}, unk_token="<unk>")
    )
    digits = tokenizers.pre_tokenizers.Digits(individual_digits=True)
    lines = tokenizers.pre_tokenizers.Split("\n", "isolated")
    spaces = tokenizers.pre_tokenizers.Split(" ", "removed")
    marks = tokenizers.pre_tokenizers.Punctuation()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([lines, spaces, digits, marks])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")
    for step in (0, 10, 20, 40, 80, 160):
        torch.manual_seed(step)
        config = transformers.LlamaConfig(
            vocab_size=len(symbols), hidden_size=16, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, pad_token_id=None, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        transformers.LlamaForCausalLM(config).save_pretrained(path / f"step-{step}")
        tokenizer.save_pretrained(path / f"step-{step}")
    return path


def test_questions_of_a_text_model(folder):
    from melisma.trace.models import load_text_model

    model = load_text_model(folder / "step-0")
    said = model.tokenizer
    asked = probes.addition(model, items=5, shots=2, digits=2, seed=1)
    for row, where in zip(asked.tokens, asked.asked, strict=True):
        text = said.convert_ids_to_tokens(row.tolist())
        last = len(text) - 1 - text[::-1].index("=")
        a, b = "".join(text[:last]).split("\n")[-1].split("+")
        answer = [text[k + 1] for k in where.nonzero()[:, 0].tolist()]
        assert "".join(answer) == str(int(a) + int(b))
    copied = probes.copying(model, items=5, words=4, seed=1)
    assert copied.chance == 1 / 4
    for row, where in zip(copied.tokens, copied.asked, strict=True):
        words = said.convert_ids_to_tokens(row.tolist())[4:]
        (at,) = where.nonzero()[:, 0].tolist()
        place = at - 4 - 4
        assert words[at - 4 + 1] == words[place + 1]
    with pytest.raises(MelismaError, match="make no sums"):
        probes.addition(model, digits=0)


def test_the_verb(folder, tmp_path, capsys):
    out = tmp_path / "trace.json"
    with pytest.raises(SystemExit) as done:
        main(["trace", "ability", str(folder), "--items", "8", "-o", str(out)])
    assert done.value.code == 0
    assert "chance 12.5%" in capsys.readouterr().out
    assert json.loads(out.read_text())["unit"] == "share of right answers"
    with pytest.raises(SystemExit) as done:
        main(["trace", "ability", str(folder / "step-0"), "--probe", "addition", "-o", str(out)])
    assert done.value.code == 2
    assert "make no trace of a change" in capsys.readouterr().err

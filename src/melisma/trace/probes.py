"""Probes of an ability: questions with one right answer, and what guessing would get.

A probe is a batch of token numbers and, for each row, where answers stand and what is right there.
Chance is measured where it can be: the same answers held against other questions.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.trace.models import TextModel

_WORDS = (
    "house", "tree", "water", "stone", "river", "fish", "bird", "horse", "dog", "cat", "bread",
    "milk", "apple", "table", "chair", "door", "window", "book", "paper", "glass", "road",
    "bridge", "hill", "field", "garden", "flower", "leaf", "grass", "rain", "snow", "wind",
    "fire", "smoke", "light", "night", "morning", "winter", "summer", "king", "queen", "child",
    "mother", "father", "brother", "sister", "friend", "hand", "foot", "eye", "ear", "heart",
    "head",
)  # fmt: skip


class Probe(NamedTuple):
    """Questions and their answers.

    name : of the ability
    tokens : int64 (rows, length)
    asked : bool (rows, length), where the next token is the answer
    chance : share that guessing gets right; None: measured on other rows' answers
    period : int64 (rows,), after how many tokens a row repeats; None where it does not
    """

    name: str
    tokens: Tensor
    asked: Tensor
    chance: float | None
    period: Tensor | None

    @property
    def answers(self) -> Tensor:
        """(rows, length), the token after each."""
        return torch.roll(self.tokens, -1, dims=1)


def induction(
    vocabulary: int, *, items: int = 64, length: int = 80, periods: tuple[int, int] = (8, 32),
    seed: int = 0,
) -> Probe:  # fmt: skip
    """Random tokens that repeat, each row with a period of its own; each copied token is asked.

    Parameters
    ----------
    vocabulary : tokens that are drawn from, 0 to vocabulary - 1
    items : rows
    length : tokens a row
    periods : the least and the greatest period

    Raises
    ------
    MelismaError
        No row would repeat.
    """
    if not 1 < periods[0] <= periods[1] < length - 1:
        raise MelismaError(
            f"Periods of {periods[0]} to {periods[1]} do not repeat within {length} tokens."
        )
    rng = np.random.default_rng(seed)
    period = rng.integers(periods[0], periods[1] + 1, items)
    first = rng.integers(0, vocabulary, (items, periods[1]))
    place = np.arange(length) % period[:, None]
    tokens = torch.from_numpy(np.take_along_axis(first, place, axis=1))
    at = torch.arange(length)
    told = torch.from_numpy(period)
    asked = (at >= told[:, None]) & (at < length - 1)
    return Probe("induction", tokens, asked, 1 / vocabulary, told)


def copying(model: TextModel, *, items: int = 64, words: int = 8, seed: int = 0) -> Probe:
    """A list of words twice over, all of the second but its first asked, one word a row at random.

    Raises
    ------
    MelismaError
        The model has no tokenizer, or too few of the words are one token.
    """
    single = [n for w in _WORDS if len(n := _plain(model, f" {w}")) == 1]
    if len(single) < 2 * words:
        raise MelismaError(f"{model.about['model']} has only {len(single)} of the words as tokens.")
    rng = np.random.default_rng(seed)
    start = _plain(model, "The list is:")
    rows, asked = [], []
    for _ in range(items):
        some = [single[k][0] for k in rng.choice(len(single), words, replace=False)]
        upto = int(rng.integers(1, words))
        row = [*start, *some, *some[: upto + 1]]
        rows.append(row)
        asked.append(len(row) - 2)
    return _probe("copying", rows, [[k] for k in asked], 1 / words)


def addition(
    model: TextModel, *, items: int = 64, shots: int = 8, digits: int = 1, seed: int = 0
) -> Probe:
    """Sums after examples of sums; a row is right where every token of the answer is.

    Parameters
    ----------
    shots : sums that are shown solved, none of them the one asked
    digits : of the numbers that are added

    Raises
    ------
    MelismaError
        The model has no tokenizer, or numbers of so many digits have too few sums.
    """
    if not 1 <= digits <= 6 or shots < 0:
        raise MelismaError(f"{digits} digits and {shots} shots make no sums: digits are 1 to 6.")
    rng = np.random.default_rng(seed)
    low = 0 if digits == 1 else 10 ** (digits - 1)
    rows, asked = [], []
    for _ in range(items):
        chosen = rng.integers(low, 10**digits, (64 * (shots + 1), 2))
        chosen = list(dict.fromkeys(map(tuple, chosen.tolist())))[: shots + 1]
        if len(chosen) <= shots:
            raise MelismaError(f"There are too few sums of {digits} digits for {shots} shots.")
        text = "".join(f"{a} + {b} = {a + b}\n" for a, b in chosen[:-1])
        a, b = chosen[-1]
        question = _plain(model, f"{text}{a} + {b} =")
        whole = _plain(model, f"{text}{a} + {b} = {a + b}\n")
        if whole[: len(question)] != question:
            raise MelismaError(f"{model.about['model']} reads a sum otherwise with its answer.")
        # A space of its own before the digits is no part of the answer, nor is the line's end.
        rows.append(whole)
        asked.append(list(range(len(question) - 1, len(whole) - 2)))
    return _probe(f"addition of {digits} digits", rows, asked, None)


def _plain(model: TextModel, text: str) -> list[int]:
    if model.tokenizer is None:
        model.numbers(text)  # says what is missing
    tokenizer: Any = model.tokenizer
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _probe(name: str, rows: list[list[int]], asked: list[list[int]], chance: float | None) -> Probe:
    """Rows of any length as one batch, padded behind, where a causal model does not look."""
    length = max(map(len, rows))
    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    where = torch.zeros(len(rows), length, dtype=torch.bool)
    for k, (row, at) in enumerate(zip(rows, asked, strict=True)):
        tokens[k, : len(row)] = torch.tensor(row)
        where[k, at] = True
    return Probe(name, tokens, where, chance, None)


def right(said: Tensor, probe: Probe) -> Tensor:
    """Answers that are right, and those asked: (rows, 2) counts. Of a row of several tokens that
    make one answer (no period), all or none is right.

    Parameters
    ----------
    said : int64 (rows, length), the likeliest token after each
    """
    hit = said == probe.answers
    if probe.period is not None:
        return torch.stack([(hit & probe.asked).sum(1), probe.asked.sum(1)], dim=1)
    whole = (hit | ~probe.asked).all(1).long()
    return torch.stack([whole, torch.ones_like(whole)], dim=1)


def guessed(said: Tensor, probe: Probe, *, seed: int = 0) -> float:
    """What guessing gets right: known, or other rows' answers held against each question."""
    if probe.chance is not None:
        return probe.chance
    rng = np.random.default_rng(seed)
    answers = [tuple(row[at].tolist()) for row, at in zip(probe.answers, probe.asked, strict=True)]
    told = [tuple(row[at].tolist()) for row, at in zip(said, probe.asked, strict=True)]
    hits = [np.mean([told[j] == answers[k] for j, k in enumerate(rng.permutation(len(told)))])
            for _ in range(200)]  # fmt: skip
    return float(np.mean(hits))

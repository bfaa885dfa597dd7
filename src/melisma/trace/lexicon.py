"""A dictionary learned from sentences and their translations, to judge word alignments by.

IBM's first model (Brown et al. 1993): each target word comes from one source word, or from none,
and where the words stand does not matter. It is fitted by expectation and maximisation in both
directions, and two words translate each other where each is a likely origin of the other.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_WORD = re.compile(r"[^\W_]+")
# The source word that stands for none.
_NONE = ""


class Lexicon(NamedTuple):
    """Which words translate each other.

    pairs : (source word, target word), lower case
    sentences : that it was learned from
    """

    pairs: frozenset[tuple[str, str]]
    sentences: int


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where a text's words begin and end: runs of letters and digits, so that l'homme is two."""
    return [found.span() for found in _WORD.finditer(text)]


def words_of(text: str) -> tuple[str, ...]:
    """A text's words in lower case."""
    return tuple(text[low:high].lower() for low, high in word_spans(text))


def learn_lexicon(
    sentences: Sequence[tuple[str, str]],
    *,
    iterations: int = 5,
    probability: float = 0.1,
    least: int = 5,
) -> Lexicon:
    """Words that translate each other, from sentences and their translations.

    Parameters
    ----------
    sentences : (sentence, translation)
    iterations : of expectation and maximisation
    probability : that a word must have as the other's translation, in both directions
    least : sentences a word must be in; rarer ones collect what nothing else explains

    Raises
    ------
    MelismaError
        There is no sentence.
    """
    if not sentences:
        raise MelismaError("A dictionary is learned from sentences, and there are none.")
    sides = [tuple(words_of(pair[k]) for pair in sentences) for k in (0, 1)]
    forth = translation_probabilities(sides[0], sides[1], iterations=iterations)
    back = translation_probabilities(sides[1], sides[0], iterations=iterations)
    often = [_often(side, least) for side in sides]
    pairs = frozenset(
        (source, target)
        for (source, target), likely in forth.items()
        if likely >= probability
        and source in often[0]
        and target in often[1]
        and back.get((target, source), 0.0) >= probability
    )
    return Lexicon(pairs, len(sentences))


def translation_probabilities(
    source: Sequence[Sequence[str]],
    target: Sequence[Sequence[str]],
    *,
    iterations: int = 5,
    none: bool = True,
) -> dict[tuple[str, str], float]:
    """How likely each target word is as a source word's translation.

    Parameters
    ----------
    source, target : words of N sentences and of their translations
    none : a target word may come from no source word

    Returns
    -------
    (source word, target word) -> probability; over target words they add up to 1. No source word
    is "".
    """
    names, first = _numbered([[_NONE, *s] if none else s for s in source])
    others, second = _numbered(target)
    # One link a pair of words of one sentence: numbers of the words, and of the target's token.
    left, right, token = [], [], []
    at = 0
    for a, b in zip(first, second, strict=True):
        left.append(np.repeat(a, len(b)))
        right.append(np.tile(b, len(a)))
        token.append(np.tile(np.arange(at, at + len(b)), len(a)))
        at += len(b)
    origin = np.concatenate(left)
    kinds, kind = np.unique(origin * len(others) + np.concatenate(right), return_inverse=True)
    place = np.concatenate(token)
    of = kinds // len(others)
    likely: Floats = np.full(len(kinds), 1 / len(others))
    for _ in range(iterations):
        share = likely[kind]
        share /= np.bincount(place, weights=share, minlength=at)[place]
        expected = np.bincount(kind, weights=share, minlength=len(kinds))
        likely = expected / np.bincount(of, weights=expected, minlength=len(names))[of]
    return {
        (names[a], others[b]): float(p)
        for a, b, p in zip(of.tolist(), (kinds % len(others)).tolist(), likely, strict=True)
    }


def _numbered(sentences: Sequence[Sequence[str]]) -> tuple[list[str], list[Integers]]:
    number: dict[str, int] = {}
    found = [
        np.array([number.setdefault(word, len(number)) for word in words], np.int64)
        for words in sentences
    ]
    return list(number), found


def _often(sentences: Sequence[Sequence[str]], least: int) -> set[str]:
    count: dict[str, int] = {}
    for words in sentences:
        for word in set(words):
            count[word] = count.get(word, 0) + 1
    return {word for word, times in count.items() if times >= least}

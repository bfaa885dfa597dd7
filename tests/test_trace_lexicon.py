"""IBM's first model against a table worked out elsewhere, and the dictionary that comes of it."""

import pytest

from melisma.errors import MelismaError
from melisma.trace.lexicon import learn_lexicon, translation_probabilities, word_spans, words_of

HOUSE = [("das Haus", "the house"), ("das Buch", "the book"), ("ein Buch", "a book")]


def sides(pairs):
    return [words_of(a) for a, _ in pairs], [words_of(b) for _, b in pairs]


@pytest.mark.parametrize(
    ("iterations", "the_das", "book_das", "house_haus"),
    [(1, 0.5, 0.25, 0.5), (2, 0.6364, 0.1818, 0.5714), (3, 0.7479, 0.1208, 0.6534)],
)
def test_probabilities_are_those_of_a_published_example(iterations, the_das, book_das, house_haus):
    # Koehn, Statistical Machine Translation (2010), section 4.2; without an empty word.
    found = translation_probabilities(*sides(HOUSE), iterations=iterations, none=False)
    assert found[("das", "the")] == pytest.approx(the_das, abs=1e-4)
    assert found[("das", "book")] == pytest.approx(book_das, abs=1e-4)
    assert found[("haus", "house")] == pytest.approx(house_haus, abs=1e-4)


def test_probabilities_of_a_word_add_up():
    found = translation_probabilities(*sides(HOUSE), iterations=4)
    total = {}
    for (source, _), p in found.items():
        total[source] = total.get(source, 0) + p
    assert "" in total
    assert list(total.values()) == pytest.approx([1] * len(total))


def test_a_dictionary_needs_both_directions_and_enough_sentences():
    found = learn_lexicon(HOUSE * 5 + [("der Hund", "the dog")], iterations=20)
    assert ("haus", "house") in found.pairs
    assert ("buch", "book") in found.pairs
    assert ("das", "book") not in found.pairs
    assert ("hund", "dog") not in found.pairs  # one sentence only
    assert ("hund", "dog") in learn_lexicon(HOUSE * 5 + [("der Hund", "the dog")], least=1).pairs
    assert found.sentences == 16


def test_words_are_letters_and_digits():
    assert words_of("L'homme a 3 chats, peut-être.") == (
        "l", "homme", "a", "3", "chats", "peut", "être",
    )  # fmt: skip
    assert word_spans("Ah, non!") == [(0, 2), (4, 7)]


def test_no_sentences_are_refused():
    with pytest.raises(MelismaError, match="there are none"):
        learn_lexicon([])

"""`melisma trace words`: nearest words and analogies in word vectors."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.errors import MelismaError


def words(
    asked: Annotated[
        str, typer.Argument(help='A word, or "king - man + woman".', show_default=False)
    ],
    vectors: Annotated[
        Path,
        typer.Option(
            "--vectors",
            "-v",
            help="GloVe or word2vec text, .bin, gensim .kv, or a folder of .npy and .parquet.",
            show_default=False,
        ),
    ],
    most: Annotated[int, typer.Option(min=1, help="Words shown.")] = 10,
    first: Annotated[
        int | None, typer.Option(min=2, help="Read only the first words, the commonest.")
    ] = None,
) -> None:
    """Show the words nearest to a word, or to a sum and difference of words.

    \b
    Example:
      melisma trace words king --vectors glove.6B.50d.txt
      melisma trace words "king - man + woman" -v glove.6B.50d.txt
    """
    from melisma._extras import require
    from melisma.cli._terminal import show_table, terminal

    require("text", "gensim", what="Reading word vectors")
    from melisma.trace.words import load_word_vectors

    positive, negative = _sides(asked)
    with terminal():
        found = load_word_vectors(vectors, most=first)
        if negative or len(positive) > 1:
            near = found.analogy(positive, negative, most=most)
        else:
            near = found.nearest(positive[0], most=most)
    rows = [(each.word, f"{each.cosine:.3f}") for each in near]
    show_table(asked, ("word", "cosine"), rows)


def _sides(asked: str) -> tuple[list[str], list[str]]:
    """The words that are added and those that are taken off; a sign stands between spaces."""
    sides: dict[str, list[str]] = {"+": [], "-": []}
    sign = "+"
    for word in asked.replace("−", "-").split():
        if word in sides:
            sign = word
        else:
            sides[sign].append(word)
    if not sides["+"]:
        raise MelismaError(f"{asked!r} names no word to begin with: king - man + woman.")
    return sides["+"], sides["-"]

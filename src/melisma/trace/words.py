"""Word vectors: nearest words and analogies, from GloVe or word2vec text and gensim files."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma._extras import require
from melisma.errors import MelismaError


class Near(NamedTuple):
    """A word and its cosine with what was asked for."""

    word: str
    cosine: float


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors.

    Attributes
    ----------
    words : W of them
    vectors : (W, width) float32, as stored
    """

    words: tuple[str, ...]
    vectors: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.words) != len(self.vectors):
            raise MelismaError(
                f"{len(self.words)} words have vectors of the shape {self.vectors.shape}."
            )

    def nearest(self, word: str, *, most: int = 10) -> tuple[Near, ...]:
        """The words whose vectors point most nearly the same way; the word itself is left out.

        Raises
        ------
        MelismaError
            The word has no vector.
        """
        return self._near(self._unit[self._number(word)], (word,), most)

    def analogy(
        self, positive: list[str], negative: list[str], *, most: int = 10
    ) -> tuple[Near, ...]:
        """The words nearest to a sum and difference, as king − man + woman.

        Each vector counts with length 1, and the words asked with are left out, as in Mikolov et
        al. (2013): without that, the first is often the answer.

        Raises
        ------
        MelismaError
            A word has no vector, or none is asked with.
        """
        if not positive:
            raise MelismaError("An analogy needs a word to add: king - man + woman.")
        unit = self._unit
        toward = sum(unit[self._number(w)] for w in positive) - sum(
            (unit[self._number(w)] for w in negative), np.zeros(unit.shape[1], np.float32)
        )
        return self._near(toward, (*positive, *negative), most)

    def _near(self, toward: Any, left_out: tuple[str, ...], most: int) -> tuple[Near, ...]:
        cosine = self._unit @ (toward / np.linalg.norm(toward))
        for word in left_out:
            cosine[self._number(word)] = -np.inf
        most = min(most, len(cosine) - len(set(left_out)))
        order = np.argsort(-cosine, kind="stable")[:most]
        return tuple(Near(self.words[k], float(cosine[k])) for k in order)

    @cached_property
    def _place(self) -> dict[str, int]:
        return {word: k for k, word in enumerate(self.words)}

    @cached_property
    def _unit(self) -> npt.NDArray[np.float32]:
        length = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.maximum(length, 1e-12)

    def _number(self, word: str) -> int:
        for form in (word, word.lower()):
            if form in self._place:
                return self._place[form]
        raise MelismaError(f"{word!r} has no vector among the {len(self.words):,} words.")


def load_word_vectors(path: Path | str, *, most: int | None = None) -> WordVectors:
    """Open word vectors.

    Parameters
    ----------
    path : GloVe or word2vec text (.txt, .vec, also .gz), word2vec's binary (.bin), or what gensim's
        `KeyedVectors.save` wrote (.kv, with its .npy beside it), or a folder with one .npy of
        vectors and one .parquet whose first column of text holds the words
    most : the first words only, which are the commonest in most files

    Raises
    ------
    MelismaError
        There is no such file, or it holds no vectors of one width.
    """
    require("text", "gensim", what="Reading word vectors")
    from gensim.models import KeyedVectors

    path = Path(path)
    if path.is_dir():
        return _of_folder(path, most)
    if not path.is_file():
        raise MelismaError(f"There are no word vectors at {path}.")
    try:
        if path.suffix == ".kv":
            found = KeyedVectors.load(str(path))
        else:
            binary = path.suffix == ".bin"
            found = KeyedVectors.load_word2vec_format(
                str(path), binary=binary, no_header=not binary and not _has_header(path), limit=most
            )
        words = tuple(found.index_to_key[:most])
        return WordVectors(words, np.asarray(found.vectors[:most], np.float32))
    except (
        ValueError,
        EOFError,
        UnicodeDecodeError,
        AttributeError,
        KeyError,
        IndexError,
    ) as error:
        raise MelismaError(
            f"{path} cannot be read as word vectors ({' '.join(str(error).split())}): each line is "
            "a word and its numbers."
        ) from None


def _of_folder(path: Path, most: int | None) -> WordVectors:
    """An array of vectors and a table of words beside it."""
    arrays, tables = sorted(path.glob("*.npy")), sorted(path.glob("*.parquet"))
    if len(arrays) != 1 or len(tables) != 1:
        raise MelismaError(
            f"{path} holds {len(arrays)} .npy and {len(tables)} .parquet files: one array of "
            "vectors and one table of words are read from a folder."
        )
    table = pl.read_parquet(tables[0])
    named = [name for name, kind in table.schema.items() if kind == pl.String]
    if not named:
        raise MelismaError(f"{tables[0]} has no column of text, so it holds no words.")
    try:
        vectors = np.load(arrays[0], mmap_mode="r", allow_pickle=False)[:most]
    except ValueError as error:
        raise MelismaError(f"{arrays[0]} is no array of numbers ({error}).") from None
    return WordVectors(tuple(table[named[0]][:most]), np.asarray(vectors, np.float32))


def _has_header(path: Path) -> bool:
    """Whether the first line is word2vec's "words width"."""
    import gzip

    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as lines:
        return len(lines.readline().split()) == 2

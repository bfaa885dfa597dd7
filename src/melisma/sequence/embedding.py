"""Vectors of k-mers by word2vec (Mikolov et al. 2013): words that stand in alike company are near.

The genome is cut into overlapping words, both strands are read, and an unknown base ends a
sentence. Vectors are kept in safetensors beside a JSON record, never pickled.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.encodings import CODE_OF_BYTE, Codes, encode, kmers, reverse_complement

Floats = npt.NDArray[np.float32]
FORMAT = 1
LONGEST = 8
# Bases read at a time, and words of a sentence; gensim cuts longer ones at 10,000.
_PIECE, _SENTENCE = 1 << 20, 5_000


def words_of(k: int) -> list[str]:
    """Every word of k bases, in the order of their numbers: AA, AC, ... TT.

    >>> words_of(1)
    ['A', 'C', 'G', 'T']
    """
    words = [""]
    for _ in range(k):
        words = [word + base for word in words for base in "ACGT"]
    return words


@dataclass(frozen=True)
class Embedding:
    """Vectors of the words of k bases.

    Attributes
    ----------
    k : bases of a word
    vectors : float32 (4^k, size), in the order of `words_of`; NaN where a word was never seen
    record : how they were learned
    """

    k: int
    vectors: Floats
    record: dict[str, Any]

    def vector(self, word: str) -> Floats:
        """A word's vector, (size,).

        Raises
        ------
        MelismaError
            The word has another length, holds an unknown base, or was never seen.
        """
        found = self.vectors[self._number(word)]
        if np.isnan(found[0]):
            raise MelismaError(f"{word} was never seen, so it has no vector.")
        return found

    def nearest(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """The words whose vectors point most alike: (word, cosine), the nearest first."""
        own = self.vector(word)
        length = np.linalg.norm(self.vectors, axis=1) * np.linalg.norm(own)
        cosine = np.nan_to_num(self.vectors @ own / length, nan=-2.0)
        cosine[self._number(word)] = -2.0
        names = words_of(self.k)
        order = np.argsort(-cosine, kind="stable")[:n]
        return [(names[at], float(cosine[at])) for at in order if cosine[at] > -2]

    def mean(self, windows: Codes) -> Floats:
        """Each window as the mean of its words' vectors: uint8 (n, width) to (n, size).

        Words with unknown bases are left out; a window without any known one is 0.
        """
        number = kmers(windows, self.k)
        table = np.concatenate([self.vectors, np.zeros((1, self.vectors.shape[1]), np.float32)])
        known = ~np.isnan(table[:, 0])
        known[-1] = False
        table = np.where(known[:, None], table, 0.0).astype(np.float32)
        total = table[number].sum(axis=1)
        return total / np.maximum(known[number].sum(axis=1), 1)[:, None].astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write the folder: `vectors.safetensors` and, last, `embedding.json`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({"vectors": np.ascontiguousarray(self.vectors)}, folder / "vectors.safetensors")
        told = {"format": FORMAT, "k": self.k, "record": self.record}
        (folder / "embedding.json").write_text(json.dumps(told, indent=1) + "\n")

    def _number(self, word: str) -> int:
        if len(word) != self.k or set(word.upper()) - set("ACGT"):
            raise MelismaError(f"{word!r} is no word of {self.k} known bases.")
        return int(kmers(encode([word]), self.k)[0, 0])


def load_embedding(folder: Path | str) -> Embedding:
    """Open a folder that `Embedding.save` wrote.

    Raises
    ------
    MelismaError
        It holds no embedding, or a damaged one.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    if not (folder / "embedding.json").is_file():
        raise MelismaError(f"{folder} holds no embedding: make one with `melisma embed`.")
    try:
        told = json.loads((folder / "embedding.json").read_text())
        vectors = load_file(folder / "vectors.safetensors")["vectors"]
        if len(vectors) != 4 ** int(told["k"]):
            raise ValueError(f"{len(vectors)} vectors of words of {told['k']} bases")
        return Embedding(int(told["k"]), vectors, told["record"])
    except (ValueError, KeyError, OSError, SafetensorError) as error:
        raise MelismaError(f"{folder} is damaged ({error}): make it again.") from None


class _Sentences:
    """The words of a genome's contigs, both strands; walked once an epoch and once before."""

    def __init__(self, genome: Genome, contigs: list[str], k: int, step: int) -> None:
        self.genome, self.contigs, self.k, self.step = genome, contigs, k, step
        self.names = np.array(words_of(k), dtype=object)

    def __iter__(self) -> Iterator[list[str]]:
        for contig in self.contigs:
            length = self.genome.lengths[contig]
            for start in range(0, length, _PIECE):
                end = min(start + _PIECE + self.k - 1, length)
                codes = CODE_OF_BYTE[self.genome.bases(contig, start, end)][None]
                if codes.shape[1] < self.k:
                    continue
                for strand in (codes, reverse_complement(codes)):
                    yield from self._of(kmers(np.ascontiguousarray(strand), self.k)[0])

    def _of(self, number: npt.NDArray[np.int32]) -> Iterator[list[str]]:
        for first in range(self.step):
            words = number[first :: self.step]
            ends = np.flatnonzero(words == len(self.names))
            for part in np.split(words, ends):
                part = part[part < len(self.names)]
                for at in range(0, len(part), _SENTENCE):
                    sentence = self.names[part[at : at + _SENTENCE]].tolist()
                    if len(sentence) > 1:
                        yield sentence


def embed(
    genome: Genome,
    *,
    contigs: list[str] | None = None,
    k: int = 6,
    size: int = 64,
    window: int = 12,
    step: int | None = None,
    epochs: int = 1,
    seed: int = 1,
) -> Embedding:
    """Learn vectors of k-mers by skip-gram with negative samples.

    Parameters
    ----------
    contigs : which; None for all
    k : bases of a word, 2 to 8
    size : numbers of a vector
    window : words to either side that are a word's company
    step : bases from one word of a sentence to the next; each sentence is read from every first
        base below it; None: k, so that neighbours do not share bases and spell one another
    epochs : times that the genome is read

    Raises
    ------
    MelismaError
        k is out of range, a contig is not there, or no word is known.
    """
    if not 2 <= k <= LONGEST:
        raise MelismaError(f"Words of {k} bases have no embedding here: choose 2 to {LONGEST}.")
    from gensim.models import Word2Vec

    names = list(genome.contigs) if contigs is None else contigs
    for name in names:
        genome.length(name)
    sentences = _Sentences(genome, names, k, step or k)
    with progress.stage("Learning vectors", 2) as advance:
        # One worker: several would make the result depend on their timing.
        model = Word2Vec(
            vector_size=size, window=window, min_count=1, sg=1, negative=5, workers=1, seed=seed,
            epochs=epochs, sample=0,
        )  # fmt: skip
        model.build_vocab(sentences)
        if not len(model.wv):
            raise MelismaError(f"Genome {genome.name} has no word of {k} known bases.")
        advance(1)
        model.train(sentences, total_examples=model.corpus_count, epochs=epochs)
        advance(1)
    vectors = np.full((4**k, size), np.nan, np.float32)
    for at, word in enumerate(words_of(k)):
        if word in model.wv:
            vectors[at] = model.wv[word]
    record = {
        "genome": genome.name, "contigs": len(names), "size": size, "window": window,
        "step": step or k, "epochs": epochs, "seed": seed,
        "words": int(sum(model.wv.get_vecattr(w, "count") for w in model.wv.index_to_key)),
    }  # fmt: skip
    return Embedding(k, vectors, record)

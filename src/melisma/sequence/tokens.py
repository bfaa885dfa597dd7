"""Byte-pair tokens of DNA (Sennrich et al. 2016): frequent words of bases become one token each."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.encodings import Codes, decode, reverse_complement

if TYPE_CHECKING:
    from tokenizers import Tokenizer

UNKNOWN_TOKEN, PAD, MASK = "[UNK]", "[PAD]", "[MASK]"
_STRETCH = 512


class Tokens(NamedTuple):
    """Tokens of windows.

    number : int32 (n, longest), token numbers, `PAD`'s after a window's end
    start : int32 (n, longest), each token's first base in its window; -1 after the end
    """

    number: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]


def learn_tokens(
    genome: Genome, *, size: int = 4096, bases: int = 10_000_000, seed: int = 1
) -> "Tokenizer":
    """Learn byte-pair tokens on random stretches of a genome, half of them of the other strand.

    Parameters
    ----------
    size : tokens, those of unknown bases, padding and masks included
    bases : how much is read

    Raises
    ------
    MelismaError
        The size leaves no room for the bases, or the genome is shorter than a stretch.
    """
    if size < 8:
        raise MelismaError(f"{size} tokens have no room for four bases and four signs: choose 8.")
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN_TOKEN))
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[PAD, UNKNOWN_TOKEN, MASK], initial_alphabet=list("ACGT"),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_stretches(genome, bases, seed), trainer)
    return tokenizer


def _stretches(genome: Genome, bases: int, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    usable = [c for c in genome.contigs if genome.lengths[c] >= _STRETCH]
    if not usable:
        raise MelismaError(f"Genome {genome.name} has no contig of {_STRETCH} bases or more.")
    lengths = np.array([genome.lengths[c] for c in usable], float)
    n = max(1, bases // _STRETCH)
    # Contig by contig, since the genome keeps the last two in memory.
    for contig, count in zip(usable, rng.multinomial(n, lengths / lengths.sum()), strict=True):
        for start in rng.integers(0, genome.lengths[contig] - _STRETCH + 1, count):
            codes = genome_codes(genome, contig, int(start), int(start) + _STRETCH)
            if rng.random() < 0.5:
                codes = reverse_complement(codes)
            yield from (part for part in decode(codes)[0].split("N") if part)


def genome_codes(genome: Genome, contig: str, start: int, end: int) -> Codes:
    """A stretch as codes, uint8 (1, end - start)."""
    from melisma.sequence.encodings import CODE_OF_BYTE

    return CODE_OF_BYTE[genome.bases(contig, start, end)][None]


def tokenize(tokenizer: "Tokenizer", windows: Codes) -> Tokens:
    """Windows as tokens.

    Parameters
    ----------
    windows : uint8 (n, width); an unknown base is a token of its own

    Returns
    -------
    Tokens, as many columns as the longest window needs
    """
    texts = decode(windows)
    found = tokenizer.encode_batch([texts] if isinstance(texts, str) else texts)
    longest = max((len(each.ids) for each in found), default=0)
    pad = tokenizer.token_to_id(PAD)
    number = np.full((len(found), longest), pad, np.int32)
    start = np.full((len(found), longest), -1, np.int32)
    for k, each in enumerate(found):
        number[k, : len(each.ids)] = each.ids
        start[k, : len(each.ids)] = [offset for offset, _ in each.offsets]
    return Tokens(number, start)


def load_tokens(path: Path | str) -> "Tokenizer":
    """A tokenizer that was saved as `tokenizer.json`.

    Raises
    ------
    MelismaError
        There is no such file, or it is none.
    """
    from tokenizers import Tokenizer

    path = Path(path)
    if not path.is_file():
        raise MelismaError(f"There is no tokenizer at {path}.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise MelismaError(f"{path} is no tokenizer ({error}).") from None

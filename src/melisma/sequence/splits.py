"""Splits: which part of the data each example belongs to, and whether a test part is one.

A model that has seen a test window, or one that overlaps or resembles it, is scored on its memory.
A split is therefore an object with a name and a record, made by contig, by block of bases, by
homology cluster or by leaving whole groups out. The assignment depends on names, places and the
seed only, so data sets that share a genome are split alike, and `leak` looks at the windows
themselves before anything is scored.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.sequence._kmer_kernels import NO_WORD, canonical_words, join_sharing, roots
from melisma.sequence.encodings import Codes
from melisma.sequence.examples import TEST, TRAIN, VALIDATION, require_parts
from melisma.sequence.windows import FixedWindows, GenomeWindows, Windows

Parts = npt.NDArray[np.int8]
Shares = tuple[float, float, float]

LEFT_OUT = -1
WORD = 20
# A word in more windows than this is a repeat or of low complexity, and joins nothing.
MOST_WINDOWS = 1000
_SHARES: Shares = (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Split:
    """parts: int8 (n,), 0 train, 1 validation, 2 test, -1 left out; record: how it was made."""

    parts: Parts
    record: Mapping[str, Any]

    def rows(self, part: int) -> npt.NDArray[np.int64]:
        """The rows of a part."""
        return np.flatnonzero(self.parts == part)

    @property
    def sizes(self) -> dict[str, int]:
        """Windows of each part."""
        names = {"train": TRAIN, "validation": VALIDATION, "test": TEST, "left_out": LEFT_OUT}
        return {name: int((self.parts == part).sum()) for name, part in names.items()}


def by_contig(
    contig: Sequence[str] | npt.NDArray[Any],
    *,
    test: Sequence[str],
    validation: Sequence[str],
) -> Split:
    """Whole contigs for testing and validation, all others for training.

    Parameters
    ----------
    contig : (n,) name of each window's contig

    Raises
    ------
    MelismaError
        A contig is named twice or holds no window, or a part is empty.

    Examples
    --------
    >>> by_contig(["1", "1", "2", "3"], test=["3"], validation=["2"]).parts.tolist()
    [0, 0, 1, 2]
    """
    names = np.asarray(contig)
    have = set(np.unique(names).tolist())
    both = set(test) & set(validation)
    if both:
        raise MelismaError(f"Contig {min(both)} is asked for both testing and validation.")
    for name in (*test, *validation):
        if name not in have:
            raise MelismaError(
                f"No window lies on contig {name!r}; windows lie on {', '.join(sorted(have)[:8])}."
            )
    parts = np.zeros(len(names), np.int8)
    parts[np.isin(names, list(test))] = TEST
    parts[np.isin(names, list(validation))] = VALIDATION
    require_parts(parts, len(names))
    record = {"kind": "contig", "test": list(test), "validation": list(validation)}
    return Split(parts, record)


def by_block(
    contig: Sequence[str] | npt.NDArray[Any],
    position: npt.NDArray[Any],
    *,
    width: int,
    size: int = 1_000_000,
    shares: Shares = _SHARES,
    seed: int = 0,
) -> Split:
    """Blocks of bases, each in one part; windows that reach over a block's edge are left out.

    Parameters
    ----------
    contig : (n,) names; position : (n,) 0-based
    width : bases of a window
    size : bases of a block
    shares : of blocks for training, validation and testing

    Raises
    ------
    MelismaError
        A block is no wider than a window, or a part is empty.
    """
    if size <= 2 * width:
        raise MelismaError(
            f"Blocks of {size:,} bases are too short for windows of {width:,}: choose a size above "
            f"{2 * width:,}."
        )
    names = np.asarray(contig)
    place = np.asarray(position, np.int64)
    block = place // size
    within = place - block * size
    half = width // 2
    labels, of = np.unique(
        np.char.add(np.char.add(names.astype(str), ":"), block.astype(str)), return_inverse=True
    )
    parts = _drawn(labels.tolist(), shares, seed)[of.reshape(-1)]
    parts[(within < half) | (within >= size - half)] = LEFT_OUT
    require_parts(parts, len(parts))
    return Split(
        parts, {"kind": "block", "size": size, "width": width, "shares": shares, "seed": seed}
    )


def by_interval(
    contig: Sequence[str] | npt.NDArray[Any],
    position: npt.NDArray[Any],
    *,
    test: tuple[str, int, int],
    validation: tuple[str, int, int],
    margin: int,
) -> Split:
    """One interval for testing and one for validation; what lies within `margin` is left out.

    Parameters
    ----------
    test, validation : contig, start, end (0-based, half open)
    margin : bases on both sides that belong to no part
    """
    names, place = np.asarray(contig), np.asarray(position, np.int64)
    parts = np.zeros(len(place), np.int8)
    for (name, start, end), part in ((validation, VALIDATION), (test, TEST)):
        here = names == name
        parts[here & (place >= start - margin) & (place < end + margin) & (parts == 0)] = LEFT_OUT
        parts[here & (place >= start) & (place < end)] = part
    near = (names == test[0]) & (place >= test[1] - margin) & (place < test[2] + margin)
    parts[near & (parts == VALIDATION)] = LEFT_OUT
    require_parts(parts, len(parts))
    record = {
        "kind": "interval", "test": list(test), "validation": list(validation), "margin": margin,
    }  # fmt: skip
    return Split(parts, record)


def by_cluster(codes: Codes, *, k: int = WORD, shares: Shares = _SHARES, seed: int = 0) -> Split:
    """Homology clusters: windows that share a word of k bases, on either strand, stay together.

    Parameters
    ----------
    codes : uint8 (n, width)
    k : bases of a word, 1 to 31; a word that more than 1,000 windows hold joins none

    Raises
    ------
    MelismaError
        Words are longer than windows, or a part is empty, as where one cluster holds most windows.
    """
    of = clusters(codes, k)
    labels, row = np.unique(of, return_inverse=True)
    size = np.bincount(row.reshape(-1))
    rng = np.random.default_rng(seed)
    # The largest first, each to the part that lacks most of its share.
    order = np.lexsort((rng.random(len(labels)), -size))
    wanted = np.array(shares) / sum(shares) * len(codes)
    filled = np.zeros(3)
    part_of = np.zeros(len(labels), np.int8)
    for cluster in order:
        part = int(np.argmax(wanted - filled))
        part_of[cluster] = part
        filled[part] += size[cluster]
    parts = part_of[row.reshape(-1)]
    require_parts(parts, len(codes))
    return Split(
        parts,
        {
            "kind": "cluster", "k": k, "shares": shares, "seed": seed,
            "clusters": len(labels), "largest": int(size.max()),
        },
    )  # fmt: skip


def clusters(codes: Codes, k: int = WORD) -> npt.NDArray[np.int64]:
    """The homology cluster of each window, (n,): the lowest row that it is joined with."""
    words = _words(codes, k)
    flat = words.reshape(-1)
    parent = np.arange(len(codes))
    join_sharing(np.argsort(flat, kind="stable"), flat, words.shape[1], MOST_WINDOWS, parent)
    return roots(parent)


def leave_out(
    group: Sequence[str],
    *,
    test: Sequence[str],
    validation: Sequence[str] = (),
    share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Whole groups (species, tissues, individuals) for testing.

    Parameters
    ----------
    group : (n,) the group of each window
    validation : groups; without them, a `share` of the windows that are left

    Raises
    ------
    MelismaError
        A group is not there, or a part is empty.
    """
    names = np.asarray(group).astype(str)
    have = set(np.unique(names).tolist())
    for name in (*test, *validation):
        if name not in have:
            raise MelismaError(
                f"There is no group {name!r}; groups are {', '.join(sorted(have)[:8])}."
            )
    parts = np.zeros(len(names), np.int8)
    if validation:
        parts[np.isin(names, list(validation))] = VALIDATION
    else:
        parts[np.random.default_rng(seed).random(len(names)) < share] = VALIDATION
    parts[np.isin(names, list(test))] = TEST
    require_parts(parts, len(names))
    told = list(validation) or share
    return Split(parts, {"kind": "leave out", "test": list(test), "validation": told, "seed": seed})


def published(parts: Parts, source: str) -> Split:
    """A split that was made elsewhere, as it is, with where it comes from."""
    require_parts(parts, len(parts))
    return Split(parts.astype(np.int8), {"kind": "published", "source": source})


class Leak(NamedTuple):
    """What a test part shares with what a model has seen: rows of test windows, and a sentence."""

    rows: npt.NDArray[np.int64]
    sentence: str


def leak(windows: Windows, parts: Parts) -> Leak | None:
    """Test windows that training or validation has seen, or None.

    Windows of a genome leak where they overlap; given sequences where they share a word of 20
    bases on either strand (or, shorter than that, the whole window).
    """
    test = np.flatnonzero(parts == TEST)
    seen = np.flatnonzero((parts == TRAIN) | (parts == VALIDATION))
    if not len(test) or not len(seen):
        return None
    if isinstance(windows, GenomeWindows):
        rows = test[_overlapping(windows, test, seen)]
        shared = "overlap windows that the model has seen"
    else:
        rows = test[shares_a_word(windows.codes(test), windows.codes(seen))]
        shared = f"share {min(WORD, windows.width)} bases with windows that the model has seen"
    if not len(rows):
        return None
    first = int(rows[0])
    where = f"window {first + 1:,}"
    if isinstance(windows, GenomeWindows):
        name = windows.contigs[int(windows.contig[first])]
        where = f"that of {name}:{int(windows.position[first]):,}"
    return Leak(
        rows,
        f"{len(rows):,} of {len(test):,} test windows {shared}, {where} the first.",
    )


def shares_a_word(test: Codes, seen: Codes, k: int = WORD) -> npt.NDArray[np.bool_]:
    """Which test windows, (n,), share a word of k bases with any that was seen."""
    k = min(k, test.shape[1], seen.shape[1])
    known = np.unique(_words(seen, k))
    known = known[known != NO_WORD]
    words = _words(test, k)
    if not len(known):
        return np.zeros(len(test), bool)
    at = np.minimum(np.searchsorted(known, words), len(known) - 1)
    return (known[at] == words).any(axis=1)


def _words(codes: Codes, k: int) -> npt.NDArray[np.uint64]:
    if not 1 <= k <= min(31, codes.shape[1]):
        raise MelismaError(
            f"Words of {k} bases cannot be read from windows of {codes.shape[1]}: choose 1 to "
            f"{min(31, codes.shape[1])}."
        )
    return canonical_words(np.ascontiguousarray(codes), k)


def _overlapping(
    windows: GenomeWindows, test: npt.NDArray[np.int64], seen: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which test sites are read from bases that a seen one on the same contig is read from."""
    span = int(windows.position.max()) + 2 * windows.reach + 1
    place = windows.contig.astype(np.int64) * span + windows.position
    known = np.sort(place[seen])
    asked = place[test]
    after = np.searchsorted(known, asked)
    right = known[np.minimum(after, len(known) - 1)]
    left = known[np.maximum(after - 1, 0)]
    return np.minimum(np.abs(right - asked), np.abs(asked - left)) < windows.reach


def _drawn(labels: Sequence[str], shares: Shares, seed: int) -> Parts:
    """A part for each label, by its name and the seed alone."""
    total = sum(shares)
    cuts = np.cumsum(np.array(shares) / total)
    drawn = np.array(
        [
            int.from_bytes(hashlib.sha256(f"{seed}:{label}".encode()).digest()[:8]) / 2**64
            for label in labels
        ]
    )
    return np.searchsorted(cuts[:-1], drawn, side="right").astype(np.int8)


__all__ = [
    "FixedWindows", "Leak", "Split", "by_block", "by_cluster", "by_contig", "by_interval",
    "clusters", "leak", "leave_out", "published", "shares_a_word",
]  # fmt: skip

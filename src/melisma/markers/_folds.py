"""Folds that keep blocks whole and classes spread, and labels permuted as blocks allow."""

from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError

Ints = npt.NDArray[np.integer[Any]]

# Below as many samples, or blocks, a class, no fold of a fold can be judged.
FEWEST = 4


def class_blocks(labels: Ints, blocks: Ints, classes: int) -> Ints:
    """How many blocks hold a sample of each class, (classes,)."""
    return np.array([len(np.unique(blocks[labels == k])) for k in range(classes)])


def make_folds(labels: Ints, blocks: Ints, most: int, rng: np.random.Generator) -> Ints:
    """A fold for each sample, (samples,): whole blocks, each class spread over the folds.

    There are `most` folds, or as many as the class with the fewest blocks has blocks. Every
    class is left in the training samples of every fold, or there is an error.
    """
    classes = int(labels.max()) + 1
    names, inverse = np.unique(blocks, return_inverse=True)
    table = np.zeros((len(names), classes), dtype=np.int64)
    np.add.at(table, (inverse, labels), 1)
    count = min(most, int((table > 0).sum(axis=0).min()))
    if count < 2:
        raise MelismaError("A class lies in one block only: no fold can leave it out and learn it.")
    for _ in range(50):
        fold = _assign(table, count, rng)[inverse]
        if all(len(np.unique(labels[fold != k])) == classes for k in range(count)):
            return fold
    raise MelismaError(
        f"The {len(names)} blocks cannot be dealt into {count} folds so that every class is left "
        "to learn from: one block holds nearly all samples of a class."
    )


def _assign(table: Ints, count: int, rng: np.random.Generator) -> Ints:
    """Deal blocks, large ones first, each to the fold that has the least of its classes."""
    blocks, classes = table.shape
    whole = table.sum(axis=0).astype(np.float64)
    order = rng.permutation(blocks)
    order = order[np.argsort(-table[order].max(axis=1), kind="stable")]
    held = np.zeros((count, classes))
    fold = np.zeros(blocks, dtype=np.int64)
    for block in order:
        added = ((2 * held * table[block] + table[block] ** 2) / whole**2).sum(axis=1)
        least = np.lexsort((rng.permutation(count), held.sum(axis=1), np.round(added, 12)))[0]
        fold[block] = least
        held[least] += table[block]
    return fold


def permute_labels(labels: Ints, blocks: Ints, rng: np.random.Generator) -> Ints:
    """Labels under which no feature tells the classes, exchanged only as the blocks allow.

    Blocks of several classes exchange labels among their own samples; blocks of one class
    exchange them whole among themselves.
    """
    moved = labels.copy()
    names = np.unique(blocks)
    whole = [b for b in names if len(np.unique(labels[blocks == b])) == 1]
    for block in names:
        inside = np.flatnonzero(blocks == block)
        if len(np.unique(labels[inside])) > 1:
            moved[inside] = rng.permutation(labels[inside])
    held = np.array([labels[blocks == b][0] for b in whole], dtype=np.int64)
    for block, label in zip(whole, rng.permutation(held), strict=True):
        moved[blocks == block] = label
    return moved

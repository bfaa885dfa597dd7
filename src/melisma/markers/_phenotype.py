"""A column of the sample sheet as classes, and another as the blocks that folds keep whole."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from melisma._model import level_name
from melisma.errors import MelismaError
from melisma.markers._folds import FEWEST, class_blocks
from melisma.methylome import sample_sheet

Ints = npt.NDArray[np.integer[Any]]

_MOST_CLASSES = 20
_MOST_NAMED = 5


class Labelled(NamedTuple):
    """Samples that have a phenotype, sorted by name.

    columns : (samples,) where each is in the methylome
    labels : (samples,) 0 to classes - 1
    blocks : (samples,) numbers; each sample its own where no column was given
    """

    names: tuple[str, ...]
    columns: Ints
    classes: tuple[str, ...]
    labels: Ints
    block: str | None
    block_names: tuple[str, ...]
    blocks: Ints
    notes: tuple[str, ...]


def labelled_samples(methylome: xr.Dataset, phenotype: str, block: str | None) -> Labelled:
    """The samples to learn from.

    Raises
    ------
    MelismaError
        A column is missing, or holds one class, a continuous number, or classes of fewer than
        four samples or blocks; a sample has no block.
    """
    sheet = sample_sheet(methylome)
    words = _column(sheet, phenotype, "phenotype")
    groups = None if block is None else _column(sheet, block, "block")
    every = [str(name) for name in sheet["sample"]]
    order = sorted((k for k in range(len(every)) if words[k]), key=lambda k: every[k])
    without = [every[k] for k in range(len(every)) if not words[k]]
    classes = tuple(sorted({words[k] for k in order}))
    _check_classes(phenotype, classes)
    names = tuple(every[k] for k in order)
    labels = np.array([classes.index(words[k]) for k in order], dtype=np.int64)
    block_names = names
    if groups is not None:
        lacking = [every[k] for k in order if not groups[k]]
        if lacking:
            raise MelismaError(
                f"{_named(lacking)} {'has' if len(lacking) == 1 else 'have'} no {block}: fill in "
                "the column, with a name of its own for a sample that belongs to no other."
            )
        block_names = tuple(groups[k] for k in order)
    blocks = np.unique(np.array(block_names, dtype=object), return_inverse=True)[1]
    _check_counts(phenotype, classes, labels, blocks, block)
    notes = _block_notes(sheet, order, block)
    if without:
        notes = [
            f"Left out without a {phenotype}: {_named(without)}; melisma score classifies them.",
            *notes,
        ]
    return Labelled(
        names, np.array(order), classes, labels, block, block_names, blocks, tuple(notes)
    )


def _column(sheet: dict[str, list[Any]], name: str, what: str) -> list[str]:
    """A column's values as words, "" where there is none."""
    if name not in sheet or name == "sample":
        others = ", ".join(column for column in sheet if column != "sample") or "none"
        raise MelismaError(
            f"The sample sheet has no column {name!r} to be the {what}; its columns are {others}."
        )
    return [
        "" if value is None or value != value or str(value).strip() == "" else level_name(value)
        for value in sheet[name]
    ]


def _check_classes(phenotype: str, classes: tuple[str, ...]) -> None:
    if not classes:
        raise MelismaError(f"No sample has a {phenotype}.")
    if len(classes) == 1:
        raise MelismaError(
            f"Every sample's {phenotype} is {classes[0]}: a panel needs two classes to tell apart."
        )
    if len(classes) > _MOST_CLASSES:
        raise MelismaError(
            f"{phenotype} has {len(classes)} values, more than the {_MOST_CLASSES} classes that "
            "can be told apart: if it is a number, add a column that cuts it into classes."
        )


def _check_counts(
    phenotype: str, classes: tuple[str, ...], labels: Ints, blocks: Ints, block: str | None
) -> None:
    counts = class_blocks(labels, blocks, len(classes))
    k = int(np.argmin(counts))
    if counts[k] >= FEWEST:
        return
    unit = "sample" if block is None else f"block of {block}"
    word = (
        f"{counts[k]} {unit}" if counts[k] == 1 else f"{counts[k]} {unit.replace('k of', 'ks of')}"
    )
    plural = "" if block is not None or counts[k] == 1 else "s"
    constant = all(len(np.unique(labels[blocks == b])) == 1 for b in np.unique(blocks))
    reason = (
        f"{phenotype} is constant within {block}, so that only blocks count"
        if block is not None and constant
        else f"folds inside folds need {FEWEST}"
    )
    raise MelismaError(
        f"The class {classes[k]} of {phenotype} has {word}{plural}, fewer than {FEWEST}: {reason}; "
        "add samples or merge classes."
    )


def _block_notes(sheet: dict[str, list[Any]], order: Sequence[int], block: str | None) -> list[str]:
    """A column of individuals that repeats and is not the block leaks from fold to fold."""
    if block is not None or "individual" not in sheet:
        return []
    people = [str(sheet["individual"][k]) for k in order]
    known = [person for person in people if person.strip()]
    if len(set(known)) == len(known):
        return []
    return [
        "Some individuals have several samples, which fall into different folds: pass --block "
        "individual, or the figures are too good."
    ]


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return shown + (f" and {more:,} more" if more > 0 else "")

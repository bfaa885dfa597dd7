"""File names for samples, and the sample sheet that leads back to them."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

_LONGEST = 150


def file_stems(samples: Sequence[str]) -> list[str]:
    """A file name's stem for each sample, none like another, whatever the samples are called.

    Letters, digits, `_ . + -` stay, the rest becomes `_`. Names that differ only in case, or no
    longer differ, get a number; a name that can stay as it is does.

    >>> file_stems(["a/1", "a_1", "..", "liver"])
    ['a_1-2', 'a_1', 'sample', 'liver']
    """
    plain = [_safe(name) for name in samples]
    taken = {stem.lower() for stem, name in zip(plain, samples, strict=True) if stem == name}
    given: set[str] = set()
    stems: list[str] = []
    for name, stem in zip(samples, plain, strict=True):
        made, number = stem, 1
        while made.lower() in given or (made != name and made.lower() in taken):
            number += 1
            made = f"{stem}-{number}"
        given.add(made.lower())
        stems.append(made)
    return stems


def _safe(name: str) -> str:
    stem = re.sub(r"[^\w.+-]", "_", name).lstrip(".-")
    cut = stem.encode()[:_LONGEST].decode(errors="ignore")
    return cut.rstrip(".") or "sample"


def sheet_text(columns: Mapping[str, Sequence[Any]]) -> str:
    """A sample sheet as TSV that `melisma ingest` reads; what is missing is NA."""
    names = list(columns)
    samples = [str(name) for name in columns["sample"]]
    if any(name.startswith("#") for name in samples):
        # A line that begins with # is a comment.
        names.sort(key=lambda name: name != "path")
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(names)
    for row in zip(*(columns[name] for name in names), strict=True):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "NA" if value != value else repr(value) if value % 1 else f"{value:.0f}"
    return str(value)

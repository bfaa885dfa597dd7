"""Reading a sample sheet."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from melisma.errors import MelismaError


def read_sheet(path: Path | str, *, matrix: Path | str | None = None) -> pl.DataFrame:
    """Read a sample sheet, TSV or CSV.

    Parameters
    ----------
    path : a table with a header; `sample` and `path` are required, `format`, `individual` and
        `sex` optional, every other column is a covariate. Paths are relative to the sheet.
    matrix : one matrix of levels that holds all samples, in place of the column `path`

    Returns
    -------
    DataFrame with one row a sample; `path` absolute; covariates as numbers where every value is
    one, else as words.

    Raises
    ------
    MelismaError
        A column is missing, a sample is repeated or has no name, a file does not exist.
    """
    path = Path(path)
    names, rows = read_rows(path)
    if matrix is not None and "path" in names:
        raise MelismaError(
            f"The sample sheet {path} has a column 'path', and --matrix names one file for all "
            "samples: leave out one of the two."
        )
    for needed in ("sample", *(("path",) if matrix is None else ())):
        if needed not in names:
            raise MelismaError(
                f"The sample sheet {path} has no column {needed!r}; its columns are "
                f"{', '.join(names)}."
                f"{_COLUMN_REMEDY[needed]}"
            )
    check_names(path, names)
    return _checked_sheet(path, names, rows, None if matrix is None else Path(matrix))


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """A table's column names, and its rows with their line numbers; fields are stripped.

    Raises
    ------
    MelismaError
        There is no such file, or it is empty or no text.
    """
    if not path.is_file():
        raise MelismaError(f"There is no sample sheet at {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MelismaError(
            f"{path} is not UTF-8 text: save the sample sheet as UTF-8 TSV or CSV."
        ) from None
    lines = text.splitlines(keepends=True)
    # Excel's own line, which names the separator.
    if lines and re.fullmatch(r"sep=.\s*", lines[0]):
        text = "\n" + "".join(lines[1:])
    content = (line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#")
    header = next(content, "")
    separator = max("\t,;", key=header.count)
    rows = _rows(text, separator)
    if not rows:
        raise MelismaError(f"The sample sheet {path} is empty.")
    names = rows[0][1]
    while names and not names[-1] and all(len(f) == len(names) and not f[-1] for _, f in rows[1:]):
        for _, fields in rows:
            fields.pop()
    return names, _with_points(names, rows[1:]) if separator == ";" else rows[1:]


def check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse columns that the store cannot hold, and repeated ones."""
    for name in names:
        if name in RESERVED_NAMES or not re.fullmatch(r"\w[\w .-]*", name):
            raise MelismaError(
                f"The sample sheet {path} has a column {name!r}, which the store cannot hold under "
                "that name: rename it to a word of its own (letters, digits, _ . -)."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MelismaError(f"The sample sheet {path} has two columns named {twice!r}.")


def _with_points(
    names: Sequence[str], rows: list[tuple[int, list[str]]]
) -> list[tuple[int, list[str]]]:
    """Rows whose columns of numbers with decimal commas have points, as where Excel writes ;."""
    for k, name in enumerate(names):
        words = [fields[k] for _, fields in rows if k < len(fields)]
        known = [word for word in words if word not in MISSING_WORDS]
        if name in (*_WORD_COLUMNS, "path", "coverage_path"):
            continue
        if all(re.fullmatch(r"[-+]?\d+(,\d+)?", word) for word in known):
            for _, fields in rows:
                fields[k : k + 1] = [word.replace(",", ".") for word in fields[k : k + 1]]
    return rows


def _rows(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """Line numbers and fields; quotes are read; blank lines and comments are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    rows: list[tuple[int, list[str]]] = []
    number = 1
    for fields in reader:
        stripped = [field.strip() for field in fields]
        if any(stripped) and not stripped[0].startswith("#"):
            rows.append((number, stripped))
        number = reader.line_num + 1
    return rows


def _checked_sheet(
    path: Path, names: list[str], rows: list[tuple[int, list[str]]], matrix: Path | None
) -> pl.DataFrame:
    if not rows:
        raise MelismaError(f"The sample sheet {path} has a header and no samples.")
    seen: dict[str, int] = {}
    files: list[str] = []
    for number, fields in rows:
        if len(fields) != len(names):
            raise MelismaError(
                f"{path} line {number}: {len(fields)} fields where the header has {len(names)}."
            )
        sample = fields[names.index("sample")]
        if not sample:
            raise MelismaError(f"{path} line {number}: the sample has no name.")
        if sample in seen:
            raise MelismaError(
                f"{path}: the sample {sample!r} is on lines {seen[sample]} and {number}; "
                "give each sample one line: merge its files into one first, or give them two names."
            )
        seen[sample] = number
        file = path.parent / fields[names.index("path")] if matrix is None else matrix
        if not file.is_file():
            raise MelismaError(f"{path} line {number}: sample {sample!r} has no file at {file}.")
        files.append(str(file.resolve()))
    columns: dict[str, Sequence[Any]] = {}
    for i, name in enumerate(names):
        words = [fields[i] for _, fields in rows]
        if name == "coverage_path":
            columns[name] = [str((path.parent / w).resolve()) if w else "" for w in words]
            continue
        columns[name] = files if name == "path" else typed_column(name, words)
    return pl.DataFrame(columns if matrix is None else columns | {"path": files})


_COLUMN_REMEDY = {
    "sample": " Rename the one that names the samples to sample.",
    "path": " Where one matrix of levels holds all samples, name it with --matrix.",
}
# Names of the store's own variables.
RESERVED_NAMES = (
    "site", "contig", "position", "strand", "mark", "context", "methylated", "coverage", "beta",
    "probe",
)  # fmt: skip
_WORD_COLUMNS = ("sample", "format", "individual", "sex")
MISSING_WORDS = ("", "NA", "NaN", "nan")


def typed_column(name: str, words: Sequence[str]) -> list[Any]:
    """A sheet's column as floats where every value is a number (NaN: missing), else as words.

    A number with a leading zero is a name: 001 and 1 stay apart.
    """
    if name in _WORD_COLUMNS:
        return list(words)
    if any(re.fullmatch(r"0\d+", word) for word in words):
        return list(words)
    try:
        numbers = [float("nan") if word in MISSING_WORDS else _number(word) for word in words]
    except ValueError:
        return ["" if word in MISSING_WORDS else word for word in words]
    return list(words) if all(word in MISSING_WORDS for word in words) else numbers


def _number(word: str) -> float:
    """A word as a number; Python's own 1_000 and inf are words here."""
    if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", word, flags=re.ASCII):
        raise ValueError(word)
    return float(word)

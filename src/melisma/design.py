"""Sample sheet and formula to a model matrix, contrasts and blocks.

A contrast is made ready for any test as a `Comparison`: an orthonormal basis of the reduced
model, one exposure column whose coefficient is the contrast, and the units that may be
exchanged. With theta the parameters of [block indicators, model matrix] and L the contrast,
every theta is L g / (L'L) + B d with B the complement of L, so the exposure column is
[A, X] L / (L'L), the reduced model spans [A, X] B, and the contrast cannot be estimated exactly
when the exposure lies in that span.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import formulaic
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]
Unit = Literal["samples", "samples within blocks", "blocks"]
# A column is in the span of others when its relative residual is below this.
_TOLERANCE = 1e-8


def read_sheet(path: Path | str) -> pl.DataFrame:
    """Read a sample sheet, TSV or CSV.

    Parameters
    ----------
    path : a table with a header; `sample` and `path` are required, `format`, `individual` and
        `sex` optional, every other column is a covariate. Paths are relative to the sheet.

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
    if not path.is_file():
        raise MelismaError(f"There is no sample sheet at {path}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise MelismaError(f"{path} is not text: save the sample sheet as TSV or CSV.") from None
    header = text.split("\n", 1)[0]
    separator = "\t" if "\t" in header else ","
    rows = [
        (number, [field.strip() for field in line.split(separator)])
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.startswith("#")
    ]
    if not rows:
        raise MelismaError(f"The sample sheet {path} is empty.")
    names = rows[0][1]
    for needed in ("sample", "path"):
        if needed not in names:
            raise MelismaError(
                f"The sample sheet {path} has no column {needed!r}; its columns are "
                f"{', '.join(names)}."
            )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MelismaError(f"The sample sheet {path} has two columns named {twice!r}.")
    return _checked_sheet(path, names, rows[1:])


def _checked_sheet(path: Path, names: list[str], rows: list[tuple[int, list[str]]]) -> pl.DataFrame:
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
                "give each sample one line."
            )
        seen[sample] = number
        file = path.parent / fields[names.index("path")]
        if not file.is_file():
            raise MelismaError(f"{path} line {number}: sample {sample!r} has no file at {file}.")
        files.append(str(file.resolve()))
    columns: dict[str, Sequence[Any]] = {}
    for i, name in enumerate(names):
        words = [fields[i] for _, fields in rows]
        columns[name] = files if name == "path" else typed_column(name, words)
    return pl.DataFrame(columns)


_WORD_COLUMNS = ("sample", "format", "individual", "sex")
_MISSING = ("", "NA", "NaN", "nan")


def typed_column(name: str, words: Sequence[str]) -> list[Any]:
    """A sheet's column as floats where every value is a number (NaN: missing), else as words."""
    if name in _WORD_COLUMNS:
        return list(words)
    try:
        numbers = [float("nan") if word in _MISSING else float(word) for word in words]
    except ValueError:
        return ["" if word in _MISSING else word for word in words]
    return list(words) if all(word in _MISSING for word in words) else numbers


@dataclass(frozen=True)
class Design:
    """A model matrix with the sheet it came from.

    `matrix` is (samples, columns); `factors` holds the levels of each categorical column of the
    formula; `block` is the block of each sample, or None.
    """

    formula: str
    samples: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: Floats
    sheet: Mapping[str, Sequence[Any]]
    factors: Mapping[str, tuple[str, ...]]
    block: tuple[str, ...] | None
    block_name: str | None
    spec: Any


@dataclass(frozen=True)
class Contrast:
    """One question to a design: `vector` (columns,) is the contrast of its coefficients.

    For a difference of two levels it is the difference of the mean model rows with the factor
    set to the first and to the second of `levels`; for a coefficient `levels` is None.
    """

    name: str
    column: str
    levels: tuple[str, str] | None
    vector: Floats


@dataclass(frozen=True)
class Comparison:
    """A contrast ready for tests, over units (samples, or blocks of samples pooled).

    reduced : (units, r) orthonormal basis of the model without the exposure
    exposure : (units,) column whose coefficient is the contrast
    side : (units,) +1 and -1 for units of the contrast's higher and lower level that it compares,
        else 0; None for a coefficient
    exchange : (units,) exchangeability block of each unit
    pool : (samples,) unit of each sample
    """

    contrast: Contrast
    reduced: Floats
    exposure: Floats
    side: npt.NDArray[np.int8] | None
    exchange: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    unit: Unit
    notes: tuple[str, ...]

    @property
    def n_units(self) -> int:
        """How many units are compared."""
        return len(self.exposure)

    @property
    def df_residual(self) -> int:
        """Residual degrees of freedom of a site that every unit covers."""
        return self.n_units - self.reduced.shape[1] - 1


def make_design(
    sheet: Mapping[str, Sequence[Any]] | pl.DataFrame, formula: str, *, block: str | None = None
) -> Design:
    """Build the model matrix of a formula over a sample sheet.

    Parameters
    ----------
    sheet : columns of length samples, `sample` among them
    formula : Wilkinson notation, such as "~ cell + disease" or "~ age * sex"
    block : a column whose levels are pairs, twins, families or donors

    Raises
    ------
    MelismaError
        A column is missing, constant or has missing values, or the formula cannot be read.
    """
    columns: Mapping[str, Sequence[Any]] = (
        sheet.to_dict(as_series=False) if isinstance(sheet, pl.DataFrame) else sheet
    )
    formula = formula.strip()
    right = formula.lstrip("~").strip()
    used = _formula_columns(right, columns)
    for name in used:
        _check_column(name, columns)
    if block is not None and block not in columns:
        raise MelismaError(
            f"The block {block!r} is not a column of the sample sheet ({', '.join(columns)})."
        )
    try:
        built: Any = formulaic.model_matrix(right or "1", _frame(used, columns), na_action="raise")
    except Exception as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise MelismaError(f"The formula {formula!r} cannot be read: {reason}.") from error
    factors = {
        name: tuple(sorted({str(v) for v in columns[name]}))
        for name in used
        if not _is_number(columns[name])
    }
    return Design(
        formula=f"~ {right or '1'}",
        samples=tuple(str(s) for s in columns["sample"]),
        columns=tuple(str(c) for c in built.columns),
        matrix=np.asarray(built, dtype=np.float64),
        sheet=columns,
        factors=factors,
        block=None if block is None else tuple(_word(v) for v in columns[block]),
        block_name=block,
        spec=built.model_spec,
    )


def _frame(used: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        {name: list(columns[name]) for name in used}, index=range(len(columns["sample"]))
    )


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_number(column: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)


def _formula(right: str) -> Any:
    make: Any = formulaic.Formula
    return make(right or "1")


def _formula_columns(right: str, columns: Mapping[str, Sequence[Any]]) -> list[str]:
    try:
        needed = sorted(str(name) for name in _formula(right).required_variables)
    except Exception as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise MelismaError(f"The formula {right!r} cannot be read: {reason}.") from error
    for name in needed:
        if name not in columns:
            have = ", ".join(n for n in columns if n not in ("path", "format"))
            raise MelismaError(
                f"The formula uses {name!r}, which is not a column of the sample sheet ({have})."
            )
    return needed


def _check_column(name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    values = columns[name]
    bad = [
        str(s)
        for s, v in zip(columns["sample"], values, strict=True)
        if v is None or v == "" or v != v
    ]
    if bad:
        raise MelismaError(
            f"The column {name!r} has no value for {', '.join(bad[:5])}: fill it in or leave "
            f"{'this sample' if len(bad) == 1 else 'these samples'} out."
        )
    if len(set(values)) == 1:
        raise MelismaError(
            f"The column {name!r} is {_word(values[0])!r} in every sample: it explains nothing, so "
            "leave it out of the formula."
        )


def make_contrasts(design: Design, text: str) -> list[Contrast]:
    """Read `cell[b] - cell[a]`, a coefficient or `pairwise(cell)` against a design.

    Raises
    ------
    MelismaError
        The factor, level or coefficient is not in the design.
    """
    text = " ".join(text.split())
    pairs = re.fullmatch(r"pairwise\((.+)\)", text)
    if pairs:
        levels = _levels(design, pairs[1].strip())
        return [
            _difference(design, pairs[1].strip(), b, a)
            for i, a in enumerate(levels)
            for b in levels[i + 1 :]
        ]
    two = re.fullmatch(r"(\w+)\[([^\]]+)\] ?- ?(\w+)\[([^\]]+)\]", text)
    if two:
        if two[1] != two[3]:
            raise MelismaError(
                f"The contrast {text!r} compares levels of two columns, {two[1]} and {two[3]}; "
                "compare levels of one."
            )
        return [_difference(design, two[1], two[2], two[4])]
    return [_coefficient(design, text)]


def _levels(design: Design, column: str) -> tuple[str, ...]:
    if column not in design.factors:
        have = ", ".join(design.factors) or "none"
        raise MelismaError(
            f"The formula {design.formula!r} has no factor {column!r}; its factors are {have}."
        )
    return design.factors[column]


def _difference(design: Design, column: str, high: str, low: str) -> Contrast:
    levels = _levels(design, column)
    for level in (high, low):
        if level not in levels:
            raise MelismaError(
                f"The column {column!r} has no level {level!r}; its levels are {', '.join(levels)}."
            )
    if high == low:
        raise MelismaError(f"The contrast compares {column}[{high}] with itself.")
    rows = {level: _marginal_row(design, column, level) for level in (high, low)}
    return Contrast(
        name=f"{column}[{high}] - {column}[{low}]",
        column=column,
        levels=(high, low),
        vector=rows[high] - rows[low],
    )


def _marginal_row(design: Design, column: str, level: str) -> Floats:
    used = [str(name) for name in design.spec.required_variables]
    changed = {name: design.sheet[name] for name in used}
    changed[column] = [level] * len(design.samples)
    frame = _frame(used, changed | {"sample": design.samples})
    matrix = np.asarray(design.spec.get_model_matrix(frame), dtype=np.float64)
    return matrix.mean(axis=0)


def _coefficient(design: Design, name: str) -> Contrast:
    if name in design.factors:
        levels = design.factors[name]
        if len(levels) == 2:
            return _difference(design, name, levels[1], levels[0])
        raise MelismaError(
            f"The factor {name!r} has {len(levels)} levels: ask for {name}[{levels[1]}] - "
            f"{name}[{levels[0]}] or pairwise({name})."
        )
    if name not in design.columns:
        have = ", ".join(design.columns)
        raise MelismaError(
            f"The contrast {name!r} is neither level - level, pairwise(factor) nor one of the "
            f"design's coefficients ({have})."
        )
    vector = np.zeros(len(design.columns))
    vector[design.columns.index(name)] = 1.0
    return Contrast(name, name, None, vector)


def compare(design: Design, contrast: Contrast) -> Comparison:
    """Make a contrast ready for tests, with blocks as the design asks.

    An exposure that varies inside blocks is compared within them (a fixed effect a block); one
    that is constant inside every block is compared between them, each block's counts pooled.

    Raises
    ------
    MelismaError
        There are no replicates, or the contrast cannot be estimated (the confounded columns
        are named).
    """
    n = len(design.samples)
    if design.block is None:
        pool = np.arange(n)
        return _comparison(design, contrast, design.matrix, None, pool, "samples", ())
    labels = list(dict.fromkeys(design.block))
    block = np.array([labels.index(b) for b in design.block])
    along = design.matrix @ contrast.vector
    varying = [k for k in range(len(labels)) if np.ptp(along[block == k]) > _TOLERANCE]
    if varying:
        without = len(labels) - len(varying)
        notes = (
            (
                f"{without} of {len(labels)} blocks of {design.block_name} hold one level only "
                f"and say nothing about {contrast.name}.",
            )
            if without
            else ()
        )
        return _comparison(
            design, contrast, design.matrix, block, np.arange(n), "samples within blocks", notes
        )
    sizes = np.bincount(block)
    pooled = np.stack([design.matrix[block == k].mean(axis=0) for k in range(len(labels))])
    note = (
        f"{contrast.column} is constant within {design.block_name}: the {len(labels)} blocks, "
        f"not the {n} samples, are the units, with counts pooled inside each."
    )
    notes = (note,) if sizes.max() > 1 else ()
    return _comparison(design, contrast, pooled, None, block, "blocks", notes)


def _comparison(
    design: Design,
    contrast: Contrast,
    matrix: Floats,
    block: npt.NDArray[np.int64] | None,
    pool: npt.NDArray[np.int64],
    unit: Unit,
    notes: tuple[str, ...],
) -> Comparison:
    n = len(matrix)
    indicators = np.zeros((n, 0)) if block is None else np.eye(block.max() + 1)[block]
    model = np.hstack([indicators, matrix])
    vector = np.concatenate([np.zeros(indicators.shape[1]), contrast.vector])
    exposure = model @ vector / (vector @ vector)
    complement = np.linalg.svd(vector[None, :])[2][1:].T
    reduced = _basis(model @ complement)
    left = exposure - reduced @ (reduced.T @ exposure)
    if np.linalg.norm(left) < _TOLERANCE * max(np.linalg.norm(exposure), 1e-300):
        raise MelismaError(_confounded(design, contrast, model, vector, unit))
    if n - reduced.shape[1] - 1 < 1:
        raise MelismaError(
            f"{contrast.name} has no replicates: {n} {unit.split()[0]} and "
            f"{reduced.shape[1] + 1} coefficients leave no degree of freedom for the variation "
            "between samples. Add samples."
        )
    exchange = np.zeros(n, dtype=np.int64) if block is None else block
    return Comparison(
        contrast=contrast,
        reduced=reduced,
        exposure=exposure,
        side=_sides(design, contrast, exchange, pool),
        exchange=exchange,
        pool=pool.astype(np.int64),
        unit=unit,
        notes=notes,
    )


def _sides(
    design: Design,
    contrast: Contrast,
    exchange: npt.NDArray[np.int64],
    pool: npt.NDArray[np.int64],
) -> npt.NDArray[np.int8] | None:
    """Which units stand on which side; a block with one side only compares nothing."""
    if contrast.levels is None:
        return None
    words = [str(v) for v in design.sheet[contrast.column]]
    side = np.zeros(len(exchange), dtype=np.int8)
    for sample, word in enumerate(words):
        side[pool[sample]] = {contrast.levels[0]: 1, contrast.levels[1]: -1}.get(word, 0)
    for k in range(int(exchange.max()) + 1):
        if len(set(side[exchange == k]) - {0}) < 2:
            side[exchange == k] = 0
    return side


def _basis(matrix: Floats) -> Floats:
    left, values, _ = np.linalg.svd(matrix, full_matrices=False)
    return np.ascontiguousarray(left[:, values > _TOLERANCE * max(values.max(initial=0.0), 1e-300)])


def _confounded(
    design: Design, contrast: Contrast, model: Floats, vector: Floats, unit: Unit
) -> str:
    """Name the columns that the contrast cannot be told from."""
    _, values, right = np.linalg.svd(model)
    rank = int((values > _TOLERANCE * values[0]).sum())
    null = right[rank:]
    # The one null direction along which the contrast moves.
    direction = null.T @ (null @ vector)
    n_blocks = model.shape[1] - len(design.columns)
    names = [f"{design.block_name} (block)"] * n_blocks + list(design.columns)
    involved = [
        name
        for name, weight in zip(names, direction, strict=True)
        if abs(weight) > 1e-6 and name != "Intercept"
    ]
    columns = ", ".join(dict.fromkeys(involved))
    return (
        f"{contrast.name} cannot be estimated over these {unit}: the columns {columns} are "
        "confounded. Drop one of them from the formula, or add samples that tell them apart."
    )

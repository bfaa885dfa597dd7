"""A formula over a sample sheet: the model matrix, and contrasts of its coefficients."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import formulaic
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl

from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]


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
    if block is not None:
        _check_present(block, columns)
    try:
        built: Any = formulaic.model_matrix(right or "1", _frame(used, columns), na_action="raise")
        names = tuple(str(c) for c in built.columns)
    except Exception as error:
        raise _unreadable(formula, error) from error
    factors = {
        name: tuple(sorted({level_name(v) for v in columns[name]}))
        for name in used
        if not _is_number(columns[name]) or re.search(rf"\bC\(\s*{re.escape(name)}\b", right)
    }
    return Design(
        formula=f"~ {right or '1'}",
        samples=tuple(str(s) for s in columns["sample"]),
        columns=names,
        matrix=np.asarray(built, dtype=np.float64),
        sheet=columns,
        factors=factors,
        block=None if block is None else tuple(level_name(v) for v in columns[block]),
        block_name=block,
        spec=built.model_spec,
    )


def _frame(used: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """The columns that a formula uses; truth values as words, which formulas take for levels."""
    return pd.DataFrame(
        {name: [str(v) if isinstance(v, bool) else v for v in columns[name]] for name in used},
        index=range(len(columns["sample"])),
    )


def level_name(value: Any) -> str:
    """A value as a level's name; every digit of a number stays, so that long ids stay apart."""
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _unreadable(formula: str, error: Exception) -> MelismaError:
    reason = str(error).split("\n")[0].rstrip(".")
    return MelismaError(f"The formula {formula!r} cannot be read: {reason}.")


def _is_number(column: Sequence[Any]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)


def _formula(right: str) -> Any:
    make: Any = formulaic.Formula
    return make(right or "1")


def _formula_columns(right: str, columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """The sheet's columns in a formula: those formulaic asks for, and those its functions name."""
    try:
        needed = {str(name) for name in _formula(right).required_variables}
    except Exception as error:
        raise _unreadable(right, error) from error
    for name in sorted(needed):
        if name not in columns:
            have = ", ".join(n for n in columns if n not in ("path", "format"))
            raise MelismaError(
                f"The formula uses {name!r}, which is not a column of the sample sheet ({have})."
            )
    # formulaic does not count the arguments of stateful transforms such as poly(age, 2).
    words = set(re.findall(r"[A-Za-z_]\w*(?!\w*\()", right))
    return sorted(needed | (words & set(columns)))


def _check_present(name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    bad = [
        str(s)
        for s, v in zip(columns["sample"], columns[name], strict=True)
        if v is None or v == "" or v != v
    ]
    if bad:
        raise MelismaError(
            f"The column {name!r} has no value for {', '.join(bad[:5])}: fill it in or leave "
            f"{'this sample' if len(bad) == 1 else 'these samples'} out."
        )


def _check_column(name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    _check_present(name, columns)
    values = columns[name]
    if len(set(values)) == 1:
        raise MelismaError(
            f"The column {name!r} is {level_name(values[0])!r} in every sample: leave it "
            "out of the formula, as it explains nothing."
        )


def make_contrasts(design: Design, text: str) -> list[Contrast]:
    """Read `cell[b] - cell[a]`, a coefficient or `pairwise(cell)` against a design.

    Raises
    ------
    MelismaError
        The factor, level or coefficient is not in the design.
    """
    text = text.strip()
    pairs = re.fullmatch(r"pairwise\((.+)\)", text)
    if pairs:
        levels = _levels(design, pairs[1].strip())
        return [
            _difference(design, pairs[1].strip(), b, a)
            for i, a in enumerate(levels)
            for b in levels[i + 1 :]
        ]
    two = re.fullmatch(r"([^\[\]]+)\[(.+)\]\s*-\s*([^\[\]]+)\[(.+)\]", text)
    if two:
        if two[1] != two[3]:
            raise MelismaError(
                f"The contrast {text!r} compares levels of two columns, {two[1]} and {two[3]}; "
                "compare levels of one."
            )
        return [_difference(design, two[1], two[2], two[4])]
    return [_coefficient(design, text)]


def _levels(design: Design, column: str) -> tuple[str, ...]:
    if column in design.sheet and column not in design.factors and column in design.columns:
        raise MelismaError(
            f"The column {column!r} is numbers, so its coefficient is a slope: write C({column}) "
            "in the formula to compare its values as levels."
        )
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
    right = design.formula.lstrip("~ ")
    used = _formula_columns(right, design.sheet)
    value = next(v for v in design.sheet[column] if level_name(v) == level)
    changed = dict(design.sheet) | {column: [value] * len(design.samples)}
    matrix = np.asarray(design.spec.get_model_matrix(_frame(used, changed)), dtype=np.float64)
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
        if name in design.sheet:
            raise MelismaError(f"The formula {design.formula!r} does not have {name!r}: add it.")
        factor, levels = next(iter(design.factors.items()), ("cell", ("a", "b")))
        have = ", ".join(name for name in design.columns if name != "Intercept")
        raise MelismaError(
            f"The contrast {name!r} is not understood: write two levels of a factor, such as "
            f"{factor}[{levels[-1]}] - {factor}[{levels[0]}], or one of the coefficients {have}."
        )
    vector = np.zeros(len(design.columns))
    vector[design.columns.index(name)] = 1.0
    return Contrast(name, name, None, vector)

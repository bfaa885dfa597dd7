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
    formula; `block` is the block of each sample, or None; `dropped` the samples that were left
    out for a missing value.
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
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contrast:
    """One question to a design: is a contrast of its coefficients, or are several, zero?

    `vector` is (columns,): for a difference of two levels it is the difference of the mean model
    rows with the factor set to the first and to the second of `levels`; for a coefficient
    `levels` is None. Where several contrasts are asked about at once it is (k, columns), and
    `among` holds the levels of a factor that are compared, the first with each of the others.
    """

    name: str
    column: str
    levels: tuple[str, str] | None
    vector: Floats
    among: tuple[str, ...] = ()

    @property
    def vectors(self) -> Floats:
        """The contrasts, (k, columns)."""
        return np.atleast_2d(self.vector)


def make_design(
    sheet: Mapping[str, Sequence[Any]] | pl.DataFrame,
    formula: str,
    *,
    block: str | None = None,
    drop_missing: bool = False,
) -> Design:
    """Build the model matrix of a formula over a sample sheet.

    Parameters
    ----------
    sheet : columns of length samples, `sample` among them
    formula : Wilkinson notation, such as "~ cell + disease" or "~ age * sex"
    block : a column whose levels are pairs, twins, families or donors
    drop_missing : leave out samples without a value in a column that is used

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
    if block is not None and block not in columns:
        raise MelismaError(
            f"The block {block!r} is not a column of the sample sheet ({', '.join(columns)})."
        )
    needed = used if block is None else [*used, block]
    dropped: tuple[str, ...] = ()
    if drop_missing:
        columns, dropped = _without_missing(needed, columns)
    for name in needed:
        _check_present(name, columns)
    for name in used:
        _check_varies(name, columns)
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
        dropped=dropped,
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


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _without_missing(
    needed: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> tuple[Mapping[str, Sequence[Any]], tuple[str, ...]]:
    """The sheet without samples that lack a value in a needed column, and their names."""
    rows = range(len(columns["sample"]))
    keep = [i for i in rows if not any(_is_missing(columns[name][i]) for name in needed)]
    if not keep:
        raise MelismaError(
            f"No sample has a value in each of {', '.join(needed)}: use fewer columns."
        )
    dropped = tuple(str(columns["sample"][i]) for i in rows if i not in set(keep))
    return {name: [values[i] for i in keep] for name, values in columns.items()}, dropped


def _check_present(name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    bad = [str(s) for s, v in zip(columns["sample"], columns[name], strict=True) if _is_missing(v)]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise MelismaError(
            f"The column {name!r} has no value for {', '.join(bad[:5])}{more}: fill it in, or "
            f"leave {'this sample' if len(bad) == 1 else 'these samples'} out with --drop-missing "
            "(drop_missing=True)."
        )


def _check_varies(name: str, columns: Mapping[str, Sequence[Any]]) -> None:
    values = columns[name]
    if len(set(values)) == 1:
        raise MelismaError(
            f"The column {name!r} is {level_name(values[0])!r} in every sample: leave it "
            "out of the formula, as it explains nothing."
        )


def make_contrasts(design: Design, text: str) -> list[Contrast]:
    """Read `cell[b] - cell[a]`, `pairwise(cell)`, a factor, a term or a coefficient.

    A factor of more than two levels asks whether all are equal, and a term of several columns,
    such as an interaction, whether all its coefficients are 0.

    Raises
    ------
    MelismaError
        The factor, level, term or coefficient is not in the design.
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
        first, *others = (_marginal_row(design, name, level) for level in levels)
        return Contrast(name, name, None, np.stack([row - first for row in others]), levels)
    if name in design.columns:
        return Contrast(name, name, None, _unit_rows(design, [design.columns.index(name)])[0])
    term = _term_columns(design, name)
    if term:
        rows = _unit_rows(design, term)
        return Contrast(name, name, None, rows if len(term) > 1 else rows[0])
    if name in design.sheet:
        raise MelismaError(f"The formula {design.formula!r} does not have {name!r}: add it.")
    for factor, levels in design.factors.items():
        for high in levels:
            low = re.sub(rf"^{re.escape(high)}\s*-\s*", "", name)
            if low != name and low in levels:
                raise MelismaError(
                    f"The contrast {name!r} names no column: write "
                    f"{factor}[{high}] - {factor}[{low}]."
                )
    factor, levels = next(iter(design.factors.items()), ("cell", ("a", "b")))
    have = ", ".join(name for name in design.columns if name != "Intercept")
    raise MelismaError(
        f"The contrast {name!r} is not understood: write two levels of a factor, such as "
        f"{factor}[{levels[-1]}] - {factor}[{levels[0]}], a term of the formula, or one of the "
        f"coefficients {have}."
    )


def _unit_rows(design: Design, columns: Sequence[int]) -> Floats:
    return np.eye(len(design.columns))[list(columns)]


def _term_columns(design: Design, name: str) -> list[int]:
    """The columns of a term of the formula, such as `cell:age`, in whichever order it is named."""
    wanted = sorted(part.replace(" ", "") for part in name.split(":"))
    for term, columns in design.spec.term_indices.items():
        if sorted(str(factor).replace(" ", "") for factor in term.factors) == wanted:
            return list(columns)
    return []

"""The environment as numbers: what a model is told about a sample besides its sequence.

A factor (tissue, species, diet) becomes one column a level, a number (age, dose) one column in
standard deviations from its mean. A row of zeros is the mean environment: training drops factors
at random, so that the model has learned to answer for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError

Floats = npt.NDArray[np.float32]


class Factor(NamedTuple):
    """A column of names, and the levels that training saw, in order of appearance."""

    name: str
    levels: tuple[str, ...]


class Number(NamedTuple):
    """A column of numbers, with the mean and standard deviation of training."""

    name: str
    mean: float
    sd: float


class Encoded(NamedTuple):
    """values: float32 (rows, width); unseen: for each row, what training never saw, or ""."""

    values: Floats
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    """How the sample sheet's columns become a model's second input. Make one with `learn`.

    Attributes
    ----------
    columns : factors and numbers, in the order of their places in a row
    combinations : the factors' level combinations that training saw
    """

    columns: tuple[Factor | Number, ...] = ()
    combinations: tuple[tuple[str, ...], ...] = ()

    @property
    def width(self) -> int:
        """Numbers in an encoded row."""
        return sum(len(c.levels) if isinstance(c, Factor) else 1 for c in self.columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(column.name for column in self.columns)

    def spans(self) -> list[slice]:
        """Where each column lies in an encoded row."""
        spans, start = [], 0
        for column in self.columns:
            end = start + (len(column.levels) if isinstance(column, Factor) else 1)
            spans.append(slice(start, end))
            start = end
        return spans

    @classmethod
    def learn(cls, sheet: Mapping[str, Sequence[Any]], names: Sequence[str]) -> "Environment":
        """Read the levels, means and standard deviations from training samples.

        Parameters
        ----------
        sheet : the sample sheet's columns, each of length samples
        names : the columns to use; one whose values are all numbers is a number, else a factor

        Raises
        ------
        MelismaError
            A column is not in the sheet, has a missing value, or does not vary.

        Examples
        --------
        >>> env = Environment.learn({"diet": ["royal", "worker"], "age": [1, 3]}, ["diet", "age"])
        >>> env.encode({"diet": ["worker"], "age": [2]}).values.tolist()
        [[0.0, 1.0, 0.0]]
        """
        columns: list[Factor | Number] = []
        for name in names:
            if name not in sheet:
                raise MelismaError(
                    f"The samples have no column {name!r}; they have {', '.join(sheet)}."
                )
            values = list(sheet[name])
            missing = [i for i, value in enumerate(values) if _is_missing(value)]
            if missing:
                raise MelismaError(
                    f"Column {name!r} has no value for sample {missing[0] + 1}: fill it in, or "
                    "leave the sample out."
                )
            if len({str(value) for value in values}) < 2:
                raise MelismaError(
                    f"Column {name!r} is {values[0]!r} in every sample, so nothing can be learned "
                    "of it: leave it out."
                )
            if all(isinstance(value, int | float) for value in values):
                numbers = np.asarray(values, float)
                columns.append(Number(name, float(numbers.mean()), float(numbers.std())))
            else:
                columns.append(Factor(name, tuple(dict.fromkeys(map(str, values)))))
        factors = [column.name for column in columns if isinstance(column, Factor)]
        rows = zip(*(map(str, sheet[name]) for name in factors), strict=True)
        return cls(tuple(columns), tuple(dict.fromkeys(rows)) if factors else ())

    def encode(self, sheet: Mapping[str, Sequence[Any]], *, allow_unseen: bool = False) -> Encoded:
        """Rows of numbers for samples or for environments that are asked about.

        Parameters
        ----------
        sheet : a column for each of `names`; a missing one, or an empty value, is the mean
        allow_unseen : answer a level that training never saw by the mean, with a flag

        Raises
        ------
        MelismaError
            A level was never seen in training and `allow_unseen` is false, or a number is not one.
        """
        lengths = {len(sheet[name]) for name in self.names if name in sheet} or {1}
        n = max(lengths)
        values = np.zeros((n, self.width), np.float32)
        unseen: list[list[str]] = [[] for _ in range(n)]
        for column, span in zip(self.columns, self.spans(), strict=True):
            for i, value in enumerate(sheet.get(column.name, [None] * n)):
                if _is_missing(value):
                    continue
                if isinstance(column, Number):
                    values[i, span] = (_number(column.name, value) - column.mean) / column.sd
                elif str(value) in column.levels:
                    values[i, span.start + column.levels.index(str(value))] = 1
                elif allow_unseen:
                    unseen[i].append(f"{column.name}={value}")
                else:
                    raise MelismaError(
                        f"{column.name} {value!r} was never seen in training, which saw "
                        f"{', '.join(column.levels)}: choose one of these, or ask for the mean."
                    )
        self._flag_combinations(sheet, unseen)
        return Encoded(values, tuple(" ".join(found) for found in unseen))

    def encode_one(self, values: Mapping[str, Any], *, allow_unseen: bool = False) -> Encoded:
        """One environment, (1, width); a column that is left out is the mean.

        Raises
        ------
        MelismaError
            As `encode`, and a column that the model was not told.
        """
        for name in values:
            if name not in self.names:
                told = ", ".join(self.names) or "none"
                raise MelismaError(f"The model was not told {name!r}; its columns are {told}.")
        sheet = {name: [value] for name, value in values.items()}
        return self.encode(sheet, allow_unseen=allow_unseen)

    def _flag_combinations(
        self, sheet: Mapping[str, Sequence[Any]], unseen: list[list[str]]
    ) -> None:
        factors = [column.name for column in self.columns if isinstance(column, Factor)]
        if len(factors) < 2 or any(name not in sheet for name in factors):
            return
        for i, combination in enumerate(zip(*(sheet[name] for name in factors), strict=True)):
            known = tuple(map(str, combination)) in self.combinations
            if not known and not unseen[i] and not any(map(_is_missing, combination)):
                unseen[i].append(
                    "&".join(f"{n}={v}" for n, v in zip(factors, combination, strict=True))
                )

    def record(self) -> list[dict[str, Any]]:
        """The environment as JSON values."""
        return [
            {"kind": "factor" if isinstance(c, Factor) else "number", **c._asdict()}
            for c in self.columns
        ] + [{"kind": "combinations", "seen": [list(row) for row in self.combinations]}]

    @classmethod
    def from_record(cls, record: Sequence[Mapping[str, Any]]) -> "Environment":
        """The environment that `record` wrote."""
        columns: list[Factor | Number] = []
        combinations: tuple[tuple[str, ...], ...] = ()
        for entry in record:
            if entry["kind"] == "factor":
                columns.append(Factor(entry["name"], tuple(entry["levels"])))
            elif entry["kind"] == "number":
                columns.append(Number(entry["name"], entry["mean"], entry["sd"]))
            else:
                combinations = tuple(tuple(row) for row in entry["seen"])
        return cls(tuple(columns), combinations)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MelismaError(f"{name} is a number in this model, and {value!r} is none.") from None


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))

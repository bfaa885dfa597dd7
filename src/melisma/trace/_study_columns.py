"""A sample sheet's columns as numbers: exposure, outcome, covariates, a second mediator, blocks."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.trace._outcomes import BINARY, KINDS, SURVIVAL, Kind, Outcome

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
Sheet = Mapping[str, Sequence[Any]]
# Words in the names of columns that are read off the methylation itself.
_CIRCULAR = ("mgmt", "methyl", "cimp", "lgm", "dnam", "epigenetic_age", "clock")
_MOST_LEVELS = 20
_MOST_NAMED = 5


@dataclass(frozen=True)
class Question:
    """Which columns play which part; all are names of the sheet's columns.

    exposure, outcome : a column, or `column=level` for one level of words against the others
    time, event : of a survival outcome, in place of `outcome`
    kind : of the outcome; None: told from the columns
    covariates, block, via : see `trace_study`
    prevalence : see `Outcome`
    circular : whether columns derived from methylation are allowed
    """

    exposure: str
    outcome: str | None = None
    time: str | None = None
    event: str | None = None
    kind: Kind | None = None
    covariates: tuple[str, ...] = ()
    block: str | None = None
    via: str | None = None
    prevalence: float | None = None
    circular: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is used, once."""
        asked = (self.exposure, self.outcome, self.time, self.event, *self.covariates)
        named = [*(a for a in asked if a), *(a for a in (self.block, self.via) if a)]
        return tuple(dict.fromkeys(split(name)[0] for name in named))


@dataclass(frozen=True)
class Columns:
    """What a question's columns hold, samples in the sheet's order.

    exposure : (n,); `exposure_name` says which level it is
    covariates : (n, c), factors as indicators; `covariate_names` (c,)
    """

    samples: tuple[str, ...]
    exposure: Floats
    exposure_name: str
    outcome: Outcome
    covariates: Floats
    covariate_names: tuple[str, ...]
    second: Floats | None
    block: Ints | None
    notes: tuple[str, ...]


def split(asked: str) -> tuple[str, str | None]:
    """Column and level of `column=level`; no level without a =.

    >>> split("idh=Mutant"), split("age")
    (('idh', 'Mutant'), ('age', None))
    """
    name, equals, level = asked.partition("=")
    return name.strip(), level.strip() if equals else None


def check_question(question: Question, sheet: Sheet) -> None:
    """Refuse columns that are not there, parts that are missing, and circular ones.

    Raises
    ------
    MelismaError
        Any of these.
    """
    for name in question.columns:
        if name not in sheet:
            near = difflib.get_close_matches(name, list(sheet), 1, cutoff=0.5)
            hint = f": did you mean {near[0]!r}?" if near else f"; it has {', '.join(sheet)}."
            raise MelismaError(f"The sample sheet has no column {name!r}{hint}")
    if question.kind is not None and question.kind not in KINDS:
        raise MelismaError(f"There is no outcome kind {question.kind!r}: {', '.join(KINDS)}.")
    survival = question.time is not None or question.event is not None
    if survival == (question.outcome is not None):
        raise MelismaError("Name one outcome: --outcome, or --time and --event together.")
    if survival and (question.time is None or question.event is None):
        raise MelismaError(
            "A survival outcome needs both --time and --event, the column that is 1 where the time "
            "is an event's."
        )
    if question.kind is not None and survival != (question.kind in SURVIVAL):
        needed = "--time and --event" if question.kind in SURVIVAL else "--outcome"
        raise MelismaError(f"An outcome of the kind {question.kind} is named with {needed}.")
    _check_circular(question)


def _check_circular(question: Question) -> None:
    parts = {"exposure": question.exposure, "outcome": question.outcome, "event": question.event}
    parts["second mediator"] = question.via
    for part, asked in parts.items():
        name = split(asked)[0] if asked else ""
        if not question.circular and any(word in name.lower() for word in _CIRCULAR):
            raise MelismaError(
                f"The {part} {name!r} seems to be derived from methylation itself, so that an "
                "effect through methylation is true by construction: choose a column that was "
                "measured otherwise, or, if it was, pass --circular."
            )
    used = [question.exposure, question.outcome, question.time, question.event, question.via]
    names = [split(asked)[0] for asked in (*used, *question.covariates) if asked]
    for name in names:
        if names.count(name) > 1:
            raise MelismaError(f"The column {name!r} cannot be two parts of one question.")


def columns_of(question: Question, sheet: Sheet, rows: Sequence[int]) -> Columns:
    """The columns' numbers for some of the sheet's rows, none of them missing.

    Raises
    ------
    MelismaError
        A column has words where numbers are needed, or a number of levels that it cannot have.
    """

    def words(asked: str) -> list[Any]:
        column = sheet[split(asked)[0]]
        return [column[k] for k in rows]

    notes: list[str] = []
    exposure, name = _exposure(question.exposure, words(question.exposure), notes)
    names: list[str] = []
    covariates: list[Floats] = []
    for covariate in question.covariates:
        for title, column in _indicators(covariate, words(covariate)):
            names.append(title)
            covariates.append(column)
    samples = tuple(str(sheet["sample"][k]) for k in rows)
    outcome = _outcome(question, words, notes)
    second = _numbers(question.via, words(question.via)) if question.via else None
    block = None
    if question.block is not None:
        block = np.unique([str(w) for w in words(question.block)], return_inverse=True)[1]
    held = np.column_stack(covariates) if covariates else np.zeros((len(rows), 0))
    constant = [n for n, column in zip(names, held.T, strict=True) if np.ptp(column) == 0]
    if constant:
        raise MelismaError(
            f"The covariate {constant[0]!r} is the same in all {len(rows)} samples that are used: "
            "leave it out."
        )
    _check_rank(held, names, exposure, name)
    return Columns(
        samples, exposure, name, outcome, held, tuple(names), second, block, tuple(notes)
    )


def missing(value: Any) -> bool:
    """Whether a sheet's value is missing."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _exposure(asked: str, values: list[Any], notes: list[str]) -> tuple[Floats, str]:
    name, level = split(asked)
    if level is None and not any(isinstance(v, str) for v in values):
        column = _numbers(name, values)
        return column, name
    chosen = _levels(name, level, values, "exposure", notes)
    return np.array([float(str(v) == chosen) for v in _plain(values)]), f"{name}={chosen}"


def _levels(name: str, level: str | None, values: list[Any], part: str, notes: list[str]) -> str:
    """The level that counts as 1."""
    found = sorted({str(v) for v in _plain(values)})
    if level is not None:
        if level not in found:
            near = difflib.get_close_matches(level, found, 1, cutoff=0.4)
            hint = f": did you mean {near[0]!r}?" if near else f"; it has {_listed(found)}."
            raise MelismaError(f"The {part} {name!r} has no level {level!r}{hint}")
        if len(found) > 2:
            others = _listed([w for w in found if w != level])
            notes.append(f"{name}: {level} is compared with all of {others}.")
        return level
    if len(found) > 2:
        raise MelismaError(
            f"The {part} {name!r} has {len(found)} levels ({_listed(found)}): name the one to "
            f"compare with the others, as {name}={found[-1]}."
        )
    if len(found) == 1:
        raise MelismaError(
            f"The {part} {name!r} is {found[0]} in all {len(values)} samples that are used: it "
            "must differ."
        )
    notes.append(f"{name}: {found[1]} is compared with {found[0]}.")
    return found[1]


def _plain(values: list[Any]) -> list[Any]:
    """Whole numbers without their point, so that 1.0 is the level 1."""
    return [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]


def _outcome(question: Question, words: Any, notes: list[str]) -> Outcome:
    if question.time is not None:
        assert question.event is not None
        name = split(question.event)[0]
        event = _binary(question.event, words(question.event), "event", notes)
        time = _numbers(question.time, words(question.time))
        return Outcome(name, question.kind or "hazard", time, event)
    assert question.outcome is not None
    name, level = split(question.outcome)
    values = words(question.outcome)
    kind = question.kind
    if kind is None:
        if level is not None or any(isinstance(v, str) for v in values) or len(set(values)) == 2:
            raise MelismaError(
                f"The outcome {name!r} has two classes: say how its samples were chosen, with "
                "--kind case-control (by class) or --kind cohort (not by class)."
            )
        kind = "continuous"
    if kind in BINARY:
        value = _binary(question.outcome, values, "outcome", notes)
        return Outcome(name, kind, value, prevalence=question.prevalence)
    return Outcome(name, kind, _numbers(question.outcome, values))


def _binary(asked: str, values: list[Any], part: str, notes: list[str]) -> Floats:
    name, level = split(asked)
    if level is None and set(values) <= {0, 1}:
        return np.array(values, np.float64)
    chosen = _levels(name, level, values, part, notes)
    return np.array([float(str(v) == chosen) for v in _plain(values)])


def _indicators(name: str, values: list[Any]) -> list[tuple[str, Floats]]:
    """A covariate's columns: itself, or a level's indicator for each but the first."""
    if not any(isinstance(v, str) for v in values):
        return [(name, _numbers(name, values))]
    found = sorted({str(v) for v in values})
    if len(found) > _MOST_LEVELS:
        raise MelismaError(
            f"The covariate {name!r} has {len(found)} levels of words: if it names families or "
            "centres, pass it with --block."
        )
    return [
        (f"{name}={level}", np.array([float(str(v) == level) for v in values]))
        for level in (found[1:] if len(found) > 1 else found)
    ]


def _numbers(name: str, values: list[Any]) -> Floats:
    for value in values:
        if isinstance(value, str):
            raise MelismaError(
                f"The column {name!r} has the word {value!r} where numbers are needed: choose "
                "another column, or clear that cell."
            )
    return np.array(values, np.float64)


def _check_rank(covariates: Floats, names: Sequence[str], exposure: Floats, name: str) -> None:
    """Refuse covariates that tell each other, or the exposure, exactly."""
    base = np.ones((len(exposure), 1))
    for title, column in [*zip(names, covariates.T, strict=True), (name, exposure)]:
        left = column - base @ np.linalg.lstsq(base, column, rcond=None)[0]
        middle = column - column.mean()
        if (left @ left) < 1e-10 * (middle @ middle):
            among = re.sub(r", ([^,]*)$", r" and \1", ", ".join(names[: base.shape[1] - 1]))
            raise MelismaError(
                f"{title} follows from the covariates {among} exactly (collinear): leave out one "
                "of them."
            )
        base = np.column_stack([base, column])


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMED])
    return shown + (f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else "")

"""A study's trace: exposure, sites or regions, expression, phenotype, and the paths between them.

Where there are many mediators each is tried by itself, and those enter the model that are called
under the composite null: a mediator must go with the exposure and, given the exposure, with the
outcome. The effects are then from one model of all of them at once. They are associations
consistent with mediation; what must hold for them to be causes is listed with the trace.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import __version__, progress
from melisma._plural import count
from melisma.errors import MelismaError
from melisma.trace._mediation_checks import check_inputs, check_missing
from melisma.trace._screen import Screened, screen
from melisma.trace._study_columns import (
    Columns,
    Question,
    Sheet,
    check_question,
    columns_of,
    missing,
)
from melisma.trace._study_edges import edges_of, nodes_of
from melisma.trace._study_tables import Mediators, read_mediators, store_mediators
from melisma.trace._study_words import ASSOCIATION, assumptions
from melisma.trace._trace import Trace
from melisma.trace.mediation import Mediation, mediate

__all__ = [
    "FEW", "Mediators", "Question", "StudyTrace", "read_mediators", "store_mediators",
    "trace_study",
]  # fmt: skip

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]
# From p of the exposure, p of the outcome and q= to an object with `q` and `called`.
Composite = Callable[..., Any]
# So many mediators all enter the model; of more, those that are called.
FEW = 10
_MOST_NAMED = 3
# From this correlation on, an outcome may have been computed from a mediator.
_COMPUTED = 0.99
# Parts and total may differ by this share of the total, or by its error.
_MOST_APART = 0.2


class StudyTrace(NamedTuple):
    """A study's trace, and every mediator that was tried.

    trace : the paths of the mediators that entered the model
    mediators : a row a mediator; mediator, effect (of the exposure on it), error, p_exposure,
        z_outcome, p_outcome, q (null where nothing was screened), called, in_model
    mediation : the effects in full
    """

    trace: Trace
    mediators: pl.DataFrame
    mediation: Mediation


def trace_study(
    sheet: Sheet | pl.DataFrame,
    mediators: Mediators,
    question: Question,
    *,
    q: float = 0.05,
    every: bool = False,
    composite: Composite | None = None,
    drop_missing: bool = False,
    drop_mediators: bool = False,
    bootstraps: int = 1000,
    level: float = 0.95,
    seed: int = 1,
) -> StudyTrace:
    """Trace an outcome back to an exposure through sites or regions, and expression if it is named.

    Parameters
    ----------
    sheet : columns by name, `sample` among them
    mediators : of samples that the sheet names; others are left out and counted
    question : which columns are exposure, outcome, covariates, second mediator and blocks
    q : false discovery rate among called mediators, where there are more than 10
    every : all mediators enter the model, however many
    composite : the procedure of the composite null; None: `melisma.trace.composite.composite_null`
    drop_missing : leave out samples with a missing value in a column or mediator that is used
    drop_mediators : leave out mediators with a missing value instead
    bootstraps, level, seed : of the intervals

    Raises
    ------
    MelismaError
        A column is unknown, circular, or holds what its part cannot; values are missing; no sample
        is in both tables; and what `mediate` refuses.
    """
    if isinstance(sheet, pl.DataFrame):
        sheet = sheet.to_dict(as_series=False)
    check_question(question, sheet)
    notes: list[str] = []
    rows, mediators = _together(sheet, mediators, notes)
    rows, mediators = _complete(
        sheet, rows, mediators, question, drop_missing, drop_mediators, notes
    )
    columns = columns_of(question, sheet, rows)
    notes.extend(columns.notes)
    mediators = _varying(mediators, notes)
    check_inputs(
        columns.exposure, mediators.values, columns.outcome, columns.covariates, columns.second,
        columns.block, mediators.names,
    )  # fmt: skip
    notes.extend(_computed(columns, mediators))
    tried = screen(
        columns.exposure, mediators.values, columns.outcome, covariates=columns.covariates,
        block=columns.block,
    )  # fmt: skip
    screened = len(mediators.names) > FEW and not every
    judged = _called(tried, q, composite) if screened else None
    qs, called = (None, None) if judged is None else judged[:2]
    chosen = np.arange(len(mediators.names)) if called is None else np.flatnonzero(called)
    inside = mediators.taken(columns=chosen)
    progress.note(
        f"{count(len(chosen), 'mediator')} of {len(mediators.names):,} in the model of "
        f"{columns.outcome.n:,} samples."
    )
    with progress.stage("Resampling", None):
        found = mediate(
            columns.exposure, inside.values, columns.outcome, covariates=columns.covariates,
            second=columns.second, block=columns.block, names=inside.names,
            bootstraps=bootstraps, level=level, seed=seed,
        )  # fmt: skip
    notes.extend(_apart(found))
    table = _table(mediators.names, tried, qs, called, chosen)
    about = _about(question, columns, mediators, found, notes) | {
        "screened": len(mediators.names) if screened else 0, "q": q if screened else None,
        "procedure": None if judged is None else judged[2],
        "bootstraps": bootstraps, "level": level, "seed": seed,
    }  # fmt: skip
    trace = Trace(
        nodes_of(columns, inside, question),
        edges_of(columns, inside, question, found, table.filter("in_model")),
        columns.outcome.name,
        found.total.value,
        found.total.error,
        found.unit,
        assumptions(found, question, screened),
        about,
    )
    return StudyTrace(trace, table, found)


def _together(sheet: Sheet, mediators: Mediators, notes: list[str]) -> tuple[list[int], Mediators]:
    """The sheet's rows whose samples have mediators, and the mediators in that order."""
    if "sample" not in sheet:
        raise MelismaError("The sample sheet has no column 'sample': name its samples in one.")
    samples = [str(s) for s in sheet["sample"]]
    for names, where in ((samples, "sample sheet"), (mediators.samples, "table of mediators")):
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise MelismaError(
                f"The sample {twice!r} is twice in the {where}: give each sample one row."
            )
    place = {name: k for k, name in enumerate(mediators.samples)}
    rows = [k for k, name in enumerate(samples) if name in place]
    if not rows:
        raise MelismaError(
            "No sample is in both the sample sheet "
            f"({', '.join(samples[:_MOST_NAMED])}, ...) and the mediators "
            f"({', '.join(mediators.samples[:_MOST_NAMED])}, ...): use the same names in both."
        )
    apart = (len(samples) - len(rows), len(place) - len(rows))
    for many, where in zip(apart, ("the sample sheet", "the mediators"), strict=True):
        if many:
            notes.append(f"{count(many, 'sample')} only in {where} left out.")
    return rows, mediators.taken(rows=[place[samples[k]] for k in rows])


def _complete(
    sheet: Sheet, rows: list[int], mediators: Mediators, question: Question, drop_missing: bool,
    drop_mediators: bool, notes: list[str],
) -> tuple[list[int], Mediators]:  # fmt: skip
    """The same without missing values, or a refusal that says where they are."""
    lacking = {
        name: [j for j, k in enumerate(rows) if missing(sheet[name][k])]
        for name in question.columns
    }
    lacking = {name: found for name, found in lacking.items() if found}
    if lacking and not drop_missing:
        said = ", ".join(f"{len(found):,} in {name}" for name, found in lacking.items())
        every = {j for found in lacking.values() for j in found}
        raise MelismaError(
            f"Samples have missing values in columns that are used ({said}): --drop-missing leaves "
            f"out these {len(every):,} of {len(rows):,} samples."
        )
    kept = np.ones(len(rows), bool)
    for found in lacking.values():
        kept[found] = False
    lost = np.isnan(mediators.values)
    lost_rows = kept & lost.any(1)
    if drop_mediators:
        whole = np.flatnonzero(~lost[kept].any(0))
        if len(whole) < len(mediators.names):
            notes.append(
                f"{count(len(mediators.names) - len(whole), 'mediator')} with missing values left "
                "out."
            )
        mediators = mediators.taken(columns=whole)
    elif drop_missing:
        kept &= ~lost.any(1)
    else:
        check_missing(mediators.values[kept], mediators.names)
    if not kept.any():
        raise MelismaError(
            f"No sample has all values: {int(lost_rows.sum()):,} samples lack a mediator; "
            "--drop-mediators leaves out mediators with missing values instead."
        )
    if not kept.all():
        notes.append(f"{count(int((~kept).sum()), 'sample')} with missing values left out.")
    left = np.flatnonzero(kept).tolist()
    return [rows[j] for j in left], mediators.taken(rows=left)


def _varying(mediators: Mediators, notes: list[str]) -> Mediators:
    """The mediators that vary, where others are left."""
    varying = np.flatnonzero(np.ptp(mediators.values, axis=0) > 0)
    still = len(mediators.names) - len(varying)
    if not still or not len(varying):
        return mediators
    notes.append(f"{count(still, 'mediator')} the same in all samples left out.")
    return mediators.taken(columns=varying)


def _computed(columns: Columns, mediators: Mediators) -> list[str]:
    """A note where one mediator tells the outcome, or the second mediator, all but exactly."""
    told = []
    value = columns.outcome.value
    if columns.outcome.event is None:
        told.append((columns.outcome.name, value))
    if columns.second is not None:
        told.append(("the second mediator", columns.second))
    m = mediators.values - mediators.values.mean(0)
    size = np.sqrt((m**2).sum(0))
    found = []
    for name, values in told:
        y = values - values.mean()
        near = np.abs(y @ m) / np.maximum(size * np.sqrt(y @ y), 1e-300)
        if set(np.unique(values)) == {0.0, 1.0}:
            one, other = mediators.values[values == 1], mediators.values[values == 0]
            apart = (one.min(0) > other.max(0)) | (one.max(0) < other.min(0))
            near = np.maximum(near, apart)
        if near.max() > _COMPUTED:
            best = mediators.names[int(near.argmax())]
            found.append(
                f"Circular? {best} by itself tells {name} all but exactly: if it was computed from "
                "methylation, an effect through methylation is true by construction."
            )
    return found


def _apart(found: Mediation) -> list[str]:
    """A note where the parts are not the total, which was estimated without them."""
    parts, total = found.direct.value + found.indirect.value, found.total
    gap = abs(parts - total.value)
    if gap <= _MOST_APART * abs(total.value) or (total.error and gap <= total.error):
        return []
    return [
        f"Direct and mediated effects are {parts:+.3g} together, and the total is "
        f"{total.value:+.3g}: the models of mediators and outcome do not fit each other, and the "
        "parts should not be believed; take fewer mediators, or another --kind."
    ]


def _called(
    tried: Screened, q: float, composite: Composite | None
) -> tuple[Floats, npt.NDArray[np.bool_], str]:
    """q and calls under the composite null, (mediators,), and what the procedure calls itself."""
    if composite is None:
        from melisma.trace.composite import composite_null

        composite = composite_null
    assert composite is not None
    found = composite(tried.p_exposure, tried.p_outcome, q=q)
    method = str(getattr(found, "method", "as given"))
    return np.asarray(found.q, np.float64), np.asarray(found.called, bool), method


def _table(
    names: Sequence[str], tried: Screened, qs: Floats | None, called: Any, chosen: Ints
) -> pl.DataFrame:
    inside = np.isin(np.arange(len(names)), chosen)
    return pl.DataFrame(
        {
            "mediator": list(names), "effect": tried.effect, "error": tried.error,
            "p_exposure": tried.p_exposure, "z_outcome": tried.z_outcome,
            "p_outcome": tried.p_outcome,
            "q": [None] * len(names) if qs is None else qs,
            "called": [None] * len(names) if called is None else called,
            "in_model": inside,
        },
        schema_overrides={"q": pl.Float64, "called": pl.Boolean, "mediator": pl.String},
    )  # fmt: skip


def _about(
    question: Question, columns: Columns, mediators: Mediators, found: Mediation,
    notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    held = found.components
    return {
        "statement": ASSOCIATION,
        "exposure": columns.exposure_name,
        "outcome_kind": found.kind,
        "covariates": list(columns.covariate_names),
        "block": question.block,
        "second_mediator": question.via,
        "samples": found.n,
        "informative": found.informative,
        "mediators": len(mediators.names),
        "in_model": len(found.own),
        "components": None if held is None else held.weights.shape[1],
        "components_variance": None if held is None else held.variance,
        "total": found.total._asdict(),
        "direct": found.direct._asdict(),
        "indirect": found.indirect._asdict(),
        "mediated_share": found.share._asdict(),
        "fitted_bootstraps": found.bootstraps,
        "notes": notes,
        "melisma": __version__,
    }

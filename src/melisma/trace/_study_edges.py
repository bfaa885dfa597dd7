"""A study's effects as nodes and edges: what flows along each edge, in the outcome's unit.

What flows from the exposure into a mediator leaves it again, towards the second mediator or the
outcome, so that the edges into the outcome add up to the total. The coefficient behind each edge,
in its own units, is in its evidence.
"""

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.errors import MelismaError
from melisma.trace._outcomes import BINARY
from melisma.trace._sensitivity import (
    correlation_at_zero,
    correlation_given_others,
    e_value,
    robustness,
)
from melisma.trace._study_columns import Columns, Question
from melisma.trace._study_tables import Mediators
from melisma.trace._trace import Edge, Node
from melisma.trace.mediation import Effect, Mediation

Floats = npt.NDArray[np.floating[Any]]
METHOD = "mediation"
# Beyond this many mediators the correlation at zero is each one's alone.
_MOST_TOGETHER = 200


def nodes_of(columns: Columns, mediators: Mediators, question: Question) -> tuple[Node, ...]:
    """Exposure, mediators, second mediator, outcome, in their layers.

    Raises
    ------
    MelismaError
        Two of them have one name.
    """
    nodes = [Node(columns.exposure_name, 0, "exposure")]
    nodes.extend(Node(name, 1, mediators.kind) for name in mediators.names)
    if question.via is not None:
        nodes.append(Node(question.via, 2, "expression"))
    about = {"kind": columns.outcome.kind}
    if question.time is not None:
        about["time"] = question.time
    nodes.append(Node(columns.outcome.name, 3, "phenotype", about=about))
    name, times = Counter(node.name for node in nodes).most_common(1)[0]
    if times > 1:
        raise MelismaError(
            f"{name!r} is a mediator and a column of the question: rename one of them."
        )
    return tuple(nodes)


def edges_of(
    columns: Columns, mediators: Mediators, question: Question, found: Mediation,
    tried: pl.DataFrame,
) -> tuple[Edge, ...]:  # fmt: skip
    """Every edge; `tried` is the table of the mediators in the model, in their order."""
    start, end = columns.exposure_name, columns.outcome.name
    edges = [_edge(start, end, found.direct, found, path="direct")]
    sensitive = _sensitivity(columns, mediators, found)
    for k, (name, row) in enumerate(zip(mediators.names, tried.to_dicts(), strict=True)):
        edges.append(
            _edge(
                start, name, found.through[k], found,
                coefficient=found.to_mediators[k]._asdict(), p_exposure=row["p_exposure"],
                q=row["q"],
            )
        )  # fmt: skip
        edges.append(
            _edge(
                name, end, found.own[k], found, coefficient=found.on_outcome[k]._asdict(),
                p_outcome=row["p_outcome"], q=row["q"], path="indirect", **sensitive[k],
            )
        )  # fmt: skip
    if question.via is None or found.second is None or found.last is None:
        return tuple(edges)
    assert found.to_second is not None
    assert found.second_on_outcome is not None
    edges.append(
        _edge(start, question.via, found.second, found, coefficient=found.to_second._asdict())
    )
    edges.extend(
        _edge(name, question.via, one, found, coefficient=step._asdict())
        for name, one, step in zip(mediators.names, found.onward, found.on_second, strict=True)
    )
    told = _strength(found.second_on_outcome, found.last, found)
    if columns.outcome.kind == "continuous":
        assert columns.second is not None
        given = np.column_stack([columns.exposure, columns.covariates, _inside(mediators, found)])
        rho = correlation_at_zero(columns.second[:, None], columns.outcome.value, given)
        told["correlation_at_zero"] = float(rho[0])
    edges.append(
        _edge(
            question.via, end, found.last, found,
            coefficient=found.second_on_outcome._asdict(), path="indirect", **told,
        )
    )  # fmt: skip
    return tuple(edges)


def _edge(source: str, target: str, effect: Effect, found: Mediation, **evidence: Any) -> Edge:
    told = {"low": effect.low, "high": effect.high, "p": effect.p, "samples": found.n}
    return Edge(source, target, effect.value, effect.error, METHOD, told | evidence)


def _inside(mediators: Mediators, found: Mediation) -> Floats:
    """What stands in the models for the mediators, (n, r)."""
    held = found.components
    return mediators.values if held is None else held.scores(mediators.values)


def _sensitivity(columns: Columns, mediators: Mediators, found: Mediation) -> list[dict[str, Any]]:
    """What an unmeasured confounder must be, by mediator."""
    told = [_strength(b, own, found) for b, own in zip(found.on_outcome, found.own, strict=True)]
    if columns.outcome.kind != "continuous" or not told:
        return told
    given = np.column_stack([columns.exposure, columns.covariates])
    if columns.second is not None:
        given = np.column_stack([given, columns.second])
    together = found.components is None and len(told) <= _MOST_TOGETHER
    correlation = correlation_given_others if together else correlation_at_zero
    rho = correlation(mediators.values, columns.outcome.value, given)
    for one, value in zip(told, rho, strict=True):
        one["correlation_at_zero"] = float(value)
        one["correlation_given"] = "the other mediators too" if together else "exposure alone"
    return told


def _strength(coefficient: Effect, effect: Effect, found: Mediation) -> dict[str, Any]:
    """The robustness value, and for log odds the E-value of estimate and interval."""
    told: dict[str, Any] = {}
    if coefficient.error:
        told["robustness"] = robustness(coefficient.value / coefficient.error, found.informative)
    if found.kind in BINARY:
        rare = found.kind == "case-control"
        told["e_value"] = e_value(effect.value, rare=rare)
        if effect.low is not None and effect.high is not None:
            crosses = effect.low <= 0 <= effect.high
            near = 0.0 if crosses else min(effect.low, effect.high, key=abs)
            told["e_value_of_interval"] = e_value(near, rare=rare)
    return told

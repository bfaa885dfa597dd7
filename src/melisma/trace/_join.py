"""Joining traces: what explains one node of a trace hangs under that node.

A study says that a region's level goes with an outcome, a network says which bases set that level.
Their effects have different units, so they are kept apart: an edge that came with the inner trace
carries `under`, the node that it explains, and `unit` in its evidence, and enters no sum of the
outer trace.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.trace._trace import Edge, Node, Trace

UNDER = "under"
UNIT = "unit"
JOINED = "joined"


def under(part: "Edge | Node") -> str | None:
    """The node under which an edge or a node hangs; None for what is the trace's own."""
    told = getattr(part, "evidence", None)
    return (part.about if told is None else told).get(UNDER)  # type: ignore[union-attr]


def joined(outer: "Trace", inner: "Trace", at: str) -> "Trace":
    """Hang one trace under a node of another; see `Trace.join`."""
    _check(outer, inner, at)
    names = _names(outer, inner, at)
    places, moved = _layers(outer, inner, at)
    nodes = [replace(node, layer=moved(node.layer)) for node in outer.nodes]
    nodes += [
        replace(
            node, name=names[node.name], layer=places[node.layer],
            about={**node.about, UNDER: names[under(node) or inner.outcome]},
        )
        for node in inner.nodes
        if node.layer in places
    ]  # fmt: skip
    held = {node.name for node in nodes}
    edges = list(outer.edges)
    for edge in inner.edges:
        ends = names[edge.source], names[edge.target]
        if not held.issuperset(ends):
            continue
        told = {UNIT: inner.unit, **edge.evidence, UNDER: names[under(edge) or inner.outcome]}
        edges.append(replace(edge, source=ends[0], target=ends[1], evidence=told))
    known = dict(outer.about.get(JOINED, {})) | {at: _record(inner)}
    known |= {names[name]: part for name, part in inner.about.get(JOINED, {}).items()}
    return replace(
        outer,
        nodes=tuple(sorted(nodes, key=lambda node: node.layer)),
        edges=tuple(edges),
        about={**outer.about, JOINED: known},
    )


def _check(outer: "Trace", inner: "Trace", at: str) -> None:
    have = [node.name for node in outer.nodes]
    if at not in have:
        raise MelismaError(
            f"The trace has no node {at!r} to hang another under: it has {', '.join(have[:8])}"
            f"{', …' if len(have) > 8 else ''}."
        )
    if at in outer.about.get(JOINED, {}):
        raise MelismaError(
            f"A trace hangs under {at!r} already: join the difference of the two, or another node."
        )
    if not any(edge.target == inner.outcome for edge in inner.edges):
        raise MelismaError(f"Nothing leads to {inner.outcome!r} in the trace to be joined.")


def _names(outer: "Trace", inner: "Trace", at: str) -> dict[str, str]:
    """What each node of the inner trace is called in the whole: its outcome is the node itself."""
    taken = {node.name for node in outer.nodes}
    names = {inner.outcome: at}
    for node in inner.nodes:
        if node.name == inner.outcome:
            continue
        name = node.name
        while name in taken:
            name = f"{at}: {name}"
        taken.add(name)
        names[node.name] = name
    return names


def _layers(outer: "Trace", inner: "Trace", at: str) -> tuple[dict[int, int], Any]:
    """The layer of each inner one that leads to the outcome, and where an outer one moves to.

    Layers directly before the node that hold nothing but other inner traces are used again, so
    that regions of one layer have their bases in one layer.
    """
    top = {node.name: node.layer for node in inner.nodes}[inner.outcome]
    wanted = sorted({node.layer for node in inner.nodes if node.layer < top})
    layer = {node.name: node.layer for node in outer.nodes}[at]
    free = 0
    while any(node.layer == layer - free - 1 for node in outer.nodes) and all(
        under(node) is not None and under(node) != at
        for node in outer.nodes
        if node.layer == layer - free - 1
    ):
        free += 1
    more = max(0, len(wanted) - free)
    first = layer + more - len(wanted)
    # New layers come before those that are used again, which stay next to the node.
    start = layer - min(free, len(wanted))
    return (
        {old: first + k for k, old in enumerate(wanted)},
        lambda old: old + more if old >= start else old,
    )


def _record(inner: "Trace") -> Mapping[str, Any]:
    """What the inner trace said of its own whole."""

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "outcome": inner.outcome, "total": inner.total, "total_error": inner.total_error,
        "unit": inner.unit, "explained": inner.explained,
        "explained_error": inner.explained_error, "completeness": finite(inner.completeness),
        "completeness_error": finite(inner.completeness_error),
        "assumptions": list(inner.assumptions),
        "about": {name: value for name, value in inner.about.items() if name != JOINED},
    }  # fmt: skip

"""The Trace: named nodes in ordered layers, edges with an effect, its error and its evidence."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from melisma.errors import MelismaError
from melisma.trace._join import UNDER, UNIT, joined, under

FORMAT = 1


@dataclass(frozen=True)
class Node:
    """A cause, a state or an outcome.

    Attributes
    ----------
    name : unique in its trace
    layer : its place in the order from cause (0) to outcome
    kind : what it is: "exposure", "site", "base", "token", "head", "phenotype"
    value : its own value, where it has one
    about : what else is known of it
    """

    name: str
    layer: int
    kind: str = ""
    value: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """What one node does to another.

    Attributes
    ----------
    source, target : names of nodes; the source's layer is before the target's
    effect : in units of the outcome, or of the target where `total` says so
    error : its standard error or numerical error; None where it is not known
    method : how it was found: "integrated gradients", "activation patching", "mediation"
    evidence : p, q, interval, number of samples
    """

    source: str
    target: str
    effect: float
    error: float | None = None
    method: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """Paths from causes to one outcome, and how much of the total effect they explain.

    Attributes
    ----------
    nodes, edges : see `Node` and `Edge`
    outcome : the node that is explained
    total : the whole change of the outcome that the paths should add up to
    total_error : its error; None where it is exact
    unit : what `total` and the effects into the outcome are measured in
    assumptions : what must hold for the effects to be causes
    about : model, data, versions

    Raises
    ------
    MelismaError
        A name is used twice, an edge has no such node or does not go forward, or a number is
        not finite.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    outcome: str
    total: float
    total_error: float | None = None
    unit: str = ""
    assumptions: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        layers: dict[str, int] = {}
        for node in self.nodes:
            if node.name in layers:
                raise MelismaError(f"Two nodes are called {node.name!r}.")
            layers[node.name] = node.layer
        if self.outcome not in layers:
            raise MelismaError(f"The outcome {self.outcome!r} is no node of the trace.")
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in layers:
                    raise MelismaError(f"An edge ends at {end!r}, which is no node of the trace.")
            if layers[edge.source] >= layers[edge.target]:
                raise MelismaError(
                    f"The edge from {edge.source!r} to {edge.target!r} does not go from an earlier "
                    "layer to a later one."
                )
            if not math.isfinite(edge.effect):
                raise MelismaError(
                    f"The effect of {edge.source!r} on {edge.target!r} is not a number."
                )
        if not math.isfinite(self.total):
            raise MelismaError("The total effect is not a number.")

    @property
    def explained(self) -> float:
        """The sum of the effects that enter the outcome, without those of a joined trace."""
        return math.fsum(edge.effect for edge in self._entering())

    @property
    def explained_error(self) -> float | None:
        """Its error, as of independent edges; None where no edge's is known."""
        return _together(edge.error for edge in self._entering())

    @property
    def completeness(self) -> float:
        """The share of the total that the paths explain: 1 is all; nan where the total is 0."""
        return self.explained / self.total if self.total else math.nan

    @property
    def completeness_error(self) -> float:
        """What is left unexplained as a share of the total, with the error of what is known."""
        if not self.total:
            return math.nan
        known = math.hypot(self.explained_error or 0.0, self.total_error or 0.0)
        return (abs(self.total - self.explained) + known) / abs(self.total)

    def _entering(self) -> list[Edge]:
        return [e for e in self.edges if e.target == self.outcome and under(e) is None]

    def into(self, name: str) -> tuple[Edge, ...]:
        """The edges that enter a node, the strongest first."""
        found = [edge for edge in self.edges if edge.target == name]
        return tuple(sorted(found, key=lambda edge: -abs(edge.effect)))

    def filter(
        self, keep: Callable[[Edge], bool] | None = None, *, strongest: int | None = None
    ) -> "Trace":
        """The trace with some of its edges, and the nodes that are still on a path.

        Parameters
        ----------
        keep : which edges stay
        strongest : that many edges into each node at most

        The total stays, so that completeness says what was left out.
        """
        edges = [edge for edge in self.edges if keep is None or keep(edge)]
        if strongest is not None:
            # Effects of a joined trace have a unit of their own, and so a rank of their own.
            rank: dict[tuple[str, str | None], int] = {}
            chosen = set()
            for k in sorted(range(len(edges)), key=lambda k: -abs(edges[k].effect)):
                key = edges[k].target, under(edges[k])
                rank[key] = rank.get(key, 0) + 1
                if rank[key] <= strongest:
                    chosen.add(k)
            edges = [edge for k, edge in enumerate(edges) if k in chosen]
        reached = {self.outcome}
        while True:
            more = {edge.source for edge in edges if edge.target in reached} - reached
            if not more:
                break
            reached |= more
        return replace(
            self,
            nodes=tuple(node for node in self.nodes if node.name in reached),
            edges=tuple(edge for edge in edges if edge.target in reached),
        )

    def diff(self, other: "Trace") -> "Trace":
        """This trace less another of the same outcome: what differs between two environments.

        An edge that only one has counts as 0 in the other; errors add as of independent figures.

        Raises
        ------
        MelismaError
            The outcomes or units differ, or one name is in different layers.
        """
        if (self.outcome, self.unit) != (other.outcome, other.unit):
            raise MelismaError(
                f"Traces of {self.outcome!r} ({self.unit}) and {other.outcome!r} ({other.unit}) "
                "have no difference: compare one outcome in one unit."
            )
        nodes = {node.name: node for node in other.nodes}
        for node in self.nodes:
            if node.name in nodes and nodes[node.name].layer != node.layer:
                raise MelismaError(f"{node.name!r} is in another layer of the other trace.")
            nodes[node.name] = node
        ours = {(edge.source, edge.target): edge for edge in self.edges}
        theirs = {(edge.source, edge.target): edge for edge in other.edges}
        edges = []
        for key in dict.fromkeys([*ours, *theirs]):
            mine, its = ours.get(key), theirs.get(key)
            either = mine or its
            assert either is not None
            effect = (mine.effect if mine else 0.0) - (its.effect if its else 0.0)
            kept = {
                name: either.evidence[name] for name in (UNDER, UNIT) if name in either.evidence
            }
            error = _together(e.error for e in (mine, its) if e)
            edges.append(Edge(*key, effect, error, either.method, kept))
        return replace(
            self,
            nodes=tuple(sorted(nodes.values(), key=lambda node: node.layer)),
            edges=tuple(edges),
            total=self.total - other.total,
            total_error=_together((self.total_error, other.total_error)),
            about={"difference": [dict(self.about), dict(other.about)]},
        )

    def join(self, other: "Trace", at: str) -> "Trace":
        """Another trace hung under one of this one's nodes: what explains that node.

        Its outcome is the node. Its other nodes stand in layers of their own before it, and have
        `under` in `about`; names that are taken get the node's before them. What does not lead to
        its outcome is left out. Sums and completeness stay those of this trace, since units
        differ; `about["joined"][at]` holds the other's own.

        Parameters
        ----------
        other : a network's reading of a region that is a node here, for example
        at : the node's name

        Raises
        ------
        MelismaError
            There is no such node, it has a trace under it, or nothing leads to the other's outcome.
        """
        return joined(self, other, at)

    def table(self) -> pl.DataFrame:
        """The edges: source, target, effect, error, share, method, unit.

        share : of the total; null for edges of a joined trace, whose unit is another
        unit : where it is known: that of the total for edges into the outcome
        """
        return pl.DataFrame(
            [
                {
                    "source": e.source, "target": e.target, "effect": e.effect, "error": e.error,
                    "share": e.effect / self.total if self.total and under(e) is None else None,
                    "method": e.method, "unit": self._unit(e),
                }
                for e in self.edges
            ],
            schema={
                "source": pl.String, "target": pl.String, "effect": pl.Float64,
                "error": pl.Float64, "share": pl.Float64, "method": pl.String, "unit": pl.String,
            },
        )  # fmt: skip

    def _unit(self, edge: Edge) -> str | None:
        if UNIT in edge.evidence or edge.target != self.outcome:
            return edge.evidence.get(UNIT) or None
        return self.unit or None

    def to_json(self) -> str:
        """The whole trace as JSON."""
        told = asdict(self) | {"format": FORMAT}
        return json.dumps(told, indent=1, default=str, allow_nan=False)

    def save(self, path: Path | str) -> None:
        """Write `to_json` to a file, which is replaced only when the new one is whole."""
        path = Path(path)
        partial = path.with_name(path.name + ".part")
        partial.write_text(self.to_json() + "\n")
        partial.replace(path)

    @classmethod
    def from_json(cls, text: str) -> "Trace":
        """A trace from what `to_json` wrote.

        Raises
        ------
        MelismaError
            It is no trace, or one of a newer melisma.
        """
        try:
            told = json.loads(text)
            version = int(told.pop("format"))
            if version > FORMAT:
                raise MelismaError(f"The trace has format {version}: install a newer melisma.")
            nodes = tuple(Node(**node) for node in told.pop("nodes"))
            edges = tuple(Edge(**edge) for edge in told.pop("edges"))
            told["assumptions"] = tuple(told["assumptions"])
            return cls(nodes, edges, **told)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise MelismaError(f"This is no trace ({error}).") from None

    @classmethod
    def load(cls, path: Path | str) -> "Trace":
        """Open a trace that was saved."""
        path = Path(path)
        if not path.is_file():
            raise MelismaError(f"There is no trace at {path}.")
        return cls.from_json(path.read_text())


def _together(errors: Iterable[float | None]) -> float | None:
    """Errors of independent figures together; None where none is known."""
    known = [error for error in errors if error is not None]
    return math.sqrt(math.fsum(error**2 for error in known)) if known else None

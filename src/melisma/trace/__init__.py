"""From cause to outcome: one object for networks and for studies, and the verbs that fill it."""

from melisma.trace._trace import Edge, Node, Trace

__all__ = ["Edge", "Node", "Trace"]

"""Values that are computed alike: one of them stands for all, so that each number is one symbol."""

from __future__ import annotations

from typing import Any

from oarlock.ir import Node, Value

DEPTH = 32
"""How far back is looked; what is further is taken for another value."""


class Alike:
    """Knows a value by its op and what it reads: nodes of a graph have no effects but few."""

    def __init__(self) -> None:
        self.first: dict[Any, Value] = {}  # by what it is computed of
        self.found: dict[Value, Value] = {}

    def of(self, value: Value, depth: int = DEPTH) -> Value:
        """The first value that was computed as this one is."""
        if value not in self.found:
            self.found[value] = self._first(value, depth)
        return self.found[value]

    def _first(self, value: Value, depth: int) -> Value:
        node = value.producer
        if node is None or depth == 0 or not _is_pure(node):
            return value
        parts = tuple(self.of(x, depth - 1) for x in node.inputs)
        try:
            return self.first.setdefault((type(node.op), node.op, parts, value.index), value)
        except TypeError:  # an attribute that has no hash
            return value


def _is_pure(node: Node) -> bool:
    return not node.graphs and not node.op.effect and not node.op.binds and node.name != "aten_call"

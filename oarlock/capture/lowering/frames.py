"""Graphs inside of graphs while they are recorded: what a sub-graph reads from outside is its input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from oarlock.capture.lift import Lifter
from oarlock.ir import Graph, Node, Size, TensorType, Value
from oarlock.ir.op import Op

ANYWHERE = ("param", "const", "size")
"""Ops without inputs whose nodes are repeated where they are read."""


@dataclass(eq=False)
class Frame:
    """A graph that is being recorded; ``arguments`` are the outer values of its captured inputs."""

    graph: Graph
    parent: Frame | None = None
    known: set[Value] = field(default_factory=set)
    here: dict[Value, Value] = field(default_factory=dict)
    arguments: list[Value] = field(default_factory=list)

    def input(self, type: TensorType, name: str) -> Value:
        """Append an input."""
        value = self.graph.input(type, name)
        self.known.add(value)
        return value

    def local(self, value: Value) -> Value:
        """``value`` as this graph sees it: its own, repeated here, or an input."""
        if value in self.known or (self.parent is None and not _is_anywhere(value)):
            return value
        if value not in self.here:
            self.here[value] = self._import(value)
        return self.here[value]

    def _import(self, value: Value) -> Value:
        made = value.producer
        if made is not None and _is_anywhere(value):
            node = Node(made.op, (), (), made.origin)
            self.graph.nodes.append(node)
            self.known.add(node.output)
            return node.output
        assert self.parent is not None
        outer = self.parent.local(value)
        if outer not in self.here:
            self.arguments.append(outer)
            self.here[outer] = self.input(outer.type, f"c{len(self.arguments)}")
        return self.here[outer]

    def replace(self, outer: Value, inner: Value) -> None:
        """Let ``outer`` stand for ``inner`` here."""
        self.here[outer] = inner


def _is_anywhere(value: Value) -> bool:
    return value.producer is not None and value.producer.name in ANYWHERE


class FrameLifter(Lifter):
    """A Lifter that adds to the innermost graph."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.frame = Frame(graph)
        self.is_of_run: Callable[[Size], bool] = lambda size: False
        self.may_fit = True  # sizes that the run decides may be checked to be others

    def append(self, op: Op, inputs: Sequence[Value], graphs: Sequence[Graph] = ()) -> Node:
        if op.name == "broadcast_to":
            inputs = [self.fitting(inputs[0], op.shape)]  # type: ignore[attr-defined]
        elif op.pointwise and self.may_fit:
            inputs = self.broadcastable(inputs)
        elif op.name == "concat":
            inputs = self.joinable(inputs, op.axis)  # type: ignore[attr-defined]
        node = super().append(op, [self.frame.local(v) for v in inputs], graphs)
        self.frame.known.update(node.outputs)
        return node

    def fitting(self, value: Value, shape: Sequence[Size]) -> Value:
        """``value`` to be broadcast to ``shape``: sizes that the run decides must fit it."""
        tail = shape[len(shape) - value.rank :]
        if len(tail) != value.rank:
            return value
        is_wrong = [n != 1 and n != m and self.is_of_run(n) for n, m in zip(value.shape, tail)]
        found = tuple(m if wrong else n for n, m, wrong in zip(value.shape, tail, is_wrong))
        return self.refine(value, shape=found) if any(is_wrong) else value

    def broadcastable(self, values: Sequence[Value]) -> list[Value]:
        """``values`` that a pointwise op takes together: sizes that the run decides must fit."""
        rank, shape = max((v.rank for v in values), default=0), []
        for sizes in zip(*((1,) * (rank - v.rank) + tuple(v.shape) for v in values)):
            many = [n for n in sizes if n != 1]
            shape.append(next((n for n in many if not self.is_of_run(n)), many[0] if many else 1))
        return [self.fitting(v, shape) for v in values]

    def joinable(self, values: Sequence[Value], axis: int) -> list[Value]:
        """``values`` to be joined on ``axis``: sizes that the run decides must be those of the rest."""
        first, axis = values[0], axis % values[0].rank
        if any(v.rank != first.rank for v in values):
            return list(values)
        wanted = list(first.shape)
        for i, sizes in enumerate(zip(*(v.shape for v in values))):
            wanted[i] = next((n for n in sizes if not self.is_of_run(n)), sizes[0])
        found = []
        for value in values:
            shape = tuple(
                n if i == axis or n == m or not self.is_of_run(n) else m
                for i, (n, m) in enumerate(zip(value.shape, wanted))
            )
            found.append(value if shape == value.shape else self.refine(value, shape=shape))
        return found

    def input(self, type: TensorType, name: str) -> Value:
        return self.frame.input(type, name)

    def local(self, value: Value) -> Value:
        return self.frame.local(value)

    def enter(self) -> Frame:
        """Add to a new sub-graph."""
        self.frame = Frame(Graph(), self.frame)
        self.graph = self.frame.graph
        return self.frame

    def leave(self, frame: Frame) -> None:
        """Add to the graph around ``frame``."""
        assert frame is self.frame and frame.parent is not None
        self.frame = frame.parent
        self.graph = self.frame.graph

    def finish(self, frame: Frame, outputs: Iterable[Value]) -> Graph:
        """The graph of ``frame`` with its outputs."""
        frame.graph.outputs = [frame.local(v) for v in outputs]
        return frame.graph


def align(frames: Sequence[Frame], own: int) -> list[Value]:
    """Give all graphs the same captured inputs, after their ``own``; the outer values."""
    outer = list(dict.fromkeys(v for f in frames for v in f.arguments))
    for frame in frames:
        for value in outer:
            frame.local(value)
        order = [frame.here[v] for v in outer]
        frame.graph.inputs[own:] = order
        frame.arguments = list(outer)
    return outer


def as_tuple(result: Any) -> tuple[Value, ...]:
    """The outputs of a built node."""
    return (result,) if isinstance(result, Value) else tuple(result)

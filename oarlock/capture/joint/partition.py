"""A joint graph of forward and backward, cut into two where the forward calls end.

The cut is eager's own: what backward calls read of forward ones is saved, never computed again.
Views are made again, as they move no data; what a convolution leaves with channels last is saved so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from oarlock.ir import Builder, Graph, Node, TensorType, Value
from oarlock.passes.choose_layout import layouts
from oarlock.passes.transposed import Perm, inverse

_VIEWS = ("reshape", "transpose", "broadcast_to", "slice")


@dataclass(frozen=True)
class Needed:
    """An input of the backward graph: "tangent" or "port" (inputs of the joint graph), "result" (an
    output of the forward graph that the caller gets) or "saved" (one of its further outputs)."""

    kind: str
    index: int


@dataclass
class Parts:
    """``needed`` tells the inputs of ``backward``."""

    forward: Graph
    backward: Graph
    needed: list[Needed]


class Cut:
    """Args: mark: nodes before it are forward; ports: inputs that can be read again as they are."""

    def __init__(self, graph: Graph, mark: int, ports: Sequence[int]) -> None:
        self.graph, self.mark = graph, mark
        self.position = {v: i for i, n in enumerate(graph.nodes) for v in n.outputs}
        self.inputs = {v: i for i, v in enumerate(graph.inputs)}
        self.ports = {graph.inputs[i] for i in ports}
        self.saved: dict[Value, None] = {}

    def is_late(self, value: Value) -> bool:
        return value in self.position and self.position[value] >= self.mark

    def live(self, outputs: Sequence[Value]) -> list[Node]:
        """The backward nodes that ``outputs`` need, in order."""
        wanted = set(outputs)
        found = []
        for node in reversed(self.graph.nodes[self.mark :]):
            if not wanted.isdisjoint(node.outputs):
                found.append(node)
                wanted.update(node.inputs)
        return found[::-1]

    def choose(self, read: Sequence[Value], kept: Sequence[Value]) -> None:
        """Decide what is saved of the forward values that backward nodes ``read``.

        Args: kept: those that the caller gets, which cost nothing.
        """
        self.saved = {v: None for v in read if not self.is_view(v) and not self.is_there(v)}
        there = {*self.saved, *kept}
        views: dict[Value, list[Value]] = {}
        for v in read:
            if self.is_view(v) and not self.can_move(v, there):
                views.setdefault(self.base(v), []).append(v)
        for base, found in views.items():
            smaller = _bytes(base) <= sum(_bytes(v) for v in found)
            self.saved.update(dict.fromkeys([base] if smaller else found))

    def is_there(self, value: Value) -> bool:
        producer = value.producer
        return value in self.ports or (producer is not None and not producer.inputs)

    def is_view(self, value: Value) -> bool:
        producer = value.producer
        return producer is not None and (
            producer.name in _VIEWS or (producer.name == "cast" and self.is_moved_input(value))
        )

    def is_moved_input(self, value: Value) -> bool:
        """A cast of an input, such as of a weight."""
        while value.producer is not None and value.producer.name in (*_VIEWS, "cast"):
            value = value.producer.inputs[0]
        return self.is_there(value)

    def base(self, value: Value) -> Value:
        """What ``value`` is a view of."""
        while self.is_view(value):
            assert value.producer is not None
            value = value.producer.inputs[0]
        return value

    def can_move(self, value: Value, there: set[Value]) -> bool:
        """``value`` is a view of something that is there."""
        while self.is_view(value) and value not in there:
            assert value.producer is not None
            value = value.producer.inputs[0]
        return value in there or self.is_there(value)


def partition(
    graph: Graph, mark: int, ports: Sequence[int], tangents: Sequence[int], results: Sequence[Value],
    kept: dict[Value, int], gradients: Sequence[Value],
) -> Parts:  # fmt: skip
    """Cut ``graph``.

    Args:
        mark: how many nodes are forward.
        ports, tangents: inputs that backward may read again; that only it reads.
        results: outputs of the forward graph; kept: by value, those that stay as they are.
        gradients: outputs of the backward graph.
    """
    cut = Cut(graph, mark, ports)
    late = cut.live(gradients)
    read = [v for n in late for v in n.inputs] + list(gradients)
    given = {graph.inputs[i] for i in tangents}
    early = [v for v in dict.fromkeys(read) if not cut.is_late(v) and v not in given]
    cut.choose(early, list(kept))
    saved = [v for v in cut.saved if v not in kept]
    others = [v for v in graph.inputs if v not in given]
    forward = Graph(others, graph.nodes[:mark], [*results, *saved])
    orders = dict(zip(saved, layouts(forward, saved)))
    forward.outputs[len(results) :] = [_turned(forward, v, inverse(orders[v])) for v in saved]
    maker = _Backward(cut, kept, orders, list(tangents))
    return Parts(forward, *maker.build(late, gradients))


def _turned(graph: Graph, value: Value, perm: Perm) -> Value:
    """``transpose(value, perm)``."""
    return value if perm == tuple(range(value.rank)) else Builder(graph).transpose(value, perm=perm)


class _Backward:
    """Copies nodes; what they read of the forward graph becomes inputs."""

    def __init__(
        self, cut: Cut, kept: dict[Value, int], orders: dict[Value, Perm], tangents: list[int]
    ) -> None:
        self.cut, self.kept, self.orders = cut, kept, orders
        self.saved = {v: i for i, v in enumerate(orders)}
        self.graph = Graph()
        self.needed: list[Needed] = []
        self.known: dict[Value, Value] = {}
        for k, i in enumerate(tangents):
            self.input(cut.graph.inputs[i], Needed("tangent", k))

    def input(self, value: Value, needed: Needed) -> Value:
        name = value.name if needed.kind in ("tangent", "port") else None
        self.known[value] = self.graph.input(value.type, name or f"{needed.kind}{needed.index}")
        self.needed.append(needed)
        return self.known[value]

    def of(self, value: Value) -> Value:
        """``value`` in the backward graph."""
        if value in self.known:
            return self.known[value]
        if value in self.kept:
            return self.input(value, Needed("result", self.kept[value]))
        if value in self.saved:
            return self.restored(value)
        if value in self.cut.inputs:
            return self.input(value, Needed("port", self.cut.inputs[value]))
        assert value.producer is not None
        self.copy(value.producer)
        return self.known[value]

    def restored(self, value: Value) -> Value:
        """A saved value, which the forward program may have left in another order."""
        perm, index = self.orders[value], self.saved[value]
        shape = tuple(value.shape[i] for i in inverse(perm))
        given = self.graph.input(TensorType(value.dtype, shape), f"saved{index}")
        self.needed.append(Needed("saved", index))
        self.known[value] = _turned(self.graph, given, perm)
        return self.known[value]

    def copy(self, node: Node) -> None:
        copy = Node(node.op, [self.of(v) for v in node.inputs], node.graphs, node.origin)
        self.graph.nodes.append(copy)
        self.known.update(zip(node.outputs, copy.outputs))

    def build(self, nodes: list[Node], gradients: Sequence[Value]) -> tuple[Graph, list[Needed]]:
        for node in nodes:
            self.copy(node)
        self.graph.outputs = [self.of(v) for v in gradients]
        return self.graph, self.needed


def is_one_graph(backward: Graph, needed: Sequence[Needed]) -> bool:
    """Eager code can't ask for the gradients of results one by one without retaining the graph: each
    two of them go through a common call that has saved something."""
    tangents = [v for v, n in zip(backward.inputs, needed) if n.kind == "tangent"]
    masks = {v: 1 << k for k, v in enumerate(tangents)}
    saved = {v for v, n in zip(backward.inputs, needed) if n.kind != "tangent"}
    common: set[int] = set()
    for node in backward.nodes:
        mask = 0
        for v in node.inputs:
            mask |= masks.get(v, 0)
        if mask:
            masks.update(dict.fromkeys(node.outputs, mask))
        if not saved.isdisjoint(node.inputs):
            common.add(mask)
            if not mask:
                saved.update(node.outputs)
    pairs = combinations(range(len(tangents)), 2)
    return all(any(m >> j & m >> k & 1 for m in common) for j, k in pairs)


def _bytes(value: Value) -> int:
    return int(value.type.size) * value.dtype.bytes

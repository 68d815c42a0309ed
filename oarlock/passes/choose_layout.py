"""Channels last for what slides windows, and as few transposes as that allows.

Convolutions, pools and their like are rebuilt with ``layout="NHWC"``.  The transposes that this
makes, and those of the program, are not built at once: a value is *held* as the transpose of
another, and the permutation moves through the ops that follow (``transposed``) until one needs
the elements in their order.  Between two convolutions it meets its inverse and vanishes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from oarlock.ir import Builder, Graph, Node, Program, Size, Value, bounds, product
from oarlock.passes.rewrite import may_rewrite, prune, with_graph
from oarlock.passes.stage import stage
from oarlock.passes.transposed import RULES, Perm, inverse, permute

LIKELY = 64  # a symbolic size


@stage("choose_layout")
def choose_layout(program: Program) -> Program:
    """Put the channels of convolutions and pools last, cancelling transposes."""
    if not any(_slides(node) for node in program.graph.walk()):
        return program
    return with_graph(program, _Pass(program.graph).run(), program.params)


def layouts(graph: Graph, values: Sequence[Value]) -> list[Perm]:
    """The permutation ``p`` of each value that the pass would have as ``transpose(x, p)``."""
    if not any(_slides(node) for node in graph.walk()):
        return [tuple(range(v.rank)) for v in values]
    held = _Pass(graph)
    held.run()
    return [held.held[v].perm for v in values]


def _slides(node: Node) -> bool:
    """A node with a layout of channels first, and axes that it could put in between."""
    return getattr(node.op, "layout", "") == "NCHW" and node.inputs[0].rank > 2


def _spatial_axes(node: Node) -> int:
    """An op with a size per spatial axis may have any number of axes before the channels."""
    return len(getattr(node.op, "size", ())) or node.inputs[0].rank - 2


@dataclass(frozen=True)
class _Held:
    """``transpose(base, perm)``."""

    base: Value
    perm: Perm

    @property
    def is_plain(self) -> bool:
        return self.perm == tuple(range(len(self.perm)))


class _Pass:
    """One graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.b = Builder(Graph(graph.inputs))
        self.held = {v: _Held(v, tuple(range(v.rank))) for v in graph.inputs}
        self.built: dict[tuple[Value, Perm], Value] = {}

    def run(self) -> Graph:
        """The graph rebuilt."""
        for node in self.graph.nodes:
            self.b.origin = node.origin
            self._node(node)
        outputs = [self.plain(v) for v in self.graph.outputs]
        return prune(Graph(self.graph.inputs, self.b.graph.nodes, outputs))

    def _node(self, node: Node) -> None:
        if _slides(node) and may_rewrite():
            self._put_channels_last(node)
        elif type(node.op).pointwise:
            self._pointwise(node)
        elif node.name == "concat":
            self._concat(node)
        elif not self._moved(node):
            graphs = [_Pass(g).run() for g in node.graphs]
            copy = self.b.append(node.op, [self.plain(v) for v in node.inputs], graphs)
            for old, new in zip(node.outputs, copy.outputs):
                self._hold(old, new)

    def _hold(self, value: Value, base: Value, perm: Perm | None = None) -> None:
        self.held[value] = _Held(base, perm or tuple(range(base.rank)))

    # Values

    def plain(self, value: Value) -> Value:
        """The value as it was."""
        return self._turned(value, tuple(range(value.rank)))

    def _turned(self, value: Value, order: Perm) -> Value:
        """``transpose(value, order)``, built once; a reshape where only axes of size 1 move."""
        held = self.held[value]
        perm = permute(held.perm, order)
        if perm == tuple(range(len(perm))):
            return held.base
        key = (held.base, perm)
        if key not in self.built:
            wide = [axis for axis in perm if held.base.shape[axis] != 1]
            shape = permute(held.base.shape, perm)
            is_view = wide == sorted(wide)
            self.built[key] = (
                self.b.reshape(held.base, shape=shape)
                if is_view
                else self.b.transpose(held.base, perm=perm)
            )
        return self.built[key]

    def _under(self, value: Value, perm: Perm) -> Value:
        """The x with ``transpose(x, perm) == value``, whose missing leading axes are added."""
        missing = len(perm) - value.rank
        if missing:
            wide = self.b.reshape(self.plain(value), shape=(*[1] * missing, *value.shape))
            self._hold(wide, wide)
            value = wide
        return self._turned(value, inverse(perm))

    # Nodes

    def _put_channels_last(self, node: Node) -> None:
        x, *others = node.inputs
        lead = x.rank - _spatial_axes(node) - 1
        order = (*range(lead), *range(lead + 1, x.rank), lead)
        op = type(node.op)(**{**node.op.attributes, "layout": "NHWC"})
        images = getattr(op, "images", 1)
        more = [self._turned(v, order) for v in others[: images - 1]]
        more += map(self.plain, others[images - 1 :])
        y = self.b.build(op, self._turned(x, order), *more)
        self._hold(node.output, y, inverse(order))

    def _pointwise(self, node: Node) -> None:
        rank = node.output.rank
        perm = self._favourite(node.inputs, rank)
        if perm == tuple(range(rank)):
            inputs = [self.plain(v) for v in node.inputs]
        else:
            inputs = [self._under(v, perm) if v.rank else self.plain(v) for v in node.inputs]
        self._hold(node.output, self.b.build(node.op, *inputs), perm)

    def _concat(self, node: Node) -> None:
        rank = node.output.rank
        perm = self._favourite(node.inputs, rank)
        axis = perm[node.op.axis % rank]
        parts = [self._under(v, perm) for v in node.inputs]
        self._hold(node.output, self.b.concat(*parts, axis=axis), perm)

    def _favourite(self, values: Sequence[Value], rank: int) -> Perm:
        """The permutation under which most elements are held."""
        plain = tuple(range(rank))
        votes: Counter[Perm] = Counter()
        for v in values:
            held = self.held[v]
            if v.rank == rank and not _is_constant(held.base):
                votes[held.perm] += _elements(v.shape) * 2 + (not held.is_plain)
        return max(votes, key=votes.__getitem__, default=plain)

    def _moved(self, node: Node) -> bool:
        """Let a permutation pass through the node."""
        move = RULES.get(node.name)
        held = self.held[node.inputs[0]] if node.inputs else None
        is_idle = node.name != "transpose" and held is not None and held.is_plain
        if move is None or held is None or is_idle:
            return False
        others = [self.plain(v) for v in node.inputs[1:]]
        renewed = Node(node.op, [node.inputs[0], *others], (), node.origin)
        moved = move(self.b, renewed, held.base, held.perm)
        if moved is None:
            return False
        self._hold(node.output, *moved)
        return True


def _is_constant(value: Value) -> bool:
    node = value.producer
    while node is not None and node.op.view:
        node = node.inputs[0].producer
    return node is not None and node.name in ("param", "const")


def _elements(shape: Sequence[Size]) -> int:
    """About how many there are."""
    return int(product(_likely(size) for size in shape))


def _likely(size: Size) -> int:
    low, high = bounds(size)
    return low if low == high else max(low, LIKELY)

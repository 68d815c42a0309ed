"""Many small products as few large ones: what a loop over time that was unrolled leaves.

The gradient of weights that every step reads is a sum of products, one of each step; that of a tensor
whose slices the steps read is a sum of padded slices; and steps may multiply slices of one tensor by
the same weights.  All three are one product over all steps.

Only f32 and f64: sums round in another order, as they may in any product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from oarlock.ir import Builder, Graph, Node, Program, Value, bounds
from oarlock.ir.types import f32, f64
from oarlock.passes.rewrite import Weights, may_rewrite, prune, with_graph
from oarlock.passes.stage import stage

LEAST = 3  # values that are worth joining
FEW = 1 << 16  # elements that are cheap to copy
Slice = tuple[Value, int, int]  # rows [start, stop) of the first axis of a base


@stage("merge_products")
def merge_products(program: Program) -> Program:
    """Join sums of products, sums of padded slices, and products by the same weights."""
    graph = prune(_Pass(program.graph).run())
    return with_graph(program, graph, Weights.of(program).params)


class _Pass:
    """One graph; sub-graphs stay as they are."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.b = graph, Builder(Graph(graph.inputs))
        self.uses, self.outputs = graph.uses(), set(graph.outputs)
        self.order = {node: i for i, node in enumerate(graph.nodes)}
        self.known: dict[Value, Value] = {v: v for v in graph.inputs}
        self.joined: dict[tuple[Value, ...], Value] = {}
        self.families = self._families()
        self.wide: dict[tuple[Value, Value], tuple[Value, int]] = {}
        self.changed = False

    def run(self) -> Graph:
        """The graph rebuilt; what nothing needs any more is still there."""
        for node in self.graph.nodes:
            self.b.origin = node.origin
            value = self._rewritten(node)
            if value is None:
                inputs = [self.known[v] for v in node.inputs]
                copy = Node(node.op, inputs, node.graphs, node.origin)
                self.b.graph.nodes.append(copy)
                self.known.update(zip(node.outputs, copy.outputs))
            else:
                self.known[node.output], self.changed = value, True
        self.b.graph.outputs = [self.known[v] for v in self.graph.outputs]
        return self.b.graph if self.changed else self.graph

    def _rewritten(self, node: Node) -> Value | None:
        if len(node.outputs) != 1 or node.output.dtype not in (f32, f64):
            return None
        if node.name == "add":
            return self._sum(node)
        if node.name == "concat" and len(node.inputs) >= LEAST:
            return self._products_of_rows(node.inputs, node.op.axis % node.output.rank)  # type: ignore[attr-defined]
        return self._slice_of_wide(node) if node.name == "matmul" else None

    def _is_read_once(self, value: Value) -> bool:
        return len(self.uses[value]) == 1 and value not in self.outputs

    # Sums

    def _sum(self, node: Node) -> Value | None:
        """The sum of all that a tree of additions adds up, terms of a kind joined."""
        value = node.output
        if self._is_read_once(value) and self._continues(self.uses[value][0][0], value):
            return None
        terms = self._terms(node)
        if len(terms) < LEAST:
            return None
        rest, parts = list(terms), []
        kinds: list[tuple[Callable[[Value], bool], Callable[[list[Value]], Value | None]]] = [
            (self._is_product, self._product),
            (self._is_padded, self._slices),
            (self._is_sum_of_rows, self._sum_of_rows),
        ]
        for is_kind, join in kinds:
            found = [v for v in rest if is_kind(v)]
            if len(found) >= LEAST and (part := join(found)) is not None:
                parts.append(part)
                rest = [v for v in rest if v not in found]
        if not parts or not may_rewrite():
            return None
        total, *others = [*parts, *(self.known[v] for v in rest)]
        for other in others:
            total = self.b.add(total, other)
        return total

    def _continues(self, user: Node, value: Value) -> bool:
        return user.name == "add" and user.output.type == value.type

    def _terms(self, node: Node) -> list[Value]:
        found: list[Value] = []
        stack = list(node.inputs[::-1])
        while stack:
            value = stack.pop()
            inner = value.producer
            is_sum = inner is not None and self._continues(inner, node.output)
            if is_sum and inner is not None and self._is_read_once(value):
                stack += inner.inputs[::-1]
            else:
                found.append(value)
        return found if all(v.type == node.output.type for v in found) else []

    def _place(self, value: Value) -> int:
        return self.order.get(value.producer, -1)  # type: ignore[arg-type]

    # Sums of products: one whose inner axis has those of all

    def _is_product(self, value: Value) -> bool:
        node = value.producer
        is_plain = node is not None and node.name == "matmul" and self._is_read_once(value)
        return is_plain and all(v.rank == 2 for v in node.inputs)  # type: ignore[union-attr]

    def _product(self, products: list[Value]) -> Value | None:
        pairs = [tuple(v.producer.inputs) for v in products]  # type: ignore[union-attr]
        pairs.sort(key=lambda p: -self._place(_turned(p[0])))
        lefts, rights = zip(*pairs)
        deep = sum(v.shape[0] for v in rights)
        (m, n), few = products[0].shape, len(products) - 1
        if any(_turned(v) is v for v in lefts) or bounds(few * 2 * m * n - deep * (m + n))[0] < 0:
            return None
        rows, columns = [_turned(v) for v in lefts], list(rights)
        if self._runs_down(rows) or self._runs_down(columns):
            rows, columns = rows[::-1], columns[::-1]
        left, right = self._rows(rows), self._rows(columns)
        return self.b.matmul(self.b.transpose(left, perm=(1, 0)), right)

    def _runs_down(self, values: Sequence[Value]) -> bool:
        found = [_slice_of(v) for v in values]
        return _one_base(found) and found[0][1] > found[-1][1]  # type: ignore[index]

    def _rows(self, values: Sequence[Value]) -> Value:
        """The rows of matrices one below the other."""
        key = tuple(values)
        if key not in self.joined:
            whole = self._whole(values)
            parts = [self.known[v] for v in values]
            self.joined[key] = self.b.concat(*parts, axis=0) if whole is None else whole
        return self.joined[key]

    def _whole(self, values: Sequence[Value]) -> Value | None:
        """Adjacent slices of one tensor, as a slice of it."""
        found = [_slice_of(v) for v in values]
        if not _one_base(found) or any(a[2] != b[1] for a, b in pairwise(found)):  # type: ignore[index]
            return None
        base, start, stop = found[0][0], found[0][1], found[-1][2]  # type: ignore[index]
        if base not in self.known:
            return None
        count = sum(v.shape[0] for v in values)
        return self._cut(self.known[base], start, stop, (count, values[0].shape[1]))

    def _cut(self, base: Value, start: int, stop: int, shape: tuple[Any, ...]) -> Value:
        if (start, stop) != (0, base.shape[0]):
            zeros = (0,) * (base.rank - 1)
            base = self.b.slice(
                base, starts=(start, *zeros), stops=(stop, *base.shape[1:]), steps=(1,) * base.rank
            )
        return base if base.shape == shape else self.b.reshape(base, shape=shape)

    # Sums of padded slices: the slices joined

    def _is_padded(self, value: Value) -> bool:
        node = value.producer
        if node is None or node.name != "pad" or node.op.value != 0:  # type: ignore[attr-defined]
            return False
        return self._is_read_once(value) and _padded_axis(node) is not None

    def _slices(self, padded: list[Value]) -> Value | None:
        nodes = [v.producer for v in padded]
        axes = {_padded_axis(n) for n in nodes}  # type: ignore[arg-type]
        if len(axes) != 1 or None in axes:
            return None
        (axis,) = axes
        spans = sorted(
            (
                (n.op.low[axis], n.op.low[axis] + n.inputs[0].shape[axis], n.inputs[0])
                for n in nodes
            ),  # type: ignore[union-attr,attr-defined,index]
            key=lambda s: s[0],
        )
        ends = [0, *(stop for _, stop, _ in spans)]
        starts = [*(start for start, _, _ in spans), padded[0].shape[axis]]  # type: ignore[index]
        if starts != ends:
            return None
        values = [v for _, _, v in spans]
        found = self._products_of_rows(values, axis)
        return found or self.b.concat(*(self.known[v] for v in values), axis=axis)

    # Rows of products by the same weights: the product of the rows

    def _products_of_rows(self, values: Sequence[Value], axis: Any) -> Value | None:
        """``concat`` along the first axis of products, each perhaps behind a reshape."""
        products = [_below_reshape(v) for v in values]
        nodes = [v.producer for v in products]
        if axis != 0 or len(values) < LEAST or not all(map(self._is_product, products)):
            return None
        if not all(self._is_read_once(v) for v in values) or len({n.inputs[1] for n in nodes}) > 1:  # type: ignore[union-attr]
            return None
        if any(v.shape[-1] != p.shape[-1] for v, p in zip(values, products)) or not may_rewrite():
            return None
        rows = self._rows([n.inputs[0] for n in nodes])  # type: ignore[union-attr]
        product = self.b.matmul(rows, self.known[nodes[0].inputs[1]])  # type: ignore[union-attr]
        shape = (sum(v.shape[0] for v in values), *values[0].shape[1:])
        return product if product.shape == shape else self.b.reshape(product, shape=shape)

    # Sums over rows: one over the rows of all

    def _is_sum_of_rows(self, value: Value) -> bool:
        inner = _below_reshape(value)
        node = inner.producer
        if node is None or node.name != "reduce_sum" or node.inputs[0].rank != 2:
            return False
        is_alone = self._is_read_once(value) and self._is_read_once(inner)
        is_alone = is_alone and (bounds(node.inputs[0].type.size)[1] or FEW + 1) <= FEW
        return is_alone and tuple(node.op.axes) == (0,)  # type: ignore[attr-defined]

    def _sum_of_rows(self, sums: list[Value]) -> Value:
        sources = [_below_reshape(v).producer.inputs[0] for v in sums]  # type: ignore[union-attr]
        sources.sort(key=lambda v: -self._place(v))
        total = self.b.reduce_sum(self._rows(sources), axes=(0,))
        shape = sums[0].shape
        return total if total.shape == shape else self.b.reshape(total, shape=shape)

    # Products of slices by the same weights: slices of one product

    def _families(self) -> dict[Node, tuple[Value, Value]]:
        """Products of adjacent slices of one tensor by the same matrix, with both."""
        found: dict[tuple[Value, Value], list[tuple[int, int, Node]]] = {}
        for node in self.graph.nodes:
            is_product = node.name == "matmul" and all(v.rank == 2 for v in node.inputs)
            cut = _slice_of(node.inputs[0]) if is_product else None
            if cut is not None:
                found.setdefault((cut[0], node.inputs[1]), []).append((cut[1], cut[2], node))
        families = {}
        for key, members in found.items():
            spans = sorted(members, key=lambda m: m[:2])
            ends = [0, *(stop for _, stop, _ in spans)]
            starts = [*(start for start, _, _ in spans), key[0].shape[0]]
            if len(members) >= LEAST and starts == ends and may_rewrite():
                families.update({node: key for _, _, node in spans})
        return families

    def _slice_of_wide(self, node: Node) -> Value | None:
        key = self.families.get(node)
        if key is None:
            return None
        base, right = key
        _, start, stop = _slice_of(node.inputs[0])  # type: ignore[misc]
        per = node.output.shape[0] // (stop - start)
        if key not in self.wide:
            rows = per * base.shape[0]
            left = self._cut(self.known[base], 0, base.shape[0], (rows, node.inputs[0].shape[1]))  # type: ignore[arg-type]
            self.wide[key] = self.b.matmul(left, self.known[right]), per
        product, per = self.wide[key]
        return self._cut(product, start * per, stop * per, node.output.shape)


def _turned(value: Value) -> Value:
    """What a matrix is the transpose of; itself when it is not one."""
    node = value.producer
    is_turned = node is not None and node.name == "transpose" and value.rank == 2
    return node.inputs[0] if is_turned and tuple(node.op.perm) == (1, 0) else value  # type: ignore


def _below_reshape(value: Value) -> Value:
    node = value.producer
    return node.inputs[0] if node is not None and node.name == "reshape" else value


def _slice_of(value: Value) -> Slice | None:
    """A matrix that is rows of a tensor whose last axis it keeps."""
    node = _below_reshape(value).producer
    if node is None or node.name != "slice" or value.rank != 2:
        return None
    op: Any = node.op
    base = node.inputs[0]
    is_whole = not any(op.starts[1:]) and tuple(op.stops[1:]) == base.shape[1:]
    known = all(isinstance(n, int) for n in (op.starts[0], op.stops[0], base.shape[0]))
    if not is_whole or not known or any(s != 1 for s in op.steps):
        return None
    is_kept = value.shape[-1] == base.shape[-1] and op.stops[0] > op.starts[0]
    return (
        (base, op.starts[0], op.stops[0]) if is_kept and isinstance(value.shape[0], int) else None
    )


def _one_base(found: Sequence[Slice | None]) -> bool:
    return all(s is not None and s[0] is found[0][0] for s in found)  # type: ignore[index]


def _padded_axis(node: Node) -> int | None:
    """The only axis that a pad makes longer."""
    op: Any = node.op
    axes = [k for k, (a, b) in enumerate(zip(op.low, op.high)) if (a, b) != (0, 0)]
    sizes = [op.low[k] for k in axes] + [op.high[k] for k in axes]
    is_known = all(isinstance(n, int) and n >= 0 for n in sizes)
    return axes[0] if len(axes) == 1 and is_known else None

"""put and scatter: a copy of x, then updates at computed places, in order.

An x that is one number everywhere (the start of a gradient) is no operand: its result is filled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oarlock.codegen import loops as L
from oarlock.codegen.emitter import OUT_OF_RANGE
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels.rows import AxisKernel
from oarlock.codegen.operands import number_everywhere
from oarlock.codegen.scalars import RULES
from oarlock.codegen.target import Target
from oarlock.ir.dim import Size, product
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group
    from oarlock.codegen.kernels import ConstantOf

_JOIN = {"add": "add", "mul": "mul", "max": "maximum", "min": "minimum"}


def _operands(node: Node) -> tuple[Value, ...]:
    """What the kernel reads."""
    return node.inputs if number_everywhere(node.inputs[0]) is None else node.inputs[1:]


def _in_place(node: Node) -> tuple[tuple[Value, Value], ...]:
    """The copy of an element is all that reads x there."""
    x, *others = node.inputs
    return () if x in others or number_everywhere(x) is not None else ((node.output, x),)


class Put:
    """Slices of x replaced or joined; one item per outer index."""

    takes_epilogue = False
    operands = staticmethod(_operands)

    def accepts(self, node: Node, target: Target) -> bool:
        return True

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        node: Any = group.anchor
        k = AxisKernel(node, node.op.axis)
        x, indices, updates = node.inputs
        b, count, lanes = k.body, indices.shape[0], target.lanes(max(4, x.dtype.bytes))
        with b.loop("outer", L.BEGIN, L.END) as outer:
            _copy(k, outer, k.n * k.inner, lanes)
            with b.loop("i", 0, count) as i:
                place = _place(k, b.load(k.pointers[indices], i), k.n)
                to = b.let("to", k.at(outer, place, L.icon(0)))
                start = b.let("start", k.at(outer, i, L.icon(0), count))

                def update(j: L.Expr, lanes: int, to: L.Expr = to, start: L.Expr = start) -> None:
                    _store(k, to + j, b.load(k.pointers[updates], start + j, lanes), lanes)

                _vector_loop(k, k.inner, lanes, update)
        return k.kernel(k.outer, in_place=_in_place(node))


class Scatter:
    """One element after the other; items are slabs of the first axis unless that is scattered."""

    takes_epilogue = False
    operands = staticmethod(_operands)

    def accepts(self, node: Node, target: Target) -> bool:
        return True

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        node: Any = group.anchor
        k = AxisKernel(node, node.op.axis)
        x, index, _ = node.inputs
        b, lanes = k.body, target.lanes(max(4, x.dtype.bytes))
        slabs = x.shape[0] if k.axis > 0 else 1
        slab = product(x.shape[1:] if k.axis > 0 else x.shape)
        with b.loop("slab", L.BEGIN, L.END) as item:
            _copy(k, item, slab, lanes)
            if k.axis > 0:
                with b.if_(L.compare("lt", item, L.index(index.shape[0]))):
                    self._each(k, [item])
            else:
                self._each(k, [])
        return k.kernel(slabs, in_place=_in_place(node))

    def _each(self, k: AxisKernel, at: list[L.Expr]) -> None:
        """Loops over the axes of the index that ``at`` has no place for."""
        x, index, src = k.node.inputs
        if len(at) < index.rank:
            with k.body.loop("i", 0, index.shape[len(at)]) as i:
                self._each(k, [*at, i])
            return
        raw = k.body.load(k.pointers[index], _linear(at, index.shape))
        place = _place(k, raw, k.n)
        value = k.body.load(k.pointers[src], _linear(at, src.shape))
        target = [place if axis == k.axis else i for axis, i in enumerate(at)]
        _store(k, k.body.let("to", _linear(target, x.shape)), value, 1)


def _linear(at: list[L.Expr], shape: tuple[Size, ...]) -> L.Expr:
    total: L.Expr = L.icon(0)
    for i, n in zip(at, shape):
        total = total * L.index(n) + i
    return total


def _place(k: AxisKernel, raw: L.Expr, n: Size) -> L.Expr:
    """An index wrapped and checked."""
    raw = k.body.let("index", L.cast(L.cast(raw, L.i64), L.index_))
    place = k.body.let("place", L.select(raw < 0, raw + L.index(n), raw))
    outside = L.binary("or", place < 0, L.compare("ge", place, L.index(n)))
    with k.body.if_(outside):
        k.body.returns(L.const(OUT_OF_RANGE, L.i32))
    return place


def _copy(k: AxisKernel, item: L.Expr, size: Size, lanes: int) -> None:
    """Copy slab ``item`` of x, or fill it."""
    x, y = k.node.inputs[0], k.pointers[k.node.output]
    number = number_everywhere(x)
    start = k.body.let("first", item * L.index(size))

    def leaf(j: L.Expr, lanes: int) -> None:
        known = number is not None
        value = L.const(number, x.dtype, lanes) if known else (
            k.body.load(k.pointers[x], start + j, lanes)
        )  # fmt: skip
        k.body.store(y, start + j, value)

    _vector_loop(k, size, lanes, leaf)


def _vector_loop(k: AxisKernel, size: Size, lanes: int, leaf: Any) -> None:
    whole: Size = size // lanes * lanes if lanes > 1 else 0
    if lanes > 1:
        with k.body.loop("j", 0, whole, lanes) as j:
            leaf(j, lanes)
    with k.body.loop("j", whole, size) as j:
        leaf(j, 1)


def _store(k: AxisKernel, to: L.Expr, value: L.Expr, lanes: int) -> None:
    """Replace or join elements of the result."""
    y = k.pointers[k.node.output]
    reduce = k.node.op.reduce  # type: ignore[attr-defined]
    if reduce != "none":
        value = RULES[_JOIN[reduce]](k.body.load(y, to, lanes), value)
    k.body.store(y, to, value)

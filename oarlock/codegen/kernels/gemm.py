"""Makers of ``linear`` and ``matmul``; the loops are in ``gemm_nest``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from oarlock.codegen.fuse import Epilogue, Group
from oarlock.codegen.indexing import Index, Space, broadcast, linear
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels.gemm_nest import GemmNest, Product
from oarlock.codegen.operands import is_dense, memory_of, through_views
from oarlock.codegen.target import Target
from oarlock.ir import Dim, Size, Value
from oarlock.ir.dim import product
from oarlock.ir.graph import Node
from oarlock.ir.types import decode, f32, f64

M, N, K = Dim("_m", 0), Dim("_n", 0), Dim("_k", 0)


class Linear:
    """``x @ w.T + bias``: every axis of x but the last is a row."""

    takes_epilogue = True

    def accepts(self, node: Node, target: Target) -> bool:
        """Floats."""
        return node.output.dtype.is_float

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        x, w, *bias = group.anchor.inputs
        columns, depth = w.shape
        numbers = constant(w)
        found = _bias(bias[0] if bias else None, constant)
        p = Product(
            group.anchor.output, (), x.shape[:-1], columns, depth,
            x, M * depth + K, w, N * depth + K,
            None if numbers is None else np.ascontiguousarray(numbers.T), *found,
        )  # fmt: skip
        return GemmNest(group, target, p).build()


class MatMul:
    """``a @ b``; the rows of a are one axis when b has no batch and a is dense in memory."""

    takes_epilogue = True
    reads_views = True

    def accepts(self, node: Node, target: Target) -> bool:
        """Floats."""
        return node.output.dtype.is_float

    def summed(self, node: Node, target: Target) -> Value | None:
        """The matrix whose columns' sums the kernel of ``node`` can give besides."""
        turned = node.inputs[0].producer
        if turned is None or turned.name != "transpose" or node.output.rank != 2:
            return None
        if _is_known(node.inputs[1]):
            return None
        group = Group("kernel", [node], node, None, (), node.outputs)
        found = turned.inputs[0]
        return found if self._nest(group, target, lambda _: None).can_sum_a else None

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        return self._nest(group, target, constant).build()

    def _nest(self, group: Group, target: Target, constant: ConstantOf) -> GemmNest:
        assert group.anchor is not None
        a, b = group.anchor.inputs
        y = group.anchor.output
        depth, columns, heads = a.shape[-1], b.shape[-1], y.shape[:-2]
        numbers = constant(b)
        is_shared = a.shape[:-2] == heads and all(n == 1 for n in b.shape[:-2])
        if is_shared and is_dense(a):
            batch, rows, left = (), y.shape[:-1], (memory_of(a), M * depth + K)
            numbers = None if numbers is None else numbers.reshape(b.shape[-2:])
        else:
            batch, rows, left = heads, (y.shape[-2],), _place(a, heads, M, K)
        right = _place(b, batch, K, N) if numbers is None else (b, _position(b, batch, K, N))
        p = Product(y, batch, rows, columns, depth, *left, *right, numbers)
        return GemmNest(*_with_bias(group, target, p))


def _is_known(value: Value) -> bool:
    """A view of a weight, whose panels are packed at build time."""
    node = value.producer
    while node is not None and node.op.view:
        node = node.inputs[0].producer
    return node is not None and node.name in ("param", "const")


def _with_bias(group: Group, target: Target, p: Product) -> tuple[Group, Target, Product]:
    """The sums start at a row of f32 or f64 that the epilogue would add first."""
    epilogue = group.epilogue
    if epilogue is None or p.output in epilogue.outputs:
        return group, target, p
    first, *others = [n for n in epilogue.nodes if p.output in n.inputs] or [None]
    if first is None or others or first.name != "add" or first.output.shape != p.output.shape:
        return group, target, p
    row = first.inputs[first.inputs[0] is p.output]
    is_row = row in epilogue.inputs and row.shape == (p.columns,) and row.dtype in (f32, f64)
    if not is_row or p.a.dtype is not row.dtype:
        return group, target, p
    nodes = tuple(n for n in epilogue.nodes if n is not first)
    read = {v for n in nodes for v in n.inputs}
    inputs = tuple(v for v in epilogue.inputs if v in read)
    rest = Epilogue(first.output, nodes, epilogue.outputs, inputs)
    return replace(group, epilogue=rest), target, replace(p, output=first.output, bias=row)


def _place(value: Value, heads: tuple[Size, ...], row: Dim, column: Dim) -> tuple[Value, Size]:
    """The memory of a batched operand and the position of an element in it."""
    space = Space()
    index = tuple(
        space.symbol(next(iter(i.symbols())), n) if isinstance(i, Dim) else i
        for i, n in zip(_symbols(value, heads, row, column), value.shape)
    )
    return through_views(value, index, space)


def _position(value: Value, heads: tuple[Size, ...], row: Dim, column: Dim) -> Size:
    """The position of an element of a batched operand."""
    return linear(_symbols(value, heads, row, column), value.shape)


def _symbols(value: Value, heads: tuple[Size, ...], row: Dim, column: Dim) -> Index:
    """The index of an element: ``_b0, ..`` over the batch, 0 where it is shared."""
    symbols = tuple(0 if n == 1 else Dim(f"_b{i}", 0) for i, n in enumerate(heads))
    shared = (0,) * (value.rank - 2 - len(heads))
    return broadcast((*shared, *symbols, row, column), value.shape)


def _bias(bias: Value | None, constant: ConstantOf) -> tuple[Value | None, np.ndarray | None]:
    numbers = None if bias is None else constant(bias)
    return bias, None if numbers is None or bias is None else decode(numbers, bias.dtype)


__all__ = ["Linear", "MatMul", "product"]

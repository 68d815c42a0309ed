"""Makers of ``linear`` and ``matmul``; the loops are in ``gemm_nest``."""

from __future__ import annotations

import numpy as np

from oarlock.codegen.fuse import Group
from oarlock.codegen.indexing import broadcast, linear
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels.gemm_nest import GemmNest, Product
from oarlock.codegen.target import Target
from oarlock.ir import Dim, Size, Value
from oarlock.ir.dim import product
from oarlock.ir.graph import Node
from oarlock.ir.types import decode

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
    """``a @ b``; the rows of a are one axis when b has no batch."""

    takes_epilogue = True

    def accepts(self, node: Node, target: Target) -> bool:
        """Floats."""
        return node.output.dtype.is_float

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        a, b = group.anchor.inputs
        y = group.anchor.output
        depth, columns = a.shape[-1], b.shape[-1]
        numbers = constant(b)
        heads = y.shape[:-2]
        if a.shape[:-2] == heads and all(n == 1 for n in b.shape[:-2]):
            flat = None if numbers is None else numbers.reshape(b.shape[-2:])  # type: ignore
            p = Product(
                y, (), y.shape[:-1], columns, depth, a, M * depth + K, b, K * columns + N, flat
            )
        else:
            p = Product(
                y, heads, (y.shape[-2],), columns, depth,
                a, _position(a, heads, M, K), b, _position(b, heads, K, N), numbers,
            )  # fmt: skip
        return GemmNest(group, target, p).build()


def _position(value: Value, heads: tuple[Size, ...], row: Dim, column: Dim) -> Size:
    """The position of an element of a batched operand."""
    symbols = tuple(0 if n == 1 else Dim(f"_b{i}", 0) for i, n in enumerate(heads))
    return linear(broadcast((*symbols, row, column), value.shape), value.shape)


def _bias(bias: Value | None, constant: ConstantOf) -> tuple[Value | None, np.ndarray | None]:
    numbers = None if bias is None else constant(bias)
    return bias, None if numbers is None or bias is None else decode(numbers, bias.dtype)


__all__ = ["Linear", "MatMul", "product"]

"""Running sums, products and extremes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oarlock.codegen import loops as L
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels.rows import AxisKernel
from oarlock.codegen.target import Target
from oarlock.ir.graph import Node

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group
    from oarlock.codegen.kernels import ConstantOf

ROWS = 16  # worth a thread


class Scan:
    """cumsum and cumprod: floats are accumulated in double precision."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        return True

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        assert group.anchor is not None
        k = AxisKernel(group.anchor, group.anchor.op.axis)  # type: ignore[attr-defined]
        x, y = k.pointers[k.node.inputs[0]], k.pointers[k.node.output]
        is_sum = k.node.name == "cumsum"
        dtype = L.f64 if x.dtype.is_float else x.dtype
        with k.rows() as (outer, column):
            total = k.body.variable("total", L.const(0 if is_sum else 1, dtype))
            with k.body.loop("i", 0, k.n) as i:
                at = k.body.let("at", k.at(outer, i, column))
                value = L.cast(k.body.load(x, at), dtype)
                k.body.assign(total, total + value if is_sum else total * value)
                k.body.store(y, at, L.cast(total, L.compute_dtype(y.dtype)))
        return k.kernel(k.outer * k.inner, ROWS)


class Extreme:
    """cummax and cummin: a NaN, then a value no worse than the best, takes its place."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        return True

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        assert group.anchor is not None
        k = AxisKernel(group.anchor, group.anchor.op.axis)  # type: ignore[attr-defined]
        x = k.pointers[k.node.inputs[0]]
        values, places = (k.pointers[v] for v in k.node.outputs)
        better = "ge" if k.node.name == "cummax" else "le"
        b = k.body
        with k.rows() as (outer, column), b.if_(L.compare("lt", L.icon(0), L.index(k.n))):
            first = b.load(x, k.at(outer, L.icon(0), column))
            best, where = b.variable("best", first), b.variable("where", L.const(0, L.i64))
            with b.loop("i", 0, k.n) as i:
                at = b.let("at", k.at(outer, i, column))
                value = b.let("value", b.load(x, at))
                takes = L.compare(better, value, best)
                if x.dtype.is_float:
                    takes = L.binary("or", takes, L.compare("ne", value, value))
                with b.if_(takes):
                    b.assign(best, value)
                    b.assign(where, L.cast(i, L.i64))
                b.store(values, at, best)
                b.store(places, at, where)
        return k.kernel(k.outer * k.inner, ROWS)

"""Maximum and average over windows."""

from __future__ import annotations

from oarlock.codegen import loops as L
from oarlock.codegen.fuse import Group
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels.conv_rows import WindowRows
from oarlock.codegen.kernels.conv_window import Axis, Span, axes_of
from oarlock.codegen.target import Target
from oarlock.ir.graph import Node
from oarlock.ir.types import DType


class PoolMaker:
    """Kernels of ``max_pool`` and ``avg_pool``."""

    takes_epilogue = True

    def accepts(self, node: Node, target: Target) -> bool:
        return not node.output.dtype.is_bool

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        node = group.anchor
        assert node is not None
        kind = _Max if node.name == "max_pool" else _Average
        axes = axes_of(node, node.op.kernel)  # type: ignore[attr-defined]
        return kind(group, target, axes, group.reads).kernel()


class _Max(WindowRows):
    def begin(self, span: Span | None) -> L.Expr:
        return L.const(_lowest(self.type.dtype), self.type.dtype)

    def add(self, acc: L.Expr, value: L.Expr, weight: L.Expr | None) -> L.Expr:
        return L.call("maximum", acc, value)


def _lowest(dtype: DType) -> float:
    if dtype.is_float:
        return float("-inf")
    return -(1 << 8 * dtype.bytes - 1) if dtype.is_signed else 0


class _Average(WindowRows):
    def begin(self, span: Span | None) -> L.Expr:
        return L.const(0, self.type.dtype)

    def add(self, acc: L.Expr, value: L.Expr, weight: L.Expr | None) -> L.Expr:
        return acc + value

    def finish(self, acc: L.Expr, count: L.Expr | int) -> L.Expr:
        op = self.node.op
        if op.divisor:  # type: ignore[attr-defined]
            return acc / float(op.divisor)  # type: ignore[attr-defined]
        if op.count_include_pad:  # type: ignore[attr-defined]
            count = self._padded_count()
        number = L.number_of(count) if isinstance(count, L.Expr) else count
        if number is not None:
            return acc / float(number)
        assert isinstance(count, L.Expr)
        return acc / self.body.let("count", L.cast(count, self.type.dtype))

    def _padded_count(self) -> L.Expr:
        """Taps inside of the padded tensor: all but those that ``ceil_mode`` adds."""
        total: L.Expr = L.icon(1)
        for axis, at in zip(self.axes, (*self.rows, self.column)):
            total = total * self._padded_taps(axis, at)
        return total

    def _padded_taps(self, axis: Axis, at) -> L.Expr:
        if not self.node.op.ceil_mode:  # type: ignore[attr-defined]
            return L.icon(axis.kernel)
        room = L.index(axis.size + axis.low + axis.high) - self.e.index(at * axis.stride)
        return L.minimum(room, L.icon(axis.kernel))

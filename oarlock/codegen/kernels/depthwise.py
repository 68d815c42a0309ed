"""Convolutions with one filter per channel; weights lie as [taps, C]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oarlock.codegen import loops as L
from oarlock.codegen.fuse import Group
from oarlock.codegen.indexing import linear
from oarlock.codegen.kernel import Constant, Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels.conv_rows import Taps, WindowRows
from oarlock.codegen.kernels.conv_window import Span, axes_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import Size, product
from oarlock.ir.graph import Node
from oarlock.ir.types import decode


def is_depthwise(node: Node) -> bool:
    """One input channel and one output channel per group."""
    w = node.inputs[1]
    return w.shape[1] == 1 and w.shape[0] == node.op.groups  # type: ignore[attr-defined]


def build(group: Group, target: Target, constant: ConstantOf) -> Kernel:
    """The kernel of a depthwise convolution."""
    node = group.anchor
    assert node is not None
    array = constant(node.inputs[1])
    reads = [v for v in group.reads if array is None or v is not node.inputs[1]]
    return _Depthwise(group, target, reads, array).build()


class _Depthwise(WindowRows):
    def __init__(
        self, group: Group, target: Target, reads: Sequence, array: np.ndarray | None
    ) -> None:
        node = group.anchor
        assert node is not None
        super().__init__(group, target, axes_of(node, node.inputs[1].shape[2:]), reads)
        self.array = array
        self.packed = L.Pointer("weights", self.type.dtype, "constant")
        self.body.reserve("weights")
        self.width = min(8, max(2, target.registers - 2 - self.axes[-1].kernel))

    def build(self) -> Kernel:
        if self.array is None:
            return self.kernel()
        w = self.node.inputs[1]
        numbers = decode(self.array, w.dtype).reshape(w.shape[0], -1).T
        packed = np.ascontiguousarray(numbers, self.type.dtype.numpy)
        return self.kernel([Constant("weights", packed)], [self.packed])

    def begin(self, span: Span | None) -> L.Expr:
        if len(self.node.inputs) == 2:
            return L.const(0, self.type.dtype)
        return self.e.load(self.node.inputs[2], (self._filter,))

    @property
    def _filter(self) -> Size:
        return self.channel if self.is_last else self.outer[1]

    def weights(self, taps: Taps) -> Sequence[L.Expr]:
        kernel = self.axes[-1].kernel
        return [self.body.let("w", self.weight(taps, tap)) for tap in range(kernel)]

    def weight(self, taps: Taps, tap: Size) -> L.Expr:
        shape = tuple(axis.kernel for axis in self.axes)
        at = linear((*taps, tap), shape)
        channels, count = self.y.shape[-1] if self.is_last else self.y.shape[1], product(shape)
        if self.array is None:
            w = self.node.inputs[1]
            stride = L.icon(count)
            place = self.e.index(self._filter * count + at)
            return L.load(self.pointers[w], place, self.lanes, stride)
        return L.load(self.packed, self.e.index(at * channels + self._filter), self.lanes)

    def add(self, acc: L.Expr, value: L.Expr, weight: L.Expr | None) -> L.Expr:
        assert weight is not None
        return acc + value * weight

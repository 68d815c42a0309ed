"""``max_pool_grad``: every window finds its largest element and adds its gradient there.

Items are images, lanes run along the channels.  What is left of a window's gradient goes to the first
element that equals the largest (a NaN equals a NaN), after which nothing is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.fuse import Group
from oarlock.codegen.indexing import strides_of
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels.conv_rows import vector_pieces
from oarlock.codegen.kernels.conv_window import Axis
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import product
from oarlock.ir.graph import Node
from oarlock.ir.types import f32, f64

Span = tuple[L.Expr, L.Expr]


class MaxPoolGradMaker:
    """``max_pool_grad`` with channels last."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        """f32 or f64."""
        op: Any = node.op
        return node.output.dtype in (f32, f64) and op.layout == "NHWC"

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        return _PoolGrad(group.anchor, target).build()


@dataclass
class _PoolGrad:
    """Builds one kernel."""

    node: Node
    target: Target
    body: Body = field(default_factory=Body)

    def __post_init__(self) -> None:
        op: Any = self.node.op
        self.dy, self.x = self.node.inputs
        self.axes = [
            Axis(size, out, k, stride, dilation, low, high)
            for size, out, k, stride, dilation, (low, high) in zip(
                self.x.shape[1:-1], self.dy.shape[1:-1], op.kernel, op.stride, op.dilation,
                op.padding,
            )
        ]  # fmt: skip
        self.steps = strides_of(self.x.shape)
        self.pieces = vector_pieces(self.x.shape[-1], self.target.lanes(self.x.dtype.bytes))

    def build(self) -> Kernel:
        """The kernel."""
        reads, (output,) = tuple(dict.fromkeys(self.node.inputs)), self.node.outputs
        pointers = pointers_of(reads, [output])
        self.from_dy, self.from_x, self.to = pointers[self.dy], pointers[self.x], pointers[output]
        self.body.reserve(*(p.name for p in pointers.values()))
        with self.body.loop("image", L.BEGIN, L.END) as image:
            self._image(image)
        name = kernel_name([self.node])
        function = L.Function(
            name, self.body.statements, tuple(pointers.values()), comment=describe([self.node])
        )
        return Kernel(name, (self.node,), reads, (output,), function, extent=self.x.shape[0])

    def _image(self, image: L.Expr) -> None:
        body, size = self.body, product(self.x.shape[1:])
        start = body.let("start", image * L.index(size))
        for first, stop, lanes in vector_pieces(size, self.target.lanes(self.x.dtype.bytes)):
            with body.loop("i", first, stop, lanes) as i:
                body.store(self.to, start + i, L.const(0, self.x.dtype, lanes))
        self._places([], start, image)

    def _places(self, spans: Sequence[Span], source: L.Expr, place: L.Expr) -> None:
        """Loops over the result's axes; ``source`` is where the window's first tap lies in x."""
        depth = len(spans)
        if depth == len(self.axes):
            self._window(spans, source, place * L.index(self.dy.shape[-1]))
            return
        axis, step = self.axes[depth], L.index(self.steps[1 + depth])
        with self.body.loop("at", 0, axis.out) as at:
            span = axis.taps(self.body, at)
            here = self.body.let("from", source + (at * axis.stride - axis.low) * step)
            row = self.body.let("place", place * L.index(axis.out) + at)
            self._places([*spans, span], here, row)

    def _window(self, spans: Sequence[Span], source: L.Expr, place: L.Expr) -> None:
        body = self.body
        for first, stop, lanes in self.pieces:
            with body.loop("o", first, stop, lanes) as o:
                left = body.variable("left", L.load(self.from_dy, place + o, lanes))
                least = L.const(float("-inf"), self.x.dtype, lanes)
                best = body.variable("best", least)

                def find(at: L.Expr, best=best, lanes=lanes) -> None:
                    value = L.load(self.from_x, at, lanes)
                    body.assign(best, L.call("maximum", best, value))

                def give(at: L.Expr, best=best, left=left, lanes=lanes) -> None:
                    value = body.let("v", L.load(self.from_x, at, lanes))
                    nans = L.binary(
                        "and", L.compare("ne", value, value), L.compare("ne", best, best)
                    )
                    same = body.let("same", L.binary("or", L.compare("eq", value, best), nans))
                    zero = L.const(0, self.x.dtype, lanes)
                    given = L.select(same, left, zero)
                    body.store(self.to, at, L.load(self.to, at, lanes) + given)
                    body.assign(left, L.select(same, zero, left))

                self._taps(spans, source + o, 0, find)
                self._taps(spans, source + o, 0, give)

    def _taps(
        self, spans: Sequence[Span], at: L.Expr, depth: int, leaf: Callable[[L.Expr], None]
    ) -> None:
        """``leaf`` at every tap inside, in order."""
        if depth == len(spans):
            leaf(self.body.let("at", at))
            return
        step = L.index(self.steps[1 + depth] * self.axes[depth].dilation)
        with self.body.loop("k", *spans[depth]) as k:
            self._taps(spans, at + k * step, depth + 1, leaf)

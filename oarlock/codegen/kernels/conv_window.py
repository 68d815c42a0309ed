"""Where sliding windows lie: axes of convolutions and pools, and blocks of their columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.ir.dim import Size, bounds, dim_max, dim_min
from oarlock.ir.graph import Node

Span = tuple[int, int]  # taps [first, stop) of a window that lie inside of the tensor


@dataclass(frozen=True)
class Axis:
    """One spatial axis: output ``at`` reads ``at * stride + tap * dilation - low``."""

    size: Size
    out: Size
    kernel: int
    stride: int = 1
    dilation: int = 1
    low: int = 0
    high: int = 0

    def source(self, at: Size, tap: Size) -> Size:
        """The position that a tap reads."""
        return at * self.stride + tap * self.dilation - self.low

    @property
    def reach(self) -> int:
        """From the first tap to the last."""
        return (self.kernel - 1) * self.dilation

    @property
    def is_inside(self) -> bool:
        """No window leaves the tensor, proven."""
        last = self.source(self.out - 1, self.kernel - 1)
        return self.low <= 0 and bounds(self.size - last)[0] > 0

    @property
    def is_static(self) -> bool:
        return isinstance(self.size, int) and isinstance(self.out, int)

    def span(self, at: int) -> Span:
        """The taps inside at a known position of a static axis."""
        start = at * self.stride - self.low
        first = max(0, -(start // self.dilation))
        stop = min(self.kernel, -((start - int(self.size)) // self.dilation))
        return (first, stop) if first < stop else (0, 0)

    def taps(self, body: Body, at: L.Expr) -> tuple[L.Expr, L.Expr]:
        """The taps inside [first, stop) at a position known at run time; maybe none."""
        if self.is_inside:
            return L.icon(0), L.icon(self.kernel)
        start = body.let("start", at * self.stride - self.low)
        up = self.dilation - 1
        before = L.maximum(L.icon(0) - start, L.icon(0)) + up
        ahead = L.maximum(L.index(self.size) - start, L.icon(0)) + up
        first = L.binary("div", before, L.icon(self.dilation))
        stop = L.minimum(L.binary("div", ahead, L.icon(self.dilation)), L.icon(self.kernel))
        return body.let("first", first), body.let("stop", stop)

    def interior(self) -> tuple[Size, Size]:
        """Positions [first, stop) whose windows lie inside; stop >= first."""
        first = dim_min(max(0, -(-self.low // self.stride)), self.out)
        last = (self.size - 1 - self.reach + self.low) // self.stride
        return first, dim_max(dim_min(last + 1, self.out), first)


@dataclass(frozen=True)
class Block:
    """``repeat`` times ``width`` adjacent columns from ``start``, with the same taps inside."""

    start: int
    width: int
    spans: tuple[Span, ...]
    repeat: int = 1


def blocks(axis: Axis, width: int) -> list[Block]:
    """The columns of a static axis in blocks of about equal width, at most ``width``."""
    out = int(axis.out)
    if out <= 0:
        return []
    count = -(-out // width)
    width = -(-out // count)
    found: list[Block] = []
    for start in range(0, out, width):
        spans = tuple(axis.span(at) for at in range(start, min(start + width, out)))
        last = found[-1] if found else None
        if last is not None and last.spans == spans:
            found[-1] = Block(last.start, last.width, spans, last.repeat + 1)
        else:
            found.append(Block(start, len(spans), spans))
    return found


def spatial(node: Node) -> slice:
    """The spatial axes of the operand and result of a convolution or pool."""
    is_last = node.op.layout == "NHWC"  # type: ignore[attr-defined]
    return slice(1, -1) if is_last else slice(2, None)


def axes_of(node: Node, kernel: Sequence[int]) -> list[Axis]:
    """The spatial axes of a node, outermost first."""
    op = node.op
    where = spatial(node)
    dilation = getattr(op, "dilation", (1,) * len(kernel))
    return [
        Axis(size, out, k, stride, d, low, high)
        for size, out, k, stride, d, (low, high) in zip(
            node.inputs[0].shape[where],
            node.output.shape[where],
            kernel,
            op.stride,  # type: ignore[attr-defined]
            dilation,
            op.padding,  # type: ignore[attr-defined]
        )
    ]

"""``conv_grad_weight`` as a product over places: ``dw[o, (tap, i)] = sum of dy[place, o] window[place,
(tap, i)]``.

Items are (part, group): the places of a part come in chunks, whose windows are copied once for all
panels of columns; dy is read in place.  The sums stay in scratch from the first chunk to the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.fuse import Group
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.conv_window import Axis
from oarlock.codegen.kernels.conv_windows import Windows
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import product
from oarlock.ir.graph import Node
from oarlock.ir.types import f32, f64

CHUNK = 256  # places
WINDOWS = 1 << 16  # elements of the windows of a chunk
LEAST_CHUNK = 32
ALIASING = 2048  # bytes between rows that fall into few sets of the first level cache


class ConvGradWeightMaker:
    """``conv_grad_weight`` with channels last."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        """f32 or f64; several outputs in a group."""
        op: Any = node.op
        is_known = all(isinstance(n, int) and n > 0 for n in op.shape)
        fits = node.output.dtype in (f32, f64) and op.layout == "NHWC"
        return is_known and fits and op.shape[0] > op.groups

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        return _WeightNest(group.anchor, target).build()


@dataclass
class _WeightNest:
    """Builds one kernel."""

    node: Node
    target: Target
    body: Body = field(default_factory=Body)
    helpers: dict[str, L.Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        op: Any = self.node.op
        self.dy, self.x = self.node.inputs
        self.groups, self.parts = op.groups, max(1, op.parts)
        out, channels, *kernel = op.shape
        self.rows, self.channels = out // self.groups, channels
        self.columns = channels * int(product(kernel))
        self.axes = [
            Axis(size, o, k, stride, dilation, low, high)
            for size, o, k, stride, dilation, (low, high) in zip(
                self.x.shape[1:-1], self.dy.shape[1:-1], kernel, op.stride, op.dilation, op.padding
            )
        ]
        micro = M.tile(self.target, self.dy.dtype, self.dy.dtype)
        self.micro = replace(micro, turned=True, strided=True)
        self.heights = M.heights(self.rows, self.micro.rows)
        width = self.micro.columns
        self.panels = -(-self.columns // width)
        self.pitch = self.panels * width
        while self.pitch * self.dy.dtype.bytes % ALIASING == 0:
            self.pitch += max(16, self.micro.lanes)
        self.chunk = max(LEAST_CHUNK, min(CHUNK, WINDOWS // self.pitch))
        self.places = product(self.dy.shape[:-1])

    def build(self) -> Kernel:
        """The kernel."""
        reads, (output,) = tuple(dict.fromkeys(self.node.inputs)), self.node.outputs
        self.pointers, dtype = pointers_of(reads, [output]), self.micro.dtype
        count = self.chunk * self.pitch * dtype.bytes
        self.windows = L.Pointer("windows", dtype, "scratch", True, 0)
        self.sums = L.Pointer("sums", dtype, "scratch", True, count)
        self.body.reserve(*(p.name for p in self.pointers.values()), "windows", "sums")
        self._clear_windows()
        with self.body.loop("item", L.BEGIN, L.END) as item:
            self._item(item)
        name = kernel_name([self.node])
        function = L.Function(
            name, self.body.statements, (*self.pointers.values(), self.windows, self.sums),
            comment=describe([self.node]), helpers=tuple(self.helpers.values()),
        )  # fmt: skip
        scratch = count + self.rows * self.pitch * dtype.bytes
        return Kernel(
            name, (self.node,), reads, (output,), function, extent=self.parts * self.groups,
            scratch_bytes=-(-scratch // 64) * 64,
        )  # fmt: skip

    def _clear_windows(self) -> None:
        """Columns beyond the last one stay 0."""
        if self.columns == self.panels * self.micro.columns:
            return
        rows = self.body.loop("m", 0, self.chunk)
        columns = self.body.loop("n", self.columns, self.panels * self.micro.columns)
        with rows as m, columns as n:
            self.body.store(self.windows, m * self.pitch + n, L.const(0, self.micro.dtype))

    def _item(self, item: L.Expr) -> None:
        body, places = self.body, L.index(self.places)
        part = body.let("part", L.binary("div", item, L.icon(self.groups)))
        g = body.let("g", L.binary("mod", item, L.icon(self.groups)))
        first = body.let("first", L.binary("div", part * places, L.icon(self.parts)))
        last = body.let("last", L.binary("div", (part + 1) * places, L.icon(self.parts)))
        lanes, zero = self.micro.lanes, L.const(0, self.micro.dtype, self.micro.lanes)
        with body.loop("i", 0, self.rows * self.panels * self.micro.columns, lanes) as i:
            body.store(self.sums, i, zero)
        source = self.pointers[self.x]
        windows = Windows(
            body, source, self.x.shape, self.axes, self.dy.shape[:-1], self.channels,
            g * self.channels, lanes,
        )  # fmt: skip
        with body.loop("top", first, last, self.chunk) as top:
            end = body.let("end_at", L.minimum(top + self.chunk, last))
            windows.copy(self.windows, L.icon(self.pitch), top, end)
            self._multiply(g, top, end)
        self._give(part, g)

    def _multiply(self, g: L.Expr, top: L.Expr, end: L.Expr) -> None:
        """A chunk of places, all panels."""
        body, width = self.body, self.micro.columns
        tiles, pitch = -(-self.rows // self.micro.rows), L.icon(self.panels * width)
        stride = L.index(self.dy.shape[-1])
        base = body.let("from", top * stride + g * self.rows)
        loops = body.loop("panel", 0, self.panels), body.loop("tile", 0, tiles)
        with loops[0] as panel, loops[1] as tile:
            row = body.let("row", L.binary("div", tile * self.rows, L.icon(tiles)))
            here = L.binary("div", (tile + 1) * self.rows, L.icon(tiles)) - row
            at = L.Address(self.sums, row * pitch + panel * width)
            arguments = M.Arguments(
                L.Address(self.pointers[self.dy], base + row), stride,
                L.Address(self.windows, panel * width), at, pitch, at, pitch, end - top,
                L.icon(self.pitch),
            )  # fmt: skip
            for helper in M.call(body, self.micro, self.heights, here, arguments):
                self.helpers[helper.name] = helper

    def _give(self, part: L.Expr, g: L.Expr) -> None:
        """The sums of a group to their place in the output."""
        body, width = self.body, self.panels * self.micro.columns
        out = self.pointers[self.node.output]
        start = body.let("start", (part * self.groups + g) * (self.rows * self.columns))
        with body.loop("m", 0, self.rows) as m:
            lanes = self.micro.lanes
            whole = self.columns // lanes * lanes
            for low, high, n in ((0, whole, lanes), (whole, self.columns, 1)):
                if low < high:
                    with body.loop("n", low, high, n) as i:
                        value = L.load(self.sums, m * width + i, n)
                        body.store(out, start + m * self.columns + i, value)

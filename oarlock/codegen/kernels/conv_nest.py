"""Convolution as a product: rows are places of the output, K is (taps, channels).

Channels lie last, so that a window's row of KW * C adjacent elements is copied at once.  The copies
of one block of rows stay in the second level cache while every panel of the weights passes.
Source: K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for
Document Processing" (2006), per block of rows rather than at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.codegen.indexing import strides_of
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.conv_groups import Groups, exact_groups
from oarlock.codegen.kernels.conv_window import Axis
from oarlock.codegen.kernels.gemm_nest import GemmNest, State
from oarlock.ir.dim import evaluate_size, product

WINDOWS = 3, 4  # part of the cache that copied windows fill
LEAST_TILES, MOST_TILES = 4, 32


@dataclass
class ConvNest(GemmNest):
    """The batch of the product is the blocks of groups: ``channels`` of x, columns of y each.

    A block computes ``joined`` groups with weights of 0 between them; see ``exact_groups``.
    """

    axes: Sequence[Axis] = ()
    channels: int = 0
    joined: int = 1
    place: list[L.Expr] = field(default_factory=list)

    @property
    def is_turned(self) -> bool:
        return False

    @property
    def is_cut(self) -> bool:
        return False

    @property
    def blocks_of_channels(self) -> int:
        """How many parts the channels are computed in."""
        return int(product(self.p.batch))

    def _tiles_per_block(self) -> int:
        part, whole = WINDOWS
        tile = self.p.depth * self.micro.dtype.bytes * self.micro.rows
        return self.target.tiles_per_block(-(-tile * whole // part), LEAST_TILES, MOST_TILES)

    def _symbols(self) -> None:
        super()._symbols()
        if self.blocks_of_channels > 1:
            (block,) = self.batch
            self.index = (*self.rows, block * self.p.columns + self.column)

    def _copies_a(self) -> bool:
        plain = all(a.kernel == a.stride == 1 and a.is_inside for a in self.axes)
        return not plain or super()._copies_a()

    # Windows

    def _copy_rows(self, copy: L.Pointer, pitch: L.Expr, top: L.Expr, end: L.Expr) -> None:
        """The windows of rows [top, end)."""
        extents = [L.index(n) for n in self.p.rows]
        with self.body.loop("m", top, end) as m:
            self.place = []
            rest: L.Expr = m
            for k in range(len(extents) - 1, 0, -1):
                self.place.insert(0, self.body.let("o", L.binary("mod", rest, extents[k])))
                rest = self.body.let("rest", L.binary("div", rest, extents[k]))
            to = self.body.let("to", (m - top) * pitch)
            batch = rest * L.index(strides_of(self.p.a.shape)[0])
            self._taps(copy, to, self.body.let("from", batch + self._first_channel()), 0)

    def _first_channel(self) -> L.Expr:
        if self.blocks_of_channels == 1:
            return L.icon(0)
        return self.e.env["_b0"] * self.channels

    def _taps(self, copy: L.Pointer, to: L.Expr, source: L.Expr, depth: int) -> None:
        """Taps of an axis and of those inside it; ``source`` is the position found so far."""
        axis = self.axes[depth]
        if depth == len(self.axes) - 1:
            self._row(copy, to, source, axis)
            return
        stride = L.index(strides_of(self.p.a.shape)[depth + 1])
        run = self.channels * product(a.kernel for a in self.axes[depth + 1 :])
        start = self.body.let("at", self.place[depth] * axis.stride - axis.low)
        with self.body.loop("k", 0, axis.kernel) as k:
            here = self.body.let("to", to + k * run)
            at = self.body.let("at", start + k * axis.dilation)
            if axis.is_inside:
                self._taps(copy, here, self.body.let("from", source + at * stride), depth + 1)
                return
            with self.body.if_(_is_within(at, L.index(axis.size))):
                self._taps(copy, here, self.body.let("from", source + at * stride), depth + 1)
            with self.body.else_():
                self._move(copy, here, None, int(run))

    def _row(self, copy: L.Pointer, to: L.Expr, source: L.Expr, axis: Axis) -> None:
        """The taps of the innermost axis: adjacent when they are not spread."""
        every, c = self.p.a.shape[-1], self.channels
        start = self.body.let("at", self.place[-1] * axis.stride - axis.low)
        base = self.body.let("from", source + start * L.index(every))
        is_run = axis.kernel == 1 or (axis.dilation == 1 and every == c)
        if axis.is_inside:
            self._inner(copy, to, base, axis, is_run)
            return
        last = start + axis.reach
        inside = L.binary("and", L.compare("ge", start, 0), last < L.index(axis.size))
        with self.body.if_(inside):
            self._inner(copy, to, base, axis, is_run)
        with self.body.else_(), self.body.loop("k", 0, axis.kernel) as k:
            at = self.body.let("at", start + k * axis.dilation)
            here = self.body.let("to", to + k * c)
            with self.body.if_(_is_within(at, L.index(axis.size))):
                self._move(copy, here, self.body.let("from", source + at * L.index(every)), c)
            with self.body.else_():
                self._move(copy, here, None, c)

    def _inner(self, copy: L.Pointer, to: L.Expr, base: L.Expr, axis: Axis, is_run: bool) -> None:
        """A row of taps that lie inside."""
        c, step = self.channels, L.index(self.p.a.shape[-1] * axis.dilation)
        if is_run:
            self._move(copy, to, base, axis.kernel * c)
            return
        with self.body.loop("k", 0, axis.kernel) as k:
            at = self.body.let("from", base + k * step)
            self._move(copy, self.body.let("to", to + k * c), at, c)

    def _move(self, copy: L.Pointer, to: L.Expr, base: L.Expr | None, count: int) -> None:
        """``count`` adjacent elements, or zeros; the last vector overlaps the one before."""
        lanes = self.micro.lanes
        while lanes > count:
            lanes //= 2
        lanes = lanes if lanes > 2 else 1
        whole = count // lanes * lanes

        def one(at: L.Expr) -> None:
            source = self.pointers[self.p.a]
            zero = L.const(0, self.micro.dtype, lanes)
            value = zero if base is None else L.load(source, base + at, lanes)
            self.body.store(copy, to + at, value)

        with self.body.loop("i", 0, whole, lanes) as i:
            one(i)
        if whole < count:
            one(L.icon(count - lanes))

    # Blocks of channels

    def _batch_of_b(self) -> L.Expr:
        return self.e.env["_b0"] if self.blocks_of_channels > 1 else L.icon(0)

    _batch_of_bias = _batch_of_b

    def _repair(self, rows: L.Expr, column: L.Expr, given: M.Arguments, micro: M.Micro) -> None:
        if self.joined == 1:
            return
        columns = evaluate_size(self.p.columns, {})
        taps = int(product(axis.kernel for axis in self.axes))
        shape = Groups(self.joined, self.channels // self.joined, columns // self.joined, taps)
        helper = exact_groups(micro, shape)
        self.helpers[helper.name] = helper
        count = L.minimum(L.icon(micro.columns), L.icon(columns) - column)
        operands = (given.a, given.a_stride, given.b, given.start, given.c, given.c_stride)
        self.body.call(helper.name, *operands, rows, column, count)

    def _target(
        self, state: State, row: L.Expr, column: L.Expr, micro: M.Micro
    ) -> tuple[L.Address, L.Expr]:
        address, stride = super()._target(state, row, column, micro)
        if self.blocks_of_channels == 1 or address.pointer is self.tile:
            return address, stride
        width = L.index(self.p.output.shape[-1])
        first = self.e.env["_b0"] * L.index(self.p.columns) + column
        return L.Address(address.pointer, row * width + first), width


def _is_within(at: L.Expr, size: L.Expr) -> L.Expr:
    return L.binary("and", L.compare("ge", at, 0), at < size)

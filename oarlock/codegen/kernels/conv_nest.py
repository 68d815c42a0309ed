"""Convolution as a product: rows are places of the output, K is (taps, channels).

Channels lie last, so that a window's row of KW * C adjacent elements is copied at once.  The copies
of one block of rows stay in the second level cache while every panel of the weights passes.
Source: K. Chellapilla, S. Puri, P. Simard, "High Performance Convolutional Neural Networks for
Document Processing" (2006), per block of rows rather than at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oarlock.codegen import loops as L
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.conv_groups import Groups, exact_groups
from oarlock.codegen.kernels.conv_window import Axis
from oarlock.codegen.kernels.conv_windows import Windows
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
        first = self._batch_of_b() * self.channels
        source = self.pointers[self.p.a]
        windows = Windows(
            self.body, source, self.p.a.shape, self.axes, self.p.rows, self.channels, first,
            self.micro.lanes,
        )  # fmt: skip
        windows.copy(copy, pitch, top, end)

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

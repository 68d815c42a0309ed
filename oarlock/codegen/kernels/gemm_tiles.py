"""Where tiles of a product are stored, and the epilogue over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.domain import loads_below
from oarlock.codegen.emitter import Emitter, output_indices
from oarlock.codegen.fuse import Epilogue
from oarlock.codegen.indexing import Index, Space, linear
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.gemm_blocking import Blocking
from oarlock.ir.dim import Dim, Size
from oarlock.ir.graph import Value


@dataclass
class State:
    """Names inside the loop over items."""

    block: L.Expr
    panel: L.Expr
    batch: list[L.Expr]
    a: L.Address
    a_stride: L.Expr
    begin: L.Expr | None = None
    end: L.Expr | None = None


class Tiles(Blocking):
    """The end of a tile: stored as it is, or through the epilogue."""

    body: Body
    e: Emitter
    epilogue: Epilogue
    pointers: dict[Value, L.Pointer]
    extra: list[L.Pointer]
    batch: list[Size]
    rows: list[Size]
    index: Index
    tile: L.Pointer
    clipped: bool
    flat: bool

    def _pointer(self, name: str) -> L.Pointer:
        return next(p for p in self.extra if p.name == name)

    def _target(
        self, state: State, row: L.Expr, column: L.Expr, micro: M.Micro
    ) -> tuple[L.Address, L.Expr]:
        """Where the micro-kernel stores: the output itself, or a tile for the epilogue."""
        p, (value, *more) = self.p, self.epilogue.outputs
        plain = not (more or self.epilogue.nodes or self.clipped) and value is p.output
        if not plain or p.output.dtype is not self.micro.dtype:
            return self._tile(state, row, micro)
        matrix = self.e.index(linear((*self.batch, 0, 0), (*p.batch, p.height, p.columns)))
        place = matrix + row * L.index(p.columns) + column
        return L.Address(self.pointers[p.output], place), L.index(p.columns)

    def _tile(self, state: State, row: L.Expr, micro: M.Micro) -> tuple[L.Address, L.Expr]:
        """A tile for the epilogue; one of all that an item has when K is cut."""
        if not self.is_cut:
            return L.Address(self.tile, L.icon(0)), L.icon(micro.columns)
        assert state.begin is not None
        width = L.icon(self.micro.columns)
        block = (state.panel - state.begin) * L.index(self._block_rows())
        return L.Address(self._pointer("sums"), (block + row - state.block) * width), width

    def _finish(
        self, row: L.Expr, rows: L.Expr, column: L.Expr, micro: M.Micro, clip: Size | None,
        tile: L.Address, pitch: L.Expr,
    ) -> None:  # fmt: skip
        """The epilogue over a tile in the first level cache."""
        with self.body.loop("r", 0, rows) as r:
            self._bind_rows(row + r)
            base = L.Address(tile.pointer, self.body.let("base", tile.index + r * pitch))
            if clip is None:
                self._run(base, column, L.icon(0), L.icon(micro.columns), micro.lanes)
                return
            count = self.body.let("count", L.minimum(L.icon(micro.columns), L.index(clip) - column))
            lanes = micro.lanes
            whole = self.body.let("whole", L.binary("div", count, L.icon(lanes)) * lanes)
            if lanes > 1:
                self._run(base, column, L.icon(0), whole, lanes)
            self._run(base, column, whole if lanes > 1 else L.icon(0), count, 1)

    def _run(
        self, base: L.Address, column: L.Expr, first: L.Expr, stop: L.Expr, lanes: int
    ) -> None:
        """Columns [first, stop) of a row of the tile."""
        e = self.e
        with self.body.loop("j", first, stop, lanes) as j:
            e.bind_symbol("_n", self.body.let("n", column + j))
            e.vectorise("_n", lanes)
            acc = self.body.let("acc", L.load(base.pointer, base.index + j, lanes))
            for value, index, expr in e.epilogue(self.epilogue, acc, self.index):
                e.store(value, index, expr)

    def _bind_rows(self, row: L.Expr) -> None:
        """The symbols of the rows' axes."""
        live = [(r, n) for r, n in zip(self.rows, self.p.rows) if isinstance(r, Dim)]
        rest = self.body.let("at", row)
        for k in range(len(live) - 1, -1, -1):
            symbol, extent = live[k]
            if self.flat:
                self.e.bind_symbol(symbol.name, rest if k == len(live) - 1 else L.icon(0))
                continue
            at = rest if k == 0 else self.body.let("i", L.binary("mod", rest, L.index(extent)))
            self.e.bind_symbol(symbol.name, at)
            if k:
                rest = self.body.let("rest", L.binary("div", rest, L.index(extent)))


def is_flat(epilogue: Epilogue, index: Index, rows: Sequence[Dim], space: Space) -> bool:
    """Every position moves evenly through the rows' axes as through one."""
    if len(rows) < 2:
        return True
    places = output_indices(epilogue.anchor, epilogue.nodes, index, space)
    positions = [linear(places[v], v.shape) for v in epilogue.outputs]
    nodes, held = set(epilogue.nodes), {epilogue.anchor}
    for value in epilogue.outputs:
        found = loads_below(value, places[value], nodes, space, held)
        positions += [at for v, at, _ in found if v is not epilogue.anchor]
    for outer, inner in pairwise(rows):
        for at in positions:
            a, b = L.stride_of(at, outer.name), L.stride_of(at, inner.name)
            if a is None or b is None or a != b * space.extents[inner.name]:
                return False
    return True

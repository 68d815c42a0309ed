"""Loops around the micro-kernel: blocks for the caches, threads, packing, the epilogue.

Items are (batch, block of rows, panel of columns), panels innermost: a block of A stays in the second
level cache while the panels of B pass through it; within an item, tiles of rows pass by one panel.
Rows are cut into tiles of nearly equal height, so that no tile is much smaller than the others.
K is not cut when B was packed at build time: at one row of B per 14 rows of A, a core asks the caches
for a few bytes per cycle.  A deep B that is packed at run time goes by chunks of K, for a few panels
at once, whose sums lie in the output or in scratch from one chunk to the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.emitter import Emitter
from oarlock.codegen.fuse import Epilogue, Group
from oarlock.codegen.indexing import Index, Space
from oarlock.codegen.inplace import in_epilogue
from oarlock.codegen.kernel import Constant, Kernel
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.gemm_blocking import Product
from oarlock.codegen.kernels.gemm_tiles import State, Tiles, is_flat
from oarlock.codegen.kernels.panels import Panels
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import Dim, Size, evaluate_size, product, substitute_size


@dataclass
class GemmNest(Tiles):
    """Builds one kernel."""

    group: Group
    target: Target
    p: Product
    body: Body = field(default_factory=Body)
    helpers: dict[str, L.Function] = field(default_factory=dict)
    scratch: Size = 0

    def __post_init__(self) -> None:
        p = self.p
        weights = p.a.dtype if p.packed is not None else L.compute_dtype(p.a.dtype)
        self.micro = self._choose_micro(weights)
        epilogue = self.group.epilogue
        self.epilogue = epilogue or Epilogue(p.output, (), (p.output,), ())
        self.reads = tuple(dict.fromkeys([*p.reads(), *self.epilogue.inputs]))
        self.pointers = pointers_of(self.reads, self.group.writes)
        self.e = Emitter(self.body, self.pointers)
        self.extra: list[L.Pointer] = []
        self.constants: list[Constant] = []
        self.tiles: Size = -(-p.height // self.micro.rows)
        self.blocks: Size = -(-self.tiles // self._tiles_per_block())
        self.panels: Size = -(-p.columns // self.micro.columns)
        self.heights = M.heights(p.height, self.micro.rows)
        self.span = self._span()
        self.stage = "all"
        self.count: L.Expr = L.icon(1)

    def build(self) -> Kernel:
        """The kernel."""
        assert self.group.sums is None or self.can_sum_a, "the group was made for such a kernel"
        self._symbols()
        self._prepare()
        items = product((*self.p.batch, self.blocks, -(-self.panels // self.span)))
        self.seen = self.body.variable("seen", L.icon(-1)) if self._copies_a() else None
        self._items()
        nodes, name = self.group.nodes, kernel_name(self.group.nodes)
        function = L.Function(
            name,
            self.body.statements,
            (*self.pointers.values(), *self.extra),
            comment=describe(nodes),
            helpers=tuple(self.helpers.values()),
        )
        return Kernel(
            name,
            tuple(nodes),
            self.reads,
            tuple(self.group.writes),
            function,
            tuple(self.constants),
            items,
            self._grain(items),
            self.scratch,
            in_place=in_epilogue(self.group),
        )

    # Before the loop over items

    def _symbols(self) -> None:
        """Symbols of the output's index; rows are one loop where the epilogue allows."""
        p, space = self.p, self.e.space
        self.batch = [_symbol(space, f"_b{i}", n) for i, n in enumerate(p.batch)]
        self.rows = [_symbol(space, f"_r{i}", n) for i, n in enumerate(p.rows)]
        self.column = space.symbol("_n", p.columns)
        self.index: Index = (*self.batch, *self.rows, self.column)
        live = [r for r in self.rows if isinstance(r, Dim)]
        self.flat = is_flat(self.epilogue, self.index, live, space)

    def _prepare(self) -> None:
        """Constants and scratch."""
        p = self.p
        if p.packed is not None:
            self._constant("packed", M.pack(p.packed, self.micro), p.b.dtype)
        elif not self.micro.strided:
            self._scratch("panel", self.micro.columns * (self.chunk if self.is_cut else p.depth))
        if self.is_cut:
            self._scratch("sums", self._block_rows() * self.micro.columns * self._joined())
        if p.bias_numbers is not None:
            width = evaluate_size(self.panels, {}) * self.micro.columns
            row = np.zeros((*p.bias_numbers.shape[:-1], width), self.micro.dtype.numpy)
            row[..., : p.bias_numbers.shape[-1]] = p.bias_numbers
            self._constant("bias", row, self.micro.dtype)
        if self._copies_a():
            self._scratch("rows", self._block_rows() * self._copy_stride())
        self.tile = self.body.array(
            "tile", self.micro.dtype, max(self.heights) * self.micro.columns
        )
        self.zeros = L.Pointer("zeros", self.micro.dtype, "local")
        if p.bias is None:
            count = self.micro.columns
            self.body.add(L.DeclareArray(self.zeros, count, (0,) * count))
        elif p.bias_numbers is None:
            self.local_bias = self.body.array("start", self.micro.dtype, self.micro.columns)

    def _constant(self, name: str, array: np.ndarray, dtype: L.DType) -> None:
        self.extra.append(L.Pointer(name, dtype, "constant"))
        self.constants.append(Constant(name, array))

    def _scratch(self, name: str, count: Size) -> None:
        pointer = L.Pointer(name, self.micro.dtype, "scratch", True, self.scratch)
        self.extra.append(pointer)
        self.scratch = self.scratch + -(-count * self.micro.dtype.bytes // 64) * 64

    # Items

    def _items(self) -> None:
        """Those that follow one another in a block are joined where that saves reading A."""
        if self._joined() == self.span:
            with self.body.loop("item", L.BEGIN, L.END) as item:
                self._item(item)
            return
        todo = self.body.variable("todo", L.BEGIN)
        spans = L.index(-(-self.panels // self.span))
        with (
            self.body.loop("item", L.BEGIN, L.END) as item,
            self.body.if_(L.compare("eq", item, todo)),
        ):
            stop = L.minimum(item - L.binary("mod", item, spans) + spans, L.END)
            stop = L.minimum(stop, item + self._joined() // self.span)
            self.count = self.body.let("count", stop - item)
            self.body.assign(todo, item + self.count)
            self._item(item)

    def _item(self, item: L.Expr) -> None:
        body = self.body
        panels, blocks = L.index(-(-self.panels // self.span)), L.index(self.blocks)
        panel = body.let("panel_at", L.binary("mod", item, panels))
        rest = body.let("place", L.binary("div", item, panels))
        block = body.let("block", L.binary("mod", rest, blocks) if self.p.batch else rest)
        batch = self._bind_batch(L.binary("div", rest, blocks))
        first, last = (self._tile_of(block + i) for i in (0, 1))
        first, last = body.let("first", first), body.let("last", last)
        start = body.let("top", self._row_of(first))
        a, stride = self._left(rest, start, last)
        state = State(start, panel, batch, a, stride)
        if self.is_cut:
            self._chunks(state, first, last)
        else:
            self._columns(state, first, last)

    def _chunks(self, state: State, first: L.Expr, last: L.Expr) -> None:
        """A few panels: the chunks of K, the epilogue."""
        body = self.body
        begin = body.let("first_panel", state.panel * self.span)
        here = self.count * self.span
        end = body.let("last_panel", L.minimum(begin + here, L.index(self.panels)))

        def every(stage: str) -> None:
            self.stage = stage
            with body.loop("panel_at", begin, end) as panel:
                here = replace(state, panel=panel, begin=begin, end=end)
                self._columns(here, first, last)

        if self.group.sums is not None:
            self._clear_sums(state, begin, first, last)
        with body.loop("k0", 0, self.p.depth, self.chunk) as k0:
            count = L.minimum(L.icon(self.chunk), L.index(self.p.depth) - k0)
            self.k = k0, body.let("count", count)
            every("add")
        every("finish")

    def _bind_batch(self, rest: L.Expr) -> list[L.Expr]:
        found = []
        for k in range(len(self.batch) - 1, -1, -1):
            symbol, extent = self.batch[k], L.index(self.p.batch[k])
            if not isinstance(symbol, Dim):
                continue
            at = self.body.let(f"i{k}", L.binary("mod", rest, extent))
            self.e.bind_symbol(symbol.name, at)
            found.append(at)
            if k:
                rest = self.body.let("outer", L.binary("div", rest, extent))
        return found

    def _tile_of(self, block: L.Expr) -> L.Expr:
        """The first tile of a block: blocks are nearly equal."""
        if self.blocks == 1:
            return L.icon(0) if L.number_of(block) == 0 else block * L.index(self.tiles)
        return L.binary("div", block * L.index(self.tiles), L.index(self.blocks))

    def _row_of(self, tile: L.Expr) -> L.Expr:
        return L.binary("div", tile * L.index(self.p.height), L.index(self.tiles))

    def _at(self, size: Size) -> L.Expr:
        """A position at m = n = k = 0."""
        rest = substitute_size(size, {"_m": 0, "_n": 0, "_k": 0})
        return self.e.index(rest)

    # Operands

    def _left(self, place: L.Expr, top: L.Expr, last: L.Expr) -> tuple[L.Address, L.Expr]:
        """Row 0 of A, and the stride between rows; copied once per block."""
        p, source = self.p, self.pointers[self.p.a]
        stride = L.stride_of(p.a_at, "_k" if self.micro.turned else "_m")
        if self.seen is None:
            assert stride is not None
            return L.Address(source, self._at(p.a_at)), L.index(stride)
        copy, pitch = self._pointer("rows"), L.index(self._copy_stride())
        with self.body.if_(L.compare("ne", self.seen, place)):
            self.body.assign(self.seen, place)
            self._copy_rows(copy, pitch, top, self._row_of(last))
        return L.Address(copy, L.icon(0) - top * pitch), pitch

    def _copy_rows(self, copy: L.Pointer, pitch: L.Expr, top: L.Expr, end: L.Expr) -> None:
        """Rows [top, end) of A, converted."""
        p, lanes = self.p, self.micro.lanes
        with self.body.loop("m", top, end) as m:
            env = {**self.e.env, "_m": m}
            to = self.body.let("to", (m - top) * pitch)
            self._copy_vectors(copy, to, p.a_at, env, "_k", p.depth, lanes)

    def _copy_vectors(
        self,
        copy: L.Pointer,
        to: L.Expr,
        at: Size,
        env: dict[str, L.Expr],
        name: str,
        extent: Size,
        lanes: int,
    ) -> None:
        """``copy[to + i] = source[at]`` for every value i of symbol ``name``."""
        source = self.pointers[self.p.a]
        step = L.stride_of(at, name)
        whole = extent // lanes * lanes
        if step is None or lanes == 1:
            lanes, whole = 1, 0
        for first, stop, width in ((0, whole, lanes), (whole, extent, 1)):
            if first == stop:
                continue
            with self.body.loop("k", first, stop, width) as k:
                place = L.index(at, {**env, name: k})
                stride = L.index(step) if step is not None else None
                self.body.store(copy, to + k, L.load(source, place, width, stride))

    def _right(self, state: State, micro: M.Micro) -> L.Address:
        """A panel of B, packed here unless it was at build time."""
        p = self.p
        if p.packed is not None:
            per_batch = p.depth * _packed_width(p.columns, micro, self.micro)
            base = L.index(p.depth * self.micro.columns) * state.panel
            if p.packed.ndim > 2:
                base = base + self._batch_of_b() * L.index(per_batch)
            return L.Address(self._pointer("packed"), base)
        if micro.strided:
            env = {**self.e.env, "_k": L.icon(0), "_n": state.panel * micro.columns}
            return L.Address(self.pointers[p.b], self.body.let("from", L.index(p.b_at, env)))
        self._pack_panel(state, micro)
        return L.Address(self._pointer("panel"), L.icon(0))

    def _batch_of_b(self) -> L.Expr:
        """The number of the matrix of a constant b."""
        matrix = self.p.b.shape[-2] * self.p.b.shape[-1]
        return L.binary("div", self._at(self.p.b_at), L.index(matrix))

    def _pack_panel(self, state: State, micro: M.Micro) -> None:
        """Columns of B into scratch."""
        p = self.p
        panels = Panels(self.body, self.helpers, self.pointers[p.b], p.b_at, p.columns)
        first, count = self.k if self.is_cut else (L.icon(0), L.index(p.depth))
        column = self.body.let("at", state.panel * self.micro.columns)
        to = L.Address(self._pointer("panel"), L.icon(0))
        panels.pack(to, micro, self.e.env, column, first, count, self.clipped)

    def _fetch_next(self, state: State, part: L.Expr, parts: L.Expr) -> None:
        """Ask for a part of the panel that is packed after this one: of the next chunk of K after
        the last of an item."""
        p, panel = self.p, state.panel + 1
        first, count = L.icon(0), L.index(p.depth)
        if self.is_cut:
            assert state.begin is not None and state.end is not None
            (first, count), is_last = self.k, L.compare("ge", panel, state.end)
            first = self.body.let("k_next", L.select(is_last, first + self.chunk, first))
            panel = self.body.let("panel_next", L.select(is_last, state.begin, panel))
        panels = Panels(self.body, self.helpers, self.pointers[p.b], p.b_at, p.columns)
        column = self.body.let("column_next", panel * self.micro.columns)
        panels.fetch(self.e.env, column, self.micro.columns, first, count, part, parts)

    # Columns and tiles

    def _columns(self, state: State, first: L.Expr, last: L.Expr) -> None:
        """The tiles of an item; the last panel is narrower."""
        n, width = self.p.columns, self.micro.columns
        if not isinstance(n, int):
            self._tiles(state, self.micro, first, last, n - 0)
            return
        whole, rest = n // width, n % width
        if not rest:
            self._tiles(state, self.micro, first, last)
        elif not whole:
            self._tiles(state, self.micro.narrow(rest), first, last, n)
        else:
            with self.body.if_(state.panel < whole):
                self._tiles(state, self.micro, first, last)
            with self.body.else_():
                self._tiles(state, self.micro.narrow(rest), first, last, n)

    def _tiles(
        self,
        state: State,
        micro: M.Micro,
        first: L.Expr,
        last: L.Expr,
        clip: Size | None = None,
    ) -> None:
        """``clip``: the panel may reach beyond this many columns."""
        self.clipped = clip is not None
        body = self.body
        column = body.let("column", state.panel * self.micro.columns)
        if self.stage != "finish":
            b, start = self._right(state, micro), self._start(state, self.clipped)
        with body.loop("t", first, last) as t:
            if self.stage != "finish" and self.fetches_b:
                self._fetch_next(state, t - first, last - first)
            row = body.let("row", self._row_of(t))
            rows = body.let("rows_here", self._row_of(t + 1) - row)
            c, stride = self._target(state, row, column, micro)
            if self.stage != "finish":
                self._multiply(state, micro, b, start, (row, rows, column), (c, stride))
            if self.stage != "add" and c.pointer is not self.pointers.get(self.p.output):
                self._finish(row, rows, column, micro, clip, c, stride)

    def _multiply(
        self, state: State, micro: M.Micro, b: L.Address, start: L.Address,
        place: tuple[L.Expr, L.Expr, L.Expr], target: tuple[L.Address, L.Expr],
    ) -> None:  # fmt: skip
        """One tile: over all of K, or a chunk of it, added to the sums so far from the second on."""
        (row, rows, column), (c, stride) = place, target
        k0, count = self.k if self.is_cut else (L.icon(0), L.index(self.p.depth))
        at = row + k0 * state.a_stride if micro.turned else row * state.a_stride + k0
        a = L.Address(state.a.pointer, state.a.index + at)
        pitch = L.index(L.stride_of(self.p.b_at, "_k") or 0) if micro.strided else None
        if self.is_far and c.pointer is self.pointers.get(self.p.output):
            micro = replace(micro, far=True)
        begin = start, L.icon(0)
        arguments = M.Arguments(a, state.a_stride, b, *begin, c, stride, count, pitch)
        if not self.is_cut:
            self._sum(state, micro, row, rows, arguments)
        else:
            with self.body.if_(L.compare("eq", k0, 0)):
                self._sum(state, micro, row, rows, arguments)
            with self.body.else_():
                more = replace(arguments, start=c, start_stride=stride)
                self._sum(state, micro, row, rows, more)
        self._repair(rows, column, arguments, micro)

    def _sum(
        self, state: State, micro: M.Micro, row: L.Expr, rows: L.Expr, arguments: M.Arguments
    ) -> None:
        """The micro-kernel of a tile, for the first panel that which sums A besides."""
        if self.group.sums is None or self.clipped:
            self._call(micro, rows, arguments)
            return
        sums = L.Address(self.pointers[self.group.sums.output], row)
        with self.body.if_(L.compare("eq", state.panel, 0)):
            self._call(replace(micro, summing=True), rows, replace(arguments, sums=sums))
        with self.body.else_():
            self._call(micro, rows, arguments)

    def _call(self, micro: M.Micro, rows: L.Expr, arguments: M.Arguments) -> None:
        for helper in M.call(self.body, micro, self.heights, rows, arguments):
            self.helpers[helper.name] = helper

    def _clear_sums(self, state: State, begin: L.Expr, first: L.Expr, last: L.Expr) -> None:
        """The sums of A's columns are those of the first panel's passes."""
        assert self.group.sums is not None
        pointer = self.pointers[self.group.sums.output]
        with (
            self.body.if_(L.compare("eq", begin, 0)),
            self.body.loop("m", self._row_of(first), self._row_of(last)) as m,
        ):
            self.body.store(pointer, m, L.const(0, pointer.dtype))

    def _repair(self, rows: L.Expr, column: L.Expr, given: M.Arguments, micro: M.Micro) -> None:
        """What must be done to a tile before its epilogue."""

    def _start(self, state: State, is_clipped: bool) -> L.Address:
        """The first values of the sums."""
        p, width = self.p, self.micro.columns
        if p.bias is None:
            return L.Address(self.zeros, L.icon(0))
        if p.bias_numbers is not None:
            first = self._batch_of_bias() * (L.index(self.panels) * width)
            return L.Address(self._pointer("bias"), first + state.panel * width)
        source, column = self.pointers[p.bias], state.panel * width
        count = L.minimum(L.icon(width), L.index(p.columns) - column)
        column = column + self._batch_of_bias() * L.index(p.columns)
        with self.body.loop("i", L.icon(0), count) as i:
            self.body.store(self.local_bias, i, L.load(source, column + i))
        if is_clipped:
            with self.body.loop("i", count, width) as i:
                self.body.store(self.local_bias, i, L.const(0, self.micro.dtype))
        return L.Address(self.local_bias, L.icon(0))

    def _batch_of_bias(self) -> L.Expr:
        """The number of the row of the bias, when it has one for each product."""
        return L.icon(0)


def _symbol(space: Space, name: str, extent: Size) -> Size:
    return 0 if extent == 1 else space.symbol(name, extent)


def _packed_width(columns: Size, narrow: M.Micro, full: M.Micro) -> int:
    """Columns of a constant b with its last panel."""
    assert isinstance(columns, int), "a constant has a fixed shape"
    whole, rest = columns // full.columns, columns % full.columns
    return whole * full.columns + (full.narrow(rest).columns if rest else 0)

"""Loops around the micro-kernel: blocks for the caches, threads, packing, the epilogue.

Items are (batch, block of rows, panel of columns), panels innermost: a block of A stays in the second
level cache while the panels of B pass through it; within an item, tiles of rows pass by one panel.
Rows are cut into tiles of nearly equal height, so that no tile is much smaller than the others, and
K is never cut: at one row of B per 14 rows of A, a core asks the caches for a few bytes per cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.domain import loads_below
from oarlock.codegen.emitter import Emitter, output_indices
from oarlock.codegen.fuse import Epilogue, Group
from oarlock.codegen.indexing import Index, Space, linear
from oarlock.codegen.inplace import in_epilogue
from oarlock.codegen.kernel import Constant, Kernel
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import Dim, Size, bounds, dim_min, evaluate_size, product, substitute_size
from oarlock.ir.graph import Value

LEAST_TILES, MOST_TILES = 10, 32  # in a block of rows
ALIASING = 4096  # bytes between rows that fall into one set of the first level cache
FEW_ROWS = 6  # that do not hurt then
PACK_DEPTH = 128  # rows of a panel that stay in the first level cache while they are transposed
THREAD_WORK = 1 << 19  # multiply-adds worth a thread
LIKELY = 256  # a symbolic size


@dataclass
class Product:
    """``output[batch, rows, n] = sum over k of a * b + bias``.

    ``rows`` are axes of the output that are one axis of the product.  ``a_at`` and ``b_at`` are the
    positions of a and b over the symbols ``_b0 .. _m _n _k``.  ``packed`` is b [.., K, N] when it is
    known at build time, ``bias`` [.., N] likewise.
    """

    output: Value
    batch: tuple[Size, ...]
    rows: tuple[Size, ...]
    columns: Size
    depth: Size
    a: Value
    a_at: Size
    b: Value
    b_at: Size
    packed: np.ndarray | None = None
    bias: Value | None = None
    bias_numbers: np.ndarray | None = None

    @property
    def height(self) -> Size:
        """M."""
        return product(self.rows)

    def reads(self) -> list[Value]:
        """What must be in memory besides the operands of the epilogue."""
        found = [self.a] if self.packed is not None else [self.a, self.b]
        return found + ([self.bias] if self.bias is not None and self.bias_numbers is None else [])


@dataclass
class State:
    """Names inside the loop over items."""

    block: L.Expr
    panel: L.Expr
    batch: list[L.Expr]
    a: L.Address
    a_stride: L.Expr


@dataclass
class GemmNest:
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
        self.micro = M.tile(self.target, p.a.dtype, weights)
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

    def build(self) -> Kernel:
        """The kernel."""
        self._symbols()
        self._prepare()
        items = product((*self.p.batch, self.blocks, self.panels))
        self.seen = self.body.variable("seen", L.icon(-1)) if self._copies_a() else None
        with self.body.loop("item", L.BEGIN, L.END) as item:
            self._item(item)
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

    # Sizes

    def _tiles_per_block(self) -> int:
        tile = _likely(self.p.depth) * self.micro.dtype.bytes * self.micro.rows
        return self.target.tiles_per_block(tile, LEAST_TILES, MOST_TILES)

    def _grain(self, items: Size) -> int:
        p = self.p
        work = _likely(p.height) * _likely(p.columns) * _likely(p.depth) * _likely(product(p.batch))
        return max(1, THREAD_WORK * max(1, _likely(items)) // max(1, work))

    def _block_rows(self) -> Size:
        """The most rows of a block."""
        return dim_min(self.p.height, (self._tiles_per_block() + 1) * self.micro.rows)

    # Before the loop over items

    def _symbols(self) -> None:
        """Symbols of the output's index; rows are one loop where the epilogue allows."""
        p, space = self.p, self.e.space
        self.batch = [_symbol(space, f"_b{i}", n) for i, n in enumerate(p.batch)]
        self.rows = [_symbol(space, f"_r{i}", n) for i, n in enumerate(p.rows)]
        self.column = space.symbol("_n", p.columns)
        self.index: Index = (*self.batch, *self.rows, self.column)
        live = [r for r in self.rows if isinstance(r, Dim)]
        self.flat = _is_flat(self.epilogue, self.index, live, space)

    def _prepare(self) -> None:
        """Constants and scratch."""
        p = self.p
        if p.packed is not None:
            self._constant("packed", M.pack(p.packed, self.micro), p.b.dtype)
        else:
            self._scratch("panel", self.micro.columns * p.depth)
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

    def _pointer(self, name: str) -> L.Pointer:
        return next(p for p in self.extra if p.name == name)

    def _copies_a(self) -> bool:
        """A is copied: it is narrow, its rows are not adjacent elements, or they evict each other."""
        p = self.p
        step, stride = L.stride_of(p.a_at, "_k"), L.stride_of(p.a_at, "_m")
        if p.a.dtype is not self.micro.dtype or step != 1 or stride is None:
            return True
        few = isinstance(p.height, int) and p.height <= FEW_ROWS
        aliases = isinstance(stride, int) and stride * p.a.dtype.bytes % ALIASING == 0
        return aliases and not few

    def _copy_stride(self) -> Size:
        """Elements between copied rows: a vector more than a multiple of vectors, if there are any."""
        if self.micro.lanes == 1:
            return self.p.depth
        lanes = max(16, self.micro.lanes)
        return -(-self.p.depth // lanes) * lanes + lanes

    # Items

    def _item(self, item: L.Expr) -> None:
        body = self.body
        panels, blocks = L.index(self.panels), L.index(self.blocks)
        panel = body.let("panel_at", L.binary("mod", item, panels))
        rest = body.let("place", L.binary("div", item, panels))
        block = body.let("block", L.binary("mod", rest, blocks) if self.p.batch else rest)
        batch = self._bind_batch(L.binary("div", rest, blocks))
        first, last = (self._tile_of(block + i) for i in (0, 1))
        first, last = body.let("first", first), body.let("last", last)
        start = body.let("top", self._row_of(first))
        a, stride = self._left(rest, start, last)
        state = State(start, panel, batch, a, stride)
        self._columns(state, first, last)

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
        stride = L.stride_of(p.a_at, "_m")
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
        self._pack_panel(state, micro)
        return L.Address(self._pointer("panel"), L.icon(0))

    def _batch_of_b(self) -> L.Expr:
        """The number of the matrix of a constant b."""
        matrix = self.p.b.shape[-2] * self.p.b.shape[-1]
        return L.binary("div", self._at(self.p.b_at), L.index(matrix))

    def _pack_panel(self, state: State, micro: M.Micro) -> None:
        """Columns of B into scratch; those beyond the last are 0."""
        p, lanes = self.p, micro.lanes
        to, source = self._pointer("panel"), self.pointers[p.b]
        step = L.stride_of(p.b_at, "_n")
        left = self.body.let("left", L.index(p.columns) - state.panel * self.micro.columns)
        if step != 1 and L.stride_of(p.b_at, "_k") == 1:
            self._pack_transposed(to, source, state, micro, left)
            return
        with self.body.loop("k", 0, p.depth) as k:
            for j in range(micro.vectors):
                start = state.panel * self.micro.columns + j * lanes
                env = {**self.e.env, "_k": k, "_n": start}
                at, out = L.index(p.b_at, env), k * micro.columns + j * lanes
                with self.body.if_(left >= L.icon((j + 1) * lanes)):
                    stride = L.index(step) if step is not None else L.icon(0)
                    assert step is not None, "columns of b are evenly apart"
                    self.body.store(to, out, L.load(source, at, lanes, stride))
                with self.body.else_():
                    self._pack_edge(to, out, source, k, start, lanes)

    def _pack_transposed(
        self, to: L.Pointer, source: L.Pointer, state: State, micro: M.Micro, left: L.Expr
    ) -> None:
        """The same where k runs along memory: every column in order, ``PACK_DEPTH`` at a time."""
        body, width, depth = self.body, micro.columns, L.index(self.p.depth)
        here = body.let("here", L.minimum(L.icon(width), left))
        zero = L.const(0, self.micro.dtype)
        with body.loop("top", 0, self.p.depth, PACK_DEPTH) as top:
            stop = body.let("stop", L.minimum(top + PACK_DEPTH, depth))
            with body.loop("n", L.icon(0), here) as n, body.loop("k", top, stop) as k:
                env = {**self.e.env, "_k": k, "_n": state.panel * self.micro.columns + n}
                value = L.load(source, L.index(self.p.b_at, env))
                body.store(to, k * width + n, value)
            with body.loop("n", here, width) as n, body.loop("k", top, stop) as k:
                body.store(to, k * width + n, zero)

    def _pack_edge(
        self,
        to: L.Pointer,
        out: L.Expr,
        source: L.Pointer,
        k: L.Expr,
        start: L.Expr,
        lanes: int,
    ) -> None:
        """Element by element, 0 beyond the last column."""
        zero = L.const(0, self.micro.dtype)
        with self.body.loop("i", 0, lanes) as i:
            self.body.store(to, out + i, zero)
        stop = L.minimum(L.icon(lanes), L.index(self.p.columns) - start)
        with self.body.loop("i", L.icon(0), stop) as i:
            at = L.index(self.p.b_at, {**self.e.env, "_k": k, "_n": start + i})
            self.body.store(to, out + i, L.load(source, at))

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
        body = self.body
        b = self._right(state, micro)
        start = self._start(state, clip is not None)
        column = body.let("column", state.panel * self.micro.columns)
        with body.loop("t", first, last) as t:
            row = body.let("row", self._row_of(t))
            rows = body.let("rows_here", self._row_of(t + 1) - row)
            a = L.Address(state.a.pointer, state.a.index + row * state.a_stride)
            c, stride = self._target(row, column, micro, clip is not None)
            arguments = M.Arguments(
                a, state.a_stride, b, start, L.icon(0), c, stride, L.index(self.p.depth)
            )
            for helper in M.call(body, micro, self.heights, rows, arguments):
                self.helpers[helper.name] = helper
            self._repair(rows, column, arguments, micro)
            if c.pointer is self.tile:
                self._finish(row, rows, column, micro, clip)

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

    def _target(
        self, row: L.Expr, column: L.Expr, micro: M.Micro, is_clipped: bool
    ) -> tuple[L.Address, L.Expr]:
        """Where the micro-kernel stores: the output itself, or a tile for the epilogue."""
        p, (value, *more) = self.p, self.epilogue.outputs
        plain = not (more or self.epilogue.nodes or is_clipped) and value is p.output
        if not plain or p.output.dtype is not self.micro.dtype:
            return L.Address(self.tile, L.icon(0)), L.icon(micro.columns)
        matrix = self.e.index(linear((*self.batch, 0, 0), (*p.batch, p.height, p.columns)))
        place = matrix + row * L.index(p.columns) + column
        return L.Address(self.pointers[p.output], place), L.index(p.columns)

    def _finish(
        self, row: L.Expr, rows: L.Expr, column: L.Expr, micro: M.Micro, clip: Size | None
    ) -> None:
        """The epilogue over a tile in the first level cache."""
        with self.body.loop("r", 0, rows) as r:
            self._bind_rows(row + r)
            base = self.body.let("base", r * micro.columns)
            if clip is None:
                self._run(base, column, L.icon(0), L.icon(micro.columns), micro.lanes)
                return
            count = self.body.let("count", L.minimum(L.icon(micro.columns), L.index(clip) - column))
            lanes = micro.lanes
            whole = self.body.let("whole", L.binary("div", count, L.icon(lanes)) * lanes)
            if lanes > 1:
                self._run(base, column, L.icon(0), whole, lanes)
            self._run(base, column, whole if lanes > 1 else L.icon(0), count, 1)

    def _run(self, base: L.Expr, column: L.Expr, first: L.Expr, stop: L.Expr, lanes: int) -> None:
        """Columns [first, stop) of a row of the tile."""
        e = self.e
        with self.body.loop("j", first, stop, lanes) as j:
            e.bind_symbol("_n", self.body.let("n", column + j))
            e.vectorise("_n", lanes)
            acc = self.body.let("acc", L.load(self.tile, base + j, lanes))
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


def _symbol(space: Space, name: str, extent: Size) -> Size:
    return 0 if extent == 1 else space.symbol(name, extent)


def _packed_width(columns: Size, narrow: M.Micro, full: M.Micro) -> int:
    """Columns of a constant b with its last panel."""
    assert isinstance(columns, int), "a constant has a fixed shape"
    whole, rest = columns // full.columns, columns % full.columns
    return whole * full.columns + (full.narrow(rest).columns if rest else 0)


def _likely(size: Size) -> int:
    low, high = bounds(size)
    return low if low == high else max(low, min(LIKELY, high or LIKELY))


def _is_flat(epilogue: Epilogue, index: Index, rows: Sequence[Dim], space: Space) -> bool:
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

"""Attention of one block of queries at a time: scores, softmax and values without leaving the caches.

Items are (batch, head, block of queries), blocks innermost.  The keys of a head are packed once per
thread as panels of transposed columns; a block of queries, scaled, is multiplied into a row of scores
per query; the softmax runs over whole rows, and the values are read in place as the next product's B.
Blocks of a causal attention stop at their last position.  A single query, as in decoding with a
cache of keys, reads the keys in place instead: a dot product each.  Scores never go to memory as a tensor.
Source: Dao et al., "FlashAttention" (2022), for the order of loops; rows here are whole, so that no
sum is rescaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.emitter import Emitter
from oarlock.codegen.fuse import Epilogue, Group
from oarlock.codegen.indexing import Index, broadcast
from oarlock.codegen.inplace import in_epilogue
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.operands import memory_of, through_views
from oarlock.codegen.target import Target
from oarlock.ir.dim import Dim, Size, bounds, product
from oarlock.ir.graph import Node, Value
from oarlock.ir.types import bool_, f32, f64

THREAD_WORK = 1 << 18  # multiply-adds worth a thread
LIKELY = 128  # a symbolic length
MOST_VECTORS = 16  # of a query in registers
NEVER = float("-inf")
LOWEST = {
    "f32": -3.4028234663852886e38,
    "f64": -1.7976931348623157e308,
}  # a row that sees nothing: 0


class AttentionMaker:
    """``attention`` of f32 or f64 with fixed head sizes."""

    takes_epilogue = True
    reads_views = True

    def accepts(self, node: Node, target: Target) -> bool:
        """Others are decomposed into products and a softmax."""
        q, _, v, *mask = node.inputs
        is_fixed = isinstance(q.shape[3], int) and isinstance(v.shape[3], int)
        is_fixed = is_fixed and 0 not in (q.shape[3], v.shape[3])
        known = (bool_, q.dtype)
        return is_fixed and q.dtype in (f32, f64) and all(m.dtype in known for m in mask)

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        return _Attention(group, target).build()


@dataclass
class _Attention:
    """Builds one kernel."""

    group: Group
    target: Target
    body: Body = field(default_factory=Body)
    helpers: dict[str, L.Function] = field(default_factory=dict)
    scratch: Size = 0

    def __post_init__(self) -> None:
        node = self.group.anchor
        assert node is not None
        self.node = node
        self.q, self.k, self.v, *mask = node.inputs
        self.mask = mask[0] if mask else None
        self.causal: bool = node.op.causal  # type: ignore[attr-defined]
        self.batch, self.heads, self.queries, depth = self.q.shape
        self.keys, width = self.k.shape[2], self.v.shape[3]
        assert isinstance(depth, int) and isinstance(width, int), "head sizes are fixed"
        self.depth, self.width = depth, width
        self.scale: float = node.op._scale(depth)  # type: ignore[attr-defined]
        self.micro = M.tile(self.target, self.q.dtype)
        self.lanes, self.dtype = self.micro.lanes, self.micro.dtype
        self.epilogue = self.group.epilogue or Epilogue(node.output, (), (node.output,), ())
        sources = [memory_of(v) for v in node.inputs]
        self.reads = tuple(dict.fromkeys([*sources, *self.epilogue.inputs]))
        self.pointers = pointers_of(self.reads, self.group.writes)
        self.e = Emitter(self.body, self.pointers)
        self.heights = M.heights(self.queries, self.micro.rows)
        self.blocks: Size = -(-self.queries // self.micro.rows)
        self.extra: list[L.Pointer] = []

    def build(self) -> Kernel:
        """The kernel."""
        self._symbols()
        self._memory()
        items = product((self.batch, self.heads, self.blocks))
        self.seen = self.body.variable("seen", L.icon(-1))
        with self.body.loop("item", L.BEGIN, L.END) as item:
            self._item(item)
        nodes, name = self.group.nodes, kernel_name(self.group.nodes)
        function = L.Function(
            name, self.body.statements, (*self.pointers.values(), *self.extra),
            comment=describe(nodes), helpers=tuple(self.helpers.values()),
        )  # fmt: skip
        return Kernel(
            name, tuple(nodes), self.reads, tuple(self.group.writes), function,
            extent=items, grain=self._grain(), scratch_bytes=self.scratch,
            in_place=in_epilogue(self.group),
        )  # fmt: skip

    def _grain(self) -> int:
        work = self.micro.rows * _likely(self.keys) * (self.depth + self.width)
        return max(1, THREAD_WORK // max(1, work))

    # Memory

    def _symbols(self) -> None:
        space = self.e.space
        sizes = {"_b": self.batch, "_h": self.heads, "_t": self.queries, "_g": self.k.shape[1]}
        sizes |= {"_s": self.keys, "_d": self.depth, "_e": self.width}
        self.at = {name: 0 if n == 1 else space.symbol(name, n) for name, n in sizes.items()}

    def _place(self, value: Value, *names: str) -> tuple[L.Pointer, Size]:
        """Where ``value`` at these symbols is read from."""
        index = broadcast(tuple(self.at[n] for n in names), value.shape)
        base, at = through_views(value, index, self.e.space)
        return self.pointers[base], at

    def _memory(self) -> None:
        columns = self.micro.columns
        self.pitch = -(-self.keys // columns) * columns + max(16, self.lanes)
        self.query = self._scratch("query", max(self.heights) * self.depth)
        self.panels = self._scratch("panels", (self.pitch) * self.depth)
        self.scores = self._scratch("scores", max(self.heights) * self.pitch)
        self.values, self.value_at = self._place(self.v, "_b", "_g", "_s", "_e")
        is_whole = self.width % self.lanes == 0
        steps = [L.stride_of(self.value_at, name) for name in ("_e", "_s")]
        self.copies_values = not (is_whole and steps[0] == 1 and steps[1] is not None)
        if self.copies_values:
            wide = -(-self.width // self.lanes) * self.lanes
            self.copied = self._scratch("values", wide * self.keys)
        key_at = self._place(self.k, "_b", "_g", "_s", "_d")[1]
        self.dots = self.depth % self.lanes == 0 and self.depth <= MOST_VECTORS * self.lanes
        self.dots = self.dots and L.stride_of(key_at, "_d") == 1
        self.tile = self.body.array("tile", self.dtype, max(self.heights) * columns)
        self.inverse = self.body.array("inverse", self.dtype, max(self.heights))
        self.zeros = L.Pointer("zeros", self.dtype, "local")
        self.body.add(L.DeclareArray(self.zeros, columns, (0,) * columns))

    def _scratch(self, name: str, count: Size) -> L.Pointer:
        pointer = L.Pointer(name, self.dtype, "scratch", True, self.scratch)
        self.extra.append(pointer)
        self.scratch = self.scratch + -(-count * self.dtype.bytes // 64) * 64
        return pointer

    # Items

    def _item(self, item: L.Expr) -> None:
        body = self.body
        blocks, heads = L.index(self.blocks), L.index(self.heads)
        block = body.let("block", L.binary("mod", item, blocks))
        place = body.let("place", L.binary("div", item, blocks))
        self._bind("_h", L.binary("mod", place, heads))
        self._bind("_b", L.binary("div", place, heads))
        shared = L.index(self.heads // self.k.shape[1])
        self._bind("_g", L.binary("div", self._value("_h"), shared))
        rows = L.index(self.queries)
        top = body.let("top", L.binary("div", block * rows, blocks))
        here = body.let("here", L.binary("div", (block + 1) * rows, blocks) - top)
        head = body.let("head", L.binary("div", place, shared))
        with body.if_(L.compare("ne", self.seen, head)):
            body.assign(self.seen, head)
            self._either(None, self._pack_keys)
            if self.copies_values:
                self._copy_values()
        limit = L.index(self.keys)
        if self.causal:
            limit = body.let("limit", L.minimum(limit, top + here))
        self._copy_queries(top, here)
        self._either(lambda: self._score_one(limit), lambda: self._score(here, limit))
        self._softmax(top, here, limit)
        self._weigh(top, here, limit)

    def _either(self, one: Callable[[], None] | None, many: Callable[[], None]) -> None:
        """``one`` for a single query whose keys are rows of whole vectors, else ``many``."""
        if self.queries == 1 and self.dots:
            if one is not None:
                one()
        elif bounds(self.queries)[0] > 1 or not self.dots:
            many()
        else:
            with self.body.if_(L.compare("ne", L.index(self.queries), 1)):
                self.e.enter()
                many()
            if one is not None:
                with self.body.else_():
                    self.e.enter()
                    one()

    def _bind(self, name: str, value: L.Expr) -> None:
        if isinstance(self.at[name], Dim):
            self.e.bind_symbol(name, self.body.let(name.strip("_"), value))

    def _value(self, name: str) -> L.Expr:
        return self.e.env[name] if isinstance(self.at[name], Dim) else L.icon(0)

    def _read(self, pointer: L.Pointer, at: Size, lanes: int = 1, along: str = "") -> L.Expr:
        """A vector along a symbol that moves evenly."""
        stride = L.stride_of(at, along) if along else None
        return L.load(pointer, self.e.index(at), lanes, None if stride is None else L.index(stride))

    @contextmanager
    def _loop(self, name: str, start: L.Expr, stop: L.Expr, step: int = 1) -> Iterator[L.Expr]:
        with self.body.loop(name.strip("_"), start, stop, step) as var:
            if isinstance(self.at[name], Dim):
                self.e.bind_symbol(name, var)
            yield var

    def _vectors(self, name: str, stop: L.Expr) -> Iterator[tuple[L.Expr, int]]:
        """A loop over whole vectors, then one over single elements."""
        whole = L.icon(0)
        if self.lanes > 1:
            whole = self.body.let("whole", L.binary("div", stop, L.icon(self.lanes)) * self.lanes)
            with self._loop(name, L.icon(0), whole, self.lanes) as i:
                yield i, self.lanes
        with self._loop(name, whole, stop) as i:
            yield i, 1

    def _pack_keys(self) -> None:
        """Panels [depth][columns] of transposed keys; columns beyond the last key are 0."""
        source, at = self._place(self.k, "_b", "_g", "_s", "_d")
        columns, zero = self.micro.columns, L.const(0, self.dtype)

        def to(s: L.Expr, d: L.Expr) -> L.Expr:
            panel = L.binary("div", s, L.icon(columns)) * (columns * self.depth)
            return panel + d * columns + L.binary("mod", s, L.icon(columns))

        keys = L.index(self.keys)
        for s, lanes in self._vectors("_s", keys):
            start = self.body.let("start", to(s, L.icon(0)))
            with self._loop("_d", L.icon(0), L.icon(self.depth)) as d:
                vector = self._read(source, at, lanes, "_s" if lanes > 1 else "")
                self.body.store(self.panels, start + d * columns, vector)
        end = L.index(-(-self.keys // columns) * columns)
        with self.body.loop("s", keys, end) as s:
            start = self.body.let("start", to(s, L.icon(0)))
            with self.body.loop("d", 0, self.depth) as d:
                self.body.store(self.panels, start + d * columns, zero)

    def _copy_values(self) -> None:
        """Rows of whole vectors, 0 beyond the last column."""
        wide = -(-self.width // self.lanes) * self.lanes
        with self._loop("_s", L.icon(0), L.index(self.keys)) as s:
            row = self.body.let("row", s * wide)
            with self._loop("_e", L.icon(0), L.icon(self.width)) as e:
                self.body.store(self.copied, row + e, self._read(self.values, self.value_at))
            with self.body.loop("e", self.width, wide) as e:
                self.body.store(self.copied, row + e, L.const(0, self.dtype))

    # One block of queries

    def _copy_queries(self, top: L.Expr, here: L.Expr) -> None:
        source, at = self._place(self.q, "_b", "_h", "_t", "_d")
        with self._rows(top, here) as r:
            row = self.body.let("row", r * self.depth)
            for d, lanes in self._vectors("_d", L.icon(self.depth)):
                value = self._read(source, at, lanes, "_d" if lanes > 1 else "") * self.scale
                self.body.store(self.query, row + d, value)

    @contextmanager
    def _rows(self, top: L.Expr, here: L.Expr) -> Iterator[L.Expr]:
        """A loop over the queries of the block."""
        with self.body.loop("r", L.icon(0), here) as r:
            self._bind("_t", top + r)
            self.e.enter()
            yield r

    def _score(self, here: L.Expr, limit: L.Expr) -> None:
        """``scores[r, s] = query[r] . key[s]`` for s < limit, and up to the end of a panel."""
        columns = self.micro.columns
        panels = L.binary("div", limit + (columns - 1), L.icon(columns))
        with self.body.loop("p", L.icon(0), panels) as p:
            arguments = M.Arguments(
                L.Address(self.query, L.icon(0)), L.icon(self.depth),
                L.Address(self.panels, p * (columns * self.depth)),
                L.Address(self.zeros, L.icon(0)), L.icon(0),
                L.Address(self.scores, p * columns), L.index(self.pitch), L.icon(self.depth),
            )  # fmt: skip
            self._call(self.micro, here, arguments)

    def _score_one(self, limit: L.Expr) -> None:
        """``scores[0, s] = query . key[s]`` with every key read once, in place."""
        source, at = self._place(self.k, "_b", "_g", "_s", "_d")
        steps = range(0, self.depth, self.lanes)
        query = [self.body.let("q", L.load(self.query, L.icon(step), self.lanes)) for step in steps]
        with self._loop("_s", L.icon(0), limit) as s:
            base = self.body.let("at", L.index(at, {**self.e.env, "_d": L.icon(0)}))
            total = L.const(0, self.dtype, self.lanes)
            for step, part in zip(steps, query):
                total = total + part * L.load(source, base + step, self.lanes)
            self.body.store(self.scores, s, L.across("sum", total))

    def _call(self, micro: M.Micro, here: L.Expr, arguments: M.Arguments) -> None:
        for helper in M.call(self.body, micro, self.heights, here, arguments):
            self.helpers[helper.name] = helper

    def _softmax(self, top: L.Expr, here: L.Expr, limit: L.Expr) -> None:
        """``scores = exp(scores - max)`` per row, 0 from its own end to the block's; 1 / sums."""
        body, lanes = self.body, self.lanes
        with self._rows(top, here) as r:
            row = body.let("row", r * L.index(self.pitch))
            stop = limit
            if self.causal:
                stop = body.let("stop", L.minimum(L.index(self.keys), top + r + 1))
            if self.mask is not None:
                self._apply_mask(row, stop)
            end = self._pad(row, stop)
            highest = body.variable("highest", L.const(NEVER, self.dtype, lanes))
            with body.loop("s", L.icon(0), end, lanes) as s:
                body.assign(highest, L.maximum(L.load(self.scores, row + s, lanes), highest))
            lowest = L.const(LOWEST[self.dtype.name], self.dtype)
            most = body.let("most", L.maximum(L.across("max", highest), lowest))
            most = L.splat(most, lanes)
            total = body.variable("total", L.const(0, self.dtype, lanes))
            with body.loop("s", L.icon(0), end, lanes) as s:
                shifted = L.load(self.scores, row + s, lanes) - most
                value = body.let("value", L.call("exp", shifted))
                body.store(self.scores, row + s, value)
                body.assign(total, total + value)
            if self.causal:
                with body.loop("s", end, limit) as s:
                    body.store(self.scores, row + s, L.const(0, self.dtype))
            one = L.const(1, self.dtype)
            body.store(self.inverse, r, one / L.maximum(L.across("sum", total), one))

    def _apply_mask(self, row: L.Expr, stop: L.Expr) -> None:
        assert self.mask is not None
        names = ("_b", "_h", "_t", "_s")[4 - self.mask.rank :]
        pointer, at = self._place(self.mask, *names)
        for s, lanes in self._vectors("_s", stop):
            self.e.vectorise("_s", lanes)
            seen = self.e.load_at(pointer, at)
            score = L.load(self.scores, row + s, lanes)
            if self.mask.dtype is bool_:
                result = L.select(seen, score, L.const(NEVER, self.dtype, lanes))
            else:
                result = score + L.splat(seen, lanes)
            self.body.store(self.scores, row + s, result)
        self.e.vectorise("_s", 1)

    def _pad(self, row: L.Expr, stop: L.Expr) -> L.Expr:
        """-inf from ``stop`` to the end of its vector; the end."""
        if self.lanes == 1:
            return stop
        whole = self.body.let("last", L.binary("div", stop, L.icon(self.lanes)) * self.lanes)
        with self.body.if_(L.compare("lt", whole, stop)):
            inside = L.compare("lt", L.iota(self.lanes, L.i32), L.cast(stop - whole, L.i32))
            kept = L.load(self.scores, row + whole, self.lanes)
            never = L.const(NEVER, self.dtype, self.lanes)
            self.body.store(self.scores, row + whole, L.select(inside, kept, never))
        rounded = L.binary("div", stop + (self.lanes - 1), L.icon(self.lanes)) * self.lanes
        return self.body.let("end_at", rounded)

    def _weigh(self, top: L.Expr, here: L.Expr, limit: L.Expr) -> None:
        """``output[r, e] = sum over s of scores[r, s] * value[s, e] / sum[r]``."""
        columns = self.micro.columns
        whole, rest = divmod(self.width, columns)
        micro = replace(self.micro, strided=True)
        if whole:
            with self.body.loop("e", 0, whole * columns, columns) as e:
                self._weigh_panel(micro, e, columns, top, here, limit)
        if rest:
            first = L.icon(whole * columns)
            self._weigh_panel(micro.narrow(rest), first, rest, top, here, limit)

    def _weigh_panel(
        self, micro: M.Micro, e: L.Expr, count: int, top: L.Expr, here: L.Expr, limit: L.Expr
    ) -> None:
        if self.copies_values:
            wide = -(-self.width // self.lanes) * self.lanes
            b, stride = L.Address(self.copied, e), L.icon(wide)
        else:
            env = {**self.e.env, "_s": L.icon(0), "_e": e}
            step = L.stride_of(self.value_at, "_s")
            assert step is not None, "values that move unevenly are copied"
            b, stride = L.Address(self.values, L.index(self.value_at, env)), L.index(step)
        arguments = M.Arguments(
            L.Address(self.scores, L.icon(0)), L.index(self.pitch), b,
            L.Address(self.zeros, L.icon(0)), L.icon(0),
            L.Address(self.tile, L.icon(0)), L.icon(micro.columns), limit, stride,
        )  # fmt: skip
        self._call(micro, here, arguments)
        with self._rows(top, here) as r:
            base = self.body.let("base", r * micro.columns)
            inverse = self.body.let("scale", L.load(self.inverse, r))
            whole = count // self.lanes * self.lanes
            self._store(e, base, inverse, 0, whole, self.lanes)
            self._store(e, base, inverse, whole, count, 1)

    def _store(
        self, e: L.Expr, base: L.Expr, inverse: L.Expr, first: int, stop: int, lanes: int
    ) -> None:
        """Columns [first, stop) of a row of the tile, through the epilogue."""
        if first == stop:
            return
        index: Index = tuple(self.at[name] for name in ("_b", "_h", "_t", "_e"))
        with self.body.loop("j", first, stop, lanes) as j:
            self._bind("_e", e + j)
            self.e.vectorise("_e", lanes)
            acc = self.body.let("acc", L.load(self.tile, base + j, lanes) * inverse)
            for value, place, expr in self.e.epilogue(self.epilogue, acc, index):
                self.e.store(value, place, expr)
        self.e.vectorise("_e", 1)


def _likely(size: Size) -> int:
    low, high = bounds(size)
    return low if low == high else max(low, min(LIKELY, high or LIKELY))

"""``grouped_matmul``: the rows of every group by its own weights, no row by those of another.

Items are (group, panel of columns), panels innermost; a last group, of no weights, are the rows that
belong to none and become zeros.  How many rows a group has is known when it runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.codegen.emitter import Emitter
from oarlock.codegen.fuse import Group
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels.gemm_nest import GemmNest, Product, State
from oarlock.codegen.kernels.micro import Micro
from oarlock.codegen.nests import pointers_of
from oarlock.codegen.target import Target
from oarlock.ir import Dim, Value, f32, f64
from oarlock.ir.graph import Node

G, M, N, K = (Dim(name, 0) for name in ("_g", "_m", "_n", "_k"))


class GroupedMatMul:
    """See ``Maker``."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        """Elements that the micro-kernel reads as they are, a known number of groups."""
        x, w, _ = node.inputs
        return x.dtype in (f32, f64) and isinstance(w.shape[0], int)

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        x, w, ends = group.anchor.inputs
        _, depth, columns = w.shape
        p = Product(
            group.anchor.output, (), (x.shape[0],), columns, depth,
            x, M * depth + K, w, (G * depth + K) * columns + N, constant(w),
        )  # fmt: skip
        return _GroupedNest(group, target, p, ends=ends).build()


@dataclass
class _GroupedNest(GemmNest):
    """The blocks of rows are the groups."""

    ends: Value = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reads = tuple(dict.fromkeys([*self.reads, self.ends]))
        self.pointers = pointers_of(self.reads, self.group.writes)
        self.e = Emitter(self.body, self.pointers)
        self.groups = self.p.b.shape[0]
        self.blocks = self.groups + 1
        self.heights = tuple(range(self.micro.rows, 0, -1))
        self.top = self.stop = L.icon(0)

    @property
    def is_turned(self) -> bool:
        return False

    @property
    def is_cut(self) -> bool:
        return False

    def _reads_b(self, micro: Micro) -> bool:
        return False

    def _copies_a(self) -> bool:
        return False

    def _symbols(self) -> None:
        super()._symbols()
        self.e.space.symbol("_g", self.groups)

    def _item(self, item: L.Expr) -> None:
        body, panels = self.body, L.index(self.panels)
        panel = body.let("panel_at", L.binary("mod", item, panels))
        g, last = body.let("g", L.binary("div", item, panels)), L.index(self.groups)
        self.top = body.let("top", L.select(L.compare("gt", g, 0), self._end(g - 1), L.icon(0)))
        stop = L.select(g < last, self._end(g), L.index(self.p.height))
        self.stop = body.let("stop", L.maximum(stop, self.top))
        with body.if_(g < last):
            self.e.bind_symbol("_g", g)
            self._group(panel)
        with body.else_():
            self._zeros(panel)

    def _end(self, g: L.Expr) -> L.Expr:
        """The first row after group ``g``, inside of x."""
        place = L.minimum(L.maximum(g, L.icon(0)), L.index(self.groups - 1))
        raw = self.body.load(self.pointers[self.ends], self.body.let("at", place))
        row = L.cast(L.cast(raw, L.i64), L.index_)
        return L.minimum(L.maximum(row, L.icon(0)), L.index(self.p.height))

    def _group(self, panel: L.Expr) -> None:
        p, height = self.p, self.micro.rows
        a = L.Address(self.pointers[p.a], L.icon(0))
        state = State(self.top, panel, [], a, L.index(p.depth))
        tiles = L.binary("div", self.stop - self.top + (height - 1), L.icon(height))
        tiles = self.body.let("tiles", tiles)
        with self.body.if_(L.compare("gt", tiles, 0)):
            self._columns(state, L.icon(0), tiles)

    def _row_of(self, tile: L.Expr) -> L.Expr:
        return L.minimum(self.top + tile * self.micro.rows, self.stop)

    def _batch_of_b(self) -> L.Expr:
        return self.e.env["_g"]

    def _zeros(self, panel: L.Expr) -> None:
        body, width, columns = self.body, self.micro.columns, L.index(self.p.columns)
        first = body.let("first", panel * width)
        end = body.let("end", L.minimum(first + width, columns))
        to, zero = self.pointers[self.p.output], L.const(0, self.p.output.dtype)
        with body.loop("m", self.top, self.stop) as m, body.loop("n", first, end) as n:
            body.store(to, m * columns + n, zero)

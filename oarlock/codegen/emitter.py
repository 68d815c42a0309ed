"""Expressions of graph values inside loops: the part that every kernel shares.

An ``Emitter`` writes into a ``Body``.  It is told the loops that are open (``bind`` gives the symbol
of a loop variable), where values live (``pointers``), values that the kernel holds in registers
(``given``), and which nodes to compute on the way (``inline``).  Then::

    e = Emitter(body, {x: x_pointer, y: y_pointer}, inline=set(nodes))
    with body.loop("m", 0, 8) as m, body.loop("n", 0, 64, 16) as n:
        row, col = e.bind("m", m, 8), e.bind("n", n, 64)
        e.vectorise("n", 16)                        # lanes run along n; 1 for a scalar tail
        value = e.value(v, (row, col))              # Expr of v[row, col .. col + 15]
        e.store(v, (row, col), value)

``value`` walks through pointwise nodes and views down to loads, names what is used twice, and puts
each computation into the outermost loop that binds all of its symbols.  Indices are ``Size``
polynomials over the symbols.  A value whose index does not depend on the vector symbol is computed
once as a scalar.  For anchored kernels::

    outputs = e.epilogue(epilogue, accumulators, index)   # [(Value, index, Expr), ...]
    for value, index, expr in outputs: e.store(value, index, expr)

where ``epilogue`` is a ``fuse.Epilogue`` and ``index`` points into the anchor's output.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oarlock.codegen import loops as L
from oarlock.codegen import scalars
from oarlock.codegen.body import Body
from oarlock.codegen.c.names import identifier
from oarlock.codegen.indexing import (
    BACKWARD,
    FORWARD,
    PICKED,
    Index,
    Space,
    broadcast,
    linear,
    memory_below,
)
from oarlock.ir.dim import Dim, Size, bounds, dim_max, dim_min
from oarlock.ir.graph import Node, Value
from oarlock.ir.types import decode, i32, i64

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Epilogue

MOVES = frozenset(("pad", "concat"))
OUT_OF_RANGE, STOPPED = 1, 4  # ol status
Given = Callable[[Index], "L.Expr | None"]  # None: not held at this index


@dataclass
class _Level:
    """An open block: the symbols bound in it, and its statements so far."""

    names: set[str]
    statements: list[L.Stmt]


class Emitter:
    """See the module."""

    def __init__(
        self,
        body: Body,
        pointers: Mapping[Value, L.Pointer],
        inline: Collection[Node] = (),
        space: Space | None = None,
    ) -> None:
        self.body, self.pointers, self.inline = body, dict(pointers), set(inline)
        body.reserve(*(p.name for p in pointers.values()))
        self.space = space if space is not None else Space()
        self.env: dict[str, L.Expr] = {}
        self.tables: dict[Node, L.Pointer] = {}
        self.vector, self.lanes = "", 1
        self._varying: set[str] = set()  # picked symbols that differ between lanes
        self.given: dict[Value, Given] = {}
        self._pinned: set[Node | None] = set()
        self._pin_depth = 0
        self._levels: list[_Level] = [_Level(set(), body.current)]
        self._memo: list[dict[object, Any]] = [{}]

    # Loops

    def bind(self, name: str, var: L.Expr, extent: Size) -> Dim:
        """The symbol of the loop just opened (its body is the innermost open block)."""
        symbol = self.space.symbol(f"_{name}", extent)
        self.bind_symbol(symbol.name, var)
        return symbol

    def bind_symbol(self, name: str, var: L.Expr) -> None:
        """Give an existing symbol its variable."""
        self.enter()
        self._levels[-1].names.add(name)
        self.env[name] = var

    def enter(self) -> None:
        """Make the innermost open block a place for computations."""
        self._close_levels()
        if self._levels[-1].statements is not self.body.current:
            self._levels.append(_Level(set(), self.body.current))
            self._memo.append({})

    def _close_levels(self) -> None:
        """Forget the loops that the body has closed."""
        while not any(self._levels[-1].statements is block for block in self.body.open_blocks):
            self._levels.pop()
            self._memo.pop()

    def vectorise(self, name: str, lanes: int) -> None:
        """Lanes run along symbol ``name`` (with or without its leading underscore)."""
        self.vector, self.lanes = name if name.startswith("_") else f"_{name}", lanes
        self._close_levels()
        self._memo[-1].clear()

    # Values

    def value(self, value: Value, index: Index) -> L.Expr:
        """The expression of ``value`` at ``index``: a vector when the index runs with the lanes."""
        held = self.given[value](index) if value in self.given else None
        if held is not None:
            return held
        memory = memory_below(value, self.inline) if value not in self.given else None
        if memory is not None and memory not in self.given:
            return self.load(memory, index, value.shape)
        node = value.producer
        assert node is not None
        if node.name == "const" and not isinstance(node.op.value, tuple):  # type: ignore
            return L.const(node.op.value, value.dtype)  # type: ignore[attr-defined]
        if node.name in BACKWARD:
            return self.value(node.inputs[0], BACKWARD[node.name](node, index, self.space))
        return self._once((value, index), lambda: self._compute(node, index), value, index)

    def _compute(self, node: Node, index: Index) -> L.Expr:
        special = _SPECIAL.get(node.name)
        if special is not None:
            return special(self, node, index)
        args = [self.value(v, broadcast(index, v.shape)) for v in node.inputs]
        return scalars.pointwise(node, args)

    def _once(self, key: object, make: Callable[[], L.Expr], value: Value, index: Index) -> L.Expr:
        """Compute in the outermost loop that binds the index; the same key only once."""
        self._close_levels()
        depth = self._depth(value, index)
        for memo in self._memo[depth:]:
            if key in memo:
                return memo[key]
        level, memo = self._levels[depth], self._memo[depth]
        with self.body.into(level.statements):
            expr = self.body.let(self._hint(value), make())
        memo[key] = expr
        return expr

    def _depth(self, value: Value, index: Index) -> int:
        names = symbols_of(index)
        lowest = self._pin_depth if value.producer in self._pinned else 0
        return max([lowest, *(k for k, x in enumerate(self._levels) if x.names & names)])

    def _hint(self, value: Value) -> str:
        return identifier(value.producer.name) if value.producer in self.inline else "v"

    def picked(self, indices: Value, index: Index, size: Size) -> Dim:
        """A symbol for ``indices[index]`` in [0, size): negative ones are wrapped, others refused."""
        raw = self.value(indices, index)
        self._close_levels()
        depth = self._depth(indices, index)
        key = ("pick", indices, index, size)
        for memo in self._memo[depth:]:
            if key in memo:
                return memo[key]
        level = self._levels[depth]
        symbol = self.space.symbol(f"{PICKED}{len(self.env)}", size)
        with self.body.into(level.statements):
            place = L.cast(L.cast(raw, i64), L.index_)
            place = self.body.let("at", L.select(place < 0, place + L.index(size), place))
            self._refuse_outside(place, size)
        level.names.add(symbol.name)
        self.env[symbol.name] = place
        if place.lanes > 1:
            self._varying.add(symbol.name)
        self._memo[depth][key] = symbol
        return symbol

    def _refuse_outside(self, place: L.Expr, size: Size) -> None:
        below, above = L.compare("lt", place, 0), L.compare("ge", place, L.index(size))
        outside = L.binary("or", below, above)
        with self.body.if_(L.across("or", outside) if place.lanes > 1 else outside):
            self.body.returns(L.const(OUT_OF_RANGE, i32))

    # Memory

    def load(self, value: Value, index: Index, shape: Sequence[Size] | None = None) -> L.Expr:
        """``value[index]`` from memory, read as if it had ``shape``."""
        at = linear(index, value.shape if shape is None else shape)
        full = self._fullness(value)
        return self._once(
            (value, "load", at), lambda: self.load_at(self.pointers[value], at, full), value, index
        )

    def _fullness(self, value: Value) -> Size:
        """0 when ``value`` turns out empty, and is read where nothing is chosen from it; else 1."""
        if bounds(value.type.size)[0] > 0 or all(n.name not in MOVES for n in self.inline):
            return 1
        return dim_min(value.type.size, 1)

    def load_at(self, pointer: L.Pointer, at: Size, full: Size = 1) -> L.Expr:
        """``pointer[at * full]``: adjacent, strided, splat or gathered along the vector symbol."""
        stride = self.stride(at)
        if stride == 0 or self.lanes == 1:
            return L.load(pointer, self.index(at * full))
        if stride is None:
            position = self.positions(at) * L.index(full)
            type = L.CType(L.compute_dtype(pointer.dtype), self.lanes)
            return L.Gather(pointer, position, type)
        step = stride if stride == 1 else stride * full
        return L.load(pointer, self.index(at * full), self.lanes, self.index(step))

    def store(self, value: Value, index: Index, expr: L.Expr) -> None:
        """``value[index] = expr`` in memory."""
        self.store_at(self.pointers[value], linear(index, value.shape), expr)

    def store_at(self, pointer: L.Pointer, at: Size, expr: L.Expr) -> None:
        """``pointer[at] = expr`` along the vector symbol."""
        stride = self.stride(at)
        if self.lanes == 1 or stride == 0:
            self.body.store(pointer, self.index(at), expr)
        elif stride is not None:
            vector = L.splat(expr, self.lanes)
            self.body.store(pointer, self.index(at), vector, self.index(stride))
        else:
            self._scatter(pointer, at, L.splat(expr, self.lanes))

    def _scatter(self, pointer: L.Pointer, at: Size, expr: L.Expr) -> None:
        vector = self.body.let("v", expr)
        if vector.dtype.kind == "mask":
            vector = self.body.let("v", L.to_bool(vector))
        places = self.body.let("at", self.positions(at))
        for lane in range(self.lanes):
            place = L.cast(L.extract(places, lane), L.index_)
            self.body.store(pointer, place, L.extract(vector, lane))

    def stride(self, at: Size) -> Size | None:
        """Elements between lanes; None when the lanes are not evenly apart."""
        if self.lanes > 1 and isinstance(at, Dim) and self._varying & at.symbols():
            return None
        return L.stride_of(at, self.vector) if self.lanes > 1 else 0

    def index(self, at: Size) -> L.Expr:
        """A scalar INDEX expression: of the first lane."""
        return L.index(at, self.env)

    def positions(self, at: Size) -> L.Expr:
        """An expression of the positions of all lanes, a scalar when they are equal."""
        if self.lanes == 1 or self.stride(at) == 0:
            return self.index(at)
        base = self.env[self.vector]
        lanes = L.splat(base, self.lanes) + L.iota(self.lanes, L.index_)
        return L.index(at, {**self.env, self.vector: lanes})

    def clamped(self, at: Size, n: Size) -> Size:
        """``at`` moved into [0, n): what pads and concats read outside of their operand."""
        return dim_max(dim_min(at, n - 1), 0)

    # Epilogues

    def epilogue(
        self, epilogue: Epilogue, acc: L.Expr, index: Index
    ) -> list[tuple[Value, Index, L.Expr]]:
        """Every output of an epilogue at ``index`` of the anchor's output, which is ``acc``."""
        if epilogue.nodes:
            acc = self.body.let("acc", scalars.rounded(acc, epilogue.anchor.dtype))
        self.given[epilogue.anchor] = lambda _: acc
        self.inline |= set(epilogue.nodes)
        places = output_indices(epilogue.anchor, epilogue.nodes, index, self.space)
        self.pin({epilogue.anchor}, epilogue.nodes)
        kept, self._memo[-1] = self._memo[-1], dict(self._memo[-1])
        results = [(v, places[v], self.value(v, places[v])) for v in epilogue.outputs]
        self._memo[-1] = kept
        self._pinned = set()
        return results

    def pin(self, held: Collection[Value], nodes: Sequence[Node]) -> None:
        """Compute what depends on ``held`` values in the open block or deeper, not further out."""
        self.enter()
        self._pin_depth = len(self._levels) - 1
        self._pinned = depends_on(held, nodes)


def depends_on(held: Collection[Value], nodes: Sequence[Node]) -> set[Node | None]:
    """Those of ``nodes`` that read a value of ``held``, directly or not."""
    found = set(held)
    for node in nodes:
        if any(v in found for v in node.inputs):
            found |= set(node.outputs)
    return {v.producer for v in found - set(held)}


def output_indices(
    anchor: Value, nodes: Sequence[Node], index: Index, space: Space
) -> dict[Value, Index]:
    """Where each value computed from ``anchor[index]`` lies in its own tensor."""
    places = {anchor: index}
    for node in nodes:
        source = next((v for v in node.inputs if v in places), None)
        move = FORWARD.get(node.name)
        if source is None or (move is None and node.name in BACKWARD):
            continue  # a slice or broadcast does not hold the anchor's elements one to one
        place = places[source]
        if move is not None:
            place = move(node, place, space)
        elif len(place) < node.output.rank:
            place = (0,) * (node.output.rank - len(place)) + place
        places[node.output] = place
    return places


def symbols_of(index: Index) -> set[str]:
    """Names of all symbols in an index."""
    return set().union(*(i.symbols() for i in index if isinstance(i, Dim)), set())


# ---- ops that are neither pointwise nor pure views -----------------------------------------------


def _iota(e: Emitter, node: Node, index: Index) -> L.Expr:
    return L.cast(L.cast(e.positions(index[0]), i64), node.output.dtype)


def _size(e: Emitter, node: Node, index: Index) -> L.Expr:
    return L.cast(L.index(node.op.dim), i64)  # type: ignore[attr-defined]


def _pad(e: Emitter, node: Node, index: Index) -> L.Expr:
    """Read at the nearest element inside, then choose between it and the padding."""
    source, low = node.inputs[0], node.op.low  # type: ignore[attr-defined]
    inside: list[L.Expr] = []
    place: list[Size] = []
    for k, i in enumerate(index):
        at = i - low[k]
        if low[k] == 0 and node.op.high[k] == 0:  # type: ignore[attr-defined]
            place.append(at)
            continue
        if source.shape[k] == 0:
            return L.const(node.op.value, source.dtype)  # type: ignore[attr-defined]
        inside += _within(e, at, source.shape[k])
        place.append(e.clamped(at, source.shape[k]))
    padding = L.const(node.op.value, source.dtype)  # type: ignore[attr-defined]
    return _choose(inside, e.value(source, tuple(place)), padding)


def _within(e: Emitter, at: Size, n: Size) -> list[L.Expr]:
    position = e.positions(at)
    below = [] if bounds(at)[0] >= 0 else [L.compare("ge", position, 0)]
    limit = L.index(n)
    return [*below, L.compare("lt", position, limit)]


def _choose(conditions: Sequence[L.Expr], a: L.Expr, b: L.Expr) -> L.Expr:
    if not conditions:
        return a
    total = conditions[0]
    for condition in conditions[1:]:
        total = _and(total, condition)
    return L.select(total, a, b)


def _and(a: L.Expr, b: L.Expr) -> L.Expr:
    lanes = max(a.lanes, b.lanes)
    if lanes > 1:
        a, b = (L.to_mask(L.splat(L.cast(x, L.bool_), lanes), 8) for x in (a, b))
    return L.binary("and", a, b)


def _concat(e: Emitter, node: Node, index: Index) -> L.Expr:
    """A chain of choices along the axis, each part read at the nearest element inside."""
    axis = node.op.axis % node.output.rank  # type: ignore[attr-defined]
    starts: list[Size] = [0]
    for v in node.inputs:
        starts.append(starts[-1] + v.shape[axis])
    result: L.Expr | None = None
    for v, start in reversed(list(zip(node.inputs, starts))):
        if v.shape[axis] == 0:
            continue
        at = e.clamped(index[axis] - start, v.shape[axis])
        part = e.value(v, (*index[:axis], at, *index[axis + 1 :]))
        if result is None:
            result = part
        else:
            limit = L.index(start + v.shape[axis])
            result = L.select(L.compare("lt", e.positions(index[axis]), limit), part, result)
    return L.const(0, node.output.dtype) if result is None else result


def _take(e: Emitter, node: Node, index: Index) -> L.Expr:
    x, indices = node.inputs
    axis = node.op.axis % x.rank  # type: ignore[attr-defined]
    last = axis + indices.rank
    at = e.picked(indices, index[axis:last], x.shape[axis])
    return e.value(x, (*index[:axis], at, *index[last:]))


def _gather(e: Emitter, node: Node, index: Index) -> L.Expr:
    x, indices = node.inputs
    axis = node.op.axis % x.rank  # type: ignore[attr-defined]
    at = e.picked(indices, index, x.shape[axis])
    return e.value(x, (*index[:axis], at, *index[axis + 1 :]))


def pick_reads(node: Node, index: Index, space: Space) -> tuple[Index, Index]:
    """Where a take or gather reads its indices and, with a symbol for the picked place, its data."""
    x, indices = node.inputs
    axis = node.op.axis % x.rank  # type: ignore[attr-defined]
    place = space.symbol(f"{PICKED}ed", x.shape[axis])
    if node.name == "gather":
        return index, (*index[:axis], place, *index[axis + 1 :])
    last = axis + indices.rank
    return index[axis:last], (*index[:axis], place, *index[last:])


PICKS = frozenset(("take", "gather"))


def _table(e: Emitter, node: Node, index: Index) -> L.Expr:
    """A constant of several numbers: a static array."""
    if node not in e.tables:
        dtype = L.compute_dtype(node.output.dtype)
        numbers = decode(node.op.array, node.output.dtype).ravel().tolist()  # type: ignore
        e.tables[node] = L.Pointer(e.body.name("table"), dtype, "local")
        declared = L.DeclareArray(e.tables[node], max(1, len(numbers)), tuple(numbers) or (0,))
        e.body.open_blocks[0].insert(0, declared)
    return e.load_at(e.tables[node], linear(index, node.output.shape))


_SPECIAL: dict[str, Callable[[Emitter, Node, Index], L.Expr]] = {
    "const": _table,
    "iota": _iota,
    "size": _size,
    "pad": _pad,
    "concat": _concat,
    "take": _take,
    "gather": _gather,
}

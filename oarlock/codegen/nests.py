"""Lower a loop group to a kernel: pointwise nodes, views, reductions, in one pass over memory.

``build(group, target) -> Kernel``.  Without reductions a group is one loop nest over its domain with
axes merged wherever positions allow.  With reductions, items are the elements of the kept axes
("rows"); a row goes through phases, each a loop over the reduced axes that accumulates the
reductions whose operands are known by then and stores the outputs that are; expensive values that a
later phase needs again wait in scratch.  Lanes run along the axis with most adjacent accesses: along
a reduced axis (lanes are added up at the end) or along a kept one (each lane is a row).

Interface for other kernels (see ``emitter``): ``Emitter(body, pointers, inline)``, its ``bind``,
``vectorise``, ``value``, ``store``, ``epilogue``; ``pointers_of(reads, writes)`` names the buffers::

    pointers = pointers_of(group.reads, group.writes)
    e = Emitter(body, pointers)
    with body.loop("m", 0, rows) as m:
        row = e.bind("m", m, rows)
        with body.loop("n", 0, columns, 16) as n:
            column = e.bind("n", n, columns)
            e.vectorise("n", 16)
            acc = ...                                     # 16 lanes of the anchor's output row
            for value, index, expr in e.epilogue(group.epilogue, acc, (row, column)):
                e.store(value, index, expr)

A symbolic extent is a run-time bound.  ``e.bind`` inside the innermost block keeps computations that
do not depend on ``n`` outside of its loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.c.names import identifier
from oarlock.codegen.column_sums import ColumnSums
from oarlock.codegen.domain import Axis, Domain, analyse, is_reduction, merge_axes
from oarlock.codegen.emitter import Emitter, symbols_of
from oarlock.codegen.indexing import PICKED
from oarlock.codegen.inplace import Pair, in_nest, in_rows
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.rows import Rows
from oarlock.codegen.target import Target
from oarlock.ir.dim import Dim, Size, bounds, product
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group

ITEMS = 64  # parallel items wanted before inner axes become plain loops
WORK = 1 << 15  # element operations worth a thread


def build(group: Group, target: Target) -> Kernel:
    """The kernel of a loop group."""
    pointers = pointers_of(group.reads, group.writes)
    nest = Nest(group.nodes, group.writes, target, pointers)
    if group.nodes[-1].name == "concat" and len(group.writes) == 1:
        extent = nest.concat(group.nodes[-1])
    elif any(is_reduction(n) for n in group.nodes):
        extent = nest.rows()
    else:
        extent = nest.pointwise()
    function = L.Function(
        kernel_name(group.nodes),
        nest.body.statements,
        (*pointers.values(), *nest.scratch),
        comment=describe(group.nodes),
    )
    return Kernel(
        function.name,
        tuple(group.nodes),
        tuple(group.reads),
        tuple(group.writes),
        function,
        extent=extent,
        grain=grain(nest, extent),
        scratch_bytes=nest.scratch_bytes,
        in_place=nest.in_place,
    )


def pointers_of(reads: Iterable[Value], writes: Iterable[Value]) -> dict[Value, L.Pointer]:
    """Buffer pointers ``x0, x1, ...`` of values read and ``y0, ...`` of values written."""
    found = {v: L.Pointer(f"x{i}", v.dtype) for i, v in enumerate(reads)}
    return found | {v: L.Pointer(f"y{i}", v.dtype, written=True) for i, v in enumerate(writes)}


def kernel_name(nodes: Sequence[Node]) -> str:
    """Ops and module of a kernel, short; the emitter makes names unique."""
    telling = [n for n in nodes if n.name not in ("const", "broadcast_to", "reshape", "cast")]
    ops = list(dict.fromkeys(n.name.rstrip("_") for n in telling or nodes))
    module = next((n.origin.module for n in reversed(nodes) if n.origin.module), "")
    return identifier("_".join([module.split(" + ")[0], *ops[:4]]))[:60].strip("_")


def describe(nodes: Sequence[Node]) -> str:
    """One line per node for the comment above a kernel."""
    lines = []
    for node in nodes[:24]:
        types = ", ".join(str(v.type) for v in node.inputs)
        results = ", ".join(str(v.type) for v in node.outputs)
        origin = f"  {node.origin}" if str(node.origin) else ""
        lines.append(f"{node.name}({types}) : {results}{origin}")
    if len(nodes) > 24:
        lines.append(f"and {len(nodes) - 24} more nodes")
    return "\n".join(lines)


def grain(nest: Nest, extent: Size) -> int:
    """The least number of items worth a thread."""
    per_item = max(1, _low(product(a.extent for a in nest.axes)) // max(1, _low(extent)))
    return max(1, WORK // (per_item * max(1, len(nest.nodes))))


def _low(size: Size) -> int:
    """A size, or for a symbolic one a plausible value."""
    low, high = bounds(size)
    return low if low == high else max(low, 256)


@dataclass
class Nest:
    """Builds the body of one kernel."""

    nodes: Sequence[Node]
    outputs: Sequence[Value]
    target: Target
    pointers: dict[Value, L.Pointer]
    body: Body = field(default_factory=Body)
    scratch: list[L.Pointer] = field(default_factory=list)
    scratch_bytes: Size = 0
    axes: list[Axis] = field(default_factory=list)
    in_place: tuple[Pair, ...] = ()

    def emitter(self, domain: Domain, axes: Sequence[Axis]) -> Emitter:
        """An emitter for a domain; symbols that merging removed are 0."""
        e = Emitter(self.body, self.pointers, self.nodes, domain.space)
        live = {axis.name for axis in axes}
        for axis in domain.axes:
            if axis.name not in live:
                e.bind_symbol(axis.name, L.icon(0))
        return e

    def pointwise(self) -> Size:
        """One loop nest that stores every output; the parallel extent."""
        domain = analyse(self.nodes, self.outputs)
        self.axes = axes = merge_axes(domain)
        self.in_place = in_nest(domain)
        e = self.emitter(domain, axes)
        return self.loops(e, domain, axes, lambda: self._store_all(e, domain))

    def _store_all(self, e: Emitter, domain: Domain) -> None:
        places = [(value, domain.places[value]) for value in self.outputs]
        for (value, index), expr in zip(places, [e.value(*place) for place in places]):
            e.store(value, index, expr)

    def loops(
        self, e: Emitter, domain: Domain, axes: Sequence[Axis], leaf: Callable[[], None]
    ) -> Size:
        """Loops over ``axes``, the outer ones as parallel items, the vector axis innermost."""
        if not axes:
            with self.body.if_(L.compare("lt", L.BEGIN, L.END)):
                e.enter()
                leaf()
            return 1
        vector = vector_axis(domain, axes)
        lanes = self.lanes(vector.extent)
        outer = [a for a in axes if a is not vector]
        if not outer:
            self.vector_loop(e, vector, lanes, leaf, L.BEGIN, L.END)
            return vector.extent
        count = parallel_prefix(outer)
        with self.items(e, outer[:count]):
            self.nested(
                e,
                outer[count:],
                lambda: self.vector_loop(e, vector, lanes, leaf, L.icon(0), L.index(vector.extent)),
            )
        return product(a.extent for a in outer[:count])

    @contextmanager
    def items(self, e: Emitter, axes: Sequence[Axis]) -> Iterator[None]:
        """A loop over [begin, end) with the indices of ``axes`` bound."""
        with self.body.loop("item", L.BEGIN, L.END) as item:
            rest: L.Expr = item
            for k in range(len(axes) - 1, -1, -1):
                axis, extent = axes[k], L.index(axes[k].extent)
                at = rest if k == 0 else L.binary("mod", rest, extent)
                e.bind_symbol(axis.name, self.body.let(axis.name.strip("_"), at))
                if k:
                    rest = self.body.let("rest", L.binary("div", rest, extent))
            e.enter()
            yield

    def nested(self, e: Emitter, axes: Sequence[Axis], leaf: Callable[[], None]) -> None:
        """Plain loops over ``axes`` around ``leaf``."""
        if not axes:
            leaf()
            return
        with self.body.loop(axes[0].name.strip("_"), 0, axes[0].extent) as var:
            e.bind_symbol(axes[0].name, var)
            self.nested(e, axes[1:], leaf)

    def vector_loop(
        self,
        e: Emitter,
        axis: Axis,
        lanes: int,
        leaf: Callable[[], None],
        start: L.Expr,
        stop: L.Expr,
    ) -> None:
        """A loop in steps of ``lanes``, then one over the elements that are left."""
        hint = axis.name.strip("_")
        if lanes > 1:
            with self.body.loop(hint, start, stop - (lanes - 1), lanes) as var:
                e.bind_symbol(axis.name, var)
                e.vectorise(axis.name, lanes)
                leaf()
            whole = L.binary("div", stop - start, L.icon(lanes)) * lanes
            start = start + whole
        if L.number_of(start) is not None and L.number_of(start) == L.number_of(stop):
            return
        with self.body.loop(hint, start, stop) as var:
            e.bind_symbol(axis.name, var)
            e.vectorise(axis.name, 1)
            leaf()

    def lanes(self, extent: Size) -> int:
        """Lanes for an axis: those of the target for the group's widest elements, or fewer."""
        values = [v for n in self.nodes for v in (*n.inputs, *n.outputs)]
        wide = all(v.dtype.bytes == 8 for v in values if v.rank)
        lanes = self.target.lanes(8 if wide else 4)
        while lanes > 1 and isinstance(extent, int) and lanes > extent:
            lanes //= 2
        return lanes if lanes > 2 else 1

    def rows(self) -> Size:
        """Phases over rows; the parallel extent."""
        rows = Rows(self, analyse(self.nodes, self.outputs))
        singles = None if ColumnSums(rows).fits() else rows.row_outputs()
        self.in_place = in_rows(rows.domain, self.nodes, rows.wanted(), singles, rows.stages)
        return rows.build()

    def concat(self, node: Node) -> Size:
        """Each operand is computed where it belongs in the result."""
        parts = self._part_domains(node)
        shared = self._shared_axis(node, parts)
        start: Size = 0
        if shared is None:
            with self.body.if_(L.compare("lt", L.BEGIN, L.END)):
                for value, domain in parts:
                    self._part(node, value, domain, start)
                    start = start + value.shape[node.op.axis % value.rank]  # type: ignore[attr-defined]
            return 1
        with self.body.loop("item", L.BEGIN, L.END) as item:
            for value, domain in parts:
                self._part(node, value, domain, start, shared, item)
                start = start + value.shape[node.op.axis % value.rank]  # type: ignore[attr-defined]
        return node.output.shape[shared]

    def _part_domains(self, node: Node) -> list[tuple[Value, Domain]]:
        inner = [n for n in self.nodes if n is not node]
        domains = [(v, analyse(_needed(v, inner), [v])) for v in node.inputs]
        self.axes = max(
            (d.axes for _, d in domains), key=lambda a: _low(product(x.extent for x in a))
        )
        return domains

    def _shared_axis(self, node: Node, parts: Sequence[tuple[Value, Domain]]) -> int | None:
        """The first axis before the joined one that every part runs over undivided."""
        for k in range(node.op.axis % node.output.rank):  # type: ignore[attr-defined]
            if node.output.shape[k] == 1:
                continue
            names = [{a.name for a in d.axes} for _, d in parts]
            return k if all(f"_i{k}" in found for found in names) else None
        return None

    def _part(
        self,
        node: Node,
        value: Value,
        domain: Domain,
        start: Size,
        shared: int | None = None,
        item: L.Expr | None = None,
    ) -> None:
        axis = node.op.axis % node.output.rank  # type: ignore[attr-defined]

        def target_index() -> tuple[Size, ...]:
            index = domain.places[value]
            return (*index[:axis], index[axis] + start, *index[axis + 1 :])

        domain.stores = [(node.output, _linear(target_index(), node.output.shape))]
        fixed = [a for a in domain.axes if shared is not None and a.name == f"_i{shared}"]
        domain.axes = [a for a in domain.axes if a not in fixed]
        axes = merge_axes(domain)
        with self.body.scope():
            e = self.emitter(domain, axes)
            for a in fixed:
                e.bind_symbol(a.name, item or L.icon(0))
            e.enter()

            def leaf() -> None:
                e.store(node.output, target_index(), e.value(value, domain.places[value]))

            if not axes:
                leaf()
                return
            vector = vector_axis(domain, axes)
            outer = [a for a in axes if a is not vector]
            stop = L.index(vector.extent)
            lanes = self.lanes(vector.extent)
            self.nested(e, outer, lambda: self.vector_loop(e, vector, lanes, leaf, L.icon(0), stop))


def _linear(index: tuple[Size, ...], shape: tuple[Size, ...]) -> Size:
    from oarlock.codegen.indexing import linear

    return linear(index, shape)


def _needed(value: Value, nodes: Sequence[Node]) -> list[Node]:
    """Those of ``nodes`` that ``value`` is computed from, in order."""
    wanted = {value}
    found: list[Node] = []
    for node in reversed(nodes):
        if any(v in wanted for v in node.outputs):
            found.append(node)
            wanted |= set(node.inputs)
    return found[::-1]


def vector_axis(domain: Domain, axes: Sequence[Axis]) -> Axis:
    """The axis along which most accesses are adjacent; the last one when in doubt."""

    reduced = {a.name for a in axes if a.reduced}

    def is_picked(at: Size) -> bool:
        """Data decides the place, along which axes is not known."""
        return isinstance(at, Dim) and any(name.startswith(PICKED) for name in at.symbols())

    def score(axis: Axis) -> tuple[float, int]:
        total = 0.0
        for accesses, weight, still in ((domain.loads, 1.0, 0.8), (domain.stores, 1.5, 0.2)):
            for _, at in accesses:
                stride = L.stride_of(at, axis.name)
                rare = 0.05 if reduced and not reduced & symbols_of((at,)) else 1.0
                still_here = 0.0 if is_picked(at) else still
                total += rare * (weight if stride == 1 else still_here * (stride == 0))
        if isinstance(axis.extent, int) and axis.extent < 4:
            total *= 0.25
        return total, axes.index(axis)

    return max(axes, key=score)


def parallel_prefix(axes: Sequence[Axis]) -> int:
    """How many outer axes become items: enough for ``ITEMS`` of them."""
    count, items = 0, 1
    while count < len(axes) and items < ITEMS:
        items *= max(1, bounds(axes[count].extent)[0])
        count += 1
    return count

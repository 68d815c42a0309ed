"""Loop groups with reductions: phases over rows, see ``nests``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oarlock.codegen import loops as L
from oarlock.codegen import scalars
from oarlock.codegen.column_sums import ColumnSums
from oarlock.codegen.domain import Axis, Domain, is_reduction, merge_axes, reduced_axes
from oarlock.codegen.emitter import Emitter, symbols_of
from oarlock.codegen.indexing import BACKWARD, Index
from oarlock.ir.dim import Size, product
from oarlock.ir.graph import Node, Value
from oarlock.ir.types import DType, i32

if TYPE_CHECKING:
    from oarlock.codegen.nests import Nest

SCRATCH_LIMIT = 1 << 16  # elements of a row worth keeping rather than computing again
BLOCK = 128  # terms of a partial sum: the error of n terms in blocks of b grows as sqrt(b + n / b)


@dataclass
class _Accumulator:
    """A reduction in progress: ``vector`` adds whole vectors, ``scalar`` the elements left over."""

    node: Node
    scalar: L.Var
    vector: L.Var | None
    places: list[L.Var] = field(default_factory=list)  # argmax, argmin: where the best is
    added: set[L.Var] = field(default_factory=set)


class Rows:
    """Builds the body of a group with reductions."""

    def __init__(self, nest: Nest, domain: Domain) -> None:
        from oarlock.codegen.nests import vector_axis

        self.nest, self.domain, self.body = nest, domain, nest.body
        axes = merge_axes(domain)
        nest.axes = axes
        self.kept = [a for a in axes if not a.reduced]
        self.reduced = [a for a in axes if a.reduced]
        self.vector = vector_axis(domain, axes) if axes else None
        self.lanes = nest.lanes(self.vector.extent) if self.vector else 1
        self.e: Emitter = nest.emitter(domain, axes)
        self.stages = _stages(nest.nodes)
        self.saved: dict[Value, L.Pointer] = {}
        self.first_phase: dict[Value, int] = {}
        self._choose_saved()

    @property
    def is_across(self) -> bool:
        """Lanes are rows."""
        return self.vector is not None and not self.vector.reduced and self.lanes > 1

    def build(self) -> Size:
        """Emit; the parallel extent."""
        columns = ColumnSums(self)
        if columns.fits():
            return columns.build()
        if self.is_across:
            return self._lanes_are_rows()
        if not self.kept:
            with self.body.if_(L.compare("lt", L.BEGIN, L.END)):
                self._row(1)
            return 1
        with self.nest.items(self.e, self.kept):
            self._row(1)
        return product(a.extent for a in self.kept)

    def _lanes_are_rows(self) -> Size:
        """Items are vectors of rows; the last one may be a loop over single rows."""
        axis = self.vector
        assert axis is not None
        others = [a for a in self.kept if a is not axis]
        blocks = (axis.extent + (self.lanes - 1)) // self.lanes
        block = Axis(self.domain.space.symbol("_block", blocks), blocks)
        with self.nest.items(self.e, [*others, block]):
            start = self.body.let("start", self.e.env["_block"] * self.lanes)
            extent = L.index(axis.extent)
            whole = L.compare("le", start + self.lanes, extent)
            if L.number_of(extent) is not None and int(L.number_of(extent) or 0) % self.lanes == 0:
                self._vector_of_rows(axis, start, self.lanes)
                return product(a.extent for a in [*others, block])
            with self.body.if_(whole):
                self._vector_of_rows(axis, start, self.lanes)
            with self.body.else_(), self.body.loop("row", start, extent) as row:
                self._vector_of_rows(axis, row, 1)
        return product(a.extent for a in [*others, block])

    def _vector_of_rows(self, axis: Axis, var: L.Expr, lanes: int) -> None:
        self.e.bind_symbol(axis.name, var)
        self.e.vectorise(axis.name, lanes)
        self._row(lanes)

    # One row, or one vector of rows

    def _row(self, lanes: int) -> None:
        """``lanes`` > 1: every value is a vector of rows."""
        reductions = [v for n in self.nest.nodes if is_reduction(n) for v in n.outputs]
        self.e.pin(reductions, self.nest.nodes)
        self.e.given.clear()
        last = max((self.stages[v] for v in self.wanted()), default=0)
        singles = sorted(self.row_outputs(), key=self.stages.__getitem__)
        for phase in range(last + 1):
            while singles and self.stages[singles[0]] <= phase:
                self._store_single(singles.pop(0))
            self._phase(phase, lanes)
        for value in singles:
            self._store_single(value)

    def _store_single(self, value: Value) -> None:
        index = self.domain.places[value]
        self.e.store(value, index, self.e.value(value, index))

    def wanted(self) -> list[Value]:
        """Full values that a phase stores or reduces."""
        full = self.full_outputs()
        return [*full, *(n.inputs[0] for n in self.nest.nodes if is_reduction(n))]

    def _is_full(self, value: Value) -> bool:
        reduced = {a.name for a in self.domain.axes if a.reduced}
        return bool(reduced & symbols_of(self.domain.places.get(value, ())))

    def full_outputs(self) -> list[Value]:
        """Outputs that run over reduced axes."""
        return [v for v in self.nest.outputs if self._is_full(v)]

    def row_outputs(self) -> list[Value]:
        """Outputs of one value for each row."""
        return [v for v in self.nest.outputs if not self._is_full(v)]

    def _phase(self, phase: int, lanes: int) -> None:
        """Reductions of operands known at ``phase`` and stores of outputs known by then."""
        reductions = [
            n for n in self.nest.nodes if is_reduction(n) and self.stages[n.inputs[0]] == phase
        ]
        stores = [v for v in self.full_outputs() if self.stages[v] == phase]
        if not reductions and not stores:
            return
        width = self._width(reductions, lanes)
        state = [self._start(n, lanes, width) for n in reductions]

        for value, first in self.first_phase.items():
            if first < phase:
                self._read_saved(value, lanes)

        def leaf() -> None:
            for value, first in self.first_phase.items():
                if first == phase:
                    self._save(value, lanes)
            for accumulator in state:
                self._accumulate(accumulator)
            places = [(value, self.domain.places[value]) for value in stores]
            for (value, index), expr in zip(places, [self.e.value(*place) for place in places]):
                self.e.store(value, index, expr)

        self._loops(width, lanes, leaf, [a for a in state if _is_sum(a.node)])
        for accumulator in state:
            self._finish(accumulator)

    def _width(self, reductions: Sequence[Node], lanes: int) -> int:
        """Lanes along a reduced axis in this phase; 1 when lanes are rows."""
        has_places = any(n.name in ("argmax", "argmin") for n in reductions)
        is_inner = self.vector is not None and self.vector.reduced
        return self.lanes if is_inner and not has_places else 1

    def _loops(
        self, width: int, lanes: int, leaf: Callable[[], None], sums: list[_Accumulator]
    ) -> None:
        """Loops over the reduced axes, ``width`` elements at a time along the innermost one.

        Sums of many terms are sums of blocks of them.
        Source: Higham, "The accuracy of floating point summation" (1993), section 4.
        """
        if width == 1 and lanes == 1 and self.vector is not None:
            self.e.vectorise(self.vector.name, 1)
        axes = list(self.reduced)
        if width > 1 and self.vector is not None:
            axes = [a for a in axes if a is not self.vector] + [self.vector]
        if not axes:
            leaf()
            return
        inner, terms = len(axes), 1
        while sums and inner and terms < BLOCK:
            inner -= 1
            extent = axes[inner].extent
            step = width if inner == len(axes) - 1 else 1
            terms *= max(1, int(extent) // step) if isinstance(extent, int) else 4 * BLOCK
        if not sums or (not inner and terms <= BLOCK):
            self._nested(axes, width, leaf)
        elif terms <= 2 * BLOCK:
            self.nest.nested(
                self.e, axes[:inner], lambda: self._block(
                    sums, lambda: self._nested(axes[inner:], width, leaf)))  # fmt: skip
        else:
            rest = axes[inner + 1 :]
            self.nest.nested(
                self.e, axes[:inner], lambda: self._blocks(axes[inner], rest, width, leaf, sums))  # fmt: skip

    def _nested(self, axes: Sequence[Axis], width: int, leaf: Callable[[], None]) -> None:
        """Loops over ``axes``, the last one ``width`` elements at a time."""
        if width == 1 or not axes:
            self.nest.nested(self.e, axes, leaf)
            return
        axis, stop = axes[-1], L.index(axes[-1].extent)
        self.nest.nested(
            self.e, axes[:-1],
            lambda: self.nest.vector_loop(self.e, axis, width, leaf, L.icon(0), stop),
        )  # fmt: skip

    def _blocks(
        self, axis: Axis, rest: Sequence[Axis], width: int, leaf: Callable[[], None],
        sums: list[_Accumulator],
    ) -> None:  # fmt: skip
        """The loop over ``axis`` in blocks, each with the loops over ``rest`` inside."""
        terms = max(1, int(product(a.extent for a in rest)) if rest else 1)
        step = 1 if rest else width
        size = max(1, BLOCK * max(1, width if rest else 1) // terms) * step
        if isinstance(axis.extent, int):
            count = -(-int(axis.extent) // size)
            size = max(step, int(axis.extent) // count // step * step)
        hint, stop = axis.name.strip("_"), L.index(axis.extent)

        def along(start: L.Expr, end: L.Expr) -> None:
            if not rest and width > 1:
                self.nest.vector_loop(self.e, axis, width, leaf, start, end)
                return
            with self.body.loop(hint, start, end) as var:
                self.e.bind_symbol(axis.name, var)
                self._nested(rest, width, leaf)

        whole = L.binary("div", stop, L.icon(size)) * size
        with self.body.loop(f"{hint}_block", L.icon(0), whole, size) as start:
            self._block(sums, lambda: along(start, start + size))
        if L.number_of(whole) is None or L.number_of(whole) != L.number_of(stop):
            self._block(sums, lambda: along(whole, stop))

    def _block(self, sums: list[_Accumulator], loops: Callable[[], None]) -> None:
        """Partial sums of what ``loops`` add, then added to the whole ones."""
        totals = [(a, a.scalar, a.vector) for a in sums]
        for a, scalar, vector in totals:
            a.scalar = self.body.variable(
                "part", _identity("reduce_sum", scalar.dtype, scalar.lanes)
            )
            if vector is not None:
                zero = _identity("reduce_sum", vector.dtype, vector.lanes)
                a.vector = self.body.variable("part_v", zero)
        loops()
        for a, scalar, vector in totals:
            for total, part in ((scalar, a.scalar), (vector, a.vector)):
                if total is not None and part in a.added:
                    self.body.assign(total, _combine("reduce_sum", total, part))
                    a.added.add(total)
            a.scalar, a.vector = scalar, vector

    # Reductions

    def _start(self, node: Node, lanes: int, width: int) -> _Accumulator:
        dtype = L.compute_dtype(node.inputs[0].dtype if _is_arg(node) else node.output.dtype)
        scalar = self.body.variable(node.name, _identity(node.name, dtype, lanes))
        first = _identity(node.name, dtype, width)
        vector = self.body.variable(f"{node.name}_v", first) if width > 1 else None
        places = []
        if _is_arg(node):
            places = [self.body.variable("best", L.const(0, L.i64, lanes))]
        return _Accumulator(node, scalar, vector, places)

    def _accumulate(self, a: _Accumulator) -> None:
        operand = a.node.inputs[0]
        index = self.domain.places[operand]
        value = L.cast(self.e.value(operand, index), a.scalar.dtype)
        var = a.vector if a.vector is not None and self.e.lanes > 1 else a.scalar
        if a.places:
            self._keep_best(a, L.splat(value, var.lanes))
            return
        a.added.add(var)
        self.body.assign(var, _combine(a.node.name, var, L.splat(value, var.lanes)))

    def _keep_best(self, a: _Accumulator, value: L.Expr) -> None:
        value = self.body.let("candidate", value)
        op = "gt" if a.node.name == "argmax" else "lt"
        better = L.compare(op, value, a.scalar)
        if value.dtype.is_float:
            appears = L.binary(
                "and", L.compare("ne", value, value), L.compare("eq", a.scalar, a.scalar)
            )
            better = L.binary("or", better, appears)
        better = self.body.let("better", better)
        (axis,) = reduced_axes(a.node)
        place = self.domain.places[a.node.inputs[0]][axis]
        at = L.splat(L.cast(self.e.positions(place), L.i64), value.lanes)
        self.body.assign(a.scalar, L.select(better, value, a.scalar))
        self.body.assign(a.places[0], L.select(better, at, a.places[0]))

    def _finish(self, a: _Accumulator) -> None:
        total: L.Expr = a.places[0] if a.places else a.scalar
        if a.vector is not None:
            total = _combine(a.node.name, L.across(_ACROSS[a.node.name], a.vector), a.scalar)
        total = self.body.let(a.node.name, L.cast(total, a.node.output.dtype))
        self.e.given[a.node.output] = lambda _: total

    # Values kept between phases

    def _choose_saved(self) -> None:
        """Expensive full values that more than one phase computes."""
        count = product(a.extent for a in self.reduced)
        if isinstance(count, int) and count > SCRATCH_LIMIT:
            return
        for value, phase in _used_in_phases(self).items():
            self.saved[value] = self._scratch(value, count)
            self.first_phase[value] = phase

    def _scratch(self, value: Value, count: Size) -> L.Pointer:
        dtype = L.compute_dtype(value.dtype)
        rows = 1 if self.vector is None or self.vector.reduced else self.lanes
        name = f"kept{len(self.nest.scratch)}"
        pointer = L.Pointer(name, dtype, "scratch", True, self.nest.scratch_bytes)
        size = (count * (rows * dtype.bytes) + 63) // 64 * 64
        self.nest.scratch_bytes = self.nest.scratch_bytes + size
        self.nest.scratch.append(pointer)
        return pointer

    def _saved_position(self, lanes: int) -> Size:
        at: Size = 0
        for axis in sorted(self.reduced, key=lambda a: a is self.vector):
            at = at * axis.extent + axis.symbol
        return at * lanes

    def _save(self, value: Value, lanes: int) -> None:
        """Store a value that later phases read."""
        expr = self.e.value(value, self.domain.places[value])
        at = self._saved_position(lanes)
        if lanes > 1:
            self.body.store(self.saved[value], self.e.index(at), L.splat(expr, lanes))
        else:
            self.e.store_at(self.saved[value], at, expr)

    def _read_saved(self, value: Value, lanes: int) -> None:
        """Let the phase read a value stored before."""
        pointer, at = self.saved[value], self._saved_position(lanes)

        def load(index: Index) -> L.Expr | None:
            if index != self.domain.places[value]:
                return None
            if lanes > 1:
                return L.load(pointer, self.e.index(at), lanes)
            return self.e.load_at(pointer, at)

        self.e.given[value] = load


def _is_arg(node: Node) -> bool:
    return node.name in ("argmax", "argmin")


_ACROSS = {
    "reduce_sum": "sum",
    "reduce_prod": "prod",
    "reduce_max": "maximum",
    "reduce_min": "minimum",
}


def _is_sum(node: Node) -> bool:
    return node.name == "reduce_sum" and node.output.dtype.is_float


def _identity(name: str, dtype: DType, lanes: int = 1) -> L.Expr:
    return L.splat(_first(name, dtype), lanes)


def _first(name: str, dtype: DType) -> L.Expr:
    if name in ("reduce_sum", "reduce_prod"):
        return L.const(0 if name == "reduce_sum" else 1, i32 if dtype.is_bool else dtype)
    is_max = name in ("reduce_max", "argmax")
    if dtype.is_bool:
        return L.const(0 if is_max else 1, i32)
    if dtype.is_float:
        return L.const(float("-inf") if is_max else float("inf"), dtype)
    bits = 8 * dtype.bytes
    low, high = (
        (0, (1 << bits) - 1) if not dtype.is_signed else (-(1 << bits - 1), (1 << bits - 1) - 1)
    )
    return L.const(low if is_max else high, dtype)


def _combine(name: str, a: L.Expr, b: L.Expr) -> L.Expr:
    op = {
        "reduce_sum": "add",
        "reduce_prod": "mul",
        "reduce_max": "maximum",
        "reduce_min": "minimum",
    }
    return scalars.RULES[op[name]](b, a)  # what looks for NaN is not in the chain of a's values


def _stages(nodes: Sequence[Node]) -> dict[Value, int]:
    """The phase in which each value of the group can be computed."""
    stage: dict[Value, int] = {}
    for node in nodes:
        known = max((stage.get(v, 0) for v in node.inputs), default=0)
        for out in node.outputs:
            stage[out] = known + is_reduction(node)
    return _Zero(stage)


class _Zero(dict):
    """Values from outside of the group are known from the start."""

    def __missing__(self, key: object) -> int:
        return 0


def _used_in_phases(rows: Rows) -> dict[Value, int]:
    """Expensive full values that are needed in several phases, with the first of them."""
    phases: dict[Value, set[int]] = {}
    nodes = set(rows.nest.nodes)

    def visit(value: Value, phase: int) -> None:
        node = value.producer
        if node is None or node not in nodes or is_reduction(node):
            return
        if phase in phases.setdefault(value, set()):
            return
        phases[value].add(phase)
        for v in node.inputs:
            visit(v, phase)

    for value in rows.wanted():
        visit(value, rows.stages[value])
    return {
        v: min(used)
        for v, used in phases.items()
        if len(used) > 1 and rows._is_full(v) and _is_expensive(v.producer)
    }


def _is_expensive(node: Node | None) -> bool:
    return node is not None and node.name not in scalars.CHEAP and node.name not in BACKWARD

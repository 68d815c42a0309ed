"""Sums down the columns of a matrix: rows pass one after another by sums that lie in the first cache.

Where lanes are columns and the sum runs over rows, a vector of columns at a time would read a line of
every row: each from another page.  Here items are blocks of adjacent columns, and the partial sums of
a block are an array; the order of the additions is that of ``rows``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from oarlock.codegen import loops as L
from oarlock.codegen.domain import Axis, is_reduction
from oarlock.codegen.emitter import Given
from oarlock.codegen.indexing import Index
from oarlock.ir.dim import Size, product
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.rows import Rows

WIDTH = 1024  # columns of a block: 4 KiB of f32 for each array of sums
LEAST = 64  # columns of a block
SHARES = 4  # blocks that threads should find
MOST = 4  # sums
FEW_ROWS = 16


class ColumnSums:
    """Builds the body of a group whose reductions are such sums, see ``Rows``."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.body, self.e = rows, rows.body, rows.e
        self.sums = [n for n in rows.nest.nodes if is_reduction(n)]
        self.totals: dict[Node, L.Pointer] = {}
        self.parts: dict[Node, L.Pointer] = {}

    def fits(self) -> bool:
        """Only sums of floats over one axis, all of them and what is stored known at once."""
        rows, axis = self.rows, self.rows.vector
        if not rows.is_across or axis is None or len(rows.reduced) != 1 or rows.saved:
            return False
        extents = axis.extent, rows.reduced[0].extent
        if not all(isinstance(n, int) for n in extents) or len(self.sums) > MOST:
            return False
        is_large = extents[0] >= 2 * LEAST and extents[1] >= FEW_ROWS  # type: ignore[operator]
        sums = all(n.name == "reduce_sum" and n.output.dtype.is_float for n in self.sums)
        return is_large and sums and all(rows.stages[v] == 0 for v in rows.wanted())

    @property
    def width(self) -> int:
        """Columns of a block, whole vectors."""
        assert self.rows.vector is not None
        extent, lanes = int(self.rows.vector.extent), self.rows.lanes  # type: ignore[arg-type]
        share = -(-extent // SHARES // lanes) * lanes
        return max(min(WIDTH, share), LEAST, lanes)

    def build(self) -> Size:
        """Emit; the parallel extent."""
        rows, axis = self.rows, self.rows.vector
        assert axis is not None
        width, extent = self.width, L.index(axis.extent)
        blocks = -(-axis.extent // width)
        block = Axis(rows.domain.space.symbol("_block", blocks), blocks)
        others = [a for a in rows.kept if a is not axis]
        for node in self.sums:
            dtype = L.compute_dtype(node.output.dtype)
            self.totals[node] = self.body.array("total", dtype, width)
            self.parts[node] = self.body.array("part", dtype, width)
        with rows.nest.items(self.e, [*others, block]):
            start = self.body.let("start", self.e.env["_block"] * width)
            stop = self.body.let("stop", L.minimum(start + width, extent))
            self._columns(axis, start, stop)
        return product(a.extent for a in [*others, block])

    def _columns(self, axis: Axis, start: L.Expr, stop: L.Expr) -> None:
        """Sums of one block of columns, then what is made of them."""
        from oarlock.codegen.rows import BLOCK

        rows, down = self.rows, self.rows.reduced[0]
        self.e.pin([n.output for n in self.sums], rows.nest.nodes)
        self.e.given.clear()
        self._clear(self.totals)
        end = L.index(down.extent)
        with self.body.loop("first", 0, down.extent, BLOCK) as first:
            self._clear(self.parts)
            last = L.minimum(first + BLOCK, end)
            with self.body.loop("row", first, last) as row:
                self.e.bind_symbol(down.name, row)
                rows.nest.vector_loop(
                    self.e, axis, rows.lanes, lambda: self._add(axis, start), start, stop
                )
            self._add_parts()
        for node in self.sums:
            self.e.given[node.output] = self._given(node, axis, start)
        rows.nest.vector_loop(self.e, axis, rows.lanes, self._store, start, stop)

    def _clear(self, sums: dict[Node, L.Pointer]) -> None:
        for pointer in sums.values():
            with self.body.loop("i", 0, self.width, self.rows.lanes) as i:
                self.body.store(pointer, i, L.const(0, pointer.dtype, self.rows.lanes))

    def _add(self, axis: Axis, start: L.Expr) -> None:
        """An element, or a vector, of a row."""
        e, rows = self.e, self.rows
        places = rows.domain.places
        at = self.body.let("at", e.env[axis.name] - start)
        for node in self.sums:
            operand, part = node.inputs[0], self.parts[node]
            value = L.splat(L.cast(e.value(operand, places[operand]), part.dtype), e.lanes)
            self.body.store(part, at, L.load(part, at, e.lanes) + value)
        stores = [(v, places[v]) for v in rows.full_outputs()]
        for (value, index), expr in zip(stores, [e.value(*place) for place in stores]):
            e.store(value, index, expr)

    def _add_parts(self) -> None:
        lanes = self.rows.lanes
        for node, total in self.totals.items():
            with self.body.loop("i", 0, self.width, lanes) as i:
                value = L.load(total, i, lanes) + L.load(self.parts[node], i, lanes)
                self.body.store(total, i, value)

    def _given(self, node: Node, axis: Axis, start: L.Expr) -> Given:
        def load(_: Index) -> L.Expr:
            total, e = self.totals[node], self.e
            value = L.load(total, e.env[axis.name] - start, e.lanes)
            return self.body.let("sum", L.cast(value, node.output.dtype))

        return load

    def _store(self) -> None:
        for value in self._outputs():
            index = self.rows.domain.places[value]
            self.e.store(value, index, self.e.value(value, index))

    def _outputs(self) -> list[Value]:
        full = self.rows.full_outputs()
        return [v for v in self.rows.nest.outputs if v not in full]

"""Depthwise convolutions and pools: rows of output, blocks of columns held in registers, lanes
along the channels.

A subclass says what is accumulated.  Taps of the innermost axis are unrolled, each element read
once per block; blocks that touch the border leave out the taps outside, so no loop branches.  Taps
of the other axes are loops over those inside.  An innermost axis of unknown size runs its border
columns one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.emitter import Emitter
from oarlock.codegen.fuse import Epilogue, Group
from oarlock.codegen.indexing import linear, strides_of
from oarlock.codegen.inplace import in_epilogue
from oarlock.codegen.kernel import Constant, Kernel
from oarlock.codegen.kernels.conv_window import Axis, Span, blocks
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir.dim import Dim, Size, bounds, product
from oarlock.ir.graph import Value

WORK = 1 << 16  # element operations worth a thread
Taps = tuple[Size, ...]  # one tap per axis but the innermost


class WindowRows:
    """Builds the kernel of one windowed op without sums over channels."""

    width = 8  # columns of a block

    def __init__(
        self, group: Group, target: Target, axes: Sequence[Axis], reads: Sequence[Value]
    ) -> None:
        assert group.anchor is not None
        self.group, self.target, self.axes = group, target, list(axes)
        self.node, self.reads = group.anchor, tuple(reads)
        self.x, self.y = self.node.inputs[0], self.node.output
        self.is_last = self.node.op.layout == "NHWC"  # type: ignore[attr-defined]
        self.pointers = pointers_of(self.reads, group.writes)
        self.body = Body()
        self.e = Emitter(self.body, self.pointers)
        self.type = L.CType(L.compute_dtype(self.y.dtype))
        self.lanes = 1
        self.outer: list[Dim] = []  # symbols of the batch, then of the channel unless it is last
        self.rows: list[Size] = []  # symbols of the spatial axes but the innermost
        self.channel: Size = 0

    # What a subclass accumulates

    def begin(self, span: Span | None) -> L.Expr:
        """The first value of an accumulator."""
        raise NotImplementedError

    def weights(self, taps: Taps) -> Sequence[L.Expr | None]:
        """What ``add`` needs for each innermost tap."""
        return [None] * self.axes[-1].kernel

    def weight(self, taps: Taps, tap: Size) -> L.Expr | None:
        """What ``add`` needs for an innermost tap known at run time."""
        return None

    def add(self, acc: L.Expr, value: L.Expr, weight: L.Expr | None) -> L.Expr:
        """The accumulator after one more element."""
        raise NotImplementedError

    def finish(self, acc: L.Expr, count: L.Expr | int) -> L.Expr:
        """The result, of ``count`` innermost taps inside."""
        return acc

    # Loops

    def kernel(
        self, constants: Sequence[Constant] = (), pointers: Sequence[L.Pointer] = ()
    ) -> Kernel:
        """The kernel, once ``pointers`` of ``constants`` are known."""
        extent = self._items()
        function = L.Function(
            kernel_name(self.group.nodes),
            self.body.statements,
            (*self.pointers.values(), *pointers),
            comment=describe(self.group.nodes),
        )
        return Kernel(
            function.name,
            tuple(self.group.nodes),
            self.reads,
            tuple(self.group.writes),
            function,
            tuple(constants),
            extent,
            self._grain(),
            slow=None if self.is_last else "channels are not last",
            in_place=in_epilogue(self.group),
        )

    def _grain(self) -> int:
        per_row = product(axis.kernel for axis in self.axes)
        for size in (self.axes[-1].out, self.y.shape[-1] if self.is_last else 1):
            per_row *= size if isinstance(size, int) else max(64, bounds(size)[0])
        return max(1, WORK // max(1, int(per_row)))

    def _items(self) -> Size:
        """Rows of output as items; the number of them."""
        heads = self.y.shape[: 1 if self.is_last else 2]
        extents = [*heads, *(a.out for a in self.axes[:-1])]
        names = ["n", "c"][: len(heads)] + ["d", "h"][len(self.axes) * -1 + 1 :][
            : len(self.axes) - 1
        ]
        with self.body.loop("item", L.BEGIN, L.END) as item:
            symbols = bind_items(self.e, item, names, extents)
            self.outer, self.rows = symbols[: len(heads)], list(symbols[len(heads) :])
            spans = [
                axis.taps(self.body, self.e.index(at)) for axis, at in zip(self.axes, self.rows)
            ]
            self._columns(spans)
        return product(extents)

    def _columns(self, spans: Sequence[tuple[L.Expr, L.Expr]]) -> None:
        axis = self.axes[-1]
        if axis.is_static:
            for block in blocks(axis, self.width):
                stop = block.start + block.repeat * block.width
                with self._column_loop(block.start, stop, block.width) as column:
                    self._channels(column, block.spans, spans)
            return
        first, stop = axis.interior()
        inside = (0, axis.kernel)
        self._border(0, first, spans)
        start, end = (self.body.let(k, L.index(v)) for k, v in (("start", first), ("end", stop)))
        with self._column_loop(start, end - (self.width - 1), self.width) as column:
            self._channels(column, (inside,) * self.width, spans)
        whole = L.binary("div", end - start, L.icon(self.width)) * self.width
        with self._column_loop(start + whole, end, 1) as column:
            self._channels(column, (inside,), spans)
        self._border(stop, axis.out, spans)

    def _border(self, start: Size, stop: Size, spans: Sequence[tuple[L.Expr, L.Expr]]) -> None:
        """Columns whose windows may leave the tensor."""
        if start == stop:
            return
        with self._column_loop(L.index(start), L.index(stop), 1) as column:
            span = self.axes[-1].taps(self.body, self.e.index(column))
            self._channels(column, None, [*spans, span])

    @contextmanager
    def _column_loop(self, start: L.Expr | int, stop: L.Expr | int, step: int) -> Iterator[Size]:
        """The first column of a block; no loop around a single one."""
        if isinstance(start, int) and isinstance(stop, int) and stop - start == step:
            with self.body.scope():
                self.e.enter()
                yield start
            return
        with self.body.loop("w", start, stop, step) as w:
            yield self.e.bind("w", w, self.axes[-1].out)

    def _channels(
        self,
        column: Size,
        inner: Sequence[Span] | None,
        spans: Sequence[tuple[L.Expr, L.Expr]],
    ) -> None:
        """A block of columns for every channel."""
        if not self.is_last:
            self.lanes = 1
            self._block(column, inner, spans)
            return
        channels = self.y.shape[-1]
        for start, stop, lanes in vector_pieces(
            channels, self.target.lanes(max(4, self.type.dtype.bytes))
        ):
            self.lanes = lanes
            with self.body.loop("o", start, stop, lanes) as o:
                self.channel = self.e.bind("o", o, channels)
                self.e.vectorise(str(self.channel), lanes)
                self._block(column, inner, spans)

    def _block(
        self,
        column: Size,
        inner: Sequence[Span] | None,
        spans: Sequence[tuple[L.Expr, L.Expr]],
    ) -> None:
        accs = [
            self.body.variable("acc", L.splat(self.begin(s), self.lanes)) for s in (inner or [None])
        ]
        with self._tap_loops(spans[: len(self.rows)]) as taps:
            if inner is None:
                self._dynamic(column, accs[0], taps, spans[-1])
            else:
                self._unrolled(column, inner, accs, taps)
        outer = self._outer_count(spans[: len(self.rows)])
        for r, acc in enumerate(accs):
            if inner is None:
                count = outer * (spans[-1][1] - spans[-1][0])
            else:
                count = outer * (inner[r][1] - inner[r][0])
            self.column, self.counted = column + r, count
            self._store(self.finish(acc, count), column + r)

    def _outer_count(self, spans: Sequence[tuple[L.Expr, L.Expr]]) -> L.Expr:
        total: L.Expr = L.icon(1)
        for first, stop in spans:
            total = total * (stop - first)
        return total

    @contextmanager
    def _tap_loops(self, spans: Sequence[tuple[L.Expr, L.Expr]]) -> Iterator[Taps]:
        """Loops over the taps of every axis but the innermost."""
        if not spans:
            with self.body.scope():
                self.e.enter()
                yield ()
            return
        depth = len(self.rows) - len(spans)
        axis = self.axes[depth]
        with self.body.loop("k", *spans[0]) as k:
            tap = self.e.bind(f"k{depth}", k, axis.kernel)
            with self._tap_loops(spans[1:]) as inner:
                yield (tap, *inner)

    def _unrolled(
        self, column: Size, inner: Sequence[Span], accs: Sequence[L.Var], taps: Taps
    ) -> None:
        """Each element once, in order, into every column whose window holds it."""
        axis = self.axes[-1]
        uses: dict[int, list[tuple[int, int]]] = {}
        for r, (first, stop) in enumerate(inner):
            for tap in range(first, stop):
                uses.setdefault(r * axis.stride + tap * axis.dilation, []).append((r, tap))
        weights = self.weights(taps)
        base = self.body.let("at", self.e.index(self._position(axis.source(column, 0), taps)))
        step = strides_of(self.x.shape)[-2 if self.is_last else -1]
        for offset in sorted(uses):
            place = base + L.index(step * offset)
            value = self.body.let("v", L.load(self.pointers[self.x], place, self.lanes))
            for r, tap in uses[offset]:
                self.body.assign(accs[r], self.add(accs[r], value, weights[tap]))

    def _dynamic(self, column: Size, acc: L.Var, taps: Taps, span: tuple[L.Expr, L.Expr]) -> None:
        axis = self.axes[-1]
        with self.body.loop("k", *span) as k:
            tap = self.e.bind("tap", k, axis.kernel)
            place = self.e.index(self._position(axis.source(column, tap), taps))
            value = L.load(self.pointers[self.x], place, self.lanes)
            self.body.assign(acc, self.add(acc, value, self.weight(taps, tap)))

    def _position(self, column: Size, taps: Taps) -> Size:
        """Of the element of x that a tap reads, elements."""
        rows = [a.source(at, tap) for a, at, tap in zip(self.axes, self.rows, taps)]
        return linear(self._index((*rows, column)), self.x.shape)

    def _index(self, place: Sequence[Size]) -> tuple[Size, ...]:
        return (*self.outer, *place, *([self.channel] if self.is_last else []))

    def _store(self, acc: L.Expr, column: Size) -> None:
        index = self._index((*self.rows, column))
        epilogue = self.group.epilogue or Epilogue(self.y, (), (self.y,), ())
        for value, place, expr in self.e.epilogue(epilogue, acc, index):
            self.e.store(value, place, expr)


def bind_items(
    e: Emitter, item: L.Expr, names: Sequence[str], extents: Sequence[Size]
) -> list[Dim]:
    """Symbols for the axes of an item, the last one fastest."""
    places: list[L.Expr] = []
    rest = item
    for k in range(len(extents) - 1, -1, -1):
        extent = L.index(extents[k])
        at = rest if k == 0 else L.binary("mod", rest, extent)
        places.append(e.body.let(names[k], at))
        if k:
            rest = e.body.let("rest", L.binary("div", rest, extent))
    return [e.bind(n, at, size) for n, at, size in zip(names, reversed(places), extents)]


def vector_pieces(extent: Size, lanes: int) -> list[tuple[L.Expr, L.Expr, int]]:
    """(start, stop, lanes) that cover an axis: full vectors, then shorter ones, then scalars."""
    found: list[tuple[L.Expr, L.Expr, int]] = []
    if not isinstance(extent, int):
        stop = L.index(extent)
        whole = L.binary("div", stop, L.icon(lanes)) * lanes
        return (
            [(L.icon(0), whole, lanes), (whole, stop, 1)] if lanes > 1 else [(L.icon(0), stop, 1)]
        )
    start = 0
    while start < extent:
        stop = start + (extent - start) // lanes * lanes
        if stop > start:
            found.append((L.icon(start), L.icon(stop), lanes))
        start, lanes = stop, max(1, lanes // 2 if lanes > 4 else 1)
    return found

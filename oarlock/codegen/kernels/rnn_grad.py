"""Gradients of recurrent scans: every step, from the last one back, in one kernel.

Items are sequences of the batch.  A step is a pass over the elements of its rows, which gives the
gradients of the projections, and a product of those by the hidden weights, which every thread packs
once.  The product adds to what the pass leaves of the gradient of the hidden state, in rows of whole
panels in scratch; the other states' gradients live in their outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.emitter import Emitter
from oarlock.codegen.fuse import Group
from oarlock.codegen.indexing import Space
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.panels import Panels
from oarlock.codegen.kernels.rnn import LIKELY_STEPS, ROW, THREAD_WORK, parts_of, pieces
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.operands import number_everywhere
from oarlock.codegen.target import Target
from oarlock.ir import Builder, Dim, Graph, Program, TensorType, Value
from oarlock.ir.dim import bounds
from oarlock.ir.graph import Node
from oarlock.ir.types import f32, f64
from oarlock.ops.recurrence_train import Built
from oarlock.passes.decompose import decompose
from oarlock.passes.rewrite import prune

K, N = Dim("_k", 0), Dim("_n", 0)


class ScanGradMaker:
    """``lstm_scan_grad``, ``gru_scan_grad``, ``rnn_scan_grad``."""

    takes_epilogue = False

    @staticmethod
    def operands(node: Node) -> tuple[Value, ...]:
        """Zeros, the gradient of outputs that nothing reads but the last, need no memory."""
        return node.inputs[1:] if _has_no_dy(node) else node.inputs

    def accepts(self, node: Node, target: Target) -> bool:
        """f32 or f64, a known number of units; others become loops over smaller kernels."""
        hidden = node.inputs[-1].shape[1]
        return isinstance(hidden, int) and node.inputs[0].dtype in (f32, f64)

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        return _ScanGrad(group.anchor, target).build()


def _has_no_dy(node: Node) -> bool:
    dy, *others = node.inputs
    return number_everywhere(dy) == 0 and dy not in others


class _Step(Built):
    """A step as nodes; the product is taken apart from them."""

    def matmul(self, total: Value, w: Value) -> Value:
        """Notes the operand, gives a stand-in of the product."""
        self.operand, self.product = total, self.b.input(self.state, "product")
        return self.product

    def __init__(self, b: Any, state: TensorType) -> None:
        super().__init__(b)
        self.state = state


@dataclass
class _Previous:
    """The states ``sequence`` one step before, ``first`` before the first step."""

    sequence: Value
    first: Value


@dataclass
class _Cell:
    """A step: its sources, the parts of what it gives, the states after it without the product."""

    graph: Graph
    sources: list[Value]
    given: list[int]  # parts of each sequence
    operand: int  # the sequence that the product reads
    runs: list[tuple[int, int]]  # of its parts: first, count


def _cell(op: Any, dtype: L.DType, hidden: int, rows: Sequence[int], has_dy: bool) -> _Cell:
    """``rows`` are the widths of what a step reads, in multiples of H; without dy, that is 0."""
    b = Builder(Graph())
    state = TensorType(dtype, (ROW, hidden))
    wide = [b.input(TensorType(dtype, (ROW, n * hidden)), f"v{i}") for i, n in enumerate(rows)]
    grads = [b.input(state, f"g{i}") for i in range(op.states)]
    m = _Step(b, state)
    zeros = [] if has_dy else [b.broadcast_to(b.const(0.0, dtype), shape=state.shape)]
    after, given = op.step(m, [*zeros, *wide], None, *grads)
    parts = [parts_of(v, hidden) for v in given]
    rest = _without(b, after[0], m.product)
    b.graph.outputs = [*(p for found in parts for p in found), rest, *after[1:]]
    b.graph.inputs = [*wide, *grads]
    graph = decompose(Program(prune(b.graph))).graph
    read = parts_of(m.operand, hidden)
    operand = next(i for i, found in enumerate(parts) if set(read) <= set(found))
    places = [parts[operand].index(v) for v in read]
    return _Cell(graph, list(graph.inputs), [len(p) for p in parts], operand, _runs(places))


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Parts that lie one after the other, as (first, count)."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and sum(found[-1]) == place:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((place, 1))
    return found


def _without(b: Builder, value: Value, product: Value) -> Value:
    """What is added to ``product`` to give ``value``."""
    if value is product:
        return b.broadcast_to(b.const(0.0, value.dtype), shape=value.shape)
    node = value.producer
    assert node is not None and node.name == "add", "the hidden state's gradient is a sum"
    return next(v for v in node.inputs if v is not product)


@dataclass
class _ScanGrad:
    """Builds one kernel."""

    node: Node
    target: Target
    body: Body = field(default_factory=Body)
    helpers: dict[str, L.Function] = field(default_factory=dict)

    def __post_init__(self) -> None:
        op: Any = self.node.op
        self.op, self.dy = op, self.node.inputs[0]
        self.grads, self.saved, self.firsts, self.w = op.operands(self.node.inputs[1:])
        rows = op.before(self.saved, self.firsts, lambda s, x: _Previous(s, x))
        self.has_dy = not _has_no_dy(self.node)
        self.rows: list[Value | _Previous] = [self.dy, *rows] if self.has_dy else rows
        self.steps, self.batch, self.hidden = self.dy.shape
        self.micro = M.tile(self.target, self.dy.dtype, self.dy.dtype)
        high = bounds(self.batch)[1]
        self.heights = tuple(range(min(self.micro.rows, high or self.micro.rows), 0, -1)) or (1,)
        self.panels = -(-self.hidden // self.micro.columns)
        self.pitch = self.panels * self.micro.columns
        self.depth = op.gates * self.hidden
        widths = [self._width(r) for r in self.rows]
        self.cell = _cell(op, self.dy.dtype, self.hidden, widths, self.has_dy)

    def _width(self, row: Value | _Previous) -> int:
        value = row.sequence if isinstance(row, _Previous) else row
        return value.shape[2] // self.hidden

    def build(self) -> Kernel:
        """The kernel."""
        reads = tuple(dict.fromkeys(ScanGradMaker.operands(self.node)))
        writes = self.node.outputs
        self.pointers = pointers_of(reads, writes)
        dtype = self.micro.dtype
        packed_bytes = self.depth * self.pitch * dtype.bytes
        self.packed = L.Pointer("packed", dtype, "scratch", True, 0)
        self.kept = L.Pointer("kept", dtype, "scratch", True, packed_bytes)
        self.body.reserve(*(p.name for p in self.pointers.values()), "packed", "kept")
        self._pack()
        self._begin()
        self._run()
        self._end()
        name = kernel_name([self.node])
        function = L.Function(
            name, self.body.statements, (*self.pointers.values(), self.packed, self.kept),
            comment=describe([self.node]), helpers=tuple(self.helpers.values()),
        )  # fmt: skip
        scratch = packed_bytes + self.batch * (self.pitch * dtype.bytes)
        return Kernel(
            name, (self.node,), reads, tuple(writes), function, extent=self.batch,
            grain=self._grain(), scratch_bytes=scratch, in_place=self._in_place(),
        )  # fmt: skip

    def _in_place(self) -> tuple[tuple[Value, Value], ...]:
        """What is given goes over what was saved: a step reads that of its rows before it stores."""
        given, _ = self._outputs()
        before = {r.sequence for r in self.rows if isinstance(r, _Previous)}
        saved = [v for v in self.rows if isinstance(v, Value) and v not in before]
        return tuple((y, x) for y in given for x in saved if x.type == y.type)

    def _grain(self) -> int:
        low, high = bounds(self.steps)
        steps = low if low == high else LIKELY_STEPS
        return max(1, THREAD_WORK // max(1, steps * self.depth * self.hidden))

    def _pack(self) -> None:
        source = self.pointers[self.w]
        panels = Panels(self.body, self.helpers, source, K * self.hidden + N, self.hidden)
        for first, stop, micro in self._panels():
            with self.body.loop("panel", first, stop) as panel:
                to = L.Address(self.packed, panel * (self.depth * self.micro.columns))
                column = panel * self.micro.columns
                panels.pack(to, micro, {}, column, L.icon(0), L.icon(self.depth), True)

    # The states' gradients

    def _begin(self) -> None:
        """From those after the last step."""
        firsts = self.node.outputs[len(self.cell.given) :]
        for k, (source, to) in enumerate(zip(self.grads, firsts)):
            with self.body.loop("r", L.BEGIN, L.END) as r, self.body.loop("j", 0, self.hidden) as j:
                value = L.load(self.pointers[source], r * self.hidden + j)
                if k:
                    self.body.store(self.pointers[to], r * self.hidden + j, value)
                else:
                    self.body.store(self.kept, (r - L.BEGIN) * self.pitch + j, value)

    def _end(self) -> None:
        """The gradient of the first hidden state."""
        to = self.pointers[self.node.outputs[len(self.cell.given)]]
        with self.body.loop("r", L.BEGIN, L.END) as r, self.body.loop("j", 0, self.hidden) as j:
            value = L.load(self.kept, (r - L.BEGIN) * self.pitch + j)
            self.body.store(to, r * self.hidden + j, value)

    # Time

    def _run(self) -> None:
        """All steps; what the first step of the scan reads before it is a state of its own."""
        step = self._step()
        self.helpers[step.name] = step
        steps, turn = L.index(self.steps), not self.op.reverse

        def time(i: L.Expr) -> L.Expr:
            return steps - 1 - i if turn else i

        with self.body.loop("i", 0, steps - 1) as i:
            self._call(step, self.body.let("t", time(i)), self.body.let("t_before", time(i + 1)))
        with self.body.if_(L.compare("gt", steps, 0)):
            self._call(step, self.body.let("t", time(steps - 1)), None)

    def _call(self, step: L.Function, t: L.Expr, before: L.Expr | None) -> None:
        batch = L.index(self.batch)
        row = self.body.let("row", t * batch + L.BEGIN)
        arguments: list[L.Expr] = []
        for source in self.rows:
            if not isinstance(source, _Previous):
                arguments.append(self._address(source, row))
            elif before is None:
                arguments.append(self._address(source.first, L.BEGIN))
            else:
                arguments.append(self._address(source.sequence, before * batch + L.BEGIN))
        given, firsts = self._outputs()
        arguments.append(L.Address(self.kept, L.icon(0)))
        arguments += [self._address(v, L.BEGIN) for v in firsts[1:]]
        arguments += [self._address(v, row) for v in given]
        packed = L.Address(self.packed, L.icon(0))
        self.body.call(step.name, *arguments, packed, L.END - L.BEGIN)

    def _address(self, value: Value, row: L.Expr) -> L.Address:
        return L.Address(self.pointers[value], row * int(value.shape[-1]))

    def _outputs(self) -> tuple[Sequence[Value], Sequence[Value]]:
        n = len(self.cell.given)
        return self.node.outputs[:n], self.node.outputs[n:]

    # One step

    def _step(self) -> L.Function:
        """The function of one step of a few sequences; named by all that it depends on."""
        body, dtype, cell = Body(), self.micro.dtype, self.cell
        reads = [L.Pointer(f"x{i}", dtype, "param") for i in range(len(self.rows))]
        grads = [L.Pointer(f"g{i}", dtype, "param", True) for i in range(self.op.states)]
        given = [L.Pointer(f"y{i}", dtype, "param", True) for i in range(len(cell.given))]
        packed, rows = L.Pointer("packed", dtype, "param"), L.Var("rows", L.INDEX)
        params = (*reads, *grads, *given, packed, rows)
        body.reserve(*(p.name for p in params))
        with body.loop("r", L.icon(0), rows) as r:
            self._cells(body, r, reads, grads, given)
        helpers = self._product(body, rows, given[cell.operand], packed, grads[0])
        more = f"_{self.op.nonlinearity}" if hasattr(self.op, "nonlinearity") else ""
        more += "" if self.has_dy else "_of_last"
        name = f"{self.op.name}{more}_step_{dtype}_{self.hidden}_{self.micro.name}"
        return L.Function(
            f"{name}_{len(self.heights)}", body.statements, params=params, is_kernel=False,
            inline=False, helpers=tuple(helpers.values()),
        )  # fmt: skip

    def _cells(
        self, body: Body, r: L.Expr, reads: Sequence[L.Pointer], grads: Sequence[L.Pointer],
        given: Sequence[L.Pointer],
    ) -> None:  # fmt: skip
        """One sequence, all units."""
        cell, hidden = self.cell, self.hidden
        sources = cell.sources[: len(reads)]
        e = Emitter(body, dict(zip(sources, reads)), cell.graph.nodes, Space())
        row = e.space.symbol("_r", ROW)
        e.bind_symbol(row.name, r)
        unit = e.space.symbol("_n", hidden)
        pitches = [self.pitch, *[hidden] * (len(grads) - 1)]
        places = [(p, n, k) for p, n in zip(given, cell.given) for k in range(n)]
        for first, stop, lanes in _all_pieces(hidden, self.micro.lanes):
            with body.loop("j", first, stop, lanes) as j:
                e.bind_symbol("_n", j)
                e.vectorise("_n", lanes)
                for source, pointer, pitch in zip(cell.sources[len(reads) :], grads, pitches):
                    held = body.let("g", L.load(pointer, r * pitch + j, lanes))
                    e.given[source] = lambda _, held=held: held
                values = [body.let("v", e.value(v, (row, unit))) for v in cell.graph.outputs]
                for (to, count, part), value in zip(places, values):
                    e.store_at(to, row * (count * hidden) + part * hidden + unit, value)
                for to, pitch, value in zip(grads, pitches, values[len(places) :]):
                    e.store_at(to, row * pitch + unit, L.splat(value, lanes))

    def _product(
        self, body: Body, rows: L.Expr, a: L.Pointer, packed: L.Pointer, c: L.Pointer
    ) -> dict[str, L.Function]:
        """Adds the product to the gradient of the hidden state."""
        helpers: dict[str, L.Function] = {}
        most, columns = max(self.heights), self.micro.columns
        wide = self.cell.given[self.cell.operand] * self.hidden
        tiles = body.let("tiles", L.binary("div", rows + (most - 1), L.icon(most)))
        for first, stop, micro in self._panels():
            with (
                body.loop("panel", first, stop) as panel,
                body.loop("tile_at", L.icon(0), tiles) as t,
            ):
                top = body.let("top", L.binary("div", t * rows, tiles))
                here = body.let("here", L.binary("div", (t + 1) * rows, tiles) - top)
                at = L.Address(c, top * self.pitch + panel * columns)
                done = 0
                for part, count in self.cell.runs:
                    depth = count * self.hidden
                    arguments = M.Arguments(
                        L.Address(a, top * wide + part * self.hidden), L.icon(wide),
                        L.Address(packed, panel * (self.depth * columns) + done * micro.columns), at,
                        L.icon(self.pitch), at, L.icon(self.pitch), L.icon(depth),
                    )  # fmt: skip
                    done += depth
                    for helper in M.call(body, micro, self.heights, here, arguments):
                        helpers[helper.name] = helper
        return helpers

    def _panels(self) -> list[tuple[int, int, M.Micro]]:
        """(first, stop, kernel): whole panels, and a last one as narrow as it may be."""
        whole, rest = divmod(self.hidden, self.micro.columns)
        found = [(0, whole, self.micro)] if whole else []
        return [*found, *([(whole, whole + 1, self.micro.narrow(rest))] if rest else [])]


def _all_pieces(hidden: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first, stop, lanes) that cover all units."""
    whole = hidden // lanes * lanes
    rest = [(whole + a, whole + b, n) for a, b, n in pieces(hidden - whole, lanes)]
    return [*([(0, whole, lanes)] if whole else []), *rest]

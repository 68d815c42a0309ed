"""Recurrent scans: every step of one direction of a layer in one kernel.

Items are sequences of the batch, so that threads never wait for each other.  The hidden weights are
packed as panels of ``gates`` vectors, one block of hidden units each, at build time or, when they are
not known then, by every thread: one call of the micro-kernel leaves all gates of a block in a tile, and the cell is computed from it before the next block.  The
hidden state is read where the step before stored it, in the output; the others live in their outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.emitter import Emitter
from oarlock.codegen.fuse import Group
from oarlock.codegen.indexing import Index, Space
from oarlock.codegen.kernel import Constant, Kernel
from oarlock.codegen.kernels import ConstantOf
from oarlock.codegen.kernels import micro as M
from oarlock.codegen.kernels.panels import Panels
from oarlock.codegen.nests import describe, kernel_name, pointers_of
from oarlock.codegen.target import Target
from oarlock.ir import Builder, Dim, Graph, Program, TensorType, Value
from oarlock.ir.dim import bounds
from oarlock.ir.graph import Node
from oarlock.ir.types import f32, f64
from oarlock.passes.decompose import decompose
from oarlock.passes.rewrite import prune

THREAD_WORK = 1 << 18  # multiply-adds worth a thread
LIKELY_STEPS = 32
ROW, K, N = Dim("_r", 0), Dim("_k", 0), Dim("_n", 0)


class ScanMaker:
    """Scans, and those that keep what their gradient needs."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        """f32 or f64, a known number of units; others become loops over smaller kernels."""
        states = node.op.states  # type: ignore[attr-defined]
        hidden = node.inputs[1 + states].shape[1]
        return isinstance(hidden, int) and node.inputs[0].dtype in (f32, f64)

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        return _Scan(group.anchor, target, constant).build()


@dataclass
class _Scan:
    """Builds one kernel."""

    node: Node
    target: Target
    constant: ConstantOf
    body: Body = field(default_factory=Body)

    def __post_init__(self) -> None:
        op, self.gx = self.node.op, self.node.inputs[0]
        self.gates, self.states = op.gates, op.states  # type: ignore[attr-defined]
        self.saved: Sequence[int] = getattr(op, "saved", ())
        self.carry = self.node.inputs[1 : 1 + self.states]
        self.weights = self.node.inputs[1 + self.states :]
        self.steps, self.batch, _ = self.gx.shape
        hidden = self.weights[0].shape[1]
        assert isinstance(hidden, int), "a constant has a fixed shape"
        self.hidden = hidden
        self.micro = _tile(self.target, self.gx.dtype, self.gates)
        high = bounds(self.batch)[1]
        self.heights = tuple(range(min(self.micro.rows, high or self.micro.rows), 0, -1)) or (1,)

    @cached_property
    def blocks(self) -> int:
        """Blocks of hidden units, the last one perhaps not whole."""
        return -(-self.hidden // self.micro.lanes)

    def build(self) -> Kernel:
        """The kernel."""
        known = [self.constant(w) for w in self.weights]
        is_fixed = all(w is not None for w in known)
        given = [] if is_fixed else self.weights
        reads = tuple(dict.fromkeys([self.gx, *self.carry, *given]))
        writes = self.node.outputs
        pointers = pointers_of(reads, writes)
        panels = self.gates * self.hidden * self.blocks * self.micro.lanes
        offsets = (0, panels * self.micro.dtype.bytes)
        source = ("constant", False) if is_fixed else ("scratch", True)
        packed, bias = (
            L.Pointer(name, self.micro.dtype, *source, 0 if is_fixed else offset)
            for name, offset in zip(("packed", "bias"), offsets)
        )
        self.body.reserve(*(p.name for p in pointers.values()), "packed", "bias")
        step = _Step(self).build()
        helpers = {step.name: step}
        if not is_fixed:
            self._pack([pointers[w] for w in self.weights], packed, bias, helpers)
        self._run(step, [pointers[v] for v in (self.gx, *self.carry, *writes)], packed, bias)
        name = kernel_name([self.node])
        function = L.Function(
            name, self.body.statements, (*pointers.values(), packed, bias),
            comment=describe([self.node]), helpers=tuple(helpers.values()),
        )  # fmt: skip
        constants = () if not is_fixed else (
            Constant("packed", self._packed()), Constant("bias", self._bias()),
        )  # fmt: skip
        floats = panels + self.gates * self.blocks * self.micro.lanes
        return Kernel(
            name, (self.node,), reads, tuple(writes), function, constants,
            extent=self.batch, grain=self._grain(),
            scratch_bytes=0 if is_fixed else -(-floats * self.micro.dtype.bytes // 64) * 64,
        )  # fmt: skip

    def _grain(self) -> int:
        low, high = bounds(self.steps)
        steps = low if low == high else LIKELY_STEPS
        return max(1, THREAD_WORK // max(1, steps * self.gates * self.hidden**2))

    # Weights

    def _packed(self) -> np.ndarray:
        """w_hh as panels [block][H][gate][lane], 0 beyond the last unit."""
        w = self.constant(self.weights[0])
        assert w is not None, "the weight is a param"
        turned = self._by_block(w.T.reshape(self.hidden, self.gates, self.hidden))
        return np.ascontiguousarray(np.moveaxis(turned, 2, 0))

    def _bias(self) -> np.ndarray:
        """b_hh in the order of the panels' columns."""
        bias = np.zeros(self.gates * self.hidden, self.micro.dtype.numpy)
        if len(self.weights) > 1:
            numbers = self.constant(self.weights[1])
            assert numbers is not None, "the bias is a param"
            bias = numbers
        return np.ascontiguousarray(
            np.moveaxis(self._by_block(bias.reshape(1, self.gates, -1)), 2, 0)
        )

    def _pack(
        self, weights: Sequence[L.Pointer], packed: L.Pointer, bias: L.Pointer,
        helpers: dict[str, L.Function],
    ) -> None:  # fmt: skip
        """The same when the program runs, by the thread that needs it."""
        body, hidden, lanes, width = self.body, self.hidden, self.micro.lanes, self.micro.columns
        panels = Panels(body, helpers, weights[0], K + N * hidden, hidden)
        narrow = replace(self.micro, vectors=1)
        blocks = body.loop("block", 0, self.blocks), body.loop("gate", 0, self.gates)
        with blocks[0] as block, blocks[1] as gate:
            first, row = block * lanes, gate * (hidden * hidden)
            to = L.Address(packed, block * (hidden * width) + gate * lanes)
            panels.pack(to, narrow, {}, first, L.icon(0), L.icon(hidden), True, width, row)
            start = body.let("bias_at", block * width + gate * lanes)
            with body.loop("i", 0, lanes) as i:
                body.store(bias, start + i, L.const(0, bias.dtype))
            if len(weights) > 1:
                count = L.minimum(L.icon(lanes), L.icon(hidden) - first)
                with body.loop("i", L.icon(0), count) as i:
                    body.store(bias, start + i, L.load(weights[1], first + i + gate * hidden))

    def _by_block(self, array: np.ndarray) -> np.ndarray:
        """[.., gate, H] as [.., gate, block, lane]."""
        lanes, missing = self.micro.lanes, self.blocks * self.micro.lanes - self.hidden
        wide = np.pad(array, ((0, 0), (0, 0), (0, missing)))
        return wide.reshape(*array.shape[:2], self.blocks, lanes)

    # Time

    def _run(
        self, step: L.Function, pointers: Sequence[L.Pointer], packed: L.Pointer, bias: L.Pointer
    ) -> None:
        """The first step from the given state, the others from the output of the step before."""
        n = self.states
        gx, first, y = pointers[0], pointers[1 : 1 + n], pointers[1 + n]
        last, saved = pointers[2 + n : 2 + 2 * n], pointers[2 + 2 * n :]
        start, stop = L.BEGIN * self.hidden, L.END * self.hidden
        for source, to in zip(first[1:], last[1:]):
            self._copy(source, start, to, start, stop - start)
        steps, batch = L.index(self.steps), L.index(self.batch)
        turn = self.node.op.reverse  # type: ignore[attr-defined]

        def run(t: L.Expr, previous: L.Pointer, at: L.Expr) -> None:
            row = self.body.let("row", t * batch + L.BEGIN)
            self.body.call(
                step.name,
                L.Address(gx, row * (self.gates * self.hidden)),
                L.Address(previous, at),
                *(L.Address(p, start) for p in last[1:]),
                L.Address(packed, L.icon(0)),
                L.Address(bias, L.icon(0)),
                L.Address(y, row * self.hidden),
                *(L.Address(p, row * (n * self.hidden)) for p, n in zip(saved, self.saved)),
                L.END - L.BEGIN,
            )

        def time(i: L.Expr) -> L.Expr:
            return steps - 1 - i if turn else i

        with self.body.if_(L.compare("gt", steps, 0)):
            run(self.body.let("t", time(L.icon(0))), first[0], start)
        with self.body.loop("i", 1, steps) as i:
            before = self.body.let("before", (time(i - 1) * batch + L.BEGIN) * self.hidden)
            run(self.body.let("t", time(i)), y, before)
        with self.body.if_(L.compare("gt", steps, 0)):
            end = self.body.let("end_at", time(steps - 1) * batch * self.hidden + start)
            self._copy(y, end, last[0], start, stop - start)
        with self.body.else_():
            self._copy(first[0], start, last[0], start, stop - start)

    def _copy(
        self, source: L.Pointer, at: L.Expr, to: L.Pointer, place: L.Expr, count: L.Expr
    ) -> None:
        with self.body.loop("i", L.icon(0), count) as i:
            self.body.store(to, place + i, L.load(source, at + i))


class _Step:
    """Builds the function of one step of a few sequences."""

    def __init__(self, scan: _Scan) -> None:
        self.scan, self.micro, self.body = scan, scan.micro, Body()
        dtype, pointer = scan.micro.dtype, L.Pointer
        self.graph, self.sources = _cell(scan.node.op, scan.gx.dtype, scan.hidden)
        self.saved = [pointer(f"saved{i}", dtype, "param", True) for i in range(len(scan.saved))]
        self.gx, self.previous = pointer("gx", dtype, "param"), pointer("previous", dtype, "param")
        self.kept = [pointer(f"kept{i}", dtype, "param", True) for i in range(1, scan.states)]
        self.packed, self.bias = pointer("packed", dtype, "param"), pointer("bias", dtype, "param")
        self.y, self.rows = pointer("y", dtype, "param", True), L.Var("rows", L.INDEX)
        self.params = (
            self.gx, self.previous, *self.kept, self.packed, self.bias, self.y, *self.saved,
            self.rows,
        )  # fmt: skip
        self.body.reserve(*(p.name for p in self.params))
        self.helpers: dict[str, L.Function] = {}

    def build(self) -> L.Function:
        """The function; named by all that it depends on."""
        scan, micro = self.scan, self.micro
        self.tile = self.body.array("tile", micro.dtype, max(scan.heights) * micro.columns)
        whole, rest = divmod(scan.hidden, micro.lanes)
        tiles = L.binary("div", self.rows + (max(scan.heights) - 1), L.icon(max(scan.heights)))
        self.tiles = self.body.let("tiles", tiles)
        with self.body.loop("block", 0, whole) as block:
            self._block(block, [(0, micro.lanes, micro.lanes)])
        if rest:
            self._block(L.icon(whole), list(pieces(rest, micro.lanes)))
        op = scan.node.op
        more = f"_{op.nonlinearity}" if hasattr(op, "nonlinearity") else ""
        name = f"{op.name}{more}_step_{micro.dtype}_{scan.hidden}_{micro.name}_{len(scan.heights)}"
        return L.Function(
            name, self.body.statements, params=self.params, is_kernel=False, inline=False,
            helpers=tuple(self.helpers.values()),
        )  # fmt: skip

    def _block(self, block: L.Expr, pieces: Sequence[tuple[int, int, int]]) -> None:
        """All sequences for one block of hidden units."""
        scan, micro, width = self.scan, self.micro, self.micro.columns
        with self.body.loop("tile_at", L.icon(0), self.tiles) as t:
            top = self.body.let("top", L.binary("div", t * self.rows, self.tiles))
            bottom = L.binary("div", (t + 1) * self.rows, self.tiles)
            here = self.body.let("here", bottom - top)
            arguments = M.Arguments(
                L.Address(self.previous, top * scan.hidden), L.icon(scan.hidden),
                L.Address(self.packed, block * (scan.hidden * width)),
                L.Address(self.bias, block * width), L.icon(0),
                L.Address(self.tile, L.icon(0)), L.icon(width), L.icon(scan.hidden),
            )  # fmt: skip
            for helper in M.call(self.body, micro, scan.heights, here, arguments):
                self.helpers[helper.name] = helper
            with self.body.loop("r", L.icon(0), here) as r:
                self._cells(top + r, r, block * micro.lanes, pieces)

    def _cells(
        self, row: L.Expr, r: L.Expr, unit: L.Expr, pieces: Sequence[tuple[int, int, int]]
    ) -> None:
        """The cell of one sequence for (first, stop, lanes) pieces of a block."""
        gx, gh, *carry = self.sources
        pointers = dict(zip([gx, *carry], [self.gx, self.previous, *self.kept]))
        e = Emitter(self.body, pointers, self.graph.nodes, Space())
        e.bind_symbol(e.space.symbol("_r", ROW).name, self.body.let("row", row))
        symbol = e.space.symbol("_n", self.scan.hidden)
        base = self.body.let("base", r * self.micro.columns)
        for first, stop, lanes in pieces:
            with self.body.loop("j", first, stop, lanes) as j:
                e.bind_symbol("_n", self.body.let("n", unit + j))
                e.vectorise("_n", lanes)
                e.given[gh] = self._gates(base, j, symbol, lanes)
                self._store(e, e.space.symbol("_r", ROW), symbol)

    def _gates(self, base: L.Expr, j: L.Expr, unit: Dim, lanes: int) -> Any:
        def load(index: Index) -> L.Expr:
            offset = index[1] - unit
            assert isinstance(offset, int), "gates are whole blocks of columns"
            gate = offset // self.scan.hidden
            return L.load(self.tile, base + j + gate * self.micro.lanes, lanes)

        return load

    def _store(self, e: Emitter, row: Dim, unit: Dim) -> None:
        values = [self.body.let("v", e.value(v, (row, unit))) for v in self.graph.outputs]
        hidden = self.scan.hidden
        places = [(to, 1, 0) for to in (self.y, *self.kept)]
        places += [(p, n, k) for p, n in zip(self.saved, self.scan.saved) for k in range(n)]
        for (to, count, part), value in zip(places, values):
            e.store_at(to, row * (count * hidden) + part * hidden + unit, value)


def _tile(target: Target, dtype: L.DType, gates: int) -> M.Micro:
    """One vector for each gate; as many rows as registers allow."""
    lanes = target.lanes(dtype.bytes)
    rows = max(1, (target.registers - gates - 1) // gates)
    return M.Micro(min(rows, 14), gates, lanes, dtype, dtype)


def _cell(op: Any, dtype: L.DType, hidden: int) -> tuple[Graph, list[Value]]:
    """The cell in primitives, over gx [R, G*H], gh [R, G*H], states [R, H]."""
    b = Builder(Graph())
    wide, state = (TensorType(dtype, (ROW, n)) for n in (op.gates * hidden, hidden))
    types = [wide, wide, *[state] * op.states]
    sources = [b.input(t, f"v{i}") for i, t in enumerate(types)]
    if hasattr(op, "saved"):
        states, saved = op.build_train_step(b, *sources)
        b.graph.outputs = [*states, *(part for v in saved for part in parts_of(v, hidden))]
    else:
        b.graph.outputs = list(op.build_step(b, *sources))
    graph = decompose(Program(prune(b.graph))).graph
    return graph, list(graph.inputs)


def parts_of(value: Value, hidden: int) -> Sequence[Value]:
    """Values of H columns that a row of several times as many is joined of."""
    node = value.producer
    if value.shape[1] == hidden:
        return [value]
    assert node is not None and node.name == "concat", "a sequence of several parts is joined"
    return node.inputs


def pieces(rest: int, lanes: int) -> Iterator[tuple[int, int, int]]:
    """(first, stop, lanes): vectors of halved widths, then single elements."""
    first = 0
    while lanes > 4:
        lanes //= 2
        if rest - first >= lanes:
            yield first, first + lanes, lanes
            first += lanes
    if first < rest:
        yield first, rest, 1

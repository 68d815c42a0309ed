"""Recurrent layers: whole sequences, layers and directions in one op.

Weights come in PyTorch's order: for every layer, for each direction, ``w_ih [G*H, C]``,
``w_hh [G*H, H]``, then ``b_ih [G*H]`` and ``b_hh [G*H]`` when ``bias``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from oarlock.ir import Builder, Graph, Size, TensorType, Value, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import same_dtype

UNROLLED_STEPS = 4  # a shorter sequence is decomposed step by step, a longer one into a loop


def _sample(
    gates: int, states: int, layers: int, directions: int, bias: bool, steps: int = 3, **more: Any
) -> Sample:
    batch, channels, hidden = 2, 5, 4
    state = TensorType(f32, (layers * directions, batch, hidden))
    types = [TensorType(f32, (steps, batch, channels)), *[state] * states]
    for layer in range(layers):
        width = channels if layer == 0 else hidden * directions
        for _ in range(directions):
            types += [TensorType(f32, (gates * hidden, c)) for c in (width, hidden)]
            types += [TensorType(f32, (gates * hidden,))] * 2 if bias else []
    attrs = {"layers": layers, "bidirectional": directions == 2, "bias": bias, **more}
    return Sample(tuple(types), attrs, -1.0, 1.0)


def _samples(gates: int, states: int, **more: Any) -> list[Sample]:
    return [
        _sample(gates, states, 1, 1, True, **more),
        _sample(gates, states, 2, 2, True, steps=6, **more),
        _sample(gates, states, 2, 1, False, steps=7, **more),
    ]


class Recurrent(Op):
    """Base: ``gates`` rows of H per weight, ``states`` tensors carried from step to step."""

    gates: ClassVar[int]
    states: ClassVar[int]

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def infer(self, x: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        types = (x, *rest)
        per = 4 if self.bias else 2
        cells = self.layers * self.directions
        expected = self.states + cells * per
        if len(rest) != expected:
            raise self.fail(types, f"expected {expected} states and weights, got {len(rest)}")
        same_dtype(self, types)
        state, weights = rest[0], rest[self.states :]
        if x.rank != 3 or state.rank != 3 or not x.dtype.is_float:
            raise self.fail(types, "expected floats x[T,B,C] and states [layers*directions,B,H]")
        hidden = state.shape[2]
        wanted = x.with_shape((cells, x.shape[1], hidden))
        for s in rest[: self.states]:
            if s != wanted:
                raise self.fail(types, f"expected states {wanted}, got {s}")
        for i in range(cells):
            self._check_cell(types, i, x.shape[2], hidden, weights[i * per : (i + 1) * per])
        y = x.with_shape((*x.shape[:2], self.directions * hidden))
        return (y, *[wanted] * self.states)

    def _check_cell(
        self, types: tuple, i: int, channels: Size, hidden: Size, weights: Sequence[TensorType]
    ) -> None:
        rows = hidden * self.gates
        width = channels if i < self.directions else hidden * self.directions
        shapes = [(rows, width), (rows, hidden), (rows,), (rows,)]
        for k, (got, shape) in enumerate(zip(weights, shapes)):
            if got.shape != shape:
                raise self.fail(types, f"weight {k} of cell {i}: expected {list(shape)}, got {got}")

    def _cell_weights(self, weights: Sequence[Any], i: int) -> Sequence[Any]:
        per = 4 if self.bias else 2
        return (*weights[i * per : (i + 1) * per], None, None)[:4]

    def step(self, gx: np.ndarray, gh: np.ndarray, *carry: np.ndarray) -> tuple[np.ndarray, ...]:
        """The next states from the projections of input and hidden state, numpy."""
        raise NotImplementedError(f"{self.name}.step")

    def build_step(self, b: Any, gx: Value, gh: Value, *carry: Value) -> tuple[Value, ...]:
        """``step`` in primitive ops."""
        raise NotImplementedError(f"{self.name}.build_step")

    def reference(self, x: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        states, weights = rest[: self.states], rest[self.states :]
        last: list[tuple[np.ndarray, ...]] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                i = layer * self.directions + direction
                steps = x[::-1] if direction else x
                cell = self._cell_weights(weights, i)
                y, carry = self._run(steps, tuple(s[i] for s in states), cell)
                outputs.append(y[::-1] if direction else y)
                last.append(carry)
            x = np.concatenate(outputs, -1)
        return (x, *(np.stack(s) for s in zip(*last)))

    def _run(
        self, x: np.ndarray, carry: tuple[np.ndarray, ...], weights: Sequence[Any]
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        w_ih, w_hh, b_ih, b_hh = weights
        y = np.empty((*x.shape[:2], w_hh.shape[1]), x.dtype)
        for t, row in enumerate(x):
            gx = row @ w_ih.T if b_ih is None else row @ w_ih.T + b_ih
            gh = carry[0] @ w_hh.T if b_hh is None else carry[0] @ w_hh.T + b_hh
            carry = self.step(gx, gh, *carry)
            y[t] = carry[0]
        return y, carry

    def decompose(self, b: Any, x: Value, *rest: Value) -> tuple[Value, ...]:
        """Input projections of all steps at once, then one loop per layer and direction."""
        states, weights = rest[: self.states], rest[self.states :]
        last: list[tuple[Value, ...]] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                i = layer * self.directions + direction
                w_ih, w_hh, b_ih, b_hh = self._cell_weights(weights, i)
                gx = b.linear(x, w_ih) if b_ih is None else b.linear(x, w_ih, b_ih)
                gx = b.flip(gx, axes=(0,)) if direction else gx
                carry = tuple(_row(b, s, i) for s in states)
                hidden = (w_hh,) if b_hh is None else (w_hh, b_hh)
                y, carry = self._build_cell(b, gx, carry, hidden)
                outputs.append(b.flip(y, axes=(0,)) if direction else y)
                last.append(carry)
            x = outputs[0] if len(outputs) == 1 else b.concat(*outputs, axis=2)
        return (x, *(_stack(b, s) for s in zip(*last)))

    def _build_cell(
        self, b: Any, gx: Value, carry: tuple[Value, ...], hidden: tuple[Value, ...]
    ) -> tuple[Value, tuple[Value, ...]]:
        steps = gx.shape[0]
        if not isinstance(steps, int) or steps > UNROLLED_STEPS or steps == 0:
            return self._loop(b, gx, carry, hidden)
        outputs = []
        for t in range(steps):
            carry = self.build_step(b, _row(b, gx, t), b.linear(carry[0], *hidden), *carry)
            outputs.append(carry[0])
        return _stack(b, outputs), carry

    def _loop(
        self, b: Any, gx: Value, carry: tuple[Value, ...], hidden: tuple[Value, ...]
    ) -> tuple[Value, tuple[Value, ...]]:
        """``while t < T``: carried are t, y and the states; gx and the weights pass through."""
        h = carry[0]
        zero = b.const(0.0, gx.dtype)
        y = b.broadcast_to(zero, shape=(gx.shape[0], *h.shape))
        args = (b.const(0, i64), y, *carry, gx, *hidden)
        cond, cond_args = _subgraph(args)
        cond.graph.outputs = [cond.lt(cond_args[0], cond.size(dim=gx.shape[0]))]
        body, (t, y, *more) = _subgraph(args)
        n = self.states
        inner, gx, hidden = tuple(more[:n]), more[n], tuple(more[n + 1 :])
        at = body.reshape(t, shape=(1,))
        row = body.reshape(body.take(gx, at, axis=0), shape=gx.shape[1:])
        inner = self.build_step(body, row, body.linear(inner[0], *hidden), *inner)
        y = body.put(y, at, body.reshape(inner[0], shape=(1, *h.shape)), axis=0)
        body.graph.outputs = [body.add(t, 1), y, *inner, gx, *hidden]
        results = b.while_(*args, graphs=(cond.graph, body.graph))
        return results[1], tuple(results[2 : 2 + n])


def _subgraph(args: Sequence[Value]) -> tuple[Builder, list[Value]]:
    inner = Builder(Graph())
    return inner, [inner.input(a.type, f"a{i}") for i, a in enumerate(args)]


def _row(b: Any, x: Value, i: int) -> Value:
    """``x[i]``"""
    zeros = (0,) * (x.rank - 1)
    cut = b.slice(
        x, starts=(i, *zeros), stops=(i + 1, *x.shape[1:]), steps=(1,) * x.rank
    )  # fmt: skip
    return b.reshape(cut, shape=x.shape[1:])


def _stack(b: Any, values: Sequence[Value]) -> Value:
    rows = [b.reshape(v, shape=(1, *v.shape)) for v in values]
    return rows[0] if len(rows) == 1 else b.concat(*rows, axis=0)


def _gate(b: Any, x: Value, k: int, count: int) -> Value:
    """Columns of gate ``k``."""
    width = x.shape[1] // count
    return b.slice(
        x, starts=(0, width * k), stops=(x.shape[0], width * (k + 1)), steps=(1, 1)
    )  # fmt: skip


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


@op("lstm", onnx=("LSTM", 14))
class Lstm(Recurrent):
    """``i, f, g, o = x @ w_ih.T + h @ w_hh.T``; ``c = f c + i g``; ``h = o tanh(c)``.

    sigmoid is applied to i, f and o, tanh to g.

    Shapes: x [T, B, C], h0, c0 [layers*directions, B, H], weights
            -> y [T, B, directions*H], h, c like h0
    Source: Hochreiter and Schmidhuber, "Long Short-Term Memory" (1997), gate order of PyTorch.
    """

    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    gates = 4
    states = 2
    samples = _samples(4, 2)

    def step(self, gx, gh, h, c):
        i, f, g, o = np.split(gx + gh, 4, -1)
        c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
        return _sigmoid(o) * np.tanh(c), c

    def build_step(self, b, gx, gh, h, c):
        total = b.add(gx, gh)
        i, f, g, o = (_gate(b, total, k, 4) for k in range(4))
        c = b.add(b.mul(b.sigmoid(f), c), b.mul(b.sigmoid(i), b.tanh(g)))
        return b.mul(b.sigmoid(o), b.tanh(c)), c


@op("gru", onnx=("GRU", 14))
class Gru(Recurrent):
    """``h = (1 - z) n + z h`` with ``n = tanh(x_n + r h_n)``, gates r, z, n.

    Shapes: x [T, B, C], h0 [layers*directions, B, H], weights -> y [T, B, directions*H], h
    Source: Cho et al. (2014), reset gate after the product as in PyTorch (ONNX
            linear_before_reset=1).
    """

    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    gates = 3
    states = 1
    samples = _samples(3, 1)

    def step(self, gx, gh, h):
        (rx, zx, nx), (rh, zh, nh) = np.split(gx, 3, -1), np.split(gh, 3, -1)
        r, z = _sigmoid(rx + rh), _sigmoid(zx + zh)
        n = np.tanh(nx + r * nh)
        return ((1 - z) * n + z * h,)

    def build_step(self, b, gx, gh, h):
        (rx, zx, nx), (rh, zh, nh) = ([_gate(b, g, k, 3) for k in range(3)] for g in (gx, gh))
        r, z = b.sigmoid(b.add(rx, rh)), b.sigmoid(b.add(zx, zh))
        n = b.tanh(b.add(nx, b.mul(r, nh)))
        return (b.add(n, b.mul(z, b.sub(h, n))),)


@op("rnn", onnx=("RNN", 14))
class Rnn(Recurrent):
    """``h = tanh(x @ w_ih.T + h @ w_hh.T)``, or relu of it.

    Shapes: x [T, B, C], h0 [layers*directions, B, H], weights -> y [T, B, directions*H], h
    Attrs:  nonlinearity: tanh or relu.
    """

    layers: int = 1
    bidirectional: bool = False
    bias: bool = True
    nonlinearity: str = "tanh"
    gates = 1
    states = 1
    samples = [*_samples(1, 1), _sample(1, 1, 1, 1, True, nonlinearity="relu")]

    def infer(self, x: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        if self.nonlinearity not in ("tanh", "relu"):
            got = f"nonlinearity={self.nonlinearity!r}"
            raise self.fail((x, *rest), f"{got}; expected 'tanh' or 'relu'")
        return super().infer(x, *rest)

    def step(self, gx, gh, h):
        total = gx + gh
        return (np.tanh(total) if self.nonlinearity == "tanh" else np.maximum(total, 0),)

    def build_step(self, b, gx, gh, h):
        total = b.add(gx, gh)
        return (b.tanh(total) if self.nonlinearity == "tanh" else b.relu(total),)

"""Recurrent scans that keep what their gradient needs, and the gradients, step by step backwards.

The weight's gradient is no part of them: it is one product over all steps of what the gradient
scan gives for the projections and of the states before each step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oarlock.ir import Builder, Graph, TensorType, Value, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.recurrence import Scan, check_nonlinearity
from oarlock.ops.rules import same_dtype

Body = Callable[[Any, list[Value], list[Value]], tuple[list[Value], list[Value]]]
STEPS, BATCH, HIDDEN = 3, 2, 4


def _types(*widths: int) -> list[TensorType]:
    """Sequences of ``widths`` times H columns; 0 is one state."""
    states = TensorType(f32, (BATCH, HIDDEN))
    return [TensorType(f32, (STEPS, BATCH, n * HIDDEN)) if n else states for n in widths]


def _weight(gates: int) -> TensorType:
    return TensorType(f32, (gates * HIDDEN, HIDDEN))


def _samples(types: Sequence[TensorType], *more: TensorType, **attrs: Any) -> list[Sample]:
    return [
        Sample((*types, *more), attrs, -1.0, 1.0),
        Sample(tuple(types), {"reverse": True, **attrs}, -1.0, 1.0),
    ]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


def _times(steps: int, reverse: bool) -> list[int]:
    return list(range(steps))[::-1] if reverse else list(range(steps))


def _previous(states: np.ndarray, first: np.ndarray, reverse: bool) -> np.ndarray:
    """The state before each step."""
    if reverse:
        return np.concatenate([states, first[None]])[1:]
    return np.concatenate([first[None], states])[: len(states)]


class TrainScan(Scan):
    """Base: ``Scan`` with ``saved`` more outputs, sequences of ``saved[i]`` times H columns."""

    saved: tuple[int, ...] = ()

    def infer(self, gx: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        plain = super().infer(gx, *rest)
        hidden = rest[self.states].shape[1]
        return (*plain, *(gx.with_shape((*gx.shape[:2], n * hidden)) for n in self.saved))

    def train_step(self, gx: Any, gh: Any, *carry: Any) -> tuple[tuple, tuple]:
        """The next states, and what is saved of the step; numpy."""
        raise NotImplementedError(f"{self.name}.train_step")

    def build_train_step(self, b: Any, gx: Value, gh: Value, *carry: Value) -> tuple[tuple, tuple]:
        """``train_step`` in primitive ops."""
        raise NotImplementedError(f"{self.name}.build_train_step")

    def reference(self, gx: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        carry, (w_hh, *bias) = rest[: self.states], rest[self.states :]
        hidden = w_hh.shape[1]
        y, *kept = [np.empty((*gx.shape[:2], n * hidden), gx.dtype) for n in (1, *self.saved)]
        for t in _times(len(gx), self.reverse):
            gh = (carry[0] @ w_hh.T + (bias[0] if bias else 0)).astype(gx.dtype)
            carry, saved = self.train_step(gx[t], gh, *carry)
            y[t] = carry[0]
            for whole, part in zip(kept, saved):
                whole[t] = part
        return (y, *carry, *kept)

    def decompose(self, b: Any, gx: Value, *rest: Value) -> tuple[Value, ...]:
        """A loop over the steps."""
        carry, hidden = list(rest[: self.states]), list(rest[self.states :])
        shape, width = gx.shape[:2], rest[self.states].shape[1]
        kept = [TensorType(gx.dtype, (*shape, n * width)) for n in (1, *self.saved)]

        def body(b: Any, rows: list[Value], given: list[Value]) -> tuple[list, list]:
            inner, weights = given[: self.states], given[self.states :]
            gh = b.linear(inner[0], *weights)
            inner, saved = self.build_train_step(b, rows[0], gh, *inner)
            return list(inner), [inner[0], *saved]

        last, sequences = _loop(b, self.reverse, [gx], carry, hidden, kept, body)
        return (sequences[0], *last, *sequences[1:])


@op("lstm_scan_train")
class LstmScanTrain(TrainScan):
    """``lstm_scan`` that also gives its gates and cell states.

    Shapes: as ``lstm_scan`` -> y, h, c, gates [T, B, 4H] after sigmoid and tanh, cs [T, B, H]
    """

    reverse: bool = False
    gates = 4
    states = 2
    saved = (4, 1)
    samples = _samples([*_types(4, 0, 0), _weight(4)], TensorType(f32, (4 * HIDDEN,)))

    def train_step(self, gx, gh, h, c):
        i, f, g, o = np.split(gx + gh, 4, -1)
        i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
        c = f * c + i * g
        return (o * np.tanh(c), c), (np.concatenate([i, f, g, o], -1), c)

    def build_train_step(self, b, gx, gh, h, c):
        i, f, g, o = _split(b, b.add(gx, gh), 4)
        i, f, g, o = b.sigmoid(i), b.sigmoid(f), b.tanh(g), b.sigmoid(o)
        c = b.add(b.mul(f, c), b.mul(i, g))
        return (b.mul(o, b.tanh(c)), c), (b.concat(i, f, g, o, axis=1), c)


@op("gru_scan_train")
class GruScanTrain(TrainScan):
    """``gru_scan`` that also gives its gates.

    Shapes: as ``gru_scan`` -> y, h, gates [T, B, 4H]: r, z, n and the product under n, w h + b
    """

    reverse: bool = False
    gates = 3
    states = 1
    saved = (4,)
    samples = _samples([*_types(3, 0), _weight(3)], TensorType(f32, (3 * HIDDEN,)))

    def train_step(self, gx, gh, h):
        (rx, zx, nx), (rh, zh, nh) = np.split(gx, 3, -1), np.split(gh, 3, -1)
        r, z = _sigmoid(rx + rh), _sigmoid(zx + zh)
        n = np.tanh(nx + r * nh)
        return ((1 - z) * n + z * h,), (np.concatenate([r, z, n, nh], -1),)

    def build_train_step(self, b, gx, gh, h):
        (rx, zx, nx), (rh, zh, nh) = _split(b, gx, 3), _split(b, gh, 3)
        r, z = b.sigmoid(b.add(rx, rh)), b.sigmoid(b.add(zx, zh))
        n = b.tanh(b.add(nx, b.mul(r, nh)))
        return (b.add(n, b.mul(z, b.sub(h, n))),), (b.concat(r, z, n, nh, axis=1),)


class ScanGrad(Op):
    """Base: from the last step that the scan made to its first.

    Shapes: dy [T, B, H], the gradients [B, H] of the last states, what was saved, w_hh [G*H, H]
            -> sequences of ``given[i]`` times H columns, the gradients of the first states
    Attrs:  reverse: that of the scan.
    """

    states = 1
    gates = 1
    given: tuple[int, ...] = (1,)
    sequences: tuple[int, ...] = ()  # saved ones, in multiples of H, then states
    firsts = 0

    def infer(self, dy: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        types = (dy, *rest)
        count = self.states + len(self.sequences) + self.firsts + 1
        if len(rest) != count or dy.rank != 3 or not dy.dtype.is_float:
            raise self.fail(types, f"expected floats dy[T,B,H] and {count} more")
        same_dtype(self, types)
        (steps, batch, hidden), state = dy.shape, dy.with_shape(dy.shape[1:])
        kept = [dy.with_shape((steps, batch, n * hidden)) for n in self.sequences]
        weight = dy.with_shape((self.gates * hidden, hidden))
        wanted = [*[state] * self.states, *kept, *[state] * self.firsts, weight]
        for got, t in zip(rest, wanted):
            if got != t:
                raise self.fail(types, f"expected {t}, got {got}")
        found = [dy.with_shape((steps, batch, n * hidden)) for n in self.given]
        return (*found, *[state] * self.states)

    def operands(self, rest: Sequence[Any]) -> tuple[Sequence, Sequence, Sequence, Any]:
        """Gradients of the last states; saved sequences; first states; the weight."""
        n, k = self.states, self.states + len(self.sequences)
        return rest[:n], rest[n:k], rest[k:-1], rest[-1]

    def before(self, saved: Sequence[Any], firsts: Sequence[Any], previous: Any) -> list[Any]:
        """The sequences that a step reads; ``previous(states, first)`` are those a step earlier."""
        return list(saved)

    def step(self, m: Any, rows: Sequence[Any], w: Any, *grads: Any) -> tuple[Sequence, Sequence]:
        """``rows``: of dy and of ``before``; the gradients one step earlier, and what is given."""
        raise NotImplementedError(f"{self.name}.step")

    def reference(self, dy: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        grads, saved, firsts, w = self.operands(rest)
        rows = self.before(saved, firsts, lambda s, x: _previous(s, x, self.reverse))
        out = [np.empty((*dy.shape[:2], n * dy.shape[2]), dy.dtype) for n in self.given]
        for t in _times(len(dy), not self.reverse):
            grads, given = self.step(_Numpy(), [dy[t], *(r[t] for r in rows)], w, *grads)
            for whole, part in zip(out, given):
                whole[t] = part
        return (*out, *(np.asarray(g, dy.dtype) for g in grads))

    def decompose(self, b: Any, dy: Value, *rest: Value) -> tuple[Value, ...]:
        """A loop over the steps."""
        grads, saved, firsts, w = self.operands(rest)
        rows = self.before(saved, firsts, lambda s, x: _build_previous(b, s, x, self.reverse))
        width = dy.shape[2]
        kept = [TensorType(dy.dtype, (*dy.shape[:2], n * width)) for n in self.given]

        def body(b: Any, row: list[Value], given: list[Value]) -> tuple[list, list]:
            after, out = self.step(Built(b), row, given[-1], *given[:-1])
            return list(after), list(out)

        last, sequences = _loop(b, not self.reverse, [dy, *rows], list(grads), [w], kept, body)
        return (*sequences, *last)


@op("lstm_scan_grad")
class LstmScanGrad(ScanGrad):
    """The gradient of ``lstm_scan_train``.

    Shapes: dy, dh, dc, gates [T,B,4H], cs [T,B,H], c0 [B,H], w_hh -> dgx [T,B,4H], dh0, dc0
    """

    reverse: bool = False
    states, gates, given, sequences, firsts = 2, 4, (4,), (4, 1), 1
    samples = _samples([*_types(1, 0, 0, 4, 1, 0), _weight(4)])

    def before(self, saved, firsts, previous):
        gates, cs = saved
        return [gates, cs, previous(cs, firsts[0])]

    def step(self, m, rows, w, dh, dc):
        dy, gates, c, c_before = rows
        i, f, g, o = m.split(gates, 4)
        dh, tanh = m.add(dy, dh), m.tanh(c)
        dc = m.add(dc, m.mul(m.mul(dh, o), m.sub(1.0, m.mul(tanh, tanh))))
        d_i = m.mul(m.mul(dc, g), m.mul(i, m.sub(1.0, i)))
        d_f = m.mul(m.mul(dc, c_before), m.mul(f, m.sub(1.0, f)))
        d_g = m.mul(m.mul(dc, i), m.sub(1.0, m.mul(g, g)))
        d_o = m.mul(m.mul(dh, tanh), m.mul(o, m.sub(1.0, o)))
        total = m.concat(d_i, d_f, d_g, d_o)
        return (m.matmul(total, w), m.mul(dc, f)), (total,)


@op("gru_scan_grad")
class GruScanGrad(ScanGrad):
    """The gradient of ``gru_scan_train``.

    Shapes: dy, dh, gates [T,B,4H], y [T,B,H], h0 [B,H], w_hh -> dgates [T,B,4H], dh0; dgates are
            dgx, whose first two thirds are those of dgh, and the last third of dgh
    """

    reverse: bool = False
    states, gates, given, sequences, firsts = 1, 3, (4,), (4, 1), 1
    samples = _samples([*_types(1, 0, 4, 1, 0), _weight(3)])

    def before(self, saved, firsts, previous):
        gates, y = saved
        return [gates, previous(y, firsts[0])]

    def step(self, m, rows, w, dh):
        dy, gates, h_before = rows
        r, z, n, u = m.split(gates, 4)
        dh = m.add(dy, dh)
        d_n = m.mul(m.mul(dh, m.sub(1.0, z)), m.sub(1.0, m.mul(n, n)))
        d_z = m.mul(m.mul(dh, m.sub(h_before, n)), m.mul(z, m.sub(1.0, z)))
        d_r = m.mul(m.mul(d_n, u), m.mul(r, m.sub(1.0, r)))
        d_u = m.mul(d_n, r)
        hidden = m.matmul(m.concat(d_r, d_z, d_u), w)
        return (m.add(hidden, m.mul(dh, z)),), (m.concat(d_r, d_z, d_n, d_u),)


@op("rnn_scan_grad")
class RnnScanGrad(ScanGrad):
    """The gradient of ``rnn_scan``.

    Shapes: dy, dh, y [T,B,H], w_hh -> dgx [T,B,H], dh0
    """

    reverse: bool = False
    nonlinearity: str = "tanh"
    states, gates, given, sequences, firsts = 1, 1, (1,), (1,), 0
    samples = [
        *_samples([*_types(1, 0, 1), _weight(1)]),
        *_samples([*_types(1, 0, 1), _weight(1)], nonlinearity="relu"),
    ]

    def infer(self, dy: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        check_nonlinearity(self, (dy, *rest))
        return super().infer(dy, *rest)

    def step(self, m, rows, w, dh):
        dy, y = rows
        dh = m.add(dy, dh)
        total = m.mul(dh, m.sub(1.0, m.mul(y, y))) if self.nonlinearity == "tanh" else (
            m.where_positive(y, dh))  # fmt: skip
        return (m.matmul(total, w),), (total,)


class _Numpy:
    """The operations of a step on arrays."""

    add, mul, tanh, matmul = np.add, np.multiply, np.tanh, np.matmul

    def sub(self, x: Any, y: np.ndarray) -> np.ndarray:
        return (x - y).astype(y.dtype)

    def split(self, x: np.ndarray, count: int) -> list[np.ndarray]:
        return np.split(x, count, -1)

    def concat(self, *parts: np.ndarray) -> np.ndarray:
        return np.concatenate(parts, -1)

    def where_positive(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.where(y > 0, x, np.zeros((), x.dtype))


class Built:
    """The operations of a step as nodes."""

    def __init__(self, b: Any) -> None:
        self.b = b

    def __getattr__(self, name: str) -> Any:
        return getattr(self.b, name)

    def split(self, x: Value, count: int) -> list[Value]:
        return _split(self.b, x, count)

    def concat(self, *parts: Value) -> Value:
        return self.b.concat(*parts, axis=1)

    def where_positive(self, y: Value, x: Value) -> Value:
        return self.b.where(self.b.gt(y, 0.0), x, self.b.const(0.0, x.dtype))


def _split(b: Any, x: Value, count: int) -> list[Value]:
    width = x.shape[1] // count
    cuts = [(width * k, width * (k + 1)) for k in range(count)]
    return [
        b.slice(x, starts=(0, low), stops=(x.shape[0], high), steps=(1, 1)) for low, high in cuts
    ]


def _build_previous(b: Any, states: Value, first: Value, reverse: bool) -> Value:
    """The state before each step."""
    steps, *rest = states.shape
    begin = b.reshape(first, shape=(1, *first.shape))
    whole = b.concat(*((states, begin) if reverse else (begin, states)), axis=0)
    low, high = (1, steps + 1) if reverse else (0, steps)
    return b.slice(whole, starts=(low, 0, 0), stops=(high, *rest), steps=(1, 1, 1))


def _loop(
    b: Any, reverse: bool, rows: list[Value], carry: list[Value], passed: list[Value],
    kept: list[TensorType], step: Body,
) -> tuple[list[Value], list[Value]]:  # fmt: skip
    """``step`` on row after row; the states after it, and the sequences of type ``kept``."""
    steps, n, k = rows[0].shape[0], len(carry), len(kept)
    zeros = [b.broadcast_to(b.const(0.0, t.dtype), shape=t.shape) for t in kept]
    args = [b.const(0, i64), *zeros, *carry, *rows, *passed]
    cond, given = _subgraph(args)
    cond.graph.outputs = [cond.lt(given[0], cond.size(dim=steps))]
    body, (t, *given) = _subgraph(args)
    sequences, states, rest = given[:k], given[k : k + n], given[k + n :]
    at = body.sub(body.sub(body.size(dim=steps), t), 1) if reverse else t
    at = body.reshape(at, shape=(1,))
    read = [_row(body, x, at) for x in rest[: len(rows)]]
    states, parts = step(body, read, [*states, *rest[len(rows) :]])
    written = [
        body.put(x, at, body.reshape(v, shape=(1, *v.shape)), axis=0)
        for x, v in zip(sequences, parts)
    ]
    body.graph.outputs = [body.add(t, 1), *written, *states, *rest]
    results = b.while_(*args, graphs=(cond.graph, body.graph))
    return list(results[1 + k : 1 + k + n]), list(results[1 : 1 + k])


def _row(b: Any, x: Value, at: Value) -> Value:
    return b.reshape(b.take(x, at, axis=0), shape=x.shape[1:])


def _subgraph(args: Sequence[Value]) -> tuple[Builder, list[Value]]:
    inner = Builder(Graph())
    return inner, [inner.input(a.type, f"a{i}") for i, a in enumerate(args)]

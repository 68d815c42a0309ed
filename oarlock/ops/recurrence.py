"""One direction of one recurrent layer, its input projection given: what recurrent layers become."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from oarlock.ir import Builder, Graph, TensorType, Value, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import same_dtype

UNROLLED_STEPS = 4  # a shorter sequence is decomposed step by step, a longer one into a loop


def _samples(gates: int, states: int, **more: Any) -> list[Sample]:
    def sample(steps: int, bias: bool, **attrs: Any) -> Sample:
        batch, hidden = 2, 4
        types = [TensorType(f32, (steps, batch, gates * hidden))]
        types += [TensorType(f32, (batch, hidden))] * states
        types.append(TensorType(f32, (gates * hidden, hidden)))
        types += [TensorType(f32, (gates * hidden,))] * bias
        return Sample(tuple(types), attrs, -1.0, 1.0)

    return [sample(3, True, **more), sample(6, False, reverse=True, **more)]


class Scan(Op):
    """Base: ``gates`` rows of H per weight, ``states`` tensors carried from step to step.

    Shapes: gx [T, B, gates*H], states [B, H], w_hh [gates*H, H], b_hh [gates*H] or none
            -> y [T, B, H], the states after the last step
    Attrs:  reverse: from the last step to the first.
    """

    gates: ClassVar[int]
    states: ClassVar[int]
    reverse: bool = False

    def infer(self, gx: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        types = (gx, *rest)
        if len(rest) not in (self.states + 1, self.states + 2):
            raise self.fail(types, f"expected {self.states} states, a weight and perhaps a bias")
        same_dtype(self, types)
        weight = rest[self.states]
        if gx.rank != 3 or weight.rank != 2 or not gx.dtype.is_float:
            raise self.fail(types, "expected floats gx[T,B,G*H], w_hh[G*H,H]")
        hidden = weight.shape[1]
        state = gx.with_shape((gx.shape[1], hidden))
        rows = hidden * self.gates
        wanted = [state] * self.states + [gx.with_shape((rows, hidden)), gx.with_shape((rows,))]
        if gx.shape[2] != rows or any(got != t for got, t in zip(rest, wanted)):
            expected = ", ".join(str(t) for t in wanted[: len(rest)])
            raise self.fail(types, f"expected {rows} columns, then {expected}")
        return (gx.with_shape((*gx.shape[:2], hidden)), *[state] * self.states)

    def step(self, gx: np.ndarray, gh: np.ndarray, *carry: np.ndarray) -> tuple[np.ndarray, ...]:
        """The next states from the projections of input and hidden state, numpy."""
        raise NotImplementedError(f"{self.name}.step")

    def build_step(self, b: Any, gx: Value, gh: Value, *carry: Value) -> tuple[Value, ...]:
        """``step`` in primitive ops."""
        raise NotImplementedError(f"{self.name}.build_step")

    def reference(self, gx: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        carry, (w_hh, *bias) = rest[: self.states], rest[self.states :]
        y = np.empty((*gx.shape[:2], w_hh.shape[1]), gx.dtype)
        times = range(len(gx))
        for t in reversed(times) if self.reverse else times:
            gh = carry[0] @ w_hh.T + (bias[0] if bias else 0)
            carry = self.step(gx[t], gh.astype(gx.dtype), *carry)
            y[t] = carry[0]
        return (y, *carry)

    def decompose(self, b: Any, gx: Value, *rest: Value) -> tuple[Value, ...]:
        """A few steps one by one, or a loop."""
        carry, hidden = rest[: self.states], rest[self.states :]
        steps = gx.shape[0]
        gx = b.flip(gx, axes=(0,)) if self.reverse else gx
        is_short = isinstance(steps, int) and 0 < steps <= UNROLLED_STEPS
        y, carry = (self._unrolled if is_short else self._loop)(b, gx, carry, hidden)
        return (b.flip(y, axes=(0,)) if self.reverse else y, *carry)

    def _unrolled(
        self, b: Any, gx: Value, carry: tuple[Value, ...], hidden: tuple[Value, ...]
    ) -> tuple[Value, tuple[Value, ...]]:
        outputs = []
        for t in range(gx.shape[0]):  # type: ignore[arg-type]
            carry = self.build_step(b, row(b, gx, t), b.linear(carry[0], *hidden), *carry)
            outputs.append(carry[0])
        return stack(b, outputs), carry

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


def row(b: Any, x: Value, i: int) -> Value:
    """``x[i]``"""
    zeros = (0,) * (x.rank - 1)
    cut = b.slice(
        x, starts=(i, *zeros), stops=(i + 1, *x.shape[1:]), steps=(1,) * x.rank
    )  # fmt: skip
    return b.reshape(cut, shape=x.shape[1:])


def stack(b: Any, values: Sequence[Value]) -> Value:
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


@op("lstm_scan")
class LstmScan(Scan):
    """``c = f c + i g``, ``h = o tanh(c)``, gates i, f, g, o; see ``lstm``."""

    reverse: bool = False
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


@op("gru_scan")
class GruScan(Scan):
    """``h = (1 - z) n + z h`` with ``n = tanh(x_n + r h_n)``, gates r, z, n; see ``gru``."""

    reverse: bool = False
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


@op("rnn_scan")
class RnnScan(Scan):
    """``h = tanh(x + h w)``, or relu of it; see ``rnn``."""

    reverse: bool = False
    nonlinearity: str = "tanh"
    gates = 1
    states = 1
    samples = [*_samples(1, 1), *_samples(1, 1, nonlinearity="relu")]

    def infer(self, gx: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        check_nonlinearity(self, (gx, *rest))
        return super().infer(gx, *rest)

    def step(self, gx, gh, h):
        total = gx + gh
        return (np.tanh(total) if self.nonlinearity == "tanh" else np.maximum(total, 0),)

    def build_step(self, b, gx, gh, h):
        total = b.add(gx, gh)
        return (b.tanh(total) if self.nonlinearity == "tanh" else b.relu(total),)


def check_nonlinearity(op: Any, types: Sequence[TensorType]) -> None:
    """Raises: TypeMismatch."""
    if op.nonlinearity not in ("tanh", "relu"):
        got = f"nonlinearity={op.nonlinearity!r}"
        raise op.fail(tuple(types), f"{got}; expected 'tanh' or 'relu'")

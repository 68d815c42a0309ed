"""Recurrent layers: whole sequences, layers and directions in one op.

Weights come in PyTorch's order: for every layer, for each direction, ``w_ih [G*H, C]``,
``w_hh [G*H, H]``, then ``b_ih [G*H]`` and ``b_hh [G*H]`` when ``bias``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from oarlock.ir import Size, TensorType, Value, f32
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.recurrence import GruScan, LstmScan, RnnScan, check_nonlinearity, row, stack
from oarlock.ops.rules import same_dtype


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

    def scan(self, direction: int) -> Any:
        """The op of one direction of a layer."""
        raise NotImplementedError(f"{self.name}.scan")

    def reference(self, x: np.ndarray, *rest: np.ndarray) -> tuple[np.ndarray, ...]:
        states, weights = rest[: self.states], rest[self.states :]
        last: list[Sequence[np.ndarray]] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                i = layer * self.directions + direction
                w_ih, w_hh, b_ih, b_hh = self._cell_weights(weights, i)
                gx = x @ w_ih.T if b_ih is None else x @ w_ih.T + b_ih
                hidden = (w_hh,) if b_hh is None else (w_hh, b_hh)
                y, *carry = self.scan(direction).reference(gx, *(s[i] for s in states), *hidden)
                outputs.append(y)
                last.append(carry)
            x = np.concatenate(outputs, -1)
        return (x, *(np.stack(s) for s in zip(*last)))

    def decompose(self, b: Any, x: Value, *rest: Value) -> tuple[Value, ...]:
        """Input projections of all steps at once, then one scan per layer and direction."""
        states, weights = rest[: self.states], rest[self.states :]
        last: list[Sequence[Value]] = []
        for layer in range(self.layers):
            outputs = []
            for direction in range(self.directions):
                i = layer * self.directions + direction
                w_ih, w_hh, b_ih, b_hh = self._cell_weights(weights, i)
                gx = b.linear(x, w_ih) if b_ih is None else b.linear(x, w_ih, b_ih)
                hidden = (w_hh,) if b_hh is None else (w_hh, b_hh)
                carry = (row(b, s, i) for s in states)
                y, *after = b.build(self.scan(direction), gx, *carry, *hidden)
                outputs.append(y)
                last.append(after)
            x = outputs[0] if len(outputs) == 1 else b.concat(*outputs, axis=2)
        return (x, *(stack(b, s) for s in zip(*last)))


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

    def scan(self, direction: int) -> LstmScan:
        return LstmScan(reverse=direction == 1)


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

    def scan(self, direction: int) -> GruScan:
        return GruScan(reverse=direction == 1)


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
        check_nonlinearity(self, (x, *rest))
        return super().infer(x, *rest)

    def scan(self, direction: int) -> RnnScan:
        return RnnScan(reverse=direction == 1, nonlinearity=self.nonlinearity)

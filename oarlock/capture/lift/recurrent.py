"""LSTM, GRU, RNN: whole layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Value
from oarlock.ops.shape import full_slice


def _layers(
    b: Lifter, name: str, x: Value, states: Sequence[Value], params: Sequence[Value],
    has_biases: bool, layers: int, bidirectional: bool, batch_first: bool, **more: Any,
) -> Any:  # fmt: skip
    per = (4 if has_biases else 2) * layers * (2 if bidirectional else 1)
    if len(params) != per:
        raise NotImplementedError(f"{name} with projections")
    x = b.transpose(x, perm=(1, 0, 2)) if batch_first else x
    y, *last = getattr(b, name)(
        x, *states, *params, layers=layers, bidirectional=bidirectional, bias=has_biases, **more
    )
    return (b.transpose(y, perm=(1, 0, 2)) if batch_first else y, *last)


def _refuse_dropout(dropout: float, train: bool) -> None:
    if train and dropout:
        raise NotImplementedError("dropout between recurrent layers in training mode")


@lift("aten.lstm.input")
def lstm(
    b: Lifter, x: Value, states: Any, params: Any, has_biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    _refuse_dropout(dropout, train)
    return _layers(b, "lstm", x, states, params, has_biases, layers, bidirectional, batch_first)


@lift("aten.gru.input")
def gru(
    b: Lifter, x: Value, state: Value, params: Any, has_biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    _refuse_dropout(dropout, train)
    return _layers(b, "gru", x, [state], params, has_biases, layers, bidirectional, batch_first)


@lift("aten.rnn_tanh.input")
def rnn_tanh(
    b: Lifter, x: Value, state: Value, params: Any, has_biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    _refuse_dropout(dropout, train)
    return _layers(b, "rnn", x, [state], params, has_biases, layers, bidirectional, batch_first)


@lift("aten.rnn_relu.input")
def rnn_relu(
    b: Lifter, x: Value, state: Value, params: Any, has_biases: bool, layers: int, dropout: float,
    train: bool, bidirectional: bool, batch_first: bool,
) -> Any:  # fmt: skip
    _refuse_dropout(dropout, train)
    args = (x, [state], params, has_biases, layers, bidirectional, batch_first)
    return _layers(b, "rnn", *args, nonlinearity="relu")


@lift("aten.gru_cell.default")
def gru_cell(
    b: Lifter, x: Value, h: Value, w_ih: Value, w_hh: Value, b_ih: Any = None, b_hh: Any = None
) -> Value:
    """One step: ``z * h + (1 - z) * n`` with the gates r, z, n in this order."""
    ours, theirs = (_gates(b, *operands) for operands in ((x, w_ih, b_ih), (h, w_hh, b_hh)))
    r, z = (b.sigmoid(b.add(ours[i], theirs[i])) for i in range(2))
    n = b.tanh(b.add(ours[2], b.mul(r, theirs[2])))
    return b.add(b.mul(b.sub(h, n), z), n)


def _gates(b: Lifter, x: Value, w: Value, bias: Value | None) -> list[Value]:
    y = b.linear(x, w) if bias is None else b.linear(x, w, bias)
    size = w.shape[0] // 3
    cuts = [full_slice(y.type, y.rank - 1, i * size, (i + 1) * size) for i in range(3)]
    return [b.slice(y, **cut) for cut in cuts]

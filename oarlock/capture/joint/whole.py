"""Functions recorded otherwise than by the kernels that they call: recurrent layers as one scan with
one gradient scan, and fused optimizers, whose kernels take their options as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from oarlock.capture.arrays import dtype_of
from oarlock.capture.indices import require_ranges
from oarlock.capture.joint.fused import FUSED
from oarlock.capture.joint.numbers import number_of
from oarlock.ir import Value
from oarlock.ops.recurrence import RnnScan
from oarlock.ops.recurrence_train import (
    GruScanGrad,
    GruScanTrain,
    LstmScanGrad,
    LstmScanTrain,
    RnnScanGrad,
)

_BACKWARD = (torch.Tensor.backward, torch.autograd.backward, torch.autograd.grad)
_MAKERS = (torch.tensor, torch.as_tensor, torch.scalar_tensor)
FLOATS = (torch.float32, torch.float64)


class WholeFunctions(TorchFunctionMode):
    """``backward[0]`` counts the calls that run autograd."""

    def __init__(self, recorder: Any, backward: list[int]) -> None:
        super().__init__()
        self.recorder, self.backward = recorder, backward

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _BACKWARD:
            self.backward[0] += 1
        kind = getattr(func, "__name__", "")
        if kind == "one_hot":
            require_ranges(self.recorder, kind, (*args, *(kwargs or {}).values()))
        if kind in KINDS and not kwargs and is_whole(args):
            return recurrent(self.recorder, kind, *args)
        if func is F.batch_norm and any(number_of(x) for x in (*args, *(kwargs or {}).values())):
            return normalised(*args, **(kwargs or {}))
        fused = FUSED.get(f"aten.{kind}.default")
        if fused is not None:
            with torch.no_grad():
                return fused(*args, **(kwargs or {}))
        if func in _MAKERS and args and number_of(args[0]) is not None:
            return self.made(args[0], **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def made(
        self, x: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False
    ) -> torch.Tensor:
        """A tensor of a number that is known at run time only."""
        number, recorder = number_of(x), self.recorder
        assert number is not None
        number = recorder.typed(number)
        dtype = dtype or (torch.get_default_dtype() if number.is_float() else None)
        value = number.value if dtype is None else recorder.b.to(number.value, dtype_of(dtype))
        return recorder.tensor_of(value).requires_grad_(requires_grad)


def normalised(
    x: torch.Tensor, mean: Any, var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: Any = 0.1, eps: float = 1e-5,
) -> torch.Tensor:  # fmt: skip
    """``F.batch_norm`` with a momentum that differs from call to call."""
    if not training or mean is None:
        return F.batch_norm(x, mean, var, weight, bias, training, 0.0, eps)
    out = F.batch_norm(x, None, None, weight, bias, True, 0.0, eps)
    axes = [axis for axis in range(x.dim()) if axis != 1]
    with torch.no_grad():
        for held, new in ((mean, x.mean(axes)), (var, x.var(axes))):
            held.copy_(new * momentum + held * (1 - momentum))
    return out


def is_whole(args: tuple) -> bool:
    """A layer over a dense batch of sequences, without projections."""
    if len(args) != 9 or not isinstance(args[3], bool):
        return False
    x, _, params, has_biases, layers, _, _, bidirectional, _ = args
    cells = layers * (2 if bidirectional else 1)
    return x.dim() == 3 and x.dtype in FLOATS and len(params) == cells * (4 if has_biases else 2)


def recurrent(
    recorder: Any, kind: str, x: torch.Tensor, states: Any, params: Sequence[torch.Tensor],
    has_biases: bool, layers: int, dropout: float, train: bool, bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    """``torch.lstm`` and its like: projections of all steps, then a scan, for each cell."""
    states = states if isinstance(states, (list, tuple)) else [states]
    x = x.transpose(0, 1) if batch_first else x
    per, directions = (4 if has_biases else 2), (2 if bidirectional else 1)
    last: list[Sequence[torch.Tensor]] = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            i = layer * directions + direction
            cell = [*params[i * per : (i + 1) * per], None, None][:4]
            y, *after = _cell(recorder, kind, x, [s[i] for s in states], cell, direction == 1)
            outputs.append(y)
            last.append(after)
        x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
        if dropout and train and layer + 1 < layers:
            x = F.dropout(x, dropout, True)
    x = x.transpose(0, 1) if batch_first else x
    return (x, *(torch.stack(list(s)) for s in zip(*last)))


def _cell(
    recorder: Any, kind: str, x: torch.Tensor, states: list[torch.Tensor], cell: Sequence[Any],
    reverse: bool,
) -> tuple[torch.Tensor, ...]:  # fmt: skip
    w_ih, w_hh, b_ih, b_hh = cell
    if kind != "gru" and b_ih is not None:
        b_ih, b_hh = b_ih + b_hh, None
    gx = F.linear(x, w_ih, b_ih)
    return KINDS[kind].apply(recorder, kind, reverse, gx, *states, w_hh, b_hh)


def _emit(recorder: Any, op: Any, *tensors: torch.Tensor | None) -> list[torch.Tensor]:
    """The results of an op of ours as tensors of the recording."""
    values = recorder.b.build(op, *(recorder.value(t) for t in tensors if t is not None))
    values = [values] if isinstance(values, Value) else list(values)
    return [recorder.tensor_of(v) for v in values]


def _previous(y: torch.Tensor, first: torch.Tensor, reverse: bool) -> torch.Tensor:
    """The state before each step."""
    begin = first.unsqueeze(0)
    return torch.cat([y[1:], begin]) if reverse else torch.cat([begin, y[:-1]])


def _weight_grad(grad: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    return grad.flatten(0, 1).t() @ before.flatten(0, 1)


def _or_zeros(grad: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if grad is None else grad


class _Lstm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recorder, kind, reverse, gx, h0, c0, w_hh, b_hh):
        op = LstmScanTrain(reverse=reverse)
        y, h, c, gates, cs = _emit(recorder, op, gx, h0, c0, w_hh, b_hh)
        ctx.recorder, ctx.reverse = recorder, reverse
        ctx.saved = (y, h, c, gates, cs, h0, c0, w_hh)
        ctx.set_materialize_grads(False)
        return y, h, c

    @staticmethod
    def backward(ctx, dy, dh, dc):  # type: ignore[override]
        y, h, c, gates, cs, h0, c0, w_hh = ctx.saved
        dy, dh, dc = (_or_zeros(g, x) for g, x in ((dy, y), (dh, h), (dc, c)))
        op = LstmScanGrad(reverse=ctx.reverse)
        dgx, dh0, dc0 = _emit(ctx.recorder, op, dy, dh, dc, gates, cs, c0, w_hh)
        needs = ctx.needs_input_grad
        dw = _weight_grad(dgx, _previous(y, h0, ctx.reverse)) if needs[6] else None
        return None, None, None, dgx, dh0, dc0, dw, dgx.sum((0, 1)) if needs[7] else None


class _Gru(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recorder, kind, reverse, gx, h0, w_hh, b_hh):
        y, h, gates = _emit(recorder, GruScanTrain(reverse=reverse), gx, h0, w_hh, b_hh)
        ctx.recorder, ctx.reverse, ctx.saved = recorder, reverse, (y, h, gates, h0, w_hh)
        ctx.set_materialize_grads(False)
        return y, h

    @staticmethod
    def backward(ctx, dy, dh):  # type: ignore[override]
        y, h, gates, h0, w_hh = ctx.saved
        dy, dh = _or_zeros(dy, y), _or_zeros(dh, h)
        op = GruScanGrad(reverse=ctx.reverse)
        grads, dh0 = _emit(ctx.recorder, op, dy, dh, gates, y, h0, w_hh)
        (steps, batch, n), needs = y.shape, ctx.needs_input_grad
        rows = grads.flatten(0, 1)
        dgh, dw, db = (rows[:, : 2 * n], rows[:, 3 * n :]), None, None
        if needs[5]:
            before = _previous(y, h0, ctx.reverse).flatten(0, 1)
            dw = torch.cat([part.t() @ before for part in dgh])
        if needs[6]:
            db = torch.cat([part.sum(0) for part in dgh])
        dgx = rows[:, : 3 * n].unflatten(0, (steps, batch))
        return None, None, None, dgx, dh0, dw, db


class _Rnn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, recorder, kind, reverse, gx, h0, w_hh, b_hh):
        ctx.options = {"reverse": reverse, "nonlinearity": kind.removeprefix("rnn_")}
        y, h = _emit(recorder, RnnScan(**ctx.options), gx, h0, w_hh, b_hh)
        ctx.recorder, ctx.saved = recorder, (y, h, h0, w_hh)
        ctx.set_materialize_grads(False)
        return y, h

    @staticmethod
    def backward(ctx, dy, dh):  # type: ignore[override]
        y, h, h0, w_hh = ctx.saved
        dy, dh = _or_zeros(dy, y), _or_zeros(dh, h)
        dgx, dh0 = _emit(ctx.recorder, RnnScanGrad(**ctx.options), dy, dh, y, w_hh)
        needs = ctx.needs_input_grad
        before = _previous(y, h0, ctx.options["reverse"])
        dw = _weight_grad(dgx, before) if needs[5] else None
        return None, None, None, dgx, dh0, dw, dgx.sum((0, 1)) if needs[6] else None


KINDS: dict[str, Any] = {"lstm": _Lstm, "gru": _Gru, "rnn_tanh": _Rnn, "rnn_relu": _Rnn}

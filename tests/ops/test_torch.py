"""Records against PyTorch: overloads that map one to one, and a table for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from oarlock.evaluate import evaluate
from oarlock.ir import DType, TensorType, bf16
from tests.samples import CASES, assert_agree, draw, program_of, results_of, types_of

torch = pytest.importorskip("torch")
F = torch.nn.functional


def tensor_of(array: np.ndarray, dtype: DType) -> Any:
    """A torch tensor of storage."""
    if dtype is bf16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))


def array_of(tensor: Any) -> np.ndarray:
    """Storage of a torch tensor."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def torch_type(dtype: DType) -> Any:
    return {"bool": torch.bool, "bf16": torch.bfloat16}.get(dtype.name) or getattr(
        torch, dtype.numpy.name
    )


def overload(name: str) -> Callable[..., Any]:
    _, op, variant = name.split(".")
    return getattr(getattr(torch.ops.aten, op), variant)


def each_axis(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, x: Any) -> Any:
        for axis in sorted((axis % x.ndim for axis in a.axes), reverse=True):
            x = function(x, axis, a.keepdims)
        return x

    return call


def integers_by_zero(function: Callable[..., Any]) -> Callable[..., Any]:
    """PyTorch refuses what gives 0 here."""

    def call(a: Any, x: Any, y: Any) -> Any:
        if x.dtype.is_floating_point:
            return function(x, y)
        return torch.where(y == 0, 0, function(x, torch.where(y == 0, 1, y)))

    return call


def extreme(name: str, logic: str) -> Callable[..., Any]:
    def call(a: Any, x: Any) -> Any:
        if x.numel() == 0:
            pytest.skip("PyTorch refuses an empty axis")
        if x.dtype is torch.bool:
            return getattr(torch, logic)(x, a.axes, a.keepdims)
        return getattr(torch, name)(x, a.axes, a.keepdims) if a.axes else x

    return call


def signed_powers(a: Any, x: Any, y: Any) -> Any:
    if x.dtype.is_floating_point:
        return torch.pow(x, y)
    inverse = torch.pow(x.double(), y.double()).trunc().nan_to_num(0, 0, 0).to(x.dtype)
    return torch.where(y < 0, inverse, torch.pow(x, y.clamp(min=0)))


def wrap(index: Any, size: int) -> Any:
    return torch.where(index < 0, index + size, index).long()


REDUCE = {"none": None, "add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def put(a: Any, x: Any, index: Any, updates: Any) -> Any:
    index = wrap(index, x.shape[a.axis])
    if a.reduce == "none":
        return x.index_copy(a.axis, index, updates)
    if a.reduce == "add":
        return x.index_add(a.axis, index, updates)
    return x.index_reduce(a.axis, index, updates, REDUCE[a.reduce])


def scatter(a: Any, x: Any, index: Any, src: Any) -> Any:
    index = wrap(index, x.shape[a.axis])
    if a.reduce == "none":
        return x.scatter(a.axis, index, src)
    return x.scatter_reduce(a.axis, index, src, REDUCE[a.reduce])


def arg(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, x: function(x, a.axis, keepdim=a.keepdims)


def take(a: Any, x: Any, indices: Any) -> Any:
    axis = a.axis % x.ndim
    flat = x.index_select(axis, wrap(indices, x.shape[axis]).reshape(-1))
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def cast(a: Any, x: Any) -> Any:
    return x.to(torch_type(a.dtype))


def torch_mode(mode: str, rank: int) -> str:
    names = {"linear": {3: "linear", 4: "bilinear", 5: "trilinear"}, "cubic": {4: "bicubic"}}
    return names.get(mode, {}).get(rank, mode)


def resize(a: Any, x: Any) -> Any:
    if a.layout == "NHWC":
        x = x.movedim(-1, 1)
    y = F.interpolate(
        x,
        None if a.scales else a.size,
        a.scales or None,
        torch_mode(a.mode, x.ndim),
        a.align_corners if a.mode in ("linear", "cubic") else None,
        antialias=a.antialias,
    )
    return y.movedim(1, -1) if a.layout == "NHWC" else y


def slices(a: Any, x: Any) -> Any:
    return x[tuple(slice(*span) for span in zip(a.starts, a.stops, a.steps))]


TABLE: dict[str, Callable[..., Any]] = {
    "add": lambda a, x, y: x + y,
    "sub": lambda a, x, y: x - y,
    "mul": lambda a, x, y: x * y,
    "div": lambda a, x, y: x / y,
    "floor_div": integers_by_zero(torch.floor_divide),
    "remainder": integers_by_zero(torch.remainder),
    "fmod": integers_by_zero(torch.fmod),
    "trunc_div": integers_by_zero(lambda x, y: torch.div(x, y, rounding_mode="trunc")),
    "pow": signed_powers,
    "maximum": lambda a, x, y: torch.maximum(x, y),
    "minimum": lambda a, x, y: torch.minimum(x, y),
    "atan2": lambda a, x, y: torch.atan2(x, y),
    "eq": lambda a, x, y: x == y,
    "ne": lambda a, x, y: x != y,
    "lt": lambda a, x, y: x < y,
    "le": lambda a, x, y: x <= y,
    "gt": lambda a, x, y: x > y,
    "ge": lambda a, x, y: x >= y,
    "bit_and": lambda a, x, y: x & y,
    "bit_or": lambda a, x, y: x | y,
    "bit_xor": lambda a, x, y: x ^ y,
    "shift_left": lambda a, x, y: torch.bitwise_left_shift(x, y),
    "shift_right": lambda a, x, y: torch.bitwise_right_shift(x, y),
    "is_nan": lambda a, x: torch.isnan(x),
    "is_inf": lambda a, x: torch.isinf(x),
    "is_finite": lambda a, x: torch.isfinite(x),
    "logical_not": lambda a, x: torch.logical_not(x),
    "where": lambda a, c, x, y: torch.where(c, x, y),
    "cast": cast,
    "clamp": lambda a, x: torch.clamp(x, a.low, a.high),
    "gelu": lambda a, x: F.gelu(x.double(), approximate=a.approximate),  # float: NaN of inf
    "leaky_relu": lambda a, x: F.leaky_relu(x, a.slope),
    "elu": lambda a, x: torch.ops.aten.elu(x, a.alpha, a.scale, a.input_scale),
    "celu": lambda a, x: F.celu(x, a.alpha),
    "softplus": lambda a, x: F.softplus(x, a.beta, a.threshold),
    "softsign": lambda a, x: F.softsign(x),
    "log_sigmoid": lambda a, x: F.logsigmoid(x),
    "glu": lambda a, x: F.glu(x, a.axis),
    "reduce_sum": lambda a, x: torch.sum(x, a.axes, a.keepdims, dtype=x.dtype) if a.axes else x,
    "reduce_prod": each_axis(lambda x, axis, keep: torch.prod(x, axis, keep, dtype=x.dtype)),
    "reduce_max": extreme("amax", "any"),
    "reduce_min": extreme("amin", "all"),
    "mean": lambda a, x: torch.mean(x, a.axes, a.keepdims) if a.axes else x,
    "var": lambda a, x: (
        torch.var(x, a.axes, correction=a.correction, keepdim=a.keepdims) if a.axes else x * np.nan
    ),
    "logsumexp": lambda a, x: torch.logsumexp(x, a.axes, a.keepdims) if a.axes else x,
    "lp_norm": lambda a, x: torch.linalg.vector_norm(x, a.p, a.axes, a.keepdims),
    "argmax": arg(torch.argmax),
    "argmin": arg(torch.argmin),
    "reshape": lambda a, x: x.reshape(a.shape),
    "transpose": lambda a, x: x.permute(a.perm),
    "broadcast_to": lambda a, x: x.broadcast_to(a.shape),
    "slice": slices,
    "flip": lambda a, x: x.flip(a.axes),
    "pad": lambda a, x: F.pad(
        x, [n for pair in zip(a.low[::-1], a.high[::-1]) for n in pair], value=a.value
    ),
    "concat": lambda a, *xs: torch.cat(xs, a.axis),
    "iota": lambda a: torch.arange(a.size),
    "take": take,
    "gather": lambda a, x, i: x.gather(a.axis, wrap(i, x.shape[a.axis])),
    "put": put,
    "scatter": scatter,
    "one_hot": lambda a, x: F.one_hot(x.long().clamp(min=0), a.classes) * (x >= 0)[..., None],
    "pixel_shuffle": lambda a, x: F.pixel_shuffle(x, a.factor),
    "pixel_unshuffle": lambda a, x: F.pixel_unshuffle(x, a.factor),
    "channel_shuffle": lambda a, x: torch.channel_shuffle(x, a.groups),
    "resize": lambda a, x: resize(a, x),
    "grid_sample": lambda a, x, grid: F.grid_sample(
        x, grid, torch_mode(a.mode, 4), a.padding_mode, a.align_corners
    ),
    "lstm": lambda a, x, h, c, *w: torch.lstm(
        x, (h, c), w, a.bias, a.layers, 0.0, False, a.bidirectional, False
    ),
    "gru": lambda a, x, h, *w: torch.gru(
        x, h, w, a.bias, a.layers, 0.0, False, a.bidirectional, False
    ),
    "rnn": lambda a, x, h, *w: getattr(torch, f"rnn_{a.nonlinearity}")(
        x, h, w, a.bias, a.layers, 0.0, False, a.bidirectional, False
    ),
    "triu": lambda a, x: x.triu(a.diagonal),
    "tril": lambda a, x: x.tril(a.diagonal),
    "cumsum": lambda a, x: x.cumsum(a.axis, dtype=x.dtype),
    "cumprod": lambda a, x: x.cumprod(a.axis, dtype=x.dtype),
    "cummax": lambda a, x: tuple(torch.cummax(x, a.axis)),
    "cummin": lambda a, x: tuple(torch.cummin(x, a.axis)),
    "sort": lambda a, x: tuple(torch.sort(x, dim=a.axis, descending=a.descending, stable=True)),
    "topk": lambda a, x: tuple(torch.topk(x, a.k, a.axis, a.largest))[:1],
}


def expected_of(op: Any, tensors: list[Any]) -> list[Any] | None:
    if op.name in TABLE:
        return results_of(TABLE[op.name](op, *tensors))
    return results_of(overload(op.aten[0])(*tensors))


COMPARED = [case for case in CASES if case.values[0].aten or case.values[0].name in TABLE]


@pytest.mark.parametrize(("record", "sample"), COMPARED)
def test_reference_agrees_with_torch(record, sample):
    op, types = record(**sample.attrs), types_of(sample.inputs)
    arrays = draw(sample.inputs, sample)
    program = program_of(op, types)
    got = results_of(evaluate(program, *arrays))
    expected = expected_of(op, [tensor_of(x, t.dtype) for x, t in zip(arrays, types)])
    for value, g, e in zip(program.graph.outputs, got, expected):
        e = array_of(e).astype(value.dtype.numpy, copy=False)
        assert_agree(g, e, value.dtype, arrays, sample.tolerance)


def test_ranges_of_casts_saturate():
    x = np.array([1e30, -1e30, np.inf, -np.inf, np.nan, 2.9, -2.9], np.float32)
    program = program_of(get_cast("i32"), [TensorType(DType.parse("f32"), x.shape)])
    top, bottom = 2**31 - 1, -(2**31)
    assert evaluate(program, x).tolist() == [top, bottom, top, bottom, 0, 2, -2]


def get_cast(name: str) -> Any:
    from oarlock.ir.op import get

    return get("cast")(dtype=DType.parse(name))

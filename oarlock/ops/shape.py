"""Leaves, views and moves of data."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.ir import Dim, DType, Size, TensorType, bounds, encode, f32, i64, product
from oarlock.ir.dim import without_mod
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axes_of, axis_of, same_dtype

X = TensorType(f32, (3, 4, 5))


@op("param")
class Param(Op):
    """The weight ``key`` of the program."""

    key: str = ""
    type: TensorType = X

    def infer(self) -> TensorType:
        return self.type


@op("const", onnx=("Constant", 13))
class Const(Op):
    """A small constant: a number or nested tuples of numbers."""

    value: Any = 0
    dtype: DType = f32
    samples = [
        Sample((), {"value": 1.5, "dtype": f32}),
        Sample((), {"value": (1, 2), "dtype": i64}),
    ]

    def infer(self) -> TensorType:
        return TensorType(self.dtype, self.array.shape)

    @property
    def array(self) -> np.ndarray:
        """The value in storage."""
        if self.dtype.is_float:
            return encode(np.asarray(self.value, np.float64), self.dtype)
        return np.asarray(self.value).astype(self.dtype.numpy)

    def reference(self) -> np.ndarray:
        kind = np.float64 if self.dtype.is_float else self.dtype.numpy
        return np.asarray(self.value).astype(kind)


@op("iota")
class Iota(Op):
    """``0, 1, ..., size - 1``."""

    size: Size = 0
    dtype: DType = i64
    samples = [Sample((), {"size": 7, "dtype": i64})]

    def infer(self) -> TensorType:
        return TensorType(self.dtype, (self.size,))

    def reference(self) -> np.ndarray:
        return np.arange(self.size)


@op("size")
class SizeOf(Op):
    """The value of a symbolic size, i64[]."""

    dim: Size = 0
    samples = [Sample((), {"dim": 7})]

    def infer(self) -> TensorType:
        return TensorType(i64, ())

    def reference(self) -> np.ndarray:
        return np.asarray(self.dim, np.int64)


@op("reshape", onnx=("Reshape", 14))
class Reshape(Op):
    """The same elements in row-major order under another shape."""

    shape: tuple[Size, ...] = ()
    view = True
    samples = [
        Sample((X,), {"shape": (12, 5)}),
        Sample((X,), {"shape": (3, 2, 2, 5, 1)}),
        Sample((TensorType(f32, ()),), {"shape": (1, 1)}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        got, expected = product(self.shape), x.size
        if got != expected and without_mod(got) != without_mod(expected):
            raise self.fail((x,), f"{expected} elements do not fill {list(self.shape)}")
        if any(bounds(s)[0] < 0 and isinstance(s, int) for s in self.shape):
            raise self.fail((x,), f"negative size in {list(self.shape)}")
        return x.with_shape(self.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.shape)


@op("transpose", onnx=("Transpose", 13))
class Transpose(Op):
    """Axis ``i`` of the result is axis ``perm[i]`` of x."""

    perm: tuple[int, ...] = ()
    view = True
    samples = [Sample((X,), {"perm": (2, 0, 1)}), Sample((X,), {"perm": (0, 2, 1)})]

    def infer(self, x: TensorType) -> TensorType:
        if sorted(self.perm) != list(range(x.rank)):
            raise self.fail((x,), f"expected a permutation of {x.rank} axes, got {self.perm}")
        return x.with_shape(tuple(x.shape[i] for i in self.perm))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.transpose(x, self.perm)


@op("broadcast_to", onnx=("Expand", 13))
class BroadcastTo(Op):
    """Axes of size 1, and missing leading axes, repeated."""

    shape: tuple[Size, ...] = ()
    view = True
    samples = [Sample((TensorType(f32, (4, 1)),), {"shape": (3, 4, 5)})]

    def infer(self, x: TensorType) -> TensorType:
        tail = self.shape[len(self.shape) - x.rank :]
        if x.rank > len(self.shape) or any(a != 1 and a != b for a, b in zip(x.shape, tail)):
            raise self.fail((x,), f"does not broadcast to {list(self.shape)}")
        return x.with_shape(self.shape)

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, self.shape)


@op("slice", onnx=("Slice", 13))
class Slice(Op):
    """``x[start:stop:step]`` per axis, ``0 <= start <= stop <= size``, ``step > 0``."""

    starts: tuple[Size, ...] = ()
    stops: tuple[Size, ...] = ()
    steps: tuple[int, ...] = ()
    view = True
    samples = [
        Sample((X,), {"starts": (0, 1, 0), "stops": (3, 4, 5), "steps": (1, 2, 3)}),
        Sample((X,), {"starts": (1, 0, 4), "stops": (2, 4, 5), "steps": (1, 1, 1)}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.starts) == len(self.stops) == len(self.steps) == x.rank:
            raise self.fail((x,), f"expected {x.rank} starts, stops and steps")
        for size, start, stop, step in zip(x.shape, self.starts, self.stops, self.steps):
            _check_span(self, x, size, start, stop, step)
        spans = zip(self.starts, self.stops, self.steps)
        return x.with_shape(tuple((stop - start + step - 1) // step for start, stop, step in spans))

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        spans = list(zip(self.starts, self.stops, x.shape))
        return [p for a, b, n in spans for p in ((0, a), (a, b), (b, n))]

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x[tuple(slice(*span) for span in zip(self.starts, self.stops, self.steps))]


def _check_span(op: Op, x: TensorType, size: Size, start: Size, stop: Size, step: int) -> None:
    """Refuse a span that is wrong for every value of the dims."""
    if not isinstance(step, int) or step < 1:
        raise op.fail((x,), f"step {step}; expected at least 1")
    if isinstance(start, int) and start < 0:
        raise op.fail((x,), f"start {start}; expected at least 0")
    for small, large in ((start, stop), (stop, size)):
        high = bounds(large - small)[1]
        if high is not None and high < 0:
            raise op.fail((x,), f"{start}:{stop} of an axis of size {size}")


@op("flip")
class Flip(Op):
    """Axes reversed."""

    axes: tuple[int, ...] = ()
    view = True
    samples = [Sample((X,), {"axes": (0, 2)})]

    def infer(self, x: TensorType) -> TensorType:
        axes_of(self, (x,), self.axes)
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.flip(x, self.axes)


@op("pad", onnx=("Pad", 13))
class Pad(Op):
    """``low`` and ``high`` elements of ``value`` added to each axis."""

    low: tuple[Size, ...] = ()
    high: tuple[Size, ...] = ()
    value: float = 0.0
    samples = [Sample((X,), {"low": (0, 1, 2), "high": (1, 0, 0), "value": -1.5})]

    def infer(self, x: TensorType) -> TensorType:
        if not len(self.low) == len(self.high) == x.rank:
            raise self.fail((x,), f"expected {x.rank} low and high amounts")
        if any(isinstance(p, int) and p < 0 for p in (*self.low, *self.high)):
            raise self.fail((x,), f"negative padding {self.low}, {self.high}; use slice")
        return x.with_shape(tuple(a + s + b for a, s, b in zip(self.low, x.shape, self.high)))

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        return [(0, p) for p in (*self.low, *self.high)]

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.pad(x, list(zip(self.low, self.high)), constant_values=self.value)


@op("concat", onnx=("Concat", 13))
class Concat(Op):
    """Tensors joined along ``axis``."""

    axis: int = 0
    samples = [
        Sample((X, TensorType(f32, (3, 2, 5))), {"axis": 1}),
        Sample((X, X, TensorType(f32, (3, 4, 1))), {"axis": -1}),
    ]

    def infer(self, x: TensorType, *more: TensorType) -> TensorType:
        types = (x, *more)
        same_dtype(self, types)
        axis = axis_of(self, types, self.axis)
        for i, t in enumerate(more, 1):
            if t.rank != x.rank:
                raise self.fail(types, f"input {i}: expected rank {x.rank}, got rank {t.rank}")
            expected = x.with_shape((*x.shape[:axis], t.shape[axis], *x.shape[axis + 1 :]))
            if t != expected:
                raise self.fail(types, f"input {i}: expected {expected}, got {t}")
        total: Size = 0
        for t in types:
            total = total + t.shape[axis]
        return x.with_shape((*x.shape[:axis], total, *x.shape[axis + 1 :]))

    def reference(self, *arrays: np.ndarray) -> np.ndarray:
        return np.concatenate(arrays, self.axis)


def full_slice(x: TensorType, axis: int, start: Size, stop: Size, step: int = 1) -> dict[str, Any]:
    """Attributes of a slice that cuts one axis."""
    starts: list[Size | Dim] = [0] * x.rank
    stops = list(x.shape)
    steps = [1] * x.rank
    starts[axis], stops[axis], steps[axis] = start, stop, step
    return {"starts": tuple(starts), "stops": tuple(stops), "steps": tuple(steps)}

"""Running totals and order along one axis."""

from __future__ import annotations

import numpy as np

from oarlock.ir import Size, TensorType, bounds, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axis_of

X = TensorType(f32, (3, 4, 5))
TIES = np.array([[2.0, np.nan, 1, 2, 1], [-1, 3, np.inf, np.nan, 3]], np.float32)
CASES = [Sample((X,), {"axis": 1}), Sample((X,), {"axis": -1})]
INTEGERS = Sample((TensorType(i64, (4, 6)),), {"axis": 0})


class Scan(Op):
    """Base: the result has the type of x, a number."""

    samples = [*CASES, INTEGERS]

    def infer(self, x: TensorType) -> TensorType:
        axis_of(self, (x,), self.axis)
        if x.dtype.is_bool:
            raise self.fail((x,), "expected number elements, got bool")
        return x


def _accumulator(x: np.ndarray) -> np.dtype:
    return np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype


@op("cumsum", onnx=("CumSum", 14))
class CumSum(Scan):
    """``x[0] + ... + x[i]`` along ``axis``; integers wrap."""

    axis: int = 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.cumsum(self.axis, dtype=_accumulator(x)).astype(x.dtype)


@op("cumprod")
class CumProd(Scan):
    """``x[0] * ... * x[i]`` along ``axis``; integers wrap."""

    axis: int = 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.cumprod(self.axis, dtype=_accumulator(x)).astype(x.dtype)


class Ordered(Op):
    """Base: values like x, and i64 indices that say where along ``axis`` they come from."""

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        axis_of(self, (x,), self.axis)
        return x, x.with_dtype(i64)


class CumExtreme(Ordered):
    """Base: the extreme so far and the place of its last occurrence; NaN wins."""

    samples = [*CASES, INTEGERS, Sample((TIES,), {"axis": 1})]

    def scan(self, extreme: np.ufunc, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)
        found = found | (x == extreme.accumulate(x, self.axis))
        where = np.where(found, _positions(x, self.axis), 0)
        indices = np.maximum.accumulate(where, self.axis)
        return np.take_along_axis(x, indices, self.axis), indices


def _positions(x: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.broadcast_to(np.arange(x.shape[axis]).reshape(shape), x.shape)


@op("cummax")
class CumMax(CumExtreme):
    """Largest of ``x[0], ..., x[i]`` along ``axis`` and the last index that holds it."""

    axis: int = 0

    def reference(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.scan(np.maximum, x)


@op("cummin")
class CumMin(CumExtreme):
    """Smallest of ``x[0], ..., x[i]`` along ``axis`` and the last index that holds it."""

    axis: int = 0

    def reference(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.scan(np.minimum, x)


def order(x: np.ndarray, axis: int, descending: bool) -> np.ndarray:
    """Indices that sort x, equal elements in their order; NaN is the largest."""
    if not descending:
        return np.argsort(x, axis, kind="stable")
    last = x.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(x, axis), axis, kind="stable"), axis)


@op("sort")
class Sort(Ordered):
    """x in order along ``axis`` and the indices that put it so; NaN is the largest.

    Attrs:   stable: equal elements keep their order; the reference is always stable.
    """

    axis: int = -1
    descending: bool = False
    stable: bool = True
    samples = [
        *CASES,
        INTEGERS,
        Sample((TIES,), {"axis": 1}),
        Sample((TIES,), {"axis": 1, "descending": True}),
    ]

    def reference(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        indices = order(x, self.axis, self.descending)
        return np.take_along_axis(x, indices, self.axis), indices


@op("topk", onnx=("TopK", 11))
class TopK(Ordered):
    """The ``k`` largest or smallest along ``axis``, in order, and their indices; NaN is largest.

    Of equal elements the first are taken.
    """

    k: Size = 1
    axis: int = -1
    largest: bool = True
    samples = [
        Sample((X,), {"k": 3}),
        Sample((X,), {"k": 2, "axis": 1, "largest": False}),
        Sample((TIES,), {"k": 4}),
        Sample((TIES,), {"k": 2, "axis": 0}),
    ]

    def infer(self, x: TensorType) -> tuple[TensorType, TensorType]:
        axis = axis_of(self, (x,), self.axis)
        spare = bounds(x.shape[axis] - self.k)[1]
        if bounds(self.k)[0] < 0 or (spare is not None and spare < 0):
            raise self.fail((x,), f"k={self.k} of axis {axis} of size {x.shape[axis]}")
        values = x.with_shape((*x.shape[:axis], self.k, *x.shape[axis + 1 :]))
        return values, values.with_dtype(i64)

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        return [(0, self.k), (self.k, x.shape[self.axis])]

    def reference(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = np.arange(self.k)
        indices = np.take(order(x, self.axis, self.largest), first, self.axis)
        return np.take_along_axis(x, indices, self.axis), indices

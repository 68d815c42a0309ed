"""Reductions: primitives over axes, and the composites made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.ir import Size, TensorType, bool_, f32, i64, product
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axes_of, axis_of, reduced_shape

X = TensorType(f32, (3, 4, 5))
CASES = [
    Sample((X,), {"axes": (2,)}),
    Sample((X,), {"axes": (0, 2), "keepdims": True}),
    Sample((X,), {"axes": (0, 1, 2)}),
]


class Reduction(Op):
    """Base: ``axes`` are reduced, and kept with size 1 when ``keepdims``."""

    reduction = True
    samples = CASES

    def infer(self, x: TensorType) -> TensorType:
        axes = axes_of(self, (x,), self.axes)
        return x.with_shape(reduced_shape(x.shape, axes, self.keepdims))


@op("reduce_sum", onnx=("ReduceSum", 13))
class ReduceSum(Reduction):
    """Sum over ``axes``; integers wrap."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.sum(self.axes, keepdims=self.keepdims, dtype=x.dtype)


@op("reduce_prod", onnx=("ReduceProd", 13))
class ReduceProd(Reduction):
    """Product over ``axes``."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.prod(self.axes, keepdims=self.keepdims, dtype=x.dtype)


@op("reduce_max", onnx=("ReduceMax", 13))
class ReduceMax(Reduction):
    """Largest over ``axes``, NaN wins; any, of bool."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = [*CASES, Sample((TensorType(bool_, (3, 4)),), {"axes": (1,)})]

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.max(self.axes, keepdims=self.keepdims, initial=lowest(x.dtype))


@op("reduce_min", onnx=("ReduceMin", 13))
class ReduceMin(Reduction):
    """Smallest over ``axes``, NaN wins; all, of bool."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = [*CASES, Sample((TensorType(bool_, (3, 4)),), {"axes": (1,)})]

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.min(self.axes, keepdims=self.keepdims, initial=highest(x.dtype))


def lowest(dtype: np.dtype) -> Any:
    """The identity of max."""
    if dtype.kind == "f":
        return -np.inf
    return False if dtype.kind == "b" else np.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """The identity of min."""
    if dtype.kind == "f":
        return np.inf
    return True if dtype.kind == "b" else np.iinfo(dtype).max


class Arg(Op):
    """Base: the index of an extreme, i64; the first of equals, a NaN before all."""

    samples = [Sample((X,), {"axis": 1}), Sample((X,), {"axis": -1, "keepdims": True})]

    def infer(self, x: TensorType) -> TensorType:
        axis = axis_of(self, (x,), self.axis)
        return TensorType(i64, reduced_shape(x.shape, (axis,), self.keepdims))


@op("argmax", onnx=("ArgMax", 13))
class ArgMax(Arg):
    """Index of the largest along ``axis``, i64."""

    axis: int = -1
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(self.axis, keepdims=self.keepdims)


@op("argmin", onnx=("ArgMin", 13))
class ArgMin(Arg):
    """Index of the smallest along ``axis``, i64."""

    axis: int = -1
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.argmin(self.axis, keepdims=self.keepdims)


def count(b: Any, x: Any, axes: tuple[int, ...]) -> Any:
    """How many elements a reduction of ``x`` joins, as a scalar of x's type."""
    size: Size = product(x.shape[a] for a in axes)
    if isinstance(size, int):
        return b.const(float(size), x.dtype)
    return b.cast(b.size(dim=size), dtype=x.dtype)


@op("mean", onnx=("ReduceMean", 18))
class Mean(Reduction):
    """``sum(x) / count`` over ``axes``."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.mean(self.axes, keepdims=self.keepdims, dtype=np.float64).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        axes = tuple(a % x.rank for a in self.axes)
        return b.div(b.reduce_sum(x, axes=axes, keepdims=self.keepdims), count(b, x, axes))


@op("var")
class Var(Reduction):
    """``sum((x - mean)**2) / (count - correction)`` over ``axes``."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    correction: float = 1.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        total = np.square(x - x.mean(self.axes, keepdims=True, dtype=np.float64))
        total = total.sum(self.axes, keepdims=self.keepdims)
        n = np.prod([x.shape[a] for a in self.axes])
        return (total / np.maximum(n - self.correction, 0)).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        axes = tuple(a % x.rank for a in self.axes)
        centred = b.sub(x, b.mean(x, axes=axes, keepdims=True))
        total = b.reduce_sum(b.mul(centred, centred), axes=axes, keepdims=self.keepdims)
        return b.div(total, b.maximum(b.sub(count(b, x, axes), float(self.correction)), 0.0))


@op("logsumexp", onnx=("ReduceLogSumExp", 18))
class LogSumExp(Reduction):
    """``log(sum(exp(x)))`` over ``axes`` without overflow."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        top = x.max(self.axes, keepdims=True)
        top = np.where(np.isfinite(top), top, 0)
        total = np.log(np.exp(x - top).sum(self.axes, keepdims=True)) + top
        return (total if self.keepdims else total.squeeze(self.axes)).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        axes = tuple(a % x.rank for a in self.axes)
        top = b.reduce_max(x, axes=axes, keepdims=True)
        top = b.where(b.is_finite(top), top, b.const(0.0, x.dtype))
        total = b.reduce_sum(b.exp(b.sub(x, top)), axes=axes, keepdims=True)
        result = b.add(b.log(total), top)
        shape = reduced_shape(x.shape, axes, self.keepdims)
        return result if self.keepdims else b.reshape(result, shape=shape)

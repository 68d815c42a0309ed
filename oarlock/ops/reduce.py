"""Reductions: primitives over axes, and the composites made of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oarlock.ir import Size, TensorType, bf16, bool_, f32, i32, i64, product
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axes_of, axis_of, reduced_shape

X = TensorType(f32, (3, 4, 5))
CASES = [
    Sample((X,), {"axes": (2,)}),
    Sample((X,), {"axes": (0, 2), "keepdims": True}),
    Sample((X,), {"axes": (-1, -3, 1)}),
    Sample((TensorType(bf16, (4, 6)),), {"axes": (0,)}),
    Sample((TensorType(f32, (2, 0)),), {"axes": (1,)}),
    Sample((X,), {"axes": (), "keepdims": True}),
]
NUMBERS = [*CASES, Sample((TensorType(i32, (4, 6)),), {"axes": (1,)})]
EXTREMES = np.array(
    [[1, 2, 3], [np.nan, 1, np.inf], [-np.inf] * 3, [np.inf, -np.inf, 1], [99, -99, 98]],
    np.float32,
)
ANY = [
    *NUMBERS,
    Sample((TensorType(bool_, (3, 4)),), {"axes": (1,)}),
    Sample((EXTREMES,), {"axes": (1,)}),
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
    samples = NUMBERS

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.sum(self.axes, keepdims=self.keepdims, dtype=x.dtype)


@op("reduce_prod", onnx=("ReduceProd", 13))
class ReduceProd(Reduction):
    """Product over ``axes``; integers wrap."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = NUMBERS

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.prod(self.axes, keepdims=self.keepdims, dtype=x.dtype)


@op("reduce_max", onnx=("ReduceMax", 13))
class ReduceMax(Reduction):
    """Largest over ``axes``, NaN wins; any, of bool."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = ANY

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.max(self.axes, keepdims=self.keepdims, initial=lowest(x.dtype))


@op("reduce_min", onnx=("ReduceMin", 13))
class ReduceMin(Reduction):
    """Smallest over ``axes``, NaN wins; all, of bool."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = ANY

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.min(self.axes, keepdims=self.keepdims, initial=highest(x.dtype))


def _count(x: np.ndarray, axes: tuple[int, ...]) -> np.float64:
    return np.prod([x.shape[a] for a in axes], dtype=np.float64)


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

    reduction = True
    samples = [
        Sample((X,), {"axis": 1}),
        Sample((X,), {"axis": -1, "keepdims": True}),
        Sample((np.array([[1, 2, 2], [np.nan, 3, np.nan], [0, -0.0, 0]], np.float32),)),
        Sample((TensorType(i64, (4, 6)),), {"axis": 0}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        axis = axis_of(self, (x,), self.axis)
        if x.shape[axis] == 0:
            raise self.fail((x,), f"axis {axis} is empty")
        return TensorType(i64, reduced_shape(x.shape, (axis,), self.keepdims))

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        return [(1, x.shape[self.axis])]


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


class FloatReduction(Reduction):
    """Base: of floats."""

    def infer(self, x: TensorType) -> TensorType:
        if not x.dtype.is_float:
            raise self.fail((x,), f"expected float elements, got {x.dtype}")
        return super().infer(x)


@op("mean", onnx=("ReduceMean", 18))
class Mean(FloatReduction):
    """``sum(x) / count`` over ``axes``."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False

    def reference(self, x: np.ndarray) -> np.ndarray:
        total = x.sum(self.axes, keepdims=self.keepdims, dtype=np.float64)
        return (total / _count(x, self.axes)).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        axes = tuple(a % x.rank for a in self.axes)
        return b.div(b.reduce_sum(x, axes=axes, keepdims=self.keepdims), count(b, x, axes))


@op("var")
class Var(FloatReduction):
    """``sum((x - mean)**2) / (count - correction)`` over ``axes``."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    correction: float = 1.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        n = _count(x, self.axes)
        mean = x.sum(self.axes, keepdims=True, dtype=np.float64) / n
        total = np.square(x - mean).sum(self.axes, keepdims=self.keepdims)
        return (total / np.maximum(n - self.correction, 0)).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        axes = tuple(a % x.rank for a in self.axes)
        centred = b.sub(x, b.mean(x, axes=axes, keepdims=True))
        total = b.reduce_sum(b.mul(centred, centred), axes=axes, keepdims=self.keepdims)
        return b.div(total, b.maximum(b.sub(count(b, x, axes), float(self.correction)), 0.0))


@op("logsumexp", onnx=("ReduceLogSumExp", 18))
class LogSumExp(FloatReduction):
    """``log(sum(exp(x)))`` over ``axes`` without overflow."""

    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = [*CASES, Sample((EXTREMES,), {"axes": (1,)})]

    def reference(self, x: np.ndarray) -> np.ndarray:
        top = x.max(self.axes, keepdims=True, initial=-np.inf)
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


@op("lp_norm")
class LpNorm(FloatReduction):
    """``sum(|x|**p) ** (1/p)`` over ``axes``; inf and -inf are the largest and smallest ``|x|``.

    Attrs:   p: 0 counts the elements that are not 0.
    """

    p: float = 2.0
    axes: tuple[int, ...] = ()
    keepdims: bool = False
    samples = [
        Sample((X,), {"p": p, "axes": (0, 2), "keepdims": keepdims})
        for p in (0.0, 1.0, 2.0, 3.0, math.inf, -math.inf)
        for keepdims in (False, True)
    ]

    def reference(self, x: np.ndarray) -> np.ndarray:
        size, how = np.abs(x.astype(np.float64)), {"axis": self.axes, "keepdims": self.keepdims}
        if math.isinf(self.p):
            return size.max(**how, initial=0) if self.p > 0 else size.min(**how, initial=np.inf)
        if self.p == 0:
            return (size != 0).sum(**how).astype(x.dtype)
        return ((size**self.p).sum(**how) ** (1 / self.p)).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        how = {"axes": tuple(a % x.rank for a in self.axes), "keepdims": self.keepdims}
        size = b.abs(x)
        if self.p == -math.inf:
            return b.reduce_min(size, **how)
        if self.p == math.inf:
            return b.maximum(b.reduce_max(size, **how), 0.0)
        if self.p == 0:
            return b.reduce_sum(b.cast(b.ne(x, 0.0), dtype=x.dtype), **how)
        if self.p == 1:
            return b.reduce_sum(size, **how)
        if self.p == 2:
            return b.sqrt(b.reduce_sum(b.mul(x, x), **how))
        return b.pow(b.reduce_sum(b.pow(size, self.p), **how), 1 / self.p)

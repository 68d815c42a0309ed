"""Activations: pointwise composites, each with its equation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oarlock.ir import DType, TensorType, bf16, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.elementwise import Erf
from oarlock.ops.rules import axis_of, same_dtype
from oarlock.ops.shape import full_slice

CASE = [
    Sample((TensorType(f32, (5, 17)),), {}, -6.0, 6.0),
    Sample((TensorType(bf16, (0, 3)),)),
    Sample((np.array([np.nan, np.inf, -np.inf, 0, -0.0, 3, -3, 30, -30, 100], np.float32),)),
]


class Activation(Op):
    """Base: the result has the type of x, a float."""

    pointwise = True
    samples = CASE

    def infer(self, x: TensorType) -> TensorType:
        if not x.dtype.is_float:
            raise self.fail((x,), f"expected float elements, got {x.dtype}")
        return x


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)


@op("sigmoid", aten="aten.sigmoid.default", onnx=("Sigmoid", 13))
class Sigmoid(Activation):
    """``1 / (1 + exp(-x))``"""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return _sigmoid(x)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.reciprocal(b.add(b.exp(b.neg(x)), 1.0))


@op("relu", aten="aten.relu.default", onnx=("Relu", 14))
class Relu(Op):
    """``max(x, 0)``"""

    pointwise = True
    samples = CASE

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.is_bool:
            raise self.fail((x,), "expected number elements, got bool")
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, x.dtype.type(0))

    def decompose(self, b: Any, x: Any) -> Any:
        return b.maximum(x, 0)


def _holds(dtype: DType, bound: float) -> bool:
    info = np.iinfo(dtype.numpy)
    return info.min <= bound <= info.max and bound == int(bound)


@op("clamp", onnx=("Clip", 13))
class Clamp(Op):
    """``min(max(x, low), high)``; None is no bound."""

    low: float | None = None
    high: float | None = None
    pointwise = True
    samples = [
        *(Sample(c.inputs, {"low": -1.0, "high": 0.5}, c.low, c.high) for c in CASE),
        Sample((TensorType(f32, (5, 7)),), {"low": 0.25}),
        Sample((TensorType(i64, (5, 7)),), {"low": -1, "high": 2}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.is_bool:
            raise self.fail((x,), "expected number elements, got bool")
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound is not None and x.dtype.is_int and not _holds(x.dtype, bound):
                raise self.fail((x,), f"{name}={bound} is no {x.dtype}")
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        x = x if self.low is None else np.maximum(x, x.dtype.type(self.low))
        return x if self.high is None else np.minimum(x, x.dtype.type(self.high))

    def decompose(self, b: Any, x: Any) -> Any:
        x = x if self.low is None else b.maximum(x, self.low)
        return x if self.high is None else b.minimum(x, self.high)


@op("gelu", onnx=("Gelu", 20))
class Gelu(Activation):
    """``x * Phi(x)``, by erf or by the tanh approximation.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016).
    """

    approximate: str = "none"
    samples = [*CASE, *(Sample(c.inputs, {"approximate": "tanh"}, c.low, c.high) for c in CASE)]

    def infer(self, x: TensorType) -> TensorType:
        if self.approximate not in ("none", "tanh"):
            raise self.fail((x,), f"approximate={self.approximate!r}; expected 'none' or 'tanh'")
        return super().infer(x)

    def reference(self, x: np.ndarray) -> np.ndarray:
        if self.approximate == "tanh":
            inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
            return (0.5 * x * (1 + np.tanh(inner))).astype(x.dtype)
        return (0.5 * x * (1 + Erf().reference(x / math.sqrt(2)))).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        if self.approximate == "tanh":
            cube = b.mul(b.mul(x, x), x)
            inner = b.mul(b.add(x, b.mul(cube, 0.044715)), math.sqrt(2 / math.pi))
            return b.mul(b.mul(x, 0.5), b.add(b.tanh(inner), 1.0))
        return b.mul(b.mul(x, 0.5), b.add(b.erf(b.mul(x, math.sqrt(0.5))), 1.0))


@op("silu", aten="aten.silu.default", onnx=("Swish", 24))
class Silu(Activation):
    """``x * sigmoid(x)``"""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x * _sigmoid(x)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.mul(x, b.sigmoid(x))


@op("softplus", onnx=("Softplus", 22))
class Softplus(Activation):
    """``log(1 + exp(beta x)) / beta``; x itself where ``beta x > threshold``."""

    beta: float = 1.0
    threshold: float = 20.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        scaled = (x * self.beta).astype(x.dtype)
        soft = np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))
        return np.where(scaled > self.threshold, x, soft / self.beta).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        scaled = b.mul(x, self.beta)
        tail = b.log1p(b.exp(b.neg(b.abs(scaled))))
        soft = b.mul(b.add(b.maximum(scaled, 0.0), tail), 1.0 / self.beta)
        return b.where(b.gt(scaled, self.threshold), x, soft)


@op("mish", aten="aten.mish.default", onnx=("Mish", 22))
class Mish(Activation):
    """``x * tanh(softplus(x))``"""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x * np.tanh(Softplus().reference(x))

    def decompose(self, b: Any, x: Any) -> Any:
        return b.mul(x, b.tanh(b.softplus(x)))


@op("hardsigmoid", aten="aten.hardsigmoid.default")
class HardSigmoid(Activation):
    """``min(max(x + 3, 0), 6) / 6``"""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return (np.clip(x + 3, 0, 6) / 6).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.mul(b.clamp(b.add(x, 3.0), low=0.0, high=6.0), 1 / 6)


@op("hardswish", aten="aten.hardswish.default", onnx=("HardSwish", 14))
class HardSwish(Activation):
    """``x * hardsigmoid(x)``"""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return (x * np.clip(x + 3, 0, 6) / 6).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.mul(x, b.hardsigmoid(x))


@op("leaky_relu", onnx=("LeakyRelu", 16))
class LeakyRelu(Activation):
    """``x`` where positive, else ``slope * x``."""

    slope: float = 0.01

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, x * x.dtype.type(self.slope))

    def decompose(self, b: Any, x: Any) -> Any:
        return b.where(b.gt(x, 0.0), x, b.mul(x, self.slope))


@op("elu", onnx=("Elu", 6))
class Elu(Activation):
    """``scale * x`` where positive, else ``scale * alpha * (exp(input_scale * x) - 1)``."""

    alpha: float = 1.0
    scale: float = 1.0
    input_scale: float = 1.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        low = self.alpha * np.expm1(np.minimum(x, 0) * self.input_scale)
        return (self.scale * np.where(x > 0, x, low)).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        low = b.mul(b.expm1(b.mul(b.minimum(x, 0.0), self.input_scale)), self.alpha)
        result = b.where(b.gt(x, 0.0), x, low)
        return result if self.scale == 1.0 else b.mul(result, self.scale)


@op("celu", onnx=("Celu", 12))
class Celu(Activation):
    """``x`` where positive, else ``alpha * (exp(x / alpha) - 1)``."""

    alpha: float = 1.0
    samples = [*CASE, Sample(CASE[0].inputs, {"alpha": 0.5}, -6.0, 6.0)]

    def reference(self, x: np.ndarray) -> np.ndarray:
        low = self.alpha * np.expm1(np.minimum(x, 0) / self.alpha)
        return np.where(x > 0, x, low).astype(x.dtype)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.elu(x, alpha=self.alpha, input_scale=1.0 / self.alpha)


@op("selu", aten="aten.selu.default", onnx=("Selu", 6))
class Selu(Activation):
    """``scale * elu(x, alpha)`` with the constants that keep mean 0 and variance 1.

    Source: Klambauer et al., "Self-Normalizing Neural Networks" (2017).
    """

    def reference(self, x: np.ndarray) -> np.ndarray:
        return Elu(**SELU).reference(x)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.elu(x, **SELU)


SELU = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}


@op("softsign", onnx=("Softsign", 22))
class Softsign(Activation):
    """``x / (1 + |x|)``"""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x / (1 + np.abs(x))

    def decompose(self, b: Any, x: Any) -> Any:
        return b.div(x, b.add(b.abs(x), 1.0))


@op("square", aten="aten.square.default")
class Square(Op):
    """``x * x``"""

    pointwise = True
    samples = [*CASE, Sample((TensorType(i64, (7,)),))]

    def infer(self, x: TensorType) -> TensorType:
        if x.dtype.is_bool:
            raise self.fail((x,), "expected number elements, got bool")
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x * x

    def decompose(self, b: Any, x: Any) -> Any:
        return b.mul(x, x)


@op("prelu", aten="aten.prelu.default", onnx=("PRelu", 16))
class PRelu(Op):
    """``x`` where positive, else ``slope * x`` with a slope per channel, or one for all.

    Shapes:  x [N, C, ...]; slope [C] or [1]  ->  [N, C, ...]
    """

    samples = [
        Sample((TensorType(f32, (2, 3, 5)), TensorType(f32, (3,)))),
        Sample((TensorType(f32, (7,)), TensorType(f32, (1,)))),
    ]

    def infer(self, x: TensorType, slope: TensorType) -> TensorType:
        types = (x, slope)
        same_dtype(self, types)
        channels = x.shape[1] if x.rank > 1 else 1
        if not x.dtype.is_float or slope.shape not in ((channels,), (1,)):
            raise self.fail(types, f"expected floats and a slope of shape [{channels}] or [1]")
        return x

    def reference(self, x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, x * slope.reshape(-1, *[1] * max(x.ndim - 2, 0)))

    def decompose(self, b: Any, x: Any, slope: Any) -> Any:
        wide = b.reshape(slope, shape=(*slope.shape, *[1] * max(x.rank - 2, 0)))
        return b.where(b.gt(x, 0.0), x, b.mul(x, wide))


@op("log_sigmoid")
class LogSigmoid(Activation):
    """``log(sigmoid(x))`` without overflow."""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))

    def decompose(self, b: Any, x: Any) -> Any:
        return b.sub(b.minimum(x, 0.0), b.log1p(b.exp(b.neg(b.abs(x)))))


@op("glu")
class Glu(Op):
    """``a * sigmoid(b)`` of the halves of x along ``axis``."""

    axis: int = -1
    samples = [Sample((TensorType(f32, (3, 8, 5)),), {"axis": 1})]

    def infer(self, x: TensorType) -> TensorType:
        axis = axis_of(self, (x,), self.axis)
        if not x.dtype.is_float:
            raise self.fail((x,), f"expected float elements, got {x.dtype}")
        if x.shape[axis] % 2 != 0:
            raise self.fail((x,), f"axis {axis} of size {x.shape[axis]} is not known to be even")
        return x.with_shape((*x.shape[:axis], x.shape[axis] // 2, *x.shape[axis + 1 :]))

    def reference(self, x: np.ndarray) -> np.ndarray:
        left, right = np.split(x, 2, self.axis)
        return left * _sigmoid(right)

    def decompose(self, b: Any, x: Any) -> Any:
        axis = self.axis % x.rank
        half = x.shape[axis] // 2
        left = b.slice(x, **full_slice(x.type, axis, 0, half))
        right = b.slice(x, **full_slice(x.type, axis, half, half + half))
        return b.mul(left, b.sigmoid(right))

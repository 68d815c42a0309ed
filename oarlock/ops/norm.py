"""Normalisations and softmax: composites over some axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.ir import TensorType, f32
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axis_of, same_dtype

X = TensorType(f32, (2, 6, 5, 4))
C = TensorType(f32, (6,))


class AlongAxis(Op):
    """Base: the type of x, computed along ``axis``."""

    samples = [Sample((X,), {"axis": 1}), Sample((X,), {"axis": -1})]

    def infer(self, x: TensorType) -> TensorType:
        axis_of(self, (x,), self.axis)
        if not x.dtype.is_float:
            raise self.fail((x,), f"expected float elements, got {x.dtype}")
        return x


@op("softmax", onnx=("Softmax", 13))
class Softmax(AlongAxis):
    """``exp(x - max) / sum(exp(x - max))`` along ``axis``."""

    axis: int = -1

    def reference(self, x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(self.axis, keepdims=True, initial=-np.inf))
        return e / e.sum(self.axis, keepdims=True)

    def decompose(self, b: Any, x: Any) -> Any:
        axes = (self.axis % x.rank,)
        e = b.exp(b.sub(x, b.reduce_max(x, axes=axes, keepdims=True)))
        return b.div(e, b.reduce_sum(e, axes=axes, keepdims=True))


@op("log_softmax", onnx=("LogSoftmax", 13))
class LogSoftmax(AlongAxis):
    """``x - max - log(sum(exp(x - max)))`` along ``axis``."""

    axis: int = -1

    def reference(self, x: np.ndarray) -> np.ndarray:
        shifted = x - x.max(self.axis, keepdims=True, initial=-np.inf)
        return shifted - np.log(np.exp(shifted).sum(self.axis, keepdims=True))

    def decompose(self, b: Any, x: Any) -> Any:
        axes = (self.axis % x.rank,)
        shifted = b.sub(x, b.reduce_max(x, axes=axes, keepdims=True))
        return b.sub(shifted, b.log(b.reduce_sum(b.exp(shifted), axes=axes, keepdims=True)))


def _check_affine(op: Op, types: tuple[TensorType, ...], shape: tuple[Any, ...]) -> TensorType:
    same_dtype(op, types)
    for t in types[1:]:
        if t.shape != shape:
            raise op.fail(types, f"expected scale and bias of shape {list(shape)}, got {t}")
    return types[0]


def _affine(b: Any, y: Any, operands: tuple[Any, ...]) -> Any:
    for apply, operand in zip((b.mul, b.add), operands):
        y = apply(y, operand)
    return y


@op("layer_norm", onnx=("LayerNormalization", 17))
class LayerNorm(Op):
    """``(x - mean) / sqrt(var + eps) * scale + bias`` over the last ``axes`` axes.

    Attrs: axes: how many trailing axes; eps: added to the variance.
    """

    axes: int = 1
    eps: float = 1e-5
    samples = [
        Sample((X, TensorType(f32, (4,)), TensorType(f32, (4,)))),
        Sample((X, TensorType(f32, (5, 4))), {"axes": 2}),
        Sample((X,)),
    ]

    def infer(self, x: TensorType, *affine: TensorType) -> TensorType:
        if not 0 < self.axes <= x.rank or len(affine) > 2:
            raise self.fail((x, *affine), f"axes={self.axes}, at most a scale and a bias")
        return _check_affine(self, (x, *affine), x.shape[x.rank - self.axes :])

    def reference(self, x: np.ndarray, *affine: np.ndarray) -> np.ndarray:
        axes = tuple(range(x.ndim - self.axes, x.ndim))
        centred = x - x.mean(axes, keepdims=True)
        y = centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + self.eps)
        y = y if not affine else y * affine[0]
        return (y if len(affine) < 2 else y + affine[1]).astype(x.dtype)

    def decompose(self, b: Any, x: Any, *affine: Any) -> Any:
        axes = tuple(range(x.rank - self.axes, x.rank))
        centred = b.sub(x, b.mean(x, axes=axes, keepdims=True))
        var = b.mean(b.mul(centred, centred), axes=axes, keepdims=True)
        return _affine(b, b.mul(centred, b.rsqrt(b.add(var, self.eps))), affine)


@op("rms_norm", onnx=("RMSNormalization", 23))
class RmsNorm(Op):
    """``x / sqrt(mean(x**2) + eps) * scale`` over the last ``axes`` axes."""

    axes: int = 1
    eps: float = 1e-6
    samples = [Sample((X, TensorType(f32, (4,)))), Sample((X,), {"axes": 2})]

    def infer(self, x: TensorType, *affine: TensorType) -> TensorType:
        if not 0 < self.axes <= x.rank or len(affine) > 1:
            raise self.fail((x, *affine), f"axes={self.axes}, at most a scale")
        return _check_affine(self, (x, *affine), x.shape[x.rank - self.axes :])

    def reference(self, x: np.ndarray, *affine: np.ndarray) -> np.ndarray:
        axes = tuple(range(x.ndim - self.axes, x.ndim))
        y = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + self.eps)
        return (y * affine[0] if affine else y).astype(x.dtype)

    def decompose(self, b: Any, x: Any, *affine: Any) -> Any:
        axes = tuple(range(x.rank - self.axes, x.rank))
        square = b.mean(b.mul(x, x), axes=axes, keepdims=True)
        return _affine(b, b.mul(x, b.rsqrt(b.add(square, self.eps))), affine)


@op("group_norm", onnx=("GroupNormalization", 21))
class GroupNorm(Op):
    """Layer norm over groups of channels and all spatial axes, scale and bias per channel.

    Shapes: x [N, C, ...], scale, bias [C]; layout NHWC: x [N, ..., C]
    """

    groups: int = 1
    eps: float = 1e-5
    layout: str = "NCHW"
    samples = [
        Sample((X, C, C), {"groups": 3}),
        Sample((X,), {"groups": 6}),
        Sample((TensorType(f32, (2, 5, 4, 6)), C, C), {"groups": 3, "layout": "NHWC"}),
    ]

    def infer(self, x: TensorType, *affine: TensorType) -> TensorType:
        channels = x.shape[self._axis(x.rank)] if x.rank >= 2 else 1
        if x.rank < 2 or channels % self.groups != 0 or len(affine) > 2:
            raise self.fail((x, *affine), f"channels do not divide into groups={self.groups}")
        return _check_affine(self, (x, *affine), (channels,))

    def _axis(self, rank: int) -> int:
        return rank - 1 if self.layout == "NHWC" else 1

    def reference(self, x: np.ndarray, *affine: np.ndarray) -> np.ndarray:
        dtype, channel = x.dtype, self._axis(x.ndim)
        x = np.moveaxis(x, channel, 1)
        split = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        axes = tuple(range(2, split.ndim))
        centred = split - split.mean(axes, keepdims=True)
        y = centred / np.sqrt(np.square(centred).mean(axes, keepdims=True) + self.eps)
        y = y.reshape(x.shape)
        wide = [a.reshape(-1, *([1] * (x.ndim - 2))) for a in affine]
        y = y if not wide else y * wide[0]
        y = y if len(wide) < 2 else y + wide[1]
        return np.moveaxis(y, 1, channel).astype(dtype)

    def decompose(self, b: Any, x: Any, *affine: Any) -> Any:
        channel = self._axis(x.rank)
        channels = x.shape[channel]
        split = (self.groups, channels // self.groups)
        y = b.reshape(x, shape=(*x.shape[:channel], *split, *x.shape[channel + 1 :]))
        axes = tuple(i for i in range(1, y.rank) if i != channel)
        centred = b.sub(y, b.mean(y, axes=axes, keepdims=True))
        var = b.mean(b.mul(centred, centred), axes=axes, keepdims=True)
        y = b.reshape(b.mul(centred, b.rsqrt(b.add(var, self.eps))), shape=x.shape)
        ones = [1] * (x.rank - 1 - channel)
        return _affine(b, y, tuple(b.reshape(a, shape=(channels, *ones)) for a in affine))


@op("batch_norm", onnx=("BatchNormalization", 15))
class BatchNorm(Op):
    """``(x - mean) / sqrt(var + eps) * scale + bias`` with stored statistics.

    Shapes: x [N, C, ...], mean, var, scale, bias [C]
    """

    eps: float = 1e-5
    samples = [
        Sample((X, C, C, C, C), {}, 0.2, 2.0),
        Sample((TensorType(f32, (5, 6)), C, C), {}, 0.2, 2.0),
    ]

    def infer(self, x: TensorType, mean: TensorType, var: TensorType, *affine: TensorType):
        types = (x, mean, var, *affine)
        if x.rank < 2 or len(affine) > 2:
            raise self.fail(types, "expected x[N, C, ...], mean, var, scale and bias")
        return _check_affine(self, types, (x.shape[1],))

    def reference(self, x, mean, var, *affine):
        def wide(a: np.ndarray) -> np.ndarray:
            return a.reshape(-1, *([1] * (x.ndim - 2)))

        y = (x - wide(mean)) / np.sqrt(wide(var) + self.eps)
        y = y if not affine else y * wide(affine[0])
        return (y if len(affine) < 2 else y + wide(affine[1])).astype(x.dtype)

    def decompose(self, b: Any, x: Any, mean: Any, var: Any, *affine: Any) -> Any:
        def wide(a: Any) -> Any:
            return b.reshape(a, shape=(x.shape[1], *([1] * (x.rank - 2))))

        y = b.mul(b.sub(x, wide(mean)), wide(b.rsqrt(b.add(var, self.eps))))
        return _affine(b, y, tuple(wide(a) for a in affine))

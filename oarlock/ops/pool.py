"""Pooling over windows of any number of spatial axes."""

from __future__ import annotations

from itertools import product as cartesian
from typing import Any

import numpy as np

from oarlock.ir import Size, TensorType, Value, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.reduce import lowest

X = TensorType(f32, (2, 3, 9, 7))


def pooled_size(
    size: Size, kernel: int, stride: int, pad: tuple[int, int], dilation: int, ceil_mode: bool
) -> Size:
    """Windows along one axis; with ``ceil_mode`` a last one may end outside, never start there.

    Source: PyTorch, ``torch.nn.MaxPool2d``.
    """
    room = size + pad[0] + pad[1] - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    from oarlock.ir import dim_min

    started = (size + pad[0] - 1) // stride + 1
    return dim_min((room + stride - 1) // stride + 1, started) if stride > 1 else room + 1


class Pool(Op):
    """Base: window attributes per spatial axis."""

    def infer(self, x: TensorType) -> TensorType:
        n = x.rank - 2
        if n < 1 or not len(self.kernel) == len(self.stride) == len(self.padding) == n:
            raise self.fail((x,), "expected kernel, stride and padding per spatial axis")
        dilation = getattr(self, "dilation", None) or (1,) * n
        last = self.layout == "NHWC"
        spatial = x.shape[1:-1] if last else x.shape[2:]
        sizes = tuple(
            pooled_size(s, k, st, p, d, self.ceil_mode)
            for s, k, st, p, d in zip(spatial, self.kernel, self.stride, self.padding, dilation)
        )
        head, tail = x.shape[: 1 if last else 2], x.shape[-1:] if last else ()
        return x.with_shape((*head, *sizes, *tail))

    def windows(self, x: np.ndarray, fill: float, dilation: tuple[int, ...]) -> list[np.ndarray]:
        """One array per kernel offset, NC first, ``fill`` outside."""
        sizes = self.infer(TensorType(f32, x.shape)).shape
        x = np.moveaxis(x, -1, 1) if self.layout == "NHWC" else x
        sizes = sizes[1:-1] if self.layout == "NHWC" else sizes[2:]
        ends = [
            max((o - 1) * st + d * (k - 1) + 1 - s - p[0], 0)
            for o, st, d, k, s, p in zip(
                sizes, self.stride, dilation, self.kernel, x.shape[2:], self.padding
            )
        ]
        pads = [(0, 0), (0, 0), *((p[0], e) for p, e in zip(self.padding, ends))]
        x = np.pad(x, pads, constant_values=fill)
        return [
            x[(..., *(slice(d * k, d * k + max((o - 1) * st + 1, 0), st)
                      for d, k, o, st in zip(dilation, at, sizes, self.stride)))]
            for at in cartesian(*map(range, self.kernel))
        ]  # fmt: skip

    def finish(self, y: np.ndarray) -> np.ndarray:
        return np.moveaxis(y, 1, -1) if self.layout == "NHWC" else y


@op("max_pool", onnx=("MaxPool", 12))
class MaxPool(Pool):
    """The largest of each window; padding counts as -inf."""

    kernel: tuple[int, ...] = (2, 2)
    stride: tuple[int, ...] = (2, 2)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False
    layout: str = "NCHW"
    samples = [
        Sample((X,), {"kernel": (3, 2), "stride": (2, 1), "padding": ((1, 1), (0, 0))}),
        Sample((X,), {"ceil_mode": True}),
        Sample((TensorType(f32, (2, 9, 8, 3)),), {"layout": "NHWC", "dilation": (2, 1)}),
    ]

    def reference(self, x: np.ndarray) -> np.ndarray:
        parts = self.windows(x, lowest(x.dtype), self.dilation)
        return self.finish(np.stack(parts).max(0))


@op("avg_pool", onnx=("AveragePool", 19))
class AvgPool(Pool):
    """The mean of each window.

    Attrs: count_include_pad: zeros of the padding count; divisor: divides the sum when not 0.
    """

    kernel: tuple[int, ...] = (2, 2)
    stride: tuple[int, ...] = (2, 2)
    padding: tuple[tuple[int, int], ...] = ((0, 0), (0, 0))
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor: int = 0
    layout: str = "NCHW"
    samples = [
        Sample((X,), {"kernel": (3, 2), "stride": (2, 1), "padding": ((1, 1), (0, 0))}),
        Sample((X,), {"ceil_mode": True, "count_include_pad": False}),
        Sample((X,), {"divisor": 3}),
    ]

    def reference(self, x: np.ndarray) -> np.ndarray:
        ones = (1,) * len(self.kernel)
        total = np.sum(self.windows(x, 0, ones), axis=0, dtype=x.dtype)
        if self.divisor:
            return self.finish(total / x.dtype.type(self.divisor))
        counted = np.ones((1, *x.shape[1:]), x.dtype)
        if self.count_include_pad:
            counted = self._with_padding(counted)
            inner = AvgPool(**{**self.attributes, "padding": ((0, 0),) * len(ones)})
            count = np.sum(inner._counts(counted, total.shape[2:]), axis=0)
        else:
            count = np.sum(self.windows(counted, 0, ones), axis=0)
        return self.finish(total / count)

    def _with_padding(self, ones: np.ndarray) -> np.ndarray:
        pads = [(0, 0), *self.padding, (0, 0)] if self.layout == "NHWC" else [
            (0, 0), (0, 0), *self.padding]  # fmt: skip
        return np.pad(ones, pads, constant_values=1)

    def _counts(self, ones: np.ndarray, sizes: tuple[int, ...]) -> list[np.ndarray]:
        """Windows over the padded ones, cut to as many as the result has."""
        parts = self.windows(ones, 0, (1,) * len(self.kernel))
        return [p[(..., *(slice(0, s) for s in sizes))] for p in parts]


@op("adaptive_avg_pool")
class AdaptiveAvgPool(Op):
    """Means of ``size`` windows that cover each spatial axis: from floor(i S/O) to ceil((i+1) S/O).

    Shapes: x [..., C, *spatial] -> [..., C, *size]; layout NHWC: x [..., *spatial, C]
    """

    size: tuple[int, ...] = (1, 1)
    layout: str = "NCHW"
    samples = [
        Sample((X,), {"size": (1, 1)}),
        Sample((X,), {"size": (4, 3)}),
        Sample((X,), {"size": (2, 3), "layout": "NHWC"}),
        Sample((X,), {"size": (1, 1), "layout": "NHWC"}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        n = len(self.size)
        if x.rank < n + 1:
            raise self.fail((x,), f"expected {n} spatial axes after the channels")
        first = self._first(x.rank)
        return x.with_shape((*x.shape[:first], *self.size, *x.shape[first + n :]))

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        first = self._first(x.rank)
        return [(1, n) for n in x.shape[first : first + len(self.size)]]

    def _first(self, rank: int) -> int:
        """The first spatial axis."""
        return rank - len(self.size) - (self.layout == "NHWC")

    def reference(self, x: np.ndarray) -> np.ndarray:
        for axis, out in enumerate(self.size, self._first(x.ndim)):
            n = x.shape[axis]
            spans = [(i * n // out, -((-(i + 1) * n) // out)) for i in range(out)]
            parts = [np.take(x, range(*s), axis).mean(axis, keepdims=True) for s in spans]
            x = np.concatenate(parts, axis)
        return x

    def decompose(self, b: Any, x: Any) -> Any:
        first = self._first(x.rank)
        if all(s == 1 for s in self.size):
            return b.mean(x, axes=tuple(range(first, first + len(self.size))), keepdims=True)
        for axis, out in enumerate(self.size, first):
            x = _window_means(b, x, axis, out)
        return x


def _window_means(b: Any, x: Any, axis: int, out: Size) -> Any:
    """Adaptive means of one axis: equal windows are one more axis, others are taken."""
    n = x.shape[axis]
    head, tail = x.shape[:axis], x.shape[axis + 1 :]
    if n % out == 0:
        wide = b.reshape(x, shape=(*head, out, n // out, *tail))
        return b.mean(wide, axes=(axis + 1,), keepdims=False)
    i, old, count = b.iota(size=out, dtype=i64), b.size(dim=n), b.size(dim=out)
    start = b.floor_div(b.mul(i, old), count)
    last = b.floor_div(b.sub(b.mul(b.add(i, 1), old), 1), count)
    length = b.add(b.sub(last, start), 1)
    total = sum_windows(b, x, axis, start, length, longest_window(n, out))
    return b.div(total, b.reshape(b.cast(length, dtype=x.dtype), shape=(out, *[1] * len(tail))))


def longest_window(n: Size, out: Size) -> Size:
    """At least the elements of every adaptive window."""
    if isinstance(n, int) and isinstance(out, int):
        return max(-((-(i + 1) * n) // out) - i * n // out for i in range(out))
    return n // out + 2


def sum_windows(
    b: Any, x: Value, axis: int, start: Value, length: Value, most: Size, weight: Any = None
) -> Value:
    """Sums over ``length`` elements from ``start`` along an axis, each times ``weight[out, most]``.

    Nothing outside of a window is multiplied, so that infinities stay in theirs.
    """
    (out,), ones = start.shape, [1] * (x.rank - axis - 1)
    k = b.iota(size=most, dtype=i64)
    at = b.add(b.reshape(start, shape=(out, 1)), k)
    place = b.maximum(b.minimum(at, b.size(dim=x.shape[axis] - 1)), 0)
    inside = b.lt(k, b.reshape(length, shape=(out, 1)))
    parts = b.take(x, place, axis=axis)
    if weight is not None:
        parts = b.mul(parts, b.reshape(weight, shape=(out, most, *ones)))
    parts = b.where(b.reshape(inside, shape=(out, most, *ones)), parts, 0.0)
    return b.reduce_sum(parts, axes=(axis + 1,))

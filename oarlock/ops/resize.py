"""Interpolation to another size, sampling at given places, and moves between space and channels."""

from __future__ import annotations

from fractions import Fraction
from itertools import product as cartesian
from typing import Any

import numpy as np

from oarlock.ir import Size, TensorType, Value, f32, f64, i64, product
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.pool import sum_windows
from oarlock.ops.rules import axis_of, same_dtype

X = TensorType(f32, (2, 3, 5, 7))
MODES = ("nearest", "nearest-exact", "linear", "cubic", "area")


def _cubic(t: Any, a: float) -> tuple[Any, Any]:
    """Weights of the convolution kernel at distances t and 1 + t, for 0 <= t <= 1.

    Source: Keys, "Cubic convolution interpolation for digital image processing" (1981).
    """
    far = t + 1
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    return near, ((a * far - 5 * a) * far + 8 * a) * far - 4 * a


@op("resize", onnx=("Resize", 19))
class Resize(Op):
    """The spatial axes interpolated to ``size``, one axis after the other.

    Shapes: x [N, C, *spatial] -> [N, C, *size]; layout NHWC: x [N, *spatial, C]
    Attrs:  mode: nearest (floor), nearest-exact, linear, cubic (a = -0.75) or area; align_corners:
            the corners of both grids coincide; scales: per axis the factor that places are computed
            with, 0 or absent is size / old size; antialias: the kernel is widened when shrinking.
    Source: PyTorch, ``torch.nn.functional.interpolate``.
    """

    size: tuple[Size, ...] = (1, 1)
    mode: str = "nearest"
    align_corners: bool = False
    scales: tuple[float, ...] = ()
    antialias: bool = False
    layout: str = "NCHW"
    samples = [
        Sample((X,), {"size": (10, 14)}),
        Sample((X,), {"size": (8, 5), "mode": "nearest-exact"}),
        Sample((X,), {"size": (8, 5), "mode": "linear"}),
        Sample((X,), {"size": (9, 9), "mode": "linear", "align_corners": True}),
        Sample((X,), {"size": (11, 15), "mode": "linear", "scales": (2.3, 2.2)}),
        Sample((X,), {"size": (8, 4), "mode": "cubic"}),
        Sample((X,), {"size": (3, 4), "mode": "area"}),
        Sample((X,), {"size": (3, 9), "mode": "linear", "antialias": True}),
        Sample((X,), {"size": (2, 9), "mode": "cubic", "antialias": True}),
        Sample((TensorType(f32, (2, 6, 3)),), {"size": (9,), "mode": "linear"}),
        Sample((TensorType(f32, (2, 4, 5, 3)),), {"size": (8, 15), "layout": "NHWC"}),
        Sample((TensorType(f32, (2, 4, 5, 3)),), {"size": (7, 7), "mode": "linear",
                                                 "layout": "NHWC"}),
        Sample((TensorType(f32, (2, 4, 5, 3)),), {"size": (2, 3), "mode": "area",
                                                 "layout": "NHWC"}),
        Sample((TensorType(f32, (1, 2, 3, 4, 2)),), {"size": (6, 6, 3), "mode": "linear"}),
    ]  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        n = len(self.size)
        if x.rank != n + 2 or n < 1:
            raise self.fail((x,), f"expected rank {n + 2} for a size of {n} axes")
        if self.mode not in MODES:
            raise self.fail((x,), f"mode={self.mode!r}; expected one of {', '.join(MODES)}")
        if self.layout not in ("NCHW", "NHWC"):
            raise self.fail((x,), f"layout={self.layout!r}; expected 'NCHW' or 'NHWC'")
        if not x.dtype.is_float and not self.mode.startswith("nearest"):
            raise self.fail((x,), f"expected float elements, got {x.dtype}")
        if self.antialias and self.mode not in ("linear", "cubic"):
            raise self.fail((x,), f"antialias with mode={self.mode!r}; expected linear or cubic")
        if len(self.scales) not in (0, n):
            raise self.fail((x,), f"expected {n} scales, got {len(self.scales)}")
        if any(isinstance(s, int) and s < 1 for s in self.size):
            raise self.fail((x,), f"size {list(self.size)}; expected at least 1")
        if self.layout == "NHWC":
            return x.with_shape((x.shape[0], *self.size, x.shape[-1]))
        return x.with_shape((*x.shape[:2], *self.size))

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        return [(1, x.shape[k]) for k in self._axes(x.rank)]

    def _axes(self, rank: int) -> range:
        return range(1, rank - 1) if self.layout == "NHWC" else range(2, rank)

    def _scale(self, k: int) -> float:
        return self.scales[k] if self.scales else 0.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        dtype = x.dtype
        for k, axis in enumerate(self._axes(x.ndim)):
            if self.mode == "area":
                x = _area(x, axis, self.size[k])
            elif self.mode.startswith("nearest"):
                x = np.take(x, self._nearest(x.shape[axis], self.size[k], k), axis)
            else:
                x = self._interpolated(x, axis, k)
        return x.astype(dtype)

    def _step(self, old: int, size: int, k: int, real: type) -> Any:
        """Old elements per new one."""
        if self.align_corners and self.mode in ("linear", "cubic"):
            return real(old - 1) / real(size - 1) if size > 1 else real(0)
        scale = self._scale(k)
        return real(1 / scale) if scale > 0 else real(old) / real(size)

    def _nearest(self, old: int, size: int, k: int) -> np.ndarray:
        if old == size:
            return np.arange(size)
        at = np.arange(size).astype(np.float32)
        at = at + np.float32(0.5) if self.mode == "nearest-exact" else at
        step = self._step(old, size, k, np.float32)
        return np.minimum((at * step).astype(np.int64), old - 1)

    def _interpolated(self, x: np.ndarray, axis: int, k: int) -> np.ndarray:
        """Weighted sums of neighbours along one axis."""
        old, size = x.shape[axis], self.size[k]
        real = np.float64 if x.dtype == np.float64 else np.float32
        if old == size and self.mode == "linear" and not self.antialias:
            return x
        step = self._step(old, size, k, real)
        if self.antialias:
            spans = _antialiased(old, size, step, self.mode)
            moved = np.moveaxis(x, axis, -1)
            sums = [moved[..., i : i + w.size] @ w.astype(real) for i, w in spans]
            return np.moveaxis(np.stack(sums, -1), -1, axis)
        at = np.arange(size).astype(real)
        at = at * step if self.align_corners else (at + real(0.5)) * step - real(0.5)
        column = [-1 if a == axis else 1 for a in range(x.ndim)]
        return sum(
            np.take(x, np.clip(place, 0, old - 1).astype(int), axis) * weight.reshape(column)
            for place, weight in self._taps(at)
        )

    def _taps(self, at: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        if self.mode == "linear":
            at = np.maximum(at, 0)
            low = np.floor(at)
            return [(low, 1 - (at - low)), (low + 1, at - low)]
        low = np.floor(at)
        t = at - low
        (near, far), (next_, last) = _cubic(t, -0.75), _cubic(1 - t, -0.75)
        return [(low - 1, far), (low, near), (low + 1, next_), (low + 2, last)]

    def decompose(self, b: Any, x: Value) -> Value:
        axes = self._axes(x.rank)
        if self.mode == "area":
            return self._build_area(b, x)
        for k, axis in enumerate(axes):
            size = self.size[k]
            times = _whole_factor(x.shape[axis], size, self._scale(k))
            if x.shape[axis] == size and not self.antialias and self.mode != "cubic":
                continue
            if self.mode == "nearest" and times:
                x = _repeat(b, x, axis, times)
            elif self.mode.startswith("nearest"):
                x = b.take(x, self._build_nearest(b, x.shape[axis], size, k), axis=axis)
            elif self.antialias:
                x = self._build_antialiased(b, x, axis, k)
            else:
                x = self._build_taps(b, x, axis, k)
        return x

    def _build_area(self, b: Any, x: Value) -> Value:
        if self.layout == "NCHW":
            return b.adaptive_avg_pool(x, size=self.size)
        last = x.rank - 1
        first = b.transpose(x, perm=(0, last, *range(1, last)))
        pooled = b.adaptive_avg_pool(first, size=self.size)
        return b.transpose(pooled, perm=(0, *range(2, x.rank), 1))

    def _build_step(self, b: Any, old: Size, size: Size, k: int, dtype: Any) -> Value:
        def real(n: Size) -> Value:
            return b.cast(b.size(dim=n), dtype=dtype)

        if self.align_corners and self.mode in ("linear", "cubic"):
            gaps = b.maximum(real(size - 1), 1.0)
            return b.div(b.where(b.gt(real(size), 1.0), real(old - 1), 0.0), gaps)
        scale = self._scale(k)
        if scale <= 0:
            return b.div(real(old), real(size))
        step = b.const(1 / scale, dtype)
        if self.mode == "cubic" or (isinstance(old, int) and isinstance(size, int)):
            return step
        return b.where(b.eq(b.size(dim=old), b.size(dim=size)), 1.0, step)

    def _build_nearest(self, b: Any, old: Size, size: Size, k: int) -> Value:
        at = b.cast(b.iota(size=size, dtype=i64), dtype=f32)
        at = b.add(at, 0.5) if self.mode == "nearest-exact" else at
        place = b.mul(at, self._build_step(b, old, size, k, f32))
        return b.minimum(b.cast(place, dtype=i64), b.size(dim=old - 1))

    def _build_places(self, b: Any, old: Size, size: Size, k: int, dtype: Any) -> Value:
        step = self._build_step(b, old, size, k, dtype)
        at = b.cast(b.iota(size=size, dtype=i64), dtype=dtype)
        return b.mul(at, step) if self.align_corners else b.sub(b.mul(b.add(at, 0.5), step), 0.5)

    def _build_taps(self, b: Any, x: Value, axis: int, k: int) -> Value:
        """A sum of elements taken, each times its weight."""
        dtype = f64 if x.dtype is f64 else f32
        old = x.shape[axis]
        at = self._build_places(b, old, self.size[k], k, dtype)
        at = b.maximum(at, 0.0) if self.mode == "linear" else at
        low = b.floor(at)
        t = b.sub(at, low)
        if self.mode == "linear":
            taps = [(0, b.sub(1.0, t)), (1, t)]
        else:
            (near, far), (next_, last) = _build_cubic(b, t), _build_cubic(b, b.sub(1.0, t))
            taps = [(-1, far), (0, near), (1, next_), (2, last)]
        first = b.cast(low, dtype=i64)
        wide = (self.size[k], *[1] * (x.rank - axis - 1))
        total = None
        for offset, weight in taps:
            place = b.maximum(b.minimum(b.add(first, offset), b.size(dim=old - 1)), 0)
            part = b.cast(b.take(x, place, axis=axis), dtype=dtype)
            part = b.mul(part, b.reshape(weight, shape=wide))
            total = part if total is None else b.add(total, part)
        return b.cast(total, dtype=x.dtype)

    def _build_antialiased(self, b: Any, x: Value, axis: int, k: int) -> Value:
        """Sums over the old elements in reach of each new one, weights of sum 1."""
        dtype = f64 if x.dtype is f64 else f32
        old, size = x.shape[axis], self.size[k]
        step = self._build_step(b, old, size, k, dtype)
        stretch = b.maximum(step, 1.0)
        reach = b.mul(stretch, 1.0 if self.mode == "linear" else 2.0)
        new = b.cast(b.iota(size=size, dtype=i64), dtype=dtype)
        centre = b.mul(b.add(new, 0.5), step)
        low = b.trunc(b.maximum(b.add(b.sub(centre, reach), 0.5), 0.0))
        high = b.trunc(
            b.minimum(b.add(b.add(centre, reach), 0.5), b.cast(b.size(dim=old), dtype=dtype))
        )
        start, stop = b.cast(low, dtype=i64), b.cast(high, dtype=i64)
        length, most = b.sub(stop, start), self._most_in_reach(old, size, k)
        tap = b.iota(size=most, dtype=i64)
        place = b.cast(b.add(b.reshape(start, shape=(size, 1)), tap), dtype=dtype)
        gap = b.add(b.sub(place, b.reshape(centre, shape=(size, 1))), 0.5)
        weight = self._build_kernel(b, b.abs(b.div(gap, stretch)))
        weight = b.where(b.lt(tap, b.reshape(length, shape=(size, 1))), weight, 0.0)
        weight = b.div(weight, b.reduce_sum(weight, axes=(1,), keepdims=True))
        y = sum_windows(b, b.cast(x, dtype=dtype), axis, start, length, most, weight)
        return b.cast(y, dtype=x.dtype)

    def _most_in_reach(self, old: Size, size: Size, k: int) -> Size:
        """At least the elements that any new one sums."""
        if not isinstance(old, int) or not isinstance(size, int):
            return old
        radius = 1.0 if self.mode == "linear" else 2.0
        step = float(self._step(old, size, k, np.float64))
        return min(old, int(2 * radius * max(step, 1.0)) + 2)

    def _build_kernel(self, b: Any, distance: Value) -> Value:
        """The weight at a distance, in elements."""
        if self.mode == "linear":
            return b.maximum(b.sub(1.0, distance), 0.0)
        near, _ = _build_cubic(b, distance, -0.5)
        _, far = _build_cubic(b, b.sub(distance, 1.0), -0.5)
        outer = b.where(b.lt(distance, 2.0), far, 0.0)
        return b.where(b.lt(distance, 1.0), near, outer)


def _area(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    n = x.shape[axis]
    spans = [(i * n // size, -((-(i + 1) * n) // size)) for i in range(size)]
    return np.concatenate([x.take(range(*s), axis).mean(axis, keepdims=True) for s in spans], axis)


def _antialiased(old: int, size: int, step: Any, mode: str) -> list[tuple[int, np.ndarray]]:
    """For each new element the first old one in reach and the weights, of sum 1, from there.

    The kernel is widened by ``step`` where that is above 1.
    """
    stretch = max(step, 1.0)
    reach = stretch * (1.0 if mode == "linear" else 2.0)
    spans = []
    for i in range(size):
        centre = step * (i + 0.5)
        low = max(int(centre - reach + 0.5), 0)
        at = np.arange(low, min(int(centre + reach + 0.5), old))
        d = np.abs((at - centre + 0.5) / stretch)
        if mode == "linear":
            row = np.maximum(1 - d, 0)
        else:
            row = np.where(d < 1, _cubic(d, -0.5)[0], np.where(d < 2, _cubic(d - 1, -0.5)[1], 0))
        spans.append((low, row / row.sum()))
    return spans


def _build_cubic(b: Any, t: Value, a: float = -0.75) -> tuple[Value, Value]:
    """See ``_cubic``."""
    far = b.add(t, 1.0)
    near = b.add(b.mul(b.mul(b.sub(b.mul(t, a + 2), a + 3), t), t), 1.0)
    inner = b.add(b.mul(b.sub(b.mul(far, a), 5 * a), far), 8 * a)
    return near, b.sub(b.mul(inner, far), 4 * a)


def _whole_factor(old: Size, size: Size, scale: float) -> int:
    """``size / old`` when it is whole and floor(i * old / size) in float32 is exact; else 0."""
    if size == old or not isinstance(size // old, int) or size != old * (size // old):
        return 0
    times = size // old
    assert isinstance(times, int)
    if scale > 0 and scale != times:
        return 0
    return times if Fraction(float(np.float32(1 / times))) >= Fraction(1, times) else 0


def _repeat(b: Any, x: Value, axis: int, times: int) -> Value:
    """Every element of an axis repeated."""
    head, size, tail = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    wide = b.reshape(x, shape=(*head, size, 1, *tail))
    wide = b.broadcast_to(wide, shape=(*head, size, times, *tail))
    return b.reshape(wide, shape=(*head, size * times, *tail))


GRID = np.random.default_rng(1).uniform(-1.4, 1.4, (2, 4, 6, 2)).astype(np.float32)
VOLUME = np.random.default_rng(2).uniform(-1.4, 1.4, (1, 2, 3, 4, 3)).astype(np.float32)


@op("grid_sample", onnx=("GridSample", 20))
class GridSample(Op):
    """x read at the places of ``grid``, -1 and 1 being the borders of an axis.

    Shapes: x [N, C, *spatial], grid [N, *places, S] with S spatial axes, the last axis of x first
            -> [N, C, *places]
    Attrs:  mode: linear, nearest or cubic; padding_mode: zeros, border or reflection outside;
            align_corners: -1 and 1 are the centres of the outer elements, not their edges.
    Source: PyTorch, ``torch.nn.functional.grid_sample``.
    """

    mode: str = "linear"
    padding_mode: str = "zeros"
    align_corners: bool = False
    samples = [
        *(
            Sample((X, GRID), {"mode": m, "padding_mode": p, "align_corners": a})
            for m, p, a in (
                ("linear", "zeros", False),
                ("linear", "border", True),
                ("linear", "reflection", False),
                ("nearest", "zeros", True),
                ("nearest", "reflection", True),
                ("cubic", "zeros", False),
                ("cubic", "reflection", True),
            )
        ),
        Sample((TensorType(f32, (1, 2, 4, 3, 5)), VOLUME)),
    ]

    def infer(self, x: TensorType, grid: TensorType) -> TensorType:
        types = (x, grid)
        same_dtype(self, types)
        n = x.rank - 2
        fits = grid.rank == x.rank and grid.shape[-1] == n and grid.shape[0] == x.shape[0]
        if n < 1 or not fits or not x.dtype.is_float:
            raise self.fail(types, "expected floats x[N,C,*spatial] and grid[N,*places,spatial]")
        if self.mode not in ("linear", "nearest", "cubic"):
            raise self.fail(types, f"mode={self.mode!r}; expected linear, nearest or cubic")
        if self.padding_mode not in ("zeros", "border", "reflection"):
            got = f"padding_mode={self.padding_mode!r}"
            raise self.fail(types, f"{got}; expected zeros, border or reflection")
        return x.with_shape((*x.shape[:2], *grid.shape[1:-1]))

    def limits(self, x: TensorType, grid: TensorType) -> list[tuple[Size, Size]]:
        return [(1, n) for n in x.shape[2:]]

    def reference(self, x: np.ndarray, grid: np.ndarray) -> np.ndarray:
        sizes = x.shape[2:]
        n = len(sizes)
        axes = [self._taps(grid[..., n - 1 - k].astype(x.dtype), sizes[k]) for k in range(n)]
        places = grid.shape[1:-1]
        y = np.zeros((*x.shape[:2], *places), x.dtype)
        batch = np.arange(x.shape[0]).reshape(-1, *[1] * len(places))
        for taps in cartesian(*axes):
            at = [np.clip(p, 0, s - 1).astype(int) for (p, _), s in zip(taps, sizes)]
            weight = np.ones_like(taps[0][1])
            for (p, w), s in zip(taps, sizes):
                weight = weight * np.where((p >= 0) & (p <= s - 1), w, 0)
            picked = np.moveaxis(x, 1, -1)[(batch, *at)]
            y += np.moveaxis(picked * weight[..., None], -1, 1)
        return y

    def _taps(self, c: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Places along one axis, whole numbers that may lie outside, each with its weight."""
        at = (c + 1) / 2 * (size - 1) if self.align_corners else ((c + 1) * size - 1) / 2
        if self.mode == "nearest":
            at = np.rint(self._padded(at, size))
            return [(at, np.ones_like(at))]
        at = at if self.mode == "cubic" else self._padded(at, size)
        low = np.floor(at)
        t = at - low
        if self.mode == "linear":
            return [(low, 1 - t), (low + 1, t)]
        (near, far), (next_, last) = _cubic(t, -0.75), _cubic(1 - t, -0.75)
        taps = [(low - 1, far), (low, near), (low + 1, next_), (low + 2, last)]
        return [(self._padded(p, size), w) for p, w in taps]

    def _padded(self, at: np.ndarray, size: int) -> np.ndarray:
        if self.padding_mode == "zeros":
            return at
        if self.padding_mode == "reflection":
            at = self._reflect(at, size)
        return np.clip(at, 0, size - 1)

    def _reflect(self, at: np.ndarray, size: int) -> np.ndarray:
        low, span = (0.0, size - 1.0) if self.align_corners else (-0.5, float(size))
        if span == 0:
            return np.zeros_like(at)
        distance = np.abs(at - low)
        extra, flips = np.fmod(distance, span), np.floor(distance / span)
        return np.where(flips % 2 == 0, extra + low, span - extra + low).astype(at.dtype)

    def decompose(self, b: Any, x: Value, grid: Value) -> Value:
        sizes = x.shape[2:]
        n = len(sizes)
        places = grid.shape[1:-1]
        axes = [self._build_taps(b, _coordinate(b, grid, n - 1 - k), sizes[k]) for k in range(n)]
        flat = b.reshape(x, shape=(*x.shape[:2], product(sizes)))
        total = None
        for taps in cartesian(*axes):
            part = _picked(b, flat, [p for p, _ in taps], sizes)
            part = b.reshape(part, shape=(*x.shape[:2], *places))
            weight = taps[0][1]
            for _, w in taps[1:]:
                weight = b.mul(weight, w)
            weight = b.reshape(weight, shape=(x.shape[0], 1, *places))
            part = b.mul(part, weight)
            total = part if total is None else b.add(total, part)
        return total

    def _build_taps(self, b: Any, c: Value, size: Size) -> list[tuple[Value, Value]]:
        """Places in [0, size), i64, each with its weight, 0 where the place was outside."""
        top = b.cast(b.size(dim=size - 1), dtype=c.dtype)
        full = b.cast(b.size(dim=size), dtype=c.dtype)
        moved = b.add(c, 1.0)
        if self.align_corners:
            at = b.mul(b.mul(moved, 0.5), top)
        else:
            at = b.mul(b.sub(b.mul(moved, full), 1.0), 0.5)
        if self.mode == "nearest":
            at = b.round(self._build_padded(b, at, top, full))
            one = b.broadcast_to(b.const(1.0, c.dtype), shape=c.shape)
            return [_clipped(b, at, one, top)]
        at = at if self.mode == "cubic" else self._build_padded(b, at, top, full)
        low = b.floor(at)
        t = b.sub(at, low)
        if self.mode == "linear":
            return [
                _clipped(b, low, b.sub(1.0, t), top),
                _clipped(b, b.add(low, 1.0), t, top),
            ]
        (near, far), (next_, last) = _build_cubic(b, t), _build_cubic(b, b.sub(1.0, t))
        taps = [(b.add(low, float(i)), w) for i, w in zip((-1, 0, 1, 2), (far, near, next_, last))]
        return [_clipped(b, self._build_padded(b, p, top, full), w, top) for p, w in taps]

    def _build_padded(self, b: Any, at: Value, top: Value, full: Value) -> Value:
        if self.padding_mode == "zeros":
            return at
        if self.padding_mode == "reflection":
            low, span = (0.0, top) if self.align_corners else (-0.5, full)
            distance = b.abs(b.sub(at, low))
            safe = b.maximum(span, 1.0)
            extra, flips = b.fmod(distance, safe), b.floor(b.div(distance, safe))
            even = b.eq(b.fmod(flips, 2.0), 0.0)
            at = b.add(b.where(even, extra, b.sub(span, extra)), low)
        return b.minimum(b.maximum(at, 0.0), top)


def _coordinate(b: Any, grid: Value, k: int) -> Value:
    """``grid[..., k]``"""
    zeros = (0,) * (grid.rank - 1)
    cut = b.slice(
        grid, starts=(*zeros, k), stops=(*grid.shape[:-1], k + 1), steps=(1,) * grid.rank
    )  # fmt: skip
    return b.reshape(cut, shape=grid.shape[:-1])


def _clipped(b: Any, at: Value, weight: Value, top: Value) -> tuple[Value, Value]:
    inside = b.bit_and(b.ge(at, 0.0), b.le(at, top))
    place = b.cast(b.minimum(b.maximum(at, 0.0), top), dtype=i64)
    return place, b.where(inside, weight, 0.0)


def _picked(b: Any, flat: Value, places: list[Value], sizes: tuple[Size, ...]) -> Value:
    """Elements [N, C, P] at a place per spatial axis."""
    index = places[0]
    for place, size in zip(places[1:], sizes[1:]):
        index = b.add(b.mul(index, b.size(dim=size)), place)
    batch, channels = flat.shape[:2]
    count = product(index.shape[1:])
    index = b.reshape(index, shape=(batch, 1, count))
    return b.gather(flat, b.broadcast_to(index, shape=(batch, channels, count)), axis=2)


@op("pixel_shuffle", aten="aten.pixel_shuffle.default")
class PixelShuffle(Op):
    """Channels to space: [..., C r r, H, W] -> [..., C, H r, W r].

    Source: Shi et al., "Real-Time Single Image and Video Super-Resolution" (2016).
    """

    factor: int = 2
    samples = [Sample((TensorType(f32, (2, 12, 3, 5)),)), Sample((TensorType(i64, (9, 2, 2)),),
                                                                {"factor": 3})]  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        if x.rank < 3 or not isinstance(self.factor, int) or self.factor < 1:
            raise self.fail((x,), "expected x[..., C, H, W] and a factor of at least 1")
        square = self.factor * self.factor
        if x.shape[-3] % square != 0:
            raise self.fail((x,), f"{x.shape[-3]} channels do not divide by {square}")
        c, h, w = x.shape[-3:]
        return x.with_shape((*x.shape[:-3], c // square, h * self.factor, w * self.factor))

    def reference(self, x: np.ndarray) -> np.ndarray:
        *head, c, h, w = x.shape
        r, k = self.factor, len(head)
        y = x.reshape(*head, c // (r * r), r, r, h, w)
        y = y.transpose(*range(k), k, k + 3, k + 1, k + 4, k + 2)
        return y.reshape(*head, c // (r * r), h * r, w * r)

    def decompose(self, b: Any, x: Value) -> Value:
        *head, c, h, w = x.shape
        r, k = self.factor, x.rank - 3
        y = b.reshape(x, shape=(*head, c // (r * r), r, r, h, w))
        y = b.transpose(y, perm=(*range(k), k, k + 3, k + 1, k + 4, k + 2))
        return b.reshape(y, shape=(*head, c // (r * r), h * r, w * r))


@op("pixel_unshuffle", aten="aten.pixel_unshuffle.default")
class PixelUnshuffle(Op):
    """Space to channels: [..., C, H r, W r] -> [..., C r r, H, W]."""

    factor: int = 2
    samples = [Sample((TensorType(f32, (2, 3, 6, 4)),)), Sample((TensorType(i64, (1, 6, 3)),),
                                                               {"factor": 3})]  # fmt: skip

    def infer(self, x: TensorType) -> TensorType:
        if x.rank < 3 or not isinstance(self.factor, int) or self.factor < 1:
            raise self.fail((x,), "expected x[..., C, H, W] and a factor of at least 1")
        r = self.factor
        if x.shape[-2] % r != 0 or x.shape[-1] % r != 0:
            raise self.fail((x,), f"{x.shape[-2]} by {x.shape[-1]} does not divide by {r}")
        c, h, w = x.shape[-3:]
        return x.with_shape((*x.shape[:-3], c * r * r, h // r, w // r))

    def reference(self, x: np.ndarray) -> np.ndarray:
        *head, c, h, w = x.shape
        r, k = self.factor, len(head)
        y = x.reshape(*head, c, h // r, r, w // r, r)
        y = y.transpose(*range(k), k, k + 2, k + 4, k + 1, k + 3)
        return y.reshape(*head, c * r * r, h // r, w // r)

    def decompose(self, b: Any, x: Value) -> Value:
        *head, c, h, w = x.shape
        r, k = self.factor, x.rank - 3
        y = b.reshape(x, shape=(*head, c, h // r, r, w // r, r))
        y = b.transpose(y, perm=(*range(k), k, k + 2, k + 4, k + 1, k + 3))
        return b.reshape(y, shape=(*head, c * r * r, h // r, w // r))


@op("channel_shuffle", aten="aten.channel_shuffle.default")
class ChannelShuffle(Op):
    """Channels regrouped: [N, g c, ...] read as [N, g, c, ...] and written as [N, c, g, ...].

    Source: Zhang et al., "ShuffleNet" (2017).
    """

    groups: int = 1
    samples = [Sample((TensorType(f32, (2, 6, 3, 5)),), {"groups": 3})]

    def infer(self, x: TensorType) -> TensorType:
        axis_of(self, (x,), 1)
        if x.shape[1] % self.groups != 0:
            raise self.fail((x,), f"{x.shape[1]} channels do not divide by {self.groups}")
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        y = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, *x.shape[2:])
        return y.swapaxes(1, 2).reshape(x.shape)

    def decompose(self, b: Any, x: Value) -> Value:
        g, rest = self.groups, x.shape[2:]
        y = b.reshape(x, shape=(x.shape[0], g, x.shape[1] // g, *rest))
        y = b.transpose(y, perm=(0, 2, 1, *range(3, y.rank)))
        return b.reshape(y, shape=x.shape)

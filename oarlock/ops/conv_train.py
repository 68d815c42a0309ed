"""Gradients of ``conv``, by its attributes, and of ``max_pool``."""

from __future__ import annotations

from itertools import pairwise
from itertools import product as cartesian
from typing import Any, ClassVar

import numpy as np

from oarlock.ir import Size, TensorType, Value, f32
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.conv import Pairs, window_size
from oarlock.ops.pool import pooled_size
from oarlock.ops.rules import same_dtype

CASES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 9, 7), (6, 4, 3, 2), {"stride": (2, 1), "padding": ((1, 0), (1, 1))}),
    ((1, 4, 8, 8), (4, 1, 3, 3), {"groups": 4, "dilation": (2, 1), "padding": ((2, 2), (0, 0))}),
    ((2, 3, 11), (5, 3, 4), {"stride": (3,), "padding": ((1, 1),), "dilation": (1,)}),
    ((2, 6, 5, 4), (4, 3, 1, 1), {"groups": 2, "stride": (2, 3)}),
]


def _output(x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, Any]) -> tuple[int, ...]:
    n = len(x) - 2
    stride = attrs.get("stride", (1,) * n)
    padding = attrs.get("padding", ((0, 0),) * n)
    dilation = attrs.get("dilation", (1,) * n)
    return (x[0], w[0], *map(window_size, x[2:], w[2:], stride, padding, dilation))  # type: ignore[misc]


def _samples(of_input: bool) -> list[Sample]:
    return [
        Sample(
            (TensorType(f32, _output(x, w, attrs)), TensorType(f32, w if of_input else x)),
            {**attrs, "shape": x if of_input else w},
        )
        for x, w, attrs in CASES
    ]


def _last_samples() -> list[Sample]:
    """Channels last."""
    found = []
    for x, w, attrs in CASES:
        dy = _output(x, w, attrs)
        types = tuple(TensorType(f32, (n, *rest, c)) for n, c, *rest in (dy, x))
        found.append(Sample(types, {**attrs, "shape": w, "layout": "NHWC", "parts": len(w) % 3}))
    return found


def _first(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    """A shape with channels last, with channels first."""
    return (shape[0], shape[-1], *shape[1:-1])


class ConvGrad(Op):
    """Base: ``shape`` is that of the operand whose gradient it is; layout NCHW.

    Attrs:  those of the ``conv``, see there.
    """

    def check(self, types: tuple[TensorType, ...], x: Any, w: Any, dy: Any) -> None:
        """The three shapes belong to one ``conv``.  Raises: TypeMismatch."""
        same_dtype(self, types)
        n = len(x) - 2
        if n < 1 or not len(self.stride) == len(self.padding) == len(self.dilation) == n:
            raise self.fail(types, "expected stride, padding and dilation per spatial axis")
        if not all(isinstance(s, int) for s in (*w, *x[1:], *dy[1:])):
            raise self.fail(types, "expected known sizes, but of the batch")
        sizes = tuple(map(window_size, x[2:], w[2:], self.stride, self.padding, self.dilation))
        if len(w) != n + 2 or w[1] * self.groups != x[1] or dy != (x[0], w[0], *sizes):
            raise self.fail(types, f"no conv of x{list(x)} and w{list(w)} gives {list(dy)}")

    def taps(self, x: np.ndarray, shape: tuple[int, ...], out: tuple[int, ...]) -> Any:
        """For each offset in the kernel: where, and the part of the padded x that it reads."""
        for at in cartesian(*map(range, shape[2:])):
            cut = [
                slice(d * k, d * k + (o - 1) * s + 1, s)
                for d, k, o, s in zip(self.dilation, at, out, self.stride)
            ]
            yield at, x[(slice(None), slice(None), *cut)]


@op("conv_grad_input")
class ConvGradInput(ConvGrad):
    """The gradient of ``conv`` to its input.

    Shapes: dy [N, O, *spatial'], w [O, I/groups, *kernel] -> x [N, I, *spatial]
    """

    shape: tuple[Size, ...] = ()
    stride: tuple[int, ...] = (1, 1)
    padding: Pairs = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    samples = _samples(True)

    def infer(self, dy: TensorType, w: TensorType) -> TensorType:
        self.check((dy, w), self.shape, w.shape, dy.shape)
        return dy.with_shape(self.shape)

    def reference(self, dy: np.ndarray, w: np.ndarray) -> np.ndarray:
        n, g = dy.ndim - 2, self.groups
        padded = [s + a + b for s, (a, b) in zip(self.shape[2:], self.padding)]  # type: ignore[operator]
        dx = np.zeros((*self.shape[:2], *padded), dy.dtype)  # type: ignore[arg-type]
        grouped = dy.reshape(dy.shape[0], g, dy.shape[1] // g, *dy.shape[2:])
        weights = w.reshape(g, w.shape[0] // g, *w.shape[1:])
        for at, part in self.taps(dx, w.shape, dy.shape[2:]):
            found = np.einsum("ngo...,goi->ngi...", grouped, weights[(..., *at)])
            part += found.reshape(part.shape)
        inner = tuple(slice(p[0], p[0] + s) for p, s in zip(self.padding, self.shape[-n:]))  # type: ignore[operator]
        return np.ascontiguousarray(dx[(..., *inner)])

    def decompose(self, b: Any, dy: Value, w: Value) -> Value:
        """``conv_transpose``, longer by the rows at the end that no window has read."""
        least = [
            (o - 1) * s - p[0] - p[1] + d * (k - 1) + 1
            for o, s, p, d, k in zip(
                dy.shape[2:], self.stride, self.padding, self.dilation, w.shape[2:]
            )
        ]
        unread = tuple(size - n for size, n in zip(self.shape[2:], least))
        return b.conv_transpose(
            dy, w, stride=self.stride, padding=self.padding, output_padding=unread,
            dilation=self.dilation, groups=self.groups,
        )  # fmt: skip


@op("conv_grad_weight")
class ConvGradWeight(ConvGrad):
    """The gradient of ``conv`` to its weight.

    Shapes: dy [N, O, *spatial'], x [N, I, *spatial] -> w [O, I/groups, *kernel];
            layout NHWC: dy [N, *spatial', O], x [N, *spatial, I] -> w [O, *kernel, I/groups]
    Attrs:  shape: that of w in NCHW; parts: with NHWC, the result is [parts, ...], one for each of
            so many ranges of places.
    """

    images: ClassVar[int] = 2  # operands with spatial axes
    shape: tuple[Size, ...] = ()
    stride: tuple[int, ...] = (1, 1)
    padding: Pairs = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    layout: str = "NCHW"
    parts: int = 0
    samples = [*_samples(False), *_last_samples()]

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        if self.layout == "NCHW":
            if self.parts:
                raise self.fail((dy, x), "parts need the layout NHWC")
            self.check((dy, x), x.shape, self.shape, dy.shape)
            return dy.with_shape(self.shape)
        self.check((dy, x), _first(x.shape), self.shape, _first(dy.shape))
        out, channels, *kernel = self.shape
        return dy.with_shape((*[self.parts] * bool(self.parts), out, *kernel, channels))

    def reference(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        if self.layout == "NCHW":
            return self._first_reference(dy, x)
        ends = [p * dy[..., 0].size // max(1, self.parts) for p in range(max(1, self.parts) + 1)]
        parts = []
        for begin, end in pairwise(ends):
            rows = np.zeros((dy[..., 0].size, dy.shape[-1]), dy.dtype)
            rows[begin:end] = dy.reshape(rows.shape)[begin:end]
            turned = (np.moveaxis(a, -1, 1) for a in (rows.reshape(dy.shape), x))
            parts.append(np.moveaxis(self._first_reference(*turned), 1, -1))
        return np.ascontiguousarray(np.stack(parts) if self.parts else parts[0])

    def _first_reference(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        g, batch = self.groups, dy.shape[0]
        padded = np.pad(x, [(0, 0), (0, 0), *self.padding])
        places = int(np.prod(dy.shape[2:]))
        grouped = dy.reshape(batch, g, dy.shape[1] // g, places)
        dw = np.empty((g, dy.shape[1] // g, *self.shape[1:]), dy.dtype)  # type: ignore[arg-type]
        for at, part in self.taps(padded, self.shape, dy.shape[2:]):  # type: ignore[arg-type]
            windows = part.reshape(batch, g, x.shape[1] // g, places)
            dw[(..., *at)] = np.einsum("ngop,ngip->goi", grouped, windows, optimize=True)
        return dw.reshape(self.shape)  # type: ignore[arg-type]

    def decompose(self, b: Any, dy: Value, x: Value) -> Value:
        """One product over batch and places for each offset in the kernel."""
        if self.layout == "NCHW":
            return self._first_decomposed(b, dy, x)
        n = dy.rank - 2
        first = b.transpose(x, perm=(0, n + 1, *range(1, n + 1)))
        count = max(1, self.parts)
        found = []
        for p in range(count):
            turned = b.transpose(self._part(b, dy, p), perm=(0, n + 1, *range(1, n + 1)))
            w = self._first_decomposed(b, turned, first)
            w = b.transpose(w, perm=(0, *range(2, n + 2), 1))
            found.append(b.reshape(w, shape=(1, *w.shape)) if self.parts else w)
        return found[0] if count == 1 else b.concat(*found, axis=0)

    def _part(self, b: Any, dy: Value, p: int) -> Value:
        """dy with zeros at the places of other parts."""
        if self.parts < 2:
            return dy
        places: Size = 1
        for size in dy.shape[:-1]:
            places = places * size
        begin, end = (places * k // self.parts for k in (p, p + 1))
        rows = b.reshape(dy, shape=(places, dy.shape[-1]))
        cut = b.slice(rows, starts=(begin, 0), stops=(end, dy.shape[-1]), steps=(1, 1))
        cut = b.pad(cut, low=(begin, 0), high=(places - end, 0), value=0.0)
        return b.reshape(cut, shape=dy.shape)

    def _first_decomposed(self, b: Any, dy: Value, x: Value) -> Value:
        n, g, batch = dy.rank - 2, self.groups, dy.shape[0]
        out, kernel = dy.shape[2:], self.shape[2:]
        per, channels = self.shape[0] // g, self.shape[1]
        low, high = zip(*self.padding)
        if any(low) or any(high):
            x = b.pad(x, low=(0, 0, *low), high=(0, 0, *high), value=0.0)
        places = 1
        for size in out:
            places = places * size
        left = _grouped(b, dy, (batch, g, per, places))
        taps = []
        for at in cartesian(*map(range, kernel)):  # type: ignore[arg-type]
            starts = [d * k for d, k in zip(self.dilation, at)]
            stops = [a + (o - 1) * s + 1 for a, o, s in zip(starts, out, self.stride)]
            part = b.slice(
                x, starts=(0, 0, *starts), stops=(*x.shape[:2], *stops), steps=(1, 1, *self.stride)
            )
            right = _grouped(b, part, (batch, g, channels, places))
            product = b.matmul(left, b.transpose(right, perm=(0, 2, 1)))
            taps.append(b.reshape(product, shape=(1, g * per, channels)))
        stacked = taps[0] if len(taps) == 1 else b.concat(*taps, axis=0)
        turned = b.transpose(stacked, perm=(1, 2, 0))
        return b.reshape(turned, shape=(self.shape[0], channels, *kernel)) if n else turned


def _grouped(b: Any, x: Value, shape: tuple[Size, ...]) -> Value:
    """[N, G, C, P] as [G, C, N P]."""
    batch, g, channels, places = shape
    turned = b.transpose(b.reshape(x, shape=shape), perm=(1, 2, 0, 3))
    return b.reshape(turned, shape=(g, channels, batch * places))


@op("max_pool_grad")
class MaxPoolGrad(Op):
    """The gradient of ``max_pool``: to the first of the largest of each window, NaN before all.

    Shapes: dy [N, C, *spatial'], x [N, C, *spatial] -> like x;
            layout NHWC: dy [N, *spatial', C], x [N, *spatial, C]
    """

    images: ClassVar[int] = 2
    kernel: tuple[int, ...] = (2, 2)
    stride: tuple[int, ...] = (2, 2)
    padding: Pairs = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    ceil_mode: bool = False
    layout: str = "NCHW"
    samples = [
        Sample((TensorType(f32, (2, 3, 4, 3)), TensorType(f32, (2, 3, 8, 7)))),
        Sample(
            (TensorType(f32, (2, 3, 5, 4)), TensorType(f32, (2, 3, 9, 8))),
            {"kernel": (3, 3), "padding": ((1, 1), (1, 1))},
        ),
        Sample(
            (TensorType(f32, (2, 5, 4, 3)), TensorType(f32, (2, 9, 8, 3))),
            {"kernel": (3, 3), "padding": ((1, 1), (1, 1)), "layout": "NHWC"},
        ),
    ]

    def infer(self, dy: TensorType, x: TensorType) -> TensorType:
        same_dtype(self, (dy, x))
        if self.layout == "NHWC":
            plain = type(self)(**{**self.attributes, "layout": "NCHW"})
            plain.infer(dy.with_shape(_first(dy.shape)), x.with_shape(_first(x.shape)))
            return x
        if not all(isinstance(s, int) for s in (*x.shape[2:], *dy.shape[2:])):
            raise self.fail((dy, x), "expected known sizes of the spatial axes")
        sizes = tuple(
            pooled_size(s, k, st, p, d, self.ceil_mode)
            for s, k, st, p, d in zip(
                x.shape[2:], self.kernel, self.stride, self.padding, self.dilation
            )
        )
        if dy.shape != (*x.shape[:2], *sizes):
            raise self.fail((dy, x), f"expected dy of {[*x.shape[:2], *sizes]}")
        return x

    def _spans(self, at: tuple[int, ...], out: Any) -> list[tuple[Any, Any, int]]:
        return [
            (d * k, d * k + (o - 1) * s + 1, s)
            for d, k, o, s in zip(self.dilation, at, out, self.stride)
        ]

    def _room(self, size: Any, out: Any) -> list[tuple[int, int]]:
        """Padding in front, and at the end as far as windows read or x reaches."""
        needed = [
            (o - 1) * s + d * (k - 1) + 1
            for o, s, d, k in zip(out, self.stride, self.dilation, self.kernel)
        ]
        return [(p[0], max(n - s - p[0], 0)) for n, s, p in zip(needed, size, self.padding)]

    def reference(self, dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        if self.layout == "NHWC":
            plain = type(self)(**{**self.attributes, "layout": "NCHW"})
            dx = plain.reference(*(np.moveaxis(a, -1, 1) for a in (dy, x)))
            return np.ascontiguousarray(np.moveaxis(dx, 1, -1))
        out, room = dy.shape[2:], self._room(x.shape[2:], dy.shape[2:])
        padded = np.pad(x, [(0, 0), (0, 0), *room], constant_values=-np.inf)
        dx, left = np.zeros_like(padded), np.ones(dy.shape, bool)
        offsets = list(cartesian(*map(range, self.kernel)))
        cuts = [tuple(slice(*s) for s in self._spans(at, out)) for at in offsets]
        parts = np.stack([padded[(..., *cut)] for cut in cuts])
        best = parts.max(0)
        for part, cut in zip(parts, cuts):
            here = left & ((part == best) | (np.isnan(part) & np.isnan(best)))
            left &= ~here
            dx[(..., *cut)] += np.where(here, dy, np.zeros((), dy.dtype))
        inner = tuple(slice(r[0], r[0] + s) for r, s in zip(room, x.shape[2:]))
        return np.ascontiguousarray(dx[(..., *inner)])

    def decompose(self, b: Any, dy: Value, x: Value) -> Value:
        """A mask for each offset in the kernel; what it lets through, spread and added up."""
        if self.layout == "NHWC":
            n = x.rank - 2
            first = (b.transpose(v, perm=(0, n + 1, *range(1, n + 1))) for v in (dy, x))
            plain = type(self)(**{**self.attributes, "layout": "NCHW"})
            dx = plain.decompose(b, *first)
            return b.transpose(dx, perm=(0, *range(2, n + 2), 1))
        out, room = dy.shape[2:], self._room(x.shape[2:], dy.shape[2:])
        low, high = (tuple(r[i] for r in room) for i in (0, 1))
        padded = x
        if any(low) or any(high):
            padded = b.pad(x, low=(0, 0, *low), high=(0, 0, *high), value=-float("inf"))
        offsets = list(cartesian(*map(range, self.kernel)))
        parts = [self._part(b, padded, self._spans(at, out)) for at in offsets]
        best = parts[0]
        for part in parts[1:]:
            best = b.maximum(best, part)
        left, total, zero = None, None, b.const(0.0, dy.dtype)
        for at, part in zip(offsets, parts):
            same = b.bit_or(b.eq(part, best), b.is_nan(part))
            here = same if left is None else b.bit_and(left, same)
            missed = b.logical_not(same)
            left = missed if left is None else b.bit_and(left, missed)
            given = self._spread(b, b.where(here, dy, zero), self._spans(at, out), padded.shape)
            total = given if total is None else b.add(total, given)
        stops = (*x.shape[:2], *(lo + s for lo, s in zip(low, x.shape[2:])))
        return b.slice(total, starts=(0, 0, *low), stops=stops, steps=(1,) * x.rank)

    def _part(self, b: Any, x: Value, spans: list[tuple[Any, Any, int]]) -> Value:
        starts, stops, steps = zip(*spans)
        return b.slice(
            x, starts=(0, 0, *starts), stops=(*x.shape[:2], *stops), steps=(1, 1, *steps)
        )

    def _spread(self, b: Any, x: Value, spans: Any, shape: tuple[Size, ...]) -> Value:
        """``x`` at the places of ``spans`` in zeros of ``shape``."""
        for axis, (_, _, step) in enumerate(spans, 2):
            n = x.shape[axis]
            if step > 1:
                wide = b.reshape(x, shape=(*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
                high = tuple(step - 1 if i == axis + 1 else 0 for i in range(wide.rank))
                wide = b.pad(wide, low=(0,) * wide.rank, high=high, value=0.0)
                x = b.reshape(wide, shape=(*x.shape[:axis], n * step, *x.shape[axis + 1 :]))
                x = b.slice(
                    x, starts=(0,) * x.rank,
                    stops=(*x.shape[:axis], (n - 1) * step + 1, *x.shape[axis + 1 :]),
                    steps=(1,) * x.rank,
                )  # fmt: skip
        low = (0, 0, *(start for start, _, _ in spans))
        high = (0, 0, *(size - stop for size, (_, stop, _) in zip(shape[2:], spans)))
        return b.pad(x, low=low, high=high, value=0.0)

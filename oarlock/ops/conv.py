"""Convolutions over one to three spatial axes."""

from __future__ import annotations

from itertools import product as cartesian
from typing import Any

import numpy as np

from oarlock.ir import Size, TensorType, bounds, f32
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import same_dtype

Pairs = tuple[tuple[int, int], ...]


def window_size(size: Size, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> Size:
    """Positions of a window along one axis."""
    return (size + pad[0] + pad[1] - dilation * (kernel - 1) - 1) // stride + 1


@op("conv", onnx=("Conv", 11))
class Conv(Op):
    """Cross-correlation with zero padding.

    Shapes: x [N, I, *spatial], w [O, I/groups, *kernel], bias [O] -> [N, O, *spatial'];
            layout NHWC: x [N, *spatial, I] -> [N, *spatial', O]
    Attrs:  stride, dilation per spatial axis; padding (low, high) per spatial axis, elements.
    """

    stride: tuple[int, ...] = (1, 1)
    padding: Pairs = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    layout: str = "NCHW"
    samples = [
        Sample(
            (TensorType(f32, (2, 4, 9, 7)), TensorType(f32, (6, 4, 3, 2)), TensorType(f32, (6,))),
            {"stride": (2, 1), "padding": ((1, 0), (1, 1))},
        ),
        Sample(
            (TensorType(f32, (1, 4, 8, 8)), TensorType(f32, (4, 1, 3, 3))),
            {"groups": 4, "dilation": (2, 1), "padding": ((2, 2), (0, 0))},
        ),
        Sample(
            (TensorType(f32, (2, 3, 11)), TensorType(f32, (5, 3, 4))),
            {"stride": (3,), "padding": ((1, 1),), "dilation": (1,)},
        ),
        Sample(
            (TensorType(f32, (2, 6, 5, 4)), TensorType(f32, (6, 4, 3, 3))),
            {"layout": "NHWC", "padding": ((1, 1), (1, 1))},
        ),
    ]

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        types = (x, w) if bias is None else (x, w, bias)
        same_dtype(self, types)
        n = x.rank - 2
        if n < 1 or w.rank != x.rank:
            raise self.fail(types, "expected x and w of one rank, at least 3")
        if not len(self.stride) == len(self.padding) == len(self.dilation) == n:
            raise self.fail(types, f"expected stride, padding and dilation of {n} axes")
        channels, spatial = self._split(x.shape)
        if w.shape[1] * self.groups != channels or bounds(w.shape[0] % self.groups)[1] != 0:
            raise self.fail(types, f"{channels} channels do not fit w with groups={self.groups}")
        if bias is not None and bias.shape != (w.shape[0],):
            raise self.fail(types, f"expected a bias of shape [{w.shape[0]}]")
        out = tuple(
            map(window_size, spatial, w.shape[2:], self.stride, self.padding, self.dilation)
        )
        if self.layout == "NHWC":
            return x.with_shape((x.shape[0], *out, w.shape[0]))
        return x.with_shape((x.shape[0], w.shape[0], *out))

    def _split(self, shape: tuple[Size, ...]) -> tuple[Size, tuple[Size, ...]]:
        return (shape[-1], shape[1:-1]) if self.layout == "NHWC" else (shape[1], shape[2:])

    def reference(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        kernel, n = w.shape[2:], x.ndim - 2
        shape = self.infer(*(TensorType(f32, a.shape) for a in (x, w))).shape
        if 0 in shape:
            return np.zeros(shape, x.dtype)
        x = np.moveaxis(x, -1, 1) if self.layout == "NHWC" else x
        x = np.pad(x, [(0, 0), (0, 0), *self.padding])
        spans = [d * (k - 1) + 1 for d, k in zip(self.dilation, kernel)]
        windows = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, 2 + n)))
        pick = [slice(None)] * 2 + [slice(None, None, s) for s in self.stride]
        windows = windows[(*pick, *(slice(None, None, d) for d in self.dilation))]
        batch, out = x.shape[0], windows.shape[2 : 2 + n]
        g, per_group = self.groups, w.shape[0] // self.groups
        windows = windows.reshape(batch, g, x.shape[1] // g, *out, *kernel)
        axes = "abcdef"[: 2 * n]
        rule = f"ngi{axes},goi{axes[n:]}->ngo{axes[:n]}"
        grouped = w.reshape(g, per_group, *w.shape[1:])
        y = np.einsum(rule, windows, grouped, optimize=True).reshape(batch, w.shape[0], *out)
        y = y if bias is None else y + bias.reshape(1, -1, *([1] * n))
        return (np.moveaxis(y, 1, -1) if self.layout == "NHWC" else y).astype(x.dtype)


@op("conv_transpose", onnx=("ConvTranspose", 11))
class ConvTranspose(Op):
    """The transpose of ``conv`` with the same attributes.

    Shapes: x [N, I, *spatial], w [I, O/groups, *kernel], bias [O] -> [N, O, *spatial'] with
            spatial' = (spatial - 1) stride - low - high + dilation (kernel - 1) + output_padding + 1
    """

    stride: tuple[int, ...] = (1, 1)
    padding: Pairs = ((0, 0), (0, 0))
    output_padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    layout: str = "NCHW"
    samples = [
        Sample(
            (TensorType(f32, (2, 4, 5, 3)), TensorType(f32, (4, 3, 3, 2)), TensorType(f32, (6,))),
            {"stride": (2, 2), "padding": ((1, 1), (0, 0)), "output_padding": (1, 0), "groups": 2},
        ),
        Sample(
            (TensorType(f32, (2, 5, 3, 4)), TensorType(f32, (4, 3, 3, 2)), TensorType(f32, (6,))),
            {"stride": (2, 1), "padding": ((1, 3), (0, 0)), "groups": 2, "layout": "NHWC"},
        ),
    ]

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        types = (x, w) if bias is None else (x, w, bias)
        same_dtype(self, types)
        if x.rank < 3 or w.rank != x.rank or w.shape[0] != x.shape[self._channels(x.rank)]:
            raise self.fail(types, "expected x[N, I, ...] and w[I, O/groups, ...]")
        if not all(isinstance(s, int) for s in w.shape):
            raise self.fail(types, "expected a w of known sizes")
        if bias is not None and bias.shape != (w.shape[1] * self.groups,):
            raise self.fail(types, f"expected a bias of shape [{w.shape[1] * self.groups}]")
        out = tuple(
            (s - 1) * st - p[0] - p[1] + d * (k - 1) + o + 1
            for s, st, p, d, k, o in zip(
                self._spatial(x.shape), self.stride, self.padding, self.dilation, w.shape[2:],
                self.output_padding,
            )
        )  # fmt: skip
        channels = w.shape[1] * self.groups
        last = self.layout == "NHWC"
        return x.with_shape((x.shape[0], *((*out, channels) if last else (channels, *out))))

    def _channels(self, rank: int) -> int:
        return rank - 1 if self.layout == "NHWC" else 1

    def _spatial(self, shape: tuple[Size, ...]) -> tuple[Size, ...]:
        return shape[1:-1] if self.layout == "NHWC" else shape[2:]

    def reference(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        n, g = x.ndim - 2, self.groups
        out = self._spatial(self.infer(TensorType(f32, x.shape), TensorType(f32, w.shape)).shape)
        x = np.moveaxis(x, -1, 1) if self.layout == "NHWC" else x
        room = [o + p[0] + p[1] for o, p in zip(out, self.padding)]
        y = np.zeros((x.shape[0], w.shape[1] * g, *room), x.dtype)
        grouped = x.reshape(x.shape[0], g, x.shape[1] // g, *x.shape[2:])
        weights = w.reshape(g, -1, *w.shape[1:])
        for offset in cartesian(*map(range, w.shape[2:])):
            part = np.einsum("ngi...,gio->ngo...", grouped, weights[(..., *offset)])
            at = [
                slice(d * k, d * k + (s - 1) * st + 1, st)
                for d, k, s, st in zip(self.dilation, offset, x.shape[2:], self.stride)
            ]
            y[(slice(None), slice(None), *at)] += part.reshape(
                x.shape[0], w.shape[1] * g, *x.shape[2:]
            )
        y = y[(..., *(slice(p[0], p[0] + o) for p, o in zip(self.padding, out)))]
        y = y if bias is None else y + bias.reshape(1, -1, *([1] * n))
        return np.moveaxis(y, 1, -1) if self.layout == "NHWC" else y

    def decompose(self, b: Any, x: Any, w: Any, bias: Any = None) -> Any:
        """Zeros between the elements of x, then ``conv`` with the kernel turned round."""
        n, g = x.rank - 2, self.groups
        kernel, first = w.shape[2:], 1 if self.layout == "NHWC" else 2
        x = _spread(b, x, self.stride, first)
        per_group = w.shape[1]
        grouped = b.reshape(w, shape=(g, w.shape[0] // g, per_group, *kernel))
        turned = b.transpose(grouped, perm=(0, 2, 1, *range(3, 3 + n)))
        turned = b.flip(turned, axes=tuple(range(3, 3 + n)))
        weights = b.reshape(turned, shape=(g * per_group, w.shape[0] // g, *kernel))
        spans = [d * (k - 1) for d, k in zip(self.dilation, kernel)]
        wanted = [
            (s - p[0], s - p[1] + o) for s, p, o in zip(spans, self.padding, self.output_padding)
        ]
        x = _trim(b, x, wanted, first)
        padding = tuple((max(low, 0), max(high, 0)) for low, high in wanted)
        attributes = {
            "stride": (1,) * n, "padding": padding, "dilation": self.dilation, "groups": g,
            "layout": self.layout,
        }  # fmt: skip
        operands = (x, weights) if bias is None else (x, weights, bias)
        return b.conv(*operands, **attributes)


def _spread(b: Any, x: Any, stride: tuple[int, ...], first: int) -> Any:
    """``stride - 1`` zeros after every element but the last of each axis from ``first`` on."""
    for axis, step in enumerate(stride, first):
        if step == 1:
            continue
        shape = x.shape
        wide = b.reshape(x, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
        high = tuple(step - 1 if i == axis + 1 else 0 for i in range(wide.rank))
        wide = b.pad(wide, low=(0,) * wide.rank, high=high, value=0.0)
        total = shape[axis] * step
        x = b.reshape(wide, shape=(*shape[:axis], total, *shape[axis + 1 :]))
        stops = (*shape[:axis], total - step + 1, *shape[axis + 1 :])
        x = b.slice(x, starts=(0,) * x.rank, stops=stops, steps=(1,) * x.rank)
    return x


def _trim(b: Any, x: Any, wanted: list[tuple[int, int]], first: int) -> Any:
    """Cut axes from ``first`` on where a wanted padding is negative."""
    if all(amount >= 0 for pair in wanted for amount in pair):
        return x
    starts, stops = [0] * x.rank, list(x.shape)
    for axis, (low, high) in enumerate(wanted, first):
        starts[axis], stops[axis] = max(-low, 0), x.shape[axis] - max(-high, 0)
    return b.slice(x, starts=tuple(starts), stops=tuple(stops), steps=(1,) * x.rank)

"""Pools, resizing, sampling and moves between space and channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from oarlock.capture.lift.contraction import each
from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Size, Value, i64


def _batched(b: Lifter, x: Value, n: int) -> Value:
    """x with a batch axis before its channels and n spatial axes."""
    return b.reshape(x, shape=(1, *x.shape)) if x.rank == n + 1 else x


def _max_pool(
    n: int, b: Lifter, x: Value, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> Value:  # fmt: skip
    kernel = each(kernel, n)
    y = b.max_pool(
        _batched(b, x, n), kernel=kernel, stride=each(stride or kernel, n),
        padding=tuple((p, p) for p in each(padding, n)), dilation=each(dilation, n),
        ceil_mode=ceil_mode,
    )  # fmt: skip
    return b.fit(y, b.type)


def _max_pool_with_places(
    n: int, b: Lifter, x: Value, kernel: Any, stride: Any = (), padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False,
) -> tuple[Value, Value]:  # fmt: skip
    values = _max_pool(n, b, x, kernel, stride, padding, dilation, ceil_mode)
    kernel = each(kernel, n)
    stride, padding, dilation = (each(v, n) for v in (stride or kernel, padding, dilation))
    out = b.type.shape[-n:]
    reads = []
    for k in range(n):
        starts = b.sub(b.mul(b.iota(size=out[k], dtype=i64), stride[k]), padding[k])
        offsets = b.mul(b.iota(size=kernel[k], dtype=i64), dilation[k])
        reads.append(b.add(b.reshape(starts, shape=(out[k], 1)), offsets))
    return values, b.fit(_largest_places(b, _batched(b, x, n), reads), b.out[1])


def _largest_places(b: Lifter, x: Value, reads: Sequence[Value]) -> Value:
    """Where the first largest element of each window lies, in the flattened spatial axes of x.

    ``reads[k]`` [out, window]: the places of spatial axis k that each window reads; those outside
    are skipped.
    """
    n, sizes = len(reads), x.shape[2:]
    low = b.const(-math.inf if x.dtype.is_float else -(2**62), x.dtype)
    flat: Value = b.const(0, i64)
    for k, places in enumerate(reads):
        axis, last = 2 + 2 * k, b.to(sizes[k] - 1, i64)
        inside = b.minimum(b.maximum(places, 0), last)
        shape = (*places.shape, *[1] * (n - 1 - k))
        x = b.take(x, inside, axis=axis)
        x = b.where(b.reshape(b.eq(inside, places), shape=shape), x, low)
        wide = (*places.shape, *[1] * (2 * (n - 1 - k)))
        flat = b.add(b.mul(flat, b.to(sizes[k], i64)), b.reshape(places, shape=wide))
    out = tuple(places.shape[0] for places in reads)
    window = math.prod(int(places.shape[1]) for places in reads)
    order = (*range(0, 2 * n, 2), *range(1, 2 * n, 2))
    wide = tuple(s for places in reads for s in places.shape)
    flat = b.transpose(b.broadcast_to(flat, shape=wide), perm=order)
    flat = b.reshape(flat, shape=(*out, window))
    x = b.transpose(x, perm=(0, 1, *(2 + i for i in order)))
    x = b.reshape(x, shape=(*x.shape[:2], *out, window))
    at = b.argmax(x, axis=x.rank - 1, keepdims=True)
    flat = b.broadcast_to(flat, shape=(*x.shape[:2], *flat.shape))
    found = b.gather(flat, at, axis=x.rank - 1)
    return b.reshape(found, shape=found.shape[:-1])


def _adaptive_max_pool(n: int, b: Lifter, x: Value, size: Any) -> tuple[Value, Value]:
    """Windows from floor(i S/O) to ceil((i+1) S/O); all are read as wide as the widest."""
    wide = _batched(b, x, n)
    reads = []
    for length, out in zip(wide.shape[2:], size):
        i = b.iota(size=out, dtype=i64)
        starts = b.floor_div(b.mul(i, b.to(length, i64)), out)
        ends = b.floor_div(b.add(b.mul(b.add(i, 1), b.to(length, i64)), out - 1), out)
        widest = _widest(length, out)
        at = b.add(b.reshape(starts, shape=(out, 1)), b.iota(size=widest, dtype=i64))
        within = b.lt(at, b.reshape(ends, shape=(out, 1)))
        reads.append(b.where(within, at, b.const(-1, i64)))
    places = _largest_places(b, wide, reads)
    flat = b.reshape(wide, shape=(*wide.shape[:2], _total(wide.shape[2:])))
    at = b.reshape(places, shape=(*places.shape[:2], _total(size)))
    values = b.gather(flat, at, axis=2)
    return b.fit(values, b.out[0]), b.fit(places, b.out[1])


def _widest(length: Size, out: int) -> int:
    if isinstance(length, int):
        spans = [(i * length // out, -(-(i + 1) * length // out)) for i in range(out)]
        return max(stop - start for start, stop in spans)
    raise NotImplementedError(f"adaptive max pooling of a dynamic size {length}")


def _total(sizes: Sequence[Size]) -> Size:
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def _avg_pool(
    n: int, b: Lifter, x: Value, kernel: Any, stride: Any = (), padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor: Any = None,
) -> Value:  # fmt: skip
    kernel = each(kernel, n)
    y = b.avg_pool(
        _batched(b, x, n), kernel=kernel, stride=each(stride or kernel, n),
        padding=tuple((p, p) for p in each(padding, n)), ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor=divisor or 0,
    )  # fmt: skip
    return b.fit(y, b.type)


def _adaptive_avg_pool(n: int, b: Lifter, x: Value, size: Any) -> Value:
    return b.adaptive_avg_pool(x, size=tuple(size))


for _n in (1, 2, 3):
    lift(f"aten.max_pool{_n}d.default")(partial(_max_pool, _n))
    lift(f"aten.max_pool{_n}d_with_indices.default")(partial(_max_pool_with_places, _n))
    lift(f"aten.adaptive_max_pool{_n}d.default")(partial(_adaptive_max_pool, _n))
    lift(f"aten.avg_pool{_n}d.default")(partial(_avg_pool, _n))
    lift(f"aten.adaptive_avg_pool{_n}d.default")(partial(_adaptive_avg_pool, _n))


def _resize(b: Lifter, x: Value, mode: str, corners: bool, scales: Any, antialias: bool) -> Value:
    size = b.type.shape[2:]
    scales = tuple(float(s or 0.0) for s in scales or ())
    return b.resize(
        x, size=size, mode=mode, align_corners=corners, scales=scales, antialias=antialias
    )


def _resizing(name: str, mode: str, has_corners: bool, antialias: bool = False) -> None:
    def by_list(b: Lifter, x: Value, size: Any, *rest: Any) -> Value:
        corners = bool(rest[0]) if has_corners else False
        return _resize(b, x, mode, corners, rest[-1] if rest else None, antialias)

    def by_number(b: Lifter, x: Value, size: Any, *rest: Any, **options: Any) -> Value:
        corners, scales = (rest[0], rest[1:]) if has_corners else (False, rest)
        scales = scales or tuple(options.values())
        return _resize(b, x, mode, bool(corners), scales, antialias)

    lift(f"aten.{name}.vec")(by_list)
    lift(f"aten.{name}.default")(by_number)


for _n, _linear in ((1, "linear1d"), (2, "bilinear2d"), (3, "trilinear3d")):
    _resizing(f"upsample_nearest{_n}d", "nearest", False)
    _resizing(f"_upsample_nearest_exact{_n}d", "nearest-exact", False)
    _resizing(f"upsample_{_linear}", "linear", True)
_resizing("upsample_bicubic2d", "cubic", True)
_resizing("_upsample_bilinear2d_aa", "linear", True, antialias=True)
_resizing("_upsample_bicubic2d_aa", "cubic", True, antialias=True)

GRID_MODES, GRID_PADDINGS = ("linear", "nearest", "cubic"), ("zeros", "border", "reflection")


@lift("aten.grid_sampler.default", "aten.grid_sampler_2d.default", "aten.grid_sampler_3d.default")
def grid_sampler(
    b: Lifter, x: Value, grid: Value, mode: int = 0, padding: int = 0, corners: bool = False
) -> Value:
    return b.grid_sample(
        x, grid, mode=GRID_MODES[mode], padding_mode=GRID_PADDINGS[padding],
        align_corners=bool(corners),
    )  # fmt: skip


def _shuffle(record: str) -> None:
    def call(b: Lifter, x: Value, factor: int) -> Value:
        head = x.shape[:-3]
        wide = b.reshape(x, shape=(_total(head), *x.shape[-3:]))
        return b.fit(getattr(b, record)(wide, factor=factor), b.type)

    lift(f"aten.{record}.default")(call)


_shuffle("pixel_shuffle")
_shuffle("pixel_unshuffle")


@lift("aten.channel_shuffle.default", "aten.native_channel_shuffle.default")
def channel_shuffle(b: Lifter, x: Value, groups: int) -> Value:
    return b.channel_shuffle(x, groups=groups)

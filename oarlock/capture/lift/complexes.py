"""Complex numbers, which the IR lacks: a last axis of 2 holds the real and the imaginary part.

A lift of this table gets ``Complex`` for complex operands and plain Values for real ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oarlock.capture.lift.registry import LIFTS, Lift, Lifter
from oarlock.ir import DType, Size, Value, f64, i64
from oarlock.ops.shape import full_slice

COMPLEX: dict[str, Lift] = {}
Parts = tuple[Value, Value]


@dataclass(frozen=True)
class Complex:
    """A complex operand, [..., 2]."""

    value: Value

    @property
    def rank(self) -> int:
        return self.value.rank - 1


def complex_lift(*overloads: str) -> Any:
    def register(function: Lift) -> Lift:
        COMPLEX.update(dict.fromkeys(overloads, function))
        return function

    return register


def parts(b: Lifter, z: Any) -> Parts:
    """Real and imaginary part of an operand; a real one has the imaginary part 0."""
    if isinstance(z, Complex):
        return _part(b, z.value, 0), _part(b, z.value, 1)
    if isinstance(z, Value):
        return b.to(z, b.type.dtype), b.full(0, z.shape, b.type.dtype)
    if isinstance(z, complex):
        return b.const(z.real, b.type.dtype), b.const(z.imag, b.type.dtype)
    return b.to(z, b.type.dtype), b.const(0, b.type.dtype)


def _part(b: Lifter, z: Value, k: int) -> Value:
    cut = b.slice(z, **full_slice(z.type, z.rank - 1, k, k + 1))
    return b.reshape(cut, shape=z.shape[:-1])


def join(b: Lifter, re: Value, im: Value) -> Value:
    """[..., 2] of the two parts, of the shape that the result has."""
    shape = b.type.shape[:-1]
    re, im = (x if x.shape == shape else b.broadcast_to(x, shape=shape) for x in (re, im))
    return b.concat(*(b.reshape(x, shape=(*shape, 1)) for x in (re, im)), axis=len(shape))


# Views: the real lift, axes counted without the last.


def _same(name: str) -> None:
    COMPLEX[name] = lambda b, x, *rest, **options: LIFTS[name](b, _plain(x), *rest, **options)


def _plain(x: Any) -> Any:
    return x.value if isinstance(x, Complex) else x


for _name in (
    "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "clone", "contiguous", "detach",
    "alias", "expand", "lift_fresh", "zeros", "zeros_like", "new_zeros", "empty_like", "new_empty",
):  # fmt: skip
    _same(f"aten.{_name}.default")
for _name in ("flatten.using_ints", "squeeze.dim", "unflatten.int", "empty.memory_format"):
    _same(f"aten.{_name}")
_same("aten.squeeze.dims")


def _along_axis(name: str) -> None:
    def call(b: Lifter, x: Complex, dim: int = 0, *rest: Any) -> Value:
        return LIFTS[name](b, x.value, dim % x.rank, *rest)

    COMPLEX[name] = call


_along_axis("aten.slice.Tensor")
_along_axis("aten.select.int")


@complex_lift("aten.permute.default")
def permute(b: Lifter, x: Complex, dims: Any) -> Value:
    return b.transpose(x.value, perm=(*(d % x.rank for d in dims), x.rank))


@complex_lift("aten.transpose.int")
def transpose(b: Lifter, x: Complex, i: int, j: int) -> Value:
    return LIFTS["aten.transpose.int"](b, x.value, i % x.rank, j % x.rank)


# Operators that act on each part alone.


def _by_parts(name: str) -> None:
    def call(b: Lifter, *args: Any, **options: Any) -> Value:
        whole = list(b.out)
        b.out = [t.with_shape(t.shape[:-1]) for t in whole]
        halves = [LIFTS[name](b, *(_half(b, a, k) for a in args), **options) for k in (0, 1)]
        b.out = whole
        return join(b, *halves)

    COMPLEX[name] = call


def _half(b: Lifter, x: Any, k: int) -> Any:
    if isinstance(x, list) and any(isinstance(item, Complex) for item in x):
        return [parts(b, item)[k] for item in x]
    return _part(b, x.value, k) if isinstance(x, Complex) else x


for _name in (
    "neg.default", "sum.default", "sum.dim_IntList", "mean.default", "mean.dim", "cat.default",
    "stack.default", "pad.default", "constant_pad_nd.default", "roll.default", "flip.default",
    "index.Tensor", "index_select.default", "gather.default", "repeat.default", "copy.default",
):  # fmt: skip
    if f"aten.{_name}" in LIFTS:
        _by_parts(f"aten.{_name}")


# Arithmetic.


def _sum(name: str) -> None:
    def call(b: Lifter, x: Any, y: Any, alpha: Any = 1) -> Value:
        if alpha != 1:
            raise NotImplementedError("a scaled sum of complex numbers")
        left, right = parts(b, x), parts(b, y)
        return join(b, *(getattr(b, name)(p, q) for p, q in zip(left, right)))

    for overload in ("Tensor", "Scalar"):
        COMPLEX[f"aten.{name}.{overload}"] = call


_sum("add")
_sum("sub")


def _product(b: Lifter, x: Any, y: Any, multiply: Any) -> Value:
    (p, q), (r, s) = parts(b, x), parts(b, y)
    if not isinstance(y, (Complex, complex)):
        return join(b, multiply(p, r), multiply(q, r))
    re = b.sub(multiply(p, r), multiply(q, s))
    return join(b, re, b.add(multiply(p, s), multiply(q, r)))


@complex_lift("aten.mul.Tensor", "aten.mul.Scalar")
def mul(b: Lifter, x: Any, y: Any) -> Value:
    return _product(b, x, y, b.mul) if isinstance(x, Complex) else _product(b, y, x, b.mul)


@complex_lift("aten.div.Tensor", "aten.div.Scalar")
def div(b: Lifter, x: Any, y: Any) -> Value:
    (p, q), (r, s) = parts(b, x), parts(b, y)
    if not isinstance(y, (Complex, complex)):
        return join(b, b.div(p, r), b.div(q, r))
    size = b.add(b.mul(r, r), b.mul(s, s))
    re = b.div(b.add(b.mul(p, r), b.mul(q, s)), size)
    return join(b, re, b.div(b.sub(b.mul(q, r), b.mul(p, s)), size))


@complex_lift("aten.matmul.default", "aten.mm.default", "aten.bmm.default")
def matmul(b: Lifter, x: Any, y: Any) -> Value:
    (p, q), (r, s) = parts(b, x), parts(b, y)
    if p.rank < 2 or r.rank < 2:
        raise NotImplementedError("a product of complex vectors")
    re = b.sub(b.matmul(p, r), b.matmul(q, s))
    return join(b, re, b.add(b.matmul(p, s), b.matmul(q, r)))


@complex_lift("aten.exp.default")
def exp(b: Lifter, x: Complex) -> Value:
    re, im = parts(b, x)
    size = b.exp(re)
    return join(b, b.mul(size, b.cos(im)), b.mul(size, b.sin(im)))


@complex_lift("aten._conj.default", "aten.conj.default", "aten.conj_physical.default")
def conj(b: Lifter, x: Complex) -> Value:
    re, im = parts(b, x)
    return join(b, re, b.neg(im))


@complex_lift("aten.resolve_conj.default", "aten.resolve_neg.default", "aten.view_as_real.default")
def same(b: Lifter, x: Complex) -> Value:
    return x.value


@complex_lift("aten.view_as_complex.default")
def view_as_complex(b: Lifter, x: Value) -> Value:
    return x


@complex_lift("aten.copy.default")
def copy(b: Lifter, x: Any, source: Any, *rest: Any) -> Value:
    if not isinstance(x, Complex):
        raise NotImplementedError("a copy of complex numbers into real ones")
    return join(b, *parts(b, source))


@complex_lift("aten.real.default")
def real(b: Lifter, x: Complex) -> Value:
    return _part(b, x.value, 0)


@complex_lift("aten.imag.default")
def imag(b: Lifter, x: Complex) -> Value:
    return _part(b, x.value, 1)


@complex_lift("aten.abs.default")
def abs_(b: Lifter, x: Complex) -> Value:
    re, im = parts(b, x)
    return b.sqrt(b.add(b.mul(re, re), b.mul(im, im)))


@complex_lift("aten.angle.default")
def angle(b: Lifter, x: Complex) -> Value:
    re, im = parts(b, x)
    return b.atan2(im, re)


@complex_lift("aten.complex.default")
def complex_(b: Lifter, re: Value, im: Value) -> Value:
    return join(b, re, im)


@complex_lift("aten.polar.default")
def polar(b: Lifter, size: Value, angle: Value) -> Value:
    return join(b, b.mul(size, b.cos(angle)), b.mul(size, b.sin(angle)))


@complex_lift("aten.to.dtype", "aten._to_copy.default", "aten.to.dtype_layout")
def to(b: Lifter, x: Any, *rest: Any, **options: Any) -> Value:
    return b.to(x.value, b.type.dtype) if isinstance(x, Complex) else join(b, *parts(b, x))


# Fourier transforms: products with matrices of roots of unity.


def _roots(b: Lifter, rows: Size, columns: Size, n: Size, sign: float, dtype: DType) -> Parts:
    """Parts of ``exp(sign 2 pi i j k / n)``, [rows, columns], angles reduced before they round."""
    j = b.reshape(b.iota(size=rows, dtype=i64), shape=(rows, 1))
    turns = b.remainder(b.mul(j, b.iota(size=columns, dtype=i64)), b.to(n, i64))
    turn = b.div(b.cast(turns, dtype=f64), b.to(n, f64))
    angle = b.mul(turn, sign * 2 * math.pi)
    return b.cast(b.cos(angle), dtype=dtype), b.cast(b.sin(angle), dtype=dtype)


def _swapped(b: Lifter, x: Value, axis: int) -> Value:
    last = x.rank - 1
    perm = tuple(last if i == axis else axis if i == last else i for i in range(x.rank))
    return x if axis == last else b.transpose(x, perm=perm)


def _scaled(b: Lifter, x: Value, sizes: Sequence[Size], normalization: int) -> Value:
    if normalization == 0:
        return x
    total = b.const(1.0, f64)
    for n in sizes:
        total = b.mul(total, b.to(n, f64))
    total = b.sqrt(total) if normalization == 1 else total
    return b.div(x, b.cast(total, dtype=x.dtype))


def _transform(b: Lifter, z: Parts, axis: int, sign: float) -> Parts:
    re, im = (_swapped(b, x, axis) for x in z)
    n = re.shape[-1]
    cos, sin = _roots(b, n, n, n, sign, re.dtype)
    out = (
        b.sub(b.matmul(re, cos), b.matmul(im, sin)),
        b.add(b.matmul(re, sin), b.matmul(im, cos)),
    )
    return _swapped(b, out[0], axis), _swapped(b, out[1], axis)


def _rows(b: Lifter, x: Value) -> Value:
    return b.reshape(x, shape=(1, *x.shape)) if x.rank == 1 else x


def _r2c(b: Lifter, x: Value, axis: int, onesided: bool) -> Parts:
    x = _swapped(b, x, axis)
    n = x.shape[-1]
    cos, sin = _roots(b, n, n // 2 + 1 if onesided else n, n, -1.0, x.dtype)
    return _swapped(b, b.matmul(x, cos), axis), _swapped(b, b.matmul(x, sin), axis)


def _c2r(b: Lifter, z: Parts, axis: int, n: Size) -> Value:
    """The middle of the spectrum counts twice; its mirror image is not stored."""
    half = n // 2 + 1
    re, im = (
        b.slice(_swapped(b, x, axis), **full_slice(_swapped(b, x, axis).type, x.rank - 1, 0, half))
        for x in z
    )
    cos, sin = _roots(b, half, n, n, 1.0, re.dtype)
    k = b.reshape(b.iota(size=half, dtype=i64), shape=(half, 1))
    twice = b.mul(k, 2)
    ends = b.bit_or(b.eq(k, 0), b.eq(twice, b.to(n, i64)))
    weight = b.where(ends, b.const(1.0, re.dtype), b.const(2.0, re.dtype))
    total = b.sub(b.matmul(re, b.mul(cos, weight)), b.matmul(im, b.mul(sin, weight)))
    return _swapped(b, total, axis)


def _lead(b: Lifter, z: Parts) -> tuple[Parts, int]:
    """Parts of rank 2 or more, and how many axes were added in front."""
    extra = 1 if z[0].rank == 1 else 0
    return (_rows(b, z[0]), _rows(b, z[1])), extra


@complex_lift("aten._fft_r2c.default")
def fft_r2c(b: Lifter, x: Value, dims: Any, normalization: int, onesided: bool) -> Value:
    sizes = [x.shape[d] for d in dims]
    wide = _rows(b, x)
    axes = [d % x.rank + wide.rank - x.rank for d in dims]
    z = _r2c(b, wide, axes[-1], onesided)
    for axis in axes[:-1]:
        z = _transform(b, z, axis, -1.0)
    shape = b.type.shape[:-1]
    return join(b, *(b.reshape(_scaled(b, p, sizes, normalization), shape=shape) for p in z))


@complex_lift("aten._fft_c2c.default")
def fft_c2c(b: Lifter, x: Complex, dims: Any, normalization: int, forward: bool) -> Value:
    sizes = [x.value.shape[d % x.rank] for d in dims]
    z, extra = _lead(b, parts(b, x))
    for d in dims:
        z = _transform(b, z, d % x.rank + extra, -1.0 if forward else 1.0)
    shape = b.type.shape[:-1]
    return join(b, *(b.reshape(_scaled(b, p, sizes, normalization), shape=shape) for p in z))


@complex_lift("aten._fft_c2r.default")
def fft_c2r(b: Lifter, x: Complex, dims: Any, normalization: int, last: Size) -> Value:
    sizes = [*(x.value.shape[d % x.rank] for d in dims[:-1]), last]
    z, extra = _lead(b, parts(b, x))
    for d in dims[:-1]:
        z = _transform(b, z, d % x.rank + extra, 1.0)
    y = _c2r(b, z, dims[-1] % x.rank + extra, last)
    return b.fit(_scaled(b, y, sizes, normalization), b.type)


@complex_lift("aten.stft.default")
def stft(
    b: Lifter, x: Value, n_fft: int, hop: int | None = None, win_length: int | None = None,
    window: Value | None = None, normalized: bool = False, onesided: bool | None = None,
    return_complex: bool | None = None, *rest: Any,
) -> Value:  # fmt: skip
    """Spectra of windows of ``n_fft`` samples, ``hop`` apart: [..., bins, windows]."""
    hop = hop or n_fft // 4
    axis = x.rank - 1
    count = b.type.shape[-2]
    starts = b.reshape(b.mul(b.iota(size=count, dtype=i64), hop), shape=(count, 1))
    frames = b.take(x, b.add(starts, b.iota(size=n_fft, dtype=i64)), axis=axis)
    length = win_length or n_fft
    if window is None:
        window = b.full(1.0, (length,), x.dtype)
    left = (n_fft - length) // 2
    window = b.pad(b.to(window, x.dtype), low=(left,), high=(n_fft - length - left,))
    z = _r2c(b, b.mul(frames, window), frames.rank - 1, onesided is not False)
    scale = 1 if normalized else 0
    done = [_swapped(b, _scaled(b, p, [n_fft], scale), p.rank - 2) for p in z]
    return join(b, *done)


def mark(operands: Any, args: Any) -> Any:
    """Operands with those that stand for complex tensors marked."""
    import torch

    if isinstance(args, torch.Tensor):
        return Complex(operands) if args.is_complex() else operands
    if isinstance(args, (list, tuple)):
        return [mark(o, a) for o, a in zip(operands, args)]
    return operands

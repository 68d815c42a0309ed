"""Pointwise functions that PyTorch does not take apart itself, and integer bit moves."""

from __future__ import annotations

import math
from typing import Any

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import Value


def _pair(b: Lifter, x: Any, y: Any) -> tuple[Value, Value]:
    return b.to(x, b.type.dtype), b.to(y, b.type.dtype)


@lift("aten.erfc.default")
def erfc(b: Lifter, x: Value) -> Value:
    return b.sub(b.const(1.0, b.type.dtype), b.erf(b.to(x, b.type.dtype)))


@lift("aten.signbit.default")
def signbit(b: Lifter, x: Value) -> Value:
    if not x.dtype.is_float:
        return b.full(False, x.shape, b.type.dtype) if x.dtype.is_bool else b.lt(x, 0)
    return _is_negative(b, x)


def _is_negative(b: Lifter, x: Value) -> Value:
    """x is below 0, or -0."""
    return b.bit_or(b.lt(x, 0.0), b.bit_and(b.eq(x, 0.0), b.lt(b.reciprocal(x), 0.0)))


@lift("aten.copysign.Tensor", "aten.copysign.Scalar")
def copysign(b: Lifter, x: Any, y: Any) -> Value:
    x, y = _pair(b, x, y)
    size = b.abs(x)
    return b.where(_is_negative(b, y), b.neg(size), size)


@lift("aten.hypot.default")
def hypot(b: Lifter, x: Any, y: Any) -> Value:
    """Scaled by the larger, so that no square overflows."""
    x, y = (b.abs(v) for v in _pair(b, x, y))
    large, small = b.maximum(x, y), b.minimum(x, y)
    ratio = b.div(small, b.where(b.eq(large, 0.0), b.const(1.0, x.dtype), large))
    scaled = b.mul(large, b.sqrt(b.add(b.mul(ratio, ratio), 1.0)))
    return b.where(b.is_inf(large), large, scaled)


def _skipping_nan(name: str, record: str) -> None:
    def call(b: Lifter, x: Any, y: Any) -> Value:
        x, y = _pair(b, x, y)
        if not x.dtype.is_float:
            return getattr(b, record)(x, y)
        best = getattr(b, record)(x, y)
        return b.where(b.is_nan(x), y, b.where(b.is_nan(y), x, best))

    lift(f"aten.{name}.default")(call)


_skipping_nan("fmax", "maximum")
_skipping_nan("fmin", "minimum")


def _shift(record: str, *overloads: str) -> None:
    lift(*overloads)(lambda b, x, y: getattr(b, record)(*_pair(b, x, y)))


for _record, _name, _dunder in (
    ("shift_left", "bitwise_left_shift", "__lshift__"),
    ("shift_right", "bitwise_right_shift", "__rshift__"),
):
    _shift(
        _record, f"aten.{_name}.Tensor", f"aten.{_name}.Tensor_Scalar",
        f"aten.{_name}.Scalar_Tensor", f"aten.{_dunder}.Tensor", f"aten.{_dunder}.Scalar",
    )  # fmt: skip


@lift("aten.sign.default")
def sign(b: Lifter, x: Value) -> Value:
    return x if x.dtype.is_bool else b.sign(x)


@lift("aten.angle.default")
def angle(b: Lifter, x: Value) -> Value:
    """pi of negative numbers, 0 of others; NaN stays."""
    wide = b.to(x, b.type.dtype)
    zero, pi = b.const(0.0, wide.dtype), b.const(math.pi, wide.dtype)
    return b.where(b.is_nan(wide), wide, b.where(b.lt(wide, 0.0), pi, zero))


@lift("aten.isnan.default")
def isnan(b: Lifter, x: Value) -> Value:
    return b.is_nan(x) if x.dtype.is_float else b.full(False, x.shape, b.type.dtype)


@lift("aten.isinf.default")
def isinf(b: Lifter, x: Value) -> Value:
    return b.is_inf(x) if x.dtype.is_float else b.full(False, x.shape, b.type.dtype)


@lift("aten.isfinite.default")
def isfinite(b: Lifter, x: Value) -> Value:
    return b.is_finite(x) if x.dtype.is_float else b.full(True, x.shape, b.type.dtype)

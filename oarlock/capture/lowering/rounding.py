"""``round(x, digits)`` of numbers known at run time, exactly as Python rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oarlock.capture.lowering.kinds import is_symbolic, kind_of
from oarlock.ir import Value, f32, f64, i64

if TYPE_CHECKING:
    from oarlock.capture.lowering.scalars import Scalars

MOST = 10  # digits: the power of ten has 24 bits, so its products with halves of a double are exact
WHOLE = 2.0**53


def rounded(s: Scalars, x: Any, digits: Any) -> Any:
    """Raises: NotImplementedError for digits that the run decides, and for many of them."""
    if is_symbolic(digits) or abs(digits) > MOST:
        raise NotImplementedError(f"round(x, digits) with more than {MOST} digits, or of the run")
    if kind_of(x) is float:
        return s.number((_to_tens if digits <= 0 else _to_parts)(s, s.value(x, f64), abs(digits)))
    return s.number(s.value(x, i64) if digits >= 0 else _whole_tens(s, s.value(x, i64), -digits))


def _whole_tens(s: Scalars, x: Value, digits: int) -> Value:
    """An integer to a multiple of ``10**digits``; half way to the even one."""
    b, ten = s.b, s.b.const(10**digits, i64)
    low = b.floor_div(x, ten)
    twice = b.mul(b.sub(x, b.mul(low, ten)), 2)
    is_odd = b.eq(b.remainder(low, b.const(2, i64)), 1)
    is_up = b.bit_or(b.gt(twice, ten), b.bit_and(b.eq(twice, ten), is_odd))
    return b.mul(b.add(low, b.cast(is_up, dtype=i64)), ten)


def _halves(s: Scalars, x: Value) -> tuple[Value, Value]:
    """Two doubles of 24 and 29 bits whose sum is ``x``."""
    high = s.b.cast(s.b.cast(x, dtype=f32), dtype=f64)
    return high, s.b.sub(x, high)


def _nearest(s: Scalars, near: Value, high: Value, low: Value, half: float) -> Value:
    """``near``, or its neighbour where ``high + low``, the exact distance to it, is beyond half."""
    b = s.b
    zero = b.const(0.0, f64)
    is_above = b.gt(b.add(b.sub(high, half), low), zero)
    is_below = b.lt(b.add(b.add(high, half), low), zero)
    return b.where(is_above, b.add(near, 1.0), b.where(is_below, b.sub(near, 1.0), near))


def _to_parts(s: Scalars, x: Value, digits: int) -> Value:
    """A double to ``digits`` decimals: the double next to the decimal number next to it."""
    b, ten = s.b, s.b.const(10.0**digits, f64)
    product = b.mul(x, ten)
    near = b.round(product)
    high, low = _halves(s, x)
    near = _nearest(s, near, b.sub(b.mul(high, ten), near), b.mul(low, ten), 0.5)
    is_whole = b.logical_not(b.lt(b.abs(product), WHOLE))  # too large for decimals, or no number
    return b.where(is_whole, x, _signed(s, b.div(near, ten), x))


def _to_tens(s: Scalars, x: Value, digits: int) -> Value:
    """A double to a multiple of ``10**digits``."""
    b, ten = s.b, s.b.const(10.0**digits, f64)
    near = b.round(b.div(x, ten))
    high, low = _halves(s, near)
    far = b.sub(x, b.mul(high, ten))
    near = _nearest(s, near, far, b.neg(b.mul(low, ten)), 10.0**digits / 2)
    is_whole = b.logical_not(b.lt(b.abs(x), WHOLE * 10.0**digits))
    return b.where(is_whole, x, _signed(s, b.mul(near, ten), x))


def _signed(s: Scalars, value: Value, like: Value) -> Value:
    """Zero with the sign of what is rounded."""
    b = s.b
    return b.where(b.eq(value, 0.0), b.mul(like, 0.0), value)

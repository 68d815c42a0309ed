"""What Python's arithmetic refuses, as assertions: a program's own ops give inf, NaN or 0 there."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.lowering.kinds import is_symbolic, kind_of
from oarlock.ir import Value, f64

if TYPE_CHECKING:
    from oarlock.capture.lowering.scalars import Scalars

DIVISIONS = (operator.truediv, operator.floordiv, operator.mod)
POWERS = (operator.pow, pow)
_WHOLE = (int, math.trunc, math.floor, math.ceil, round)
_UNBOUNDED = (math.exp, math.sinh, math.cosh, math.pow)
_OF_MATH = (*_UNBOUNDED, *(getattr(math, n) for n in (
    "sqrt", "log", "log2", "sin", "cos", "tan", "asin", "acos", "atan", "tanh"
)))  # fmt: skip


def before(s: Scalars, func: Callable[..., Any], args: tuple) -> None:
    """Assert that numbers are such that ``func`` of them is no error."""
    if func in DIVISIONS and is_symbolic(args[1]):
        if isinstance(args[1], torch.SymInt) and s.decided(args[1] != 0):
            return
        divisor = s.value(args[1])
        error = error_of(func, kind_of(args[0])(1), kind_of(args[1])(0))
        _require(s, s.b.ne(divisor, s.b.const(0, divisor.dtype)), error)
    elif func in POWERS and len(args) == 2 and not _is_natural(args[1]):
        _power(s, *args)
    elif func in _WHOLE and kind_of(args[0]) is float:
        x = s.value(args[0], f64)
        _require(s, s.b.logical_not(s.b.is_nan(x)), error_of(int, math.nan))
        _require(s, s.b.is_finite(x), error_of(int, math.inf))


def after(s: Scalars, func: Callable[..., Any], args: tuple, result: Any) -> None:
    """Assert that the result of ``func`` is none for which Python has an error."""
    if func not in _OF_MATH and func not in POWERS:
        return
    if kind_of(result) is not float:
        return
    b, found, given = s.b, s.value(result, f64), [s.value(x, f64) for x in args]
    if func in _OF_MATH:
        known = [b.is_nan(x) for x in given]
        _require(
            s, _any(s, b.logical_not(b.is_nan(found)), *known), ValueError("math domain error")
        )
    error: Exception = ValueError("math domain error")
    if func in _UNBOUNDED:
        error = OverflowError("math range error")
    elif func in POWERS:
        error = error_of(operator.pow, 10.0, 400)
    endless = [b.logical_not(b.is_finite(x)) for x in given]
    _require(s, _any(s, b.is_finite(found), b.is_nan(found), *endless), error)


def _power(s: Scalars, base: Any, exponent: Any) -> None:
    b, x, y = s.b, s.value(base, f64), s.value(exponent, f64)
    zero = b.const(0.0, f64)
    if is_symbolic(base) or base == 0:
        error = error_of(operator.pow, 0.0, -1)
        _require(s, b.logical_not(b.bit_and(b.eq(x, zero), b.lt(y, zero))), error)
    if (is_symbolic(base) or base < 0) and kind_of(exponent) is float:
        is_real = _any(s, b.ge(x, zero), b.eq(y, b.floor(y)), b.is_nan(x), b.is_nan(y))
        _require(s, is_real, TypeError("a negative number to a fractional power is complex"))


def _is_natural(exponent: Any) -> bool:
    return not is_symbolic(exponent) and exponent >= 0 and exponent == int(exponent)


def _any(s: Scalars, first: Value, *others: Value) -> Value:
    for other in others:
        first = s.b.bit_or(first, other)
    return first


def _require(s: Scalars, condition: Value, error: Exception) -> None:
    s.b.assert_(condition, message=str(error), kind=type(error).__name__)


def error_of(function: Callable[..., Any], *args: Any) -> Exception:
    """What ``function(*args)`` raises."""
    try:
        function(*args)
    except Exception as error:
        return error.with_traceback(None)
    raise AssertionError(f"{function} of {args} fails")

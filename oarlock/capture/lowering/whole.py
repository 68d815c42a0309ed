"""Integers of the run in 64 bits: Python's grow, so a run ends where one would not fit."""

from __future__ import annotations

import functools

from oarlock.capture.constants import size_in
from oarlock.ir import Builder, Value, f64, i64

NEGATIVE = "a negative power of an integer, which is a float; write float(x) ** n"
TOO_LARGE = "an integer of more than 64 bits, which Python has and the program has not"
MOST = 2.0**63 * (1 - 2.0**-50)  # less than 2**63, also after the roundings of the check
SMALL = 2**31  # steps of counters, which no run makes often enough
FEW = 8  # factors, multiplied one by one


def const(b: Builder, x: int) -> Value:
    """Raises: NotImplementedError for one that does not fit."""
    if not -(2**63) <= x < 2**63:
        raise NotImplementedError(f"{TOO_LARGE}: {x}")
    return b.const(x, i64)


def add(b: Builder, x: Value, y: Value) -> Value:
    """``x + y``, checked but where one is a size or a small constant."""
    return _fits(b, "add", x, y, SMALL)


def sub(b: Builder, x: Value, y: Value) -> Value:
    """``x - y``, checked as a sum is."""
    return _fits(b, "sub", x, y, SMALL)


def mul(b: Builder, x: Value, y: Value) -> Value:
    """``x * y``, checked but by sizes, 0 and 1."""
    return _fits(b, "mul", x, y, 1)


def _fits(b: Builder, name: str, x: Value, y: Value, small: int) -> Value:
    known = [size_in(v) for v in (x, y)]
    op = getattr(b, name)
    if None not in known or any(isinstance(n, int) and abs(n) <= small for n in known):
        return op(x, y)
    require_fit(b, op(b.cast(x, dtype=f64), b.cast(y, dtype=f64)))
    return op(x, y)


def require_fit(b: Builder, x: Value) -> None:
    """A run ends where 64 bits do not hold the float's integer."""
    b.assert_(b.le(b.abs(x), b.const(MOST, f64)), message=TOO_LARGE, kind="Respecialise")


def power(b: Builder, base: Value, exponent: Value | int) -> Value:
    """``base ** exponent``, where the exponent is not negative."""
    if isinstance(exponent, int) and exponent <= FEW:
        one = b.const(1, i64)
        return functools.reduce(lambda total, _: mul(b, total, base), range(exponent), one)
    if isinstance(exponent, int):
        exponent = b.const(exponent, i64)
    else:
        b.assert_(b.ge(exponent, b.const(0, i64)), message=NEGATIVE, kind="Respecialise")
    require_fit(b, b.pow(b.abs(b.cast(base, dtype=f64)), b.cast(exponent, dtype=f64)))
    return _by_squares(b, base, exponent)


def _by_squares(b: Builder, base: Value, exponent: Value) -> Value:
    """A power that fits: only those of -1, 0 and 1 have exponents of 64 and more."""
    one, two = b.const(1, i64), b.const(2, i64)
    odd = b.remainder(exponent, two)
    left, found = b.minimum(exponent, b.add(b.const(62, i64), odd)), one
    for _ in range(6):
        found = b.mul(found, b.where(b.eq(b.remainder(left, two), one), base, one))
        left = b.floor_div(left, two)
        root = b.where(b.gt(left, 0), base, one)
        base = b.mul(root, root)
    return found


CHECKED = {"add": add, "sub": sub, "mul": mul}

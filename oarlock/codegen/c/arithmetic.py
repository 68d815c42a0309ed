"""Prelude functions: sign and rounding, integer division and shifts, float remainders."""

from __future__ import annotations

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.c.functions import function
from oarlock.ir.types import f32


def word(x: L.Expr) -> L.Expr:
    """The bits of a float."""
    return L.bits(x, L.u32 if x.dtype is f32 else L.u64)


def sign_bit(x: L.Expr) -> int:
    """The mask of the sign in ``word(x)``."""
    return 1 << (8 * x.dtype.bytes - 1)


def magnitude(x: L.Expr) -> L.Expr:
    """``|x|`` of a float."""
    return L.bits(word(x) & (sign_bit(x) - 1), x.dtype)


def with_sign(x: L.Expr, of: L.Expr) -> L.Expr:
    """``x`` >= 0 with the sign of another float."""
    return L.bits(word(x) | (word(of) & sign_bit(x)), x.dtype)


@function("abs")
def _abs(_: Body, x: L.Expr) -> L.Expr:
    """Of the least integer: itself."""
    if x.dtype.is_float:
        return magnitude(x)
    return L.select(x < 0, L.unary("neg", x), x) if x.dtype.is_signed else x


@function("sign")
def _sign(_: Body, x: L.Expr) -> L.Expr:
    """-1, 0 or 1; 0 for NaN."""
    zero = L.const(0, x.dtype, x.lanes)
    one = L.select(x > 0, L.const(1, x.dtype, x.lanes), zero)
    if not x.dtype.is_signed:
        return one
    return L.select(x < 0, L.const(-1, x.dtype, x.lanes), one)


@function("round")
def _round(b: Body, x: L.Expr) -> L.Expr:
    """To nearest, ties to even: adding 2**23 (f64: 2**52) leaves no bits for a fraction."""
    big = float(1 << (23 if x.dtype is f32 else 52))
    size = b.let("size", magnitude(x))
    rounded = b.let("rounded", b.let("shifted", size + big) - big)
    return L.select(size < big, with_sign(rounded, x), x)


@function("floor")
def _floor(b: Body, x: L.Expr) -> L.Expr:
    near = b.let("near", L.call("round", x))
    return L.select(near > x, near - 1.0, near)


@function("ceil")
def _ceil(b: Body, x: L.Expr) -> L.Expr:
    near = b.let("near", L.call("round", x))
    up = b.let("up", L.select(near < x, near + 1.0, near))
    return L.select(L.compare("eq", x, x), with_sign(magnitude(up), x), x)


@function("trunc")
def _trunc(b: Body, x: L.Expr) -> L.Expr:
    return with_sign(L.call("floor", magnitude(x)), x)


# ---- integers ------------------------------------------------------------------------------------


def _divides(x: L.Expr, y: L.Expr) -> L.Expr:
    """C may divide: y is not 0, and the quotient exists."""
    fine = L.compare("ne", y, 0)
    return fine & L.compare("ne", y, -1) if x.dtype.is_signed else fine


def _otherwise(x: L.Expr, y: L.Expr) -> L.Expr:
    """The quotient by -1, or 0 by 0."""
    if not x.dtype.is_signed:
        return L.const(0, x.dtype)
    return L.select(L.compare("eq", y, -1), L.unary("neg", x), L.const(0, x.dtype))


def _quotient(b: Body, x: L.Expr, y: L.Expr) -> tuple[L.Var, L.Var]:
    """C's quotient and rest, defined for every y."""
    quotient = b.variable("quotient", _otherwise(x, y))
    rest = b.variable("rest", L.const(0, x.dtype))
    with b.if_(_divides(x, y)):
        b.assign(quotient, L.Call("c_div", (x, y), x.type))
        b.assign(rest, x - quotient * y)
    return quotient, rest


def _signs_differ(rest: L.Expr, y: L.Expr) -> L.Expr:
    return L.compare("ne", rest, 0) & L.compare("ne", L.cast(rest < 0, L.i32), L.cast(y < 0, L.i32))


@function("floor_div", vector=False)
def _floor_div(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """Division of integers by 0 gives 0; of floats x / 0."""
    if x.dtype.is_float:
        return _float_floor_div(b, x, y)
    quotient, rest = _quotient(b, x, y)
    if not x.dtype.is_signed:
        return quotient
    return L.select(_signs_differ(rest, y), quotient - 1, quotient)


@function("trunc_div", vector=False)
def _trunc_div(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    if x.dtype.is_float:
        return L.call("trunc", x / y)
    return _quotient(b, x, y)[0]


@function("remainder", vector=False)
def _remainder(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """Has the sign of y; of integers by 0: 0."""
    if not x.dtype.is_float:
        _, rest = _quotient(b, x, y)
        if not x.dtype.is_signed:
            return rest
        return L.select(_signs_differ(rest, y), rest + y, rest)
    rest = b.let("rest", L.call("fmod", x, y))
    zero = with_sign(L.const(0.0, x.dtype), y)
    moved = L.select(_signs_differ(rest, y), rest + y, rest)
    return L.select(L.compare("eq", rest, 0), zero, moved)


@function("shift_left", vector=False)
def _shift_left(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """0 for counts outside of the type's bits."""
    result = b.variable("result", L.const(0, x.dtype))
    with b.if_(_in_width(x, y)):
        b.assign(result, x << y)
    return result


@function("shift_right", vector=False)
def _shift_right(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """The sign in every bit for counts outside of the type's bits."""
    over = L.const(0, x.dtype)
    if x.dtype.is_signed:
        over = L.select(x < 0, L.const(-1, x.dtype), over)
    result = b.variable("result", over)
    with b.if_(_in_width(x, y)):
        b.assign(result, x >> y)
    return result


def _in_width(x: L.Expr, y: L.Expr) -> L.Expr:
    below = y < 8 * x.dtype.bytes
    return (y >= 0) & below if x.dtype.is_signed else below


# ---- float remainders ----------------------------------------------------------------------------


def _float_floor_div(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """As numpy: from the exact rest, so that the quotient is never one too many."""
    rest = b.let("rest", L.call("fmod", x, y))
    exact = b.let("exact", (x - rest) / y)
    lower = b.let("lower", L.select(_signs_differ(rest, y), exact - 1.0, exact))
    down = b.let("down", L.call("floor", lower))
    near = L.select(lower - down > 0.5, down + 1.0, down)
    whole = L.select(L.compare("eq", lower, 0), with_sign(L.const(0.0, x.dtype), x / y), near)
    return L.select(L.compare("eq", y, 0), x / y, whole)


@function("fmod", vector=False)
def _fmod(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """Exact for floats, by long division; has the sign of x.  Of integers by 0: 0."""
    if not x.dtype.is_float:
        return _quotient(b, x, y)[1]
    a, d = b.variable("a", magnitude(x)), b.let("d", magnitude(y))
    top = float("inf")
    is_number = (a < top) & (d > 0.0)
    result = b.variable("result", L.const(float("nan"), x.dtype))
    with b.if_(is_number):
        with b.while_(a >= d):
            _subtract_multiple(b, a, d)
        b.assign(result, with_sign(a, x))
    return result


def _subtract_multiple(b: Body, a: L.Var, d: L.Expr) -> None:
    """``a -= d * 2**k`` for the largest k with d * 2**k <= a: exact."""
    half_top = 2.0 ** (126 if a.dtype is f32 else 1022)
    step = b.variable("step", d)
    with b.while_((step < half_top) & (step * 2.0 <= a)):
        b.assign(step, step * 2.0)
    b.assign(a, a - step)


@function("pow_int", vector=False)
def _pow_int(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """By squaring; wraps.  A negative exponent truncates: 0, or a power of 1 or -1."""
    result = b.variable("result", L.const(1, x.dtype))
    base = b.variable("base", x)
    count = b.variable("count", y)
    if x.dtype.is_signed:
        with b.if_(y < 0):
            is_unit = L.compare("eq", x, 1) | L.compare("eq", x, -1)
            b.assign(base, L.select(is_unit, x, L.const(0, x.dtype)))
            b.assign(count, y & 1)
            with b.if_(L.unary("not", is_unit)):
                b.assign(count, L.const(1, x.dtype))
    with b.while_(L.compare("ne", count, 0)):
        with b.if_(L.compare("ne", count & 1, 0)):
            b.assign(result, result * base)
        b.assign(base, base * base)
        b.assign(count, count >> 1)
    return result


__all__ = ["magnitude", "sign_bit", "with_sign", "word"]

"""Mathematical functions of f32 that inner loops call; the others go through f64.

Worst ULP measured on a million arguments each: exp 1.0, exp2 1.0, expm1 1.6, log 0.9, log1p 1.5,
tanh 1.3, erf 1.1, sin and cos 1.5; the bounds are tested in tests/codegen/test_math.py.
Source: Cephes (exp), FreeBSD msun (log), N. Juffa (erf).
"""

from __future__ import annotations

import math

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.c.arithmetic import magnitude, with_sign
from oarlock.codegen.c.functions import function
from oarlock.codegen.c.math_f64 import INFINITY, NAN, choose, horner, like, reduced, scale
from oarlock.ir.types import f32, f64

MAGIC = 1.5 * 2.0**23
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
_EXP = [
    1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
    5.0000001201e-1,
]  # fmt: skip


def _clamp(b: Body, x: L.Expr, low: float, high: float) -> L.Expr:
    """NaN stays NaN."""
    return b.let("clamped", L.maximum(like(x, low), L.minimum(like(x, high), x)))


def _whole(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr]:
    shifted = b.let("shifted", x + MAGIC)
    number = L.bits(shifted, L.i32) - L.bits(like(x, MAGIC), L.i32)
    return b.let("n", shifted - MAGIC), b.let("k", number)


@function("exp", f32)
def _exp(b: Body, x: L.Expr) -> L.Expr:
    x = _clamp(b, x, -104.0, 89.0)
    n, k = _whole(b, x * (1 / math.log(2)))
    r = b.let("r", (x - n * LN2_HIGH) - n * LN2_LOW)
    p = b.let("p", (r * r * horner(r, _EXP) + r) + 1.0)
    return scale(p, n, k)


@function("exp2", f32)
def _exp2(b: Body, x: L.Expr) -> L.Expr:
    x = _clamp(b, x, -151.0, 129.0)
    n, k = _whole(b, x)
    r = b.let("r", (x - n) * math.log(2))
    return scale((r * r * horner(r, _EXP) + r) + 1.0, n, k)


@function("expm1", f32)
def _expm1(b: Body, x: L.Expr) -> L.Expr:
    x = _clamp(b, x, -26.0, 89.0)
    n, k = _whole(b, x * (1 / math.log(2)))
    r = b.let("r", (x - n * LN2_HIGH) - n * LN2_LOW)
    p = b.let("p", r + r * r * horner(r, _EXP))
    power = b.let("power", L.bits((k + 126) << 23, f32))
    result = ((power - 0.5) + power * p) * 2.0
    result = L.select(L.compare("eq", n, 0.0), p, result)
    return L.select(L.compare("eq", x, 0.0), x, result)


_LOG = [0.24279078841, 0.28498786688, 0.40000972152, 0.66666662693]


def _split(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr]:
    """``x == m * 2**k`` with m in [sqrt(1/2), sqrt(2)); k as f32, ``m - 1``."""
    tiny = x < 2.0**-126
    w = b.let("w", L.bits(L.select(tiny, x * 2.0**25, x), L.u32))
    moved = b.let("moved", w + (0x3F800000 - 0x3F3504F3))
    exponent = L.cast(L.bits(moved >> 23, L.i32) - 127, f32)
    k = exponent - L.select(tiny, like(x, 25.0), like(x, 0.0))
    m = L.bits((moved & 0x007FFFFF) + 0x3F3504F3, f32)
    return b.let("k", k), b.let("f", m - 1.0)


@function("log", f32)
def _log(b: Body, x: L.Expr) -> L.Expr:
    k, f = _split(b, x)
    s = b.let("s", f / (f + 2.0))
    z = b.let("z", s * s)
    half = b.let("half", f * f * 0.5)
    tail = s * (half + z * horner(z, _LOG))
    result = k * 0.693138122559 - ((half - (tail + k * 9.05800061445e-06)) - f)
    result = L.select(x < INFINITY, result, x)
    result = L.select(L.compare("eq", x, 0.0), like(x, -INFINITY), result)
    return L.select(x < 0.0, like(x, NAN), result)


@function("log1p", f32)
def _log1p(b: Body, x: L.Expr) -> L.Expr:
    u = b.let("u", x + 1.0)
    lost = L.select(x < u, x - (u - 1.0), 1.0 - (u - x))
    log = b.let("log", L.call("log", u))
    regular = (x < INFINITY) & (x > -1.0)
    result = L.select(regular, log + lost / u, log)
    return L.select(magnitude(x) < 2.0**-25, x, result)


_TANH = [
    -5.70498872745e-3,
    2.06390887954e-2,
    -5.37397155531e-2,
    1.33314422036e-1,
    -3.33332819422e-1,
]


@function("tanh", f32)
def _tanh(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    z = b.let("z", a * a)
    small = a + a * z * horner(z, _TANH)
    e = L.call("exp", L.minimum(like(x, 10.0), a) * 2.0)
    return with_sign(L.select(a >= 0.625, 1.0 - 2.0 / (e + 1.0), small), x)


_ERF = [
    -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1,
]  # fmt: skip
_LOG_ERFC = [
    -1.72853470e-5, 3.83197126e-4, -3.88396438e-3, 2.42546219e-2, -1.06777877e-1, -6.34846687e-1,
    -1.28717512e-1,
]  # fmt: skip


@function("erf", f32)
def _erf(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", L.minimum(like(x, 4.0), magnitude(x)))
    z = b.let("z", a * a)
    small = a + a * horner(z, _ERF)
    tail = b.let("tail", horner(a, _LOG_ERFC) * a - a)
    return with_sign(L.select(a > 0.927734375, 1.0 - L.call("exp", tail), small), x)


_SIN = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1]
_COS = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2]


def _sin_cos(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr, L.Expr]:
    r, quadrant = reduced(b, L.cast(x, f64))
    r = b.let("angle", L.cast(r, f32))
    z = b.let("z", r * r)
    sin = b.let("sin_r", r + r * z * horner(z, _SIN))
    cos = b.let("cos_r", 1.0 - (z * 0.5 - z * z * horner(z, _COS)))
    return sin, cos, b.let("q", L.cast(quadrant, L.u32))


@function("sin", f32)
def _sin(b: Body, x: L.Expr) -> L.Expr:
    return L.select(L.compare("eq", x, 0.0), x, choose(*_sin_cos(b, x)))


@function("cos", f32)
def _cos(b: Body, x: L.Expr) -> L.Expr:
    sin, cos, quadrant = _sin_cos(b, x)
    return choose(sin, cos, b.let("next", quadrant + 1))

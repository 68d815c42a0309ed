"""Mathematical functions of f64, at most 4 ULP unless stated; the f32 ones without a definition in
``math_f32`` go through these and are within 0.51 ULP.

Measured (tests/codegen/test_math.py) against 60-digit arithmetic on random and special arguments.
Source: polynomials and reductions after FreeBSD msun (fdlibm); erf fitted by Chebyshev approximation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from oarlock.codegen import loops as L
from oarlock.codegen.body import Body
from oarlock.codegen.c.arithmetic import magnitude, sign_bit, with_sign, word
from oarlock.codegen.c.functions import function
from oarlock.ir.types import f64

LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42fefp-1"), float.fromhex("0x1.473de6af278edp-34")
LOG2_E, LOG10_E = 1 / math.log(2), 1 / math.log(10)
LOG10_2_HIGH = float.fromhex("0x1.34413509p-2")
LOG10_2_LOW = float.fromhex("0x1.ef3fde623e256p-35")
MAGIC = 1.5 * 2.0**52  # adding it leaves a whole number in the low bits
PI_HIGH, PI_LOW = math.pi, 1.2246467991473532e-16
INFINITY, NAN = float("inf"), float("nan")


def horner(x: L.Expr, coefficients: Sequence[float]) -> L.Expr:
    """A polynomial, highest power first."""
    total = L.const(coefficients[0], x.dtype, x.lanes)
    for c in coefficients[1:]:
        total = total * x + c
    return total


def any_of(condition: L.Expr) -> L.Expr:
    """Whether a condition holds in some lane."""
    if condition.lanes == 1:
        return condition
    return L.Call("any", (condition,), L.CType(L.bool_))


def like(x: L.Expr, value: float) -> L.Expr:
    """A constant of the type of ``x``."""
    return L.const(value, x.dtype, x.lanes)


def scale(x: L.Expr, n: L.Expr, k: L.Expr) -> L.Expr:
    """``x * 2**n``, rounded once; k is n as an integer."""
    return L.Call("scaled", (x, n, k), x.type)


def _whole(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr]:
    """The nearest whole number as f64 and as i64, for |x| < 2**50."""
    shifted = b.let("shifted", x + MAGIC)
    number = L.bits(shifted, L.i64) - L.bits(like(x, MAGIC), L.i64)
    return b.let("n", shifted - MAGIC), b.let("k", number)


_EXPM1 = [1 / math.factorial(k) for k in range(14, 0, -1)]


def _clamp(b: Body, x: L.Expr, low: float, high: float) -> L.Expr:
    """NaN stays NaN."""
    return b.let("clamped", L.maximum(like(x, low), L.minimum(like(x, high), x)))


@function("exp", f64)
def _exp(b: Body, x: L.Expr) -> L.Expr:
    x = _clamp(b, x, -750.0, 711.0)
    n, k = _whole(b, x * LOG2_E)
    r = b.let("r", (x - n * LN2_HIGH) - n * LN2_LOW)
    p = b.let("p", horner(r, _EXPM1) * r + 1.0)
    return scale(p, n, k)


@function("exp2", f64)
def _exp2(b: Body, x: L.Expr) -> L.Expr:
    x = _clamp(b, x, -1080.0, 1026.0)
    n, k = _whole(b, x)
    r = b.let("r", (x - n) * math.log(2))
    return scale(horner(r, _EXPM1) * r + 1.0, n, k)


@function("expm1", f64)
def _expm1(b: Body, x: L.Expr) -> L.Expr:
    x = _clamp(b, x, -60.0, 709.9)
    n, k = _whole(b, x * LOG2_E)
    r = b.let("r", (x - n * LN2_HIGH) - n * LN2_LOW)
    p = b.let("p", horner(r, _EXPM1) * r)
    k = b.let("less", k - 1)  # 2**1024 is out of range, 2 * 2**1023 is not
    power = b.let("power", L.bits((k + 1023) << 52, f64))
    result = ((power - 0.5) + power * p) * 2.0
    return L.select(L.compare("eq", n, 0.0), p, result)


_LOG = [
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
    2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
    6.666666666666735130e-01,
]  # fmt: skip


def _split(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr]:
    """``x == m * 2**k`` with m in [sqrt(1/2), sqrt(2)); k as f64, ``m - 1``."""
    tiny = x < 2.0**-1022
    w = b.let("w", L.bits(L.select(tiny, x * 2.0**54, x), L.u64))
    moved = b.let("moved", w + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD))
    exponent = L.cast(moved >> 52, L.i64) - 1023
    k = L.cast(exponent, f64) - L.select(tiny, like(x, 54.0), like(x, 0.0))
    m = L.bits((moved & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD, f64)
    return b.let("k", k), b.let("f", m - 1.0)


def _log_of(b: Body, f: L.Expr) -> tuple[L.Expr, L.Expr]:
    """``log(1 + f)`` as ``f - rest``: (rest without the product, s * (...))."""
    s = b.let("s", f / (f + 2.0))
    z = b.let("z", s * s)
    half = b.let("half", f * f * 0.5)
    return half, b.let("tail", s * (half + z * horner(z, _LOG)))


def _edges(b: Body, x: L.Expr, result: L.Expr) -> L.Expr:
    """log of 0, of negative numbers, of inf and NaN."""
    result = L.select(x < INFINITY, result, x)
    result = L.select(L.compare("eq", x, 0.0), like(x, -INFINITY), result)
    return L.select(x < 0.0, like(x, NAN), result)


@function("log", f64)
def _log(b: Body, x: L.Expr) -> L.Expr:
    k, f = _split(b, x)
    half, tail = _log_of(b, f)
    return _edges(b, x, k * LN2_HIGH - ((half - (tail + k * LN2_LOW)) - f))


@function("log2", f64)
def _log2(b: Body, x: L.Expr) -> L.Expr:
    k, f = _split(b, x)
    half, tail = _log_of(b, f)
    high = b.let("high", L.bits(L.bits(f - half, L.u64) & 0xFFFFFFFF00000000, f64))
    low = b.let("low", ((f - high) - half) + tail)
    first, rest = float.fromhex("0x1.7154764p+0"), float.fromhex("0x1.2b82fe1777d10p-28")
    return _edges(b, x, (high * first + k) + ((low + high) * rest + low * first))


@function("log10", f64)
def _log10(b: Body, x: L.Expr) -> L.Expr:
    k, f = _split(b, x)
    half, tail = _log_of(b, f)
    log = b.let("log", f - (half - tail))
    return _edges(b, x, k * LOG10_2_HIGH + (k * LOG10_2_LOW + log * LOG10_E))


@function("log1p", f64)
def _log1p(b: Body, x: L.Expr) -> L.Expr:
    u = b.let("u", x + 1.0)
    lost = L.select(x < u, x - (u - 1.0), 1.0 - (u - x))
    small = magnitude(x) < 2.0**-54
    result = L.call("log", u) + lost / u
    regular = (x < INFINITY) & (x > -1.0)
    return L.select(small, x, L.select(regular, result, L.call("log", u)))


# ---- hyperbolic ----------------------------------------------------------------------------------


@function("sinh", f64)
def _sinh(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    t = b.let("t", L.call("expm1", a))
    root = b.let("root", L.call("exp", a * 0.5))
    small = (t + t / (t + 1.0)) * 0.5
    return L.select(
        L.compare("eq", x, x), with_sign(L.select(a < 700.0, small, root * 0.5 * root), x), x
    )


@function("cosh", f64)
def _cosh(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    e = b.let("e", L.call("exp", a))
    root = b.let("root", L.call("exp", a * 0.5))
    return L.select(a < 700.0, e * 0.5 + 0.5 / e, root * 0.5 * root)


@function("tanh", f64)
def _tanh(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    t = b.let("t", L.call("expm1", L.minimum(like(x, 22.0), a) * 2.0))
    return with_sign(t / (t + 2.0), x)


@function("asinh", f64)
def _asinh(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    s = b.let("s", a * a)
    small = L.call("log1p", a + s / (L.call("sqrt", s + 1.0) + 1.0))
    large = L.call("log", a) + math.log(2)
    return with_sign(L.select(a < 2.0**28, small, large), x)


@function("acosh", f64)
def _acosh(b: Body, x: L.Expr) -> L.Expr:
    t = b.let("t", x - 1.0)
    small = L.call("log1p", t + L.call("sqrt", t * 2.0 + t * t))
    large = L.call("log", x) + math.log(2)
    return L.select(x < 2.0**28, small, large)


@function("atanh", f64)
def _atanh(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    return with_sign(L.call("log1p", a * 2.0 / (1.0 - a)) * 0.5, x)


# ---- trigonometric -------------------------------------------------------------------------------

_SIN = [
    1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
    -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01,
]  # fmt: skip
_COS = [
    -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07,
    2.48015872894767294178e-05, -1.38888888888741095749e-03, 4.16666666666666019037e-02,
]  # fmt: skip
_HALF_PI = (1.57079632673412561417, 6.07710050630396597660e-11, 2.02226624871116645580e-21,
            8.47842766036889956997e-32)  # fmt: skip
LARGE = 1e6  # above it the reduction needs more bits of pi


def reduced(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr]:
    """``x - k * pi/2`` in [-pi/4, pi/4], and k modulo 4 as u64."""
    shifted = b.let("shifted", x * (2 / math.pi) + MAGIC)
    n = b.let("n", shifted - MAGIC)
    rest = x
    for part in _HALF_PI:
        rest = b.let("part", rest - n * part)
    r = b.variable("r", rest)
    k = b.variable("k", L.bits(shifted, L.u64))
    large = b.let("large", L.compare("lt", magnitude(x), LARGE))
    not_large = L.unary("not", large)
    with b.if_(any_of(not_large)):
        b.assign(r, L.select(large, r, L.call("large_rest", x)))
        whole = L.bits(L.call("large_quadrant", x) + MAGIC, L.u64)
        b.assign(k, L.select(large, k, whole))
    return r, b.let("quadrant", k & 3)


def _sin_cos(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr, L.Expr]:
    r, quadrant = reduced(b, x)
    z = b.let("z", r * r)
    sin = b.let("sin_r", r + r * z * horner(z, _SIN))
    half = b.let("half", z * 0.5)
    w = b.let("w", 1.0 - half)
    cos = b.let("cos_r", w + ((1.0 - w - half) + z * z * horner(z, _COS)))
    return sin, cos, quadrant


def choose(sin: L.Expr, cos: L.Expr, quadrant: L.Expr) -> L.Expr:
    """The sine of an angle of which the reduced parts are given."""
    value = L.select(L.compare("eq", quadrant & 1, 0), sin, cos)
    shift = 8 * sin.dtype.bytes - 2
    return L.bits(word(value) ^ ((quadrant & 2) << shift), sin.dtype)


@function("sin", f64)
def _sin(b: Body, x: L.Expr) -> L.Expr:
    sin, cos, quadrant = _sin_cos(b, x)
    return L.select(L.compare("eq", x, 0.0), x, choose(sin, cos, quadrant))


@function("cos", f64)
def _cos(b: Body, x: L.Expr) -> L.Expr:
    sin, cos, quadrant = _sin_cos(b, x)
    return choose(sin, cos, b.let("next", quadrant + 1))


@function("tan", f64)
def _tan(b: Body, x: L.Expr) -> L.Expr:
    sin, cos, quadrant = _sin_cos(b, x)
    odd = b.let("odd", L.compare("eq", quadrant & 1, 1))
    result = L.select(odd, L.unary("neg", cos), sin) / L.select(odd, sin, cos)
    return L.select(L.compare("eq", x, 0.0), x, result)


_ATAN = [
    1.62858201153657823623e-02, -3.65315727442169155270e-02, 4.97687799461593236017e-02,
    -5.83357013379057348645e-02, 6.66107313738753120669e-02, -7.69187620504482999495e-02,
    9.09088713343650656196e-02, -1.11111104054623557880e-01, 1.42857142725034663711e-01,
    -1.99999999998764832476e-01, 3.33333333333329318027e-01,
]  # fmt: skip
_ATAN_OF = (  # from which argument on: atan there, in two parts
    (0.4375, 0.5, 4.63647609000806093515e-01, 2.26987774529616870924e-17),
    (0.6875, 1.0, 7.85398163397448278999e-01, 3.06161699786838301793e-17),
    (1.1875, 1.5, 9.82793723247329054082e-01, 1.39033110312309984516e-17),
)


@function("atan", f64)
def _atan(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    top, bottom, high, low = a, like(x, 1.0), like(x, 0.0), like(x, 0.0)
    for start, c, first, second in _ATAN_OF:
        beyond = b.let("beyond", a >= start)
        top = L.select(beyond, a - c, top)
        bottom = L.select(beyond, a * c + 1.0, bottom)
        high, low = L.select(beyond, like(x, first), high), L.select(beyond, like(x, second), low)
    beyond = b.let("beyond", a >= 2.4375)
    top, bottom = L.select(beyond, like(x, -1.0), top), L.select(beyond, a, bottom)
    high = L.select(beyond, like(x, PI_HIGH / 2), high)
    low = L.select(beyond, like(x, PI_LOW / 2), low)
    t = b.let("t", top / bottom)
    z = b.let("z", t * t)
    high = b.let("high", high)
    result = high - ((t * z * horner(z, _ATAN) - low) - t)
    return L.select(L.compare("eq", x, x), with_sign(result, x), x)


@function("atan2", f64)
def _atan2(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    """The angle of (y, x) in the order of C: the first argument is the ordinate."""
    a, c = b.let("a", magnitude(x)), b.let("c", magnitude(y))
    equal = L.compare("eq", a, c)
    edge = equal & (L.compare("eq", a, 0.0) | L.compare("eq", a, INFINITY))
    at_edge = L.select(L.compare("eq", a, 0.0), like(x, 0.0), like(x, PI_HIGH / 4))
    angle = b.let("angle", L.select(edge, at_edge, L.call("atan", a / c)))
    is_left = L.compare("ne", word(y) & sign_bit(y), 0)
    turned = L.select(is_left, PI_HIGH - (angle - PI_LOW), angle)
    nan = L.compare("ne", x, x) | L.compare("ne", y, y)
    return L.select(nan, like(x, NAN), with_sign(turned, x))


@function("asin", f64)
def _asin(b: Body, x: L.Expr) -> L.Expr:
    return L.call("atan", x / L.call("sqrt", (1.0 - x) * (x + 1.0)))


@function("acos", f64)
def _acos(b: Body, x: L.Expr) -> L.Expr:
    return L.call("atan", L.call("sqrt", (1.0 - x) / (x + 1.0))) * 2.0


# ---- erf, gamma, pow -----------------------------------------------------------------------------

_ERF = [
    5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08,
    -1.6350312701054695e-07, 1.6461000484121368e-06, -1.4925595266831182e-05,
    0.0001205533111164271, -0.000854832698083379, 0.0052239776248180145, -0.026866170645076792,
    0.11283791670954879, -0.3761263890318375, 1.1283791670955126,
]  # fmt: skip
_ERFC_1_TO_2 = [
    9.554796082627911e-12, -2.8605438668138976e-11, 2.3567233764665185e-12, 3.5149265008525193e-10,
    -2.7601285522035914e-09, 1.5027978975747895e-08, -6.190410486284837e-08, 1.6981996339544047e-07,
    3.422951384908558e-08, -4.423082114055607e-06, 3.680539059551572e-05, -0.00019713177813035122,
    0.0006295812459789906, 0.0012092420392836793, -0.04227024444636872, 0.4681795920385405,
]  # fmt: skip
_ERFC_2_TO_6 = [
    -6.105727405540285e-15, 2.705271790628334e-15, 9.375950129667616e-14, -3.7445810385335845e-13,
    7.711630852726389e-13, 2.9574888169589946e-13, -1.2174826928596948e-11, 6.470553466991225e-11,
    -1.8646927759685387e-10, 7.349747885407469e-11, 2.5353627870636267e-09, -1.5840748101543556e-08,
    4.7939844585511956e-08, 1.1240282536410184e-08, -1.0172708469266995e-06, 5.915637396413073e-06,
    -1.243025638972504e-05, -7.918369000296293e-05, 0.000905926898512252, -0.0032048013171039388,
    -0.023826556739807006, 0.5370034535441699,
]  # fmt: skip


@function("erfc_tail", f64)
def _erfc_tail(b: Body, x: L.Expr) -> L.Expr:
    """``erfc(x)`` for x >= 1; 0 above 6."""
    a = b.let("a", L.minimum(like(x, 6.0), x))
    inverse = b.let("inverse", 1.0 / a)
    near = horner(b.let("u", inverse * 4.0 - 3.0), _ERFC_1_TO_2)
    far = horner(b.let("v", (inverse - 1 / 3) * 6.0), _ERFC_2_TO_6)
    value = L.call("exp", L.unary("neg", a * a)) * inverse * L.select(a < 2.0, near, far)
    return L.select(x > 6.0, like(x, 0.0), value)


@function("erf", f64)
def _erf(b: Body, x: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    small = x * horner(b.let("z", x * x), _ERF)
    large = with_sign(1.0 - L.call("erfc_tail", L.maximum(a, like(x, 1.0))), x)
    return L.select(a >= 1.0, large, small)


_GILES_SMALL = [
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
    -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
]  # fmt: skip
_GILES_LARGE = [
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
    -0.0076224613, 0.00943887047, 1.00167406, 2.83297682,
]  # fmt: skip


@function("erfinv", f64)
def _erfinv(b: Body, x: L.Expr) -> L.Expr:
    """Two steps of Newton from the estimate of Giles (2010); near +-1 as exact as x allows."""
    w = b.let("w", L.unary("neg", L.call("log1p", L.unary("neg", x * x))))
    small = horner(b.let("u", w - 2.5), _GILES_SMALL)
    large = horner(b.let("v", L.call("sqrt", w) - 3.0), _GILES_LARGE)
    y = b.let("y", L.select(w < 5.0, small, large) * x)
    rest = b.let("one_less", 1.0 - magnitude(x))
    for _ in range(2):
        a = b.let("a", magnitude(y))
        tail = L.call("erfc_tail", L.maximum(a, like(x, 1.0)))
        far = with_sign(magnitude(rest - tail), x) * _sign_of(rest - tail)
        error = L.select(a >= 1.0, far, L.call("erf", y) - x)
        slope = L.call("exp", L.unary("neg", y * y)) * (2 / math.sqrt(math.pi))
        step = b.let("step", error / slope)
        y = b.let("y", L.select(a < 5.9, y - step / (1.0 + y * step), y))
    y = L.select(L.compare("eq", magnitude(x), 1.0), with_sign(like(x, INFINITY), x), y)
    return L.select(L.compare("lt", magnitude(x), 2.0**-30), x * (math.sqrt(math.pi) / 2), y)


def _sign_of(x: L.Expr) -> L.Expr:
    return L.select(x < 0.0, like(x, -1.0), like(x, 1.0))


_STIRLING = [
    0.00641025641025641, -0.0019175269175269176, 0.0008417508417508417, -0.0005952380952380953,
    0.0007936507936507937, -0.002777777777777778, 0.08333333333333333,
]  # fmt: skip


@function("lgamma", f64, vector=False)
def _lgamma(b: Body, x: L.Expr) -> L.Expr:
    """``log |gamma(x)|``; absolute error 1e-14 + 4 ULP: relative only away from its zeros."""
    is_low = b.let("is_low", x < 0.5)
    y = b.variable("y", L.select(is_low, 1.0 - x, x))
    shift = b.variable("product", like(x, 1.0))
    with b.while_(y < 10.0):
        b.assign(shift, shift * y)
        b.assign(y, y + 1.0)
    inverse = b.let("inverse", 1.0 / y)
    series = inverse * horner(b.let("z", inverse * inverse), _STIRLING)
    log = (y - 0.5) * (L.call("log", y) - 1.0) + (math.log(2 * math.pi) / 2 - 0.5)
    value = b.let("value", (log + series) - L.call("log", shift))
    value = b.let("regular", L.select(y < INFINITY, value, y))
    whole = b.let("whole", L.call("round", x))
    sine = L.call("sin", (x - whole) * math.pi)
    mirrored = L.call("log", math.pi / magnitude(sine)) - value
    is_pole = L.compare("eq", x, whole) & (x <= 0.0)
    result = L.select(is_low, mirrored, value)
    return L.select(is_pole | (magnitude(x) >= INFINITY), like(x, INFINITY), result)


def _two_product(b: Body, x: L.Expr, y: L.Expr) -> tuple[L.Expr, L.Expr]:
    """``x * y`` as a sum of two numbers (Dekker), for moderate x and y."""
    product = b.let("product", x * y)
    halves = []
    for v in (x, y):
        high = b.let("high", L.bits(L.bits(v, L.u64) & 0xFFFFFFFFF8000000, f64))
        halves += [high, b.let("low", v - high)]
    a, c, d, e = halves
    rest = ((a * d - product) + a * e + c * d) + c * e
    return product, b.let("rest", rest)


def _log_pair(b: Body, x: L.Expr) -> tuple[L.Expr, L.Expr]:
    """``log(x)`` for x > 0 as a sum of two numbers, to about 2**-62."""
    k, f = _split(b, x)
    g = b.let("g", f + 2.0)
    s = b.let("s", f / g)
    product, low = _two_product(b, s, g)
    g_low = b.let("g_low", f - (g - 2.0))
    s_low = b.let("s_low", (((f - product) - low) - s * g_low) / g)
    z = b.let("z", s * s)
    cube, cube_low = _two_product(b, s, z)
    series = horner(z, [2 / (2 * i + 1) for i in range(11, 1, -1)])
    third, third_low = _two_product(b, cube, like(x, 2 / 3))
    z_low = b.let("z_low", _two_product(b, s, s)[1])
    tail = third_low + (cube_low + s * z_low) * (2 / 3) + cube * (2 / 3 - float(2 / 3))
    tail = tail + cube * 3.7007434154171886e-17 + cube * z * series
    tail = b.let("tail", tail + z * s_low * 2.0)
    total, rest = _two_sum(b, s * 2.0, third)
    rest = b.let("rest", rest + tail + s_low * 2.0)
    total, more = _two_sum(b, k * LN2_HIGH, total)
    rest = b.let("rest", rest + more + k * LN2_LOW)
    return _two_sum(b, total, rest)


def _two_sum(b: Body, x: L.Expr, y: L.Expr) -> tuple[L.Expr, L.Expr]:
    x, y = b.let("first", x), b.let("second", y)
    total = b.let("total", x + y)
    back = b.let("back", total - x)
    return total, b.let("error", (x - (total - back)) + (y - back))


@function("pow", f64)
def _pow(b: Body, x: L.Expr, y: L.Expr) -> L.Expr:
    a = b.let("a", magnitude(x))
    usual = (a > 0.0) & (a < INFINITY)
    high, low = _log_pair(b, L.select(usual, a, like(x, 1.0)))
    bounded = b.let("bounded", L.maximum(like(x, -1e17), L.minimum(like(x, 1e17), y)))
    product, rest = _two_product(b, bounded, high)
    moderate = b.let("moderate", magnitude(product) < 800.0)
    rest = L.select(moderate, rest + bounded * low, like(x, 0.0))
    root = b.let("root", L.call("exp", product))
    is_finite = root < INFINITY
    value = L.select(is_finite, root + root * rest, root)
    return _pow_edges(b, x, y, a, b.let("value", value))


def _pow_edges(b: Body, x: L.Expr, y: L.Expr, a: L.Expr, value: L.Expr) -> L.Expr:
    zero, one, inf = like(x, 0.0), like(x, 1.0), like(x, INFINITY)
    at_zero = L.select(y > 0.0, zero, inf)
    at_inf = L.select(y > 0.0, inf, zero)
    value = L.select(L.compare("eq", a, 0.0), at_zero, value)
    value = L.select(L.compare("eq", a, INFINITY), at_inf, value)
    whole = b.let("whole", L.compare("eq", L.call("round", y), y))
    half = y * 0.5
    odd = b.let("odd", whole & L.compare("ne", L.call("round", half), half))
    is_negative = b.let("is_negative", L.compare("ne", word(x) & sign_bit(x), 0))
    value = L.select(odd & is_negative, L.unary("neg", value), value)
    is_root = (x < 0.0) & L.unary("not", whole) & (a < INFINITY)
    value = L.select(is_root, like(x, NAN), value)
    nan = L.compare("ne", x, x) | L.compare("ne", y, y)
    value = L.select(nan, like(x, NAN), value)
    endless = L.compare("eq", magnitude(y), INFINITY) & L.compare("eq", a, 1.0)
    is_one = L.compare("eq", x, 1.0) | L.compare("eq", y, 0.0) | endless
    return L.select(is_one, one, value)

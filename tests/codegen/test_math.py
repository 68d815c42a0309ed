"""ULP of every mathematical function, scalar and vector, against high precision; special values."""

from __future__ import annotations

import ctypes
import math

import mpmath
import numpy as np
import pytest

from oarlock.codegen import loops as L
from oarlock.codegen import target as targets
from oarlock.codegen.body import Body
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Bindings, Printer
from oarlock.ir import bf16, encode, f16, f32, f64
from tests.codegen.harness import HEADER, Context, compile_c

UNARY = [
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "tanh",
    "erf",
    "erfinv",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "asinh",
    "acosh",
    "atanh",
    "lgamma",
    "sqrt",
    "floor",
    "ceil",
    "round",
    "trunc",
    "abs",
    "sign",
]
BINARY = ["pow", "atan2", "fmod", "remainder", "floor_div", "trunc_div", "maximum", "minimum"]
EXACT = {"sqrt", "floor", "ceil", "round", "trunc", "abs", "sign", "maximum", "minimum", "fmod"}
BOUNDS = {("f64", "pow"): 4.0, ("f64", "erfinv"): None, ("f64", "lgamma"): None}
DOMAIN = {
    "log": (0, 1e38), "log2": (0, 1e38), "log10": (0, 1e38), "sqrt": (0, 1e38), "acosh": (1, 1e10),
    "asin": (-1, 1), "acos": (-1, 1), "atanh": (-1, 1), "erfinv": (-1, 1), "log1p": (-1, 1e30),
    "lgamma": (-30, 100), "exp": (-110, 90), "exp2": (-155, 130), "expm1": (-40, 90),
    "sinh": (-90, 90), "cosh": (-90, 90),
}  # fmt: skip
REFERENCE = {
    "exp2": lambda x: mpmath.power(2, x),
    "log2": lambda x: mpmath.log(x, 2),
    "log10": lambda x: mpmath.log(x, 10),
    "lgamma": lambda x: mpmath.log(abs(mpmath.gamma(x))),
    "pow": mpmath.power,
    "abs": abs,
    "sign": mpmath.sign,
    "round": mpmath.nint,
    "trunc": lambda x: mpmath.sign(x) * mpmath.floor(abs(x)),
}
NUMPY = {"round": np.rint, "abs": np.abs, "fmod": np.fmod}


def arguments(name, dtype, count, rng):
    """Random arguments over the domain, by value and by exponent."""
    low, high = DOMAIN.get(name, (-1e4, 1e4))
    if dtype is f64 and name in ("exp", "exp2", "expm1", "sinh", "cosh"):
        low, high = low * 6.5, high * 7.8
    near = rng.uniform(max(low, -8), min(high, 8), count)
    wide = rng.uniform(low, high, count)
    top = math.log2(max(abs(low), high))
    small = np.exp2(rng.uniform(-30, top, count)) * rng.choice([-1, 1], count)
    x = np.concatenate([near, wide, small[(small > low) & (small < high)]])
    return x.astype(dtype.numpy)


def library(dtype, lanes):
    """All functions on arrays of ``dtype``, ``lanes`` at a time."""
    prelude = Prelude(targets.get("avx512" if lanes > 1 else "plain"))
    printer, texts = Printer(prelude), []
    for name in UNARY + BINARY:
        x, y, z = (L.Pointer(p, dtype, written=p == "z") for p in "xyz")
        body = Body()
        body.reserve("x", "y", "z")
        with body.loop("i", L.BEGIN, L.END, lanes) as i:
            args = [body.load(x, i, lanes)]
            if name in BINARY:
                args.append(body.load(y, i, lanes))
            body.store(z, i, L.call(name, *args))
        f = L.Function(f"run_{name}", body.statements, (x, y, z))
        bindings = Bindings({p: f"c->buf[{k}]" for k, p in enumerate("xyz")})
        texts.append(printer.function(f, bindings).replace("static int32_t run", "int32_t run", 1))
    text = "\n".join([HEADER, prelude.text(), *texts])
    return compile_c(text, "-O1", "-march=native")


_LIBRARIES: dict = {}


def call(name, dtype, lanes, *arrays):
    key = (dtype.name, lanes)
    if key not in _LIBRARIES:
        _LIBRARIES[key] = library(dtype, lanes)
    n = -(-len(arrays[0]) // 16) * 16
    padded = [np.resize(a, n).astype(dtype.numpy) for a in arrays]
    padded += [padded[0]] * (2 - len(padded))
    out = np.zeros(n, dtype.numpy)
    buf = (ctypes.c_void_p * 3)(*[a.ctypes.data for a in (*padded, out)])
    context = Context(buf, None, None, None, 0)
    f = getattr(_LIBRARIES[key], f"run_{name}")
    f.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32]
    assert f(ctypes.addressof(context), 0, n, 0) == 0
    return out[: len(arrays[0])]


def ulps(got, exact, dtype):
    """Distance in units of the last place of the exact result."""
    bits, low = (24, -126) if dtype is f32 else (53, -1022)
    if exact == 0:
        return (
            0.0
            if got == 0
            else float(abs(mpmath.mpf(float(got))) / mpmath.mpf(2) ** (low - bits + 1))
        )
    exponent = max(int(mpmath.floor(mpmath.log(abs(exact), 2))), low)
    top = 128 if dtype is f32 else 1024
    if exponent >= top or not np.isfinite(got):
        return (
            0.0
            if not np.isfinite(got)
            and abs(exact) > mpmath.mpf(2) ** top * (1 - mpmath.mpf(2) ** -20)
            else 99.0
        )
    return float(abs(mpmath.mpf(float(got)) - exact) / mpmath.mpf(2) ** (exponent - bits + 1))


@pytest.mark.parametrize("lanes", [1, 8, 16])
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", [n for n in UNARY if n not in EXACT])
def test_unary(name, dtype, lanes):
    rng = np.random.default_rng(0)
    x = arguments(name, dtype, 100 if lanes > 1 else 300, rng)
    got = call(name, dtype, lanes, x)
    reference = REFERENCE.get(name) or getattr(mpmath, name)
    with mpmath.workdps(60):
        exact = [reference(mpmath.mpf(float(v))) for v in x]
        distances = np.array([ulps(g, e, dtype) for g, e in zip(got, exact)])
    worst = distances.argmax()
    bound = BOUNDS.get((dtype.name, name), 3.0 if dtype is f64 else 2.0)
    if bound is None:
        np.testing.assert_allclose(got, np.array([float(e) for e in exact]), rtol=3e-15, atol=1e-14)
    else:
        where = f"{name}({x[worst]!r}) = {got[worst]!r}, {distances[worst]:.2f} ULP"
        assert distances[worst] <= bound, where


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_binary(name, dtype):
    rng = np.random.default_rng(1)
    x = rng.uniform(0.0, 20.0, 400).astype(dtype.numpy)
    y = rng.uniform(-30.0, 30.0, 400).astype(dtype.numpy)
    if name == "atan2":
        x = x - 10
    got = call(name, dtype, 16, x, y)
    reference = REFERENCE.get(name) or getattr(mpmath, name)
    with mpmath.workdps(60):
        distances = [
            ulps(g, reference(mpmath.mpf(float(a)), mpmath.mpf(float(b))), dtype)
            for g, a, b in zip(got, x, y)
        ]
    assert max(distances) <= (4.0 if dtype is f64 else 1.0)


SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    -3.0,
    0.5,
    math.inf,
    -math.inf,
    math.nan,
    1e-40,
    -1e-40,
    3e38,
    1e30,
]


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", [n for n in UNARY if n not in ("erf", "erfinv", "lgamma", "sign")])
def test_special_values(name, dtype, lanes):
    names = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh",
             "acosh": "arccosh", "atanh": "arctanh"}  # fmt: skip
    x = np.array(SPECIAL, dtype.numpy)
    with np.errstate(all="ignore"):
        expected = getattr(np, names.get(name, {"round": "rint"}.get(name, name)))(x)
    got = call(name, dtype, lanes, x)
    np.testing.assert_allclose(got, expected, rtol=4e-7 if dtype is f32 else 1e-15, atol=0)
    zeros = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(expected[zeros]))


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_special_pairs(name, dtype):
    x, y = (a.ravel().astype(dtype.numpy) for a in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        expected = {
            "pow": np.power, "atan2": np.arctan2, "fmod": np.fmod, "remainder": np.remainder,
            "floor_div": lambda a, b: np.where(b == 0, a / b, np.floor_divide(a, b)),
            "trunc_div": lambda a, b: np.trunc(a / b), "maximum": np.maximum, "minimum": np.minimum,
        }[name](x, y)  # fmt: skip
    got = call(name, dtype, 16, x, y)
    np.testing.assert_allclose(got, expected, rtol=1e-6 if dtype is f32 else 1e-15)


@pytest.mark.parametrize("name", sorted(EXACT - {"maximum", "minimum", "fmod"}))
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_exact(name, dtype):
    rng = np.random.default_rng(2)
    x = (rng.uniform(-1, 1, 2000) * np.exp2(rng.uniform(-5, 60, 2000))).astype(dtype.numpy)
    x[:400] = np.round(x[:400] % 100) + 0.5
    x = np.abs(x) if name == "sqrt" else x
    expected = (NUMPY.get(name) or getattr(np, name))(x)
    np.testing.assert_array_equal(call(name, dtype, 16, x), expected)


def test_large_angles():
    x = np.array([1e6, 1e10, 1e22, 1.6e308, 2.0**1000, -(2.0**500) * 1.37, 5.3e15])
    with mpmath.workdps(400):
        exact = np.array([float(mpmath.sin(mpmath.mpf(v))) for v in x])
    np.testing.assert_allclose(call("sin", f64, 8, x), exact, rtol=1e-15)


@pytest.mark.parametrize("lanes", [1, 16])
@pytest.mark.parametrize("dtype", [f16, bf16], ids=str)
def test_halves_round_to_nearest_even(dtype, lanes):
    rng = np.random.default_rng(3)
    scaled = [rng.standard_normal(4096) * 10.0**k for k in range(-9, 7)]
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 65519.0, 65520.0, 1e-7] * 2)
    values = np.concatenate([*scaled, special]).astype(np.float32)
    got = _stored(dtype, lanes, values)
    expected = encode(values, dtype).view(np.uint16)
    np.testing.assert_array_equal(got[~np.isnan(values)], expected[~np.isnan(values)])


def _stored(dtype, lanes, values):
    prelude = Prelude(targets.get("avx512"))
    x, y = L.Pointer("x", f32), L.Pointer("y", dtype, written=True)
    body = Body()
    with body.loop("i", L.BEGIN, L.END, lanes) as i:
        body.store(y, i, body.load(x, i, lanes))
    f = L.Function("run", body.statements, (x, y))
    text = Printer(prelude).function(f, Bindings({"x": "c->buf[0]", "y": "c->buf[1]"}))
    lib = compile_c(
        HEADER + prelude.text() + text.replace("static ", "", 1), "-O1", "-march=native"
    )
    out = np.zeros(len(values), np.uint16)
    buf = (ctypes.c_void_p * 2)(values.ctypes.data, out.ctypes.data)
    lib.run.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32]
    context = Context(buf, None, None, None, 0)
    lib.run(ctypes.addressof(context), 0, len(values), 0)
    return out

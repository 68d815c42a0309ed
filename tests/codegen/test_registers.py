"""Vectors of one register and of several, in what gcc makes of the C."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from oarlock.codegen import loops as L
from oarlock.codegen import target as targets
from oarlock.codegen.body import Body
from oarlock.codegen.c.prelude import Prelude
from oarlock.codegen.c.printer import Bindings, Printer
from oarlock.codegen.kernels import micro as M
from oarlock.ir.types import f32, f64, i32, i64
from tests.codegen.harness import HEADER, Context, compile_c

COMPARED = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
COMPARED |= {"gt": np.greater, "ge": np.greater_equal}


def ran(dtype, lanes, values, of, out):
    """``of`` two vectors, over rows of ``values``; the text besides."""
    prelude, count = Prelude(targets.native()), values.shape[-1]
    x, y = L.Pointer("x", dtype), L.Pointer("y", out, written=True)
    body = Body()
    with body.loop("i", L.BEGIN, L.END, lanes) as i:
        body.store(y, i, of(L.load(x, i, lanes), L.load(x, i + count, lanes)))
    f = L.Function("run", body.statements, (x, y))
    text = Printer(prelude).function(f, Bindings({"x": "c->buf[0]", "y": "c->buf[1]"}))
    text = HEADER + prelude.text() + text.replace("static ", "", 1)
    lib, found = compile_c(text, "-O2", "-march=native"), np.zeros(count, out.numpy)
    buf = (ctypes.c_void_p * 2)(values.ctypes.data, found.ctypes.data)
    lib.run.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32]
    context = Context(buf, None, None, None, 0)
    lib.run(ctypes.addressof(context), 0, count, 0)
    return found, text


@pytest.mark.skipif(targets.native().vector_bytes < 16, reason="no vectors")
@pytest.mark.parametrize("op", COMPARED)
@pytest.mark.parametrize(("dtype", "registers"), [(i64, 1), (i64, 2), (i64, 4), (f64, 2)])
def test_several_registers_are_compared_one_by_one(dtype, registers, op):
    """gcc compares wider vectors lane by lane."""
    lanes = targets.native().vector_bytes // 8 * registers
    values = np.random.default_rng(0).integers(-3, 4, (2, 8 * lanes)).astype(dtype.numpy)
    one, zero = (L.const(n, i32, lanes) for n in (1, 0))
    found, text = ran(
        dtype, lanes, values,
        lambda a, b: L.select(L.cast(L.compare(op, a, b), L.m32), one, zero), i32,
    )  # fmt: skip
    np.testing.assert_array_equal(found, COMPARED[op](*values))
    assert (f"ol_compare_{op}_{dtype}x{lanes}(" in text) == (registers > 1)


@pytest.mark.skipif(targets.native().vector_bytes < 16, reason="no vectors")
@pytest.mark.parametrize("is_max", [False, True])
@pytest.mark.parametrize("part", [1, 2, 4])
@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_extremes_are_those_of_a_select(dtype, part, is_max):
    """NaN in ``a`` gives ``b``, and so do zeros of any sign."""
    lanes = max(2, targets.native().vector_bytes // dtype.bytes // part)
    special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -2.0, 3.0], dtype.numpy)
    values = np.stack([np.repeat(special, 8), np.tile(special, 8)])
    a, b = values
    expected = np.where(a > b if is_max else a < b, a, b)
    found, _ = ran(dtype, lanes, values, L.maximum if is_max else L.minimum, dtype)
    np.testing.assert_array_equal(found.view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize(
    ("rows", "vectors", "is_apart"), [(14, 2, True), (6, 4, True), (2, 1, False)]
)
def test_large_tiles_have_the_registers_for_themselves(rows, vectors, is_apart):
    """In a caller that keeps vectors, gcc had a sum in memory."""
    f = M.function(M.Micro(rows, vectors, 16, f32, f32))
    text = Printer(Prelude(targets.get("avx512"))).function(f)
    assert ("__attribute__((noinline))" in text) == is_apart

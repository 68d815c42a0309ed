"""Infinities and NaN reach what the reference says they reach, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, decode, encode, f16, f32
from oarlock.runtime.predictor import Predictor
from tests.samples import results_of

TARGETS = ["cpu", "generic", "plain"]


def hostile(rng, shape, dtype=f32):
    """Numbers, of which few are not finite."""
    x = rng.uniform(-2, 2, shape).astype(np.float32)
    flat = x.reshape(-1)
    places = rng.choice(flat.size, max(1, flat.size // 90), replace=False)
    flat[places] = rng.choice([np.inf, -np.inf, np.nan], places.size)
    return encode(x, dtype)


def assert_same_kind(program, arrays, target, terms):
    """Equal where infinite, NaN in the same places, and within the rounding of ``terms``."""
    expected = results_of(evaluate(program, *arrays))
    got = results_of(Predictor(program, threads=1, target=target)(*arrays))
    for value, e, g in zip(program.graph.outputs, expected, got):
        e, g = decode(e, value.dtype), decode(g, value.dtype)
        eps = 2.0**-10 if value.dtype is f16 else 2.0**-23
        np.testing.assert_array_equal(np.isnan(g), np.isnan(e), value.producer.name)
        np.testing.assert_allclose(
            g, e, rtol=eps, atol=terms * eps * 4, err_msg=str(value.producer.op)
        )


# Sizes at which no weight of a kernel is 0: there the sign of a weight is that of its rounding.
@pytest.mark.parametrize("target", TARGETS)
def test_windows(target):
    b, rng, arrays = Builder(), np.random.default_rng(0), []
    for i, n in enumerate((7, Dim("N", 1, 64))):
        x = b.input(TensorType(f32, (2, 3, n, 10)), f"x{i}")
        arrays.append(hostile(rng, (2, 3, 7, 10)))
        b.graph.outputs += [
            b.adaptive_avg_pool(x, size=(3, 4)),
            b.adaptive_avg_pool(x, size=(9, 5)),
            b.resize(x, size=(5, 3), mode="area"),
            b.resize(x, size=(4, 5), mode="linear", antialias=True),
            b.resize(x, size=(4, 13), mode="cubic", antialias=True),
            b.resize(x, size=(9, 3), mode="linear", antialias=True, align_corners=True),
        ]
    assert_same_kind(Program(b.graph), arrays, target, 2 * 40)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [f32, f16], ids=str)
def test_groups_of_a_convolution(target, dtype):
    b, rng, params, arrays = Builder(), np.random.default_rng(1), {}, []
    for i, (groups, each, out, kernel) in enumerate(
        [(4, 4, 4, 3), (8, 3, 5, 3), (16, 1, 2, 1), (2, 7, 2, 2), (6, 4, 4, 1)]
    ):
        x = b.input(TensorType(dtype, (2, groups * each, 9, 7)), f"x{i}")
        arrays.append(hostile(rng, x.shape, dtype))
        params[f"w{i}"] = encode(
            rng.uniform(-1, 1, (groups * out, each, kernel, kernel)).astype(np.float32), dtype
        )
        params[f"b{i}"] = encode(rng.uniform(-1, 1, groups * out).astype(np.float32), dtype)
        w, c = (b.param(k, TensorType(dtype, params[k].shape)) for k in (f"w{i}", f"b{i}"))
        y = b.conv(x, w, *[c] * (i % 2), groups=groups, padding=((0, 0), (0, 0)))
        b.graph.outputs.append(b.relu(y) if i == 3 else y)
    program = Program(b.graph, params)
    assert_same_kind(program, arrays, target, 36 * 2)

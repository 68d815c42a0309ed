"""Masks of what is stored anyway: compared again where they are read, no memory of their own."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock
from oarlock.codegen.lower import schedule
from oarlock.codegen.schedule import launches
from oarlock.codegen.target import get
from oarlock.ir import Builder, Program, TensorType, f32, i64

X = TensorType(f32, (24, 24))


def own(b, x):
    return b.cumsum(x, axis=0)


def relu(b, x):
    return b.maximum(x, b.const(0.0, f32))


def gradient(b, y, g):
    return b.where(b.le(y, b.const(0.0, f32)), b.const(0.0, f32), g)


def stored_for_the_weight(b, x, w):
    y = relu(b, b.matmul(x, w))
    g = own(b, own(b, b.matmul(y, w)))
    last = own(b, gradient(b, y, b.matmul(g, w)))
    return [b.matmul(b.transpose(y, perm=(1, 0)), g), last]


def through_a_view(b, x, w):
    y = relu(b, b.matmul(x, w))
    g = own(b, own(b, b.matmul(y, w)))
    flat = gradient(b, b.reshape(y, shape=(576,)), b.reshape(b.matmul(g, w), shape=(576,)))
    last = own(b, b.reshape(flat, shape=(24, 24)))
    return [last, b.matmul(b.transpose(y, perm=(1, 0)), last)]


def of_an_input(b, x, w):
    kept = own(b, b.where(b.gt(x, 0.5), own(b, w), own(b, own(b, w))))
    return [kept, own(b, b.where(b.gt(x, 0.5), kept, w))]


def of_what_dies(b, x, w):
    y = relu(b, b.matmul(x, w))
    g = own(b, y)
    for _ in range(4):
        g = own(b, g)
    return [own(b, gradient(b, y, b.matmul(g, w)))]


def read_by_a_kernel(b, x, w):
    y = relu(b, b.matmul(x, w))
    mask = b.le(y, b.const(0.0, f32))
    places = b.cumsum(b.cast(mask, dtype=f32), axis=1)
    return [b.matmul(y, own(b, y)), places, mask]


@pytest.mark.parametrize(
    ("make", "masks"),
    [
        (stored_for_the_weight, 0), (through_a_view, 0), (of_an_input, 0), (of_what_dies, 1),
        (read_by_a_kernel, 1),
    ],
)  # fmt: skip
def test_masks_in_memory(make, masks):
    b = Builder()
    b.graph.outputs = list(make(b, b.input(X, "x"), b.input(X, "w")))
    program = Program(b.graph)
    steps = schedule(program, get("cpu")).steps
    written = [v for s in launches(steps) for v in s.kernel.writes]
    assert sum(v.dtype.is_bool for v in written) == masks
    draws = np.random.default_rng(0)  # sums of small integers are exact
    x = [draws.integers(-2, 3, X.shape).astype(np.float32) for _ in range(2)]
    x[1] *= draws.random(X.shape) < 0.1
    for a, c in zip(oarlock.evaluate(program, *x), oarlock.Predictor(program)(*x)):
        np.testing.assert_array_equal(c, a)


@pytest.mark.parametrize("is_kept", [False, True])
def test_masks_as_numbers_hold_up_nothing(is_kept):
    """Rows are divided by how many count, which is known before them; kept, a group stores it."""
    b = Builder()
    x, y = b.input(X, "x"), b.input(TensorType(i64, (24,)), "y")
    valid = b.bit_and(b.ge(y, b.const(0, i64)), b.logical_not(b.gt(y, b.const(9, i64))))
    counted = b.cast(valid, dtype=f32)
    powers = b.exp(b.sub(x, b.reduce_max(x, axes=(1,), keepdims=True)))
    total = b.mul(b.reduce_sum(powers, axes=(1,)), counted)
    share = b.div(counted, b.reduce_sum(counted, axes=(0,)))
    b.graph.outputs = [total, b.mul(powers, b.reshape(share, shape=(24, 1)))]
    b.graph.outputs += [own(b, counted)] if is_kept else []
    program = Program(b.graph)
    rows = [v.shape for s in launches(schedule(program, get("cpu")).steps) for v in s.kernel.reads]
    assert rows.count(X.shape) == 1 + is_kept, "one kernel reads x, or one more what that stores"
    draws = np.random.default_rng(0)
    feeds = [draws.normal(size=X.shape).astype(np.float32), draws.integers(-5, 15, 24)]
    for a, c in zip(oarlock.evaluate(program, *feeds), oarlock.Predictor(program)(*feeds)):
        np.testing.assert_allclose(c, a, rtol=64 * np.finfo(np.float32).eps)

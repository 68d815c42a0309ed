"""Sums of the columns of what a product reads turned, taken in the product's own passes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oarlock
import oarlock.ops
from oarlock.codegen.lower import schedule
from oarlock.codegen.schedule import launches
from oarlock.codegen.target import get
from oarlock.ir import Builder, Program, TensorType, f32, f64

K, M = 600, 500


def gradients(b, d, x):
    """Of a weight and a bias."""
    return [b.matmul(b.transpose(d, perm=(1, 0)), x), b.reduce_sum(d, axes=(0,))]


def kept_as_a_row(b, d, x):
    product = b.matmul(b.transpose(d, perm=(1, 0)), x)
    return [b.add(product, 1.0), b.neg(b.reduce_sum(d, axes=(0,), keepdims=True))]


def two_products(b, d, x):
    """Both read it; one gives the sums."""
    turned = b.transpose(d, perm=(1, 0))
    first, second = b.matmul(turned, x), b.matmul(turned, b.neg(x))
    return [first, second, b.reduce_sum(d, axes=(0,))]


def sums_read_with_the_product(b, d, x):
    product = b.matmul(b.transpose(d, perm=(1, 0)), x)
    sums = b.reduce_sum(d, axes=(0,))
    return [b.mul(product, b.reshape(sums, shape=(M, 1)))]


def of_rows(b, d, x):
    return [b.matmul(b.transpose(d, perm=(1, 0)), x), b.reduce_sum(d, axes=(1,))]


def of_another(b, d, x):
    product = b.matmul(b.transpose(d, perm=(1, 0)), x)
    return [product, b.reduce_sum(b.cumsum(d, axis=1), axes=(0,))]


def before_the_product(b, d, x):
    sums = b.reduce_sum(d, axes=(0,))
    return [sums, b.matmul(b.transpose(d, perm=(1, 0)), x)]


JOINED = [gradients, kept_as_a_row, two_products, sums_read_with_the_product]
APART = [of_rows, of_another, before_the_product]


def made(case, columns: int, dtype=f32, depth: int = K) -> Program:
    b = Builder()
    d, x = (b.input(TensorType(dtype, (depth, n)), s) for n, s in ((M, "d"), (columns, "x")))
    b.graph.outputs = case(b, d, x)
    return Program(b.graph)


def is_joined(program: Program, target) -> bool:
    kernels = [s.kernel for s in launches(schedule(program, target).steps)]
    return any({"matmul", "reduce_sum"} <= {n.name for n in k.nodes} for k in kernels)


@pytest.mark.parametrize("case", [*JOINED, *APART], ids=lambda f: f.__name__)
@pytest.mark.parametrize("columns", [32, 72, 200])
@pytest.mark.parametrize("threads", [1, 2])
def test_equals_numpy(case, columns, threads):
    """Sums of small integers are exact."""
    program = made(case, columns)
    assert is_joined(program, get("avx512")) is (case in JOINED)
    rng = np.random.default_rng(0)
    feeds = [rng.integers(-2, 3, v.shape).astype(np.float32) for v in program.graph.inputs]
    found = oarlock.Predictor(program, threads=threads)(*feeds)
    found = found if isinstance(found, (list, tuple)) else [found]
    for got, want in zip(found, _outputs(program, feeds)):
        np.testing.assert_array_equal(got, want)


def _outputs(program, feeds):
    found = oarlock.evaluate(program, *feeds)
    return found if isinstance(found, (list, tuple)) else [found]


@pytest.mark.parametrize(
    ("columns", "depth", "dtype", "target", "joins"),
    [
        (40, K, f32, "avx512", True), (31, K, f32, "avx512", False), (40, 512, f32, "avx512", False),
        (40, K, f64, "avx512", False), (40, K, f32, "avx2", True), (40, K, f32, "plain", False),
    ],
)  # fmt: skip
def test_only_where_registers_hold_the_rows(columns, depth, dtype, target, joins):
    assert is_joined(made(gradients, columns, dtype, depth), get(target)) is joins


def test_a_small_matrix_is_summed_apart():
    """Its second reading costs less than the additions."""
    target = replace(get("avx512"), cache_bytes=1 << 20)
    assert not is_joined(made(gradients, 40), target)


def test_weights_known_at_build_time_are_packed():
    b = Builder()
    d, w = b.input(TensorType(f32, (K, M)), "d"), b.param("w", TensorType(f32, (40, K)))
    b.graph.outputs = gradients(b, d, b.transpose(w, perm=(1, 0)))
    rng = np.random.default_rng(0)
    numbers = [rng.integers(-2, 3, s).astype(np.float32) for s in ((K, M), (40, K))]
    program = Program(b.graph, {"w": numbers[1]})
    assert not is_joined(program, get("avx512"))
    product, sums = oarlock.Predictor(program)(numbers[0])
    np.testing.assert_array_equal(product, numbers[0].T @ numbers[1].T)
    np.testing.assert_array_equal(sums, numbers[0].sum(0))


def test_long_sums_are_of_chunks():
    """The error is that of a chunk and of the sum of chunks, not of one long sum."""
    rng = np.random.default_rng(0)
    d = rng.uniform(0, 1, (8000, 100)).astype(np.float32)
    b = Builder()
    inputs = [b.input(TensorType(f32, (8000, n)), s) for n, s in ((100, "d"), (32, "x"))]
    b.graph.outputs = gradients(b, *inputs)
    program = Program(b.graph)
    assert is_joined(program, get("avx512"))
    sums = oarlock.Predictor(program)(d, np.zeros((8000, 32), np.float32))[1]
    exact = d.astype(np.float64).sum(0)
    assert (np.abs(sums - exact) <= (256 + 8000 / 256) * 2.0**-24 * exact).all()

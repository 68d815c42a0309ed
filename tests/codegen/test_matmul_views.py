"""Products whose operands are views: read in place, equal to the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.codegen.kernels import gemm_blocking
from oarlock.codegen.lower import lower, schedule
from oarlock.codegen.target import get
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32, f64
from oarlock.runtime.predictor import Predictor

N = Dim("N", 1, 64)


def transposed_b(b, n):
    x, y = (b.input(TensorType(f32, (2, n, 37)), k) for k in "xy")
    return b.matmul(x, b.transpose(y, perm=(0, 2, 1)))


def deep_transposed_b(b, n):
    x, y = b.input(TensorType(f32, (n, 300)), "x"), b.input(TensorType(f32, (45, 300)), "y")
    return b.matmul(x, b.transpose(y, perm=(1, 0)))


def transposed_a(b, n):
    x, y = (b.input(TensorType(f32, (2, 37, n)), k) for k in "xy")
    return b.matmul(b.transpose(x, perm=(0, 2, 1)), y)


def transposed_a_by_weights(b, n):
    x = b.input(TensorType(f32, (3, 37, n)), "x")
    return b.matmul(b.transpose(x, perm=(0, 2, 1)), b.input(TensorType(f32, (37, 19)), "w"))


def heads(b, n):
    """Queries by keys, each a slice of one projection with its heads split."""
    x = b.input(TensorType(f32, (2, n, 3 * 40)), "x")
    q, k = (
        b.reshape(
            b.slice(x, starts=(0, 0, i * 40), stops=(2, n, i * 40 + 40), steps=(1, 1, 1)),
            shape=(2, n, 5, 8),
        )
        for i in range(2)
    )
    return b.matmul(b.transpose(q, perm=(0, 2, 1, 3)), b.transpose(k, perm=(0, 2, 3, 1)))


def shared_b(b, n):
    x = b.input(TensorType(f32, (4, 3, n, 16)), "x")
    y = b.input(TensorType(f32, (3, 21, 16)), "y")
    return b.matmul(x, b.transpose(y, perm=(0, 2, 1)))


def batch_of_one(b, n):
    """b has an axis that its batch does not need."""
    x, y = (b.input(TensorType(f32, (1, n, 16)), k) for k in "xy")
    return b.matmul(x, b.transpose(y, perm=(0, 2, 1)))


def dense_rows(b, n):
    """A reshape leaves the rows one axis."""
    x = b.reshape(b.input(TensorType(f32, (n, 6, 5)), "x"), shape=(n, 2, 15))
    return b.matmul(x, b.transpose(b.input(TensorType(f32, (33, 15)), "w"), perm=(1, 0)))


def every_other_row(b, n):
    x = b.input(TensorType(f32, (2, 9, 12)), "x")
    y = b.input(TensorType(f32, (2, 12, n)), "y")
    cut = b.slice(x, starts=(0, 0, 1), stops=(2, 9, 12), steps=(1, 2, 1))
    return b.matmul(cut, b.slice(y, starts=(0, 1, 0), stops=(2, 12, n), steps=(1, 1, 1)))


def deep(b, n):
    """K goes by chunks."""
    x, y = b.input(TensorType(f32, (n, 600)), "x"), b.input(TensorType(f32, (600, 43)), "y")
    return b.matmul(x, y)


def deep_rows_apart(b, n):
    """Rows of a power of two bytes; k along memory in both."""
    x, y = b.input(TensorType(f32, (n, 1024)), "x"), b.input(TensorType(f32, (70, 1024)), "y")
    return b.matmul(x, b.transpose(y, perm=(1, 0)))


def deep_columns(b, n):
    x, y = b.input(TensorType(f32, (2, 530, n)), "x"), b.input(TensorType(f32, (530, 130)), "y")
    return b.matmul(b.transpose(x, perm=(0, 2, 1)), y)


CASES = [
    deep, deep_rows_apart, deep_columns, transposed_b, deep_transposed_b, transposed_a, transposed_a_by_weights, heads, shared_b, dense_rows, batch_of_one,
    every_other_row,
]  # fmt: skip


def test_sums_in_the_result():
    b = Builder()
    x, y = b.input(TensorType(f32, (33, 1030)), "x"), b.input(TensorType(f32, (1030, 96)), "y")
    b.graph.outputs = [b.matmul(x, y)]
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-4, 5, v.shape).astype(np.float32) for v in (x, y)]
    predictor = Predictor(Program(b.graph), threads=2)
    np.testing.assert_array_equal(predictor(*arrays), arrays[0] @ arrays[1])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size, target", [(N, "native"), (33, "native"), (1, "avx2"), (7, "plain")])
def test_views(case, size, target):
    b = Builder()
    b.graph.outputs = [b.mul(case(b, size), 0.5)]
    program = Program(b.graph, {}, {"N": N} if size is N else {})
    predictor = Predictor(program, target=target, threads=2)
    assert all("matmul" in s.ops or s.ops == "const + mul" for s in predictor.report().nodes)
    for n in (1, 2, 35) if size is N else (size,):
        env = {"N": n}
        rng = np.random.default_rng(n)
        shapes = [v.type.concrete(env).shape for v in program.graph.inputs]
        arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
        expected = evaluate(program, *arrays)
        depth = max(max(s) for s in shapes)  # K at most, products of values below 5
        bound = depth * 2.0**-24 * depth * 5.0 * 5.0
        np.testing.assert_allclose(predictor(*arrays), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("is_kept", [True, False])
def test_squares_for_a_sum_are_not_stored(is_kept):
    """A norm of what is stored anyway reads that; of what is not, the squares."""
    b = Builder()
    x, w = b.input(TensorType(f32, (30, 20)), "x"), b.input(TensorType(f32, (20, 40)), "w")
    y = b.matmul(x, w)
    norm = b.reduce_sum(b.mul(y, y), axes=(0, 1))
    b.graph.outputs = [norm, y] if is_kept else [norm]
    predictor = Predictor(Program(b.graph))
    first = predictor.report().nodes[0].ops
    assert first == ("matmul" if is_kept else "matmul + mul")
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-2, 3, v.shape).astype(np.float32) for v in (x, w)]
    got = predictor(*arrays)
    expected = np.square(arrays[0] @ arrays[1]).sum()
    np.testing.assert_array_equal(got[0] if is_kept else got, expected)


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize(("rows", "columns"), [(1, 32), (16, 64), (28, 32), (29, 64), (16, 33)])
def test_few_rows_read_b_in_place(rows, columns, dtype):
    """b is columns of a wider matrix; only products of few rows by whole panels do not pack it."""
    b = Builder()
    x, w = b.input(TensorType(dtype, (rows, 40)), "x"), b.input(TensorType(dtype, (40, 100)), "w")
    part = b.slice(w, starts=(0, 4), stops=(40, 4 + columns), steps=(1, 1))
    b.graph.outputs = [b.tanh(b.matmul(x, part))]
    rng = np.random.default_rng(0)
    feeds = [rng.normal(size=v.shape).astype(dtype.numpy) / 8 for v in (x, w)]
    expected = evaluate(Program(b.graph), *feeds)
    bound = (40 * np.finfo(dtype.numpy).eps) * (np.abs(feeds[0]) @ np.abs(feeds[1])).max()
    found = Predictor(Program(b.graph))(*feeds)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize(("rows", "is_packed"), [(28, False), (29, True)])
def test_only_many_rows_pack_b(rows, is_packed):
    b = Builder()
    x, w = b.input(TensorType(f32, (rows, 40)), "x"), b.input(TensorType(f32, (40, 64)), "w")
    b.graph.outputs = [b.matmul(x, w)]
    assert (schedule(Program(b.graph), get("avx512")).scratch_bytes > 0) is is_packed


@pytest.mark.parametrize("depth", [40, 530])
@pytest.mark.parametrize("rest", [1, 7, 8, 9, 16, 17])
@pytest.mark.parametrize("operand", ["input", "turned", "param"])
def test_last_panels(operand, rest, depth):
    """A few columns are half a vector; what is known at build time is packed alike."""
    b = Builder()
    rng, columns = np.random.default_rng(0), 64 + rest
    x = b.input(TensorType(f32, (47, depth)), "x")
    shape = (columns, depth) if operand == "turned" else (depth, columns)
    numbers = [rng.integers(-3, 4, s).astype(np.float32) for s in ((47, depth), shape, (columns,))]
    is_param = operand == "param"
    w = b.param("w", TensorType(f32, shape)) if is_param else b.input(TensorType(f32, shape), "w")
    right = b.transpose(w, perm=(1, 0)) if operand == "turned" else w
    bias = b.input(TensorType(f32, (columns,)), "bias")
    b.graph.outputs = [b.matmul(x, right), b.maximum(b.add(b.matmul(x, right), bias), 0.0)]
    program = Program(b.graph, {"w": numbers[1]} if is_param else {})
    feeds = [numbers[0], numbers[2]] if is_param else numbers
    plain, more = Predictor(program, threads=2)(*feeds)
    expected = numbers[0] @ (numbers[1].T if operand == "turned" else numbers[1])
    np.testing.assert_array_equal(plain, expected)
    np.testing.assert_array_equal(more, np.maximum(expected + numbers[2], 0))


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_joined_items(threads, is_turned):
    """A large A passes by all panels of a thread at once, wherever its items begin and end."""
    b = Builder()
    rng = np.random.default_rng(0)
    shape = (3001, 700) if is_turned else (700, 3001)
    numbers = [rng.integers(-3, 4, s).astype(np.float32) for s in (shape, (3001, 328))]
    x, w = (b.input(TensorType(f32, n.shape), name) for n, name in zip(numbers, "xw"))
    b.graph.outputs = [b.matmul(b.transpose(x, perm=(1, 0)) if is_turned else x, w)]
    found = Predictor(Program(b.graph), threads=threads)(*numbers)
    np.testing.assert_array_equal(found, (numbers[0].T if is_turned else numbers[0]) @ numbers[1])


def _product_and_row(row_shape, after, is_kept):
    b = Builder()
    x, w = b.input(TensorType(f32, (45, 20)), "x"), b.input(TensorType(f32, (20, 64)), "w")
    y, row = b.matmul(x, w), b.input(TensorType(f32, row_shape), "row")
    total = b.add(row, y) if after == "swapped" else b.add(y, row)
    if after == "again":
        total = b.mul(total, row)
    b.graph.outputs = [total, y] if is_kept else [total]
    return Program(b.graph)


@pytest.mark.parametrize("after", ["nothing", "swapped", "again"])
@pytest.mark.parametrize(
    ("row_shape", "is_kept", "starts"),
    [((64,), False, True), ((64,), True, False), ((45, 1), False, False), ((45, 64), False, False)],
)
def test_sums_start_at_a_row_that_is_added(row_shape, is_kept, starts, after):
    """Only a row of all columns, where nothing else reads the sums without it."""
    program = _product_and_row(row_shape, after, is_kept)
    has_tile = "tile" in lower(program, get("avx512")).sources[0]
    assert has_tile is (not starts or after == "again")
    rng = np.random.default_rng(0)
    feeds = [rng.integers(-3, 4, v.shape).astype(np.float32) for v in program.graph.inputs]
    expected = evaluate(program, *feeds)
    found = Predictor(program, threads=2)(*feeds)
    for got, want in zip(*((x if is_kept else (x,)) for x in (found, expected))):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("columns", "is_plain"), [(96, True), (100, True), (96, False)])
def test_memory_is_asked_for_ahead(columns, is_plain, monkeypatch):
    """The lines of an output larger than the caches, and those of a turned operand."""
    monkeypatch.setattr(gemm_blocking, "FAR_BYTES", 1 << 12)
    target = replace(get("avx512"), cache_bytes=1 << 10)
    b = Builder()
    x, w = b.input(TensorType(f32, (40, 61)), "x"), b.input(TensorType(f32, (40, columns)), "w")
    y = b.matmul(b.transpose(x, perm=(1, 0)), w)
    b.graph.outputs = [y if is_plain else b.tanh(y)]
    text = "".join(lower(Program(b.graph), target).sources)
    assert "_ahead" in text
    assert ("_far" in text) is is_plain


@pytest.mark.parametrize("columns", [1024, 1030])
def test_outputs_larger_than_the_caches(columns):
    b = Builder()
    rng = np.random.default_rng(0)
    numbers = [rng.integers(-3, 4, s).astype(np.float32) for s in ((2100, 8), (8, columns))]
    x, w = (b.input(TensorType(f32, n.shape), name) for n, name in zip(numbers, "xw"))
    b.graph.outputs = [b.matmul(x, w)]
    assert "_far" in "".join(lower(Program(b.graph), get("avx512")).sources)
    np.testing.assert_array_equal(
        Predictor(Program(b.graph), threads=2)(*numbers), numbers[0] @ numbers[1]
    )


@pytest.mark.parametrize("is_turned", [False, True])
@pytest.mark.parametrize(("depth", "columns"), [(400, 401), (600, 328), (400, 300)])
def test_panels_are_asked_for_ahead(depth, columns, is_turned):
    """Those of a b that is larger than the cache, while tiles pass by the one before."""
    b = Builder()
    rng = np.random.default_rng(0)
    shape = (columns, depth) if is_turned else (depth, columns)
    numbers = [rng.integers(-3, 4, s).astype(np.float32) for s in ((120, depth), shape)]
    x, w = (b.input(TensorType(f32, n.shape), name) for n, name in zip(numbers, "xw"))
    b.graph.outputs = [b.matmul(x, b.transpose(w, perm=(1, 0)) if is_turned else w)]
    text = "".join(lower(Program(b.graph), get("avx512")).sources)
    assert ("__builtin_prefetch" in text) is (4 * depth * columns >= get("avx512").cache_bytes)
    expected = numbers[0] @ (numbers[1].T if is_turned else numbers[1])
    np.testing.assert_array_equal(Predictor(Program(b.graph), threads=2)(*numbers), expected)

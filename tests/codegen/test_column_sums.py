"""Sums down columns: by blocks of columns, with what else the group stores, at any remainder."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock
import oarlock.ops
from oarlock.codegen import fuse, target
from oarlock.codegen.lower import lower
from oarlock.codegen.rows import BLOCK
from oarlock.ir import Builder, DType, Graph, Program, TensorType, f32, f64

CASES = [
    ((40, 200), f32), ((129, 130), f32), ((300, 1100), f32), ((17, 333), f64), ((3, 50, 144), f32),
]  # fmt: skip


def made(shape: tuple[int, ...], dtype: DType) -> Program:
    """Two sums down the columns of what the group stores too, and something made of one."""
    b = Builder(Graph())
    x, y = (b.input(TensorType(dtype, shape), name) for name in "xy")
    axis = len(shape) - 2
    total = b.mul(x, y)
    first, second = (b.reduce_sum(v, axes=(axis,), keepdims=True) for v in (total, x))
    b.graph.outputs = [total, first, b.mul(second, second)]
    return Program(b.graph)


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_equals_numpy(shape, dtype, threads):
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(shape).astype(dtype.numpy) for _ in range(2))
    product, first, second = oarlock.Predictor(made(shape, dtype), threads=threads)(x, y)
    np.testing.assert_array_equal(product, x * y)
    terms, unit = shape[-2], np.finfo(dtype.numpy).eps / 2
    bound = (BLOCK + terms / BLOCK + 4) * unit
    wide = x.astype(np.longdouble), y.astype(np.longdouble)
    most = np.abs(wide[0] * wide[1]).sum(-2, keepdims=True)
    assert (np.abs(first - (wide[0] * wide[1]).sum(-2, keepdims=True)) <= bound * most).all()
    want, most = wide[0].sum(-2, keepdims=True), np.abs(wide[0]).sum(-2, keepdims=True)
    assert (np.abs(second - want**2) <= bound * most * (2 * np.abs(want) + bound * most)).all()


def test_one_kernel_runs_along_rows():
    program = made((300, 1100), f32)
    (group,) = fuse.group(program.graph, target.get("avx512"))
    assert len(group.writes) == 3
    (text,) = lower(program, target.get("avx512")).sources
    assert text.index("for (int64_t row = first") < text.index("for (int64_t i1 = start")

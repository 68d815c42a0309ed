"""Products of groups of rows, each by its own weights, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32, f64, i32, i64
from oarlock.runtime.predictor import Predictor

S = Dim("S", 0, 64)
ENDS = {
    "even": [5, 10, 15, 20],
    "some are empty": [0, 17, 17, 20],
    "rows of none": [3, 4, 4, 9],
    "all in one": [20, 20, 20, 20],
    "no rows": [0, 0, 0, 0],
    "beyond": [4, 30, 40, 50],
}


def program(columns, dtype, ends, weights):
    b = Builder()
    x = b.input(TensorType(dtype, (S, 19)), "x")
    w = TensorType(dtype, (4, 19, columns))
    given = b.input(w, "w") if weights is None else b.param("w", w)
    b.graph.outputs = [b.grouped_matmul(x, given, b.input(TensorType(ends, (4,)), "ends"))]
    return Program(b.graph, {} if weights is None else {"w": weights}, {"S": S})


@pytest.mark.parametrize("is_constant", [True, False])
@pytest.mark.parametrize(("columns", "dtype"), [(64, f32), (45, f32), (5, f32), (21, f64)])
def test_groups(columns, dtype, is_constant):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 19, columns)).astype(dtype.numpy)
    x = rng.standard_normal((20, 19)).astype(dtype.numpy)
    made = program(columns, dtype, i32, w if is_constant else None)
    predictor = Predictor(made, threads=2)
    for name, ends in ENDS.items():
        arrays = [x, *([] if is_constant else [w]), np.array(ends, np.int32)]
        want = evaluate(made, *arrays)
        bound = 19 * np.finfo(dtype.numpy).eps * float(np.abs(x).max() * np.abs(w).max())
        np.testing.assert_allclose(predictor(*arrays), want, rtol=0, atol=bound, err_msg=name)


def test_the_kernel_is_its_own():
    made = program(45, f32, i64, None)
    names = Predictor(made).report().kernels
    assert len(names) == 1 and "grouped_matmul" in names[0]

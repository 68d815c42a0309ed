"""Gradients of convolutions and pools through the engine, against the reference."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Program, TensorType, f32
from oarlock.ops.conv import window_size
from oarlock.runtime.predictor import Predictor

CASES = [
    ((2, 3, 19, 23), (20, 3, 5, 5), {"stride": (2, 2), "padding": ((2, 2), (2, 2))}),
    ((4, 16, 32, 32), (16, 16, 3, 3), {"padding": ((1, 1), (1, 1))}),
    ((3, 16, 8, 9), (33, 16, 1, 1), {"stride": (2, 2)}),
    ((1, 40, 7, 9), (70, 40, 3, 3), {"padding": ((1, 0), (0, 2)), "dilation": (2, 1)}),
    ((2, 12, 7, 8), (24, 4, 3, 3), {"groups": 3, "padding": ((1, 1), (1, 1))}),
    ((2, 8, 9, 9), (8, 1, 3, 3), {"groups": 8, "padding": ((1, 1), (1, 1))}),
    ((2, 6, 17), (4, 6, 3), {"stride": (1,), "padding": ((2, 0),), "dilation": (2,)}),
    ((2, 2, 5, 6, 7), (3, 2, 2, 3, 3), {"stride": (1, 2, 1)}),
]


def whole(attrs, rank):
    n = rank - 2
    plain = {"stride": (1,) * n, "padding": ((0, 0),) * n, "dilation": (1,) * n}
    return {**plain, "groups": 1, **attrs}


def check(op, types, attrs, depth, **options):
    """Integers: sums are exact, in any order."""
    b = Builder()
    inputs = [b.input(TensorType(f32, t), f"x{i}") for i, t in enumerate(types)]
    b.graph.outputs = [getattr(b, op)(*inputs, **attrs)]
    program = Program(b.graph)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-4, 5, t).astype(np.float32) for t in types]
    assert depth * 16 < 2**24
    expected = evaluate(program, *arrays)
    np.testing.assert_array_equal(Predictor(program, **options)(*arrays), expected)


@pytest.mark.parametrize("x, w, attrs", CASES)
@pytest.mark.parametrize("op", ["conv_grad_input", "conv_grad_weight"])
@pytest.mark.parametrize("target", ["native", "plain"])
def test_conv(x, w, attrs, op, target):
    attrs = whole(attrs, len(x))
    spans = zip(x[2:], w[2:], attrs["stride"], attrs["padding"], attrs["dilation"])
    dy = (x[0], w[0], *(window_size(*span) for span in spans))
    of_input = op == "conv_grad_input"
    types, shape = ([dy, w], x) if of_input else ([dy, x], w)
    depth = int(np.prod(w)) if of_input else int(np.prod(dy))
    check(op, types, {**attrs, "shape": shape}, depth, target=target, threads=2)


@pytest.mark.parametrize(
    "x, dy, attrs",
    [
        ((2, 16, 8, 9), (2, 16, 4, 4), {}),
        ((2, 5, 9, 8), (2, 5, 5, 4), {"kernel": (3, 3), "padding": ((1, 1), (1, 1))}),
        ((1, 20, 7, 7), (1, 20, 2, 2), {"stride": (4, 4), "kernel": (3, 2)}),
        ((3, 33, 7, 7), (3, 33, 4, 4), {"ceil_mode": True}),
        ((2, 6, 9), (2, 6, 4), {"kernel": (3,), "stride": (2,), "padding": ((0, 0),),
                               "dilation": (1,)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", ["native", "plain"])
def test_max_pool(x, dy, attrs, target):
    """Ties are many: the first of each window takes all."""
    check("max_pool_grad", [dy, x], attrs, 9, target=target, threads=2)

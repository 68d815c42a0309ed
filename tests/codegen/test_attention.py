"""The attention kernel on odd sizes, masks, views and targets, equal to the reference."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.codegen.lower import schedule
from oarlock.codegen.target import get
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, bool_, f32, f64
from oarlock.runtime.predictor import Predictor

SHAPES = [  # B, H, G, T, S, D, E
    (1, 2, 2, 1, 1, 1, 1),
    (2, 4, 2, 17, 33, 24, 40),
    (1, 3, 1, 30, 50, 64, 64),
    (2, 2, 2, 15, 31, 7, 33),
    (2, 4, 2, 1, 37, 64, 48),
]
TOLERANCE = 64 * 2.0**-24  # scores are below 8 in magnitude, sums of D <= 64 terms; values below 4


def draw(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def program_of(shape, mask=None, dtype=f32, **attrs):
    batch, heads, groups, t, s, d, e = shape
    b = Builder()
    types = [(batch, heads, t, d), (batch, groups, s, d), (batch, groups, s, e)]
    values = [b.input(TensorType(dtype, n), name) for n, name in zip(types, "qkv")]
    if mask is not None:
        values.append(b.input(mask, "mask"))
    b.graph.outputs = [b.attention(*values, **attrs)]
    dims = {x.name: x for x in shape if isinstance(x, Dim)}
    return Program(b.graph, {}, dims)


def assert_equal(program, arrays, **options):
    predictor = Predictor(program, **options)
    assert any("attention" in name for name in predictor.report().kernels)
    got, expected = predictor(*arrays), evaluate(program, *arrays)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def arrays_of(program, env=None):
    shapes = [v.type.concrete(env or {}).shape for v in program.graph.inputs]
    return [
        draw(s, i).astype(v.dtype.numpy) if not v.dtype.is_bool else draw(s, i) > 0
        for i, (s, v) in enumerate(zip(shapes, program.graph.inputs))
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("target, causal", [("native", True), ("avx2", False), ("plain", True)])
def test_targets(shape, target, causal):
    program = program_of(shape, causal=causal)
    assert_equal(program, arrays_of(program), threads=2, target=target)


@pytest.mark.parametrize(
    "mask, dtype, causal",
    [
        ((2, 4, 17, 33), f32, True),
        ((17, 33), bool_, False),
        ((2, 1, 1, 33), bool_, True),
        ((4, 17, 1), f32, False),
        ((1, 1, 17, 33), f32, False),
    ],
)
def test_masks(mask, dtype, causal):
    program = program_of(SHAPES[1], TensorType(dtype, mask), causal=causal, scale=0.3)
    arrays = arrays_of(program)
    if dtype is bool_:
        arrays[3][..., 0] = True
    assert_equal(program, arrays, threads=2)


def test_a_row_that_sees_nothing_is_zero_and_alone():
    program = program_of(SHAPES[2], TensorType(bool_, (30, 50)))
    arrays = arrays_of(program)
    arrays[3][:, 0] = True
    arrays[3][7] = False
    assert_equal(program, arrays)
    assert (Predictor(program)(*arrays)[:, :, 7] == 0).all()


def test_f64():
    program = program_of(SHAPES[1], dtype=f64, causal=True)
    arrays = arrays_of(program)
    got = Predictor(program)(*arrays)
    np.testing.assert_allclose(got, evaluate(program, *arrays), rtol=0, atol=64 * 2.0**-52)


@pytest.mark.parametrize("b, t, s", [(1, 1, 1), (3, 5, 70), (2, 128, 129), (0, 3, 4), (2, 1, 40)])
def test_symbolic_sizes(b, t, s):
    shape = (Dim("B", 0, 8), 4, 2, Dim("T", 1, 256), Dim("S", 1, 256), 16, 16)
    program = program_of(shape, TensorType(f32, (shape[0], 1, shape[3], shape[4])), causal=True)
    assert_equal(program, arrays_of(program, {"B": b, "T": t, "S": s}), threads=2)


def test_views_are_read_and_written_in_place():
    """q, k, v out of one projection, heads split and joined: no step copies."""
    b, shape = Builder(), (2, 19, 3 * 4 * 8)
    x = b.input(TensorType(f32, shape), "x")
    parts = []
    for i in range(3):
        cut = b.slice(x, starts=(0, 0, 32 * i), stops=(2, 19, 32 * i + 32), steps=(1, 1, 1))
        parts.append(b.transpose(b.reshape(cut, shape=(2, 19, 4, 8)), perm=(0, 2, 1, 3)))
    y = b.transpose(b.attention(*parts), perm=(0, 2, 1, 3))
    b.graph.outputs = [b.mul(b.reshape(y, shape=(2, 19, 32)), 2.0)]
    program = Program(b.graph)
    arrays = arrays_of(program)
    assert_equal(program, arrays, threads=2)
    assert len(Predictor(program).report().kernels) == 1


def test_one_order_of_heads_is_stored():
    """A kernel behind a view that is stored does not read what lies before the view."""
    b = Builder()
    q, w = b.input(TensorType(f32, (1, 4, 16, 8)), "q"), b.input(TensorType(f32, (8, 32)), "w")
    seen = b.transpose(b.attention(q, q, q), perm=(0, 2, 1, 3))
    b.graph.outputs = [b.linear(b.reshape(seen, shape=(1, 16, 32)), w)]
    first, *_ = schedule(Program(b.graph), get("cpu")).steps
    assert [v.shape for v in first.kernel.writes] == [(1, 16, 4, 8)]

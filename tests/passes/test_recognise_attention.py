"""Attention spelled out becomes one op, and nothing that is not attention does."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Program, TensorType, bool_, f32
from oarlock.passes.pipeline import run_pipeline

STAGES = ["recognise_attention", "simplify", "dead_code"]
TOLERANCE = 64 * 2.0**-24


def spelled(shape=(2, 3, 5, 8), mask=None, bias=None, axis=-1, scale=("mul", 0.25), extra=False):
    b = Builder()
    q, k, v = (b.input(TensorType(f32, shape), name) for name in "qkv")
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    scores = b.matmul(q, b.transpose(k, perm=order))
    scores = getattr(b, scale[0])(scores, scale[1])
    if bias is not None:
        scores = b.add(b.input(TensorType(f32, bias), "bias"), scores)
    if mask is not None:
        seen = b.input(TensorType(bool_, mask), "mask")
        scores = b.where(seen, scores, b.const(-np.inf, f32))
    weights = b.softmax(scores, axis=axis)
    b.graph.outputs = [b.matmul(weights, v), *([weights] if extra else [])]
    return Program(b.graph)


def names_of(program):
    return [node.name for node in program.graph.nodes]


def arrays_of(program):
    rng = np.random.default_rng(0)
    return [
        rng.normal(size=v.shape).astype(np.float32) if not v.dtype.is_bool
        else rng.random(v.shape) > 0.3
        for v in program.graph.inputs
    ]  # fmt: skip


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"scale": ("div", 4.0)},
        {"shape": (6, 5, 8)},
        {"shape": (6, 5, 8), "mask": (6, 1, 5)},
        {"shape": (6, 5, 8), "bias": (5, 5)},
        {"mask": (5, 5)},
        {"bias": (3, 5, 5)},
    ],
)
def test_becomes_attention(attrs):
    before = spelled(**attrs)
    after = run_pipeline(before, STAGES)
    assert "attention" in names_of(after) and "softmax" not in names_of(after)
    arrays = arrays_of(before)
    expected, got = evaluate(before, *arrays), evaluate(after, *arrays)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "attrs",
    [
        {"axis": -2},
        {"extra": True},
        {"scale": ("add", 1.0), "shape": (5, 8)},
        {"bias": (5, 5), "mask": (5, 5)},
    ],
)
def test_unchanged(attrs):
    before = spelled(**attrs)
    assert "attention" not in names_of(run_pipeline(before, STAGES))


def test_two_masks_are_added():
    b = Builder()
    q, k, v = (b.input(TensorType(f32, (2, 3, 5, 8)), name) for name in "qkv")
    scores = b.matmul(q, b.transpose(k, perm=(0, 1, 3, 2)))
    for shape in ((3, 5, 5), (2, 1, 1, 5)):
        scores = b.add(scores, b.input(TensorType(f32, shape), f"m{len(shape)}"))
    b.graph.outputs = [b.matmul(b.softmax(scores), v)]
    before = Program(b.graph)
    after = run_pipeline(before, STAGES)
    assert names_of(after).count("attention") == 1
    arrays = arrays_of(before)
    expected, got = evaluate(before, *arrays), evaluate(after, *arrays)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_repeated_heads_are_shared():
    b = Builder()
    q = b.input(TensorType(f32, (2, 6, 5, 8)), "q")
    k, v = (b.input(TensorType(f32, (2, 2, 7, 8)), name) for name in "kv")

    def repeat(x):
        wide = b.broadcast_to(b.reshape(x, shape=(2, 2, 1, 7, 8)), shape=(2, 2, 3, 7, 8))
        return b.reshape(wide, shape=(2, 6, 7, 8))

    b.graph.outputs = [b.attention(q, repeat(k), repeat(v))]
    before = Program(b.graph)
    after = run_pipeline(before, STAGES)
    assert names_of(after) == ["attention"]
    arrays = arrays_of(before)
    np.testing.assert_array_equal(evaluate(after, *arrays), evaluate(before, *arrays))

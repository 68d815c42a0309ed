"""Projections that only attention reads become one product; others stay."""

from __future__ import annotations

import numpy as np

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Program, TensorType, f32
from oarlock.passes.pipeline import run_pipeline
from oarlock.runtime.predictor import Predictor


def projections(widths=(32, 16, 16), tail=False):
    """q with 4 heads, k and v with fewer; ``tail`` reads k by a pointwise op too."""
    rng, b, params = np.random.default_rng(0), Builder(), {}
    x = b.input(TensorType(f32, (2, 9, 24)), "x")
    heads = []
    for name, width in zip("qkv", widths):
        params[f"{name}.w"] = rng.normal(0, 0.2, (width, 24)).astype(np.float32)
        params[f"{name}.b"] = rng.normal(0, 0.2, width).astype(np.float32)
        types = [TensorType(f32, params[f"{name}.{p}"].shape) for p in "wb"]
        y = b.linear(x, b.param(f"{name}.w", types[0]), b.param(f"{name}.b", types[1]))
        heads.append(y)
    split = [
        b.transpose(b.reshape(y, shape=(2, 9, w // 8, 8)), perm=(0, 2, 1, 3))
        for y, w in zip(heads, widths)
    ]
    b.graph.outputs = [b.attention(*split), *([b.exp(heads[1])] if tail else [])]
    return Program(b.graph, params)


def linears(program):
    return [n for n in program.graph.nodes if n.name == "linear"]


def test_projections_become_one():
    before = projections()
    after = run_pipeline(before, ["fuse_siblings"])
    (fused,) = linears(after)
    assert fused.output.shape == (2, 9, 64)
    x = np.random.default_rng(1).normal(size=(2, 9, 24)).astype(np.float32)
    expected = evaluate(before, x)
    tolerance = 64 * 2.0**-24
    np.testing.assert_allclose(evaluate(after, x), expected, rtol=0, atol=tolerance)
    predictor = Predictor(before)
    np.testing.assert_allclose(predictor(x), expected, rtol=0, atol=tolerance)
    assert len(predictor.report().kernels) == 2


def test_what_pointwise_ops_read_stays_apart():
    after = run_pipeline(projections(tail=True), ["fuse_siblings"])
    assert sorted(n.output.shape[-1] for n in linears(after)) == [16, 48]


def test_different_inputs_stay_apart():
    program = projections()
    assert len(linears(program)) == 3
    b = Builder()
    x, y = (b.input(TensorType(f32, (2, 2, 3, 8)), n) for n in "xy")
    w = b.param("w", TensorType(f32, (8, 8)))
    b.graph.outputs = [b.attention(b.linear(x, w), b.linear(y, w), y)]
    params = {"w": np.eye(8, dtype=np.float32)}
    after = run_pipeline(Program(b.graph, params), ["fuse_siblings"])
    assert len(linears(after)) == 2

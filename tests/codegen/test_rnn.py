"""Recurrent scans with constant weights, on every kind of target, equal to the reference."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32
from oarlock.ir.op import REGISTRY
from oarlock.runtime.predictor import Predictor

CASES = [
    ("lstm_scan", 200, {}),
    ("lstm_scan", 21, {"reverse": True}),
    ("gru_scan", 40, {}),
    ("gru_scan", 3, {"reverse": True}),
    ("rnn_scan", 29, {}),
    ("rnn_scan", 16, {"nonlinearity": "relu", "reverse": True}),
]


def program_of(name, hidden, steps, batch, bias=True, **attrs):
    """A scan with params, and its params drawn so that states stay of the order of one."""
    record, rng = REGISTRY[name], np.random.default_rng(hidden)
    rows = record.gates * hidden
    b = Builder()
    gx = b.input(TensorType(f32, (steps, batch, rows)), "gx")
    states = [b.input(TensorType(f32, (batch, hidden)), f"s{i}") for i in range(record.states)]
    params = {"w": rng.normal(0, hidden**-0.5, (rows, hidden)).astype(np.float32)}
    if bias:
        params["b"] = rng.normal(0, 1, rows).astype(np.float32)
    weights = [b.param(k, TensorType(f32, p.shape)) for k, p in params.items()]
    b.graph.outputs = list(b.build(record(**attrs), gx, *states, *weights))
    dims = {d.name: d for d in (steps, batch) if isinstance(d, Dim)}
    return Program(b.graph, params, dims)


def arrays_of(program, steps, batch):
    rng = np.random.default_rng(1)
    env = {"T": steps, "B": batch}
    shapes = [v.type.concrete(env).shape for v in program.graph.inputs]
    return [rng.uniform(-1, 1, s).astype(np.float32) for s in shapes]


def assert_equal(program, arrays, **options):
    """Steps contract: an error of a step is not multiplied by the next ones."""
    predictor = Predictor(program, **options)
    assert any("scan" in name for name in predictor.report().kernels)
    hidden = program.graph.inputs[1].shape[-1]
    for got, expected in zip(predictor(*arrays), evaluate(program, *arrays)):
        np.testing.assert_allclose(got, expected, rtol=0, atol=8 * hidden * 2.0**-24)


@pytest.mark.parametrize("name, hidden, attrs", CASES)
@pytest.mark.parametrize("target", ["native", "avx2", "plain"])
def test_targets(name, hidden, attrs, target):
    program = program_of(name, hidden, 6, 5, **attrs)
    assert_equal(program, arrays_of(program, 6, 5), threads=2, target=target)


@pytest.mark.parametrize("steps, batch", [(1, 1), (2, 64), (35, 13), (0, 3), (4, 0)])
@pytest.mark.parametrize("name", ["lstm_scan", "gru_scan", "rnn_scan"])
def test_symbolic_sizes(name, steps, batch):
    program = program_of(name, 24, Dim("T", 0, 64), Dim("B", 0, 64), bias=False)
    assert_equal(program, arrays_of(program, steps, batch), threads=2)


def test_layers_in_both_directions():
    rng, hidden = np.random.default_rng(3), 20
    b, params = Builder(), {}
    x = b.input(TensorType(f32, (7, 3, 10)), "x")
    zero = b.broadcast_to(b.const(0.0, f32), shape=(4, 3, hidden))
    for layer, width in enumerate((10, 2 * hidden)):
        for direction in range(2):
            for name, shape in [
                ("w_ih", (4 * hidden, width)),
                ("w_hh", (4 * hidden, hidden)),
                ("b_ih", (4 * hidden,)),
                ("b_hh", (4 * hidden,)),
            ]:
                key = f"{name}{layer}{direction}"
                params[key] = rng.normal(0, 0.2, shape).astype(np.float32)
    weights = [b.param(k, TensorType(f32, p.shape)) for k, p in params.items()]
    b.graph.outputs = list(b.lstm(x, zero, zero, *weights, layers=2, bidirectional=True))
    program = Program(b.graph, params)
    arrays = [rng.normal(size=(7, 3, 10)).astype(np.float32)]
    predictor = Predictor(program)
    assert sum("scan" in name for name in predictor.report().kernels) == 4
    for got, expected in zip(predictor(*arrays), evaluate(program, *arrays)):
        np.testing.assert_allclose(got, expected, rtol=0, atol=16 * hidden * 2.0**-24)

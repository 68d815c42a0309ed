"""Recurrent scans whose weights come when the program runs, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32
from oarlock.ir.op import REGISTRY
from oarlock.runtime.predictor import Predictor

T, B = Dim("T", 0, 64), Dim("B", 0, 64)
SCANS = [
    ("lstm_scan", {}), ("gru_scan", {}), ("rnn_scan", {"nonlinearity": "relu"}),
    ("lstm_scan_train", {}), ("gru_scan_train", {"reverse": True}),
    ("lstm_scan_grad", {}), ("lstm_scan_grad", {"reverse": True}), ("gru_scan_grad", {}),
    ("gru_scan_grad", {"reverse": True}), ("rnn_scan_grad", {}),
    ("rnn_scan_grad", {"nonlinearity": "relu", "reverse": True}),
]  # fmt: skip


def types_of(name, hidden, steps, batch, bias):
    """Operands as ``name`` expects them."""
    record = REGISTRY[name]
    state = TensorType(f32, (batch, hidden))
    weight = TensorType(f32, (record.gates * hidden, hidden))

    def sequence(n):
        return TensorType(f32, (steps, batch, n * hidden))

    if name.endswith("_grad"):
        saved = [sequence(n) for n in record.sequences]
        return [sequence(1), *[state] * record.states, *saved, *[state] * record.firsts, weight]
    more = [TensorType(f32, (record.gates * hidden,))] * bias
    return [sequence(record.gates), *[state] * record.states, weight, *more]


def check(name, hidden, sizes, attrs, bias=True, symbolic=False, **options):
    steps, batch = (T, B) if symbolic else sizes
    b = Builder()
    types = types_of(name, hidden, steps, batch, bias)
    inputs = [b.input(t, f"x{i}") for i, t in enumerate(types)]
    b.graph.outputs = list(b.build(REGISTRY[name](**attrs), *inputs))
    program = Program(b.graph, {}, {"T": T, "B": B} if symbolic else {})
    predictor = Predictor(program, **options)
    assert any("scan" in kernel for kernel in predictor.report().kernels)
    rng, env = np.random.default_rng(0), {"T": sizes[0], "B": sizes[1]}
    shapes = [t.concrete(env).shape for t in types]
    arrays = [rng.uniform(-1, 1, s).astype(np.float32) for s in shapes]
    gates = REGISTRY[name].gates
    at = -1 if name.endswith("_grad") else 1 + REGISTRY[name].states
    arrays[at] *= np.float32(0.5 / (gates * hidden) ** 0.5)  # steps contract
    expected = evaluate(program, *arrays)
    for got, want in zip(predictor(*arrays), expected, strict=True):
        bound = 16 * gates * hidden * 2.0**-24 * max(1.0, np.abs(want).max(initial=0))
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)


@pytest.mark.parametrize("name, attrs", SCANS)
@pytest.mark.parametrize("target, hidden", [("native", 200), ("avx2", 21), ("plain", 5)])
def test_targets(name, attrs, target, hidden):
    check(name, hidden, (6, 5), attrs, threads=2, target=target)


@pytest.mark.parametrize("sizes", [(1, 1), (9, 33), (0, 3), (4, 0)])
@pytest.mark.parametrize("name", [n for n, attrs in SCANS if not attrs])
def test_symbolic_sizes(name, sizes):
    check(name, 40, sizes, {}, bias=False, symbolic=True, threads=2)


@pytest.mark.parametrize("hidden", [8, 40])
@pytest.mark.parametrize("number", [0.0, 0.5])
@pytest.mark.parametrize("name", ["lstm_scan_grad", "gru_scan_grad", "rnn_scan_grad"])
def test_no_gradient_but_of_the_last_state(name, number, hidden):
    """Zeros for the gradient of all outputs are not stored; other numbers are."""
    b = Builder()
    types = types_of(name, hidden, 5, 3, True)
    inputs = [b.input(t, f"x{i}") for i, t in enumerate(types[1:])]
    dy = b.broadcast_to(b.const(number, f32), shape=types[0].shape)
    b.graph.outputs = list(b.build(REGISTRY[name](), dy, *inputs))
    program = Program(b.graph)
    predictor = Predictor(program, threads=2)
    assert len(predictor.report().kernels) == (1 if number == 0 else 2)
    rng, gates = np.random.default_rng(0), REGISTRY[name].gates
    arrays = [rng.uniform(-1, 1, v.shape).astype(np.float32) for v in inputs]
    arrays[-1] *= np.float32(0.5 / (gates * hidden) ** 0.5)  # steps contract
    for got, want in zip(predictor(*arrays), evaluate(program, *arrays), strict=True):
        bound = 16 * gates * hidden * 2.0**-24 * max(1.0, np.abs(want).max(initial=0))
        np.testing.assert_allclose(got, want, rtol=0, atol=bound)

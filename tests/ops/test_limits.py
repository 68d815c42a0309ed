"""Sizes that a symbolic program cannot take are refused by name, by both executors."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.errors import InputError, TypeMismatch
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, TensorType, f32
from oarlock.ir.op import REGISTRY, Op
from oarlock.runtime.predictor import Predictor
from tests.samples import results_of

N = Dim("N", 0, 64)
CASES = {
    "slice": (REGISTRY["slice"](starts=(4,), stops=(5,), steps=(1,)), 4, "5 <= N"),
    "topk": (REGISTRY["topk"](k=3), 2, "3 <= N"),
    "argmax": (REGISTRY["argmax"](), 0, "1 <= N"),
}


def program_of(op: Op, size) -> Program:
    b = Builder()
    b.graph.outputs = list(b.append(op, [b.input(TensorType(f32, (size,)), "x")]).outputs)
    return Program(b.graph)


@pytest.mark.parametrize(("op", "small", "why"), CASES.values(), ids=list(CASES))
def test_refused_at_run_time(op, small, why):
    program = program_of(op, N)
    predictor = Predictor(program)
    for run in (lambda x: evaluate(program, x), predictor):
        with pytest.raises(InputError, match=f"expected {why}, with N={small}"):
            run(np.zeros(small, np.float32))
    x = np.arange(6, dtype=np.float32)
    for got, expected in zip(results_of(predictor(x)), results_of(evaluate(program, x))):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(("op", "small", "why"), CASES.values(), ids=list(CASES))
def test_refused_when_known(op, small, why):
    with pytest.raises(TypeMismatch):
        program_of(op, small)


def test_a_negative_size_is_refused():
    op = REGISTRY["max_pool"](kernel=(3,), stride=(1,), padding=((0, 0),))
    b = Builder()
    b.graph.outputs = [b.build(op, b.input(TensorType(f32, (1, 2, N)), "x"))]
    program = Program(b.graph)
    x = np.zeros((1, 2, 1), np.float32)
    for run in (lambda x: evaluate(program, x), Predictor(program)):
        with pytest.raises(InputError, match="max_pool: a size of N-2 is negative, with N=1"):
            run(x)

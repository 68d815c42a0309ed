"""Sizes that a symbolic program cannot take are refused by name, by both executors."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.errors import InputError, TypeMismatch
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Graph, Program, TensorType, bool_, f32
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


@pytest.mark.parametrize("taken", [True, False])
def test_refused_in_a_branch_whether_it_runs_or_not(taken):
    sides = []
    for start in (4, 0):
        side = Builder(Graph())
        x = side.input(TensorType(f32, (N,)), "x")
        y = side.slice(x, starts=(start,), stops=(start + 1,), steps=(1,)) if start else None
        zero = side.const((0.0,), f32)
        side.graph.outputs = [zero if y is None else y]
        sides.append(side.graph)
    b = Builder()
    predicate, x = b.input(TensorType(bool_, ()), "p"), b.input(TensorType(f32, (N,)), "x")
    b.graph.outputs = [b.if_(predicate, x, graphs=sides)]
    program = Program(b.graph)
    for run in (lambda *a: evaluate(program, *a), Predictor(program)):
        with pytest.raises(InputError, match="slice: expected 5 <= N, with N=3"):
            run(np.array(taken), np.zeros(3, np.float32))
        (got,) = results_of(run(np.array(taken), np.arange(5, dtype=np.float32)))
        assert got == (4 if taken else 0)


def test_a_negative_size_is_refused():
    op = REGISTRY["max_pool"](kernel=(3,), stride=(1,), padding=((0, 0),))
    b = Builder()
    b.graph.outputs = [b.build(op, b.input(TensorType(f32, (1, 2, N)), "x"))]
    program = Program(b.graph)
    x = np.zeros((1, 2, 1), np.float32)
    for run in (lambda x: evaluate(program, x), Predictor(program)):
        with pytest.raises(InputError, match="max_pool: a size of N-2 is negative, with N=1"):
            run(x)

"""Sub-graph ops: meaning, text, and refusals."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.errors import TypeMismatch
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Graph, Program, TensorType, bool_, f32, i64, parser

X = TensorType(f32, (3,))


def graph(types, make) -> Graph:
    b = Builder()
    b.graph.outputs = make(b, *(b.input(t, f"a{i}") for i, t in enumerate(types)))
    return b.graph


def branch() -> Program:
    b = Builder()
    pred, x = b.input(TensorType(bool_, ()), "pred"), b.input(X, "x")
    then = graph([X], lambda g, a: [g.mul(a, 2.0)])
    other = graph([X], lambda g, a: [g.neg(a)])
    b.graph.outputs = [b.if_(pred, x, graphs=(then, other))]
    return Program(b.graph)


def loop() -> Program:
    """Double x until the counter reaches n."""
    scalar = TensorType(i64, ())
    types = [scalar, scalar, X]
    b = Builder()
    n, x = b.input(scalar, "n"), b.input(X, "x")
    cond = graph(types, lambda g, i, n, x: [g.lt(i, n)])
    body = graph(types, lambda g, i, n, x: [g.add(i, 1), n, g.add(x, x)])
    b.graph.outputs = [b.while_(b.const(0, i64), n, x, graphs=(cond, body))[2]]
    return Program(b.graph)


def test_if_runs_one_branch():
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(evaluate(branch(), np.array(True), x), x * 2)
    np.testing.assert_array_equal(evaluate(branch(), np.array(False), x), -x)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_while_runs_until_false(n):
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(evaluate(loop(), np.array(n), x), x * 2**n)


@pytest.mark.parametrize("make", [branch, loop])
def test_text_round_trip(make):
    program = make()
    assert parser.parse(str(program)) == program


def test_branches_of_two_types_are_refused():
    b = Builder()
    pred, x = b.input(TensorType(bool_, ()), "pred"), b.input(X, "x")
    then = graph([X], lambda g, a: [a])
    other = graph([X], lambda g, a: [g.reshape(a, shape=(3, 1))])
    with pytest.raises(TypeMismatch) as error:
        b.if_(pred, x, graphs=(then, other))
    assert str(error.value) == (
        "if_(bool[], f32[3]): then gives (f32[3],), else gives (f32[3,1],); give both one type"
    )

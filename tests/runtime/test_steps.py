"""Programs whose sizes a run decides, through ``Predictor``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock import Predictor
from oarlock.errors import InputError, ModelError
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Program, State, TensorType, bool_, f32, i64
from tests.ops.test_sizes import checked, counted, graph, growing, halves, positive

L, R = Dim("L", min=0), Dim("R", min=0)
SCALAR = TensorType(i64)
WIDE = 96


def decoder() -> Program:
    """Append ``tanh(an eighth of the sum of the rows @ w)`` until n rows or a sum below the limit."""
    rng = np.random.default_rng(0)
    rows, row = TensorType(f32, (L, WIDE)), TensorType(f32, (1, WIDE))
    matrix = TensorType(f32, (WIDE, WIDE))
    b = Builder()
    n, x = b.input(SCALAR, "n"), b.input(row, "x")
    types = [SCALAR, TensorType(bool_), SCALAR, rows]
    cond = graph(types, lambda g, i, done, n, x: [g.bit_and(g.lt(i, n), g.logical_not(done))])

    def step(g, i, done, n, x):
        w = g.param("w", matrix)
        mean = g.reshape(g.mul(g.reduce_sum(x, axes=(0,)), 0.125), shape=(1, WIDE))
        new = g.tanh(g.matmul(mean, w))
        done = g.lt(g.reduce_sum(new, axes=(0, 1)), -4.0)
        return [g.add(i, 1), done, n, g.concat(x, new, axis=0)]

    body = graph(types, step)
    start = [b.const(0, i64), b.const(False, bool_)]
    results = b.while_(*start, n, x, sizes=((L, R),), graphs=(cond, body))
    b.graph.outputs = [results[3], results[0]]
    weights = rng.standard_normal((WIDE, WIDE)).astype(np.float32) / 5
    return Program(b.graph, {"w": weights})


def counting() -> Program:
    """A count of calls that a branch changes; the count is returned as that many ones."""
    b = Builder()
    p = b.input(TensorType(bool_), "p")
    then = graph([], lambda g: [g.add(g.param("count", SCALAR), 1)])
    other = graph([], lambda g: [g.param("count", SCALAR)])
    count = b.if_(p, graphs=(then, other))
    b.bind_size(count, size=R)
    b.assert_(b.lt(count, 3), message="three is too many", kind="ValueError")
    b.graph.outputs = [b.broadcast_to(b.const(1.0, f32), shape=(R,)), count]
    return Program(b.graph, {"count": np.array(0)}, state=(State("count", 1),))


INPUTS = {
    positive: [(np.array([1, -1, 2, 0, 3], np.float32),), (np.full(5, -1, np.float32),)],
    counted: [(np.array(4),), (np.array(0),)],
    growing: [(np.array(n), np.array([[1, 2]], np.float32)) for n in (3, 0)],
    halves: [(np.array(p), np.arange(5, dtype=np.float32)) for p in (True, False)],
    checked: [(np.array(3), np.ones(3, np.float32))],
    decoder: [
        (np.array(n), np.random.default_rng(n).standard_normal((1, WIDE)).astype(np.float32))
        for n in (0, 1, 9)
    ],
}


def check(predictor, program, inputs):
    got, expected = predictor(*inputs), evaluate(program, *inputs)
    pairs = zip(*(x if isinstance(x, tuple) else (x,) for x in (got, expected)))
    for a, b in pairs:
        assert a.shape == b.shape and a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=WIDE * 2.0**-22, atol=WIDE * 2.0**-22)


@pytest.mark.parametrize("make", INPUTS)
def test_runs_like_the_reference(make):
    program = make()
    predictor = Predictor(program, threads=1)
    for inputs in INPUTS[make]:
        check(predictor, program, inputs)


def test_report_says_what_runs_where():
    predictor = Predictor(decoder(), threads=1)
    predictor(*INPUTS[decoder][2])
    report = predictor.report()
    assert [n.name.rstrip("0123456789") for n in report.nodes] == ["while_", "segment", "segment"]
    assert [n.slow for n in report.nodes][::2] == ["a step that Python drives", None]
    assert report.weight_bytes >= WIDE * WIDE * 4


def test_an_error_leaves_state_and_the_next_call_right():
    predictor = Predictor(counting(), threads=1)
    yes, no = np.array(True), np.array(False)
    assert [predictor(p).size for p in (yes, no, yes)] == [1, 1, 2]
    with pytest.raises(ModelError, match="ValueError: three is too many"):
        predictor(yes)
    assert predictor(no).size == 2
    assert predictor.state["count"] == 2
    other = predictor.clone()
    assert other(yes).size == 1
    predictor.reset()
    assert predictor(no).size == 0


def test_an_assertion_comes_before_what_it_guards():
    b = Builder()
    x, i = b.input(TensorType(f32, (300,)), "x"), b.input(TensorType(i64, (1,)), "i")
    inside = b.lt(b.reshape(i, shape=()), 300)
    b.assert_(inside, b.reshape(i, shape=()), message="no row {0}", kind="IndexError")
    b.graph.outputs = [b.add(b.take(x, i, axis=0), x)]
    predictor = Predictor(Program(b.graph), threads=1)
    with pytest.raises(ModelError, match="IndexError: no row 300"):
        predictor(np.zeros(300, np.float32), np.array([300]))
    with pytest.raises(InputError, match="index is out of range"):
        predictor(np.zeros(300, np.float32), np.array([-301]))
    assert predictor(np.ones(300, np.float32), np.array([-300])).shape == (300,)


def test_numbers_that_may_be_negative_are_divided_as_python_does():
    n = Dim("n", min=None)
    b = Builder()
    x = b.input(SCALAR, "x")
    b.bind_size(x, size=n)
    count = n // 2 + 100
    b.graph.outputs = [b.mul(b.iota(size=count), b.size(dim=n // 2))]
    predictor = Predictor(Program(b.graph), threads=1)
    for value in (-3, -4, 5):
        expected = np.arange(value // 2 + 100) * (value // 2)
        np.testing.assert_array_equal(predictor(np.array(value)), expected)


def test_out_receives_results_of_known_sizes():
    predictor = Predictor(checked(), threads=1)
    out = np.zeros(3, np.float32)
    predictor(np.array(3), np.ones(3, np.float32), out=out)
    np.testing.assert_array_equal(out, -np.ones(3))
    with pytest.raises(InputError, match="out: the run decides K"):
        Predictor(positive(), threads=1)(np.zeros(5, np.float32), out=out)


def test_host_calls_inside_branches():
    torch = pytest.importorskip("torch")
    x = TensorType(f32, (4, 4))
    b = Builder()
    p, a = b.input(TensorType(bool_), "p"), b.input(x, "a")
    template = '{"args": [{"tensor": 0}], "kwargs": {}}'
    call = {"target": "aten.linalg_inv.default", "template": template, "types": (x,)}
    then = graph([x], lambda g, a: [g.mul(g.aten_call(a, **call), 2.0)])
    other = graph([x], lambda g, a: [g.neg(a)])
    b.graph.outputs = [b.if_(p, a, graphs=(then, other))]
    predictor = Predictor(Program(b.graph), threads=1)
    given = np.eye(4, dtype=np.float32) * 4 + 1
    inverse = torch.linalg.inv(torch.from_numpy(given)).numpy()
    np.testing.assert_array_equal(predictor(np.array(True), given), inverse * 2)
    np.testing.assert_array_equal(predictor(np.array(False), given), -given)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import numpy as np
from oarlock import Predictor
rows, count = Predictor(sys.argv[1], threads=1)(np.array(4), np.ones((1, 96), np.float32))
print(rows.shape, count)
"""


def test_a_file_runs_without_torch(tmp_path):
    path = tmp_path / "decoder.oar"
    decoder().save(path)
    command = [sys.executable, "-c", WITHOUT_TORCH, str(path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, count = evaluate(decoder(), np.array(4), np.ones((1, 96), np.float32))
    assert found.stdout.strip() == f"{rows.shape} {count}"

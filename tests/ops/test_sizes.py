"""Sizes that a run decides: meaning, text, scopes, and what passes keep."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.errors import InputError, InvalidProgram, ModelError, TypeMismatch
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Dim, Graph, Program, TensorType, bool_, f32, i64, parser
from oarlock.ir.verify import verify
from oarlock.passes.pipeline import PORTABLE, TARGET, run_pipeline
from oarlock.passes.stage import get

K, L, R = Dim("K", min=0), Dim("L", min=0), Dim("R", min=0)
X = TensorType(f32, (5,))
ROWS = TensorType(f32, (L, 2))


def graph(types, make) -> Graph:
    b = Builder()
    b.graph.outputs = make(b, *(b.input(t, f"a{i}") for i, t in enumerate(types)))
    return b.graph


def positive() -> Program:
    """The positive elements of x."""
    b = Builder()
    x = b.input(X, "x")
    places = b.nonzero(b.gt(x, 0.0), size=K)
    b.graph.outputs = [b.take(x, b.reshape(places, shape=(K,)), axis=0)]
    return Program(b.graph)


def counted() -> Program:
    """``0, 1, ..., n - 1`` and n ones."""
    b = Builder()
    n = b.input(TensorType(i64), "n")
    b.bind_size(n, size=K)
    b.graph.outputs = [b.iota(size=K), b.broadcast_to(b.const(1.0, f32), shape=(K,))]
    return Program(b.graph)


def growing() -> Program:
    """Append the sum of all rows, n times."""
    b = Builder()
    scalar = TensorType(i64)
    n, x = b.input(scalar, "n"), b.input(TensorType(f32, (1, 2)), "x")
    types = [scalar, scalar, ROWS]
    cond = graph(types, lambda g, i, n, x: [g.lt(i, n)])

    def step(g, i, n, x):
        total = g.reshape(g.reduce_sum(x, axes=(0,)), shape=(1, 2))
        return [g.add(i, 1), n, g.concat(x, total, axis=0)]

    body = graph(types, step)
    b.graph.outputs = [b.while_(b.const(0, i64), n, x, sizes=((L, R),), graphs=(cond, body))[2]]
    return Program(b.graph)


def halves() -> Program:
    """The first two of x, or all twice."""
    b = Builder()
    p, x = b.input(TensorType(bool_), "p"), b.input(X, "x")
    then = graph([X], lambda g, a: [g.slice(a, starts=(0,), stops=(2,), steps=(1,))])
    other = graph([X], lambda g, a: [g.concat(a, a, axis=0)])
    y = b.if_(p, x, sizes=((2, 10, R),), graphs=(then, other))
    b.graph.outputs = [b.mul(y, 2.0), b.size(dim=R)]
    return Program(b.graph)


def checked() -> Program:
    """x, which must not be longer than n."""
    b = Builder()
    n, x = b.input(TensorType(i64), "n"), b.input(TensorType(f32, (Dim("N"),)), "x")
    size = b.size(dim=x.shape[0])
    b.assert_(b.le(size, n), size, n, message="{0} is more than {1}", kind="ValueError")
    b.graph.outputs = [b.neg(x)]
    return Program(b.graph)


PROGRAMS = [positive, counted, growing, halves, checked]


def run(make, *inputs):
    """The result, the same before and after every pass."""
    program = verify(make())
    before = evaluate(program, *inputs)
    after = evaluate(run_pipeline(program, [*PORTABLE, *TARGET]), *inputs)
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (before, after))):
        np.testing.assert_array_equal(a, b)
    return before


@pytest.mark.parametrize("make", PROGRAMS)
def test_text_round_trip(make):
    program = make()
    assert parser.parse(str(program)) == program


@pytest.mark.parametrize("make", PROGRAMS)
def test_files_round_trip(make, tmp_path):
    program = make()
    program.save(tmp_path / "p.oar")
    from oarlock.ir.archive import load

    assert load(tmp_path / "p.oar") == program


@pytest.mark.parametrize("x", [[1, -1, 2, 0, 3], [-1, -1, -1, -1, -1], [1, 2, 3, 4, 5]])
def test_nonzero_gives_as_many_as_there_are(x):
    x = np.array(x, np.float32)
    np.testing.assert_array_equal(run(positive, x), x[x > 0])


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_number_becomes_a_size(n):
    places, ones = run(counted, np.array(n))
    np.testing.assert_array_equal(places, np.arange(n))
    np.testing.assert_array_equal(ones, np.ones(n))


def test_a_number_may_be_negative_where_its_size_is_not():
    n = Dim("n", min=None)
    b = Builder()
    x = b.input(TensorType(i64), "x")
    b.bind_size(x, size=n)
    b.graph.outputs = [b.iota(size=n + 5)]
    program = parser.parse(str(Program(b.graph)))
    assert str(program) == str(Program(b.graph))
    assert evaluate(program, np.array(-3)).size == 2
    with pytest.raises(InputError, match=r"iota: a size of n[+]5 is negative, with n=-6"):
        evaluate(program, np.array(-6))


def test_a_number_out_of_range_is_no_size():
    with pytest.raises(InputError) as error:
        evaluate(counted(), np.array(-1))
    assert str(error.value) == "size K is -1; expected in [0, inf]"


@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_loop_lets_sizes_grow(n):
    x = expected = np.array([[1, 2]], np.float32)
    for _ in range(n):
        expected = np.concatenate([expected, expected.sum(0, keepdims=True)])
    np.testing.assert_array_equal(run(growing, np.array(n), x), expected)


@pytest.mark.parametrize("p", [True, False])
def test_branches_of_two_sizes(p):
    x = np.arange(5, dtype=np.float32)
    expected = x[:2] if p else np.concatenate([x, x])
    y, size = run(halves, np.array(p), x)
    np.testing.assert_array_equal(y, expected * 2)
    assert size == len(expected)


def test_an_assertion_is_kept_and_fails_with_its_message():
    x = np.ones(3, np.float32)
    np.testing.assert_array_equal(run(checked, np.array(3), x), -x)
    program = run_pipeline(checked(), [*PORTABLE, *TARGET])
    with pytest.raises(ModelError) as error:
        evaluate(program, np.array(2), x)
    assert str(error.value) == "ValueError: 3 is more than 2"
    assert error.value.kind == "ValueError"


def test_refined_sizes_are_checked():
    b = Builder()
    x, y = (b.input(TensorType(f32, (Dim(n),)), n.lower()) for n in "NM")
    b.graph.outputs = [b.add(x, b.refine(y, shape=x.shape))]
    program = Program(b.graph)
    one, two = np.ones(1, np.float32), np.ones(2, np.float32)
    np.testing.assert_array_equal(evaluate(program, two, two), two + two)
    for pair in ((one, two), (two, one)):
        with pytest.raises(InputError, match=r"refine: expected [NM] <= [NM]"):
            evaluate(program, *pair)


def test_the_same_count_twice_stays_two_nodes():
    b = Builder()
    x = b.input(X, "x")
    counts = [b.nonzero(x, size=d) for d in (K, L)]
    b.graph.outputs = [b.reduce_sum(c, axes=(0, 1)) for c in counts]
    assert sum(n.name == "nonzero" for n in get("cse")(Program(b.graph)).graph.nodes) == 2


def test_a_size_used_in_a_branch_keeps_what_binds_it():
    b = Builder()
    p, n = b.input(TensorType(bool_), "p"), b.input(TensorType(i64), "n")
    b.bind_size(n, size=K)
    then = graph([], lambda g: [g.reduce_sum(g.iota(size=K), axes=(0,))])
    other = graph([], lambda g: [g.const(0, i64)])
    b.graph.outputs = [b.if_(p, graphs=(then, other))]
    program = run_pipeline(Program(b.graph), [*PORTABLE, *TARGET])
    assert evaluate(program, np.array(True), np.array(4)) == 6
    assert evaluate(program, np.array(False), np.array(4)) == 0


def test_symbols_have_one_scope():
    b = Builder()
    x = b.input(X, "x")
    b.nonzero(x, size=K)
    b.graph.outputs = [b.nonzero(x, size=K)]
    with pytest.raises(InvalidProgram, match="dim K is bound twice"):
        verify(Program(b.graph))


def test_a_symbol_of_a_branch_does_not_leave_it():
    b = Builder()
    p, x = b.input(TensorType(bool_), "p"), b.input(X, "x")
    then = graph([X], lambda g, a: [g.reshape(g.nonzero(a, size=K), shape=(K,))])
    other = graph([X], lambda g, a: [g.iota(size=3)])
    with pytest.raises(TypeMismatch, match="give both one type"):
        b.if_(p, x, graphs=(then, other))
    y = b.if_(p, x, sizes=((K, 3, R),), graphs=(then, other))
    b.graph.outputs = [y]
    verify(Program(b.graph))
    b.graph.outputs = [b.add(y, b.iota(size=R)), b.iota(size=K)]
    with pytest.raises(InvalidProgram, match="dim K has no value here"):
        verify(Program(b.graph))


def test_a_loop_whose_size_depends_on_two_is_refused():
    types = [ROWS, ROWS]
    cond = graph(types, lambda g, a, c: [g.const(False, bool_)])
    body = graph(types, lambda g, a, c: [g.concat(a, a, axis=0), c])
    b = Builder()
    x = b.input(TensorType(f32, (1, 2)), "x")
    with pytest.raises(TypeMismatch) as error:
        b.while_(x, x, sizes=((L, R),), graphs=(cond, body))
    assert str(error.value) == (
        "while_(f32[1,2], f32[1,2]): graph body: expected outputs (f32[2*L,2], f32[2*L,2]), "
        "got (f32[2*L,2], f32[L,2])"
    )

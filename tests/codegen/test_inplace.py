"""Values stored over an operand: where that is safe, nowhere else, and without a change of results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oarlock
from oarlock.codegen.lower import schedule
from oarlock.codegen.plan import plan
from oarlock.codegen.target import get
from oarlock.ir import Builder, Graph, Program, TensorType, bool_, f32, i32, i64

X = TensorType(f32, (4, 4))
ROW = TensorType(f32, (4,))


@pytest.fixture(autouse=True, scope="module")
def _fast_builds():
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OARLOCK_CFLAGS", "-O1")
        yield


def build(make, *types: TensorType) -> Program:
    b = Builder()
    made = make(b, *(b.input(t, f"x{i}") for i, t in enumerate(types or [X])))
    b.graph.outputs = list(made) if isinstance(made, tuple) else [made]
    return Program(b.graph)


def graph(types, make) -> Graph:
    return build(lambda b, *xs: tuple(make(b, *xs)), *types).graph


def entries(program: Program) -> list:
    return [e for e in schedule(program, get("cpu")).buffers.entries() if e is not None]


def own(b, x):
    """A value in the arena that no loop computes: a kernel without an epilogue."""
    return b.cumsum(x, axis=0)


def over_one(b, x):
    a = own(b, x)
    return own(b, b.add(b.exp(a), 1.0))


def over_one_of_two(b, x):
    return own(b, b.add(own(b, x), own(b, b.neg(x))))


def two_results(b, x):
    a, c = own(b, x), own(b, b.exp(x))
    return own(b, b.exp(b.add(a, c))), own(b, b.tanh(b.sub(a, c)))


def residual(b, x):
    a, c = own(b, x), own(b, b.exp(x))
    return own(b, b.add(b.matmul(a, x), c))


def through_a_reshape(b, x):
    a = own(b, x)
    return own(b, b.exp(b.reshape(a, shape=(2, 8))))


def chain(b, x):
    for _ in range(4):
        x = b.matmul(b.sigmoid(own(b, x)), x)
    return x


def over_a_row(b, x):
    return own(b, b.softmax(own(b, x), axis=1))


def over_a_column(b, x):
    return own(b, b.softmax(own(b, x), axis=0))


def normalised(b, x):
    a, c = own(b, x), own(b, b.exp(x))
    both = b.add(a, c)
    return own(b, b.sub(both, b.mean(both, axes=(1,), keepdims=True)))


def counted(b, x):
    a = own(b, x)
    return own(b, b.add(b.exp(a), b.cast(b.iota(size=4), dtype=f32)))


PLACES = ((3,), (0,), (2,), (3,))


def softmax_and_loss(b, x, axis):
    """The loss reads one element of each row, which the gradient takes the place of."""
    a, at = own(b, x), b.const(PLACES, i64)
    powers = b.exp(b.sub(a, b.reduce_max(a, axes=(1,), keepdims=True)))
    total = b.reduce_sum(powers, axes=(1,), keepdims=True)
    loss = b.sub(b.gather(a, at, axis=axis), b.log(total))
    return own(b, loss), own(b, b.mul(powers, b.reciprocal(total)))


def picked_from_its_row(b, x):
    return softmax_and_loss(b, x, 1)


def rows(b):
    return b.const((3, 0, 3), i64)


def put_over(b, x):
    return own(b, b.put(own(b, x), rows(b), b.take(x, rows(b), axis=0), reduce="add"))


def scattered_over(b, x):
    places = b.const(((0, 1), (2, 2)), i64)
    new = b.slice(x, starts=(0, 0), stops=(2, 2), steps=(1, 1))
    return own(b, b.scatter(own(b, x), places, new, axis=1, reduce="add"))


SAFE = {
    counted: 1,
    picked_from_its_row: 1,
    put_over: 1,
    scattered_over: 1,
    over_one: 1,
    over_one_of_two: 1,
    two_results: 2,
    residual: 1,
    through_a_reshape: 1,
    chain: 4,
    over_a_row: 1,
    over_a_column: 1,
    normalised: 1,
}


@pytest.mark.parametrize("make, count", SAFE.items(), ids=lambda x: getattr(x, "__name__", ""))
def test_in_place(make, count):
    program = build(make)
    assert sum("over" in e for e in entries(program)) == count
    assert_same(program)


def read_later(b, x):
    a = own(b, x)
    return b.matmul(own(b, b.exp(a)), a)


def read_transposed(b, x):
    a = own(b, x)
    return own(b, b.exp(b.transpose(a, perm=(1, 0))))


def read_by_every_row(b, x):
    a = own(b, x)
    return own(b, b.add(b.reduce_max(a, axes=(0,), keepdims=True), b.transpose(a, perm=(1, 0))))


def kept_as_a_row(b, x):
    return own(b, b.reduce_max(own(b, x), axes=(1,), keepdims=True))


def read_twice(b, x):
    a = own(b, x)
    return own(b, b.add(b.exp(a), b.transpose(a, perm=(1, 0))))


def read_flipped(b, x):
    return own(b, b.exp(b.flip(own(b, x), axes=(0,))))


def read_by_the_product(b, x):
    a = own(b, x)
    return own(b, b.add(b.matmul(a, x), a))


def read_by_the_kernel_through_a_view(b, x):
    a, x = (b.reshape(v, shape=(1, 1, 4, 4)) for v in (own(b, x), x))
    seen = b.attention(b.transpose(a, perm=(0, 1, 3, 2)), x, x)
    return own(b, b.reshape(b.add(seen, a), shape=(4, 4)))


def residual_flipped(b, x):
    a, c = own(b, x), own(b, b.exp(x))
    return own(b, b.add(b.matmul(a, x), b.flip(c, axes=(0,))))


def padded(b, x):
    return own(b, b.pad(own(b, x), low=(0, 0), high=(2, 0), value=0.0))


def other_type(b, x):
    return own(b, b.cast(own(b, b.cast(x, dtype=i32)), dtype=f32))


def input_of_the_caller(b, x):
    return own(b, b.exp(x))


def output_of_the_caller(b, x):
    return b.exp(own(b, x))


def picked_from_any_row(b, x):
    return softmax_and_loss(b, x, 0)


def picked_after_the_store(b, x):
    a, at = own(b, x), b.const(PLACES, i64)
    powers = b.exp(a)
    total = b.reduce_sum(powers, axes=(1,), keepdims=True)
    return own(b, b.sub(b.gather(a, at, axis=1), total)), own(b, powers)


def picked_for_the_row(b, x):
    a, at = own(b, x), b.const(PLACES, i64)
    picked = b.add(b.gather(a, at, axis=1), b.reduce_max(a, axes=(1,), keepdims=True))
    return own(b, b.sub(a, picked))


def put_of_its_own_rows(b, x):
    a = own(b, x)
    return own(b, b.put(a, b.const((3, 0, 1, 1), i64), a, reduce="add"))


UNSAFE = [
    picked_from_any_row, picked_after_the_store, picked_for_the_row, put_of_its_own_rows,
    read_by_every_row, kept_as_a_row, read_later, read_transposed, read_twice, read_flipped, read_by_the_product,
    read_by_the_kernel_through_a_view, residual_flipped, padded, other_type,
    input_of_the_caller, output_of_the_caller,
]  # fmt: skip


@pytest.mark.parametrize("make", UNSAFE, ids=lambda f: f.__name__)
def test_not_in_place(make):
    program = build(make)
    assert not any("over" in e for e in entries(program))
    assert_same(program)


def test_a_row_is_kept_until_its_last_phase():
    """The first result could be stored early, where the second still has to read."""

    def make(b, x):
        a = own(b, x)
        early = b.sub(a, b.reduce_max(a, axes=(1,), keepdims=True))
        late = b.add(a, b.reduce_sum(b.exp(early), axes=(1,), keepdims=True))
        return own(b, early), own(b, late)

    program = build(make)
    found = schedule(program, get("cpu"))
    rows = next(s.kernel for s in found.steps if len(s.kernel.writes) == 2)
    (written, _), *more = rows.in_place
    assert not more and written.producer is not None and written.producer.name == "add"
    assert_same(program)


@pytest.mark.parametrize("op", ["put", "scatter"])
def test_what_starts_as_one_number_is_filled(op):
    """No value in memory but the result."""

    def make(b, x):
        places = rows(b) if op == "put" else b.const(((1, 3, 3, 0),) * 3, i64)
        new = b.slice(x, starts=(0, 0), stops=(3, 4), steps=(1, 1))
        start = b.broadcast_to(b.const(-2.5, f32), shape=(4, 4))
        return own(b, getattr(b, op)(start, places, new, axis=0, reduce="add"))

    program = build(make)
    steps = schedule(program, get("cpu")).steps
    assert (
        sum(bool(k.writes) and k.writes[0].shape == (4, 4) for k in (s.kernel for s in steps)) == 2
    )
    assert_same(program)


def test_a_broadcast_operand_is_kept():
    def make(b, x, row):
        return own(b, b.add(own(b, row), b.exp(x)))

    assert not any("over" in e for e in entries(build(make, X, ROW)))


def test_picked_rows_are_kept():
    def make(b, x, at):
        a = own(b, x)
        return own(b, b.add(b.take(a, at, axis=0), 1.0))

    assert not any("over" in e for e in entries(build(make, X, TensorType(i64, (4,)))))


def test_carried_values_are_kept():
    """A value that comes into a loop, or is read in its next round, is not overwritten in it."""
    types = [TensorType(i64, ()), X, X]
    cond = graph(types, lambda b, i, x, y: [b.lt(i, 3)])
    body = graph(types, lambda b, i, x, y: [b.add(i, 1), own(b, b.exp(x)), b.add(y, own(b, x))])

    def make(b, x):
        return b.while_(b.const(0, i64), own(b, x), own(b, x), graphs=(cond, body))[1:]

    program = build(lambda b, x: tuple(own(b, v) for v in make(b, x)))
    assert_same(program)
    assert [e.get("over") for e in entries(program) if e["bytes"] == 64].count(None) >= 3


def test_values_that_come_into_a_branch_are_kept():
    then = graph([X], lambda b, x: [own(b, b.exp(x))])
    other = graph([X], lambda b, x: [own(b, b.neg(x))])

    def make(b, chosen, x):
        return own(b, b.if_(chosen, own(b, x), graphs=(then, other)))

    program = build(make, TensorType(bool_, ()), X)
    assert not any("over" in e for e in entries(program))


def test_the_bound_knows():
    """Two values alive at once without reuse, one with it."""
    program = build(over_one)
    found = schedule(program, get("cpu")).buffers.entries()
    apart = [e and {k: v for k, v in e.items() if k != "over"} for e in found]
    shared, plain = (plan({"dims": [], "buffers": x}, {}) for x in (found, apart))
    assert shared.live_bytes == shared.arena_bytes == plain.live_bytes - 64 == 64
    for buffer, entry in enumerate(found):
        if entry is not None and "over" in entry:
            assert shared.offsets[buffer] == shared.offsets[entry["over"]]


def test_the_report_counts_them():
    predictor = oarlock.Predictor(build(chain))
    report = predictor.report()
    assert report.in_place == 4
    assert "4 values in place" in str(report)


def assert_same(program: Program) -> None:
    """Storing in place changes no bit."""
    predictor = oarlock.Predictor(program)
    arrays = [
        np.linspace(0.1, 0.9, 16, dtype=np.float32).reshape(v.shape) for v in program.graph.inputs
    ]
    got = results(predictor, arrays)
    session = predictor._session
    session.plans.clear()
    apart = [e and {k: v for k, v in e.items() if k != "over"} for e in buffers_of(session)]
    session.layout.metadata = {**session.layout.metadata, "buffers": apart}
    for a, b in zip(got, results(predictor, arrays)):
        np.testing.assert_array_equal(a, b)


def buffers_of(session) -> list:
    return session.layout.metadata["buffers"]


def results(predictor, arrays) -> list[np.ndarray]:
    got = predictor(*arrays)
    return list(got) if isinstance(got, (list, tuple)) else [got]


STEPS = {
    "own": lambda b, x, y: own(b, x),
    "add": lambda b, x, y: b.add(x, y),
    "mix": lambda b, x, y: b.mul(b.tanh(x), y),
    "product": lambda b, x, y: b.add(b.matmul(x, y), b.sigmoid(y)),
    "residual": lambda b, x, y: b.sub(b.matmul(b.tanh(x), b.tanh(x)), y),
    "turn": lambda b, x, y: b.add(b.transpose(x, perm=(1, 0)), y),
    "turn back": lambda b, x, y: b.transpose(b.exp(b.neg(b.transpose(x, perm=(1, 0)))), perm=(0, 1)),
    "flat": lambda b, x, y: b.reshape(b.relu(b.reshape(x, shape=(16,))), shape=(4, 4)),
    "row": lambda b, x, y: b.sub(x, b.reduce_max(y, axes=(1,), keepdims=True)),
    "softmax": lambda b, x, y: b.softmax(x, axis=1),
    "halves": lambda b, x, y: b.concat(
        b.slice(x, starts=(2, 0), stops=(4, 4), steps=(1, 1)),
        b.slice(y, starts=(0, 0), stops=(2, 4), steps=(1, 1)), axis=0,
    ),
}  # fmt: skip
moves = st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3), st.integers(0, 3))


runs = st.lists(moves, min_size=3, max_size=14)


@settings(deadline=None, max_examples=5)
@given(st.lists(runs, min_size=8, max_size=12))
def test_random_programs_give_the_same(several):
    """Several at once: compiling takes the time."""

    def make(b, *inputs):
        for x, steps in zip(inputs, several):
            made = [own(b, x), own(b, b.neg(x))]
            for name, i, j in steps:
                made.append(STEPS[name](b, made[-1 - i % len(made)], made[-1 - j % len(made)]))
            yield from (own(b, made[-1]), made[-2])

    assert_same(build(lambda b, *xs: tuple(make(b, *xs)), *[X] * len(several)))

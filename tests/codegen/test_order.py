"""The order of groups: memory goes early, nothing runs before what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import oarlock
from oarlock.codegen import fuse
from oarlock.codegen.lower import lower, schedule
from oarlock.codegen.order import order
from oarlock.codegen.plan import plan
from oarlock.codegen.schedule import own_outputs
from oarlock.codegen.target import get
from oarlock.ir import Builder, Program, TensorType, f32

WIDE = TensorType(f32, (64, 64))
Make = Callable[..., Sequence]


def built(make: Make, *types: TensorType) -> Program:
    b = Builder()
    b.graph.outputs = list(make(b, *(b.input(t, f"x{i}") for i, t in enumerate(types))))
    return Program(b.graph)


def own(b, x):
    """A value that no other kernel computes along the way."""
    return b.cumsum(x, axis=0)


def sums_at_the_end(b, x):
    """What is left of each layer is a sum, which the program takes after the last."""
    layers = []
    for _ in range(6):
        x = own(b, x)
        layers.append(x)
    return [x, total(b, layers)]


def total(b, layers):
    found = b.const(0.0, f32)
    for x in layers:
        found = b.add(found, b.reduce_sum(b.mul(x, x), axes=(0, 1)))
    return found


KINDS = [
    lambda b, a, c: own(b, a),
    lambda b, a, c: b.matmul(a, c),
    lambda b, a, c: b.add(a, c),
    lambda b, a, c: b.mul(b.reduce_sum(a, axes=(0,), keepdims=True), c),
    lambda b, a, c: b.transpose(a, perm=(1, 0)),
    lambda b, a, c: b.reshape(b.reshape(a, shape=(4096,)), shape=(64, 64)),
]


def live_bytes(program: Program) -> int:
    return plan(lower(program, get("cpu")).metadata, {}).live_bytes


def test_sums_run_when_their_operands_are_there():
    """Two layers are alive at once, not six."""
    program = built(sums_at_the_end, WIDE)
    assert live_bytes(program) < 3 * 64 * 64 * 4


def test_a_store_over_an_input_waits_for_the_reads_of_it():
    """The update frees its gradient, and is ready before the last product by the old weight."""

    def make(b, w, x):
        g = own(b, x)
        late = own(b, own(b, own(b, x)))
        y = b.matmul(late, own(b, w))
        last = own(b, b.add(y, b.matmul(own(b, y), w)))
        return [b.sub(w, g), last]

    metadata = lower(built(make, WIDE, WIDE), get("cpu")).metadata
    assert [0, 0] in [pair[:2] for pair in metadata["shareable"]]


@pytest.mark.parametrize("seed", range(40))
def test_every_group_runs_after_those_it_reads(seed):
    draws = np.random.default_rng(seed)

    def make(b, *inputs):
        values = list(inputs)
        for _ in range(14):
            a, c = (values[i] for i in draws.integers(len(values), size=2))
            values.append(KINDS[draws.integers(len(KINDS))](b, a, c))
        return [values[-1], values[-4], values[-7]]

    program = built(make, WIDE, WIDE)
    graph = schedule(program, get("cpu")).program.graph
    own_outputs(graph)
    groups = fuse.group(graph, get("cpu"))
    found = order(groups, graph)
    assert set(found) == set(groups) and len(found) == len(groups)
    written = {v: g for g in groups for v in g.writes}
    done = set()
    for g in found:
        assert all(written[v] in done or written[v] is g for v in g.reads if v in written)
        done.add(g)


def test_results_are_those_of_the_interpreter():
    program = built(sums_at_the_end, TensorType(f32, (8, 8)))
    x = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    wanted, found = oarlock.evaluate(program, x), oarlock.Predictor(program)(x)
    for a, c in zip(wanted, found):
        np.testing.assert_allclose(c, a, rtol=64 * 6 * np.finfo(np.float32).eps)


def test_stores_wait_for_where_a_run_may_end():
    """What the caller may share with an input is stored after; what the end needs runs first."""

    def make(b, x, w):
        new = b.sub(w, own(b, w))
        total = b.reduce_sum(own(b, x), axes=(0, 1))
        b.require(b.lt(total, b.const(1.0, f32)))
        return [new, total]

    lowered = lower(built(make, WIDE, WIDE), get("cpu"))
    names = [step["name"] for step in lowered.metadata["steps"]]
    assert names.index("require") < len(names) - 1, names
    assert [0, 0, 1] in lowered.metadata["shareable"]


def test_what_an_end_reads_may_not_be_stored_over():
    def make(b, w):
        new = own(b, w)
        b.require(b.lt(b.reduce_sum(new, axes=(0, 1)), b.const(1.0, f32)))
        return [new]

    assert not lower(built(make, WIDE), get("cpu")).metadata["shareable"]

"""Every sample of every record through the engine, equal to the reference."""

from __future__ import annotations

import numpy as np
import pytest

from oarlock.errors import InputError
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Program, TensorType, Value, f32, i64
from oarlock.ir.op import REGISTRY
from oarlock.runtime.predictor import Predictor
from tests.ops.test_control import branch, loop
from tests.samples import assert_agree, draw, results_of, types_of

NAMES = [name for name, record in sorted(REGISTRY.items()) if record.samples]


def program_of_samples(name: str) -> tuple[Program, list, list]:
    """All samples of a record side by side: one build each."""
    b, arrays, owners = Builder(), [], []
    for i, sample in enumerate(REGISTRY[name].samples):
        drawn = draw(sample.inputs, sample)
        values = [b.input(t, f"x{i}_{k}") for k, t in enumerate(types_of(sample.inputs))]
        out = b.build(REGISTRY[name](**sample.attrs), *values)
        for value in [out] if isinstance(out, Value) else out:
            b.graph.outputs.append(value)
            owners.append((sample, drawn))
        arrays += drawn
    return Program(b.graph), arrays, owners


@pytest.mark.parametrize("name", NAMES)
def test_samples(name):
    program, arrays, owners = program_of_samples(name)
    expected = results_of(evaluate(program, *arrays))
    got = results_of(Predictor(program, threads=2)(*arrays))
    for value, e, g, (sample, drawn) in zip(program.graph.outputs, expected, got, owners):
        assert g.dtype == e.dtype
        assert_agree(g, e, value.dtype, drawn, sample.tolerance)


@pytest.mark.parametrize("predicate", [True, False])
def test_if(predicate):
    x = np.arange(3, dtype=np.float32)
    program = branch()
    expected = evaluate(program, np.array(predicate), x)
    np.testing.assert_array_equal(Predictor(program)(np.array(predicate), x), expected)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_while(n):
    x = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(Predictor(loop())(np.array(n), x), x * 2**n)


@pytest.mark.parametrize("index", [3, -4, 2**40])
@pytest.mark.parametrize("op", ["take", "put"])
def test_an_index_out_of_range_is_refused(op, index):
    b = Builder()
    x = b.input(TensorType(f32, (3, 40)), "x")
    i = b.input(TensorType(i64, (2,)), "i")
    more = [b.const(0.0, f32)] if op == "put" else []
    more = [b.broadcast_to(v, shape=(2, 40)) for v in more]
    b.graph.outputs = [b.build(REGISTRY[op](axis=0), x, i, *more)]
    predictor = Predictor(Program(b.graph))
    array = np.arange(120, dtype=np.float32).reshape(3, 40)
    with pytest.raises(InputError, match="out of range"):
        predictor(array, np.array([0, index]))
    good = predictor(array, np.array([0, -1]))
    expected = evaluate(Program(b.graph), array, np.array([0, -1]))
    np.testing.assert_array_equal(good, expected)

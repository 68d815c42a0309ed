"""Every record's samples: types, references, decompositions; derived from the registry."""

from __future__ import annotations

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.evaluate import evaluate
from oarlock.ir import Builder, Program, TensorType, Value, parser
from oarlock.ir.op import REGISTRY, Sample

CASES = [
    pytest.param(record, sample, id=f"{name}-{i}")
    for name, record in sorted(REGISTRY.items())
    for i, sample in enumerate(record.samples)
]
UNSAMPLED = {
    "param": "reads the weights of a program",
    "aten_call": "runs through PyTorch",
    **{name: "see test_control.py" for name, record in REGISTRY.items() if record.has_graphs},
}


def draw(sample: Sample, seed: int = 0) -> list[np.ndarray]:
    """Random arrays for the types of a sample."""
    rng = np.random.default_rng(seed)
    arrays = []
    for given in sample.inputs:
        if isinstance(given, np.ndarray):
            arrays.append(given)
        elif given.dtype.is_float:
            x = rng.uniform(sample.low, sample.high, given.shape)
            arrays.append(x.astype(given.dtype.numpy))
        elif given.dtype.is_bool:
            arrays.append(rng.integers(0, 2, given.shape).astype(bool))
        else:
            arrays.append(rng.integers(-3, 4, given.shape).astype(given.dtype.numpy))
    return arrays


def types_of(sample: Sample) -> list[TensorType]:
    from oarlock.ir import DType

    return [
        g if isinstance(g, TensorType) else TensorType(DType.of(g.dtype), g.shape)
        for g in sample.inputs
    ]


def program_of(record, sample: Sample, *, decomposed: bool = False) -> Program:
    """A program of one node, or of its decomposition."""
    b = Builder()
    values = [b.input(t, f"x{i}") for i, t in enumerate(types_of(sample))]
    op = record(**sample.attrs)
    out = op.decompose(b, *values) if decomposed else b.build(op, *values)
    b.graph.outputs = [out] if isinstance(out, Value) else list(out)
    return Program(b.graph)


def arrays_of(result) -> list[np.ndarray]:
    return list(result) if isinstance(result, tuple) else [result]


def test_every_record_has_samples():
    missing = {n for n, r in REGISTRY.items() if not r.samples and n not in UNSAMPLED}
    assert missing == set()


@pytest.mark.parametrize(("record", "sample"), CASES)
def test_reference_has_the_inferred_type(record, sample):
    program = program_of(record, sample)
    results = arrays_of(evaluate(program, *draw(sample)))
    for value, array in zip(program.graph.outputs, results, strict=True):
        assert array.dtype == value.dtype.numpy
        assert array.shape == value.shape


@pytest.mark.parametrize(("record", "sample"), CASES)
def test_text_round_trip(record, sample):
    program = program_of(record, sample)
    assert parser.parse(str(program)) == program


@pytest.mark.parametrize(
    ("record", "sample"), [case for case in CASES if case.values[0].is_composite]
)
def test_decomposition_agrees(record, sample):
    """A few roundings per element joined; exact for integers."""
    arrays = draw(sample)
    expected = arrays_of(evaluate(program_of(record, sample), *arrays))
    got = arrays_of(evaluate(program_of(record, sample, decomposed=True), *arrays))
    joined = max([1, *(a.size for a in arrays)])
    for e, g in zip(expected, got, strict=True):
        if e.dtype.kind != "f":
            np.testing.assert_array_equal(g, e)
            continue
        eps = np.finfo(e.dtype).eps
        scale = max(1.0, float(np.abs(e).max(initial=0)))
        bound = 16 * eps * np.sqrt(joined) * scale * sample.tolerance
        np.testing.assert_allclose(g, e, rtol=0, atol=bound)

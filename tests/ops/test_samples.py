"""Every record's samples: types, references, decompositions, text, symbolic sizes.

Everything is derived from the registry: adding an op changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from oarlock.errors import InputError, TypeMismatch
from oarlock.evaluate import evaluate
from oarlock.ir import Dim, TensorType, parser
from oarlock.ir.op import REGISTRY, Op, Sample
from tests.samples import (
    CASES,
    COMPOSITE_CASES,
    assert_agree,
    draw,
    program_of,
    results_of,
    types_of,
)

UNSAMPLED = {
    "param": "reads the weights of a program",
    "aten_call": "runs through PyTorch",
    **dict.fromkeys(("nonzero", "bind_size", "refine", "assert_"), "see test_sizes.py"),
    "require": "see test_order.py and test_refused_data.py",
    **{name: "see test_control.py" for name, record in REGISTRY.items() if record.has_graphs},
}


def test_every_record_has_samples():
    missing = {n for n, r in REGISTRY.items() if not r.samples and n not in UNSAMPLED}
    assert missing == set()


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_record_has_an_equation(name):
    record = REGISTRY[name]
    assert record.__doc__ and not record.__doc__.startswith(record.__name__), name


@pytest.mark.parametrize(("record", "sample"), CASES)
def test_reference_has_the_inferred_type(record, sample):
    program = program_of(record(**sample.attrs), types_of(sample.inputs))
    results = results_of(evaluate(program, *draw(sample.inputs, sample)))
    for value, array in zip(program.graph.outputs, results, strict=True):
        assert array.dtype == value.dtype.numpy
        assert array.shape == value.shape


@pytest.mark.parametrize(("record", "sample"), CASES)
def test_text_round_trip(record, sample):
    program = program_of(record(**sample.attrs), types_of(sample.inputs))
    assert parser.parse(str(program)) == program


def check_decomposition(op: Op, types: list[TensorType], arrays: list, sample: Sample) -> None:
    """The decomposition computes what the reference does."""
    whole = program_of(op, types)
    parts = program_of(op, types, decomposed=True)
    assert [v.type for v in parts.graph.outputs] == [v.type for v in whole.graph.outputs]
    expected = results_of(evaluate(whole, *arrays))
    got = results_of(evaluate(parts, *arrays))
    for value, g, e in zip(whole.graph.outputs, got, expected, strict=True):
        assert_agree(g, e, value.dtype, arrays, sample.tolerance)


@pytest.mark.parametrize(("record", "sample"), COMPOSITE_CASES)
def test_decomposition_agrees(record, sample):
    arrays = draw(sample.inputs, sample)
    check_decomposition(record(**sample.attrs), types_of(sample.inputs), arrays, sample)


def replaced(value, size: int, dim: Dim):
    """The attribute with ``size`` in tuples replaced."""
    if isinstance(value, tuple):
        return tuple(replaced(v, size, dim) for v in value)
    return dim if type(value) is int and value == size else value


def symbolic(record, sample: Sample) -> Iterator[tuple[Op, list, int]]:
    """The op and its inputs with one size a symbol S, in shapes, then in attributes too."""
    typed = [t for t in sample.inputs if isinstance(t, TensorType)]
    for size in sorted({s for t in typed for s in t.shape if s > 1}):
        dim = Dim("S", 0)
        inputs = [
            t.with_shape(replaced(t.shape, size, dim)) if isinstance(t, TensorType) else t
            for t in sample.inputs
        ]
        shapes = {k: v for k, v in sample.attrs.items() if isinstance(v, tuple)}
        shapes = {k: replaced(v, size, dim) for k, v in shapes.items()}
        for attrs in (sample.attrs, {**sample.attrs, **shapes}):
            op = record(**attrs)
            try:
                op.infer_types(types_of(inputs))
            except TypeMismatch:
                continue
            yield op, inputs, size
            break


SYMBOLIC = [
    pytest.param(op, inputs, size, case.values[1], id=f"{case.id}-{size}")
    for case in CASES
    for op, inputs, size in symbolic(*case.values)
]


@pytest.mark.parametrize(("op", "inputs", "size", "sample"), SYMBOLIC)
@pytest.mark.parametrize("more", [0, 2])
def test_symbolic_size_means_its_value(op, inputs, size, sample, more):
    check_symbolic(op, inputs, {"S": size + more}, sample)


def is_batch(inputs: list) -> bool:
    """The symbol is the first axis of the first input alone."""
    first = inputs[0]
    return isinstance(first, TensorType) and [isinstance(s, Dim) for s in first.shape] == [
        True, *[False] * (first.rank - 1)
    ]  # fmt: skip


EMPTY = [p for p in SYMBOLIC if is_batch(p.values[1])]


@pytest.mark.parametrize(("op", "inputs", "size", "sample"), EMPTY)
def test_empty_batch(op, inputs, size, sample):
    try:
        check_symbolic(op, inputs, {"S": 0}, sample)
    except InputError as error:
        assert "is out of range for size 0" in str(error)


def check_symbolic(op: Op, inputs: list, env: dict[str, int], sample: Sample) -> None:
    """The op with a symbol computes what the one with its value does."""
    bound = op.bind(env)
    types = [t.concrete(env) for t in types_of(inputs)]
    arrays = draw([x if isinstance(x, np.ndarray) else t for x, t in zip(inputs, types)], sample)
    try:
        fixed = program_of(bound, types)
    except TypeMismatch:
        pytest.skip("the attributes fit one size alone")
    open_ = program_of(op, types_of(inputs))
    assert [v.type.concrete(env) for v in open_.graph.outputs] == [
        v.type for v in fixed.graph.outputs
    ]
    results = zip(*(results_of(evaluate(p, *arrays)) for p in (open_, fixed)), strict=True)
    for got, expected in results:
        np.testing.assert_array_equal(got, expected)
    if op.is_composite:
        check_decomposition(op, types_of(inputs), arrays, sample)


def test_every_record_with_shapes_takes_a_symbolic_size():
    open_ = {case.values[0].name for case in SYMBOLIC}
    shaped = {
        case.values[0].name
        for case in CASES
        if any(
            isinstance(t, TensorType) and max(t.shape, default=0) > 1 for t in case.values[1].inputs
        )
    }
    assert shaped - open_ == set()

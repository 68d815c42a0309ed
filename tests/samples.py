"""What tests make of the records' samples: cases, data, one-node programs, derived tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.ir import Builder, DType, Program, TensorType, Value, decode, encode
from oarlock.ir.op import REGISTRY, Op, Sample

EPS = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
ROUNDINGS = 16

CASES = [
    pytest.param(record, sample, id=f"{name}-{i}")
    for name, record in sorted(REGISTRY.items())
    for i, sample in enumerate(record.samples)
]
COMPOSITE_CASES = [case for case in CASES if case.values[0].is_composite]


def draw(types: Sequence[TensorType | np.ndarray], sample: Sample, seed: int = 0) -> list:
    """Storage arrays: those of the sample, random ones for types."""
    rng = np.random.default_rng(seed)
    return [x if isinstance(x, np.ndarray) else _random(x, sample, rng) for x in types]


def _random(type: TensorType, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    if type.dtype.is_float:
        return encode(rng.uniform(sample.low, sample.high, type.shape), type.dtype)
    if type.dtype.is_bool:
        return rng.integers(0, 2, type.shape).astype(bool)
    low = -3 if type.dtype.is_signed else 0
    return rng.integers(low, 4, type.shape).astype(type.dtype.numpy)


def types_of(inputs: Sequence[TensorType | np.ndarray]) -> list[TensorType]:
    """The types of a sample's inputs."""
    return [
        x if isinstance(x, TensorType) else TensorType(DType.of(x.dtype), x.shape) for x in inputs
    ]


def program_of(op: Op, types: Sequence[TensorType], *, decomposed: bool = False) -> Program:
    """A program of one node, or of its decomposition."""
    b = Builder()
    values = [b.input(t, f"x{i}") for i, t in enumerate(types)]
    out = op.decompose(b, *values) if decomposed else b.build(op, *values)
    b.graph.outputs = [out] if isinstance(out, Value) else list(out)
    return Program(b.graph)


def results_of(result: Any) -> list[np.ndarray]:
    """The outputs as a list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def assert_agree(
    got: np.ndarray, expected: np.ndarray, dtype: DType, inputs: Sequence[np.ndarray],
    tolerance: float = 1.0,
) -> None:  # fmt: skip
    """Equal for integers and for what is not finite; floats within a few roundings.

    A rounding is of a number as large as the result or the inputs; they add up like the root of
    the number of elements joined.
    """
    assert got.shape == expected.shape
    if not dtype.is_float:
        np.testing.assert_array_equal(got, expected)
        return
    got, expected = (decode(x, dtype).astype(np.float64) for x in (got, expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    joined = max([1, *(x.size for x in inputs)])
    size = np.abs(expected[finite]) + _largest(inputs)
    bound = ROUNDINGS * EPS[dtype.name] * np.sqrt(joined) * size * tolerance
    error = np.abs(got[finite] - expected[finite])
    assert np.all(error <= bound), f"error {error.max()}, bound {bound[error.argmax()]}"


def _largest(inputs: Sequence[np.ndarray]) -> float:
    floats = [np.abs(x[np.isfinite(x)]) for x in inputs if x.dtype.kind == "f"]
    return max([1.0, *(float(x.max(initial=0)) for x in floats)])

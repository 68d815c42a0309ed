"""ATen overloads to IR ops: ``@lift("aten.add.Tensor")``.

A lift gets a ``Lifter`` (a Builder that knows the result types torch inferred) and the overload's
arguments: tensors as Values, sizes as Sizes, dtypes as DTypes; it returns a Value or a tuple.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import oarlock.ops  # noqa: F401  fills the registry
from oarlock.ir import Builder, DType, Graph, Size, TensorType, Value, bf16, f16, f32
from oarlock.ir.op import REGISTRY

Lift = Callable[..., Any]
LIFTS: dict[str, Lift] = {}


class Lifter(Builder):
    """A Builder with ``out``, the result types, and ``common``, the promoted element type."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.out: Sequence[TensorType] = ()
        self.common: DType | None = None

    @property
    def type(self) -> TensorType:
        """The type of the first result."""
        return self.out[0]

    def to(self, x: Any, dtype: DType) -> Value:
        """A Value, number or Size as a Value of ``dtype``."""
        if isinstance(x, Value):
            return x if x.dtype is dtype else self.cast(x, dtype=dtype)
        if isinstance(x, (bool, int, float)):
            return self.const(x, dtype)
        return self.cast(self.size(dim=x), dtype=dtype)

    def full(self, value: Any, shape: Sequence[Size], dtype: DType) -> Value:
        """A tensor of one value."""
        scalar = self.to(value, dtype)
        return self.broadcast_to(scalar, shape=tuple(shape)) if shape else scalar

    def fit(self, x: Value, type: TensorType) -> Value:
        """``x`` cast and reshaped to ``type``."""
        x = self.to(x, type.dtype)
        return x if x.shape == type.shape else self.reshape(x, shape=type.shape)


def rounded_once(call: Lift) -> Lift:
    """``call``, a lift of one result, for half precision in float32 throughout: torch rounds the result
    alone, and no Python number (``opmath_t`` of ATen)."""

    @functools.wraps(call)
    def wide(b: Lifter, *args: Any, **kwargs: Any) -> Any:
        out, kind = b.out, b.type.dtype
        if kind not in (bf16, f16):
            return call(b, *args, **kwargs)
        b.out = [dataclasses.replace(b.type, dtype=f32)]
        try:
            found = call(b, *(b.to(x, f32) if isinstance(x, Value) else x for x in args), **kwargs)
        finally:
            b.out = out
        return b.to(found, kind)

    return wide


def lift(*overloads: str) -> Callable[[Lift], Lift]:
    """Register a lift for overloads such as ``aten.add.Tensor``."""

    def register(function: Lift) -> Lift:
        for name in overloads:
            assert name not in LIFTS, f"{name} is lifted twice"
            LIFTS[name] = function
        return function

    return register


def _one_to_one(record: Any) -> Lift:
    def call(b: Lifter, *operands: Any) -> Any:
        return b.build(record(), *(b.to(x, b.type.dtype) for x in operands))

    return call


def add_one_to_one() -> None:
    """Overloads that a record names itself, where no lift was written."""
    for record in list(REGISTRY.values()):
        for overload in record.aten:
            LIFTS.setdefault(overload, _one_to_one(record))


def overloads() -> list[str]:
    """Every overload that is captured."""
    from oarlock.capture import lift as _families  # noqa: F401  fills the table

    return sorted(LIFTS)

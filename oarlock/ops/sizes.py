"""Sizes that are known when a program runs, and checks of its own.

A node whose record ``binds`` a symbol gives it its value; the symbol is a size from there on, in its
graph and in the sub-graphs below.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.errors import ModelError
from oarlock.ir import Dim, Size, TensorType, bool_, i64
from oarlock.ir.dim import Symbol
from oarlock.ir.op import Op, op
from oarlock.ops.messages import filled
from oarlock.ops.shape import full_slice


def symbol_of(op: Op, types: tuple[TensorType, ...], size: Size) -> Symbol:
    """The bare symbol that ``size`` is.  Raises: TypeMismatch."""
    found = size.symbol if isinstance(size, Dim) else None
    if found is None:
        raise op.fail(types, f"size={size}: expected a symbol to bind")
    return found


@op("nonzero")
class NonZero(Op):
    """Places of the elements that are not zero, in row-major order; ``size`` is how many.

    Shapes:  x [...]  ->  i64[size, rank]
    """

    size: Size = 0

    def infer(self, x: TensorType) -> TensorType:
        symbol_of(self, (x,), self.size)
        return TensorType(i64, (self.size, x.rank))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.argwhere(x)

    @property
    def binds(self) -> tuple[str, ...]:
        return (str(self.size),)


@op("bind_size")
class BindSize(Op):
    """The number n, which is the value of the symbol ``size`` from here on; it must be in its range.

    Shapes:  n i64[]  ->  i64[]
    """

    size: Size = 0

    def infer(self, n: TensorType) -> TensorType:
        symbol_of(self, (n,), self.size)
        if n != TensorType(i64):
            raise self.fail((n,), "expected i64[]")
        return n

    def reference(self, n: np.ndarray) -> np.ndarray:
        return n

    @property
    def binds(self) -> tuple[str, ...]:
        return (str(self.size),)

    def bound(self, arrays: Any) -> dict[str, int]:
        return {str(self.size): int(arrays[0])}


@op("refine")
class Refine(Op):
    """x, whose sizes must be those of ``shape`` when the program runs.

    Shapes:  x  ->  shape, of the same rank
    """

    shape: tuple[Size, ...] = ()

    def infer(self, x: TensorType) -> TensorType:
        if len(self.shape) != x.rank:
            raise self.fail((x,), f"expected {x.rank} sizes, got {list(self.shape)}")
        return x.with_shape(self.shape)

    def limits(self, x: TensorType) -> list[tuple[Size, Size]]:
        pairs = [(a, b) for a, b in zip(x.shape, self.shape) if a != b]
        return [p for a, b in pairs for p in ((a, b), (b, a))]

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x

    def decompose(self, b: Any, x: Any) -> Any:
        for axis, (old, new) in enumerate(zip(x.shape, self.shape)):
            if old != new:
                x = b.slice(x, **full_slice(x.type, axis, 0, new))
        return x


@op("require")
class Require(Op):
    """The condition; false ends the run before anything is stored in memory of the caller.

    Shapes:  condition bool[]  ->  bool[]
    Raises:  ModelError.
    """

    effect = True
    ends_run = True

    def infer(self, condition: TensorType) -> TensorType:
        if condition != TensorType(bool_):
            raise self.fail((condition,), "expected a condition bool[]")
        return condition

    def reference(self, condition: np.ndarray) -> np.ndarray:
        if not condition:
            raise ModelError("RuntimeError", "data are other than what the program is for")
        return condition


@op("assert_")
class Assert(Op):
    """The condition; false ends the run with ``message``.

    Where there are operands beside the condition, ``{i}`` in it stands for operand ``i + 1``, with a
    conversion and a format as in Python's format strings, ``!t`` for a tensor as ``str`` gives it.

    Shapes:  condition bool[], *values  ->  bool[]
    Attrs:   kind: the class of the exception that the captured code raises.
    Raises:  ModelError.
    """

    message: str = ""
    kind: str = "AssertionError"
    effect = True

    def infer(self, condition: TensorType, *values: TensorType) -> TensorType:
        if condition != TensorType(bool_):
            raise self.fail((condition, *values), "expected a condition bool[]")
        return condition

    def reference(self, condition: np.ndarray, *values: np.ndarray) -> np.ndarray:
        if not condition:
            raise self.error(values)
        return condition

    def error(self, values: Any) -> ModelError:
        """The error of a run in which the condition is false."""
        return ModelError(self.kind, filled(self.message, values))

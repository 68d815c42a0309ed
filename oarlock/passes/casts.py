"""Chains of casts that keep every value."""

from __future__ import annotations

from typing import Any

from oarlock.ir import DType, Node, Value
from oarlock.passes.rewrite import Patch, Rules, made_by

RULES = Rules()
rule = RULES.rule
SIGNIFICAND = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8}
EXPONENT = {"f64": 11, "f32": 8, "f16": 5, "bf16": 8}


def holds(wide: DType, narrow: DType) -> bool:
    """Every value of ``narrow`` is one of ``wide``."""
    if narrow is wide or narrow.is_bool:
        return True
    if narrow.is_float:
        fits = wide.is_float and SIGNIFICAND[wide.name] >= SIGNIFICAND[narrow.name]
        return fits and EXPONENT[wide.name] >= EXPONENT[narrow.name]
    bits = 8 * narrow.bytes - narrow.is_signed
    if wide.is_float:
        return SIGNIFICAND[wide.name] >= bits
    if not wide.is_int or (narrow.is_signed and not wide.is_signed):
        return False
    return 8 * wide.bytes - wide.is_signed >= bits


@rule("cast")
def cast_to_itself(b: Patch, node: Node, x: Value) -> Any:
    """``cast(x)`` -> ``x`` when it is of that type"""
    return x if x.dtype is node.op.dtype else None


@rule("cast")
def cast_of_cast(b: Patch, node: Node, x: Value) -> Any:
    """``cast(cast(x, wide), t)`` -> ``cast(x, t)`` when ``wide`` holds every value of x

    Not when it would wrap an integer that saturates through a float.
    """
    inner = made_by(x, "cast")
    if inner is None:
        return None
    (source,) = inner.inputs
    start, middle, end = source.dtype, x.dtype, node.op.dtype
    saturates = middle.is_float and end.is_int and not start.is_float
    if not holds(middle, start) or (saturates and not holds(end, start)):
        return None
    return b.cast(source, dtype=end)

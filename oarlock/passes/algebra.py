"""Identities of arithmetic and logic that hold bit for bit, but for the payload of NaN."""

from __future__ import annotations

import math
from typing import Any

from oarlock.ir import DType, Node, Value, f32, f64
from oarlock.passes.rewrite import Patch, Rules, fit, made_by

RULES = Rules()
rule = RULES.rule
Number = bool | int | float


def _is_negative_zero(c: Number | None) -> bool:
    return isinstance(c, float) and c == 0 and math.copysign(1, c) < 0


def _is_zero_of_sum(c: Number | None, dtype: DType) -> bool:
    """``x + c == x`` for every x: -0.0 of floats, since -0.0 + 0.0 is 0.0."""
    if c is None:
        return False
    return _is_negative_zero(c) if dtype.is_float else c == 0


@rule("add")
def add_zero(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x + -0.0`` -> ``x``; ``x + 0`` -> ``x`` of integers and bool"""
    for a, c in ((x, y), (y, x)):
        if _is_zero_of_sum(b.scalar(c), a.dtype):
            return fit(b, a, node.output.type)
    return None


@rule("sub")
def sub_zero(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x - 0`` -> ``x``, not of -0.0; ``0 - x`` -> ``-x`` of integers and of -0.0"""
    c = b.scalar(y)
    if c is not None and c == 0 and not _is_negative_zero(c):
        return fit(b, x, node.output.type)
    if _is_zero_of_sum(b.scalar(x), x.dtype):
        return b.neg(fit(b, y, node.output.type))
    return None


@rule("mul")
def mul_one(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x * 1`` -> ``x``; ``x * -1`` -> ``-x``; ``x * 0`` -> ``0`` of integers and bool"""
    for a, c in ((x, b.scalar(y)), (y, b.scalar(x))):
        if c is None:
            continue
        if c == 1:
            return fit(b, a, node.output.type)
        if c == -1 and a.dtype.is_signed:
            return b.neg(fit(b, a, node.output.type))
        if c == 0 and not a.dtype.is_float:
            return b.full(c, node.output.type)
    return None


@rule("div")
def div_by_power_of_two(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x / 1`` -> ``x``; ``x / 2**k`` -> ``x * 2**-k`` where that is a normal number"""
    c = b.scalar(y)
    if c is None or c == 0 or not math.isfinite(c):
        return None
    if c == 1:
        return fit(b, x, node.output.type)
    is_power = abs(math.frexp(c)[0]) == 0.5
    if not is_power or not 2.0**-14 <= abs(c) <= 2.0**14:
        return None
    return b.mul(x, b.const(1.0 / c, x.dtype)) if y.rank == 0 else b.mul(x, b.full(1.0 / c, y.type))


@rule("div")
def div_of_one(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``1 / y`` -> ``reciprocal(y)``"""
    if b.scalar(x) == 1:
        return b.reciprocal(fit(b, y, node.output.type))
    return None


@rule("reciprocal")
def reciprocal_of_sqrt(b: Patch, node: Node, x: Value) -> Any:
    """``1 / sqrt(x)`` -> ``rsqrt(x)``; narrow floats would lose the rounding of the root"""
    root = made_by(x, "sqrt")
    if root is None or x.dtype not in (f32, f64):
        return None
    b.absorb(root)
    return b.rsqrt(root.inputs[0])


@rule("pow")
def pow_of_constant(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x ** 1`` -> ``x``; ``x ** 2`` -> ``square(x)``; ``x ** 3`` -> ``square(x) * x``;
    ``x ** -1`` -> ``1 / x``; ``x ** 0`` -> ``1``"""
    c = b.scalar(y)
    if c is None or c not in (-1, 0, 1, 2, 3):
        return None
    wide = fit(b, x, node.output.type)
    if c == 0:
        return b.full(1, node.output.type)
    if c == -1:
        return b.reciprocal(wide) if x.dtype.is_float else None
    if c == 3:
        return b.mul(b.square(wide), wide) if x.dtype in (f32, f64) or x.dtype.is_int else None
    return wide if c == 1 else b.square(wide)


@rule("mul")
def mul_of_itself(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x * x`` -> ``square(x)``"""
    return b.square(x) if x is y and not x.dtype.is_bool else None


@rule("neg", "bit_not", "logical_not")
def twice(b: Patch, node: Node, x: Value) -> Any:
    """``f(f(x))`` -> ``x``"""
    inner = made_by(x, node.name)
    return None if inner is None else inner.inputs[0]


@rule("abs", "relu", "floor", "ceil", "round", "trunc", "sign")
def once(b: Patch, node: Node, x: Value) -> Any:
    """``f(f(x))`` -> ``f(x)``"""
    return x if made_by(x, node.name) else None


@rule("abs", "square")
def even_of_neg(b: Patch, node: Node, x: Value) -> Any:
    """``|-x|`` -> ``|x|``; ``(-x)**2`` and ``|x|**2`` -> ``x**2``"""
    inner = made_by(x, "neg", "abs") if node.name == "square" else made_by(x, "neg")
    return None if inner is None else b.build(node.op, inner.inputs[0])


@rule("floor", "ceil", "round", "trunc")
def round_of_integer(b: Patch, node: Node, x: Value) -> Any:
    """``floor(x)`` -> ``x`` of integers"""
    return x if x.dtype.is_int else None


@rule("add", "sub")
def sum_with_neg(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x + -y`` -> ``x - y``; ``x - -y`` -> ``x + y``; ``-x + y`` -> ``y - x``"""
    if inner := made_by(y, "neg"):
        other = b.sub if node.name == "add" else b.add
        return other(x, inner.inputs[0])
    inner = made_by(x, "neg")
    return b.sub(y, inner.inputs[0]) if inner and node.name == "add" else None


@rule("mul", "div")
def product_of_negs(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``-x * -y`` -> ``x * y``"""
    left, right = made_by(x, "neg"), made_by(y, "neg")
    return b.build(node.op, left.inputs[0], right.inputs[0]) if left and right else None


@rule("maximum", "minimum", "bit_and", "bit_or")
def of_itself(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``max(x, x)`` -> ``x``"""
    return x if x is y else None


@rule("bit_and", "bit_or", "bit_xor")
def logic_with_constant(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``x & true`` -> ``x``; ``x | false`` -> ``x``; ``x & false`` -> ``false``; and so on, of bool"""
    if not x.dtype.is_bool:
        return None
    for a, c in ((x, b.scalar(y)), (y, b.scalar(x))):
        if c is None:
            continue
        if node.name == "bit_xor":
            wide = fit(b, a, node.output.type)
            return b.logical_not(wide) if c else wide
        keeps = bool(c) == (node.name == "bit_and")
        return fit(b, a, node.output.type) if keeps else b.full(bool(c), node.output.type)
    return None


@rule("where")
def where_known(b: Patch, node: Node, c: Value, x: Value, y: Value) -> Any:
    """``where(true, x, y)`` -> ``x``; ``where(c, x, x)`` -> ``x``; ``where(not c, x, y)`` swapped"""
    known = b.scalar(c)
    if known is not None:
        return fit(b, x if known else y, node.output.type)
    if x is y:
        return fit(b, x, node.output.type)
    inner = made_by(c, "logical_not")
    return b.where(inner.inputs[0], y, x) if inner else None


@rule("maximum", "minimum")
def bound(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``max(x, c)`` -> ``clamp(x, low=c)``; ``min(x, c)`` -> ``clamp(x, high=c)``"""
    side = "low" if node.name == "maximum" else "high"
    for a, c in ((x, b.scalar(y)), (y, b.scalar(x))):
        if c is not None and not a.dtype.is_bool and not math.isnan(c):
            return b.clamp(fit(b, a, node.output.type), **{side: c})
    return None


@rule("clamp")
def clamp_to_relu(b: Patch, node: Node, x: Value) -> Any:
    """``clamp(x, low=0)`` -> ``relu(x)``; ``clamp(x)`` -> ``x``"""
    if node.op.low is None and node.op.high is None:
        return x
    return b.relu(x) if node.op.low == 0 and node.op.high is None else None


@rule("clamp")
def clamp_of_clamp(b: Patch, node: Node, x: Value) -> Any:
    """``clamp(clamp(x, a, b), c, d)`` -> one clamp"""
    inner = made_by(x, "clamp", "relu")
    if inner is None:
        return None
    low, high = (0, None) if inner.name == "relu" else (inner.op.low, inner.op.high)
    if any(c is not None and math.isnan(c) for c in (low, high, node.op.low, node.op.high)):
        return None
    low, high = (_clamped(c, node.op.low, node.op.high) for c in (low, high))
    low = node.op.low if low is None else low
    high = node.op.high if high is None else high
    b.absorb(inner)
    return b.clamp(inner.inputs[0], low=low, high=high)


def _clamped(c: float | None, low: float | None, high: float | None) -> float | None:
    if c is None:
        return None
    c = c if low is None else max(c, low)
    return c if high is None else min(c, high)

"""Sizes that bounds decide, and control flow whose way is known."""

from __future__ import annotations

from typing import Any

from oarlock.ir import Node, Size, Value, bool_, bounds, i64, scope
from oarlock.passes.rewrite import Patch, Rules, inline

RULES = Rules()
rule = RULES.rule


def _size(b: Patch, value: Value) -> Size | None:
    """The size that an i64 scalar holds."""
    if value.dtype is not i64 or value.rank:
        return None
    node = value.producer
    if node is not None and node.name == "size":
        return node.op.dim
    number = b.scalar(value)
    return None if number is None else int(number)


@rule("size")
def size_known(b: Patch, node: Node) -> Any:
    """``size(3)`` -> ``3``"""
    return b.const(node.op.dim, i64) if isinstance(node.op.dim, int) else None


@rule("add", "sub", "mul", "floor_div", "remainder")
def size_arithmetic(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``size(a) + size(b)`` -> ``size(a + b)``; division by what is positive"""
    left, right = _size(b, x), _size(b, y)
    if left is None or right is None or (isinstance(left, int) and isinstance(right, int)):
        return None
    if node.name in ("floor_div", "remainder"):
        if bounds(right)[0] < 1:
            return None
        result = left // right if node.name == "floor_div" else left % right
    else:
        result = {"add": left + right, "sub": left - right, "mul": left * right}[node.name]
    return b.size(dim=result)


@rule("eq", "ne", "lt", "le", "gt", "ge")
def size_comparison(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``size(a) < size(b)`` -> ``true`` or ``false`` when the bounds of ``a - b`` decide"""
    left, right = _size(b, x), _size(b, y)
    if left is None or right is None:
        return None
    low, high = bounds(left - right)
    top = float("inf") if high is None else high
    known = {
        "lt": _decide(top < 0, low >= 0),
        "le": _decide(top <= 0, low > 0),
        "gt": _decide(low > 0, top <= 0),
        "ge": _decide(low >= 0, top < 0),
        "eq": _decide(low == top == 0, low > 0 or top < 0),
        "ne": _decide(low > 0 or top < 0, low == top == 0),
    }[node.name]
    return None if known is None else b.const(known, bool_)


def _decide(is_true: bool, is_false: bool) -> bool | None:
    return True if is_true else False if is_false else None


@rule("if_")
def if_known(b: Patch, node: Node, predicate: Value, *arguments: Value) -> Any:
    """``if_(true, *args)`` -> ``then(*args)``"""
    known = b.scalar(predicate)
    if known is None or node.op.sizes:
        return None
    return inline(b, node.graphs[0 if known else 1], arguments)


@rule("call")
def call_inlined(b: Patch, node: Node, *arguments: Value) -> Any:
    """``call(*args)`` -> ``graph(*args)``"""
    if any(scope.bindings(node.graphs[0])):
        return None
    return inline(b, node.graphs[0], arguments)


@rule("assert_")
def assert_known(b: Patch, node: Node, condition: Value, *values: Value) -> Any:
    """``assert_(true)`` -> ``true``"""
    return condition if b.scalar(condition) else None


@rule("refine")
def refine_known(b: Patch, node: Node, x: Value) -> Any:
    """``refine(x)`` -> ``x`` of the same shape"""
    return x if x.shape == node.op.shape else None

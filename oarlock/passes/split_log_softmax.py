"""What a loss and its gradient read of a log-softmax, from one exponential per element.

The gradient reads ``exp(log_softmax(x))``, which is the quotient that the logarithm was taken of; the
loss reads one element of each row.  Written by primitives, both share the maximum, the exponentials
and their sum, and fuse.

Only f32 and f64: a quotient rounds once more than the exponential of a difference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from oarlock.ir import Node, Program, Value
from oarlock.ir.types import f32, f64, i32, i64
from oarlock.passes.rewrite import Patch, Rules, made_by, rewrite
from oarlock.passes.stage import stage

READERS, REST = Rules(), Rules()


@stage("split_log_softmax")
def split_log_softmax(program: Program) -> Program:
    """Take softmax and picked elements of a log-softmax from the exponentials that it is made of."""
    return rewrite(rewrite(program, READERS), REST)


class _Parts(NamedTuple):
    """Of a log-softmax: ``shifted - log(total)``, with the total of ``powers = exp(shifted)``."""

    highest: Value
    shifted: Value
    powers: Value
    total: Value


def _parts(b: Patch, x: Value, axis: int) -> _Parts:
    highest = b.reduce_max(x, axes=(axis,), keepdims=True)
    shifted = b.sub(x, highest)
    powers = b.exp(shifted)
    return _Parts(highest, shifted, powers, b.reduce_sum(powers, axes=(axis,), keepdims=True))


def _axis(node: Node | None) -> int | None:
    """Of a log-softmax that may be split."""
    if node is None or node.output.dtype not in (f32, f64):
        return None
    return node.op.axis % node.output.rank  # type: ignore[attr-defined]


@READERS.rule("exp")
def softmax_again(b: Patch, node: Node, y: Value) -> Any:
    """``exp(log_softmax(x))`` -> ``exp(x - max) * (1 / total)``"""
    inner = made_by(y, "log_softmax")
    axis = _axis(inner)
    if inner is None or axis is None:
        return None
    b.absorb(inner)
    parts = _parts(b, inner.inputs[0], axis)
    return b.mul(parts.powers, b.reciprocal(parts.total))


@READERS.rule("reduce_sum")
def picked_element(b: Patch, node: Node, y: Value) -> Any:
    """``sum(where(classes == i, log_softmax(x), 0))`` -> the element at i, 0 for i out of range"""
    chosen = made_by(y, "where")
    inner = made_by(chosen.inputs[1], "log_softmax") if chosen is not None else None
    axis = _axis(inner)
    if chosen is None or inner is None or axis is None:
        return None
    (x,) = inner.inputs
    at = _place(b, chosen.inputs[0], axis, x)
    is_sum = tuple(node.op.axes) == (axis,) and b.scalar(chosen.inputs[2]) == 0  # type: ignore
    if at is None or not is_sum or chosen.output.type != x.type:
        return None
    b.absorb(chosen, inner)
    parts, zero = _parts(b, x, axis), b.const(0, at.dtype)
    inside = b.bit_and(b.ge(at, zero), b.lt(at, b.const(x.shape[axis], at.dtype)))
    element = b.gather(x, b.where(inside, at, zero), axis=axis)
    element = b.sub(b.sub(element, parts.highest), b.log(parts.total))
    element = b.where(inside, element, b.const(0.0, x.dtype))
    return (
        element if element.type == node.output.type else b.reshape(element, shape=node.output.shape)
    )


def _place(b: Patch, mask: Value, axis: int, x: Value) -> Value | None:
    """The i of ``i == classes`` along ``axis``."""
    node = made_by(mask, "eq")
    if node is None or not isinstance(x.shape[axis], int) or not x.shape[axis]:
        return None
    for at, classes in (node.inputs, node.inputs[::-1]):
        one_each = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        if (
            at.shape == one_each
            and at.dtype in (i32, i64)
            and _counts(b, classes, axis - x.rank, x)
        ):
            return at
    return None


def _counts(b: Patch, value: Value, axis: int, x: Value) -> bool:
    """``value`` is 0, 1, .. along an axis, counted from the last one."""
    size = x.shape[axis]
    if value.rank < -axis or value.shape[axis] != size or value.type.size != size:
        return False
    while (node := made_by(value, "reshape")) is not None:
        (value,) = node.inputs
    if made_by(value, "iota") is not None:
        return True
    numbers = b.constant(value)
    return numbers is not None and np.array_equal(numbers.ravel(), np.arange(size))


@REST.rule("log_softmax")
def log_softmax(b: Patch, node: Node, x: Value) -> Any:
    """``log_softmax(x)`` -> ``x - max - log(total)``"""
    axis = _axis(node)
    if axis is None:
        return None
    parts = _parts(b, x, axis)
    return b.sub(parts.shifted, b.log(parts.total))

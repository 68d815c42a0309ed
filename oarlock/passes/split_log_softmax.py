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
    """Share a log-softmax's exponentials with its gradient; sums over classes of one are that one."""
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
    found = _picked(b, node, y)
    inner = made_by(found.value, "log_softmax") if found is not None else None
    axis = _axis(inner)
    if found is None or inner is None or axis is None:
        return None
    (x,) = inner.inputs
    b.absorb(inner)
    parts, zero = _parts(b, x, axis), b.const(0, found.at.dtype)
    inside = _is_within(b, found.at, found.size)
    element = b.gather(x, b.where(inside, found.at, zero), axis=axis)
    element = b.sub(b.sub(element, parts.highest), b.log(parts.total))
    return _shaped(b, b.where(inside, element, b.const(0.0, x.dtype)), node)


@READERS.rule("reduce_sum")
def picked_number(b: Patch, node: Node, y: Value) -> Any:
    """``sum(where(classes == i, x, 0))`` -> x, 0 for i out of range, where all classes have one x"""
    found = _picked(b, node, y)
    if found is None or found.value.shape != found.at.shape:
        return None
    inside = _is_within(b, found.at, found.size)
    return _shaped(b, b.where(inside, found.value, b.const(0.0, y.dtype)), node)


class _Picked(NamedTuple):
    """The sum over ``size`` classes of ``where(classes == at, value, 0)``."""

    at: Value
    value: Value
    size: int


def _picked(b: Patch, node: Node, y: Value) -> _Picked | None:
    chosen = made_by(y, "where")
    axes = tuple(node.op.axes)  # type: ignore[attr-defined]
    if chosen is None or len(axes) != 1 or y.dtype not in (f32, f64):
        return None
    at = _place(b, chosen.inputs[0], axes[0] % y.rank, y)
    if at is None or b.scalar(chosen.inputs[2]) != 0:
        return None
    b.absorb(chosen)
    return _Picked(at, chosen.inputs[1], y.shape[axes[0]])  # type: ignore[arg-type]


def _is_within(b: Patch, at: Value, size: int) -> Value:
    dtype = at.dtype
    return b.bit_and(b.ge(at, b.const(0, dtype)), b.lt(at, b.const(size, dtype)))


def _shaped(b: Patch, value: Value, node: Node) -> Value:
    shape = node.output.shape
    return value if value.shape == shape else b.reshape(value, shape=shape)


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

"""Moves of data that cancel, join or do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oarlock.ir import Node, Size, Value, bounds
from oarlock.ops.shape import full_slice
from oarlock.passes.rewrite import Patch, Rules, attributes, made_by

RULES = Rules()
rule = RULES.rule
KEEPS_ONE = {"reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "mean"}


def is_at_most(a: Size, b: Size) -> bool:
    """``a <= b``, proven."""
    return bounds(b - a)[0] >= 0


@rule("reshape", "broadcast_to", "transpose", "slice", "pad", "flip", "concat")
def identity(b: Patch, node: Node, x: Value, *more: Value) -> Any:
    """A move that gives x as it is -> ``x``"""
    op = node.op
    nothing = {
        "reshape": lambda: node.output.type == x.type,
        "broadcast_to": lambda: node.output.type == x.type,
        "transpose": lambda: op.perm == tuple(range(x.rank)),
        "slice": lambda: _takes_all(op, x),
        "pad": lambda: node.output.type == x.type,
        "flip": lambda: all(x.shape[a] == 1 for a in op.axes),
        "concat": lambda: not more,
    }
    return x if nothing[node.name]() else None


def _takes_all(op: Any, x: Value) -> bool:
    return (
        all(s == 0 for s in op.starts)
        and tuple(op.stops) == x.shape
        and all(s == 1 for s in op.steps)
    )


@rule("reshape")
def reshape_of_reshape(b: Patch, node: Node, x: Value) -> Any:
    """``reshape(reshape(x, s), t)`` -> ``reshape(x, t)``"""
    inner = made_by(x, "reshape")
    return b.reshape(inner.inputs[0], shape=node.op.shape) if inner else None


@rule("transpose")
def transpose_of_transpose(b: Patch, node: Node, x: Value) -> Any:
    """``transpose(transpose(x, p), q)`` -> ``transpose(x, p[q])``"""
    inner = made_by(x, "transpose")
    if inner is None:
        return None
    return b.transpose(inner.inputs[0], perm=tuple(inner.op.perm[i] for i in node.op.perm))


@rule("transpose")
def transpose_of_ones(b: Patch, node: Node, x: Value) -> Any:
    """``transpose(x)`` -> ``reshape(x)`` when it moves nothing but axes of size 1"""
    wide = [axis for axis in node.op.perm if x.shape[axis] != 1]
    return b.reshape(x, shape=node.output.shape) if wide == sorted(wide) else None


@rule("broadcast_to")
def broadcast_of_broadcast(b: Patch, node: Node, x: Value) -> Any:
    """``broadcast_to(broadcast_to(x, s), t)`` -> ``broadcast_to(x, t)``"""
    inner = made_by(x, "broadcast_to")
    return b.broadcast_to(inner.inputs[0], shape=node.op.shape) if inner else None


@rule("reshape", "transpose", "flip")
def move_of_scalar(b: Patch, node: Node, x: Value) -> Any:
    """``reshape(broadcast_to(c), t)`` -> ``broadcast_to(c, t)`` of one number"""
    inner = made_by(x, "broadcast_to")
    if inner is None or inner.inputs[0].rank:
        return None
    return b.broadcast_to(inner.inputs[0], shape=node.output.shape)


@rule("flip")
def flip_of_flip(b: Patch, node: Node, x: Value) -> Any:
    """``flip(flip(x, a), b)`` -> the axes that are in one of them"""
    inner = made_by(x, "flip")
    if inner is None:
        return None
    axes = {a % x.rank for a in inner.op.axes} ^ {a % x.rank for a in node.op.axes}
    return b.flip(inner.inputs[0], axes=tuple(sorted(axes))) if axes else inner.inputs[0]


@rule("slice")
def slice_of_slice(b: Patch, node: Node, x: Value) -> Any:
    """``x[a:b:s][c:d:t]`` -> ``x[a + c s : a + (d - 1) s + 1 : s t]``"""
    inner = made_by(x, "slice")
    if inner is None:
        return None
    op, before = node.op, inner.op
    known = all(
        s == 1 or (isinstance(d - c, int) and d - c > 0)
        for s, c, d in zip(before.steps, op.starts, op.stops)
    )
    if not known:
        return None
    starts = tuple(a + c * s for a, c, s in zip(before.starts, op.starts, before.steps))
    stops = tuple(a + (d - 1) * s + 1 for a, d, s in zip(before.starts, op.stops, before.steps))
    steps = tuple(s * t for s, t in zip(before.steps, op.steps))
    return b.slice(inner.inputs[0], starts=starts, stops=stops, steps=steps)


@rule("slice")
def slice_of_concat(b: Patch, node: Node, x: Value) -> Any:
    """A slice of ``concat(..., x, ...)`` that reads x alone -> a slice of x"""
    joined = made_by(x, "concat")
    if joined is None:
        return None
    axis = joined.op.axis % x.rank
    start, stop = node.op.starts[axis], node.op.stops[axis]
    offset: Size = 0
    for part in joined.inputs:
        end = offset + part.shape[axis]
        if is_at_most(offset, start) and is_at_most(stop, end):
            return b.slice(
                part,
                starts=_with(node.op.starts, axis, start - offset),
                stops=_with(node.op.stops, axis, stop - offset),
                steps=node.op.steps,
            )
        offset = end
    return None


def _with(sizes: Sequence[Size], axis: int, size: Size) -> tuple[Size, ...]:
    return tuple(size if i == axis else s for i, s in enumerate(sizes))


@rule("slice")
def slice_of_scalar(b: Patch, node: Node, x: Value) -> Any:
    """A slice of one number repeated -> fewer repeats"""
    inner = made_by(x, "broadcast_to")
    if inner is None or inner.inputs[0].rank:
        return None
    return b.broadcast_to(inner.inputs[0], shape=node.output.shape)


@rule("concat")
def concat_flat(b: Patch, node: Node, *parts: Value) -> Any:
    """``concat(x, concat(y, z))`` -> ``concat(x, y, z)``; empty parts vanish"""
    axis = node.op.axis % parts[0].rank
    flat: list[Value] = []
    for part in parts:
        inner = made_by(part, "concat")
        same = inner is not None and inner.op.axis % part.rank == axis
        flat += inner.inputs if inner is not None and same else [part]
    flat = [part for part in flat if part.shape[axis] != 0] or flat[:1]
    return b.concat(*flat, axis=axis) if flat != list(parts) else None


@rule("concat")
def concat_of_slices(b: Patch, node: Node, *parts: Value) -> Any:
    """``concat(x[a:b], x[b:c])`` -> ``x[a:c]``"""
    axis = node.op.axis % parts[0].rank
    joined = [parts[0]]
    for part in parts[1:]:
        both = _adjacent(b, joined[-1], part, axis)
        joined = [*joined, part] if both is None else [*joined[:-1], both]
    return b.concat(*joined, axis=axis) if len(joined) < len(parts) else None


def _adjacent(b: Patch, left: Value, right: Value, axis: int) -> Value | None:
    first, second = made_by(left, "slice"), made_by(right, "slice")
    if first is None or second is None or first.inputs[0] is not second.inputs[0]:
        return None
    if first.op.stops[axis] != second.op.starts[axis]:
        return None
    if first.op.steps[axis] != 1 or second.op.steps[axis] != 1:
        return None
    spans = [
        tuple((o.starts[i], o.stops[i], o.steps[i]) for i in range(left.rank) if i != axis)
        for o in (first.op, second.op)
    ]
    if spans[0] != spans[1]:
        return None
    stops = _with(first.op.stops, axis, second.op.stops[axis])
    return b.slice(first.inputs[0], starts=first.op.starts, stops=stops, steps=first.op.steps)


@rule("pad")
def pad_of_pad(b: Patch, node: Node, x: Value) -> Any:
    """``pad(pad(x, value), value)`` -> one pad"""
    inner = made_by(x, "pad")
    if inner is None or repr(inner.op.value) != repr(node.op.value):
        return None
    low = tuple(p + q for p, q in zip(inner.op.low, node.op.low))
    high = tuple(p + q for p, q in zip(inner.op.high, node.op.high))
    return b.pad(inner.inputs[0], low=low, high=high, value=node.op.value)


@rule(*sorted(KEEPS_ONE))
def reduce_nothing(b: Patch, node: Node, x: Value) -> Any:
    """A reduction of axes of size 1 -> a reshape"""
    axes = {a % x.rank for a in node.op.axes}
    kept = {a for a in axes if x.shape[a] != 1}
    if kept == axes and axes:
        return None
    if kept:
        wide = attributes(node, axes=tuple(sorted(kept)), keepdims=True)
        x = b.build(type(node.op)(**wide), x)
    return b.reshape(x, shape=node.output.shape)


@rule("*")
def pointwise_of_broadcast(b: Patch, node: Node, *inputs: Value) -> Any:
    """``f(broadcast_to(x), y)`` -> ``f(x, y)`` when y has the shape, else ``broadcast_to(f(x, y))``"""
    if not node.op.pointwise or not any(made_by(v, "broadcast_to") for v in inputs):
        return None
    if node.op.is_composite and len(inputs) > 1:
        return None
    bare = [v.producer.inputs[0] if made_by(v, "broadcast_to") else v for v in inputs]
    y = b.build(node.op, *bare)
    return y if y.type == node.output.type else b.broadcast_to(y, shape=node.output.shape)


@rule("take")
def take_one(b: Patch, node: Node, x: Value, indices: Value) -> Any:
    """``take(x, 3)`` -> a slice, when 3 is known to be inside"""
    index = b.scalar(indices) if indices.rank == 0 else None
    if index is None:
        return None
    axis = node.op.axis % x.rank
    size = x.shape[axis]
    at: Size = int(index) if index >= 0 else size + int(index)
    if bounds(at)[0] < 0 or not is_at_most(at + 1, size):
        return None
    row = b.slice(x, **full_slice(x.type, axis, at, at + 1))
    return b.reshape(row, shape=node.output.shape)

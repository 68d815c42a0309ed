"""How a transpose moves from the operands of an op to its result.

``RULES[name](b, node, x, perm)`` is for a node whose operand is ``transpose(x, perm)``: it builds the
node on ``x`` and gives the result with the permutation that remains, or None where that is not
possible.  Equation of each: ``op(transpose(x, p))`` -> ``transpose(op'(x), q)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from oarlock.ir import Builder, Node, Size, Value, product

Perm = tuple[int, ...]
Moved = tuple[Value, Perm]
Rule = Callable[[Builder, Node, Value, Perm], "Moved | None"]
RULES: dict[str, Rule] = {}


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes ``perm``."""
    found = [0] * len(perm)
    for i, axis in enumerate(perm):
        found[axis] = i
    return tuple(found)


def permute(sizes: Sequence[Any], perm: Perm) -> tuple[Any, ...]:
    """``sizes`` of a tensor after ``transpose(perm)``."""
    return tuple(sizes[axis] for axis in perm)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for ops."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _with(node: Node, **changes: Any) -> Any:
    return type(node.op)(**{**node.op.attributes, **changes})


@rule("transpose")
def _transpose(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    return x, permute(perm, tuple(axis % x.rank for axis in node.op.perm))


@rule("slice")
def _slice(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    back, op = inverse(perm), node.op
    spans = {k: permute(getattr(op, k), back) for k in ("starts", "stops", "steps")}
    return b.build(_with(node, **spans), x), perm


@rule("pad")
def _pad(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    back, op = inverse(perm), node.op
    amounts = {"low": permute(op.low, back), "high": permute(op.high, back)}
    return b.build(_with(node, **amounts), x), perm


@rule("flip")
def _flip(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    axes = tuple(sorted(perm[axis % x.rank] for axis in node.op.axes))
    return b.build(_with(node, axes=axes), x), perm


@rule("cumsum", "cumprod", "glu")
def _along(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    return b.build(_with(node, axis=perm[node.op.axis % x.rank]), x), perm


@rule("softmax", "log_softmax")
def _along_last(b: Builder, node: Node, x: Value, perm: Perm) -> Moved | None:
    """Not where the innermost axis would become an outer one: rows are faster."""
    axis = node.op.axis % x.rank
    was_last, is_last = axis == x.rank - 1, perm[axis] == x.rank - 1
    return None if was_last and not is_last else _along(b, node, x, perm)


@rule("linear")
def _last_stays(b: Builder, node: Node, x: Value, perm: Perm) -> Moved | None:
    if perm[-1] != x.rank - 1:
        return None
    return b.build(node.op, x, *node.inputs[1:]), perm


@rule("layer_norm", "rms_norm")
def _tail_stays(b: Builder, node: Node, x: Value, perm: Perm) -> Moved | None:
    kept = x.rank - node.op.axes
    if perm[kept:] != tuple(range(kept, x.rank)):
        return None
    return b.build(node.op, x, *node.inputs[1:]), perm


@rule("broadcast_to")
def _broadcast_to(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    more = len(node.op.shape) - x.rank
    wider = (*range(more), *(axis + more for axis in perm))
    return b.broadcast_to(x, shape=permute(node.op.shape, inverse(wider))), wider


@rule(
    "reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "mean", "var", "logsumexp", "lp_norm"
)
def _reduce(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    axes = {axis % x.rank for axis in node.op.axes}
    moved = tuple(sorted(perm[axis] for axis in axes))
    return b.build(_with(node, axes=moved), x), _left(perm, axes, node.op.keepdims)


@rule("argmax", "argmin")
def _reduce_one(b: Builder, node: Node, x: Value, perm: Perm) -> Moved:
    axis = node.op.axis % x.rank
    y = b.build(_with(node, axis=perm[axis]), x)
    return y, _left(perm, {axis}, node.op.keepdims)


def _left(perm: Perm, axes: set[int], keepdims: bool) -> Perm:
    """The permutation of the axes that a reduction leaves."""
    if keepdims:
        return perm
    kept = [axis for i, axis in enumerate(perm) if i not in axes]
    return tuple(sorted(kept).index(axis) for axis in kept)


@rule("reshape")
def _reshape(b: Builder, node: Node, x: Value, perm: Perm) -> Moved | None:
    """Axes that are joined or split stay together; those of other groups keep their order in x."""
    shape, target = permute(x.shape, perm), node.op.shape
    groups = _groups(shape, target)
    if groups is None:
        return None
    order = sorted(groups, key=lambda g: min(perm[axis] for axis in g[0]))
    axes = [axis for old, _ in order for axis in old]
    wanted = [perm[axis] for axis in axes]
    ones = [axis for axis in range(x.rank) if axis not in wanted]
    if wanted != sorted(wanted):
        x = b.transpose(x, perm=(*wanted, *ones))
    new = [axis for _, axes in order for axis in axes]
    new += [axis for axis in range(len(target)) if axis not in new]
    return b.reshape(x, shape=permute(target, tuple(new))), inverse(tuple(new))


def _groups(
    shape: Sequence[Size], target: Sequence[Size]
) -> list[tuple[list[int], list[int]]] | None:
    """Axes of both shapes, those of size 1 left out, in short runs of equal products."""
    if any(size == 0 for size in (*shape, *target)):
        return None
    old = [axis for axis, size in enumerate(shape) if size != 1]
    new = [axis for axis, size in enumerate(target) if size != 1]
    ends = {product(target[axis] for axis in new[: j + 1]): j + 1 for j in range(len(new))}
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    for end in range(1, len(old) + 1):
        stop = ends.get(product(shape[axis] for axis in old[:end]), 0)
        if stop > j:
            found.append((old[i:end], new[j:stop]))
            i, j = end, stop
    return found if (i, j) == (len(old), len(new)) else None

"""Operands that kernels read through views, so that transposes and slices are not stored first."""

from __future__ import annotations

from collections.abc import Sequence

from oarlock.codegen import loops as L
from oarlock.codegen.indexing import BACKWARD, Index, Space, linear
from oarlock.ir.dim import Size
from oarlock.ir.graph import Node, Value


def through_views(value: Value, index: Index, space: Space) -> tuple[Value, Size]:
    """The memory that ``value[index]`` is read from, and its position there.

    Views are followed as long as the position moves evenly with every symbol of the index.
    """
    found = value, linear(index, value.shape)
    while value.producer is not None and value.producer.name in BACKWARD:
        node = value.producer
        trial = Space(dict(space.extents))
        index = BACKWARD[node.name](node, index, trial)
        value = node.inputs[0]
        at = linear(index, value.shape)
        if trial.divides or any(L.stride_of(at, name) is None for name in space.extents):
            break
        found = value, at
    return found


def memory_of(value: Value) -> Value:
    """The memory that ``through_views`` finds for any index of whole axes."""
    return _whole(value)[1]


def is_dense(value: Value) -> bool:
    """Its elements lie in its memory as they would in memory of its own."""
    index, _, at = _whole(value)
    return at == linear(index, value.shape)


def _whole(value: Value) -> tuple[Index, Value, Size]:
    """An index of whole axes, the memory and the position there."""
    space = Space()
    index = tuple(
        0 if n == 1 else space.symbol(f"_v{k}", n) for k, n in enumerate(value.shape)
    )  # fmt: skip
    return index, *through_views(value, index, space)


def number_everywhere(value: Value) -> int | float | None:
    """What each element is, where that is known."""
    node = value.producer
    while node is not None and node.name in ("broadcast_to", "reshape"):
        node = node.inputs[0].producer
    if node is None or node.name != "const" or isinstance(node.op.value, tuple):  # type: ignore
        return None
    return node.op.value  # type: ignore[attr-defined]


def operands_of(node: Node) -> Sequence[Value]:
    """What the kernel of ``node`` reads from memory."""
    from oarlock.codegen.kernels import makers

    maker = makers().get(node.name)
    if hasattr(maker, "operands"):
        return maker.operands(node)  # type: ignore[union-attr]
    if getattr(maker, "reads_views", False):
        return [memory_of(v) for v in node.inputs]
    return node.inputs

"""Type rules that records share."""

from __future__ import annotations

from collections.abc import Sequence

from oarlock.ir import Size, TensorType
from oarlock.ir.op import Op


def broadcast_shapes(op: Op, types: Sequence[TensorType]) -> tuple[Size, ...]:
    """The numpy broadcast of shapes; only a size that is literally 1 stretches.

    Raises: TypeMismatch naming the axis.
    """
    rank = max((t.rank for t in types), default=0)
    result: list[Size] = []
    for axis in range(rank):
        size: Size = 1
        for t in types:
            i = axis - rank + t.rank
            if i < 0 or t.shape[i] == 1 or t.shape[i] == size:
                continue
            if size != 1:
                raise op.fail(
                    types, f"axis {axis - rank}: {size} and {t.shape[i]} do not broadcast"
                )
            size = t.shape[i]
        result.append(size)
    return tuple(result)


def same_dtype(
    op: Op, types: Sequence[TensorType], among: Sequence[TensorType] | None = None
) -> None:
    """Raises: TypeMismatch when element types differ, of ``among`` where it is given."""
    dtypes = [t.dtype for t in (types if among is None else among)]
    if len(set(dtypes)) > 1:
        raise op.fail(types, f"expected one element type, got {', '.join(map(str, dtypes))}")


def axis_of(op: Op, types: Sequence[TensorType], axis: int, rank: int | None = None) -> int:
    """A normalised axis.  Raises: TypeMismatch."""
    rank = types[0].rank if rank is None else rank
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise op.fail(types, f"axis {axis} of rank {rank}")
    return axis % rank


def axes_of(op: Op, types: Sequence[TensorType], axes: Sequence[int]) -> tuple[int, ...]:
    """Normalised distinct axes in order.  Raises: TypeMismatch."""
    found = tuple(sorted(axis_of(op, types, axis) for axis in axes))
    if len(set(found)) != len(found):
        raise op.fail(types, f"axes {tuple(axes)} repeat")
    return found


def reduced_shape(shape: Sequence[Size], axes: Sequence[int], keepdims: bool) -> tuple[Size, ...]:
    """The shape after reducing normalised ``axes``."""
    if keepdims:
        return tuple(1 if i in axes else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in axes)

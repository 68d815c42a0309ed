"""What the items of a list of run-time length hold at one place: a stack of rows, or slices of one axis.

Items of one shape are a stack.  Items whose sizes differ on one axis lie behind each other on it,
with the size of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oarlock.ir import Dim, Size, TensorType, Value, i64


class Even:
    """A row per item."""

    WIDTH = 1

    def __init__(self, r: Any, values: Sequence[Value], axis: int | None = None) -> None:
        self.r, self.axis, self.values = r, axis, list(values)
        (self.stack,) = values
        self.item_type = TensorType(self.stack.dtype, self.stack.shape[1:])

    @staticmethod
    def row(r: Any, value: Value, axis: int | None) -> list[Value]:
        return [r.b.reshape(value, shape=(1, *value.shape))]

    @staticmethod
    def none(r: Any, type: TensorType, axis: int | None) -> list[Value]:
        """No items, each of which would be of ``type``."""
        return [r.b.full(0, (0, *type.shape), type.dtype)]

    def take(self, place: Value) -> Value:
        return self.r.b.take(self.stack, place, axis=0)

    def gather(self, places: Value) -> list[Value]:
        return [self.r.b.take(self.stack, places, axis=0)]

    def put(self, place: Value, row: Sequence[Value]) -> list[Value]:
        b = self.r.b
        return [b.put(self.stack, b.reshape(place, shape=(1,)), row[0], axis=0)]

    def stacked(self) -> Value:
        return self.stack

    def as_ragged(self, axis: int) -> list[Value]:
        b, shape = self.r.b, self.stack.shape
        count, size, rest = shape[0], shape[axis + 1], [*shape[1 : axis + 1], *shape[axis + 2 :]]
        sizes = b.broadcast_to(b.reshape(b.to(size, i64), shape=(1,)), shape=(count,))
        perm = (0, axis + 1, *(i for i in range(1, len(shape)) if i != axis + 1))
        return [sizes, b.reshape(b.transpose(self.stack, perm=perm), shape=(count * size, *rest))]


class Ragged:
    """``data``: the items behind each other, ``axis`` of an item first; ``sizes``, i64[count]."""

    WIDTH = 2

    def __init__(self, r: Any, values: Sequence[Value], axis: int) -> None:
        self.r, self.axis, self.values = r, axis, list(values)
        self.sizes, self.data = values
        shape = list(self.data.shape[1:])
        shape.insert(axis, self.data.shape[0])
        self.item_type = TensorType(self.data.dtype, tuple(shape))

    @staticmethod
    def row(r: Any, value: Value, axis: int) -> list[Value]:
        size = r.b.reshape(r.b.to(value.shape[axis], i64), shape=(1,))
        return [size, first(r, value, axis)]

    @staticmethod
    def none(r: Any, type: TensorType, axis: int) -> list[Value]:
        rest = (*type.shape[:axis], *type.shape[axis + 1 :])
        return [r.b.full(0, (0,), i64), r.b.full(0, (0, *rest), type.dtype)]

    def take(self, place: Value) -> Value:
        b = self.r.b
        begin = b.take(self.starts(self.sizes), place, axis=0)
        size = self._bound(b.take(self.sizes, place, axis=0))
        rows = b.take(self.data, b.add(b.iota(size=size, dtype=i64), begin), axis=0)
        return back(self.r, rows, self.axis)

    def starts(self, sizes: Value) -> Value:
        """Where each item begins."""
        return self.r.b.sub(self.r.b.cumsum(sizes, axis=0), sizes)

    def _bound(self, number: Value) -> Dim:
        return self.r.shapes.dim_of(number, "k")

    def gather(self, places: Value) -> list[Value]:
        """The items at ``places``: which item each row of the result is of, and where it is there."""
        b = self.r.b
        sizes = b.take(self.sizes, places, axis=0)
        ends = b.cumsum(sizes, axis=0)
        count = self._bound(b.reduce_sum(sizes, axes=(0,)))
        rows = b.iota(size=count, dtype=i64)
        is_behind = b.ge(b.reshape(rows, shape=(count, 1)), b.reshape(ends, shape=(1, *ends.shape)))
        item = b.reduce_sum(b.cast(is_behind, dtype=i64), axes=(1,))
        begins = b.take(self.starts(self.sizes), places, axis=0)
        moved = b.sub(begins, self.starts(sizes))
        return [sizes, b.take(self.data, b.add(rows, b.take(moved, item, axis=0)), axis=0)]

    def put(self, place: Value, row: Sequence[Value]) -> list[Value]:
        b = self.r.b
        count = self.sizes.shape[0]
        whole = [b.concat(x, y, axis=0) for x, y in zip((self.sizes, self.data), row)]
        places = b.iota(size=count, dtype=i64)
        length = b.to(count, i64)
        wrapped = b.where(b.lt(place, 0), b.add(place, length), place)
        return Ragged(self.r, whole, self.axis).gather(
            b.where(b.eq(places, wrapped), length, places)
        )

    def stacked(self) -> Value:
        """A stack, where all sizes are the same.  The run fails where they are not."""
        b = self.r.b
        size = b.take(self.sizes, b.const(0, i64), axis=0)
        least = b.reduce_min(b.cast(b.eq(self.sizes, size), dtype=i64), axes=(0,))
        b.assert_(b.ne(least, 0), message="stack expects each tensor to be equal size")
        count: Size = self.sizes.shape[0]
        bound, rest = self._bound(size), self.data.shape[1:]
        data = b.refine(self.data, shape=(count * bound, *rest))
        return back(self.r, b.reshape(data, shape=(count, bound, *rest)), self.axis + 1, 1)


def first(r: Any, value: Value, axis: int) -> Value:
    """``axis`` in front."""
    perm = (axis, *(i for i in range(value.rank) if i != axis))
    return r.b.transpose(value, perm=perm) if axis else value


def back(r: Any, value: Value, axis: int, at: int = 0) -> Value:
    """The axis ``at`` moved to ``axis``."""
    perm = [i for i in range(value.rank) if i != at]
    perm.insert(axis, at)
    return r.b.transpose(value, perm=tuple(perm)) if axis != at else value


Column = Even | Ragged


def kind(axis: int | None) -> type[Even] | type[Ragged]:
    return Even if axis is None else Ragged

"""Reads and writes at computed places: indexing, scatter, masks, searches."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oarlock.capture.lift.registry import Lifter, lift
from oarlock.ir import DType, Size, Value, bool_, i64, product
from oarlock.ops.reduce import highest, lowest

REDUCE = {
    None: "none", "add": "add", "multiply": "mul", "sum": "add", "mean": "add", "prod": "mul",
    "amax": "max", "amin": "min",
}  # fmt: skip


def _at_least_1d(b: Lifter, x: Value) -> Value:
    return b.reshape(x, shape=(1,)) if x.rank == 0 else x


def _axis(x: Value, dim: int) -> int:
    return dim % max(x.rank, 1)


@lift("aten.embedding.default")
def embedding(b: Lifter, weight: Value, indices: Value, *rest: Any) -> Value:
    return b.take(weight, indices, axis=0)


@lift("aten.index_select.default")
def index_select(b: Lifter, x: Value, dim: int, index: Value) -> Value:
    wide = _at_least_1d(b, x)
    return b.fit(b.take(wide, _at_least_1d(b, index), axis=_axis(x, dim)), b.type)


@lift("aten.gather.default")
def gather(b: Lifter, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    found = b.gather(_at_least_1d(b, x), _at_least_1d(b, index), axis=_axis(x, dim))
    return b.fit(found, b.type)


@lift("aten.take.default")
def take(b: Lifter, x: Value, index: Value) -> Value:
    return b.take(b.reshape(x, shape=(x.type.size,)), index, axis=0)


class _Places:
    """Index tensors joined to places along one axis of x, moved to the front and flattened."""

    def __init__(self, b: Lifter, x: Value, indices: Any) -> None:
        given = [(axis, i) for axis, i in enumerate(indices) if i is not None]
        self.axes = [axis for axis, _ in given]
        self.others = [axis for axis in range(x.rank) if axis not in self.axes]
        self.b, self.x = b, x
        self.flat = self._flat(given)
        self.total: Size = product(x.shape[axis] for axis in self.axes)
        self.perm = (*self.axes, *self.others)
        first = self.axes[0]
        adjacent = self.axes == list(range(first, first + len(self.axes)))
        self.before = first if adjacent else 0

    def _flat(self, given: list[tuple[int, Value]]) -> Value:
        """One place per element; beyond the last when an index leaves its own axis."""
        b, flat, size, outside = self.b, None, 1, None
        for axis, i in reversed(given):
            i = b.to(i, i64)
            if len(given) > 1:
                n = b.to(self.x.shape[axis], i64)
                i = b.where(b.lt(i, 0), b.add(i, n), i)
                left = b.bit_or(b.lt(i, 0), b.ge(i, n))
                outside = left if outside is None else b.bit_or(outside, left)
            term = i if flat is None else b.mul(i, b.to(size, i64))
            flat = term if flat is None else b.add(flat, term)
            size = size * self.x.shape[axis]
        assert flat is not None
        return flat if outside is None else b.where(outside, b.to(size, i64), flat)

    @property
    def rest(self) -> tuple[Size, ...]:
        return tuple(self.x.shape[axis] for axis in self.others)

    def joined(self, x: Value) -> Value:
        """x with the indexed axes as one, in front."""
        if self.perm != tuple(range(x.rank)):
            x = self.b.transpose(x, perm=self.perm)
        return self.b.reshape(x, shape=(self.total, *self.rest))

    def order(self) -> tuple[int, ...]:
        """Axes of ``[places, others]`` in the order of torch's result."""
        k, n = self.flat.rank, self.before
        return (*range(k, k + n), *range(k), *range(k + n, k + len(self.others)))

    def separated(self, y: Value) -> Value:
        """The inverse of ``joined``."""
        shape = tuple(self.x.shape[axis] for axis in self.perm)
        y = self.b.reshape(y, shape=shape)
        inverse = tuple(self.perm.index(axis) for axis in range(self.x.rank))
        return y if inverse == tuple(range(self.x.rank)) else self.b.transpose(y, perm=inverse)


@lift("aten.index.Tensor", "aten._unsafe_index.Tensor")
def index(b: Lifter, x: Value, indices: Any) -> Value:
    given = [i for i in indices if i is not None]
    if any(i.dtype is bool_ for i in given):
        raise NotImplementedError(
            "indexing by a mask has as many results as the mask has ones; use torch.where"
        )
    if len(given) == 1:
        return b.take(x, given[0], axis=next(k for k, i in enumerate(indices) if i is not None))
    places = _Places(b, x, indices)
    found = b.take(places.joined(x), places.flat, axis=0)
    order = places.order()
    return found if order == tuple(range(found.rank)) else b.transpose(found, perm=order)


@lift("aten.index_put.default", "aten._unsafe_index_put.default", "aten._index_put_impl.default")
def index_put(
    b: Lifter, x: Value, indices: Any, values: Value, accumulate: bool = False, unsafe: bool = False
) -> Value:
    values = b.to(values, x.dtype)
    if any(i is not None and i.dtype is bool_ for i in indices):
        return _mask_put(b, x, indices, values, accumulate)
    places = _Places(b, x, indices)
    found = (*places.flat.shape, *places.rest)
    order = places.order()
    values = b.broadcast_to(values, shape=tuple(found[i] for i in order))
    back = tuple(order.index(i) for i in range(len(order)))
    values = values if back == tuple(range(len(back))) else b.transpose(values, perm=back)
    count = places.flat.type.size
    values = b.reshape(values, shape=(count, *places.rest))
    flat = b.reshape(places.flat, shape=(count,))
    reduce = "add" if accumulate else "none"
    return places.separated(b.put(places.joined(x), flat, values, axis=0, reduce=reduce))


def _mask_put(b: Lifter, x: Value, indices: Any, values: Value, accumulate: bool) -> Value:
    """``x[mask] = values``: values that do not depend on how many are set, else by their count."""
    masks = [(axis, i) for axis, i in enumerate(indices) if i is not None]
    if len(masks) != 1 or masks[0][0] != 0:
        raise NotImplementedError("an update at a mask beside other indices")
    mask = masks[0][1]
    rest = x.shape[mask.rank :]
    wide = b.reshape(mask, shape=(*mask.shape, *[1] * len(rest)))
    if values.rank > len(rest) and values.shape[: values.rank - len(rest)] != (1,):
        if accumulate or values.shape[1:] != rest:
            raise NotImplementedError("an update at a mask with values of another shape")
        return masked_scatter(b, x, wide, values)
    values = b.fit(values, values.type.with_shape(values.shape[-len(rest) :] if rest else ()))
    values = b.add(x, values) if accumulate else values
    return b.where(wide, b.broadcast_to(values, shape=x.shape), x)


@lift("aten.masked_scatter.default")
def masked_scatter(b: Lifter, x: Value, mask: Value, source: Value) -> Value:
    shape = b.type.shape
    count = b.type.size
    mask = b.broadcast_to(mask, shape=shape)
    ones = b.cast(b.reshape(mask, shape=(count,)), dtype=i64)
    places = b.maximum(b.sub(b.cumsum(ones, axis=0), 1), 0)
    flat = b.reshape(source, shape=(source.type.size,))
    places = b.minimum(places, b.to(source.type.size - 1, i64))
    picked = b.reshape(b.take(flat, places, axis=0), shape=shape)
    return b.where(mask, picked, b.broadcast_to(x, shape=shape))


def _identity(b: Lifter, reduce: str, dtype: DType) -> Value:
    kind = np.dtype(np.float64) if dtype.is_float else dtype.numpy
    value = {"add": 0, "mul": 1, "max": lowest(kind), "min": highest(kind)}[reduce]
    return b.const(float(value) if dtype.is_float else int(value), dtype)


def _joined(
    b: Lifter, x: Value, dim: int, index: Value, src: Any, reduce: str | None, include_self: bool,
    slices: bool = False,
) -> Value:  # fmt: skip
    """x with src joined at the places of index; ``slices`` when index is a row of places."""
    axis, flat = _axis(x, dim), _at_least_1d(b, x)
    index = _at_least_1d(b, index)
    how = REDUCE[reduce]
    shape = (*flat.shape[:axis], index.shape[0], *flat.shape[axis + 1 :]) if slices else index.shape
    if not isinstance(src, Value) or (src.rank == 0 and shape != (1,)):
        src = b.broadcast_to(b.to(src, x.dtype), shape=shape)
    src = _at_least_1d(b, b.to(src, x.dtype))

    def write(target: Value, values: Value, how: str) -> Value:
        if slices:
            return b.put(target, index, values, axis=axis, reduce=how)
        return b.scatter(target, index, values, axis=axis, reduce=how)

    start = flat
    if how != "none" and not include_self:
        neutral = b.broadcast_to(_identity(b, how, x.dtype), shape=src.shape)
        start = write(flat, neutral, "none")
    result = write(start, src, how)
    if reduce == "mean":
        first = b.full(1, flat.shape, x.dtype)
        ones = b.full(1, src.shape, x.dtype)
        if not include_self:
            first = write(first, b.full(0, src.shape, x.dtype), "none")
        count = write(first, ones, "add")
        result = b.div(result, count) if x.dtype.is_float else b.floor_div(result, count)
    return b.fit(result, b.type)


@lift("aten.scatter.src", "aten.scatter.value")
def scatter(b: Lifter, x: Value, dim: int, index: Value, src: Any) -> Value:
    return _joined(b, x, dim, index, src, None, True)


@lift("aten.scatter.reduce", "aten.scatter.value_reduce")
def scatter_joined(b: Lifter, x: Value, dim: int, index: Value, src: Any, *, reduce: str) -> Value:
    return _joined(b, x, dim, index, src, reduce, True)


@lift("aten.scatter_add.default")
def scatter_add(b: Lifter, x: Value, dim: int, index: Value, src: Value) -> Value:
    return _joined(b, x, dim, index, src, "sum", True)


@lift("aten.scatter_reduce.two")
def scatter_reduce(
    b: Lifter, x: Value, dim: int, index: Value, src: Value, reduce: str, include_self: bool = True
) -> Value:
    return _joined(b, x, dim, index, src, reduce, include_self)


@lift("aten.index_add.default")
def index_add(b: Lifter, x: Value, dim: int, index: Value, source: Value, alpha: Any = 1) -> Value:
    source = b.to(source, x.dtype)
    source = source if alpha == 1 else b.mul(source, b.to(alpha, x.dtype))
    return _joined(b, x, dim, index, source, "sum", True, slices=True)


@lift("aten.index_copy.default")
def index_copy(b: Lifter, x: Value, dim: int, index: Value, source: Value) -> Value:
    return _joined(b, x, dim, index, source, None, True, slices=True)


@lift("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor")
def index_fill(b: Lifter, x: Value, dim: int, index: Value, value: Any) -> Value:
    return _joined(b, x, dim, index, value, None, True, slices=True)


@lift("aten.index_reduce.default")
def index_reduce(
    b: Lifter, x: Value, dim: int, index: Value, source: Value, reduce: str,
    include_self: bool = True,
) -> Value:  # fmt: skip
    return _joined(b, x, dim, index, source, reduce, include_self, slices=True)


@lift("aten.put.default")
def put(b: Lifter, x: Value, index: Value, source: Value, accumulate: bool = False) -> Value:
    count = index.type.size
    flat, places, values = (
        b.reshape(v, shape=(v.type.size,)) for v in (x, index, b.to(source, x.dtype))
    )
    assert values.shape == (count,)
    return b.fit(b.put(flat, places, values, reduce="add" if accumulate else "none"), b.type)


@lift("aten.searchsorted.Tensor", "aten.searchsorted.Scalar")
def searchsorted(
    b: Lifter, sorted_: Value, values: Any, out_int32: bool = False, right: bool = False,
    side: str | None = None, sorter: Value | None = None,
) -> Value:  # fmt: skip
    if sorter is not None:
        sorted_ = b.gather(sorted_, sorter, axis=sorted_.rank - 1)
    values = b.to(values, sorted_.dtype) if not isinstance(values, Value) else values
    dtype = b.common or sorted_.dtype
    row = b.to(sorted_, dtype)
    if sorted_.rank > 1:
        row = b.reshape(row, shape=(*row.shape[:-1], 1, row.shape[-1]))
    wide = b.reshape(b.to(values, dtype), shape=(*values.shape, 1))
    before = b.le(row, wide) if right or side == "right" else b.lt(row, wide)
    count = b.reduce_sum(b.cast(before, dtype=i64), axes=(before.rank - 1,))
    return b.fit(count, b.type)


@lift("aten.bucketize.Tensor", "aten.bucketize.Scalar")
def bucketize(
    b: Lifter, values: Any, boundaries: Value, out_int32: bool = False, right: bool = False
) -> Value:
    return searchsorted(b, boundaries, values, out_int32, right)


@lift("aten.one_hot.default")
def one_hot(b: Lifter, x: Value, num_classes: int = -1) -> Value:
    if isinstance(num_classes, int) and num_classes < 0:
        raise NotImplementedError("one_hot of as many classes as the data have; give num_classes")
    return b.one_hot(x, classes=num_classes)


@lift("aten.embedding_bag.default", "aten.embedding_bag.padding_idx")
def embedding_bag(
    b: Lifter, weight: Value, indices: Value, offsets: Value, scale: bool = False, mode: int = 0,
    sparse: bool = False, per_sample: Value | None = None, include_last: bool = False,
    padding_idx: int | None = None,
) -> tuple[Value, ...]:  # fmt: skip
    """Bag of every index from the offsets, then its row joined to the bag's."""
    bags, width = b.out[0].shape
    count = indices.shape[0]
    places = b.iota(size=count, dtype=i64)
    starts = b.reshape(b.to(offsets, i64), shape=(1, offsets.shape[0]))
    begun = b.cast(b.le(starts, b.reshape(places, shape=(count, 1))), dtype=i64)
    bag = b.sub(b.reduce_sum(begun, axes=(1,)), 1)
    rows = b.take(weight, indices, axis=0)
    if per_sample is not None:
        rows = b.mul(rows, b.reshape(per_sample, shape=(count, 1)))
    kept = b.full(1, (count,), i64)
    if padding_idx is not None and padding_idx >= 0:
        kept = b.cast(b.ne(b.to(indices, i64), padding_idx), dtype=i64)
    counted = b.reshape(b.ne(kept, 0), shape=(count, 1))
    how, neutral = ("max", -math.inf) if mode == 2 else ("add", 0.0)
    rows = b.where(counted, rows, b.const(neutral, weight.dtype))
    total = b.put(b.full(neutral, (bags, width), weight.dtype), bag, rows, reduce=how)
    size = b.reshape(b.put(b.full(0, (bags,), i64), bag, kept, reduce="add"), shape=(bags, 1))
    if mode == 1:
        total = b.div(total, b.cast(b.maximum(size, 1), dtype=weight.dtype))
    if mode == 2:
        total = b.where(b.gt(size, 0), total, b.const(0.0, weight.dtype))
    return (total, *(b.full(0, t.shape, t.dtype) for t in b.out[1:]))

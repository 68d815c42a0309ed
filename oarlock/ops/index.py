"""Reads and writes at computed places.

A negative index counts from the end; one outside ``[-size, size)`` is an error of the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.errors import InputError
from oarlock.ir import Size, TensorType, bounds, f32, i32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axis_of, same_dtype

X = TensorType(f32, (3, 4, 5))
_APPLY = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
REDUCTIONS = ("none", *_APPLY)


def wrapped(op: Op, indices: np.ndarray, size: int) -> np.ndarray:
    """Indices in ``[0, size)``.  Raises: InputError naming the first that is outside."""
    outside = (indices < -size) | (indices >= size)
    if outside.any():
        raise InputError(
            f"{op.name}: index {indices[outside].flat[0]} is out of range for size {size}"
        )
    wide = indices.astype(np.int64)
    return np.where(wide < 0, wide + size, wide)


def _check_indices(op: Op, types: tuple[TensorType, ...], indices: TensorType) -> None:
    if not indices.dtype.is_int:
        raise op.fail(types, f"expected integer indices, got {indices.dtype}")


def _check_reduce(op: Op, types: tuple[TensorType, ...], reduce: str) -> None:
    if reduce not in REDUCTIONS:
        raise op.fail(types, f"reduce={reduce!r}; expected one of {', '.join(REDUCTIONS)}")


def _exceeds(small: Size, large: Size) -> bool:
    """``small > large`` for every value of the dims."""
    high = bounds(large - small)[1]
    return high is not None and high < 0


def _check_within(
    op: Op, types: tuple[TensorType, ...], index: TensorType, other: TensorType, skip: int | None
) -> None:
    """Refuse an index that is larger than ``other`` on an axis beside ``skip``."""
    if index.rank != other.rank:
        raise op.fail(types, f"expected an index of rank {other.rank}, got rank {index.rank}")
    for axis, (a, b) in enumerate(zip(index.shape, other.shape)):
        if axis != skip and _exceeds(a, b):
            raise op.fail(types, f"axis {axis}: index of size {a} exceeds {b}")


def _store(place: tuple[Any, ...], x: np.ndarray, updates: np.ndarray, reduce: str) -> np.ndarray:
    """``x`` with ``updates`` stored at ``place`` in order; of equal places the last is kept."""
    result = x.copy()
    if reduce == "none":
        result[place] = updates
    else:
        _APPLY[reduce].at(result, place, updates)
    return result


def _within(index: TensorType, other: TensorType, skip: int | None) -> list[tuple[Size, Size]]:
    """What ``_check_within`` leaves to the run."""
    return [(a, b) for k, (a, b) in enumerate(zip(index.shape, other.shape)) if k != skip]


@op("take", onnx=("Gather", 13))
class Take(Op):
    """Slices of x along ``axis``, picked by ``indices`` of any rank: ``numpy.take``.

    Shapes:  x [A, N, B]; indices [...]  ->  [A, ..., B]
    """

    axis: int = 0
    samples = [
        Sample((X, np.array([2, 0, -1]))),
        Sample((X, np.array([[1, -4], [3, 3]], np.int32)), {"axis": 1}),
        Sample((X, np.array(4)), {"axis": -1}),
        Sample((TensorType(i64, (6,)), np.zeros((2, 0), np.int64))),
    ]

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        types = (x, indices)
        axis = axis_of(self, types, self.axis)
        _check_indices(self, types, indices)
        return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def reference(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.take(x, wrapped(self, indices, x.shape[self.axis]), self.axis)


@op("gather", onnx=("GatherElements", 13))
class Gather(Op):
    """``out[i, j, k] = x[i, index[i, j, k], k]`` for ``axis`` 1: ``torch.gather``."""

    axis: int = 0
    samples = [
        Sample((X, np.array([[[0, 1, -1, 2, 0]] * 4])), {"axis": 0}),
        Sample((X, np.arange(30).reshape(3, 2, 5) % 4), {"axis": 1}),
        Sample((X, np.arange(24, dtype=np.int32).reshape(2, 3, 4) % 5), {"axis": -1}),
    ]

    def infer(self, x: TensorType, index: TensorType) -> TensorType:
        types = (x, index)
        axis = axis_of(self, types, self.axis)
        _check_indices(self, types, index)
        _check_within(self, types, index, x, axis)
        return x.with_shape(index.shape)

    def limits(self, x: TensorType, index: TensorType) -> list[tuple[Size, Size]]:
        return _within(index, x, self.axis % x.rank)

    def reference(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        return x[_grid(self, index, x, self.axis)]


def _grid(op: Op, index: np.ndarray, x: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """A place in x for every element of ``index``."""
    place = list(np.indices(index.shape))
    place[axis] = wrapped(op, index, x.shape[axis])
    return tuple(place)


@op("put")
class Put(Op):
    """x with slices along ``axis`` replaced by, or joined with, ``updates``.

    Shapes:  x [A, N, B]; indices [K]; updates [A, K, B]  ->  [A, N, B]
    Attrs:   reduce: none (the last of equal indices is kept), add, mul, max or min.
    """

    axis: int = 0
    reduce: str = "none"
    samples = [
        Sample((X, np.array([2, 0]), TensorType(f32, (2, 4, 5)))),
        Sample((X, np.array([1, -1, 1]), TensorType(f32, (3, 3, 5))), {"axis": 1, "reduce": "add"}),
        Sample((X, np.array([0, 0]), TensorType(f32, (3, 4, 2))), {"axis": -1, "reduce": "max"}),
    ]

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        types = (x, indices, updates)
        axis = axis_of(self, types, self.axis)
        _check_indices(self, types, indices)
        _check_reduce(self, types, self.reduce)
        same_dtype(self, types, (x, updates))
        if indices.rank != 1:
            raise self.fail(types, f"expected indices of rank 1, got rank {indices.rank}")
        expected = x.with_shape((*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :]))
        if updates != expected:
            raise self.fail(types, f"expected updates {expected}, got {updates}")
        return x

    def reference(self, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        axis = self.axis % x.ndim
        place = (slice(None),) * axis + (wrapped(self, indices, x.shape[axis]),)
        return _store(place, x, updates, self.reduce)


@op("scatter", onnx=("ScatterElements", 18))
class Scatter(Op):
    """``out[i, index[i, j, k], k] = src[i, j, k]`` for ``axis`` 1: ``torch.scatter``.

    Attrs:   reduce: none (the last of equal places is kept), add, mul, max or min.
    """

    axis: int = 0
    reduce: str = "none"
    samples = [
        Sample((X, np.array([[[0, 1, 2, -1, 0]]]), TensorType(f32, (2, 4, 5)))),
        Sample(
            (X, np.arange(30).reshape(3, 2, 5) % 4, TensorType(f32, (3, 2, 5))),
            {"axis": 1, "reduce": "add"},
        ),
        Sample(
            (X, np.zeros((2, 3, 4), np.int32), TensorType(f32, (2, 3, 4))),
            {"axis": -1, "reduce": "min"},
        ),
    ]

    def infer(self, x: TensorType, index: TensorType, src: TensorType) -> TensorType:
        types = (x, index, src)
        axis = axis_of(self, types, self.axis)
        _check_indices(self, types, index)
        _check_reduce(self, types, self.reduce)
        same_dtype(self, types, (x, src))
        _check_within(self, types, index, x, axis)
        _check_within(self, types, index, src, None)
        return x

    def limits(self, x: TensorType, index: TensorType, src: TensorType) -> list[tuple[Size, Size]]:
        return [*_within(index, x, self.axis % x.rank), *_within(index, src, None)]

    def reference(self, x: np.ndarray, index: np.ndarray, src: np.ndarray) -> np.ndarray:
        updates = src[tuple(slice(n) for n in index.shape)]
        return _store(_grid(self, index, x, self.axis), x, updates, self.reduce)


@op("one_hot", onnx=("OneHot", 11))
class OneHot(Op):
    """1 at the place of each class along a new last axis, i64; a class outside gives zeros.

    Shapes:  x i64[...]  ->  i64[..., classes]
    """

    classes: Size = 1
    samples = [
        Sample((np.array([[0, 3], [2, 2]]),), {"classes": 4}),
        Sample((TensorType(i32, ()),), {"classes": 3}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        _check_indices(self, (x,), x)
        return TensorType(i64, (*x.shape, self.classes))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return (x[..., None] == np.arange(self.classes)).astype(np.int64)

    def decompose(self, b: Any, x: Any) -> Any:
        classes = b.iota(size=self.classes, dtype=x.dtype)
        return b.cast(b.eq(b.reshape(x, shape=(*x.shape, 1)), classes), dtype=i64)


class Triangle(Op):
    """Base: elements of the last two axes on one side of a diagonal, zeros elsewhere."""

    samples = [
        Sample((TensorType(f32, (4, 5)),)),
        Sample((X,), {"diagonal": -1}),
        Sample((TensorType(i64, (5, 3)),), {"diagonal": 2}),
    ]

    def infer(self, x: TensorType) -> TensorType:
        if x.rank < 2:
            raise self.fail((x,), f"expected rank 2 or more, got rank {x.rank}")
        return x

    def distance(self, b: Any, x: Any) -> Any:
        """Column minus row of every element of the last two axes, i64."""
        rows, columns = x.shape[-2:]
        down = b.reshape(b.iota(size=rows, dtype=i64), shape=(rows, 1))
        return b.sub(b.iota(size=columns, dtype=i64), down)


@op("triu", onnx=("Trilu", 14))
class Triu(Triangle):
    """x on and above ``diagonal``, 0 below."""

    diagonal: int = 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.triu(x, self.diagonal)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.where(b.ge(self.distance(b, x), self.diagonal), x, b.const(0, x.dtype))


@op("tril")
class Tril(Triangle):
    """x on and below ``diagonal``, 0 above."""

    diagonal: int = 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.tril(x, self.diagonal)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.where(b.le(self.distance(b, x), self.diagonal), x, b.const(0, x.dtype))

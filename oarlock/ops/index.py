"""Reading and writing at computed places."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.errors import InputError
from oarlock.ir import TensorType, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import axis_of, same_dtype

X = TensorType(f32, (4, 5, 3))
ROWS = np.array([[0, 3], [-1, 2]], np.int64)


def _wrap(index: np.ndarray, size: int) -> np.ndarray:
    """Negative indices count from the end.  Raises: InputError when out of range."""
    if index.size and (index.min() < -size or index.max() >= size):
        raise InputError(f"index {index.min()}..{index.max()} of an axis of size {size}")
    return np.where(index < 0, index + size, index)


@op("take", onnx=("Gather", 13))
class Take(Op):
    """``numpy.take``: the slices of x along ``axis`` at ``indices``.

    Shapes: x [A, S, B], indices [I] -> [A, I, B], each letter any number of axes.
    """

    axis: int = 0
    samples = [Sample((X, ROWS)), Sample((X, ROWS), {"axis": 1}), Sample((X, np.array(2)))]

    def infer(self, x: TensorType, indices: TensorType) -> TensorType:
        axis = axis_of(self, (x, indices), self.axis)
        if not indices.dtype.is_int:
            raise self.fail((x, indices), f"expected integer indices, got {indices.dtype}")
        return x.with_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def reference(self, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        return np.take(x, _wrap(indices, x.shape[self.axis]), self.axis)


@op("gather", onnx=("GatherElements", 13))
class Gather(Op):
    """``torch.gather``: along ``axis`` the place is read from ``index``."""

    axis: int = 0
    samples = [Sample((X, np.arange(24).reshape(2, 4, 3) % 4), {"axis": 0})]

    def infer(self, x: TensorType, index: TensorType) -> TensorType:
        axis_of(self, (x, index), self.axis)
        if not index.dtype.is_int or index.rank != x.rank:
            raise self.fail((x, index), f"expected integers of rank {x.rank}")
        return x.with_shape(index.shape)

    def reference(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        cut = tuple(
            slice(None) if a == self.axis % x.ndim else slice(0, s)
            for a, s in enumerate(index.shape)
        )
        return np.take_along_axis(x[cut], _wrap(index, x.shape[self.axis]), self.axis)


REDUCE = {
    "none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum,
}  # fmt: skip


@op("put")
class Put(Op):
    """The inverse of ``take``: slices of ``updates`` written at ``indices`` along ``axis``.

    Shapes: x [A, S, B], indices [K], updates [A, K, B] -> [A, S, B]
    Attrs: reduce: none (the last write wins), add, mul, max or min with what is there.
    """

    axis: int = 0
    reduce: str = "none"
    samples = [
        Sample((X, np.array([1, -1]), TensorType(f32, (2, 5, 3)))),
        Sample((X, np.array([1, 1]), TensorType(f32, (4, 2, 3))), {"axis": 1, "reduce": "add"}),
    ]

    def infer(self, x: TensorType, indices: TensorType, updates: TensorType) -> TensorType:
        types = (x, indices, updates)
        axis = axis_of(self, types, self.axis)
        same_dtype(self, (x, updates))
        if not indices.dtype.is_int or indices.rank != 1 or self.reduce not in REDUCE:
            raise self.fail(types, f"expected indices [K] and reduce in {', '.join(REDUCE)}")
        wanted = (*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :])
        if updates.shape != wanted:
            raise self.fail(types, f"expected updates of shape {list(wanted)}")
        return x

    def reference(self, x: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        y = np.moveaxis(x.copy(), self.axis, 0)
        source = np.moveaxis(updates, self.axis, 0)
        _write(y, (_wrap(indices, y.shape[0]),), source, self.reduce)
        return np.moveaxis(y, 0, self.axis)


def _write(y: np.ndarray, at: tuple[Any, ...], source: np.ndarray, reduce: str) -> None:
    combine = REDUCE[reduce]
    if combine is None:
        y[at] = source
    else:
        combine.at(y, at, source)


@op("scatter", onnx=("ScatterElements", 18))
class Scatter(Op):
    """``torch.scatter``: elements of ``source`` written where ``index`` says along ``axis``."""

    axis: int = 0
    reduce: str = "none"
    samples = [
        Sample(
            (X, np.arange(24).reshape(2, 4, 3) % 4, TensorType(f32, (2, 4, 3))),
            {"axis": 0, "reduce": "add"},
        )
    ]

    def infer(self, x: TensorType, index: TensorType, source: TensorType) -> TensorType:
        types = (x, index, source)
        axis_of(self, types, self.axis)
        same_dtype(self, (x, source))
        if not index.dtype.is_int or not index.rank == x.rank == source.rank:
            raise self.fail(types, f"expected integers and updates of rank {x.rank}")
        if self.reduce not in REDUCE:
            raise self.fail(types, f"reduce {self.reduce!r}; expected {', '.join(REDUCE)}")
        return x

    def reference(self, x: np.ndarray, index: np.ndarray, source: np.ndarray) -> np.ndarray:
        y = x.copy()
        axis = self.axis % x.ndim
        at = list(np.indices(index.shape))
        at[axis] = _wrap(index, x.shape[axis])
        _write(y, tuple(at), source[tuple(slice(0, s) for s in index.shape)], self.reduce)
        return y


@op("one_hot", onnx=("OneHot", 11))
class OneHot(Op):
    """``x[..., None] == arange(classes)``, i64."""

    classes: int = 2
    samples = [Sample((np.array([[0, 2], [1, 1]]),), {"classes": 3})]

    def infer(self, x: TensorType) -> TensorType:
        if not x.dtype.is_int:
            raise self.fail((x,), f"expected integers, got {x.dtype}")
        return TensorType(i64, (*x.shape, self.classes))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return (x[..., None] == np.arange(self.classes)).astype(np.int64)

    def decompose(self, b: Any, x: Any) -> Any:
        wide = b.reshape(x, shape=(*x.shape, 1))
        return b.cast(b.eq(wide, b.iota(size=self.classes, dtype=x.dtype)), dtype=i64)


class Triangle(Op):
    """Base: zeros on one side of ``column - row = diagonal``."""

    samples = [Sample((X,), {"diagonal": -1}), Sample((X,), {"diagonal": 1})]

    def infer(self, x: TensorType) -> TensorType:
        if x.rank < 2:
            raise self.fail((x,), "expected a matrix")
        return x

    def offsets(self, b: Any, x: Any) -> Any:
        """``column - row`` for the last two axes."""
        rows = b.reshape(b.iota(size=x.shape[-2], dtype=i64), shape=(x.shape[-2], 1))
        return b.sub(b.iota(size=x.shape[-1], dtype=i64), rows)


@op("tril")
class Tril(Triangle):
    """The lower triangle, ``column - row <= diagonal``."""

    diagonal: int = 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.tril(x, self.diagonal)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.where(b.le(self.offsets(b, x), self.diagonal), x, b.const(0, x.dtype))


@op("triu")
class Triu(Triangle):
    """The upper triangle, ``column - row >= diagonal``."""

    diagonal: int = 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.triu(x, self.diagonal)

    def decompose(self, b: Any, x: Any) -> Any:
        return b.where(b.ge(self.offsets(b, x), self.diagonal), x, b.const(0, x.dtype))

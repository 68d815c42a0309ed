"""Contractions of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.ir import TensorType, f32, i64
from oarlock.ir.op import Op, Sample, op
from oarlock.ops.rules import broadcast_shapes, same_dtype


@op("matmul", onnx=("MatMul", 13))
class MatMul(Op):
    """``a @ b`` over the last two axes, the others broadcast.

    Shapes: a [..., M, K], b [..., K, N] -> [..., M, N]
    """

    samples = [
        Sample((TensorType(f32, (5, 7)), TensorType(f32, (7, 3)))),
        Sample((TensorType(f32, (2, 1, 5, 7)), TensorType(f32, (3, 7, 4)))),
    ]

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        same_dtype(self, (a, b))
        if a.rank < 2 or b.rank < 2:
            raise self.fail((a, b), "expected ranks of at least 2")
        if a.shape[-1] != b.shape[-2]:
            i, j = a.rank - 1, b.rank - 2
            raise self.fail(
                (a, b),
                f"inner axes differ: a.shape[{i}]={a.shape[-1]}, b.shape[{j}]={b.shape[-2]}",
            )
        heads = [t.with_shape(t.shape[:-2]) for t in (a, b)]
        return a.with_shape((*broadcast_shapes(self, heads), a.shape[-2], b.shape[-1]))

    def reference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.matmul(a, b)


@op("linear")
class Linear(Op):
    """``x @ w.T + bias``.

    Shapes: x [..., I], w [O, I], bias [O] -> [..., O]
    """

    samples = [
        Sample((TensorType(f32, (2, 5, 7)), TensorType(f32, (3, 7)), TensorType(f32, (3,)))),
        Sample((TensorType(f32, (7,)), TensorType(f32, (3, 7)))),
    ]

    def infer(self, x: TensorType, w: TensorType, bias: TensorType | None = None) -> TensorType:
        types = (x, w) if bias is None else (x, w, bias)
        same_dtype(self, types)
        if x.rank < 1 or w.rank != 2 or x.shape[-1] != w.shape[1]:
            raise self.fail(types, "expected x[..., I] and w[O, I]")
        if bias is not None and bias.shape != (w.shape[0],):
            raise self.fail(types, f"expected a bias of shape [{w.shape[0]}]")
        return x.with_shape((*x.shape[:-1], w.shape[0]))

    def reference(self, x: np.ndarray, w: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        y = np.matmul(x, w.T)
        return y if bias is None else y + bias

    def decompose(self, b: Any, x: Any, w: Any, bias: Any = None) -> Any:
        turned = b.transpose(w, perm=(1, 0))
        if x.rank == 1:
            row = b.matmul(b.reshape(x, shape=(1, *x.shape)), turned)
            y = b.reshape(row, shape=(w.shape[0],))
        else:
            y = b.matmul(x, turned)
        return y if bias is None else b.add(y, bias)


@op("grouped_matmul")
class GroupedMatMul(Op):
    """``x[ends[e-1] : ends[e]] @ w[e]`` for every group e: rows of one matrix, a weight per group.

    Shapes: x [S, K], w [E, K, N], ends i32[E] ascending -> [S, N]; rows from ends[E-1] on are zeros
    """

    samples = [
        Sample(
            (TensorType(f32, (6, 7)), TensorType(f32, (3, 7, 4)), np.array([2, 2, 6], np.int32))
        ),
        Sample((TensorType(f32, (5, 3)), TensorType(f32, (2, 3, 2)), np.array([1, 4], np.int32))),
    ]

    def infer(self, x: TensorType, w: TensorType, ends: TensorType) -> TensorType:
        types = (x, w, ends)
        same_dtype(self, types, (x, w))
        if x.rank != 2 or w.rank != 3 or x.shape[1] != w.shape[1]:
            raise self.fail(types, "expected x[S, K] and w[E, K, N]")
        if not ends.dtype.is_int or ends.shape != w.shape[:1]:
            raise self.fail(types, f"expected ends of integers of shape [{w.shape[0]}]")
        return x.with_shape((x.shape[0], w.shape[2]))

    def reference(self, x: np.ndarray, w: np.ndarray, ends: np.ndarray) -> np.ndarray:
        y = np.zeros((x.shape[0], w.shape[2]), x.dtype)
        for e, (start, stop) in enumerate(zip([0, *ends[:-1]], ends)):
            y[start:stop] = x[start:stop] @ w[e]
        return y

    def decompose(self, b: Any, x: Any, w: Any, ends: Any) -> Any:
        """Every group over all rows, then the sum of what belongs to each."""
        groups, rows = w.shape[0], x.shape[0]
        places = b.cast(b.iota(size=rows, dtype=i64), dtype=ends.dtype)
        before = b.lt(places, b.reshape(ends, shape=(groups, 1)))
        first = b.reshape(b.iota(size=groups, dtype=i64), shape=(groups, 1))
        passed = b.reduce_sum(b.cast(b.logical_not(before), dtype=i64), axes=(0,), keepdims=True)
        mine = b.reshape(b.eq(first, passed), shape=(groups, rows, 1))
        products = b.matmul(b.reshape(x, shape=(1, *x.shape)), w)
        return b.reduce_sum(b.where(mine, products, b.const(0, x.dtype)), axes=(0,))

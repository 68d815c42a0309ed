"""Contractions of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.ir import TensorType, f32
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

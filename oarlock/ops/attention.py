"""Scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oarlock.ir import TensorType, bool_, f32, i64
from oarlock.ir.op import Op, Sample, get, op
from oarlock.ops.rules import broadcast_shapes, same_dtype

Q = TensorType(f32, (2, 4, 3, 8))
K = TensorType(f32, (2, 2, 5, 8))


@op("attention", onnx=("Attention", 23))
class Attention(Op):
    """``softmax(q @ k.T * scale + mask) @ v``; heads of k and v are shared by groups of q's.

    Shapes: q [B, H, T, D], k [B, G, S, D], v [B, G, S, E], G divides H -> [B, H, T, E];
            mask broadcasts to [B, H, T, S]: added when float, where true when bool
    Attrs:  scale: None is 1/sqrt(D); causal: position t sees s <= t.
    Note:   a row that sees nothing (all of it masked) gives zeros, as in PyTorch.
    Source: Vaswani et al., "Attention Is All You Need" (2017).
    """

    scale: float | None = None
    causal: bool = False
    samples = [
        Sample((Q, K, K)),
        Sample((Q, K, K, TensorType(f32, (3, 5))), {"scale": 0.5}),
        Sample((Q, Q, Q), {"causal": True}),
        Sample((Q, K, K, np.tril(np.ones((3, 5), bool))), {}),
        Sample((Q, K, K, np.tril(np.ones((3, 5), bool), -1)), {}),
        Sample((Q, K, K, np.triu(np.full((3, 5), -np.inf, np.float32), -1)), {}),
    ]

    def infer(self, q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None):
        types = (q, k, v) if mask is None else (q, k, v, mask)
        same_dtype(self, (q, k, v))
        if not q.rank == k.rank == v.rank == 4 or q.shape[-1] != k.shape[-1]:
            raise self.fail(types, "expected q[B,H,T,D], k[B,G,S,D], v[B,G,S,E]")
        if k.shape[:3] != v.shape[:3] or k.shape[0] != q.shape[0]:
            raise self.fail(types, "k and v differ in batch, heads or length")
        if q.shape[1] % k.shape[1] != 0:
            raise self.fail(types, f"{k.shape[1]} heads of k do not divide {q.shape[1]} of q")
        if mask is not None:
            if mask.dtype is not bool_ and mask.dtype != q.dtype:
                raise self.fail(types, f"expected a mask of bool or {q.dtype}")
            scores = mask.with_shape((*q.shape[:3], k.shape[2]))
            if broadcast_shapes(self, (mask, scores)) != scores.shape:
                raise self.fail(types, f"the mask does not broadcast to {list(scores.shape)}")
        return q.with_shape((*q.shape[:3], v.shape[3]))

    def _scale(self, depth: int) -> float:
        return 1 / math.sqrt(depth) if self.scale is None else self.scale

    def _scale_of(self, b: Any, q: Any) -> Any:
        depth = q.shape[-1]
        if self.scale is not None or isinstance(depth, int):
            return self._scale(depth)
        return b.rsqrt(b.cast(b.size(dim=depth), dtype=q.dtype))

    def reference(self, q, k, v, mask=None):
        k, v = (np.repeat(x, q.shape[1] // x.shape[1], 1) for x in (k, v))
        scores = q @ np.swapaxes(k, -1, -2) * q.dtype.type(self._scale(q.shape[-1]))
        if self.causal:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        weights = get("softmax")().reference(scores)
        blind = scores.max(-1, keepdims=True, initial=-np.inf) == -np.inf
        return (np.where(blind, 0, weights) @ v).astype(q.dtype)

    def decompose(self, b: Any, q: Any, k: Any, v: Any, mask: Any = None) -> Any:
        k, v = (_repeat_heads(b, x, q.shape[1]) for x in (k, v))
        scores = b.matmul(q, b.transpose(k, perm=(0, 1, 3, 2)))
        scores = b.mul(scores, self._scale_of(b, q))
        never = b.const(-math.inf, q.dtype)
        if self.causal:
            rows, columns = scores.shape[-2:]
            row = b.reshape(b.iota(size=rows, dtype=i64), shape=(rows, 1))
            seen = b.le(b.iota(size=columns, dtype=i64), row)
            scores = b.where(seen, scores, never)
        if mask is not None:
            scores = b.where(mask, scores, never) if mask.dtype is bool_ else b.add(scores, mask)
        weights = b.softmax(scores, axis=-1)
        if mask is not None:
            best = b.reduce_max(scores, axes=(3,), keepdims=True)
            weights = b.where(b.gt(best, never), weights, b.const(0, q.dtype))
        return b.matmul(weights, v)


def _repeat_heads(b: Any, x: Any, heads: Any) -> Any:
    batch, own, *rest = x.shape
    if own == heads:
        return x
    times = heads // own
    wide = b.reshape(x, shape=(batch, own, 1, *rest))
    wide = b.broadcast_to(wide, shape=(batch, own, times, *rest))
    return b.reshape(wide, shape=(batch, heads, *rest))

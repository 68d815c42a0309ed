"""Attention that a model spells out, back as one op.

Source: Vaswani et al., "Attention Is All You Need" (2017), equation 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from oarlock.ir import Node, Program, Value, bool_, f32, f64
from oarlock.passes.rewrite import Patch, Rules, made_by, rewrite
from oarlock.passes.stage import stage

RULES = Rules()


@stage("recognise_attention")
def recognise_attention(program: Program) -> Program:
    """Make products around a softmax one attention, and drop repeated heads of keys and values."""
    return rewrite(program, RULES)


@dataclass
class _Scores:
    """``q @ k * scale + mask``; the mask is bool, float or none."""

    product: Node
    scale: float
    mask: Value | None


@RULES.rule("matmul")
def products_around_softmax(b: Patch, node: Node, weights: Value, v: Value) -> Any:
    """``softmax(q @ k.T * scale + mask) @ v`` -> ``attention(q, k, v, mask)``"""
    softmax = made_by(weights, "softmax")
    if softmax is None or not b.has_one_use(weights) or v.dtype not in (f32, f64):
        return None
    if softmax.op.axis % weights.rank != weights.rank - 1:
        return None
    scores = _scores_of(b, softmax.inputs[0])
    if scores is None:
        return None
    q, turned = scores.product.inputs
    if not _have_heads(q, turned, v):
        return None
    b.absorb(softmax, scores.product)
    k = b.transpose(turned, perm=(*range(v.rank - 2), v.rank - 1, v.rank - 2))
    operands = [_with_heads(b, x) for x in (q, k, v)]
    if scores.mask is not None:
        operands.append(_mask_with_heads(b, scores.mask, v.rank))
    y = b.attention(*operands, scale=scores.scale)
    return y if y.shape == node.output.shape else b.reshape(y, shape=node.output.shape)


def _have_heads(q: Value, turned: Value, v: Value) -> bool:
    """[B, H, ., .] or [N, ., .] throughout, nothing broadcast."""
    same = q.rank == turned.rank == v.rank and q.shape[:-2] == turned.shape[:-2] == v.shape[:-2]
    return same and v.rank in (3, 4) and turned.shape[-1] == v.shape[-2]


def _with_heads(b: Patch, x: Value) -> Value:
    return x if x.rank == 4 else b.reshape(x, shape=(x.shape[0], 1, *x.shape[1:]))


def _mask_with_heads(b: Patch, mask: Value, rank: int) -> Value:
    if rank == 4 or mask.rank < 3:
        return mask
    return b.reshape(mask, shape=(mask.shape[0], 1, *mask.shape[1:]))


def _scores_of(b: Patch, value: Value) -> _Scores | None:
    """Walks down from the softmax: masks, then a scale, then the product."""
    mask: Value | None = None
    while (node := made_by(value, "add", "where")) is not None:
        found = _unmasked(b, node, value)
        if found is None or (mask is not None and bool_ in (mask.dtype, found[1].dtype)):
            return None
        value, other = found
        mask = other if mask is None else b.add(mask, other)
    scale = 1.0
    while (node := made_by(value, "mul", "div")) is not None and b.has_one_use(value):
        factor = b.scalar(node.inputs[1])
        if factor is None or not math.isfinite(factor) or factor == 0:
            return None
        scale, value = scale * factor if node.name == "mul" else scale / factor, node.inputs[0]
    product = made_by(value, "matmul")
    if product is None or not b.has_one_use(value):
        return None
    return _Scores(product, float(scale), mask)


def _unmasked(b: Patch, node: Node, value: Value) -> tuple[Value, Value] | None:
    """The scores before a mask, and the mask."""
    if not b.has_one_use(value):
        return None
    if node.name == "where":
        condition, scores, never = node.inputs
        is_never = b.scalar(never) == -math.inf
        return (scores, condition) if is_never and scores.shape == value.shape else None
    for scores, mask in (node.inputs, node.inputs[::-1]):
        if scores.shape == value.shape and _is_product(scores):
            return scores, mask
    return None


def _is_product(value: Value) -> bool:
    """Scores, perhaps scaled or masked already."""
    node = value.producer
    while node is not None and node.name in ("add", "mul", "div", "where"):
        node = node.inputs[1 if node.name == "where" else 0].producer
    return node is not None and node.name == "matmul"


@RULES.rule("attention")
def repeated_heads(b: Patch, node: Node, q: Value, k: Value, v: Value, *mask: Value) -> Any:
    """``attention(q, repeat(k), repeat(v))`` -> ``attention(q, k, v)``: it shares heads itself"""
    sources = [_unrepeated(x) for x in (k, v)]
    if any(s is None for s in sources) or sources[0].shape[1] != sources[1].shape[1]:  # type: ignore
        return None
    return b.build(node.op, q, *sources, *mask)


def _unrepeated(x: Value) -> Value | None:
    """x0 of ``reshape(broadcast(x0[B, G, 1, S, D]))`` that repeats every head."""
    joined = made_by(x, "reshape")
    wide = None if joined is None else made_by(joined.inputs[0], "broadcast_to")
    single = None if wide is None else made_by(wide.inputs[0], "reshape")
    if single is None or wide is None or single.output.rank != 5 or wide.output.rank != 5:
        return None
    source, shape, times = single.inputs[0], single.output.shape, wide.output.shape
    if source.rank != 4 or shape != (*source.shape[:2], 1, *source.shape[2:]):
        return None
    is_repeat = times[:2] == shape[:2] and times[3:] == shape[3:]
    return source if is_repeat and x.shape[1] == times[1] * times[2] else None

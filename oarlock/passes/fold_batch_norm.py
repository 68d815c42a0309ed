"""Scales and shifts per channel, into the weights of what is beside them.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (2018), section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.ir import Node, Program, Value, encode
from oarlock.passes.rewrite import Patch, Rules, made_by, rewrite
from oarlock.passes.stage import stage

CONTRACTIONS = ("conv", "conv_transpose", "linear")
ABSORB, SPLIT = Rules(), Rules()


@stage("fold_batch_norm")
def fold_batch_norm(program: Program) -> Program:
    """Fold batch norm, and constants per channel, into convolutions and linears."""
    return rewrite(rewrite(program, ABSORB), SPLIT)


@ABSORB.rule("batch_norm")
def batch_norm_after(b: Patch, node: Node, x: Value, *stored: Value) -> Any:
    """``batch_norm(conv(x, w, c))`` -> ``conv(x, w * s, c * s + t)``"""
    affine = _affine_of(b, node)
    before = _contraction(b, x)
    if affine is None or before is None or _channel_axis(before) != 1:
        return None
    return _scaled_after(b, before, *affine)


@ABSORB.rule("mul", "div", "add", "sub")
def constant_after(b: Patch, node: Node, x: Value, y: Value) -> Any:
    """``conv(x, w, c) * s`` -> ``conv(x, w * s, c * s)``; ``conv(x, w, c) + t`` likewise"""
    pairs = ((x, y), (y, x)) if node.name in ("mul", "add") else ((x, y),)
    for value, constant in pairs:
        before = _contraction(b, value)
        if before is None or node.output.type != value.type:
            continue
        c = _per_channel(b, constant, value, _channel_axis(before))
        if c is None:
            continue
        one, zero = np.ones_like(c), np.zeros_like(c)
        with np.errstate(divide="ignore"):
            affine = {
                "mul": lambda c=c, zero=zero: (c, zero),
                "div": lambda c=c, zero=zero: (1 / c, zero),
                "add": lambda c=c, one=one: (one, c),
                "sub": lambda c=c, one=one: (one, -c),
            }[node.name]()
        if np.isfinite(affine).all():
            return _scaled_after(b, before, *affine)
    return None


@ABSORB.rule("conv", "linear")
def batch_norm_before(b: Patch, node: Node, x: Value, w: Value, *bias: Value) -> Any:
    """``conv(batch_norm(x), w, c)`` -> ``conv(x, w * s, c + sum(w * t))`` without padding"""
    norm = made_by(x, "batch_norm")
    if norm is None or not b.has_one_use(x) or not _is_foldable(b, node):
        return None
    affine = _affine_of(b, norm)
    if affine is None or _channel_axis(node) % x.rank != 1:
        return None
    scale, shift = affine
    is_padded = node.name == "conv" and any(p != (0, 0) for p in node.op.padding)
    if is_padded and shift.any():
        return None
    weight, offset = _scaled_before(b, node, scale, shift)
    b.absorb(norm)
    return _rebuilt(b, node, norm.inputs[0], weight, _bias_of(b, node) + offset)


@SPLIT.rule("batch_norm")
def batch_norm_alone(b: Patch, node: Node, x: Value, *stored: Value) -> Any:
    """``batch_norm(x)`` -> ``x * s + t``"""
    affine = _affine_of(b, node)
    if affine is None:
        return None
    shape = (-1, *[1] * (x.rank - 2))
    stem = stored[0].producer.op.key if made_by(stored[0], "param") else node.origin.module
    scale, shift = (
        b.weight(encode(a.reshape(shape), x.dtype), x, f"{stem}.{name}")
        for a, name in zip(affine, ("scale", "shift"))
    )
    return b.add(b.mul(x, scale), shift)


def _affine_of(b: Patch, norm: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """The scale and the shift that batch norm is, f64; None unless they are known and finite."""
    arrays = [b.constant(v) for v in norm.inputs[1:]]
    if any(a is None for a in arrays):
        return None
    mean, var, *affine = (np.asarray(a, np.float64) for a in arrays)
    with np.errstate(all="ignore"):
        scale = 1 / np.sqrt(var + norm.op.eps)
        scale = scale * affine[0] if affine else scale
        shift = (affine[1] if len(affine) > 1 else 0.0) - mean * scale
    return (scale, shift) if np.isfinite([scale, shift]).all() else None


def _is_foldable(b: Patch, node: Node) -> bool:
    constants = all(map(b.is_constant, node.inputs[1:]))
    return constants and made_by(node.inputs[1], "param") is not None


def _contraction(b: Patch, value: Value) -> Node | None:
    """The contraction with constant weights that gives ``value`` to nothing else."""
    node = made_by(value, *CONTRACTIONS)
    if node is None or not b.has_one_use(value) or not b.has_one_use(node.inputs[1]):
        return None
    return node if _is_foldable(b, node) else None


def _channel_axis(node: Node) -> int:
    """The axis of channels, of what the contraction reads and gives."""
    if node.name == "linear" or getattr(node.op, "layout", "NCHW") == "NHWC":
        return node.output.rank - 1
    return 1


def _per_channel(b: Patch, value: Value, like: Value, axis: int) -> np.ndarray | None:
    """A constant that broadcasts along ``axis`` of ``like`` alone, f64[C]."""
    array = b.constant(value)
    channels = like.shape[axis]
    if array is None or array.ndim > like.rank or not isinstance(channels, int):
        return None
    wide = array.reshape((1,) * (like.rank - array.ndim) + array.shape)
    if any(size != 1 for i, size in enumerate(wide.shape) if i != axis):
        return None
    return np.broadcast_to(wide.reshape(-1).astype(np.float64), (channels,))


def _weight_of(b: Patch, node: Node) -> np.ndarray:
    weight = b.constant(node.inputs[1])
    assert weight is not None, "foldable contractions have constant weights"
    return weight.astype(np.float64)


def _bias_of(b: Patch, node: Node) -> np.ndarray:
    if len(node.inputs) < 3:
        return np.zeros(1)
    bias = b.constant(node.inputs[2])
    assert bias is not None, "foldable contractions have constant biases"
    return bias.astype(np.float64)


def _scaled_after(b: Patch, node: Node, scale: np.ndarray, shift: np.ndarray) -> Value:
    weight, ones = _weight_of(b, node), [1] * (node.inputs[1].rank - 2)
    if node.name == "conv_transpose":
        groups = weight.reshape(node.op.groups, -1, *weight.shape[1:])
        by = scale.reshape(node.op.groups, 1, -1, *ones)
        scaled = (groups * by).reshape(weight.shape)
    else:
        scaled = weight * scale.reshape(-1, 1, *ones)
    b.absorb(node)
    return _rebuilt(b, node, node.inputs[0], scaled, _bias_of(b, node) * scale + shift)


def _scaled_before(
    b: Patch, node: Node, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weights that scale their input, and the bias that the shift of the input gives."""
    weight = _weight_of(b, node)
    groups = getattr(node.op, "groups", 1)
    ones = [1] * (weight.ndim - 2)
    split = weight.reshape(groups, -1, *weight.shape[1:])
    scaled = (split * scale.reshape(groups, 1, -1, *ones)).reshape(weight.shape)
    terms = split * shift.reshape(groups, 1, -1, *ones)
    return scaled, terms.sum(tuple(range(2, terms.ndim))).reshape(-1)


def _rebuilt(b: Patch, node: Node, x: Value, weight: np.ndarray, bias: np.ndarray) -> Value:
    """The contraction with other weights; without a bias that is zero and was not there."""
    old = node.inputs[1]
    stem = old.producer.op.key.removesuffix(".folded")
    operands = [x, b.weight(encode(weight, old.dtype), old, f"{stem}.folded")]
    if len(node.inputs) > 2 or bias.any():
        operands.append(b.weight(encode(bias, old.dtype), old, f"{stem}.folded_bias"))
    return b.build(node.op, *operands)

"""Maker of ``conv``: a product over windows, or one filter per channel."""

from __future__ import annotations

import numpy as np

from oarlock.codegen.fuse import Group
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels import ConstantOf, depthwise
from oarlock.codegen.kernels.conv_nest import ConvNest
from oarlock.codegen.kernels.conv_window import axes_of
from oarlock.codegen.kernels.gemm_nest import Product
from oarlock.codegen.target import Target
from oarlock.ir import Dim, Value
from oarlock.ir.dim import product
from oarlock.ir.graph import Node
from oarlock.ir.types import decode

M, N, K, BLOCK = Dim("_m", 0), Dim("_n", 0), Dim("_k", 0), Dim("_b0", 0)


class Conv:
    """``conv`` with channels last; depthwise ones in both layouts."""

    takes_epilogue = True

    def accepts(self, node: Node, target: Target) -> bool:
        """Floats, a filter of known sizes."""
        is_known = all(isinstance(n, int) and n > 0 for n in node.inputs[1].shape)
        is_last = node.op.layout == "NHWC"  # type: ignore[attr-defined]
        fits = is_known and (is_last or depthwise.is_depthwise(node))
        return fits and node.output.dtype.is_float

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        """See ``Maker``."""
        assert group.anchor is not None
        if depthwise.is_depthwise(group.anchor):
            return depthwise.build(group, target, constant)
        return _build(group, target, constant)


def _build(group: Group, target: Target, constant: ConstantOf) -> Kernel:
    node = group.anchor
    assert node is not None
    x, w, *bias = node.inputs
    y, groups = node.output, node.op.groups  # type: ignore[attr-defined]
    weights = constant(w)
    joined = 1 if weights is None else _joined(groups, int(w.shape[0]) // groups, target)
    blocks, taps = groups // joined, int(product(w.shape[2:]))
    channels, columns = int(w.shape[1]) * joined, int(w.shape[0]) // blocks
    bias_numbers = None
    if bias and (numbers := constant(bias[0])) is not None:
        rows = decode(numbers, bias[0].dtype).reshape(blocks, columns)
        bias_numbers = rows if blocks > 1 else rows[0]
    p = Product(
        y,
        (blocks,) if blocks > 1 else (),
        y.shape[:-1],
        columns,
        taps * channels,
        x,
        M * x.shape[-1] + K + (BLOCK * channels if blocks > 1 else 0),
        w,
        _filter_position(w, columns, taps, blocks),
        None if weights is None else _matrix(weights, blocks, joined),
        bias[0] if bias else None,
        bias_numbers,
    )
    axes = axes_of(node, w.shape[2:])
    return ConvNest(group, target, p, axes=axes, channels=channels, joined=joined).build()


def _joined(groups: int, columns: int, target: Target) -> int:
    """Groups computed as one, their filters with zeros for the others, to fill a vector."""
    joined = 1
    while columns * joined < target.lanes(4) and groups % (joined * 2) == 0:
        joined *= 2
    return joined


def _filter_position(w: Value, columns: int, taps: int, blocks: int) -> object:
    """Of ``w[n, c, tap]`` for k = tap * C + c."""
    channels = w.shape[1]
    row = (BLOCK * columns if blocks > 1 else 0) + N
    return (row * channels + K % channels) * taps + K // channels


def _matrix(weights: np.ndarray, blocks: int, joined: int) -> np.ndarray:
    """``weights[O, I, taps]`` as [blocks, K, N], K = (taps, joined, I)."""
    o, i = weights.shape[:2]
    per = o // blocks // joined
    split = weights.reshape(blocks, joined, per, i, -1)
    taps = split.shape[-1]
    wide = np.zeros((blocks, taps, joined, i, joined, per), weights.dtype)
    for g in range(joined):
        wide[:, :, g, :, g] = split[:, g].transpose(0, 3, 2, 1)
    matrix = wide.reshape(blocks, taps * joined * i, joined * per)
    return matrix if blocks > 1 else matrix[0]

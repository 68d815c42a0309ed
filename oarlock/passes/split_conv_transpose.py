"""Transposed convolutions as one convolution for each phase of the result.

Along an axis of stride s and padding p, element ``s q + r`` of the result sums the taps
``k = (r + p) mod s + s t`` with the elements ``q + (r + p) // s - t`` of x: a convolution of stride 1
with every s-th tap, turned round.  Nothing is multiplied with zeros between elements.
Source: W. Shi et al., "Is the deconvolution layer the same as a convolutional layer?" (2016).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product as cartesian
from typing import Any

from oarlock.ir import Node, Program, Size, Value
from oarlock.passes.rewrite import Patch, Rules, rewrite
from oarlock.passes.stage import stage

RULES = Rules()


@stage("split_conv_transpose")
def split_conv_transpose(program: Program) -> Program:
    """Compute transposed convolutions by phases of their stride."""
    return rewrite(program, RULES)


@RULES.rule("conv_grad_input")
def transposed(b: Patch, node: Node, dy: Value, w: Value) -> Any:
    """``conv_grad_input`` -> ``conv_transpose``"""
    return node.op.decompose(b, dy, w)


@dataclass(frozen=True)
class _Phase:
    """Along one axis: the first tap, the space between taps, and padding of x, maybe negative."""

    first: int
    step: int
    low: int
    high: int
    dilation: int = 1


@RULES.rule("conv_transpose")
def phases(b: Patch, node: Node, x: Value, w: Value, *bias: Value) -> Any:
    """``conv_transpose(x, w)`` -> its phases, interleaved"""
    op = node.op
    axes = [_phases_of(node, k) for k in range(x.rank - 2)]
    if op.layout != "NCHW" or not all(axes):
        return None
    sizes = tuple(-(-n // s) for n, s in zip(node.output.shape[2:], op.stride))
    every = list(cartesian(*axes))
    filters = [_filter(b, node, phase) for phase in every]
    windows = {(*((p.low, p.high) for p in phase), *f.shape) for phase, f in zip(every, filters)}
    if len(windows) == 1 and op.groups == 1:
        joined = b.concat(*filters, axis=0)
        more = [b.concat(*bias * len(every), axis=0)] if bias else []
        y = _conv(b, node, x, joined, more, every[0])
    else:
        parts = [_conv(b, node, x, f, bias, phase) for phase, f in zip(every, filters)]
        y = b.concat(*parts, axis=1)
    return _interleaved(b, node, y, sizes)


def _phases_of(node: Node, k: int) -> list[_Phase]:
    """The phases of an axis; none where some have no taps, or taps are spread, or the sizes of x
    and of a phase do not differ by a constant."""
    op, kernel, size = node.op, node.inputs[1].shape[2 + k], node.inputs[0].shape[2 + k]
    stride, dilation, low = op.stride[k], op.dilation[k], op.padding[k][0]
    out = node.output.shape[2 + k]
    count = -(-out // stride)
    if stride == 1:
        reach, more = dilation * (kernel - 1), out + low - size
        return [_Phase(0, 1, reach - low, more, dilation)] if isinstance(more, int) else []
    more = count - size
    if dilation > 1 or kernel < stride or not isinstance(more, int):
        return []
    found = []
    for r in range(stride):
        first, base = (r + low) % stride, (r + low) // stride
        taps = -(-(kernel - first) // stride)
        found.append(_Phase(first, stride, taps - 1 - base, more + base))
    return found


def _filter(b: Patch, node: Node, phase: tuple[_Phase, ...]) -> Value:
    """Every s-th tap of w [I, O/groups, ...], turned round, as [O, I/groups, ...]."""
    w, g, n = node.inputs[1], node.op.groups, len(phase)
    starts = (0, 0, *(p.first for p in phase))
    w = b.slice(w, starts=starts, stops=w.shape, steps=(1, 1, *(p.step for p in phase)))
    grouped = b.reshape(w, shape=(g, w.shape[0] // g, *w.shape[1:]))
    turned = b.transpose(grouped, perm=(0, 2, 1, *range(3, 3 + n)))
    turned = b.flip(turned, axes=tuple(range(3, 3 + n)))
    return b.reshape(turned, shape=(g * w.shape[1], w.shape[0] // g, *w.shape[2:]))


def _conv(b: Patch, node: Node, x: Value, w: Value, bias: Any, phase: tuple[_Phase, ...]) -> Value:
    """The convolution of one phase; negative padding cuts x."""
    starts, stops = [0, 0], list(x.shape[:2])
    padding = []
    for axis, p in enumerate(phase, 2):
        starts.append(max(-p.low, 0))
        stops.append(x.shape[axis] - max(-p.high, 0))
        padding.append((max(p.low, 0), max(p.high, 0)))
    if any(starts) or tuple(stops) != x.shape:
        x = b.slice(x, starts=tuple(starts), stops=tuple(stops), steps=(1,) * x.rank)
    ones = (1,) * len(phase)
    return b.conv(
        x, w, *bias, stride=ones, padding=tuple(padding),
        dilation=tuple(p.dilation for p in phase), groups=node.op.groups,
    )  # fmt: skip


def _interleaved(b: Patch, node: Node, y: Value, sizes: tuple[Size, ...]) -> Value:
    """``y[N, phases * O, ...]`` as [N, O, ...], cut to the size of the result."""
    out, stride, n = node.output.shape, node.op.stride, len(sizes)
    y = b.reshape(y, shape=(out[0], *stride, out[1], *sizes))
    pairs = [axis for k in range(n) for axis in (n + 2 + k, 1 + k)]
    y = b.transpose(y, perm=(0, n + 1, *pairs))
    y = b.reshape(y, shape=(*out[:2], *(q * s for q, s in zip(sizes, stride))))
    if y.shape == out:
        return y
    return b.slice(y, starts=(0,) * y.rank, stops=out, steps=(1,) * y.rank)

"""Replace composites, and contractions without a kernel, by primitives that fuse into loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product as cartesian
from typing import Any

from oarlock.ir import Builder, Graph, Program, Size, Value, bf16, f16, f32
from oarlock.ir.graph import Node
from oarlock.ops.reduce import lowest

Rule = Callable[[Any, Any, list[Value]], Any]


NARROW = (f16, bf16)
HEAVY = ("matmul", "linear", "conv", "conv_transpose", "attention", "while_")  # have own kernels
Keep = Callable[[Node], bool]


def decompose(program: Program, keep: Keep = lambda node: False) -> Program:
    """Every node that ``keep`` does not hold and that has a simpler form is replaced by it."""
    return program.replace(graph=_graph(program.graph, keep))


def _graph(graph: Graph, keep: Keep) -> Graph:
    b = Builder(Graph())
    known: dict[Value, Value] = {}
    for v in graph.inputs:
        known[v] = b.input(v.type, v.name or f"input{len(known)}")
    _copy(b, graph, known, keep)
    b.graph.outputs = [known[v] for v in graph.outputs]
    return b.graph


def _copy(b: Builder, graph: Graph, known: dict[Value, Value], keep: Keep) -> None:
    for node in graph.nodes:
        b.origin = node.origin
        inputs = [known[v] for v in node.inputs]
        if node.name == "call":
            (callee,) = node.graphs
            inner = dict(zip(callee.inputs, inputs))
            _copy(b, callee, inner, keep)
            known.update(zip(node.outputs, [inner[v] for v in callee.outputs]))
            continue
        kept = keep(node)
        rule = None if kept else RULES.get(node.name)
        if not kept and (rule is not None or node.op.is_composite):
            part = _simpler(node, rule, inputs)
            inner = {v: v for v in inputs}
            _copy(b, part, inner, keep)
            known.update(zip(node.outputs, [inner[v] for v in part.outputs]))
        else:
            graphs = [_graph(g, keep) for g in node.graphs]
            known.update(zip(node.outputs, b.append(node.op, inputs, graphs).outputs))


def _simpler(node: Node, rule: Rule | None, inputs: list[Value]) -> Graph:
    """The parts of a node, those of 16-bit floats computed in f32 and rounded once at the end."""
    part = _expanded(node, rule, inputs)
    if not any(v.dtype in NARROW for v in inputs) or any(n.name in HEAVY for n in part.nodes):
        return part
    b = Builder(Graph(), node.origin)
    wide = [b.cast(v, dtype=f32) if v.dtype in NARROW else v for v in inputs]
    part = _expanded(node, rule, wide)
    b.graph.nodes += part.nodes
    results = zip(part.outputs, node.outputs)
    outputs = [v if v.dtype == o.dtype else b.cast(v, dtype=o.dtype) for v, o in results]
    return Graph(inputs, b.graph.nodes, outputs)


def _expanded(node: Node, rule: Rule | None, inputs: list[Value]) -> Graph:
    b = Builder(Graph(), node.origin)
    result = rule(b, node.op, inputs) if rule else node.op.decompose(b, *inputs)
    return Graph(inputs, b.graph.nodes, [result] if isinstance(result, Value) else list(result))


def _matmul(b: Any, op: Any, inputs: list[Value]) -> Value:
    """``sum over k of a[..., m, 1, k] * b[..., 1, n, k]``"""
    x, y = inputs
    turned = b.transpose(y, perm=(*range(y.rank - 2), y.rank - 1, y.rank - 2))
    left = b.reshape(x, shape=(*x.shape[:-1], 1, x.shape[-1]))
    right = b.reshape(turned, shape=(*turned.shape[:-2], 1, *turned.shape[-2:]))
    product = b.mul(left, right)
    return b.reduce_sum(product, axes=(product.rank - 1,))


def _to_nchw(b: Any, op: Any, x: Value) -> Value:
    if op.layout == "NCHW":
        return x
    return b.transpose(x, perm=(0, x.rank - 1, *range(1, x.rank - 1)))


def _from_nchw(b: Any, op: Any, y: Value) -> Value:
    return y if op.layout == "NCHW" else b.transpose(y, perm=(0, *range(2, y.rank), 1))


def _windows(
    b: Any, x: Value, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...],
    padding: Any, out: tuple[Size, ...], fill: float,
) -> list[Value]:  # fmt: skip
    """One slice of the padded x [N, C, *spatial] for each offset in the kernel."""
    needed = [(o - 1) * s + d * (k - 1) + 1 for o, s, d, k in zip(out, stride, dilation, kernel)]
    sizes = x.shape[2:]
    high = [_room(n, s, p) for n, s, p in zip(needed, sizes, padding)]
    low = tuple(p[0] for p in padding)
    if any(low) or any(h != 0 for h in high):
        x = b.pad(x, low=(0, 0, *low), high=(0, 0, *high), value=fill)
    parts = []
    for at in cartesian(*map(range, kernel)):
        starts = [d * k if o != 0 else 0 for d, k, o in zip(dilation, at, out)]
        stops = [a + (o - 1) * s + 1 if o != 0 else 0 for a, o, s in zip(starts, out, stride)]
        parts.append(
            b.slice(x, starts=(0, 0, *starts), stops=(*x.shape[:2], *stops), steps=(1, 1, *stride))
        )
    return parts


def _room(needed: Size, size: Size, pad: tuple[int, int]) -> Size:
    """Padding at the end: what was asked for, or what the last window reads beyond it."""
    from oarlock.ir import dim_max

    return dim_max(pad[1], needed - size - pad[0])


def _conv(b: Any, op: Any, inputs: list[Value]) -> Value:
    """A sum over kernel offsets of products summed over channels."""
    x, w = _to_nchw(b, op, inputs[0]), inputs[1]
    out = op.infer(*(v.type for v in inputs)).shape
    out = out[1:-1] if op.layout == "NHWC" else out[2:]
    n, g = len(out), op.groups
    per, channels = w.shape[0] // g, w.shape[1]
    total = None
    parts = _windows(b, x, w.shape[2:], op.stride, op.dilation, op.padding, out, 0.0)
    for part, at in zip(parts, cartesian(*map(range, w.shape[2:]))):
        tap = b.slice(
            w, starts=(0, 0, *at), stops=(*w.shape[:2], *(i + 1 for i in at)), steps=(1,) * w.rank
        )
        tap = b.reshape(tap, shape=(1, g, per, channels, *([1] * n)))
        part = b.reshape(part, shape=(x.shape[0], g, 1, channels, *out))
        term = b.reduce_sum(b.mul(part, tap), axes=(3,))
        total = term if total is None else b.add(total, term)
    y = b.reshape(total, shape=(x.shape[0], w.shape[0], *out))
    if len(inputs) > 2:
        y = b.add(y, b.reshape(inputs[2], shape=(w.shape[0], *([1] * n))))
    return _from_nchw(b, op, y)


def _pool_parts(b: Any, op: Any, x: Value, fill: float, dilation: tuple[int, ...]) -> list[Value]:
    out = op.infer(x.type).shape
    out = out[1:-1] if op.layout == "NHWC" else out[2:]
    x = _to_nchw(b, op, x)
    return _windows(b, x, op.kernel, op.stride, dilation, op.padding, out, fill)


def _max_pool(b: Any, op: Any, inputs: list[Value]) -> Value:
    (x,) = inputs
    low = -math.inf if x.dtype.is_float else int(lowest(x.dtype.numpy))
    parts = _pool_parts(b, op, x, low, op.dilation)
    y = parts[0]
    for part in parts[1:]:
        y = b.maximum(y, part)
    return _from_nchw(b, op, y)


def _sum(b: Any, parts: list[Value]) -> Value:
    y = parts[0]
    for part in parts[1:]:
        y = b.add(y, part)
    return y


def _avg_pool(b: Any, op: Any, inputs: list[Value]) -> Value:
    (x,) = inputs
    ones = (1,) * len(op.kernel)
    total = _sum(b, _pool_parts(b, op, x, 0.0, ones))
    if op.divisor:
        return _from_nchw(b, op, b.mul(total, 1.0 / op.divisor))
    if all(p == (0, 0) for p in op.padding) and not op.ceil_mode:
        return _from_nchw(b, op, b.mul(total, 1.0 / math.prod(op.kernel)))
    flat = _to_nchw(b, op, x)
    counted = b.broadcast_to(b.const(1.0, x.dtype), shape=(1, 1, *flat.shape[2:]))
    padding = op.padding
    if op.count_include_pad:
        low, high = zip(*padding)
        counted = b.pad(counted, low=(0, 0, *low), high=(0, 0, *high), value=1.0)
        padding = ((0, 0),) * len(ones)
    parts = _windows(b, counted, op.kernel, op.stride, ones, padding, total.shape[2:], 0.0)
    return _from_nchw(b, op, b.div(total, _sum(b, parts)))


RULES: dict[str, Rule] = {
    "matmul": _matmul,
    "conv": _conv,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
}

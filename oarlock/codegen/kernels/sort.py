"""sort: a bottom-up merge sort of each row in scratch; topk: selection by insertion when k is small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oarlock.codegen import loops as L
from oarlock.codegen.kernel import Kernel
from oarlock.codegen.kernels.rows import AxisKernel
from oarlock.codegen.target import Target
from oarlock.ir.dim import Size
from oarlock.ir.graph import Node

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group
    from oarlock.codegen.kernels import ConstantOf

SMALL_K = 64


def comes_first(a: L.Expr, b: L.Expr, descending: bool) -> L.Expr:
    """``a`` goes strictly before ``b``; NaN is the largest."""
    low, high = (b, a) if descending else (a, b)
    below = L.compare("lt", low, high)
    if not a.dtype.is_float:
        return below
    is_number = L.compare("eq", low, low)
    return L.binary("or", below, L.binary("and", is_number, L.compare("ne", high, high)))


class Sort:
    """Stable in both directions."""

    takes_epilogue = False

    def accepts(self, node: Node, target: Target) -> bool:
        return True

    def build(self, group: Group, target: Target, constant: ConstantOf) -> Kernel:
        node: Any = group.anchor
        if node.name == "topk" and isinstance(node.op.k, int) and node.op.k <= SMALL_K:
            return _select(node)
        descending = node.op.largest if node.name == "topk" else node.op.descending
        return _sort(node, node.op.k if node.name == "topk" else None, descending)


def _sort(node: Any, kept: Size | None, descending: bool) -> Kernel:
    k = AxisKernel(node, node.op.axis)
    b, n = k.body, k.n
    x = k.pointers[node.inputs[0]]
    dtype = L.compute_dtype(x.dtype)
    keys = L.Pointer("keys", dtype, "scratch", True)
    places = L.Pointer("places", L.i64, "scratch", True, offset=_aligned(n * (2 * dtype.bytes)))
    b.reserve("keys", "places")
    with k.rows() as (outer, column):
        with b.loop("i", 0, n) as i:
            b.store(keys, i, b.load(x, k.at(outer, i, column)))
            b.store(places, i, L.cast(i, L.i64))
        source = _merge_passes(k, keys, places, descending)
        values, indices = (k.pointers[v] for v in node.outputs)
        count = n if kept is None else kept
        with b.loop("i", 0, count) as i:
            at = b.let("at", k.at(outer, i, column, count))
            b.store(values, at, b.load(keys, source + i))
            b.store(indices, at, b.load(places, source + i))
    size = _aligned(n * (2 * dtype.bytes)) + n * 16
    return k.kernel(k.outer * k.inner, 1, (keys, places), size)


def _aligned(size: Size) -> Size:
    return (size + 63) // 64 * 64


def _merge_passes(k: AxisKernel, keys: L.Pointer, places: L.Pointer, descending: bool) -> L.Var:
    """Runs of 1, 2, 4, ... are merged from one half of the scratch to the other; where they end."""
    b, n = k.body, L.index(k.n)
    source = b.variable("source", L.icon(0))
    width = b.variable("width", L.icon(1))
    with b.while_(L.compare("lt", width, n)):
        start = b.variable("start", L.icon(0))
        target = b.let("target", n - source)
        with b.while_(L.compare("lt", start, n)):
            _merge(k, keys, places, (source, target, start, width), descending)
            b.assign(start, start + width * 2)
        b.assign(source, target)
        b.assign(width, width * 2)
    return source


def _merge(
    k: AxisKernel,
    keys: L.Pointer,
    places: L.Pointer,
    at: tuple[L.Expr, L.Expr, L.Expr, L.Expr],
    descending: bool,
) -> None:
    source, target, start, width = at
    b, n = k.body, L.index(k.n)
    middle = b.let("middle", L.minimum(start + width, n))
    end = b.let("end_of_run", L.minimum(start + width * 2, n))
    left, right = b.variable("left", start), b.variable("right", middle)
    with b.loop("out", start, end) as out:
        takes = b.variable("takes", L.compare("lt", left, middle))
        both = L.binary("and", takes, L.compare("lt", right, end))
        with b.if_(both):
            first, second = b.load(keys, source + left), b.load(keys, source + right)
            b.assign(takes, L.unary("not", comes_first(second, first, descending)))
        chosen = b.let("chosen", source + L.select(takes, left, right))
        b.store(keys, target + out, b.load(keys, chosen))
        b.store(places, target + out, b.load(places, chosen))
        b.assign(left, left + L.select(takes, L.icon(1), L.icon(0)))
        b.assign(right, right + L.select(takes, L.icon(0), L.icon(1)))


def _select(node: Any) -> Kernel:
    """The best k so far are kept in order; what beats the last is inserted."""
    k = AxisKernel(node, node.op.axis)
    b, count = k.body, node.op.k
    x = k.pointers[node.inputs[0]]
    values, indices = (k.pointers[v] for v in node.outputs)
    best = b.array("best", L.compute_dtype(x.dtype), max(count, 1))
    places = b.array("places", L.i64, max(count, 1))
    if count == 0:
        return k.kernel(0)
    with k.rows() as (outer, column):
        held = b.variable("held", L.icon(0))
        with b.loop("i", 0, k.n) as i:
            value = b.let("value", b.load(x, k.at(outer, i, column)))
            slot = b.variable("slot", held)
            last = b.load(best, L.icon(count - 1))
            beats = comes_first(value, last, node.op.largest)
            with b.if_(L.binary("or", L.compare("lt", held, count), beats)):
                b.assign(slot, L.minimum(slot, count - 1))
                _insert(k, best, places, (slot, value, i), node.op.largest)
                b.assign(held, L.minimum(held + 1, L.icon(count)))
        with b.loop("i", 0, count) as i:
            at = b.let("at", k.at(outer, i, column, count))
            b.store(values, at, b.load(best, i))
            b.store(indices, at, b.load(places, i))
    return k.kernel(k.outer * k.inner, 1)


def _insert(
    k: AxisKernel,
    best: L.Pointer,
    places: L.Pointer,
    item: tuple[L.Var, L.Expr, L.Expr],
    largest: bool,
) -> None:
    """Move what is worse than ``value`` back by one, from ``slot`` on, and put it there."""
    slot, value, i = item
    b = k.body
    with b.while_(L.compare("gt", slot, 0)):
        before = b.load(best, slot - 1)
        with b.if_(L.unary("not", comes_first(value, before, largest))):
            b.add(L.Break())
        b.store(best, slot, before)
        b.store(places, slot, b.load(places, slot - 1))
        b.assign(slot, slot - 1)
    b.store(best, slot, value)
    b.store(places, slot, L.cast(i, L.i64))

"""Where the values of a loop group lie in one iteration space, and whether they can share it.

A group iterates over the axes of one *domain value*; every other value of it is *placed*: its index
is a function of the domain's symbols.  Full values have as many elements as the domain, row values
are what reductions leave.  ``analyse`` raises ``CannotShare`` where a value would have to be read at
another place than the one where it is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oarlock.codegen import loops as L
from oarlock.codegen.emitter import PICKS, pick_reads, symbols_of
from oarlock.codegen.indexing import (
    BACKWARD,
    FORWARD,
    Index,
    Space,
    broadcast,
    linear,
    memory_below,
)
from oarlock.ir.dim import Dim, Size, product
from oarlock.ir.graph import Node, Value

MAX_ROUNDS = 12


class CannotShare(Exception):
    """The values do not fit one iteration space."""


@dataclass
class Axis:
    """One loop: its symbol and extent; ``reduced`` when reductions run along it."""

    symbol: Dim
    extent: Size
    reduced: bool = False

    @property
    def name(self) -> str:
        return self.symbol.name


@dataclass
class Domain:
    """An analysed group.

    ``loads`` and ``stores`` are (value, position); ``irregular`` symbols are used other than in
    positions of memory; ``moves``: some operands are read where only a part of a place's elements
    come from; ``places`` gives the index of every placed value, ``visits`` every index at which
    a value of the group is computed.
    """

    value: Value
    axes: list[Axis]
    space: Space
    places: dict[Value, Index]
    loads: list[tuple[Value, Size]] = field(default_factory=list)
    stores: list[tuple[Value, Size]] = field(default_factory=list)
    irregular: set[str] = field(default_factory=set)
    moves: bool = False
    visits: dict[Value, set[Index]] = field(default_factory=dict)  # where computed values are read

    @property
    def divides(self) -> bool:
        """A division by something is left in an index that loops run through."""
        return self.space.divides

    def covers(self, value: Value) -> bool:
        """The loops reach every element of a placed value, not only those of a slice of it."""
        names = self.space.symbols(self.places[value])
        return product(a.extent for a in self.axes if a.name in names) == value.type.size


def is_reduction(node: Node) -> bool:
    """A node that leaves fewer elements, computed by loops over the axes it reduces."""
    return type(node.op).reduction


def reduced_axes(node: Node) -> tuple[int, ...]:
    """The axes of the input that a reduction runs over."""
    rank = node.inputs[0].rank
    if hasattr(node.op, "axes"):
        return tuple(k % rank for k in node.op.axes)  # type: ignore[attr-defined]
    return (node.op.axis % rank,)  # type: ignore[attr-defined]


def domain_value(nodes: Sequence[Node], outputs: Sequence[Value]) -> Value:
    """What a group iterates over: the input of its first reduction, or its largest output."""
    for node in nodes:
        if is_reduction(node):
            return node.inputs[0]
    return max(outputs, key=lambda v: v.rank)


def analyse(nodes: Sequence[Node], outputs: Sequence[Value]) -> Domain:
    """The iteration space of a group, its axes split where that avoids divisions.

    Raises: CannotShare.
    """
    base = domain_value(nodes, outputs)
    reductions = [n for n in nodes if is_reduction(n)]
    shape: list[list[Size]] = [[n] for n in base.shape]
    for _ in range(MAX_ROUNDS):
        domain = _attempt(base, shape, nodes, outputs, reductions)
        if not _apply_splits(domain, shape):
            return domain
    return domain


def _attempt(
    base: Value,
    shape: Sequence[Sequence[Size]],
    nodes: Sequence[Node],
    outputs: Sequence[Value],
    reductions: Sequence[Node],
) -> Domain:
    space = Space()
    along = set(reduced_axes(reductions[0])) if reductions else set()
    axes: list[Axis] = []
    index: list[Size] = []
    for k, parts in enumerate(shape):
        at: Size = 0
        for j, extent in enumerate(parts):
            if extent == 1 and len(parts) == 1:
                continue
            symbol = space.symbol(f"_i{k}" + (f"_{j}" if len(parts) > 1 else ""), extent)
            axes.append(Axis(symbol, extent, k in along))
            at = at * extent + symbol
        index.append(at)
    domain = Domain(base, axes, space, _place(base, tuple(index), nodes, space))
    _check_reductions(domain, reductions, along)
    _trace(domain, nodes, outputs)
    return domain


def _apply_splits(domain: Domain, shape: list[list[Size]]) -> bool:
    if not domain.space.splits:
        return False
    name, inner = domain.space.splits[0]
    k, j = _parts(name)
    extent = shape[k][j]
    shape[k][j : j + 1] = [extent // inner, inner]
    return True


def _parts(name: str) -> tuple[int, int]:
    """Axis and part of a symbol ``_i2_0``."""
    k, _, j = name.removeprefix("_i").partition("_")
    return int(k), int(j or 0)


def _place(base: Value, index: Index, nodes: Sequence[Node], space: Space) -> dict[Value, Index]:
    """Indices of values, by going from placed operands to results and back until nothing changes."""
    places: dict[Value, Index] = {base: index}
    before = -1
    while len(places) != before:
        before = len(places)
        for node in nodes:
            _place_forward(node, places, space)
        for node in reversed(nodes):
            _place_backward(node, places, space)
    return places


def _place_forward(node: Node, places: dict[Value, Index], space: Space) -> None:
    for v in node.inputs:
        if v not in places or all(out in places for out in node.outputs):
            continue
        index = places[v]
        if is_reduction(node):
            for out in node.outputs:
                places[out] = _reduced_index(node, index, out)
        elif node.name in FORWARD:
            places[node.output] = FORWARD[node.name](node, index, space)
        elif node.name in BACKWARD or not type(node.op).pointwise:
            continue
        elif v.shape == node.output.shape:
            places[node.output] = index


def _reduced_index(node: Node, index: Index, out: Value) -> Index:
    along = reduced_axes(node)
    if out.rank == len(index):
        return tuple(0 if k in along else i for k, i in enumerate(index))
    return tuple(i for k, i in enumerate(index) if k not in along)


def _place_backward(node: Node, places: dict[Value, Index], space: Space) -> None:
    if is_reduction(node) or node.outputs[0] not in places:
        return
    index = places[node.output]
    for v in node.inputs:
        if v in places:
            continue
        if node.name in BACKWARD:
            places[v] = BACKWARD[node.name](node, index, space)
        elif type(node.op).pointwise and v.shape == node.output.shape:
            places[v] = index


def _check_reductions(domain: Domain, reductions: Sequence[Node], along: set[int]) -> None:
    reduced = {a.name for a in domain.axes if a.reduced}
    for node in reductions:
        source = node.inputs[0]
        if source not in domain.places:
            raise CannotShare(f"{node.name} reduces a value without a place")
        index = domain.places[source]
        mine = domain.space.symbols(tuple(index[k] for k in reduced_axes(node)))
        rest = tuple(i for k, i in enumerate(index) if k not in reduced_axes(node))
        others = domain.space.symbols(rest)
        if mine != reduced or others & reduced or not domain.covers(source):
            raise CannotShare(f"{node.name} reduces other axes")


@dataclass
class _Tracer:
    domain: Domain
    nodes: set[Node]
    seen: set[tuple[Value, Index]] = field(default_factory=set)

    def visit(self, value: Value, index: Index) -> None:
        """Note every load below ``value[index]``."""
        if (value, index) in self.seen:
            return
        self.seen.add((value, index))
        self.domain.visits.setdefault(value, set()).add(index)
        memory = memory_below(value, self.nodes)
        if memory is not None:
            self.domain.loads.append((memory, linear(index, value.shape)))
            return
        node = value.producer
        assert node is not None
        if node.name == "const":
            if value.rank:
                self.domain.loads.append((value, linear(index, value.shape)))
        elif is_reduction(node):
            if self.domain.places.get(value) != index:
                raise CannotShare(f"{node.name} is read elsewhere than where it is computed")
        elif node.name in BACKWARD:
            index = BACKWARD[node.name](node, index, self.domain.space)
            self.visit(node.inputs[0], index)
        elif node.name in ("pad", "concat", "iota"):
            self._visit_moved(node, index)
        elif node.name in PICKS:
            self._visit_picked(node, index)
        else:
            for v in node.inputs:
                self.visit(v, broadcast(index, v.shape))

    def _visit_picked(self, node: Node, index: Index) -> None:
        """Data of a take or gather is read anywhere: it must be complete, in memory."""
        base = node.inputs[0]
        while base.producer is not None and base.producer.name in BACKWARD:
            base = base.producer.inputs[0]
        if base.producer in self.nodes and base.producer.name not in ("const", "iota"):
            raise CannotShare(f"{node.name} reads what the group computes")
        at, place = pick_reads(node, index, self.domain.space)
        self.visit(node.inputs[1], at)
        self.visit(node.inputs[0], place)

    def _visit_moved(self, node: Node, index: Index) -> None:
        self.domain.irregular |= symbols_of(index)
        self.domain.moves |= bool(node.inputs)
        for v in node.inputs:
            place = list(index)
            if node.name == "pad":
                low = node.op.low  # type: ignore[attr-defined]
                place = [i - low[k] for k, i in enumerate(index)]
            self.visit(v, tuple(place))


def _trace(domain: Domain, nodes: Sequence[Node], outputs: Sequence[Value]) -> None:
    tracer = _Tracer(domain, set(nodes))
    for node in nodes:
        if is_reduction(node):
            tracer.visit(node.inputs[0], domain.places[node.inputs[0]])
    reduced = {a.name for a in domain.axes if a.reduced}
    every = {a.name for a in domain.axes}
    for value in outputs:
        if value not in domain.places:
            raise CannotShare("an output has no place")
        index = domain.places[value]
        names = domain.space.symbols(index)
        if names not in (every, every - reduced) or not domain.covers(value):
            raise CannotShare("an output covers only part of the space")
        domain.stores.append((value, linear(index, value.shape)))
        if not (value.producer is not None and is_reduction(value.producer)):
            tracer.visit(value, index)


def loads_below(
    value: Value, index: Index, nodes: set[Node], space: Space, held: set[Value]
) -> list[tuple[Value, Size, Index]]:
    """(value, position, index) of what ``value[index]`` reads, stopping at ``held`` values."""
    memory = None if value in held else memory_below(value, nodes - {v.producer for v in held})
    if value in held or (memory is not None and memory not in held):
        return [(memory or value, linear(index, value.shape), index)]
    node = value.producer
    assert node is not None
    if node.name in ("const", "iota"):
        return [(value, linear(index, value.shape), index)] if value.rank else []
    if node.name in BACKWARD:
        index = BACKWARD[node.name](node, index, space)
        return loads_below(node.inputs[0], index, nodes, space, held)
    if node.name in PICKS:
        at, place = pick_reads(node, index, space)
        below = loads_below(node.inputs[1], at, nodes, space, held)
        return [*below, *loads_below(node.inputs[0], place, nodes, space, held)]
    found = []
    for v in node.inputs:
        found += loads_below(v, broadcast(index, v.shape), nodes, space, held)
    return found


def mergeable(domain: Domain, outer: Axis, inner: Axis) -> bool:
    """Two adjacent axes can be one loop: every position moves evenly through both."""
    if outer.reduced != inner.reduced or {outer.name, inner.name} & domain.irregular:
        return False
    for _, at in [*domain.loads, *domain.stores]:
        a, b = L.stride_of(at, outer.name), L.stride_of(at, inner.name)
        if a is None or b is None or a != b * inner.extent:
            return False
    return True


def merge_axes(domain: Domain) -> list[Axis]:
    """The loops of a domain: runs of mergeable axes become one, under the symbol of the inner one.

    The symbols that vanish are to be bound to 0.
    """
    merged: list[Axis] = []
    for axis in domain.axes:
        if merged and mergeable(domain, merged[-1], axis):
            outer = merged.pop()
            merged.append(Axis(axis.symbol, outer.extent * axis.extent, axis.reduced))
        else:
            merged.append(Axis(axis.symbol, axis.extent, axis.reduced))
    return merged


def strides_along(accesses: Iterable[tuple[Value, Size]], name: str) -> list[Size | None]:
    """The stride of each access along a symbol."""
    return [L.stride_of(at, name) for _, at in accesses]

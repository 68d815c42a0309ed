"""Which outputs a kernel may store over an operand that nothing reads later.

A pair (output, operand) says: the kernel reads an element of the operand nowhere but where it stores
that element of the output, once, and before.  Threads share places in no other way than outputs.
Whether the operand dies, ``buffers`` knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from oarlock.codegen.domain import Domain, is_reduction, loads_below
from oarlock.codegen.emitter import output_indices
from oarlock.codegen.indexing import Space, linear
from oarlock.codegen.operands import operands_of
from oarlock.ir.dim import Size
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group

Pair = tuple[Value, Value]
Accesses = Iterable[tuple[Value, Size]]


def in_nest(domain: Domain) -> tuple[Pair, ...]:
    """Pairs of a pointwise nest that loads all that a place needs before it stores there."""
    return () if domain.irregular else _same_places(domain.loads, domain.stores)


def in_rows(
    domain: Domain, nodes: Sequence[Node], wanted: Sequence[Value], stages: Mapping[Value, int]
) -> tuple[Pair, ...]:
    """Pairs of a nest with reductions whose operand no phase reads after the one that stores.

    ``wanted`` values are computed over whole rows, each in the phase that ``stages`` says.
    """
    computed = {n for n in nodes if not is_reduction(n)}
    last: dict[Value, int] = {}
    for value in wanted:
        for read in _read_below(value, computed):
            last[read] = max(last.get(read, 0), stages[value])
    return tuple(
        (written, read)
        for written, read in in_nest(domain)
        if written in wanted and read in last and last[read] <= stages[written]
    )


def _read_below(value: Value, computed: Collection[Node]) -> set[Value]:
    """What ``value`` reads that other nodes than ``computed`` give."""
    seen = {value}
    stack = [value]
    while stack:
        node = stack.pop().producer
        if node in computed:
            fresh = set(node.inputs) - seen
            seen |= fresh
            stack += fresh
    return {v for v in seen if v.producer not in computed}


def in_epilogue(group: Group) -> tuple[Pair, ...]:
    """Pairs of a kernel that runs its epilogue once for each element and stores what it gives."""
    epilogue, anchor = group.epilogue, group.anchor
    if epilogue is None or anchor is None or not epilogue.inputs:
        return ()
    space = Space()
    shape = epilogue.anchor.shape
    index = tuple(space.symbol(f"_a{k}", n) if n != 1 else 0 for k, n in enumerate(shape))
    places = output_indices(epilogue.anchor, epilogue.nodes, index, space)
    nodes, held = set(epilogue.nodes), {epilogue.anchor}
    stores = [(v, linear(places[v], v.shape)) for v in epilogue.outputs]
    loads = [x for v in epilogue.outputs for x in loads_below(v, places[v], nodes, space, held)]
    read_by_anchor = {*operands_of(anchor), epilogue.anchor}
    return _same_places(((v, at) for v, at, _ in loads if v not in read_by_anchor), stores)


def _same_places(loads: Accesses, stores: Accesses) -> tuple[Pair, ...]:
    read_at: dict[Value, set[Size]] = {}
    for value, at in loads:
        read_at.setdefault(value, set()).add(at)
    return tuple(
        (written, read)
        for written, at in stores
        for read, places in read_at.items()
        if places == {at} and read.dtype is written.dtype and read.type.size == written.type.size
    )

"""Which outputs a kernel may store over an operand that nothing reads later.

A pair (output, operand) says: the kernel reads an element of the operand nowhere but where it stores
that element of the output, once, and before.  Threads share places in no other way than outputs.
Whether the operand dies, ``buffers`` knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from oarlock.codegen.domain import Domain, is_reduction, loads_below
from oarlock.codegen.emitter import PICKS, output_indices
from oarlock.codegen.indexing import PICKED, Space, linear
from oarlock.codegen.operands import operands_of
from oarlock.ir.dim import Dim, Size, substitute_size
from oarlock.ir.graph import Node, Value

if TYPE_CHECKING:
    from oarlock.codegen.fuse import Group

Pair = tuple[Value, Value]
Accesses = Iterable[tuple[Value, Size]]


def in_nest(domain: Domain) -> tuple[Pair, ...]:
    """Pairs of a pointwise nest that loads all that a place needs before it stores there."""
    return () if domain.moves else _same_places(domain.loads, domain.stores)


def in_rows(
    domain: Domain, nodes: Sequence[Node], wanted: Sequence[Value],
    singles: Sequence[Value] | None, stages: Mapping[Value, int],
) -> tuple[Pair, ...]:  # fmt: skip
    """Pairs of a nest with reductions whose operand no phase reads after the one that stores.

    ``wanted`` values are computed over whole rows, each in the phase that ``stages`` says, and
    ``singles``, one for each row, before that phase; after all where they are None.
    """
    if domain.moves:
        return ()
    computed = {n for n in nodes if not is_reduction(n)}
    last: dict[Value, int] = {}
    for value in (*wanted, *(singles or ())):
        for read in _read_below(value, computed):
            last[read] = max(last.get(read, 0), stages[value])
    loads = domain.loads
    if singles is not None:
        loads = _loads_of_rows(domain, nodes, wanted, computed)
    return tuple(
        (written, read)
        for written, read in _same_places(loads, domain.stores)
        if written in wanted and read in last and last[read] <= stages[written]
    )


def _loads_of_rows(
    domain: Domain, nodes: Sequence[Node], wanted: Sequence[Value], computed: Collection[Node]
) -> Iterator[tuple[Value, Size]]:
    """The loads, an element that is picked from the row for what a row gives being any of the row."""
    picks = [n for n in nodes if n.name in PICKS]
    reduced = [a for a in domain.axes if a.reduced]
    is_single = len(picks) == len(reduced) == 1
    if not is_single or any(picks[0] in _below(v, computed) for v in wanted):
        yield from domain.loads
        return
    axis = reduced[0]
    for value, at in domain.loads:
        picked = [n for n in at.symbols() if n.startswith(PICKED)] if isinstance(at, Dim) else []
        is_whole = all(domain.space.extents[name] == axis.extent for name in picked)
        yield value, substitute_size(at, dict.fromkeys(picked, axis.symbol)) if is_whole else at


def _below(value: Value, computed: Collection[Node]) -> set[Node]:
    """Nodes of ``computed`` that a value is made by."""
    seen: set[Node] = set()
    stack = [value]
    while stack:
        node = stack.pop().producer
        if node in computed and node not in seen:
            seen.add(node)
            stack += node.inputs
    return seen


def _read_below(value: Value, computed: Collection[Node]) -> set[Value]:
    """What ``value`` reads that other nodes than ``computed`` give."""
    read = {value}.union(*(node.inputs for node in _below(value, computed)))
    return {v for v in read if v.producer not in computed}


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

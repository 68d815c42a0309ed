"""Where symbols get their values: from the program's inputs, from nodes, from inputs of sub-graphs.

A symbol that a node binds is a size in what follows it in its graph and in the sub-graphs there.
Names are bound once in a program, apart from those of a loop, which all its graphs bind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from oarlock.ir.dim import Dim
from oarlock.ir.graph import Graph, Node, Program
from oarlock.ir.types import TensorType


def symbols_in(value: Any) -> set[str]:
    """Names of the symbols in a size, a type or an attribute."""
    if isinstance(value, (Dim, TensorType)):
        return value.symbols()
    if isinstance(value, tuple):
        return set().union(*map(symbols_in, value))
    return set()


def types_use(values: Iterable[Any]) -> set[str]:
    """Names of the symbols in the types of values."""
    return set().union(*(v.type.symbols() for v in values))


def uses(node: Node) -> set[str]:
    """Names of the symbols that must have values before ``node`` runs."""
    found = types_use(node.outputs) | types_use(node.inputs)
    if node.graphs:
        inner = set().union(*map(graph_uses, node.graphs))
        found |= inner - set(node.op.binds_inside)
    else:
        found |= symbols_in(tuple(node.op.attributes.values()))
    return found - set(node.op.binds)


def graph_uses(graph: Graph) -> set[str]:
    """Names of the symbols that a graph needs from outside."""
    found = types_use(graph.inputs) | types_use(graph.outputs)
    bound: set[str] = set()
    for node in graph.nodes:
        found |= uses(node)
        bound |= set(node.op.binds)
    return found - bound


def bindings(graph: Graph) -> Iterator[str]:
    """Names of the symbols that get their value while the graph runs."""
    for node in graph.walk():
        yield from node.op.binds
        yield from node.op.binds_inside


def has_effect(node: Node) -> bool:
    """A node that is kept although nothing reads what it gives."""
    return node.op.effect or any(n.op.effect for g in node.graphs for n in g.walk())


def problems(program: Program) -> list[str]:
    """Symbols that are bound twice, or used before they have a value."""
    graph = program.graph
    given = types_use(graph.inputs)
    bound = list(bindings(graph))
    twice = [name for name in dict.fromkeys(bound) if bound.count(name) > 1 or name in given]
    found = [f"dim {name} is bound twice" for name in twice]
    known = {name for name in program.dims if name not in bound}
    return found + list(_unknown(graph, known, "graph"))


def _unknown(graph: Graph, known: set[str], where: str) -> Iterator[str]:
    known = set(known)
    for i, node in enumerate(graph.nodes):
        here = f"{where}, node {i} {node.name}"
        inside = known | set(node.op.binds_inside)
        for k, inner in enumerate(node.graphs):
            yield from _unknown(inner, inside, f"{here}, graph {k}")
        mine = types_use(node.outputs) - set(node.op.binds)
        if not node.graphs:
            mine |= symbols_in(tuple(node.op.attributes.values())) - set(node.op.binds)
        yield from (f"{here}: dim {name} has no value here" for name in sorted(mine - known))
        known |= set(node.op.binds)

"""Weights that many small products read turned, turned once: what an unrolled loop leaves.

A product turns panels of its second operand while it packs them, which it pays for by many rows.  Steps
of a few rows each would all turn the same weights.
"""

from __future__ import annotations

from oarlock.ir import Builder, Graph, Node, Program, Value
from oarlock.passes.rewrite import Weights, may_rewrite, with_graph
from oarlock.passes.stage import stage

LEAST = 3  # products that read it
FEW = 28  # rows of a product


@stage("turn_once")
def turn_once(program: Program) -> Program:
    """Store a transposed matrix that several products of few rows read."""
    graph = program.graph
    turned = [v for v in _transposed(graph) if _is_worth_it(graph, v)]
    chosen = {v for v in turned if may_rewrite()}
    if not chosen:
        return program
    return with_graph(program, _with_copies(graph, chosen), Weights.of(program).params)


def _transposed(graph: Graph) -> list[Value]:
    found = (n for n in graph.nodes if n.name == "transpose" and n.output.rank == 2)
    return [n.output for n in found if tuple(n.op.perm) == (1, 0) and not _is_constant(n)]  # type: ignore


def _is_constant(node: Node) -> bool:
    """Its panels are packed at build time."""
    producer = node.inputs[0].producer
    return producer is not None and producer.name in ("param", "const")


def _is_worth_it(graph: Graph, value: Value) -> bool:
    return sum(_is_small(node) and node.inputs[1] is value for node in graph.nodes) >= LEAST


def _is_small(node: Node) -> bool:
    """A product of few rows."""
    if node.name != "matmul" or node.inputs[0].rank != 2:
        return False
    rows = node.inputs[0].shape[0]
    return isinstance(rows, int) and rows <= FEW


def _with_copies(graph: Graph, chosen: set[Value]) -> Graph:
    b = Builder(Graph(graph.inputs))
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    copies: dict[Value, Value] = {}
    for node in graph.nodes:
        inputs = [known[v] for v in node.inputs]
        if _is_small(node) and node.inputs[1] in copies:
            inputs[1] = copies[node.inputs[1]]
        copy = Node(node.op, inputs, node.graphs, node.origin)
        b.graph.nodes.append(copy)
        known.update(zip(node.outputs, copy.outputs))
        if node.outputs[0] in chosen:
            b.origin = node.origin
            copies[node.output] = b.cast(copy.output, dtype=node.output.dtype)
    b.graph.outputs = [known[v] for v in graph.outputs]
    return b.graph

"""Remove what no output needs."""

from __future__ import annotations

from oarlock.ir import Graph, Node, Program, Value
from oarlock.passes.rewrite import prune, renew, with_graph
from oarlock.passes.stage import stage


@stage("dead_code")
def dead_code(program: Program) -> Program:
    """Drop nodes and params that no output needs."""
    return with_graph(program, _graph(program.graph), program.params)


def _graph(graph: Graph) -> Graph:
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    nodes: list[Node] = []
    for node in prune(graph).nodes:
        copy = renew(node, [known[v] for v in node.inputs], [_graph(g) for g in node.graphs])
        nodes.append(copy)
        known.update(zip(node.outputs, copy.outputs))
    if len(nodes) == len(graph.nodes) and all(a is b for a, b in zip(nodes, graph.nodes)):
        return graph
    return Graph(graph.inputs, nodes, [known[v] for v in graph.outputs])

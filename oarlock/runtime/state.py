"""State as inputs: a param that a run changes becomes an input of the engine, fed back by it."""

from __future__ import annotations

from dataclasses import replace

from oarlock.errors import BuildError
from oarlock.ir.graph import Graph, Node, Program, Value, clone_graph
from oarlock.runtime.layout import StatePort


def lift_state(program: Program) -> tuple[Program, list[StatePort]]:
    """The program with its state params as trailing inputs, and where they are.

    The outputs stay as they are: the next values are among them.
    Raises: BuildError when a sub-graph reads a state param.
    """
    if not program.state:
        return program, []
    graph = clone_graph(program.graph)
    keys = {s.name for s in program.state}
    inside = {
        n.op.key for node in graph.nodes for g in node.graphs for n in g.walk() if _is_param(n)
    }
    if inside & keys:
        shown = ", ".join(sorted(inside & keys))
        raise BuildError(f"state {shown} is read inside a branch or loop; pass it in as an input")
    ports, replaced = [], {}
    for state in program.state:
        readers = [n for n in graph.nodes if _is_param(n) and n.op.key == state.name]
        type = readers[0].output.type if readers else graph.outputs[state.output].type
        ports.append(StatePort(state.name, len(graph.inputs), state.output))
        value = graph.input(type, f"state.{state.name}")
        replaced.update({n.output: value for n in readers})
    lifted = _replace(graph, replaced)
    params = {k: v for k, v in program.params.items() if k not in keys}
    names = program.signature.names
    names = (*names, *(v.name or "" for v in graph.inputs[len(names) :])) if names else ()
    signature = replace(program.signature, names=names)
    return program.replace(graph=lifted, params=params, state=(), signature=signature), ports


def _is_param(node: Node) -> bool:
    return node.name == "param"


def _replace(graph: Graph, replaced: dict[Value, Value]) -> Graph:
    """The graph with values redirected and their producers gone."""
    mapped = dict(replaced)
    nodes = []
    for node in graph.nodes:
        if node.outputs and node.outputs[0] in replaced:
            continue
        copy = Node(node.op, [mapped.get(v, v) for v in node.inputs], node.graphs, node.origin)
        mapped.update(zip(node.outputs, copy.outputs))
        nodes.append(copy)
    return Graph(graph.inputs, nodes, [mapped.get(v, v) for v in graph.outputs])

"""State as inputs: a param that a run changes becomes an input of the engine, fed back by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from oarlock.ir.graph import Graph, Node, Program, Value, clone_graph
from oarlock.ir.types import TensorType
from oarlock.runtime.layout import StatePort


def lift_state(program: Program) -> tuple[Program, list[StatePort]]:
    """The program with its state params as trailing inputs, and where they are.

    The outputs stay as they are: the next values are among them.
    """
    if not program.state:
        return program, []
    lifted, places = lift_params(program, [s.name for s in program.state])
    ports = [StatePort(s.name, i, s.output) for s, i in zip(program.state, places)]
    return lifted.replace(state=()), ports


def lift_params(program: Program, keys: Sequence[str]) -> tuple[Program, list[int]]:
    """The program with the params ``keys`` as trailing inputs, and the place of each."""
    graph = clone_graph(hoist_params(program.graph, set(keys)))
    outputs = {s.name: s.output for s in program.state}
    places: list[int] = []
    replaced: dict[Value, Value] = {}
    for key in keys:
        readers = [n for n in graph.nodes if _is_param(n) and n.op.key == key]
        type = readers[0].output.type if readers else graph.outputs[outputs[key]].type
        places.append(len(graph.inputs))
        value = graph.input(type, f"state.{key}")
        replaced.update({n.output: value for n in readers})
    lifted = _replace(graph, replaced)
    params = {k: v for k, v in program.params.items() if k not in keys}
    names = program.signature.names
    names = (*names, *(v.name or "" for v in graph.inputs[len(names) :])) if names else ()
    signature = replace(program.signature, names=names)
    state = tuple(s for s in program.state if s.name not in keys)
    return program.replace(graph=lifted, params=params, state=state, signature=signature), places


def hoist_params(graph: Graph, keys: Collection[str]) -> Graph:
    """The graph whose branches and loops get the params ``keys`` as arguments."""
    types = {n.op.key: n.output.type for n in graph.walk() if _is_param(n) and n.op.key in keys}
    inner = {
        n.op.key for node in graph.nodes for g in node.graphs for n in g.walk() if _is_param(n)
    }
    if inner.isdisjoint(types):
        return graph
    nodes: list[Node] = []
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    for node in graph.nodes:
        inputs = [known[v] for v in node.inputs]
        wanted = {k: t for k, t in types.items() if any(k in g.params() for g in node.graphs)}
        inside = [_passed_on(g, node.op.defines, wanted) for g in node.graphs]
        graphs = [_with_arguments(hoist_params(g, keys), wanted, node.name) for g in inside]
        for key, type in wanted.items():
            nodes.append(_param(key, type, node))
            inputs.append(nodes[-1].output)
        if not wanted:
            graphs = list(node.graphs)
        elif node.name == "while_":
            body = graphs[1]
            body.outputs = [*body.outputs, *body.inputs[len(node.inputs) :]]
        copy = Node(node.op, inputs, graphs, node.origin)
        nodes.append(copy)
        known.update(zip(node.outputs, copy.outputs))
    return Graph(graph.inputs, nodes, [known[v] for v in graph.outputs])


def _passed_on(graph: Graph, label: str, wanted: Mapping[str, TensorType]) -> Graph:
    """The graph whose calls of itself, by ``label``, get the params ``wanted`` too."""
    if not label or not wanted:
        return graph
    nodes: list[Node] = []
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    for node in graph.nodes:
        more = [_param(k, t, node) for k, t in wanted.items()] if node.op.calls == label else []
        inputs = [*(known[v] for v in node.inputs), *(n.output for n in more)]
        inner = [_passed_on(g, label, wanted) for g in node.graphs]
        copy = Node(node.op, inputs, inner, node.origin)
        nodes += [*more, copy]
        known.update(zip(node.outputs, copy.outputs))
    return Graph(graph.inputs, nodes, [known[v] for v in graph.outputs])


def _with_arguments(graph: Graph, wanted: Mapping[str, TensorType], owner: str) -> Graph:
    """The graph with the params ``wanted`` as its last inputs."""
    copy = clone_graph(graph)
    replaced: dict[Value, Value] = {}
    for key, type in wanted.items():
        value = copy.input(type, f"{owner}{len(copy.inputs)}")
        replaced |= {n.output: value for n in copy.nodes if _is_param(n) and n.op.key == key}
    return _replace(copy, replaced)


def _param(key: str, type: TensorType, near: Node) -> Node:
    from oarlock.ops.shape import Param

    return Node(Param(key, type), origin=near.origin)


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

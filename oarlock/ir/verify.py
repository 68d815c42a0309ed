"""Check a program against the rules of the IR, all problems at once."""

from __future__ import annotations

from oarlock.errors import InvalidProgram, TypeMismatch
from oarlock.ir.graph import Graph, Node, Program, Value
from oarlock.ir.types import TensorType


def verify(program: Program, *, with_params: bool = True) -> Program:
    """Return the program.

    Args: with_params: also check the arrays of the params against the types in the graph.
    Raises: InvalidProgram with every problem, one line each.
    """
    problems = list(_graph_problems(program.graph, "graph"))
    problems += _symbol_problems(program) + _state_problems(program)
    if with_params:
        problems += _param_problems(program)
    if problems:
        raise InvalidProgram(
            "\n".join(["the program is not valid:", *(f"  {p}" for p in problems)])
        )
    return program


def _graph_problems(graph: Graph, where: str) -> list[str]:
    problems: list[str] = []
    known: set[Value] = set(graph.inputs)
    if len(known) != len(graph.inputs):
        problems.append(f"{where}: an input appears twice")
    for i, node in enumerate(graph.nodes):
        here = f"{where}, node {i} {node.name}" + (f" ({node.origin})" if str(node.origin) else "")
        problems += [
            f"{here}: input {k} is not defined before it"
            for k, v in enumerate(node.inputs)
            if v not in known
        ]
        problems += _type_problems(node, here)
        for k, inner in enumerate(node.graphs):
            problems += _graph_problems(inner, f"{here}, graph {k}")
        known.update(node.outputs)
    problems += [
        f"{where}: output {k} is not defined" for k, v in enumerate(graph.outputs) if v not in known
    ]
    return problems


def _type_problems(node: Node, here: str) -> list[str]:
    try:
        types = node.op.infer_types([v.type for v in node.inputs], node.graphs)
    except TypeMismatch as error:
        return [f"{here}: {error}"]
    got = tuple(v.type for v in node.outputs)
    return [] if got == types else [f"{here}: types {got}, expected {types}"]


def _symbol_problems(program: Program) -> list[str]:
    used = program.graph.symbols()
    return [f"dim {name} has no range in the program" for name in used if name not in program.dims]


def _state_problems(program: Program) -> list[str]:
    problems = []
    types = _param_types(program)
    for state in program.state:
        if state.output >= len(program.graph.outputs):
            problems.append(f"state {state.name!r}: no output {state.output}")
        elif state.name in types and program.graph.outputs[state.output].type != types[state.name]:
            got = program.graph.outputs[state.output].type
            problems.append(f"state {state.name!r}: expected {types[state.name]}, got {got}")
    return problems


def _param_types(program: Program) -> dict[str, TensorType]:
    return {n.op.key: n.op.type for n in program.graph.walk() if n.name == "param"}


def _param_problems(program: Program) -> list[str]:
    problems = []
    for key, type in _param_types(program).items():
        array = program.params.get(key)
        if array is None:
            problems.append(f"param {key!r}: expected {type}, got no array")
        elif array.dtype != type.dtype.numpy or tuple(array.shape) != tuple(type.shape):
            got = f"{array.dtype}{list(array.shape)}"
            problems.append(f"param {key!r}: expected {type}, got {got}")
    return problems

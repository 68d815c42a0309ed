"""Make a failing program small."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from oarlock.evaluate import evaluate_graph
from oarlock.ir import Builder, Dim, Graph, Program, Value
from oarlock.ir.graph import Node
from tests.fuzz.programs import Case

MAX_TRIES = 150
Why = Callable[[Case], str]


def shrink(case: Case, fails: Why) -> tuple[Case, str]:
    """The smallest program found that fails in some way, and how it fails."""
    why, tries, changed = fails(case), 0, True
    if not why:
        return case, "not reproduced alone"
    while changed and tries < MAX_TRIES:
        changed = False
        for smaller in candidates(case):
            tries += 1
            reason = fails(smaller)
            if reason:
                case, why, changed = smaller, reason, True
                break
            if tries >= MAX_TRIES:
                break
    return case, why


def candidates(case: Case) -> Iterator[Case]:
    """Programs with fewer outputs, then with nodes replaced by inputs or by their operands."""
    outputs = case.program.graph.outputs
    if len(outputs) > 1:
        half = len(outputs) // 2
        for keep in (outputs[:half], outputs[half:], *([v] for v in outputs)):
            if len(keep) < len(outputs):
                yield _rebuilt(case, {}, keep)
    nodes = [n for n in case.program.graph.nodes if n.name not in ("param", "const")]
    for node in nodes:
        yield _rebuilt(case, _cut(case, node), outputs)
    for node in reversed(nodes):
        for v in node.inputs:
            if len(node.outputs) == 1 and v.type == node.output.type:
                yield _rebuilt(case, {node.output: v}, outputs)


def _cut(case: Case, node: Node) -> dict[Value, list[np.ndarray]]:
    """The outputs of a node with their arrays: they become inputs."""
    found: dict[Value, list[np.ndarray]] = {v: [] for v in node.outputs}
    for env, arrays in zip(case.envs, case.arrays):
        graph = case.program.graph
        upto = graph.nodes[: graph.nodes.index(node) + 1]
        part = Graph(graph.inputs, upto, node.outputs)
        for v, a in zip(node.outputs, evaluate_graph(part, case.program.params, env, arrays)):
            found[v].append(a)
    return found


def _rebuilt(
    case: Case,
    changes: dict[Value, list[np.ndarray]] | dict[Value, Value],
    outputs: Sequence[Value],
) -> Case:
    """The program with values replaced, without what became dead."""
    graph = case.program.graph
    needed, b = _needed(graph, changes, outputs), Builder(Graph())
    known: dict[Value, Value] = {}
    arrays: list[list[np.ndarray]] = [[] for _ in case.envs]

    def feed(v: Value, data: Sequence[np.ndarray]) -> None:
        known[v] = b.input(v.type, f"x{len(b.graph.inputs)}")
        for k, a in enumerate(data):
            arrays[k].append(a)

    symbols = {s for v in needed for s in v.type.symbols()}
    for i, v in enumerate(graph.inputs):
        gives = any(isinstance(s, Dim) and s.is_symbol and s.name in symbols for s in v.shape)
        if v in needed or gives:
            feed(v, [a[i] for a in case.arrays])
    for node in graph.nodes:
        if not any(v in needed for v in node.outputs):
            continue
        change = [changes.get(v) for v in node.outputs]
        if isinstance(change[0], Value):
            known[node.output] = known[change[0]]
        elif change[0] is not None:
            for v in node.outputs:
                feed(v, changes[v])  # type: ignore[arg-type]
        else:
            made = b.append(node.op, [known[v] for v in node.inputs], node.graphs)
            known.update(zip(node.outputs, made.outputs))
    b.graph.outputs = [known[v] for v in outputs]
    keys = b.graph.params()
    program = Program(b.graph, {k: case.program.params[k] for k in keys})
    envs = tuple({s: e[s] for s in program.dims} for e in case.envs)
    return Case(program, envs, tuple(arrays))


def _needed(graph: Graph, changes: dict, outputs: Sequence[Value]) -> set[Value]:
    needed = set(outputs)
    for node in reversed(graph.nodes):
        if any(v in needed for v in node.outputs):
            change = changes.get(node.outputs[0])
            if isinstance(change, Value):
                needed.add(change)
            elif change is None:
                needed |= set(node.inputs)
    return needed

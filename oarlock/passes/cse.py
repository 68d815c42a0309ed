"""Compute equal things once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np

from oarlock.ir import Graph, Node, Program, Value
from oarlock.ops.shape import Param
from oarlock.passes.rewrite import may_rewrite, prune, renew, with_graph
from oarlock.passes.stage import stage

COMMUTATIVE = {"add", "mul", "eq", "ne", "bit_and", "bit_or", "bit_xor"}
SAMPLED = 64


@stage("cse")
def cse(program: Program) -> Program:
    """Merge nodes of one op with equal attributes and inputs, and params with equal bits.

    Source: Cocke, "Global common subexpression elimination" (1970).
    """
    state = {s.name for s in program.state}
    same = _equal_params({k: a for k, a in program.params.items() if k not in state})
    return with_graph(program, _graph(program.graph, same), program.params)


def _equal_params(params: Mapping[str, np.ndarray]) -> dict[str, str]:
    """For each param that repeats another, the first such one."""
    kept: dict[Hashable, list[str]] = {}
    same: dict[str, str] = {}
    for key, array in params.items():
        others = kept.setdefault(_fingerprint(array), [])
        twin = next((k for k in others if _has_equal_bits(params[k], array)), None)
        if twin is None:
            others.append(key)
        elif may_rewrite():
            same[key] = twin
    return same


def _fingerprint(array: np.ndarray) -> Hashable:
    flat = array.reshape(-1)
    step = max(1, flat.size // SAMPLED)
    return array.dtype.str, array.shape, flat[::step].tobytes()


def _has_equal_bits(a: np.ndarray, b: np.ndarray) -> bool:
    if a is b:
        return True
    bits = f"u{a.dtype.itemsize}"
    return np.array_equal(a.view(bits), b.view(bits))


def _graph(graph: Graph, same: Mapping[str, str]) -> Graph:
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    seen: dict[Hashable, Node] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        inputs = [known[v] for v in node.inputs]
        copy = _renamed(node, same) or renew(node, inputs, [_graph(g, same) for g in node.graphs])
        first = seen.setdefault(_number(copy), copy)
        if first is copy or not may_rewrite():
            first = copy
            nodes.append(copy)
        known.update(zip(node.outputs, first.outputs))
    if len(nodes) == len(graph.nodes) and all(a is b for a, b in zip(nodes, graph.nodes)):
        return graph
    return prune(Graph(graph.inputs, nodes, [known[v] for v in graph.outputs]))


def _renamed(node: Node, same: Mapping[str, str]) -> Node | None:
    if node.name != "param" or node.op.key not in same:
        return None
    return Node(Param(same[node.op.key], node.op.type), origin=node.origin)


def _number(node: Node) -> Hashable:
    """Equal for nodes that compute the same; attributes by text, which tells 0.0 from -0.0."""
    if node.graphs or node.name == "aten_call":
        return id(node)
    operands: list[Any] = [id(v) for v in node.inputs]
    if node.name in COMMUTATIVE:
        operands.sort()
    return str(node.op), tuple(operands)

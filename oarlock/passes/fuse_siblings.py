"""Projections of one input as one product.

Worth it where the results are only rearranged, as queries, keys and values are: a pointwise consumer
is better off as the epilogue of a product of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oarlock.ir import Graph, Node, Program, Value
from oarlock.passes.rewrite import Patch, Weights, may_rewrite, origin_of, with_graph
from oarlock.passes.stage import stage

VIEWS = frozenset(("reshape", "transpose", "slice"))
READERS = frozenset(("attention",))  # kernels that read through views


@stage("fuse_siblings")
def fuse_siblings(program: Program) -> Program:
    """``linear(x, u), linear(x, w)`` -> slices of ``linear(x, concat(u, w))``"""
    graph, weights = program.graph, Weights.of(program)
    b = Patch.of(graph, weights)
    families = _families(b, graph)
    if not families:
        return program
    first = {nodes[0]: nodes for nodes in families}
    later = {node for nodes in families for node in nodes[1:]}
    known: dict[Value, Value] = {v: v for v in graph.inputs}
    for node in graph.nodes:
        if node in later:
            continue
        inputs = [known[v] for v in node.inputs]
        if node in first:
            outputs = [n.output for n in first[node]]
            known.update(zip(outputs, _fused(b, inputs[0], first[node])))
            continue
        copy = Node(node.op, inputs, node.graphs, node.origin)
        b.graph.nodes.append(copy)
        known.update(zip(node.outputs, copy.outputs))
    b.graph.outputs = [known[v] for v in graph.outputs]
    return with_graph(program, b.graph, weights.params)


def _families(b: Patch, graph: Graph) -> list[list[Node]]:
    """Linears of one input that may be one."""
    uses, outputs = graph.uses(), set(graph.outputs)

    def is_rearranged(value: Value) -> bool:
        """Only views of it are read, by kernels that read through views."""
        if value in outputs:
            return False
        users = [user for user, _ in uses[value]]
        return all(
            all(map(is_rearranged, u.outputs)) if u.name in VIEWS else u.name in READERS
            for u in users
        )

    found: dict[tuple, list[Node]] = {}
    for node in graph.nodes:
        is_fixed = node.name == "linear" and all(map(b.is_constant, node.inputs[1:]))
        if is_fixed and is_rearranged(node.output):
            key = (node.inputs[0], len(node.inputs), node.inputs[1].dtype)
            found.setdefault(key, []).append(node)
    return [nodes for nodes in found.values() if len(nodes) > 1 and may_rewrite()]


def _fused(b: Patch, x: Value, nodes: Sequence[Node]) -> list[Value]:
    """One linear, and what each of ``nodes`` gave as a slice of it."""
    b.origin = origin_of(nodes)
    operands = [x]
    for parts in zip(*(n.inputs[1:] for n in nodes)):
        arrays = [b.storage(v) for v in parts]
        joined = np.concatenate([a for a in arrays if a is not None])
        node = parts[0].producer
        stem = node.op.key if node is not None and node.name == "param" else "weight"
        operands.append(b.weight(joined, parts[0], f"{stem}.siblings"))
    wide = b.linear(*operands)
    results, start = [], 0
    for node in nodes:
        width = node.output.shape[-1]
        zeros = (0,) * (wide.rank - 1)
        results.append(
            b.slice(
                wide, starts=(*zeros, start), stops=(*wide.shape[:-1], start + width),
                steps=(1,) * wide.rank,
            )
        )  # fmt: skip
        start = start + width
    return results

"""Programs side by side in one, so that one build serves many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from oarlock.ir import Builder, Dim, Graph, Program, Size, Value
from oarlock.ir.op import REGISTRY


def merge(programs: Sequence[Program]) -> Program:
    """Inputs, params and symbols of program ``i`` are prefixed with ``pi_``; its outputs follow."""
    whole, params = Builder(Graph()), dict[str, np.ndarray]()
    for i, program in enumerate(programs):
        symbols = {n: Dim(f"p{i}_{n}", *d.bounds()) for n, d in program.dims.items()}
        graph = _copy(program.graph, whole, symbols, f"p{i}_")
        whole.graph.outputs += graph
        params |= {f"p{i}_{key}": array for key, array in program.params.items()}
    return Program(whole.graph, params)


def _copy(graph: Graph, b: Builder, symbols: Mapping[str, Size], prefix: str) -> list[Value]:
    known: dict[Value, Value] = {}
    for v in graph.inputs:
        known[v] = b.input(v.type.substitute(symbols), f"{prefix}{v.name}")
    for node in graph.nodes:
        op = node.op.substitute(symbols)
        if node.name == "param":
            op = REGISTRY["param"](key=f"{prefix}{op.key}", type=op.type)
        graphs = []
        for inner in node.graphs:
            side = Builder(Graph())
            side.graph.outputs = _copy(inner, side, symbols, prefix)
            graphs.append(side.graph)
        made = b.append(op, [known[v] for v in node.inputs], graphs)
        known.update(zip(node.outputs, made.outputs))
    return [known[v] for v in graph.outputs]

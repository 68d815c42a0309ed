"""Compute at build time what does not depend on the inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from oarlock.errors import UnsupportedError
from oarlock.evaluate import evaluate_graph
from oarlock.ir import Graph, Node, Program, TensorType, Value, decode
from oarlock.ir.op import Op
from oarlock.ir.scope import symbols_in
from oarlock.passes.rewrite import Patch, Rules, rewrite
from oarlock.passes.stage import stage

SMALL_BYTES = 1 << 14
"""A constant of this size may replace whatever computes it."""
IMPURE = {"param", "const", "aten_call"}
RULES = Rules()


@stage("fold")
def fold(program: Program) -> Program:
    """Evaluate nodes whose inputs are constants, where the result is small or no larger."""
    return rewrite(program, RULES)


@RULES.rule("*")
def fold_node(b: Patch, node: Node, *inputs: Value) -> Any:
    """``op(constants)`` -> its value, a const of one element or a new param."""
    if node.name in IMPURE or node.graphs or node.op.effect or not all(map(b.is_constant, inputs)):
        return None
    types = [v.type for v in node.outputs]
    if (
        node.op.binds
        or has_symbols(node.op)
        or any(t.symbols() for t in types)
        or not _is_worth_it(node)
    ):
        return None
    try:
        arrays = _evaluate(b, node)
    except (UnsupportedError, IndexError):
        return None
    return [_leaf(b, node, v, array) for v, array in zip(node.outputs, arrays)]


def has_symbols(op: Op) -> bool:
    """An attribute holds a symbolic size."""
    return bool(symbols_in(tuple(op.attributes.values())))


def _is_worth_it(node: Node) -> bool:
    size = sum(_bytes(v.type) for v in node.outputs)
    source = sum(_bytes(v.type) for v in node.inputs)
    if node.name == "broadcast_to":
        return size <= source
    return size <= max(SMALL_BYTES, source)


def _bytes(type: TensorType) -> int:
    size = type.bytes
    assert isinstance(size, int), f"constants have known sizes, got {type}"
    return size


def _evaluate(b: Patch, node: Node) -> list[np.ndarray]:
    leaves = list(dict.fromkeys(v.producer for v in node.inputs if v.producer is not None))
    graph = Graph([], [*leaves, node], node.outputs)
    return evaluate_graph(graph, b.weights.params, {}, [])


def _leaf(b: Patch, node: Node, value: Value, array: np.ndarray) -> Value:
    keys = [v.producer.op.key for v in node.inputs if v.producer.name == "param"]
    if array.size == 1 and (array.ndim == 0 or not keys):
        number: Any = decode(array, value.dtype).reshape(-1)[0].item()
        for _ in range(array.ndim):
            number = (number,)
        return b.const(number, value.dtype)
    stem = keys[0] if keys else node.origin.module or "const"
    return b.weight(array, value, f"{stem}.{node.name}")

"""What is known of a value while it is captured: the number it always is, or is for the example."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from oarlock.evaluate import evaluate_graph
from oarlock.ir import Dim, Graph, Node, Size, TensorType, Value, decode, dim_max, dim_min


def always(graph: Graph, value: Value, params: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The array when it depends on no input, no size, no random number; else None.

    ``params`` holds those that keep their value.
    """
    nodes = _needed(graph, value)
    depends = value in graph.inputs or any(_varies(node, params, graph.inputs) for node in nodes)
    return None if depends else _run(Graph([], nodes, [value]), params, {}, [])


_MATHS: dict[str, Callable[[Any, Any], Size]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floor_div": operator.floordiv,
    "minimum": dim_min,
    "maximum": dim_max,
}


def size_in(value: Value) -> Size | None:
    """The size that an integer tensor of one element always holds; None when it holds another."""
    node = value.producer
    if node is None or value.type.size != 1 or not value.dtype.is_int:
        return None
    if node.name == "size":
        return node.op.dim
    if node.name == "const":
        return int(node.op.array.reshape(-1)[0])
    found = [size_in(v) for v in node.inputs]
    parts = [size for size in found if size is not None]
    if len(parts) < len(found):
        return None
    if node.name in ("cast", "reshape", "broadcast_to"):
        return parts[0]
    return _MATHS[node.name](*parts) if node.name in _MATHS else None


def for_example(
    graph: Graph,
    value: Value,
    params: Mapping[str, np.ndarray],
    env: Mapping[str, int],
    arrays: Sequence[np.ndarray],
) -> np.ndarray:
    """The array that the example gives."""
    slice_ = Graph(graph.inputs, _needed(graph, value), [value])
    return _run(slice_, params, env, arrays)


def _run(graph: Graph, params: Any, env: Any, arrays: Any) -> np.ndarray:
    (array,) = evaluate_graph(graph, params, env, arrays)
    return decode(array, graph.outputs[0].dtype)


def _needed(graph: Graph, value: Value) -> list[Node]:
    wanted = {value}
    kept = []
    for node in reversed(graph.nodes):
        if any(out in wanted for out in node.outputs):
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def _varies(node: Node, params: Mapping[str, np.ndarray], inputs: Sequence[Value]) -> bool:
    if node.name == "param" and node.op.key not in params:
        return True
    if node.name in ("rand", "randn", "aten_call") or any(v in inputs for v in node.inputs):
        return True
    return any(_has_dim(x) for x in node.op.attributes.values())


def _has_dim(x: Any) -> bool:
    if isinstance(x, TensorType):
        return any(isinstance(size, Dim) for size in x.shape)
    if isinstance(x, tuple):
        return any(map(_has_dim, x))
    return isinstance(x, Dim)

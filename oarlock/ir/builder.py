"""Append nodes to a graph: ``b.add(x, y)``, ``b.reshape(x, shape=(2, 3))``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from oarlock.errors import UserError
from oarlock.ir.graph import Graph, Node, Origin, Value
from oarlock.ir.op import Op, get
from oarlock.ir.types import DType, TensorType, f32, i64


class Builder:
    """Every op is a method: operands first, attributes by name; returns a Value or a tuple.

    A Python number among the operands becomes a constant of the other operands' type.
    """

    def __init__(self, graph: Graph | None = None, origin: Origin = Origin()) -> None:
        self.graph = graph if graph is not None else Graph()
        self.origin = origin

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        record = get(name)

        def build(*operands: Any, **attributes: Any) -> Any:
            graphs = attributes.pop("graphs", ())
            return self.build(record(**attributes), *self._values(name, operands), graphs=graphs)

        return build

    def build(self, op: Op, *inputs: Value, graphs: Sequence[Graph] = ()) -> Any:
        """Append ``op`` applied to ``inputs``; the output, or a tuple when there are several."""
        outputs = self.append(op, inputs, graphs).outputs
        return outputs[0] if len(outputs) == 1 else outputs

    def append(self, op: Op, inputs: Sequence[Value], graphs: Sequence[Graph] = ()) -> Node:
        """Append ``op`` applied to ``inputs``; the node."""
        node = Node(op, inputs, graphs, self.origin)
        self.graph.nodes.append(node)
        return node

    def input(self, type: TensorType, name: str) -> Value:
        """Append a graph input."""
        return self.graph.input(type, name)

    def local(self, value: Value) -> Value:
        """``value`` as the graph that is added to sees it; see ``capture.lowering.frames``."""
        return value

    def const(self, value: Any, dtype: DType) -> Value:
        """A small constant: a number or nested tuples of numbers."""
        return self.build(get("const")(value=value, dtype=dtype))

    def param(self, key: str, type: TensorType) -> Value:
        """The weight ``key``."""
        return self.build(get("param")(key=key, type=type))

    def _values(self, name: str, operands: Sequence[Any]) -> list[Value]:
        dtype = _common_dtype(operands)
        values = []
        for i, operand in enumerate(operands):
            if isinstance(operand, Value):
                values.append(operand)
            elif isinstance(operand, (bool, int, float)):
                values.append(self.const(operand, dtype or _default_dtype(operand)))
            else:
                kind = type(operand).__name__
                raise UserError(f"{name}: operand {i} is a {kind}; expected a Value or a number")
        return values


def _common_dtype(operands: Sequence[Any]) -> DType | None:
    dtypes = [x.dtype for x in operands if isinstance(x, Value)]
    return next((d for d in dtypes if not d.is_bool), dtypes[0] if dtypes else None)


def _default_dtype(x: bool | int | float) -> DType:
    return f32 if isinstance(x, float) else i64

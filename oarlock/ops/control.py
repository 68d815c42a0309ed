"""Ops with sub-graphs, and calls back into PyTorch.

A sub-graph is closed: everything comes in through its inputs, or is a param.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from oarlock.ir import Graph, TensorType, bool_, f32
from oarlock.ir.op import Op, op
from oarlock.ops.aten import call_on_arrays

Run = Callable[..., list[np.ndarray]]
Types = Sequence[TensorType]


def _show(types: Types) -> str:
    return str(tuple(types))


def _outputs(graph: Graph) -> tuple[TensorType, ...]:
    return tuple(v.type for v in graph.outputs)


class Control(Op):
    """Base: ``parts`` names the sub-graphs."""

    has_graphs = True
    parts: ClassVar[tuple[str, ...]] = ()

    def check_graphs(self, types: Types, graphs: Sequence[Graph], inputs: Types) -> None:
        """Raises: TypeMismatch unless there is a graph for every part and it takes ``inputs``."""
        if len(graphs) != len(self.parts):
            expected = " and ".join(self.parts)
            raise self.fail(types, f"expected graphs {expected}, got {len(graphs)} graphs")
        for part, graph in zip(self.parts, graphs):
            got = [v.type for v in graph.inputs]
            if got != list(inputs):
                raise self.fail(
                    types, f"graph {part}: expected inputs {_show(inputs)}, got {_show(got)}"
                )


@op("if_", onnx=("If", 16))
class If(Control):
    """``then(*args)`` when the predicate is true, else ``else(*args)``; one of them runs.

    Shapes:  predicate bool[], *args  ->  what both graphs give
    """

    parts = ("then", "else")

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        if not types or types[0] != TensorType(bool_):
            raise self.fail(types, "expected a bool[] predicate first")
        self.check_graphs(types, graphs, types[1:])
        then, other = map(_outputs, graphs)
        if then != other:
            raise self.fail(
                types,
                f"then gives {_show(then)}, else gives {_show(other)}; give both one type",
            )
        return then

    def reference_graphs(
        self, run: Run, graphs: Sequence[Graph], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        return run(graphs[0 if arrays[0] else 1], *arrays[1:])


@op("while_", onnx=("Loop", 16))
class While(Control):
    """``while cond(*args): args = body(*args)``; the result is the last args.

    Shapes:  *args  ->  *args; cond gives bool[], body the types of args
    """

    parts = ("cond", "body")

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        self.check_graphs(types, graphs, types)
        cond, body = map(_outputs, graphs)
        if cond != (TensorType(bool_),):
            raise self.fail(types, f"graph cond: expected output (bool[]), got {_show(cond)}")
        if body != tuple(types):
            raise self.fail(
                types, f"graph body: expected outputs {_show(types)}, got {_show(body)}"
            )
        return body

    def reference_graphs(
        self, run: Run, graphs: Sequence[Graph], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        cond, body = graphs
        state: Sequence[np.ndarray] = arrays
        while run(cond, *state)[0]:
            state = run(body, *state)
        return state


@op("call")
class Call(Control):
    """``graph(*args)``"""

    parts = ("callee",)

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        self.check_graphs(types, graphs, types)
        return _outputs(graphs[0])

    def reference_graphs(
        self, run: Run, graphs: Sequence[Graph], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        return run(graphs[0], *arrays)


@op("aten_call")
class AtenCall(Op):
    """An ATen overload that has no record here, run through PyTorch where it is installed.

    Attrs:   target: ``aten.name.overload``; template: JSON of the arguments, tensors by position;
             types: of the outputs.
    Raises:  UnsupportedError where torch is not installed.
    """

    target: str = ""
    template: str = "[]"
    types: tuple[TensorType, ...] = (TensorType(f32),)

    def infer(self, *args: TensorType) -> tuple[TensorType, ...]:
        if not self.types:
            raise self.fail(args, f"{self.target} has no outputs")
        return self.types

    def reference(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return call_on_arrays(self.target, self.template, arrays)

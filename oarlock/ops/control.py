"""Ops with sub-graphs, and calls back into PyTorch.

A sub-graph is closed: everything comes in through its inputs, or is a param.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from oarlock.ir import Graph, Size, TensorType, bool_, f32
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
    Attrs:   sizes: (of then, of else, symbol) for sizes that the graphs give differently.
    """

    sizes: tuple[tuple[Size, Size, Size], ...] = ()
    parts = ("then", "else")

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        if not types or types[0] != TensorType(bool_):
            raise self.fail(types, "expected a bool[] predicate first")
        self.check_graphs(types, graphs, types[1:])
        then, other = map(_outputs, graphs)
        joined = [self._joined(a, b) for a, b in zip(then, other)]
        if len(then) != len(other) or None in joined:
            raise self.fail(
                types,
                f"then gives {_show(then)}, else gives {_show(other)}; give both one type",
            )
        return tuple(t for t in joined if t is not None)

    def _joined(self, a: TensorType, b: TensorType) -> TensorType | None:
        """The type of a result; None when there is none."""
        table: dict[tuple[Size, Size], Size] = {(x, y): symbol for x, y, symbol in self.sizes}
        if a.dtype is not b.dtype or a.rank != b.rank:
            return None
        pairs = list(zip(a.shape, b.shape))
        sizes = [table.get((x, y), x if x == y else None) for x, y in pairs]
        return None if None in sizes else a.with_shape(tuple(s for s in sizes if s is not None))

    @property
    def binds(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(symbol) for _, _, symbol in self.sizes))

    def reference_graphs(
        self, run: Run, graphs: Sequence[Graph], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        return run(graphs[0 if arrays[0] else 1], *arrays[1:])


@op("while_", onnx=("Loop", 16))
class While(Control):
    """``while cond(*args): args = body(*args)``; the result is the last args.

    Shapes:  *args  ->  *args; cond gives bool[], body the types of args
    Attrs:   sizes: (symbol of the graphs' inputs, symbol of the results) for sizes that change.
    """

    sizes: tuple[tuple[Size, Size], ...] = ()
    parts = ("cond", "body")

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        inside = [v.type for v in graphs[0].inputs] if self.sizes and graphs else types
        self.check_graphs(types, graphs, inside)
        self._check_fits(types, inside, types, "expected args")
        cond, body = map(_outputs, graphs)
        if cond != (TensorType(bool_),):
            raise self.fail(types, f"graph cond: expected output (bool[]), got {_show(cond)}")
        self._check_fits(types, inside, body, "graph body: expected outputs")
        results = {str(symbol): result for symbol, result in self.sizes}
        return tuple(t.substitute(results) for t in inside) if results else body

    def _check_fits(self, types: Types, inside: Types, given: Types, what: str) -> None:
        """Raises: TypeMismatch unless the changing symbols make ``inside`` equal to ``given``."""
        names, env = self.binds_inside, {}
        shapes = [p for a, b in zip(inside, given) for p in zip(a.shape, b.shape)]
        for size, got in shapes:
            if str(size) in names:
                env.setdefault(str(size), got)
        expected = tuple(t.substitute(env) for t in inside) if names else tuple(inside)
        if expected != tuple(given) or len(env) < len(names):
            raise self.fail(types, f"{what} {_show(expected)}, got {_show(given)}")

    @property
    def binds(self) -> tuple[str, ...]:
        return tuple(str(result) for _, result in self.sizes)

    @property
    def binds_inside(self) -> tuple[str, ...]:
        return tuple(str(symbol) for symbol, _ in self.sizes)

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

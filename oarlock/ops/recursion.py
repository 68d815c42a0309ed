"""A graph that calls itself: ``recursive`` defines it and calls it first, ``again`` calls it inside."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from oarlock.errors import ModelError
from oarlock.ir import Graph, TensorType
from oarlock.ir.op import op
from oarlock.ops.control import Control, Run, Types

FRAMES = 24  # of Python that one level takes at most, branches and loops around a call included


class _Open(threading.local):
    """The recursive graphs that run in this thread, with what runs each, and how deep they are."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[Run, Graph]] = {}
        self.depth = 0


class _Limit:
    """Python's limit of recursion, raised while any thread runs a recursive graph."""

    def __init__(self) -> None:
        self.lock, self.users, self.levels = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.users:
                self.levels = sys.getrecursionlimit()
                sys.setrecursionlimit(self.levels * FRAMES)
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                sys.setrecursionlimit(self.levels)


_OPEN, _LIMIT = _Open(), _Limit()


@op("recursive")
class Recursive(Control):
    """``graph(*args)``, in which ``again`` of the same label is the graph itself.

    Shapes:  *args  ->  what the graph gives; all its calls have the same types
    Raises:  ModelError when it calls itself deeper than Python does.
    """

    label: str = ""
    parts: ClassVar[tuple[str, ...]] = ("callee",)

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        self.check_graphs(types, graphs, types)
        outputs = tuple(v.type for v in graphs[0].outputs)
        for node in graphs[0].walk():
            if node.op.calls != self.label:
                continue
            given, expected = [v.type for v in node.inputs], list(types)
            if given != expected or tuple(v.type for v in node.outputs) != outputs:
                raise self.fail(types, f"again{tuple(given)} -> {tuple(v.type for v in node.outputs)}"
                                f" inside of a graph {tuple(expected)} -> {outputs}")  # fmt: skip
        return outputs

    @property
    def defines(self) -> str:
        return self.label

    def reference_graphs(
        self, run: Run, graphs: Sequence[Graph], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        with _opened(self.label, run, graphs[0]):
            return run(graphs[0], *arrays)


@op("again")
class Again(Control):
    """A call of the graph of the ``recursive`` around it.

    Shapes:  *args of the graph  ->  types, those of its results
    """

    label: str = ""
    types: tuple[TensorType, ...] = ()
    effect = True

    def infer_graphs(self, types: Types, graphs: Sequence[Graph]) -> tuple[TensorType, ...]:
        self.check_graphs(types, graphs, types)
        if not self.types:
            raise self.fail(types, "expected types of results")
        return self.types

    @property
    def calls(self) -> str:
        return self.label

    def reference_graphs(
        self, run: Run, graphs: Sequence[Graph], *arrays: np.ndarray
    ) -> Sequence[np.ndarray]:
        if self.label not in _OPEN.calls:
            raise ModelError("NameError", f"again: no recursive graph {self.label!r} around it")
        call, graph = _OPEN.calls[self.label]
        with _deeper():
            return call(graph, *arrays)


@contextlib.contextmanager
def _opened(label: str, run: Run, graph: Graph) -> Iterator[None]:
    before = _OPEN.calls
    _OPEN.calls = {**before, label: (run, graph)}
    try:
        with _LIMIT:
            yield
    finally:
        _OPEN.calls = before


@contextlib.contextmanager
def _deeper() -> Iterator[None]:
    """Raises: ModelError."""
    if _OPEN.depth >= _LIMIT.levels:
        raise ModelError("RecursionError", "maximum recursion depth exceeded")
    _OPEN.depth += 1
    try:
        yield
    finally:
        _OPEN.depth -= 1

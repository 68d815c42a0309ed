"""Functions of a tape that call themselves, as graphs that do.

Everything that a call reads from outside is handed on from call to call, so a function is recorded
until that is known.  The first time, only ways without further calls are followed: they give the
types of the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.lowering.frames import Frame, as_tuple
from oarlock.capture.lowering.held import Recorded, is_plain, named, python_of, value_of
from oarlock.capture.lowering.kinds import Either, Maybe
from oarlock.capture.tape.nodes import (
    Again,
    Block,
    Call,
    If,
    SubTape,
    Val,
    blocks_of,
    leaves,
    map_tree,
)
from oarlock.capture.tape.runtime import recursive
from oarlock.ir import TensorType, Value

if TYPE_CHECKING:
    from oarlock.capture.lowering.replay import Lowering

ROUNDS = 8


def ends(block: Block) -> bool:
    """Some way through a block makes no further call of a function that it is in."""
    for node in block.nodes:
        if isinstance(node, Call):
            if node.func is recursive and isinstance(node.args[0], Again):
                return False
        elif isinstance(node, If) and not any(ends(s) for s in blocks_of(node) if not s.raises):
            return False
    return True


class Recursions:
    """The recursive functions of a tape.  ``open``: those whose bodies are recorded now."""

    def __init__(self, lowering: Lowering) -> None:
        self.low = lowering
        self.open: dict[int, Definition] = {}
        self.count = 0

    @property
    def is_first(self) -> bool:
        """The types of some results are looked for."""
        return any(d.results is None for d in self.open.values())

    def ending(self, node: If) -> Block | None:
        """The side to follow in the first recording, where only one makes no further call."""
        sides = [node.then, node.orelse]
        going = [side for side in sides if side.raises or not ends(side)]
        return next(s for s in sides if s is not going[0]) if len(going) == 1 else None

    def call(self, target: SubTape | Again, *row: Any) -> Any:
        """The result of a call, from outside or inside."""
        items = [self.low.get(x) for x in row]
        if isinstance(target, Again):
            return self.open[id(target.tape)].again(items)
        self.count += 1
        definition = Definition(self, target, items, f"f{self.count}")
        self.open[id(target)] = definition
        try:
            recorded = definition.record()
        finally:
            del self.open[id(target)]
        return definition.node(recorded)


class Definition:
    """One function at one call from outside: its arguments ``start``, its types."""

    def __init__(self, owner: Recursions, tape: SubTape, items: list[Any], label: str) -> None:
        self.low, self.r, self.tape, self.label = owner.low, owner.low.r, tape, label
        self.places = list(_vals(tape.params))
        self.start = self.values(items)
        self.likes = [like for _, like in _pairs(tape.params, items)]
        self.captured: list[Value] = []
        self.results: list[TensorType] | None = None
        self.likes_out: list[Any] = []  # what the first way gave

    def values(
        self, items: Sequence[Any], types: Sequence[TensorType] | None = None
    ) -> list[Value]:
        """The arguments that differ from call to call, in the innermost graph."""
        found = [_value(self.r, x) for _, x in _pairs(self.tape.params, items)]
        if types is not None:
            _check(found, types, "is given")
        return found

    # ---- calls

    def again(self, items: list[Any]) -> Any:
        """A call of the function in itself."""
        if self.results is None:
            raise NotImplementedError("a function that calls itself on every path")
        r = self.r
        with self.low.outside():
            given = self.values(items, [v.type for v in self.start])
            made = r.b.again(*given, *self.captured, label=self.label, types=tuple(self.results))
            return self.rebuilt(as_tuple(made))

    def node(self, recorded: Recorded) -> Any:
        """The call from outside."""
        r = self.r
        with self.low.outside():
            graph = r.b.finish(recorded.frame, recorded.results)
            made = r.b.recursive(
                *self.start, *recorded.frame.arguments, label=self.label, graphs=[graph]
            )
            return self.rebuilt(as_tuple(made))

    def rebuilt(self, values: Sequence[Value]) -> Any:
        """Results in the structure that the function returns."""
        found = iter(zip(values, self.likes_out))
        return map_tree(
            self.tape.result, lambda x: python_of(self.r, *next(found)) if isinstance(x, Val) else x
        )

    # ---- the body

    def record(self) -> Recorded:
        """Record until what is read from outside is known."""
        for _ in range(ROUNDS):
            is_first, before = self.results is None, self.captured
            with self.low.outside():
                recorded = self.low.blocks.record(self.run, self.begin)
            if recorded.written:
                raise NotImplementedError(
                    "a function that calls itself until data stop it and updates a tensor from "
                    "outside in place, or draws random numbers; write it as a loop"
                )
            types = [v.type for v in recorded.results]
            if not is_first:
                _check(recorded.results, self.results or [], "gives")
            self.results, self.captured = types, recorded.frame.arguments
            if not is_first and len(before) == len(self.captured):
                return recorded
        raise NotImplementedError("a function that calls itself and reads more at each call")

    def begin(self, frame: Frame) -> None:
        self.inputs = [frame.input(v.type, f"a{i}") for i, v in enumerate(self.start)]
        for value in self.captured:
            frame.local(value)

    def run(self) -> list[Value]:
        with self.low.scope():
            with self.low.outside():
                for val, value, like in zip(self.places, self.inputs, self.likes):
                    self.low.env[val] = python_of(self.r, value, like)
            self.low.run(self.tape.block)
            found = [self.low.get(val) for val in _vals(self.tape.result)]
            with self.low.outside():
                self.likes_out = self.likes_out or found
                return [_value(self.r, x) for x in found]


def _vals(tree: Any) -> Iterator[Val]:
    """Values of the run in a tree, in order."""
    return (x for x in leaves(tree) if isinstance(x, Val))


def _pairs(params: Any, items: Any) -> Iterator[tuple[Val, Any]]:
    """Each parameter of the run with what it is given."""
    if isinstance(params, Val):
        yield params, items
    elif isinstance(params, (tuple, list)):
        for param, item in zip(params, items):
            yield from _pairs(param, item)
    elif isinstance(params, dict):
        for key, param in params.items():
            yield from _pairs(param, items[key])


def _value(r: Any, x: Any) -> Value:
    if isinstance(x, Either):
        x = r.lowering.expect_wide(x)
    if isinstance(x, Maybe) or not (isinstance(x, (torch.Tensor, int, float)) or not is_plain(x)):
        raise NotImplementedError(
            f"a function that calls itself until data stop it, with {named(x)} or a value"
        )
    return value_of(r, x)


def _check(values: Sequence[Value], types: Sequence[TensorType], what: str) -> None:
    """Raises: NotImplementedError where calls differ in types."""
    got = [v.type for v in values]
    if got != list(types):
        first = next((a, b) for a, b in zip([*got, None], [*types, None]) if a != b)
        raise NotImplementedError(
            f"a function that calls itself until data stop it {what} {first[0]} at one call and "
            f"{first[1]} at another; give all calls the same types and sizes"
        )

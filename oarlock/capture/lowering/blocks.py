"""Branches and loops of a tape as ``if_`` and ``while_``.

A block is recorded on its own; what it reads from outside becomes an input, what it writes to memory
from outside becomes a result that is written back behind it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Any

from oarlock.capture.lowering.frames import Frame, align, as_tuple
from oarlock.capture.lowering.held import Holder, Recorded, empty, held, truth_of
from oarlock.capture.lowering.joined import Joined
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.loops import GUESSES, ROUNDS, Carried, Loop, Promoted
from oarlock.capture.lowering.recorder import BlockRecorder, Refused
from oarlock.ir import Size, TensorType, Value, bool_, bounds
from oarlock.ir.scope import symbols_in, types_use


class Blocks:
    """Records sub-graphs with ``recorder``."""

    def __init__(self, recorder: BlockRecorder) -> None:
        self.r = recorder

    # ---- one block

    def record(
        self, run: Callable[[], Sequence[Any]], begin: Callable[[Frame], None] = lambda frame: None
    ) -> Recorded:
        """Run ``run`` in a frame of its own; views and numbers are put back afterwards."""
        r = self.r
        before, scope = r.snapshot(), r.shapes.scope()
        frame = r.b.enter()
        try:
            begin(frame)
            results = list(run())
            changed = r.written(before)
            written = {h: [frame.local(v) for v in held(h)] for h in changed}
        finally:
            r.b.leave(frame)
            r.restore(before)
            r.shapes.restore(scope)
        return Recorded(frame, results, written)

    def known(self) -> set[str]:
        """Names of the symbols that have a value in the innermost graph."""
        found, frame = set(self.r.shapes.given), self.r.b.frame
        while frame is not None:
            for node in frame.graph.nodes:
                found |= set(node.op.binds)
            found |= types_use(frame.graph.inputs)
            frame = frame.parent
        return found

    def zeros(self, type: TensorType) -> Value:
        """A value of a type; sizes that are not known in the innermost graph are 0."""
        known = self.known()
        shape = tuple(n if symbols_in(n) <= known else 0 for n in type.shape)
        return self.r.b.full(0, shape, type.dtype) if shape else self.r.b.const(0, type.dtype)

    def within(self, recorded: Recorded, make: Callable[[], Any]) -> Any:
        """Add to the graph of a recorded block again."""
        r = self.r
        outer, graph = r.b.frame, r.b.graph
        r.b.frame, r.b.graph = recorded.frame, recorded.frame.graph
        scope = r.shapes.scope()
        try:
            return make()
        finally:
            r.b.frame, r.b.graph = outer, graph
            r.shapes.restore(scope)

    def write_back(self, holder: Holder, values: list[Value]) -> None:
        """Give a view or list what a block has left in it."""
        if isinstance(holder, ListValue):
            holder.set(values)
            return
        holder.write(self.r.b, values[0])
        holder.memory.writes.append(self.r.where)

    def held_in(self, side: Recorded, holder: Holder, like: list[Value]) -> list[Value]:
        """What a view or list has at the end of a block; one that is empty, such as ``like``."""
        if holder in side.written:
            return side.written[holder]
        if isinstance(holder, ListValue) and holder.stacks is None:
            return self.within(side, lambda: empty(self.r, like))
        return [side.frame.local(v) for v in held(holder)]

    # ---- if_

    def branch(
        self, test: Value, then: Callable[[], Sequence[Any]], other: Callable[[], Sequence[Any]]
    ) -> list[Any]:
        """What the branches give, joined."""
        try:
            sides = [self.record(then, self._given(test, True))]
        except Refused:
            with contextlib.suppress(Refused):  # it may tell what the items of a list are
                self.record(other, self._given(test, False)) if self.r.layouts.wanted else None
            raise
        sides.append(self.record(other, self._given(test, False)))
        joined = [Joined.of(self, *pair) for pair in zip(*(s.results for s in sides))]
        changed = {h: values for s in sides for h, values in s.written.items()}
        outputs = []
        for k, side in enumerate(sides):
            values = [v for j in joined for v in j.values(self, side, k)]
            for holder, like in changed.items():
                values += self.held_in(side, holder, like)
            outputs.append(values)
        pairs = list(zip(*outputs))
        known = [self._known(test, *pair) for pair in pairs]
        first = {_same_key(*pair): i for i, pair in reversed(list(enumerate(pairs)))}
        place = [first[_same_key(*pair)] for pair in pairs]
        kept = [k is None and place[i] == i for i, k in enumerate(known)]
        outputs = [[v for v, k in zip(values, kept) if k] for values in outputs]
        found = iter(self._node(test, sides, outputs))
        merged: list[Value] = []
        for i, k in enumerate(known):
            merged.append(k if k is not None else next(found) if kept[i] else merged[place[i]])
        values = iter(merged)
        results = [j.result(self, values) for j in joined]
        for holder, like in changed.items():
            self.write_back(holder, [next(values) for _ in like])
        return results

    def _given(self, test: Value, truth: bool) -> Callable[[Frame], None]:
        """In a branch the predicate is known, and what it is the negation of."""

        def begin(frame: Frame) -> None:
            assert frame.parent is not None
            outer, value = frame.parent.local(test), truth
            frame.replace(outer, self.r.b.const(value, bool_))
            while outer.producer is not None and outer.producer.name == "logical_not":
                outer, value = outer.producer.inputs[0], not value
                frame.replace(outer, self.r.b.const(value, bool_))

        return begin

    def _known(self, test: Value, a: Value, b: Value) -> Value | None:
        """A result that needs no branch: the same constant, the predicate, or its negation."""
        x, y = truth_of(a), truth_of(b)
        if x is None or y is None:
            return None
        if x == y:
            return self.r.b.const(x, bool_)
        return test if x else self.r.b.logical_not(test)

    def _node(
        self, test: Value, sides: Sequence[Recorded], outputs: list[list[Value]]
    ) -> tuple[Value, ...]:
        """The results of the node, if one is needed."""
        r = self.r
        if not outputs[0]:
            if not any(n.op.effect for s in sides for n in s.frame.graph.walk()):
                return ()
            outputs = [[self.within(s, lambda: r.b.const(True, bool_))] for s in sides]
        arguments = align([s.frame for s in sides], 0)
        sizes = self._sizes(*outputs)
        graphs = [r.b.finish(s.frame, o) for s, o in zip(sides, outputs)]
        return as_tuple(r.b.if_(test, *arguments, sizes=sizes, graphs=graphs))

    def _sizes(self, then: list[Value], other: list[Value]) -> tuple[tuple[Size, Size, Size], ...]:
        """A symbol for every pair of sizes that the branches give differently."""
        table: dict[tuple[Size, Size], Size] = {}
        for a, b in zip(then, other):
            if a.rank != b.rank or a.dtype is not b.dtype:
                raise NotImplementedError(
                    f"one branch gives {a.type}, the other {b.type}; give both one rank and dtype"
                )
            for pair in zip(a.shape, b.shape):
                if pair[0] != pair[1] and pair not in table:
                    least = max(0, min(bounds(size)[0] for size in pair))
                    table[pair] = self.r.shapes.fresh("r", least)
        return tuple((a, b, symbol) for (a, b), symbol in table.items())

    # ---- while_

    def loop(
        self,
        init: Sequence[Any],
        cond: Callable[[list[Any]], Value],
        body: Callable[[list[Any]], Sequence[Any]],
        axes: Sequence[Collection[int]] = (),
    ) -> list[Any]:
        """What is carried when ``cond`` is false at last.

        Args: axes: of each variable, those whose size may change.
        """
        may_fit, mark = self.r.b.may_fit, self.r.mark()
        if not may_fit:
            return self._guessed(init, cond, body, axes)
        self.r.b.may_fit = False  # sizes that do not fit may tell that a guess is wrong
        try:
            return self._guessed(init, cond, body, axes)
        except Refused:
            self.r.back_to(mark)
        finally:
            self.r.b.may_fit = may_fit
        return self._guessed(init, cond, body, axes)

    def _guessed(
        self,
        init: Sequence[Any],
        cond: Callable[[list[Any]], Value],
        body: Callable[[list[Any]], Sequence[Any]],
        axes: Sequence[Collection[int]],
    ) -> list[Any]:
        """By the first guess of the sizes that change with which the trips can be recorded."""
        mark = self.r.mark()
        for guess in GUESSES:
            try:
                return self._looped(init, cond, body, axes, guess)
            except Refused:
                if guess == GUESSES[-1]:
                    raise
            self.r.back_to(mark)
        raise AssertionError("the last guess returns or raises")

    def _looped(
        self,
        init: Sequence[Any],
        cond: Callable[[list[Any]], Value],
        body: Callable[[list[Any]], Sequence[Any]],
        axes: Sequence[Collection[int]],
        guess: str,
    ) -> list[Any]:
        start = [Carried.of(self, x) for x in init]
        carried = Loop(self, start, axes, guess)
        for _ in range(ROUNDS):
            try:
                test, step = carried.record(cond, body)
            except Promoted as found:
                carried = found.restart(self, carried)
                continue
            if carried.settles(step):
                return carried.finish(test, step)
        raise NotImplementedError("a loop whose sizes or types change without end")


def _same_key(a: Value, b: Value) -> tuple[Any, ...]:
    """Equal for results that are the same in both branches."""
    found = [truth_of(v) for v in (a, b)]
    return tuple(v if t is None else t for v, t in zip((a, b), found))

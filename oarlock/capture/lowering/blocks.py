"""Branches and loops of a tape as ``if_`` and ``while_``.

A block is recorded on its own; what it reads from outside becomes an input, what it writes to memory
from outside becomes a result that is written back behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oarlock.capture.aliases import View
from oarlock.capture.constants import size_in
from oarlock.capture.convert.state import Undefined
from oarlock.capture.lowering.frames import Frame, align, as_tuple
from oarlock.capture.lowering.lists import ListValue
from oarlock.capture.lowering.recorder import BlockRecorder
from oarlock.capture.lowering.scalars import Maybe, Truth, is_symbolic, kind_of
from oarlock.ir import Dim, DType, Size, TensorType, Value, bool_, bounds, f64, i64

KINDS: dict[type, DType] = {bool: bool_, int: i64, float: f64}
ROUNDS = 12
Holder = View | ListValue


def held(holder: Holder) -> list[Value]:
    """The values that a view or list has now."""
    return holder.known() if isinstance(holder, ListValue) else [holder.read()]


@dataclass
class Recorded:
    """A block after its recording: ``results`` as Python values, ``written``: changes outside of it."""

    frame: Frame
    results: list[Any]
    written: dict[Holder, list[Value]]


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
        sides = [self.record(then, self._given(test, True))]
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
        start = [Carried.of(self, x) for x in init]
        carried = Loop(self, start, axes)
        for _ in range(ROUNDS):
            try:
                test, step = carried.record(cond, body)
            except Promoted as found:
                carried = found.restart(self, carried)
                continue
            if carried.settles(step):
                return carried.finish(test, step)
        raise NotImplementedError("a loop whose sizes or types change without end")


class Joined:
    """One result of two branches: the same plain value, or a value of each."""

    def __init__(self, plain: Any, sides: tuple[Any, Any], kind: str) -> None:
        self.plain, self.sides, self.kind = plain, sides, kind

    @staticmethod
    def of(blocks: Blocks, a: Any, b: Any) -> Joined:
        if isinstance(a, (tuple, list)) and type(a) is type(b) and len(a) == len(b):
            return Joined([Joined.of(blocks, x, y) for x, y in zip(a, b)], (a, b), "tree")
        if a is b or (_is_plain(a) and _is_plain(b) and type(a) is type(b) and a == b):
            return Joined(a, (a, b), "plain")
        if _is_nothing(a) and _is_nothing(b):
            return Joined(a, (a, b), "plain")
        if any(_is_nothing(x) or isinstance(x, Maybe) for x in (a, b)):
            return Joined(None, (a, b), "maybe")
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            return Joined(None, (a, b), "tensor")
        if isinstance(a, torch.Tensor) != isinstance(b, torch.Tensor) and _is_one(a) and _is_one(b):
            return Joined(None, (a, b), "one")
        if all(is_symbolic(x) or isinstance(x, (bool, int, float)) for x in (a, b)):
            if kind_of(a) is kind_of(b):
                return Joined(None, (a, b), "number")
            raise NotImplementedError("one branch gives an int, the other a float")
        raise NotImplementedError(
            f"one branch gives {_named(a)}, the other {_named(b)}: no one type"
        )

    def values(self, blocks: Blocks, side: Recorded, k: int) -> list[Value]:
        """What one branch gives, in its graph."""
        if self.kind == "plain":
            return []
        if self.kind == "tree":
            return [v for j in self.plain for v in j.values(blocks, side, k)]
        mine = self.sides[k]
        if self.kind == "maybe":
            return blocks.within(side, lambda: self._maybe(blocks, k))
        if self.kind == "one":
            return [blocks.within(side, lambda: self._one(blocks, mine))]
        return [blocks.within(side, lambda: value_of(blocks.r, mine))]

    def _one(self, blocks: Blocks, mine: Any) -> Value:
        """A tensor of one element, or a number of its type."""
        tensor = next(x for x in self.sides if isinstance(x, torch.Tensor))
        return one_of(blocks.r, mine, type_of(blocks.r, tensor))

    def _maybe(self, blocks: Blocks, k: int) -> list[Value]:
        r, mine = blocks.r, self.sides[k]
        if isinstance(mine, Maybe):
            return [value_of(r, mine.flag), value_of(r, mine.value)]
        if not _is_nothing(mine):
            return [r.b.const(True, bool_), value_of(r, mine)]
        other = self.sides[1 - k]
        other = other.value if isinstance(other, Maybe) else other
        type = type_of(r, other)
        return [r.b.const(False, bool_), r.b.full(0, type.shape, type.dtype)]

    def result(self, blocks: Blocks, found: Any) -> Any:
        if self.kind == "plain":
            return self.plain
        if self.kind == "tree":
            return type(self.sides[0])(j.result(blocks, found) for j in self.plain)
        r = blocks.r
        if self.kind == "maybe":
            flag = Truth(next(found))
            a, b = (x.value if isinstance(x, Maybe) else x for x in self.sides)
            like = b if _is_nothing(a) else a
            return Maybe(flag, python_of(r, next(found), like), all(map(_is_unbound, self.sides)))
        if self.kind == "one":
            value = next(found)
            return Truth(value) if value.dtype.is_bool else r.new(value)
        result = python_of(r, next(found), self.sides[0])
        if isinstance(result, torch.Tensor):
            for side in self.sides:
                tie(r, side, result)
        return result


def _same_key(a: Value, b: Value) -> tuple[Any, ...]:
    """Equal for results that are the same in both branches."""
    found = [truth_of(v) for v in (a, b)]
    return tuple(v if t is None else t for v, t in zip((a, b), found))


def truth_of(value: Value) -> bool | None:
    """What a constant bool is."""
    node = value.producer
    if node is None or node.name != "const" or value.type != TensorType(bool_):
        return None
    return bool(node.op.value)


def empty(r: BlockRecorder, like: Sequence[Value]) -> list[Value]:
    """Stacks without rows."""
    return [r.b.full(0, (0, *v.shape[1:]), v.dtype) for v in like]


def _is_one(x: Any) -> bool:
    """A number, or a tensor without axes."""
    if isinstance(x, torch.Tensor):
        return x.dim() == 0
    return is_symbolic(x) or isinstance(x, (bool, int, float))


def one_of(r: BlockRecorder, x: Any, type: TensorType) -> Value:
    """A number or tensor without axes as a scalar of ``type``.

    Raises: NotImplementedError where the number is of another kind.
    """
    if isinstance(x, torch.Tensor):
        return value_of(r, x)
    kind = kind_of(x)
    fits = kind is bool if type.dtype.is_bool else kind is int or type.dtype.is_float
    if not fits:
        raise NotImplementedError(f"{type} or a {kind.__name__}; make both tensors")
    return r.b.frame.local(r.scalars.value(x, type.dtype))


def tie(r: BlockRecorder, side: torch.Tensor, result: torch.Tensor) -> None:
    """Refuse later updates where ``result`` may be the memory of a tensor from outside."""
    view = r.views.get(id(side))
    if view is not None and view in r.known_views:
        for memory in (view.memory, r.view(result).memory):
            memory.tied.append(r.where or "a branch")


def _is_unbound(x: Any) -> bool:
    """A side of which None is no value."""
    return x.unbound if isinstance(x, Maybe) else x is not None


def _is_nothing(x: Any) -> bool:
    """No value on this path: None, or a variable that was not assigned."""
    return x is None or isinstance(x, Undefined)


def _is_plain(x: Any) -> bool:
    return not isinstance(x, (torch.Tensor, Maybe)) and not is_symbolic(x)


def _named(x: Any) -> str:
    return "None" if x is None else f"a {type(x).__name__}"


def value_of(r: BlockRecorder, x: Any) -> Value:
    """The value of a tensor or number, in the innermost graph."""
    found = r.value(x) if isinstance(x, torch.Tensor) else r.scalars.value(x)
    return r.b.frame.local(found)


def type_of(r: BlockRecorder, x: Any) -> TensorType:
    return r.type_of(x) if isinstance(x, torch.Tensor) else TensorType(KINDS[kind_of(x)])


def python_of(r: BlockRecorder, value: Value, like: Any) -> Any:
    """``value`` as code holds it: a tensor or a number, as ``like`` is one."""
    return r.new(value) if isinstance(like, torch.Tensor) else r.scalars.number(value)


@dataclass
class Carried:
    """A carried variable: a tree whose leaves are the same plain value, tensors, numbers or Maybes."""

    init: Any
    kind: str
    parts: list[Carried]

    @staticmethod
    def of(blocks: Blocks, x: Any) -> Carried:
        if isinstance(x, (tuple, list)):
            return Carried(x, "tree", [Carried.of(blocks, item) for item in x])
        if isinstance(x, torch.Tensor):
            return Carried(x, "tensor", [])
        if isinstance(x, Maybe):
            return Carried(x, "maybe", [Carried.of(blocks, x.value)])
        if is_symbolic(x) or isinstance(x, (bool, int, float)):
            return Carried(x, "number", [])
        return Carried(x, "plain", [])

    def leaves(self) -> list[Carried]:
        """Itself and what is inside, without trees and plain values."""
        own = [self] if self.kind in ("tensor", "number", "maybe") else []
        return own + [leaf for part in self.parts for leaf in part.leaves()]

    def inner(self) -> list[Carried]:
        return [leaf for part in self.parts for leaf in part.leaves()]


class Promoted(Exception):
    """A number that a loop makes a tensor of ``type``: it is one from the start."""

    def __init__(self, carried: Carried, type: TensorType) -> None:
        super().__init__(f"a number becomes {type}")
        self.carried, self.type = carried, type

    def restart(self, blocks: Blocks, loop: Loop) -> Loop:
        r = blocks.r
        self.carried.init = r.new(one_of(r, self.carried.init, self.type))
        self.carried.kind = "tensor"
        return Loop(blocks, loop.carried, loop.axes)


class Loop:
    """A loop on its way to a form in which sizes and types stay the same."""

    def __init__(
        self, blocks: Blocks, carried: list[Carried], axes: Sequence[Collection[int]]
    ) -> None:
        self.blocks, self.r, self.carried, self.axes = blocks, blocks.r, carried, axes
        self.written: dict[Holder, int] = {}  # with the number of its values
        self.classes: dict[tuple[int, int], Dim] = {}  # (leaf, axis) of a size that changes
        self.promoted: dict[int, DType] = {}
        self.start = self._values([c.init for c in carried], carried)
        self.inside: list[TensorType] = []
        self.updated: set[int] = set()  # tensors that the body updates in place, by number
        self.counts: dict[int, Dim] = {}  # numbers that are always equal to a size that changes
        self.settled: set[Any] = set()  # sizes and numbers found to be of no class
        self._expect()

    def _expect(self) -> None:
        """Sizes that the tape says may change, and numbers that begin as one of them."""
        at = 0
        for c, axes in zip(self.carried, self.axes):
            if c.kind == "tensor":
                for axis in sorted(axes):
                    if axis < self.start[at].rank:
                        self._add_class(at, axis)
            at += len(self._values([c.init], [c]))
        self._add_counts()

    def _add_counts(self) -> None:
        """Integers that begin as a size that changes may stay equal to it."""
        begins = {self.start[i].shape[axis]: dim for (i, axis), dim in self.classes.items()}
        for i, (value, is_number) in enumerate(zip(self.start, self._numbers())):
            begin = size_in(value) if is_number and value.dtype is i64 else None
            if begin in begins and i not in self.counts and i not in self.settled:
                self.counts[i] = begins[begin]

    def _numbers(self) -> list[bool]:
        """Which of the values are Python numbers."""
        found: list[bool] = []

        def visit(c: Carried) -> None:
            if c.kind == "maybe":
                found.append(False)
            elif c.kind != "tree" and c.kind != "plain":
                found.append(c.kind == "number")
            for part in c.parts:
                visit(part)

        for c in self.carried:
            visit(c)
        return found

    # Leaves as values

    def _values(self, items: Sequence[Any], carried: Sequence[Carried]) -> list[Value]:
        """The values of carried variables, in the innermost graph.

        Raises: NotImplementedError when an item has another form than the variable has.
        """
        found: list[Value] = []
        for item, c in zip(items, carried):
            if c.kind == "tree":
                if type(item) is not type(c.init) or len(item) != len(c.parts):
                    raise NotImplementedError(
                        f"a loop changes {_named(c.init)} of {len(c.parts)} into {_named(item)}"
                    )
                found += self._values(item, c.parts)
            elif c.kind == "maybe":
                found += self._maybe(item, c)
            elif c.kind == "plain":
                if item is not c.init and item != c.init:
                    raise NotImplementedError(
                        f"a loop changes {c.init!r} into {_named(item)}, known when it runs only"
                    )
            elif c.kind == "number" and isinstance(item, torch.Tensor) and item.dim() == 0:
                if not (item.dtype is torch.bool and kind_of(c.init) is bool):
                    raise Promoted(c, type_of(self.r, item))
                found.append(value_of(self.r, item))
            elif c.kind == "tensor" and c.init.dim() == 0 and _is_one(item):
                found.append(one_of(self.r, item, type_of(self.r, c.init)))
            elif (c.kind == "tensor") != isinstance(item, torch.Tensor) or item is None:
                raise NotImplementedError(f"a loop changes {_named(c.init)} into {_named(item)}")
            else:
                found.append(value_of(self.r, item))
        return found

    def _maybe(self, item: Any, c: Carried) -> list[Value]:
        r = self.r
        if isinstance(item, Maybe):
            return [value_of(r, item.flag), *self._values([item.value], c.parts)]
        if _is_nothing(item):
            return [r.b.const(False, bool_), *self._values([c.init.value], c.parts)]
        return [r.b.const(True, bool_), *self._values([item], c.parts)]

    def _items(
        self, values: Any, carried: Sequence[Carried], counts: Mapping[int, Dim]
    ) -> list[Any]:
        """Carried variables as code holds them, from numbered values.

        Args: counts: numbers that are sizes.
        """
        found: list[Any] = []
        for c in carried:
            if c.kind == "tree":
                found.append(type(c.init)(self._items(values, c.parts, counts)))
            elif c.kind == "plain":
                found.append(c.init)
            elif c.kind == "maybe":
                flag = Truth(next(values)[1])
                inner = self._items(values, c.parts, counts)[0]
                found.append(Maybe(flag, inner, c.init.unbound))
            else:
                i, value = next(values)
                is_count = i in counts
                found.append(
                    self.r.shapes.symbolic(counts[i])
                    if is_count
                    else python_of(self.r, value, c.init)
                )
        return found

    # Recording

    def record(
        self, cond: Callable[[list[Any]], Value], body: Callable[[list[Any]], Sequence[Any]]
    ) -> tuple[Recorded, Recorded]:
        """Both blocks, with the inputs that were found necessary so far."""
        self.inside = [self._type(i, v) for i, v in enumerate(self.start)]
        items: list[Any] = []

        def begin(frame: Frame) -> None:
            values = enumerate([frame.input(t, f"v{i}") for i, t in enumerate(self.inside)])
            items[:] = self._items(values, self.carried, self.counts)
            for holder, count in self.written.items():
                self._enter(frame, holder, [next(values)[1] for _ in range(count)])

        test = self.blocks.record(lambda: [cond(items)], begin)
        inputs = test.frame.graph.inputs
        if any(v not in inputs for values in test.written.values() for v in values):
            raise NotImplementedError("a condition of a loop that updates a tensor in place")

        def run() -> list[Value]:
            before = list(_tensors(items))
            results = list(body(items))
            self._note_updates(before, list(_tensors(results)))
            found = self._values(results, self.carried)
            return found + [self.r.b.frame.local(v) for h in self.written for v in held(h)]

        return test, self.blocks.record(run, begin)

    def _enter(self, frame: Frame, holder: Holder, values: list[Value]) -> None:
        """Let a view or list hold ``values`` in the block that begins."""
        if isinstance(holder, ListValue):
            holder.set(values)
            return
        assert frame.parent is not None
        frame.replace(frame.parent.local(holder.read()), values[0])
        holder.value, holder.memory.version = values[0], holder.memory.version + 1
        holder.seen = holder.memory.version

    def _note_updates(self, before: list[torch.Tensor], after: list[torch.Tensor]) -> None:
        """Tensors that the body updates in place: each must be carried on itself."""
        for i, tensor in enumerate(before):
            if self.r.view(tensor).memory.version == 0:
                continue
            if i >= len(after) or after[i] is not tensor:
                raise NotImplementedError(
                    "a loop that updates a tensor in place and then goes on with another"
                )
            self.updated.add(i)

    def _type(self, i: int, value: Value) -> TensorType:
        shape = tuple(self.classes.get((i, axis), s) for axis, s in enumerate(value.shape))
        return TensorType(self.promoted.get(i, value.dtype), shape)

    def settles(self, step: Recorded) -> bool:
        """No more sizes change, no more memory is written, than was known."""
        new = {h: values for h, values in step.written.items() if h not in self.written}
        for holder, like in new.items():
            self.written[holder] = len(like)
            is_empty = isinstance(holder, ListValue) and holder.stacks is None
            self.start += empty(self.r, like) if is_empty else held(holder)
        if new or not self._same_types(step.results) or not self._same_classes(step.results):
            self._add_counts()
            return False
        return self._same_counts(step.results) and not self._constant(step.results)

    def _same_counts(self, results: Sequence[Value]) -> bool:
        """Numbers that were taken for a size become what it becomes, or are no such numbers."""
        following = {d.name: results[i].shape[axis] for (i, axis), d in self.classes.items()}
        wrong = [i for i, d in self.counts.items() if size_in(results[i]) != following[d.name]]
        for i in wrong:
            del self.counts[i]
        self.settled.update(wrong)
        return not wrong

    def _constant(self, results: Sequence[Value]) -> bool:
        """Take back classes of sizes that do not change."""
        same = {
            key for key, dim in self.classes.items()
            if results[key[0]].shape[key[1]] == dim
        }  # fmt: skip
        for key in same:
            dim = self.classes.pop(key)
            self.counts = {i: d for i, d in self.counts.items() if d != dim}
        self.settled.update(same)
        return bool(same)

    def _same_types(self, results: Sequence[Value]) -> bool:
        settled = True
        for i, (inside, value) in enumerate(zip(self.inside, results)):
            if inside.rank != value.rank or inside.dtype is not value.dtype:
                raise NotImplementedError(
                    f"a loop changes {inside} into {value.type}; give the variable one type"
                )
            for axis, (size, got) in enumerate(zip(inside.shape, value.shape)):
                if size != got and (i, axis) not in self.classes:
                    self._add_class(i, axis)
                    settled = False
        return settled

    def _add_class(self, i: int, axis: int) -> None:
        """The size may change: it shares a symbol with those that begin equal and are known to change."""
        begin = self.start[i].shape[axis]
        for (j, other), dim in self.classes.items():
            if self.start[j].shape[other] == begin:
                self.classes[i, axis] = dim
                return
        self.classes[i, axis] = self.r.shapes.fresh("l", max(bounds(begin)[0], 0))

    def _same_classes(self, results: Sequence[Value]) -> bool:
        """Split classes whose members become different sizes."""
        following: dict[tuple[str, Size], Dim] = {}
        first: dict[str, Size] = {}
        settled = True
        for (i, axis), dim in list(self.classes.items()):
            got = results[i].shape[axis]
            first.setdefault(dim.name, got)
            is_less = bounds(got)[0] < dim.bounds()[0]
            if got == first[dim.name] and not is_less:
                continue
            key = (dim.name, got)
            least = 0 if is_less else dim.bounds()[0]
            following.setdefault(key, self.r.shapes.fresh("l", least))
            self.classes[i, axis] = following[key]
            settled = False
        return settled

    # The node

    def finish(self, test: Recorded, step: Recorded) -> list[Any]:
        r, b = self.r, self.r.b
        arguments = align([test.frame, step.frame], len(self.inside))
        outputs = [*step.results, *(step.frame.here[a] for a in arguments)]
        graphs = [b.finish(test.frame, [test.results[0]]), b.finish(step.frame, outputs)]
        symbols = {d.name: d for d in self.classes.values()}
        sizes = tuple((d, r.shapes.fresh("r", d.bounds()[0])) for d in symbols.values())
        found = enumerate(as_tuple(b.while_(*self.start, *arguments, sizes=sizes, graphs=graphs)))
        after = {str(inside): result for inside, result in sizes}
        counts = {i: after[dim.name] for i, dim in self.counts.items()}
        results = self._items(found, self.carried, counts)
        for holder, count in self.written.items():
            self.blocks.write_back(holder, [next(found)[1] for _ in range(count)])
        return self._hand_on(results)

    def _hand_on(self, results: list[Any]) -> list[Any]:
        """Updated tensors are those from before the loop; others may be, when it runs not once."""
        after = list(_tensors(results))
        swaps: dict[int, torch.Tensor] = {}
        for i, init in enumerate(_tensors([c.init for c in self.carried])):
            if i in self.updated:
                self.blocks.write_back(self.r.view(init), [self.r.value(after[i])])
                swaps[id(after[i])] = init
            else:
                tie(self.r, init, after[i])
        return [_swapped(x, swaps) for x in results]


def _tensors(items: Any) -> Iterator[torch.Tensor]:
    """Tensors of carried variables, in order."""
    for x in items:
        if isinstance(x, torch.Tensor):
            yield x
        elif isinstance(x, (tuple, list)):
            yield from _tensors(x)
        elif isinstance(x, Maybe):
            yield from _tensors([x.value])


def _swapped(x: Any, swaps: dict[int, torch.Tensor]) -> Any:
    if isinstance(x, (tuple, list)):
        return type(x)(_swapped(item, swaps) for item in x)
    return swaps.get(id(x), x)

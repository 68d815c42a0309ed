"""A ``while_`` on its way to a form in which sizes and types stay the same."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.constants import size_in
from oarlock.capture.lowering.carried import (
    Carried,
    Changed,
    Filled,
    Listed,
    Mixed,
    Opened,
    Picked,
    Promoted,
)
from oarlock.capture.lowering.frames import Frame, align, as_tuple
from oarlock.capture.lowering.held import (
    Holder,
    Recorded,
    empty,
    held,
    is_mixed,
    is_nothing,
    is_one,
    named,
    narrow_flag,
    number_of,
    one_of,
    python_of,
    tie,
    type_of,
    value_of,
)
from oarlock.capture.lowering.kinds import (
    Either,
    Maybe,
    Truth,
    is_symbolic,
    kind_of,
)
from oarlock.capture.lowering.lists import ListValue, is_row, items_of, of_rows
from oarlock.capture.lowering.picks import Pick, are_objects, is_object, options_of, place_of, same
from oarlock.ir import Dim, DType, Size, TensorType, Value, bool_, bounds, i64
from oarlock.ir.scope import symbols_in

if TYPE_CHECKING:
    from oarlock.capture.lowering.blocks import Blocks

ROUNDS = 12
GUESSES = ("", "seen", "last")


def _is_other_list(init: Any, item: Any) -> bool:
    """Two lists that are not one, or two tuples of different lengths."""
    if not (is_row(init) and is_row(item)) or init is item:
        return False
    if isinstance(init, ListValue) or isinstance(item, ListValue):
        return True
    return type(init) is type(item) and len(init) != len(item)


class Loop:
    """A loop on its way to a form in which sizes and types stay the same.

    ``guess``: which sizes may change: those that the tape names (""), those that trips change
    ("seen"), which at the start of every trip but the first may be checked to be what they were at
    the first, as those are that only the last trip changes ("last").
    """

    def __init__(
        self, blocks: Blocks, carried: list[Carried], axes: Sequence[Collection[int]],
        guess: str = "",
    ) -> None:  # fmt: skip
        self.guess = guess
        self.blocks, self.r, self.carried, self.axes = blocks, blocks.r, carried, axes
        self.written: dict[Holder, int] = {}  # with the number of its values
        self.classes: dict[tuple[int, int], Dim] = {}  # (leaf, axis) of a size that changes
        self.promoted: dict[int, DType] = {}
        self.start = self._values([c.init for c in carried], carried)
        self.inside: list[TensorType] = []
        self.updated: set[int] = set()  # tensors that the body updates in place, by number
        self.counts: dict[int, Dim] = {}  # numbers that are always equal to a size that changes
        self.growing: set[tuple[int, int]] = set()  # likely sizes found to change in each trip
        self.settled: set[Any] = set()  # sizes and numbers found to be of no class
        self._expect()

    def _expect(self) -> None:
        """Sizes that the tape says may change, and numbers that begin as one of them."""
        at = 0
        if self.guess:
            return
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
        for i, (value, is_count) in enumerate(zip(self.start, self._numbers())):
            begin = size_in(value) if is_count and value.dtype is i64 else None
            if begin in begins and i not in self.counts and i not in self.settled:
                self.counts[i] = begins[begin]

    def _numbers(self) -> list[bool]:
        """Which of the values are Python numbers."""
        found: list[bool] = []

        def visit(c: Carried) -> None:
            if c.kind in ("maybe", "either"):
                found.append(False)
            elif c.kind == "list":
                found.extend(False for _ in c.init.known())
            elif c.kind not in ("tree", "plain"):
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
            if isinstance(item, Maybe) and c.kind in ("tensor", "number", "tree"):
                item = self._there(item, c)
            if c.kind == "list":
                found += self._rows(item, c)
            elif c.kind in ("tree", "plain") and _is_other_list(c.init, item):
                raise Listed(c, items_of(self.r, item))
            elif c.kind == "tree":
                if type(item) is not type(c.init) or len(item) != len(c.parts):
                    raise NotImplementedError(
                        f"a loop changes {named(c.init)} of {len(c.parts)} into {named(item)}"
                    )
                found += self._values(item, c.parts)
            elif c.kind == "maybe":
                found += self._maybe(item, c)
            elif c.kind == "pick" or (
                c.kind == "plain" and not same(item, c.init) and are_objects(c.init, item)
            ):
                found.append(self._place(item, c))
            elif c.kind == "plain":
                kinds = (torch.Tensor, Maybe, tuple)
                if is_nothing(c.init) and (isinstance(item, kinds) or is_one(item)):
                    raise Filled(c, item.value if isinstance(item, Maybe) else item)
                if is_symbolic(item) or (
                    type(item) is type(c.init)
                    and type(item) in (bool, int, float)
                    and item != c.init
                ):
                    raise Promoted(c)
                if item is not c.init and item != c.init:
                    raise NotImplementedError(
                        f"a loop changes {c.init!r} into {named(item)}, known when it runs only"
                    )
            elif c.kind == "either":
                found += self._either(item, c)
            elif c.kind in ("number", "tensor") and is_mixed(c.init, item):
                raise Mixed(c, item)
            elif c.kind == "number" and isinstance(item, torch.Tensor) and item.dim() == 0:
                if kind_of(c.init) is not bool:
                    raise NotImplementedError(f"a loop changes {named(c.init)} into a truth")
                found.append(value_of(self.r, item))
            elif c.kind == "tensor" and c.init.dim() == 0 and is_one(item):
                found.append(one_of(self.r, item, type_of(self.r, c.init)))
            elif is_nothing(item):
                raise Opened(c)
            elif (c.kind == "tensor") != isinstance(item, torch.Tensor):
                raise Changed(f"a loop changes {named(c.init)} into {named(item)}")
            else:
                found.append(value_of(self.r, item))
        return found

    def _either(self, item: Any, c: Carried) -> list[Value]:
        """The values of a narrow number or a wide one."""
        init, wide = c.init, c.init.wide
        if not is_one(item):
            raise Changed(f"a loop changes {named(init.number)} into {named(item)}")
        number = number_of(item, wide, c.parts[0].init)
        if kind_of(number) is not kind_of(init.number):
            raise NotImplementedError(f"a loop changes {named(init.number)} into {named(number)}")
        own = one_of(self.r, item, type_of(self.r, wide))
        rest = self._values([number, python_of(self.r, own, wide)], c.parts)
        return [narrow_flag(self.r, item, wide), *rest]

    def _there(self, item: Maybe, c: Carried) -> Any:
        """The value of an item that must be there; a variable that may be None is so from the start."""
        if not item.unbound:
            raise Opened(c)
        self.r.lowering.expect(item)
        return item.value

    def _place(self, item: Any, c: Carried) -> Value:
        """Where an object is among those that the variable may be."""
        if not is_object(item):
            raise NotImplementedError(f"a loop changes one of several objects into {named(item)}")
        options = options_of((c.init, item))
        if c.kind == "plain" or len(options) > len(c.init.options):
            raise Picked(c, options)
        return place_of(self.r, item, options)

    def _rows(self, item: Any, c: Carried) -> list[Value]:
        """The stacks of a list."""
        own = items_of(self.r, item)
        if own.axes.keys() - c.init.axes.keys():
            raise Listed(c, own)
        own = own.laid_out(c.init.axes)
        stacks = empty(self.r, c.init.known()) if own.stacks is None else own.known()
        return [self.r.b.frame.local(v) for v in stacks]

    def _maybe(self, item: Any, c: Carried) -> list[Value]:
        r = self.r
        if isinstance(item, Maybe):
            return [value_of(r, item.flag), *self._values([item.value], c.parts)]
        if is_nothing(item):
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
            elif c.kind == "pick":
                found.append(Pick(next(values)[1], c.init.options))
            elif c.kind == "list":
                rows = [next(values)[1] for _ in c.init.known()]
                found.append(of_rows(self.r, rows, c.init))
            elif c.kind == "either":
                flag = Truth(next(values)[1])
                found.append(Either(flag, *self._items(values, c.parts, counts)))
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

        def begin(frame: Frame, of_trip: bool = False) -> None:
            inputs = [frame.input(t, f"v{i}") for i, t in enumerate(self.inside)]
            values = enumerate(
                self._refined(inputs) if of_trip and self.guess == "last" else inputs
            )
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

        return test, self.blocks.record(run, functools.partial(begin, of_trip=True))

    def _refined(self, inputs: Sequence[Value]) -> list[Value]:
        """Inputs of a trip with the sizes that the loop begins with."""
        found = []
        for i, (value, start) in enumerate(zip(inputs, self.start)):
            shape = tuple(
                self._taken((i, axis), n, start.shape[axis]) for axis, n in enumerate(value.shape)
            )
            found.append(value if shape == value.shape else self.r.b.refine(value, shape=shape))
        return found

    def _grows(self, results: Sequence[Value]) -> bool:
        """Some size that was taken to stay is another after each trip."""
        new = set()
        for key in self.classes if self.guess == "last" else ():
            low, high = bounds(results[key[0]].shape[key[1]] - self.start[key[0]].shape[key[1]])
            if low > 0 or (high is not None and high < 0):
                new.add(key)
        new -= self.growing
        self.growing |= new
        return bool(new)

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
        if (
            new or not self._same_types(step.results) or self._grows(step.results)
            or not self._same_classes(step.results)
        ):  # fmt: skip
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
            if results[key[0]].shape[key[1]] in (
                dim, self._taken(key, dim, self.start[key[0]].shape[key[1]])
            )
        }  # fmt: skip
        for key in same:
            dim = self.classes.pop(key)
            self.counts = {i: d for i, d in self.counts.items() if d != dim}
        self.settled.update(same)
        return bool(same)

    def _taken(self, key: tuple[int, int], size: Size, begin: Size) -> Size:
        """What a size is inside of a trip."""
        is_taken = self.guess == "last" and key not in self.growing and begin != 0
        return begin if is_taken else size

    def _same_types(self, results: Sequence[Value]) -> bool:
        settled = True
        for i, (inside, value) in enumerate(zip(self.inside, results)):
            if inside.rank != value.rank or inside.dtype is not value.dtype:
                raise Changed(
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
        self._check_lists()
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

    def _check_lists(self) -> None:
        """Lists that a loop fills have items whose sizes are known before it."""
        known, at = self.blocks.known(), len(self._numbers())
        for holder, count in self.written.items():
            values, at = self.start[at : at + count], at + count
            if not isinstance(holder, ListValue):
                continue
            for i, value in enumerate(values):
                unknown = [a for a, n in enumerate(value.shape[1:]) if not symbols_in(n) <= known]
                if unknown:
                    if not holder.axes and len(unknown) == 1:
                        self.r.layouts.uneven(holder.key, i, unknown[0])
                    raise NotImplementedError(
                        "a list of run-time length whose items differ in sizes"
                    )

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
        elif isinstance(x, Either):
            yield from _tensors([x.wide])


def _swapped(x: Any, swaps: dict[int, torch.Tensor]) -> Any:
    if isinstance(x, (tuple, list)):
        return type(x)(_swapped(item, swaps) for item in x)
    return swaps.get(id(x), x)

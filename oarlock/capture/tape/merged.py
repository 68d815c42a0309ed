"""Containers and objects that stand for one of two: what happens to one name of them must not be missed
under another.

Where the ways of a decision leave different lists in a variable, the trace goes on with a new list that
holds the joined items.  That is right as long as nobody changes one of the three and reads another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CellType
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.slots import attributes_of
from oarlock.capture.tape.arguments import is_record
from oarlock.capture.tape.forks import ForkNeeded
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer

_DEPTH = 8


@dataclass(eq=False)
class Merge:
    """``made`` stands for one of ``parts``; ``older``: those that more than it may lead to.

    ``number``: the outermost decision that chooses, which could be followed both ways; ``event``:
    what is merged at one place has the parts of one way at one index.
    """

    made: Any
    parts: tuple[Any, ...]
    older: tuple[Any, ...]
    number: int | None
    event: int

    def may_be(self, other: Merge) -> bool:
        """Whether both may stand for one object; they have a part in common."""
        if self.event != other.event or len(self.parts) != len(other.parts):
            return True
        return any(a is b for a, b in zip(self.parts, other.parts))


@dataclass(eq=False)
class Family:
    """Lists of the run that share items, objects that were put into them and stand-ins for items."""

    number: int | None
    lists: list[Any] = field(default_factory=list)
    inner: list[Any] = field(default_factory=list)
    drawn: list[Any] = field(default_factory=list)
    popped: set[int] = field(default_factory=set)

    def others(self, obj: Any) -> Iterator[Any]:
        """What else changes, or may change, when ``obj`` does."""
        is_drawn = any(x is obj for x in self.drawn)
        if not is_drawn or id(obj) not in self.popped or any(x is obj for x in self.inner):
            yield from self.lists
        yield from (x for x in self.drawn if x is not obj)
        if is_drawn:
            yield from (x for x in self.inner if x is not obj)


class Merged:
    """What is one of two in a trace, and what may no longer be what its name says."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.merges: list[Merge] = []
        self.by_id: dict[int, list[Merge]] = {}
        self.event = 0
        self.are_tensors_told = False  # whether two arguments are one makes a difference
        self.are_objects_told = False
        self.stale: dict[int, tuple[Any, int | None]] = {}
        self.clock, self.changes = 0, {}
        self.notes: dict[int, list[tuple[Any, int]]] = {}
        self.families: dict[int, tuple[Any, Family]] = {}

    def add(self, made: Any, parts: tuple[Any, ...], older: tuple[Any, ...]) -> None:
        merge = Merge(made, parts, older, self.tracer.control.number, self.event)
        self.merges.append(merge)
        self.index(merge)

    def now(self) -> tuple[Any, ...]:
        """All that is known, to go back to where a trace is given up."""
        return list(self.merges), dict(self.stale)

    def back(self, then: tuple[Any, ...]) -> None:
        self.merges, self.stale = list(then[0]), dict(then[1])
        self.by_id = {}
        for merge in self.merges:
            self.index(merge)

    def index(self, merge: Merge) -> None:
        for x in {id(x): x for x in (merge.made, *merge.parts)}.values():
            self.by_id.setdefault(id(x), []).append(merge)

    def held(self) -> Iterator[int]:
        """Ids of the objects that are kept here, for each time."""
        for merge in self.merges:
            yield from map(id, (merge.made, *merge.parts, *merge.older))
        yield from self.stale
        yield from self.tracer.progress.held()
        yield from self.tracer.tables.places
        yield from (id(x) for notes in self.notes.values() for x, _ in notes)
        yield from self.families
        for family in {id(f): f for _, f in self.families.values()}.values():
            yield from map(id, (*family.lists, *family.inner, *family.drawn))

    def others(self, obj: Any, depth: int = _DEPTH) -> Iterator[tuple[Any, Merge]]:
        """What may be the same object as ``obj`` at run time, and yet is another one here."""
        seen = {id(obj)}
        for found, merge in (*self.above(obj, depth, set()), *self.below(obj, (), depth, set())):
            if id(found) not in seen:
                seen.add(id(found))
                yield found, merge

    def above(self, obj: Any, depth: int, seen: set[int]) -> Iterator[tuple[Any, Merge]]:
        """What stands for ``obj`` or others, and what stands for that."""
        for merge in self.by_id.get(id(obj), ()) if depth else ():
            if merge.made is not obj and id(merge) not in seen:
                seen.add(id(merge))
                yield merge.made, merge
                yield from self.above(merge.made, depth - 1, seen)

    def below(
        self, obj: Any, path: tuple[Merge, ...], depth: int, seen: set[int]
    ) -> Iterator[tuple[Any, Merge]]:
        """What ``obj`` may stand for, and what else stands for that; ``path``: how it was reached."""
        for merge in self.by_id.get(id(obj), ()) if depth else ():
            if merge.made is not obj or id(merge) in seen:
                continue
            seen.add(id(merge))
            here = (*path, merge)
            for part in merge.older:
                yield part, merge
            for part in merge.parts:
                for m in self.by_id[id(part)]:
                    if all(m.made is not up.made and m.may_be(up) for up in here):
                        yield m.made, m
                yield from self.below(part, here, depth - 1, seen)

    def changed(self, obj: Any) -> None:
        """``obj`` is about to change."""
        self.used(obj)
        if self.tracer.objects.source(obj) is not None:
            self.are_objects_told = True
        if not isinstance(obj, CellType):
            self.clock += 1
            self.changes[id(obj)] = self.clock
        if id(obj) in self.by_id:
            for other, merge in self.others(obj):
                self.stale[id(other)] = (other, merge.number)
        _, family = self.families.get(id(obj), (None, None))
        if family is not None and not any(x is obj for x in family.lists):
            for other in family.others(obj):
                if not (_is_of_run(obj) and _is_of_run(other)):
                    self.stale[id(other)] = (other, family.number)

    def used(self, obj: Any) -> None:
        """What ``obj`` holds is about to be read."""
        self.tracer.noticing.uses(obj)
        if id(obj) in self.stale and self.stale[id(obj)][0] is obj:
            self.refuse(
                obj, self.stale[id(obj)][1], "is changed under one name and read by another"
            )

    def compared(self, a: Any, b: Any) -> None:
        """``a is b``, which are two objects here."""
        if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
            self.are_tensors_told |= a is not b
        elif is_changeable(a) and is_changeable(b):
            self.are_objects_told = True
        for other, merge in self.others(a) if a is not b else ():
            if other is b:
                self.refuse(a, merge.number, "is compared with `is`")

    def returned(self, trees: Any) -> None:
        """What the caller gets to see at the end."""
        found: dict[int, Any] = {}
        _walk(trees, found, _DEPTH)
        for x in found.values():
            self.used(x)
            for other, merge in self.others(x, 1):
                if id(other) in found or self.tracer.objects.source(other) is not None:
                    self.refuse(
                        x, merge.number, "is returned beside one of the two, or one from outside"
                    )

    # ---- items of lists of run-time length

    def noted(self, items: Any, args: Any) -> None:
        """What ``args`` hold now is recorded as what list ``items`` gets."""
        found: dict[int, Any] = {}
        _walk(args, found, _DEPTH)
        found.pop(id(items), None)
        if not found:
            return
        self.notes.setdefault(id(items), []).extend((x, self.clock) for x in found.values())
        if items.val is not None:
            self.grown(items)

    def is_noted(self, x: Any) -> bool:
        """``x`` is recorded as part of a list."""
        notes = (y for held in self.notes.values() for y, _ in held)
        return id(x) in self.families or any(y is x for y in notes)

    def grown(self, items: Any) -> None:
        """``items`` is a list of the run from now on: its items are what was recorded of them."""
        for x, when in self.notes.pop(id(items), ()):
            family = self.family(items)
            if self.changes.get(id(x), 0) > when and not _is_of_run(x):
                self.refuse(x, family.number, "is changed after it was put into a list")
            family.inner.append(x)
            self.families[id(x)] = (x, family)

    def family(self, items: Any) -> Family:
        if id(items) not in self.families:
            self.families[id(items)] = (items, Family(self.tracer.control.number, [items]))
        return self.families[id(items)][1]

    def drawn(self, items: Any, made: Any, is_popped: bool) -> None:
        """``made`` stands for an item of ``items``."""
        found: dict[int, Any] = {}
        _walk(made, found, _DEPTH)
        for x in found.values():
            family = self.family(items)
            family.drawn.append(x)
            family.popped |= {id(x)} if is_popped else set()
            self.families[id(x)] = (x, family)

    def derived(self, items: Any, source: Any) -> None:
        """``items`` has items of ``source``."""
        if id(source) in self.families:
            family, mine = self.family(source), self.family(items)
            if family is mine:
                return
            for name in ("lists", "inner", "drawn"):
                getattr(family, name).extend(getattr(mine, name))
                self.families |= {id(x): (x, family) for x in getattr(mine, name)}
        elif source.val is None:
            self.noted(items, list.copy(source))

    def refuse(self, obj: Any, number: int | None, why: str) -> None:
        """Raises: ForkNeeded where the decision can be followed both ways; UnsupportedError."""
        kind = next(c.__name__ for c in type(obj).__mro__ if c.__name__ != "RunList")
        refusal = UnsupportedError(
            f"{self.tracer.where()}: a {kind} that is one of several, as data decide, {why}; make a "
            f"new {kind} in place of changing it, or keep its values in variables"
        )
        _, family = self.families.get(id(obj), (None, None))
        for one in (obj, *(family.lists if family is not None else ())):
            self.tracer.tables.blame(refusal, one)
        if number is None:
            raise refusal
        raise ForkNeeded(number, refusal)


def _is_of_run(x: Any) -> bool:
    """A list of the run: under each of its names it is one object in the replay."""
    return isinstance(x, list) and getattr(x, "val", None) is not None


def is_changeable(x: Any) -> bool:
    return isinstance(x, (list, dict, set, deque)) or is_record(x)


def _walk(x: Any, found: dict[int, Any], depth: int) -> None:
    if not depth or id(x) in found:
        return
    if isinstance(x, tuple):
        inner: Any = x
    elif isinstance(x, list):
        inner = list.__iter__(x)
    elif isinstance(x, (dict, deque, set)):
        inner = list(dict.values(x)) if isinstance(x, dict) else x
    elif is_record(x):
        inner = list(attributes_of(x).values())
    else:
        return
    if not isinstance(x, tuple):
        found[id(x)] = x
    for item in inner:
        _walk(item, found, depth - 1)

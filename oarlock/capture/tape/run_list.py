"""``RunList``: what code holds for a list whose length may be known at run time."""

from __future__ import annotations

import operator
from collections import deque
from copy import deepcopy
from typing import Any

import torch

from oarlock.capture.convert import searching
from oarlock.capture.convert.sequences import own_items
from oarlock.capture.tape import runtime
from oarlock.capture.tape.join import Same
from oarlock.capture.tape.nodes import Block, Val, leaves
from oarlock.capture.tape.numbers import Number
from oarlock.errors import UnsupportedError

LENGTHS = (2, 3)  # in both worlds, of a list whose length depends on data


class Items:
    """What the items of a list may be: the joint of all.  Lists that may be one object share it.

    ``home``: where the list is made, the outermost one of several; ``is_deep``: lists that are put
    in are of the run too, so that what happens to them through this list is not missed.
    """

    def __init__(self) -> None:
        self.joint: Any = None
        self.home: Block | None = None
        self.is_deep = False
        self.next: Items | None = None

    def root(self) -> Items:
        found = self
        while found.next is not None:
            found = found.next
        return found


class RunList(list):
    """A list of a trace: an ordinary one, until a decision on data changes its length.

    Then ``val`` is a list of the run, and every method is a call on the tape.
    """

    tracer: Any = None
    val: Val | None = None
    born: Val | None = None  # the list at run time, when it becomes one of the run
    changed: Any = None  # the line that changed it last
    source: Any = None  # of a list that exists before the call
    observed: Any = None  # what guards its content
    cell: Any = None  # the Items
    site: Any = None  # the line of the code that makes it
    lengths: tuple[int, int] | None = None  # in both worlds, where that does not depend on data
    home: Any = None  # the block where it has these lengths
    kind: Any = list  # of the replay
    given: Any = None  # what its items were made of, where they are there before their turn

    @property
    def items(self) -> Items:
        if self.cell is None:
            self.cell = Items()
            self.cell.home = None if self.born is None else self.born.block
        return self.cell.root()

    @property
    def item(self) -> Any:
        """The joint of its items."""
        return None if self.cell is None else self.items.joint

    @item.setter
    def item(self, joint: Any) -> None:
        self.items.joint = joint

    def run_time_length(self) -> Any:
        return self.tracer.lists.length(self)

    def run_time_item(self, index: Any) -> Any:
        self.tracer.noticing.look(self)
        return self.tracer.lists.get(self, index)

    def touched(self, op: Any = None, *args: Any, at: Any = None) -> bool:
        """Whether the list is an ordinary one, about to be changed by ``op(self, *args)``; one that is
        changed at a place that is known at run time is of the run from now on."""
        self.used()
        if self.val is None and self.source is None and _is_place(at):
            self.tracer.journal.touch(self)
            self.tracer.lists.materialise(self, [])
        if self.val is None and self.source is not None:
            self.tracer.lists.materialise(self, [])
        if self.val is None and self.tracer is not None:
            self.tracer.journal.touch(self)
            self.tracer.lists.shadow(self, op, args)
        return self.val is None

    def used(self) -> None:
        """What the list holds is about to be read or changed."""
        if self.tracer is not None:
            self.tracer.merged.used(self)

    def observe(self) -> None:
        """The content of a list is about to be used; that of one from outside is looked at."""
        self.used()
        if self.val is None and self.observed is not None:
            observed, self.observed = self.observed, None
            observed()

    def __iter__(self) -> Any:
        if self.val is not None:
            return iter([self[i] for i in range(len(self))])
        self.observe()
        return list.__iter__(self)

    def __len__(self) -> int:
        if self.val is not None:
            return self.tracer.concrete(self.run_time_length(), "the length of a list")
        self.observe()
        return list.__len__(self)

    def __bool__(self) -> bool:
        if self.val is not None:
            return bool(self.run_time_length() > 0)
        self.observe()
        return list.__len__(self) > 0

    def __getitem__(self, index: Any) -> Any:
        if self.val is not None:
            return self.tracer.lists.get(self, index)
        self.observe()
        if isinstance(index, slice) and any(map(_is_number, (index.start, index.stop, index.step))):
            return self.tracer.lists.derived(operator.getitem, (self, index), [list.copy(self)])
        found = list.__getitem__(self, index)
        return self.tracer.lists.new(found) if isinstance(index, slice) else found

    def __setitem__(self, index: Any, x: Any) -> None:
        if isinstance(index, slice):
            self.set_slice(index, x)
        elif self.touched(operator.setitem, index, x, at=index):
            list.__setitem__(self, index, x)
        else:
            self.tracer.lists.put(self, operator.setitem, (index,), x)

    def set_slice(self, index: slice, items: Any) -> None:
        if self.val is None and is_run(items):
            self.tracer.journal.touch(self)
            self.tracer.lists.materialise(self, [])
        if not is_run(items):
            items = list(items)
        if self.touched(operator.setitem, index, items, at=index):
            list.__setitem__(self, index, items)
        else:
            self.tracer.lists.replace(self, index, items)

    def append(self, x: Any) -> None:
        if self.touched(list.append, x):
            list.append(self, x)
        else:
            self.tracer.lists.put(self, list.append, (), x)

    def insert(self, index: Any, x: Any) -> None:  # type: ignore[override]
        if self.touched(list.insert, index, x, at=index):
            list.insert(self, index, x)
        else:
            self.tracer.lists.put(self, list.insert, (index,), x)

    def extend(self, items: Any) -> None:
        items = own_items(items)
        if not is_run(items) and self.touched(list.extend, items):
            list.extend(self, items)
        elif is_run(items):
            self.tracer.lists.extend(self, items)
        else:
            for x in items:
                self.append(x)

    def __iadd__(self, items: Any) -> Any:
        self.extend(items)
        return self

    def __add__(self, items: Any) -> Any:
        if self.val is None and not is_run(items):
            return self.tracer.lists.new(list.__add__(self, items))
        return self.tracer.lists.joined(self, items)

    def __radd__(self, items: Any) -> Any:
        return self.tracer.lists.joined(items, self)

    def __reversed__(self) -> Any:
        return reversed(list(self))

    def copy(self) -> Any:
        self.observe()
        return self[:] if self.val is not None else self.tracer.lists.new(list.copy(self))

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if self.val is not None:
            memo[id(self)] = found = self.tracer.lists.derived(runtime.deep_copies, (self,), [self])
            return found
        self.observe()
        items = [deepcopy(x, memo) for x in list.__iter__(self)]
        memo[id(self)] = found = self.tracer.lists.new(items)
        return found

    def pop(self, index: Any = -1) -> Any:
        if self.touched(list.pop, index, at=index):
            return list.pop(self, index)
        return self.tracer.lists.call(self, list.pop, (index,), self.item)

    def __delitem__(self, index: Any) -> None:
        if self.touched(operator.delitem, index, at=index):
            list.__delitem__(self, index)
        else:
            self.tracer.lists.call(self, operator.delitem, (index,), Same(None))

    def __imul__(self, n: Any) -> Any:  # type: ignore[override]
        if self.touched(list.__imul__, n):
            list.__imul__(self, n)
        else:
            self.tracer.lists.call(self, list.__imul__, (n,), Same(None))
        return self

    def __mul__(self, n: Any) -> Any:  # type: ignore[override]
        if self.val is None and isinstance(n, int):
            return self.tracer.lists.new(list.__mul__(self, n))
        return self.tracer.lists.derived(operator.mul, (self, n), [self])

    __rmul__ = __mul__

    def remove(self, x: Any) -> None:
        if self.is_searched(x):
            del self[self.index(x)]
        elif self.touched(list.remove, x, at=(x, *list.__iter__(self))):
            list.remove(self, x)
        else:
            self.tracer.lists.call(self, list.remove, (x,), Same(None))

    def sort(self, **options: Any) -> None:
        from oarlock.capture.convert.ordering import keys_by, sorted_

        if self.val is not None:
            keys, reverse = keys_by(self, options.get("key")), bool(options.get("reverse", False))
            self.tracer.lists.call(self, runtime.sort, (keys, reverse), Same(None))
            return
        self.observe()
        self[:] = sorted_(list.copy(self), **options)

    def is_searched(self, x: Any) -> bool:
        """Whether finding ``x`` calls methods of the user."""
        return self.val is None and searching.is_searched(list.__iter__(self), x)

    def index(self, x: Any, *bounds: Any) -> Any:
        if self.is_searched(x):
            return searching.index(self, x, *bounds)
        return self.asked(self.kind.index, x, *bounds)

    def count(self, x: Any) -> Any:
        if self.is_searched(x):
            return searching.count(self, x)
        return self.asked(self.kind.count, x)

    def asked(self, op: Any, *args: Any) -> Any:
        """The number that ``op`` gives, at run time where the items are known then."""
        self.observe()
        items = [*list.__iter__(self), *args]
        if self.val is None and not any(map(self.tracer.is_symbolic, items)):
            return op(self, *args)
        return self.tracer.number(op, (self, *args), 1, True)

    def clear(self) -> None:
        if self.touched(list.clear):
            list.clear(self)
        else:
            self.tracer.lists.call(self, list.clear, (), Same(None))

    def reverse(self) -> None:
        if self.touched(list.reverse):
            list.reverse(self)
        else:
            self.tracer.lists.call(self, list.reverse, (), Same(None))


class RunTuple(RunList):
    """A tuple whose length is known at run time."""

    run_time_tuple = True
    kind = tuple

    def __iadd__(self, items: Any) -> Any:
        return self + items

    def __hash__(self) -> int:  # type: ignore[override]
        raise UnsupportedError(
            f"{self.tracer.where()}: a tuple whose length is known at run time is a key; make a table "
            f"of it in the function, or take a text or number for a key"
        )

    def __getattribute__(self, name: str) -> Any:
        if name in _OF_LISTS:
            raise AttributeError(f"'tuple' object has no attribute {name!r}")
        return super().__getattribute__(name)

    def __setitem__(self, index: Any, x: Any) -> None:
        raise TypeError("'tuple' object does not support item assignment")


_OF_LISTS = frozenset(vars(list)) - frozenset(vars(tuple)) - {"__setitem__", "__iadd__"}


def _comparison(name: str) -> Any:
    """``<`` and its like, at run time where the length of one side is known then."""
    op, plain = getattr(operator, name), getattr(list, name)

    def run(self: RunList, other: Any) -> Any:
        if _kind(self) is not _kind(other):
            return NotImplemented
        if isinstance(other, deque):
            other = list(other)  # as the replay has it
        self.observe()
        if isinstance(other, RunList):
            other.observe()
        if is_run(self) or is_run(other):
            return self.tracer.number(op, (self, other), True, True)
        return plain(self, other)

    return run


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(RunList, f"__{_name}__", _comparison(f"__{_name}__"))


def _kind(x: Any) -> type | None:
    """The type that Python's own comparison asks for."""
    if isinstance(x, tuple) or hasattr(type(x), "run_time_tuple"):
        return tuple
    if isinstance(x, deque) or hasattr(type(x), "run_time_deque"):
        return deque
    return list if isinstance(x, list) else None


def is_run(x: Any) -> bool:
    return isinstance(x, RunList) and x.val is not None


def _is_number(x: Any) -> bool:
    return isinstance(x, (Number, torch.Tensor))


def _is_place(x: Any) -> bool:
    """A place in a list, or several, that is known at run time."""
    return any(map(_is_number, leaves(x)))

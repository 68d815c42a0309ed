"""Lists whose length is known at run time."""

from __future__ import annotations

import operator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from oarlock.capture.convert.state import Text
from oarlock.capture.tape import runtime
from oarlock.capture.tape.join import (
    Joiner,
    Leaf,
    Many,
    Same,
    holds_run_time,
    item_of,
    keys_of,
    leaves_of,
)
from oarlock.capture.tape.loops import same_type, wider
from oarlock.capture.tape.nodes import Block, Call, Val, blocks_of, leaves
from oarlock.capture.tape.numbers import Number
from oarlock.errors import UnsupportedError

if TYPE_CHECKING:
    from oarlock.capture.tape.tracer import Tracer


LENGTHS = (2, 3)  # in both worlds, of a list whose length depends on data
STEPS: dict[Any, int] = {list.append: 1, list.insert: 1, list.pop: -1, operator.getitem: 0,
                         operator.setitem: 0, list.reverse: 0}  # fmt: skip


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
    source: Any = None  # of a list that exists before the call
    observed: Any = None  # what guards its content
    cell: Any = None  # the Items
    site: Any = None  # the line of the code that makes it
    lengths: tuple[int, int] | None = None  # in both worlds, where that does not depend on data
    home: Any = None  # the block where it has these lengths

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
        if self.val is None and _is_run(items):
            self.tracer.journal.touch(self)
            self.tracer.lists.materialise(self, [])
        if not _is_run(items):
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
        if not _is_run(items) and self.touched(list.extend, items):
            list.extend(self, items)
        elif _is_run(items):
            self.tracer.lists.extend(self, items)
        else:
            for x in items:
                self.append(x)

    def __iadd__(self, items: Any) -> Any:
        self.extend(items)
        return self

    def __add__(self, items: Any) -> Any:
        if self.val is None and not _is_run(items):
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
        if self.touched(list.remove, x):
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

    def index(self, x: Any, *bounds: Any) -> Any:
        return self.asked(list.index, x, *bounds)

    def count(self, x: Any) -> Any:
        return self.asked(list.count, x)

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

    def __iadd__(self, items: Any) -> Any:
        return self + items

    def __getattribute__(self, name: str) -> Any:
        if name in _OF_LISTS:
            raise AttributeError(f"'tuple' object has no attribute {name!r}")
        return super().__getattribute__(name)

    def __setitem__(self, index: Any, x: Any) -> None:
        raise TypeError("'tuple' object does not support item assignment")


_OF_LISTS = frozenset(vars(list)) - frozenset(vars(tuple)) - {"__setitem__", "__iadd__"}


def _is_run(x: Any) -> bool:
    return isinstance(x, RunList) and x.val is not None


def _is_number(x: Any) -> bool:
    return isinstance(x, (Number, torch.Tensor))


def _is_place(x: Any) -> bool:
    """A place in a list, or several, that is known at run time."""
    return any(map(_is_number, leaves(x)))


def list_of(*items: Any) -> list[Any]:
    return list(items)


class Lists:
    """The run-time lists of a trace."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.learned: list[
            Block | None
        ] = []  # homes of lists whose items got another type, in order
        self.all: list[RunList] = []

    def new(self, items: Any = ()) -> RunList:
        found = RunList(items)
        found.tracer = self.tracer
        self.all.append(found)
        self.tracer.journal.create(found)
        found.born = Val(self.tracer.block, found)
        self.shadowed(list_of, tuple(list.__iter__(found)), found.born, found)
        found.site = self.tracer.tables.site()
        if found.site in self.tracer.tables.sites:
            count = list.__len__(found)
            found.items.is_deep = True
            self.materialise(found, [])
            found.home, found.lengths = self.tracer.block, (count, count)
        return found

    def run(self, lengths: Any, is_data: bool) -> RunList:
        """A list that a call of the run gives."""
        found = RunList()
        found.tracer = self.tracer
        found.val = found.born = Val(self.tracer.block, found)
        self.all.append(found)
        found.home, found.lengths = self.tracer.block, None if is_data else tuple(lengths)
        return found

    def outer(self, items: list[Any], source: Any, observed: Any = None) -> RunList:
        """The stand-in of a list that exists before the call."""
        found = RunList(items)
        found.tracer, found.source, found.observed = self.tracer, source, observed
        found.born = Val(self.tracer.root, found, str(source))
        return found

    def shadow(self, obj: RunList, op: Any, args: tuple) -> None:
        """Record what happens to a list, in case that it becomes one of the run later."""
        self.shadowed(op, (obj.born, *args), None, obj)

    def shadowed(self, op: Any, args: tuple, outs: Any, obj: RunList) -> None:
        tracer = self.tracer
        where = tracer.where()
        call = Call(op, tracer.noted(args), {}, outs, where)
        call.shadow = obj  # type: ignore[attr-defined]
        tracer.merged.noted(obj, args)
        tracer.block.nodes.append(call)

    def grow(self, a: Any, b: Any, old: Any) -> bool:
        """Make run-time lists of those whose length two paths leave different; whether there were."""
        grown = False
        for key, (obj, before) in old.items():
            if not isinstance(obj, list) or _is_run(obj):
                continue
            x = a.get(key, (obj, before))[1]
            y = before if b is None else b.get(key, (obj, before))[1]
            if len(x) != len(y):
                self.materialise(obj, [*x, *y])
                grown = True
        return grown

    def materialise(self, obj: Any, seen: list[Any]) -> None:
        """From here on ``obj`` is a list of the run; ``seen``: items that it will hold."""
        tracer = self.tracer
        if not isinstance(obj, RunList):
            raise UnsupportedError(
                f"{tracer.where()}: a list from outside the function grows where data decides; "
                f"build a new list in the function and extend the other one once, after it"
            )
        items = list.copy(obj)
        obj.val = obj.born
        if obj.source is not None:
            tracer.inputs.add(obj.val, obj.source, obj)
            tracer.merged.are_objects_told = True
        list.clear(obj)
        for x in [*items, *seen]:
            self.learn(obj, x)
        tracer.merged.grown(obj)
        tracer.objects.places.pop(id(obj), None)

    def learn(self, obj: RunList, x: Any) -> None:
        """``obj`` may hold ``x``."""
        joiner, where = Joiner(self.tracer.val), self.tracer.where()
        if obj.items.is_deep:
            self.deepen(x)
        new = _loose(joiner, x, where) if obj.item is None else merged(joiner, obj.item, x, where)
        if obj.item is None or not same_type(obj.item, new):
            self.learned.append(obj.items.home)
        obj.item = new

    def deepen(self, x: Any) -> None:
        """Lists in ``x`` are of the run from now on, and so are lists in them.

        Raises: Follow where one is in another list already, which holds a copy of it at run time.
        """
        for inner in leaves(x):
            if not isinstance(inner, RunList) or (inner.items.is_deep and inner.val is not None):
                continue
            if inner.val is None and self.tracer.merged.is_noted(inner):
                self.tracer.tables.refollow(inner)
            inner.items.is_deep = True
            if inner.val is None:
                self.tracer.journal.touch(inner)
                self.materialise(inner, [])

    def holder(self, val: Val) -> RunList:
        """What knows the items of a container that is no list."""
        found = RunList()
        found.tracer, found.val, found.born = self.tracer, val, val
        found.items.is_deep = True
        self.all.append(found)
        return found

    def unify(self, a: Items, b: Items) -> None:
        """Lists with items ``a`` and lists with items ``b`` may be one list."""
        a, b = a.root(), b.root()
        if a is b:
            return
        joint, home = b.joint, b.home
        b.next, a.is_deep = a, a.is_deep or b.is_deep
        if joint is not None:
            known = RunList()
            known.tracer, known.cell = self.tracer, a
            self.learn(known, self.tracer.sample_of(joint))
        if not same_type(joint, a.joint):
            self.learned.append(home)
        if a.home is not None and home is not None and a.home.is_within(home):
            a.home = home

    def have_learned(self, since: int, *inside: Block) -> bool:
        """Whether items of lists that were made outside of these blocks got another type since
        ``learned`` was so long."""
        homes = [home for home in self.learned[since:] if home is not None]
        return any(not any(home.is_within(b) for b in inside) for home in homes)

    def length(self, obj: RunList) -> Any:
        obj.used()
        if obj.val is None:
            return list.__len__(obj)
        if obj.lengths is None:
            return self.tracer.number(len, (obj.val,), LENGTHS[0], True)
        found = self.tracer.number(len, (obj.val,), obj.lengths[0], False)
        found.other = obj.lengths[1]
        return found

    def get(self, obj: RunList, index: Any) -> Any:
        if obj.val is None:
            return list.__getitem__(obj, self.tracer.concrete(index, "an index"))
        if isinstance(index, slice):
            return self.derived(operator.getitem, (obj.val, index), [obj])
        return self.call(obj, operator.getitem, (index,), obj.item)

    def call(self, obj: RunList, op: Any, args: tuple, result: Any) -> Any:
        """A call on the list whose result is an item, or None."""
        tracer = self.tracer
        if result is None:
            raise IndexError("list index out of range")
        for leaf in leaves_of(result):
            leaf.out = Val(tracer.block, None)  # type: ignore[attr-defined]
        outs = outs_of(result)
        obj.used()
        self.count(obj, op)
        tracer.emit(op, (obj.val, *args), {}, outs)
        made = tracer.control.value(result)
        tracer.merged.drawn(obj, made, op is list.pop)
        return made

    def content(self, x: Any, like: Any) -> Any:
        """The items of a run-time value that is a container such as ``like``."""
        joint = _loose(Joiner(self.tracer.val), like, self.tracer.where())
        for leaf in leaves_of(joint):
            leaf.out = Val(self.tracer.block, None)  # type: ignore[attr-defined]
        self.tracer.emit(runtime.same, (x,), {}, outs_of(joint))
        return self.tracer.control.value(joint)

    def put(self, obj: RunList, op: Any, args: tuple, x: Any) -> None:
        self.learn(obj, x)
        self.count(obj, op)
        self.tracer.emit(op, (obj.val, *args, x), {}, None)
        self.tracer.merged.noted(obj, [x])

    def count(self, obj: RunList, op: Any) -> None:
        """Keep account of the lengths through ``op``."""
        step = STEPS.get(op)
        if step is None or obj.lengths is None or obj.home is not self.tracer.block:
            obj.lengths = None
        else:
            obj.lengths = (obj.lengths[0] + step, obj.lengths[1] + step)

    def extend(self, obj: RunList, items: RunList) -> None:
        if obj.val is None:
            self.materialise(obj, [])
        items.used()
        self.learn_all(obj, items)
        self.count(obj, list.extend)
        self.tracer.emit(list.extend, (obj.val, items), {}, None)
        self.tracer.merged.derived(obj, items)

    def replace(self, obj: RunList, index: slice, items: Any) -> None:
        """``obj[index] = items``"""
        self.learn_all(obj, items)
        obj.lengths = None
        self.tracer.emit(operator.setitem, (obj.val, index, items), {}, None)
        if _is_run(items):
            self.tracer.merged.derived(obj, items)
        else:
            self.tracer.merged.noted(obj, list(items))

    def learn_all(self, obj: RunList, items: Any) -> None:
        if _is_run(items):
            if items.item is not None:
                self.learn(obj, self.tracer.sample_of(items.item))
        else:
            for x in items:
                self.learn(obj, x)

    def joined(self, a: Any, b: Any) -> RunList:
        return self.derived(operator.add, (a, b), [a, b])

    def spread(self, kind: type, parts: list[Any]) -> RunList:
        """A list or tuple of the items of several."""
        return self.derived(runtime.spread, (kind, *parts), parts)

    def one_of(self, leaf: Leaf, val: Val) -> RunList:
        """What the code holds for one of two lists, or tuples, of different lengths."""
        found = RunTuple() if leaf.a is tuple else RunList()
        found.tracer, found.val, found.born = self.tracer, val, val
        if leaf.cell is not None:
            found.cell = leaf.cell
        else:
            found.item = leaf.item
        self.all.append(found)
        self.tracer.journal.create(found)
        for part in leaf.parts:
            if isinstance(part, RunList):
                self.tracer.merged.derived(found, part)
            elif isinstance(part, (list, tuple)):
                self.tracer.merged.noted(found, list(part))
        return found

    def prune(self, block: Any) -> None:
        """Drop what was recorded of lists that stayed ordinary."""
        block.nodes[:] = [n for n in block.nodes if not _is_idle(n)]
        for node in block.nodes:
            for inner in blocks_of(node):
                if inner is not None:
                    self.prune(inner)

    def derived(self, op: Any, args: tuple, sources: list[Any]) -> RunList:
        """A new run-time list with the items of others."""
        if op is operator.mul:
            sources = [list.copy(sources[0]) if sources[0].val is None else sources[0]]
        is_tuple = tuple in args or (
            list not in args and any(isinstance(x, (tuple, RunTuple)) for x in sources)
        )
        found = RunTuple() if is_tuple else RunList()
        found.tracer = self.tracer
        found.val = found.born = Val(self.tracer.block, found)
        self.tracer.emit(op, args, {}, found.val)
        self.tracer.journal.create(found)
        for source in sources:
            self.learn_all(found, source)
            if isinstance(source, RunList):
                self.tracer.merged.derived(found, source)
            else:
                self.tracer.merged.noted(found, source)
        self.all.append(found)
        found.home, found.lengths = self.tracer.block, _lengths(op, args, sources)
        return found


def _is_idle(node: Any) -> bool:
    lists = getattr(node, "shadows", None) or [getattr(node, "shadow", None)]
    return lists[0] is not None and all(x.val is None for x in lists)


def _lengths(op: Any, args: tuple, sources: list[Any]) -> tuple[int, int] | None:
    """How long a list is that is made of others."""
    known = [x.lengths if _is_run(x) else (len(x),) * 2 for x in sources]
    is_whole = op is operator.getitem and args[1] in (slice(None), slice(None, None, -1))
    if None in known or not (op in (operator.add, runtime.spread, runtime.ordered) or is_whole):
        return None
    return sum(a for a, _ in known), sum(b for _, b in known)


def item_of_all(joiner: Joiner, parts: tuple[Any, ...]) -> Any:
    """The joint of the items of several lists."""
    found = None
    for part in parts:
        if _is_run(part):
            items = [] if part.item is None else [part.tracer.sample_of(part.item)]
        else:
            items = list.__iter__(part) if isinstance(part, list) else part
        for x in items:
            found = _loose(joiner, x, "") if found is None else merged(joiner, found, x, "")
    return found


def loosely(tracer: Tracer, x: Any) -> Any:
    """The joint of ``x`` with itself."""
    return _loose(Joiner(tracer.val), x, tracer.where())


def outs_of(joint: Any) -> Any:
    if isinstance(joint, Leaf):
        return joint.out  # type: ignore[attr-defined]
    if isinstance(joint, Many):
        items = [outs_of(x) for x in joint.items]
        return dict(zip(joint.keys, items)) if isinstance(joint.like, dict) else items
    return None


def _loose(joiner: Joiner, x: Any, where: Any) -> Any:
    """The joint of ``x`` with itself, as a run-time value."""
    if isinstance(x, torch.Tensor):
        return joiner.tensors(x, x)
    if isinstance(x, (bool, int, float, Number)):
        return joiner.numbers(x, x)
    if hasattr(type(x), "is_run_table"):
        return Leaf("table", (x, x), x.kind, x.kind)
    if _is_run(x):
        kind = tuple if isinstance(x, RunTuple) else list
        return Leaf("list", (x, x), kind, kind, item=x.item, cell=x.items)
    if isinstance(x, (tuple, list, dict)):
        keys = keys_of(x) or []
        return Many(x, keys, [_loose(joiner, item_of(x, k), where) for k in keys])
    if isinstance(x, Text):
        return Leaf("any", (x, x), x)
    if holds_run_time(x):
        raise UnsupportedError(
            f"{where}: an object of class {type(x).__name__} that holds tensors is in a list of run-time "
            f"length, or one of two; keep its tensors in a tuple or in lists of their own"
        )
    return Same(x)


def merged(joiner: Joiner, old: Any, x: Any, where: Any) -> Any:
    """The joint of items so far and one more."""
    if isinstance(old, Many) and type(old.like) is type(x) and len(old.keys) == len(x):
        items = [merged(joiner, p, x[k], where) for k, p in zip(old.keys, old.items)]
        return Many(old.like, old.keys, items)
    if isinstance(old, Leaf) and old.kind == "table" and hasattr(type(x), "is_run_table"):
        x.tracer.tables.unify(old.parts[0], x)
        return old
    if isinstance(old, Leaf) and old.kind == "list" and old.cell is not None and _is_run(x):
        x.tracer.lists.unify(old.cell, x.items)
        return old
    if isinstance(old, Leaf):
        first = old.parts[0]
        new = joiner.join(first, x)
        new = _loose(joiner, x, where) if isinstance(new, Same) else new
        return wider(old, new, 0) if isinstance(new, Leaf) else new
    if isinstance(old, Same):
        return joiner.join(old.value, x)
    return Leaf("any", (old, x))
